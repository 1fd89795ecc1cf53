"""What a descent harvests of its own path: exact where it must be, conditional under a leak, and three that fail."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from reuse_sim.errors import InputError
from reuse_sim.rng import stream
from reuse_sim.specialness import (
    METHODS,
    DiagonalNormal,
    Problem,
    UniformBox,
    cases,
    estimate,
    path_curvature,
    path_failures,
    path_work,
    plain_descent,
    standard_normal,
)
from reuse_sim.specialness.known import Leak, early, given
from reuse_sim.specialness.path_work import Plan
from reuse_sim.specialness.space import Space

SPECTRUM = (0.5, 2.0, 8.0, 32.0)


def mean_bits(case: cases.Case, repeats: int, effort: float) -> tuple[float, float]:
    """−log₂ of the mean of 2^−bits over repeats, and its standard error: the mean of paths is unbiased as it is."""
    found = torch.tensor([estimate(case.problem, "path_work", effort, generator=stream(k, "w")).bits
                          for k in range(repeats)], dtype=torch.float64)  # fmt: skip
    shares = (case.bits - found).exp2()
    error = float(shares.std() / shares.mean()) / math.sqrt(repeats) / math.log(2)
    return case.bits - math.log2(float(shares.mean())), error


@pytest.mark.slow
@pytest.mark.parametrize("case", [
    cases.ball(5, 0.5), cases.half_space(3, 4.0), cases.dirichlet((2.0, 4.0), 0.02),
    cases.evidence(SPECTRUM, shift=0.7, strength=3.0),
])  # fmt: skip
def test_path_work_is_exact_however_fast_the_path(case: cases.Case) -> None:
    bits, error = mean_bits(case, 12, 0.1)
    assert error < 0.6 and abs(bits - case.bits) < 4 * error + 0.05


def test_an_interval_goes_with_it_and_it_counts_its_work() -> None:
    case = cases.ball(12, 1.0)
    found = estimate(case.problem, "path_work", 0.5, generator=stream(0, "w"))
    assert found.status == "converged" and found.bound == "two-sided" and found.low < found.bits < found.high
    assert abs(found.bits - case.bits) < 4 * found.diagnostics["error_bits"]
    assert found.evaluations > 16 * 3 * 750


def test_few_walkers_that_carry_the_figure_are_said_so() -> None:
    found = estimate(cases.ball(200, 5.0).problem, "path_work", 0.02, generator=stream(0, "w"))
    assert found.bound == "upper" and "walkers carry the figure" in found.status
    assert found.high >= found.bits + math.log2(10) - 1e-9


def test_an_event_that_cannot_be_reached_gives_no_number() -> None:
    problem = Problem(2, standard_normal(2), lambda t: 1 + t.square().sum(-1), 0.5)
    found = estimate(problem, "path_work", 0.1, generator=stream(0, "w"))
    assert "no result" in found.status and "C = 1" in found.status
    assert (found.bound, found.low) == ("lower", 0.0) and math.isfinite(found.high)


def test_without_a_gradient_it_is_refused() -> None:
    problem = Problem(2, standard_normal(2), lambda t: (t[:, 0] > 0).double(), 0.5, smooth=False)
    for method in ("path_work", "path_curvature", "iterates_share"):
        with pytest.raises(InputError, match="take method smc"):
            estimate(problem, method, generator=stream(0, "w"))


def quadratic(centre: torch.Tensor, sd: torch.Tensor, tolerance: float) -> Problem:
    return Problem(len(centre), DiagonalNormal(sd), lambda t: (t - centre).square().sum(-1) / 2, tolerance, "½|θ - c|²")


def test_what_leaks_early_leaves_the_conditional_bits() -> None:
    """Three of five known at θ2: what is left is a ball about c with the known ones' C taken off the tolerance."""
    centre = torch.tensor([1.0, -1.0, 0.5, 0.8, -0.6], dtype=torch.float64)
    sd, theta = torch.ones(5, dtype=torch.float64), centre + 0.2
    known = torch.tensor([True, False, True, True, False])
    problem = quadratic(centre, sd, 0.3)
    radius2 = 2 * (0.3 - 3 * 0.2**2 / 2)
    exact = -math.log2(stats.ncx2.cdf(radius2, 2, float(centre[~known].square().sum())))
    whole = -math.log2(stats.ncx2.cdf(0.6, 5, float(centre.square().sum())))
    path = path_work.descend(problem, Plan(steps=600), stream(0, "w"), early(theta, known), keep=50)
    found = path_work.weigh(problem, path, quantity="given")
    assert found.status == "converged" and found.quantity == "given"
    assert abs(found.bits - exact) < 4 * found.diagnostics["error_bits"] + 0.1  # β is not 0 while it leaks
    assert whole - exact > 4  # so that the figure is wrong by far, with nothing to show for it
    assert torch.equal(path.theta[-1][:, known], theta[known].expand(16, -1))
    assert float(path.theta[-1][:, ~known].var(0).min()) > 0


