"""The place of the human in an answer head: given, or learned from what the human does.

A given slot is the human's own θ2, held, and costs nothing. A learned one is N(ν, diag σ²), whitened by the
initialisation prior, and is paid for as an own network is, in nats and at the same tolerance:

    length = KL of the posterior + misfit of its mean's answers to the human's, set by set
             + misfit of draws to the mean's own answers

over questions of both distributions that the human was seen to answer. Heads answer with the mean; where a slot is
`joint`, what their answers miss bends it too. Everything is stacked over A heads that nothing couples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.remedies import adam
from reuse_sim.remedies.chains import Condition
from reuse_sim.remedies.heads import kl_nats


@dataclass(frozen=True)
class Slots:
    """ν and log σ, whitened `(A, p2)`; whether a slot is learned, and whether answers bend it, `(A,)`."""

    nu: Tensor
    log_sigma: Tensor
    learned: Tensor
    joint: Tensor

    def __post_init__(self) -> None:
        if self.nu.ndim != 2 or self.nu.shape != self.log_sigma.shape:
            raise InputError("Slots", f"ν {tuple(self.nu.shape)}, log σ {tuple(self.log_sigma.shape)}", "(A, p2) twice")

    def theta(self, net: Mlp) -> Tensor:
        """The θ2 `(A, p2)` that heads answer with."""
        return self.nu * net.prior_sd(self.nu.dtype)

    def at(self, nu: Tensor, log_sigma: Tensor) -> Slots:
        """The same slots with learned ones elsewhere."""
        learned = self.learned[:, None]
        nu, log_sigma = torch.where(learned, nu, self.nu), torch.where(learned, log_sigma, self.log_sigma)
        return Slots(nu, log_sigma, self.learned, self.joint)


@dataclass(frozen=True)
class Behaviour:
    """What was seen of the human: its answers y `(S, n)` to S sets of questions x `(S, n, d)`.

    Architecture, unit, strength and slack are those of `condition`.
    """

    condition: Condition
    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        d = self.condition.net.sizes[0]
        if self.x.ndim != 3 or self.x.shape[2] != d or self.y.shape != self.x.shape[:2]:
            got = f"questions {tuple(self.x.shape)}, answers {tuple(self.y.shape)}"
            raise InputError("Behaviour", got, f"(S, n, {d}) and (S, n)")


@dataclass(frozen=True)
class Length:
    """Nats `(A,)`: KL, misfit of draws, misfit of the mean's answers; 0 for a given slot."""

    kl: Tensor
    coarse: Tensor
    misfit: Tensor

    @property
    def total(self) -> Tensor:
        return self.kl + self.coarse + self.misfit


def speak(net: Mlp, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Answers `(…, n)` and hidden units `(…, n, h)` (h = 0 where there are none) of θ2 `(…, p2)` to x `(n, d)`."""
    *hidden, out = net.layers(theta, x)
    return out[..., 0], hidden[0] if hidden else x[:, :0].expand(*theta.shape[:-1], len(x), 0)


def read(slots: Slots, net: Mlp, x: Tensor, said: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """What heads read at x `(n, d)`, answers `(A, n)` and units `(A, n, h)`; `said` and `units` are the human's own.

    No gradient passes into a slot that is given, or not `joint`.
    """
    nu = torch.where(slots.joint[:, None], slots.nu, slots.nu.detach())
    theirs, read = speak(net, slots.at(nu, slots.log_sigma).theta(net), x)
    return (torch.where(slots.learned[:, None], theirs, said),
            torch.where(slots.learned[:, None, None], read, units))  # fmt: skip


def length(slots: Slots, seen: Behaviour, noise: Tensor) -> Length:
    """With one draw each, at standard normal `noise` `(A, p2)`."""
    at, nu, sets = seen.condition, slots.nu, len(seen.x)
    draws = torch.stack([nu, nu + slots.log_sigma.exp() * noise]) * at.net.prior_sd(nu.dtype)
    mean, drawn = at.net.forward(draws, seen.x.flatten(0, 1))[..., 0]
    coarse = (drawn - mean).square().mean(-1) / at.unit
    apart = (mean.unflatten(-1, (sets, -1)) - seen.y).square().mean(-1) / at.unit
    over, beside = ((at.strength * (t - at.slack).clamp(min=0)) for t in (coarse, apart))
    return Length(*(torch.where(slots.learned, t, 0.0) for t in (kl_nats(nu, slots.log_sigma), over, beside.sum(-1))))


def account(slots: Slots, seen: Behaviour, generator: torch.Generator, draws: int = 64) -> Length:
    """What the slots come to, the misfit of draws averaged over some."""
    noise = torch.randn(draws, *slots.nu.shape, generator=generator, dtype=slots.nu.dtype)
    found = [length(slots, seen, e) for e in noise]
    return Length(found[0].kl, torch.stack([f.coarse for f in found]).mean(0), found[0].misfit)


def learn(
    slots: Slots, seen: Behaviour, generator: torch.Generator, *, steps: int, rate: float, cosine: bool = False
) -> Slots:
    """The slots after training from behaviour alone: the mean of the last tenth. Given ones stay."""
    if steps < 1 or not rate > 0:
        raise InputError("steps, rate", (steps, rate), "at least one step and a rate above 0")
    now, tail = torch.cat([slots.nu, slots.log_sigma], 1).detach().clone(), max(1, steps // 10)
    state, total, alive = adam.init(now), torch.zeros_like(now), torch.ones(len(now), dtype=torch.bool)
    for at in range(steps):
        leaf = now.requires_grad_()
        here = slots.at(*leaf.chunk(2, 1))
        loss = length(here, seen, torch.randn(here.nu.shape, generator=generator, dtype=leaf.dtype)).total
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
        with torch.no_grad():
            alive &= slope.norm(dim=1).isfinite() & loss.isfinite()
            state, now = adam.step(state, now, adam.clip(slope), adam.rate_at(rate, at, steps, cosine), alive)
            if at >= steps - tail:
                total += now
    return slots.at(*(total / tail).chunk(2, 1))
