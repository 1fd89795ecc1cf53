"""The graph of derivations: things, the ways that lead from one to another, and what each costs, from left to right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reuse_sim.record import RunRecord, Sweep
from tracking.figures import BAR, FAINT, INK, STYLE, WIDTH, save
from tracking.records import in_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "derivations"
CAPTION = ("Ways to have f and H, in one world: boxes are ways, with their bits and their FLOPs (once for a "
           "training, or for each question), plain names what they lead to")


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, prefix: str = "") -> str | None:
    """Draw the ways of the first record that has any as SVG and PNG; the file's stem, None where none has."""
    from matplotlib import rc_context

    ways = next((r.diagnostics["ways"] for r in in_order(sweep, records) if r.diagnostics.get("ways")), None)
    if not ways or not all(isinstance(w, Mapping) and {"name", "inputs", "outputs", "bits"} <= set(w) for w in ways):
        return None
    with rc_context(STYLE):
        save(draw(ways), folder, f"{prefix}{NAME}")
    return f"{prefix}{NAME}"


def columns(ways: Sequence[Mapping[str, Any]]) -> tuple[dict[str, int], dict[str, int]]:
    """The column of every thing and of every way: a way right of all it needs, a thing right of what first gives it."""
    things: dict[str, int] = {}
    placed: dict[str, int] = {}
    while left := [w for w in ways if w["name"] not in placed and set(w["inputs"]) <= set(things)]:
        for w in left:
            placed[w["name"]] = 1 + max((things[i] for i in w["inputs"]), default=-1)
        for w in left:
            for thing in w["outputs"]:
                things.setdefault(thing, placed[w["name"]] + 1)
    return things, placed


def draw(ways: Sequence[Mapping[str, Any]]) -> Figure:
    """Columns of ways and things in turn, each ordered by the mean height of what it comes from."""
    from matplotlib.figure import Figure

    things, placed = columns(ways)
    shown = [w for w in ways if w["name"] in placed]
    above = {w["name"]: [f"={t}" for t in w["inputs"]] for w in shown}
    above |= {f"={t}": [w["name"] for w in shown if t in w["outputs"]] for t in things}
    stacks: dict[int, list[str]] = {}
    for name, column in [*placed.items(), *((f"={t}", c) for t, c in things.items())]:
        stacks.setdefault(column, []).append(name)
    height = max(map(len, stacks.values()))
    at: dict[str, tuple[float, float]] = {}
    for column in sorted(stacks):
        def came(name: str) -> float:
            before = [at[b][1] for b in above[name] if b in at]
            return sum(before) / len(before) if before else 0.0

        names = sorted(stacks[column], key=came, reverse=True) if column else stacks[column]
        for i, name in enumerate(names):
            at[name] = column, -(i + 0.5) * height / len(names)
    drawn = Figure(figsize=(1.5 * WIDTH, 0.5 * height + 0.4))
    ax = drawn.add_axes((0.01, 0.01, 0.98, 0.98))
    ax.set_axis_off()
    ax.set_xlim(-0.45, max(stacks) + 0.55)
    ax.set_ylim(-height, 0)
    for w in shown:
        x, y = at[w["name"]]
        for thing in w["inputs"]:
            ax.annotate("", (x, y), at[f"={thing}"], arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.7,
                                                               "shrinkA": 14, "shrinkB": 10})
        for thing in w["outputs"]:
            ax.annotate("", at[f"={thing}"], (x, y), arrowprops={"arrowstyle": "->", "color": FAINT, "linewidth": 0.7,
                                                               "shrinkA": 14, "shrinkB": 12})
    for w in shown:
        ax.text(*at[w["name"]], f"{w['name']}\n{cost(w)}", ha="center", va="center", fontsize=7, color=INK,
                bbox={"boxstyle": "square,pad=0.25", "facecolor": "white", "edgecolor": BAR, "linewidth": 0.8})
    for t in things:
        ax.text(*at[f"={t}"], t, ha="center", va="center", fontsize=9, color="#c2571a",
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"})
    return drawn


def cost(way: Mapping[str, Any]) -> str:
    """`71 bits`, `1.2e6 once`, `74 per question`, whatever is not 0."""
    parts = [f"{way['bits']:.3g} bits"] if way["bits"] else []
    for key, word in (("once", "once"), ("batch", "a batch"), ("question", "a question")):
        if flops := way.get(key):
            parts.append(f"{flops:,.0f} {word}" if flops < 1e4 else f"{flops:.2g} {word}")
    return ", ".join(parts) or "free"
