"""Can what a human came to be be learned again from what it was taught, within an outer model's budget?

One cell is one teacher, a human of some kind, fresh humans of the same kind (its siblings), and as many learners of
each width, which descend on f's on-distribution answers. All predict the human's answers off-distribution. Where the
fresh do well and the learners do not, the human is beyond their learning. Arms are kinds of humans, each in a world
of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments.scene import MUST_FAIL_BY, does_not_fail, training_bytes
from reuse_sim.inheritance import figures, observed
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams
from reuse_sim.types import Human, World
from reuse_sim.worlds.strength import at_strength

METHOD = (
    "A teacher f is drawn; a human of the arm's kind and fresh humans of that kind (other starts and questions) learn "
    "it. Learners of several widths descend on f's on-distribution answers with an outer model's budget. The human is "
    "asked off-distribution, and its answers are predicted by each fresh human, by each learner, and by f: R² in the "
    "variance of the human's own answers there. The best learner is the best width, by the mean over its learners."
)

HUMAN = tuple(replace(m, headline=True) for m in figures.HUMAN if m.name in ("human/on_fit", "human/off_fit"))
FAILURE = r"R^2(P-f,\,H-f)"

METRICS = (
    Metric("rederive/fresh_fit", "R²", "How a fresh human of the kind predicts H.", r"R^2(H', H)", headline=True),
    Metric(
        "rederive/learned_fit",
        "R²",
        "How the best learner predicts H; f itself is a candidate too.",
        r"\max(\max_w \overline{R^2(L_w, H)},\ R^2(f, H))",
        headline=True,
    ),
    Metric("rederive/teacher_fit", "R²", "How f predicts H.", r"R^2(f, H)", headline=True),
    Metric("rederive/gap", "R²", "What a fresh human knows of H and no learner does.", headline=True),
    *HUMAN,
    Metric("human/fails", "share", f"Worlds whose human's fit is lower by {MUST_FAIL_BY} or more off-distribution.",
           binary=True),
    Metric("rederive/pooled_fit", "R²", "How the mean answer of all learners of a width predicts H; the best width."),
    Metric("rederive/own_fresh", "R²", "How a fresh human's failure predicts H's.", FAILURE),
    Metric("rederive/own_learned", "R²", "How the best learner's failure predicts H's; f, who has none, too.", FAILURE),
    Metric("human/train_flops", "FLOPs", "What training one human costs; nothing where its kind does not tell."),
    Metric("learner/train_flops", "FLOPs", "What training one learner of the best width costs."),
)


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    strength: float = Field(1.0, ge=0, le=100, description="how far off-distribution; 0 is the world's mildest")
    human: Annotated[Plugin, plugin("humans")]
    fresh: int = Field(4, ge=1, le=100, description="fresh humans, and learners of each width")
    learner: Annotated[Plugin, plugin("humans")]
    learner_widths: tuple[Annotated[int, Field(gt=0, le=4096)], ...] = Field(
        (), description="widths of learners, beside that of the human"
    )
    questions: int = Field(1000, ge=30, le=100_000, description="questions on and off each")

    @field_validator("learner")
    @classmethod
    def _of_any_width(cls, learner: Plugin) -> Plugin:
        if "width" not in learner.options:
            raise ValueError("a learner with an option 'width'")
        return learner


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where a world has no place for an arm's human or learner."""
    for name, arm in arms.items():
        try:
            for width in _widths(arm):
                _of_width(arm.learner, width).build().net(arm.world.build())
        except InputError as e:
            raise InputError(f"arm {name}: {e.where}", e.got, e.expected, e.do) from e


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """Humans and learners of every arm, and their figures. Raises Refusal where anybody's training broke."""
    out = {}
    for name, arm in arms.items():
        about = {"world": arm.world, "strength": arm.strength, "count": arm.fresh}
        config = {**about, "count": arm.fresh + 1, "human": arm.human, "who": "human"}
        trained = [store.stage("humans", train_people, config=config, seed=seed)]
        for width in _widths(arm):
            # Stored by width, so that arms of the same world share them.
            config = {**about, "human": _of_width(arm.learner, width), "who": "learner"}
            trained.append(store.stage("learners", train_people, config=config, seed=seed))
        for people in trained:
            if people.values["broken"]:
                raise Refusal(f"arm {name}: a training broke: {people.values['broken'][0]}; lower its rate")
        figure = store.stage("rederived", measure, *trained, config=arm, seed=seed).values
        metrics = {metric.name: figure["metrics"].get(metric.name) for metric in METRICS}
        sha256 = hashlib.sha256("".join(t.sha256 for t in trained).encode()).hexdigest()
        silent = [metric for metric, value in metrics.items() if value is None]
        reason = f"no train_flops in its kind: {', '.join(silent)}" if silent else ""
        out[name] = Measured(metrics, figure["parts"], sha256, reason=reason)
    return out


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the largest stack of humans or learners."""
    stacks = []
    for arm in arms.values():
        world = arm.world.build()
        stacks.append(training_bytes(arm.human.build(), world, arm.fresh + 1))
        stacks += [training_bytes(_of_width(arm.learner, w).build(), world, arm.fresh) for w in _widths(arm)]
    return max(stacks) + 2**29  # and the libraries themselves


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """`count` humans of one teacher, `(count, p)`, from the streams of `who`."""
    world, human, names = _world(config), config["human"].build(), range(config["count"])
    teacher = _teacher(world, seed).expand(len(names), -1)
    start, questions = (streams(seed, [f"{config['who']}/{i}/{what}" for i in names]) for what in ("init", "questions"))
    fit = human.train(world, human.init(world, start), teacher, questions)
    return {"theta": fit.theta}, {"broken": list(fit.broken.values())}


def measure(*trained: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All figures of one arm: the humans, the learners of each width, then configuration and seed."""
    *stored, arm, seed = trained
    world, humans = at_strength(arm.world.build(), arm.strength), stored[0].tensors["theta"]
    kinds: list[Human] = [arm.human.build(), *(_of_width(arm.learner, w).build() for w in _widths(arm))]
    teacher = _teacher(world, seed)
    on, off = (
        draw(teacher, arm.questions, [stream(seed, f"{where}/questions")])
        for where, draw in (("on", world.on_distribution), ("off", world.off_distribution))
    )

    def answers(kind: Human, theta: Tensor, x: Tensor) -> Tensor:
        return world.human_answer(kind.net(world), theta.unsqueeze(1), x)

    people = [answers(kind, s.tensors["theta"], off) for kind, s in zip(kinds, stored, strict=True)]
    truth = world.answer(teacher, off)
    learned = dict(zip(_widths(arm), people[1:], strict=True))
    metrics, parts = rederived(people[0][0], people[0][1:], learned, truth)
    fits = {
        "human/on_fit": observed.fit(world.kind, answers(kinds[0], humans[:1], on)[0], world.answer(teacher, on)),
        "human/off_fit": observed.fit(world.kind, people[0][0], truth),
    }
    metrics |= figures.numbers(fits)
    metrics["human/fails"] = float(not does_not_fail(metrics))
    best = kinds[1 + list(learned).index(parts["best_width"])]
    for who, kind in (("human", kinds[0]), ("learner", best)):
        if hasattr(kind, "train_flops"):
            metrics[f"{who}/train_flops"] = float(kind.train_flops(world))  # type: ignore[attr-defined]
    return {}, {"metrics": metrics, "parts": parts}


