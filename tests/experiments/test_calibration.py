"""The calibration experiment: what it holds against what, and (slow) that two hundred worlds a family bear it out."""

import logging
import shutil
from pathlib import Path

import pytest
from scipy.stats import binom

import reuse_sim
from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import calibration, scene
from reuse_sim.experiments.calibration import Config

ROOT = Path(__file__).parents[2]
SMALL = {
    "world": {"use": "radius"}, "human": {"use": "descent", "width": 6, "steps": 100, "rate": 0.02},
    "leak": {"use": "prefix"}, "outer": {"use": "slot", "width": 6},
    "training": {"steps": 10, "batch": 8, "off_batch": 8}, "questions": 60, "worlds": 4,
}  # fmt: skip
ARMS = {
    "none": {"leak": {"use": "prefix", "bits": 0}, "against": "unrelated"},
    "unrelated": {"leak": {"use": "prefix", "of": "unrelated"}},
    "sibling": {"leak": {"use": "prefix", "of": "sibling"}, "against": "unrelated"},
    "copy": {"planted": 1.0, "truth": 1.0, "against": "unrelated"},
    "wrong": {"planted": 0.5, "truth": 1.0, "against": "unrelated"},
}


def configs(**changes):
    return {name: Config.model_validate({**SMALL, **arm, **changes}) for name, arm in ARMS.items()}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, logging.getLogger().warning)


def test_a_copy_is_a_copy_and_a_wrong_truth_is_not_held(store):
    found = {name: m.metrics for name, m in calibration.cell(configs(), 0, store).items()}
    for figure in ("contrast", "private", "total"):
        assert found["copy"][f"calibration/{figure}"] == pytest.approx(1, abs=0.05)
        assert found["copy"][f"calibration/{figure}_holds"] == 1 == found["copy"][f"calibration/{figure}_above_0"]
    assert found["wrong"]["calibration/private"] == pytest.approx(0.5, abs=0.05)
    assert found["wrong"]["calibration/private_holds"] == 0
    assert found["none"]["calibration/private_holds"] == 1 and found["none"]["calibration/private_above_0"] == 0
    assert "calibration/total_holds" not in found["sibling"] and "calibration/contrast_holds" in found["sibling"]
    # Without access nothing is swapped: what is left is the arm it is held against.
    for figure in ("private", "total"):
        against = found["unrelated"][f"calibration/{figure}"]
        assert found["none"][f"calibration/{figure}"] == pytest.approx(-against) and against != 0
    again = store.computed
    calibration.cell(configs(), 0, store)
    assert store.computed == again


def test_groups_are_of_different_worlds(store):
    first, second = (calibration.cell(configs(), seed, store)["none"] for seed in (0, 1))
    assert first.parameters_sha256 != second.parameters_sha256 and first.metrics != second.metrics


def test_a_group_of_worlds_that_do_not_count_is_refused(store, monkeypatch):
    monkeypatch.setattr(scene, "MUST_FAIL_BY", 10.0)
    with pytest.raises(Refusal, match="fewer than three worlds of the group"):
        calibration.cell(configs(), 0, store)


def test_an_arm_is_held_against_one_there_is():
    with pytest.raises(InputError, match="arm none: against: got unrelated; expected one of none"):
        calibration.check({"none": configs()["none"]})
    calibration.check(configs())


@pytest.mark.slow
def test_two_hundred_worlds_of_every_family(tmp_path):
    """Of twenty 95 % intervals at least sixteen hold the truth with probability .9974."""
    found = reuse_sim.run(shutil.copy(ROOT / "scenarios" / "calibration.yaml", tmp_path), workers=2)
    frame = found.frame()
    assert set(frame["status"]) == {"ok"} and len(frame) == 20 * 7
    least = int(binom.ppf(0.005, 20, 0.95))
    assert least == 16
    held = frame.groupby("arm")[[f"calibration/{f}_holds" for f in ("contrast", "private", "total")]].sum(min_count=1)
    assert (held.fillna(20) >= least).all(axis=None), held
    assert frame[frame["arm"] == "copy"]["calibration/contrast_above_0"].mean() >= 0.95
