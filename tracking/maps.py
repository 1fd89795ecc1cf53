"""A sweep over one thing at a glance: arms down, swept values across, a headline metric as number and colour."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reuse_sim.record import Metric, RunRecord, Sweep, figure, group
from tracking.figures import INK, LETTER, STYLE, WIDTH, headline, save
from tracking.records import in_order
from tracking.tables import digits, named, number, plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST = 3
"""Values that an axis must have for a map to tell more than rows of dots."""
MOST = 4
"""Headlines that are mapped, two to a line."""
BOUNDED = ("", "1", "share", "R²")
"""Units of metrics where more than 1 tells no more than 1."""
NAME = "map"


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, prefix: str = "") -> str | None:
    """Draw the map of a sweep over one axis of three values or more as SVG and PNG; the file's stem, None elsewhere."""
    from matplotlib import rc_context

    shown = [m for m in headline(sweep) if any(r.metrics.get(m.name) is not None for r in records)][:MOST]
    if len(sweep.axes) != 1 or max(map(len, sweep.axes.values())) < LEAST or len(sweep.arms) < 2 or not shown:
        return None
    with rc_context(STYLE):
        save(draw(sweep, records, shown), folder, f"{prefix}{NAME}")
    return f"{prefix}{NAME}"


def means(sweep: Sweep, records: Sequence[RunRecord], metric: Metric) -> list[list[float]]:
    """Means over the worlds that count, a row per arm and a column per swept value; NaN where there is none."""
    (axis, values), groups = next(iter(sweep.axes.items())), group(in_order(sweep, records))
    places = [json.dumps({axis: value}, sort_keys=True) for value in values]
    return [
        [figure(metric, [r for r in groups.get((p, arm), []) if r.status == "ok"]).mean for p in places]
        for arm in sweep.arms
    ]


def draw(sweep: Sweep, records: Sequence[RunRecord], metrics: Sequence[Metric]) -> Figure:
    """One map per metric, two to a line; colours end at what is there, those of shares and fits at −1 and 1 at most."""
    from matplotlib.figure import Figure

    axis, values = next(iter(sweep.axes.items()))
    left, gap, side = 0.2 + LETTER * max(map(len, sweep.arms)), 0.25, 0.25 * len(sweep.arms)
    columns = min(2, len(metrics))
    width, line = (WIDTH - left - 0.1 - gap * (columns - 1)) / columns, side + 0.78
    height = line * -(-len(metrics) // columns)
    drawn = Figure(figsize=(WIDTH, height))
    for i, metric in enumerate(metrics):
        row, column = divmod(i, columns)
        x, y = left + column * (width + gap), height - row * line - 0.28 - side
        ax = drawn.add_axes((x / WIDTH, y / height, width / WIDTH, side / height))
        _map(ax, means(sweep, records, metric), 1.0 if metric.unit in BOUNDED else math.inf)
        ax.set_title(named(metric), loc="left", pad=4)
        ax.set_xticks(range(len(values)), [plain(v)[:24] for v in values])
        ax.set_yticks(range(len(sweep.arms)), sweep.arms if column == 0 else [""] * len(sweep.arms))
        ax.set_xlabel(short(axis, sweep), labelpad=2)
    return drawn


def _map(ax: Axes, table: Sequence[Sequence[float]], most: float) -> None:
    """Numbers on colours, which end at `most` at the latest."""
    flat = [v for line in table for v in line if math.isfinite(v)]
    most, places = min(most, max((abs(v) for v in flat), default=1.0)) or 1.0, digits(flat)
    ax.imshow(table, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for y, line in enumerate(table):
        for x, value in enumerate(line):
            ink = "white" if math.isfinite(value) and abs(value) > 0.65 * most else INK
            text = number(value, places) if math.isfinite(value) else "—"
            ax.text(x, y, text, ha="center", va="center", fontsize=8, color=ink)
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
