"""Free specialness: planted figures, arms on the same streams, and what makes a world undecided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments.descents import Scene
from reuse_sim.experiments.free_specialness import HARVESTS, METRICS, Config, cell, check, doubts, figures
from reuse_sim.humans import descent
from reuse_sim.types import Fit

SMALL: dict[str, Any] = {
    "world": {"use": "radius"},
    "human": {"use": "descent", "width": 3, "steps": 300, "rate": 0.02},
    "questions": 24,
    "watched": 24,
    "tolerances": {3: 0.7},
    "path": {"walkers": 8, "steps": 60, "leapfrogs": 2},
    "learner": {"count": 4, "steps": 60, "rate": 0.05},
    "separate": {"effort": 0.1},
}
LEAKS = {"none": 0.0, "half": 0.5, "all": 1.0}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory):
    store = Store(tmp_path_factory.mktemp("store"))
    arms = {name: Config.model_validate(SMALL | {"leak": leak}) for name, leak in LEAKS.items()}
    return cell(arms, 0, store), store, arms


def told(bits: float | None) -> dict[str, Any]:
    bound = "two-sided" if bits is not None else "lower"
    return {"bits": bits or 0.0, "bound": bound, "status": "converged" if bits is not None else "no walker: no result"}


def planted(**harvests: float | None) -> dict[str, Any]:
    """The metrics of harvests, 40 where nothing is said, against S = 40 and 10 given what leaked."""
    found = {name: told(harvests.get(name, 40.0)) for name in HARVESTS}
    return figures(found, [told(39.0), told(41.0)], told(10.0))


def test_planted_harvests() -> None:
    out = planted(free=10.0, curvature=52.0, own=12.0, own_curvature=50.0, replay=None, restart=44.0)
    assert out["specialness/separate_bits"] == 40 and out["specialness/repeat_gap_bits"] == 2
    assert out["specialness/free_over_separate"] == pytest.approx(0.25)
    assert out["specialness/free_minus_conditional"] == 0 == out["specialness/conditional_off"]
    offs = {name: out[f"specialness/{name}_off"] for name in HARVESTS}
    assert offs == pytest.approx({"free": 0.75, "curvature": 0.3, "own": 0.7, "own_curvature": 0.25, "replay": 1.0,
                                  "restart": 0.1})  # fmt: skip
    assert out["specialness/replay_bits"] is None and out["specialness/reuse_off"] == pytest.approx(0.25)
    assert out["specialness/restart_within"] == 1 == out["specialness/restart_reached"]


def test_a_restart_is_no_reuse_and_may_fail() -> None:
    out = planted(free=1.0, curvature=1.0, own=1.0, own_curvature=1.0, replay=1.0, restart=None)
    assert out["specialness/reuse_off"] > 0.9 and out["specialness/restart_off"] == 1
    assert out["specialness/restart_within"] == 0 == out["specialness/restart_reached"]
    assert planted(restart=45.0)["specialness/restart_within"] == 0
    # Below 30 bits, .1 is 3 bits.
    small = figures({n: told(12.0) for n in HARVESTS}, [told(10.0)] * 2, None)
    assert small["specialness/free_off"] == pytest.approx(2 / 30) and "specialness/conditional_off" not in small


def test_what_makes_a_world_undecided() -> None:
    assert doubts([told(40.0), told(41.0)], told(44.0), 0.1, 0.2) == []
    assert "human itself is not consistent" in doubts([told(40.0), told(40.0)], told(40.0), 0.3, 0.2)[0]
    assert "does not agree with itself (3.0 bits)" in doubts([told(38.5), told(41.5)], told(40.0), 0.1, 0.2)[0]
    assert "is 45.0 where S is 40.0" in doubts([told(40.0), told(40.0)], told(45.0), 0.1, 0.2)[0]
    assert doubts([told(20.0)] * 2, told(22.9), 0.1, 0.2) == [] != doubts([told(20.0)] * 2, told(23.1), 0.1, 0.2)
    assert "separate sampler gives no figure (no walker" in doubts([told(None)] * 2, told(0.0), 0.1, 0.2)[0]
    assert "gives no result" in doubts([told(40.0), told(40.0)], told(None), 0.1, 0.2)[0]


def test_arms_are_one_world_under_leaks(measured) -> None:
    arms, store, _ = measured
    # People, separate and restart once; paths and learners thrice; the conditional bits where something leaked.
    assert store.computed == 3 + 3 + 3 + 2
    shared = ("separate_bits", "restart_bits", "consistency", "own_flops_ratio")
    for name in shared:
        assert len({m.metrics[f"specialness/{name}"] for m in arms.values()}) == 1
    assert len({m.parameters_sha256 for m in arms.values()}) == 1
    none, half, full = (arms[name].metrics for name in LEAKS)
    assert none["specialness/conditional_bits"] == none["specialness/separate_bits"]
    assert none["specialness/replay_bits"] == none["specialness/free_bits"]
    assert none["specialness/alternatives"] > half["specialness/alternatives"] > full["specialness/alternatives"] == 0
    assert full["specialness/conditional_bits"] == 0 and full["specialness/leak_fit"] == 1
    assert abs(full["specialness/free_bits"]) < 0.3 and full["specialness/free_over_separate"] < 0.2
    assert none["specialness/free_bits"] > 2


def test_a_record_says_everything_or_why_not(measured) -> None:
    for m in measured[0].values():
        assert set(m.metrics) == {metric.name for metric in METRICS}
        assert all(name in m.reason for name, value in m.metrics.items() if value is None)
        assert "on-distribution questions of the radius world" in m.diagnostics["free"]["diagnostics"]["consistency"]
        assert m.diagnostics["separate"][0]["status"]
    assert measured[0]["half"].diagnostics["free"]["quantity"] == "specialness given what leaked"


def test_the_same_cell_anew_is_the_same_to_the_last_bit(measured, tmp_path: Path) -> None:
    before, _, arms = measured
    assert cell({"half": arms["half"]}, 0, Store(tmp_path))["half"] == before["half"]


def test_leaks_are_nested_and_their_sizes_right() -> None:
    arm = Config.model_validate(SMALL)
    teacher = arm.world.build().teacher([torch.Generator().manual_seed(0)])
    theta = {"theta_teacher": teacher, "theta_human": torch.zeros(1, 19)}
    config = {k: getattr(arm, k) for k in ("world", "human", "questions", "watched")} | {"tolerance": 0.7}
    scene = Scene(theta, config, 0)
    known = [scene.known(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert [int(k.sum()) for k in known] == [0, 5, 10, 14, 19]
    assert all(bool((b | ~a).all()) for a, b in zip(known, known[1:], strict=False))


def test_what_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="arm a: tolerances: got .5.; expected one for width 3"):
        check({"a": Config.model_validate(SMALL | {"tolerances": {5: 0.1}})})
    with pytest.raises(InputError, match="arm a: separate.method: got none"):
        check({"a": Config.model_validate(SMALL | {"separate": {"method": "none"}})})
    with pytest.raises(ValueError, match="greater than 0"):
        Config.model_validate(SMALL | {"tolerances": {3: 0.0}})

    def breaking(self, world, theta_0, *_):
        return Fit(theta_0, torch.zeros(len(theta_0)), {0: "network 0: loss not finite at step 3 with rate 10"})

    monkeypatch.setattr(descent.Descent, "train", breaking)
    with pytest.raises(Refusal, match="the human's training broke: network 0: loss not finite at step 3"):
        cell({"a": Config.model_validate(SMALL)}, 0, Store(tmp_path))
