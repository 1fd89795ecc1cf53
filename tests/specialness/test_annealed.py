"""Passes both ways where the answer is known: means of weights, how seldom limits are wrong, and what is claimed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.rng import stream
from reuse_sim.specialness import Problem, annealed, cases, estimate, path, standard_normal
from reuse_sim.specialness.annealed import FromExact
from reuse_sim.specialness.problem import LN2
from reuse_sim.worlds import radius

N = 4000
SPECTRUM = (0.5, 2.0, 8.0)


def posterior(n: int, g: torch.Generator, shift: float = 1.0, strength: float = 3.0) -> tuple[cases.Case, Tensor]:
    """A soft case with n exact draws of its posterior."""
    h = strength * torch.tensor(SPECTRUM, dtype=torch.float64)
    noise = torch.randn(n, len(h), generator=g, dtype=torch.float64)
    return cases.evidence(SPECTRUM, shift, strength), h * shift / (1 + h) + noise / (1 + h).sqrt()


def ball(n: int, g: torch.Generator, d: int = 4, radius2: float = 0.2) -> tuple[cases.Case, Tensor]:
    """A hard case with n exact draws of its event: the reference's own that lie inside."""
    case = cases.ball(d, radius2)
    z = standard_normal(d).sample(round(2.2 * n * 2**case.bits), g)
    return case, z[case.problem.cost(z) <= radius2][:n]


@pytest.mark.parametrize("world", [posterior, ball])
@pytest.mark.parametrize("temperatures", [3, 25])
def test_weights_have_their_means_and_are_seldom_far_above(world, temperatures: int) -> None:
    case, draws = world(N, stream(0, "draws"))
    assert len(draws) == N
    plan = path.pilot(case.problem, stream(0, "pilot"))
    way, log_z = plan.path(temperatures), -case.bits * LN2
    up = annealed.forward(plan, way, stream(0, "up"), N).counted.log_weight[:, 0] - log_z
    back = annealed.backward(plan, way, draws, stream(0, "back")).log_weight[:, 0] + log_z
    for bits in (0.25, 0.5, 1.0, 2.0, 4.0):
        share = 2**-bits
        for side in (up, back):
            assert float((side > bits * LN2).double().mean()) < share + 3 * math.sqrt(share * (1 - share) / N)
    # Unbiased forwards; backwards too where all of the reference's chains can end inside, else below.
    for weights, least in ((up.exp(), 1.0), (back.exp(), float(up.isfinite().double().mean()))):
        error = float(weights.std()) / N**0.5
        if temperatures == 25:
            assert least - 4 * error < float(weights.mean()) < 1 + 4 * error


def test_the_gap_closes_with_more_temperatures() -> None:
    for world in (posterior, ball):
        case, draws = world(200, stream(0, "draws"))
        plan = path.pilot(case.problem, stream(0, "pilot"))
        gaps = []
        for temperatures in (10, 40, 160):
            way = plan.path(temperatures)
            up = annealed.forward(plan, way, stream(0, "up"), 200)
            back = annealed.backward(plan, way, draws, stream(0, "back"))
            log_w = up.log_weight[up.inside]
            gaps.append(-float(log_w.mean() + back.log_weight.mean()) + math.log(up.inside.double().mean()))
        assert gaps[0] > 2 * gaps[1] > 4 * abs(gaps[2])


@pytest.mark.parametrize("case", [
    cases.evidence(tuple(0.1 * 10 ** (k / 5) for k in range(15)), 0.5, 10.0), cases.ball(10, 0.5), cases.cap(10, 0.05),
    cases.half_space(3, 5.0), cases.dirichlet((2.0, 4.0, 1.0), 0.05), cases.slab(4, 3, 0.2),
])  # fmt: skip
def test_from_above_where_the_answer_is_known(case: cases.Case) -> None:
    e = estimate(case.problem, "annealed", 0.5, generator=stream(2, "annealed"))
    assert e.bound == "upper" and "one-sided" in e.status
    assert case.bits < e.high < case.bits + 6
    assert e.low <= e.bits <= e.high and abs(e.bits - case.bits) < 5


def test_both_sides_where_the_answer_is_known() -> None:
    for world in (posterior, ball):
        case, draws = world(1, stream(4, "draws"))
        e = estimate(case.problem, FromExact(draws[0]), 2.0, generator=stream(0, "annealed"))
        assert e.status == "converged" and e.bound == "two-sided"
        assert e.low < case.bits < e.high < e.low + 7
        assert abs(e.bits - case.bits) < 4 * e.diagnostics["error_bits"] < 1.6


def test_many_exact_draws_are_worth_more_than_one() -> None:
    case, draws = posterior(16, stream(0, "draws"))
    one, many = (estimate(case.problem, FromExact(d), 1.0, generator=stream(0, "a")) for d in (draws[0], draws))
    assert many.low > one.low + 1.5 and many.low < case.bits < many.high


def test_a_start_that_no_one_vouches_for_is_shown_and_not_used() -> None:
    case, draws = posterior(1, stream(0, "draws"))
    alone = estimate(case.problem, "annealed", 0.3, generator=stream(0, "a"))
    started = estimate(case.problem, "annealed", 0.3, generator=stream(0, "a"), start=draws[0])
    assert (started.bits, started.low, started.high, started.bound) == (alone.bits, alone.low, alone.high, "upper")
    assert "proves nothing" in started.status and "proves nothing" not in alone.status
    assert math.isfinite(started.diagnostics["reverse_bits"]) and not started.diagnostics["start_exact"]


