"""Thermodynamic integration where the answer is known, and its corrections and warnings."""

from __future__ import annotations

import math

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.rng import stream
from reuse_sim.specialness import Problem, cases, estimate, path, standard_normal, thermodynamic
from reuse_sim.specialness.path import Path
from reuse_sim.specialness.space import State

from .known import linear


@pytest.mark.parametrize("case", [
    cases.evidence(tuple(0.1 * 10 ** (k / 5) for k in range(15)), 0.5, 10.0), cases.ball(10, 0.5),
    cases.ball(60, 3.0, 1.0), cases.cap(10, 0.05), cases.half_space(3, 20.0),
    cases.dirichlet((2.0, 2.0, 4.0), 0.05), cases.product(1e-2), cases.slab(4, 3, 0.2), cases.orthant(5),
])  # fmt: skip
def test_where_the_answer_is_known(case: cases.Case) -> None:
    e = estimate(case.problem, "thermodynamic", 0.5, generator=stream(3, "ti"))
    assert e.status == "converged" and e.bound == "two-sided"
    assert abs(e.bits - case.bits) < 4 * e.diagnostics["error_bits"] < 3.0
    assert e.low < e.bits < e.high


def test_a_linear_human_s_evidence() -> None:
    problem, truth = linear()
    e = estimate(problem, "thermodynamic", 0.5, generator=stream(0, "ti"))
    assert e.status == "converged" and abs(e.bits - truth.bits) < 4 * e.diagnostics["error_bits"] < 3.0


@pytest.mark.slow
def test_intervals_hold_what_they_say() -> None:
    case = cases.ball(6, 0.5)
    found = [estimate(case.problem, "thermodynamic", 0.2, generator=stream(k, "ti")) for k in range(40)]
    assert sum(e.low <= case.bits <= e.high for e in found) >= 0.9 * 40 - 3 * math.sqrt(40 * 0.09)


@pytest.mark.parametrize("steps", [5, 10])
def test_variances_correct_the_trapezoid_rule(steps: int) -> None:
    # Exact draws of C under N(0, I) · exp(−βC), C = ½|θ|², d = 4: (1 + β)C is Γ(2), and the integral is 2 ln(1 + β).
    betas = torch.logspace(0, math.log10(21), steps + 1, dtype=torch.float64) - 1
    g = stream(0, "gamma")
    unit = -torch.rand(20_000, steps + 1, 8, 2, generator=g, dtype=torch.float64).log().sum(-1)
    found = thermodynamic.integral(Path(betas, betas), unit / (1 + betas)[:, None], hard=False)
    truth = 2 * math.log(21)
    plain = found.nats - found.correction
    assert abs(found.nats - truth) < 0.1 * abs(plain - truth) + 4 * found.error
    assert plain - truth > 10 * found.error


def test_the_hard_end_counts_the_share_inside() -> None:
    betas = torch.tensor([0.0, 1.0], dtype=torch.float64)
    cost = torch.zeros(8, 2, 4, dtype=torch.float64)
    cost[:4, 1] = 1e-12
    assert thermodynamic.integral(Path(betas, betas), cost, hard=True).nats == pytest.approx(math.log(2))


def test_what_it_cannot_do_is_said() -> None:
    def finite_on_half(theta: torch.Tensor) -> torch.Tensor:
        return torch.where(theta[:, 0] > 0, theta.square().sum(-1), torch.inf)

    half = Problem(2, standard_normal(2), finite_on_half, 0.1)
    with pytest.raises(InputError, match="annealed"):
        estimate(half, "thermodynamic", 0.2, generator=stream(0, "ti"))
    never = Problem(2, standard_normal(2), lambda t: 1 + t.square().sum(-1), 0.5, "1 + |θ|²")
    e = estimate(never, "thermodynamic", 0.1, generator=stream(0, "ti"))
    assert e.bound == "none" and "outside of the event" in e.status and math.isfinite(e.high)


def test_chains_that_still_drift_are_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases.evidence(tuple(0.1 * 10 ** (k / 5) for k in range(15)), 0.5, 10.0)

    def at_the_best(plan: path.Pilot, way: Path) -> State:
        best = torch.full((len(way.betas) * thermodynamic.REPLICATES, 15), 0.5, dtype=torch.float64)
        return plan.space.state(best, slopes=True)

    monkeypatch.setattr(thermodynamic, "init", at_the_best)
    monkeypatch.setattr(path, "LEAPFROGS", 1)
    e = estimate(case.problem, "thermodynamic", 0.1, generator=stream(0, "ti"))
    assert "drift" in e.status and e.diagnostics["drift_bits"] > 0.3
