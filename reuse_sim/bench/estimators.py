"""Estimators of specialness beside what a user would otherwise take: error in bits for processor seconds, on one core.

The same problems in one run, each with a known answer. Efficiency is mean squared error times seconds, which more
effort leaves as it is: a ratio of 4 is the same error in a quarter of the time. laplace-torch and devinterp bring other
torch versions along and cannot be installed beside this project; their methods are `laplace` and `wbic` here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from reuse_sim.artifacts import environment
from reuse_sim.bench import others
from reuse_sim.bench.timing import one_core
from reuse_sim.bench.training import has, key
from reuse_sim.machine import cpu_name
from reuse_sim.rng import stream
from reuse_sim.specialness import cases, estimate
from reuse_sim.specialness.cases import Case

SPECTRUM = tuple(10.0 ** (k / 5) for k in range(-5, 15))
PROBLEMS: dict[str, tuple[Case, Callable[[], tuple[Any, Any]]]] = {
    "ball of 10, 12.5 bits": (cases.ball(10, 0.5), partial(others.ball, 10, 0.5)),
    "ball of 30, 28 bits": (cases.ball(30, 2.0), partial(others.ball, 30, 2.0)),
    "evidence of 20, steep and flat": (
        cases.evidence(SPECTRUM, shift=0.3, strength=2.0), partial(others.quadratic, SPECTRUM, 0.3, 2.0)),
}  # fmt: skip
COLUMNS = {name: ["variant", "rms_error_bits", "mean_error_bits", "seconds", "times_as_efficient_as_smc"]
           for name in PROBLEMS}

Answer = Callable[[int], float]
"""Bits by the stream of that number."""


def bench(rounds: int) -> dict[str, Any]:
    """A table per problem; a variant's answers in each round are from another stream."""
    rows = []
    with one_core():
        for name, (case, restated) in PROBLEMS.items():
            variants: dict[str, Answer] = {
                method: partial(_ours, case, method) for method in ("smc", "subset", "hmc", "thermodynamic")
            }
            if has("dynesty"):
                variants["dynesty"] = partial(others.dynesty, *restated(), case.problem)
            if has("blackjax") and not case.problem.hard:
                variants["BlackJAX tempered SMC"] = partial(others.blackjax_smc, *restated(), case.problem)
            rows += _table(name, case.bits, variants, rounds)
    return {"rows": rows, "machine": {"cpu": cpu_name(), **environment()}}


def _ours(case: Case, method: str, seed: int) -> float:
    return estimate(case.problem, method, generator=stream(seed, f"bench/{method}")).bits


def _table(name: str, exact: float, variants: dict[str, Answer], rounds: int) -> list[dict[str, Any]]:
    errors: dict[str, list[float]] = {variant: [] for variant in variants}
    seconds = {variant: 0.0 for variant in variants}
    for answer in variants.values():
        answer(-1)  # what is compiled or loaded at first
    for k in range(rounds):
        for variant, answer in variants.items():
            start = time.process_time()
            errors[variant].append(answer(k) - exact)
            seconds[variant] += time.process_time() - start
    square = {variant: sum(e * e for e in found) / rounds for variant, found in errors.items()}
    price = {variant: square[variant] * seconds[variant] / rounds for variant in variants}
    return [{
        "table": name, "variant": variant, "rms_error_bits": square[variant] ** 0.5,
        "mean_error_bits": sum(errors[variant]) / rounds, "seconds": seconds[variant] / rounds,
        "times_as_efficient_as_smc": price["smc"] / price[variant],
        **{f"ratio_to_{key(other)}": price[other] / price[variant] for other in variants if other != variant},
    } for variant in variants]  # fmt: skip
