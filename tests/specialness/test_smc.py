"""Sequential Monte Carlo against exact specialness, and what it says where it must not be believed."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import DiagonalNormal, Problem, cases, estimate, standard_normal, tempering
from reuse_sim.specialness.space import Space
from reuse_sim.train import descend
from reuse_sim.types import Estimate
from reuse_sim.worlds import radius

EXACT = {
    "ball 2": cases.ball(2, 0.7),
    "ball 10": cases.ball(10, 0.3),
    "ball 10 off centre": cases.ball(10, 0.4, 2.0),
    "half-space": cases.half_space(10, 6.0),
    "slab": cases.slab(20, 10, 0.05),
    "cap 10": cases.cap(10, 0.08),
    "dirichlet": cases.dirichlet((2.0, 4.0, 1.0, 3.0, 2.0), 0.01),
    "product": cases.product(1e-4),
    "orthant": cases.orthant(6),
    "half": cases.cap(7, 0.5),
    "evidence": cases.evidence((1.0, 10.0, 100.0, 1000.0), 0.5, 2.0),
}
LARGER = {
    "ball 100": cases.ball(100, 4.0),
    "ball 100 off centre": cases.ball(100, 8.0, 5.0),
    "cap 100": cases.cap(100, 0.15),
    "half-space 100": cases.half_space(100, 15.0),
    "evidence 100": cases.evidence(tuple(10 ** (k / 25) for k in range(100)), 0.2, 3.0),
}


def ask(case: cases.Case, seed: int = 0, effort: float = 1.0, level: float = 0.9) -> Estimate:
    return estimate(case.problem, "smc", effort, generator=stream(seed, "smc"), level=level)


def near(found: Estimate, bits: float) -> bool:
    """Within 1 bit up to 100, and within 0.5 % beyond."""
    return abs(found.bits - bits) < max(1.0, 0.005 * bits)


@pytest.mark.parametrize("name", EXACT)
def test_exact_cases(name: str) -> None:
    found = ask(EXACT[name])
    assert near(found, EXACT[name].bits)
    assert abs(found.bits - EXACT[name].bits) < 4 * found.diagnostics["error_bits"]
    assert found.status == "converged" or name == "product"  # four arms that nothing crosses between
    assert found.low < found.bits < found.high and found.kind == "global"


@pytest.mark.parametrize("name", LARGER)
def test_a_hundred_dimensions(name: str) -> None:
    found = ask(LARGER[name])
    assert near(found, LARGER[name].bits) and found.status == "converged"


@pytest.mark.slow
@pytest.mark.parametrize("case", [cases.ball(1000, 52.0), cases.half_space(1000, 30.0)])
def test_a_thousand_dimensions_in_seconds(case: cases.Case) -> None:
    found = ask(case)
    assert near(found, case.bits) and found.status == "converged" and found.seconds < 30


@pytest.mark.slow
def test_ten_thousand_dimensions() -> None:
    case = cases.ball(10_000, brentq(lambda r: cases.ball(10_000, r).bits - 10_000, 500, 2000))
    assert abs(ask(case, effort=0.1).bits / case.bits - 1) < 0.01


MIX = (
    lambda u: cases.ball(5 + int(25 * u), (5 + int(25 * u)) * (0.04 + 0.5 * u)),
    lambda u: cases.ball(10, 0.5 + 3 * u, 1.0 + 2 * u),
    lambda u: cases.half_space(10, 0.5 + 6 * u),
    lambda u: cases.cap(12, 0.07 + 0.38 * u),
    lambda u: cases.dirichlet((2.0, 3.0, 4.0, 1.5), 10 ** (-3 * u) / 2),
    lambda u: cases.slab(8, 6, 0.05 + u),
    lambda u: cases.evidence(tuple(10 ** (4 * u * k / 10) for k in range(10)), 0.3),
)


@pytest.mark.slow
def test_intervals_hold_what_they_say() -> None:
    """200 cases between 1 and 40 bits: nominal 180 inside, 168 to 190 in 19 of 20 runs."""
    g, inside, scores = stream(0, "cases"), [], []
    while len(inside) < 200:
        case = MIX[len(inside) % len(MIX)](float(torch.rand((), generator=g)))
        if not 1 <= case.bits <= 40:
            continue
        found = ask(case, len(inside))
        inside.append((case.bits, found.low <= case.bits <= found.high))
        scores.append((found.bits - case.bits) / found.diagnostics["error_bits"])
    for low, high in ((1, 5), (5, 10), (10, 20), (20, 40)):
        here = [i for bits, i in inside if low <= bits < high]
        print(f"{low} to {high} bits: {sum(here)} of {len(here)}")
    print("inside", sum(i for _, i in inside), "within 3 errors", sum(abs(s) <= 3 for s in scores))
    assert 168 <= sum(i for _, i in inside) <= 190
    assert sum(abs(s) <= 3 for s in scores) >= 190
    assert abs(sum(scores)) / len(scores) < 4 / len(scores) ** 0.5  # no bias


def test_two_basins_are_flagged_and_counted() -> None:
    case = cases.two_basins(2, 3.0, 0.3, 0.6)
    found = ask(case)
    assert abs(found.bits - case.bits) < 1
    assert found.status != "converged" and "basins" in found.status and found.bound == "upper"


def test_under_mixed_runs_are_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases.ball(100, 4.0)
    little = ask(case, effort=0.03)
    assert little.status != "converged" and "more effort" in little.status and little.bound == "upper"
    assert little.high > case.bits

    def still(space: Space, state: object, beta: float, step: Tensor, *rest: object) -> tuple[object, Tensor]:
        return state, torch.ones_like(step)

    monkeypatch.setattr(tempering.moves, "hmc", still)
    crippled = ask(cases.ball(20, 1.0))
    assert "hardly move" in crippled.status and crippled.bound == "none"


@pytest.mark.parametrize("d", [1, 5, 30])
def test_a_tolerance_out_of_reach_gives_a_lower_bound(d: int) -> None:
    found = estimate(
        Problem(d, standard_normal(d), lambda theta: 1 + theta.square().sum(-1), 0.5), generator=stream(0, "smc")
    )
    assert found.bound == "lower" and found.low > 3 * d and "higher tolerance" in found.status
    assert math.isfinite(found.high)


def test_a_narrow_way_down_is_no_dead_end() -> None:
    assert near(ask(cases.half_space(1, 40.0)), cases.half_space(1, 40.0).bits)


def test_plateaus_infinities_and_certainties() -> None:
    def problem(cost, tolerance: float = 0.5, **options) -> Estimate:
        return estimate(Problem(3, standard_normal(3), cost, tolerance, **options), generator=stream(0, "smc"))

    flat = problem(lambda theta: 1 + 0 * theta.sum(-1))
    assert flat.bound == "lower" and 0 <= flat.bits < 2
    assert problem(lambda theta: 1 + 0 * theta.sum(-1), strength=2.0).bits == pytest.approx(2 / math.log(2))
    certain = problem(lambda theta: 0 * theta.sum(-1))
    assert certain.bits == 0 and certain.low == 0 and 0 < certain.high < 0.1 and certain.status == "converged"
    barred = problem(lambda theta: torch.where(theta[:, 0] > 9, 0.0, torch.inf).double(), smooth=False)
    assert barred.bound == "lower" and 8 < barred.low < 12 and "finite" in barred.status
    half = problem(lambda theta: torch.where(theta[:, 0] > 0, theta.square().sum(-1) / 2, torch.inf), 0.05)
    assert half.bits == pytest.approx(cases.ball(3, 0.05).bits + 1, abs=4 * half.diagnostics["error_bits"])


BOOLEAN = {"first": (7.524, 0.010), "and": (8.134, 0.012), "majority": (9.827, 0.022)}
"""Bits by 4·10⁶ draws each, and their standard errors."""


@pytest.mark.parametrize("name", BOOLEAN)
def test_an_exact_match_of_truth_tables(name: str) -> None:
    net = Mlp((3, 8, 1), "relu")
    sd = torch.ones(net.p, dtype=torch.float64)
    for f in net.fields:
        if f.name.startswith("weight"):
            sd[f.slice] = f.shape[1] ** -0.5
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    truth = {"first": x[:, 0], "and": x.prod(-1), "majority": (x.sum(-1) > 1.5).double()}[name] > 0.5
    problem = Problem(
        net.p, DiagonalNormal(sd), lambda theta: ((net.forward(theta, x)[..., 0] > 0) != truth).double().sum(-1), 0.0,
        "wrong answers of 8", smooth=False, probe=lambda theta: net.forward(theta, x)[..., 0],
    )  # fmt: skip
    found, (bits, error) = estimate(problem, generator=stream(0, "smc")), BOOLEAN[name]
    assert found.status == "converged"
    assert abs(found.bits - bits) < 4 * math.hypot(found.diagnostics["error_bits"], error) < 1.5


def human(sizes: tuple[int, ...], steps: int = 400) -> Problem:
    """The radius world's questions, answered about as well as a human that descended for some steps."""
    world, net = radius.build(), Mlp(sizes, "tanh")
    theta_1 = world.teacher(streams(0, ["teacher"]))
    (x,) = world.on_distribution(theta_1, 128, streams(0, ["x"]))

    def problem(tolerance: float) -> Problem:
        return Problem.for_human(world, theta_1[0], net, x, tolerance=tolerance)

    start = net.init(streams(0, ["init"])).double()
    fit = descend(lambda theta, _: problem(1.0).cost(theta), start, steps=steps, rate=0.02)
    return problem(1.25 * float(problem(1.0).cost(fit.theta)))


