"""Ways to have f and H both: bits against FLOPs, a panel per arm, beside θ2 alone that answers with H."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reuse_sim.record import RunRecord, Sweep
from tracking.figures import BAR, FAINT, INK, STYLE, WIDTH, save
from tracking.records import in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "pareto"
CAPTION = ("Bits against FLOPs: means over worlds that have the way, small dots are worlds, the line is the front of "
           "the means of ways to have both; hollow ways have f on-distribution only")
REUSE, SHARED = "reuse", "shared"


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, prefix: str = "") -> str | None:
    """Draw it as SVG and PNG; the file's stem, None for a sweep without ways to have both."""
    from matplotlib import rc_context

    arms = counted(sweep, records)
    if "joint/reuse_bits" not in {m.name for m in sweep.metrics} or not arms:
        return None
    with rc_context(STYLE):
        save(draw(sweep, arms), folder, f"{prefix}{NAME}")
    return f"{prefix}{NAME}"


def counted(sweep: Sweep, records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """The records that count, by arm."""
    arms: dict[str, list[RunRecord]] = {}
    for r in in_order(sweep, records):
        if r.status == "ok":
            arms.setdefault(r.arm, []).append(r)
    return arms


def points(sweep: Sweep, records: Sequence[RunRecord]) -> dict[str, list[tuple[float, float]]]:
    """Bits and FLOPs of every world that has the way, by the way's name."""
    found = {}
    for m in sweep.metrics:
        name = m.name.removeprefix("joint/").removesuffix("_bits")
        if m.name != f"joint/{name}_bits":
            continue
        pairs = [(r.metrics.get(m.name), r.metrics.get(f"joint/{name}_flops")) for r in records]
        if there := [(b, f) for b, f in pairs if b is not None and f is not None]:
            found[name] = there
    return found


def front(means: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points that no other has less of one and no more of the other than, by bits."""
    order = sorted(means, key=lambda name: means[name])
    kept: list[str] = []
    for name in order:
        if not kept or means[name][1] < means[kept[-1]][1]:
            kept.append(name)
    return kept


def draw(sweep: Sweep, arms: Mapping[str, list[RunRecord]]) -> Figure:
    """Two panels to a line."""
    from matplotlib.figure import Figure

    columns = min(2, len(arms))
    rows = -(-len(arms) // columns)
    drawn = Figure(figsize=(WIDTH, 3.0 * rows + 0.1))
    axes = drawn.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(arms):]:
        ax.set_visible(False)
    for ax, (arm, records) in zip(axes.flat, arms.items(), strict=False):
        _panel(ax, points(sweep, records), records)
        ax.set_title(arm.replace("_", " "), loc="left", pad=4)
    for ax in axes.flat:
        ax.set_xlabel("bits")
    for line in axes:
        line[0].set_ylabel("FLOPs of a training")
    drawn.tight_layout()
    return drawn


def _panel(ax: Axes, found: Mapping[str, list[tuple[float, float]]], records: Sequence[RunRecord]) -> None:
    means = {name: (sum(b for b, _ in worlds) / len(worlds), sum(f for _, f in worlds) / len(worlds))
             for name, worlds in found.items()}
    only = {p["name"] for r in records for p in r.diagnostics.get("front", []) if not p["pair"]}
    pairs = front({name: at for name, at in means.items() if name not in only})
    bits, flops = ([means[n][i] for n in pairs] for i in (0, 1))
    ax.step(bits, flops, where="post", color=BAR, linewidth=1.0, zorder=1)
    for name, worlds in found.items():
        ax.scatter(*zip(*worlds, strict=True), s=3, color=FAINT, alpha=0.5, linewidth=0, zorder=0)
        colour = "#c2571a" if name == REUSE else BAR
        ax.scatter(*means[name], s=30, facecolor="white" if name in only else colour, edgecolor=colour, zorder=2)
    ax.set_yscale("log")
    right = max(b for b, _ in means.values())
    ax.set_xlim(0, 1.35 * right)
    low, high = min(f for _, f in means.values()), max(f for _, f in means.values())
    ax.set_ylim(low / 2, high * 4)
    _labels(ax, means)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _labels(ax: Axes, means: Mapping[str, tuple[float, float]]) -> None:
    """Names to the right of their points, each moved up until none lies on another."""
    taken: list[tuple[float, float, int]] = []
    for name, at in sorted(means.items(), key=lambda item: item[1][1]):
        text = name.replace("_", " ")
        x, y = ax.transData.transform(at)
        width = 4.2 * len(text) + 8
        while any(abs(y - other) < 9 and x < left + long and left < x + width for left, other, long in taken):
            y += 3
        taken.append((x, y, int(width)))
        left, up = ax.transData.inverted().transform((x, y))
        ax.text(left, up, f"   {text}", fontsize=7, color=INK, va="bottom", zorder=3)
