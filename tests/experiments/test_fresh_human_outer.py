"""How people are told, what stands beside them, and figures of planted outers that answer with the human or with f."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import InputError
from reuse_sim.experiments import fresh_human_outer as outer
from reuse_sim.experiments import scene
from reuse_sim.experiments.telling import Speech
from reuse_sim.humans.people import Population
from reuse_sim.inheritance import observed
from reuse_sim.nets import Mlp
from reuse_sim.outers import blocks, slot
from reuse_sim.rng import stream, streams

ARM: dict[str, Any] = {
    "world": {"use": "radius", "sines": 2},
    "human": {"use": "descent", "width": 3, "steps": 60, "rate": 0.02, "batch": 16},
    "fresh": 32, "questions": 16, "asked": 100, "correction": 0.05, "width": 8,
    "training": {"steps": 30, "batch": 16, "off_batch": 16, "behaviour_weight": 0},
}  # fmt: skip


def config(**changes: Any) -> outer.Config:
    return outer.Config.model_validate_json(json.dumps(ARM | changes))


@pytest.fixture
def everyone_fails(monkeypatch):
    monkeypatch.setattr(scene, "MUST_FAIL_BY", -10.0)


# How people are told ----------------------------------------------------------------------------------


def speech(correction: float = 0.01) -> tuple[Speech, torch.Tensor, torch.Tensor]:
    """People `(3, p)`, and a pool in which copies of them stand at 4, 9 and 2, their hidden units in another order."""
    world, net = config().world.build(), Mlp((4, 3, 1), "tanh")
    people, pool = net.init(streams(0, ["a", "b", "c"])), net.init(streams(1, [str(i) for i in range(12)]))
    order, v = [2, 0, 1], net.views(people)
    turned = [v["weight0"][:, order].flatten(1), v["bias0"][:, order], v["weight1"][..., order].flatten(1), v["bias1"]]
    pool[[4, 9, 2]] = torch.cat(turned, dim=1)
    x = torch.randn(40, 4, generator=stream(2, "x"), dtype=torch.float64)
    return Speech(world, net, x, 0.5, correction, "told"), people, pool


def test_the_nearest_is_who_answers_alike_however_its_units_stand():
    said, people, pool = speech()
    assert said.nearest(people, pool).tolist() == [4, 9, 2]
    place, bits = said.place("nearest", people, pool, stream(0, "g"))
    assert torch.equal(place, pool[[4, 9, 2]]) and bits == math.log2(12)
    assert said.distance(place[:1], people[:1]) == pytest.approx(0, abs=1e-12)
    assert not torch.allclose(place, people)


def test_who_is_told_outright_or_not_at_all_or_anyhow():
    said, people, pool = speech()
    apart = pool[[0, 1, 3]]
    place, bits = said.place("outright", people, apart, stream(0, "g"))
    assert torch.equal(place, people)
    # The message may be as far off as the nearest: dearer the nearer that is.
    near = people + 0.02 * (apart - people)
    assert said.place("outright", people, near, stream(0, "g"))[1] > bits + 10
    assert said.place("none", people, pool, stream(0, "g"))[0].count_nonzero() == 0
    anyone, nothing = said.place("random", people, pool, stream(0, "g"))
    assert nothing == 0 and all((row == pool).all(-1).any() for row in anyone)
    assert not torch.equal(anyone, pool[[4, 9, 2]])


def test_a_correction_leaves_no_more_than_it_may_and_costs_its_message():
    said, people, pool = speech(0.01)
    apart = pool[[0, 1, 3]]
    place, bits = said.place("corrected", people, apart, stream(0, "g"))
    for one, human in zip(place, people, strict=True):
        assert 0 < said.distance(one[None], human[None]) <= 0.01 * (1 + 1e-5)
    assert bits > said.place("nearest", people, apart, stream(0, "g"))[1] + 10


def test_only_arms_with_f_at_hand_read_it():
    world = config().world.build()
    theta_1 = world.teacher(streams(0, ["a", "b"]))
    x = world.on_distribution(theta_1[:1], 9, [stream(0, "x")])
    read = outer.beside(world, theta_1, torch.tensor([False, True]), x)
    assert read.shape == (2, 1, 9) and not read[0].any()
    assert torch.equal(read[1], world.answer(theta_1[1:], x))


# Planted outers ----------------------------------------------------------------------------------------


def planted(net: Mlp, reads: int) -> torch.Tensor:
    """θ `(p,)` of a slot of 8 units that answers with one of its inputs: the human's answer stands at 4, f's at 5."""
    layout = slot.build(8)._layout(net)
    theta = torch.zeros(1, blocks.size(layout))
    blocks.views(layout, theta)["skip"][0, 0, reads] = 1.0
    return theta[0]


@pytest.fixture
def measured(tmp_path, everyone_fails):
    """Figures of four arms whose outers are planted, and what the people of that world answer."""
    arms = {"human": config(), "coded": config(told="nearest"), "f": config(told="nearest", at_hand=True),
            "deaf": config(told="nearest")}  # fmt: skip
    store = Store(tmp_path)
    shared = {"world": arms["f"].world, "strength": 1.0, "population": Population(), "human": arms["f"].human}
    people = store.stage("people", scene.train_people, config=shared | {"repair_share": 0.5}, seed=0)
    about = shared | {"questions": 100}
    pool = store.stage("fresh", outer.train_fresh, people, seed=0,
                       config=about | {"count": 32, "named": 16, "teacher_code": 0.0, "other": False})  # fmt: skip
    places = store.stage("places", outer.tell, people, pool, seed=0,
                         config=about | {"named": 16, "correction": 0.05, "arms": arms})  # fmt: skip
    net = arms["f"].human.build().net(config().world.build())
    answers_with = {"human": 4, "coded": 4, "f": 5, "deaf": 5}
    outers = Stored("", {name: planted(net, reads) for name, reads in answers_with.items()}, {}, False)
    _, found = outer.measure(people, places, outers, about | {"arms": arms}, 0)
    here = scene.Scene(about, people, 0)
    return {name: said["metrics"] for name, said in found.items()}, here, places


def test_an_outer_that_answers_with_the_human_inherits_all_of_it(measured):
    found, _, _ = measured
    for name in ("causal_private", "causal_total", "causal_repaired", "contrast", "beta"):
        assert found["human"][f"inheritance/{name}"] == pytest.approx(1, abs=1e-5)
    assert found["human"]["inheritance/gap_recovered"] == pytest.approx(0, abs=1e-5)
    assert found["human"]["joint/told_own"] == pytest.approx(1) and found["human"]["joint/told_distance"] == 0


def test_an_outer_that_answers_with_the_coded_human_fails_as_that_one_does(measured):
    found, here, places = measured
    off, human = here.society("off"), here.world.human_answer(here.net, places.tensors["coded"], here.x["off"])
    told, siblings, repaired = human[:1], human[1:-1], human[-1:]
    said = found["coded"]
    gap = 1 - float((told - off.teacher).square().mean() / (off.human - off.teacher).square().mean())
    own = float(observed.r_squared(told - off.teacher, off.human - off.teacher))
    assert said["inheritance/gap_recovered"] == pytest.approx(gap, abs=1e-5)
    assert said["joint/told_own"] == pytest.approx(own, abs=1e-5)
    # Siblings and the repaired twin go in as they are told, each as its own nearest …
    change = off.siblings[:, 0] - off.human
    private = float(((siblings - told) * change).sum() / change.square().sum())
    assert said["inheritance/causal_private"] == pytest.approx(private, abs=1e-5) and abs(private - 1) > 0.01
    change = off.repaired - off.human
    total = float(((repaired - told) * change).sum() / change.square().sum())
    assert said["inheritance/causal_total"] == pytest.approx(total, abs=1e-5)
    # … and once the repaired twin itself.
    itself = float(((off.repaired - told) * change).sum() / change.square().sum())
    assert said["inheritance/causal_repaired"] == pytest.approx(itself, abs=1e-5) and abs(itself - total) > 0.1


def test_an_outer_that_answers_with_f_inherits_nothing(measured):
    found, _, _ = measured
    said = found["f"]
    assert said["inheritance/causal_teacher"] == pytest.approx(1, abs=1e-5)
    assert said["inheritance/gap_recovered"] == pytest.approx(1)
    assert said["inheritance/causal_private"] == said["inheritance/causal_repaired"] == 0
    # Without f at hand nothing is there to be read, and no figure of a swap.
    assert "inheritance/causal_teacher" not in found["deaf"]
    assert found["deaf"]["outer/off_fit"] < 0.1


# Whole cells ----------------------------------------------------------------------------------------


def test_arms_differ_by_what_they_are_told(tmp_path, everyone_fails):
    arms = {told: config(told=told) for told in ("none", "outright", "nearest", "corrected", "other", "random")}
    arms |= {"f": config(told="nearest", at_hand=True), "coded": config(told="nearest", at_hand=True, teacher_code=0.1)}
    found = outer.cell(arms, 0, Store(tmp_path))
    metrics = {name: said.metrics for name, said in found.items()}
    named = {m.name for m in outer.METRICS}
    assert all(said.status == "ok" and set(said.metrics) <= named for said in found.values())
    assert metrics["none"]["inheritance/causal_private"] == metrics["none"]["inheritance/causal_repaired"] == 0
    order = ("outright", "corrected", "nearest", "random", "other")
    apart = [float(metrics[name]["joint/told_distance"] or 0) for name in order]
    assert apart == sorted(apart) and apart[1] <= 0.05 * (1 + 1e-5)
    assert metrics["nearest"]["joint/told_bits"] == 5 and "joint/told_distance" not in metrics["none"]
    assert (metrics["coded"]["joint/teacher_bits"] or 0) > 0 and "joint/teacher_bits" not in metrics["f"]
    assert metrics["coded"]["joint/told_distance"] != metrics["f"]["joint/told_distance"]  # humans of what f became
    assert outer.memory_bytes(arms) > 2**29
    alone = outer.cell({"nearest": arms["nearest"]}, 0, Store(tmp_path / "alone"))["nearest"]
    for name, value in alone.metrics.items():
        assert value == pytest.approx(metrics["nearest"][name], rel=1e-3, abs=1e-3)


def test_a_world_whose_human_does_not_fail_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "MUST_FAIL_BY", 10.0)
    (said,) = outer.cell({"main": config()}, 0, Store(tmp_path)).values()
    assert said.status == "undecided" and said.reason.startswith("excluded")


def test_what_does_not_fit_is_found_before_anything_runs():
    with pytest.raises(InputError, match="regression"):
        outer.check({"main": config(world={"use": "spurious"})})
    labels = ARM["training"] | {"labels": "human"}
    outer.check({"a": config(), "b": config(training=labels)})
    with pytest.raises(InputError, match="training: got dials that differ between arms"):
        outer.check({"a": config(), "b": config(training=ARM["training"] | {"steps": 31})})
