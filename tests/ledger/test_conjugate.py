"""Closed forms against each other, against a coder that writes, and against sums."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.ledger import conjugate
from reuse_sim.ledger.conjugate import Grid, Linear, Normal, kl_bits, kt_bits, kt_regret_bits
from reuse_sim.rng import stream


def data(seed: int, n: int = 15, p: int = 3, noise_sd: float = 0.4) -> Linear:
    g = stream(seed, "linear")
    x = torch.randn(n, p, generator=g, dtype=torch.float64)
    sd = 0.5 + torch.rand(p, generator=g, dtype=torch.float64)
    w = sd * torch.randn(p, generator=g, dtype=torch.float64)
    return Linear(x, x @ w + noise_sd * torch.randn(n, generator=g, dtype=torch.float64), sd, noise_sd)


def wrong(one: Linear, seed: int) -> Normal:
    """Another law than the posterior, correlated."""
    p = len(one.prior_sd)
    root = torch.randn(p, p, generator=stream(seed, "wrong"), dtype=torch.float64) * 0.2 + 0.3 * torch.eye(p)
    return Normal(one.posterior().mean + 0.2, root @ root.T)


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 6), st.floats(0.05, 3), st.floats(-2, 2))
def test_three_codes_are_one_length_and_a_wrong_q_pays_its_divergence(seed, n, p, noise, mean) -> None:
    one = replace(data(seed, n, p, noise), prior_mean=mean)
    evidence, posterior = one.evidence_bits(), one.posterior()
    size = 1e-9 * max(1.0, abs(evidence))
    assert float(one.prequential_bits().sum()) == pytest.approx(evidence, abs=size)
    assert one.bits_back(posterior) == pytest.approx(evidence, abs=size)
    q = wrong(one, seed)
    more = kl_bits(q, posterior)
    assert more > 0 and one.bits_back(q) == pytest.approx(evidence + more, abs=1e-9 * max(1.0, abs(evidence) + more))


def test_the_mean_of_a_normal_by_hand() -> None:
    # n answers y_i ~ N(w, σ²), w ~ N(0, s²): |y|² and (Σ y)² are enough.
    n, sd, noise = 7, 1.3, 0.8
    y = torch.randn(n, generator=stream(0, "y"), dtype=torch.float64)
    one = Linear(torch.ones(n, 1, dtype=torch.float64), y, torch.tensor([sd], dtype=torch.float64), noise)
    total = noise**2 + n * sd**2
    nats = (n * math.log(2 * math.pi) + (n - 1) * math.log(noise**2) + math.log(total)) / 2
    nats += float(y.square().sum() / noise**2 - sd**2 * y.sum() ** 2 / (noise**2 * total)) / 2
    assert one.evidence_bits() == pytest.approx(nats / math.log(2), abs=1e-10)
    assert float(one.posterior().mean) == pytest.approx(float(sd**2 * y.sum() / total))


def test_the_evidence_is_the_mean_likelihood() -> None:
    one = data(1, n=3, p=2, noise_sd=0.7)
    w = one.prior_sd * torch.randn(400_000, 2, generator=stream(1, "w"), dtype=torch.float64)
    density = torch.distributions.Normal(w @ one.x.T, one.noise_sd).log_prob(one.y).sum(-1).exp()
    error = float(density.std() / density.mean()) / len(w) ** 0.5
    assert 2 ** -one.evidence_bits() / float(density.mean()) == pytest.approx(1, abs=4 * error)


@pytest.mark.parametrize("narrower", [1.0, 0.03])
def test_a_stack_coder_gets_its_bits_back(narrower: float) -> None:
    """Within 1 % of the closed form, and all is read back: the answers as rounded, and the words that were there."""
    many = [data(seed, n=12) for seed in range(40)]
    grid = Grid(answer=0.05, weight=2.0**-9)
    rounded = [replace(one, y=torch.round(one.y / grid.answer) * grid.answer) for one in many]
    exact = [one.posterior() for one in rounded]
    qs = [Normal(q.mean, narrower * q.covariance) for q in exact]
    spare = np.random.default_rng(0).integers(0, 2**32, 64, dtype=np.uint32)
    words = conjugate.write(many, qs, grid, spare)
    bits = 32 * (len(words) - len(spare))
    cells = 40 * 12 * math.log2(1 / grid.answer)
    expected = sum(one.bits_back(q) for one, q in zip(rounded, qs, strict=True)) + cells
    if narrower == 1:  # the posterior: every w costs the same
        assert bits == pytest.approx(expected, rel=0.01)
    else:
        error = 4 * _spread(rounded, qs)
        assert bits == pytest.approx(expected, rel=0.01, abs=error)
        assert error < sum(kl_bits(q, p) for q, p in zip(qs, exact, strict=True)) / 4
    # What came back, the entropy of 120 weights in their cells, is a seventh of the message and more.
    entropy = [float(q.covariance.logdet()) / 2 / math.log(2) + 3 * math.log2(2 * math.pi * math.e) / 2 for q in qs]
    assert sum(entropy) + 120 * math.log2(1 / grid.weight) > bits / 7
    answers, left = conjugate.read(words, many, qs, grid)
    assert all(torch.equal(a, one.y) for a, one in zip(answers, rounded, strict=True))
    assert np.array_equal(left, spare)


def _spread(rounded: list[Linear], qs: list[Normal]) -> float:
    """Standard deviation of the sum over data of −log₂ p(y, w)/q(w), w drawn from q."""
    total = 0.0
    for one, q in zip(rounded, qs, strict=True):
        root = torch.linalg.cholesky(q.covariance)
        w = q.mean + torch.randn(2000, len(q.mean), generator=stream(0, "w"), dtype=torch.float64) @ root.T
        nats = -torch.distributions.Normal(w @ one.x.T, one.noise_sd).log_prob(one.y).sum(-1)
        nats -= torch.distributions.Normal(0.0, one.prior_sd).log_prob(w).sum(-1)
        nats += torch.distributions.MultivariateNormal(q.mean, q.covariance).log_prob(w)
        total += float(nats.var()) / math.log(2) ** 2
    return total**0.5


def test_what_the_coder_cannot_do_is_said() -> None:
    one = data(0)
    with pytest.raises(InputError, match="take wider cells"):
        conjugate.write([one], [one.posterior()], Grid(1e-6, 0.01), np.ones(16, np.uint32))
    with pytest.raises(InputError, match="two more"):
        conjugate.write([one], [one.posterior()], Grid(0.05, 0.01), np.ones(2, np.uint32))


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_coins_are_foretold_by_halves_added(flips: list[int]) -> None:
    bits, ones = 0.0, 0
    for i, flip in enumerate(flips):
        p = (ones + 0.5) / (i + 1)
        bits -= math.log2(p if flip else 1 - p)
        ones += flip
    assert kt_bits(flips) == pytest.approx(bits, abs=1e-9)


@pytest.mark.parametrize("n", [1, 9, 130, 5000])
def test_the_regret_of_coins(n: int) -> None:
    regrets = [kt_regret_bits(ones, n) for ones in range(0, n + 1, max(1, n // 50))]
    assert max(regrets) <= math.log2(n) / 2 + 1 + 1e-9
    # At the edge: Γ(n + ½)/(Γ(½) n!), which is √(πn) or so to one.
    edge = -(math.lgamma(n + 0.5) - math.lgamma(0.5) - math.lgamma(n + 1)) / math.log(2)
    assert kt_regret_bits(0, n) == pytest.approx(edge, abs=1e-9)
    if n > 100:  # in the middle ½ log₂(πn/2), to the order 1/n (Stirling)
        assert kt_regret_bits(n // 2, n) == pytest.approx(math.log2(math.pi * n / 2) / 2, abs=1 / n)
