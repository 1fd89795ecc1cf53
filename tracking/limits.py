"""What a reader must know before believing a figure: worlds left out, few worlds, outer models that fail."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reuse_sim.record import RunRecord, Sweep, aggregate
from tracking.tables import at, number, plural

ENDED = {"undecided": "left undecided", "failed": "failed", "interrupted": "interrupted"}
KNOWS_HUMAN = 0.5  # context recovery below this: the outer model does not know this human
FEW = 5
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)")


def limits(sweep: Sweep, records: Sequence[RunRecord]) -> list[str]:
    """One sentence each, most serious first; never empty."""
    rows = aggregate(sweep, records)
    found = [*_broken_off(sweep, records), *_left_out(records), *_few(sweep.unit, rows), *_lost(sweep, records),
             *_per_arm(sweep, rows)]
    return found or ["No warning applies to these runs."]


def expected(sweep: Sweep) -> int:
    """How many records a finished sweep has."""
    return math.prod(len(values) for values in sweep.axes.values()) * len(sweep.seeds) * len(sweep.arms)


def _broken_off(sweep: Sweep, records: Sequence[RunRecord]) -> list[str]:
    short = len(records) < expected(sweep)
    return [f"The sweep is not finished: {len(records)} of {expected(sweep)} runs are here."] if short else []


def _left_out(records: Sequence[RunRecord]) -> list[str]:
    """Runs that count in no figure, by how they ended and why; reasons that differ in numbers alone are one."""
    ways: dict[tuple[str, str], list[list[str]]] = {}
    for r in records:
        if r.status != "ok":
            reason = " ".join(r.reason.split())
            ways.setdefault((r.status, NUMBER.sub("{}", reason)), []).append(NUMBER.findall(reason))
    return [f"{plural(len(n), 'run')} of {len(records)} {ENDED[status]} and left out of every mean"
            + (f": {_ranged(reason, n)}" if reason else "") + "."
            for (status, reason), n in sorted(ways.items(), key=lambda way: -len(way[1]))]


def _ranged(reason: str, numbers: Sequence[Sequence[str]]) -> str:
    """The reason with each number filled in, as `0.15 to 0.63` where it is not always the same."""
    columns = (sorted(set(column), key=float) for column in zip(*numbers, strict=True))
    parts = (column[0] if len(column) == 1 else f"{column[0]} to {column[-1]}" for column in columns)
    return "".join(text + next(parts, "") for text in reason.split("{}"))


def _few(unit: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    worlds = [row["counts"]["ok"] for row in rows]
    if not any(worlds):
        return [f"No {unit} counts, so there are no means."]
    least = min(w for w in worlds if w)
    if least == 1:
        return [f"Where there is one {unit} only, there is no interval and nothing can be concluded."]
    return [f"With {least} {unit}s the intervals are wide, and rest on near-normal scatter between {unit}s."] * (
        least < FEW)


def _lost(sweep: Sweep, records: Sequence[RunRecord]) -> list[str]:
    """Metrics that are not finite in runs that count."""
    ok = [r for r in records if r.status == "ok"]
    lost = Counter(m.name for m in sweep.metrics for r in ok if m.name in r.metrics and r.metrics[m.name] is None)
    return [f"`{name}` has no finite value in {plural(n, 'run')} of {len(ok)}." for name, n in lost.items()]


def _per_arm(sweep: Sweep, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Arms whose outer model fails: worse than the human, or ignorant of it."""
    worse: dict[str, list[tuple[float, str]]] = {}
    ignorant: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        human, outer, recovery = (row["metrics"].get(m, {}).get("mean") for m in (
            "human/off_fit", "outer/off_fit", "outer/context_recovery"))
        where = at(sweep, row["params"])
        if outer is not None and human is not None and outer < human:
            text = f"{number(outer, 2)} against {number(human, 2)}{where}"
            worse.setdefault(row["arm"], []).append((outer - human, text))
        if recovery is not None and recovery < KNOWS_HUMAN:
            ignorant.setdefault(row["arm"], []).append((recovery, f"{number(recovery, 2)}{where}"))
    return [f"Arm `{arm}`: the outer model does worse off-distribution than the human itself "
            f"({_worst(cases)})." for arm, cases in worse.items()] + [
        f"Arm `{arm}`: context recovery is below {KNOWS_HUMAN} ({_worst(cases)}): the outer model does not know its "
        "human, and the other figures of this arm mean nothing. Of a control without access nothing else is expected."
        for arm, cases in ignorant.items()]


def _worst(cases: Sequence[tuple[float, str]]) -> str:
    worst = min(cases)[1]
    return worst if len(cases) == 1 else f"at {len(cases)} sweep points, at worst {worst}"
