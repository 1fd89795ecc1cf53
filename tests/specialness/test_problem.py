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
from reuse_sim.specialness import DiagonalNormal, Problem
from reuse_sim.worlds import radius

from .cases import linear

SD = torch.tensor([1.0, 2.0], dtype=torch.float64)
WHOLE: dict[str, Any] = {
    "dim": 2,
    "reference": DiagonalNormal(SD, "a normal"),
    "cost": lambda theta: theta.square().mean(-1),
    "tolerance": 0.1,
    "consistency": "mean square on 8 questions",
    "questions": 8,
}


@pytest.mark.parametrize("name", ["reference", "cost", "tolerance", "consistency", "questions"])
def test_each_argument_is_needed(name: str) -> None:
    Problem(**WHOLE)
    with pytest.raises(InputError, match=f"Problem.{name}"):
        Problem(**{k: v for k, v in WHOLE.items() if k != name})


@pytest.mark.parametrize(("name", "value"), [
    ("reference", DiagonalNormal(SD, "")),
    ("reference", DiagonalNormal(torch.ones(3), "of another size")),
    ("cost", "mse"),
    ("cost", lambda theta: theta.square().mean()),
    ("cost", lambda theta: theta.mean(-1) / 0),
    ("tolerance", 0.0),
    ("tolerance", math.nan),
    ("tolerance", math.inf),
    ("tolerance", "0.1"),
    ("consistency", ""),
    ("questions", 0),
    ("questions", 2.5),
])
def test_what_cannot_be_used_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"Problem.{name}"):
        Problem(**{**WHOLE, name: value})


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
    problem = Problem.for_human(world, net, theta_1[0], x[0], x[0], tolerance=0.2, questions="30 questions")
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
    problem = Problem.for_human(world, world.human_net(3), theta_1, x, x, tolerance=0.2, questions="12 questions")
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
