"""Teacher, start and process in place of θ2: what the start costs, how many starts would do, and how one is found.

One cell is one world: one teacher, humans of it from one start with one order of data, trained for several numbers of
steps (the last is the human that codes are about), and searches for other starts that end as they do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, Field, field_validator
from scipy.stats import spearmanr
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments.started import Scene, as_values, information, rounded_bits, sampler
from reuse_sim.inheritance import observed
from reuse_sim.joint import linear
from reuse_sim.joint.budget import budget, order_sd
from reuse_sim.joint.preimage import preimage
from reuse_sim.joint.recover import recover
from reuse_sim.joint.replay import replays
from reuse_sim.joint.unrolled import supervised
from reuse_sim.ledger import quantised
from reuse_sim.nets import first_output
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams

TOLERANCES = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""Drifts from the human at which codes may be written."""
DECIDING = (0.01, 0.05, 0.1)
"""Those that claims are decided at."""
MIDDLE = 0.05
"""The one at which numbers of training steps are compared."""
FAMILY = 256
"""Teachers that say how far a parameter of θ1 spreads."""


def label(tolerance: float) -> str:
    """`10`, in percent."""
    return f"{100 * tolerance:g}"


METHOD = (
    "A teacher, a start drawn from the initialisation prior and an order of data make the human; trained again from "
    "the start it comes out the same to the last bit. Drift is the mean of (H' - H)²/var f over named questions, half "
    "of them on-distribution and half off, var f on-distribution. Codes are written and read back at a tolerance of "
    "drift: of θ2, of its start (a start will do if what training makes of it is within the tolerance), and of θ1 "
    "(drift of f). The coder searches for the shortest network or start that will do; beside it stand codes without a "
    "search, which round what there is. The masses under the initialisation prior of all starts that would do and of "
    "all networks that would are both estimated by sequential Monte Carlo and count all symmetric copies. Searches "
    "begin at fresh starts and descend on drift through training, unrolled. Bits about f in a human are its "
    "specialness S at its own error on 128 on-distribution questions, less log2(1 + S ln 2), what an own error as "
    "tolerance overpays."
)

