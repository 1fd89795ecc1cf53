"""Figures can be read: nothing overlaps, nothing is cut, and the same records give the same bytes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tracking import figures

GRID = {"outer.behaviour_weight": [0, 1], "population.teachers": [1, "each"]}
ARMS = ("none", "placebo", "half", "all", "choice", "ceiling")


def texts(drawn):
    """The box of each text that shows, in pixels of a page 720 wide."""
    FigureCanvasAgg(drawn)
    drawn.set_dpi(100)
    drawn.draw_without_rendering()
    renderer = drawn.canvas.get_renderer()
    found = [t for t in drawn.findobj(matplotlib.text.Text) if t.get_text().strip() and t.get_visible()]
    ticks = [t for ax in drawn.axes for t in ax.get_xticklabels() if not _in_view(ax, t)]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in found if t not in ticks]


def _in_view(ax, tick):
    low, high = ax.get_xlim()
    return low <= tick.get_position()[0] <= high


@pytest.mark.parametrize("axes, arms, seeds", [
    ({}, ARMS, 8), (GRID, ARMS, 8), ({**GRID, "leak.bits": [0, 2, 16]}, ARMS, 2), ({}, ("main",), 1),
    ({"world.a_rather_long_name_of_an_option": ["a rather long value", "b"]}, ("a_rather_long_arm_name", "b"), 3),
    ({"leak.bits": [0, 1, 2, 4, 8]}, ARMS[:3], 4)])
def test_no_two_labels_overlap_and_none_is_cut(make_sweep, make_records, axes, arms, seeds):
    sweep = make_sweep(axes=axes, arms=arms, seeds=seeds)
    with matplotlib.rc_context(figures.STYLE):
        drawn = figures.draw(sweep, make_records(sweep), sweep.metrics[3])
        boxes = texts(drawn)
    width, height = drawn.get_size_inches() * 100
    for text, box in boxes:
        assert box.x0 > -1 and box.x1 < width + 1 and box.y0 > -1 and box.y1 < height + 1, text
        assert box.height >= 8, text
    for (a, one), (b, two) in itertools.combinations(boxes, 2):
        assert not (one.x0 < two.x1 and two.x0 < one.x1 and one.y0 < two.y1 and two.y0 < one.y1), (a, b)


def test_files_are_reproducible_and_leave_no_style_behind(tmp_path, make_sweep, make_records):
    sweep = make_sweep(axes=GRID)
    before = dict(matplotlib.rcParams)
    records = make_records(sweep)
    stems = figures.write(sweep, records, tmp_path / "a")
    figures.write(sweep, records[::-1], tmp_path / "b")
    assert dict(matplotlib.rcParams) == before
    assert list(stems) == ["inheritance/causal_private", "inheritance/causal_total"]
    for stem, suffix in itertools.product(stems.values(), ("svg", "png")):
        data = (tmp_path / "a" / f"{stem}.{suffix}").read_bytes()
        assert data == (tmp_path / "b" / f"{stem}.{suffix}").read_bytes()
        assert b"<dc:date>" not in data and b"Software" not in data


def test_worlds_are_dots_and_undecided_ones_are_hollow(make_sweep, make_records):
    sweep = make_sweep(arms=("all",))
    records = make_records(sweep)
    records[1] = replace(records[1], status="undecided")
    records[2] = replace(records[2], status="failed")
    (ax,) = figures.draw(sweep, records, sweep.metrics[3]).axes
    solid, hollow = (c.get_offsets()[:, 0].tolist() for c in ax.collections)
    values = [r.metrics["inheritance/causal_private"] for r in records]
    assert solid == [values[0], *values[3:]] and hollow == [values[1]]
    low, high = ax.get_xlim()
    assert low < 0 < min(values) and max(values) < high


@pytest.mark.parametrize("values, arrows", [((0.0, 1.0), True), ((0.9, 1.0), False)])
def test_an_interval_beyond_the_panel_gets_arrows(make_sweep, make_records, values, arrows):
    """Of 0 and 1 the interval is 0.5 ± 12.7 · 0.5, of 0.9 and 1 it is 0.95 ± 12.7 · 0.05."""
    sweep = make_sweep(arms=("all",), seeds=2)
    records = [replace(r, metrics={"inheritance/causal_private": values[r.seed]}) for r in make_records(sweep)]
    (ax,) = figures.draw(sweep, records, sweep.metrics[3]).axes
    assert ({"<", ">"} <= {line.get_marker() for line in ax.lines}) is arrows
    low, high = ax.get_xlim()
    assert low <= 0 and 1 < high < 1.7


def test_without_headlines_the_first_two_metrics_are_drawn(tmp_path, make_sweep, make_records):
    sweep = make_sweep()
    plain = replace(sweep, metrics=tuple(replace(m, headline=False) for m in sweep.metrics))
    assert list(figures.write(plain, make_records(sweep), tmp_path)) == ["human/off_fit", "outer/off_fit"]


def test_a_metric_without_values_gets_no_figure(tmp_path, make_sweep, make_records):
    sweep = make_sweep()
    records = [replace(r, metrics={**r.metrics, "inheritance/causal_total": None}) for r in make_records(sweep)]
    assert list(figures.write(sweep, records, tmp_path)) == ["inheritance/causal_private"]
    assert len(list(tmp_path.iterdir())) == 2
