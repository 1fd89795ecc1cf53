"""What a run calls: records in, and never an exception out of it.

The records file is written first and is what counts; tracking that is down costs nothing but a
reason, and `sync` sends later what is missing.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from reuse_sim.record import RunRecord, Sweep, read_records
from tracking import store
from tracking.sender import Sender

PATTERN = "runs/*/*/records.jsonl"


class Recorder:
    """Sends one sweep's records as they finish. `synced` and `reason` tell how it went."""

    def __init__(self, project: Path, sweep: Sweep) -> None:
        self._project, self.reason, self.sent = project, "", 0
        self._lock: TextIO | None = None
        self._sender: Sender | None = None
        self._guarded(lambda: self._open(sweep))

    @property
    def synced(self) -> bool:
        """Whether all that was given so far is in MLflow."""
        return not self.reason

    def add(self, record: RunRecord) -> None:
        """Send one finished record, unless it is there already. After a first failure nothing is tried."""
        self._guarded(lambda: self._sender and self._sender.send(record))

    def close(self, records: Sequence[RunRecord], folder: Path | None) -> None:
        """Send what is missing, and a summary run with the report and figures in `folder`.

        Without `folder` the report is written anew. Call it once, however the run ended.
        """
        self._guarded(lambda: self._finish(records, folder))
        self.sent = self._sender.sent if self._sender else 0
        self._release()

    def _guarded(self, action: Callable[[], Any]) -> None:
        if self.reason:
            return
        try:
            action()
        except Exception as error:
            self.reason = store.one_line(error, self._project)
            self._release()

    def _release(self) -> None:
        if self._lock:
            self._lock.close()

    def _open(self, sweep: Sweep) -> None:
        self._lock = _only_sender(self._project, sweep)
        self._sender = Sender(self._project, sweep)

    def _finish(self, records: Sequence[RunRecord], folder: Path | None) -> None:
        if self._sender:
            self._sender.look()
            for record in records:
                self._sender.send(record)
            self._sender.send_means(records)
            self._sender.send_summary(records, folder)


@dataclass(frozen=True)
class Synced:
    """How many MLflow runs were written, over how many sweeps, and what could not be sent and why."""

    sent: int
    sweeps: int
    reason: str


def sync(project: Path) -> Synced:
    """Send everything in `runs/*/*/records.jsonl` that is not in MLflow yet; a second call changes nothing."""
    sent, sweeps, reasons = 0, 0, []
    try:
        store.connect(project)
    except store.Unreachable as error:
        return Synced(0, 0, str(error))
    for path in sorted(project.glob(PATTERN)):
        try:
            sweep, records = read_records(path)
        except (OSError, ValueError) as error:
            reasons.append(str(error))
            continue
        recorder = Recorder(project, sweep)
        recorder.close(records, None)
        sent, sweeps = sent + recorder.sent, sweeps + 1
        if recorder.reason and recorder.reason not in reasons:
            reasons.append(recorder.reason)
    return Synced(sent, sweeps, "; ".join(reasons))


def _only_sender(project: Path, sweep: Sweep) -> TextIO:
    """A lock held until the process ends: two senders of one sweep would write its runs twice."""
    path = project / "runs" / ".tracking" / f"{sweep.sweep_id}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise store.Unreachable("another process is sending the records of this sweep") from None
    return lock
