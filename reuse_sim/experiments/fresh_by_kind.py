"""Does it matter for what learners save how a human was made, or only how far the learners agree with it?

One cell is one world: a teacher, learners of it, and humans of many efforts and widths. The claim is about slopes over
kinds of humans, so that the kinds belong inside of the cell.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import Refusal
from reuse_sim.experiments.balls import Scene, Where, check_regression, plain
from reuse_sim.experiments.fresh_human_reference import train_fresh
from reuse_sim.experiments.scene import training_bytes
from reuse_sim.joint import fresh
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream
from reuse_sim.specialness import estimate, frequency

METHOD = (
    "A teacher is drawn; learners of one kind learn it, and humans of several efforts and widths, one of each. Of "
    "every human the bits are told outright and given the learners, as in `fresh_human_reference`; what the learners "
    "save, as a share, is regressed over the kinds of each world on the learners' mean R² with the human, on the same "
    "questions, and on the log of the human's training FLOPs, both in units of their spread over the kinds. Where no "
    "learner is in the ball nothing counts as saved."
)

METRICS = (
    Metric("joint/agreement_slope", "share per sd", "Saved share on the learners' agreement, FLOPs held.",
           headline=True),
    Metric("joint/flops_slope", "share per sd", "Saved share on the log of the human's FLOPs, agreement held.",
           headline=True),
    Metric("joint/predictors_correlation", "", "Correlation of agreement and log FLOPs over the kinds.", headline=True),
    Metric("joint/mean_saved_share", "share", "Saved share, mean over kinds."),
    Metric("joint/censored", "share", "Kinds where no learner is in the ball."),
    Metric("joint/least_agreement", "R²", "Agreement of the kind that learners agree least with."),
    Metric("joint/most_agreement", "R²", "Of the kind that they agree most with."),
    Metric("human/flops_ratio", "", "FLOPs of the dearest kind over the cheapest."),
)  # fmt: skip

Count = Annotated[int, Field(gt=0, le=1_000_000)]


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    efforts: tuple[Count, ...] = Field((100, 450, 2000), description="steps of the humans")
    widths: tuple[Count, ...] = Field((4, 6, 12), description="hidden units of the humans")
    fresh: int = Field(1024, ge=2, le=1_000_000, description="learners, humans of `human` as it stands")
    where: Where = Field("on_and_off", description="the ball's questions, as in fresh_human_reference")
    questions: int = Field(128, ge=2, le=100_000, description="questions of the ball, of each kind")
    tolerance: float = Field(gt=0, le=100, description="δ, the ball's largest mean of squares, as a share of var f")
    effort: float = Field(0.5, gt=0, le=100, description="of the sampler")

    @field_validator("human")
    @classmethod
    def _of_any_kind(cls, human: Plugin) -> Plugin:
        if not {"width", "steps"} <= set(human.options):
            raise ValueError("a human with options 'width' and 'steps'")
        return human

    @property
    def kinds(self) -> dict[str, Plugin]:
        """Humans by name: every effort with every width."""
        options = self.human.options
        return {f"{w} units, {s} steps": self.human.model_copy(update={"options": {**options, "width": w, "steps": s}})
                for w in self.widths for s in self.efforts}  # fmt: skip


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where an arm's world asks for no number."""
    check_regression(arms)


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where a human's training broke."""
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One arm. Undecided where the sampler does not call the bits of a kind converged."""
    own = {"world": config.world, "human": config.human, "count": config.fresh, "of": "own"}
    learners = store.stage("fresh", train_fresh, config=own, seed=seed)
    asked = {"world": config.world, "learner": config.human, "where": config.where, "questions": config.questions,
             "tolerance": config.tolerance, "effort": config.effort, "centre": "human"}
    stages = [store.stage("kind", run, learners, config={**asked, "human": kind}, seed=seed)
              for kind in config.kinds.values()]  # fmt: skip
    kinds = {name: stage.values for name, stage in zip(config.kinds, stages, strict=True)}
    for name, kind in kinds.items():
        if kind["broken"]:
            raise Refusal(f"{name}: a training broke: {kind['broken']}; lower human.rate")
    metrics = summary(list(kinds.values()))
    trouble = "; ".join(f"{n}: {k['outright']['status']}" for n, k in kinds.items()
                        if k["outright"]["status"] != "converged")  # fmt: skip
    silent = [name for name, value in metrics.items() if value is None]
    untold = f"not told, for kinds do not differ: {', '.join(silent)}" if silent else ""
    sha256 = hashlib.sha256("".join(s.sha256 for s in (learners, *stages)).encode()).hexdigest()
    reason = "; ".join(filter(None, (trouble, untold)))
    return Measured(metrics, kinds, sha256, "undecided" if trouble else "ok", reason)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the learners in training, or the sampler's population of the widest human."""
    def one(c: Config) -> int:
        world, at_once = c.world.build(), round(4000 * max(1.0, c.effort))
        nets = [kind.build().net(world) for kind in c.kinds.values()]
        sampling = max(8 * at_once * (2 * c.questions * 4 * sum(net.sizes) + 8 * net.p) for net in nets)
        return max(sampling, training_bytes(c.human.build(), world, c.fresh))

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


