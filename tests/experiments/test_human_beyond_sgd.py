"""Humans beyond descent: scans, learners, falls against plain humans, and whole cells."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError
from reuse_sim.experiments import human_beyond_sgd
from reuse_sim.experiments.beyond import scan
from reuse_sim.experiments.human_beyond_sgd import agree, compared, summary
from reuse_sim.record import Measured
from reuse_sim.rng import stream

ARM: dict[str, Any] = {
    "world": {"use": "modular"}, "human": {"use": "descent", "width": 3, "steps": 200, "rate": 0.02, "batch": 16},
    "learner": {"use": "descent", "width": 3, "steps": 200, "rate": 0.02, "batch": 16}, "asked": 200, "questions": 8,
    "population": 16, "effort": 0.05, "tolerance": 0.5,
}  # fmt: skip


def config(**changes: Any) -> human_beyond_sgd.Config:
    return human_beyond_sgd.Config.model_validate_json(json.dumps(ARM | changes))


def said(bits: float, bound: str = "two-sided") -> dict[str, Any]:
    return {"bits": bits, "bound": bound}


def test_two_runs_agree_within_three_bits_or_a_tenth_and_only_where_both_arrived() -> None:
    assert agree(said(10.0), said(12.9)) and not agree(said(10.0), said(13.1))
    assert agree(said(200.0), said(219.0, "upper")) and not agree(said(200.0), said(225.0))
    assert not agree(said(10.0), said(10.0, "lower")) and not agree(said(10.0, "none"), said(10.0))
    assert not agree(said(math.inf), said(math.inf))


def test_the_table_knows_the_share_that_occupancy_says_and_with_all_of_it_the_human() -> None:
    asked = config()
    net = asked.human.build().net(asked.world.build())
    theta = net.init([stream(0, "h")])[0]
    # 200 steps of 16 questions, b bits each, thrown into 16 p places.
    places = 16 * net.p
    for b in (0.02, 0.1):
        value, share = scan(config(scan_bits=b), net, theta, stream(0, "scan"))
        expected = 1 - (1 - 16 * b / places) ** 200
        assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / places) ** 0.5)
        assert not torch.allclose(value, theta, atol=1e-3)
    value, share = scan(config(scan_bits=100), net, theta, stream(0, "scan"))
    assert share == 1 and torch.allclose(value, theta, atol=2.0**-13 * float(theta.abs().max()))


def planted(**changes: Any) -> dict[str, Any]:
    return {"mass": [said(40.0), said(41.0)], "special": [said(20.0), said(21.0)], "given": 4.0, "given_least": 2.0,
            "hits": 3, "weights": 100, "index": 12, "nearest": 70.0} | changes  # fmt: skip


def test_the_summary_of_planted_bits() -> None:
    whole = summary(planted())
    assert whole["joint/saved_share"] == pytest.approx(0.9) and whole["joint/saved_coded_share"] == pytest.approx(0.88)
    assert whole["joint/saved_most_share"] == pytest.approx(0.95)
    assert whole["joint/mass_found"] == whole["specialness/found"] == 1 and whole["joint/censored"] == 0
    none = summary(planted(hits=0, index=101, mass=[said(40.0, "lower"), said(41.0, "none")]))
    assert none["joint/saved_share"] == 0 and none["joint/given_bits"] is None and none["joint/outright_bits"] is None
    assert none["joint/mass_found"] == 0 and none["joint/saved_coded_share"] == pytest.approx(0.3)
    assert summary(planted(hits=0, index=101, nearest=150.0))["joint/saved_coded_share"] == 0
    assert summary(planted(mass=[said(40.0, "lower")] * 2))["joint/saved_share"] == pytest.approx(0.96)  # as written
    second = summary(planted(mass=[said(40.0, "lower"), said(50.0)]))
    assert second["joint/saved_share"] == pytest.approx(0.92) and second["joint/mass_found"] == 0


def test_a_fall_is_pooled_and_of_what_plain_humans_have() -> None:
    def arm(saved: float | None, found: float) -> Measured:
        values = {"joint/saved_share": saved, "specialness/found": found, "joint/mass_found": 1.0,
                  "joint/saved_coded_share": 0.5, "joint/saved_most_share": 0.9}  # fmt: skip
        return Measured(dict.fromkeys((m.name for m in human_beyond_sgd.METRICS), None) | values, {}, "")

    fallen = compared(arm(0.2, 0.0), arm(0.8, 1.0))
    assert fallen.metrics["joint/saving_fall"] == pytest.approx(0.75)
    assert fallen.diagnostics["joint/saving_fall/numerator"] == pytest.approx(0.6)
    assert fallen.metrics["joint/saving_least_fall"] == pytest.approx(-0.125)  # it may not have fallen at all
    assert fallen.metrics["specialness/found_fall"] == 1 and fallen.metrics["joint/mass_found_fall"] == 0
    never = compared(arm(0.2, 1.0), arm(0.0, 0.0))
    assert never.metrics["joint/saving_fall"] is None
    assert never.diagnostics["specialness/found_fall/numerator"] == -1  # counts in the pool
    assert "joint/saving_fall/numerator" not in compared(arm(None, 1.0), arm(0.5, 1.0)).diagnostics


def test_a_cell_of_plain_humans_and_of_humans_brought_up_by_elders(tmp_path) -> None:
    elders = {"use": "distilled", "width": 3, "steps": 100, "rate": 0.02, "elders": 2, "elder_width": 8,
              "elder_steps": 100, "examples": 60}  # fmt: skip
    arms = {"plain": config(bits=True), "elders": config(human=elders, bits=True, against="plain"), "fits": config()}
    store = Store(tmp_path)
    found = human_beyond_sgd.cell(arms, 0, store)
    for measured in found.values():
        assert set(measured.metrics) == {m.name for m in human_beyond_sgd.METRICS}
        assert all(name in measured.reason for name, value in measured.metrics.items() if value is None)
        assert measured.metrics["rederive/scans_fit"] == pytest.approx(1, abs=0.01)
    plain, brought_up, fits = (found[name].metrics for name in arms)
    assert fits["joint/saved_share"] is None and fits["rederive/learned_fit"] == plain["rederive/learned_fit"]
    assert plain["joint/saving_fall"] is None and plain["joint/weights_bits"] is not None
    fall = 1 - (brought_up["joint/saved_share"] or 0) / (plain["joint/saved_share"] or 1)
    assert brought_up["joint/saving_fall"] == pytest.approx(fall)
    by = found["plain"].diagnostics["by_width"]
    assert max(by["behaviour"].values()) == plain["rederive/from_behaviour_fit"]
    assert human_beyond_sgd.memory_bytes(arms) > 2**29


def test_who_learns_from_the_human_learns_the_human(tmp_path) -> None:
    """On-distribution such a learner comes nearer to H than one that learns from f, which H has not learned well."""
    poor = config(human=ARM["human"] | {"steps": 20}, learner=ARM["learner"] | {"steps": 600})
    store, world = Store(tmp_path), poor.world.build()
    made = {"world": poor.world, "human": poor.human}
    people = store.stage("people", human_beyond_sgd.train_people, config=made | {"count": 2}, seed=1)
    about = {"world": poor.world, "learner": poor.learner, "count": 4}
    from_f = store.stage("f", human_beyond_sgd.train_learners, config=about, seed=1).tensors["theta"]
    from_h = store.stage("h", human_beyond_sgd.train_on_human, people, config=about | made, seed=1).tensors["theta"]
    net = poor.human.build().net(world)
    x = world.on_distribution(people.tensors["theta_teacher"], 200, [stream(0, "x")])[0]
    human = net.forward(people.tensors["theta_human"], x)[..., 0]
    off_f, off_h = ((net.forward(t, x)[..., 0] - human).square().mean() for t in (from_f, from_h))
    assert float(off_h) < 0.2 * float(off_f)


@pytest.mark.parametrize("given", [
    {"world": {"use": "spurious"}, "bits": True}, {"against": "nobody", "bits": True}, {"against": "one"},
])  # fmt: skip
def test_what_has_no_bits_is_refused(given) -> None:
    with pytest.raises(InputError, match="arm one"):
        human_beyond_sgd.check({"one": config(**given)})


def test_a_learner_must_have_a_width() -> None:
    with pytest.raises(ValidationError, match="width"):
        config(learner={"use": "evolved"})
