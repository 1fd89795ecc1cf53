"""Subset simulation against closed forms: ties, soft sums, replicates' errors, and the flags it must raise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.rng import stream
from reuse_sim.specialness import Problem, cases, estimate, levels, standard_normal, subset


@pytest.mark.parametrize("case", [
    cases.orthant(7), cases.slab(6, 4, 0.1), cases.half_space(3, 5.0), cases.dirichlet((2.0, 4.0, 1.0), 1e-4),
    cases.binary(20, 0.0), cases.binary(30, 0.1), cases.cap(20, 0.15), cases.ball(10, 0.5, centre=1.0),
    cases.evidence((5.0, 50.0, 200.0, 1000.0), 0.3),
], ids=lambda case: case.problem.consistency)  # fmt: skip
def test_exact_cases(case: cases.Case) -> None:
    found = estimate(case.problem, "subset", generator=stream(0, "subset"))
    assert abs(found.bits - case.bits) < 4 * found.diagnostics["error_bits"] < 2
    assert found.status == "converged" and found.bound == "two-sided" and found.low < found.bits < found.high
    # Au and Beck's formula and the replicates measure one thing.
    assert 0.25 < found.diagnostics["au_beck_bits"] / found.diagnostics["error_bits"] < 3


@given(st.lists(st.integers(0, 6), min_size=10, max_size=80), st.floats(0.05, 0.5))
def test_a_cut_leaves_a_share_strictly_below_whatever_the_ties(values: list[int], share: float) -> None:
    cost = torch.tensor(values).double()
    cut = levels.threshold(cost, share)
    if cut is None:
        assert len(set(values)) == 1
        return
    passed = cost < cut
    assert 0 < int(passed.sum()) < len(cost)
    # Not more than asked for, unless the lowest value alone is more.
    assert float(passed.double().mean()) <= share + 1 / len(cost) or passed.sum() == (cost == cost.min()).sum()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 30), st.integers(0, 2**30))
def test_places_are_filled_from_their_own_replicate_and_evenly(groups: list[int], size: int, seed: int) -> None:
    group = torch.tensor(groups)
    chosen = levels.fill(group, 4, size, stream(seed, "fill")).reshape(4, size)
    for g in range(4):
        if g not in groups:
            continue
        assert (group[chosen[g]] == g).all()
        copies = torch.bincount(chosen[g], minlength=len(group))[group == g]
        assert int(copies.max() - copies.min()) <= 1


def test_replicates_that_are_lognormal_and_some_that_are_not() -> None:
    logs = torch.randn(100_000, generator=stream(0, "logs"), dtype=torch.float64) - 0.5  # mean of exp is 1
    mean, error, v = subset.combined(logs)
    assert abs(mean) < 4 * error < 0.02 and v == pytest.approx(1, abs=0.02)
    mean, error, _ = subset.combined(torch.tensor([0.0, 0.0, -math.inf, -math.inf]).double())
    assert mean == pytest.approx(math.log(0.5)) and error == pytest.approx(math.sqrt(4 / 3 / 4))


def test_two_basins_are_flagged_and_one_is_not() -> None:
    for case in (cases.two_basins(10, 3.0, 0.3, 0.9), cases.two_basins(5, 2.0, 0.3, 0.8)):
        found = estimate(case.problem, "subset", generator=stream(0, "subset"))
        assert "parts between which no move goes" in found.status and found.bound == "upper"
        assert found.high > case.bits and abs(found.bits - case.bits) < 1
    one = estimate(cases.ball(10, 0.5, centre=2.0).problem, "subset", generator=stream(0, "subset"))
    assert one.status == "converged"


def test_a_tolerance_out_of_reach_is_a_bound_from_below() -> None:
    above = replace(cases.ball(3, 0.5).problem, cost=lambda theta: theta.square().sum(-1) + 0.1, tolerance=0.05)
    needle = replace(above, cost=lambda theta: (theta.norm(dim=-1) > 1e-4).double(), tolerance=0.0)
    floor = replace(above, cost=lambda theta: theta.square().sum(-1).clamp(min=0.5), tolerance=0.0)
    nowhere = replace(above, cost=lambda theta: torch.full((len(theta),), math.inf))
    for problem, low, high in ((above, 30, 1e4), (needle, 10, 20), (floor, 2, 15), (nowhere, 10, 20)):
        found = estimate(problem, "subset", 0.3, generator=stream(0, "subset"))
        assert found.bound == "lower" and low < found.low < high
        assert found.low == found.bits == found.high and "at least" in found.status


def test_a_plateau_that_few_leave_is_sampled_again() -> None:
    # C is 2, 1 or 0: steps of 1 in about 150 each, far fewer than a fifth.
    def cost(theta: torch.Tensor) -> torch.Tensor:
        return 2.0 - (theta[:, 0] > 2.5).double() - (theta[:, 0] > 4.0).double()

    problem = Problem(3, standard_normal(3), cost, 0.0, "plateaux", smooth=False)
    found = estimate(problem, "subset", generator=stream(0, "subset"))
    assert abs(found.bits - cases.half_space(3, 4.0).bits) < 4 * found.diagnostics["error_bits"] < 1.5


def test_a_reference_without_a_map_from_the_normal() -> None:
    class Exponentials:
        """Independent unit exponentials: the sum of 4 is Gamma(4)."""

        def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
            return -torch.rand(n, 4, generator=generator, dtype=torch.float64).log()

        def log_prob(self, theta: torch.Tensor) -> torch.Tensor:
            return torch.where((theta > 0).all(-1), -theta.sum(-1), -math.inf)

    problem = Problem(4, Exponentials(), lambda theta: theta.sum(-1), 0.1, "sum")
    bits = -math.log2(float(torch.special.gammainc(torch.tensor(4.0).double(), torch.tensor(0.1).double())))
    found = estimate(problem, "subset", generator=stream(0, "subset"))
    assert abs(found.bits - bits) < 4 * found.diagnostics["error_bits"] < 1.5 and found.status == "converged"


@pytest.mark.slow
@pytest.mark.parametrize("case", [cases.cap(50, 0.1), cases.half_space(3, 20.0), cases.binary(100, 0.05)],
                         ids=lambda case: case.problem.consistency)  # fmt: skip
def test_ten_runs_far_down(case: cases.Case) -> None:
    found = [estimate(case.problem, "subset", generator=stream(k, "ten")).bits for k in range(10)]
    bits = torch.tensor(found).double()
    assert float(bits.std()) < 0.03 * case.bits
    assert abs(float(bits.mean()) - case.bits) < 3 * float(bits.std()) / 10**0.5


def exact_case(k: int) -> cases.Case:
    """200 cases of 1 to 40 bits, of six kinds."""
    u = (k + 0.5) / 200
    makers = (
        lambda: cases.half_space(5, 0.1 + 6.8 * u),
        lambda: cases.slab(8, 4, 2.0 ** -(9.5 * u)),
        lambda: cases.cap(12, 0.45 - 0.42 * u),
        lambda: cases.ball(6, 3.0 * 2.0 ** -(11 * u), centre=1.0),
        lambda: cases.binary(40, round(18 - 18 * u) / 40),
        lambda: cases.dirichlet((2.0, 4.0, 1.0, 2.0), 0.5 * 2.0 ** -(14 * u)),
    )
    return makers[k % len(makers)]()


@pytest.mark.slow
def test_intervals_hold_what_is_true() -> None:
    held, seen = {0: 0, 1: 0, 2: 0}, {0: 0, 1: 0, 2: 0}
    for k in range(200):
        case = exact_case(k)
        found = estimate(case.problem, "subset", generator=stream(k, "coverage"))
        kind = min(2, int(case.bits / 13))
        seen[kind] += 1
        held[kind] += found.low <= case.bits <= found.high
    assert 168 <= sum(held.values()) <= 190, (held, seen)
    for kind, n in seen.items():  # a chance of less than 1 in 1000 each
        assert held[kind] >= 0.9 * n - 3.1 * (0.09 * n) ** 0.5, (held, seen)
