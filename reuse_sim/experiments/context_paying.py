"""The stages of a population's outers that are paid for specialness: training, figures, and what was given back.

Each is a function of what came before, its configuration and the seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reuse_sim import specialness
from reuse_sim.artifacts import Stored
from reuse_sim.experiments.interview import Interview, whose
from reuse_sim.experiments.scene import Scene
from reuse_sim.inheritance import figures
from reuse_sim.remedies import chains, shown, swap
from reuse_sim.remedies.adam import CLIP
from reuse_sim.remedies.heads import bits, misfit_nats
from reuse_sim.remedies.reward import WARM
from reuse_sim.remedies.shown import Condition, Heads
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import DiagonalNormal, Problem, symmetry
from reuse_sim.train import descend
from reuse_sim.types import BITS, Access, Estimate, Leaked, Schedule

STRENGTH = 64.0
"""Nats per tolerance of error beyond the tolerance."""
SLACK_OF_TOLERANCE = 1.1
"""The tolerance, as a multiple of the training humans' own error."""
FRESH = 256
"""Humans from the prior that a trained outer is shown, to see whether it agrees with them."""
TEACHERS, OF_F = 2, 4
"""Teachers whose specialness stands for that of all, and how much more effort it gets than that of a head."""


def access(theta_human: Tensor, sees: Tensor) -> Access:
    """All bits of humans θ2 `(A, H, p2)` where an arm `sees` `(A,)` them, none elsewhere."""
    known = sees.to(theta_human.dtype)[:, None, None].expand_as(theta_human)
    return Access(Leaked(theta_human * known, known, torch.zeros_like(known)))


class Place:
    """One world's population at work: who is trained on, the condition's questions, the tolerance."""

    def __init__(self, people: Stored, config: Mapping[str, Any], seed: int) -> None:
        self.scene = Scene(config, people, seed)
        self.world, self.net, self.outer = self.scene.world, self.scene.net, config["outer"].build()
        self.theta_2, self.theta_1 = (people.tensors[f"theta_{who}"][0, self.scene.training]
                                      for who in ("human", "teacher"))  # fmt: skip
        self.x = self.world.on_distribution(self.theta_1[:1], config["asked"], [stream(seed, "ask/condition")])[0]
        self.f = self.world.answer(self.theta_1, self.x.expand(len(self.theta_1), *self.x.shape))
        self.h = self.world.human_answer(self.net, self.theta_2, self.x)
        self.unit = SLACK_OF_TOLERANCE * float((self.h - self.f).square().mean())

    @property
    def constant(self) -> float:
        """How many tolerances a constant answer misses a human by, on average."""
        return float(self.h.var(-1, correction=0).mean()) / self.unit

    def misfit(self, said: Tensor, right: Tensor) -> Tensor:
        """Nats, answers `(…, n)` -> `(…)`."""
        return misfit_nats(said, right, self.unit, STRENGTH)

    def say(self, phi: Tensor, x: Tensor, theta_human: Tensor, sees: Tensor) -> tuple[Tensor, ...]:
        """Answers, and predicted human answers, `(A, H, n)` to x `(H or 1, n, d)` about humans θ2 `(A, H, p2)`."""
        return self.outer.answer(self.world, self.net, phi, x[None], access(theta_human, sees))

    def condition(self, sees: bool = True) -> Condition:
        """Agreement of humans with what an outer answers that is shown them, or nothing in their place."""

        def answer(phi: Tensor, theta: Tensor) -> Tensor:
            return self.say(phi, self.x[None], theta, torch.tensor([sees]).expand(len(phi)))[0]

        return Condition(self.net, lambda theta: self.world.human_answer(self.net, theta, self.x), answer, self.unit,
                         STRENGTH)  # fmt: skip

    def alone(self, answers: Tensor) -> Condition:
        """Agreement with answers `(n,)` that are the same whoever is shown."""
        return Condition(self.net, self.condition().human, lambda _, theta: answers.expand(*theta.shape[:2], -1),
                         self.unit, STRENGTH)  # fmt: skip

    def in_order(self, phi: Tensor) -> Heads:
        return Heads(phi, torch.arange(len(self.x)).expand(len(phi), -1))


