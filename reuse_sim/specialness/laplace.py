"""Laplace approximation: one Gaussian in place of what is consistent. Exact where cost and log reference are quadratic.

Soft form: with z* the mode of the Gibbs posterior and A = −∇² log reference + strength ∇²C there,

    −log₂ evidence ≈ −log₂ [ reference(z*) exp(−strength C(z*)) (2π)^(d/2) |A|^(−1/2) ]      (MacKay 1992).

Hard event: the same Gaussian at the strength where its mean C is the tolerance gives the point about which cost and log
reference are replaced by their quadratics; the share of that Gaussian reference where that quadratic is below the
tolerance is a generalised χ² and computed exactly (`quadratic.log_share`).

The diagonal variant keeps the diagonals of the Hessians only. Neither has a bound: `departure_bits` says by how much
the log posterior differs from its quadratic at half of the Gaussian's own draws. One basin: a network's other copies
are not counted, their number is `symmetry_bits`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness import curvature, quadratic
from reuse_sim.specialness.problem import LEVEL, LN2, Problem
from reuse_sim.specialness.space import Space
from reuse_sim.types import Estimate

STARTS, EXACT_NATS = 8, 1e-6


@dataclass(frozen=True)
class Model:
    """Cost and log reference as quadratics about z `(d,)`.

    Attributes:
        strength: at which z is the mode.
        cost, cost_slope, cost_curve: C there, its gradient `(d,)` and Hessian `(d, d)`.
        base, base_slope, base_curve: the log reference (of N(0, I) without its constant), gradient, minus the Hessian.
    """

    z: Tensor
    strength: float
    cost: float
    cost_slope: Tensor
    cost_curve: Tensor
    base: float
    base_slope: Tensor
    base_curve: Tensor

    @property
    def precision(self) -> Tensor:
        """Of the Gaussian that stands for the posterior."""
        return self.base_curve + self.strength * self.cost_curve

    def log_posterior(self, z: Tensor) -> Tensor:
        """log reference − strength C of the quadratics at z `(n, d)`, less its value at the mode."""
        x = z - self.z
        slope = self.base_slope - self.strength * self.cost_slope
        return x @ slope - ((x @ self.precision) * x).sum(-1) / 2

    def mean_cost(self) -> float:
        """Of the Gaussian, by the quadratic of C; no less than at the mode, should C curve down more than up."""
        return self.cost + max(0.0, 0.5 * float(torch.linalg.solve(self.precision, self.cost_curve).trace()))


def estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """Full Hessians, at the mode that a descent from `start` reaches, or from the best of 8 draws of the reference."""
    return _estimate(problem, effort, generator, start, level, diagonal=False)


def estimate_diagonal(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None = None, level: float = LEVEL
) -> Estimate:
    """The same with the diagonals of the Hessians: every correlation between parameters is left out."""
    return _estimate(problem, effort, generator, start, level, diagonal=True)


def _estimate(
    problem: Problem, effort: float, generator: torch.Generator, start: Tensor | None, level: float, diagonal: bool
) -> Estimate:
    space = Space(problem)
    curvature.need_smooth(space, "laplace")
    first = problem.strength or _strength_of(space, generator)
    z = lowest(space, first, generator, start, steps=max(50, round(300 * effort)))
    if problem.strength is not None:
        model = _model(space, problem.strength, curvature.settle(space, problem.strength, z), diagonal)
        log_share, error = _evidence(space, model), 0.0
    else:
        model = _at_tolerance(space, first, z, diagonal)
        log_share, error = _event(space, model, problem.tolerance)
    wrong = []
    if float(torch.linalg.eigvalsh(model.precision).min()) <= 0:
        wrong.append("the point found is no maximum, directions that curve up are left out: take another start")
    if log_share == -math.inf or not math.isfinite(log_share + error):
        log_share = -(problem.strength or 0.0) * model.cost + min(0.0, _evidence(space, model))
        wrong.append("the quadratic of the cost nowhere meets the tolerance: the soft figure at the mode stands in; "
                     "take method smc")
    nats, exact = _departure(space, model, generator)
    departure, exact = nats / LN2, exact and not wrong
    if not exact:
        kind = "diagonal Laplace" if diagonal else "Laplace"
        wrong.append(f"{kind} is an approximation with no bound (its quadratic is off by {departure:.2g} bits): "
                     "hold it against smc")
    floor = 0.0 if problem.hard else -math.inf
    bits = max(floor, -log_share / LN2)
    error = error / LN2 + min(departure, max(1.0, abs(bits)))  # more than all of it says no more
    return Estimate(
        bits=bits, low=max(floor, bits - error), high=bits + error, bound="two-sided" if exact else "none",
        kind="local", level=level, quantity="the basin of the mode", status="; ".join(wrong) or "converged",
        diagnostics={"error_bits": error, "departure_bits": departure, "strength": model.strength,
                     "mode_cost": model.cost, "mode": space.theta(model.z[None])[0], **problem.report},
    )


def lowest(
    space: Space, strength: float, generator: torch.Generator, start: Tensor | None, steps: int = 300
) -> Tensor:
    """z `(d,)` where descents at that strength end lowest: from `start`, or from 8 draws of the reference."""
    starts = space.draw(STARTS, generator) if start is None else space.z(start.double()[None])
    ends = torch.cat([curvature.down(space, strength, starts, steps), starts])
    state = space.state(ends)
    height = (strength * state.cost - state.base).nan_to_num(torch.inf, torch.inf)
    if not bool(height.isfinite().any()):
        raise InputError("start", "infinite cost at every start", "a start of finite cost", "give a θ as start")
    return ends[height.argmin()]


def _strength_of(space: Space, generator: torch.Generator) -> float:
    """A first guess: d nats over how far typical costs lie above the tolerance."""
    cost = space.state(space.draw(64, generator)).cost
    typical = cost[cost.isfinite()].median() if bool(cost.isfinite().any()) else cost.new_tensor(1.0)
    return space.problem.dim / max(float(typical) - space.problem.tolerance, 1e-3 * abs(float(typical)), 1e-12)


def _model(space: Space, strength: float, z: Tensor, diagonal: bool) -> Model:
    base_slope, base_curve = curvature.base_curvature(space, z)
    cost_slope, cost_curve = curvature.cost_curvature(space, z)
    if diagonal:
        base_curve, cost_curve = base_curve.diagonal().diag(), cost_curve.diagonal().diag()
    state = space.state(z[None])
    cost, base = float(state.cost[0]), float(state.base[0])
    return Model(z, strength, cost, cost_slope, cost_curve, base, base_slope, base_curve)


def _at_tolerance(space: Space, strength: float, z: Tensor, diagonal: bool) -> Model:
    """The model at the strength where its Gaussian's mean C is the tolerance, by bisection of log strength."""
    def at(s: float, z: Tensor) -> Model:
        return _model(space, s, curvature.settle(space, s, z), diagonal)

    tolerance, model = space.problem.tolerance, at(strength, z)
    low = high = model
    for _ in range(40):  # brackets: mean C falls as strength rises
        if low.mean_cost() < tolerance:
            low = at(low.strength / 4, low.z)
        elif high.mean_cost() > tolerance:
            high = at(high.strength * 4, high.z)
        else:
            break
        if low.strength < 1e-9 * strength or high.strength > 1e12 * strength:
            break
    for _ in range(12):
        middle = at(math.sqrt(low.strength * high.strength), high.z)
        low, high = (middle, high) if middle.mean_cost() > tolerance else (low, middle)
    return high


