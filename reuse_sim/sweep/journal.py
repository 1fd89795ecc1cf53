"""The records file of one run: `runs/<scenario>/<sweep_id>/records.jsonl`, header first, then one line per record.

A finished record is appended, flushed and on the disk before anything else happens with it. Anything
but appending replaces the file whole, so that a kill at any moment leaves the old file or the new one,
at worst with a torn last line, which readers leave out. One record per task at all times.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from reuse_sim.artifacts import canonical, named, write_atomic
from reuse_sim.errors import InputError
from reuse_sim.record import RunRecord, Sweep, from_json, read_records, to_json

ENVIRONMENT = ("python", "torch", "numpy", "scipy", "pyro-ppl", "numba", "threads", "cpu_capability", "platform",
               "source_sha256")
"""Entries of a sweep's manifest that must agree for stored stages to be continued bit-exactly."""


class Journal:
    """The records of the run in progress, by task; made by `opened`."""

    def __init__(self, path: Path, sweep: Sweep, records: Sequence[RunRecord]) -> None:
        self.path, self.sweep = path, sweep
        self.records = {r.task_key: r for r in records}
        self._replace(list(self.records.values()))

    def __contains__(self, record: RunRecord) -> bool:
        """Whether there is a record of the same task."""
        return _as_read(record).task_key in self.records

    def add(self, record: RunRecord) -> RunRecord:
        """Keep a finished record, and return the one kept: the earlier one where only its times differ.

        Raises OSError where the disk fails; the file is then as it was.
        """
        record = _as_read(record)
        known = self.records.get(record.task_key)
        if known and dataclasses.replace(known, wall_s=record.wall_s) == record:
            return known
        if known:
            self._replace([record if r is known else r for r in self.records.values()])
        else:
            self._append(to_json(record))
        self.records[record.task_key] = record
        return record

    def close(self) -> tuple[RunRecord, ...]:
        """The records in the scenario's order, in the file too: workers finish in any order, runs compare equal."""
        ordered = in_order(self.sweep, self.records.values())
        if ordered != list(self.records.values()):
            self._replace(ordered)
        return tuple(ordered)

    def _append(self, line: str) -> None:
        with open(self.path, "ab") as file:
            size = file.tell()
            try:
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except BaseException as error:
                os.truncate(self.path, size)
                raise named(error, self.path) from None

    def _replace(self, records: Sequence[RunRecord]) -> None:
        lines = [to_json(self.sweep), *map(to_json, records)]
        write_atomic(self.path, "".join(f"{line}\n" for line in lines).encode())


@contextmanager
def opened(folder: Path, sweep: Sweep, notice: Callable[[str], None]) -> Iterator[Journal]:
    """The journal in `folder`, with what an earlier run of the same sweep in the same environment finished.

    What an earlier run left in another environment, or damaged, is set aside as `records.before.jsonl`
    and said. Raises InputError while another process runs the same sweep, OSError where the disk fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "records.jsonl"
    with open(folder / "records.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(str(folder), "a run of the same sweep in progress", "one at a time",
                             "Wait for it to end, or stop it") from None
        kept = []
        if path.exists():
            kept, why = _earlier(path, sweep)
            if why:
                os.replace(path, folder / "records.before.jsonl")
                notice(why)
        yield Journal(path, sweep, kept)


def _earlier(path: Path, sweep: Sweep) -> tuple[list[RunRecord], str]:
    """Records of an earlier run that still hold, and in a sentence why the others do not."""
    try:
        before, records = read_records(path)
    except ValueError as error:
        return [], f"the records of an earlier run are damaged and set aside: {error}"
    pairs = [(k, before.manifest.get(k), sweep.manifest.get(k)) for k in ENVIRONMENT]
    changed = [f"{k} was {_brief(was)}, is {_brief(now)}" for k, was, now in pairs if was != now]
    if not changed:
        return [r for r in records if r.status != "interrupted"], ""
    finished = len({(r.seed, str(r.params)) for r in records if r.status != "interrupted"})
    return [], (f"an earlier run ({finished} cells) was made in another environment ({'; '.join(changed)}): its stored "
                "stages cannot be continued bit-exactly and are computed again")


def in_order(sweep: Sweep, records: Iterable[RunRecord]) -> list[RunRecord]:
    """Records by sweep point, arm and seed, as the scenario lists them."""
    values = {axis: [canonical(v) for v in of] for axis, of in sweep.axes.items()}

    def place(record: RunRecord) -> tuple[list[int], int, int]:
        point = [values[axis].index(canonical(record.params[axis])) for axis in sweep.axes]
        return point, sweep.arms.index(record.arm), sweep.seeds.index(record.seed)

    return sorted(records, key=place)


def _as_read(record: RunRecord) -> RunRecord:
    """The record as it will be read back: lists for tuples, sorted keys."""
    return cast(RunRecord, from_json(to_json(record)))


def _brief(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
