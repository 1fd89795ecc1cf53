"""People alone: figures of every arm's humans, and a plain word where they do not fail."""

import json

import pytest

from reuse_sim.artifacts import Store
from reuse_sim.experiments import people
from reuse_sim.experiments.scene import does_not_fail
from reuse_sim.inheritance import figures

ARM = {"world": {"use": "radius"}, "population": {"siblings": 3}, "human": {"use": "descent", "width": 6, "steps": 200},
       "questions": 300}  # fmt: skip


def arms(**changes):
    return {name: people.Config.model_validate(ARM | change) for name, change in changes.items()}


def test_arms_may_be_other_worlds(tmp_path):
    found = people.cell(arms(one={}, other={"world": {"use": "spurious"}}), 0, Store(tmp_path))
    only_some = {"human/behaviour_fit", "teacher/on_accuracy", "human/behind_teacher"}
    assert set(found["one"].metrics) == {m.name for m in people.METRICS} - only_some > {m.name for m in figures.HUMAN}
    assert found["one"].status == "ok" and found["one"].metrics["human/fails"] == 1
    assert found["other"].parameters_sha256 != found["one"].parameters_sha256
    assert found["other"].metrics["human/on_fit"] <= 1 and found["other"].metrics["human/off_fit"] >= 0  # accuracies
    assert people.memory_bytes(arms(one={})) > 2**29


def test_a_human_who_does_not_fail_is_counted_and_outers_are_not_trained_on_it(tmp_path):
    mild = {"world": {"use": "spurious"}, "strength": 0.0, "human": {"use": "descent", "width": 6, "steps": 300}}
    found = people.cell(arms(mild=mild), 0, Store(tmp_path))["mild"]
    assert found.status == "ok" and found.metrics["human/fails"] == 0
    why = does_not_fail(found.metrics)
    assert "does not fail off-distribution" in why and "a stronger shift" in why


def test_strength_is_a_dial(tmp_path):
    found = people.cell(arms(near={"strength": 0.5}, far={"strength": 2.0}), 0, Store(tmp_path))
    fits = [found[name].metrics["human/off_fit"] for name in ("near", "far")]
    lost = [found[name].metrics["human/fit_lost"] for name in ("near", "far")]
    assert lost[1] - lost[0] == pytest.approx(fits[0] - fits[1])
    assert fits[0] > fits[1] and found["near"].metrics["human/on_fit"] == pytest.approx(
        found["far"].metrics["human/on_fit"]
    )


def test_behaviours_and_truth_have_their_figures_where_there_are_any(tmp_path):
    busy = {"human": {"use": "descent", "width": 12, "steps": 400, "behaviours": 2}}
    human = {"use": "descent", "width": 8, "steps": 60}
    digits = {"world": {"use": "digits", "width": 16, "steps": 60}, "human": human}
    found = people.cell(arms(busy=busy, digits=digits), 0, Store(tmp_path))
    assert found["busy"].metrics["human/behaviour_fit"] > 0.7 > found["busy"].metrics["human/answering_share"]
    truly = found["digits"].diagnostics["curve"]
    assert len(truly["teacher, truly"]) == len(people.STRENGTHS) == len(truly["human, truly"])
    metrics = found["digits"].metrics
    assert metrics["teacher/on_accuracy"] == truly["teacher, truly"][0] or metrics["teacher/on_accuracy"] > 0.6
    assert abs(metrics["human/behind_teacher"]) < 0.4


def test_a_curve_passes_through_the_figures(tmp_path):
    found = people.cell(arms(one={}, far={"strength": 1.5}), 0, Store(tmp_path))
    for name, strength in (("one", 1.0), ("far", 1.5)):
        curve = found[name].diagnostics["curve"]
        at = curve["strength"].index(strength)
        assert curve["human"][at] == found[name].metrics["human/off_fit"]
        assert curve["repaired"][at] == found[name].metrics["human/repaired_off_fit"]


def test_a_scene_is_plain_and_of_the_cells_people(tmp_path):
    store = Store(tmp_path)
    found = people.cell(arms(one={}), 0, store)["one"]
    before = store.computed
    told = people.scene(arms(one={})["one"], 0, store)
    assert store.computed == before and told["parameters_sha256"] == found.parameters_sha256
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    rows, columns = len(told["picture"]["rows"]), len(told["picture"]["columns"])
    for key in ("teacher", "human", "learned"):
        assert len(told["picture"][key]) == rows and {len(r) for r in told["picture"][key]} == {columns}
    assert told["human_layers"] == [4, 6, 1] and told["teacher_parameters"] == 26
