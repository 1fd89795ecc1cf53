"""Which estimator of specialness to trust with what? All of them on problems whose answers are known.

One cell is one repeat of one kind of problem: every arm, a method, is asked the same problems of that kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, nearest
from reuse_sim.plugins import STRICT
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream
from reuse_sim.specialness import METHODS, Problem, cases, estimate
from reuse_sim.specialness.cases import Case
from reuse_sim.specialness.space import Space
from reuse_sim.types import Estimate

WITHIN = 0.05
"""Share of the exact bits that an error may have and be called right, or one bit where that is more."""

MOST = 1e6
"""Bits beyond which a figure is told as so many."""

KINDS: Mapping[str, Callable[[], Mapping[str, Case]]] = {
    "few": lambda: {
        "ball of 3": cases.ball(3, 0.2),
        "ball of 10": cases.ball(10, 1.5),
        "off-centre ball of 6": cases.ball(6, 1.0, centre=2.0),
        "half-space": cases.half_space(5, 3.0),
        "cap of 8": cases.cap(8, 0.2),
        "product": cases.product(0.01),
    },
    "many": lambda: {
        "ball of 40": cases.ball(40, 4.0),
        "ball of 100": cases.ball(100, 6.0),
        "ball of 300": cases.ball(300, 20.0),
        "half-space at 15": cases.half_space(20, 15.0),
        "cap of 60": cases.cap(60, 0.12),
    },
    "boxed": lambda: {
        "quadratic in a box": cases.dirichlet((2.0,) * 6, 0.05),
        "flat in a box": cases.dirichlet((4.0,) * 6, 0.01),
        "mixed in a box": cases.dirichlet((2.0, 4.0, 6.0, 2.0, 4.0, 2.0, 2.0, 4.0), 0.02),
    },
    "soft": lambda: {
        "isotropic": cases.evidence((2.0,) * 20, shift=0.5, strength=3.0),
        "steep and flat": cases.evidence(tuple(10.0**k for k in range(-2, 4)), shift=0.3, strength=2.0),
        "turned": turned(30, 1.5),
    },
    "kinked": lambda: {"slab": cases.slab(30, 20, 0.4), "orthant": cases.orthant(30), "steps": steps(12, 0.5)},
    "basins": lambda: {
        "two alike": cases.two_basins(3, 3.0, 0.5, 1.0),
        "one wider": cases.two_basins(6, 3.0, 0.5, 0.6),
    },
}

METHOD = (
    "Problems of one kind, each with a known specialness, are put to every method with the same effort and a stream of "
    "its own per repeat. Where a method can start somewhere, it starts at the end of a descent into the event, as from "
    "a trained human. Figures are means over the problems of the kind. An answer is right within one bit or 5 % of the "
    "bits; what a method does not call converged is counted apart."
)

UNIT = "repeat"

METRICS = (
    Metric("estimator/converged", "share", "Problems whose answer the method calls converged.", headline=True),
    Metric("estimator/right", "share", "Problems answered right, within 1 bit or 5 %.", headline=True),
    Metric("estimator/misled", "share", "Problems called converged, yet answered wrong and missed by the limits.",
           headline=True),
    Metric("estimator/inside", "share", "Of converged answers with limits, those whose limits hold the truth.",
           headline=True),
    Metric("estimator/bound_holds", "share", "Of answers that claim a bound, of one side or two, those where it holds.",
           headline=True),
    Metric("estimator/abs_error_bits", "bits", "Mean |bits - exact| of converged answers.", headline=True),
    Metric("estimator/worst_error_bits", "bits", "Largest |bits - exact| of the converged answers of a repeat."),
    Metric("estimator/signed_error_bits", "bits", "Mean of bits - exact of converged answers."),
    Metric("estimator/width_bits", "bits", "Mean width of the limits of converged answers."),
    Metric("estimator/seconds", "processor seconds", "Mean time of an answer.", headline=True),
    Metric("estimator/evaluations", "θ", "Mean number of θ the cost was computed for."),
    Metric("estimator/refused", "share", "Problems the method says it cannot be asked."),
)


class Config(BaseModel):
    model_config = STRICT

    problems: str = Field(description=f"kind of problems: {', '.join(KINDS)}")
    method: str = Field(description="estimator, a name of `reuse_sim.specialness.METHODS`")
    effort: float = Field(1.0, gt=0, le=100)

    @field_validator("problems")
    @classmethod
    def _known_kind(cls, name: str) -> str:
        if name not in KINDS:
            raise ValueError(f"one of {', '.join(KINDS)}{_near(name, KINDS)}")
        return name

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(f"one of {', '.join(METHODS)}{_near(name, METHODS)}")
        return name


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """All arms of one repeat. An arm is undecided where its method can be asked nothing of the kind."""
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One method on the problems of one kind."""
    stored = store.stage("estimates", answer_all, config=config, seed=seed)
    answers, metrics = stored.values["answers"], summary(stored.values["answers"])
    refused = [a["refused"] for a in answers.values() if "refused" in a]
    # Of numbers, for nothing was trained; not of times, which differ.
    said = [(name, sorted((k, v) for k, v in a.items() if k != "seconds")) for name, a in sorted(answers.items())]
    sha256 = hashlib.sha256(repr(said).encode()).hexdigest()
    if len(refused) == len(answers):
        return Measured(metrics, answers, sha256, "undecided", f"not for such problems: {refused[0]}")
    return Measured(metrics, answers, sha256)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the largest populations, a hundred thousand θ of a hundred parameters with their gradients."""
    return 8 * 10**5 * 100 * 6 + 2**29


def answer_all(config: Config, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What the method says of each problem, beside the truth."""
    found: dict[str, Any] = {}
    for name, case in KINDS[config.problems]().items():
        generator = stream(seed, f"{name}/{config.method}")
        begin = descended(case.problem, stream(seed, f"{name}/start"))
        try:
            said = estimate(case.problem, config.method, config.effort, generator=generator, start=begin)
            found[name] = {"exact": case.bits, **_plain(said)}
        except InputError as error:
            found[name] = {"exact": case.bits, "refused": str(error)}
    return {}, {"answers": found}


