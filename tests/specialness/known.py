"""Problems whose answers are known, shared by the tests of the estimators."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import DiagonalNormal, Problem, exact, symmetry
from reuse_sim.specialness.exact import Exact
from reuse_sim.worlds import linear_gaussian


def linear(d: int = 10, active: int = 6, n: int = 32, tolerance: float = 0.1, seed: int = 0, scale: float = 1.0):
    """A linear human's problem with its closed form; `scale` plants a fault in the problem's prior."""
    world = linear_gaussian.build(d=d, active=active)
    net = world.human_net(1)
    (theta_1,) = world.teacher([stream(seed, "teacher")]).double()
    (x,) = world.on_distribution(theta_1[None], n, [stream(seed, "x")])
    truth = exact.linear_gaussian(x, x @ theta_1, net.prior_sd(torch.float64), tolerance)
    problem = Problem.for_human(
        world, theta_1, net, x, held=x[:4], tolerance=tolerance, soft=True, questions=f"{n} questions"
    )
    if scale != 1.0:
        reference = DiagonalNormal(problem.reference.sd * scale, "prior of the wrong scale")
        problem = replace(problem, reference=reference)
    return problem, truth


def posterior(truth: Exact, chains: int, draws: int, generator: torch.Generator) -> Tensor:
    """Independent draws `(chains, draws, d)` of the exact posterior."""
    noise = torch.randn(chains, draws, len(truth.mean), generator=generator, dtype=torch.float64)
    return truth.mean + noise @ torch.linalg.cholesky(truth.covariance).T


def ridge(net: Mlp, strength: float) -> tuple[Problem, float, Tensor]:
    """C = mean of (θ/sd)², the same for all copies of a network; its bits and the posterior's sd.

    With nβ = `strength`, the evidence is ∏ (1 + 2 strength/d)^(−1/2) over d parameters.
    """
    sd, d = net.prior_sd(torch.float64), net.p
    problem = Problem(
        dim=d,
        reference=DiagonalNormal(sd, "initialisation prior"),
        cost=lambda theta: (theta / sd).square().mean(-1),
        tolerance=0.5 / strength,
        consistency="mean of (θ/sd)²",
        strength=strength,
        probe=lambda theta: (theta / sd).square().sum(-1, keepdim=True),
        symmetry=symmetry.of_net(net),
    )
    growth = 1 + 2 * strength / d
    return problem, d / 2 * math.log2(growth), sd / growth**0.5


def two_basins(distance: float = 3.0) -> Problem:
    """A parameter that must be near −distance or distance, with nothing in between that a chain could cross."""
    return Problem(
        dim=2,
        reference=DiagonalNormal(torch.full((2,), 2.0, dtype=torch.float64), "normal with sd 2"),
        cost=lambda theta: (theta[:, 0].abs() - distance).square(),
        tolerance=0.05,
        consistency="squared distance of |θ₀| to where it must be",
        strength=100.0,
    )
