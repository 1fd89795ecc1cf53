"""Two lengths against one tolerance: what the start costs and what θ₂ costs, a panel per arm, and where they cross."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reuse_sim.record import RunRecord, Sweep, figure, group
from tracking.figures import INK, STYLE, WIDTH, save
from tracking.records import in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE = "#005b96"
LINES = {
    "human_bits": ("the human itself, θ₂", INK, "-"), "init_bits": ("its initialisation", BLUE, "-"),
    "plain_human_bits": ("θ₂, rounded as it is", INK, ":"),
    "plain_init_bits": ("initialisation, rounded as it is", BLUE, ":"),
}
"""By the metrics `NAME/at_PERCENT`: legend, colour, dash. The first two are compared; and the others, where there."""
NAME = "crossing"
CAPTION = ("Bits of the human and of its initialisation against tolerance, means over worlds with 95 % intervals; a "
           "dotted line marks where the means cross")


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, prefix: str = "") -> str | None:
    """Draw the lines as SVG and PNG; the file's stem, None where a sweep has no two lengths at two tolerances."""
    from matplotlib import rc_context

    if min(len(tolerances(sweep, name)) for name in list(LINES)[:2]) < 2 or not any(r.status == "ok" for r in records):
        return None
    with rc_context(STYLE):
        save(draw(sweep, records), folder, f"{prefix}{NAME}")
    return f"{prefix}{NAME}"


def tolerances(sweep: Sweep, name: str) -> dict[float, str]:
    """The metric by its tolerance in percent, in order."""
    found = {float(m.name.split("/at_")[1]): m.name for m in sweep.metrics if m.name.startswith(f"{name}/at_")}
    return dict(sorted(found.items()))


def draw(sweep: Sweep, records: Sequence[RunRecord]) -> Figure:
    """Means over the worlds that count, with their intervals; panels side by side on one scale."""
    from matplotlib.figure import Figure

    groups = group(in_order(sweep, records))
    drawn = Figure(figsize=(WIDTH, 3.0))
    axes = drawn.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for ax, ((_, arm), members) in zip(axes, groups.items(), strict=True):
        _panel(ax, sweep, [r for r in members if r.status == "ok"])
        ax.set_title(arm, loc="left", pad=4)
        ax.set_xlabel("drift allowed, % of var f")
    axes[0].set_ylabel("bits")
    axes[0].set_ylim(0, 1.2 * axes[0].get_ylim()[1])  # room for what is said of the crossing
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="upper center", ncols=4, frameon=False, fontsize=8)
    drawn.tight_layout(rect=(0, 0, 1, 0.92))
    return drawn


def _panel(ax: Axes, sweep: Sweep, records: Sequence[RunRecord]) -> None:
    metrics, means = {m.name: m for m in sweep.metrics}, {}
    lines = {name: how for name, how in LINES.items() if tolerances(sweep, name)}
    for k, (name, (label, colour, dash)) in enumerate(lines.items()):
        found = {t: figure(metrics[metric], records) for t, metric in tolerances(sweep, name).items()}
        found = {t: i for t, i in found.items() if i.n}
        means[name] = {t: i.mean for t, i in found.items()}
        x = [t * 1.02 ** (2 * k - len(lines) + 1) for t in found]  # set apart a little
        ax.plot(x, [i.mean for i in found.values()], dash, color=colour, linewidth=1.3, marker="o", markersize=2.5,
                label=label)
        low, high = ([getattr(i, end) if i.n > 1 else i.mean for i in found.values()] for end in ("low", "high"))
        ax.vlines(x, low, high, color=colour, linewidth=0.8, alpha=0.7)
    ax.set_xscale("log")
    ticks = list(means["human_bits"])
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    said = [_meeting(ax, means, kind) for kind in ("", "plain_") if f"{kind}init_bits" in means]
    ax.text(0.98, 0.97, "\n".join(said), transform=ax.transAxes, ha="right", va="top", fontsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _meeting(ax: Axes, means: Mapping[str, Mapping[float, float]], kind: str) -> str:
    """Mark where an initialisation's bits cross its human's, and say so."""
    start, human = means[f"{kind}init_bits"], means[f"{kind}human_bits"]
    at, of = crossing(start, human), "rounded: " if kind else ""
    if at is None:
        over = any(bits > human.get(t, math.inf) for t, bits in start.items())
        return f"{of}initialisation {'longer' if over else 'shorter'} throughout"
    ax.axvline(at, color=BLUE, linewidth=0.7, linestyle=LINES[f"{kind}init_bits"][2])
    return f"{of}crossing at {at:.2g} %"


def crossing(first: Mapping[float, float], second: Mapping[float, float]) -> float | None:
    """Where two curves over tolerance meet, straight in its logarithm between points; None where nowhere."""
    both = [t for t in sorted(first) if t in second]
    gaps = [first[t] - second[t] for t in both]
    for (a, u), (b, v) in zip(zip(both, gaps, strict=True), list(zip(both, gaps, strict=True))[1:], strict=False):
        if u == 0:
            return a
        if u * v < 0:
            return math.exp(math.log(a) + u / (u - v) * (math.log(b) - math.log(a)))
    return both[-1] if gaps and gaps[-1] == 0 else None

