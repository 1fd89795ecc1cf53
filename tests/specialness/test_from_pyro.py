"""Evidence and events of Pyro models with closed forms."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from scipy import special, stats

from reuse_sim.errors import InputError
from reuse_sim.rng import stream
from reuse_sim.specialness import Problem, estimate

D64 = torch.float64
HEADS, TOSSES = 9.0, 10
Y = torch.tensor([1.3, 0.4, 2.1, 1.9], dtype=D64)


def tosses() -> None:
    p = pyro.sample("p", dist.Beta(torch.tensor(2.0, dtype=D64), 3.0))
    pyro.sample("heads", dist.Binomial(TOSSES, p), obs=torch.tensor(HEADS, dtype=D64))


def means(y: torch.Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(torch.tensor(0.0, dtype=D64), 2.0))
    with pyro.plate("n", len(y)):
        pyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def product() -> None:
    """Two sides, uniform and exponential; consistent where the first is at most a share of the second."""
    a = pyro.sample("a", dist.Uniform(torch.tensor(0.0, dtype=D64), 1.0))
    b = pyro.sample("b", dist.Exponential(torch.tensor(2.0, dtype=D64)))
    pyro.deterministic("gap", a - b)
    pyro.deterministic("pair", torch.stack([a, b]))


def heads_bits() -> float:
    choose = math.log(math.comb(TOSSES, int(HEADS)))
    return -(choose + special.betaln(2 + HEADS, 3 + TOSSES - HEADS) - special.betaln(2, 3)) / math.log(2)


def means_bits() -> float:
    n = len(Y)
    covariance = 0.25 * torch.eye(n, dtype=D64) + 4.0
    return -float(stats.multivariate_normal.logpdf(Y.numpy(), cov=covariance.numpy())) / math.log(2)


@pytest.mark.parametrize(("problem", "bits"), [
    pytest.param(lambda: Problem.from_pyro(tosses), heads_bits(), marks=pytest.mark.slow),
    (lambda: Problem.from_pyro(means, Y), means_bits()),
])  # fmt: skip
def test_the_evidence_of_conjugate_models(problem, bits: float) -> None:
    e = estimate(problem(), "hmc", 0.25, generator=stream(0, "estimate"))
    assert e.status == "converged" and e.diagnostics["form"].startswith("soft, 1 nats")
    assert abs(e.bits - bits) < 4 * e.diagnostics["error_bits"] < 0.2


@pytest.mark.slow
def test_an_event_of_constrained_sites() -> None:
    # P(a − b ≤ −1) = ∫ e^{−2(1 + a)} da over [0, 1]
    truth = -math.log2((math.exp(-2) - math.exp(-4)) / 2)
    problem = Problem.from_pyro(product, consistency="gap", tolerance=-1.0)
    assert problem.hard and problem.dim == 2
    e = estimate(problem, "hmc", 0.25, generator=stream(0, "estimate"))
    assert e.status == "converged" and abs(e.bits - truth) < 4 * e.diagnostics["error_bits"] < 0.4


def test_the_reference_is_the_prior_where_it_is_unconstrained() -> None:
    # The logistic of θ has density Beta(2, 3): with the Jacobian p (1 − p) it integrates to one over θ.
    prior = Problem.from_pyro(tosses).reference
    grid = torch.linspace(-15, 15, 3001, dtype=D64)[:, None]
    assert float(torch.trapezoid(prior.log_prob(grid).exp(), grid[:, 0])) == pytest.approx(1, abs=1e-6)
    draws = torch.sigmoid(prior.sample(400, stream(0, "prior")))
    assert stats.kstest(draws.flatten().numpy(), stats.beta(2, 3).cdf).pvalue > 1e-4
    before = torch.get_rng_state()
    assert torch.equal(prior.sample(3, stream(1, "prior")), prior.sample(3, stream(1, "prior")))
    assert torch.equal(before, torch.get_rng_state())


def test_a_consistency_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'gap'"):
        Problem.from_pyro(product, consistency="gab", tolerance=1.0)
    with pytest.raises(InputError, match="tolerance"):
        Problem.from_pyro(product, consistency="gap")
    with pytest.raises(InputError, match="'pair'.*one number"):
        Problem.from_pyro(product, consistency="pair", tolerance=1.0)
