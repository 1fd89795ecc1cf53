"""The contract of a world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.testing.tools import NAMES, QUESTIONS, claim, close, drawn, follows, generators, pure, shaped
from reuse_sim.types import Picture, World


def check_world(world: World, width: int = 4) -> None:
    """Shapes, randomness from the generators alone, one row per teacher, answers that leave their inputs as they are.

    Where the world has `human_loss`, it must agree with the mean squared error over 20,000 questions within five
    standard errors; `picture` must hold what `types.Picture` says, and f answer all of it; `labelled` must draw the
    questions that `on_distribution` and `off_distribution` draw.

    Args:
        width: hidden units of the humans asked about.
    """
    follows("worlds", world)
    claim(world.d >= 1, f"d is {world.d}, not a number of inputs")
    claim(world.tolerance > 0, f"tolerance is {world.tolerance}, not above 0")

    theta = drawn("teacher", world.teacher, (len(NAMES), None))
    claim(not torch.equal(theta[0], theta[1]), "teacher: two generators drew the same teacher")
    draws: dict[str, Callable[[Tensor, Sequence[torch.Generator]], Tensor]] = {
        "on_distribution": lambda t, g: world.on_distribution(t, QUESTIONS, g),
        "off_distribution": lambda t, g: world.off_distribution(t, QUESTIONS, g),
        "off_distribution at strength 0": lambda t, g: world.off_distribution(t, QUESTIONS, g, 0.0),
    }
    asked = {name: drawn(name, draw, (len(NAMES), QUESTIONS, world.d), theta) for name, draw in draws.items()}
    x, off = asked["on_distribution"], asked["off_distribution"]
    claim(not torch.equal(x, off), "off_distribution draws the questions of on_distribution")

    net = world.human_net(width)
    claim(isinstance(net, Mlp), f"human_net returned {type(net).__name__}, not an Mlp")
    claim(net.sizes[0] == world.d, f"human_net takes {net.sizes[0]} inputs; questions have {world.d}")
    theta_human = net.init(generators())
    for name, questions in asked.items():
        for what, answer, parameters in (
            ("answer", world.answer, theta),
            ("human_answer", lambda t, x: world.human_answer(net, t, x), theta_human),
        ):
            where = f"{what} to {name}"
            answers = pure(where, answer, parameters, questions)
            shaped(where, answers, (len(NAMES), QUESTIONS))
            alone = torch.cat([answer(parameters[i : i + 1], questions[i : i + 1]) for i in range(len(NAMES))])
            close(where, alone, answers, "a row asked alone answers otherwise than in the stack")
    twice = world.human_answer(net, torch.stack([theta_human] * 2), torch.stack([x, off]))
    once = world.human_answer(net, theta_human, off)
    close("human_answer", twice[1], once, "a further leading dimension changes it")

    exact = getattr(world, "human_loss", None)
    if exact is not None:
        loss = pure("human_loss", lambda t, f: exact(net, t, f), theta_human, theta)
        shaped("human_loss", loss, (len(NAMES),))
        many = world.on_distribution(theta, 20_000, generators("loss"))
        squares = (world.human_answer(net, theta_human, many) - world.answer(theta, many)).square()
        errors = (squares.mean(-1) - loss).abs() / (squares.std(-1) / squares.shape[-1] ** 0.5)
        worst = float(errors.max())
        claim(worst < 5, f"human_loss is {worst:.1f} standard errors off the mean squared error of 20,000 questions")
    if hasattr(world, "picture"):
        for row in theta:
            check_picture(world, row)
    if hasattr(world, "labelled"):
        _check_labelled(world, dict(zip((None, 1.0, 0.0), asked.values(), strict=True)))


def check_picture(world: Any, theta: Tensor) -> None:
    drawn = world.picture(theta)
    claim(isinstance(drawn, Picture), f"picture returned {type(drawn).__name__}, not a Picture")
    r, c = len(drawn.rows), len(drawn.columns)
    for what in ("x", "learned"):
        pure(f"picture's {what}", lambda t, what=what: getattr(world.picture(t), what), theta)
    shaped("picture's x", drawn.x, (r, c, world.d))
    claim(drawn.x.dtype == theta.dtype, f"picture's x is {drawn.x.dtype} for a teacher in {theta.dtype}")
    shaped("picture's learned", drawn.learned, (r, c))
    claim(drawn.learned.dtype == torch.bool, f"picture's learned is {drawn.learned.dtype}, not bool")
    for what in ("rows", "columns"):
        ticks: list[Any] = list(getattr(drawn, what))
        if not all(isinstance(tick, str) for tick in ticks):
            numbers = all(isinstance(tick, int | float) for tick in ticks)
            steps = torch.tensor(ticks if numbers else [0, 0], dtype=torch.float64).diff()
            even = bool((steps != 0).all()) and torch.allclose(steps, steps[:1])
            claim(even, f"picture's {what} are neither names nor numbers in equal steps")
    answers = world.answer(theta.unsqueeze(0), drawn.x.flatten(0, 1).unsqueeze(0))
    shaped("answer to picture", answers, (1, r * c))


def _check_labelled(world: Any, asked: Mapping[float | None, Tensor]) -> None:
    """asked: the questions that the world drew from `generators()` at each strength."""
    for strength, x in asked.items():
        where = f"labelled at strength {strength}"
        for k, shape in enumerate((x.shape, x.shape[:2])):
            drawn(where, lambda g, k=k, s=strength: world.labelled(QUESTIONS, g, s)[k], tuple(shape))
        same = torch.equal(world.labelled(QUESTIONS, generators(), strength)[0].to(x), x)
        claim(same, f"{where}: equal generators drew other questions than the world's own")
