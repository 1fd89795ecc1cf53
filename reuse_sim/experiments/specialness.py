"""How special are the humans that are consistent with a teacher, and what does one human give back of it?

One cell is one world: a teacher, a human who learned it, and for comparison a human of an unrelated teacher and
the human's own initialisation. The specialness belongs to teacher, questions and tolerance: arms that differ only
in whose consistency is paid for share it, and its estimates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import Refusal
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.nets import Mlp
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric, finite
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import Problem, exact, nuts, svi
from reuse_sim.specialness.exact import Exact
from reuse_sim.specialness.nuts import Plan as NutsPlan
from reuse_sim.specialness.svi import Plan as SviPlan
from reuse_sim.types import World

HELD = 8  # questions on and off each, whose answers the sampler's convergence is judged on
MARGIN = 1.0  # bits by which the estimators' intervals may miss each other
PLACES = ("own", "unrelated")

METHOD = (
    "A teacher f is drawn and a human of limited width learns it by gradient descent on-distribution. "
    "The specialness of humans consistent with f is the evidence, in bits, of a Gibbs posterior over human "
    "parameters: reference measure the initialisation prior, consistency the mean of (H - f)²/var f on named "
    "on-distribution questions, tolerance the variance of the noise that answers are allowed, as a share of var f. "
    "Pyro's NUTS with bridge sampling gives the figure, variational inference (a full-rank normal guide unless the "
    "scenario names another) a bound beside it; "
    "a human gives back the specialness less what its own inconsistency costs."
)

METRICS = (
    Metric("specialness/bits", "bits",
           "specialness of the humans consistent with the teacher, by NUTS, all copies counted",
           r"S = -\log_2 \int \mu(d\theta)\, e^{-n C(\theta) / (2 \mathrm{tolerance})}", headline=True),
    Metric("specialness/low_bits", "bits", "lower 95 % limit of specialness/bits", headline=True),
    Metric("specialness/high_bits", "bits", "upper 95 % limit of specialness/bits", headline=True),
    Metric("specialness/given_back_bits", "bits", "specialness less the cost of the arm's human's own inconsistency",
           r"S - n C(\theta_2) / (2 \mathrm{tolerance} \ln 2)", headline=True),
    Metric("specialness/svi_bits", "bits", "by SVI, corrected by importance weights"),
    Metric("specialness/svi_upper_bits", "bits", "upper bound by SVI: the negative evidence lower bound"),
    Metric("specialness/svi_excess_bits", "bits", "SVI's upper bound less the figure by NUTS"),
    Metric("specialness/rhat_max", "", "largest split R-hat of C and of the answers to held questions"),
    Metric("specialness/ess_min", "draws", "smallest effective number of draws of the same functions"),
    Metric("specialness/pareto_k", "", "tail index of SVI's importance weights; above .7 they are not to be believed"),
    Metric("specialness/consistency", "", "C of the arm's human, to be compared with the tolerance"),
    Metric("human/on_fit", "R²", "fit of the arm's human to the teacher, on-distribution"),
    Metric("human/off_fit", "R²", "fit of the arm's human to the teacher, off-distribution"),
    Metric("specialness/exact_bits", "bits", "closed form, where the human is linear"),
    Metric("specialness/svi_error_bits", "bits", "|SVI - exact|, corrected by importance weights"),
    Metric("specialness/svi_upper_error_bits", "bits", "|SVI's upper bound - exact|"),
    Metric("specialness/nuts_error_bits", "bits", "|NUTS - exact|"),
    Metric("specialness/nuts_mean_error_mcse", "Monte Carlo standard errors",
           "largest error of the posterior mean by NUTS"),
    Metric("specialness/nuts_covariance_error_mcse", "Monte Carlo standard errors",
           "largest error of the posterior covariance by NUTS"),
)


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    questions: int = Field(64, ge=2, le=100_000, description="on-distribution questions that C is the mean over")
    tolerance: float = Field(gt=0, le=100, description="noise variance that answers are allowed, as a share of var f")
    whose: Literal["own", "unrelated", "untrained"] = Field(
        "own", description="the human who gives back: this teacher's, an unrelated teacher's, or an initialisation"
    )
    svi: SviPlan = SviPlan()
    nuts: NutsPlan = NutsPlan()


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where the training of a human broke.

    A record is undecided where the chains did not converge, or where the two estimators contradict each other.
    """
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One arm; what it shares with another is computed once."""
    people = store.stage("learners", train_people, config=_only(config, "world", "human"), seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
    asked = _only(config, "world", "human", "questions", "tolerance")
    by_svi = store.stage("specialness by svi", run_svi, people, config={**asked, "svi": config.svi}, seed=seed)
    by_nuts = store.stage("specialness by nuts", run_nuts, people, config={**asked, "nuts": config.nuts}, seed=seed)

    scene, mid, low = Scene(people, asked, seed), by_nuts.values, by_svi.values
    problem, theta_2 = scene.problem, human_of(people, config.whose)
    consistency = float(problem.cost(theta_2.double()))
    bits, upper = mid["bits"], low["diagnostics"]["elbo_bits"]
    figures = {
        "specialness/bits": bits,
        "specialness/low_bits": mid["low"],
        "specialness/high_bits": mid["high"],
        "specialness/given_back_bits": bits - problem.cost_bits(consistency),
        "specialness/consistency": consistency,
        "specialness/svi_bits": low["bits"],
        "specialness/svi_upper_bits": upper,
        "specialness/svi_excess_bits": upper - bits,
        "specialness/rhat_max": mid["diagnostics"]["rhat_max"],
        "specialness/ess_min": mid["diagnostics"]["ess_min"],
        "specialness/pareto_k": low["diagnostics"]["pareto_k"],
        **scene.fits(theta_2),
    }
    if closed := scene.closed_form():
        mean, covariance = exact.errors(closed, by_nuts.tensors["theta"])
        figures |= {
            "specialness/exact_bits": closed.bits,
            "specialness/svi_error_bits": abs(low["bits"] - closed.bits),
            "specialness/svi_upper_error_bits": abs(upper - closed.bits),
            "specialness/nuts_error_bits": abs(bits - closed.bits),
            "specialness/nuts_mean_error_mcse": mean,
            "specialness/nuts_covariance_error_mcse": covariance,
        }

    metrics, lost = finite(figures)
    trouble = contradiction(low, mid)
    shared = problem.report
    diagnostics = {**shared, "local_bits": bits + problem.symmetry_bits,
                   "svi": _beside(low, shared), "nuts": _beside(mid, shared)}
    sha256 = hashlib.sha256("".join(s.sha256 for s in (people, by_svi, by_nuts)).encode()).hexdigest()
    reason = "; ".join(filter(None, (trouble, lost)))
    return Measured(metrics, diagnostics, sha256, "undecided" if trouble else "ok", reason)


def human_of(people: Stored, whose: str) -> Tensor:
    """θ2 `(1, p2)` of the human who gives back."""
    trained = people.tensors["theta_human"]
    return {"own": trained[:1], "unrelated": trained[1:], "untrained": people.tensors["theta_untrained"][:1]}[whose]


def contradiction(by_svi: Mapping[str, Any], by_nuts: Mapping[str, Any]) -> str:
    """Why the figure by NUTS is not to be believed, or nothing. A bound by SVI needs no convergence to hold."""
    if by_nuts["status"] != "converged":
        return f"nuts: {by_nuts['status']}"
    two_sided = by_svi["bound"] == "two-sided"
    if by_nuts["low"] > by_svi["high"] + MARGIN or (two_sided and by_nuts["high"] < by_svi["low"] - MARGIN):
        return (f"the estimators contradict each other: nuts {by_nuts['low']:.1f} to {by_nuts['high']:.1f} bits, "
                f"svi {by_svi['low']:.1f} to {by_svi['high']:.1f}; take more draws")
    return ""


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell in float64: the draws of either estimator asked all their questions at once, with a margin."""
    def one(c: Config) -> int:
        net = c.human.build().net(c.world.build())
        at_once = max(4000, c.svi.draws, c.svi.particles, c.nuts.chains * c.nuts.draws)
        answers = at_once * (c.questions + 2 * HELD) * 4 * sum(net.sizes)
        return 8 * (answers + 4 * at_once * net.p + 8 * net.p**2)

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


