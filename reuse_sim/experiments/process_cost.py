"""What does it cost an outer model to rerun the human's training: at every datapoint, at every batch, or once?

One cell is one world, whose f an outer network learns to a target loss with batches of several sizes, each at its best
rate. Steps against batch size give the critical batch; what a human costs to train, in units of that, gives the price
of rerunning it. Arms are humans, or shares of the outer's own training that a human may take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from reuse_sim.artifacts import Store
from reuse_sim.engines.spec import Fresh, Sgd
from reuse_sim.errors import InputError
from reuse_sim.joint import process
from reuse_sim.joint.process import Rerun, Steps
from reuse_sim.nets import Mlp
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams
from reuse_sim.train import train, value_and_grad
from reuse_sim.types import World

GROWTH = 1.05
"""Ratio of one step at which the loss is asked for to the next."""
PLACES, PAIRS, SIZES = 6, 64, (8, 512)
"""Where along the descent, with how many pairs of batches and of which sizes the gradient's noise is measured."""
ONE = 1.0
"""The burden r = C/(c B_n) at which the formula for the premium, there (1 + √1)² = 4, is held against real runs."""

METHOD = (
    "A teacher f is drawn. Outer networks, all from one initialisation and with questions of their own, descend on f's "
    "answers by plain stochastic gradients at a constant rate; S(B) is the step at which their mean loss on held-out "
    "questions meets the target, at the rate that is best for batches of B, found by climbing. S_min and the critical "
    "batch B_n come from S(B) = S_min (1 + B_n/B), least squares of relative errors. The noise scales come from pairs "
    "of batches at points along the descent with the largest batch, equally far apart in steps, B_noise with the "
    "Gauss-Newton curvature. An outer pays c = 6 p per question, a rerun C what training the human takes, or, where an "
    "arm says so, a share of the outer's whole training at B_n, W = 2 c S_min B_n. All factors are over the outer's "
    "cost at the critical batch without reruns, except the premium, which is over the least cost without."
)

METRICS = (
    Metric("process/per_batch_factor", "1", "Cost with a rerun at every critical batch over that without.",
           r"1 + C/(c B_n)"),
    Metric("process/per_datapoint_factor", "1", "Cost with a rerun at every question over that without.", r"1 + C/c"),
    Metric("process/once_factor", "1", "Cost with one rerun, kept for all training, over that without.", r"1 + C/W"),
    Metric("process/premium", "1", "Least cost with a rerun at every batch, of any size, over the least without.",
           r"(1 + \sqrt{C/(c B_n)})^2"),
    Metric("process/measured_premium", "1", "The same from the steps as measured; nothing where the best batch is "
           "beyond those that were run."),
    Metric("process/premium_off", "share", f"By how much, at a burden C/(c B_n) of {ONE:g}, the premium as measured is "
           "off the formula.", r"|measured / 4 - 1|", headline=True),
    Metric("process/flops_ratio", "1", "One training of the human over the outer's whole training.", "C/W"),
    Metric("process/sample_ratio", "questions", "One training of the human in questions of the outer.", "C/c"),
    Metric("process/best_over_critical", "1", "Best batch with reruns, in critical batches.", r"\sqrt{C/(c B_n)}"),
    Metric("process/break_even_over_critical", "1", "Batch at which reruns are half of the cost, in critical batches.",
           "C/(c B_n)"),
    Metric("process/doomed", "share", "Worlds where one rerun costs more than the outer's whole training.", "C > W"),
    Metric("process/critical_batch", "questions", "B_n of real runs.", headline=True),
    Metric("process/least_steps", "steps", "S_min of real runs."),
    Metric("process/misfit", "share", "Largest error of S_min (1 + B_n/B) at a size that was run."),
    Metric("process/noise_simple", "questions", "B_simple, mean along the descent.", r"tr Σ / |G|²"),
    Metric("process/noise_curved", "questions", "B_noise, mean along the descent.", r"tr(HΣ) / GᵀHG"),
    Metric("process/noise_error", "questions", "Standard error of that mean."),
    Metric("process/rerun_flops", "FLOPs", "C.", "C"),
    Metric("process/outer_flops", "FLOPs", "The outer's whole training at the critical batch, without reruns.", "W"),
)  # fmt: skip


