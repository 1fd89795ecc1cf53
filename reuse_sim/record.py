"""What a run leaves behind: plain values that say what they mean, and what follows from them.

A `Sweep` is the header of one scenario's run: the question, the definitions of its metrics, the
claims with their thresholds, the machine. A `RunRecord` is one arm of one cell (a sweep point and
a seed, one draw of a world). Aggregates and verdicts are computed from records, never typed in.
Nothing here knows about torch or about MLflow.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression
from typing import Any, Literal

from reuse_sim.stats import Interval, ratio_interval, share_interval, t_interval

VERSION = 1
FEWEST = 3
"""Worlds that a verdict needs."""
Status = Literal["ok", "failed", "interrupted", "undecided"]


@dataclass(frozen=True)
class Metric:
    """A metric's name, unit and definition; `pooled` ones are Σ over worlds / Σ over worlds.

    A pooled metric's records carry `NAME/numerator` and `NAME/denominator` as diagnostics. A `binary` one is 1 or 0 in
    each world: its figure is a share of all worlds that could be drawn, with a share's limits.
    """

    name: str
    unit: str
    meaning: str
    formula: str = ""
    pooled: bool = False
    headline: bool = False
    binary: bool = False


@dataclass(frozen=True)
class Band:
    """Limits an interval must lie within; an absent limit is no limit."""

    low: float | None = None
    high: float | None = None

    def holds(self, interval: Interval) -> bool:
        inside_low = self.low is None or interval.low >= self.low
        inside_high = self.high is None or interval.high <= self.high
        return inside_low and inside_high and not math.isnan(interval.low + interval.high)


@dataclass(frozen=True)
class Expectation:
    """A claim with the thresholds that decide it, written before the run.

    The figure is `metric` of `arm`, less the same metric of arm `minus` in the same world, at the
    sweep point `where`. Supported (refuted) when the whole interval lies in that band. An entry of the
    file that is asked at several points is one of these at each, and `over` is the entry's id. With `slope`, a
    swept field of numbers, the figure of a world is the least-squares slope of that figure on the field's values.
    """

    id: str
    sentence: str
    metric: str
    arm: str
    supported: Band
    refuted: Band | None = None
    minus: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    claim: str | None = None
    over: str | None = None
    slope: str | None = None


@dataclass(frozen=True)
class Sweep:
    """The header of a scenario's run; `sweep_id` is the hash of the resolved scenario."""

    scenario: str
    sweep_id: str
    config_hash: str
    experiment: str
    title: str
    question: str
    method: str
    metrics: tuple[Metric, ...]
    axes: Mapping[str, Sequence[Any]]
    arms: tuple[str, ...]
    expect: tuple[Expectation, ...]
    seeds: tuple[int, ...]
    resolved: Mapping[str, Any]
    command: str
    manifest: Mapping[str, Any]
    version: int = VERSION
    unit: str = "world"
    """What one seed draws, and figures are over."""


@dataclass(frozen=True)
class RunRecord:
    """One arm of one cell. Values are finite or None; `reason` says why a value is None."""

    sweep_id: str
    params: Mapping[str, Any]
    arm: str
    seed: int
    status: Status
    reason: str
    metrics: Mapping[str, float | None]
    diagnostics: Mapping[str, Any]
    parameters_sha256: str
    wall_s: float

    @property
    def task_key(self) -> str:
        """Names the cell and arm within its sweep: `seed=3 arm=all outer.width=48`."""
        return " ".join([f"seed={self.seed}", f"arm={self.arm}", *(f"{k}={v}" for k, v in sorted(self.params.items()))])


