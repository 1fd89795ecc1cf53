"""Error and inheritance over a grid of sizes and data: what was measured as cells, the fitted law as lines.

It knows the diagnostics `scaling` of records: the grid, the error and inheritance at its points, the law fitted in each
world, and why a law's constants mean nothing where they do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reuse_sim.record import RunRecord, Sweep, t_interval
from tracking.figures import FAINT, INK, STYLE, WIDTH, save
from tracking.tables import digits, interval, number, plural, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "scaling"
CUSP = "#c1651a"
ROW = 0.16  # inches between the two lines
LEVELS = 6
"""Curves of equal error at most, at round numbers."""
NOTHING = 1e-9
"""What an error of none at all is drawn as."""
MOST_WORLDS = 16
"""Worlds in the sign test: it enumerates 2^(worlds − 1) signs."""
ALPHA = 0.05


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, prefix: str = "") -> str | None:
    """Draw the grid as SVG and PNG; the file's stem, None where records carry none or other things are swept too."""
    from matplotlib import rc_context

    arms = of(sweep, records)
    if not arms:
        return None
    with rc_context(STYLE):
        save(draw(arms), folder, f"{prefix}{NAME}")
    return f"{prefix}{NAME}"


def of(sweep: Sweep, records: Sequence[RunRecord]) -> dict[str, list[Mapping[str, Any]]]:
    """The diagnostics of the worlds that count, by arm."""
    if sweep.axes:
        return {}
    found = {arm: [r.diagnostics[NAME] for r in records if r.arm == arm and r.status == "ok" and NAME in r.diagnostics]
             for arm in sweep.arms}
    return {arm: worlds for arm, worlds in found.items() if worlds}


def blocks(sweep: Sweep, records: Sequence[RunRecord], stem: str) -> list[str]:
    """The section of the page: the figure, what it shows, and whether the law holds."""
    arms = of(sweep, records)
    rows = [[arm, str(len(worlds)), *_row(worlds)] for arm, worlds in arms.items()]
    head = ["arm", "worlds", "α_N", "α_D", "R²", "residual sd (ln L)", "of it common to worlds", "the form"]
    return [
        "## Error and inheritance by size and data",
        f"![error and inheritance by size and data](figures/{stem}.svg)",
        "Cells are what was measured: above, the error on-distribution L = 1 − fit, its geometric mean over worlds; "
        "below, private causal inheritance, its mean. Black lines are curves of equal error by the laws fitted in the "
        "worlds, dashed where most worlds leave an exponent unknown: its standard error is above it, or the grid never "
        "sees its term. On the orange line, a mean over those that know both, size and data bound the error alike.",
        table(head, rows),
        "Exponents are means over the worlds, of all, in which they are known.",
        "The form misfits where its residuals have more in common between worlds than signs given to worlds at random "
        "would leave them; a high R² does not exclude that. Exponents of a form that misfits describe this grid and "
        "foretell nothing beyond it.",
    ]


