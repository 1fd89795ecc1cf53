"""Running a scenario: every cell measured once, in this process or in worker processes.

The sweep points of a seed go to one worker, in order, since they share stored stages; a worker with nothing
to do takes over some. Each cell runs on one compute thread, so its bits do not depend on the number
of workers. A cell that fails does not stop the others.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from reuse_sim.artifacts import environment
from reuse_sim.errors import InputError
from reuse_sim.machine import cpu_name, one_thread
from reuse_sim.record import RunRecord, Sweep
from reuse_sim.scenario import Cell, Scenario
from reuse_sim.sweep import workers as pool
from reuse_sim.sweep.cells import CellDone, folder, run_cell, without_figures
from reuse_sim.sweep.journal import opened

GIB = 2**30
LIBRARIES_BYTES = 400 * 2**20
"""What a process holds beside its cell."""


@dataclass(frozen=True)
class Outcome:
    """A run's header and records in the scenario's order; how many of its cells were stored; what stopped it."""

    sweep: Sweep
    records: tuple[RunRecord, ...]
    folder: Path
    cells: int
    stored: int
    stopped: signal.Signals | None = None


class Stopped(BaseException):
    """A signal asked the run to end. No `Exception`, so that no cell takes it for its own failure."""


class Stop:
    """Turns SIGINT and SIGTERM into `Stopped`, but only inside `listening`: nothing is ever half kept."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._listening = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        if self._listening:
            self._listening = False
            raise Stopped

    @contextmanager
    def listening(self) -> Iterator[None]:
        self._listening = True
        try:
            if self.signal:
                raise Stopped
            yield
        finally:
            self._listening = False


def run(
    scenario: Scenario,
    *,
    workers: int | None = None,
    command: str = "",
    on_start: Callable[[Sweep, Path], None] = lambda sweep, folder: None,
    on_record: Callable[[RunRecord], None] = lambda record: None,
    notice: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Run all cells of a scenario and keep their records.

    Args:
        workers: 1 runs in this process; more in as many spawned processes (a script then needs the
            usual `if __name__ == "__main__"`). By default one per core, at most one per cell.
        command: what repeats this run, for the header.
        on_start: called once with the header and the records' folder, before the first cell.
        on_record: called once per record, in order of finishing, when it is on the disk.
        notice: receives sentences that the user should read.
        progress: receives the number of finished cells and of all.

    SIGINT and SIGTERM end the run: finished records stay, every other cell gets records with status
    `interrupted`, and `Outcome.stopped` tells the signal. Raises InputError where a cell does not fit
    into memory or the same sweep is being run, and OSError where the disk is full (what was finished
    stays).
    """
    cells = scenario.cells()
    wanted = workers or min(os.cpu_count() or 1, len(cells))
    fitting = workers_that_fit(scenario, cells, wanted, notice)
    with one_thread(), _signals() as stop:
        sweep = header(scenario, command)
        with opened(folder(scenario), sweep, notice) as journal:
            on_start(sweep, journal.path.parent)
            stored = done = 0
            progress(done, len(cells))
            source = _source(scenario, cells, fitting, notice, stop.listening)
            try:
                for finished in source:
                    for record in finished.records:
                        on_record(journal.add(record))
                    stored, done = stored + finished.stored, done + 1
                    progress(done, len(cells))
            except Stopped:
                why = f"stopped by {stop.signal.name if stop.signal else 'a signal'} before it was finished"
                blank = [r for cell in cells for r in without_figures(scenario, cell, "interrupted", why)]
                for record in blank:
                    if record not in journal:
                        on_record(journal.add(record))
            finally:
                source.close()
            records = journal.close()
    return Outcome(sweep, records, folder(scenario), len(cells), stored, stop.signal if done < len(cells) else None)


def header(scenario: Scenario, command: str) -> Sweep:
    """The header of a run on this machine, as it is set now."""
    module = scenario.module
    memory = round(memory_of_machine() / GIB, 1)
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "memory_gib": memory}
    return Sweep(
        scenario=scenario.name, sweep_id=scenario.config_hash[:12], config_hash=scenario.config_hash,
        experiment=scenario.experiment, title=scenario.title, question=scenario.question, method=module.METHOD,
        metrics=tuple(module.METRICS), axes=scenario.axes, arms=scenario.arms, expect=scenario.expect,
        seeds=scenario.seeds, resolved=scenario.resolved, command=command, manifest={**environment(), **machine},
        unit=getattr(module, "UNIT", "world"),
    )


def workers_that_fit(scenario: Scenario, cells: Sequence[Cell], wanted: int, notice: Callable[[str], None]) -> int:
    """How many of the wanted workers the memory allows. Raises InputError where not even one cell fits."""
    need = LIBRARIES_BYTES + max(scenario.module.memory_bytes(cell.arms) for cell in cells)
    memory = memory_of_machine()
    if need > memory:
        raise InputError(str(scenario.path), f"a cell that needs about {need / GIB:.3g} GiB of memory",
                         f"at most the machine's {memory / GIB:.3g} GiB",
                         "Lower widths, numbers of humans and siblings, or the number of arms")
    fitting = max(1, min(wanted, memory // need))
    if fitting < wanted:
        notice(f"{fitting} of {wanted} workers: a cell needs about {need / GIB:.3g} GiB of the machine's "
               f"{memory / GIB:.3g} GiB of memory")
    return fitting


def memory_of_machine() -> int:
    """Bytes of memory this process may use: the machine's, or the control group's limit where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def _source(
    scenario: Scenario,
    cells: Sequence[Cell],
    workers: int,
    notice: Callable[[str], None],
    listening: Callable[[], AbstractContextManager[None]],
) -> Generator[CellDone, None, None]:
    seeds = [[i for i, cell in enumerate(cells) if cell.seed == seed] for seed in scenario.seeds]
    if workers > 1:
        yield from pool.run(scenario, cells, seeds, workers, notice, listening)
    else:
        for positions in seeds:
            for position in positions:
                with listening():
                    finished = run_cell(scenario, cells[position], notice)
                yield finished


@contextmanager
def _signals() -> Iterator[Stop]:
    """A `Stop` that answers SIGINT and SIGTERM; only the main thread may set one, elsewhere it stays deaf."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
