"""What is harvested against what leaked: specialness in bits by the share of θ₂ told, a panel per sweep point."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reuse_sim.record import RunRecord, Sweep, figure, group
from tracking.figures import FAINT, INK, STYLE, WIDTH, save
from tracking.records import in_order
from tracking.tables import plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {
    "separate": ("S, by a sampler of its own", INK, "-"),
    "conditional": ("S given what leaked", FAINT, "--"),
    "free": ("path on consistency", "#005b96", "-"),
    "own": ("the learner's own path", "#c2571a", "-"),
    "replay": ("replayed, told values anew", "#8a6fb0", ":"),
    "restart": ("descent begun anew", "#3f8f5f", "-."),
}
"""By the metric `specialness/NAME_bits`: legend, colour, dash."""
NAME = "against_leak"
CAPTION = ("Bits against the share that leaks, means over worlds with 95 % intervals; a world left "
           "undecided at one share is missing there, which moves S itself")


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, prefix: str = "") -> str | None:
    """Draw the lines as SVG and PNG; the file's stem, None where there is no conditional specialness or no leak."""
    from matplotlib import rc_context

    names = {m.name for m in sweep.metrics}
    if "specialness/conditional_bits" not in names or len(leaks(sweep)) < 2:
        return None
    with rc_context(STYLE):
        save(draw(sweep, records), folder, f"{prefix}{NAME}")
    return f"{prefix}{NAME}"


def leaks(sweep: Sweep) -> dict[str, float]:
    """The share that leaks by arm, of those arms that say it."""
    written = next(iter(sweep.resolved.get("points", [])), {}).get("arms", {})
    shares = {arm: written.get(arm, {}).get("leak") for arm in sweep.arms}
    return {arm: float(share) for arm, share in shares.items() if isinstance(share, (int, float))}


def draw(sweep: Sweep, records: Sequence[RunRecord]) -> Figure:
    """Means over the worlds that count, with their intervals, two panels to a line."""
    from matplotlib.figure import Figure

    groups, shares = group(in_order(sweep, records)), leaks(sweep)
    points = list(dict.fromkeys(point for point, _ in groups))
    columns = min(2, len(points))
    rows = -(-len(points) // columns)
    drawn = Figure(figsize=(WIDTH, 2.5 * rows + 0.5))
    axes = drawn.subplots(rows, columns, squeeze=False, sharex=True)
    for ax in axes.flat[len(points):]:
        ax.set_visible(False)
    for ax, point in zip(axes.flat, points, strict=False):
        counted = {arm: [r for r in groups.get((point, arm), []) if r.status == "ok"] for arm in shares}
        _panel(ax, sweep, counted, shares)
        where = ", ".join(f"{short(axis, sweep)} {plain(value)}" for axis, value in json.loads(point).items())
        ax.set_title(where, loc="left", pad=4)
    for ax in axes[-1]:
        ax.set_xlabel("share of θ₂ told early")
    for line in axes:
        line[0].set_ylabel("bits")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="upper center", ncols=3, frameon=False, fontsize=8)
    drawn.tight_layout(rect=(0, 0, 1, 1 - 0.5 / (2.5 * rows + 0.5)))
    return drawn


def _panel(ax: Axes, sweep: Sweep, counted: dict[str, list[RunRecord]], shares: dict[str, float]) -> None:
    metrics = {m.name: m for m in sweep.metrics}
    top = 0.0
    for k, (name, (label, colour, dash)) in enumerate(LINES.items()):
        metric = metrics.get(f"specialness/{name}_bits")
        if metric is None:
            continue
        found = {share: figure(metric, counted[arm]) for arm, share in sorted(shares.items(), key=lambda p: p[1])}
        found = {share: i for share, i in found.items() if i.n}
        x, y = [share + 0.006 * (k - 2.5) for share in found], [i.mean for i in found.values()]
        ax.plot(x, y, dash, color=colour, linewidth=1.3, marker="o", markersize=2.5, label=label)
        low, high = ([i.low if i.n > 1 else i.mean for i in found.values()],
                     [i.high if i.n > 1 else i.mean for i in found.values()])
        ax.vlines(x, low, high, color=colour, linewidth=0.6, alpha=0.6)
        if name in ("separate", "free"):
            top = max([top, *high])
    ax.set_ylim(min(0.0, -0.03 * top), 1.25 * top or 1.0)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
