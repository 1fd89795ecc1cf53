"""The last stages of one world whose answer heads are paid for specialness: the human is watched, heads are trained.

All arms train side by side. Where the slot is learned, the human is seen to answer questions of both distributions; a
warm slot has learned from these before its head answers anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reuse_sim.artifacts import Stored
from reuse_sim.experiments.paying import SURE, Place, fresh, own_networks, unpaid
from reuse_sim.remedies import reward, swap
from reuse_sim.remedies import slots as places
from reuse_sim.remedies.heads import Own, bits
from reuse_sim.remedies.reward import Rules, Scene, Start, Trained
from reuse_sim.remedies.slots import Slots
from reuse_sim.rng import stream

FREE = 3.0
"""How far c may go where nothing holds it within 0 and 1."""
KNOWN = 0.8
"""R² from which a slot is said to know the human, off-distribution, and an own network f, on-distribution."""


def watch(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What the human is seen to be asked, `(2, n, d)` on and off, and where each of the `slots` begins: ν and log σ."""
    place, n = Place(people, config), config["behaviour"]
    draws = {"on": place.world.on_distribution, "off": place.world.off_distribution}
    x = torch.stack([d(place.theta_1, n, [stream(seed, f"behaviour/{k}")])[0] for k, d in draws.items()])
    nu, yes = torch.randn(1, place.net.p, generator=stream(seed, "slot/init")), torch.ones(1, dtype=torch.bool)
    begin = {"learned": Slots(nu, torch.full_like(nu, math.log(SURE)), yes, yes)}
    if "warm" in config["slots"]:
        seen = replace(place.scene, x_behaviour=x).behaviour()
        begin["warm"] = places.learn(begin["learned"], seen, stream(seed, "slot"), steps=config["slot_steps"],
                                     rate=config["rate"])  # fmt: skip
    begin["given"] = replace(begin["learned"], nu=place.theta_2[None] / place.net.prior_sd())
    kept = {f"{name}_{part}": getattr(at, part)[0] for name, at in begin.items() for part in ("nu", "log_sigma")}
    return {"x": x, **kept}, {}


