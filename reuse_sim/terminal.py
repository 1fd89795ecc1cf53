"""What commands share: running a scenario with its tracking, what is printed when it ends, and how faults are said.

Nothing heavy is imported up here, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from reuse_sim.record import RunRecord, Sweep
    from reuse_sim.results import Results
    from reuse_sim.scenario import Scenario
    from reuse_sim.sweep import Outcome

OK, FAILED, BAD_INPUT, NOT_SYNCED, INTERRUPTED = 0, 1, 2, 3, 130


def run_tracked(loaded: Scenario, command: str, workers: int | None, track: bool) -> tuple[Outcome, Results, str]:
    """Run and track; the outcome, its results, and why tracking is not synced, if it is not."""
    from reuse_sim import summary, sweep
    from reuse_sim.results import Results

    recorders, err = [], summary.console(sys.stderr)

    def start(header: Sweep, folder: Path) -> None:
        if track:
            from tracking.recorder import Recorder

            recorders.append(Recorder(loaded.project, header))

    def keep(record: RunRecord) -> None:
        for recorder in recorders:
            recorder.add(record)

    def note(text: str) -> None:
        err.print(text, markup=False, soft_wrap=True)

    with summary.progress(loaded.name, err) as progress:
        outcome = sweep.run(loaded, workers=workers, command=command, on_start=start, on_record=keep, notice=note,
                            progress=progress)
    if outcome.stored == outcome.cells:
        note(f"nothing to compute: all {outcome.cells} cells were stored")
    elif outcome.stored:
        note(f"{outcome.stored} of {outcome.cells} cells were stored")
    from tracking import report as pages

    pages.write(outcome.sweep, outcome.records, outcome.folder.parent)
    unsynced = ""
    for recorder in recorders:
        recorder.close(outcome.records, outcome.folder.parent)
        if not recorder.synced:
            unsynced = recorder.reason
            note(f"not tracked: {unsynced}. Every record is kept; `{program()} sync` sends them later")
    return outcome, Results(outcome.sweep, outcome.records), unsynced


def close(found: Results, outcome: Outcome, project: Path, tracked: bool) -> None:
    """The summary on the terminal, with its three closing lines."""
    from reuse_sim import summary
    from tracking.report import finding

    to, folder = summary.console(sys.stdout), outcome.folder.parent
    summary.show(found, to)
    to.print()
    to.print(finding(found.sweep, found.records), markup=False, soft_wrap=True)
    to.print(f"Results page {shown(folder / 'report.md')}, figures in {shown(folder / 'figures')}", markup=False,
             soft_wrap=True)
    there = "" if project == Path.cwd() else f"cd {shlex.quote(str(project))} && "
    called, name = program(absolute=bool(there)), shlex.quote(found.sweep.scenario)
    page = f"{called} ui {name}" if tracked else f"{called} sync && {called} ui {name}"
    to.print(f"MLflow page: {there}{page}", markup=False, soft_wrap=True)


@contextmanager
def stdout_for_json(as_json: bool) -> Iterator[TextIO]:
    """Standard output; for JSON kept for us alone: whatever else writes there, workers included, goes to stderr."""
    if not as_json:
        yield sys.stdout
        return
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        try:
            yield out
        finally:
            sys.stdout.flush()
            os.dup2(out.fileno(), 1)


@contextmanager
def unreachable_as_error() -> Iterator[None]:
    from tracking.store import Unreachable

    try:
        yield
    except Unreachable as error:
        raise SystemExit(say(f"error: {error}", NOT_SYNCED)) from None


def program(absolute: bool = False) -> str:
    """How this program was called, to be typed again."""
    called, module = Path(sys.argv[0]), ""
    if called.name == "__main__.py":
        called, module = Path(sys.executable), " -m reuse_sim"
    elif os.sep not in sys.argv[0]:
        return sys.argv[0]
    return shlex.quote(os.path.abspath(called) if absolute else shown(called)) + module


def shown(path: Path) -> str:
    """A path as short as it can be typed from here."""
    full = Path(os.path.abspath(path))
    return str(full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full)


def say(text: str, code: int = OK) -> int:
    typer.echo(text, err=True)
    return code
