"""Balls of networks that answer as one human does, or as the teacher: their bits, and how they are written.

What the experiments on humans learned afresh have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from reuse_sim.artifacts import Stored
from reuse_sim.errors import InputError
from reuse_sim.inheritance import observed
from reuse_sim.joint import fresh
from reuse_sim.ledger.shortest import shortest
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import DiagonalNormal, Problem, symmetry
from reuse_sim.specialness.human import squared_gradient, words
from reuse_sim.types import Estimate, World

SIBLINGS = 256
"""Fresh humans that stand for siblings where failures are compared."""
ASKED = 1024
"""Off-distribution questions on which failures are compared."""
Where = Literal["on", "on_and_off"]
Centre = Literal["human", "teacher"]


def check_regression(arms: Mapping[str, Any]) -> None:
    """Raises InputError where an arm's `world` asks for no number: distances are mean squares."""
    for name, arm in arms.items():
        if (kind := arm.world.build().kind) != "regression":
            raise InputError(f"arm {name}: world", f"a {kind}", "a regression, such as radius")


class Scene:
    """One world's human, the questions of the ball, and what is in it.

    The configuration has `world`, `human`, `where`, `questions`, and for a ball `centre` and `tolerance`.
    """

    def __init__(self, people: Stored, config: Mapping[str, Any], seed: int) -> None:
        self.config, self.seed = config, seed
        self.world: World = config["world"].build()
        self.net: Mlp = config["human"].build().net(self.world)
        self.teacher, self.theta_human = people.tensors["theta_teacher"], people.tensors["theta_human"]
        self.on = self.draw("on", config["questions"], "ball")
        self.x = self.on if config["where"] == "on" else torch.cat(
            [self.on, self.draw("off", config["questions"], "ball")])

    def draw(self, kind: str, n: int, name: str) -> Tensor:
        """Questions `(n, d)` on or off distribution, in float64."""
        source = self.world.on_distribution if kind == "on" else self.world.off_distribution
        return source(self.teacher, n, [stream(self.seed, f"{name}/{kind}/questions")])[0].double()

    def right(self, x: Tensor) -> Tensor:
        """f's answers to x `(n, d)`, `(n,)`."""
        return self.world.answer(self.teacher.double(), x[None])[0]

    def answers(self, theta: Tensor, x: Tensor) -> Tensor:
        """Answers of humans θ `(N, p)` to x `(n, d)`, `(N, n)`."""
        return answers(self.world, self.net, theta.double(), x)

    def problem(self) -> Problem:
        """The ball, about H or f, among networks like H."""
        return self.counting(self.net)

    def counting(self, net: Mlp) -> Problem:
        """The same among networks of architecture `net`."""
        f = self.right(self.x)
        human = self.config["centre"] == "human"
        kinds = "on-distribution" if self.config["where"] == "on" else "on- and off-distribution"
        named = f"mean of (answer - {'H' if human else 'f'})²/var f over {len(self.x)} {kinds} questions"
        target = self.answers(self.theta_human, self.x)[0] if human else f
        return ball(self.world, net, self.x, target, float(f.var(correction=0)), self.config["tolerance"], named)

    def distances(self, theta: Tensor) -> Tensor:
        """Those of humans θ `(N, p)` from the centre, `(N,)`."""
        return self.problem().cost(theta.double())

    def consistency(self) -> float:
        """H's own mean of (H − f)²/var f on the on-distribution questions."""
        f = self.right(self.on)
        return float((self.answers(self.theta_human, self.on)[0] - f).square().mean() / f.var(correction=0))

    def fit(self, kind: str) -> float:
        x = self.draw(kind, 4096, "ask")
        return float(observed.r_squared(self.answers(self.theta_human, x), self.right(x)[None]))

    def failures(self, theta: Tensor, nearest: int) -> dict[str, float]:
        """How the failures of the nearest, of siblings and of their mean predict H's, off-distribution."""
        x = self.draw("off", ASKED, "fail")
        f = self.right(x)
        human, near = (self.answers(t, x) - f for t in (self.theta_human, theta[nearest : nearest + 1]))
        chosen = [i for i in range(min(len(theta), SIBLINGS + 1)) if i != nearest][:SIBLINGS]
        siblings = (self.answers(theta[chosen], x) - f).unsqueeze(1)
        own = {"joint/nearest_own": observed.r_squared(near, human),
               "joint/sibling_own": observed.r_squared(siblings, human).mean(),
               "joint/pooled_own": observed.r_squared(siblings.mean(0), human)}  # fmt: skip
        mean = siblings.mean(0)
        z = human - mean
        own["joint/nearest_private"] = observed.inner(near - mean, z) / observed.inner(z, z)
        return {name: float(value) for name, value in own.items()}


