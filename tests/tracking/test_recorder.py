"""Records to MLflow and back: nothing lost, nothing twice, nothing left running, whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reuse_sim.record import aggregate
from tracking import figures, reader, report, sender, store
from tracking.recorder import Recorder, sync


@pytest.fixture
def sweep(make_sweep):
    return make_sweep(arms=("none", "placebo", "all"), seeds=3)


@pytest.fixture
def records(sweep, make_records):
    """One of each way to end, and a metric that is not finite."""
    found = make_records(sweep)
    found[0] = replace(found[0], status="failed", reason="the loss is not finite", metrics={}, diagnostics={})
    found[1] = replace(found[1], status="undecided", reason="the human does not fail")
    found[2] = replace(found[2], metrics={**found[2].metrics, "specialness/bits": None}, reason="not finite: bits")
    return found


draw = figures.write


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Pages without figures: drawing takes longer than all else here."""
    monkeypatch.setattr(figures, "write", lambda *args: {})


def track(project, sweep, records, folder=None):
    recorder = Recorder(project, sweep)
    for record in records:
        recorder.add(record)
    recorder.close(records, folder)
    return recorder


def fingerprint(project):
    """Every run with all that is in it, deleted ones too."""
    import sqlite3

    with sqlite3.connect(project / "mlflow.db") as db:
        return {table: sorted(map(repr, db.execute(f"SELECT * FROM {table}")))
                for table in ("runs", "metrics", "latest_metrics", "params", "tags", "experiment_tags")}


def test_what_is_read_is_what_was_sent(project, sweep, records):
    recorder = track(project, sweep, records)
    assert recorder.synced and recorder.reason == "" and recorder.sent == 10
    ((header, found),) = reader.read(project)
    assert header == sweep
    assert sorted(found, key=lambda r: r.task_key) == sorted(records, key=lambda r: r.task_key)


def test_minus_zero_comes_back(project, sweep, records):
    records[3] = replace(records[3], metrics={**records[3].metrics, "specialness/bits": -0.0})
    track(project, sweep, records)
    ((_, found),) = reader.read(project)
    assert sorted(found, key=lambda r: r.task_key) == sorted(records, key=lambda r: r.task_key)


def test_runs_are_flat_and_end_as_their_records(project, sweep, records, runs):
    track(project, sweep, [*records[:-1], replace(records[-1], status="interrupted")])
    found = runs()
    assert len(found) == 10 and "mlflow.parentRunId" not in {t for r in found.values() for t in r.data.tags}
    states = [found[r.task_key].info.status for r in records]
    assert states == ["FAILED", *["FINISHED"] * 7, "KILLED"]
    run = found["seed=0 arm=placebo"]
    assert run.info.run_name == "seed=0 arm=placebo" and run.info.end_time - run.info.start_time == 250
    assert run.data.params == {"arm": "placebo", "seed": "0"}
    wanted = {"sweep_id": "0123456789ab", "scenario": "made_up", "config_hash": sweep.config_hash, "arm": "placebo",
              "task_key": "seed=0 arm=placebo", "status": "undecided", "reason": "the human does not fail"}
    assert wanted.items() <= run.data.tags.items() and len(run.data.tags["record_sha256"]) == 64


def test_the_summary_holds_aggregates_verdicts_and_artifacts(project, sweep, make_records, runs, monkeypatch):
    monkeypatch.setattr(figures, "write", draw)
    records = make_records(sweep)
    folder = project / "runs" / "made_up"
    report.write(sweep, records, folder)
    (folder / "figures" / "of-another-sweep.svg").write_text("")
    track(project, sweep, records, folder)
    run = runs()["summary"]
    row = next(r for r in aggregate(sweep, records) if r["arm"] == "all")
    for part, value in row["metrics"]["inheritance/causal_private"].items():
        assert run.data.metrics[f"inheritance/causal_private/all/{part}"] == value
    assert run.data.tags["claim/reuse"] == "supported" and run.info.status == "FINISHED"
    client = store.connect(project)
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {
        "report.md", "scenario.json", "manifest.json", "sweep.json", "figures"}
    assert {a.path for a in client.list_artifacts(run.info.run_id, "figures")} == {
        f"figures/inheritance-causal_{x}.{y}" for x in ("private", "total") for y in ("svg", "png")}
    assert (project / "mlartifacts" / "made_up" / run.info.run_id).is_dir()