def _row(worlds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Cells of the table about one arm's fits."""
    fitted = [w for w in worlds if "fitted" in w]
    known = [_known(worlds, key) for key in ("alpha_n", "alpha_d")]
    if not fitted:
        return [*known, "—", "—", "—", f"no law: {worlds[0]['why'].removeprefix('no law: ')}"]
    residuals = [_residuals(w) for w in fitted]
    freedom = len(residuals[0]) - 4
    sds = [math.sqrt(sum(r * r for r in world) / freedom) for world in residuals]
    common = math.sqrt(sum((sum(point) / len(fitted)) ** 2 for point in zip(*residuals, strict=True)) / freedom)
    squares = t_interval([_r_squared(w, r) for w, r in zip(fitted, residuals, strict=True)])
    shown = {"mean": squares.mean, "low": None, "high": None} if squares.n < 2 else vars(squares)
    sd = sum(sds) / len(sds)
    places = digits((sd,))
    return [*known, interval(shown), number(sd, places), number(common, places), judged(residuals)]


def _known(worlds: Sequence[Mapping[str, Any]], key: str) -> str:
    """`0.51 (8 of 8)`: the mean exponent over the worlds that know it."""
    values = [w["law"][key] for w in worlds if "law" in w and key not in w["unknown"]]
    mean = sum(values) / len(values) if values else math.nan
    return f"{number(mean, 2) if values else '—'} ({len(values)} of {len(worlds)})"


def judged(residuals: Sequence[Sequence[float]]) -> str:
    """What the sign test says of residuals `(worlds, points)`."""
    p, worlds = sign_test(residuals), min(len(residuals), MOST_WORLDS)
    if 2 ** (1 - worlds) >= ALPHA:
        return f"too few worlds to tell ({plural(worlds, 'world')})"
    return f"**misfits** (p = {p:.2g})" if p < ALPHA else f"no misfit seen (p = {p:.2g})"


def sign_test(residuals: Sequence[Sequence[float]]) -> float:
    """p of residuals `(worlds, points)` that share nothing: how often signs by world give as long a sum as all plus.

    Exact where a world's residuals are as likely as their negatives, however they hang together within it. Of the first
    16 worlds, over all 2^(worlds − 1) signs.
    """
    import numpy as np

    rows = np.array(residuals[:MOST_WORLDS], dtype=float)
    count = len(rows) - 1
    others = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    signs = np.concatenate([np.ones((2**count, 1)), others], axis=1)
    length = ((signs @ (rows @ rows.T)) * signs).sum(1)
    return float((length >= length[0] * (1 - 1e-9)).mean())


def _residuals(world: Mapping[str, Any]) -> list[float]:
    """ln L − ln of the law's at every point."""
    pairs = ((a, b) for measured, law in zip(world["loss"], world["fitted"], strict=True)
             for a, b in zip(measured, law, strict=True))
    return [math.log(a) - math.log(b) for a, b in pairs]


def _r_squared(world: Mapping[str, Any], residuals: Sequence[float]) -> float:
    logs = [math.log(v) for row in world["loss"] for v in row]
    mean = sum(logs) / len(logs)
    return 1 - sum(r * r for r in residuals) / (sum((v - mean) ** 2 for v in logs) or math.inf)


# The figure ------------------------------------------------------------------------------------------


def draw(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """A column per arm: the error with its indifference curves above, inheritance below; one scale in each line."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm, Normalize
    from matplotlib.figure import Figure

    logs = {arm: [np.log(np.maximum(w["loss"], NOTHING)) for w in worlds] for arm, worlds in arms.items()}
    errors = {arm: np.exp(np.mean(values, axis=0)) for arm, values in logs.items()}
    private = {arm: np.mean([w["private"] for w in worlds], axis=0) for arm, worlds in arms.items()}
    least, most = (float(f([f(e) for e in errors.values()])) for f in (np.min, np.max))
    levels = round_levels(least, most)
    scales = (LogNorm(least, most), Normalize(-1, 1))
    blues = colormaps["Blues"](np.linspace(0.02, 0.6, 256))  # light enough for lines and their labels
    maps = (ListedColormap(blues), "RdBu_r")
    names = ("L, error on-distribution", "private causal inheritance")

    left, right, gap, top, below = 0.62, 0.72, 0.12, 0.25, 0.42
    side = min((WIDTH - left - right - gap * (len(arms) - 1)) / len(arms), 1.9)
    height = top + 2 * side + ROW + below
    drawn = Figure(figsize=(WIDTH, height))
    for line, (tables, scale) in enumerate(zip((errors, private), scales, strict=True)):
        bottom = height - top - side - line * (side + ROW)
        for column, (arm, worlds) in enumerate(arms.items()):
            ax = drawn.add_axes(((left + column * (side + gap)) / WIDTH, bottom / height, side / WIDTH, side / height))
            grid = [_Axis(worlds[0][key]) for key in ("n", "d")]
            cells = ax.pcolormesh(grid[0].edges, grid[1].edges, tables[arm].T, norm=scale,
                                  cmap=maps[line], edgecolor="white", linewidth=0.4)
            _frame(ax, grid, labels=(line == 1, column == 0))
            if line == 0:
                ax.set_title(arm, loc="left", pad=4)
                _curves(ax, worlds, levels)
            else:
                _numbers(ax, grid, tables[arm], side)
        bar = drawn.add_axes(((left + len(arms) * (side + gap)) / WIDTH, bottom / height, 0.09 / WIDTH, side / height))
        drawn.colorbar(cells, cax=bar)
        bar.tick_params(length=2, width=0.5, which="both", labelsize=7)
        if line == 0:
            bar.set_yticks(levels, [f"{v:g}" for v in levels])
            bar.minorticks_off()
        bar.set_ylabel(names[line], fontsize=8, labelpad=3)
    drawn.text((left + (len(arms) * (side + gap) - gap) / 2) / WIDTH, 0.04 / height, "N, parameters of the outer's own",
               ha="center", va="bottom")
    drawn.text(0.02 / WIDTH, (below + side + ROW / 2) / height, "D, labelled questions", rotation=90, ha="left",
               va="center")
    return drawn


def round_levels(least: float, most: float) -> list[float]:
    """Numbers 1, 2, 5 times a power of ten between the two, or of tens alone; three others where there are none."""
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    for digits_of in ((1, 2, 5), (1,)):
        found = [float(f"{digit}e{power}") for power in powers for digit in digits_of]
        found = [v for v in found if least <= v <= most]
        if len(found) <= LEVELS:
            break
    return found or sorted({float(f"{least * (most / least) ** (i / 4):.2g}") for i in (1, 2, 3)})


class _Axis:
    """Cells about the values of one side, which lie on a logarithmic scale."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values = [float(v) for v in values]
        between = [math.sqrt(a * b) for a, b in zip(self.values, self.values[1:], strict=False)]
        ends = self.values[0] ** 2 / between[0], self.values[-1] ** 2 / between[-1]
        self.edges = [ends[0], *between, ends[1]]


def _frame(ax: Axes, grid: Sequence[_Axis], labels: tuple[bool, bool]) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis, side, shown in zip((ax.xaxis, ax.yaxis), grid, labels, strict=True):
        axis.set_ticks(side.values, [f"{v:,.0f}" for v in side.values] if shown else [""] * len(side.values))
        axis.set_ticks([], minor=True)
    ax.set_xlim(grid[0].edges[0], grid[0].edges[-1])
    ax.set_ylim(grid[1].edges[0], grid[1].edges[-1])
    ax.tick_params(length=0, labelsize=7)
    for side in ax.spines.values():
        side.set_visible(False)


def _curves(ax: Axes, worlds: Sequence[Mapping[str, Any]], levels: Sequence[float]) -> None:
    """Curves of equal error of the mean over worlds of ln L by their laws, and the mean cusp of those identified."""
    import numpy as np
    from matplotlib.patheffects import withStroke

    fitted = [w for w in worlds if "surface" in w]
    known = [w for w in fitted if "cusp" in w]
    if not fitted:
        ax.text(0.5, 0.5, "no law", transform=ax.transAxes, ha="center", va="center", color=FAINT)
        return
    if known:
        cusp = np.exp(np.mean([np.log(w["cusp"]) for w in known], axis=0))
        ax.plot(worlds[0]["n"], cusp, color=CUSP, linewidth=1.2, zorder=1)
    surface = fitted[0]["surface"]
    log_loss = np.mean([w["surface"]["log_loss"] for w in fitted], axis=0)
    crossed = [v for v in map(math.log, levels) if log_loss.min() < v < log_loss.max()]
    if not crossed:
        return
    drawn = ax.contour(surface["n"], surface["d"], log_loss.T, levels=crossed, colors=INK, linewidths=1.0,
                       linestyles="-" if 2 * len(known) > len(worlds) else "--")
    for label in ax.clabel(drawn, fmt=lambda v: f"{math.exp(v):.2g}", fontsize=7, inline_spacing=2):
        label.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _numbers(ax: Axes, grid: Sequence[_Axis], values: Any, side: float) -> None:
    """The values in their cells, where cells are wide enough for them."""
    if side / len(grid[0].values) < 0.28:
        return
    for x, row in zip(grid[0].values, values, strict=True):
        for y, value in zip(grid[1].values, row, strict=True):
            ink = "white" if abs(value) > 0.7 else INK
            ax.text(x, y, number(float(value), 2), ha="center", va="center", fontsize=7, color=ink)
