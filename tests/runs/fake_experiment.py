"""A tiny experiment that can go wrong on demand; the fixture `project` copies it beside its scenarios."""

import errno
import os
import time
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field

from reuse_sim.artifacts import tensors_sha256
from reuse_sim.errors import InputError, Refusal
from reuse_sim.plugins import STRICT
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream

METHOD = "A teacher is drawn. A human goes from noise towards it. Nothing else happens."
METRICS = (
    Metric("inheritance/causal_private", "1", "How far the human went.", headline=True),
    Metric("human/off_fit", "R²", "The human's fit."),
    Metric("outer/off_fit", "R²", "The outer model's fit."),
)
Trouble = Literal["none", "refuse", "undecided", "input", "type", "nan", "die", "full", "print", "forget", "unwritable"]


class Config(BaseModel):
    model_config = STRICT
    width: Annotated[int, Field(gt=0)] = 8
    share: float = 0.5
    steps: Annotated[int, Field(gt=0)] = 20
    pause: float = 0.0
    memory: int = 1
    trouble: Trouble = "none"
    at: Annotated[int, Field(description="the seed that has the trouble")] = 1


def draw_teacher(config, seed):
    return {"theta": torch.randn(config["width"], generator=stream(seed, "teacher"))}, {}


def train_human(teacher, config, seed):
    time.sleep(config["pause"])
    theta, f = torch.randn(config["width"], generator=stream(seed, "human")), teacher.tensors["theta"]
    for _ in range(config["steps"]):
        theta = theta + 0.1 * config["share"] * torch.tanh(f - theta)
    return {"theta": theta}, {"loss": float(((theta - f) ** 2).mean())}


def memory_bytes(arms):
    return sum(c.memory for c in arms.values())


def cell(arms, seed, store):
    first = next(iter(arms.values()))
    teacher = store.stage("teacher", draw_teacher, config={"width": first.width}, seed=seed)
    if seed == first.at:
        _break(first.trouble)
    measured = {}
    for arm, c in arms.items():
        human = store.stage("human", train_human, teacher, seed=seed,
                            config={"width": c.width, "share": c.share, "steps": c.steps, "pause": c.pause})
        fit = 1 - human.values["loss"]
        if c.trouble == "nan" and seed == c.at:
            fit = float("nan")
        metrics = {"inheritance/causal_private": fit, "human/off_fit": 0.9, "outer/off_fit": fit}
        diagnostics = {"curve": (1.0, fit), "point": (1, 2), "n": object() if c.trouble == "unwritable" else 3}
        sha256 = tensors_sha256({**teacher.tensors, "human": human.tensors["theta"]})
        measured[arm] = Measured(metrics, diagnostics, sha256)
    if first.trouble == "forget" and seed == first.at:
        measured.popitem()
    return measured


def _break(trouble):
    if trouble in ("refuse", "undecided"):
        raise Refusal("the human does not fail", "failed" if trouble == "refuse" else "undecided")
    if trouble == "input":
        raise InputError("tolerance", 1e-9, "more than 0.1")
    if trouble == "type":
        raise TypeError("two\nlines")
    if trouble == "die":
        os.kill(os.getpid(), 9)
    if trouble == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "some/file")
    if trouble == "print":
        print("from a plug-in")
        os.system("echo from a child of a plug-in")
