"""The first stages of one world whose answer heads are paid for specialness: its people, and its exact ledger.

Each is a function of what came before, its configuration and the seed; the heads themselves are in `paid_heads`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reuse_sim import specialness
from reuse_sim.artifacts import Stored
from reuse_sim.inheritance import observed
from reuse_sim.nets import Mlp
from reuse_sim.remedies import reward
from reuse_sim.remedies.chains import Condition
from reuse_sim.remedies.heads import Own, bits
from reuse_sim.remedies.reward import Rules, Scene, Start
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import Problem
from reuse_sim.specialness import human as humans
from reuse_sim.types import Estimate, Human, World

STRENGTH = 64.0
"""Nats per tolerance of error beyond the tolerance."""
SLACK_OF_TOLERANCE = 1.1
"""The tolerance, as a multiple of the human's own error."""
SURE = 0.2
"""log ρ of a fresh start: posterior sds of a fifth of the prior's."""
AGREE = 2.0
"""Bits within which two runs of a sampler that doubts itself must agree to be believed."""
FITS, CODE_RATE = 6, 0.03
"""Starts of the code of f, of which the shortest counts, and the rate of coding, falling to 0."""


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """θ1, the human, three siblings and the human repaired; questions of condition, data, and off-distribution."""
    world: World = config["world"].build()
    human: Human = config["human"].build()
    theta_1 = world.teacher([stream(seed, "teacher")])
    names = ["human", *(f"sibling/{k}" for k in range(3))]
    theta_0 = human.init(world, streams(seed, [f"{n}/init" for n in names]))
    fit = human.train(world, theta_0, theta_1.expand(len(names), -1), streams(seed, [f"{n}/questions" for n in names]))
    mended = human.train(world, fit.theta[:1], theta_1, [stream(seed, "repaired/questions")], off_share=0.5)
    x = {k: world.on_distribution(theta_1, config["questions"], [stream(seed, f"ask/{k}")])[0]
         for k in ("condition", "data")}
    x["off"] = world.off_distribution(theta_1, config["asked"], [stream(seed, "ask/off")])[0]
    x["on"] = world.on_distribution(theta_1, config["asked"], [stream(seed, "ask/on")])[0]
    net = human.net(world)
    fits = {f"human/{kind}_fit": float(observed.r_squared(world.human_answer(net, fit.theta[:1], x[kind][None]),
                                                          world.answer(theta_1, x[kind][None])))
            for kind in ("on", "off")}  # fmt: skip
    tensors = {"theta_teacher": theta_1, "theta_human": fit.theta[0], "theta_siblings": fit.theta[1:],
               "theta_repaired": mended.theta[0], **{f"x_{k}": v for k, v in x.items()}}
    asked = x["condition"][None]
    h, f = world.human_answer(net, fit.theta[:1], asked)[0], world.answer(theta_1, asked)[0]
    constant = float(h.var(correction=0) / (SLACK_OF_TOLERANCE * (h - f).square().mean()))
    return tensors, {"broken": [*fit.broken.values(), *mended.broken.values()], "human": fits, "constant": constant}


class Place:
    """One world at work: its human, f and H on the questions, the tolerance and the condition."""

    def __init__(self, people: Stored, config: Mapping[str, Any]) -> None:
        t = people.tensors
        self.world: World = config["world"].build()
        self.net: Mlp = config["human"].build().net(self.world)
        self.theta_1, self.theta_2 = t["theta_teacher"], t["theta_human"]
        self.siblings, self.repaired = t["theta_siblings"], t["theta_repaired"]
        self.x = {k: t[f"x_{k}"] for k in ("condition", "data", "on", "off")}
        f, h = self.f("condition"), self.h("condition")
        self.variance = float(f.var(correction=0))
        self.tolerance = SLACK_OF_TOLERANCE * float((h - f).square().mean()) / self.variance
        condition = Condition(self.net, self.x["condition"], self.tolerance * self.variance, STRENGTH)
        self.scene = Scene(self.net, self.theta_2, condition, self.x["data"])

    def f(self, kind: str) -> Tensor:
        return self.world.answer(self.theta_1, self.x[kind][None])[0]

    def h(self, kind: str, theta: Tensor | None = None) -> Tensor:
        """Answers of the human `(n,)`, or of others `(K, p2)`: `(K, n)`."""
        return self.world.human_answer(self.net, self.theta_2 if theta is None else theta, self.x[kind])

    def problem(self, answers: Tensor) -> Problem:
        """Specialness of agreeing with `answers` `(n,)` to the condition's questions: the chains' event, soft beyond τ.

        The consistency is the mean of (H − answers)²/var f less the tolerance, relative to it and at least 0.
        """
        x, tolerance = self.x["condition"].double(), self.tolerance
        exact = humans.problem(self.world, self.theta_1[0], self.net, x, tolerance=tolerance)
        upward = humans.squared_gradient(self.world.human_answer, self.net, x, answers, self.variance)
        assert upward is not None

        def error(theta: Tensor) -> Tensor:
            return (self.world.human_answer(self.net, theta, x) - answers.double()).square().mean(-1) / self.variance

        def cost(theta: Tensor) -> Tensor:
            return (error(theta) / tolerance - 1).clamp(min=0)

        def gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
            value, slope = upward(theta)
            return (value / tolerance - 1).clamp(min=0), slope / tolerance * (value > tolerance)[:, None]

        words = f"excess over {tolerance:.3g} of the {exact.consistency}, relative to it"
        return Problem(exact.dim, exact.reference, cost, 0.0, words, STRENGTH, gradient=gradient, probe=exact.probe,
                       symmetry=exact.symmetry)  # fmt: skip


