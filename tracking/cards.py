"""A world's card: what it asks, f, the human and their disagreement as pictures, and how fits fall with strength.

A card is an arm of a sweep of the `people` experiment. Figures come from its records; texts and the picture are those
of one world, the first whose human fails, handed in as plain values (`Scene`).
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reuse_sim.record import Metric, RunRecord, Sweep, figure, t_interval
from tracking import tables
from tracking.figures import BAR, FAINT, INK, STYLE, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scene = Mapping[str, Any]
"""What `experiments.people.scene` tells of one arm."""

FITS = ("human/on_fit", "human/off_fit", "human/repaired_off_fit", "human/own_failure_share", "human/disagreement_n",
        "human/answering_share", "human/behaviour_fit", "teacher/on_accuracy", "human/behind_teacher")
LINES = {
    "human": ("the human", BAR, "-"), "siblings": ("its siblings", BAR, ":"), "repaired": ("repaired", "#c1651a", "-"),
    "human, truly": ("the human, of what is true", BAR, "--"), "teacher, truly": ("f, of what is true", INK, "--"),
}  # fmt: skip
LEFT, SIDE = 0.68, 1.8  # inches
CLIP = 3.0  # colours end at three standard deviations of f
NO_PICTURE = "This world has no `picture`: the card shows its curves only."


def write(sweep: Sweep, records: Sequence[RunRecord], scenes: Mapping[str, Scene], folder: Path) -> list[Path]:
    """Write a page with its figure for every arm in `scenes`, and the list of all cards there; returns their paths."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    (folder / "figures").mkdir(parents=True, exist_ok=True)
    paths = []
    for arm, scene in scenes.items():
        members = [r for r in records if r.arm == arm and r.status == "ok"]
        with rc_context(STYLE):
            data = io.BytesIO()
            FigureCanvasAgg(draw(scene, members)).print_figure(data, format="png", dpi=160, metadata={"Software": None})
        (folder / "figures" / f"{arm}.png").write_bytes(data.getvalue())
        paths.append(folder / f"{arm}.md")
        paths[-1].write_text(page(sweep, members, arm, scene), encoding="utf-8")
    (folder / "index.md").write_text(index(folder), encoding="utf-8")
    return paths


def world_to_show(records: Sequence[RunRecord], arm: str) -> int:
    """The seed of the first world of an arm whose human fails; of the first one where none does."""
    seeds = [(r.metrics.get("human/fails") != 1, r.seed) for r in records if r.arm == arm]
    return min(seeds)[1]


def page(sweep: Sweep, records: Sequence[RunRecord], arm: str, scene: Scene) -> str:
    """The card's text; `records` are those of its arm that count."""
    blocks = [f"# {arm}", scene["about"].strip(), f"![{arm}: f, the human, and where they differ](figures/{arm}.png)",
              caption(scene)]
    metrics = [m for name in FITS for m in sweep.metrics if m.name == name]
    rows = [[tables.named(m), *spread(m, records), " ".join(m.meaning.split())] for m in metrics if _has(m, records)]
    head = ["", "mean and 95 % interval", "sd between worlds", "least to most", ""]
    blocks += [f"## How its humans do, over {tables.plural(len(records), 'world')}", fails(records),
               tables.table(head, rows)]
    yaml = _yaml("world", scene["world"]) + _yaml("human", scene["human"])
    blocks += ["## In a scenario", f"```yaml\n{yaml}```", tables.table(["", ""], _facts(scene))]
    blocks += [f"```sh\n{sweep.command.replace(' run ', ' card ', 1)} {arm}\n```"]
    return "\n\n".join(blocks) + "\n"


def fails(records: Sequence[RunRecord]) -> str:
    """In how many worlds there is something to inherit, and what to change where there is not."""
    well = sum(r.metrics.get("human/fails") == 0 for r in records)
    if not well:
        return "The human fails off-distribution in every one of them."
    return (f"In {well} of {len(records)} the human does **not** fail off-distribution: there is nothing to inherit, "
            "and experiments on outer models leave such worlds out. A narrower human or a stronger shift makes fewer.")


