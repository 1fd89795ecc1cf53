"""Simulation-based calibration (Talts et al. 2018; Modrák et al. 2023): parameters from the prior, data from them.

The rank of what data were made of among 99 posterior draws is then uniform, for every function of parameters and data.
All 200 data sets run as one batch: three chains each, tuned together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyro
import pytest
import torch
from pyro import distributions as dist
from scipy import stats
from torch import Tensor
from torch.func import vmap

from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import DiagonalNormal, Problem, hmc
from reuse_sim.specialness.problem import LN2
from reuse_sim.specialness.sites import Sites

pytestmark = pytest.mark.slow
SETS, CHAINS, DRAWS, THIN, BINS = 200, 3, 33, 3, 10
D64 = torch.float64


@dataclass(frozen=True)
class Known:
    """A Pyro model of one data set y, how z `(n, d)` makes data `(n, m)`, and functions of z `(d,)` to be ranked."""

    model: Callable[[Tensor], None]
    m: int
    simulate: Callable[[Tensor, torch.Generator], Tensor]
    functions: Callable[[Tensor], Tensor] = lambda z: z


def of_problem(net: Mlp, x: Tensor, variance: float, ask: Callable[[Tensor], Tensor]) -> Known:
    """`Problem.model` of a network with noisy answers; the data are put where the cost reads them."""
    sd, data = net.prior_sd(D64), {"y": torch.zeros(len(x), dtype=D64)}

    def answers(theta: Tensor) -> Tensor:
        return net.forward(theta, x)[..., 0]

    problem = Problem(
        net.p, DiagonalNormal(sd, "prior"), lambda theta: (answers(theta) - data["y"]).square().mean(-1), 1.0,
        strength=len(x) / (2 * variance),
    )

    def model(y: Tensor) -> None:
        data["y"] = y
        problem.model()

    def simulate(z: Tensor, g: torch.Generator) -> Tensor:
        y = answers(z)
        return y + variance**0.5 * torch.randn(y.shape, generator=g, dtype=D64)

    return Known(model, len(x), simulate, ask)


def linear() -> Known:
    x = torch.randn(6, 3, generator=stream(0, "x"), dtype=D64) * torch.linspace(0.5, 2, 6, dtype=D64)[:, None]
    return of_problem(Mlp((3, 1), bias=False), x, 4.0, lambda z: z)


def small_net() -> Known:
    # Copies of a network cannot be told apart: its answers are ranked.
    net, x = Mlp((1, 2, 1), "tanh"), torch.linspace(-2, 2, 7, dtype=D64)[:, None]
    return of_problem(net, x, 0.3, lambda z: net.forward(z, x[::3])[..., 0])


def tosses() -> Known:
    def model(y: Tensor) -> None:
        p = pyro.sample("p", dist.Beta(torch.tensor(2.0, dtype=D64), 3.0))
        pyro.sample("heads", dist.Binomial(10, p), obs=y[0])

    def simulate(z: Tensor, g: torch.Generator) -> Tensor:
        return (torch.rand(len(z), 10, generator=g, dtype=D64) < z.sigmoid()).double().sum(-1, keepdim=True)

    return Known(model, 1, simulate)


def scale() -> Known:
    """One observation each of two unknown scales, which are positive: the Jacobian matters."""
    zero = torch.zeros(2, dtype=D64)

    def model(y: Tensor) -> None:
        with pyro.plate("n", 2):
            s = pyro.sample("s", dist.LogNormal(zero, 1.0))
            pyro.sample("y", dist.Normal(zero, s), obs=y)

    return Known(model, 2, lambda z, g: z.exp() * torch.randn(len(z), 2, generator=g, dtype=D64))


def series() -> Known:
    """An autoregression, in which the order of data matters: y_t ~ N(a y_{t−1} + 1, s)."""
    def model(y: Tensor) -> None:
        a = pyro.sample("a", dist.Normal(torch.tensor(0.5, dtype=D64), 0.3))
        s = pyro.sample("s", dist.LogNormal(torch.tensor(-1.0, dtype=D64), 0.5))
        pyro.sample("y", dist.Normal(a * torch.cat([y.new_zeros(1), y[:-1]]) + 1, s).to_event(1), obs=y)

    def simulate(z: Tensor, g: torch.Generator) -> Tensor:
        a, s, y = z[:, 0], z[:, 1].exp(), [torch.zeros(len(z), dtype=D64)]
        for _ in range(12):
            y.append(a * y[-1] + 1 + s * torch.randn(len(z), generator=g, dtype=D64))
        return torch.stack(y[1:], 1)

    return Known(model, 12, simulate)


def failures(known: Known, seed: int, truth: float = 1.0, jacobian: bool = True, shift: int = 0) -> tuple[int, int]:
    """How many χ² tests of uniform ranks fail at 1 %, of how many.

    Planted faults: the truth has `truth` times the prior's scale; no Jacobian; data moved on by `shift`.
    """
    g = stream(seed, "sbc")
    sites = Sites.of(known.model, torch.zeros(known.m, dtype=D64), generator=g)
    z_true = sites.draw(SETS, g) * truth
    y = known.simulate(z_true, g).roll(shift, -1)
    z, own = sites.draw(SETS * CHAINS, g), y.repeat_interleave(CHAINS, 0)
    potential = sites.compiled(z, own)

    def without_jacobian(z: Tensor) -> tuple[Tensor, Tensor]:
        energy, slope = potential(z)
        return energy + z.sum(-1), slope + 1  # of s = exp z

    found = hmc.run(potential if jacobian else without_jacobian, z, warmup=200, draws=DRAWS, thin=THIN, generator=g,
                    groups=SETS)

    def functions(z: Tensor, y: Tensor) -> Tensor:
        done = sites.one(z, y)
        both = torch.stack([done.likelihood, -(done.prior + done.likelihood) / LN2])  # log likelihood; bits
        return torch.cat([known.functions(z), both])

    drawn = found.z.unflatten(0, (SETS, CHAINS)).flatten(1, 2)
    at_draws = vmap(functions)(drawn.flatten(0, 1), y.repeat_interleave(CHAINS * DRAWS, 0)).unflatten(0, (SETS, -1))
    ranks = (at_draws < vmap(functions)(z_true, y).unsqueeze(1)).sum(1)  # 0 to 99
    assert CHAINS * DRAWS == 99
    p = [stats.chisquare((r * BINS // 100).bincount(minlength=BINS).numpy()).pvalue for r in ranks.T]
    return int(sum(v < 0.01 for v in p)), len(p)


def accepted(tests: int) -> int:
    """Failed tests that one right model in a thousand exceeds, were its tests independent."""
    return int(stats.binom.ppf(0.999, tests, 0.01))


MODELS = {f.__name__: f for f in (linear, small_net, tosses, scale, series)}


@pytest.mark.parametrize("name", MODELS)
def test_ranks_are_uniform(name: str) -> None:
    failed, tests = failures(MODELS[name](), 0)
    assert failed <= accepted(tests)


@pytest.mark.parametrize(
    ("name", "fault"), [("linear", {"truth": 1.3}), ("scale", {"jacobian": False}), ("series", {"shift": 1})]
)
def test_a_planted_fault_is_caught(name: str, fault: dict) -> None:
    failed, tests = failures(MODELS[name](), 0, **fault)
    assert failed > accepted(tests)
