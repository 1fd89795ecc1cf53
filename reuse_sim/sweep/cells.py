"""One cell of a scenario, from its configs to its records, whatever goes wrong inside it."""

from __future__ import annotations

import errno
import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.record import Measured, RunRecord, Status, to_json
from reuse_sim.scenario import Cell, Scenario

FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class CellDone:
    """A finished cell: a record per arm, and whether every stage of it was stored already."""

    records: tuple[RunRecord, ...]
    stored: bool


def store_path(project: Path) -> Path:
    """Where a project's stage results lie."""
    return project / "runs" / ".store"


def folder(scenario: Scenario) -> Path:
    """Where a scenario's records lie."""
    return scenario.project / "runs" / scenario.name / scenario.config_hash[:12]


def run_cell(scenario: Scenario, cell: Cell, notice: Callable[[str], None]) -> CellDone:
    """Measure one cell. Whatever goes wrong inside it becomes its records' status and reason.

    `wall_s` of every record is the whole cell's: its arms are trained together.
    Raises OSError where the disk is full: that is no property of the cell.
    """
    store, start = Store(store_path(scenario.project), notice), time.perf_counter()
    try:
        with threadpool_limits(1):
            measured = scenario.module.cell(cell.arms, cell.seed, store)
        missing = [arm for arm in cell.arms if arm not in measured]
        if missing:
            raise LookupError(f"the experiment returned nothing for arm {', '.join(missing)}")
        wall = time.perf_counter() - start
        records = tuple(record(scenario, cell, arm, measured[arm], wall) for arm in cell.arms)
        for r in records:
            to_json(r)  # What cannot be written fails here, as this cell's own failure.
    except Refusal as refusal:
        status = "undecided" if refusal.status == "undecided" else "failed"
        records = without_figures(scenario, cell, status, refusal.reason, time.perf_counter() - start)
    except InputError as error:  # What was asked for does not suit this world; its sentence says all there is.
        records = without_figures(scenario, cell, "failed", str(error), time.perf_counter() - start)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        reason = f"{cause} (traceback in {_keep_traceback(scenario, cell)})"
        records = without_figures(scenario, cell, "failed", reason, time.perf_counter() - start)
    return CellDone(records, store.computed == 0 and store.reused > 0)


def without_figures(scenario: Scenario, cell: Cell, status: Status, reason: str, wall_s: float = 0.0):
    """A record per arm of a cell that has no figures, saying why."""
    return tuple(record(scenario, cell, arm, Measured({}, {}, "", status, reason), wall_s) for arm in cell.arms)


def record(scenario: Scenario, cell: Cell, arm: str, measured: Measured, wall_s: float) -> RunRecord:
    """The record of one arm; figures that are not finite become None, and the reason names them."""
    lost: list[str] = []
    metrics = {k: _finite(k, v, lost) for k, v in measured.metrics.items()}
    diagnostics = {k: _finite(k, v, lost) for k, v in measured.diagnostics.items()}
    reasons = [measured.reason, f"not finite: {', '.join(lost)}" if lost else ""]
    return RunRecord(
        sweep_id=scenario.config_hash[:12], params=dict(cell.params), arm=arm, seed=cell.seed, status=measured.status,
        reason="; ".join(r for r in reasons if r), metrics=metrics, diagnostics=diagnostics,
        parameters_sha256=measured.parameters_sha256, wall_s=round(wall_s, 3),
    )


def _finite(name: str, value: Any, lost: list[str]) -> Any:
    """`value` with None in place of every NaN and infinity, their names added to `lost`."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        lost.append(name)
        return None
    if isinstance(value, Mapping):
        return {k: _finite(f"{name}/{k}", v, lost) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(f"{name}/{i}", v, lost) for i, v in enumerate(value)]
    return value


def _keep_traceback(scenario: Scenario, cell: Cell) -> Path:
    """Write the traceback of the exception being handled; its path below the project."""
    point = [c.params for c in scenario.cells() if c.seed == cell.seed].index(cell.params)
    path = folder(scenario) / "errors" / f"point-{point}-seed-{cell.seed}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(traceback.format_exc(), encoding="utf-8")
    return path.relative_to(scenario.project)