class Outer(BaseModel):
    """The outer network and how it is taught."""

    model_config = STRICT

    width: int = Field(default=32, ge=1, le=4096, description="hidden units")
    target: float = Field(default=0.05, gt=0, lt=1, description="loss to be met, as a share of var f")
    rate: float = Field(default=0.15, gt=0, le=10, description="where the search for the best rate begins")
    batches: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        default=(4, 8, 16, 32, 64, 128), description="sizes run"
    )
    runs: int = Field(default=16, ge=2, le=1000, description="networks at each size and rate")
    steps: int = Field(default=600, ge=10, le=1_000_000, description="most steps with the largest batch")

    @field_validator("batches")
    @classmethod
    def _enough(cls, batches: tuple[int, ...]) -> tuple[int, ...]:
        if len(batches) < 3 or sorted(set(batches)) != list(batches):
            raise ValueError("at least three sizes, in order")
        return batches


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    outer: Outer = Outer()
    share: float | None = Field(
        None, gt=0, le=1e9, description="a rerun's FLOPs as a share of the outer's whole training; absent: the human's"
    )


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where it is not told what the human of an arm costs to train."""
    for name, arm in arms.items():
        if arm.share is None and not hasattr(arm.human.build(), "train_flops"):
            raise InputError(f"arm {name}: human", arm.human.use, "one whose kind has train_flops", "Or give a share.")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world for every arm; undecided where its runs do not tell a critical batch."""
    out = {}
    for name, arm in arms.items():
        ran = store.stage("steps to a loss", run, config={"world": arm.world, "outer": arm.outer}, seed=seed)
        if trouble := ran.values["trouble"]:
            nothing = {m.name: None for m in METRICS}
            reason = f"{trouble} Not told: {', '.join(nothing)}"
            out[name] = Measured(nothing, dict(ran.values), ran.sha256, "undecided", reason)
            continue
        metrics = factors(ran.values, arm)
        lacking = [m for m, value in metrics.items() if value is None]
        reason = f"best batch beyond those that were run, or no gradient seen: {', '.join(lacking)}" if lacking else ""
        out[name] = Measured(metrics, dict(ran.values), ran.sha256, reason=reason)
    return out


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: a block of the largest batch's questions, and the held-out answers along a descent."""
    def one(c: Config) -> int:
        world, o = c.world.build(), c.outer
        return 4 * o.runs * (50 * o.batches[-1] * 3 * world.d + HELD * 3 * o.width) + 4 * 2 * PAIRS * SIZES[1] * o.width

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


HELD = 2048
"""Questions that the loss is asked on."""


