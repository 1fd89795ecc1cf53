"""What rerunning a human's training costs against how long that is: lines, their boundaries, and the arms on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reuse_sim.record import RunRecord, Sweep
from tracking.figures import FAINT, INK, STYLE, WIDTH, save
from tracking.records import in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDED = {"process/per_batch_factor", "process/flops_ratio", "process/least_steps", "process/critical_batch"}
LINES = {
    "process/per_datapoint_factor": ("at every question", "#c2571a"),
    "process/per_batch_factor": ("at every critical batch", "#005b96"),
    "process/once_factor": ("once", "#3f8f5f"),
}
"""By metric: legend and colour."""
NAME = "regimes"
CAPTION = "What rerunning costs; dotted, where it doubles the cost"


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, prefix: str = "") -> str | None:
    """Draw the lines as SVG and PNG; the file's stem, None for a sweep that does not tell what reruns cost."""
    from matplotlib import rc_context

    if NEEDED - {m.name for m in sweep.metrics} or not families(sweep, records):
        return None
    with rc_context(STYLE):
        save(draw(sweep, records), folder, f"{prefix}{NAME}")
    return f"{prefix}{NAME}"


def families(sweep: Sweep, records: Sequence[RunRecord]) -> list[dict[str, list[RunRecord]]]:
    """Arms with records that count, those of the same outer networks together."""
    arms: dict[str, list[RunRecord]] = {}
    for r in in_order(sweep, records):
        if r.status == "ok" and not r.params:
            arms.setdefault(r.arm, []).append(r)
    found: dict[tuple, dict[str, list[RunRecord]]] = {}
    for arm, members in arms.items():
        outer = tuple((r.seed, r.metrics["process/critical_batch"]) for r in members)
        found.setdefault(outer, {})[arm] = members
    return list(found.values())


def draw(sweep: Sweep, records: Sequence[RunRecord]) -> Figure:
    """A panel for each outer, two to a line: cost over that without reruns by C/W."""
    from matplotlib.figure import Figure

    panels = families(sweep, records)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    drawn = Figure(figsize=(WIDTH, 2.9 * rows + 0.4))
    axes = drawn.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[len(panels):]:
        ax.set_visible(False)
    for ax, arms in zip(axes.flat, panels, strict=False):
        _panel(ax, arms)
    for i in range(len(panels)):
        if i + columns >= len(panels):
            axes.flat[i].set_xlabel("C/W, human's training over outer's")
            axes.flat[i].tick_params(labelbottom=True)
    for line in axes:
        line[0].set_ylabel("cost / cost without reruns")
    drawn.legend(*axes.flat[0].get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False, fontsize=8)
    drawn.tight_layout(rect=(0, 0, 1, 1 - 0.35 / (2.9 * rows + 0.4)))
    return drawn


LEFT, RIGHT, TOP = 1e-6, 1e4, 1e10


def _panel(ax: Axes, arms: dict[str, list[RunRecord]]) -> None:
    """Lines of the mean world; where one of them is at 2, a boundary; every arm at its mean, with its name."""
    import numpy as np

    def mean(arm: str, name: str) -> float:
        return float(np.exp(np.mean([np.log(r.metrics[name] or 1.0) for r in arms[arm]])))

    first = next(iter(arms))
    steps, critical = mean(first, "process/least_steps"), mean(first, "process/critical_batch")
    kappa = np.geomspace(LEFT, RIGHT, 200)
    # C/W times W/c, W/(c B_n) and 1: what a rerun costs in units of what it is added to.
    for (label, colour), times in zip(LINES.values(), (2 * steps * critical, 2 * steps, 1.0), strict=True):
        ax.plot(kappa, 1 + kappa * times, color=colour, linewidth=1.4, label=label)
        ax.axvline(1 / times, color=colour, linewidth=0.7, linestyle=":")
    before = 0.0
    for arm in sorted(arms, key=lambda a: mean(a, "process/flops_ratio")):
        at = mean(arm, "process/flops_ratio")
        side, before = ("left" if at < 4 * before else "right"), at
        for name, (_, colour) in LINES.items():
            ax.plot(at, mean(arm, name), "o", color=colour, markersize=3.5)
        ax.text(at, TOP, arm.replace("_", " "), rotation=90, ha=side, va="top", fontsize=7, color=INK,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})
        ax.axvline(at, color=FAINT, linewidth=0.4, zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(LEFT, RIGHT)
    ax.set_ylim(0.7, TOP)
    ax.axhline(2, color=INK, linewidth=0.5)
    ax.set_title(f"critical batch {critical:.3g}, {steps:.3g} steps at least", loc="left", pad=4)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