def spread(metric: Metric, records: Sequence[RunRecord]) -> tuple[str, str, str]:
    """Mean with interval, standard deviation over worlds, and range, of one metric."""
    values = [float(v) for r in records if (v := r.metrics.get(metric.name)) is not None]
    found = figure(metric, records)
    limits = found if found.n > 1 else None
    places = tables.digits([found.mean])
    mean = sum(values) / len(values)
    sd = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None
    shown = {"mean": found.mean, "low": limits and limits.low, "high": limits and limits.high}
    ends = f"{tables.number(min(values), places)} to {tables.number(max(values), places)}"
    return tables.interval(shown, places), "—" if sd is None else tables.number(sd, places), ends


def caption(scene: Scene) -> str:
    """What the picture shows."""
    below = "Below: fits by strength of the shift, means over worlds and 95 % intervals; scenarios ask at 1 by default."
    if "picture" not in scene:
        return f"{NO_PICTURE} {below}"
    p = scene["picture"]
    outline = " Inside the black line lies what is asked on-distribution." if _mixed(p["learned"]) else ""
    return (f"What f answers, what one human answers, and what it answers too much: across, {p['across']}; down, "
            f"{p['down']}.{outline} {below}")


def index(folder: Path) -> str:
    """The list of the cards in `folder`."""
    entries = {p.stem: p.read_text(encoding="utf-8") for p in sorted(folder.glob("*.md")) if p.name != "index.md"}
    lines = [f"- [{stem}]({stem}.md): {' '.join(text.split(chr(10) * 2)[1].split())}" for stem, text in entries.items()]
    tree = "```{toctree}\n:hidden:\n\n" + "\n".join(entries) + "\n```"
    note = ("A card per world: what it asks, how a human of it fails, and how well its humans do. Pictures and figures "
            "come from tracked runs of `scenarios/worlds.yaml`; `reuse-sim card scenarios/worlds.yaml` makes them, and "
            "`reuse-sim card MINE.yaml` those of your own worlds.")
    return "\n\n".join(["# World cards", note, "\n".join(lines), tree]) + "\n"


# The figure ------------------------------------------------------------------------------------------


def draw(scene: Scene, records: Sequence[RunRecord]) -> Figure:
    """Three maps where the world has a picture, and the curves below."""
    from matplotlib.figure import Figure

    top = SIDE + 0.75 if "picture" in scene else 0.0
    height = top + 2.4
    drawn = Figure(figsize=(WIDTH, height))
    if top:
        _maps(drawn, scene["picture"], height, CLIP if scene["kind"] == "regression" else 1.0)
    _curves(drawn.add_axes((LEFT / WIDTH, 0.42 / height, (WIDTH - 2.6) / WIDTH, 1.85 / height)), scene, records)
    return drawn


def _maps(drawn: Figure, picture: Mapping[str, Any], height: float, clip: float) -> None:
    import numpy as np

    teacher, human = np.array(picture["teacher"]), np.array(picture["human"])
    most = min(float(np.abs(teacher).max()) or 1.0, clip)
    across, down = (_Scale(picture[key]) for key in ("columns", "rows"))
    bottom, gap = height - 0.22 - SIDE, 0.22
    for i, (title, values) in enumerate((("f", teacher), ("human", human), ("human − f", human - teacher))):
        ax = drawn.add_axes(((LEFT + i * (SIDE + gap)) / WIDTH, bottom / height, SIDE / WIDTH, SIDE / height))
        ax.set_title(title, loc="left", pad=4)
        # Planes are drawn as planes, upwards; tables of numbered or named rows as tables, downwards.
        low, high = down.ends if down.plane else down.ends[::-1]
        image = ax.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest",
                          origin="lower" if down.plane else "upper", extent=(across.ends[0], across.ends[1], low, high))
        _outline(ax, np.array(picture["learned"]), across, down)
        across.ticks(ax.xaxis, 5)
        down.ticks(ax.yaxis, 7, shown=i == 0)
        ax.set_xlabel(picture["across"] if i == 1 else "", labelpad=3)
        if i == 0:
            ax.set_ylabel(textwrap.fill(picture["down"], 26), labelpad=2)
    bar = drawn.add_axes(((LEFT + 3 * (SIDE + gap) - 0.1) / WIDTH, bottom / height, 0.1 / WIDTH, SIDE / height))
    drawn.colorbar(image, cax=bar, extend="both")
    bar.tick_params(length=2, width=0.5)


