"""The two totals of a ledger side by side, arm by arm: what each part adds, what is given back, and who is shorter."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reuse_sim.record import RunRecord, Sweep, figure, group
from tracking.figures import INK, LETTER, STYLE, WIDTH, save
from tracking.records import in_order
from tracking.tables import number, plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = ("human", "teacher", "plain", "reuse", "intended")
"""The means that it is drawn from, by the metric `ledger/NAME_bits`, beside `specialness/bits`."""
PARTS = {"human": ("|θ₂|, the human", "#7fb2d6"), "teacher": ("|θ₁|, the teacher", "#e0a458"), "head": ("head", INK)}
BACK = ("S, given back", "#3f8f5f")
WINS = ("#3f8f5f", "#b3402a")
NAME = "waterfall"
CAPTION = ("What reuse and the intended pair take in bits, means over worlds; a dotted line is what reuse "
           "takes, a heavy one what the intended pair takes once specialness is given back: the one "
           "further left is the shorter description; at the right by how much, with the 95 % interval")


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, prefix: str = "") -> str | None:
    """Draw the ledgers as SVG and PNG; the file's stem, None where there are none."""
    from matplotlib import rc_context

    if not {f"ledger/{n}_bits" for n in NAMES} | {"specialness/bits"} <= {m.name for m in sweep.metrics}:
        return None
    found = ledgers(sweep, records)
    if not found:
        return None
    with rc_context(STYLE):
        save(draw(sweep, found), folder, f"{prefix}{NAME}")
    return f"{prefix}{NAME}"


def ledgers(sweep: Sweep, records: Sequence[RunRecord]) -> dict[tuple[str, str], dict[str, float]]:
    """Mean entries by point and arm, over the worlds that count and have all of them."""
    metrics = {m.name: m for m in sweep.metrics}
    names = {**{n: metrics[f"ledger/{n}_bits"] for n in NAMES}, "given_back": metrics["specialness/bits"]}
    found = {}
    for (point, arm), members in group(in_order(sweep, records)).items():
        whole = [r for r in members if r.status == "ok" and all(r.metrics.get(m.name) is not None
                                                                for m in names.values())]
        if whole:
            found[point, arm] = {n: figure(m, whole).mean for n, m in names.items()} | {"worlds": len(whole)}
            if profit := metrics.get("ledger/profit_bits"):
                limits = figure(profit, whole)
                found[point, arm] |= {"low": limits.low, "high": limits.high}
    return found


def draw(sweep: Sweep, found: Mapping[tuple[str, str], Mapping[str, float]]) -> Figure:
    """A panel per sweep point; two bars per arm, reuse above and the intended pair below."""
    from matplotlib.figure import Figure

    points = list(dict.fromkeys(point for point, _ in found))
    rows = [[arm for arm in sweep.arms if (point, arm) in found] for point in points]
    tall = [0.5 * len(arms) + 0.55 for arms in rows]
    height = sum(tall) + 0.35
    drawn = Figure(figsize=(WIDTH, height))
    left, right = 0.95 + LETTER * max(len(arm) for arms in rows for arm in arms), 1.35
    most = max(max(f["plain"], f["reuse"]) for f in found.values())
    least = min(0.0, *(f["intended"] for f in found.values()))
    y = height - 0.3
    for point, arms, size in zip(points, rows, tall, strict=True):
        y -= size
        place = left / WIDTH, (y + 0.35) / height, (WIDTH - left - right) / WIDTH, (size - 0.5) / height
        ax = drawn.add_axes(place)
        ax.set_xlim(least * 1.03, most * 1.03)
        where = ", ".join(f"{short(axis, sweep)} {plain(value)}" for axis, value in json.loads(point).items())
        ax.set_title(where, loc="left", pad=3)
        _panel(ax, {arm: found[point, arm] for arm in arms})
    drawn.axes[-1].set_xlabel("bits")
    handles, labels = drawn.axes[0].get_legend_handles_labels()
    first = {label: handle for handle, label in reversed(list(zip(handles, labels, strict=True)))}
    order = [*(label for label, _ in PARTS.values()), BACK[0]]
    drawn.legend([first[o] for o in order], order, loc="upper center", ncols=4, frameon=False, fontsize=8)
    return drawn


def _panel(ax: Axes, arms: Mapping[str, Mapping[str, float]]) -> None:
    ticks, labels = [], []
    edge = ax.get_xlim()[1]
    for k, (arm, f) in enumerate(arms.items()):
        above, below = 2.5 * k, 2.5 * k + 1
        heads = {"reuse": f["reuse"] - f["human"], "intended": f["plain"] - f["teacher"] - f["human"]}
        _stack(ax, above, {"human": f["human"], "head": heads["reuse"]})
        _stack(ax, below, {"human": f["human"], "teacher": f["teacher"], "head": heads["intended"]})
        # Given back: from the end of all parts leftwards to what is left to pay.
        ax.barh(below, f["given_back"], left=f["intended"], height=0.34, color="white", edgecolor=BACK[1],
                hatch="/////", linewidth=0.8, label=BACK[0], zorder=3)
        ax.plot([f["intended"]] * 2, [below - 0.48, below + 0.48], color=BACK[1], linewidth=2, zorder=4)
        ax.plot([f["reuse"]] * 2, [above - 0.42, below + 0.48], color=INK, linewidth=0.8, linestyle=":", zorder=4)
        colour, words = _verdict(f)
        ax.text(edge, (above + below) / 2, words, color=colour, fontsize=8, va="center")
        ticks += [above, below]
        labels += [f"{arm}   reuse", "f, S back"]
    ax.set_yticks(ticks, labels)
    ax.set_ylim(2.5 * len(arms) - 0.9, -0.7)
    ax.tick_params(length=0)
    ax.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.axvline(0, color=INK, linewidth=0.7)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _verdict(f: Mapping[str, float]) -> tuple[str, str]:
    """Colour and words of who is shorter and by how much, with limits; nobody is where they hold 0."""
    profit, low, high = f["reuse"] - f["intended"], f.get("low", math.nan), f.get("high", math.nan)
    if not round(abs(profit)) or low <= 0 <= high:
        colour, said, sign = INK, "not told apart\n ", 1
    else:
        colour, said, sign = (WINS[0], "intended\n  by", 1) if profit > 0 else (WINS[1], "reuse\n  by", -1)
    ends = sorted((sign * low, sign * high))
    limits = f" [{number(ends[0], 0)}, {number(ends[1], 0)}]" if math.isfinite(low + high) else ""
    return colour, f"  {said} {number(sign * profit, 0)}{limits} bits"


def _stack(ax: Axes, y: float, parts: Mapping[str, float]) -> None:
    start = 0.0
    for name, bits in parts.items():
        label, colour = PARTS[name]
        ax.barh(y, bits, left=start, height=0.84, color=colour, label=label, zorder=2)
        start += bits
