"""The page about a sweep: what was asked, found and done, in Markdown for plain viewers and MyST alike.

It knows sweeps and records only: sentences come from the scenario, figures and verdicts from records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reuse_sim.record import Metric, RunRecord, Sweep, aggregate
from tracking import against, choice, crossing, derivations, figures, maps, pareto, regimes, scaling, tables, waterfall
from tracking.limits import limits
from tracking.records import in_order

FURTHER = (choice, waterfall, against, crossing, regimes, pareto, derivations)
"""Figures with a caption of their own, each of which knows which sweeps it is for."""
VERDICTS = ("supported", "refuted", "undecided")


def write(sweep: Sweep, records: Sequence[RunRecord], folder: Path, *, docs: bool = False) -> Path:
    """Write the page, and its figures as SVG and PNG in `folder/figures`; returns the page's path.

    The page is `folder/report.md`; with `docs` it is `folder/SCENARIO.md` and `folder/index.md`
    lists all pages there.
    """
    records = in_order(sweep, records)
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"{sweep.scenario}-" if docs else ""
    stems = figures.write(sweep, records, folder / "figures", prefix)
    glance = maps.write(sweep, records, folder / "figures", prefix)
    grid = scaling.write(sweep, records, folder / "figures", prefix)
    more = {m.CAPTION: stem for m in FURTHER if (stem := m.write(sweep, records, folder / "figures", prefix))}
    path = folder / (f"{sweep.scenario}.md" if docs else "report.md")
    path.write_text(page(sweep, records, stems, glance, grid, more), encoding="utf-8")
    if docs:
        (folder / "index.md").write_text(index(folder), encoding="utf-8")
    return path


def finding(sweep: Sweep, records: Sequence[RunRecord]) -> str:
    """What was found, on one line: the first claim and how the others went, or the first headline by arm."""
    if not any(r.status == "ok" for r in records):
        # Without the traceback's path, which is another for every world.
        said = [re.sub(r" \(traceback in [^)]*\)", "", _line(r.reason)) for r in records if r.reason]
        reasons = "; ".join(dict.fromkeys(said))
        return f"No {sweep.unit} counts: {reasons or 'nothing ran'}."
    if sweep.expect:
        first, *others = tables.entries(sweep, records)
        said = _said(sweep, first)
        return f"{said} {_others([v for entry in others for _, v in entry])}" if others else said
    rows = aggregate(sweep, in_order(sweep, records))
    for metric in figures.headline(sweep):
        parts = [f"{tables.interval(row['metrics'][metric.name])} in arm {row['arm']}{tables.at(sweep, row['params'])}"
                 for row in rows if metric.name in row["metrics"]]
        if parts:
            return f"{tables.named(metric)} is {'; '.join(parts)}."
    return "The runs ended well and measured nothing."


def page(
    sweep: Sweep, records: Sequence[RunRecord], stems: Mapping[str, str], glance: str | None = None,
    grid: str | None = None, more: Mapping[str, str] | None = None,
) -> str:
    """The page's text; `stems` names figure files by metric, `glance`, `grid` those of a map, a law.

    `more` names further ones by their caption.
    """
    rows = aggregate(sweep, records)
    headline = figures.headline(sweep)
    blocks = [f"# {_line(sweep.title)}", sweep.question.strip()]
    for caption, stem in (more or {}).items():
        blocks += [f"![{caption}](figures/{stem}.svg)", f"{caption}."]
    blocks += ["## What was found", *_found(sweep, records)]
    if glance:
        blocks += [f"![means by arm and swept value](figures/{glance}.svg)", f"Means over {sweep.unit}s."]
    blocks += [f"![{name} by arm](figures/{stem}.svg)" for name, stem in stems.items()]
    if stems:
        blocks.append(f"Dots are {sweep.unit}s, bars 95 % intervals over {sweep.unit}s, larger dots means. "
                      f"Hollow dots are {sweep.unit}s "
                      "left undecided, which count in no mean.")
    blocks += [*tables.by_arm(sweep, rows, headline), f"Mean over {sweep.unit}s and its 95 % interval."]
    if grid:
        blocks += scaling.blocks(sweep, records, grid)
    blocks += ["## Limits", "\n".join(f"- {text}" for text in limits(sweep, records))]
    blocks += ["## Method", sweep.method.strip(), f"```sh\n{sweep.command}\n```"]
    if sweep.expect:
        blocks += ["## Claims", "Thresholds were written before the run. A claim is supported, or refuted, when the "
                   "whole interval lies in that band; otherwise it is undecided.", tables.claims(sweep, records)]
    rest = _sections([m for m in sweep.metrics if m not in headline])
    parts = {title: list(tables.by_arm(sweep, rows, metrics)) for title, metrics in rest.items()}
    if any(parts.values()):
        blocks.append("## Other measurements")
        blocks += [text for title, found in parts.items() if found for text in (f"### {title}", *found)]
    blocks += ["## What is measured", tables.definitions(sweep.metrics)]
    blocks += ["## How it was run", tables.manifest(sweep, records)]
    return "\n\n".join(blocks) + "\n"


def index(folder: Path) -> str:
    """The list of the pages in `folder`, each with its title and what was found."""
    entries = {p.stem: p.read_text(encoding="utf-8") for p in sorted(folder.glob("*.md")) if p.name != "index.md"}
    lines = []
    for stem, text in entries.items():
        found = re.search(r"## What was found\n+(.*?)\n\n[^-]", text, re.DOTALL)
        said = re.sub(r"^(- )?", "  - ", found[1], flags=re.MULTILINE) if found else ""
        lines.append(f"- [{text.partition(chr(10))[0].removeprefix('# ')}]({stem}.md)\n{said}")
    tree = "```{toctree}\n:hidden:\n\n" + "\n".join(entries) + "\n```"
    note = "Every page is computed from tracked runs by `make results`; no number on it is typed."
    return "\n\n".join(["# Results", note, "\n".join(lines), tree]) + "\n"


def _found(sweep: Sweep, records: Sequence[RunRecord]) -> list[str]:
    if not sweep.expect or not any(r.status == "ok" for r in records):
        return [finding(sweep, records)]
    return ["\n".join(f"- {_said(sweep, entry, mark='**')}" for entry in tables.entries(sweep, records))]


def _said(sweep: Sweep, entry: tables.Entry, mark: str = "") -> str:
    """`Supported: the human fails (0.80 [0.73, 0.87], 8 worlds).`, or by verdict where it is asked at many points."""
    clause = _line(entry[0][0].sentence).rstrip(".")
    if len(entry) == 1:
        ((e, v),) = entry
        return f"{mark}{v['verdict'].capitalize()}{mark}: {clause} ({tables.decided(e, v, sweep.unit)})."
    parts = []
    for kind in VERDICTS:
        points = [f"{tables.decided(e, v, sweep.unit)}{tables.at(sweep, tables.apart(entry, e))}"
                  for e, v in entry if v["verdict"] == kind]
        parts += [f"{mark}{kind}{mark} {'; '.join(points)}"] * bool(points)
    return f"{clause}: {'; '.join(parts)}."


def _others(found: Sequence[Mapping[str, Any]]) -> str:
    """`Of 7 other claims 5 are supported, 2 undecided (gap, choice).`"""
    ids = {kind: [v["id"] for v in found if v["verdict"] == kind] for kind in VERDICTS}
    parts = [f"{len(those)} {kind}" + (f" ({', '.join(those)})" if kind != "supported" else "")
             for kind, those in ids.items() if those]
    return f"Of {tables.plural(len(found), 'other claim')}: {', '.join(parts)}."


def _sections(metrics: Sequence[Metric]) -> dict[str, list[Metric]]:
    """Metrics by the part of their name before the slash."""
    found: dict[str, list[Metric]] = {}
    for m in metrics:
        found.setdefault(m.name.rpartition("/")[0] or "other", []).append(m)
    return found


def _line(text: str) -> str:
    return " ".join(text.split())