def test_of_more_records_than_a_page_loads_means_are_kept(project, make_sweep, make_records, runs, monkeypatch):
    monkeypatch.setattr(sender.view, "PAGE", 23)
    sweep = make_sweep(axes={"outer.width": [24, 48]}, seeds=3)
    records = make_records(sweep)
    assert track(project, sweep, records).sent == 24 + 8 + 1
    run = runs()["mean all · 48"]
    (row,) = (r for r in aggregate(sweep, records) if r["arm"] == "all" and r["params"] == {"outer.width": 48})
    figure = row["metrics"]["inheritance/causal_private"]
    assert run.data.metrics["inheritance/causal_private"] == figure["mean"]
    said = {part: run.data.metrics[f"diagnostics/inheritance.causal_private.{part}"] for part in ("low", "high", "n")}
    assert said == {part: figure[part] for part in said}
    assert run.data.params == {"arm": "all", "outer.width": "48"} and run.data.tags["case"] == "all · 48"
    assert track(project, sweep, records).sent == 0  # a second time
    changed = replace(records[0], metrics={**records[0].metrics, "specialness/bits": 1.0})
    assert track(project, sweep, [changed, *records[1:]]).sent == 3  # it, its mean and the summary
    assert len(reader.read(project)[0][1]) == 24


@pytest.mark.parametrize("cut, state", [(0, "FINISHED"), (1, "KILLED")])
def test_a_summary_of_a_broken_off_sweep_says_so(project, sweep, make_records, runs, cut, state):
    records = make_records(sweep)
    track(project, sweep, records[:len(records) - cut])
    assert runs()["summary"].info.status == state


def test_a_repeated_sync_changes_nothing(project, sweep, records, keep):
    keep(sweep, records)
    first = sync(project)
    assert (first.sent, first.sweeps, first.reason) == (10, 1, "")
    before = fingerprint(project)
    again = sync(project)
    assert (again.sent, again.sweeps, again.reason) == (0, 1, "")
    assert fingerprint(project) == before


def test_a_rerun_that_differs_in_time_only_sends_nothing(project, sweep, records):
    track(project, sweep, records)
    assert track(project, sweep, [replace(r, wall_s=9.0) for r in records]).sent == 0


def test_a_changed_record_replaces_its_run(project, sweep, records, runs):
    track(project, sweep, records)
    better = replace(records[0], status="ok", reason="", metrics=records[3].metrics)
    assert track(project, sweep, [better, *records[1:]]).sent == 2
    assert runs()[better.task_key].info.status == "FINISHED"
    assert sorted(runs("DELETED_ONLY")) == [better.task_key, "summary"]


@pytest.mark.parametrize("step", ["set_terminated", "log_batch"])
def test_a_run_broken_off_in_the_middle_is_replaced(project, sweep, records, runs, keep, monkeypatch, step):
    """As SIGKILL would, the exception leaves the run as it is at that moment."""
    from mlflow import MlflowClient

    class Killed(BaseException):
        pass

    def die(*args, **kwargs):
        raise Killed

    recorder = Recorder(project, sweep)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MlflowClient, step, die)
        recorder.add(records[0])
    recorder._release()  # the kernel does that for a killed process
    left = runs()[records[0].task_key]
    assert left.info.status == {"set_terminated": "RUNNING", "log_batch": "FAILED"}[step]
    keep(sweep, records)
    assert sync(project).sent == 10
    assert {r.info.status for r in runs().values()} == {"FINISHED", "FAILED"}
    assert runs("DELETED_ONLY")[records[0].task_key].info.status != "RUNNING"
    assert len(reader.read(project)[0][1]) == len(records)


@pytest.mark.slow
def test_a_process_killed_while_sending_leaves_nothing_behind(project, sweep, make_sweep, make_records, keep, runs):
    long = make_sweep(seeds=15)
    records = make_records(long)
    keep(long, records)
    code = "import sys; from pathlib import Path; from tracking.recorder import sync; sync(Path(sys.argv[1]))"
    env = {**os.environ, "PYTHONPATH": str(Path(sender.__file__).parents[1])}
    child = subprocess.Popen([sys.executable, "-c", code, str(project)], env=env)
    while not runs():
        assert child.poll() is None
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert 0 < len(runs()) < len(records)
    assert sync(project).reason == ""
    assert {r.info.status for r in runs().values()} == {"FINISHED"} and len(runs()) == len(records) + 1


NOWHERE = {
    "http://127.0.0.1:1": "Connection refused",
    "nonsense": "expected http(s)://HOST or sqlite:////PATH",
    "http://": "no host given",
    "gopher://example.org/x": "",
    "sqlite:////dev/null/mlflow.db": "unable to open database file",
    "postgresql://me:hunter2@127.0.0.1:1/db": "",
}


