"""One sweep's place in MLflow: what is there, and how a record or a summary gets there.

A run is created, ended and filled in that order within some hundredths of a second, and its hash
is written last: a process killed in between leaves a run without a hash, which the next sending
replaces. One task has one run; the run of a record that changed goes to MLflow's bin.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reuse_sim.record import RunRecord, Sweep, aggregate, to_json, verdicts
from tracking import codec, report, store, view
from tracking.limits import expected

SUMMARY, MEAN = "summary", "mean"


class Sender:
    """Sends records of `sweep` to `project`'s store. Raises whatever MLflow raises."""

    def __init__(self, project: Path, sweep: Sweep) -> None:
        self._sweep, self.sent = sweep, 0
        self._client = store.connect(project)
        self._experiment = store.experiment_id(self._client, project, sweep.scenario)
        self._client.set_experiment_tag(self._experiment, *view.tag(sweep))
        self._present: dict[str, tuple[str, str]] = {}
        self.look()

    def look(self) -> None:
        """Learn which tasks are there; incomplete runs and second copies are put away."""
        self._present = {}
        for run in store.runs(self._client, [self._experiment], f"tags.sweep_id = '{self._sweep.sweep_id}'"):
            key, sha = run.data.tags.get("task_key", ""), run.data.tags.get("record_sha256", "")
            if sha and key not in self._present:
                self._present[key] = run.info.run_id, sha
            else:
                self._put_away(run.info.run_id)

    def send(self, record: RunRecord) -> None:
        """Write the record's run, unless it is there as it is."""
        key, sha = record.task_key, codec.sha256(record)
        if not self._wanted(key, sha):
            return
        end = _now()
        run_id = self._start(key, key, "record", (end - round(1000 * record.wall_s), end),
                             codec.END_STATE[record.status])
        self._fill(run_id, end, codec.metrics(self._sweep, record), codec.params(record), codec.tags(record))
        self._done(key, run_id, sha)

    def send_means(self, records: Sequence[RunRecord]) -> None:
        """Write a run per arm and sweep point with figures over worlds, where records are more than a page shows."""
        if expected(self._sweep) <= view.PAGE:
            return
        for row in aggregate(self._sweep, records):
            case = codec.case(row["arm"], row["params"])
            key, sha = f"{MEAN} {case}", hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
            if not self._wanted(key, sha):
                continue
            end = _now()
            run_id = self._start(key, case, MEAN, (end, end), codec.END_STATE["ok"])
            tags = {"arm": row["arm"], "case": case, "record_sha256": sha}
            self._fill(run_id, end, codec.figures(row["metrics"]), codec.place(row["arm"], row["params"]), tags)
            self._done(key, run_id, sha)

    def send_summary(self, records: Sequence[RunRecord], folder: Path | None) -> None:
        """Write the sweep's summary run: aggregates, verdicts, report and figures.

        The report is the one in `folder`, or a new one where none is there.
        """
        sha = _summary_sha256(self._sweep, records)
        if not self._wanted(SUMMARY, sha):
            return
        end, sweep = _now(), self._sweep
        run_id = self._start(SUMMARY, f"{SUMMARY} {sweep.scenario}", SUMMARY, (end, end), _end_state(sweep, records))
        self._attach(run_id, records, folder)
        note = f"**{sweep.title}**\n\n{sweep.question}\n\n{report.finding(sweep, records)}"
        tags = {f"claim/{v['id']}": v["verdict"] for v in verdicts(sweep, records)}
        tags |= {"mlflow.note.content": note[:codec.CHUNK], **codec.sweep_tags(sweep), "record_sha256": sha}
        self._fill(run_id, end, dict(_aggregates(sweep, records)), {}, tags)
        self._done(SUMMARY, run_id, sha)

    def _wanted(self, key: str, sha: str) -> bool:
        """Whether this must be written; an older run of the task is put away."""
        run_id, present = self._present.get(key, ("", ""))
        if run_id and present != sha:
            self._put_away(run_id)
        return present != sha

    def _done(self, key: str, run_id: str, sha: str) -> None:
        self._present[key] = run_id, sha
        self.sent += 1

    def _put_away(self, run_id: str) -> None:
        if self._client.get_run(run_id).info.status == "RUNNING":
            self._client.set_terminated(run_id, "KILLED")
        self._client.delete_run(run_id)

    def _start(self, key: str, name: str, kind: str, times: tuple[int, int], state: str) -> str:
        tags = codec.common_tags(self._sweep, kind, key)
        run = self._client.create_run(self._experiment, start_time=times[0], run_name=name, tags=tags)
        self._client.set_terminated(run.info.run_id, state, times[1])
        return run.info.run_id

    def _fill(self, run_id: str, at: int, metrics: Mapping[str, float], params: Mapping[str, str],
              tags: Mapping[str, str]) -> None:
        """Log all of it within what a batch may hold; the last tag goes last."""
        from mlflow.entities import Metric, Param, RunTag

        points, labels = [Metric(k, v, at, 0) for k, v in metrics.items()], [RunTag(k, v) for k, v in tags.items()]
        for i in range(800, len(points), 800):
            self._client.log_batch(run_id, metrics=points[i:i + 800])
        for i in range(0, len(labels) - 90, 90):
            self._client.log_batch(run_id, tags=labels[i:i + 90])
        tail = labels[(len(labels) - 1) // 90 * 90:]
        self._client.log_batch(run_id, points[:800], [Param(k, v) for k, v in params.items()], tail)

    def _attach(self, run_id: str, records: Sequence[RunRecord], folder: Path | None) -> None:
        header = json.loads(to_json(self._sweep))
        files = {"scenario.json": header["resolved"], "manifest.json": header["manifest"], "sweep.json": header}
        with tempfile.TemporaryDirectory() as scratch:
            for name, value in files.items():
                (Path(scratch) / name).write_text(json.dumps(value, indent=2) + "\n")
            if folder is None or not (folder / "report.md").exists():
                report.write(self._sweep, records, Path(scratch))
            else:
                page = folder / "report.md"
                self._client.log_artifact(run_id, str(page))
                for stem in re.findall(r"]\(figures/(.+)\.svg\)", page.read_text(encoding="utf-8")):
                    for suffix in ("svg", "png"):
                        self._client.log_artifact(run_id, str(folder / "figures" / f"{stem}.{suffix}"), "figures")
            self._client.log_artifacts(run_id, scratch)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _end_state(sweep: Sweep, records: Sequence[RunRecord]) -> str:
    statuses = {r.status for r in records}
    if "interrupted" in statuses or len(records) < expected(sweep):
        return codec.END_STATE["interrupted"]
    return codec.END_STATE["failed" if "failed" in statuses else "ok"]


def _summary_sha256(sweep: Sweep, records: Sequence[RunRecord]) -> str:
    """Hash of what the summary is computed from; machine and command may differ between reruns."""
    header = json.loads(to_json(sweep))
    del header["manifest"], header["command"]
    text = json.dumps([header, sorted(map(codec.sha256, records))], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _aggregates(sweep: Sweep, records: Sequence[RunRecord]) -> Iterator[tuple[str, float]]:
    """`METRIC/ARM POINT/mean` and so on, for each finite figure."""
    for row in aggregate(sweep, records):
        where = codec.name(" ".join([row["arm"], *(f"{k} {v}" for k, v in row["params"].items())]).replace("/", "."))
        for metric, interval in row["metrics"].items():
            for part, value in interval.items():
                if value is not None:
                    yield f"{metric}/{where}/{part}"[:250], float(value)
