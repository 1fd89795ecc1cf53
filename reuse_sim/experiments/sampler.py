"""Does descent draw functions as the prior does? How often trained seeds end in a function, against its prior share.

One cell is one problem: a Boolean function drawn from the prior of small networks, and the questions that are told of
it. Many networks descend on those; each ends in one of the functions that agree with what it was told. Arms differ in
how they descend and from what scale of initialisation, which leaves the prior over functions exactly as it is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.engines.spec import Adam, Fixed, Head, Sgd
from reuse_sim.nets import Mlp
from reuse_sim.plugins import STRICT
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream
from reuse_sim.specialness import boolean, frequency
from reuse_sim.train import train
from reuse_sim.worlds.boolean import leap, spectrum

CHUNK = 4000
FEWEST = 50
"""Draws of the prior that a function must have been found by for its share to count."""

METHOD = (
    "A Boolean function and some of its questions are drawn; P_B of a function is its share among draws of the prior "
    "of ReLU networks that answer those as told, P_OPT its share among networks whose descent got all of them right. "
    "Apart from this, networks are told all answers of needles (functions of leap 2 or more: no ladder of Fourier "
    "characters leads up to them) and of staircases (leap 1) whose prior share is as equal as can be found, and the "
    "shares of descents that get there within the same steps are compared."
)

UNIT = "problem"

METRICS = (
    Metric("sampler/slope", "", "Least-squares slope of log P_OPT on log P_B over the prior's likeliest functions; 1 "
           "where descent draws as the prior does. Half a descent is added to each function.", headline=True),
    Metric("sampler/correlation", "", "Of log P_OPT and log P_B over the same functions.", headline=True),
    Metric("sampler/total_variation", "", "Between P_OPT and P_B on the same functions, all others taken as one.",
           r"\tfrac12 \sum |P_{OPT} - P_B|", headline=True),
    Metric("sampler/chance_variation", "", "What that would be by chance if descents were as many draws of the prior."),
    Metric("sampler/reached", "share", "Networks whose descent answered as told."),
    Metric("sampler/functions", "", "How many functions that is: the prior's `top`, if it drew them often enough."),
    Metric("sampler/staircase_bits", "bits", "How much more often descents reach a staircase than a needle of the same "
           "prior share, mean over pairs.", r"\log_2 P_{OPT}(\mathrm{staircase}) / P_{OPT}(\mathrm{needle})",
           headline=True),
    Metric("sampler/prior_gap_bits", "bits", "How well pairs match: the same of their prior shares, in fresh draws."),
    Metric("sampler/staircase_reached", "share", "Descents told all of a staircase that reach it."),
    Metric("sampler/needle_reached", "share", "Descents told all of a needle that reach it."),
)


class Config(BaseModel):
    model_config = STRICT

    inputs: int = Field(3, ge=2, le=4, description="bits of a question")
    width: int = Field(8, ge=1, le=256, description="hidden units")
    told: int = Field(4, ge=1, le=16, description="questions whose answers are told, of 2^inputs")
    draws: int = Field(1_000_000, ge=1000, le=10**9, description="of the prior")
    networks: int = Field(2000, ge=50, le=10**6, description="that descend")
    top: int = Field(16, ge=3, le=1000, description="functions compared, the likeliest of the prior")
    pairs: int = Field(4, ge=1, le=100, description="of a staircase and a needle")
    scale: float = Field(1.0, gt=0, le=100, description="of the initialisation: α, and α² for the output's bias")
    optimizer: Literal["adam", "sgd"] = "adam"
    rate: float = Field(0.01, gt=0, le=10)
    steps: int = Field(1000, ge=1, le=10**6, description="at most, where some answers are told")
    budget: int = Field(200, ge=1, le=10**6, description="steps towards staircases and needles")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One problem; arms share the prior's draws."""
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One arm. Undecided where too few functions were found often enough to be compared."""
    about = {"inputs": config.inputs, "width": config.width, "draws": config.draws}
    prior = store.stage("prior", draw_prior, config=about, seed=seed)
    trained = store.stage("descents", descend_on_some, prior, config=config, seed=seed)
    pairs = store.stage("pairs", find_pairs, prior, config={**about, "pairs": config.pairs}, seed=seed)
    reached = store.stage("climbs", descend_on_pairs, pairs, config=config, seed=seed)

    metrics = compared(trained.tensors["prior"], trained.tensors["found"], config.top)
    metrics["sampler/reached"] = trained.values["reached"]
    metrics |= ratio(pairs.values["pairs"], reached.values["reached"], config.networks)
    metrics = {m.name: metrics.get(m.name) for m in METRICS}
    silent = [name for name, value in metrics.items() if value is None]
    why = f"not told, for too few functions were drawn {FEWEST} times: {', '.join(silent)}" if silent else ""
    diagnostics = {"target": trained.values["target"], "told": trained.values["told"], "pairs": pairs.values["pairs"],
                   "reached": reached.values["reached"]}
    sha256 = hashlib.sha256((trained.sha256 + reached.sha256).encode()).hexdigest()
    return Measured(metrics, diagnostics, sha256, "undecided" if metrics["sampler/slope"] is None else "ok", why)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the counts of all functions, and the networks in training."""
    def one(c: Config) -> int:
        net = network(c.inputs, c.width)
        return 8 * (2 * 2**2**c.inputs + c.networks * (16 * net.p + 8 * sum(net.sizes) * 2**c.inputs))

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


