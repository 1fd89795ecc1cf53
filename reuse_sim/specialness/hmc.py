"""Many chains of Hamiltonian Monte Carlo as one batch, tuned across chains: ChEES-HMC (Hoffman, Radul & Sountsov 2021).

For any Pyro model with continuous sites,

    found = sample(model, data, chains=64, warmup=300, draws=300, generator=g)
    found["weights"], found.diagnostics, found.status        # (chains, draws, *shape), R-hat, effective draws, …

and for any batched potential, `run(potential, z, …)`. All chains take the same number of leapfrog steps, so that an
iteration is a few operations on `(C, d)`. Trajectory lengths are Halton fractions of a mean that follows the gradient
of how far trajectories carry the chains' squared distance from their centre (the ChEES criterion); the step size
follows the harmonic mean of acceptance, so that no chain stays behind; the diagonal metric is the chains' variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness.sites import Sites

Potential = Callable[[Tensor], tuple[Tensor, Tensor]]
"""z `(C, d)` -> minus log density up to a constant `(C,)`, and its gradient `(C, d)`."""

TARGET = 0.8
"""Harmonic mean of acceptance. .651 is the optimum of the criterion's theory; .8 is as fast and forgives more."""
MOST = 512
"""Leapfrog steps of one trajectory, at most."""
DIVERGENT = 1000.0
"""An energy error in nats beyond this is a divergence."""
R_HAT, ESS = 1.05, 100.0
"""Beyond these a run is not called converged."""


@dataclass(frozen=True)
class State:
    """C chains: z `(C, d)`, potential `(C,)` and its gradient `(C, d)`."""

    z: Tensor
    energy: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Tuning:
    """Step size and mean trajectory length in units of `scale` `(d,)`, the target's standard deviations."""

    step: float
    length: float
    scale: Tensor


@dataclass(frozen=True)
class Info:
    """One iteration: acceptance probability `(C,)`, which chains diverged `(C,)`, leapfrog steps taken, where the
    trajectories ended `(C, d)` and with which momentum `(C, d)`."""

    acceptance: Tensor
    divergent: Tensor
    leapfrogs: int
    end: Tensor
    momentum: Tensor


def init(potential: Potential, z: Tensor) -> State:
    """Chains at z `(C, d)`. Raises InputError where the potential of one is not finite."""
    energy, slope = potential(z)
    got = (tuple(energy.shape), tuple(slope.shape))
    if got != ((len(z),), tuple(z.shape)):
        raise InputError("potential", f"shapes {got}", f"({len(z)},) and {tuple(z.shape)}", "(C, d) -> (C,), (C, d)")
    bad = int((~energy.isfinite() | ~slope.isfinite().all(-1)).sum())
    if bad:
        raise InputError("start", f"{bad} of {len(z)} chains where density or gradient is not finite", "finite ones")
    return State(z, energy, slope)


def step(
    potential: Potential, state: State, tuning: Tuning, share: float, generator: torch.Generator
) -> tuple[State, Info]:
    """One trajectory of `share` of the mean length per chain, accepted or not (Metropolis)."""
    leapfrogs = min(max(1, math.ceil(share * tuning.length / tuning.step)), MOST)
    kick, start = tuning.step * tuning.scale, state
    momentum = torch.randn(state.z.shape, generator=generator, dtype=state.z.dtype)
    before = state.energy + momentum.square().sum(-1) / 2
    ceiling = before + DIVERGENT
    z, p, dead = state.z, torch.addcmul(momentum, state.slope, kick, value=-0.5), None
    energy, slope = state.energy, state.slope
    for k in range(leapfrogs):
        z = torch.addcmul(z, p, kick)
        energy, slope = potential(z)
        p = torch.addcmul(p, slope, kick, value=-1.0 if k < leapfrogs - 1 else -0.5)
        fine = energy < ceiling  # not a number is not
        if dead is not None or not bool(fine.all()):
            # Chains that left go back where they came from and wait there: what they do is of no interest.
            dead = ~fine if dead is None else dead | ~fine
            z, p = (torch.where(dead.unsqueeze(-1), a, b) for a, b in ((start.z, z), (0.0, p)))
    error = energy + p.square().sum(-1) / 2 - before
    dead = ~(error < DIVERGENT) if dead is None else dead | ~(error < DIVERGENT)
    acceptance = torch.where(dead, 0.0, (-error).clamp(max=0).exp())
    chosen = torch.rand(len(z), generator=generator, dtype=z.dtype) < acceptance
    new = State(*(torch.where(chosen.unsqueeze(-1) if b.ndim == 2 else chosen, b, a)
                  for a, b in ((start.z, z), (start.energy, energy), (start.slope, slope))))
    return new, Info(acceptance, dead, leapfrogs, z, p)