def test_a_draw_outside_of_the_event_is_not_exact() -> None:
    case, draws = ball(1, stream(0, "draws"))
    with pytest.raises(InputError, match="FromExact"):
        estimate(case.problem, FromExact(3 + draws[0]), 0.3, generator=stream(0, "a"))


def test_limits_that_contradict_each_other_say_so() -> None:
    case, _ = posterior(1, stream(0, "draws"))
    far = torch.full((3,), -3.0, dtype=torch.float64)  # C is 84 there: no draw of this posterior
    e = estimate(case.problem, FromExact(far), 1.0, generator=stream(0, "a"))
    assert e.bound == "none" and "no exact draw" in e.status and e.low <= e.bits <= e.high


def test_an_event_that_is_never_met_gives_no_bound_and_a_reason() -> None:
    problem = Problem(2, standard_normal(2), lambda theta: 1 + theta.square().sum(-1), 0.5, "1 + |θ|²")
    e = estimate(problem, "annealed", 0.05, generator=stream(0, "a"))
    assert e.bound == "none" and "higher tolerance" in e.status
    assert all(math.isfinite(v) for v in (e.bits, e.low, e.high)) and e.low <= e.bits <= e.high


def test_few_temperatures_are_flagged() -> None:
    case = cases.ball(60, 3.0)
    e = estimate(case.problem, "annealed", 0.02, generator=stream(0, "a"))
    assert "nearly all the weight" in e.status and e.high > case.bits


class Cauchyish:
    """A reference without a map from the normal: a Student t of 5 degrees in each parameter."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, 2, 6, generator=generator, dtype=torch.float64)
        return z[..., 0] / z[..., 1:].square().mean(-1).sqrt()

    def log_prob(self, theta: Tensor) -> Tensor:
        return torch.distributions.StudentT(torch.tensor(5.0, dtype=theta.dtype)).log_prob(theta).sum(-1)


@pytest.mark.parametrize("problem", [
    Problem(2, Cauchyish(), lambda t: t[:, 0].abs() + t[:, 1].abs(), 0.3, "sum"),
    Problem(2, standard_normal(2), lambda t: ((t * 4).round().abs().sum(-1) / 4), 0.25, "rounded", smooth=False),
    Problem(2, standard_normal(2), lambda t: torch.where(t[:, 0] > 0, t.square().sum(-1), torch.inf), 0.1, "half"),
])  # fmt: skip
def test_other_references_and_costs_against_a_count(problem: Problem) -> None:
    n = 400_000
    share = float((problem.cost(problem.reference.sample(n, stream(0, "count"))) <= problem.tolerance).double().mean())
    truth, error = -math.log2(share), math.sqrt((1 - share) / share / n) / LN2
    e = estimate(problem, "annealed", 2.0, generator=stream(1, "a"))
    assert truth < e.high + 3 * error and abs(e.bits - truth) < 4 * math.hypot(e.diagnostics["error_bits"], error)
    assert e.diagnostics["error_bits"] < 0.8


def test_the_path_ends_at_the_strength_and_starts_at_the_reference() -> None:
    case = cases.evidence(SPECTRUM, 1.0, 3.0)
    plan = path.pilot(case.problem, stream(0, "pilot"))
    way = plan.path(50)
    assert way.betas[0] == 0 and way.betas[-1] == 3.0 and (way.betas.diff() > 0).all() and (way.steps > 0).all()
    assert way.reversed().betas[0] == 3.0 and plan.reached
    hard = path.potential(cases.ball(3, 0.5).problem)
    z = standard_normal(3).sample(50, stream(0, "z"))
    assert torch.equal(hard.cost(z) <= 0, z.square().sum(-1) / 2 <= 0.5)


def test_equal_generators_equal_bits() -> None:
    case = cases.ball(5, 0.5)
    first, again = (estimate(case.problem, "annealed", 0.2, generator=stream(0, "a")) for _ in range(2))
    assert replace(first, seconds=0.0) == replace(again, seconds=0.0)


@pytest.mark.slow
def test_a_trained_human_of_841_parameters_has_one_side() -> None:
    world = radius.build()
    theta_1 = world.teacher([stream(0, "teacher")])
    x = world.on_distribution(theta_1, 128, [stream(0, "x")])[0]
    net = world.human_net(140)
    soft = Problem.for_human(world, theta_1[0], net, x, tolerance=0.1, soft=True)
    trained = soft.descents(1, stream(0, "human"), steps=1000)[0]
    problem = Problem.for_human(world, theta_1[0], net, x, tolerance=0.1)
    assert net.p == 841 and float(problem.cost(trained[None])) < 0.1
    e = estimate(problem, "annealed", 1.0, generator=stream(0, "annealed"), start=trained)
    assert e.bound == "upper" and "one-sided" in e.status and "proves nothing" in e.status
    assert e.seconds < 120 and 0 < e.low < e.bits < e.high < 1.2 * e.low
    other = estimate(problem, "thermodynamic", 0.5, generator=stream(0, "thermodynamic"))
    assert other.low < e.high and other.seconds < 120
