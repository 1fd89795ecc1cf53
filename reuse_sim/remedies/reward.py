"""Training answer heads with the bits of a consistency condition given back.

    loss = length of θ1 + misfit of f1 to the human's labels + misfit of f1 to the human + log Z(f1)

in nats, for A heads side by side, f1 being what the mean of θ1 answers. The length is that of a code of θ1 at
behaviour tolerance τ: KL of its posterior to the prior, and the misfit of draws to the mean's own answers. Misfits are
strength · (MSE/(τ var f) − slack)₊, nothing within the tolerance; Z is the share of all humans that agree with the
head, softly (`chains`). One event, one reference, one tolerance throughout, those of the ledger.

The human in a head's slot is the actual one, or is learned beside the head and paid for too (`slots`): then the third
term is the misfit to the one in the slot. Bits can be given back for that alone: −log Z is at most that misfit and the
slot's KL, whatever the head, whereas a slot that only the labels held could be bent until it cancels any N.

Steps are Adam's on whitened parameters at a constant rate, for a falling one exaggerates when something happens; what
is answered with is the mean of the last tenth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.remedies import adam, chains
from reuse_sim.remedies import slots as places
from reuse_sim.remedies.chains import Condition, Heads
from reuse_sim.remedies.heads import Own, kl_nats, l2_nats, misfit_nats
from reuse_sim.remedies.slots import Behaviour, Length, Slots
from reuse_sim.rng import children

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
        target: the labels that heads are to agree with, on the condition's questions and the data's, `(A, n)` each; on
            the condition's a head with a learned slot is to agree with that instead.
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
    """The actual human and the questions: its net and θ2 `(p2,)`, the condition's questions `(n, d)`, the data's.

    `x_behaviour` `(S, m, d)` are sets of questions that learned slots see it answer.
    """

    human: Mlp
    theta_human: Tensor
    condition: Condition
    x_data: Tensor
    x_behaviour: Tensor | None = None

    @property
    def x(self) -> Tensor:
        """What heads are asked in training: the condition's questions, then the data's."""
        return torch.cat([self.condition.x, self.x_data])

    def units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The human's answers `(n,)` and its hidden units `(n, h)`."""
        return places.speak(self.human, self.theta_human, x)

    def behaviour(self) -> Behaviour:
        if self.x_behaviour is None:
            raise InputError("Scene.x_behaviour", None, "questions that slots which are learned see answered")
        said = self.human.forward(self.theta_human, self.x_behaviour)[..., 0]
        return Behaviour(self.condition, self.x_behaviour, said)


@dataclass(frozen=True)
class Trained:
    """Heads after training, and their accounts in nats `(A,)`: KL (whatever was paid), misfit of draws and of answers.

    `c_path` `(k, A)` is c at every tenth of training, and so `mu_path` and, where slots are learned, `nu_path`;
    `acceptance` `(A,)` is the chains' in the end, NaN where there were none. `broken` has the heads whose loss stopped
    being finite, and which were left there. `slots` and what they cost are None where all are given.
    """

    heads: Start
    kl: Tensor
    coarse: Tensor
    misfit: Tensor
    c_path: Tensor
    acceptance: Tensor
    broken: tuple[int, ...]
    mu_path: Tensor
    nu_path: Tensor | None = None
    slots: Slots | None = None
    slot_length: Length | None = None

    @property
    def loss(self) -> Tensor:
        """All but log Z, and but what slots cost."""
        return self.kl + self.coarse + self.misfit


def answer(own: Own, heads: Start, scene: Scene, x: Tensor, theta_human: Tensor | None = None) -> Tensor:
    """f1 `(A, n)` with the mean of θ1, with the human's θ2 or others in its place, `(p2,)` or one each `(A, p2)`.

    Learned slots and swaps are this argument.
    """
    said, units = places.speak(scene.human, scene.theta_human if theta_human is None else theta_human, x)
    return _used(heads, said, units) + own.answer(heads.mu, x)


def _used(heads: Start, said: Tensor, units: Tensor) -> Tensor:
    """c H + r·h `(A, n)`, of one human for all, `(n,)` and `(n, h)`, or of one each."""
    read = heads.r @ units.T if units.ndim == 2 else (units @ heads.r.unsqueeze(-1)).squeeze(-1)
    return heads.c[:, None] * said + read