METRICS = (
    Metric("human/on_fit", "R²", "Fit of the human to f on-distribution."),
    Metric("human/off_fit", "R²", "Fit of the human to f off-distribution."),
    Metric("replay/exact", "", "1 where f, start and process give the human again to the last bit."),
    Metric("budget/excess_bits", "bits", "By how much teacher, start and order of data together have more than |θ2| "
           "bits in θ2, in a random linear Gaussian world where all are exact; 0 by the chain rule."),
    *(Metric(f"init_bits/at_{label(t)}", "bits", f"Code of the start, at {label(t)} % drift of what it trains to.")
      for t in TOLERANCES),
    *(Metric(f"human_bits/at_{label(t)}", "bits", f"Code of θ2 at {label(t)} % drift.") for t in TOLERANCES),
    *(Metric(f"plain_{name}_bits/at_{label(t)}", "bits", f"The same of {what} without search: rounded as it is.")
      for name, what in (("init", "the start"), ("human", "θ2")) for t in TOLERANCES),
    *(Metric(f"ledger/init_share_at_{label(t)}", "", f"Code of the start over that of θ2, at {label(t)} % drift.",
             headline=t == DECIDING[0]) for t in DECIDING),
    *(Metric(f"ledger/joint_share_at_{label(t)}", "", f"|θ1| and the code of a start that a search found, over |θ2|, "
             f"at {label(t)} % drift.", r"(|\theta_1| + |\tilde\theta_2|)/|\theta_2|", headline=t == DECIDING[0])
      for t in DECIDING),
    *(Metric(f"ledger/teacher_bits_at_{label(t)}", "bits", f"Code of θ1 at {label(t)} % drift of f.")
      for t in DECIDING),
    *(Metric(f"ledger/found_bits_at_{label(t)}", "bits", f"Code of the start that a search found, at {label(t)} %.")
      for t in DECIDING),
    *(Metric(f"preimage/bits_at_{label(t)}", "bits", f"How many more starts than networks are right at {label(t)} % "
             "drift.", r"\log_2 \mu(\mathrm{Train}^{-1} B)/\mu(B)") for t in DECIDING),
    *(Metric(f"preimage/share_at_{label(t)}", "", f"The same over the code of θ2, at {label(t)} % drift.",
             headline=t == DECIDING[0]) for t in DECIDING),
    Metric("preimage/converged", "share", "Of the masses, those whose sampler calls itself converged."),
    Metric("preimage/information_correlation", "", f"Spearman over numbers of steps between preimage bits at "
           f"{label(MIDDLE)} % and bits about f in the human.", headline=True),
    *(Metric(f"recovery/share_at_{label(t)}", "share", f"Of the searches, those that got to {label(t)} % drift.",
             headline=t == DECIDING[0]) for t in DECIDING),
    Metric("recovery/found", "", f"1 where one of them got to {label(DECIDING[0])} %."),
    *(Metric(f"recovery/steps_at_{label(t)}", "steps", f"Median of descent steps to {label(t)} %; those that did not "
             "get there count with all of theirs.") for t in DECIDING),
    Metric("recovery/trainings", "trainings", f"Median cost of a search to {label(DECIDING[0])} %, in trainings of the "
           "human: 4 a step and one at the end."),
    Metric("recovery/cost_correlation", "", f"Spearman over numbers of steps between preimage bits and the mean log of "
           f"descent steps + 1, both at {label(MIDDLE)} %.", headline=True),
)


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    width: int = Field(6, ge=1, le=64, description="hidden units of the human")
    efforts: tuple[Annotated[int, Field(ge=1, le=2000)], ...] = Field(
        (12, 25, 50, 100), description="numbers of training steps; the last makes the human that codes are about")
    rate: float = Field(0.1, gt=0, le=10, description="first rate of Adam, which falls as half a cosine")
    batch: int = Field(32, ge=1, le=4096, description="questions of a training step")
    questions: int = Field(128, ge=4, le=100_000, description="that drift is the mean over, half of them off")
    curve: tuple[float, ...] = Field(TOLERANCES, description="drifts at which both lengths are measured, beside those "
                                     f"that decide; of {', '.join(map(str, TOLERANCES))}")
    effort: float = Field(0.2, gt=0, le=100, description="of the samplers")
    searches: int = Field(6, ge=1, le=1000, description="for a start, from as many fresh ones")
    search_steps: int = Field(60, ge=1, le=100_000, description="of descent through training, at most")
    search_rate: float = Field(0.1, gt=0, le=10, description="of Adam on the start, in prior sds")

    @field_validator("world")
    @classmethod
    def _trained_on_errors(cls, world: Plugin) -> Plugin:
        if getattr(world.build(), "human_answer", None) is not first_output:
            raise ValueError("a world whose humans say what their network's first output is, such as radius")
        return world

    @field_validator("curve")
    @classmethod
    def _with_a_metric(cls, curve: tuple[float, ...]) -> tuple[float, ...]:
        if not set(curve) <= set(TOLERANCES):
            raise ValueError(f"some of {', '.join(map(str, TOLERANCES))}")
        return curve

    @field_validator("efforts")
    @classmethod
    def _in_order(cls, efforts: tuple[int, ...]) -> tuple[int, ...]:
        if len(efforts) < 3 or sorted(set(efforts)) != list(efforts):
            raise ValueError("at least three numbers of steps, in order")
        return efforts


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where training broke."""
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One arm. What has no figure is None, with the reason."""
    people = store.stage("people", train_people, config=config, seed=seed)
    if people.values["broken"]:
        raise Refusal("a human's parameters are not finite; lower rate")
    found = store.stage("searches", search, people, config=config, seed=seed)
    codes = store.stage("codes", write_codes, people, found, config=config, seed=seed)
    masses = store.stage("masses", weigh, people, config=config, seed=seed)
    values = {**people.values["metrics"], **codes.values["metrics"],
              **summary(config, codes.values["metrics"], found.values, masses.values)}
    metrics = {m.name: values.get(m.name) for m in METRICS}
    silent = [name for name, value in metrics.items() if value is None]
    reason = f"not told: {', '.join(silent)}; {'; '.join(codes.values['trouble'])}" if silent else ""
    diagnostics = {"searches": found.values, "masses": masses.values, "codes": codes.values["said"]}
    sha256 = hashlib.sha256("".join(s.sha256 for s in (people, found, codes)).encode()).hexdigest()
    return Measured(metrics, diagnostics, sha256, "ok", reason)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the sampler's population in training, or the gradient through it."""
    def one(c: Config) -> int:
        net = c.world.build().human_net(c.width)
        asked = max(c.batch, c.questions) * 4 * sum(net.sizes)
        sampling = 8 * round(4000 * max(1.0, c.effort)) * (asked + 8 * net.p)
        unrolled = 8 * c.searches * 2 * math.isqrt(c.efforts[-1]) * 6 * (c.batch * sum(net.sizes) + net.p)
        return max(sampling, unrolled)

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


