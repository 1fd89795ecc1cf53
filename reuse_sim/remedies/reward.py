"""Training answer heads with the bits of a consistency condition given back.

    loss = length of θ1 + misfit of f1 to the human's labels + misfit of f1 to the human + log Z(f1)

in nats, for A heads side by side, f1 being what the mean of θ1 answers. The length is that of a code of θ1 at
behaviour tolerance τ: KL of its posterior to the prior, and the misfit of draws to the mean's own answers. Misfits are
strength · (MSE/(τ var f) − slack)₊, nothing within the tolerance; Z is the share of all humans that agree with the
head, softly (`chains`). One event, one reference, one tolerance throughout, those of the ledger.

Steps are those of Adam (Kingma & Ba 2015) on whitened parameters at a constant rate, for a falling one exaggerates when
something happens; what is answered with is the mean of the last tenth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.remedies import chains
from reuse_sim.remedies.chains import Condition, Heads
from reuse_sim.remedies.heads import Own, kl_nats, l2_nats, misfit_nats

CLIP = 1000.0
"""Largest norm of one head's gradient, nats."""
WARM = 60
"""Moves of the chains, at heads that stand still, before a reward begins."""


@dataclass(frozen=True)
class Start:
    """Where A heads begin: μ and log ρ of the own networks, whitened `(A, p)`, c `(A,)`, r `(A, h)`."""

    mu: Tensor
    log_rho: Tensor
    c: Tensor
    r: Tensor


@dataclass(frozen=True)
class Rules:
    """What A heads are trained under.

    Attributes:
        low, high: limits of c `(A,)`, held exactly; equal where c is not learned.
        opens: the step `(A,)` from which the human may be used; c and r are 0 before.
        since, until: the steps between which the reward counts, `(A,)`; none where `until` ≤ `since`.
        reads: whether r is learned, `(A,)`.
        l2: whether the price is a weight decay's and not the length of a code, `(A,)`.
        moves: trajectories `(A,)` of each of a head's chains at each step.
        asked: `(A, n)`, the order in which N's answers are shown to the chains; 0 … n−1 but for shuffled rewards.
        target: the labels that heads are to agree with, on the condition's questions and the data's, `(A, n)` each.
        named: whether θ1's draws are held to the labels and not to the mean's answers, `(A,)`: a code of the labels.
    """

    low: Tensor
    high: Tensor
    opens: Tensor
    since: Tensor
    until: Tensor
    reads: Tensor
    l2: Tensor
    moves: Tensor
    asked: Tensor
    target: tuple[Tensor, Tensor]
    named: Tensor

    def __post_init__(self) -> None:
        if bool((self.low > self.high).any()):
            raise InputError("Rules.low", self.low.tolist(), "at most Rules.high")


@dataclass(frozen=True)
class Scene:
    """The actual human and the questions: its net and θ2 `(p2,)`, the condition's questions `(n, d)`, the data's."""

    human: Mlp
    theta_human: Tensor
    condition: Condition
    x_data: Tensor

    def units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The human's answers `(n,)` and its hidden units `(n, h)`."""
        *hidden, out = self.human.layers(self.theta_human, x)
        return out[..., 0], hidden[0] if hidden else x[:, :0]


@dataclass(frozen=True)
class Trained:
    """Heads after training, and their accounts in nats `(A,)`: KL (whatever was paid), misfit of draws and of answers.

    `c_path` `(k, A)` is c at every tenth of training; `acceptance` `(A,)` is the chains' in the end, NaN where there
    were none. `broken` has the
    heads whose loss stopped being finite, and which were left there.
    """

    heads: Start
    kl: Tensor
    coarse: Tensor
    misfit: Tensor
    c_path: Tensor
    acceptance: Tensor
    broken: tuple[int, ...]

    @property
    def loss(self) -> Tensor:
        """All but log Z."""
        return self.kl + self.coarse + self.misfit


def answer(own: Own, heads: Start, scene: Scene, x: Tensor, theta_human: Tensor | None = None) -> Tensor:
    """f1 `(A, n)` with the mean of θ1, with the human's θ2 or another in its place: the swap is this argument."""
    there = scene if theta_human is None else Scene(scene.human, theta_human, scene.condition, scene.x_data)
    said, units = there.units(x)
    return heads.c[:, None] * said + heads.r @ units.T + own.answer(heads.mu, x)


