"""The tables of a page, in Markdown, and how a figure is written."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reuse_sim.record import Band, Expectation, Metric, RunRecord, Sweep, verdicts

PER_TABLE = 4  # metrics side by side; more do not fit a page


def digits(values: Iterable[float | None]) -> int:
    """Decimals for a column by its largest value: two from 0.01 to 10, three digits beyond, two below."""
    scale = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    if 0.01 <= scale < 10 or not scale:
        return 2
    power = math.floor(math.log10(scale))
    return max(2 - power, 0) if scale >= 1 else 1 - power


def number(value: float, decimals: int) -> str:
    """With a true minus sign, no minus before a zero, and powers of ten where decimals would fill a line."""
    text = f"{value:,.{decimals}f}" if decimals < 6 else f"{value:.2g}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.lstrip("-")


def interval(found: Mapping[str, Any], places: int | None = None) -> str:
    """`0.79 [0.73, 0.86]`, without brackets where there are no limits."""
    mean, low, high = found.get("mean", found.get("value")), found["low"], found["high"]
    if mean is None:
        return "no value"
    places = digits((mean, low, high)) if places is None else places
    limits = "" if low is None or high is None else f" [{number(low, places)}, {number(high, places)}]"
    return number(mean, places) + limits


def plural(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def named(metric: Metric, text: str = "") -> str:
    """The metric's name, or `text` in its place, with its unit."""
    text = text or metric.name
    return text if metric.unit in ("", "1") or text == metric.unit else f"{text} ({metric.unit})"


def short(axis: str, sweep: Sweep) -> str:
    """The last part of a dotted path, where no other axis shares it."""
    last = axis.rpartition(".")[2]
    return last if sum(a.rpartition(".")[2] == last for a in sweep.axes) == 1 else axis


def plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def at(sweep: Sweep, point: Mapping[str, Any]) -> str:
    """` at width = 24, bits = 2`, or nothing where nothing is swept."""
    parts = [f"{short(a, sweep)} = {plain(point[a])}" for a in sweep.axes if a in point]
    return f" at {', '.join(parts)}" if parts else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table; cells are put on one line."""
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in cells) + " |"

    return "\n".join([line(head), "|" + " --- |" * len(head), *map(line, rows)])


def by_arm(sweep: Sweep, rows: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> Iterator[str]:
    """Tables of some metrics, four to a table at most: a line per sweep point and arm, worlds counted.

    What is the same in every arm, as all about the humans is, takes one line per sweep point.
    """
    known = [m for m in metrics if any(m.name in row["metrics"] for row in rows)]
    size = math.ceil(len(known) / math.ceil(len(known) / PER_TABLE)) if known else 1
    for start in range(0, len(known), size):
        part = known[start:start + size]
        places = [digits(row["metrics"].get(m.name, {}).get("mean") for row in rows) for m in part]
        head = [*(short(a, sweep) for a in sweep.axes), "arm", f"{sweep.unit}s",
                *(named(m, m.name.rpartition("/")[2]) for m in part)]
        points: dict[tuple[str, ...], list[list[str]]] = {}
        for row in rows:
            point = tuple(plain(row["params"].get(a)) for a in sweep.axes)
            cells = [_cell(row, m, d) for m, d in zip(part, places, strict=True)]
            points.setdefault(point, []).append([row["arm"], _worlds(row["counts"]), *cells])
        if all(len(lines) > 1 and len({tuple(line[1:]) for line in lines}) == 1 for lines in points.values()):
            points = {point: [["every arm", *lines[0][1:]]] for point, lines in points.items()}
        yield table(head, ([*point, *line] for point, lines in points.items() for line in lines))


def decided(e: Expectation, verdict: Mapping[str, Any], unit: str = "world") -> str:
    """`0.80 [0.73, 0.87], 8 worlds`, to the digits that matter beside the thresholds."""
    bands = [x for band in (e.supported, e.refuted) if band for x in (band.low, band.high)]
    places = digits((verdict["value"], verdict["low"], verdict["high"], *bands))
    return f"{interval(verdict, places)}, {plural(verdict['n'], unit)}"


def claims(sweep: Sweep, records: Sequence[RunRecord]) -> str:
    """A line per entry: what it says, what decides it, the thresholds, and what was found, point by point."""
    rows = []
    for entry in entries(sweep, records):
        e, several = entry[0][0], len(entry) > 1
        says = f"**{e.over or e.id}**{f' (claim {e.claim})' if e.claim else ''}: {e.sentence}"
        what = f"`{e.metric}` of `{e.arm}`{f' less `{e.minus}`' if e.minus else ''}{at(sweep, common(entry))}"
        what = f"slope on {short(e.slope, sweep)} of {what}" if e.slope else what
        limits = f"supported {_band(e.supported)}" + (f", refuted {_band(e.refuted)}" if e.refuted else "")
        found = []
        for one, v in entry:
            why = f" ({v['reason']})" if v["reason"] else ""
            point = f"{at(sweep, apart(entry, one)).strip()}: " if several else ""
            found.append(f"{point}{decided(one, v, sweep.unit)}: **{v['verdict']}**{why}")
        rows.append([says, what, limits, "<br>".join(found)])
    return table(["claim", "decided by", "thresholds", "found"], rows)


Entry = Sequence[tuple[Expectation, Mapping[str, Any]]]
"""One entry of a scenario's claims, with its verdict at each point it is asked at."""


