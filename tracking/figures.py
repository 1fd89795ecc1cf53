"""Figures of a sweep: a metric by arm, every world a dot, the 95 % interval a bar, a panel per sweep point.

Files are reproducible: no dates, a fixed salt for SVG identifiers, nothing drawn at random.
"""

from __future__ import annotations

import io
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reuse_sim.record import Metric, RunRecord, Sweep, figure, group
from tracking.records import in_order
from tracking.tables import digits, named, number, plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches: 700 px at the 97 dots per inch of a page, so 9 points are 12 px
LETTER = 0.078  # inches a letter of 9 points takes
INK, BAR, DOT, FAINT = "#222222", "#005b96", "#7fb2d6", "#767676"  # one hue: labels tell the arms apart
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9, "text.color": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 8, "axes.linewidth": 0.6, "axes.unicode_minus": True,
    "svg.hashsalt": "reuse_sim", "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Row:
    """One arm at one point: values of the worlds that count, of those left undecided, and the interval."""

    worlds: Sequence[float]
    undecided: Sequence[float]
    mean: float
    low: float
    high: float


def headline(sweep: Sweep) -> list[Metric]:
    """The metrics that get a figure: the headlines, or the first two where none is marked."""
    return [m for m in sweep.metrics if m.headline] or list(sweep.metrics[:2])


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, prefix: str = "") -> dict[str, str]:
    """Draw each headline metric that has a value as SVG and PNG in `folder`; returns file stems by metric."""
    from matplotlib import rc_context

    stems = {}
    for metric in headline(sweep):
        if all(r.metrics.get(metric.name) is None for r in records):
            continue
        stems[metric.name] = prefix + metric.name.replace("/", "-")
        with rc_context(STYLE):
            save(draw(sweep, records, metric), folder, stems[metric.name])
    return stems


def save(drawn: Figure, folder: Path, stem: str) -> None:
    """Write a figure as `STEM.svg` and `STEM.png` in `folder`, the same bytes each time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    folder.mkdir(parents=True, exist_ok=True)
    for suffix, canvas, metadata in (("svg", FigureCanvasSVG, {"Date": None, "Creator": None}),
                                     ("png", FigureCanvasAgg, {"Software": None})):
        data = io.BytesIO()
        canvas(drawn).print_figure(data, format=suffix, dpi=200, metadata=metadata)
        (folder / f"{stem}.{suffix}").write_bytes(data.getvalue())


def draw(sweep: Sweep, records: Sequence[RunRecord], metric: Metric) -> Figure:
    """One panel per sweep point, one row per arm, the same scale in all panels."""
    from matplotlib.figure import Figure

    groups = group(in_order(sweep, records))
    points = list(dict.fromkeys(point for point, _ in groups))
    arms = [a for a in sweep.arms if any(a == arm for _, arm in groups)]
    rows = {place: _row(metric, members) for place, members in groups.items()}
    limits, decimals = _limits(list(rows.values())), digits(r.mean for r in rows.values())
    columns = _columns([len(values) for values in sweep.axes.values()], len(points))
    lines = math.ceil(len(points) / columns)

    left, right = 0.2 + LETTER * max(map(len, arms)), 1.45 if columns == 1 else 0.5
    width = (WIDTH - left - columns * right) / columns
    titles = [_title(json.loads(p), sweep, int((width + right) / LETTER)) for p in points]
    top = 0.15 + 0.16 * max(t.count("\n") + bool(t) for t in titles)
    panel, below = 0.1 + 0.33 * len(arms), 0.3
    height = lines * (top + panel + below) + 0.18
    drawn = Figure(figsize=(WIDTH, height))
    for i, point in enumerate(points):
        line, column = divmod(i, columns)
        x, y = left + column * (width + right), height - line * (top + panel + below) - top - panel
        ax = drawn.add_axes((x / WIDTH, y / height, width / WIDTH, panel / height))
        ax.set_title(titles[i], loc="left", pad=4)
        _panel(ax, limits, arms if column == 0 else [""] * len(arms))
        for place, arm in enumerate(arms):
            if (point, arm) in rows:
                _draw_row(ax, place, rows[point, arm], decimals, with_limits=columns == 1)
    drawn.text((left + (WIDTH - left - right) / 2) / WIDTH, 0.05 / height, named(metric), ha="center", va="bottom")
    return drawn


def _columns(sizes: Sequence[int], points: int) -> int:
    """Panels per line, four at most: whole axes, the last ones first, so that columns line up."""
    across = 1
    for size in reversed(sizes):
        if across * size > 4:
            break
        across *= size
    return min(across if across > 1 else 3 if points in (5, 6, 9) else 4, points)


def _title(point: Mapping[str, Any], sweep: Sweep, letters: int) -> str:
    """The sweep point, a line or more per axis."""
    axes = [a for a in sweep.axes if a in point]
    lines = [f"{short(a, sweep)} = {plain(point[a])}" for a in axes]
    return "\n".join(part for line in lines for part in textwrap.wrap(line, letters))


def _row(metric: Metric, members: Sequence[RunRecord]) -> Row:
    def values(status: str) -> list[float]:
        return [v for r in members if r.status == status and (v := r.metrics.get(metric.name)) is not None]

    interval = figure(metric, [r for r in members if r.status == "ok"])
    return Row(values("ok"), values("undecided"), interval.mean, interval.low, interval.high)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """All dots, means and zero; intervals up to half a range beyond (two worlds have very wide ones)."""
    dots = [0.0, *(v for r in rows for v in (*r.worlds, *r.undecided, r.mean) if math.isfinite(v))]
    ends = [v for r in rows for v in (r.low, r.high) if math.isfinite(v)]
    low, high = min(dots), max(dots)
    room = ((high - low) or 1.0) / 2
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    margin = 0.05 * ((high - low) or 1.0)
    return low - margin, high + margin


def _panel(ax: Axes, limits: tuple[float, float], labels: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlim(*limits)
    ax.set_ylim(len(labels) - 0.55, -0.55)
    ax.set_yticks(range(len(labels)), labels)
    ax.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    ax.tick_params(length=0)
    ax.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.axvline(0, color=INK, linewidth=0.7, zorder=1)
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)


def _draw_row(ax: Axes, y: int, row: Row, decimals: int, with_limits: bool) -> None:
    """The interval and its mean above, the worlds as dots below, the mean in figures at the right."""
    low, high = ax.get_xlim()
    above, below = y - 0.14, y + 0.18
    ax.scatter(row.worlds, [below] * len(row.worlds), s=14, facecolor=DOT, edgecolor="white", linewidth=0.5, zorder=2)
    ax.scatter(row.undecided, [below] * len(row.undecided), s=14, facecolor="white", edgecolor=FAINT, linewidth=0.8,
               zorder=3)
    if math.isnan(row.mean):
        ax.text(high, y, "  no value", fontsize=8, va="center", color=FAINT)
        return
    text = number(row.mean, decimals)
    if math.isfinite(row.low):
        ax.plot([max(row.low, low), min(row.high, high)], [above] * 2, color=BAR, linewidth=2.2, solid_capstyle="butt")
        if row.low < low:
            ax.plot(low, above, marker="<", color=BAR, markersize=5, clip_on=False)
        if row.high > high:
            ax.plot(high, above, marker=">", color=BAR, markersize=5, clip_on=False)
        if with_limits:
            text += f" [{number(row.low, decimals)}, {number(row.high, decimals)}]"
    ax.plot(row.mean, above, marker="o", color=BAR, markersize=4.5)
    ax.text(high, y, f"  {text}", fontsize=8, va="center")
