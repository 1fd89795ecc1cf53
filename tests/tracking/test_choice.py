"""Ledger against choice: which sweeps have such a figure, and where the dots lie."""

from __future__ import annotations

import dataclasses

import pytest

from reuse_sim.record import Metric, RunRecord
from tracking import choice

ARMS = {
    "cold": {"start": "copy_cold", "reward": "own"},
    "cold_none": {"start": "copy_cold", "reward": "none"},
    "cold_again": {"start": "copy_cold", "reward": "own"},
    "direct": {"start": "direct", "reward": "own"},
}


@pytest.fixture
def paid(make_sweep):
    metrics = (Metric(choice.X, "bits", "difference"), Metric(choice.Y, "share", "own"))
    points = [{"params": {}, "arms": ARMS}]
    header = make_sweep(arms=tuple(ARMS), metrics=metrics, resolved={"points": points}, expect=())
    records = [
        RunRecord(header.sweep_id, {}, arm, seed, "undecided" if seed == 2 else "ok", "",
                  {choice.X: 5.0 * seed - 5, choice.Y: None if arm == "cold_none" else 0.25 * seed}, {}, "", 0.0)
        for seed in range(3) for arm in ARMS
    ]
    return header, records


def test_every_world_is_a_dot_in_the_panel_of_its_start(paid, tmp_path):
    header, records = paid
    assert choice.panels(header) == {"copy_cold": {"own": "cold", "none": "cold_none"}, "direct": {"own": "direct"}}
    drawn = choice.draw(header, records)
    cold, direct = drawn.axes
    assert (cold.get_title("left"), direct.get_title("left")) == ("begun as a copy", "begun as the direct head")
    drawn_last = [c for c in direct.collections if c.get_zorder() == 3]
    dots = [[tuple(xy) for xy in c.get_offsets()] for c in drawn_last]
    assert [xy[0] for some in dots for xy in some] == [-5.0, 0.0, 5.0]
    assert [xy[1] for some in dots for xy in some] == pytest.approx([0.0, 0.25, 0.5], abs=0.03)  # set apart a little
    assert choice.write(header, records, tmp_path, "x-") == "x-choice"
    assert {p.name for p in tmp_path.iterdir()} == {"x-choice.svg", "x-choice.png"}


def test_a_sweep_over_slots_has_a_line_for_each(paid, tmp_path):
    header, records = paid
    arms = {
        **ARMS, "learned": {"start": "direct", "reward": "own", "slot": "learned", "joint": True},
        "stopped": {"start": "copy_cold", "reward": "none", "slot": "learned", "joint": False},
        "other": {"start": "direct", "reward": "own", "slot": "of another kind"},
    }  # fmt: skip
    header = dataclasses.replace(header, arms=tuple(arms), resolved={"points": [{"arms": arms}]})
    records = [dataclasses.replace(r, arm=arm) for r in records if r.arm == "cold" for arm in arms]
    found = choice.panels(header)
    assert list(found) == ["copy_cold", "direct", "direct/learned", "copy_cold/stopped"]
    assert found["direct/learned"] == {"own": "learned"} and found["copy_cold/stopped"] == {"none": "stopped"}
    drawn = choice.draw(header, records)
    shown = [ax.get_visible() for ax in drawn.axes]
    assert shown == [True, True, False, True, True, False]
    assert [ax.get_ylabel().partition("\n")[0] for ax in drawn.axes[::2]] == [choice.SLOTS[k] for k in
                                                                            ("given", "learned", "stopped")]
    dots = [sum(len(c.get_offsets()) for c in ax.collections if c.get_zorder() == 3) for ax in drawn.axes if
            ax.get_visible()]  # fmt: skip
    assert dots == [6, 3, 3, 3]
    assert choice.write(header, records, tmp_path) == "choice"


def test_other_sweeps_have_none(paid, make_sweep, tmp_path):
    header, records = paid
    without = dataclasses.replace(header, resolved={"points": [{"arms": {}}]})
    assert choice.write(without, records, tmp_path) is None
    assert choice.write(make_sweep(), [], tmp_path) is None and not list(tmp_path.iterdir())
