"""Laplace is exact on quadratics, soft and hard; what the diagonal leaves out; elsewhere it says what it is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import Problem, cases, curvature, estimate, standard_normal

from .known import linear, ridge, two_basins


def found(problem, method="laplace", **options):
    return estimate(problem, method, generator=stream(0, "laplace"), **options)


@pytest.mark.parametrize("case", [
    cases.evidence((0.5, 1.0, 3.0, 100.0), shift=0.7, strength=1.3), cases.evidence((1e-3, 1e6), shift=-2.0),
    cases.ball(10, 0.5), cases.ball(100, 5.0), cases.ball(4, 1.5, centre=1.0), cases.half_space(3, 5.0),
    cases.half_space(3, 20.0),
])  # fmt: skip
def test_exact_on_quadratics(case: cases.Case) -> None:
    e = found(case.problem)
    assert e.status == "converged" and e.bound == "two-sided" and e.kind == "local"
    assert e.bits == pytest.approx(case.bits, abs=1e-6)


def test_exact_on_a_linear_human_from_any_start() -> None:
    problem, truth = linear()
    for start in (None, problem.reference.sd, -3 * problem.reference.sd):
        e = found(problem, start=start)
        assert e.status == "converged" and e.bits == pytest.approx(truth.bits, abs=1e-6)
    torch.testing.assert_close(e.diagnostics["mode"], truth.mean, rtol=0, atol=1e-7)


def correlated(d: int = 100, factors: int = 20) -> tuple[Problem, float, float]:
    """Soft, C = ½ θᵀHθ with H dense: its bits, and what is left of them with the diagonal of H alone."""
    root = torch.randn(factors, d, generator=stream(0, "H"), dtype=torch.float64)
    h = root.T @ root
    bits, alone = (float(torch.logdet(torch.eye(d) + m)) / 2 / math.log(2) for m in (h, h.diagonal().diag()))
    problem = Problem(d, standard_normal(d), lambda t: (t @ root.T).square().sum(-1) / 2, 1.0, "½ θᵀHθ", strength=1.0)
    return problem, bits, alone


def test_the_diagonal_is_off_by_what_correlations_are_worth() -> None:
    problem, bits, alone = correlated()
    full, diagonal = found(problem), found(problem, "laplace_diagonal")
    assert full.bits == pytest.approx(bits, abs=1e-5)
    assert diagonal.bits == pytest.approx(alone, abs=1e-5) and diagonal.bits > bits + 22
    assert full.status == "converged" and "approximation with no bound" in diagonal.status and diagonal.bound == "none"
    hard = replace(problem, strength=None, tolerance=5.0)
    assert found(hard, "laplace_diagonal").bits > found(hard).bits + 22


def test_the_hard_event_of_correlated_parameters_is_exact() -> None:
    # H has rank k with equal eigenvalues: ½ h χ²_k ≤ τ.
    q, _ = torch.linalg.qr(torch.randn(30, 6, generator=stream(0, "Q"), dtype=torch.float64))
    problem = Problem(30, standard_normal(30), lambda t: (t @ q).square().sum(-1) / 2, 0.1, "½ |Qᵀθ|²")
    e = found(problem)
    assert e.status == "converged" and e.bits == pytest.approx(cases.ball(6, 0.1).bits, abs=1e-6)


def test_a_reference_that_is_only_a_distribution() -> None:
    scale = torch.linalg.cholesky(torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64))
    normal = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), scale_tril=scale)

    def cost(theta: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve_triangular(scale, theta.unsqueeze(-1), upper=False).square().sum((-1, -2)) / 2

    hard = Problem(2, normal, cost, 0.3, "½ |L⁻¹θ|²")
    assert found(hard).bits == pytest.approx(cases.ball(2, 0.3).bits, abs=1e-6)
    assert found(hard.soft(4.0)).bits == pytest.approx(math.log2(5), abs=1e-6)


def test_one_basin_of_two_is_one_bit_too_high_and_named_local() -> None:
    e = found(two_basins(), start=torch.tensor([3.0, 0.0], dtype=torch.float64))
    assert e.kind == "local" and e.quantity == "the basin of the mode" and e.bound == "none"
    # ∫ N(t; 0, 4) exp(−100 (|t| − 3)²) dt of both basins: each 1/√(1 + 800) · exp(−½ 9 · 200/801), tails beyond 0 nil.
    both = -math.log2(2 / math.sqrt(801) * math.exp(-0.5 * 9 * 200 / 801))
    assert e.bits == pytest.approx(both + 1, abs=1e-3)


def test_copies_are_told_and_not_counted() -> None:
    problem, _, _ = ridge(Mlp((1, 3, 1)), 5.0)
    e = found(problem)
    assert e.diagnostics["symmetry_bits"] == pytest.approx(3 + math.log2(6))


def test_what_is_not_quadratic_is_never_called_converged() -> None:
    for case in (cases.cap(10, 0.1), cases.slab(4, 3, 0.6), cases.dirichlet((2.0, 4.0), 0.1), cases.product(1e-3),
                 cases.orthant(4), cases.two_basins(2, 1.5, 0.8, 0.5)):  # fmt: skip
        e = found(case.problem)
        assert "no bound" in e.status and e.bound == "none"
        assert math.isfinite(e.bits) and e.low <= e.bits <= e.high and math.isfinite(e.high - e.low)


def test_a_cost_that_cannot_be_met_yields_a_number_and_says_so() -> None:
    e = found(Problem(2, standard_normal(2), lambda t: 1 + t.square().sum(-1), 0.5, "1 + |θ|²"))
    assert "nowhere meets the tolerance" in e.status and math.isfinite(e.bits) and e.bound == "none"


def test_infinite_costs_elsewhere_are_no_matter_to_the_mode() -> None:
    case = cases.evidence((3.0, 30.0), strength=2.0)

    def cost(theta: torch.Tensor) -> torch.Tensor:
        return torch.where(theta[..., 0] < 1, case.problem.cost(theta), torch.inf)

    e = found(replace(case.problem, cost=cost))
    assert e.bits == pytest.approx(case.bits, abs=1e-6)
    assert "no bound" in e.status and math.isfinite(e.high)
    with pytest.raises(InputError, match="infinite cost"):
        found(replace(case.problem, cost=lambda t: t[..., 0] * 0 + torch.inf))


def test_a_cost_without_a_gradient_is_refused() -> None:
    problem = Problem(2, standard_normal(2), lambda t: (t > 0).double().sum(-1), 0.5, "count", smooth=False)
    with pytest.raises(InputError, match="smooth"):
        found(problem)


def test_hessians_agree_with_autograd_one_by_one() -> None:
    def f(z: torch.Tensor) -> torch.Tensor:
        return (z[..., 0] * z[..., 1] ** 2).sin() + (z**4).sum(-1)

    z = torch.randn(5, generator=stream(0, "z"), dtype=torch.float64)
    slope, full = curvature.hessian(f, z)
    torch.testing.assert_close(full, torch.autograd.functional.hessian(lambda t: f(t[None])[0], z), rtol=0, atol=1e-6)
    torch.testing.assert_close(slope, torch.autograd.functional.jacobian(lambda t: f(t[None])[0], z), rtol=0, atol=1e-6)
    assert float(curvature.hessian(lambda z: z.abs().sum(-1) ** 2, torch.zeros(2))[1][0, 0]) == 2.0