def run(learners: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One human of one kind, its bits outright and given learners, and how far these agree with it."""
    world, kind = config["world"].build(), config["human"].build()
    options = config["human"].options
    name = f"kind/{options['width']}/{options['steps']}"
    theta_1 = world.teacher([stream(seed, "teacher")])
    fit = fresh.train(world, kind, theta_1, seed, [0], name)
    told = {"theta_teacher": theta_1, "theta_human": fit.theta}
    scene = Scene(Stored("", told, {}, False), config, seed)
    outright = estimate(scene.problem(), "smc", config["effort"], generator=stream(seed, f"{name}/mass"))
    near = scene.counting(config["learner"].build().net(world))
    counted = frequency.estimate_from(learners.tensors["theta"].double(), near)
    human = scene.answers(fit.theta, scene.x)[0]
    f = scene.right(scene.x)
    apart = near.cost(learners.tensors["theta"].double()).mean() * f.var(correction=0) / human.var(correction=0)
    return told, {
        "outright": plain(outright), "given_bits": counted.bits, "given_least_bits": counted.low,
        "hits": counted.diagnostics["hits"], "agreement": 1 - float(apart),
        "log10_flops": math.log10(kind.train_flops(world)), "broken": fit.broken.get(0, ""),
    }  # fmt: skip


def summary(kinds: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The metrics from what `run` said of each kind."""
    saved = [saved_share(k["outright"]["bits"], k["given_bits"], k["hits"]) for k in kinds]
    agreement, flops = ([k[name] for k in kinds] for name in ("agreement", "log10_flops"))
    slopes, together = regressed(saved, agreement, flops)
    return {
        "joint/agreement_slope": slopes and slopes[0],
        "joint/flops_slope": slopes and slopes[1],
        "joint/predictors_correlation": together,
        "joint/mean_saved_share": float(np.mean(saved)),
        "joint/censored": float(np.mean([k["hits"] == 0 for k in kinds])),
        "joint/least_agreement": min(agreement),
        "joint/most_agreement": max(agreement),
        "human/flops_ratio": 10 ** (max(flops) - min(flops)),
    }


def saved_share(outright: float, given: float, hits: int) -> float:
    """1 − given/outright; 0, a lower bound, where nobody hit, and where there was nothing to save."""
    return 1 - max(given, 0.0) / outright if hits and outright > 0 else 0.0


def regressed(
    y: Sequence[float], first: Sequence[float], second: Sequence[float]
) -> tuple[tuple[float, float] | None, float | None]:
    """Least-squares slopes of y on both together, each in units of its sd, and the correlation of both.

    No slopes where one does not vary or both vary as one.
    """
    x = np.array([first, second], dtype=float)
    spread = x.std(1)
    if not (spread > 1e-12).all():
        return None, None
    z = (x - x.mean(1, keepdims=True)) / spread[:, None]
    together = float((z[0] * z[1]).mean())
    if 1 - together**2 < 1e-9:
        return None, together
    slopes = np.linalg.lstsq(np.vstack([z, np.ones(len(y))]).T, np.asarray(y, dtype=float), rcond=None)[0]
    return (float(slopes[0]), float(slopes[1])), together
