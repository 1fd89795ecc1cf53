"""Paired timing: every variant once per round, in processor seconds."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from reuse_sim.artifacts import environment
from reuse_sim.machine import cpu_name, one_thread

Repeat = Callable[[], object]


def paired(variants: Mapping[str, Repeat], rounds: int, clock: Callable[[], float] = time.process_time) -> dict:
    """Seconds of every variant in every round, `{name: [seconds, …]}`; each has run twice before the first round."""
    for repeat in variants.values():
        repeat()
        repeat()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, repeat in variants.items():
                start = clock()
                repeat()
                seconds[name].append(clock() - start)
    finally:
        gc.enable()
    return seconds


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median over rounds of one variant's seconds per another's."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


@contextmanager
def one_core() -> Iterator[None]:
    """One processor and one thread for everything started inside, where the system lets us choose."""
    choose = getattr(os, "sched_setaffinity", None)
    cores = os.sched_getaffinity(0) if choose else set()
    # Read by JAX when it is first imported.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    if choose:
        choose(0, {max(cores)})
    try:
        with one_thread():
            yield
    finally:
        if choose:
            choose(0, cores)


def machine(peak: float) -> dict[str, Any]:
    """What the figures were measured on; `peak` in flops per second of one core."""
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "peak_gflops": peak / 1e9, **environment()}

