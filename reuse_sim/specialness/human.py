"""What experiments ask about: humans of one architecture, consistent with one teacher on named questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp, first_output
from reuse_sim.specialness import symmetry
from reuse_sim.specialness.problem import Problem
from reuse_sim.specialness.reference import DiagonalNormal, Reference
from reuse_sim.train import value_and_grad
from reuse_sim.types import World

Consistency = Literal["squared", "disagreement"]
WORDS = {"squared": "mean of (H - f)²/var f", "disagreement": "share of questions where H and f disagree"}


def problem(
    world: World,
    theta_teacher: Tensor,
    net: Mlp,
    x: Tensor,
    *,
    tolerance: float,
    consistency: Consistency = "squared",
    questions: str = "",
    reference: Reference | None = None,
    held: Tensor | None = None,
    soft: bool = False,
) -> Problem:
    """How special are the humans of architecture `net` that are consistent with one teacher?

    Args:
        theta_teacher: θ1 `(p1,)`.
        x: the questions `(n, d)` on which consistency is measured.
        tolerance: the largest C that counts as consistent, or, with `soft`, the noise variance as a share of var f.
        consistency: `squared`, the mean of (H − f)²/var f over x, var f over x; or `disagreement`, the share of x on
            which H and f differ: in sign in a classification, by more than half the world's tolerance otherwise.
        questions: what x is, in words.
        reference: the measure; the initialisation prior where absent.
        held: other questions `(m, d)`; the answers to them are the functions convergence is judged on. x where absent.
        soft: the soft form, strength n / (2 tolerance).

    Computed in float64. Raises InputError for an unknown consistency, or a teacher who answers all of x alike.
    """
    if consistency not in get_args(Consistency):
        raise InputError("consistency", repr(consistency), " or ".join(get_args(Consistency)))
    theta_1, x = theta_teacher.double(), x.double()
    f = world.answer(theta_1[None], x[None])[0]
    variance = f.var(correction=0)
    if consistency == "squared" and not float(variance) > 0:
        raise InputError("x", "questions that f answers all alike", "questions on which answers vary", "take others")

    def answers(theta: Tensor) -> Tensor:
        # One θ, as samplers ask for it, without its leading dimension: plain products, half the time.
        return world.human_answer(net, theta[0] if len(theta) == 1 else theta, x).reshape(len(theta), -1)

    def squared(theta: Tensor) -> Tensor:
        return (answers(theta) - f).square().mean(-1) / variance

    def disagreement(theta: Tensor) -> Tensor:
        if world.kind == "classification":
            return ((answers(theta) > 0) != (f > 0)).double().mean(-1)
        return ((answers(theta) - f).abs() > world.tolerance / 2).double().mean(-1)

    asked = x if held is None else held.double()
    prior = DiagonalNormal(net.prior_sd(torch.float64), f"initialisation prior of a {words(net)} human")
    return Problem(
        dim=net.p,
        reference=reference or prior,
        cost=squared if consistency == "squared" else disagreement,
        tolerance=tolerance,
        consistency=f"{WORDS[consistency]} over {questions or f'{len(x)} questions'}",
        strength=len(x) / (2 * tolerance) if soft else None,
        smooth=consistency == "squared",
        gradient=squared_gradient(world.human_answer, net, x, f, variance) if consistency == "squared" else None,
        probe=lambda theta: world.human_answer(net, theta, asked),
        symmetry=symmetry.of_net(net),
    )


def squared_gradient(
    answer: Any, net: Mlp, x: Tensor, f: Tensor, variance: Tensor | float
) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """The mean of (H − f)²/variance over x and its gradient by an engine, where H is a network's one output; else None.

    The engine computes in float32, seven to twenty times as fast as autograd in float64. C is off by about 1e-7 √C, and
    so is −log₂ of what it weighs: by less than a thousandth of a bit for tolerances from 1e-6 up.
    """
    if answer is not first_output or net.sizes[-1] != 1:
        return None
    engine, variance = value_and_grad(net, x.float(), f.float().unsqueeze(-1)), float(variance)

    def gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = engine(theta.float())
        return value.double() / variance, slope.double() / variance

    return gradient


def words(net: Mlp) -> str:
    """`tanh 4-6-1`."""
    return f"{'linear' if len(net.sizes) == 2 else net.activation} {'-'.join(map(str, net.sizes))}"