def nats(
    own: Own, heads: Start, said: Tensor, units: Tensor, target: Tensor, rules: Rules, scene: Scene, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """What heads pay but for log Z, `(A,)`, at one draw of θ1 each, and N's answers to the condition's questions.

    `said` and `units` are what they read of humans at `scene.x`, `target` `(A, 2 n)` what they are to agree with there.
    """
    condition = scene.condition
    both = own.answer(torch.stack([heads.mu, heads.mu + heads.log_rho.exp() * noise]), scene.x)
    own_c, f = both[0, :, : len(condition.x)], _used(heads, said, units) + both[0]
    error = (f - target).square().unflatten(1, (2, -1)).mean(-1) / condition.unit
    coarse = (both[1] - both[0] + rules.named[:, None] * (f - target)).square().mean(-1, keepdim=True)
    excess = torch.cat([error, coarse / condition.unit], 1) - condition.slack
    price = torch.where(rules.l2, l2_nats(heads.mu), kl_nats(heads.mu, heads.log_rho))
    return price + condition.strength * excess.clamp(min=0).sum(1), own_c


def train(
    own: Own, start: Start, rules: Rules, scene: Scene, generator: torch.Generator, *, steps: int, rate: float,
    population: int = 16, leapfrogs: int = 4, cosine: bool = False, slots: Slots | None = None,
) -> Trained:
    """Train A heads, those ever rewarded with `population` chains each; without `slots` all are given the human.

    `cosine` lets the rate fall to 0, for codes whose length is asked for. Raises InputError where sizes do not fit.
    """
    arms = len(own.wave)
    for name, t in (("Start", start.mu), ("Rules", rules.low), *([("Slots", slots.nu)] if slots is not None else [])):
        if len(t) != arms:
            raise InputError(f"{name}", f"{len(t)} heads", f"{arms}, as there are own networks")
    if len(scene.x_data) != len(scene.condition.x):
        raise InputError("Scene.x_data", f"{len(scene.x_data)} questions", f"{len(scene.condition.x)}, the condition's")
    if steps < 1 or not rate > 0:
        raise InputError("steps, rate", (steps, rate), "at least one step and a rate above 0")
    condition, x, labels = scene.condition, scene.x, torch.cat(rules.target, 1)
    said, units = scene.units(x)
    rewarded = (rules.until > rules.since).nonzero()[:, 0]
    state = chains.init(condition, len(rewarded), population, generator) if len(rewarded) else None
    moves = rules.moves[rewarded]
    begin = int(rules.since[rewarded].min()) if len(rewarded) else steps
    acceptance = torch.full((arms,), torch.nan)

    parts, seen, further = [start.mu, start.log_rho, start.c[:, None], start.r], None, generator
    slots = slots if slots is not None and bool(slots.learned.any()) else None
    if slots is not None:
        # Slots draw from a generator of their own: whatever heads draw, they learn the same from behaviour.
        parts, seen, further = [*parts, slots.nu, slots.log_sigma], scene.behaviour(), children([generator], 1)[0]
    widths = [t.shape[1] for t in parts]
    blocks = [sum(some) for some in (widths[:4], widths[4:]) if some]
    flat = torch.cat(parts, 1).detach().clone()
    moments, total = adam.init(flat), torch.zeros_like(flat)
    alive, path, tail = torch.ones(arms, dtype=torch.bool), [], max(1, steps // 10)
    _hold(rules, 0, flat, widths)
    for at in range(steps):
        leaf = flat.requires_grad_()
        mu, log_rho, c, r, *slot = leaf.split(widths, 1)
        noise = torch.randn(mu.shape, generator=generator) * ~rules.l2[:, None]
        read, target, model = (said, units), labels, torch.zeros(arms)
        if slots is not None and seen is not None:
            here = slots.at(*slot)
            read = places.read(here, scene.human, x, said, units)
            target = _target(rules, slots, read[0])
            model = places.length(here, seen, torch.randn(here.nu.shape, generator=further)).total
        loss, own_c = nats(own, Start(mu, log_rho, c[:, 0], r), *read, target, rules, scene, noise)
        loss = loss + model
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
            alive &= slope.norm(dim=1).isfinite() & loss.isfinite()
            slope = torch.cat([adam.clip(block) for block in slope.split(blocks, 1)], 1)
            moments, flat = adam.step(moments, flat, slope, adam.rate_at(rate, at, steps, cosine), alive)
            _hold(rules, min(at + 1, steps - 1), flat, widths)
            if at >= steps - tail:
                total += flat
            if (at + 1) % tail == 0:
                path.append(flat.clone())
    mu, log_rho, c, r, *slot = (total / tail).split(widths, 1)
    heads = Start(mu, log_rho, c[:, 0], r)
    mu_path, _, c_path, _, *slot_path = torch.stack(path).split(widths, 2)
    where = None if slots is None else slots.at(*slot)
    coarse, misfit = _account(own, heads, rules, scene, generator, where)
    return Trained(
        heads, kl_nats(heads.mu, heads.log_rho), coarse, misfit, c_path[..., 0], acceptance,
        tuple((~alive).nonzero()[:, 0].tolist()), mu_path, slot_path[0] if slot_path else None, where,
        None if where is None else places.account(where, scene.behaviour(), further),
    )  # fmt: skip


def _hold(rules: Rules, at: int, flat: Tensor, widths: Sequence[int]) -> None:
    """Keep c within its limits and at 0 where the human is not open yet, and r at 0 where it is not learned."""
    opened, (c, r) = rules.opens <= at, flat.split(widths, 1)[2:4]
    c[:, 0] = torch.where(opened, c[:, 0].clamp(rules.low, rules.high), 0.0)
    r *= (opened & rules.reads)[:, None]

def _target(rules: Rules, slots: Slots, said: Tensor) -> Tensor:
    """`(A, 2 n)` where some slots are learned, with their answers `said` to all questions."""
    on, data = rules.target
    return torch.cat([torch.where(slots.learned[:, None], said[:, : on.shape[1]], on), data], 1)


def _account(
    own: Own, heads: Start, rules: Rules, scene: Scene, generator: torch.Generator, slots: Slots | None,
    draws: int = 64,
) -> tuple[Tensor, Tensor]:
    """Misfit of draws, and of answers, nats `(A,)`."""
    condition, x, coarse = scene.condition, scene.x, torch.zeros(len(heads.mu))
    theta, target = scene.theta_human, torch.cat(rules.target, 1)
    if slots is not None:
        theta = slots.theta(scene.human)
        target = _target(rules, slots, places.speak(scene.human, theta, x)[0])
    f, mean = answer(own, heads, scene, x, theta), own.answer(heads.mu, x)
    held = torch.where(rules.named[:, None], target - f + mean, mean)

    def misfit(said: Tensor, right: Tensor) -> Tensor:
        return misfit_nats(said, right, condition.unit, condition.strength, condition.slack)

    for _ in range(draws):
        noise = torch.randn(heads.mu.shape, generator=generator) * ~rules.l2[:, None]
        coarse += misfit(own.answer(heads.mu + heads.log_rho.exp() * noise, x), held) / draws
    parts = zip(f.tensor_split(2, 1), target.tensor_split(2, 1), strict=True)
    return coarse, torch.stack([misfit(said, right) for said, right in parts]).sum(0)


def flops(
    own: Own, scene: Scene, rules: Rules, *, steps: int, population: int, leapfrogs: int, slots: Slots | None = None
) -> Tensor:
    """FLOPs of training each head `(A,)`: 6 p for a question of its own network, and as much for one of a chain's.

    A head's chains are counted from when its reward begins to when it ends. A learned slot costs as much again for a
    question that it sees answered, and for one that its head is asked.
    """
    rewarded = (rules.until - rules.since).clamp(min=0)
    asked = (WARM * (rewarded > 0) + rewarded * rules.moves) * (leapfrogs + 1) + rewarded
    asked = len(scene.condition.x) * population * asked
    if slots is not None and scene.x_behaviour is not None:
        asked = asked + slots.learned * steps * (len(scene.x) + scene.x_behaviour[..., 0].numel())
    return 6.0 * own.p * steps * len(scene.x) + 6.0 * scene.human.p * asked
