"""Gradients for samplers beside other tools: 64 chains of 4-16-16-1 on 200 questions, on one core."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from reuse_sim.bench import others
from reuse_sim.bench.peak import burner
from reuse_sim.bench.timing import Repeat, machine, one_core, paired, ratio
from reuse_sim.bench.training import FLOOR, has, key
from reuse_sim.engines import installed
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.train import value_and_grad

CHAINS, QUESTIONS = 64, 200
NET = Mlp((4, 16, 16, 1), "tanh")
COLUMNS = {"gradients": ["variant", "gradients_per_s", "ratio_to_jax_vmap", "ratio_to_pyro_nuts", "share_of_peak"]}


def bench(rounds: int) -> dict[str, Any]:
    """One table: gradients per second of every tool that is installed."""
    g = stream(0, "bench")
    theta = torch.randn(CHAINS, NET.p, generator=g) * NET.prior_sd()
    x = torch.randn(QUESTIONS, 4, generator=g)
    y = torch.sin(x.sum(1, keepdim=True))
    with one_core():
        variants: dict[str, Repeat] = {"torch.func vmap": others.vmap_gradients(NET, theta, x, y)}
        for engine in installed():
            function = value_and_grad(NET, x, y, engine=engine)
            variants[f"{engine} engine"] = _times(lambda function=function: function(theta), 20)
        if has("jax"):
            variants["JAX jit(vmap)"] = _times(others.jax_gradients(NET, theta, x, y, None), 20)
            variants["JAX chunked"] = _times(others.jax_gradients(NET, theta, x, y, 16), 20)
        counts: dict[str, Callable[[], int]] = dict.fromkeys(variants, lambda: 20 * CHAINS)
        counts["torch.func vmap"] = lambda: CHAINS
        variants["Pyro NUTS"], counts["Pyro NUTS"] = others.pyro_nuts(NET, x, y, 3)
        if has("blackjax"):
            variants["BlackJAX NUTS"], counts["BlackJAX NUTS"] = others.blackjax_nuts(NET, theta, x, y, 5)
        burn, burnt = burner()
        seconds = paired({**variants, FLOOR: burn}, rounds)
    products = [a * b for a, b in zip(NET.sizes, NET.sizes[1:], strict=False)]
    flops = 2.0 * QUESTIONS * (3 * sum(products) - products[0])
    each = {name: [s / counts[name]() for s in seconds[name]] for name in variants}
    each[FLOOR] = [s / burnt * flops for s in seconds[FLOOR]]
    rows = []
    for name, times in each.items():
        rows.append({
            "table": "gradients", "variant": name, "gradients_per_s": 1 / statistics.median(times),
            **{f"ratio_to_{key(other)}": ratio(each[other], times) for other in each if other != name},
            "share_of_peak": ratio(each[FLOOR], times),
        })  # fmt: skip
    return {"rows": rows, "machine": machine(burnt / statistics.median(seconds[FLOOR]))}


def _times(repeat: Repeat, count: int) -> Repeat:
    def many() -> None:
        for _ in range(count):
            repeat()

    return many