class _Scale:
    """Where the cells of one side of a map lie: at their numbers, or one after another where they have names."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.names = list(values) if isinstance(values[0], str) else None
        self.plane = isinstance(values[0], float)
        self.first = 0.0 if self.names else float(values[0])
        self.step = 1.0 if self.names or len(values) < 2 else (values[-1] - values[0]) / (len(values) - 1)
        self.ends = (self.first - self.step / 2, self.first + (len(values) - 0.5) * self.step)

    def edge(self, k: float) -> float:
        """The place of cell k, or of an edge where k is a half."""
        return self.first + k * self.step

    def ticks(self, axis: Any, most: int, shown: bool = True) -> None:
        from matplotlib.ticker import MaxNLocator

        if self.names:
            step = 1 if len(self.names) <= 12 else len(self.names) // 4
            axis.set_ticks(range(0, len(self.names), step), self.names[::step])
        else:
            axis.set_major_locator(MaxNLocator(most, integer=not self.plane))
        axis.set_tick_params(length=0 if self.names else 2, width=0.5, labelleft=shown)


def _outline(ax: Axes, learned: Any, across: _Scale, down: _Scale) -> None:
    """A line between cells that are learned and cells that are not."""
    from matplotlib.collections import LineCollection

    rows, columns = learned.shape
    edges = [((c + 0.5, r - 0.5), (c + 0.5, r + 0.5))
             for r in range(rows) for c in range(columns - 1) if learned[r, c] != learned[r, c + 1]]
    edges += [((c - 0.5, r + 0.5), (c + 0.5, r + 0.5))
              for r in range(rows - 1) for c in range(columns) if learned[r, c] != learned[r + 1, c]]
    lines = [[(across.edge(c), down.edge(r)) for c, r in edge] for edge in edges]
    ax.add_collection(LineCollection(lines, colors=INK, linewidths=1.1))


def _curves(ax: Axes, scene: Scene, records: Sequence[RunRecord]) -> None:
    curves = [r.diagnostics["curve"] for r in records if "curve" in r.diagnostics]
    for key, (label, colour, style) in LINES.items():
        if not curves or key not in curves[0]:
            continue
        at = curves[0]["strength"]
        found = [t_interval([c[key][i] for c in curves]) for i in range(len(at))]
        ax.plot(at, [i.mean for i in found], color=colour, linestyle=style, linewidth=1.4, label=label)
        if len(curves) > 1:
            ax.fill_between(at, [i.low for i in found], [i.high for i in found], color=colour, alpha=0.12, linewidth=0)
    ax.set_xlabel("strength of the shift", labelpad=2)
    ax.set_ylabel("accuracy" if scene["kind"] == "classification" else "R² to f", labelpad=2)
    low = -1.0 if scene["kind"] != "classification" else 0.0
    ax.set_ylim(max(low, ax.get_ylim()[0]), 1.03)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    ax.axvline(1, color=FAINT, linewidth=0.6, linestyle=(0, (2, 3)))
    for side in ("right", "top"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=2, width=0.5)
    if curves:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, handlelength=1.8)


# Facts -----------------------------------------------------------------------------------------------


def _facts(scene: Scene) -> list[list[str]]:
    inactive = scene["inactive"]
    of = "not stated" if inactive is None else f"{inactive} of {scene['teacher_parameters']}"
    return [
        ["kind", f"{scene['kind']}, {tables.plural(scene['inputs'], 'input')}; an answer is right within "
                 f"{scene['tolerance'] / 2:g}"],
        ["θ1", f"{scene['teacher_parameters']} numbers"],
        ["inactive on-distribution", f"{of}: these earn no bits back"],
        ["θ2", f"{scene['human_parameters']} parameters in layers {'-'.join(map(str, scene['human_layers']))}"],
        *([f"shift `{name}`", text] for name, text in scene["shifts"].items()),
    ]


def _yaml(key: str, plugin: Mapping[str, Any]) -> str:
    options = ", ".join(f"{k}: {tables.plain(v)}" for k, v in plugin.items() if k != "source_sha256")
    return textwrap.fill(f"{key}: {{{options}}}", 88, subsequent_indent="  ") + "\n"


def _mixed(learned: Sequence[Sequence[bool]]) -> bool:
    return len({cell for row in learned for cell in row}) == 2


def _has(metric: Metric, records: Sequence[RunRecord]) -> bool:
    return any(r.metrics.get(metric.name) is not None for r in records)
