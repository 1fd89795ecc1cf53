"""The contract of a human."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.testing.tools import NAMES, claim, close, drawn, follows, generators, pure, shaped
from reuse_sim.types import Fit, Human, World


def check_human(human: Human, world: World) -> None:
    """Shapes, randomness from the generators alone, networks that do not touch each other, and learning.

    Trains three humans a few times: pass one with few steps. In float64, a human trained alone must equal the one
    trained in a stack within 1e-8.
    """
    follows("humans", human)
    net = human.net(world)
    claim(isinstance(net, Mlp), f"net returned {type(net).__name__}, not an Mlp")
    theta_0 = drawn("init", lambda g: human.init(world, g), (len(NAMES), net.p)).double()
    teacher = world.teacher(generators("teacher")).double()

    def train(theta_0: Tensor, teacher: Tensor, names: Sequence[str] = NAMES, off_share: float = 0.0) -> Tensor:
        fit = human.train(world, theta_0, teacher, generators("train", names), off_share)
        claim(isinstance(fit, Fit), f"train returned {type(fit).__name__}, not a Fit")
        claim(not fit.broken, f"train: {next(iter(fit.broken.values()), '')}")
        shaped("train's θ", fit.theta, (len(names), net.p))
        shaped("train's loss", fit.loss, (len(names),))
        return fit.theta

    theta = pure("train", train, theta_0, teacher)
    alone = train(theta_0[:1], teacher[:1], NAMES[:1])
    close("train", alone, theta[:1], "a human trained alone differs from the same human in the stack", 1e-8)

    x = world.on_distribution(teacher, 2000, generators("test"))
    errors = [
        (world.human_answer(net, t, x) - world.answer(teacher, x)).square().mean().item() for t in (theta_0, theta)
    ]
    claim(errors[1] < errors[0], f"train: the error on-distribution went from {errors[0]:.3g} to {errors[1]:.3g}")
    repaired = train(theta, teacher, off_share=0.5)
    claim(not torch.equal(repaired, train(theta, teacher)), "train: off_share changes nothing; nobody is repaired")