def test_the_conditional_problem_is_the_same_figure() -> None:
    """Also with a mean and a scale of each coordinate, and where all paths know it from the start."""
    theta = torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64)
    sd = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    known = torch.tensor([False, True, False])
    problem = Problem(3, DiagonalNormal(sd, mean=torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)),
                      lambda t: (t - theta).abs().amax(-1), 0.4, smooth=True)  # fmt: skip
    left = given(problem, theta, known)
    assert left.dim == 2 and left.reference.name == "normal, given 1 of 3 coordinates"
    normal = [stats.norm(m, s) for m, s in ((0.1, 0.5), (0.3, 2.0))]
    exact = -sum(math.log2(n.cdf(c + 0.4) - n.cdf(c - 0.4)) for n, c in zip(normal, (0.3, 0.4), strict=True))
    draws = left.reference.sample(200_000, stream(0, "draws"))
    share = float((left.cost(draws) <= 0.4).double().mean())
    assert -math.log2(share) == pytest.approx(exact, abs=0.03)
    path = path_work.descend(problem, Plan(steps=300), stream(0, "w"), Leak(theta, torch.where(known, 0.0, torch.inf)))
    found = path_work.weigh(problem, path)
    assert abs(found.bits - exact) < 4 * found.diagnostics["error_bits"]


def test_a_box_and_a_gradient_are_cut_as_well_and_what_cannot_be_is_refused() -> None:
    one = torch.ones(3, dtype=torch.float64)
    problem = Problem(3, UniformBox(-one, one * torch.tensor([1, 2, 3])), lambda t: t.square().sum(-1), 0.5,
                      gradient=lambda t: (t.square().sum(-1), 2 * t))  # fmt: skip
    known = torch.tensor([True, False, False])
    left = given(problem, 0.5 * one, known)
    assert left.reference.high.tolist() == [2.0, 3.0] and left.gradient is not None
    cost, slope = left.gradient(torch.tensor([[0.1, 0.2]], dtype=torch.float64))
    assert float(cost) == pytest.approx(0.3) and slope.tolist() == [[0.2, 0.4]]
    with pytest.raises(InputError, match="some left to ask about"):
        given(problem, one, ~torch.zeros(3, dtype=torch.bool))
    gamma = torch.distributions.Gamma(torch.ones(3, dtype=torch.float64), 1.0)
    with pytest.raises(InputError, match="conditional law is not known"):
        given(Problem(3, gamma, lambda t: t.sum(-1), 0.5), one, known)


def test_all_known_is_no_bit() -> None:
    problem, theta = cases.ball(6, 0.5).problem, torch.full((6,), 0.1, dtype=torch.float64)
    path = path_work.descend(problem, Plan(steps=200), stream(0, "w"), early(theta, torch.ones(6, dtype=torch.bool)))
    assert abs(path_work.weigh(problem, path).bits) < 0.05


def test_another_cost_to_descend_on_changes_nothing_in_the_mean() -> None:
    case = cases.ball(4, 0.8)
    other = Problem(4, standard_normal(4), lambda t: (t - 0.3).square().sum(-1), 0.5)
    found = [path_work.weigh(case.problem, path_work.descend(case.problem, Plan(steps=150), stream(k, "w"),
                                                             along=other)).bits for k in range(12)]  # fmt: skip
    shares = torch.tensor([2 ** (case.bits - bits) for bits in found])
    error = float(shares.std()) / 12**0.5
    assert error < 0.4 and abs(float(shares.mean()) - 1) < 4 * error


def test_curvature_is_right_where_c_is_quadratic() -> None:
    """The event of the mean against the ball's χ²: the expansion's next term is 1/(6 d) nats."""
    for case in (cases.ball(20, 1.0), cases.ball(37, 2.0, centre=3.0), cases.evidence(SPECTRUM, 0.7, 3.0)):
        found = estimate(case.problem, "path_curvature", generator=stream(0, "c"))
        assert found.bits == pytest.approx(case.bits, abs=0.7)
        assert found.bound == "none" and found.kind == "local" and found.status.startswith("rough")


