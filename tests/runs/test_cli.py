"""The command line: exit codes, one-line errors, pure JSON, and an answer to `--help` without waiting."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from reuse_sim import cli as command_line
from reuse_sim import summary, terminal
from reuse_sim.record import Expectation, Metric, RunRecord, Sweep
from reuse_sim.results import Results

METRIC_NAMES = ("inheritance/causal_private", "inheritance/causal_total", "inheritance/contrast",
                "inheritance/gap_recovered", "outer/context_recovery", "outer/off_fit", "specialness/bits")


@pytest.fixture
def here(project, monkeypatch):
    """The command line called in this process; returns exit code, standard output and standard error."""
    monkeypatch.chdir(project)

    def call(capfd, *args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reuse-sim", *args])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            command_line.main()
        out, err = capfd.readouterr()
        return left.value.code, out, err

    return call


@pytest.mark.parametrize(("args", "more"), [(["--help"], ["pydantic"]), (["run", "--help"], [])])
def test_help_imports_nothing_heavy(start, args, more):
    code = (f"import sys; sys.argv[1:] = {args}\nfrom reuse_sim.cli import main\n"
            "try: main()\nexcept SystemExit as e: assert e.code == 0\n"
            f"heavy = {{'torch', 'mlflow', 'pandas', 'numpy', 'scipy', 'matplotlib', *{more}}} & set(sys.modules)\n"
            "assert not heavy, heavy")
    process = start("-W", "error", "-c", code)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Usage" in out


@pytest.mark.slow
def test_help_answers_in_a_fifth_of_the_time_of_importing_torch(start):
    def best(*args):
        times = []
        for _ in range(2):
            begin = time.perf_counter()
            process = start(*args)
            process.communicate(timeout=60)
            times.append(time.perf_counter() - begin)
            assert process.returncode == 0
        return min(times)

    assert best("-m", "reuse_sim", "--help") < best("-c", "import torch") / 5


@pytest.mark.slow
def test_fresh_processes_print_one_same_object_and_nothing_else(cli, project):
    found = []
    for workers in ("1", "2"):
        done = cli("run", "fake.yaml", "--json", "--no-track", "--set", "trouble=print", "--workers", workers)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1 and "from a plug-in" in done.stderr and "echo" not in done.stdout
        found.append(json.loads(done.stdout))
        (project / "runs").rename(project / f"runs-{workers}")
    first = found[0]
    assert set(first) == {"scenario", "config_hash", "sweep_id", "records", "aggregates", "claims"}
    assert first["scenario"] == "fake" and first["config_hash"].startswith(first["sweep_id"])
    assert set(first["records"][0]) == {"params", "arm", "seed", "status", "reason", "metrics", "diagnostics",
                                        "parameters_sha256", "wall_s"}
    assert {"params", "arm", "metrics"} <= set(first["aggregates"][0])
    assert set(first["aggregates"][0]["metrics"]["human/off_fit"]) == {"mean", "low", "high", "n"}
    assert {"id", "verdict", "value", "low", "high"} <= set(first["claims"][0])
    for run in found:
        assert all(r.pop("wall_s") > 0 for r in run["records"])
    assert found[0] == found[1]


def test_a_run_ends_with_three_lines_and_a_report(here, capfd, project):
    code, out, err = here(capfd, "run", "fake.yaml", "--no-track", "--workers", "1")
    assert code == 0 and "6 of 6 cells" in err
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-4] == "" and lines[-3].startswith("Supported: It goes far")
    assert lines[-2] == "Results page runs/fake/report.md, figures in runs/fake/figures"
    assert lines[-1] == "MLflow page: reuse-sim sync && reuse-sim ui fake"
    assert (project / "runs/fake/report.md").exists() and list((project / "runs/fake/figures").glob("*.svg"))
    assert "none: worse than the human off-distribution" in lines
    assert any(line.startswith("supported  far  It goes far.") for line in lines)

    _, again, err = here(capfd, "run", "fake.yaml", "--no-track", "--workers", "1")
    assert "nothing to compute: all 6 cells were stored" in err.splitlines()
    assert again == out


def test_tracked_run_sync_and_report(here, capfd, project):
    code, out, err = here(capfd, "run", "fake.yaml", "--smoke", "--workers", "1")
    assert code == 0, err
    assert out.splitlines()[-1] == "MLflow page: reuse-sim ui fake-smoke"
    with sqlite3.connect(project / "mlflow.db") as db:
        states = db.execute("select status, count(*) from runs group by status").fetchall()
    db.close()
    assert states == [("FINISHED", 5)]  # 2 points x 2 arms x 1 seed, and the summary
    assert here(capfd, "sync")[:2] == (0, "0 MLflow runs written, 1 sweeps looked at\n")
    assert here(capfd, "report", "fake-smoke")[:2] == (0, "docs/results/fake-smoke.md\n")
    assert here(capfd, "report")[0] == 2  # a smoke run is no result
    assert here(capfd, "report", "other")[0] == 2


def test_tracking_that_is_down_costs_nothing_but_the_exit_code(here, capfd, project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, out, err = here(capfd, "run", "fake.yaml", "--smoke", "--workers", "1")
    assert code == 3 and "not tracked: " in err and "reuse-sim sync" in err
    assert out.splitlines()[-1] == "MLflow page: reuse-sim sync && reuse-sim ui fake-smoke"
    assert here(capfd, "sync")[0] == 3
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert here(capfd, "sync")[:2] == (0, "5 MLflow runs written, 1 sweeps looked at\n")


@pytest.mark.parametrize(("args", "code", "said"), [
    (["run", "fake.yaml", "--no-track", "--workers", "1", "--set", "trouble=type"], 1, None),
    (["run", "fake.yaml", "--no-track", "--workers", "1", "--set", "trouble=undecided"], 0, None),
    (["run", "fake.yaml", "--no-track", "--workers", "1", "--set", "sweep.share=[0.2]"], 0, "far is left out"),
    (["run", "fake.yaml", "--no-track", "--workers", "1", "--set", "trouble=full"], 1,
     "error: No space left on device: some/file. Make room: what was finished is kept"),
    (["run", "nowhere.yaml"], 2, "nowhere.yaml"),
    (["run", "fake.yaml", "--set", "widht=3"], 2, "did you mean 'width'?"),
    (["run", "fake.yaml", "--set", f"memory={2**60}"], 2, "GiB"),
    (["run", "fake.yaml", "--seeds", "0"], 2, "seeds"),
    (["run", "fake.yaml", "--workers", "0"], 2, "--workers"),
    (["run", "fake.yaml", "--no-such"], 2, "--no-such"),
    (["run"], 2, "FILE"),
    (["rum"], 2, "Did you mean 'run'?"),
    (["validate", "fake.yaml", "fake_experiment.py"], 2, "fake_experiment.py"),
    (["report"], 2, "no tracked run"),
    (["ui", "fake"], 3, ""),
    (["list"], 2, "scenarios"),
])
def test_exit_codes_and_one_line_errors(here, capfd, project, args, code, said):
    got, out, err = here(capfd, *args)
    assert got == code, err
    assert "Traceback" not in out + err
    if said is not None:
        assert len([line for line in err.splitlines() if "cells" not in line]) == 1 and said in err
        assert code == 0 or args[0] == "validate" or out == ""


def test_small_commands(here, capfd, project):
    (project / "scenarios").mkdir()
    (project / "scenarios" / "a.yaml").write_text((project / "fake.yaml").read_text())
    (project / "scenarios" / "b.yaml").write_text("seeds: 0")
    code, out, _ = here(capfd, "list")
    assert code == 0 and out.splitlines()[0] == "scenarios/a.yaml  A fake" and "(invalid: " in out.splitlines()[1]
    assert here(capfd, "validate", "fake.yaml")[:2] == (0, "fake.yaml: ok, 6 cells of 2 arms\n")
    code, out, _ = here(capfd, "schema")
    assert code == 0 and json.loads(out)["$schema"].endswith("2020-12/schema")
    code, out, _ = here(capfd)
    assert code == 0 and "Usage" in out


def test_clean_asks_says_the_bytes_and_keeps_the_records(here, capfd, project, monkeypatch):
    here(capfd, "run", "fake.yaml", "--no-track", "--workers", "1")
    size = sum(f.stat().st_size for f in (project / "runs/.store").rglob("*") if f.is_file())
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    code, out, _ = here(capfd, "clean")
    assert code == 0 and f"{size:,} bytes" in out and (project / "runs/.store").exists()
    code, out, _ = here(capfd, "clean", "--yes")
    assert (code, out) == (0, f"removed {size:,} bytes of stored results in runs/.store\n")
    assert not (project / "runs/.store").exists() and list(project.glob("runs/fake/*/records.jsonl"))
    assert here(capfd, "clean")[1] == "nothing to remove in runs/.store\n"


@pytest.mark.parametrize(("number", "code", "workers"), [
    (signal.SIGINT, 130, "2"), pytest.param(signal.SIGTERM, 143, "1", marks=pytest.mark.slow),
])
def test_interrupted_from_outside(start, project, number, code, workers):
    process = start("-m", "reuse_sim", "run", "fake.yaml", "--no-track", "--set", "pause=2", "--workers", workers)
    for line in process.stderr:  # The first cell is done; Ctrl-C reaches the whole group, as from a terminal.
        if "1 of 6" in line:
            break
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err and f"{number.name}: finished cells are kept" in err
    records = [json.loads(x) for x in next(project.glob("runs/fake/*/records.jsonl")).read_text().splitlines()[1:]]
    assert len(records) == 12 and {r["status"] for r in records} == {"ok", "interrupted"}


def made_up(points=({},), arms=("none", "placebo", "half", "all", "choice", "ceiling"), seeds=8) -> Results:
    metrics = tuple(Metric(n, "bits" if "bits" in n else "1", "", headline=True) for n in METRIC_NAMES)
    metrics += (Metric("human/off_fit", "R²", ""),)
    sweep = Sweep("made_up", "0" * 12, "0" * 64, "reuse", "t", "q", "m", metrics,
                  {k: [p[k] for p in points] for k in points[0]}, arms,
                  (Expectation("reuse", "It reuses the human.", METRIC_NAMES[0], "all", None),), tuple(range(seeds)),
                  {}, "", {})
    records = []
    for point in points:
        for a, arm in enumerate(arms):
            for seed in range(seeds):
                values = {n: -0.123 - seed / 10 + i for i, n in enumerate(METRIC_NAMES)}
                values |= {"specialness/bits": 1234.5 + seed, "human/off_fit": 4.5, "outer/off_fit": 4.0 + a / 5}
                status, why = ("undecided", "the human does not fail") if seed == 7 else ("ok", "")
                records.append(RunRecord("0" * 12, point, arm, seed, status, why, values, {}, "", 0.1))
    return Results(sweep, tuple(records))


@pytest.mark.parametrize("points", [({},), ({"outer.behaviour_weight": 0, "population.teachers": "each"},)])
def test_the_table_is_readable_at_100_columns(points, monkeypatch):
    results = made_up(points)
    monkeypatch.setattr(Results, "claims", lambda self: [
        {"id": "reuse", "verdict": "supported", "value": 0.5, "low": 0.4, "high": 0.6, "n": 7, "reason": ""}])
    file = io.StringIO()
    summary.show(results, summary.console(file))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 100 and "…" not in file.getvalue()
    for arm in results.sweep.arms:  # Seven headline metrics take two tables, five do with one.
        assert sum(line.split()[:1] == [arm] for line in lines) == 2 * len(points)
    assert "none, placebo, half: worse than the human off-distribution" in lines  # 4.0, 4.2, 4.4 against 4.5
    assert sum(line.endswith(" 7/8") for line in lines) == 12 * len(points)
    assert "1 world undecided: the human does not fail" in lines
    assert "supported  reuse  It reuses the human. (0.50 [0.40, 0.60], n = 7)" in lines
    mean, half = -0.123 - 0.3, 2.4469 * 0.21602 / 7**0.5  # 0, .1, … .6: sd .21602; t(.975, 6) = 2.4469
    assert f"[{mean - half:.2f}, {mean + half:.2f}]" in file.getvalue()
    if points[0]:
        assert "outer.behaviour_weight = 0, population.teachers = each" in lines


def test_progress_on_a_terminal_shows_cells_and_times():
    file = io.StringIO()
    to = Console(file=file, force_terminal=True, width=100)
    with summary.progress("made_up", to) as progress:
        progress(0, 8)
        progress(3, 8)
    assert "made_up" in file.getvalue() and "3/8" in file.getvalue() and "left" in file.getvalue()


@pytest.mark.parametrize(("value", "text"), [
    (0.123, "0.12"), (-0.001, "0.00"), (12.345, "12.3"), (-123.4, "-123"), (12345.6, "12346"), (3e9, "3.00e+09")])
def test_numbers(value, text):
    assert summary.number(value) == text


def test_the_command_for_the_mlflow_page_is_the_running_program(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / ".venv/bin/reuse-sim")])
    assert terminal.program() == ".venv/bin/reuse-sim"
    assert terminal.program(absolute=True) == f"{tmp_path}/.venv/bin/reuse-sim"
    monkeypatch.setattr(sys, "argv", ["/x/reuse_sim/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my env/python"))
    assert terminal.program() == "'my env/python' -m reuse_sim"
    assert Path(terminal.shown(tmp_path / "a")) == Path("a")