def rederived(
    human: Tensor, fresh: Tensor, learned: Mapping[int, Tensor], truth: Tensor
) -> tuple[dict[str, float], dict[str, Any]]:
    """The `rederive` metrics from answers to the same questions, and the fit of each width.

    Args:
        human, truth: the human's answers and f's, `(1, n)`.
        fresh: those of fresh humans, `(S, 1, n)`.
        learned: those of learners by width, `(S, 1, n)`.
    """
    by_width = {width: float(observed.r_squared(answer, human).mean()) for width, answer in learned.items()}
    width = max(by_width, key=by_width.__getitem__)
    teacher = float(observed.r_squared(truth, human))
    failure = human - truth
    own = [float(observed.r_squared(answer - truth, failure).mean()) for answer in learned.values()]
    metrics = {
        "rederive/fresh_fit": float(observed.r_squared(fresh, human).mean()),
        "rederive/learned_fit": max(by_width[width], teacher),
        "rederive/teacher_fit": teacher,
        "rederive/pooled_fit": max(float(observed.r_squared(a.mean(0), human)) for a in learned.values()),
        "rederive/own_fresh": float(observed.r_squared(fresh - truth, failure).mean()),
        "rederive/own_learned": max(*own, float(observed.r_squared(torch.zeros_like(failure), failure))),
    }
    metrics["rederive/gap"] = metrics["rederive/fresh_fit"] - metrics["rederive/learned_fit"]
    return metrics, {"best_width": width, "learned_by_width": {str(w): fit for w, fit in by_width.items()}}


def _widths(arm: Config) -> tuple[int, ...]:
    """Each once, the human's own first."""
    own = arm.human.build().net(arm.world.build()).sizes[1]
    return tuple(dict.fromkeys((own, *arm.learner_widths)))


def _of_width(learner: Plugin, width: int) -> Plugin:
    return learner.model_copy(update={"options": {**learner.options, "width": width}})


def _world(config: Mapping[str, Any]) -> World:
    return at_strength(config["world"].build(), config["strength"])


def _teacher(world: World, seed: int) -> Tensor:
    return world.teacher([stream(seed, "teacher")])
