"""The order of records: as the scenario file lists sweep points, arms and seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from reuse_sim.record import RunRecord, Sweep


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