def summary(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """The metrics from answers by problem: `exact`, and either `refused` or an estimate's fields."""
    asked = [a for a in answers.values() if "refused" not in a]
    out: dict[str, float | None] = {"estimator/refused": 1 - len(asked) / len(answers)}
    if not asked:
        return out
    good = [a for a in asked if a["status"] == "converged"]
    held = [_above(a) and _below(a) for a in good]

    def right(a: Mapping[str, Any]) -> bool:
        return abs(a["bits"] - a["exact"]) <= max(1.0, WITHIN * a["exact"])

    out |= {
        "estimator/converged": len(good) / len(asked),
        "estimator/right": sum(map(right, asked)) / len(asked),
        "estimator/misled": sum(not right(a) and not h for a, h in zip(good, held, strict=True)) / len(asked),
        "estimator/seconds": sum(a["seconds"] for a in asked) / len(asked),
        "estimator/evaluations": sum(a["evaluations"] for a in asked) / len(asked),
    }
    claimed = [a for a in asked if a["bound"] != "none"]
    if claimed:
        out["estimator/bound_holds"] = sum(map(_kept, claimed)) / len(claimed)
    if good:
        errors = [a["bits"] - a["exact"] for a in good]
        out |= {
            "estimator/inside": sum(held) / len(good),
            "estimator/abs_error_bits": sum(map(abs, errors)) / len(good),
            "estimator/worst_error_bits": max(map(abs, errors)),
            "estimator/signed_error_bits": sum(errors) / len(good),
            "estimator/width_bits": sum(a["high"] - a["low"] for a in good) / len(good),
        }
    return out


def descended(problem: Problem, generator: torch.Generator, steps: int = 400, rate: float = 0.05) -> Tensor | None:
    """A consistent θ at the end of one descent on C, or None where descent does not get there."""
    if not problem.smooth:
        return None
    space = Space(problem)
    z = space.draw(1, generator)
    moment, size = torch.zeros_like(z), torch.zeros_like(z)
    for step in range(1, steps + 1):
        state = space.state(z, slopes=True)
        if float(state.cost) <= problem.tolerance:
            return space.theta(z)[0]
        slope = state.cost_slope
        assert slope is not None
        if not bool(slope.isfinite().all()):
            return None
        moment, size = 0.9 * moment + 0.1 * slope, 0.99 * size + 0.01 * slope**2
        z = z - rate * (moment / (1 - 0.9**step)) / ((size / (1 - 0.99**step)).sqrt() + 1e-12)
    return None


def turned(d: int, spread: float) -> Case:
    """Soft: a quadratic whose axes lie across the parameters, eigenvalues e^(−spread) to e^spread times 20."""
    h = 20 * torch.linspace(-spread, spread, d, dtype=torch.float64).exp()
    basis = torch.linalg.qr(torch.randn(d, d, generator=stream(0, "axes"), dtype=torch.float64)).Q
    plain = cases.evidence(tuple(h.tolist()), strength=1.0)

    def cost(theta: Tensor) -> Tensor:
        return plain.problem.cost(theta @ basis)

    return Case(replace(plain.problem, cost=cost, consistency="½ Σ h_i (Qθ)_i²"), plain.bits)


def steps(d: int, width: float) -> Case:
    """How many of d parameters are further out than `width`; none may be. No gradient tells how to get there."""
    slab = cases.slab(d, d, width)

    def cost(theta: Tensor) -> Tensor:
        return (theta.abs() > width).double().sum(-1)

    return Case(replace(slab.problem, cost=cost, tolerance=0.0, consistency="number beyond", smooth=False), slab.bits)


def _kept(a: Mapping[str, Any]) -> bool:
    """Whether the limits that the answer gives as bounds hold."""
    above, below = a["bound"] in ("two-sided", "upper"), a["bound"] in ("two-sided", "lower")
    return (not above or _above(a)) and (not below or _below(a))


def _above(a: Mapping[str, Any]) -> bool:
    return a["exact"] <= a["high"]


def _below(a: Mapping[str, Any]) -> bool:
    return a["low"] <= a["exact"]


def _plain(said: Estimate) -> dict[str, Any]:
    # A figure without end would be no JSON, and is as wrong as one of a million bits.
    numbers = {k: float(max(-MOST, min(MOST, getattr(said, k)))) for k in ("bits", "low", "high")}
    return numbers | {k: getattr(said, k) for k in ("bound", "kind", "status", "evaluations", "seconds")}


def _near(name: str, known: Mapping[str, object]) -> str:
    hint = nearest(name, known)
    return f"; {hint}" if hint else ""
