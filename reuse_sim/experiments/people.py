"""How good are a world's humans, where do they fail, and is the failure their own?

One cell is one draw of teacher, human and siblings for every arm; nothing else is trained. Arms may be other
worlds: they share the seed's streams, not the people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, Field

from reuse_sim.artifacts import Store
from reuse_sim.errors import Refusal
from reuse_sim.experiments import reuse
from reuse_sim.humans.people import Population
from reuse_sim.inheritance import figures
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric

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
        f"Worlds whose human's fit is lower by {reuse.MUST_FAIL_BY} or more off-distribution. Experiments on outer "
        "models leave the others out; all count here.",
        headline=True,
    ),
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
        config = dict(arm)
        about = {key: value for key, value in config.items() if key != "questions"}
        people = store.stage("people", reuse.train_people, config=about, seed=seed)
        if people.values["broken"]:
            raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
        human = store.stage("human figures", reuse.measure_humans, people, config=config, seed=seed).values
        fails = {"human/fails": float(not reuse.does_not_fail(human))}
        out[name] = Measured({**human, **fails}, {}, people.sha256)
    return out


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: its largest arm."""
    return max(reuse.people_bytes(arm) for arm in arms.values()) + 2**29  # and the libraries themselves
