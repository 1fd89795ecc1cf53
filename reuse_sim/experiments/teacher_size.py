"""Does the share of humans who agree with a teacher fall by half with every bit of the teacher?

One cell is one world: teachers of several sizes, each with humans whose width grows with them, at one tolerance. The
claim is about a slope over sizes, so that the sizes belong inside of the cell.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import teacher_codes
from reuse_sim.experiments.scene import training_bytes
from reuse_sim.inheritance import observed
from reuse_sim.leaks import fixed
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import Problem, estimate
from reuse_sim.types import BITS, Human, World

FAMILY = 256
"""Teachers of the same size that say within what range a parameter in fixed point lies."""

METHOD = (
    "Teachers of several sizes are drawn, each with humans whose width grows with it. S is the specialness, under the "
    "initialisation prior and by sequential Monte Carlo, of humans whose mean squared error on named on-distribution "
    "questions is within one share of var f, the same for all sizes. |θ1| is the shortest message of a teacher within "
    "that tolerance on the same questions, to a reader who knows how the free coordinates of its family are spread; S "
    "is regressed on |θ1| over the sizes of each world, both with equal errors (Deming), with an intercept. That is "
    "too steep where S differs more from teacher to teacher than |θ1| does. Least squares, with all errors in S, stand "
    "beside it, too flat where |θ1| has some, and the slope on a plainer length: all parameters in fixed point with as "
    "few bits each as do."
)

METRICS = (
    Metric("specialness/slope", "bits per bit", "Deming slope of S on |θ1| over the sizes; 1 where a share exp(−|θ1|) "
           "of humans agrees, whatever the factor.", r"S = a + b\,|\theta_1|", headline=True),
    Metric("specialness/least_squares_slope", "bits per bit", "The same by least squares.", headline=True),
    Metric("specialness/fixed_slope", "bits per bit", "Deming slope of S on the length in fixed point.",
           headline=True),
    Metric("specialness/intercept_bits", "bits", "S at |θ1| = 0 by the same line."),
    Metric("specialness/bits_per_parameter", "bits", "Least-squares slope of S on the teacher's number of parameters.",
           headline=True),
    Metric("specialness/smallest_bits", "bits", "S of the smallest teacher.", headline=True),
    Metric("specialness/largest_bits", "bits", "S of the largest teacher.", headline=True),
    Metric("ledger/smallest_teacher_bits", "bits", "|θ1| of the smallest teacher."),
    Metric("ledger/largest_teacher_bits", "bits", "|θ1| of the largest teacher."),
    Metric("ledger/smallest_return_bits", "bits", "S − |θ1| of the smallest teacher.", r"S - |\theta_1|"),
    Metric("ledger/largest_return_bits", "bits", "S − |θ1| of the largest teacher.", r"S - |\theta_1|"),
    Metric("human/least_on_fit", "R²", "Fit of one trained human to f on-distribution, least over the sizes."),
    Metric("human/consistent", "share", "Sizes whose trained human is within the tolerance itself."),
)


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    sines: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field((1, 2, 4, 8), description="sizes of teachers")
    least_width: int = Field(3, ge=1, le=256, description="a human's width for a teacher of no sines")
    width_per_sine: float = Field(1.5, ge=0, le=64, description="what a sine adds to it, rounded to even at a half")
    questions: int = Field(64, ge=2, le=100_000, description="on-distribution questions that C is the mean over")
    tolerance: float = Field(gt=0, le=100, description="the largest mean of (H - f)² that agrees, as a share of var f")
    effort: float = Field(1.0, gt=0, le=100, description="of the sampler")

    @field_validator("world")
    @classmethod
    def _of_any_size(cls, world: Plugin) -> Plugin:
        if "sines" not in world.options:
            raise ValueError("a world with an option 'sines', such as radius")
        return world

    @field_validator("human")
    @classmethod
    def _of_any_width(cls, human: Plugin) -> Plugin:
        if "width" not in human.options:
            raise ValueError("a human with an option 'width'")
        return human

    @field_validator("sines")
    @classmethod
    def _enough(cls, sines: tuple[int, ...]) -> tuple[int, ...]:
        if len(sines) < 3 or sorted(set(sines)) != list(sines):
            raise ValueError("at least three sizes, in order")
        return sines

    def parts(self, sines: int) -> tuple[Plugin, Plugin]:
        """World and human of one size."""
        width = self.least_width + round(self.width_per_sine * sines)
        return _with(self.world, sines=sines), _with(self.human, width=width)


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where a human's training broke."""
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """All sizes of one arm. Undecided where the sampler does not call one of them converged."""
    stages = []
    for sines in config.sines:
        world, human = config.parts(sines)
        asked = {"world": world, "human": human, "questions": config.questions, "tolerance": config.tolerance,
                 "effort": config.effort}
        stages.append(store.stage("size", run, config=asked, seed=seed))
    sizes = {str(k): s.values for k, s in zip(config.sines, stages, strict=True)}
    for k, size in sizes.items():
        if size["broken"]:
            raise Refusal(f"a human's training broke at {k} sines: {size['broken']}; lower human.rate")
    metrics = summary(list(sizes.values()))
    trouble = "; ".join(f"{k} sines: {s['status']}" for k, s in sizes.items() if s["status"] != "converged")
    silent = [name for name, value in metrics.items() if value is None]
    untold = f"not told, for a size has no figure or no code: {', '.join(silent)}" if silent else ""
    sha256 = hashlib.sha256("".join(s.sha256 for s in stages).encode()).hexdigest()
    reason = "; ".join(filter(None, (trouble, untold)))
    return Measured(metrics, sizes, sha256, "undecided" if trouble else "ok", reason)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the largest human's population of samples, or its training."""
    def one(c: Config) -> int:
        world, human = (part.build() for part in c.parts(c.sines[-1]))
        net = human.net(world)
        sampling = 8 * round(4000 * max(1.0, c.effort)) * (c.questions * 4 * sum(net.sizes) + 8 * net.p)
        return max(sampling, training_bytes(human, world, 1))

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