def entries(sweep: Sweep, records: Sequence[RunRecord]) -> list[Entry]:
    """The claims with their verdicts, those of one entry together, in the file's order."""
    found: dict[str, list[tuple[Expectation, Mapping[str, Any]]]] = {}
    for e, v in zip(sweep.expect, verdicts(sweep, records), strict=True):
        found.setdefault(e.over or e.id, []).append((e, v))
    return list(found.values())


def common(entry: Entry) -> dict[str, Any]:
    """The part of the sweep point that is the same wherever an entry is asked."""
    first = entry[0][0].where
    return {k: v for k, v in first.items() if all(e.where[k] == v for e, _ in entry)}


def apart(entry: Entry, e: Expectation) -> dict[str, Any]:
    """The rest of the sweep point of one of its claims."""
    return {k: v for k, v in e.where.items() if k not in common(entry)}


def definitions(metrics: Sequence[Metric]) -> str:
    """A list item per metric: unit, meaning, formula (TeX), which breaks no lines and would burst a table."""
    def item(m: Metric) -> str:
        unit = "" if m.unit in ("", "1") else f" ({m.unit})"
        return f"- `{m.name}`{unit}: {' '.join(m.meaning.split())}" + (f" ${m.formula}$" if m.formula else "")

    return "\n".join(map(item, metrics))


def manifest(sweep: Sweep, records: Sequence[RunRecord]) -> str:
    """Where the figures come from: configuration, seeds, machine, versions, hashes."""
    cells = "\n".join(sorted({f"{r.task_key} {r.parameters_sha256}" for r in records}))
    rows = {"experiment": sweep.experiment, "configuration (SHA-256)": f"`{sweep.config_hash}`",
            "seeds": _span(sweep.seeds), "arms": ", ".join(sweep.arms),
            **{f"swept: {a}": ", ".join(map(plain, values)) for a, values in sweep.axes.items()},
            "trained parameters (SHA-256 over all runs)": f"`{hashlib.sha256(cells.encode()).hexdigest()}`"}
    return table(["", ""], ([k, v] for k, v in {**rows, **{k: _text(v) for k, v in sweep.manifest.items()}}.items()))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return _span(value) if all(isinstance(v, int) for v in value) else ", ".join(map(_text, value))
    return f"`{value}`" if isinstance(value, str) and re.fullmatch("[0-9a-f]{40,}", value) else plain(value)


def _span(seeds: Sequence[int]) -> str:
    """`0–7` for consecutive numbers."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))


def _worlds(counts: Mapping[str, int]) -> str:
    left_out = [f"{n} {status}" for status, n in counts.items() if n and status != "ok"]
    return f"{counts['ok']}" + (f" ({', '.join(left_out)} left out)" if left_out else "")


def _cell(row: Mapping[str, Any], metric: Metric, places: int) -> str:
    found = row["metrics"].get(metric.name)
    if found is None or found["mean"] is None:
        return "—"
    return interval(found, places) + (f" (n = {found['n']})" if found["n"] != row["counts"]["ok"] else "")


def _band(band: Band) -> str:
    low, high = (None if x is None else f"{x:g}".replace("-", "−") for x in (band.low, band.high))
    if low and high:
        return f"within [{low}, {high}]"
    return f"above {low}" if low else f"below {high}" if high else "always"
