"""What a descent could read off passively: the curvature along its path, as if C were quadratic there.

If C = ½ Σ h_i (z_i − c_i)² under N(0, I), its mean at inverse temperature β is

    ℓ(β) = ½ Σ h_i/(1 + βh_i) + ½ Σ h_i c_i²/(1 + βh_i)²,

and S = ∫ β(ℓ) dℓ / ln 2 from the mean of the reference down to the tolerance, plus log₂(β σ √2π) at its end, which an
event costs over a mean: σ² = ½ Σ h_i²/(1 + βh_i)² + Σ h_i² c_i²/(1 + βh_i)³. In the soft form S = ∫ ℓ(β) dβ / ln 2.
Each iterate gives its own h (eigenvalues of the Hessian of C, negative ones taken for 0), the best one c.
Rough: nothing is visited but the path, networks are not quadratic, what C no θ undercuts is left out, and copies lie
beside it. No figure of this kind calls itself converged.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reuse_sim.specialness import plain_descent
from reuse_sim.specialness.problem import LEVEL, LN2, Problem, limits
from reuse_sim.specialness.space import Space
from reuse_sim.types import Estimate

DESCENTS, POINTS = 4, 24
STATUS = "rough: curvature along one descent, as if C were quadratic there, is no measure of the rest; take smc"


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """By four descents from draws of the reference; `effort` scales their steps. `start` is not used.

    Raises InputError where C has no gradient, or the reference no map from the normal.
    """
    path = plain_descent.iterates(problem, generator, count=DESCENTS, steps=max(50, round(effort * 400)))
    return weigh(problem, path.theta, level)


def weigh(problem: Problem, theta: Tensor, level: float = LEVEL, points: int = POINTS) -> Estimate:
    """The bits of `points` of the iterates θ `(s, K, d)`, the mean over K paths, with its standard error."""
    space = Space(problem)
    index = torch.linspace(0, 1, points, dtype=torch.float64).square().mul(len(theta) - 1).round().long().unique()
    z = space.z(theta[index].flatten(0, 1)).unflatten(0, (len(index), theta.shape[1]))
    found = [one(problem, space, z[:, k]) for k in range(z.shape[1])]
    each = torch.tensor([b for b in found if b is not None], dtype=torch.float64)
    told = {"paths": len(each), **problem.report}
    if not len(each):
        status = f"no descent came down to C = {problem.tolerance:.3g}: no result; take more effort"
        return Estimate(0.0, 0.0, 0.0, "none", "local", status, {"error_bits": 0.0, **told}, level)
    bits, error = float(each.mean()), float(each.std(correction=0)) / max(1, len(each) - 1) ** 0.5
    low, high = limits(bits, error, level)
    return Estimate(bits, low, high, "none", "local", STATUS, {"error_bits": error, **told}, level)


def one(problem: Problem, space: Space, z: Tensor) -> float | None:
    """The bits of one path z `(s, d)`, or None where its end is no better than the tolerance."""
    h, axes = spectra(space, z)
    cost = space.state(z).cost
    last = int(cost.argmin())
    if problem.hard and not float(cost[last]) <= problem.tolerance:
        return None
    c = (axes * z[last][None, :, None]).sum(1)
    return bits(h, c, cost, problem.tolerance, problem.strength)


def bits(h: Tensor, c: Tensor, cost: Tensor, tolerance: float, strength: float | None) -> float:
    """S of a path with eigenvalues h `(s, d)`, its end c `(s, d)` in their axes, and C `(s,)`."""
    last = int(cost.argmin())
    if strength is None:
        end, beyond = tolerance, 0.0
    else:
        # ∫ ℓ dβ = s ℓ(s) + ∫ β dℓ from ℓ(s) up.
        end = float(level(h[last], c[last], torch.tensor(strength, dtype=h.dtype)))
        beyond = strength * end
    before = (cost > end).nonzero()[:, 0]
    at = int(before.max()) + 1 if len(before) and int(before.max()) + 1 < len(cost) else last
    kept = torch.cat([before, torch.tensor([at])])
    levels = torch.cat([cost[before], torch.tensor([end], dtype=cost.dtype)])
    betas = inverse(h[kept], c[kept], levels)
    start = level(h[0], c[0], torch.zeros((), dtype=h.dtype))  # where β is 0
    levels, betas = torch.cat([start[None].clamp(min=end), levels]), torch.cat([torch.zeros_like(start)[None], betas])
    order = levels.argsort()
    nats = float(torch.trapezoid((betas * levels)[order], levels[order].log()))
    if strength is None:
        beta = betas[-1]
        stiff = 1 + beta * h[at]
        spread = ((h[at] / stiff).square() / 2 + h[at].square() * c[at].square() / stiff**3).sum().sqrt()
        beyond = max(0.0, float((beta * spread * math.sqrt(2 * math.pi)).log())) if float(beta) > 0 else 0.0
    return (nats + beyond) / LN2


def level(h: Tensor, c: Tensor, beta: Tensor) -> Tensor:
    """ℓ(β) for h and c `(…, d)` and β `(…,)`."""
    stiff = 1 + beta.unsqueeze(-1) * h
    return (h / stiff + h * (c / stiff).square()).sum(-1) / 2


def inverse(h: Tensor, c: Tensor, levels: Tensor) -> Tensor:
    """β `(s,)` at which ℓ of each row is `levels` `(s,)`; 0 where it is below that from the start."""
    low, high = torch.full_like(levels, -30.0), torch.full_like(levels, 60.0)  # of log β
    for _ in range(60):
        middle = (low + high) / 2
        above = level(h, c, middle.exp()) > levels
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    below = level(h, c, torch.zeros_like(levels)) <= levels
    return torch.where(below, 0.0, ((low + high) / 2).exp())


def spectra(space: Space, z: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues `(s, d)` of the Hessian of C at z `(s, d)`, at least 0, and eigenvectors `(s, d, d)` in columns."""
    leaf = z.detach().clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(space.problem.cost(space.theta(leaf)).sum(), leaf, create_graph=True)
    hessian = torch.zeros(*z.shape, z.shape[1], dtype=z.dtype)
    if slope.requires_grad:  # that of a plane is constant
        for i in range(z.shape[1]):
            (row,) = torch.autograd.grad(slope[:, i].sum(), leaf, retain_graph=True, allow_unused=True)
            hessian[:, i] = 0.0 if row is None else row
    values, vectors = torch.linalg.eigh((hessian + hessian.mT) / 2)
    return values.clamp(min=0), vectors
