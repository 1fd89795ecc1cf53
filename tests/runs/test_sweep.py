"""Running cells: one record per arm whatever happens, the same bits however they are scheduled."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

import reuse_sim
from reuse_sim import scenario, sweep
from reuse_sim.artifacts import write_atomic
from reuse_sim.errors import InputError
from reuse_sim.record import RunRecord, from_json, read_records, to_json
from reuse_sim.sweep import cells, journal, running, workers


def run(project: Path, *overrides: str, workers: int = 1, **hooks) -> sweep.Outcome:
    return sweep.run(scenario.load(project / "fake.yaml", overrides), workers=workers, **hooks)


def but_times(records) -> list[RunRecord]:
    return [dataclasses.replace(r, wall_s=0.0) for r in records]


def of_seed(outcome: sweep.Outcome, seed: int) -> list[RunRecord]:
    return [r for r in outcome.records if r.seed == seed]


def test_every_arm_of_every_cell_has_a_record_in_the_files_order(project):
    outcome = run(project)
    places = [(r.params["share"], r.arm, r.seed) for r in outcome.records]
    assert places == [(p, a, s) for p in (0.2, 0.6) for a in ("none", "more") for s in (0, 1, 2)]
    assert {r.status for r in outcome.records} == {"ok"} and outcome.cells == 6 and outcome.stored == 0
    assert outcome.folder == project / "runs" / "fake" / outcome.sweep.sweep_id
    header, records = read_records(outcome.folder / "records.jsonl")
    assert tuple(records) == outcome.records and header == json_twin(outcome.sweep)


def json_twin(header):
    return dataclasses.replace(header, resolved=json.loads(json.dumps(header.resolved)))


def test_records_carry_the_measured_figures_and_the_parameters(project):
    (a, b), (_, other) = ([r for r in of_seed(run(project), seed) if r.params["share"] == 0.6] for seed in (0, 1))
    assert a.arm == "none" and b.arm == "more"
    assert a.metrics["inheritance/causal_private"] < b.metrics["inheritance/causal_private"]  # 20 steps against 200
    assert len({a.parameters_sha256, b.parameters_sha256, other.parameters_sha256}) == 3
    assert a.diagnostics["point"] == [1, 2]
    assert a.wall_s == b.wall_s > 0  # the cell's


def test_a_second_run_computes_nothing_and_keeps_the_records(project):
    first, calls = run(project), []
    second = run(project, on_record=calls.append)
    assert (second.stored, second.cells) == (6, 6)
    assert second.records == first.records  # even the times: nothing new was measured
    assert sorted(calls, key=str) == sorted(second.records, key=str)


def test_only_what_is_missing_is_computed(project):
    run(project, "sweep.share=[0.2]")
    assert run(project).stored == 3


def test_worker_processes_read_and_give_the_same(project):
    alone = run(project)
    for file in (project / "runs" / ".store").rglob("*"):
        if file.suffix == ".json":  # The first seed's results stay, one of them damaged.
            stage = json.loads(file.read_text())["manifest"]
            if stage["seed"] > 0:
                file.unlink()
            elif stage["stage"] == "teacher":
                file.with_suffix(".safetensors").write_bytes(b"")
    alone.folder.rename(project / "elsewhere")
    seen, said = [], []
    together = run(project, workers=2, progress=lambda done, total: seen.append((done, total)), notice=said.append)
    assert len(said) == 1 and "'teacher'" in said[0] and "computed again" in said[0]
    assert together.stored == 1  # of the first seed's two cells, the one that did not meet the damage
    assert but_times(together.records) == but_times(alone.records)
    assert seen == [(done, 6) for done in range(7)]
    assert multiprocessing.active_children() == []


def test_a_worker_for_whom_no_seed_is_left_takes_over_later_points(project, monkeypatch):
    few = ("seeds=1", "sweep.share=[0.2, 0.4, 0.6]")
    given, seen, start = [], [], workers._start
    monkeypatch.setattr(workers, "_start", lambda s, positions: given.append(list(positions)) or start(s, positions))
    together = run(project, *few, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert given == [[0, 1, 2], [2]]
    assert seen == [(done, 3) for done in range(4)] and {r.status for r in together.records} == {"ok"}
    assert but_times(together.records) == but_times(run(project, *few).records)
    assert multiprocessing.active_children() == []


def test_threads_of_the_caller_stay(project):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        outcome = run(project)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert outcome.sweep.manifest["threads"] == 1


@pytest.mark.parametrize(("trouble", "status"), [("refuse", "failed"), ("undecided", "undecided")])
def test_a_refusal_gives_every_arm_its_reason(project, trouble, status):
    outcome = run(project, f"trouble={trouble}")
    assert {(r.status, r.reason) for r in of_seed(outcome, 1)} == {(status, "the human does not fail")}
    assert {r.status for r in of_seed(outcome, 0) + of_seed(outcome, 2)} == {"ok"}
    assert not (outcome.folder / "errors").exists()


def test_a_setting_that_does_not_suit_one_world_fails_that_world_in_its_own_words(project):
    outcome = run(project, "trouble=input")
    said = "tolerance: got 1e-09; expected more than 0.1"
    assert {(r.status, r.reason) for r in of_seed(outcome, 1)} == {("failed", said)}
    assert {r.status for r in of_seed(outcome, 0) + of_seed(outcome, 2)} == {"ok"}
    assert not (outcome.folder / "errors").exists()


def test_a_defect_is_one_line_and_a_traceback_in_a_file(project):
    outcome = run(project, "trouble=type")
    broken = of_seed(outcome, 1)
    assert {r.status for r in broken} == {"failed"} and len(broken) == 4
    reason = broken[0].reason
    assert reason.startswith("TypeError: two lines (traceback in runs/fake/") and "\n" not in reason
    file = project / reason.partition("traceback in ")[2].rstrip(")")
    assert file.read_text().startswith("Traceback") and "in _break" in file.read_text()
    assert {r.status for r in of_seed(outcome, 0) + of_seed(outcome, 2)} == {"ok"}


def test_a_worker_that_is_killed_fails_its_cells_only(project):
    outcome = run(project, "trouble=die", "at=0", "seeds=2", workers=2)
    assert {r.status for r in of_seed(outcome, 0)} == {"failed"}
    assert {r.reason for r in of_seed(outcome, 0)} == {"its worker process was killed, as the system does when memory "
                                                      "runs out; try fewer workers or a smaller scenario"}
    assert {r.status for r in of_seed(outcome, 1)} == {"ok"}
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("trouble", "reason"), [
    ("forget", "returned nothing for arm more"), ("unwritable", "TypeError: Object of type object is not JSON"),
])
def test_an_experiment_that_breaks_its_contract_fails_the_cell(project, trouble, reason):
    outcome = run(project, f"trouble={trouble}")
    assert {r.status for r in of_seed(outcome, 1)} == {"failed"} and reason in of_seed(outcome, 1)[0].reason


def test_what_is_not_finite_is_null_with_a_reason(project):
    record = of_seed(run(project, "trouble=nan"), 1)[0]
    assert record.metrics["inheritance/causal_private"] is None and record.metrics["human/off_fit"] == 0.9
    assert record.diagnostics["curve"] == [1.0, None]
    assert record.reason == "not finite: inheritance/causal_private, outer/off_fit, curve/1"


@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk_ends_the_run_and_keeps_what_was_finished(project, workers):
    with pytest.raises(OSError, match="No space left") as caught:
        run(project, "trouble=full", "seeds=2", workers=workers)
    assert caught.value.filename == "some/file"
    _, records = read_records(next(project.glob("runs/fake/*/records.jsonl")))
    assert {(r.seed, r.status) for r in records} <= {(0, "ok")}
    assert workers > 1 or len(records) == 4
    assert multiprocessing.active_children() == []


def test_full_disk_while_appending_leaves_whole_lines(project, monkeypatch):
    real, left = os.fsync, [30]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left") as caught:
        run(project)
    assert caught.value.filename.startswith(str(project / "runs"))
    monkeypatch.undo()
    file = next(project.glob("runs/fake/*/records.jsonl"))
    assert file.read_bytes().endswith(b"}\n") and 0 < len(read_records(file)[1]) < 12
    assert not list(project.glob("runs/**/*.tmp"))
    assert but_times(run(project).records) == but_times(run(project, "sweep.share=[0.2, 0.6]").records)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_signal_stops_the_run_and_is_recorded(project, number, workers):
    def send(done, total):
        if done == 2:
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    before = signal.getsignal(number)
    outcome = run(project, "pause=0.2", workers=workers, progress=send)
    assert signal.getsignal(number) is before and multiprocessing.active_children() == []
    assert outcome.stopped == number
    statuses = {r.task_key: r.status for r in outcome.records}
    assert len(statuses) == 12 and list(statuses.values()).count("ok") >= 4
    stopped = [r for r in outcome.records if r.status == "interrupted"]
    assert stopped and {r.reason for r in stopped} == {f"stopped by {number.name} before it was finished"}
    assert tuple(read_records(outcome.folder / "records.jsonl")[1]) == outcome.records
    again = run(project, "pause=0.2")
    assert {r.status for r in again.records} == {"ok"} and again.stored >= 2
    kept = {r.task_key: r for r in again.records}
    assert all(kept[r.task_key] == r for r in outcome.records if r.status == "ok")


def test_a_rerun_that_is_stopped_loses_no_record(project):
    first = run(project)

    def send(done, total):
        if done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    second = run(project, progress=send)
    assert second.stopped == signal.SIGINT and second.records == first.records


def test_more_workers_than_memory_allows_are_not_started(project, monkeypatch):
    monkeypatch.setattr(running, "memory_of_machine", lambda: 3 * running.GIB)
    loaded, said = scenario.load(project / "fake.yaml", [f"memory={running.GIB // 3}"]), []
    assert running.workers_that_fit(loaded, loaded.cells(), 8, said.append) == 2
    assert len(said) == 1 and "2 of 8 workers" in said[0] and "GiB" in said[0]
    with pytest.raises(InputError, match=r"fake.yaml: got a cell that needs about \S+ GiB .* the machine's 3 GiB"):
        run(project, f"memory={2 * running.GIB}")
    assert not (project / "runs").exists()


def test_a_record_that_came_out_otherwise_replaces_the_old_one(project, monkeypatch):
    first, real = run(project), running.run_cell

    def broken(loaded, cell, notice):
        done = real(loaded, cell, notice)
        return cells.CellDone(cells.without_figures(loaded, cell, "failed", "why"), False) if cell.seed == 1 else done

    monkeypatch.setattr(running, "run_cell", broken)
    second = run(project)
    assert [r.status for r in second.records] == ["failed" if r.seed == 1 else "ok" for r in first.records]
    assert tuple(read_records(second.folder / "records.jsonl")[1]) == second.records
    monkeypatch.undo()
    assert but_times(run(project).records) == but_times(first.records)


def test_one_run_of_a_sweep_at_a_time(project):
    seen = []

    def again(done, total):
        if done == 1:
            with pytest.raises(InputError, match="a run of the same sweep in progress"):
                run(project)
            seen.append(done)

    assert {r.status for r in run(project, progress=again).records} == {"ok"} and seen == [1]


def test_another_environment_is_said_and_its_records_set_aside(project):
    first = run(project)
    file, said = first.folder / "records.jsonl", []
    old = dataclasses.replace(first.sweep, manifest={**first.sweep.manifest, "torch": "2.12.0", "threads": 4})
    write_atomic(file, "".join(f"{to_json(i)}\n" for i in (old, *first.records)).encode())
    before = file.read_bytes()
    run(project, notice=said.append)
    assert len(said) == 1 and "\n" not in said[0]
    assert f"torch was 2.12.0, is {torch.__version__}; threads was 4, is 1" in said[0]
    assert "cannot be continued bit-exactly" in said[0]
    assert (first.folder / "records.before.jsonl").read_bytes() == before


def test_a_damaged_records_file_is_set_aside(project):
    first, said = run(project), []
    file = first.folder / "records.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"kind": "record"', b'"kind": "recoil"', 1))
    assert run(project, notice=said.append).stored == 6
    assert len(said) == 1 and "damaged" in said[0] and (first.folder / "records.before.jsonl").exists()


def test_a_torn_last_line_is_left_out(project):
    first, said = run(project), []
    file = first.folder / "records.jsonl"
    whole = file.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 40):
        file.write_bytes(whole[:cut])
        _, records = read_records(file)
        assert tuple(records) == first.records[:-1]
        assert but_times(run(project, notice=said.append).records) == but_times(first.records)
    assert said == []


def test_signals_are_only_heard_while_listening():
    stop = running.Stop()
    stop(signal.SIGINT, None)  # Not listening: remembered.
    with pytest.raises(running.Stopped), stop.listening():
        pytest.fail("must not get here")
    stop(signal.SIGTERM, None)
    assert stop.signal == signal.SIGINT


def test_in_another_thread_runs_work_without_signals(project):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(project)))
    thread.start()
    thread.join(60)
    assert {r.status for r in found[0].records} == {"ok"}


def test_results_of_the_api(project, monkeypatch):
    results = reuse_sim.run(project / "fake.yaml", {"sweep.share": [0.6]}, seeds=3)
    assert results.sweep.command == "reuse-sim run fake.yaml --set 'sweep.share=[0.6]' --seeds 3"
    frame = results.frame()
    assert list(frame.columns[:5]) == ["share", "arm", "seed", "status", "reason"] and len(frame) == 6
    assert frame["inheritance/causal_private"].dtype == float
    values = frame.query("arm == 'more'")["inheritance/causal_private"]
    claim, = results.claims()
    assert claim["value"] == pytest.approx(values.mean()) and claim["verdict"] == "supported"
    row = next(r for r in results.aggregates() if r["arm"] == "more")
    assert row["metrics"]["inheritance/causal_private"]["mean"] == pytest.approx(values.mean())
    monkeypatch.chdir(project)
    for path in (Path("runs/fake"), "fake", results.sweep.sweep_id and f"runs/fake/{results.sweep.sweep_id}",
                 f"runs/fake/{results.sweep.sweep_id}/records.jsonl"):
        assert reuse_sim.load(path).records == results.records
    with pytest.raises(InputError, match="not run as it is now"):
        reuse_sim.load("fake.yaml")
    assert reuse_sim.run("fake.yaml").records == reuse_sim.load("fake.yaml").records
    with pytest.raises(InputError, match="no run of that name.*did you mean 'fake'"):
        reuse_sim.load("fke")


def test_a_stopped_run_of_the_api_raises_keyboard_interrupt(project, monkeypatch):
    real = cells.run_cell

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        return real(*args)

    monkeypatch.setattr(running, "run_cell", interrupted)
    # A shell starts what it puts in the background with SIGINT ignored, tests too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            reuse_sim.run(project / "fake.yaml")
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_order_is_the_scenarios(project):
    """Of values, not of their texts; and of axes, in the file too."""
    loaded = scenario.load(project / "fake.yaml", ["sweep.share=[0.6, 0.2]", "sweep.memory=[1]"])
    header = sweep.header(loaded, "")
    assert list(from_json(to_json(header)).axes) == ["share", "memory"]
    records = [r for c in loaded.cells() for r in cells.without_figures(loaded, c, "failed", "")]
    ordered = journal.in_order(header, reversed(records))
    assert [(r.params["share"], r.seed) for r in ordered if r.arm == "none"] == [
        (p, s) for p in (0.6, 0.2) for s in (0, 1, 2)]
