"""The map of a sweep shows the means of the page, and only where there is something to map."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reuse_sim.record import figure
from tracking import maps, report


def test_numbers_are_the_means_of_the_worlds_that_count(make_sweep, make_records):
    sweep = make_sweep(axes={"outer.width": [12, 48, 192]})
    records = make_records(sweep)
    records[0] = replace(records[0], status="undecided")
    metric = sweep.metrics[3]
    table = maps.means(sweep, records, metric)
    assert len(table) == len(sweep.arms) and {len(line) for line in table} == {3}
    chosen = [r for r in records if r.arm == "all" and r.params == {"outer.width": 48} and r.status == "ok"]
    assert table[sweep.arms.index("all")][1] == pytest.approx(figure(metric, chosen).mean)
    (ax, _) = maps.draw(sweep, records, sweep.metrics[3:6:2]).axes
    texts = [t.get_text() for t in ax.texts]
    assert texts[:3] == [f"{v:.2f}".replace("-", "−").replace("−0.00", "0.00") for v in table[0]]
    assert [t.get_text() for t in ax.get_yticklabels()] == list(sweep.arms)


@pytest.mark.parametrize(
    ("axes", "there"),
    [({}, False), ({"a": [1, 2]}, False), ({"a": [1, 2, 3]}, True), ({"a": [1, 2, 3], "b": [1, 2]}, False)],
)
def test_a_map_is_for_one_axis_of_three_values(make_sweep, make_records, tmp_path, axes, there):
    sweep = make_sweep(axes=axes)
    page = report.write(sweep, make_records(sweep), tmp_path).read_text()
    assert ("![means by arm and swept value](figures/map.svg)" in page) == there
    assert (tmp_path / "figures" / "map.svg").exists() == there == (tmp_path / "figures" / "map.png").exists()


def test_what_nobody_measured_is_a_dash(make_sweep, make_records):
    sweep = make_sweep(axes={"a": [1, 2, 3]})
    records = [replace(r, status="failed") if r.arm == "all" else r for r in make_records(sweep)]
    ax = maps.draw(sweep, records, sweep.metrics[3:4]).axes[0]
    assert [t.get_text() for t in ax.texts][-3:] == ["—"] * 3


@pytest.mark.parametrize(("unit", "most"), [("bits", 40.0), ("share", 1.0)])
def test_colours_tell_large_numbers_apart(make_sweep, make_records, unit, most):
    sweep = make_sweep(axes={"a": [1, 2, 3]})
    metric = replace(sweep.metrics[3], unit=unit, pooled=False)
    sweep = replace(sweep, metrics=(metric,))
    value = {1: 2.0, 2: 20.0, 3: 40.0}
    records = [replace(r, metrics={metric.name: value[r.params["a"]]}) for r in make_records(sweep)]
    (image,) = maps.draw(sweep, records, [metric]).axes[0].images
    assert image.get_clim() == (-most, most)
