"""The teacher given the human where the shortest code is known: both are linear, and the human descends in closed form.

One cell is one world. Codes are Bayes codes under the right priors, than which none is shorter on average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim.artifacts import Store
from reuse_sim.ledger.conjugate import Linear
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream
from reuse_sim.worlds.linear_gaussian import LinearGaussian

METHOD = (
    "f(x) = θ1·x with θ1 ~ N(0, I) and H(x) = θ2·x, θ2 by plain gradient descent on E (H − f)² from the initialisation "
    "prior: coordinate i keeps g = (1 − 2 rate λ_i)^steps of its initial error, λ_i being its variance "
    "on-distribution. Then θ1 given θ2 is normal, and so are f's answers to n questions, with normal noise of variance "
    "τ times theirs: their length in bits is −log₂ of their density, an answer foretold exactly costing none, under "
    "the prior of θ1 and under its law given θ2."
)

METRICS = (
    Metric("ledger/given_share", "ratio", "K(f | θ2)/K(f).", r"K(\theta_1|\theta_2)/K(\theta_1)", headline=True),
    Metric("ledger/alone_bits", "bits", "K(f).", headline=True),
    Metric("ledger/given_bits", "bits", "K(f | θ2).", headline=True),
    Metric("ledger/prequential_error_bits", "bits", "|evidence − sum of what each answer costs given those before|."),
    Metric("human/error", "ratio", "Mean of (H − f)² over mean of f² on these questions."),
)


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    asked: Literal["on", "off"] = Field("on", description="questions: on- or off-distribution")
    only_unseen: bool = Field(False, description="whether the coordinates seen on-distribution are 0 in them")
    questions: int = Field(128, ge=1, le=4096, description="n, whose answers are told")
    tolerance: float = Field(0.1, gt=0, le=100, description="noise variance τ of answers, as a share of theirs")
    rate: float = Field(0.1, gt=0, le=0.5, description="of the human's descent")
    steps: int = Field(100, ge=1, le=1_000_000, description="of it")

    @field_validator("world")
    @classmethod
    def _linear(cls, world: Plugin) -> Plugin:
        if world.use != "linear_gaussian":
            raise ValueError("the linear_gaussian world, where there are closed forms")
        return world


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One teacher and one human."""
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One arm."""
    parts = {**config.model_dump(mode="json", exclude={"world"}), "world": config.world}
    done = store.stage("linear_teacher", run, config=parts, seed=seed)
    return Measured(done.values, {}, done.sha256)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: some covariances of all answers."""
    return 2**29 + max(64 * c.questions**2 for c in arms.values())


def run(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Draw both, ask, and take the closed forms."""
    world: LinearGaussian = config["world"].build()
    theta_1 = torch.randn(world.d, generator=stream(seed, "teacher"), dtype=torch.float64)
    start = torch.randn(world.d, generator=stream(seed, "human/init"), dtype=torch.float64) / world.d**0.5
    kept = share_kept(world.variance.double(), config["rate"], config["steps"])
    theta_2 = theta_1 + kept * (start - theta_1)
    ask = world.on_distribution if config["asked"] == "on" else world.off_distribution
    x = ask(theta_1[None], config["questions"], [stream(seed, f"ask/{config['asked']}")])[0]
    if config["only_unseen"]:
        x = x * (world.variance == 0)
    y = x @ theta_1
    noise = (config["tolerance"] * float(y.square().mean())) ** 0.5
    alone = Linear(x, y, torch.ones(world.d, dtype=torch.float64), noise)
    mean, sd = given_human(theta_2, kept, world.d**-0.5)
    given = Linear(x, y, sd, noise, mean)
    exactly = len(y) * math.log2(math.sqrt(2 * math.pi) * noise)  # what answers foretold exactly would cost
    bits = [code.evidence_bits() - exactly for code in (alone, given)]
    off = abs(float(given.prequential_bits().sum()) - given.evidence_bits())
    return {"theta_teacher": theta_1, "theta_human": theta_2}, {
        "ledger/given_share": bits[1] / bits[0], "ledger/alone_bits": bits[0], "ledger/given_bits": bits[1],
        "ledger/prequential_error_bits": off,
        "human/error": float((x @ (theta_2 - theta_1)).square().mean() / y.square().mean()),
    }  # fmt: skip


def share_kept(variance: Tensor, rate: float, steps: int) -> Tensor:
    """g `(d,)`, the share of its initial error that each coordinate keeps: (1 − 2 rate λ)^steps."""
    return (1 - 2 * rate * variance) ** steps


def given_human(theta_human: Tensor, kept: Tensor, init_sd: float) -> tuple[Tensor, Tensor]:
    """Mean and sd `(d,)` of θ1 ~ N(0, 1) given θ2 = (1 − g) θ1 + g θ̃, θ̃ normal with sd `init_sd`."""
    noise = (kept * init_sd).square().clamp(min=1e-24)
    precision = 1 + (1 - kept).square() / noise
    return (1 - kept) / noise * theta_human / precision, precision.rsqrt()
