"""A specialness needs its three arguments, and means the same to Pyro as to us."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.rng import stream
from reuse_sim.specialness import DiagonalNormal, Problem, UniformBox, estimate
from reuse_sim.worlds import radius

from .known import linear

SD = torch.tensor([1.0, 2.0], dtype=torch.float64)
WHOLE: dict[str, Any] = {
    "dim": 2,
    "reference": DiagonalNormal(SD, "a normal"),
    "cost": lambda theta: theta.square().mean(-1),
    "tolerance": 0.1,
    "consistency": "mean square on 8 questions",
}


@pytest.mark.parametrize("name", ["reference", "cost", "tolerance"])
def test_each_argument_is_needed(name: str) -> None:
    Problem(**WHOLE)
    with pytest.raises(InputError, match=f"Problem.{name}"):
        Problem(**{k: v for k, v in WHOLE.items() if k != name})


@pytest.mark.parametrize(("name", "value"), [
    ("dim", 0),
    ("dim", 2.0),
    ("reference", DiagonalNormal(torch.ones(3), "of another size")),
    ("reference", "a prior"),
    ("reference", torch.distributions.Normal(torch.zeros(3), 1.0)),
    ("cost", "mse"),
    ("cost", lambda theta: theta.square().mean()),
    ("cost", lambda theta: theta),
    ("cost", lambda theta: 0.5),
    ("cost", lambda theta: theta.mean(-1) * math.nan),
    ("tolerance", math.nan),
    ("tolerance", math.inf),
    ("tolerance", "0.1"),
    ("strength", 0.0),
    ("strength", math.inf),
])
def test_what_cannot_be_used_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"Problem.{name}"):
        Problem(**{**WHOLE, name: value})


def test_a_hard_problem_has_no_likelihood() -> None:
    problem = Problem(**WHOLE)
    assert problem.hard and not problem.soft(3.0).hard
    with pytest.raises(InputError, match="hard event"):
        problem.log_likelihood(SD)


@pytest.mark.parametrize("given", [
    torch.distributions.Normal(torch.zeros(2), 1.0),
    torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2)),
])
def test_a_distribution_is_a_reference_that_draws_from_the_generator_alone(given: Any) -> None:
    reference = Problem(**{**WHOLE, "reference": given}).reference
    before = torch.get_rng_state()
    first, again = (reference.sample(5, stream(0, "draw")) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(before, torch.get_rng_state())
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(first).sum(-1)
    torch.testing.assert_close(reference.log_prob(first), expected)


@pytest.mark.parametrize("reference", [
    DiagonalNormal(SD, "off centre", mean=torch.tensor([1.0, -1.0], dtype=torch.float64)),
    UniformBox(-SD, 2 * SD),
])
def test_maps_from_the_normal_carry_its_density(reference: Any) -> None:
    z = torch.randn(4, 2, generator=stream(0, "z"), dtype=torch.float64)
    torch.testing.assert_close(reference.to_normal(reference.from_normal(z)), z)
    for row in z:
        jacobian = torch.autograd.functional.jacobian(reference.from_normal, row)
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(row).sum()
        expected = normal - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(reference.log_prob(reference.from_normal(row)), expected)


def test_a_gradient_is_pulled_back_as_autograd_would() -> None:
    reference = DiagonalNormal(SD, mean=torch.tensor([1.0, -1.0], dtype=torch.float64))
    z, upper = (torch.randn(4, 2, generator=stream(0, k), dtype=torch.float64) for k in ("z", "slope"))
    leaf = z.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(reference.from_normal(leaf), leaf, upper)
    assert torch.equal(reference.pulled(upper, z), expected)


def test_every_report_carries_the_three_arguments() -> None:
    report = Problem(**WHOLE).report
    assert (report["reference"], report["consistency"], report["tolerance"]) == ("a normal", WHOLE["consistency"], 0.1)


def test_the_pyro_model_is_the_same_density() -> None:
    problem, _ = linear()
    theta = problem.reference.sample(1, stream(0, "theta"))[0]
    trace = pyro.poutine.trace(pyro.condition(problem.model, {"theta": theta})).get_trace()
    assert set(trace.nodes) >= {"theta", "consistency"}
    assert float(trace.log_prob_sum()) == pytest.approx(float(problem.log_joint(theta)), abs=1e-9)


def test_the_likelihood_is_that_of_normal_noise_of_variance_tolerance_times_var_f() -> None:
    world = radius.build()
    theta_1 = world.teacher([stream(0, "teacher")])
    x = world.on_distribution(theta_1, 30, [stream(0, "x")])
    net = world.human_net(3)
    problem = Problem.for_human(world, theta_1[0], net, x[0], tolerance=0.2, soft=True, questions="30 questions")
    theta = problem.reference.sample(5, stream(0, "theta"))
    x, f = x.double(), world.answer(theta_1.double(), x.double())
    errors = world.human_answer(net, theta, x[0]) - f
    expected = -errors.square().sum(1) / (2 * 0.2 * f.var(correction=0))
    torch.testing.assert_close(problem.log_likelihood(theta), expected, rtol=1e-10, atol=1e-10)
    assert problem.consistency == "mean of (H - f)²/var f over 30 questions"


def test_cost_bits_undo_the_likelihood() -> None:
    problem, _ = linear()
    theta = problem.reference.sample(1, stream(0, "theta"))
    bits = problem.cost_bits(float(problem.cost(theta)))
    assert bits == pytest.approx(-float(problem.log_likelihood(theta)) / math.log(2), rel=1e-12)


@given(st.integers(1, 7), st.integers(0, 2**30))
def test_one_at_a_time_or_all_at_once(n: int, seed: int) -> None:
    world = radius.build()
    theta_1 = world.teacher([stream(seed, "teacher")])[0]
    x = world.on_distribution(theta_1[None], 12, [stream(seed, "x")])[0]
    problem = Problem.for_human(world, theta_1, world.human_net(3), x, tolerance=0.2, soft=True)
    theta = problem.reference.sample(n, stream(seed, "theta"))
    alone = torch.stack([problem.log_joint(row) for row in theta])
    torch.testing.assert_close(alone, problem.log_joint(theta), rtol=1e-12, atol=1e-12)


def test_descents_go_down_and_stay_apart() -> None:
    problem, truth = linear()
    ends = problem.descents(3, stream(0, "starts"))
    starts = problem.reference.sample(3, stream(0, "starts"))
    assert (problem.log_joint(ends) > problem.log_joint(starts)).all()
    lowest = problem.log_joint(truth.mean)
    assert (lowest - problem.log_joint(ends) < 1.0).all() and (lowest >= problem.log_joint(ends)).all()


def test_the_door_counts_every_theta_the_cost_is_asked_about() -> None:
    asked = []

    def cost(theta: torch.Tensor) -> torch.Tensor:
        asked.append(len(theta))
        return theta.square().mean(-1)

    problem = Problem(**{**WHOLE, "cost": cost})
    asked.clear()
    found = estimate(problem, "smc", 0.1, generator=stream(0, "count"))
    assert found.evaluations == sum(asked) > 100 and found.seconds > 0
