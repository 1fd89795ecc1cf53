"""Many chains at once: known moments within their Monte Carlo errors, Pyro models, and what is refused."""

from __future__ import annotations

import math
from functools import partial

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.ops.stats import effective_sample_size
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.rng import stream
from reuse_sim.specialness import estimate, hmc
from reuse_sim.specialness.sites import Sites

D64 = torch.float64


def scores(functions: Tensor, truth: Tensor) -> Tensor:
    """How many Monte Carlo standard errors the means of functions `(C, n, k)` are from `truth` `(k,)`."""
    error = functions.flatten(0, 1).std(0) / effective_sample_size(functions).sqrt()
    return (functions.mean((0, 1)) - truth) / error


def correlated(d: int, rho: float) -> tuple[Tensor, hmc.Potential]:
    """N(0, Σ) with equal correlations and standard deviations from .01 to 100."""
    sd = torch.logspace(-2, 2, d, dtype=D64)
    covariance = ((1 - rho) * torch.eye(d, dtype=D64) + rho) * sd * sd[:, None]
    precision = torch.linalg.inv(covariance)
    return covariance, lambda z: ((z @ precision * z).sum(-1) / 2, z @ precision)


def test_moments_of_a_correlated_normal() -> None:
    d = 10
    covariance, potential = correlated(d, 0.9)
    g = stream(0, "hmc")
    start = 3 * covariance.diagonal().sqrt() * (1 + torch.randn(64, d, generator=g, dtype=D64))
    found = hmc.run(potential, start, warmup=200, draws=200, generator=g)
    i, j = torch.triu_indices(d, d)
    assert scores(found.z, torch.zeros(d, dtype=D64)).abs().max() < 4
    assert scores(found.z[..., i] * found.z[..., j], covariance[i, j]).abs().max() < 4.5
    d0 = found.diagnostics
    assert d0["rhat_max"] < 1.03 and d0["ess_min"] > 1000 and 0.7 < d0["acceptance"] < 0.97
    assert d0["divergent_share"] == 0 and hmc.status(d0) == "converged"
    # Planted: a target 1.1 times as wide is far off.
    assert scores(found.z[..., i] * found.z[..., j], 1.21 * covariance[i, j]).abs().max() > 10


def test_the_trajectory_grows_to_what_the_target_needs() -> None:
    lengths = []
    for rho in (0.0, 0.97):
        _, potential = correlated(8, rho)
        sd = torch.logspace(-2, 2, 8, dtype=D64)
        g = stream(1, "hmc")
        start = sd * torch.randn(32, 8, generator=g, dtype=D64)
        lengths.append(hmc.run(potential, start, warmup=200, draws=4, generator=g).tuning.length)
    # Of an isotropic normal the best fixed length is π/2; halton fractions of twice as much have that mean.
    assert 1.5 < lengths[0] < 5 and lengths[1] > 1.7 * lengths[0]


def test_halton_s_numbers_are_spread_evenly() -> None:
    assert [hmc.halton(k) for k in range(1, 6)] == [0.5, 0.25, 0.75, 0.125, 0.625]
    assert sorted(hmc.halton(k) * 64 for k in range(64)) == list(range(64))


def test_groups_have_targets_of_their_own() -> None:
    # Three data sets in one batch: each set of chains has its own centre, and is not drawn to the others'.
    centre = torch.tensor([-50.0, 0.0, 200.0], dtype=D64).repeat_interleave(16)[:, None]
    g = stream(2, "hmc")
    found = hmc.run(
        lambda z: ((z - centre).square().sum(-1) / 2, z - centre),
        centre + torch.randn(48, 2, generator=g, dtype=D64), warmup=100, draws=100, generator=g, groups=3,
    )
    assert float(found.tuning.scale.min()) > 0.8 and float(found.tuning.scale.max()) < 1.25
    for z, c in zip(found.z.split(16), (-50.0, 0.0, 200.0), strict=True):
        assert scores(z, torch.full((2,), c, dtype=D64)).abs().max() < 4


