"""A run that is killed at any moment and started again ends as one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from reuse_sim import scenario, sweep
from reuse_sim.record import read_records

PAUSE = "pause=0.15"
DRIVER = """\
import sys, reuse_sim
if __name__ == "__main__":
    reuse_sim.run("fake.yaml", sys.argv[2:], workers=int(sys.argv[1]))
"""


@pytest.fixture
def undisturbed(project) -> dict[str, str]:
    """`parameters_sha256` by task of a run that was left alone, elsewhere."""
    outcome = sweep.run(scenario.load(project / "fake.yaml", [PAUSE]), workers=1)
    (project / "runs").rename(project / "left-alone")
    return {r.task_key: r.parameters_sha256 for r in outcome.records}


def results_stored(project: Path) -> int:
    return len(list((project / "runs").glob(".store/*/*.json")))


def kill_at(project: Path, start, stored: int, delay: float, workers: int) -> None:
    """Start the run, and kill -9 it `delay` seconds after `stored` more results are there."""
    before = results_stored(project)
    process = start("-c", DRIVER, str(workers), PAUSE)
    deadline = time.monotonic() + 100
    while results_stored(project) < before + stored and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay)
    assert process.poll() is None, process.communicate()
    process.kill()
    process.wait()
    while True:  # Its workers, in the same group, must not outlive it.
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline, "a worker outlived the run"
        time.sleep(0.01)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def check_the_end(project: Path, undisturbed: dict[str, str]) -> None:
    files = list(project.glob("runs/fake/*/records.jsonl"))
    before = {r.task_key: r for f in files for r in read_records(f)[1]}
    outcome = sweep.run(scenario.load(project / "fake.yaml", [PAUSE]), workers=1)
    assert {r.task_key: r.parameters_sha256 for r in outcome.records} == undisturbed
    assert {r.status for r in outcome.records} == {"ok"}
    after = {r.task_key: r for r in outcome.records}
    assert all(after[key] == r for key, r in before.items())
    again = sweep.run(scenario.load(project / "fake.yaml", [PAUSE]), workers=1)
    assert again.stored == again.cells == 6 and again.records == outcome.records
    assert not list(project.glob("runs/.store/*/*.tmp")) and not list(project.glob("runs/.store/*/*.lock"))


def test_killed_twice_then_continued(project, start, undisturbed):
    kill_at(project, start, stored=2, delay=0.1, workers=2)
    kill_at(project, start, stored=1, delay=0.0, workers=1)
    check_the_end(project, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_moments_then_continued(project, start, undisturbed, seed):
    moments = random.Random(seed)
    for _ in range(3):
        kill_at(project, start, stored=moments.randint(0, 3), delay=moments.uniform(0, 0.15), workers=2)
    check_the_end(project, undisturbed)
