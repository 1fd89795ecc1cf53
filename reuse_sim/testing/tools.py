"""What checks are made of: a sentence that must hold, draws that depend on their generator alone, pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from reuse_sim.plugins import ROOMS, missing_members
from reuse_sim.rng import streams

SEED = 20_230_817
NAMES = ("a", "b", "c")
QUESTIONS = 40


def follows(room: str, thing: object) -> None:
    lacking = ", ".join(missing_members(room, thing))
    claim(not lacking, f"{type(thing).__name__} lacks {lacking} of reuse_sim.types.{ROOMS[room]}")


def claim(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)


def generators(name: str = "", names: Sequence[str] = NAMES) -> list[torch.Generator]:
    return streams(SEED, [f"{name}/{n}" for n in names])


def shaped(where: str, tensor: Tensor, shape: Sequence[int | None]) -> None:
    fits = tensor.ndim == len(shape) and all(s in (None, t) for s, t in zip(shape, tensor.shape, strict=True))
    expected = ", ".join("p" if s is None else str(s) for s in shape)
    claim(fits, f"{where}: shape {tuple(tensor.shape)}, not ({expected})")
    claim(bool(torch.isfinite(tensor).all()), f"{where}: values that are not finite")


def close(where: str, got: Tensor, expected: Tensor, sentence: str, tolerance: float = 1e-4) -> None:
    same = got.shape == expected.shape and torch.allclose(got, expected, rtol=tolerance, atol=tolerance)
    claim(same, f"{where}: {sentence}")


def drawn(
    where: str, draw: Callable[..., Tensor], shape: Sequence[int | None], theta: Tensor | None = None
) -> Tensor:
    """What `draw` gives for three generators, after checking that it depends on each row's generator alone."""
    given = () if theta is None else (theta,)
    kept = [g.clone() for g in given]
    drawn = draw(*given, generators())
    claim(all(map(torch.equal, given, kept)), f"{where}: changed the parameters it was given")
    shaped(where, drawn, shape)
    claim(torch.equal(drawn, draw(*given, generators())), f"{where}: equal generators gave another draw")
    rows = (slice(i, i + 1) for i in range(len(NAMES)))
    alone = torch.cat([draw(*(g[i] for g in given), generators()[i]) for i in rows])
    close(where, alone, drawn, "a row drawn alone differs from the same row in the stack")
    return drawn


def pure(where: str, function: Callable[..., Any], *tensors: Tensor) -> Any:
    """What `function` returns, after checking that it says so twice and leaves its inputs as they are."""
    kept = [t.clone() for t in tensors]
    first, second = function(*tensors), function(*tensors)
    claim(all(map(torch.equal, tensors, kept)), f"{where}: changed what it was given")
    claim(torch.equal(first, second), f"{where}: asked twice, another result")
    return first
