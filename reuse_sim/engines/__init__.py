"""Engines: three ways to train a population and take its gradients, with the same answers.

`native` (numba; perceptrons in float32 on the CPU), `stacked` (torch; perceptrons), `functional` (torch; any
differentiable network). `choose` finds the one for some work.
"""

from __future__ import annotations

import importlib
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from reuse_sim.errors import InputError, nearest

if TYPE_CHECKING:
    import torch

    from reuse_sim.engines.spec import Engine, Work

NAMES = ("auto", "numba", "torch")


def choose(name: str, work: Work, dtype: torch.dtype, device: torch.device) -> Engine:
    """The engine of that name; `auto` is numba where it can do the work, else torch, and says so once in the log.

    Raises InputError where numba was asked for by name and cannot do it, or no engine has the name.
    """
    if name not in NAMES:
        raise InputError("engine", repr(name), " or ".join(NAMES), nearest(name, NAMES))
    fast, reason, do = None, "", ""
    if name != "torch":
        try:
            fast = _engine("native")
            reason, do = fast.unsupported(work, dtype, device), "Take engine torch or auto."
        except ImportError as error:
            reason, do = f"it is not installed ({error})", "Do: pip install 'reuse_sim[fast]'."
    if name == "numba" and reason:
        raise InputError("engine", f"numba, but {reason}", "an engine that can do this", do)
    if fast and not reason:
        found = fast
    else:
        found = _engine("stacked")
        if found.unsupported(work, dtype, device):
            found = _engine("functional")
    if name == "auto":
        _say(f"engine {found.NAME}" + (f", not numba: {reason}" if reason else ""))
    return found


def installed() -> list[str]:
    """Names of the engines for perceptrons that can be imported here."""
    try:
        _engine("native")
    except ImportError:
        return ["torch"]
    return ["torch", "numba"]


def _engine(module: str) -> Engine:
    return cast("Engine", importlib.import_module(f"reuse_sim.engines.{module}"))


@lru_cache
def _say(what: str) -> None:
    logging.getLogger("reuse_sim").info(what)