def run(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One size: its teacher, its code, a trained human and the specialness."""
    world: World = config["world"].build()
    human: Human = config["human"].build()
    size = config["world"].options["sines"]
    theta_1 = world.teacher([stream(seed, f"{size}/teacher")])
    theta_0 = human.init(world, [stream(seed, f"{size}/human/init")])
    fit = human.train(world, theta_0, theta_1, [stream(seed, f"{size}/human/questions")])
    x = world.on_distribution(theta_1, config["questions"], [stream(seed, f"{size}/specialness/questions")])[0]
    net = human.net(world)
    named = f"{len(x)} on-distribution questions of the {config['world'].use} world"
    problem = Problem.for_human(world, theta_1[0], net, x, tolerance=config["tolerance"], questions=named)
    said = estimate(problem, "smc", config["effort"], generator=stream(seed, f"{size}/specialness"))
    held = world.on_distribution(theta_1, 4096, [stream(seed, f"{size}/ask/on")])
    numbers = {k: getattr(said, k) for k in ("bits", "low", "high")}
    values = {
        **{k: v if math.isfinite(v) else None for k, v in numbers.items()}, "bound": said.bound, "status": said.status,
        **problem.report, "human_parameters": net.p, "teacher_parameters": theta_1.shape[1],
        "code_bits": told_bits(world, theta_1, x.double(), config["tolerance"], f"{seed}/{size}/teacher"),
        "fixed_bits": fixed_bits(world, theta_1, x, config["tolerance"], seed),
        "consistency": float(problem.cost(fit.theta.double())),
        "on_fit": float(observed.r_squared(world.human_answer(net, fit.theta, held), world.answer(theta_1, held))),
        "broken": fit.broken.get(0, ""),
    }
    return {"theta_teacher": theta_1, "theta_human": fit.theta}, values


def told_bits(world: World, theta_teacher: Tensor, x: Tensor, tolerance: float, name: str) -> int | None:
    """|θ1| of a teacher `(1, p1)` by its shortest message. None where no code gets within the tolerance on x."""
    error = tolerance * float(world.answer(theta_teacher.double(), x[None]).var(correction=0))
    try:
        return teacher_codes.told(world, theta_teacher, x, error, name)[1]
    except InputError:
        return None


def fixed_bits(world: World, theta_teacher: Tensor, x: Tensor, tolerance: float, seed: int) -> int | None:
    """The same in fixed point: p1 times the fewest bits of fixed point that keep it within the tolerance on x.

    A parameter's range is the least power of two above what it is in any of 256 teachers of the family and the teacher
    itself. None where 16 bits do not do.
    """
    theta, x = theta_teacher.double(), x.double()
    family = torch.cat([world.teacher(streams(seed, [f"family/{i}" for i in range(FAMILY)])).double(), theta])
    scale = 2.0 ** torch.floor(torch.log2(family.abs().amax(0).clamp(min=1e-6)) + 1)
    f, told = world.answer(theta, x[None])[0], fixed.encode(theta[0], scale)
    for bits in range(1, BITS + 1):
        short = fixed.decode(told, torch.arange(BITS) < bits, scale).value
        g = world.answer(short[None], x[None])[0]
        if float((g - f).square().mean() / f.var(correction=0)) <= tolerance:
            return bits * theta.shape[1]
    return None


def summary(sizes: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The metrics from what `run` said of each size, smallest first."""
    first, last = sizes[0], sizes[-1]
    lengths, fixed_lengths, bits = ([s[k] for s in sizes] for k in ("code_bits", "fixed_bits", "bits"))

    def on(lengths: Sequence[Any], fit: Callable[[Sequence[float], Sequence[float]], float | None]) -> float | None:
        return fit(lengths, bits) if None not in lengths and None not in bits else None

    slope = on(lengths, deming)

    def back(s: Mapping[str, Any]) -> float | None:
        return None if s["bits"] is None or s["code_bits"] is None else s["bits"] - s["code_bits"]

    return {
        "specialness/slope": slope,
        "specialness/least_squares_slope": on(lengths, least_squares),
        "specialness/fixed_slope": on(fixed_lengths, deming),
        "specialness/intercept_bits": None if slope is None else float(np.mean(bits) - slope * np.mean(lengths)),
        "specialness/bits_per_parameter": on([s["teacher_parameters"] for s in sizes], least_squares),
        "specialness/smallest_bits": first["bits"],
        "specialness/largest_bits": last["bits"],
        "ledger/smallest_teacher_bits": first["code_bits"],
        "ledger/largest_teacher_bits": last["code_bits"],
        "ledger/smallest_return_bits": back(first),
        "ledger/largest_return_bits": back(last),
        "human/least_on_fit": min(s["on_fit"] for s in sizes),
        "human/consistent": sum(s["consistency"] <= s["tolerance"] for s in sizes) / len(sizes),
    }


def deming(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Slope of the line that is nearest to the points, x and y with errors of equal variance (Deming 1943).

    None where no slope is nearest: x and y vary alike and together not at all, or x does not vary.
    """
    (xx, xy), (_, yy) = np.cov(x, y)
    if xy == 0:
        return 0.0 if xx > yy else None
    return float((yy - xx + math.hypot(yy - xx, 2 * xy)) / (2 * xy))


def least_squares(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Slope of the line with the least squares of errors in y; None where x does not vary."""
    (xx, xy), _ = np.cov(x, y)
    return float(xy / xx) if xx > 0 else None


def _with(part: Plugin, **options: Any) -> Plugin:
    return part.model_copy(update={"options": {**part.options, **options}})
