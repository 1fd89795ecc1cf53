"""How good are a world's humans, where do they fail, and is the failure their own?

One cell is one draw of teacher, human and siblings for every arm; nothing else is trained. Arms may be other
worlds: they share the seed's streams, not the people.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, Field
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import Refusal
from reuse_sim.experiments.scene import MUST_FAIL_BY, Scene, does_not_fail, people_bytes, train_people
from reuse_sim.humans.answering import answering_share
from reuse_sim.humans.people import Population
from reuse_sim.inheritance import figures, observed
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import streams
from reuse_sim.types import World

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""How far off-distribution the fits of a curve are taken."""

METHOD = (
    "A teacher f is drawn; a human of limited width learns it by gradient descent on-distribution, with siblings (same "
    "teacher, other start and questions) and a repaired twin (trained on with off-distribution truth). All answer the "
    "same questions on- and off-distribution; fits are R², or accuracy where the world is a classification."
)

METRICS = (
    *(replace(metric, headline=True) for metric in figures.HUMAN),
    Metric(
        "human/fails",
        "share",
        f"Worlds whose human's fit is lower by {MUST_FAIL_BY} or more off-distribution. Experiments on outer "
        "models leave the others out; all count here.",
        headline=True,
        binary=True,
    ),
    Metric("human/fit_lost", "R² or accuracy", "Fit on-distribution less fit off it."),
    Metric(
        "human/answering_share",
        "share of θ2",
        "The part of θ2 that answering questions needs: without the rest, hidden units and further outputs, the human "
        "still answers as it does on-distribution (R² of .99).",
    ),
    Metric("human/behaviour_fit", "R²", "Fit of the human's further outputs to its tastes, on-distribution."),
    Metric("teacher/on_accuracy", "accuracy", "Share of on-distribution questions that f answers truly."),
    Metric("human/behind_teacher", "accuracy", "What H answers truly less often than f, on-distribution."),
)


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    strength: float = Field(1.0, ge=0, le=100, description="how far off-distribution; 0 is the world's mildest")
    population: Population = Population()
    human: Annotated[Plugin, plugin("humans")]
    repair_share: float = Field(
        0.5, gt=0, lt=1, description="weight of off-distribution truth in a repaired twin's loss"
    )
    questions: int = Field(1000, ge=30, le=100_000, description="questions per human, on and off each")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """The people of every arm, and their figures. Raises Refusal where a human's training broke."""
    out = {}
    for name, arm in arms.items():
        people = _people(arm, seed, store)
        found = store.stage("people figures", measure, people, config=dict(arm), seed=seed).values
        out[name] = Measured(found["metrics"], found["curve"], people.sha256)
    return out


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: its largest arm."""
    return max(people_bytes(arm) for arm in arms.values()) + 2**29  # and the libraries themselves


def _people(arm: Config, seed: int, store: Store) -> Stored:
    about = {key: value for key, value in dict(arm).items() if key != "questions"}
    people = store.stage("people", train_people, config=about, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
    return people


def measure(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All figures of one arm, and its curves: fits at every one of `STRENGTHS`, on the same random streams."""
    scene = Scene(config, people, seed)
    on, off, kind = scene.society("on"), scene.society("off"), scene.world.kind
    metrics = figures.of_human(on, off, scene.world.tolerance, kind)
    metrics["human/fails"] = float(not does_not_fail(metrics))
    metrics["human/fit_lost"] = metrics["human/on_fit"] - metrics["human/off_fit"]
    theta = people.tensors["theta_human"][0, scene.measured]
    metrics["human/answering_share"] = float(answering_share(scene.net, theta, scene.x["on"][:, :256]).mean())
    names = [f"own/human/{h}/questions" for h in range(config["population"].count)][scene.measured]
    likes = getattr(config["human"].build(), "tastes", lambda *_: None)(
        scene.world, scene.theta_teacher, streams(seed, names)
    )
    if likes is not None:
        does = scene.net.forward(theta, scene.x["on"])[..., 1:]
        fits = observed.r_squared(does.movedim(-1, 0), likes.answer(scene.x["on"]).movedim(-1, 0))
        metrics["human/behaviour_fit"] = float(fits.mean())
    metrics |= _truth(scene.world, scene, seed, None)
    return {}, {"metrics": metrics, "curve": {"curve": _curve(scene, config, seed)}}


