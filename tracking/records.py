"""Records and their order; records files: `runs/*/*/records.jsonl`, the header first and then one line per record.

The file is what counts: a record is in it before anything is sent, and what was not sent is read
from it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from reuse_sim.record import RunRecord, Sweep, from_json

PATTERN = "runs/*/*/records.jsonl"


def load(path: Path) -> tuple[Sweep, list[RunRecord]]:
    """The header and each task's last record. Raises ValueError where there is no header.

    A line that cannot be read is what a killed process left half written: its cell runs again, so
    the line is passed over.
    """
    header, records = None, []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            item = from_json(line)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if isinstance(item, Sweep):
            header = item
        else:
            records.append(item)
    if header is None:
        raise ValueError(f"{path}: no readable header; run the scenario again")
    return header, latest(records)


def latest(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The last record of each task, in order of first appearance."""
    return list({r.task_key: r for r in records}.values())


def in_order(sweep: Sweep, records: Iterable[RunRecord]) -> list[RunRecord]:
    """Records by sweep point, arm and seed, in the order of the scenario file."""

    def place(values: Sequence[object], value: object) -> int:
        texts = [json.dumps(v, sort_keys=True) for v in values]
        text = json.dumps(value, sort_keys=True)
        return texts.index(text) if text in texts else len(texts)

    def key(r: RunRecord) -> tuple[object, ...]:
        point = [place(values, r.params.get(axis)) for axis, values in sweep.axes.items()]
        return (*point, place(sweep.arms, r.arm), r.seed)

    return sorted(records, key=key)