def _evidence(space: Space, model: Model) -> float:
    values = torch.linalg.eigvalsh(model.precision)
    log_det = float(values[values > 0].log().sum())
    constant = 0.0 if space.normal else len(values) * math.log(2 * math.pi) / 2
    return model.base - model.strength * model.cost + constant - log_det / 2


def _event(space: Space, model: Model, tolerance: float) -> tuple[float, float]:
    """Log share and its numerical error: whitened by the reference's own quadratic N(m, Λ⁻¹), of mass e^height."""
    values = torch.linalg.eigvalsh(model.base_curve)
    if float(values.min()) <= 0:
        raise InputError("laplace: reference", "a log density that does not curve down at the mode",
                         "one that does, or a map from the normal (from_normal, to_normal)", "take problem.soft(…)")
    factor = torch.linalg.cholesky(torch.linalg.inv(model.base_curve))  # x = m − z* + L ξ
    shift = torch.linalg.solve(model.base_curve, model.base_slope)
    height = 0.0
    if not space.normal:
        log_det = float(values.log().sum())
        height = model.base + float(model.base_slope @ shift) / 2 - (log_det - len(values) * math.log(2 * math.pi)) / 2
    curve = model.cost_curve
    c = model.cost + float(model.cost_slope @ shift + shift @ curve @ shift / 2)
    h, turn = torch.linalg.eigh(factor.T @ curve @ factor)
    b = turn.T @ (factor.T @ (model.cost_slope + curve @ shift))
    share, error = quadratic.log_share(c, b, h, tolerance)
    return height + share, error


def _departure(space: Space, model: Model, generator: torch.Generator, draws: int = 64) -> tuple[float, bool]:
    """Log posterior less its quadratic at draws of the Gaussian, median size in nats; and whether it is quadratic.

    It is where they agree at draws of the reference too: another basin would show there. For a hard event, at no less
    than the strength at which C's own spread counts for a nat.
    """
    values, turn = torch.linalg.eigh(model.precision)
    noise = torch.randn(draws, len(values), generator=generator, dtype=values.dtype)
    near = model.z + (noise / values.clamp(min=1e-8 * float(values.abs().max())).sqrt()) @ turn.T
    state = space.state(torch.cat([near, space.draw(draws, generator)]))
    strength = model.strength
    if space.problem.hard:
        spread = state.cost[:draws][state.cost[:draws].isfinite()].std().nan_to_num(1.0)
        strength = max(strength, 1 / max(float(spread), 1e-300))
    model = replace(model, strength=strength)
    actual = (state.base - model.base - strength * (state.cost - model.cost)).nan_to_num(-1e3, 1e3, -1e3)
    gap = actual - model.log_posterior(state.z)
    quadratic_everywhere = bool((gap.abs() < EXACT_NATS * (1 + actual.abs())).all())
    return float(gap[:draws].abs().median()), quadratic_everywhere
