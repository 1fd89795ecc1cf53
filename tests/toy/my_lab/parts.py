"""Small parts of a user's own, without torch: they are checked and built, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

if TYPE_CHECKING:  # as users write it; the annotation exists for type checkers only
    from reuse_sim.types import World


class Line:
    d, kind, shifts = 1, "regression", {}

    def __init__(self, width: int, tolerance: float, strengths: tuple[float, ...]) -> None:
        assert isinstance(strengths, tuple)
        if width == 13:
            raise RuntimeError("no world is 13 wide,\nas everyone knows")
        self.width, self.tolerance, self.strengths = width, tolerance, strengths

    def teacher(self, generators): ...
    def on_distribution(self, theta_teacher, n, generators): ...
    def off_distribution(self, theta_teacher, n, generators, strength=1.0): ...
    def answer(self, theta_teacher, x): ...
    def human_net(self, width): ...
    def human_answer(self, net, theta_human, x): ...


class Learner:
    def __init__(self, width: int) -> None:
        self.width = width

    def net(self, world): ...
    def init(self, world, generators): ...
    def train(self, world, theta_0, theta_teacher, generators, off_share=0.0): ...


def line(
    width: Annotated[int, Field(gt=0, le=4096)] = 24,
    tolerance: float = 1,
    kind: Literal["own", "other"] = "own",
    copy: bool = False,
    strengths: tuple[float, ...] = (0, 1),
) -> World:
    return Line(width, tolerance, strengths)


def learner(width: Annotated[int, Field(gt=0)], steps: Annotated[int, Field(gt=0)] = 10) -> Learner:
    return Learner(width)


def zealot(width: Annotated[int, Field(gt=0)], zeal: float = 0.5) -> Learner:
    return Learner(width)


# What follows is wrong, each in its own way.


def unfinished(width: int = 1):
    return object()


def forgotten():
    return Line


def shadowed(width: int = 1):
    built = Learner(width)
    built.train = None
    return built


def loose(*widths: int): ...


def bare(width): ...


def taken(use: str = "x"): ...


def unknown(width: NoSuchType = 1): ...  # type: ignore[name-defined]  # noqa: F821


def unchecked(width: Line): ...


def endless(width: float = float("inf")): ...


constant = 3
