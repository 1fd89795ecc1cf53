"""Ways to have f and H both: derivations of planted ways, and a cell whose ways are what they say."""

from __future__ import annotations

import json
import math

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError
from reuse_sim.experiments import joint_pareto, joint_ways
from reuse_sim.experiments.joint_pareto import derived, train_people
from reuse_sim.experiments.joint_ways import PAIR, REUSE, Scene
from reuse_sim.joint.derivation import way

ARM = {"world": {"use": "radius", "sines": 1}, "tolerance": 0.3, "questions": 32, "off_questions": 100, "fresh": 64,
       "human": {"use": "descent", "width": 4, "steps": 150, "rate": 0.02, "batch": 16}, "lessons": 150, "search": 4,
       "shared_widths": [6], "learner_widths": [2], "effort": 0.05, "batches": 10, "batch": 10}  # fmt: skip


def config(**changes):
    return joint_pareto.Config.model_validate_json(json.dumps(ARM | changes))


def planted(teacher: float, human: float, index: float):
    """θ1 and θ2 by codes, and the number of a fresh human after a training of 1000 FLOPs."""
    return [way("read θ1", (), ("θ1",), teacher), way("read θ2", (), ("θ2",), human),
            way("answer as f", ("θ1",), ("f", "f on-distribution"), question=1.0),
            way("answer as H", ("θ2",), REUSE, question=1.0),
            way("train fresh", ("θ1",), ("fresh",), once=1000.0),
            way("pick one", ("fresh",), ("θ2",), index)]  # fmt: skip


def test_derivations_of_planted_ways():
    """100 questions: reuse takes 100 FLOPs, both apart 200, by the index 1200. A decoder within ten passes has none
    of it: only apart, whose excess over θ2 is all of the teacher."""
    said, drawn = derived(planted(20.0, 30.0, 4.0), config(), 1.0)
    assert said["joint/reuse_bits"] == 30 and said["joint/reuse_flops"] == 100
    assert (said["joint/apart_bits"], said["joint/apart_flops"]) == (50, 200)
    assert (said["joint/index_bits"], said["joint/index_flops"]) == (24, 1200)
    assert said["joint/least_bits"] == 24 and said["joint/below_reuse"] == 6 and said["joint/front"] == 2
    assert said["joint/dominated"] == 0 and said["joint/excess"] == 1 and said["joint/excess_any"] == -0.3
    assert {p["name"] for p in drawn} == {"reuse", "apart", "index"} and all(p["front"] for p in drawn)
    assert derived(planted(20.0, 30.0, 4.0), config(), 0.1)[0]["joint/excess"] is None  # f takes ten passes itself
    dearer, _ = derived(planted(40.0, 30.0, 4.0), config(), 1.0)
    assert dearer["joint/dominated"] == dearer["joint/dominated_codes"] == 1 and dearer["joint/below_reuse"] == -14


def test_one_network_counts_where_its_f_is_f_and_bits_back_are_no_code():
    """A network of 40 bits for both halves the excess where its f is f. Bits back are on the front, yet no code."""
    both = [way("read shared", (), ("shared",), 40.0), way("answer as both", ("shared",), PAIR, question=2.0)]
    said, _ = derived(planted(20.0, 30.0, 4.0) + both, config(), 1.0)
    assert said["joint/excess"] == 0.5 and said["joint/shared_bits"] == 40
    only = [both[0], way("answer as both", ("shared",), REUSE, question=2.0)]
    said, drawn = derived(planted(20.0, 30.0, 4.0) + only, config(), 1.0)
    assert said["joint/excess"] == 1 and said["joint/shared_bits"] == 40
    assert [p["pair"] for p in drawn if p["name"] == "shared"] == [False]
    back = way("bits back", (), ("θ1", "θ2"), 10.0, once=5000.0)
    said, _ = derived([*planted(40.0, 30.0, 4.0), back], config(), 1.0)
    assert said["joint/dominated"] == 0 and said["joint/dominated_codes"] == 1 and said["joint/bits_back_bits"] == 10


@pytest.fixture(scope="module")
def scene():
    c = config(tolerance=0.04)
    people, _ = train_people({k: getattr(c, k) for k in ("world", "human", "fresh")}, 0)
    return Scene(c, people, 0)


def test_the_training_rerun_gives_the_human_and_another_start_another(scene):
    process = joint_ways.rerun(scene)
    assert torch.equal(process(scene.people["start"]), scene.people["human"])
    other = scene.net.init([torch.Generator().manual_seed(1)])
    assert not torch.equal(process(other), scene.people["human"])


def test_the_index_is_the_share_of_fresh_humans_within_the_tolerance(scene):
    scene.ways.clear()
    joint_ways.by_fresh_humans(scene)
    near = scene.from_human(scene.people["fresh"].double())
    share = float((near <= 0.04).double().mean())
    picked = {w.name: w for w in scene.ways}
    assert 0 < share < 1 and picked["pick one"].bits == pytest.approx(-math.log2(share))
    assert picked["train fresh"].once == pytest.approx(6 * scene.net.p * 150 * 16 / share)
    assert float(scene.from_human(scene.human[None])) < 1e-20


def test_a_cell_says_everything_and_arms_share_their_people(tmp_path):
    store = Store(tmp_path)
    found = joint_pareto.cell({"one": config(), "fine": config(tolerance=0.2)}, 0, store)
    assert store.computed == 3  # the people, and the ways at each tolerance
    for said in found.values():
        assert set(said.metrics) == {m.name for m in joint_pareto.METRICS}
        assert all(name in said.reason for name, value in said.metrics.items() if value is None)
        m = {name: value or 0.0 for name, value in said.metrics.items()}
        assert m["joint/replays"] == 1 and m["joint/apart_bits"] == m["ledger/teacher_bits"] + m["ledger/human_bits"]
        assert m["joint/reuse_bits"] == m["ledger/human_bits"]
        assert m["joint/below_reuse"] == pytest.approx(m["joint/reuse_bits"] - m["joint/least_bits"])
        assert json.loads(json.dumps(said.diagnostics["ways"]))[0]["name"] == "read θ1"
    assert joint_pareto.memory_bytes({"one": config()}) > 2**29


def test_what_cannot_be_is_refused():
    with pytest.raises(ValidationError, match="by descent"):
        config(human={"use": "evolved", "width": 4})
    with pytest.raises(InputError, match="Take radius"):
        joint_pareto.check({"one": config(world={"use": "merged_neurons"})})
    joint_pareto.check({"one": config()})