@pytest.mark.parametrize("address", NOWHERE)
def test_a_store_that_is_not_there_costs_only_a_reason(project, sweep, records, monkeypatch, address, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    start = time.monotonic()
    recorder = track(project, sweep, records)
    assert time.monotonic() - start < 10
    assert not recorder.synced and recorder.sent == 0 and "\n" not in recorder.reason
    assert NOWHERE[address] in recorder.reason and "hunter2" not in recorder.reason
    assert capfd.readouterr() == ("", "")


def test_sync_sends_what_a_store_that_was_down_has_missed(project, sweep, records, keep, monkeypatch, runs):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    missed = track(project, sweep, records)
    keep(sweep, records)
    assert sync(project).reason == missed.reason != ""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sync(project).sent == len(runs()) == 10
    assert len(reader.read(project)[0][1]) == len(records)


def test_a_host_that_never_answers_is_given_up(project, sweep, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(store, "DEADLINE_S", 0.3)
        start = time.monotonic()
        assert "no answer within" in Recorder(project, sweep).reason
        assert time.monotonic() - start < 2


def test_a_store_that_fails_on_the_way_is_caught_up_on(project, sweep, records, monkeypatch, keep, runs):
    from mlflow import MlflowClient

    recorder = Recorder(project, sweep)
    recorder.add(records[0])
    tries = []

    def full(*args, **kwargs):
        tries.append(1)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", full)
        for record in records[1:]:
            recorder.add(record)
        recorder.close(records, None)
    assert "No space left on device" in recorder.reason and len(tries) == 1
    keep(sweep, records)
    assert sync(project).sent == 9 and len(runs()) == 10


def test_damaged_database_is_a_reason(project, sweep):
    (project / "mlflow.db").write_bytes(b"not a database" * 100)
    assert "file is not a database" in Recorder(project, sweep).reason


def test_one_sender_per_sweep(project, sweep, make_sweep, records):
    first = Recorder(project, sweep)
    assert "another process" in Recorder(project, sweep).reason
    assert track(project, make_sweep(sweep_id="ffffffffffff"), []).synced
    first.close(records, None)
    assert track(project, sweep, records).synced


def test_a_damaged_records_file_does_not_stop_the_others(project, sweep, records, keep, runs):
    folder = keep(replace(sweep, scenario="broken"), records)
    (folder / "records.jsonl").write_text("{}\n")
    keep(sweep, records)
    done = sync(project)
    assert done.sent == len(runs()) == 10 and "broken" in done.reason


def test_a_deleted_experiment_comes_back(project, sweep, records, runs):
    track(project, sweep, records)
    client = store.connect(project)
    client.delete_experiment(client.get_experiment_by_name("reuse_sim/made_up").experiment_id)
    assert track(project, sweep, records).synced and len(runs()) == 10


def test_the_latest_sweep_is_read_and_a_broken_off_one_last(project, make_sweep, make_records):
    for sweep_id, seeds in (("a" * 12, 3), ("b" * 12, 4), ("c" * 12, 5)):
        sweep = make_sweep(sweep_id=sweep_id, seeds=seeds, arms=("none",))
        records = [replace(r, sweep_id=sweep_id) for r in make_records(sweep)]
        track(project, sweep, records[:3] if sweep_id[0] == "c" else records)
    other = make_sweep(scenario="another", seeds=1)
    track(project, other, make_records(other))
    assert [(s.scenario, s.sweep_id) for s, _ in reader.read(project)] == [
        ("another", "0123456789ab"), ("made_up", "b" * 12)]
    assert [s.scenario for s, _ in reader.read(project, "another")] == ["another"]
    assert reader.read(project, "unheard") == []


def test_an_edited_run_is_refused(project, sweep, records):
    track(project, sweep, records)
    client = store.connect(project)
    experiment = client.get_experiment_by_name("reuse_sim/made_up").experiment_id
    (run,) = client.search_runs([experiment], "tags.task_key = 'seed=1 arm=all'")
    client.log_metric(run.info.run_id, "inheritance/causal_private", 0.99)
    with pytest.raises(store.Unreachable, match="was changed after it was recorded"):
        reader.read(project)


def test_nothing_is_printed(project, sweep, records, capfd):
    assert track(project, sweep, records).synced
    reader.read(project)
    assert capfd.readouterr() == ("", "")


def test_a_new_store_is_made_quietly_where_the_project_is(new_store):
    project, printed = new_store
    assert printed == "" and [p.name for p in project.iterdir()] == ["mlflow.db"]


def test_records_longer_than_a_batch(project, make_sweep, make_records, runs):
    """More tags and metrics than MLflow takes at once."""
    sweep = make_sweep(arms=("all",), seeds=1)
    (record,) = make_records(sweep)
    large = replace(record, diagnostics={f"d{i}": float(i) for i in range(900)} | {"text": "x" * 500_000})
    assert track(project, sweep, [large]).synced
    assert len(runs()[large.task_key].data.metrics) == 900 + len(record.metrics) + 1
    assert reader.read(project)[0][1] == [large]


def test_summary_hash_ignores_the_machine(make_sweep, make_records):
    sweep = make_sweep()
    records = make_records(sweep)
    moved = replace(sweep, manifest={"cpu": "other"}, command="reuse-sim run other.yaml")
    assert sender._summary_sha256(sweep, records) == sender._summary_sha256(moved, records)
    assert sender._summary_sha256(sweep, records) != sender._summary_sha256(sweep, records[1:])
