"""How a `RunRecord` (and a `Sweep`) is written as an MLflow run, and read back whole.

What a person filters and plots by is native: parameters, metrics, tags. The rest (types of the
parameters, structured diagnostics, which metrics were not finite) travels as JSON in tags, and
`record_sha256` says whether what is read back is what was sent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from reuse_sim.record import RunRecord, Status, Sweep, from_json, to_json

if TYPE_CHECKING:
    from mlflow.entities import Run

DIAGNOSTICS = "diagnostics/"
CHUNK = 4900  # characters; the value of a tag may be 5000 long in every MLflow since 3.0
END_STATE = {"ok": "FINISHED", "undecided": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


def sha256(record: RunRecord) -> str:
    """Hash of all a record says but for its wall time: what a rerun must reproduce. Stores keep no sign of a zero."""
    plain = dataclasses.asdict(record)
    del plain["wall_s"]
    plain["metrics"] = {k: v if v is None else float(v) + 0.0 for k, v in record.metrics.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, allow_nan=False).encode()).hexdigest()


def common_tags(sweep: Sweep, kind: str, task_key: str) -> dict[str, str]:
    """What identifies a run of ours; set when the run is created, so that a leftover can be told."""
    return {"sweep_id": sweep.sweep_id, "scenario": sweep.scenario, "config_hash": sweep.config_hash,
            "task_key": task_key, "kind": kind}


def case(arm: str, point: Mapping[str, Any]) -> str:
    """Arm and swept values in few letters, `all · 24 · each`: the name of a bar."""
    return " · ".join([arm, *(str(point[axis]) for axis in sorted(point))])


def tags(record: RunRecord) -> dict[str, str]:
    """The record's own tags; `record_sha256` is among them and marks a run as complete."""
    plain = {"arm": record.arm, "case": case(record.arm, record.params), "status": record.status,
             "reason": record.reason[:CHUNK], "parameters_sha256": record.parameters_sha256}
    details = {"params": record.params, "diagnostics": record.diagnostics, "reason": record.reason,
               "missing": sorted(k for k, v in record.metrics.items() if v is None)}
    return {k: v for k, v in plain.items() if v} | packed(details) | {"record_sha256": sha256(record)}


def params(record: RunRecord) -> dict[str, str]:
    """Arm, swept values and seed, and nothing else: they are the columns of the runs table."""
    return place(record.arm, record.params) | {"seed": str(record.seed)}


def place(arm: str, point: Mapping[str, Any]) -> dict[str, str]:
    """Arm and swept values as MLflow takes them."""
    return {"arm": arm} | {name(k): str(v) for k, v in point.items()}


def metrics(sweep: Sweep, record: RunRecord) -> dict[str, float]:
    """Finite metrics, headlines first, then the numbers among the diagnostics, then the wall time."""
    order = sorted(sweep.metrics, key=lambda m: not m.headline)
    names = [m.name for m in order if m.name in record.metrics]
    names += [k for k in record.metrics if k not in names]
    values = {k: float(v) for k in names if (v := record.metrics[k]) is not None}
    return values | dict(_numbers(record.diagnostics)) | {"wall_s": float(record.wall_s)}


def figures(aggregates: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """Finite means over worlds under the metrics' own names; their limits and numbers of worlds as diagnostics."""
    means = {k: v for k, i in aggregates.items() if (v := i["mean"]) is not None}
    rest = {f"{DIAGNOSTICS}{k.replace('/', '.')}.{part}": float(v) for k, i in aggregates.items()
            for part, v in i.items() if part != "mean" and v is not None}
    return means | rest


def record(run: Run) -> RunRecord:
    """The record a run was written from. Raises ValueError where it is not what was sent."""
    data, details = run.data, unpacked(run.data.tags)
    values = {k: v for k, v in data.metrics.items() if not k.startswith(DIAGNOSTICS) and k != "wall_s"}
    found = RunRecord(
        sweep_id=data.tags["sweep_id"], params=details["params"], arm=data.tags["arm"], seed=int(data.params["seed"]),
        status=cast(Status, data.tags["status"]), reason=details["reason"],
        metrics=values | dict.fromkeys(details["missing"]), diagnostics=details["diagnostics"],
        parameters_sha256=data.tags.get("parameters_sha256", ""), wall_s=data.metrics["wall_s"],
    )
    if sha256(found) != data.tags["record_sha256"]:
        raise ValueError(f"MLflow run {run.info.run_id} ({run.info.run_name}) was changed after it was recorded")
    return found


def sweep_tags(sweep: Sweep) -> dict[str, str]:
    return packed(json.loads(to_json(sweep)))


def sweep(run: Run) -> Sweep:
    """The header kept in a summary run."""
    found = from_json(json.dumps(unpacked(run.data.tags)))
    assert isinstance(found, Sweep)
    return found


def name(text: str) -> str:
    """`text` as MLflow takes names of parameters and metrics."""
    return re.sub(r"[^\w\-. /]", "_", text)[:250]


def packed(value: Any) -> dict[str, str]:
    """A JSON value over as many tags as it needs: `details/0`, `details/1`, …"""
    text = json.dumps(value, allow_nan=False)
    return {f"details/{i // CHUNK}": text[i:i + CHUNK] for i in range(0, len(text), CHUNK)}


def unpacked(found: Mapping[str, str]) -> Any:
    parts = {int(k.removeprefix("details/")): v for k, v in found.items() if k.startswith("details/")}
    return json.loads("".join(parts[i] for i in sorted(parts)))


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Numbers in nested diagnostics; slashes become dots so that the UI makes one section of them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        yield DIAGNOSTICS + name(path).replace("/", "."), float(value)