def train(
    own: Own, start: Start, rules: Rules, scene: Scene, generator: torch.Generator, *, steps: int, rate: float,
    population: int = 16, leapfrogs: int = 4, cosine: bool = False,
) -> Trained:
    """Train A heads; those that are ever rewarded have `population` chains each.

    `cosine` lets the rate fall to 0, for codes whose length is what is asked for. Raises InputError where sizes do not
    fit together.
    """
    arms = len(own.wave)
    for name, t in (("Start", start.mu), ("Rules", rules.low)):
        if len(t) != arms:
            raise InputError(f"{name}", f"{len(t)} heads", f"{arms}, as there are own networks")
    if len(scene.x_data) != len(scene.condition.x):
        raise InputError("Scene.x_data", f"{len(scene.x_data)} questions", f"{len(scene.condition.x)}, the condition's")
    if steps < 1 or not rate > 0:
        raise InputError("steps, rate", (steps, rate), "at least one step and a rate above 0")
    condition = scene.condition
    x, target = torch.cat([condition.x, scene.x_data]), torch.cat(rules.target, 1)
    said, units = scene.units(x)
    rewarded = (rules.until > rules.since).nonzero()[:, 0]
    state = chains.init(condition, len(rewarded), population, generator) if len(rewarded) else None
    moves = rules.moves[rewarded]
    begin = int(rules.since[rewarded].min()) if len(rewarded) else steps
    acceptance = torch.full((arms,), torch.nan)

    flat = torch.cat([start.mu, start.log_rho, start.c[:, None], start.r], 1).detach().clone()
    widths = [own.p, own.p, 1, start.r.shape[1]]
    first, second, total = (torch.zeros_like(flat) for _ in range(3))
    alive, path, tail = torch.ones(arms, dtype=torch.bool), [], max(1, steps // 10)
    _hold(rules, 0, flat, own.p)
    for at in range(steps):
        leaf = flat.requires_grad_()
        mu, log_rho, c, r = leaf.split(widths, 1)
        noise = torch.randn(mu.shape, generator=generator) * ~rules.l2[:, None]
        both = own.answer(torch.stack([mu, mu + log_rho.exp() * noise]), x)
        own_c, f = both[0, :, : len(condition.x)], c * said + r @ units.T + both[0]
        error = (f - target).square().unflatten(1, (2, -1)).mean(-1) / condition.unit
        coarse = (both[1] - both[0] + rules.named[:, None] * (f - target)).square().mean(-1, keepdim=True)
        excess = torch.cat([error, coarse / condition.unit], 1) - condition.slack
        price = torch.where(rules.l2, l2_nats(mu), kl_nats(mu, log_rho))
        loss = price + condition.strength * excess.clamp(min=0).sum(1)
        gain: Tensor | float = 0.0
        if state is not None and at >= begin:
            shown = own_c[rewarded].gather(1, rules.asked[rewarded])
            heads = Heads(c.detach()[rewarded, 0], r.detach()[rewarded], shown.detach())
            if at == begin:
                state, _ = chains.step(condition, state, heads, generator, torch.full_like(moves, WARM), leapfrogs)
            state, info = chains.step(condition, state, heads, generator, moves, leapfrogs)
            acceptance[rewarded] = info.acceptance
            on, slopes = (rules.since[rewarded] <= at) & (at < rules.until[rewarded]), info.slopes
            # Linear in the head, with the gradient of log Z: its value is not needed, and not known.
            linear = slopes.c * c[rewarded, 0] + (slopes.r * r[rewarded]).sum(1) + (slopes.own * shown).sum(1)
            gain = (linear * on).sum()
        (slope,) = torch.autograd.grad(loss.sum() + gain, leaf)
        with torch.no_grad():
            norm = slope.norm(dim=1)
            alive &= norm.isfinite() & loss.isfinite()
            slope = torch.where(alive[:, None], slope * (CLIP / (norm + 1e-12)).clamp(max=1)[:, None], 0.0)
            first.lerp_(slope, 0.1)
            second.lerp_(slope.square(), 0.001)
            lean = (1 - 0.999 ** (at + 1)) ** 0.5 / (1 - 0.9 ** (at + 1))
            now = rate * (0.5 * (1 + math.cos(math.pi * at / steps)) if cosine else 1.0)
            flat = flat.detach() - now * lean * alive[:, None] * first / (second.sqrt() + 1e-8)
            _hold(rules, min(at + 1, steps - 1), flat, own.p)
            if at >= steps - tail:
                total += flat
            if (at + 1) % tail == 0:
                path.append(flat[:, 2 * own.p].clone())
    last = Start(*(t.squeeze(1) if k == 2 else t for k, t in enumerate((total / tail).split(widths, 1))))
    return _account(own, last, rules, scene, generator, torch.stack(path), acceptance, alive)


def _hold(rules: Rules, at: int, flat: Tensor, p: int) -> None:
    """Keep c within its limits and at 0 where the human is not open yet, and r at 0 where it is not learned."""
    opened = rules.opens <= at
    flat[:, 2 * p] = torch.where(opened, flat[:, 2 * p].clamp(rules.low, rules.high), 0.0)
    flat[:, 2 * p + 1 :] *= (opened & rules.reads)[:, None]


def _account(
    own: Own, heads: Start, rules: Rules, scene: Scene, generator: torch.Generator, path: Tensor, acceptance: Tensor,
    alive: Tensor, draws: int = 64,
) -> Trained:
    condition, coarse = scene.condition, torch.zeros(len(alive))
    x, target = torch.cat([condition.x, scene.x_data]), torch.cat(rules.target, 1)
    f, mean = answer(own, heads, scene, x), own.answer(heads.mu, x)
    held = torch.where(rules.named[:, None], target - f + mean, mean)

    def misfit(said: Tensor, right: Tensor) -> Tensor:
        return misfit_nats(said, right, condition.unit, condition.strength, condition.slack)

    for _ in range(draws):
        noise = torch.randn(heads.mu.shape, generator=generator) * ~rules.l2[:, None]
        coarse += misfit(own.answer(heads.mu + heads.log_rho.exp() * noise, x), held) / draws
    parts = zip(f.tensor_split(2, 1), rules.target, strict=True)
    apart = torch.stack([misfit(said, right) for said, right in parts]).sum(0)
    broken = tuple((~alive).nonzero()[:, 0].tolist())
    return Trained(heads, kl_nats(heads.mu, heads.log_rho), coarse, apart, path, acceptance, broken)


def flops(own: Own, scene: Scene, rules: Rules, *, steps: int, population: int, leapfrogs: int) -> Tensor:
    """FLOPs of training each head `(A,)`: 6 p for a question of its own network, and as much for one of a chain's.

    A head's chains are counted from when its reward begins to when it ends.
    """
    rewarded = (rules.until - rules.since).clamp(min=0)
    asked = (WARM * (rewarded > 0) + rewarded * rules.moves) * (leapfrogs + 1) + rewarded
    learning = 6.0 * own.p * steps * (len(scene.x_data) + len(scene.condition.x))
    return learning + 6.0 * scene.human.p * len(scene.condition.x) * population * asked