def test_the_level_is_the_mean_of_c_and_its_inverse_the_inverse() -> None:
    h, c, beta = torch.tensor(SPECTRUM), torch.tensor([0.3, -1.0, 0.5, 0.1]), torch.tensor(2.0)
    z = torch.randn(400_000, 4, generator=stream(0, "z"))
    weight = torch.softmax(-2.0 * (h * (z - c).square()).sum(-1) / 2, 0)
    mean = float((weight * (h * (z - c).square()).sum(-1) / 2).sum())
    level = path_curvature.level(h.double(), c.double(), beta.double())
    assert float(level) == pytest.approx(mean, rel=0.02)
    back = path_curvature.inverse(h.double()[None], c.double()[None], level[None])
    assert float(back) == pytest.approx(2.0, rel=1e-6)


def test_eigenvalues_are_those_of_the_hessian_in_the_samplers_coordinates() -> None:
    sd = torch.tensor([0.5, 2.0], dtype=torch.float64)
    problem = Problem(2, DiagonalNormal(sd), lambda t: (3 * t[:, 0] ** 2 - t[:, 1] ** 2) / 2, 1.0)
    values, _ = path_curvature.spectra(Space(problem), torch.zeros(3, 2, dtype=torch.float64))
    torch.testing.assert_close(values, torch.tensor([[0.0, 0.75]] * 3, dtype=torch.float64))


def test_a_descent_that_never_comes_to_the_tolerance_has_no_curvature() -> None:
    problem = Problem(2, standard_normal(2), lambda t: 1 + t.square().sum(-1), 0.5)
    assert "no result" in estimate(problem, "path_curvature", generator=stream(0, "c")).status


def test_the_three_that_are_none_fail_as_they_must() -> None:
    """At most log₂ of the iterates; more bits for more steps of the same way; more bits for more rest."""
    case = cases.ball(20, 1.0)
    found = {(m, e): estimate(case.problem, m, e, generator=stream(0, "f"))
             for m in ("iterates_share", "iterates_cosine", "iterates_gaussian") for e in (0.5, 2.0)}  # fmt: skip
    assert all(f.bound == "none" and f.status.startswith("no definition") for f in found.values())
    for effort, iterates in ((0.5, 201), (2.0, 801)):
        assert 0 <= found["iterates_share", effort].bits <= math.log2(iterates) < case.bits
    assert found["iterates_cosine", 2.0].bits > 2 * found["iterates_cosine", 0.5].bits > 4 * case.bits
    assert found["iterates_gaussian", 2.0].bits > 1.5 * found["iterates_gaussian", 0.5].bits > 2 * case.bits


def test_cosine_and_gaussian_against_their_formulas() -> None:
    """A step at 60° in three dimensions, a cap of a quarter of the sphere; a normal of sd ½ about 1 in one."""
    problem = cases.ball(3, 1.0).problem
    z = torch.tensor([[0.0, 0, 0], [0.5, math.sqrt(0.75), 0]], dtype=torch.float64)[:, None]
    slope = torch.tensor([[-1.0, 0, 0]] * 2, dtype=torch.float64)[:, None]
    path = plain_descent.Iterates(Space(problem), z, slope)
    assert float(path_failures.cosine_bits(problem, path)) == pytest.approx(2.0, abs=1e-9)
    noise = torch.randn(20_000, 1, 1, generator=stream(0, "n"), dtype=torch.float64)
    path = plain_descent.Iterates(Space(cases.ball(1, 1.0).problem), 1 + noise / 2, noise)
    exact = (0.25 + 1 - 1 - math.log(0.25)) / 2 / math.log(2)
    assert float(path_failures.gaussian_bits(cases.ball(1, 1.0).problem, path)) == pytest.approx(exact, abs=0.05)


def test_plain_descents_go_down_and_hold_what_leaks() -> None:
    problem, theta = cases.ball(6, 0.5, centre=2.0).problem, torch.full((6,), 0.1, dtype=torch.float64)
    known = torch.tensor([True, True, False, False, True, False])
    path = plain_descent.iterates(problem, stream(0, "d"), count=3, steps=200, rate=0.05, leak=early(theta, known))
    assert path.z.shape == (201, 3, 6) and path.slope.shape == (201, 3, 6)
    assert torch.equal(path.theta[21:, :, known], theta[known].expand(180, 3, 3))
    assert not torch.equal(path.theta[10][:, known], theta[known].expand(3, 3))
    assert float(path.theta[-1][:, ~known].abs().max()) < 0.1
    assert float(path.slope[21:, :, ~known].abs().sum()) > 0


def test_all_are_methods() -> None:
    assert {"path_work", "path_curvature", "iterates_share", "iterates_cosine", "iterates_gaussian"} <= set(METHODS)