def run(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Real runs at every batch size, and the gradient's noise along one of them."""
    world, outer = config["world"].build(), config["outer"]
    task = Task(world, outer, seed)
    best: dict[int, tuple[float, float]] = {}
    rate, most, last = outer.rate, outer.steps, 0
    for batch in reversed(outer.batches):
        # Half as large a batch takes about twice the steps at most.
        most = math.ceil(1.3 * most * last / batch) if last else most
        best[batch] = process.climb(lambda r, most, batch=batch: task.steps(batch, r, most), rate, most)
        rate, most, last = best[batch][0], math.ceil(min(best[batch][1], most)), batch
    batches, steps = list(outer.batches), [best[b][1] for b in outer.batches]
    values: dict[str, Any] = {
        "batches": batches, "steps": [s if math.isfinite(s) else None for s in steps],
        "rates": [best[b][0] for b in batches], "parameters": task.net.p, "trouble": "",
    }
    try:
        if not all(map(math.isfinite, steps)):
            raise InputError("outer.target", outer.target, "a loss that all batch sizes meet", "Take more steps.")
        fit = process.fit_steps(batches, steps)
        values |= {"least": fit.least, "critical": fit.critical, "misfit": fit.misfit}
        theta = task.descent(batches[-1], rate=best[batches[-1]][0], steps=math.ceil(steps[-1]))
        values["noise"] = [task.noise(t, k) for k, t in enumerate(theta)]
    except InputError as e:
        return {}, values | {"trouble": str(e)}
    return {"theta_outer": theta}, values


class Task:
    """f learned by outer networks from one initialisation."""

    def __init__(self, world: World, outer: Outer, seed: int) -> None:
        self.world, self.runs, self.target, self.seed = world, outer.runs, outer.target, seed
        self.net = Mlp((world.d, outer.width, 1), "tanh" if world.human_net(1).activation == "tanh" else "relu")
        self.theta_teacher = world.teacher([stream(seed, "teacher")])
        self.theta_0 = self.net.init(streams(seed, [f"outer/{i}/init" for i in range(outer.runs)]))
        self.x, self.f = self.asked(HELD, "held")

    def asked(self, n: int, name: str) -> tuple[Tensor, Tensor]:
        """So many questions `(n, d)` and f's answers `(n,)`."""
        x = self.world.on_distribution(self.theta_teacher, n, [stream(self.seed, name)])
        return x[0], self.world.answer(self.theta_teacher, x)[0]

    def loss(self, theta: Tensor, asked: int = HELD) -> float:
        """Mean of (M − f)² over held-out questions as a share of var f, θ `(runs, p)`: the runs' geometric mean.

        With fewer `asked` what the others add is left out, so that it is no more than all of it.
        """
        error = self.net.forward(theta, self.x[:asked])[..., 0] - self.f[:asked]
        mean = error.square().mean(-1) * (asked / HELD)
        return float((mean / self.f.var(correction=0)).log().mean().exp())

    def train(self, batch: int, rate: float, save: list[int], runs: int) -> Tensor | None:
        """Iterates `(k, runs, p)` at the steps in `save`; None where one run broke."""
        own = streams(self.seed, [f"outer/{i}/questions" for i in range(runs)])
        teacher = self.theta_teacher.expand(runs, -1)

        def draw(members: slice, n: int) -> tuple[Tensor, Tensor]:
            x = self.world.on_distribution(teacher[members], n, own[members])
            return x, self.world.answer(teacher[members], x).unsqueeze(-1)

        fit = train(self.net, self.theta_0[:runs], Fresh(draw, batch), steps=save[-1], save=save,
                    optimizer=Sgd(rate), schedule="constant")
        return None if fit.broken else fit.iterates

    def steps(self, batch: int, rate: float, most: int) -> float:
        """Steps at which the runs' mean loss first meets the target, infinity where not within `most`."""
        save = [0, *sorted({round(GROWTH**k) for k in range(round(math.log(most, GROWTH)) + 1)} | {most})]
        iterates = self.train(batch, rate, save, self.runs)
        if iterates is None:
            return math.inf

        def loss(k: int, asked: int = HELD) -> float:
            return self.loss(iterates[k], asked)  # One saved step at a time: all at once would not fit a cache.

        return process.crossing(save, self.target, loss, least=lambda k: loss(k, HELD // 8))

    def descent(self, batch: int, rate: float, steps: int) -> Tensor:
        """θ `(PLACES, p)` of one run, equally far apart and before its end."""
        iterates = self.train(batch, rate, [k * steps // PLACES for k in range(PLACES)] + [steps], 2)
        assert iterates is not None
        return iterates[:-1, 0]

    def noise(self, theta: Tensor, place: int) -> dict[str, float] | None:
        """Both noise scales at θ `(p,)`, the curved one with its error; None where no gradient is seen."""
        many = theta.expand(PAIRS, -1).contiguous()
        small, large = (
            value_and_grad(self.net, x.unflatten(0, (PAIRS, n)), f.view(PAIRS, n, 1), engine="torch")(many)[1]
            for n in SIZES for x, f in (self.asked(PAIRS * n, f"noise/{place}/{n}"),)
        )  # fmt: skip
        form = process.gauss_newton(self.net, theta.double(), self.x.double())
        try:
            simple, curved = process.noise(small, large, SIZES), process.noise(small, large, SIZES, form)
        except InputError:
            return None
        return {"simple": simple.scale, "curved": curved.scale, "error": curved.error}


def factors(ran: Mapping[str, Any], arm: Config) -> dict[str, float | None]:
    """The metrics of one arm from what `run` said of its world."""
    steps = Steps(ran["least"], ran["critical"], ran["misfit"])
    question = 6.0 * ran["parameters"]
    unit = Rerun(ONE * question * steps.critical, question, steps)
    flops = unit.budget * arm.share if arm.share else float(arm.human.build().train_flops(arm.world.build()))
    one = Rerun(flops, question, steps)
    measured = process.measured_premium(ran["batches"], ran["steps"], unit)
    noises = [n for n in ran["noise"] if n]

    def mean(name: str) -> float | None:
        return sum(n[name] for n in noises) / len(noises) if noises else None

    return {
        "process/per_batch_factor": one.per_batch, "process/per_datapoint_factor": one.per_datapoint,
        "process/once_factor": one.once, "process/premium": one.premium,
        "process/measured_premium": process.measured_premium(ran["batches"], ran["steps"], one),
        "process/premium_off": None if measured is None else abs(measured / unit.premium - 1),
        "process/flops_ratio": flops / one.budget, "process/sample_ratio": flops / question,
        "process/best_over_critical": one.best_batch / steps.critical, "process/break_even_over_critical": one.burden,
        "process/doomed": float(one.regime == "doomed"), "process/critical_batch": steps.critical,
        "process/least_steps": steps.least, "process/misfit": steps.misfit, "process/noise_simple": mean("simple"),
        "process/noise_curved": mean("curved"),
        "process/noise_error": math.sqrt(sum(n["error"] ** 2 for n in noises)) / len(noises) if noises else None,
        "process/rerun_flops": flops, "process/outer_flops": one.budget,
    }