# Tuning ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Warmup:
    """Chains and how they are tuned so far, after `count` iterations.

    `groups`: the chains are this many sets of equally many, each with a target of its own, tuned together; centres and
    variances are those within sets.
    """

    state: State
    tuning: Tuning
    groups: int = 1
    target: float = TARGET
    count: int = 0
    centre: float = 0.0
    shortfall: float = 0.0
    log_step: float = 0.0
    log_length: float = 0.0
    square: float = 0.0
    gradients: int = 0

    @property
    def settled(self) -> Tuning:
        """Step and length averaged over the iterations, late ones most."""
        return replace(self.tuning, step=math.exp(self.log_step), length=math.exp(self.log_length))


def begin(potential: Potential, z: Tensor, groups: int = 1, target: float = TARGET) -> Warmup:
    """Warm-up's first state: a scale from the chains' spread, a step that about half of the chains accept."""
    state = init(potential, z)
    scale = _variance(z, groups).sqrt()
    size, g = 1.0, torch.Generator().manual_seed(0)
    for _ in range(40):
        accepted = float(step(potential, state, Tuning(size, size, scale), 1.0, g)[1].acceptance.mean())
        if accepted > 0.5:
            break
        size /= 2
    return Warmup(state, Tuning(size, 4 * size, scale), groups, target, centre=math.log(2 * size))


def adapt(potential: Potential, now: Warmup, generator: torch.Generator) -> Warmup:
    """One iteration of chains and tuning.

    Step: dual averaging (Hoffman & Gelman 2014) of the harmonic mean of acceptance. Length: Adam (β = 0, .95; rate
    .05) on its logarithm. Scale: the chains' variance, averaged over about the last quarter of the iterations.
    """
    k, tuning = now.count + 1, now.tuning
    share = halton(k)
    state, info = step(potential, now.state, tuning, share, generator)
    harmonic = 1 / float((1 / info.acceptance.clamp(min=0.05)).mean())
    shortfall = now.shortfall + (now.target - harmonic - now.shortfall) / (k + 10)
    log_step = now.centre - shortfall * math.sqrt(k) / 0.05
    late = k**-0.75
    slope = _criterion_slope(now, info, share * tuning.length)
    square = 0.95 * now.square + 0.05 * slope**2
    moved = 0.05 * slope / math.sqrt(square / (1 - 0.95**k) + 1e-30)
    size = math.exp(log_step)
    log_length = min(max(math.log(tuning.length) + min(max(moved, -0.35), 0.35), log_step), math.log(MOST * size))
    fresh = min(1.0, 4 / (k + 3))
    variance = (1 - fresh) * tuning.scale.square() + fresh * _variance(state.z, now.groups)
    return replace(
        now, state=state, tuning=Tuning(size, math.exp(log_length), variance.sqrt()), count=k, shortfall=shortfall,
        log_step=late * log_step + (1 - late) * now.log_step, square=square,
        log_length=late * log_length + (1 - late) * now.log_length,
        gradients=now.gradients + info.leapfrogs * len(state.z),
    )


def halton(k: int) -> float:
    """The k-th number of Halton's sequence in base 2, between 0 and 1: ½, ¼, ¾, ⅛, …"""
    value, unit = 0.0, 0.5
    while k:
        value, k, unit = value + unit * (k & 1), k >> 1, unit / 2
    return value


def _variance(z: Tensor, groups: int) -> Tensor:
    """Of each coordinate over the chains of a group, mean over groups; kept away from 0."""
    return z.unflatten(0, (groups, -1)).var(1).mean(0).clamp(min=1e-20)


def _criterion_slope(now: Warmup, info: Info, length: float) -> float:
    """d/d log T of log ¼E(|z' − E z'|² − |z − E z|²)²; trajectories count by acceptance.

    The paper climbs the criterion itself; its logarithm rises to the same place, in steps that chains on their way
    in from far away do not outshout for hundreds of iterations.
    """
    first, last, p = ((t / s).unflatten(0, (now.groups, -1)) for t, s in
                      ((now.state.z, now.tuning.scale), (info.end, now.tuning.scale), (info.momentum, 1.0)))
    weight = info.acceptance.unflatten(0, (now.groups, -1))
    first = first - first.mean(1, keepdim=True)
    last = last - (weight[..., None] * last).sum(1, keepdim=True) / weight.sum(1)[:, None, None].clamp(min=1e-10)
    apart = last.square().sum(-1) - first.square().sum(-1)
    weight = torch.where(apart.isfinite(), weight, 0.0)
    apart = torch.where(weight > 1e-4, apart, 0.0)  # a trajectory that went astray may hold anything
    speed = torch.where(weight > 1e-4, (last * p).sum(-1), 0.0)
    return float(4 * length * (weight * apart * speed).sum() / (weight * apart.square()).sum().clamp(min=1e-10))


