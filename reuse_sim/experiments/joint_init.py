"""Teacher, start and process in place of θ2: what the start costs, how many starts would do, and how one is found.

One cell is one world: one teacher, humans of it from one start with one order of data, trained for several numbers of
steps (the last is the human that codes are about), and searches for other starts that end as they do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, field_validator
from scipy.stats import spearmanr

from reuse_sim.artifacts import Store
from reuse_sim.errors import Refusal
from reuse_sim.experiments.starts import (
    DECIDING,
    MIDDLE,
    TOLERANCES,
    label,
    search,
    train_people,
    weigh,
    write_codes,
)
from reuse_sim.nets import first_output
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric

METHOD = (
    "A teacher, a start drawn from the initialisation prior and an order of data make the human; trained again from "
    "the start it comes out the same to the last bit. Drift is the mean of (H' - H)²/var f over named questions, half "
    "of them on-distribution and half off, var f on-distribution. Codes are written and read back at a tolerance of "
    "drift: of θ2, of its start (a start will do if what training makes of it is within the tolerance), and of θ1 "
    "(drift of f), to a reader who knows how the free coordinates of its family are spread. The coder searches for the "
    "shortest message, by rounding or in stages, of any network or start that will do; beside it stand codes without a "
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
    *(Metric(f"ledger/found_bits_at_{label(t)}", "bits", "Code of a start that will do, looked for about the "
             f"one that a search found, at {label(t)} %.") for t in DECIDING),
    *(Metric(f"preimage/bits_at_{label(t)}", "bits", f"How many more starts than networks are right at {label(t)} % "
             "drift.", r"\log_2 \mu(\mathrm{Train}^{-1} B)/\mu(B)") for t in DECIDING),
    *(Metric(f"preimage/share_at_{label(t)}", "", f"The same over the code of θ2, at {label(t)} % drift.",
             headline=t == DECIDING[0]) for t in DECIDING),
    Metric("preimage/converged", "share", "Of the masses, those whose sampler calls itself converged."),
    Metric("preimage/information_correlation", "", f"Spearman over numbers of steps between preimage bits at "
           f"{label(MIDDLE)} % and bits about f in the human.", headline=True),
    *(Metric(f"recovery/share_at_{label(t)}", "share", f"Of the searches, those that got to {label(t)} % drift.",
             headline=t == DECIDING[0]) for t in DECIDING),
    Metric("recovery/found", "", f"1 where one of them got to {label(DECIDING[0])} %.", binary=True),
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