@pytest.mark.slow
def test_a_small_human_is_repeatable() -> None:
    problem = human((4, 6, 1))
    first, second = (estimate(problem, generator=stream(seed, "smc")) for seed in (0, 1))
    assert first.status == second.status == "converged" and first.seconds < 30
    assert abs(first.bits - second.bits) < 2 and first.diagnostics["error_bits"] < 1


def test_equal_streams_equal_bits() -> None:
    case, before = cases.ball(4, 0.3), torch.get_rng_state()
    first, second, other = (ask(case, seed, 0.2).bits for seed in (0, 0, 1))
    assert first == second != other and torch.equal(before, torch.get_rng_state())


def test_the_scale_of_a_group_comes_from_the_others() -> None:
    chains, d = 3, 2
    z = torch.randn(4 * tempering.GROUPS * chains, d, generator=stream(0, "z"), dtype=torch.float64)
    weights = torch.full((tempering.GROUPS, 4 * chains), 1 / (4 * chains), dtype=torch.float64)
    scale = tempering.spread(z, weights, chains)
    others = z.reshape(4, tempering.GROUPS, chains, d)[:, 1:].reshape(-1, d)
    assert torch.allclose(scale[0], others.std(0, correction=0))
    z.reshape(4, tempering.GROUPS, chains, d)[:, 0] *= 9
    assert torch.allclose(tempering.spread(z, weights, chains)[0], scale[0])


def test_systematic_resampling_keeps_shares() -> None:
    weights = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.1, 0.9]], dtype=torch.float64)
    chosen = tempering.systematic(weights, 20, stream(0, "g"))
    counts = torch.stack([(chosen == k).sum(1) for k in range(4)], 1)
    assert counts.tolist() == [[10, 5, 5, 0], [0, 0, 2, 18]]
