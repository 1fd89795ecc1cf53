"""Samplers beside other tools: 64 chains of 4-16-16-1 on 200 questions, on one core.

Gradients per second, alone and inside of samplers; and what they are for, effective draws per second. Those are the
fewest of 17 functions that copies of a network share, 16 answers and the loss, without warm-up.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from reuse_sim.bench import others
from reuse_sim.bench.peak import burner
from reuse_sim.bench.timing import Repeat, machine, one_core, paired, ratio
from reuse_sim.bench.training import FLOOR, has, key
from reuse_sim.engines import installed
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import hmc
from reuse_sim.train import value_and_grad

CHAINS, QUESTIONS = 64, 200
NET = Mlp((4, 16, 16, 1), "tanh")
COLUMNS = {
    "gradients": ["variant", "gradients_per_s", "ratio_to_jax_vmap", "ratio_to_pyro_nuts", "share_of_peak"],
    "effective draws": ["variant", "effective_per_s", "rhat_max", "ratio_to_numpyro_nuts"],
}
WARMUP, DRAWS = 300, 100
STEP, LEAPFROGS = 0.02, 20
"""Of the samplers whose gradients are counted."""


def bench(rounds: int) -> dict[str, Any]:
    """Both tables, of every tool that is installed."""
    g = stream(0, "bench")
    theta = torch.randn(CHAINS, NET.p, generator=g) * NET.prior_sd()
    x = torch.randn(QUESTIONS, 4, generator=g)
    y = torch.sin(x.sum(1, keepdim=True))
    with one_core():
        useful = effective(theta, x, y, rounds)
        variants: dict[str, Repeat] = {"torch.func vmap": others.vmap_gradients(NET, theta, x, y)}
        for engine in installed():
            function = value_and_grad(NET, x, y, engine=engine)
            variants[f"{engine} engine"] = _times(lambda function=function: function(theta), 20)
            variants[f"ChEES {engine} engine"] = chees_gradients(theta, x, y, engine)
        if has("jax"):
            variants["JAX jit(vmap)"] = _times(others.jax_gradients(NET, theta, x, y, None), 20)
            variants["JAX chunked"] = _times(others.jax_gradients(NET, theta, x, y, 16), 20)
        counts: dict[str, Callable[[], int]] = dict.fromkeys(variants, lambda: 20 * CHAINS)
        counts["torch.func vmap"] = lambda: CHAINS
        counts |= {f"ChEES {engine} engine": lambda: LEAPFROGS * CHAINS for engine in installed()}
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
    return {"rows": rows + useful, "machine": machine(burnt / statistics.median(seconds[FLOOR]))}


def potential(x: Tensor, y: Tensor, engine: str) -> hmc.Potential:
    """Minus log density of θ ~ N(0, I) and answers with noise of variance ½, by an engine's gradients."""
    function, n = value_and_grad(NET, x, y, engine=engine), len(x)

    def at(theta: Tensor) -> tuple[Tensor, Tensor]:
        loss, slope = function(theta)
        return torch.add(theta.square().sum(-1) / 2, loss, alpha=n), torch.add(theta, slope, alpha=n)

    return at


def chees_gradients(theta: Tensor, x: Tensor, y: Tensor, engine: str) -> Repeat:
    """One iteration of all chains."""
    target, tuning = potential(x, y, engine), hmc.Tuning(STEP, STEP * LEAPFROGS, torch.ones(NET.p))
    state, g = hmc.init(target, theta), stream(0, "bench/chees")
    return lambda: hmc.step(target, state, tuning, 1.0, g)


def effective(theta: Tensor, x: Tensor, y: Tensor, rounds: int) -> list[dict[str, Any]]:
    """Effective draws per processor second of samplers that are warmed up, one after another in each round."""
    asked = x[:16]
    samplers: dict[str, Callable[[int], Tensor]] = {}
    for engine in installed():
        target, g = potential(x, y, engine), stream(0, "bench/draws")
        now = hmc.begin(target, theta)
        for _ in range(WARMUP):
            now = hmc.adapt(target, now, g)
        samplers[f"ChEES {engine} engine"] = partial(_collect, target, now)
    if has("numpyro"):
        samplers["NumPyro NUTS"] = others.numpyro_nuts(NET, theta, x, y, WARMUP, DRAWS)
        samplers["NumPyro NUTS"](0)
    rates: dict[str, list[float]] = {name: [] for name in samplers}
    agreement = dict.fromkeys(samplers, 0.0)
    for k in range(rounds):
        for name, draw in samplers.items():
            start = time.process_time()
            draws = draw(k + 1)
            seconds = time.process_time() - start
            flat = draws.flatten(0, 1)
            answers = torch.cat([NET.forward(rows, asked)[..., 0] for rows in flat.split(256)])
            loss = torch.cat([(NET.forward(rows, x) - y).square().mean((1, 2)) for rows in flat.split(256)])
            functions = torch.cat([answers, loss[:, None]], -1).unflatten(0, draws.shape[:2])
            rhat, fewest = hmc.mixing(functions.double())
            rates[name].append(fewest / seconds)
            agreement[name] = max(agreement[name], rhat)
    return [{
        "table": "effective draws", "variant": name, "effective_per_s": statistics.median(rates[name]),
        "rhat_max": agreement[name],
        **{f"ratio_to_{key(other)}": ratio(rates[name], rates[other]) for other in samplers if other != name},
    } for name in samplers]  # fmt: skip


def _collect(target: hmc.Potential, now: hmc.Warmup, seed: int) -> Tensor:
    return hmc.collect(target, now, DRAWS, stream(seed, "bench/draws")).z


def _times(repeat: Repeat, count: int) -> Repeat:
    def many() -> None:
        for _ in range(count):
            repeat()

    return many
