"""Every scenario of the repository runs, in its smoke form: the same code path as at full size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import reuse_sim
from reuse_sim import scenario

FILES = sorted((Path(__file__).parents[1] / "scenarios").glob("*.yaml"))


LONG = ("specialness_calibration", "worlds", "specialness_human", "joint_init_recovery", "fresh_human_outer",
        "specialness_vs_teacher", "exact_two_head", "exact_linear_gaussian", "specialness_radius_quick")  # fmt: skip
"""Whose smoke form takes four seconds or more."""
LIKE_OTHERS = ("inheritance_scaling", "joint_slot_unhuman", "unhuman_control", "teacher_diversity_quick", "leak_bits",
               "reuse_phase_diagram", "ledger_teacher_complexity", "joint_pareto", "joint_process_cost",
               "human_beyond_sgd", "fresh_human_reference")  # fmt: skip
"""Whose experiment another's smoke form or fast tests of its own run."""


@pytest.mark.parametrize(
    "file", [pytest.param(f, marks=pytest.mark.slow) if f.stem in LONG + LIKE_OTHERS else f for f in FILES],
    ids=lambda f: f.stem,
)
def test_the_smoke_form_runs_and_says_everything(file: Path, tmp_path: Path) -> None:
    found = reuse_sim.run(shutil.copy(file, tmp_path), smoke=True)
    cells = scenario.load(tmp_path / file.name, smoke=True).cells()
    assert len(found.records) == sum(len(c.arms) for c in cells)
    for record in found.records:
        assert record.status == "ok" or (record.status == "undecided" and record.reason), record.reason
        empty = [name for name, value in record.metrics.items() if value is None]
        assert all(name in record.reason for name in empty)
    said = json.loads(json.dumps(found.json(), allow_nan=False))
    assert set(said) == {"scenario", "config_hash", "sweep_id", "records", "aggregates", "claims"}
    assert {c["verdict"] for c in said["claims"]} <= {"supported", "refuted", "undecided"}
    again = reuse_sim.run(tmp_path / file.name, smoke=True)
    assert again.records == found.records


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_scenario_asks_something_and_says_beforehand_what_would_answer_it(file: Path) -> None:
    loaded = scenario.load(file)
    assert loaded.title and loaded.question.strip().endswith("?")
    assert loaded.expect and all(e.sentence and e.refuted for e in loaded.expect) and not loaded.left_out
