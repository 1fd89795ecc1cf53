"""Specialness against what leaked: which sweeps have such a figure, and what it shows."""

from __future__ import annotations

import dataclasses

import pytest

from reuse_sim.record import Metric, RunRecord
from tracking import against

SHARES = {"none": 0.0, "half": 0.5, "all": 1.0}


@pytest.fixture
def leaked(make_sweep):
    metrics = tuple(Metric(f"specialness/{n}_bits", "bits", n) for n in ("separate", "conditional", "free"))
    points = [{"params": {}, "arms": {arm: {"leak": share} for arm, share in SHARES.items()}}]
    header = make_sweep(arms=tuple(SHARES), metrics=metrics, resolved={"points": points}, expect=())
    records = [
        RunRecord(header.sweep_id, {}, arm, seed, "ok", "",
                  {"specialness/separate_bits": 40.0 + seed, "specialness/conditional_bits": 40 * (1 - share) + seed,
                   "specialness/free_bits": 40 * (1 - share) + seed + 1}, {}, "", 0.0)
        for seed in range(3) for arm, share in SHARES.items()
    ]
    return header, records


def test_lines_go_through_the_means(leaked, tmp_path):
    header, records = leaked
    assert against.leaks(header) == SHARES
    drawn = against.draw(header, records)
    lines = {line.get_label(): list(line.get_ydata()) for line in drawn.axes[0].get_lines()}
    for line in drawn.axes[0].get_lines():
        assert list(line.get_xdata()) == pytest.approx([0.0, 0.5, 1.0], abs=0.02)  # set apart a little
    assert lines["S, by a sampler of its own"] == pytest.approx([41.0, 41.0, 41.0])
    assert lines["path on consistency"] == pytest.approx([42.0, 22.0, 2.0])
    assert against.write(header, records, tmp_path, "x-") == "x-against_leak"
    assert {p.name for p in tmp_path.iterdir()} == {"x-against_leak.svg", "x-against_leak.png"}


def test_other_sweeps_have_none(leaked, make_sweep, tmp_path):
    header, records = leaked
    without = dataclasses.replace(header, resolved={"points": [{"arms": {}}]})
    assert against.write(without, records, tmp_path) is None
    assert against.write(make_sweep(), [], tmp_path) is None and not list(tmp_path.iterdir())