def written(
    problem: Problem, net: Mlp, theta_human: Tensor, pool: Tensor, distance: Tensor, name: str,
    others: Sequence[int] = (),
) -> dict[str, Any]:
    """Bits as written of a human θ2 `(p,)`: outright, by an index into a `pool` `(N, p)`, by differences.

    The index is of the first that `distance` `(N,)` has in the ball; differences are to the nearest and to some
    `others`, and who is in the ball needs none. Sender and reader share the streams under `name`.
    """
    human, sd, align = theta_human.double(), net.prior_sd(torch.float64), aligner(net)
    cost, tolerance = problem.cost, problem.tolerance
    weights = shortest(human, sd, cost, tolerance, name).bits
    index = fresh.first_within(distance, tolerance)

    def corrected(i: int) -> float:
        told = partial(shortest, name=f"{name}/{i}")
        return fresh.correct(net, human, pool[i].double(), i, align, told, cost, tolerance).bits

    return {
        "weights": weights, "index": len(fresh.write_index(index)) + (weights if index is None else 0),
        "first_hit": index, "nearest": corrected(int(distance.argmin())), "others": [corrected(i) for i in others],
    }  # fmt: skip


def aligner(net: Mlp) -> Callable[[Tensor, Tensor], Tensor]:
    """A function from humans `(n, p)` and a centre `(p,)` to the copies of them nearest to it, where there are any."""
    sd, copies = net.prior_sd(torch.float64), symmetry.of_net(net)
    return lambda thetas, centre: sd * copies.align(thetas / sd, centre / sd) if copies else thetas


def answers(world: World, net: Mlp, theta: Tensor, x: Tensor) -> Tensor:
    """Answers of humans θ `(N, p)` to x `(n, d)`, `(N, n)`."""
    # One θ, as samplers ask for it, without its leading dimension: plain products, half the time.
    return world.human_answer(net, theta[0] if len(theta) == 1 else theta, x).reshape(len(theta), -1)


def ball(
    world: World, net: Mlp, x: Tensor, target: Tensor, variance: float, tolerance: float, consistency: str
) -> Problem:
    """Networks whose answers to x `(n, d)` are within a mean square of tolerance · variance of `target` `(n,)`.

    The reference is the initialisation prior. In float64.
    """

    def squared(theta: Tensor) -> Tensor:
        return (answers(world, net, theta, x) - target).square().mean(-1) / variance

    return Problem(
        dim=net.p,
        reference=DiagonalNormal(net.prior_sd(torch.float64), f"initialisation prior of a {words(net)} human"),
        cost=squared,
        tolerance=tolerance,
        consistency=consistency,
        gradient=squared_gradient(world.human_answer, net, x, target, variance),
        probe=lambda theta: answers(world, net, theta, x),
        symmetry=symmetry.of_net(net),
    )


def plain(said: Estimate) -> dict[str, Any]:
    """What of an estimate is kept."""
    return {"bits": said.bits, "low": said.low, "high": said.high, "bound": said.bound, "status": said.status,
            "level": said.level, "evaluations": said.evaluations}  # fmt: skip