def _curve(scene: Scene, config: Mapping[str, Any], seed: int) -> dict[str, list[float]]:
    """Fits to f of the human, its siblings (mean) and the repaired twin by strength; and to what is true, if known."""
    world = config["world"].build()
    names = [f"ask/{h}/off" for h in range(len(scene.theta_teacher))]
    curve: dict[str, list[float]] = {"strength": list(STRENGTHS)}
    for strength in STRENGTHS:
        x = world.off_distribution(scene.theta_teacher, config["questions"], streams(seed, names), strength)
        who = scene.answers(x)
        fits = {
            "human": observed.fit(world.kind, who.human, who.teacher),
            "siblings": observed.fit(world.kind, who.siblings, who.teacher.expand_as(who.siblings)).mean(),
            "repaired": observed.fit(world.kind, who.repaired, who.teacher),
        }
        for key, value in {**figures.numbers(fits), **_truth(world, scene, seed, strength)}.items():
            curve.setdefault(key, []).append(value)
    return curve


def _truth(world: World, scene: Scene, seed: int, strength: float | None) -> dict[str, float]:
    """How often f and H say what is true, where f was learned itself; empty elsewhere."""
    labelled = getattr(world, "labelled", None)
    if labelled is None:
        return {}
    n, count = scene.x["on"].shape[1], len(scene.theta_teacher)
    kind = "on" if strength is None else "off"
    x, truth = labelled(n, streams(seed, [f"ask/{h}/{kind}" for h in range(count)]), strength)
    who = scene.answers(x)
    teacher, human = (float(observed.accuracy(a, truth)) for a in (who.teacher, who.human))
    if strength is None:
        return {"teacher/on_accuracy": teacher, "human/behind_teacher": teacher - human}
    return {"teacher, truly": teacher, "human, truly": human}


def scene(arm: Config, seed: int, store: Store) -> dict[str, Any]:
    """What a world's card tells and shows beside figures, as plain values: texts, and f and H over the world's picture.

    The people are those of the cell with this seed, read from the store.
    """
    world, human = arm.world.build(), arm.human.build()
    people = _people(arm, seed, store)
    net, theta_1 = human.net(world), people.tensors["theta_teacher"][0, 0]
    inactive = getattr(world, "inactive", None)
    told: dict[str, Any] = {
        "world": arm.world.model_dump(mode="json"),
        "human": arm.human.model_dump(mode="json"),
        "about": inspect.getdoc(inspect.getmodule(type(world))) or "",
        "shifts": dict(world.shifts),
        "kind": world.kind,
        "tolerance": world.tolerance,
        "inputs": world.d,
        "teacher_parameters": len(theta_1),
        "human_parameters": net.p,
        "human_layers": list(net.sizes),
        "inactive": None if inactive is None else int(inactive(theta_1).sum()),
        "parameters_sha256": people.sha256,
    }
    if not hasattr(world, "picture"):
        return told
    drawn = world.picture(theta_1)
    x = drawn.x.flatten(0, 1)[None]
    teacher, answer = (
        a.unflatten(-1, drawn.x.shape[:2])[0].tolist()
        for a in (
            world.answer(theta_1[None], x),
            world.human_answer(net, people.tensors["theta_human"][0, :1], x),
        )
    )
    labels = {"across": drawn.across, "down": drawn.down, "columns": list(drawn.columns), "rows": list(drawn.rows)}
    return told | {"picture": labels | {"learned": drawn.learned.tolist(), "teacher": teacher, "human": answer}}
