"""The teacher from the human: what is written, what is summed, and what a cell says."""

from __future__ import annotations

import json
import math

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store, Stored
from reuse_sim.experiments import teacher_from_human as experiment
from reuse_sim.ledger.students import Waves
from reuse_sim.rng import streams
from reuse_sim.worlds import radius

ARM = {"world": {"use": "radius", "sines": 1}, "human": {"use": "descent", "width": 2, "steps": 50}, "units": 3,
       "questions": 24, "first": 8, "steps": 5, "teaching": 5, "fineness": [0.3]}  # fmt: skip


def config(**changes):
    return experiment.Config.model_validate_json(json.dumps(ARM | changes))


def test_a_teacher_is_a_sum_of_waves() -> None:
    world = radius.build(sines=3)
    theta = world.teacher(streams(0, ["teacher"])).double()
    x = world.on_distribution(theta, 50, streams(0, ["x"]))
    waves = Waves(4, 3)
    same = experiment.as_waves(theta[0], 4)
    assert same.shape == (waves.p,) and float(same[12:15].abs().max()) <= math.pi
    assert torch.allclose(waves.forward(same, x[0])[:, 0], world.answer(theta, x)[0], atol=1e-12)


@pytest.mark.parametrize(("asked", "least", "most"), [("on", 0, 2), ("off", 2, 5), ("broad", 0, 5)])
def test_questions_are_of_their_kind(asked: str, least: float, most: float) -> None:
    world = radius.build()
    theta = world.teacher(streams(0, ["teacher"]))
    x = experiment.draw(world, theta, asked, 101, 0, "x")
    r = x.norm(dim=-1)[0]
    assert x.shape == (1, 101, 4) and least <= float(r.min()) and float(r.max()) <= most
    if asked == "broad":
        assert bool((r[::2] <= 2).all()) and bool((r[1::2] > 2).all())


def test_the_summary_of_planted_lengths() -> None:
    """Errors chosen so that a unit costs a bit an answer: cold 8 and 4 in two blocks, given 2 and 6."""
    unit, c = 2 * 0.15 * math.log(2), config(first=2, questions=4)
    rows = torch.tensor([[4.0, 4, 2, 2], [1, 1, 3, 3], [4, 4, 2, 2], [9, 9, 9, 9]], dtype=torch.float64) * unit
    human = torch.full((4, 4), 10.0, dtype=torch.float64) * unit
    human[1] = 1.0 * unit
    learned = Stored("", {"errors": torch.stack([rows, human])}, {"human_error": 0.3}, False)
    written = Stored("", {}, {"teacher": [(20, 0.0), (6, 4 * unit / 4)], "human": [(30, 0.0)]}, False)
    said, diagnostics = experiment.summary(c, learned, written)
    assert said["ledger/cold_bits"] == pytest.approx(12) and said["ledger/written_bits"] == pytest.approx(10)
    mixed = -math.log2((2**-8 + 2**-2) / 2) - math.log2((2**-4 + 2**-6) / 2)
    assert said["ledger/given_bits"] == pytest.approx(mixed) and said["ledger/naive_share"] == pytest.approx(8 / 12)
    assert said["ledger/given_share"] == pytest.approx(mixed / 10)
    assert said["ledger/student_share"] == pytest.approx(mixed / 12)
    assert said["ledger/sibling_share"] == pytest.approx(14 / 12 - 0, abs=0.3)
    given_human = 2 * -math.log2((2**-20 + 2**-2) / 2)
    assert said["ledger/reverse_share"] == pytest.approx(given_human / 30)
    # The joint code: f outright and H given f, 10 + 6, against H alone, 30: shorter than H by itself.
    joint = min(10 + 30, 30 + mixed, 10 + given_human)
    assert said["ledger/joint_share"] == pytest.approx((joint - 30) / 10)
    assert diagnostics["ends"] == [2, 4] and diagnostics["blocks"][0][0] == pytest.approx([8, 4])
    assert set(said) == {m.name for m in experiment.METRICS}


def test_what_is_written_is_within_its_tolerance_or_counted(tmp_path) -> None:
    who = {k: getattr(config(), k) for k in ("world", "human")}
    people = Store(tmp_path).stage("people", experiment.raised, config=who, seed=0)
    asked = {"world": config().world, "human": config().human, "asked": "on", "questions": 64, "fineness": (0.3, 0.02)}
    _, found = experiment.write(people, asked, 0)
    for name in ("teacher", "human"):
        (coarse, left), (fine, less) = found[name]
        assert coarse < fine and less <= 0.02 and less < left <= 0.3


def test_a_cell_trains_once_for_all_tolerances_and_keeps_people(tmp_path) -> None:
    store = Store(tmp_path)
    arms = {"loose": config(), "tight": config(tolerance=0.05), "sines": config(student="sines", asked="broad")}
    found = experiment.cell(arms, 0, store)
    assert store.computed == 1 + 2 + 2  # people; learners of two arms; what is written for two kinds of questions
    for said in found.values():
        assert set(said.metrics) == {m.name for m in experiment.METRICS}
        assert all(v is not None and math.isfinite(v) for v in said.metrics.values())
        assert 0 < said.metrics["ledger/given_share"] <= 1 and said.metrics["ledger/joint_share"] <= 1
    loose, tight = (found[k].metrics["ledger/cold_bits"] for k in ("loose", "tight"))
    assert tight == pytest.approx(3 * loose)
    assert experiment.memory_bytes(arms) > 2**29


def test_learners_given_the_other_begin_with_it(tmp_path) -> None:
    """Well taught and hardly trained, the learner of f given H says what H says: it is off by what H is."""
    human = ARM["human"] | {"steps": 400}
    c = config(questions=512, first=256, teaching=2500, steps=1, rate=1e-2, units=12, human=human)
    store = Store(tmp_path)
    people = store.stage("people", experiment.raised, config={"world": c.world, "human": c.human}, seed=1)
    out = experiment.learn(people, c.model_dump() | {"world": c.world, "human": c.human}, 1)
    errors, off = out[0]["errors"].mean(-1), out[1]["human_error"]
    assert float(errors[0, 0]) == pytest.approx(1, abs=0.15)  # cold says nothing
    assert float(errors[0, 1]) == pytest.approx(off, rel=0.3) and off > 0.02
    assert float(errors[0, 3]) > 3 * off  # another teacher's human misleads


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValidationError, match="sums of sines"):
        config(world={"use": "spurious"})