def test_equal_streams_equal_draws_and_no_global_randomness() -> None:
    _, potential = correlated(3, 0.5)
    start, before = torch.randn(8, 3, generator=stream(0, "z"), dtype=D64), torch.get_rng_state()
    one, two, other = (
        hmc.run(potential, start, warmup=20, draws=10, generator=stream(k, "hmc")).z for k in (0, 0, 1)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_trajectory_that_leaves_the_numbers_is_a_divergence() -> None:
    # Beyond 3 there is nothing: not a number there, and not a NaN that stays.
    def potential(z: Tensor) -> tuple[Tensor, Tensor]:
        out = z.abs().amax(-1) > 3
        assert bool(z.isfinite().all()), "a chain that left went on"
        return torch.where(out, torch.nan, z.square().sum(-1) / 200), torch.where(out[:, None], torch.nan, z / 100)

    g = stream(3, "hmc")
    start = torch.rand(32, 1, generator=g, dtype=D64)
    found = hmc.run(potential, start, warmup=50, draws=100, generator=g)
    assert found.z.isfinite().all() and found.z.abs().max() <= 3 and found.divergent > 0.01
    assert "diverged" in hmc.status(found.diagnostics)


# Pyro models -----------------------------------------------------------------------------------------


def schools(y: Tensor, sigma: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def proportions(counts: Tensor) -> None:
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    rate = pyro.sample("rate", dist.Gamma(3.0, 2.0))
    with pyro.plate("n", 4):
        pyro.sample("k", dist.Poisson(rate), obs=torch.tensor([2.0, 0.0, 3.0, 1.0]))
    pyro.factor("counts", (counts * p.log()).sum())


def test_conjugate_posteriors_of_constrained_sites() -> None:
    found = hmc.sample(partial(proportions), torch.tensor([4.0, 1.0, 9.0]), chains=32, warmup=150, draws=150,
                       generator=stream(0, "sample"))
    assert found.status == "converged" and found["p"].shape == (32, 150, 3)
    a = torch.tensor([5.0, 2.0, 10.0])  # Dirichlet(1 + counts)
    assert scores(found["p"], a / 17).abs().max() < 4
    assert scores(found["p"].square(), a * (a + 1) / (17 * 18)).abs().max() < 4
    # Gamma(3 + 6, 2 + 4)
    rate = found["rate"].unsqueeze(-1)
    assert float(scores(rate, torch.tensor([9 / 6])).abs()) < 4
    assert float(scores(rate.square(), torch.tensor([9 * 10 / 36])).abs()) < 4


def test_the_density_is_that_of_pyro_s_own_trace() -> None:
    y, sigma = torch.tensor([28.0, 8, -3]), torch.tensor([15.0, 10, 16])
    sites = Sites.of(schools, y, sigma, generator=stream(0, "g"))
    z = sites.draw(5, stream(1, "g"))
    values = sites.values(z)
    for k in range(5):
        given = {name: values[name][k] for name in sites.latent}
        trace = pyro.poutine.trace(pyro.poutine.condition(schools, given)).get_trace(y, sigma)
        expected = trace.log_prob_sum() + values["tau"][k].log()  # dτ/dz = τ
        assert float(-sites.potential(z)[0][k]) == pytest.approx(float(expected), rel=1e-5)
    assert torch.allclose(values["theta"], values["mu"][:, None] + values["tau"][:, None] * values["eta"])
    for compiled, plain in zip(sites.compiled(z)(z), sites.potential(z), strict=True):
        assert torch.allclose(compiled, plain, rtol=1e-5)


def test_a_funnel_is_diagnosed() -> None:
    def potential(z: Tensor) -> tuple[Tensor, Tensor]:  # v ~ N(0, 3²), nine x ~ N(0, e^v) (Neal 2003)
        v, square = z[:, 0], z[:, 1:].square().sum(-1)
        energy = v.square() / 18 + 4.5 * v + (-v).exp() * square / 2
        slope = torch.cat([(v / 9 + 4.5 - (-v).exp() * square / 2)[:, None], (-v).exp()[:, None] * z[:, 1:]], -1)
        return energy, slope

    g = stream(0, "funnel")
    v = 3 * torch.randn(32, 1, generator=g, dtype=D64)
    start = torch.cat([v, (v / 2).exp() * torch.randn(32, 9, generator=g, dtype=D64)], -1)
    found = hmc.run(potential, start, warmup=60, draws=60, generator=g)
    assert hmc.status(found.diagnostics) != "converged"


def discrete() -> None:
    pyro.sample("which", dist.Bernoulli(0.5))


def minibatch() -> None:
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", 10, subsample_size=3):
        pyro.sample("y", dist.Normal(a, 1.0), obs=torch.ones(3))


def branch() -> None:
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.factor("f", a if a > 0 else -a)


def item() -> None:
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.factor("f", torch.tensor(a.item()))


def noisy() -> None:
    pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.factor("f", torch.randn(()))


def impossible() -> None:
    pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.factor("f", torch.tensor(-math.inf))


@pytest.mark.parametrize(
    ("model", "says"),
    [(discrete, "'which'.*discrete"), (minibatch, "'rows'.*minibatch"), (branch, "'a'.*control flow"),
     (item, "'a'.*item"), (noisy, "'a'.*random"), (impossible, "prior draws without density"),
     (lambda: None, "no latent site")],
)  # fmt: skip
def test_a_model_that_cannot_be_sampled_is_refused(model, says: str) -> None:
    with pytest.raises(InputError, match=says):
        hmc.sample(model, chains=4, warmup=20, draws=4, generator=stream(0, "g"))


def test_bad_arguments_are_refused() -> None:
    g, z = stream(0, "g"), torch.zeros(4, 2, dtype=D64)
    with pytest.raises(InputError, match="chains"):
        hmc.sample(discrete, chains=1, generator=g)
    with pytest.raises(InputError, match="potential.*shapes"):
        hmc.run(lambda z: (z, z), z, warmup=1, draws=1, generator=g)
    with pytest.raises(InputError, match="4 of 4 chains"):
        hmc.run(lambda z: (z.sum(-1) + torch.inf, z), z, warmup=1, draws=1, generator=g)
    with pytest.raises(InputError, match="two or more chains in each of 3"):
        hmc.run(lambda z: (z.sum(-1), z), z, warmup=1, draws=1, generator=g, groups=3)


# Estimates -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evidence", "ball", "dirichlet", "cap"])
def test_bits_of_exact_cases(name: str) -> None:
    from reuse_sim.specialness import cases

    case = {
        "evidence": lambda: cases.evidence((1.0, 10.0, 100.0, 1000.0), 0.5, 2.0), "ball": lambda: cases.ball(20, 2.0),
        "dirichlet": lambda: cases.dirichlet((2.0, 2.0, 4.0), 0.01), "cap": lambda: cases.cap(20, 0.2),
    }[name]()  # fmt: skip
    e = estimate(case.problem, "hmc", 0.5, generator=stream(0, "estimate"))
    assert e.status == "converged" and e.bound == "two-sided" and e.low < e.bits < e.high
    assert abs(e.bits - case.bits) < 4 * e.diagnostics["error_bits"] < 0.4
