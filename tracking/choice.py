"""Ledger against choice: what the exact ledger prefers, in bits, and who speaks in the head that training came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reuse_sim.record import RunRecord, Sweep
from tracking.figures import FAINT, INK, STYLE, WIDTH, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X, Y = "ledger/difference_bits", "choice/own_share"
STARTS = {
    "copy_cold": "begun as a copy",
    "copy_warm": "begun as a copy that knows f",
    "direct": "begun as the direct head",
    "fresh": "begun as nothing",
}
"""Panels, by an arm's `start`."""
SLOTS = {
    "given": "human given",
    "learned": "human learned",
    "stopped": "human learned apart",
    "warm": "human learned before",
}
"""Lines of panels where a sweep has several: by an arm's `slot`, stopped where it is learned and not `joint`."""
REWARDS = {
    "none": ("no reward", FAINT, "o"),
    "shuffled": ("reward for shuffled answers", "#c2571a", "v"),
    "own": ("rewarded", "#005b96", "s"),
}
"""By an arm's `reward`: legend, colour, mark."""
EDGE, SURE = 25.0, 2.0
"""Bits up to which the axis is even, and within which the ledger says nothing."""
NAME = "choice"
CAPTION = ("Who speaks in the trained head by what the ledger prefers; dots are worlds at all sweep "
           "points, hollow ones undecided. Training disagrees with the ledger in the shaded quadrants; in "
           "the grey strip the ledger prefers neither by more than 2 bits")


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, prefix: str = "") -> str | None:
    """Draw the panels as SVG and PNG; the file's stem, None where a sweep has no such metrics or starts."""
    from matplotlib import rc_context

    names = {m.name for m in sweep.metrics}
    if not {X, Y} <= names or not panels(sweep):
        return None
    with rc_context(STYLE):
        save(draw(sweep, records), folder, f"{prefix}{NAME}")
    return f"{prefix}{NAME}"


def panels(sweep: Sweep) -> dict[str, dict[str, str]]:
    """Arm by panel and reward: the first arm of each pair, which later ones with the same pair vary.

    A panel has the name of its start, and where the human is not given that of the slot after it: `direct/learned`.
    """
    written = next(iter(sweep.resolved.get("points", [])), {}).get("arms", {})
    found: dict[str, dict[str, str]] = {}
    for arm in sweep.arms:
        options = written.get(arm, {})
        start, reward, slot = (_read(options, key) for key in ("start", "reward", "slot"))
        slot = "stopped" if slot == "learned" and options.get("joint") is False else slot or "given"
        if start in STARTS and reward in REWARDS and slot in SLOTS:
            found.setdefault(_panel(start, slot), {}).setdefault(reward, arm)
    names = [_panel(start, slot) for slot in SLOTS for start in STARTS]
    return {name: found[name] for name in names if name in found}


def _panel(start: str, slot: str) -> str:
    return start if slot == "given" else f"{start}/{slot}"


def _lines(shown: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Panels line by line: two to a line, or a line for each slot, with what is said of it and a column per start."""
    slots = [slot for slot in SLOTS if any(_panel(start, slot) in shown for start in STARTS)]
    if len(slots) == 1:
        names = [*shown]
        return [("", names[k : k + 2]) for k in range(0, len(names), 2)]
    starts = [start for start in STARTS if any(_panel(start, slot) in shown for slot in slots)]
    return [(SLOTS[slot], [_panel(start, slot) for start in starts]) for slot in slots]


def draw(sweep: Sweep, records: Sequence[RunRecord]) -> Figure:
    """A panel per start and slot; every dot is a world, hollow where it was left undecided."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    shown = panels(sweep)
    lines = _lines(shown)
    rows, columns = len(lines), len(lines[0][1])
    small = columns > 2
    height = (2.0 if small else 2.6) * rows + 0.6
    drawn = Figure(figsize=(WIDTH, height))
    axes = drawn.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    reach = max([10.0, *(abs(r.metrics[X] or 0.0) for r in records if r.metrics.get(X) is not None)])
    for i, (slot, names) in enumerate(lines):
        below = lines[i + 1][1] if i + 1 < rows else []
        for k, ax in enumerate(axes[i]):
            name = names[k] if k < len(names) else ""
            if name not in shown:
                ax.set_visible(False)
                continue
            _ground(ax, 1.15 * reach, small)
            for at, (reward, (_, colour, mark)) in enumerate(REWARDS.items()):
                _dots(ax, [r for r in records if r.arm == shown[name].get(reward)], colour, mark, 0.022 * (at - 1))
            if i == 0 or not slot:
                ax.set_title(STARTS[name.partition("/")[0]], loc="left", pad=4)
            if k >= len(below) or below[k] not in shown:
                ax.set_xlabel("J copy − J direct, bits" if small else "ledger: J copy − J direct, bits")
                ax.tick_params(labelbottom=True)
        axes[i][0].set_ylabel(f"{slot}\nshare of own answer" if slot else "training: share of own answer")
    keys = [Line2D([], [], linestyle="", marker=mark, color=colour, markersize=4.5, label=label)
            for label, colour, mark in REWARDS.values()]  # fmt: skip
    drawn.legend(handles=keys, loc="upper center", ncols=3, frameon=False, fontsize=8, handletextpad=0.2)
    drawn.tight_layout(rect=(0, 0, 1, 1 - 0.3 / height))
    return drawn


def _ground(ax: Axes, reach: float, small: bool) -> None:
    """The quadrants: shaded where training chose what the ledger does not prefer."""
    ax.set_xscale("symlog", linthresh=EDGE, linscale=1.5)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-0.06, 1.06)
    for low, high, bottom in ((-reach, -SURE, 0.5), (SURE, reach, -0.06)):
        ax.fill_between([low, high], bottom, bottom + 0.56, color="#f3e9e2", linewidth=0, zorder=0)
    ax.axvspan(-SURE, SURE, color="#eeeeee", linewidth=0, zorder=0)
    ax.axhline(0.5, color=INK, linewidth=0.5)
    ax.axvline(0, color=INK, linewidth=0.5)
    for x, text, side in ((0.02, "ledger says copy", "left"), (0.98, "ledger says direct", "right")):
        text = text.removeprefix("ledger ") if small else text
        ax.text(x, 0.535, text, transform=ax.transAxes, ha=side, va="bottom", fontsize=7, color=FAINT)
    every = (-100, -50, -20, 0, 20, 50, 100) if small and reach > 20 else (-100, -50, -20, -10, 0, 10, 20, 50, 100)
    ticks = [t for t in every if abs(t) < reach]
    ax.set_xticks(ticks, [str(t).replace("-", "−") for t in ticks])
    ax.minorticks_off()
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _dots(ax: Axes, records: Sequence[RunRecord], colour: str, mark: Any, apart: float) -> None:
    """Set apart a little from the other rewards' marks, which would hide them."""
    for status, face in (("ok", colour), ("undecided", "none")):
        told = [(r.metrics.get(X), r.metrics.get(Y)) for r in records if r.status == status]
        dots = [(x, y + apart) for x, y in told if x is not None and y is not None]
        ax.scatter([x for x, _ in dots], [y for _, y in dots], s=13, marker=mark, facecolors=face, edgecolors=colour,
                   linewidths=0.7, alpha=0.7, clip_on=False, zorder=3)  # fmt: skip


def _read(arm: Mapping[str, Any], key: str) -> str:
    value = arm.get(key)
    return value if isinstance(value, str) else ""