# Stages ----------------------------------------------------------------------------------------------


def train_people(config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One start, what it becomes by each number of steps, fresh starts, and whether it does so again."""
    scene = Scene(config, seed)
    theta_0 = scene.net.init([stream(seed, "human/init")], torch.float64)
    fresh = scene.net.init(streams(seed, [f"search/{i}" for i in range(config.searches)]), torch.float64)
    humans = torch.cat([scene.process(steps)(theta_0) for steps in config.efforts])
    process = scene.process(config.efforts[-1])
    among_others = process(torch.cat([fresh, theta_0]))[-1:]
    exact = replays(process, theta_0, humans[-1:]) and torch.equal(among_others, humans[-1:])
    fits = [float(observed.r_squared(scene.net.forward(humans[-1:], x)[..., 0], scene.world.answer(scene.theta_1, x)))
            for x in (scene.on, scene.off)]
    return ({"theta_0": theta_0[0], "humans": humans, "fresh": fresh}, {
        "broken": not bool(humans.isfinite().all()),
        "metrics": {"human/on_fit": fits[0], "human/off_fit": fits[1], "replay/exact": float(exact),
                    "budget/excess_bits": linear_excess(stream(seed, "budget"))}})


def search(people: Stored, config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """For each number of steps, searches from the same fresh starts: steps and success by tolerance."""
    scene, out, best = Scene(config, seed), {}, people.tensors["fresh"]
    for theta, steps in zip(people.tensors["humans"], config.efforts, strict=True):
        process = scene.process(steps)
        training = supervised(scene.net, process.x, process.y, steps, process.optimizer)
        tolerances = DECIDING if steps == config.efforts[-1] else (MIDDLE,)
        found = recover(training, people.tensors["fresh"], scene.sd, scene.drift(theta), tolerances,
                        steps=config.search_steps, rate=config.search_rate)
        flops = found.flops(process.flops) / process.flops
        said = {"steps": found.steps, "reached": found.reached, "drift": found.drift, "trainings": flops}
        out[str(steps)] = {label(t): {name: value[k].tolist() for name, value in said.items()}
                           for k, t in enumerate(tolerances)}
        # By tolerance, the start of the search that was first, or that came nearest.
        first = (found.steps.double() + found.drift).argmin(1)
        best = found.theta[torch.arange(len(first)), first]
    return {"theta_0": best}, out


def write_codes(people: Stored, found: Stored, config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Codes of θ2 and of its start at all tolerances; of θ1 and of a start that was found at those that decide."""
    scene, process = Scene(config, seed), Scene(config, seed).process(config.efforts[-1])
    theta_2, drift = people.tensors["humans"][-1], scene.drift(people.tensors["humans"][-1])
    f = scene.world.answer(scene.theta_1, scene.asked[None])
    family = scene.world.teacher(streams(seed, [f"family/{i}" for i in range(FAMILY)])).double()

    def of_start(theta_0: Tensor) -> Tensor:
        return drift(process(theta_0))

    def of_teacher(theta: Tensor) -> Tensor:
        g = scene.world.answer(theta, scene.asked.expand(len(theta), -1, -1))
        # A decoded sd of 0 divides by it.
        return ((g - f).square().mean(-1) / scene.variance).nan_to_num(1e9).clamp(max=1e9)

    metrics: dict[str, float | None] = {}
    said, trouble = {}, []

    def write(name: str, theta: Tensor, sd: Tensor, distortion: Callable[[Tensor], Tensor], tolerance: float) -> None:
        try:
            code = quantised.shortest(theta, sd, distortion, tolerance, "uniform")
        except InputError as error:
            metrics[name] = None
            trouble.append(f"{name}: {error}")
            return
        metrics[name] = float(code.bits)
        said[name] = {"step": code.step, "drift": code.distortion}

    for t in sorted({*config.curve, *DECIDING}):
        write(f"human_bits/at_{label(t)}", theta_2, scene.sd, drift, t)
        write(f"init_bits/at_{label(t)}", people.tensors["theta_0"], scene.sd, of_start, t)
        metrics[f"plain_human_bits/at_{label(t)}"] = rounded_bits(theta_2, scene.sd, drift, t)
        metrics[f"plain_init_bits/at_{label(t)}"] = rounded_bits(people.tensors["theta_0"], scene.sd, of_start, t)
    for t, theta_0 in zip(DECIDING, found.tensors["theta_0"], strict=True):
        write(f"ledger/teacher_bits_at_{label(t)}", scene.theta_1[0], family.square().mean(0).sqrt(), of_teacher, t)
        if any(found.values[str(config.efforts[-1])][label(t)]["reached"]):
            write(f"ledger/found_bits_at_{label(t)}", theta_0, scene.sd, of_start, t)
        else:
            metrics[f"ledger/found_bits_at_{label(t)}"] = None
            trouble.append(f"no search got to {label(t)} %: take more searches or search_steps")
    return {}, {"metrics": metrics, "said": said, "trouble": trouble}


def weigh(people: Stored, config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Both masses of the last human at the tolerances that decide, of the others at the middle one; bits about f."""
    scene, out = Scene(config, seed), {}
    for theta, steps in zip(people.tensors["humans"], config.efforts, strict=True):
        tolerances = DECIDING if steps == config.efforts[-1] else (MIDDLE,)
        process, drift = scene.process(steps), scene.drift(theta)
        out[str(steps)] = {
            "masses": {label(t): as_values(preimage(drift, process, sampler(scene, t, f"{steps}/{t}")))
                       for t in tolerances},
            **information(scene, theta, f"{steps}/information"),
        }
    return {}, out


# Parts -----------------------------------------------------------------------------------------------


def linear_excess(generator: torch.Generator) -> float:
    """|I(θ2; teacher) + I(θ2; start) + I(θ2; order) − |θ2|| of a random linear world, |θ2| from a determinant."""
    d, rate, steps, resolution = 8, 0.05, 40, 0.1
    curvatures = torch.rand(d, generator=generator, dtype=torch.float64).numpy() * 2
    a, q = linear.factors(curvatures, rate, steps), order_sd(curvatures, rate, steps, np.ones(d))
    shares = budget(a, 1.0, 0.5, q, resolution)
    mixing = np.concatenate([np.diag(1 - a), 0.5 * np.diag(a), np.diag(q)], 1)
    whole = np.linalg.slogdet(np.eye(d) + mixing @ mixing.T / resolution**2)[1] / (2 * math.log(2))
    return float(abs(shares.teacher + shares.start + shares.order - whole))


def summary(
    config: Config, codes: Mapping[str, Any], searches: Mapping[str, Any], masses: Mapping[str, Any]
) -> dict[str, float | None]:
    """The metrics that compare: shares of |θ2|, correlations over numbers of steps, and how searches went."""
    last, out = str(config.efforts[-1]), dict[str, float | None]()
    for at in map(label, DECIDING):
        human, start, teacher, found = (codes[f"{name}_{at}"] for name in (
            "human_bits/at", "init_bits/at", "ledger/teacher_bits_at", "ledger/found_bits_at"))
        bits = masses[last]["masses"][at]["bits"]
        out[f"ledger/init_share_at_{at}"] = None if None in (human, start) else start / human
        out[f"ledger/joint_share_at_{at}"] = None if None in (human, teacher, found) else (teacher + found) / human
        out[f"preimage/bits_at_{at}"] = bits
        out[f"preimage/share_at_{at}"] = None if human is None else bits / human
        out[f"recovery/share_at_{at}"] = float(np.mean(searches[last][at]["reached"]))
        out[f"recovery/steps_at_{at}"] = float(np.median(searches[last][at]["steps"]))
    out["recovery/found"] = float(any(searches[last][label(DECIDING[0])]["reached"]))
    out["recovery/trainings"] = float(np.median(searches[last][label(DECIDING[0])]["trainings"]))
    lost = [m["masses"][label(MIDDLE)]["bits"] for m in masses.values()]
    costs = [float(np.log(np.array(s[label(MIDDLE)]["steps"]) + 1).mean()) for s in searches.values()]
    out["preimage/information_correlation"] = rank_correlation(lost, [m["information_bits"] for m in masses.values()])
    out["recovery/cost_correlation"] = rank_correlation(lost, costs)
    statuses = [m[f"{k}_status"] for e in masses.values() for m in e["masses"].values() for k in ("start", "end")]
    out["preimage/converged"] = sum(s == "converged" for s in statuses) / len(statuses)
    return out


def rank_correlation(x: list[float], y: list[float]) -> float | None:
    """Spearman's; None where one does not vary."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(spearmanr(x, y).statistic)  # type: ignore[attr-defined]