def train_outers(
    people: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The outers of all arms, side by side, at a constant rate; an arm's is its mean over the last tenth of training.

    The loss in nats, averaged over the humans asked about: misfit to the labels on the condition's questions and on
    fresh ones, the error of the predicted human answers relative to the tolerance on all questions, and log Z. Where an
    arm says so, U of the humans asked about as well: theirs is what is given back where they meet the condition.
    """
    place, names, arms = Place(people, config, seed), [*config["arms"]], [*config["arms"].values()]
    world, steps, n, tail = place.world, config["steps"], config["batch"], max(1, config["steps"] // 10)
    sees = torch.tensor([a["sees"] == "human" for a in arms])
    by_human = torch.tensor([a["labels"] == "human" for a in arms])[:, None, None]
    meets = torch.tensor([float(a["meets"]) for a in arms])[:, None]
    paid = torch.tensor([i for i, a in enumerate(arms) if a["reward"] != "none"], dtype=torch.long)
    since = torch.tensor([round(arms[i]["since"] * steps) for i in paid])
    often = torch.tensor([arms[i]["moves"] for i in paid])
    wrong = torch.randperm(len(place.x), generator=stream(seed, "shuffled"))
    asked = torch.stack([wrong if a["reward"] == "shuffled" else torch.arange(len(place.x)) for a in arms])
    condition, questions, moving = place.condition(), stream(seed, "outer/questions"), stream(seed, "chains")
    state = shown.init(condition, len(paid), config["chains"], moving) if len(paid) else None
    acceptance, energy = (torch.full((len(arms),), torch.nan) for _ in range(2))
    total = torch.zeros(())

    def log_z(phi: Tensor, step: int) -> Tensor:
        """∇ log Z of the arms that are paid by now, as of a loss `(A,)`."""
        nonlocal state
        none = torch.zeros(len(arms))
        moves = torch.where(since > step, 0, torch.where(since == step, WARM, often))
        if state is None or not moves.any():
            return none
        heads = Heads(phi[paid], asked[paid])
        state, acceptance[paid] = shown.step(condition, state, heads, moving, moves, config["leapfrogs"])
        now = moves.nonzero()[:, 0]
        part = chains.State(state.z[:, now], state.size[now])
        if step == steps - 1:
            energy[paid[now]] = condition.energy(part.z, heads.take(now)).detach().mean(-1)
        return none.index_add(0, paid[now], shown.log_z(condition, part, heads.take(now)))

    def loss(phi: Tensor, step: int) -> Tensor:
        nonlocal total
        chosen = torch.randperm(len(place.theta_2), generator=questions)[: config["humans_per_step"]]
        theta_1, theta_2, same = place.theta_1[chosen], place.theta_2[chosen], [questions] * len(chosen)
        parts = [place.x.expand(len(chosen), *place.x.shape), world.on_distribution(theta_1, n, same),
                 world.off_distribution(theta_1, n, same)]  # fmt: skip
        x = torch.cat(parts, 1)
        human = world.human_answer(place.net, theta_2, x)
        right = torch.where(by_human, human, world.answer(theta_1, x))
        answer, predicted = place.say(phi, x, theta_2.expand(len(arms), -1, -1), sees)
        cut = [part.shape[1] for part in parts]
        named, data, _ = map(place.misfit, answer.split(cut, -1), right.split(cut, -1))
        own_energy = place.misfit(answer[..., : cut[0]], human[..., : cut[0]])
        behaviour = STRENGTH * (predicted - human).square().mean(-1) / place.unit
        if step >= steps - tail:
            total = total + phi.detach() / tail
        return (named + data + behaviour + meets * own_energy).mean(1) + log_z(phi, step)

    begin = place.outer.init(place.net, streams(seed, ["outer/init"] * len(arms)))
    fit = descend(loss, begin, steps=steps, rate=config["rate"], schedule="constant", clip=CLIP)
    values = {"broken": {names[i]: why for i, why in fit.broken.items()},
              "chains": {name: {"choice/acceptance": _finite(a), "choice/chain_nats": _finite(u)}
                         for name, a, u in zip(names, acceptance, energy, strict=True)}}  # fmt: skip
    kept = torch.where(total.isfinite().all(-1, keepdim=True), total, fit.theta)
    return dict(zip(names, kept, strict=True)), values


def measure_outers(
    people: Stored, outers: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Every arm's figures: on humans that no outer was trained on, and, of the condition, on those trained on."""
    place, out = Place(people, config, seed), {}
    scene, world = place.scene, place.world
    on, off = scene.society("on"), scene.society("off")
    fresh = place.net.init([stream(seed, "fresh")] * FRESH)
    z = (fresh / place.net.prior_sd()).T.unsqueeze(1)
    for name, arm in config["arms"].items():
        sees, phi = arm["sees"] == "human", outers.tensors[name][None]
        asked = Interview(scene, seed, place.outer, phi, _told(place.net.p, sees), config["steps"], None,
                          whose("own", scene, seed))  # fmt: skip
        swaps, (predicted, *_) = asked.swaps()
        answer_on = asked.ask(asked.own, "on")[0]
        metrics, parts = figures.of_outer(off, swaps, predicted, answer_on, on.teacher, world.tolerance, world.kind)
        condition = place.condition(sees)
        said = condition.answer(phi, fresh[None])[0]
        trained = condition.answer(phi, place.theta_2[None])[0]
        metrics |= figures.numbers({
            "choice/swap_residual": swap.residual(swaps.answer.flatten(), swaps.siblings.flatten(1),
                                                  off.human.flatten(), off.siblings.flatten(1)),
            "choice/own_share": said.mean(0).var(correction=0) / said.var(-1, correction=0).mean().clamp(min=1e-12),
            "choice/agrees_fresh": (condition.energy(z, place.in_order(phi)) == 0).float().mean(),
            "choice/agrees_trained": (place.misfit(trained, place.h) == 0).float().mean(),
            "choice/misfit_bits": bits(place.misfit(trained, place.h if arm["labels"] == "human" else place.f)).mean(),
        })  # fmt: skip
        out[name] = {"metrics": metrics | outers.values["chains"][name], "parts": parts}
    return {}, out


def account(
    people: Stored, outers: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is given back to each trained head and to f itself, and what copies and picked f cost, by whose labels.

    All empty where no effort is to be made.
    """
    place, effort = Place(people, config, seed), config["effort"]
    if not effort:
        return {}, {"given": {}, "ledger": {}, "statuses": {}}
    given = {
        name: given_back(place, place.condition(arm["sees"] == "human"), outers.tensors[name][None], effort,
                         stream(seed, f"given/{name}"))
        for name, arm in config["arms"].items()
    }  # fmt: skip
    kinds = place.theta_1.unique(dim=0)
    firsts = sorted(int((place.theta_1 == kind).all(1).nonzero()[0]) for kind in kinds)[:TEACHERS]
    of_f = [given_back(place, place.alone(place.f[k]), torch.zeros(1, 1), OF_F * effort, stream(seed, f"given/f/{k}"))
            for k in firsts]  # fmt: skip
    special = sum(s.bits for s in of_f) / len(of_f)
    error = sum(s.diagnostics["error_bits"] for s in of_f) / len(of_f)
    errs = float(bits(place.misfit(place.h, place.f)).mean())
    ledger = {}
    for labels, copy, own in (("teacher", errs, 0.0), ("human", 0.0, errs)):
        intended = own + math.log2(len(kinds)) - special
        ledger[labels] = {"specialness/bits": special, "specialness/error_bits": error, "ledger/copy_bits": copy,
                          "ledger/intended_bits": intended, "ledger/difference_bits": copy - intended}  # fmt: skip
    back = {name: {"specialness/given_back_bits": s.bits, "specialness/given_back_error_bits":
                   s.diagnostics["error_bits"]} for name, s in given.items()}  # fmt: skip
    statuses = {**{name: s.status for name, s in given.items()}, "f": "; ".join(s.status for s in of_f)}
    return {}, {"given": back, "ledger": ledger, "statuses": statuses}


def given_back(
    place: Place, condition: Condition, phi: Tensor, effort: float, generator: torch.Generator
) -> Estimate:
    """−log₂ Z of one head φ `(1, q)`, by sequential Monte Carlo."""
    net, sd, heads = place.net, place.net.prior_sd().double(), place.in_order(phi)

    def gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = condition.slopes((theta / sd).float().T.unsqueeze(1), heads)
        return value[0].double() / STRENGTH, slope[:, 0].T.double() / sd / STRENGTH

    def cost(theta: Tensor) -> Tensor:
        with torch.no_grad():
            return condition.energy((theta / sd).float().T.unsqueeze(1), heads)[0].double() / STRENGTH

    words = f"excess of the mean of (H - f1)²/{place.unit:.3g} over 1, on {len(place.x)} questions, f1 shown H"
    prior = DiagonalNormal(sd, "initialisation prior")
    problem = Problem(
        net.p, prior, cost, 0.0, words, STRENGTH, gradient=gradient, symmetry=symmetry.of_net(net),
        probe=lambda theta: condition.human(theta.float()).double(),
    )  # fmt: skip
    return specialness.estimate(problem, "smc", effort, generator=generator)


def _told(p: int, sees: bool) -> Schedule:
    when = torch.full((p, BITS), 0.0 if sees else torch.inf, dtype=torch.float64)
    return Schedule(when, torch.zeros(p, BITS, dtype=torch.bool))


def _finite(value: Tensor) -> float | None:
    return float(value) if bool(value.isfinite()) else None
