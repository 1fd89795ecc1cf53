"""Two lengths over tolerance: which sweeps have such a figure, what it shows, and where curves cross."""

from __future__ import annotations

import dataclasses

import pytest

from reuse_sim.record import Metric, RunRecord
from tracking import crossing

PERCENT = (0.1, 1.0, 10.0)


@pytest.fixture
def lengths(make_sweep):
    metrics = tuple(Metric(f"{n}/at_{p:g}", "bits", n) for n in ("human_bits", "init_bits") for p in PERCENT)
    header = make_sweep(arms=("own", "other"), metrics=metrics, expect=())

    def bits(arm, seed):
        human = {f"human_bits/at_{p:g}": v + seed for p, v in zip(PERCENT, (200.0, 150.0, 100.0), strict=True)}
        starts = (300.0, 150.0, 20.0) if arm == "own" else (90.0, 50.0, 20.0)
        return human | {f"init_bits/at_{p:g}": v + seed for p, v in zip(PERCENT, starts, strict=True)}

    records = [RunRecord(header.sweep_id, {}, arm, seed, "ok", "", bits(arm, seed), {}, "", 0.0)
               for seed in range(3) for arm in header.arms]
    return header, records


def test_lines_go_through_the_means_and_cross_where_they_meet(lengths, tmp_path):
    header, records = lengths
    assert list(crossing.tolerances(header, "init_bits")) == list(PERCENT)
    drawn = crossing.draw(header, records)
    own, other = drawn.axes
    lines = {line.get_label(): list(line.get_ydata()) for line in own.get_lines()}
    assert lines["the human itself, θ₂"] == pytest.approx([201, 151, 101])
    assert lines["its initialisation"] == pytest.approx([301, 151, 21])
    assert [t.get_text() for ax in (own, other) for t in ax.texts] == [
        "crossing at 1 %", "initialisation shorter throughout"]
    assert crossing.write(header, records, tmp_path, "x-") == "x-crossing"
    assert {p.name for p in tmp_path.iterdir()} == {"x-crossing.svg", "x-crossing.png"}


def test_codes_without_search_have_lines_and_a_crossing_of_their_own(lengths):
    header, records = lengths
    more = tuple(dataclasses.replace(m, name=f"plain_{m.name}") for m in header.metrics)
    header = dataclasses.replace(header, metrics=(*header.metrics, *more))
    both = [dataclasses.replace(r, metrics={**r.metrics, **{f"plain_{k}": v + 10 * k.startswith("init") * (1 + r.seed)
                                                           for k, v in r.metrics.items()}}) for r in records]
    drawn = crossing.draw(header, both)
    assert [t.get_text().split("\n")[0] for t in drawn.axes[0].texts] == ["crossing at 1 %"]
    assert drawn.axes[0].texts[0].get_text().split("\n")[1] == "rounded: crossing at 1.8 %"  # 10^(20/80)
    assert len(drawn.legends[0].get_texts()) == 4


def test_curves_cross_between_points_in_the_logarithm():
    assert crossing.crossing({1.0: 10.0, 100.0: 0.0}, {1.0: 5.0, 100.0: 5.0}) == pytest.approx(10)
    assert crossing.crossing({1.0: 9.0, 2.0: 8.0}, {1.0: 5.0, 2.0: 8.0}) == 2.0
    assert crossing.crossing({1.0: 9.0, 2.0: 8.0}, {1.0: 5.0, 2.0: 5.0}) is None
    assert crossing.crossing({}, {}) is None


def test_other_sweeps_have_none(lengths, make_sweep, tmp_path):
    header, records = lengths
    one = dataclasses.replace(header, metrics=tuple(m for m in header.metrics if m.name.endswith("_1")))
    assert crossing.write(one, records, tmp_path) is None
    assert crossing.write(header, [], tmp_path) is None
    assert crossing.write(make_sweep(), [], tmp_path) is None and not list(tmp_path.iterdir())
