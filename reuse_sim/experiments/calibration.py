"""Do the intervals of inheritance hold the truth, where the truth is known?

One cell is a *group* of worlds, as many as a small experiment has. In null families the outer model cannot carry
anything of this human: it is told nothing, random bits, or another's. In power families its answers are planted: a
known share of the human's, the rest those of an independent model that learned f by itself. For every group each
figure's 95 % interval over its worlds is computed as on any results page, and held against the truth.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import reuse
from reuse_sim.experiments.scene import Scene, train_people, train_rivals
from reuse_sim.inheritance import figures
from reuse_sim.inheritance.figures import Swaps
from reuse_sim.record import Measured, Metric, RunRecord, figure

FIGURES = {"contrast": "inheritance/contrast", "private": "inheritance/causal_private",
           "total": "inheritance/causal_total"}  # fmt: skip
MEANING = {"contrast": "the sibling contrast", "private": "private causal inheritance",
           "total": "total causal inheritance"}  # fmt: skip

ROUNDING = 1e-6  # planted swaps change answers by exactly the share, but for float32

METHOD = (
    "Worlds come in groups. In each world people are trained as in the reuse experiment, and outers of the null "
    "families beside them; the answers of power families are planted, in part those of an independent model. Of every "
    "group the 95 % intervals of the figures are computed over its worlds and held against what is true."
)

UNIT = "group"

METRICS = tuple(
    metric
    for name, what in MEANING.items()
    for metric in (
        Metric(f"calibration/{name}_holds", "share", f"Groups where the interval of {what} holds.", headline=True,
               binary=True),
        Metric(f"calibration/{name}_above_0", "share", f"Groups where the interval of {what} lies above 0.",
               binary=True),
        Metric(f"calibration/{name}", "1", f"The group's figure of {what}."),
        Metric(f"calibration/{name}_width", "1", f"Width of the group's interval of {what}."),
    )
)


class Config(reuse.Config):
    worlds: int = Field(10, ge=3, le=1000, description="worlds of a group")
    planted: float | None = Field(None, ge=0, le=1, description="answers are this share of the human's and no outer's")
    truth: float | None = Field(0.0, description="what the figures truly are; total is not judged where it is null")
    against: str | None = Field(None, description="the arm whose causal figures are subtracted")


def check(arms: Mapping[str, Config]) -> None:
    """As in the reuse experiment; and whom arms are held against must be there."""
    reuse.check({name: arm for name, arm in arms.items() if arm.planted is None})
    for name, arm in arms.items():
        if arm.against not in (None, *arms):
            raise InputError(f"arm {name}: against", arm.against, f"one of {', '.join(arms)}")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One group: worlds `worlds`·seed to `worlds`·(seed + 1) − 1. Raises Refusal where fewer than three are usable."""
    group = next(iter(arms.values())).worlds
    trained = {name: _plain(arm) for name, arm in arms.items() if arm.planted is None}
    records: dict[str, list[RunRecord]] = {name: [] for name in arms}
    hashes = []
    for world in range(group * seed, group * (seed + 1)):
        measured = dict(reuse.cell(trained, world, store))
        usable = all(m.status == "ok" for m in measured.values())
        if usable:
            measured |= _planted({n: a for n, a in arms.items() if a.planted is not None}, world, store)
        for name, m in measured.items():
            records[name].append(_record(name, world, m))
        hashes += [m.parameters_sha256 for m in measured.values()]
    ok = {name: [r for r in rows if r.status == "ok"] for name, rows in records.items()}
    if min(len(rows) for rows in ok.values()) < 3:
        raise Refusal("fewer than three worlds of the group are usable; take a stronger shift or a larger group")
    sha256 = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return {
        name: Measured(_held(arm, ok[name], ok[arm.against] if arm.against else None), {}, sha256)
        for name, arm in arms.items()
    }


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: one of its worlds."""
    return reuse.memory_bytes({name: _plain(arm) for name, arm in arms.items()})


def _plain(arm: Config) -> reuse.Config:
    return reuse.Config.model_construct(**{name: getattr(arm, name) for name in reuse.Config.model_fields})


def _held(arm: Config, rows: list[RunRecord], against: list[RunRecord] | None) -> dict[str, float | None]:
    """The metrics of one arm of a group from its worlds."""
    out: dict[str, float | None] = {}
    for name, key in FIGURES.items():
        metric = next(m for m in figures.OUTER if m.name == key)
        interval = figure(metric, rows, None if name == "contrast" else against)
        judged = arm.truth is not None and not math.isnan(interval.low)
        if name == "total" and arm.leak.options.get("of") == "sibling":
            judged = False  # a sibling fails partly as this human does: that is inherited, and no null
        out |= {
            f"calibration/{name}": interval.mean,
            f"calibration/{name}_width": interval.high - interval.low,
            f"calibration/{name}_above_0": float(interval.low > 0),
        }
        if judged:
            truth = arm.truth or 0.0
            out[f"calibration/{name}_holds"] = float(interval.low - ROUNDING <= truth <= interval.high + ROUNDING)
    return out


def _record(arm: str, world: int, measured: Measured) -> RunRecord:
    diagnostics = dict(measured.diagnostics)
    return RunRecord("", {}, arm, world, measured.status, "", measured.metrics, diagnostics, "", 0.0)


def _planted(arms: Mapping[str, Config], seed: int, store: Store) -> dict[str, Measured]:
    """Figures of answers M = w H + (1 − w) R, R an independent model's, and of the same after swaps."""
    out = {}
    for name, arm in arms.items():
        shared = {n: getattr(arm, n) for n in ("world", "strength", "population", "human", "repair_share")}
        people = store.stage("people", train_people, config=shared, seed=seed)
        rivals = store.stage("rivals", train_rivals, people, config=shared, seed=seed)
        config = {**shared, "questions": arm.questions, "planted": arm.planted}
        found = store.stage("planted", plant, people, rivals, config=config, seed=seed).values
        out[name] = Measured(found["metrics"], found["parts"], people.sha256)
    return out


def plant(people: Stored, rivals: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], Any]:
    """The figures of planted answers in one world."""
    scene = Scene(config, people, seed)
    off, on, w = scene.society("off"), scene.society("on"), config["planted"]
    everyone = torch.arange(len(off.human))
    rival = scene.rivals_answer(rivals, scene.x["off"], everyone, scene.measured, matched=False)

    def mixed(human: Tensor) -> Tensor:
        return w * human + (1 - w) * rival

    swaps = Swaps(mixed(off.human), mixed(off.siblings), mixed(off.repaired))
    metrics, parts = figures.of_outer(
        off, swaps, off.human, on.human, on.teacher, scene.world.tolerance, scene.world.kind
    )
    return {}, {"metrics": metrics, "parts": parts}
