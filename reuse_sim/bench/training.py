"""Training beside other tools: microseconds of one core per network and step."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from reuse_sim.bench import others
from reuse_sim.bench.peak import burner
from reuse_sim.bench.timing import Repeat, machine, one_core, paired, ratio
from reuse_sim.engines import installed
from reuse_sim.engines.spec import Adam, Fixed, Optimizer, Sgd
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.train import train

INPUTS, QUESTIONS = 4, 128
WIDTHS = (16, 64, 128)
MANY, FEW = 10_000, 100
FLOOR = "floor"
COLUMNS = {
    "training": ["variant", "width", "us_per_network_step", "ratio_to_loop", "ratio_to_jax_chunked", "share_of_peak"],
    "optimizer": ["variant", "width", "adam_per_sgd"],
    "population": ["variant", "width", "us_per_network_step", "many_per_few", "resident_gb"],
    "threads": ["variant", "width", "two_threads_gain"],
}
"""What is shown of each table."""


def bench(rounds: int) -> dict[str, Any]:
    """All tables: beside other tools, Adam beside SGD, large populations, two threads."""
    rows = [row for engine in installed() for row in in_a_process(population, engine)]
    with one_core():
        burn, flops = burner()
        peak = flops / statistics.median(paired({"peak": burn}, rounds)["peak"])
        for width in WIDTHS:
            rows += beside(width, rounds)
            rows += optimizers(width, rounds)
    rows += threads(rounds)
    return {"rows": rows, "machine": machine(peak)}


def net_of(width: int) -> Mlp:
    return Mlp((INPUTS, width, width, 1), "tanh")


def material(net: Mlp, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """θ `(count, p)`, and the same questions and targets for all."""
    g = stream(0, "bench")
    theta = torch.randn(count, net.p, generator=g) * net.prior_sd()
    x = torch.randn(QUESTIONS, INPUTS, generator=g)
    return theta, x, torch.sin(x.sum(1, keepdim=True))


def flops(net: Mlp) -> float:
    """Of one network's step: forward and both backward products, the first layer without the second of them."""
    sizes = [a * b for a, b in zip(net.sizes, net.sizes[1:], strict=False)]
    return 2.0 * QUESTIONS * (3 * sum(sizes) - sizes[0])


def ours(engine: str, net: Mlp, count: int, steps: int, optimizer: Optimizer, threads: int = 1) -> Repeat:
    theta, x, y = material(net, count)
    return partial(
        train, net, theta, Fixed(x, y), steps=steps, optimizer=optimizer, schedule="constant", engine=engine,
        threads=threads,
    )  # fmt: skip


def beside(width: int, rounds: int) -> list[dict[str, Any]]:
    """One table row per tool that is installed."""
    net, sgd = net_of(width), Sgd(others.RATE, others.MOMENTUM)
    sizes: dict[str, tuple[int, int]] = {"loop": (2, 25), "torch.func vmap": (32, 8)}
    variants: dict[str, Repeat] = {
        "loop": others.loop(net, *material(net, 2), 25),
        "torch.func vmap": others.vmap(net, *material(net, 32), 8),
    }
    for engine in installed():
        variants[f"{engine} engine"], sizes[f"{engine} engine"] = ours(engine, net, 32, 100, sgd), (32, 100)
    if has("jax"):
        for name, chunk in (("JAX jit(vmap)", None), ("JAX chunked", others.JAX_CHUNK)):
            variants[name], sizes[name] = others.jax_train(net, *material(net, 100), 20, chunk), (100, 20)
    burn, burnt = burner()
    seconds = paired({**variants, FLOOR: burn}, rounds)
    each = {name: [s / (sizes[name][0] * sizes[name][1]) for s in seconds[name]] for name in variants}
    each[FLOOR] = [s / burnt * flops(net) for s in seconds[FLOOR]]
    rows = []
    for name, times in each.items():
        rows.append({
            "table": "training", "variant": name, "width": width,
            "us_per_network_step": statistics.median(times) * 1e6,
            **{f"ratio_to_{key(other)}": ratio(each[other], times) for other in each if other != name},
            "share_of_peak": ratio(each[FLOOR], times),
        })  # fmt: skip
    return rows


def optimizers(width: int, rounds: int) -> list[dict[str, Any]]:
    """Adam's time per SGD's, per engine."""
    rows = []
    for engine in installed():
        both = {"sgd": Sgd(others.RATE, others.MOMENTUM), "adam": Adam(others.RATE)}
        seconds = paired({k: ours(engine, net_of(width), 32, 60, o) for k, o in both.items()}, rounds)
        more = ratio(seconds["adam"], seconds["sgd"])
        rows.append({"table": "optimizer", "variant": f"{engine} engine", "width": width, "adam_per_sgd": more})
    return rows


def population(engine: str) -> list[dict[str, Any]]:
    """Time per network in 10⁴ beside 100, and the memory of the process that trained them."""
    rows, steps = [], 20
    with one_core():
        for width in (16, 64):
            net = net_of(width)
            few, many = (ours(engine, net, n, steps, Sgd(others.RATE, others.MOMENTUM)) for n in (FEW, MANY))
            repeat_few = partial(_times, few, MANY // FEW)
            few()
            seconds: dict[str, list[float]] = {"few": [], "many": []}
            for _ in range(3):
                for name, repeat in (("few", repeat_few), ("many", many)):
                    start = time.process_time()
                    repeat()
                    seconds[name].append(time.process_time() - start)
            rows.append({
                "table": "population", "variant": f"{engine} engine", "width": width,
                "us_per_network_step": statistics.median(seconds["many"]) / MANY / steps * 1e6,
                "many_per_few": ratio(seconds["many"], seconds["few"]), "resident_gb": resident(),
            })  # fmt: skip
    return rows


def threads(rounds: int) -> list[dict[str, Any]]:
    """Wall time on one thread per that on two; below 2 where the machine has other things to do."""
    rows = []
    for engine in installed():
        sgd, net = Sgd(others.RATE, others.MOMENTUM), net_of(64)
        variants = {str(n): ours(engine, net, 512, 40, sgd, threads=n) for n in (1, 2)}
        seconds = paired(variants, rounds, time.perf_counter)
        gain = ratio(seconds["1"], seconds["2"])
        rows.append({"table": "threads", "variant": f"{engine} engine", "width": 64, "two_threads_gain": gain})
    return rows


def key(name: str) -> str:
    """A variant's name inside a column's."""
    short = name.lower().replace("torch.func ", "func_").replace("jit(vmap)", "vmap").replace(" engine", "")
    return short.replace(" ", "_")


def has(module: str) -> bool:
    """Whether a module can be imported; it is, then."""
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def resident() -> float:
    """Most memory this process has held, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def in_a_process(function: Callable[[str], list[dict[str, Any]]], argument: str) -> list[dict[str, Any]]:
    """The function's answer from a process of its own, whose memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (argument,))


def _times(repeat: Repeat, count: int) -> None:
    for _ in range(count):
        repeat()