def account(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The ledger, and its direct head as tensors: what knows an answer of its own."""
    place = Place(people, config)
    copy = torch.arange(FITS + 1) == FITS
    own = own_networks(place, config, FITS + 1)
    mu = torch.randn(FITS + 1, own.p, generator=stream(seed, "codes/init"))
    mu = torch.where(copy[:, None], own.silent(mu), mu)
    asked = tuple(torch.where(copy[:, None], place.h(k), place.f(k)) for k in ("condition", "data"))
    c = copy.float()
    codes = reward.train(own, fresh(place, mu, c), unpaid(c, c, asked, named=~copy), place.scene,
                         stream(seed, "codes"), steps=config["code_steps"], rate=CODE_RATE, cosine=True)  # fmt: skip
    lengths = bits(codes.loss)
    best = int(lengths[:FITS].argmin())

    one, nought = own_networks(place, config, 1), torch.zeros(1)
    begin = Start(codes.heads.mu[best : best + 1], codes.heads.log_rho[best : best + 1], nought, codes.heads.r[:1])
    labels = tuple(place.h(k)[None] for k in ("condition", "data"))
    held = replace(unpaid(nought, nought, labels), until=torch.full((1,), float(config["code_steps"])),
                   moves=torch.ones(1, dtype=torch.long))  # fmt: skip
    direct = reward.train(one, begin, held, place.scene, stream(seed, "direct"), steps=config["code_steps"],
                          rate=CODE_RATE / 3, population=2 * config["population"], leapfrogs=config["leapfrogs"],
                          cosine=True)  # fmt: skip
    answers = one.answer(direct.heads.mu, place.x["condition"])[0]
    said = {name: _specialness(place.problem(target), config["effort"], stream(seed, name))
            for name, target in (("specialness", place.f("condition")), ("specialness_direct", answers))}  # fmt: skip
    price = float(bits(direct.loss))
    intended_bits = float(lengths[best]) - said["specialness"].bits
    copy_bits, held_bits = float(lengths[FITS]), price - said["specialness_direct"].bits
    heads = direct.heads if held_bits <= intended_bits else begin
    m, f, h = one.answer(heads.mu, place.x["off"])[0], place.f("off"), place.h("off")
    metrics = {
        "ledger/difference_bits": copy_bits - min(held_bits, intended_bits), "ledger/copy_bits": copy_bits,
        "ledger/direct_bits": min(held_bits, intended_bits), "ledger/held_bits": held_bits,
        "ledger/intended_bits": intended_bits, "ledger/teacher_bits": float(bits(codes.kl[best])),
        "ledger/direct_gap": float(1 - (m - f).square().mean() / (h - f).square().mean()),
        "ledger/copy_preferred": float(copy_bits < min(price, float(lengths[best]))),
        "specialness/bits": said["specialness"].bits, "specialness/held_bits": said["specialness_direct"].bits,
    }  # fmt: skip
    trouble = [f"{name}: {s.status}" for name, s in said.items() if s.status != "converged"]
    if float(codes.coarse[best]) > STRENGTH:
        missed = f"no code of f comes within the tolerance ({float(codes.coarse[best]):.0f} nats)"
        trouble.append(f"{missed}: raise code_steps or width")
    estimates = {**{k: _plain(v) for k, v in said.items()}, "tolerance": place.tolerance,
                 "code_bits": [round(float(v), 1) for v in lengths[:FITS]]}  # fmt: skip
    tensors = {"mu": heads.mu[0], "log_rho": heads.log_rho[0]}
    return tensors, {"metrics": metrics, "trouble": trouble, "estimates": estimates}


def _specialness(problem: Problem, effort: float, generator: torch.Generator) -> Estimate:
    """By sequential Monte Carlo; where it doubts itself, held against one of twice the effort, as its status asks."""
    first = specialness.estimate(problem, "smc", effort, generator=generator)
    if first.status == "converged":
        return first
    second = specialness.estimate(problem, "smc", 2 * effort, generator=generator)
    agree = abs(first.bits - second.bits) <= AGREE
    return replace(second, status="converged") if agree else second


def own_networks(place: Place, config: Mapping[str, Any], arms: int) -> Own:
    return Own(place.world.d, config["width"], torch.full((arms,), config["own"] == "wave"))


def fresh(place: Place, mu: Tensor, c: Tensor) -> Start:
    return Start(mu, torch.full_like(mu, math.log(SURE)), c, torch.zeros(len(mu), place.scene.condition.units))


def unpaid(low: Tensor, high: Tensor, target: tuple[Tensor, ...], named: Tensor | None = None) -> Rules:
    """Without a reward."""
    nothing, no = torch.zeros(len(low)), torch.zeros(len(low), dtype=torch.bool)
    order = torch.arange(target[0].shape[1]).expand(len(low), -1)
    return Rules(low, high, nothing, nothing, nothing, no, no, nothing.long(), order, (target[0], target[1]),
                 no if named is None else named)


def _plain(said: Estimate) -> dict[str, Any]:
    return {"bits": said.bits, "low": said.low, "high": said.high, "bound": said.bound, "status": said.status,
            "error_bits": said.diagnostics.get("error_bits")}  # fmt: skip
