"""Cells in spawned worker processes, one seed to a worker while there are seeds, then points of others' seeds.

Workers never outlive the run: they are killed when it stops, and end themselves when it is killed.
Killing one is safe at any moment, since stored results are whole or absent.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from reuse_sim.plugins import project_path
from reuse_sim.scenario import Cell, Scenario
from reuse_sim.sweep.cells import FULL, CellDone, run_cell, without_figures

_spawn = multiprocessing.get_context("spawn")


@dataclass
class _Worker:
    process: BaseProcess
    pending: deque[int]
    """Positions of the cells that are its, and not finished; it is at the first."""


def run(
    scenario: Scenario,
    cells: Sequence[Cell],
    seeds: Sequence[Sequence[int]],
    workers: int,
    notice: Callable[[str], None],
    listening: Callable[[], AbstractContextManager[None]],
) -> Generator[CellDone, None, None]:
    """Yield every cell as it is finished.

    Args:
        seeds: positions of the cells that stay together, in order, per seed: they share stored stages. A worker
            for which no seed is left takes the later half of what is left of the longest.
        workers: how many processes at most.
        listening: within it, and only there, a signal may raise.

    A cell whose worker died is yielded as failed. Raises OSError where the disk is full. Closing the
    iterator kills the workers.
    """
    todo = deque(deque(positions) for positions in seeds)
    active: dict[Connection, _Worker] = {}
    try:
        while todo or active:
            while len(active) < workers and (positions := _next(todo, active.values())):
                connection, worker = _start(scenario, positions)
                active[connection] = worker
                _give(connection, worker)
            with listening():
                ready = wait(list(active))
            for connection in ready:
                assert isinstance(connection, Connection)
                worker = active[connection]
                try:
                    kind, content = connection.recv()
                except (EOFError, OSError):
                    del active[connection]
                    worker.process.join()
                    if worker.pending:
                        cell = cells[worker.pending.popleft()]
                        yield CellDone(without_figures(scenario, cell, "failed", _death(worker.process)), False)
                    if worker.pending:
                        todo.appendleft(worker.pending)
                    continue
                if kind == "notice":
                    notice(content)
                elif kind == "full":
                    raise OSError(*content)
                else:
                    worker.pending.popleft()
                    worker.pending = worker.pending or _next(todo, active.values())
                    if worker.pending:
                        _give(connection, worker)
                    else:
                        del active[connection]
                        connection.close()  # The worker sees the end and goes.
                        worker.process.join()
                    yield content
    finally:
        for worker in active.values():
            worker.process.kill()
        for connection, worker in active.items():
            connection.close()
            worker.process.join()


def _next(todo: deque[deque[int]], active: Iterable[_Worker]) -> deque[int]:
    """A seed that nobody has begun, else the later half of the most that a worker has before it, else nothing."""
    if todo:
        return todo.popleft()
    longest = max((w.pending for w in active), key=len, default=deque[int]())
    return deque(reversed([longest.pop() for _ in range(len(longest) // 2)]))


def _start(scenario: Scenario, positions: deque[int]) -> tuple[Connection, _Worker]:
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=_work, args=(theirs, scenario.project), daemon=True)
    with _deaf_to_interrupts():
        process.start()
    theirs.close()
    worker = _Worker(process, positions)
    with suppress(OSError):  # It may have died already; the next read tells.
        ours.send(scenario)
    return ours, worker


def _give(connection: Connection, worker: _Worker) -> None:
    with suppress(OSError):  # It may have died already; the next read tells.
        connection.send(worker.pending[0])


def _work(connection: Connection, project: Path) -> None:
    """The worker's main: cells until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    with project_path(project):  # A user's experiment must be importable for its configs to be received.
        scenario: Scenario = connection.recv()
        cells = scenario.cells()

        def notice(text: str) -> None:
            connection.send(("notice", text))

        while True:
            try:
                position = connection.recv()
            except EOFError:
                return
            try:
                connection.send(("done", run_cell(scenario, cells[position], notice)))
            except OSError as error:
                if error.errno not in FULL:
                    raise
                connection.send(("full", (error.errno, error.strerror, error.filename)))
                return


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _death(process: BaseProcess) -> str:
    code = process.exitcode or 0
    if code == -signal.SIGKILL:
        return ("its worker process was killed, as the system does when memory runs out; try fewer workers or a "
                "smaller scenario")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its worker process ended with {how}"


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Block SIGINT around a start: the child inherits that, so that Ctrl-C is the parent's alone to answer."""
    resource_tracker.ensure_running()  # It would unblock the signal if it were first started within.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
