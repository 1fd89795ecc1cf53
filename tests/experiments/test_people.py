"""People alone: figures of every arm's humans, and a plain word where they do not fail."""

import pytest

from reuse_sim.artifacts import Store
from reuse_sim.experiments import people, reuse
from reuse_sim.inheritance import figures

ARM = {"world": {"use": "radius"}, "population": {"siblings": 3}, "human": {"use": "descent", "width": 6, "steps": 200},
       "questions": 300}  # fmt: skip


def arms(**changes):
    return {name: people.Config.model_validate(ARM | change) for name, change in changes.items()}


def test_arms_may_be_other_worlds(tmp_path):
    found = people.cell(arms(one={}, other={"world": {"use": "spurious"}}), 0, Store(tmp_path))
    assert set(found["one"].metrics) == {m.name for m in people.METRICS} > {m.name for m in figures.HUMAN}
    assert found["one"].status == "ok" and found["one"].metrics["human/fails"] == 1
    assert found["other"].parameters_sha256 != found["one"].parameters_sha256
    assert found["other"].metrics["human/on_fit"] <= 1 and found["other"].metrics["human/off_fit"] >= 0  # accuracies
    assert people.memory_bytes(arms(one={})) > 2**29


def test_a_human_who_does_not_fail_is_counted_and_outers_are_not_trained_on_it(tmp_path):
    mild = {"world": {"use": "spurious"}, "strength": 0.0, "human": {"use": "descent", "width": 6, "steps": 300}}
    found = people.cell(arms(mild=mild), 0, Store(tmp_path))["mild"]
    assert found.status == "ok" and found.metrics["human/fails"] == 0
    why = reuse.does_not_fail(found.metrics)
    assert "does not fail off-distribution" in why and "a stronger shift" in why


def test_strength_is_a_dial(tmp_path):
    found = people.cell(arms(near={"strength": 0.5}, far={"strength": 2.0}), 0, Store(tmp_path))
    fits = [found[name].metrics["human/off_fit"] for name in ("near", "far")]
    assert fits[0] > fits[1] and found["near"].metrics["human/on_fit"] == pytest.approx(
        found["far"].metrics["human/on_fit"]
    )