# Stages ----------------------------------------------------------------------------------------------


def draw_prior(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """How often each function was drawn, `(2^2^inputs,)`."""
    return {"counts": drawn(config["inputs"], config["width"], config["draws"], stream(seed, "prior"))}, {}


def descend_on_some(prior: Stored, config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Counts over the functions that agree with what was told, of prior draws and of descents."""
    n, generator = config.inputs, stream(seed, "problem")
    told = torch.randperm(2**n, generator=generator)[: min(config.told, 2**n)]
    target = target_of(prior.tensors["counts"], told, generator)
    theta, reached = descents(config, table(n, target), told, config.steps, seed, "descents")
    codes = code(boolean.truth_table(network(n, config.width), theta[reached]))
    agree = agreeing(n, target, told)
    found = torch.bincount(codes, minlength=2**2**n)[agree]
    share = float(reached.double().mean())
    return ({"prior": prior.tensors["counts"][agree], "found": found, "functions": agree, "theta": theta},
            {"target": int(target), "told": told.tolist(), "reached": share})


def find_pairs(prior: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The likeliest needles, each with the staircase drawn most nearly as often; bits of both in fresh draws."""
    n, counts = config["inputs"], prior.tensors["counts"]
    often = (counts >= FEWEST).nonzero().squeeze(1)
    leaps = torch.tensor([leap_of(n, int(f)) for f in often], dtype=torch.long)
    needles, stairs = often[leaps >= 2], often[leaps == 1]
    pairs = []
    for needle in needles[counts[needles].argsort(descending=True, stable=True)][: config["pairs"]]:
        if len(stairs):
            at = int((counts[stairs].double().log() - counts[needle].double().log()).abs().argmin())
            pairs.append({"needle": int(needle), "staircase": int(stairs[at])})
            stairs = torch.cat([stairs[:at], stairs[at + 1 :]])
    fresh = drawn(n, config["width"], config["draws"] if pairs else CHUNK, stream(seed, "prior/again"))
    for pair in pairs:
        for kind in ("needle", "staircase"):
            hits = int(fresh[pair[kind]])
            pair[f"{kind}_bits"] = math.log2(config["draws"] / max(hits, 0.5))
    return {}, {"pairs": pairs}


def descend_on_pairs(pairs: Stored, config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """How often descents that are told everything end in each staircase and needle, with limits."""
    n, out = config.inputs, []
    everything = torch.arange(2**n)
    for i, pair in enumerate(pairs.values["pairs"]):
        row: dict[str, Any] = {}
        for kind in ("needle", "staircase"):
            truth = table(n, pair[kind])
            theta, _ = descents(config, truth, everything, config.budget, seed, f"pair/{i}")
            problem = boolean.problem(n, truth, config.width)
            said = frequency.estimate_from(theta.double(), problem, reference="networks that descended on its answers")
            row |= {kind: said.diagnostics["hits"] / config.networks, f"{kind}_bits": said.bits,
                    f"{kind}_low": said.low, f"{kind}_high": said.high}
        out.append(row)
    return {}, {"reached": out}


# Parts -----------------------------------------------------------------------------------------------


def network(n: int, width: int) -> Mlp:
    """The ReLU perceptron n-`width`-1 of `specialness.boolean.problem`."""
    return Mlp((n, width, 1), "relu")


def code(tables: Tensor) -> Tensor:
    """Truth tables `(…, 2^n)` as numbers: bit r is the answer to question r."""
    return (tables.long() << torch.arange(tables.shape[-1])).sum(-1)


def table(n: int, function: int | Tensor) -> Tensor:
    """The inverse: booleans `(2^n,)`."""
    return (int(function) >> torch.arange(2**n) & 1).bool()


def leap_of(n: int, function: int) -> int:
    """Leap of a Boolean function: of the sets of its Fourier characters that are not 0, the empty one left out."""
    coefficients = spectrum(1.0 - 2 * table(n, function).double())
    return leap([i for i in range(n) if r >> i & 1] for r in range(1, 2**n) if abs(float(coefficients[r])) > 1e-9)


def drawn(n: int, width: int, draws: int, generator: torch.Generator) -> Tensor:
    """How often each function `(2^2^n,)` is what a network drawn from the prior computes."""
    counts = torch.zeros(2**2**n, dtype=torch.long)
    reference, net = boolean.problem(n, "first", width).reference, network(n, width)
    for first in range(0, draws, CHUNK):
        theta = reference.sample(min(CHUNK, draws - first), generator).float()
        counts += torch.bincount(code(boolean.truth_table(net, theta)), minlength=len(counts))
    return counts


def agreeing(n: int, target: int, told: Tensor) -> Tensor:
    """All functions that answer the told questions as the target does, in order."""
    mask = int((1 << told).sum())
    every = torch.arange(2**2**n)
    return every[(every & mask) == (target & mask)]


def target_of(counts: Tensor, told: Tensor, generator: torch.Generator) -> int:
    """A function drawn as the prior draws it, of those whose told answers are not all the same."""
    mask, every = int((1 << told).sum()), torch.arange(len(counts))
    alike = ((every & mask) == 0) | ((every & mask) == mask)
    weights = counts.double().masked_fill(alike, 0.0)
    return int(torch.multinomial(weights, 1, generator=generator))


def descents(
    config: Config, truth: Tensor, told: Tensor, steps: int, seed: int, name: str
) -> tuple[Tensor, Tensor]:
    """θ `(networks, p)` after descending on the told answers, and which of them give all of these `(networks,)`.

    A network stops once its mean logistic loss is below ln 2 over the number of questions, when each must be right.
    """
    n, net = config.inputs, network(config.inputs, config.width)
    reference = boolean.problem(n, "first", config.width).reference
    scale = torch.full((net.p,), config.scale, dtype=torch.float64)
    scale[net.fields[-1].slice] = config.scale**2
    start = (reference.sample(config.networks, stream(seed, f"{name}/init")) * scale).float()
    x, y = boolean.questions(n)[told].float(), truth[told].float().unsqueeze(1)
    optimizer = Adam(config.rate) if config.optimizer == "adam" else Sgd(config.rate)
    fit = train(net, start, Fixed(x, y), steps=steps, optimizer=optimizer, heads=(Head("logistic"),),
                schedule="constant", stop_loss=math.log(2) / len(told))
    right = (boolean.truth_table(net, fit.theta)[:, told] == truth[told]).all(-1)
    return fit.theta, right


def compared(prior: Tensor, found: Tensor, top: int) -> dict[str, float | None]:
    """The metrics of two counts `(k,)` over the same functions.

    Which functions are looked at is the prior's choice alone: a choice by what descents found would flatten the slope.
    """
    draws, networks = int(prior.sum()), int(found.sum())
    if not draws or not networks:
        return {"sampler/functions": 0.0}
    first = prior.argsort(descending=True, stable=True)[:top]
    kept = first[prior[first] >= FEWEST]
    p_b, p_opt = ((c / c.sum())[first] for c in (prior.double(), found.double()))
    rest = float(p_b.sum()) - float(p_opt.sum())
    out: dict[str, float | None] = {
        "sampler/functions": float(len(kept)),
        "sampler/total_variation": (float((p_opt - p_b).abs().sum()) + abs(rest)) / 2,
        # Of a count of mean Np, E|count/N - p| is about √(2p(1 − p)/πN).
        "sampler/chance_variation": float((2 * p_b * (1 - p_b) / (math.pi * networks)).sqrt().sum()) / 2,
    }
    if len(kept) >= 3:
        a = (prior[kept].double() / draws).log().numpy()
        b = ((found[kept].double() + 0.5) / (networks + 1)).log().numpy()
        slope, _ = np.polyfit(a, b, 1)
        out |= {"sampler/slope": float(slope), "sampler/correlation": float(np.corrcoef(a, b)[0, 1])}
    return out


def ratio(
    pairs: Sequence[Mapping[str, Any]], reached: Sequence[Mapping[str, Any]], networks: int
) -> dict[str, float | None]:
    """The metrics of pairs, means over them; half a hit is added so that none at all has a logarithm."""
    if not pairs:
        return {}

    def mean(values: Any) -> float:
        return sum(values) / len(pairs)

    def log(share: float) -> float:
        return math.log2((share * networks + 0.5) / (networks + 1))

    return {
        "sampler/staircase_bits": mean(log(r["staircase"]) - log(r["needle"]) for r in reached),
        "sampler/prior_gap_bits": mean(p["needle_bits"] - p["staircase_bits"] for p in pairs),
        "sampler/staircase_reached": mean(r["staircase"] for r in reached),
        "sampler/needle_reached": mean(r["needle"] for r in reached),
    }
