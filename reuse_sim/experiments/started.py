"""Humans that come from one start by one order of data: their drift, the masses about them, and what they know of f."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reuse_sim.engines.spec import Adam
from reuse_sim.joint.preimage import Preimage
from reuse_sim.joint.replay import Process
from reuse_sim.ledger import message
from reuse_sim.rng import stream
from reuse_sim.specialness import DiagonalNormal, Problem, estimate, symmetry
from reuse_sim.types import Estimate, World

SURE = 2.0
"""By how much more effort masses are sampled where there is a gradient, which is quick then."""
STEPS, SPREADS, REACH = 61, 17, 16
"""Of a code without search: steps from 2³ prior sds down by quarters of an octave, spreads from 2⁻⁴ up by halves, and
how many spreads from 0 a parameter can be."""


class Scene:
    """The world of a cell, its teacher `(1, p1)`, how its humans come to be, and what drift is asked about.

    `config` has world, width, efforts, rate, batch, questions and effort.
    """

    def __init__(self, config: Any, seed: int) -> None:
        self.config, self.seed = config, seed
        self.world: World = config.world.build()
        self.net = self.world.human_net(config.width)
        self.sd = self.net.prior_sd(torch.float64)
        self.theta_1 = self.world.teacher([stream(seed, "teacher")]).double()
        self.on = self.world.on_distribution(self.theta_1, 4096, [stream(seed, "ask/on")])
        self.off = self.world.off_distribution(self.theta_1, 4096, [stream(seed, "ask/off")])
        self.variance = self.world.answer(self.theta_1, self.on).var(correction=0)
        half = config.questions // 2
        self.asked = torch.cat([self.on[:, :half], self.off[:, : config.questions - half]], 1)[0]

    def process(self, steps: int) -> Process:
        """Training for so many steps; shorter trainings see the first of a longer one's questions."""
        x = self.world.on_distribution(self.theta_1, self.config.efforts[-1] * self.config.batch,
                                       [stream(self.seed, "human/questions")])
        y = self.world.answer(self.theta_1, x)
        x, y = (t[0].unflatten(0, (-1, self.config.batch))[:steps] for t in (x, y))
        return Process(self.net, x, y, Adam(self.config.rate))

    def drift(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """Drift from the human θ2 `(p,)`: θ `(n, p)` -> `(n,)`."""
        said = self.net.forward(theta[None], self.asked)[..., 0]
        return lambda other: (self.net.forward(other, self.asked)[..., 0] - said).square().mean(-1) / self.variance


def sampler(scene: Scene, tolerance: float, name: str) -> Callable[[Callable[[Tensor], Tensor], bool], Estimate]:
    """−log2 of the mass of {cost ≤ tolerance} under the initialisation prior, by sequential Monte Carlo."""
    def mass(cost: Callable[[Tensor], Tensor], smooth: bool) -> Estimate:
        problem = Problem(
            dim=scene.net.p, reference=DiagonalNormal(scene.sd, "initialisation prior"), cost=cost, tolerance=tolerance,
            consistency=f"drift over {len(scene.asked)} questions", smooth=smooth, symmetry=symmetry.of_net(scene.net),
            probe=lambda theta: scene.net.forward(theta, scene.asked)[..., 0],
        )
        effort = scene.config.effort * (SURE if smooth else 1.0)
        return estimate(problem, "smc", effort, generator=stream(scene.seed, f"mass/{name}/{smooth}"))

    return mass


def as_values(found: Preimage) -> dict[str, Any]:
    """Plain numbers of both masses."""
    both = {"start": found.start, "end": found.end}
    low, high = found.limits
    return {"bits": found.bits, "low": low, "high": high, "status": found.status,
            **{f"{k}_{name}": getattr(e, name) for k, e in both.items() for name in ("bits", "low", "high", "status")}}


def information(scene: Scene, theta: Tensor, name: str) -> dict[str, Any]:
    """Bits about f in a human `(p,)`: S at its own error, less what an own error as tolerance overpays."""
    x = scene.on[0, :128]
    loose = Problem.for_human(scene.world, scene.theta_1[0], scene.net, x, tolerance=1.0)
    own = float(loose.cost(theta[None]))
    problem = Problem.for_human(scene.world, scene.theta_1[0], scene.net, x, tolerance=own)
    said = estimate(problem, "smc", SURE * scene.config.effort, generator=stream(scene.seed, name))
    return {"error": own, "specialness_bits": said.bits, "specialness_status": said.status,
            "information_bits": said.bits - math.log2(1 + max(said.bits, 0.0) * math.log(2))}


def rounded_bits(
    theta: Tensor, sd: Tensor, distortion: Callable[[Tensor], Tensor], tolerance: float
) -> int | None:
    """Bits written for θ `(p,)` as it is: all parameters rounded to the nearest, at the coarsest step that does.

    What a code costs that looks for no other network within the tolerance. None where no step does.
    """
    z, steps = theta / sd, 2.0 ** (3 - torch.arange(STEPS, dtype=theta.dtype).unsqueeze(1) / 4)
    k = torch.round(z / steps)
    fits = distortion(k * steps * sd) <= tolerance
    if not bool(fits.any()):
        return None
    place = int(fits.long().argmax())
    step, told = float(steps[place]), k[place].long().numpy()
    spread = min(max(round(2 * math.log2(max(float(z.square().mean()) ** 0.5, 1e-9))) + 8, 0), SPREADS - 1)
    cells = 2.0 ** (spread / 2 - 4) / step
    reach = math.ceil(REACH * cells)
    if np.abs(told).max() > reach:
        return None

    def model(pen: message.Pen) -> None:
        pen.uniform(place, STEPS)
        pen.uniform(spread, SPREADS)
        pen.normal(told, np.full(len(told), cells), reach)

    return message.write(model).bits
