"""Counting held against exact binomial probabilities; one-sided where nothing was hit; prior against training."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, linregress

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import DiagonalNormal, Problem, cases, frequency, standard_normal
from reuse_sim.train import descend


@pytest.mark.parametrize(("n", "p"), [(5, 0.3), (40, 0.02), (40, 0.5), (200, 0.9)])
def test_limits_hold_at_least_as_often_as_they_say(n: int, p: float) -> None:
    held = sum(
        binom.pmf(k, n, p) for k in range(n + 1)
        if frequency.clopper_pearson(k, n)[0] <= p <= frequency.clopper_pearson(k, n)[1]
    )  # fmt: skip
    assert 0.9 <= held <= 1.0


@given(st.integers(1, 500), st.data())
def test_limits_are_where_the_binomial_tails_are_a_twentieth(n: int, data) -> None:
    k = data.draw(st.integers(0, n))
    low, high = frequency.clopper_pearson(k, n)
    assert low <= k / n <= high
    if k > 0:
        assert binom.sf(k - 1, n, low) == pytest.approx(0.05, rel=1e-6)
    if k < n:
        assert binom.cdf(k, n, high) == pytest.approx(0.05, rel=1e-6)


def halves(hits: int, n: int) -> torch.Tensor:
    return torch.cat([torch.ones(hits, 1), -torch.ones(n - hits, 1)]).double()


def test_hits_become_bits() -> None:
    case = cases.half_space(1, 0.5)
    e = frequency.estimate_from(halves(16, 64), case.problem)
    assert (e.bits, e.status, e.bound, e.kind) == (2.0, "converged", "two-sided", "global")
    low, high = frequency.clopper_pearson(16, 64)
    assert (e.low, e.high) == pytest.approx((-math.log2(high), -math.log2(low)))
    assert e.diagnostics["hits"] == 16 and e.diagnostics["reference"] == "push-forward of training"
    assert frequency.estimate_from(halves(64, 64), case.problem).low == 0.0
    assert "only 3 of 64" in frequency.estimate_from(halves(3, 64), case.problem).status


def test_no_hit_is_a_lower_bound() -> None:
    e = frequency.estimate_from(halves(0, 1000), cases.half_space(1, 0.5).problem)
    assert e.bound == "lower" and math.isfinite(e.high) and "none of 1000" in e.status
    # (1 − p)^1000 = 1 − .9 at the bound.
    assert (1 - 2**-e.low) ** 1000 == pytest.approx(0.1) and e.low <= e.bits


def test_brute_force_agrees_with_a_closed_form_and_holds_what_it_says() -> None:
    case, held = cases.ball(3, 0.2), 0
    for seed in range(40):
        e = frequency.of_reference(case.problem, 2000, stream(seed, "draws"))
        held += e.low <= case.bits <= e.high
    assert held >= 31  # 36 of 40 expected; one chance in 100 below
    soft = cases.evidence((1.0, 2.0), 0.5)
    e = frequency.of_reference(soft.problem, 20_000, stream(0, "draws"))
    assert e.status == "converged" and abs(e.bits - soft.bits) < 4 * e.diagnostics["error_bits"]
    hopeless = cases.evidence((100.0,) * 20, 2.0)
    e = frequency.of_reference(hopeless.problem, 500, stream(0, "draws"))
    assert e.bound == "upper" and "upper bound" in e.status and e.high > hopeless.bits


def test_trainings_that_broke_are_not_consistent() -> None:
    theta = halves(8, 16)
    theta[0] = math.nan
    e = frequency.estimate_from(theta, cases.half_space(1, 0.5).problem)
    assert e.diagnostics["hits"] == 7 and e.diagnostics["broken"] == 1


def boolean(n: int, truth) -> tuple[Problem, Mlp, torch.Tensor, torch.Tensor]:
    """Exact truth-table match of n→8→1 ReLU networks, weights N(0, 1) over √fan_in and biases N(0, 1)."""
    net = Mlp((n, 8, 1), "relu")
    bits = torch.tensor(list(product((0, 1), repeat=n)), dtype=torch.float64)
    sign = torch.tensor([1.0 if truth(b) else -1.0 for b in bits.tolist()], dtype=torch.float64)
    sd = torch.ones(net.p, dtype=torch.float64)
    for field in net.fields:
        if field.name.startswith("weight"):
            sd[field.slice] = field.shape[1] ** -0.5

    def wrong(theta: torch.Tensor) -> torch.Tensor:
        return ((net.forward(theta, bits)[..., 0] > 0) != (sign > 0)).double().sum(-1)

    reference = DiagonalNormal(sd, "Boolean prior")
    return Problem(net.p, reference, wrong, 0.5, "rows wrong", smooth=False), net, bits, sign


@pytest.mark.parametrize(("truth", "bits", "error"), [
    (lambda b: b[0], 7.524, 0.010), (lambda b: sum(b) == 3, 8.134, 0.012), (lambda b: sum(b) >= 2, 9.827, 0.022),
])  # fmt: skip
def test_boolean_functions_under_the_prior(truth, bits: float, error: float) -> None:
    problem, *_ = boolean(3, truth)
    e = frequency.of_reference(problem, 200_000, stream(0, "prior"))
    assert abs(e.bits - bits) < 4 * math.hypot(e.diagnostics["error_bits"], error)


def test_training_gives_bits_to_what_it_is_trained_for() -> None:
    problem, net, x, sign = boolean(3, lambda b: sum(b) >= 2)

    def train(steps: int):
        def loss(theta: torch.Tensor, _: int) -> torch.Tensor:
            return torch.nn.functional.softplus(-sign * net.forward(theta, x)[..., 0]).mean(-1)

        return lambda theta: descend(loss, theta, steps=steps, rate=0.05).theta

    prior = frequency.of_reference(problem, 100_000, stream(0, "prior"))
    trained = frequency.of_training(train(200), problem, 300, stream(0, "seeds"))
    gain = frequency.given_by_training(prior, trained)
    assert trained.bits < 0.5 and gain.low > 8 and gain.bits == prior.bits - trained.bits
    # Without a step of training the push-forward is the prior.
    still = frequency.of_training(train(0), replace(problem, tolerance=2.5), 20_000, stream(1, "seeds"))
    same = frequency.of_reference(replace(problem, tolerance=2.5), 20_000, stream(2, "seeds"))
    gain = frequency.given_by_training(same, still)
    assert gain.low < 0 < gain.high


def test_what_training_makes_of_the_rows_it_never_saw_goes_with_the_prior() -> None:
    # P_OPT(f|S) against P_B(f|S): five rows of the majority are told, the others can be completed in eight ways.
    told, others = [0, 3, 5, 6, 7], [1, 2, 4]
    problem, net, x, sign = boolean(3, lambda b: sum(b) >= 2)

    def loss(theta: torch.Tensor, _: int) -> torch.Tensor:
        return torch.nn.functional.softplus(-sign[told] * net.forward(theta, x[told])[..., 0]).mean(-1)

    def completions(theta: torch.Tensor) -> list[float]:
        said = net.forward(theta, x)[..., 0] > 0
        knows = theta[(said[:, told] == (sign[told] > 0)).all(1)]
        bits = []
        for rest in product((-1.0, 1.0), repeat=3):
            truth = sign.clone()
            truth[others] = torch.tensor(rest, dtype=torch.float64)

            def wrong(theta: torch.Tensor, truth: torch.Tensor = truth) -> torch.Tensor:
                return ((net.forward(theta, x)[..., 0] > 0) != (truth > 0)).double().sum(-1)

            bits.append(frequency.estimate_from(knows, replace(problem, cost=wrong)).bits)
        return bits

    prior = completions(problem.reference.sample(150_000, stream(0, "prior")))
    trained = completions(descend(loss, problem.reference.sample(2000, stream(0, "seeds")), steps=200, rate=0.05).theta)
    slope, correlation = linregress(prior, trained)[0], linregress(prior, trained)[2]
    assert correlation > 0.8 and slope > 1.5  # the same order, and training is the choosier of the two


def test_a_gain_has_no_limit_where_nothing_was_hit() -> None:
    problem = cases.half_space(1, 0.5).problem
    none, some = (frequency.estimate_from(halves(k, 64), problem) for k in (0, 16))
    gain = frequency.given_by_training(none, some)
    assert gain.high == math.inf and gain.low > 0
    assert frequency.given_by_training(some, none).low == -math.inf


def test_what_are_no_humans_is_refused() -> None:
    problem = Problem(2, standard_normal(2), lambda t: t.square().sum(-1), 0.5, "C")
    for thetas in (torch.zeros(2), torch.zeros(0, 2), torch.zeros(3, 3)):
        with pytest.raises(InputError, match="thetas"):
            frequency.estimate_from(thetas, problem)