# Runs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Draws z `(C, n, d)`, their potential `(C, n)`, mean acceptance, share of divergent transitions, gradients taken
    (warm-up's too), and the tuning they were drawn with."""

    z: Tensor
    energy: Tensor
    acceptance: float
    divergent: float
    gradients: int
    tuning: Tuning

    @property
    def diagnostics(self) -> dict[str, Any]:
        """Largest split R-hat and smallest effective number of draws over z and the potential, and the tuning."""
        agreement, effective = mixing(torch.cat([self.z, self.energy.unsqueeze(-1)], -1))
        return {"rhat_max": agreement, "ess_min": effective, "acceptance": self.acceptance,
                "divergent_share": self.divergent, "step": self.tuning.step, "trajectory": self.tuning.length,
                "gradients": self.gradients}


def run(
    potential: Potential, z: Tensor, *, warmup: int, draws: int, generator: torch.Generator, groups: int = 1,
    target: float = TARGET, thin: int = 1,
) -> Run:
    """Warm up from z `(C, d)`, then keep `draws` states of every chain, one in `thin`.

    Raises InputError for fewer than two chains in a group, or starts of no density.
    """
    if z.ndim != 2 or len(z) % groups or len(z) < 2 * groups:
        raise InputError("chains", tuple(z.shape), f"(C, d), two or more chains in each of {groups} groups")
    now = begin(potential, z.detach(), groups, target)
    for _ in range(warmup):
        now = adapt(potential, now, generator)
    return collect(potential, now, draws, generator, thin)


def collect(potential: Potential, now: Warmup, draws: int, generator: torch.Generator, thin: int = 1) -> Run:
    """`draws` states of each chain as it was tuned."""
    state, tuning, gradients = now.state, now.settled, now.gradients
    kept, energies, accepted, diverged = [], [], 0.0, 0.0
    for k in range(draws * thin):
        state, info = step(potential, state, tuning, halton(k + 1), generator)
        gradients += info.leapfrogs * len(state.z)
        accepted += float(info.acceptance.mean()) / (draws * thin)
        diverged += float(info.divergent.double().mean()) / (draws * thin)
        if (k + 1) % thin == 0:
            kept.append(state.z)
            energies.append(state.energy)
    return Run(torch.stack(kept, 1), torch.stack(energies, 1), accepted, diverged, gradients, tuning)


def mixing(functions: Tensor) -> tuple[float, float]:
    """Largest split R-hat and smallest effective number of draws of functions `(C, n, k)`.

    A function that one chain never moves gives infinity and 0.
    """
    agreement = split_gelman_rubin(functions).nan_to_num(math.inf)
    effective = effective_sample_size(functions).nan_to_num(0.0)
    return float(agreement.max()), float(effective.min())


@dataclass(frozen=True)
class Draws:
    """Posterior draws by site, `(chains, draws, *shape)`, deterministic sites too; diagnostics; and whether to believe
    them: `converged`, or a sentence saying what is wrong and what to change."""

    sites: Mapping[str, Tensor]
    diagnostics: Mapping[str, Any]
    status: str

    def __getitem__(self, site: str) -> Tensor:
        return self.sites[site]


def sample(
    model: Callable[..., Any], *args: Any, chains: int = 64, warmup: int = 300, draws: int = 300,
    generator: torch.Generator, target: float = TARGET,
) -> Draws:
    """Posterior draws of the continuous sites of a Pyro model called with `args`, from chains that start in its prior.

    Sites move where they are unconstrained, as in Pyro's own HMC. The log density of all chains is one pass through
    the model under `torch.func.vmap`: it may hold plates, factors, masks, observed and deterministic sites, but no
    decision that depends on a latent value. Keyword arguments go through `functools.partial`.

    Raises InputError, naming the site, for discrete latent sites, minibatch plates, and models that cannot be batched.
    """
    for name, value, least in (("chains", chains, 2), ("warmup", warmup, 20), ("draws", draws, 4)):
        if not (isinstance(value, int) and value >= least):
            raise InputError(name, value, f"a whole number, at least {least}")
    sites = Sites.of(model, *args, generator=generator)
    z = sites.start(chains, generator)
    found = run(sites.compiled(z), z, warmup=warmup, draws=draws, generator=generator, target=target)
    diagnostics = found.diagnostics
    return Draws(sites.values(found.z), diagnostics, status(diagnostics))


def status(diagnostics: Mapping[str, Any]) -> str:
    """`converged`, or what is wrong and what to change."""
    wrong = []
    if diagnostics["rhat_max"] > R_HAT:
        wrong.append(f"chains disagree (R-hat {diagnostics['rhat_max']:.2f} > {R_HAT}): take more warm-up and draws")
    if diagnostics["ess_min"] < ESS:
        wrong.append(f"only {diagnostics['ess_min']:.0f} effective draws (< {ESS:.0f}): take more draws")
    if diagnostics["divergent_share"] > 0.001:
        wrong.append(f"{diagnostics['divergent_share']:.1%} of transitions diverged: parts of the posterior are too "
                     "narrow for the step; write the model without its funnel, or raise target")
    return "; ".join(wrong) or "converged"
