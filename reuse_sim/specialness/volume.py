"""Local volume: how much of the reference a start sees along straight lines through what is consistent.

The star-shaped neighbourhood of a start z₀ is all that can be reached from it in a straight line inside of the event
(Scherlis & Belrose 2025, arXiv 2501.18812). With z = z₀ + r P u, u uniform on the unit sphere in d dimensions, area A,

    μ(star) = |det P| A · E_u ∫₀^R(u) r^(d−1) reference(z₀ + r P u) dr,

R(u) the radius at which the ray leaves. Any P gives the same mean; P = (Λ + s H)^(−½), with H the Hessian of C at z₀, Λ
that of −log reference and s = d/2 nats per unit of C between z₀ and the tolerance, makes rays alike. Without it most of
the volume lies in directions that no ray finds, and the figure is too many bits by far.

The star is a part of the event, so the bits are an upper bound of the specialness, but for the Monte Carlo error; and a
mean of positive numbers seldom exceeds what it estimates, so that the error too makes bits too many. A trained human's
star can be a vanishing part of what is consistent: hold the figure against a global one.

In the soft form rays go on for ever and weigh exp(−strength C): the mean is then that of the whole evidence, though in
many dimensions rays see one basin of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness import curvature, laplace
from reuse_sim.specialness.problem import LEVEL, LN2, Problem, checked, limits
from reuse_sim.specialness.space import Space
from reuse_sim.types import Estimate

RAYS, ENOUGH = 400, 30.0
NODES = 32
DROP = 40.0
"""Nats below its largest value at which an integrand no longer counts."""


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL,
    preconditioned: bool = True,
) -> Estimate:
    """The star-shaped neighbourhood of `start` `(d,)` by 400 · `effort` rays; `preconditioned=False` takes P = I.

    The soft form may do without a start: it then takes the lowest of eight descents. Raises InputError for a hard
    event without a start, or with one that is itself inconsistent.
    """
    space = Space(problem)
    z0 = _centre(space, start, generator)
    factor = _factor(space, z0) if preconditioned and problem.smooth else torch.eye(problem.dim, dtype=z0.dtype)
    count = max(20, round(RAYS * effort))
    unit = torch.randn(count, problem.dim, generator=generator, dtype=z0.dtype)
    ways = unit / unit.norm(dim=1, keepdim=True) @ factor.T
    if problem.hard:
        end = radii(space, z0, ways, problem.tolerance)
    else:
        end = torch.full((count,), _far(space, z0, ways), dtype=z0.dtype)

    def log_integrand(radius: Tensor) -> Tensor:
        """r `(n, k)` -> `(n, k)`, in log r: r^d for r^(d−1) dr."""
        at = (z0 + radius.unsqueeze(-1) * ways.unsqueeze(1)).flatten(0, 1)
        value = curvature.log_base(space, at)
        if problem.strength is not None:
            with torch.no_grad():
                value = value - problem.strength * checked(problem.cost, space.theta(at))
        return problem.dim * radius.log() + value.reshape(radius.shape)

    log_rays = log_integral(log_integrand, end)
    log_det = float(torch.linalg.slogdet(factor).logabsdet)
    return _summary(problem, log_rays, log_det + _log_area(space), level, end)


def radii(space: Space, z0: Tensor, ways: Tensor, tolerance: float) -> Tensor:
    """Where rays z₀ + r v, v `(n, d)`, leave C ≤ tolerance: the largest radius `(n,)` that was tested inside.

    Radii a third apart from a millionth of the furthest are tested, then the first interval that is left is halved.
    An event that is left and entered again within a third is not noticed.
    """
    far, n = _far(space, z0, ways), len(ways)

    def inside(radius: Tensor) -> Tensor:
        at = (z0 + radius.unsqueeze(-1) * ways.unsqueeze(1)).flatten(0, 1)
        with torch.no_grad():
            return (checked(space.problem.cost, space.theta(at)) <= tolerance).reshape(radius.shape)

    ladder = torch.logspace(math.log10(far) - 6, math.log10(far), 49, dtype=z0.dtype)
    tested = torch.cat([inside(part.expand(n, -1)) for part in ladder.split(8)], 1)
    first_out = (~tested).double().argmax(1)
    open_end = tested.all(1)
    high = torch.where(open_end, ladder[-1], ladder[first_out])
    below = torch.where(first_out > 0, ladder[(first_out - 1).clamp(min=0)], torch.zeros_like(high))
    low = torch.where(open_end, ladder[-1], below)
    for _ in range(40):
        middle = torch.where(low > 0, (low + high) / 2, high / 16)  # towards a ray that ends at once, in large steps
        now = inside(middle.unsqueeze(1)).squeeze(1) & ~open_end
        low, high = torch.where(now, middle, low), torch.where(now | open_end, high, middle)
        if bool((high - low <= 1e-10 * high).all()):
            break
    return low


def log_integral(log_f: Callable[[Tensor], Tensor], end: Tensor) -> Tensor:
    """log ∫₀^end f(r) dr/r for log f of radii `(n, k)` and ends `(n,)`: `(n,)`, −inf where the end is 0.

    In t = log r the integrand is taken to rise to one top and to fall from it. The top is found by three grids, each
    within two steps of the one before; from there to 40 nats below it, or the end, Gauss and Legendre's nodes.
    """
    alive = end > 0
    top_end = torch.where(alive, end, 1.0).log()
    low, high = top_end - 40, top_end.clone()
    grid = torch.linspace(0, 1, 33, dtype=end.dtype)
    for _ in range(4):
        t = low.unsqueeze(1) + (high - low).unsqueeze(1) * grid
        value = log_f(t.exp()).nan_to_num(-torch.inf, -torch.inf, -torch.inf)
        best, step = value.argmax(1), (high - low) / 32
        top, height = t.gather(1, best.unsqueeze(1)).squeeze(1), value.amax(1)
        low, high = top - 2 * step, torch.minimum(top + 2 * step, top_end)
    reach = torch.logspace(-12, 5.5, 36, base=2, dtype=end.dtype)
    x, w = (torch.from_numpy(a) for a in _legendre(NODES))
    total = torch.full_like(end, -torch.inf)
    for side in (-1.0, 1.0):
        away = torch.minimum(top.unsqueeze(1) + side * reach, top_end.unsqueeze(1))
        value = log_f(away.exp()).nan_to_num(-torch.inf, -torch.inf, -torch.inf)
        fallen = value < height.unsqueeze(1) - DROP
        far = torch.where(fallen.any(1), fallen.double().argmax(1), len(reach) - 1)
        border = away.gather(1, far.unsqueeze(1)).squeeze(1)
        half = (border - top).abs() / 2
        t = ((border + top) / 2).unsqueeze(1) + half.unsqueeze(1) * x
        part = torch.logsumexp(log_f(t.exp()) + w.log(), 1) + half.log()
        total = torch.logaddexp(total, part.nan_to_num(-torch.inf, -torch.inf, -torch.inf))
    return torch.where(alive, total, -torch.inf)


def _centre(space: Space, start: Tensor | None, generator: torch.Generator) -> Tensor:
    problem = space.problem
    if start is None and problem.strength is not None:
        curvature.need_smooth(space, "volume")
        return curvature.settle(space, problem.strength, laplace.lowest(space, problem.strength, generator, None))
    if start is None:
        raise InputError("start", "none", "a θ that is consistent, such as a trained human",
                         "a neighbourhood is that of something")
    z0 = space.z(start.double())
    cost = float(space.state(z0[None]).cost[0])
    if problem.hard and not cost <= problem.tolerance:
        raise InputError("start", f"a start that is itself inconsistent, C = {cost:.4g}",
                         f"C at most {problem.tolerance:g}, the tolerance", "take another start or a larger tolerance")
    if not math.isfinite(cost):
        raise InputError("start", f"C = {cost}", "a start of finite cost")
    return z0


def _factor(space: Space, z0: Tensor) -> Tensor:
    """P = (Λ + s H)^(−½), symmetric; curvatures that are not above 0 count as the least that is."""
    problem = space.problem
    if problem.strength is None:
        room = problem.tolerance - float(space.state(z0[None]).cost[0])
        strength = problem.dim / (2 * max(room, 1e-9 * max(abs(problem.tolerance), 1e-9)))
    else:
        strength = problem.strength
    _, base = curvature.base_curvature(space, z0)
    _, cost = curvature.cost_curvature(space, z0)
    values, turn = torch.linalg.eigh(base + strength * cost)
    floor = 1.0 if space.normal else max(1e-8 * float(values.abs().max()), 1e-300)
    return (turn / values.clamp(min=floor).sqrt()) @ turn.T


def _far(space: Space, z0: Tensor, ways: Tensor) -> float:
    """A radius beyond which no ray meets mass: of N(0, I), or of 64 draws a hundred times over."""
    if space.normal:
        reach = float(z0.norm()) + math.sqrt(len(z0)) + 40
    else:
        draws = space.draw(64, torch.Generator().manual_seed(0))
        reach = 100 * float((draws - z0).norm(dim=1).max())
    return reach / float(ways.norm(dim=1).min())


def _log_area(space: Space) -> float:
    """Of the unit sphere, and with the constant that `log_base` leaves out of N(0, I)."""
    d = space.problem.dim
    constant = -d / 2 * math.log(2 * math.pi) if space.normal else 0.0
    return math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2) + constant


def _summary(problem: Problem, log_rays: Tensor, log_scale: float, level: float, end: Tensor) -> Estimate:
    n, top = len(log_rays), log_rays.max()
    if top == -torch.inf:
        raise InputError("start", "a start that every ray leaves at once", "one with consistent θ around it",
                         "take method subset")
    weights = (log_rays - top).exp()
    mean = weights.mean()
    bits = -(float(top + mean.log()) + log_scale) / LN2
    error = float(weights.std() / mean) / n**0.5 / LN2
    effective = float(weights.sum() ** 2 / weights.square().sum())
    low, high = limits(bits, error, level)
    status = "converged"
    if effective < min(ENOUGH, n / 4):
        # Whatever the spread, the mean of positive numbers exceeds k times its expectation at most once in k.
        high = max(high, bits + math.log2(1 / (1 - level)))
        status = (f"{effective:.1f} of {n} rays hold the volume: bits are too many by an unknown amount, the upper "
                  "bound stands; take more effort, or method smc")
    whole = "the star-shaped neighbourhood of the start"
    return Estimate(
        bits=bits, low=low, high=high, bound="upper", kind="local", level=level, status=status,
        quantity=whole if problem.hard else "what rays from the start see",
        diagnostics={"error_bits": error, "effective_rays": effective, "rays": n,
                     "radius_median": float(end.median()), **problem.report},
    )


@lru_cache
def _legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(nodes)