def finite(values: Mapping[str, float]) -> tuple[dict[str, float | None], str]:
    """Values with None in place of what is not finite, and a sentence naming those."""
    kept = {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
    lost = [k for k, v in kept.items() if v is None]
    return kept, f"not finite: {', '.join(lost)}" if lost else ""


def to_json(item: Sweep | RunRecord) -> str:
    """One line of JSON, NaN refused; a record's keys sorted, a header's as given (its axes have an order)."""
    kind = "sweep" if isinstance(item, Sweep) else "record"
    return json.dumps({"kind": kind, **dataclasses.asdict(item)}, sort_keys=kind == "record", allow_nan=False)


def from_json(line: str) -> Sweep | RunRecord:
    """The inverse of `to_json`. Raises ValueError on a line that is neither."""
    data = json.loads(line)
    kind = data.pop("kind", None)
    if kind == "record":
        return RunRecord(**data)
    if kind != "sweep":
        raise ValueError(f"neither a sweep nor a record: {line[:80]}")
    data["metrics"] = tuple(Metric(**m) for m in data["metrics"])
    for name in ("arms", "seeds"):
        data[name] = tuple(data[name])
    data["expect"] = tuple(
        Expectation(**{**e, "supported": Band(**e["supported"]), "refuted": e["refuted"] and Band(**e["refuted"])})
        for e in data["expect"]
    )
    return Sweep(**data)


def read_records(path: Path) -> tuple[Sweep, list[RunRecord]]:
    """A records file: its header and its records, in order of writing.

    A last line torn by a killed writer is left out. Raises ValueError, naming file and line, where
    anything else is not as written.
    """
    lines = path.read_bytes().split(b"\n")
    whole = lines[:-1]  # What follows the last line end was never finished.
    try:
        items = [from_json(line.decode()) for line in whole]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not a records file of this version: {error}") from error
    records = [i for i in items[1:] if isinstance(i, RunRecord)]
    if not items or not isinstance(items[0], Sweep) or len(records) != len(items) - 1:
        raise ValueError(f"{path}: not a records file: its first line must be the header, the others records")
    return items[0], records


def group(records: Iterable[RunRecord]) -> dict[tuple[str, str], list[RunRecord]]:
    """Records by (sweep point, arm), in order of first appearance; the point as JSON text."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for r in records:
        groups.setdefault((json.dumps(r.params, sort_keys=True), r.arm), []).append(r)
    return groups


def aggregate(sweep: Sweep, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Per sweep point and arm: each metric's mean and 95 % interval over the worlds with status ok.

    `counts` tells how many worlds ended how: a world left out is counted, never dropped silently.
    """
    rows = []
    for (_, arm), members in group(records).items():
        ok = [r for r in members if r.status == "ok"]
        counts = {s: sum(r.status == s for r in members) for s in ("ok", "undecided", "failed", "interrupted")}
        metrics = {m.name: figure(m, ok) for m in sweep.metrics if any(m.name in r.metrics for r in ok)}
        rows.append(
            {
                "params": dict(members[0].params),
                "arm": arm,
                "counts": counts,
                "metrics": {k: as_json(v) for k, v in metrics.items()},
            }
        )
    return rows


def figure(metric: Metric, records: Sequence[RunRecord], minus: Sequence[RunRecord] | None = None) -> Interval:
    """The interval of one metric over worlds, or of its paired difference to the arm `minus`."""
    arms = [{r.seed: r for r in arm} for arm in ((records,) if minus is None else (records, minus))]
    keys = [metric.name] if not metric.pooled else []
    parts = [f"{metric.name}/numerator", f"{metric.name}/denominator"] if metric.pooled else []

    def has(r: RunRecord) -> bool:
        return all(r.metrics.get(k) is not None for k in keys) and all(r.diagnostics.get(k) is not None for k in parts)

    seeds = [s for s in sorted(arms[0]) if all(s in arm and has(arm[s]) for arm in arms)]
    if metric.pooled:
        over, under = ([[arm[s].diagnostics[p] for s in seeds] for arm in arms] for p in parts)
        return ratio_interval(over, under)
    columns = [[float(arm[s].metrics[metric.name] or 0.0) for s in seeds] for arm in arms]
    if minus is not None:
        return t_interval([a - b for a, b in zip(*columns, strict=True)])
    return (share_interval if metric.binary else t_interval)(columns[0])


def slope_figure(
    metric: Metric, records: Sequence[RunRecord], axis: str, minus: Sequence[RunRecord] | None = None
) -> Interval:
    """The interval over worlds of the slope of one metric, or of its paired difference, on the values of `axis`.

    A world counts where it has a figure at every value.
    """
    arms = [{(r.seed, float(r.params[axis])): r.metrics.get(metric.name) for r in arm}
            for arm in ((records,) if minus is None else (records, minus))]  # fmt: skip
    told = {k: [y for arm in arms if (y := arm.get(k)) is not None] for k in arms[0]}
    values = {k: v[0] - sum(v[1:]) for k, v in told.items() if len(v) == len(arms)}
    places, seeds = sorted({x for _, x in told}), sorted({s for s, _ in told})
    whole = [s for s in seeds if all((s, x) in values for x in places)] if len(places) > 1 else []
    return t_interval([linear_regression(places, [values[s, x] for x in places]).slope for s in whole])


def verdicts(sweep: Sweep, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Each claim's verdict: supported, refuted or undecided, with value, limits, n and a reason.

    Worlds that ended undecided are counted both ways: without them and, where they have a value,
    with them; a verdict must survive both. Of fewer than three worlds no value is told.
    """
    return [_verdict(sweep, records, e) for e in sweep.expect]


def _verdict(sweep: Sweep, records: Sequence[RunRecord], e: Expectation) -> dict[str, Any]:
    metric = next(m for m in sweep.metrics if m.name == e.metric)
    here = [r for r in records if all(r.params.get(k) == v for k, v in e.where.items())]

    def interval(statuses: tuple[str, ...]) -> Interval:
        chosen = [r for r in here if r.status in statuses]
        other = [r for r in chosen if r.arm == e.minus] if e.minus else None
        own = [r for r in chosen if r.arm == e.arm]
        return slope_figure(metric, own, e.slope, other) if e.slope else figure(metric, own, other)

    def decide(i: Interval) -> str:
        if e.supported.holds(i):
            return "supported"
        return "refuted" if e.refuted and e.refuted.holds(i) else "undecided"

    main, all_in = interval(("ok",)), interval(("ok", "undecided"))
    verdict, reason = decide(main), ""
    if main.n < FEWEST:
        verdict, reason = "undecided", f"{main.n} {sweep.unit}s; at least {FEWEST} are needed"
        main = Interval(math.nan, math.nan, math.nan, main.n)
    elif decide(all_in) != verdict:
        verdict, reason = "undecided", f"{verdict} only without the {all_in.n - main.n} undecided {sweep.unit}s"
    return {
        "id": e.id,
        "verdict": verdict,
        "value": as_json(main)["mean"],
        "low": as_json(main)["low"],
        "high": as_json(main)["high"],
        "n": main.n,
        "reason": reason,
    }


def as_json(interval: Interval) -> dict[str, float | int | None]:
    """The interval as plain JSON values, None for what is not finite."""
    values = dataclasses.asdict(interval)
    return {k: (v if isinstance(v, int) or math.isfinite(v) else None) for k, v in values.items()}


@dataclass(frozen=True)
class Measured:
    """What an experiment returns for one arm of one cell; the sweep makes a `RunRecord` of it.

    `parameters_sha256` is over all trained tensors of the cell in a fixed order.
    """

    metrics: Mapping[str, float | None]
    diagnostics: Mapping[str, Any]
    parameters_sha256: str
    status: Status = "ok"
    reason: str = ""