def train_heads(
    people: Stored, ledger: Stored, watched: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All arms, stacked."""
    place, names, arms = Place(people, config), [*config["arms"]], [*config["arms"].values()]
    scene = replace(place.scene, x_behaviour=watched.tensors["x"])
    own, slots = own_networks(place, config, len(arms)), _slots(arms, watched)
    rules, start = _rules(arms, place, config["steps"], seed), _start(own, arms, ledger, place, seed)
    how = {k: config[k] for k in ("steps", "population", "leapfrogs")}
    done = reward.train(own, start, rules, scene, stream(seed, "heads"), rate=config["rate"], slots=slots, **how)
    found = _figures(own, done, place) | _of_slots(done, place) | {
        "slot/human_first": _first(own, start, slots, done, place),
        "train_flops": reward.flops(own, scene, rules, slots=slots, **how) + _warming(arms, scene, config),
    }  # fmt: skip
    values = {
        "arms": {name: {k: _finite(v[i]) for k, v in found.items()} for i, name in enumerate(names)},
        "c_path": {name: [round(float(c), 3) for c in done.c_path[:, i]] for i, name in enumerate(names)},
        "broken": [names[i] for i in done.broken],
    }
    tensors = {"mu": done.heads.mu, "log_rho": done.heads.log_rho, "c": done.heads.c, "r": done.heads.r}
    if done.slots is not None:
        tensors |= {"nu": done.slots.nu, "log_sigma": done.slots.log_sigma}
    return tensors, values


def _figures(own: Own, done: Trained, place: Place) -> dict[str, Tensor]:
    """The metrics of A trained heads, `(A,)` each. What a swap changes is told against the human in the slot."""
    f, h = place.f("off"), place.h("off")
    theta = None if done.slots is None else done.slots.theta(place.net)
    m, on = (reward.answer(own, done.heads, place.scene, place.x[k], theta) for k in ("off", "on"))

    def swapped(others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (torch.stack([reward.answer(own, done.heads, place.scene, place.x["off"], o) for o in others]),
                h if theta is None else place.h("off", theta), place.h("off", others))  # fmt: skip

    private, total = swapped(place.siblings), swapped(place.repaired[None])
    sd = f.std(correction=0)
    alone = own.answer(done.heads.mu, place.x["on"])
    theirs = (on - alone).var(-1)
    return {
        "choice/own_share": alone.var(-1) / (alone.var(-1) + theirs),
        "inheritance/causal_private": swap.causal(m, *private),
        "inheritance/causal_total": swap.causal(m, *total),
        "inheritance/gap_recovered": 1 - (m - f).square().mean(-1) / (h - f).square().mean(),
        "choice/share_of_human": done.heads.c,
        "choice/swap_residual": swap.residual(m, *private),
        "choice/distance_human": (m - h).square().mean(-1).sqrt() / sd,
        "choice/distance_teacher": (m - f).square().mean(-1).sqrt() / sd,
        "choice/price_bits": bits(done.kl),
        "choice/misfit_bits": bits(done.misfit),
        "choice/acceptance": done.acceptance,
        "outer/on_fit": 1 - (on - place.f("on")).square().mean(-1) / place.f("on").var(correction=0),
        "outer/off_fit": 1 - (m - f).square().mean(-1) / f.var(correction=0),
    }


def _of_slots(done: Trained, place: Place) -> dict[str, Tensor]:
    """How well slots know the human off-distribution, and what they cost."""
    if done.slots is None or done.slot_length is None:
        nothing = torch.zeros(len(done.kl))
        return {"outer/context_recovery": nothing + 1, "slot/bits": nothing, "slot/misfit_bits": nothing}
    known, cost = _r_squared(place.h("off", done.slots.theta(place.net)), place.h("off")), done.slot_length
    missed = bits(cost.misfit + cost.coarse)
    return {"outer/context_recovery": known, "slot/bits": bits(cost.kl), "slot/misfit_bits": missed}


def _first(own: Own, start: Start, slots: Slots, done: Trained, place: Place) -> Tensor:
    """1 where the slot knows the human at an earlier tenth of training than N knows f, 0 where later, ½ in the same."""
    path = torch.cat([start.mu[None], done.mu_path])
    f_known = _r_squared(own.answer(path, place.x["on"]), place.f("on")) >= KNOWN
    nus = slots.nu.expand(len(path), -1, -1) if done.nu_path is None else torch.cat([slots.nu[None], done.nu_path])
    h_known = _r_squared(place.h("off", nus * place.net.prior_sd()), place.h("off")) >= KNOWN
    # The first tenth, or one more than there are.
    when = [torch.where(known.any(0), known.float().argmax(0), len(path)) for known in (h_known, f_known)]
    first = ((when[1] - when[0]).sign() + 1) / 2
    return torch.where(h_known.any(0) | f_known.any(0), first, torch.nan)


def _r_squared(said: Tensor, right: Tensor) -> Tensor:
    """`(…, n)` and `(n,)` -> `(…)`."""
    return 1 - (said - right).square().mean(-1) / right.var(correction=0)


def _slots(arms: Sequence[Mapping[str, Any]], watched: Stored) -> Slots:
    def each(part: str) -> Tensor:
        return torch.stack([watched.tensors[f"{a['slot']}_{part}"] for a in arms])

    learned, joint = (torch.tensor(t) for t in ([a["slot"] != "given" for a in arms], [a["joint"] for a in arms]))
    return Slots(each("nu"), each("log_sigma"), learned, joint)


def _warming(arms: Sequence[Mapping[str, Any]], scene: Scene, config: Mapping[str, Any]) -> Tensor:
    """FLOPs of what warm slots learned beforehand `(A,)`."""
    warm = torch.tensor([float(a["slot"] == "warm") for a in arms])
    return warm * 6.0 * scene.human.p * config["slot_steps"] * scene.behaviour().y.numel()


def _start(own: Own, arms: Sequence[Mapping[str, Any]], ledger: Stored, place: Place, seed: int) -> Start:
    """Equal draws for all arms, so that they differ by what they are told alone."""
    drawn = torch.randn(own.p, generator=stream(seed, "heads/init")).expand(len(arms), -1)
    knows = torch.tensor([a["start"] in ("copy_warm", "direct") for a in arms])[:, None]
    copies = torch.tensor([a["start"].startswith("copy") for a in arms])
    mu = torch.where(knows, ledger.tensors["mu"], drawn)
    start = fresh(place, torch.where(copies[:, None], own.silent(mu), mu), copies.float())
    return replace(start, log_rho=torch.where(knows, ledger.tensors["log_rho"], start.log_rho))


def _rules(arms: Sequence[Mapping[str, Any]], place: Place, steps: int, seed: int) -> Rules:
    n = len(place.x["condition"])
    wrong = torch.randperm(n, generator=stream(seed, "shuffled"))

    def each(key: str) -> Tensor:
        return torch.tensor([float(a[key]) for a in arms])

    low = torch.tensor([-FREE if a["free"] else 0.0 for a in arms])
    high = torch.tensor([FREE if a["free"] else 1.0 for a in arms])
    target = tuple(place.h(k).expand(len(arms), -1) for k in ("condition", "data"))
    paid = torch.tensor([a["reward"] != "none" for a in arms])
    return replace(
        unpaid(low, high, target),
        opens=(each("opens") * steps).round(), since=(each("since") * steps).round(), until=paid * float(steps),
        moves=each("moves").long(), reads=each("reads") > 0, l2=torch.tensor([a["price"] == "l2" for a in arms]),
        asked=torch.stack([wrong if a["reward"] == "shuffled" else torch.arange(n) for a in arms]),
    )  # fmt: skip


def _finite(value: Tensor) -> float | None:
    return float(value) if bool(value.isfinite()) else None
