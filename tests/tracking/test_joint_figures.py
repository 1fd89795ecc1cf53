"""Figures of reruns, of bits against FLOPs, and of the graph of derivations: for which sweeps, and what they show."""

from __future__ import annotations

import numpy as np
import pytest

from reuse_sim.record import Metric, RunRecord
from tracking import derivations, pareto, regimes

STEPS, CRITICAL = 100.0, 10.0


def records(header, metrics, diagnostics=None):
    return [RunRecord(header.sweep_id, {}, arm, seed, "ok", "", values, diagnostics or {}, "", 0.0)
            for arm, values in metrics.items() for seed in range(2)]


@pytest.fixture
def reruns(make_sweep):
    names = ("per_datapoint_factor", "per_batch_factor", "once_factor", "flops_ratio", "least_steps", "critical_batch")
    metrics = tuple(Metric(f"process/{n}", "1", n) for n in names)
    header = make_sweep(arms=("small", "large", "other"), expect=(), metrics=metrics)

    def values(ratio: float, critical: float) -> dict[str, float]:
        said = (1 + ratio * 2 * STEPS * critical, 1 + ratio * 2 * STEPS, 1 + ratio, ratio, STEPS, critical)
        return {f"process/{n}": v for n, v in zip(names, said, strict=True)}

    arms = {"small": values(1e-3, CRITICAL), "large": values(10.0, CRITICAL), "other": values(1.0, 99.0)}
    return header, records(header, arms)


def test_reruns_have_a_panel_for_each_outer_and_boundaries_where_they_double_the_cost(reruns, tmp_path):
    header, found = reruns
    assert [list(family) for family in regimes.families(header, found)] == [["small", "large"], ["other"]]
    ax = regimes.draw(header, found).axes[0]
    dotted = [np.asarray(line.get_xdata())[0] for line in ax.get_lines() if line.get_linestyle() == ":"]
    assert dotted == pytest.approx([1 / 2000, 1 / 200, 1.0])
    assert regimes.write(header, found, tmp_path) == "regimes" and len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def ways(make_sweep):
    names = ("reuse", "apart", "index", "shared")
    metrics = tuple(Metric(f"joint/{n}_{unit}", unit, n) for n in names for unit in ("bits", "flops"))
    header = make_sweep(arms=("own",), expect=(), metrics=metrics)
    at = {"reuse": (50.0, 10.0), "apart": (90.0, 20.0), "index": (60.0, 500.0), "shared": (55.0, 9.0)}
    values = {f"joint/{n}_{unit}": v for n, both in at.items() for unit, v in zip(("bits", "flops"), both, strict=True)}
    about = {
        "front": [{"name": n, "pair": n != "shared"} for n in names],
        "ways": [
            {"name": "read", "inputs": [], "outputs": ["θ1"], "bits": 40.0, "once": 0.0, "batch": 0.0, "question": 0.0},
            {"name": "train", "inputs": ["θ1"], "outputs": ["θ2"], "bits": 0.0, "once": 1e6, "batch": 0, "question": 0},
            {"name": "f", "inputs": ["θ1"], "outputs": ["f"], "bits": 0.0, "once": 0.0, "batch": 0.0, "question": 9.0},
            {"name": "H", "inputs": ["θ2"], "outputs": ["H"], "bits": 0.0, "once": 0.0, "batch": 0.0, "question": 9.0},
        ],
    }
    return header, records(header, {"own": values}, about)


def test_the_front_is_of_those_that_have_both(ways, tmp_path):
    header, found = ways
    assert pareto.points(header, found)["apart"] == [(90.0, 20.0)] * 2
    assert pareto.front({"a": (50, 10), "b": (60, 500), "c": (90, 5), "d": (95, 5)}) == ["a", "c"]
    (line,) = pareto.draw(header, pareto.counted(header, found)).axes[0].get_lines()
    assert np.asarray(line.get_xydata()).tolist() == [[50.0, 10.0]]  # shared has not both
    assert pareto.write(header, found, tmp_path) == "pareto" and len(list(tmp_path.iterdir())) == 2


def test_the_graph_goes_from_left_to_right(ways, tmp_path):
    header, found = ways
    things, placed = derivations.columns(found[0].diagnostics["ways"])
    assert placed == {"read": 0, "train": 2, "f": 2, "H": 4} and things == {"θ1": 1, "θ2": 3, "f": 3, "H": 5}
    assert derivations.cost(found[0].diagnostics["ways"][1]) == "1e+06 once"
    assert derivations.write(header, found, tmp_path) == "derivations" and len(list(tmp_path.iterdir())) == 2


def test_other_sweeps_have_none(make_sweep, tmp_path):
    header = make_sweep()
    assert all(m.write(header, [], tmp_path) is None for m in (regimes, pareto, derivations))
    assert not list(tmp_path.iterdir())
