"""Star-shaped neighbourhoods: volumes with a closed form, the sign of what goes wrong, radii, refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.rng import stream
from reuse_sim.specialness import Problem, cases, estimate, standard_normal, volume
from reuse_sim.specialness.space import Space

from .known import linear


def first(d: int, value: float = 0.0) -> Tensor:
    theta = torch.zeros(d, dtype=torch.float64)
    theta[0] = value
    return theta


def found(problem: Problem, start: Tensor | None, seed: int = 0, effort: float = 1.0, **options):
    def method(*given):
        return volume.estimate(*given, **options)

    return estimate(problem, method, effort, generator=stream(seed, "volume"), start=start)


@dataclass(frozen=True)
class Wide:
    """Uniform on [−half, half]^d, and nothing more: no map from the normal."""

    dim: int
    half: float
    name: str = "uniform"

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.half * (2 * torch.rand(n, self.dim, generator=generator, dtype=torch.float64) - 1)

    def log_prob(self, theta: Tensor) -> Tensor:
        return torch.where((theta.abs() <= self.half).all(-1), -self.dim * math.log(2 * self.half), -torch.inf)


def ellipsoid(condition: float, d: int = 20) -> cases.Case:
    """½θᵀHθ ≤ c under the uniform measure: log V_d + (d/2) log 2c − ½ log det H, over the box's volume."""
    h = torch.logspace(0, math.log10(condition), d, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(d, d, generator=stream(d, "turn"), dtype=torch.float64))
    ball = d / 2 * math.log(math.pi) - math.lgamma(1 + d / 2)
    log_volume = ball + d / 2 * math.log(2 * 0.5) - float(h.log().sum()) / 2
    problem = Problem(d, Wide(d, 2.0), lambda t: (h * (t @ turn).square()).sum(-1) / 2, 0.5, "½ θᵀHθ")
    return cases.Case(problem, -(log_volume - d * math.log(4.0)) / math.log(2))


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8])
def test_the_inverse_root_of_the_hessian_has_no_variance(condition: float) -> None:
    case = ellipsoid(condition)
    e = found(case.problem, first(20), effort=0.1)
    assert e.bits == pytest.approx(case.bits, abs=1e-6) and e.high - e.low < 1e-6
    assert (e.kind, e.bound, e.status) == ("local", "upper", "converged")
    assert e.quantity == "the star-shaped neighbourhood of the start"


def test_without_it_the_volume_is_too_small_where_the_condition_number_is_large() -> None:
    even, uneven = ellipsoid(1.0), ellipsoid(1e8)
    assert found(even.problem, first(20), preconditioned=False).bits == pytest.approx(even.bits, abs=1e-6)
    for seed in range(3):
        e = found(uneven.problem, first(20), seed, preconditioned=False)
        assert e.bits > uneven.bits + 5 and e.high > uneven.bits
        assert "rays hold the volume" in e.status


@pytest.mark.parametrize(("case", "start"), [
    (cases.ball(10, 0.5), 0.0), pytest.param(cases.ball(1000, 50.0), 0.0, marks=pytest.mark.slow),
    (cases.ball(10, 0.5), 0.3),
    (cases.ball(4, 1.5, centre=1.0), 1.0), (cases.half_space(3, 5.0), 5.2), (cases.half_space(3, 20.0), 20.2),
    (cases.cap(10, 0.1), 3.0), (cases.cap(50, 0.1), 7.0), (cases.slab(4, 3, 0.6), 0.0),
    (cases.dirichlet((2.0, 4.0), 0.1), 0.0), (cases.orthant(4), 1.0),
])  # fmt: skip
def test_events_that_are_stars_are_seen_whole(case: cases.Case, start: float) -> None:
    e = found(case.problem, first(case.problem.dim, start))
    assert e.status == "converged"
    assert abs(e.bits - case.bits) < 4 * e.diagnostics["error_bits"] + 1e-6
    assert e.diagnostics["error_bits"] < 0.25


@pytest.mark.slow
def test_the_upper_bound_holds_as_often_as_it_says() -> None:
    # One limit of a two-sided 90 % interval: 95 of 100; at least 33 of 40 but for one chance in 1,000.
    for case, start in ((cases.ball(10, 0.5), 0.3), (cases.cap(50, 0.1), 7.0), (cases.product(1e-3), 0.0)):
        held = [found(case.problem, first(case.problem.dim, start), s).high > case.bits for s in range(40)]
        assert sum(held) >= 33


def test_the_second_basin_is_not_seen() -> None:
    case = cases.two_basins(2, 1.5, 0.8, 0.5)
    one = cases.ball(2, 0.8**2, centre=1.5)  # |θ − c|²/(2 · .8²) ≤ 1
    e = found(case.problem, first(2, 1.5))
    assert abs(e.bits - one.bits) < 4 * e.diagnostics["error_bits"]
    assert e.bits > case.bits + 0.2


def test_the_soft_form_is_the_evidence() -> None:
    for case in (cases.evidence((0.5, 1.0, 3.0, 100.0), 0.7, 1.3), cases.evidence((1.0,) * 50, strength=2.0)):
        assert found(case.problem, None, effort=0.1).bits == pytest.approx(case.bits, abs=1e-6)
    problem, truth = linear()
    e = found(problem, truth.mean + 0.1 * problem.reference.sd)
    assert abs(e.bits - truth.bits) < 4 * e.diagnostics["error_bits"] < 1
    assert e.quantity == "what rays from the start see"


def test_a_box_through_its_map() -> None:
    case = cases.dirichlet((2.0, 2.0, 2.0), 0.02)
    e = found(case.problem, first(3))
    assert abs(e.bits - case.bits) < 4 * e.diagnostics["error_bits"] + 1e-6


@given(st.integers(1, 6), st.floats(1e-5, 30.0), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_radii_are_inside_and_a_hair_more_is_not(d: int, tolerance: float, seed: int) -> None:
    problem = Problem(d, standard_normal(d), lambda t: (t**2).sum(-1) + t[..., 0].abs(), tolerance, "C")
    ways = torch.randn(7, d, generator=stream(seed, "ways"), dtype=torch.float64)
    space, z0 = Space(problem), first(d)
    r = volume.radii(space, z0, ways, tolerance)
    assert (problem.cost(z0 + r[:, None] * ways) <= tolerance).all()
    assert (problem.cost(z0 + r[:, None] * (1 + 1e-9) * ways) > tolerance).all()


def test_a_ray_that_never_leaves_ends_beyond_all_mass() -> None:
    problem = Problem(3, standard_normal(3), lambda t: t[..., 0] * 0, 1.0, "nothing")
    assert found(problem, first(3)).bits == pytest.approx(0.0, abs=1e-9)


def test_a_cost_without_gradient_or_with_infinities() -> None:
    def cost(theta: Tensor) -> Tensor:
        return torch.where(theta.abs().amax(-1) <= 0.6, 0.0, torch.inf).double()

    e = found(Problem(3, standard_normal(3), cost, 0.5, "in a box", smooth=False), first(3))
    assert abs(e.bits - cases.slab(3, 3, 0.6).bits) < 4 * e.diagnostics["error_bits"]


def test_what_has_no_neighbourhood_is_refused() -> None:
    problem = cases.ball(3, 0.5).problem
    with pytest.raises(InputError, match="itself inconsistent"):
        found(problem, first(3, 2.0))
    with pytest.raises(InputError, match="start: got none"):
        found(problem, None)
    point = Problem(2, standard_normal(2), lambda t: (t != 0).double().sum(-1), 0.5, "θ = 0", smooth=False)
    with pytest.raises(InputError, match="leaves at once"):
        found(point, first(2))
