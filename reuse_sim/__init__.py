"""Simulations of a model that knows a human: when it reuses the human's answers, and what the intended ones cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reuse_sim.results import Results, load, run

    __version__: str

__all__ = ["Results", "__version__", "load", "run"]


def __getattr__(name: str) -> Any:
    # Imported when first asked for: `reuse-sim --help` needs none of torch, pydantic and pandas.
    if name == "__version__":
        from importlib.metadata import version

        return version("reuse_sim")
    if name in __all__:
        from reuse_sim import results

        return getattr(results, name)
    raise AttributeError(f"module 'reuse_sim' has no attribute '{name}'")
