"""A run on the terminal: progress on standard error, then a table, the verdicts and three closing lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from reuse_sim.record import Metric
from reuse_sim.results import Results

PIPED_WIDTH = 100
WORSE = "worse than the human off-distribution"
MOST_REASONS, LONGEST_REASON = 5, 180
NO_FIGURE = {"mean": None}
COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow"}


def console(file: TextIO) -> Console:
    """A console that writes 100 columns where nothing tells its width, as in a pipe."""
    plain = Console(file=file, highlight=False, soft_wrap=False)
    return plain if plain.is_terminal else Console(file=file, highlight=False, width=PIPED_WIDTH)


@contextmanager
def progress(name: str, to: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar over cells with elapsed and remaining time; in a pipe, at most ten lines instead."""
    if not to.is_terminal:
        yield _lines(name, to)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("cells ·"),
               TimeElapsedColumn(), TextColumn("gone ·"), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=to) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(name: str, to: Console) -> Callable[[int, int], None]:
    start = time.monotonic()

    def show(done: int, total: int) -> None:
        if done and (done == total or done * 10 // total > (done - 1) * 10 // total):
            to.print(f"{name}: {done} of {total} cells, {time.monotonic() - start:.0f} s", markup=False)

    return show


def show(results: Results, to: Console) -> None:
    """Print the table of headline metrics per sweep point, notes on it, and the verdicts."""
    rows = results.aggregates()
    for params in {str(row["params"]): row["params"] for row in rows}.values():
        here = [row for row in rows if row["params"] == params]
        if params:
            point = ", ".join(f"{axis} = {params[axis]}" for axis in results.sweep.axes)
            to.print(Text(point, style="bold"))
        for table in _tables(results, here, to.width):
            to.print(table)
        for note in notes(here):
            to.print(Text(note, style="yellow"))
    reasons, unit = _reasons(results).most_common(), results.sweep.unit
    for reason, count in reasons[:MOST_REASONS]:
        to.print(Text(f"{count} {unit}{'' if count == 1 else 's'} {_shortened(reason)}", style="yellow"))
    if len(reasons) > MOST_REASONS:
        more = sum(count for _, count in reasons[MOST_REASONS:])
        to.print(Text(f"{more} more {unit}s not ok for other reasons; the results page counts all", style="yellow"))
    claims = Table.grid(padding=(0, 2, 0, 0))
    for verdict, claim in zip(results.claims(), results.sweep.expect, strict=True):
        why = f"; {verdict['reason']}" if verdict["reason"] else ""
        figure = f"{interval(verdict)}, n = {verdict['n']}{why}"
        head = Text(verdict["verdict"], style=COLOURS[verdict["verdict"]])
        claims.add_row(head, claim.id, Text(f"{claim.sentence} ({figure})"))
    if results.sweep.expect:
        to.print(claims)


def notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the figures of one sweep point's arms warn of: an outer model below the human itself."""
    worse = [row["arm"] for row in rows if _below(row["metrics"])]
    return [f"{', '.join(worse)}: {WORSE}"] if worse else []


def interval(figure: Mapping[str, Any]) -> str:
    """`0.52 [0.41, 0.63]`, without limits where there are none."""
    value = figure["mean"] if "mean" in figure else figure["value"]
    if value is None:
        return "–"
    low, high = figure["low"], figure["high"]
    return number(value) if low is None or high is None else f"{number(value)} [{number(low)}, {number(high)}]"


def number(value: float) -> str:
    """Two decimals below 10, one below 100, whole to a million, then three digits."""
    size = abs(value)
    if size >= 1e6:
        return f"{value:.2e}"
    text = f"{value:.{2 if size < 10 else 1 if size < 100 else 0}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _tables(results: Results, rows: Sequence[Mapping[str, Any]], width: int) -> Iterator[Table]:
    """One row per arm; limits go below their value, then columns to a further table, where the width demands it."""
    headline = [m for m in results.sweep.metrics if m.headline and any(m.name in row["metrics"] for row in rows)]
    first, last = ["arm", *(row["arm"] for row in rows)], ["n", *(_worlds(row["counts"]) for row in rows)]
    columns = [[_heading(m), *(interval(row["metrics"].get(m.name, NO_FIGURE)) for row in rows)] for m in headline]
    room = width - _width(first) - _width(last) - 1
    if sum(map(_width, columns)) > room:
        columns = [[heading, *(cell.replace(" [", "\n[") for cell in cells)] for heading, *cells in columns]
    while True:
        fitting = max((k for k in range(len(columns) + 1) if sum(map(_width, columns[:k])) <= room), default=0)
        shown, columns = columns[: max(1, fitting)], columns[max(1, fitting):]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0, header_style="bold", show_edge=False)
        for column in (first, *shown, last):
            table.add_column(column[0], justify="left" if column is first else "right", no_wrap=True)
        for cells in zip(*(column[1:] for column in (first, *shown, last)), strict=True):
            table.add_row(*map(Text, cells))
        yield table
        if not columns:
            return


def _heading(metric: Metric) -> str:
    unit = "" if metric.unit in ("1", "share", "R²") else f"\n{metric.unit}"
    return metric.name.rpartition("/")[2].replace("_", "\n") + unit


def _width(column: Sequence[str]) -> int:
    """Columns of text that a table's column takes, with the one that parts it from the next."""
    return 1 + max(len(line) for cell in column for line in cell.splitlines())


def _worlds(counts: Mapping[str, int]) -> str:
    every = sum(counts.values())
    return str(every) if counts["ok"] == every else f"{counts['ok']}/{every}"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


def _below(metrics: Mapping[str, Mapping[str, Any]]) -> bool:
    outer, human = (metrics.get(f"{who}/off_fit", {}).get("mean") for who in ("outer", "human"))
    return outer is not None and human is not None and outer < human


def _reasons(results: Results) -> Counter[str]:
    """How many worlds (a seed at a sweep point) ended otherwise than ok, by status, arms and reason."""
    left_out: dict[tuple[str, int, str, str], list[str]] = {}
    for r in results.records:
        if r.status != "ok":
            left_out.setdefault((str(r.params), r.seed, r.status, r.reason), []).append(r.arm)
    counted: Counter[str] = Counter()
    for (_, _, status, reason), arms in left_out.items():
        where = "" if len(arms) == len(results.sweep.arms) else f" in {', '.join(arms)}"
        counted[f"{status}{where}: {reason}"] += 1
    return counted