# Stages ----------------------------------------------------------------------------------------------


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Teachers `(2, p1)` of this world and an unrelated one, and their humans `(2, p2)` before and after training."""
    world, human = config["world"].build(), config["human"].build()
    theta_1 = world.teacher(streams(seed, [f"{p}/teacher/0" for p in PLACES]))
    theta_0 = human.init(world, streams(seed, [f"{p}/human/0/init" for p in PLACES]))
    fit = human.train(world, theta_0, theta_1, streams(seed, [f"{p}/human/0/questions" for p in PLACES]))
    tensors = {"theta_teacher": theta_1, "theta_untrained": theta_0, "theta_human": fit.theta}
    return tensors, {"broken": list(fit.broken.values())}


def run_svi(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The fitted guide's moments in the reference's standard normal coordinates, and its estimate."""
    problem, generator = Scene(people, config, seed).problem, stream(seed, "specialness/svi")
    fitted = svi.fit(problem, config["svi"], generator)
    return {"mean": fitted.mean, "factor": fitted.factor}, asdict(svi.weigh(problem, fitted, config["svi"], generator))


def run_nuts(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The posterior's draws and their estimate."""
    problem, generator = Scene(people, config, seed).problem, stream(seed, "specialness/nuts")
    chains = nuts.sample(problem, config["nuts"], generator)
    return {"theta": chains.theta}, asdict(nuts.weigh(problem, chains, generator))


# Parts -----------------------------------------------------------------------------------------------


class Scene:
    """What the cell asks about: own teacher, the questions x `(n, d)` that consistency is measured on, held ones.

    The same for every arm, whoever gives back.
    """

    def __init__(self, people: Stored, asked: Mapping[str, Any], seed: int) -> None:
        self.seed, self.tolerance = seed, asked["tolerance"]
        self.world: World = asked["world"].build()
        self.net: Mlp = asked["human"].build().net(self.world)
        self.theta_teacher = people.tensors["theta_teacher"][:1]
        self.x = self.draw("on", asked["questions"], "specialness/questions")[0]
        self.named = f"{len(self.x)} on-distribution questions of the {asked['world'].use} world"

    def draw(self, kind: str, n: int, name: str) -> Tensor:
        """Questions `(1, n, d)` on or off distribution."""
        source = self.world.on_distribution if kind == "on" else self.world.off_distribution
        return source(self.theta_teacher, n, [stream(self.seed, name)])

    @property
    def problem(self) -> Problem:
        held = torch.cat([self.draw(kind, HELD, f"specialness/held/{kind}")[0] for kind in ("on", "off")])
        return Problem.for_human(self.world, self.theta_teacher[0], self.net, self.x, held=held, soft=True,
                                 tolerance=self.tolerance, questions=self.named)

    def fits(self, theta_human: Tensor) -> dict[str, float]:
        """R² of one human `(1, p2)` to the teacher, on 4096 questions on and off distribution each."""
        out = {}
        for kind in ("on", "off"):
            x = self.draw(kind, 4096, f"ask/0/{kind}")
            human = self.world.human_answer(self.net, theta_human, x)
            out[f"human/{kind}_fit"] = float(r_squared(human, self.world.answer(self.theta_teacher, x)))
        return out

    def closed_form(self) -> Exact | None:
        """Exact posterior and evidence, in a world that says in which `features` of a question its human is linear."""
        features = getattr(self.world, "features", None)
        if features is None:
            return None
        x, sd = self.x.double(), self.net.prior_sd(torch.float64)
        y = self.world.answer(self.theta_teacher.double(), x[None])[0]
        return exact.linear_gaussian(features(x), y, sd, self.tolerance)


def _beside(estimate: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """An estimate with its diagnostics, without what all estimates of the cell share."""
    own = {k: v for k, v in estimate["diagnostics"].items() if k not in shared}
    return {k: v for k, v in estimate.items() if k != "diagnostics"} | own


def _only(config: Config, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}
