"""Is the actual human told in fewer bits once humans of the same teacher have been learned afresh?

One cell is one world: a teacher f, the human H, and thousands of fresh humans of f. Arms are how near to H is near
enough, on which questions, and whose humans are learned afresh; the people are the same in all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import Refusal
from reuse_sim.experiments.balls import Centre, Scene, Where, check_regression, plain, written
from reuse_sim.experiments.scene import training_bytes
from reuse_sim.joint import fresh
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream
from reuse_sim.specialness import estimate, frequency

METHOD = (
    "A teacher f is drawn, a human H learns it, and so do thousands of fresh humans from other starts and questions. "
    "B is the ball of networks whose answers to named questions differ from H's by a mean square of at most δ var f. "
    "Telling H outright takes −log₂ μ(B) bits, μ the initialisation prior and by sequential Monte Carlo; given fresh "
    "humans −log₂ ν(B), ν counted, with Clopper and Pearson's limits. Where none of N is in B only a bound is known, "
    "about log₂ N, and the human counts as told outright. Real codes stand beside: the parameters in the shortest "
    "code found; the index of the first fresh human in B, in Elias's delta code; and the difference to a fresh human, "
    "aligned, under a prior fitted to it. S is the specialness of agreeing with f on-distribution at one tolerance."
)

METRICS = (
    Metric("joint/outright_bits", "bits", "Bits of the actual human, outright.", r"-\log_2 \mu(B_\delta(H))",
           headline=True),
    Metric("joint/given_bits", "bits", "Given fresh humans; none where none of them is in the ball.",
           r"-\log_2 \nu_f(B_\delta(H))", headline=True),
    Metric("joint/given_least_bits", "bits", "What it is at least, by the lower 90 % limit."),
    Metric("joint/saved_share", "share", "Of the bits outright, what fresh humans save; 0 where none is in the ball, "
           "then a lower bound.", r"1 - \mathrm{given}/\mathrm{outright}", headline=True),
    Metric("joint/saved_most_share", "share", "What they save at most, by the lower limit of the bits given them."),
    Metric("joint/censored", "share", "Worlds where no fresh human is in the ball.", headline=True, binary=True),
    Metric("specialness/bits", "bits", "S, one tolerance for all arms.", headline=True),
    Metric("joint/saved_over_specialness", "", "Bits saved over S; a lower bound where censored.",
           r"\log_2[\nu_f(B)/\mu(B)]/S", headline=True),
    Metric("joint/apart_share", "", "How far the bits saved are from S; none where censored.",
           r"|\log_2[\nu_f(B)/\mu(B)] - S|/S", headline=True),
    Metric("joint/weights_bits", "bits", "A network in the ball, in the shortest code found."),
    Metric("joint/index_bits", "bits", "Which fresh human is the first in the ball, as written; where none is, the one "
           "bit that says so and the parameters."),
    Metric("joint/correction_bits", "bits", "The parameters by their difference to the fresh human nearest to H."),
    Metric("joint/first_correction_bits", "bits", "The same to the first fresh human."),
    Metric("joint/saved_coded_share", "share", "Of the parameters' bits, what the index saves.", headline=True),
    Metric("joint/saved_by_nearest_share", "share", "What the difference to the nearest saves."),
    Metric("joint/saved_by_first_share", "share", "What the difference to the first saves.", headline=True),
    Metric("joint/median_distance", "", "Median distance of fresh humans from the ball's centre, as δ is.",
           headline=True),
    Metric("joint/nearest_distance", "", "That of the nearest."),
    Metric("joint/trainings", "", "Fresh humans that the sender trains until one is in the ball; all where none is. "
           "Who reads the index trains one."),
    Metric("joint/nearest_own", "R²", "How the nearest fresh human's failure predicts H's, off-distribution.",
           r"R^2(P-f,\,H-f)"),
    Metric("joint/sibling_own", "R²", "How a sibling's failure predicts H's, off-distribution."),
    Metric("joint/pooled_own", "R²", "How the failure of the siblings' mean answer predicts H's, off-distribution."),
    Metric("joint/nearest_private", "", "How much of H's own, beside what siblings have in common, the nearest fresh "
           "human says off-distribution: 0 none, as a sibling or their mean does, 1 all.",
           r"\langle P-\overline{H'},Z\rangle/\|Z\|^2,\ Z=H-\overline{H'}", headline=True),
    Metric("human/consistency", "", "The human's own mean of (H - f)²/var f, to be compared with the tolerance of S."),
    Metric("human/on_fit", "R²", "Fit of the human to f, on-distribution."),
    Metric("human/off_fit", "R²", "Fit of the human to f, off-distribution."),
)  # fmt: skip


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    fresh: int = Field(4096, ge=2, le=1_000_000, description="humans learned afresh, of f and of another teacher each")
    of: Literal["own", "other"] = Field("own", description="whose fresh humans: of f, or of another teacher")
    centre: Centre = Field("human", description="of the ball: what H answers, or what f does")
    where: Where = Field("on", description="the ball's questions: on-distribution, or as many off-distribution as well")
    questions: int = Field(128, ge=2, le=100_000, description="questions of the ball and of S, of each kind")
    tolerance: float = Field(gt=0, le=100, description="δ, the ball's largest mean of squares, as a share of var f")
    agreement: float = Field(gt=0, le=100, description="the largest mean of (H - f)² of S, as a share of var f")
    effort: float = Field(0.5, gt=0, le=100, description="of the sampler")
    coded: bool = Field(True, description="whether parameters are coded as well, which takes most of the time")


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where an arm's world asks for no number."""
    check_regression(arms)


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where the human's own training broke."""
    return {name: measure(config, seed, store) for name, config in arms.items()}


def measure(config: Config, seed: int, store: Store) -> Measured:
    """One arm. Undecided where the sampler does not call one of its figures converged."""
    own, told = {"world": config.world, "human": config.human}, {"count": config.fresh}
    people = store.stage("one_human", train_human, config=own, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"the human's training broke: {people.values['broken']}; lower human.rate")
    pool = store.stage("fresh", train_fresh, config=own | told | {"of": config.of}, seed=seed)
    asked = own | {"questions": config.questions, "effort": config.effort}
    ball = {"centre": config.centre, "where": config.where, "tolerance": config.tolerance}
    event: dict[str, Any] = {"centre": "teacher", "where": "on", "tolerance": config.agreement}
    outright = store.stage("mass", mass, people, config=asked | ball, seed=seed)
    special = store.stage("mass", mass, people, config=asked | event, seed=seed)
    given = own | ball | {"questions": config.questions}
    counted = store.stage("counted", count, people, pool, config=given, seed=seed)
    codes: Mapping[str, Any] = {}
    if config.coded and config.centre == "human":
        codes = store.stage("codes", code, people, pool, config=given, seed=seed).values
    metrics = summary(outright.values, special.values, counted.values, codes)
    trouble = "; ".join(f"{what}: {said.values['status']}" for what, said in (("outright", outright), ("S", special))
                        if said.values["status"] != "converged")  # fmt: skip
    censored = "" if counted.values["hits"] else f"censored: none of {config.fresh} fresh humans is in the ball"
    silent = [name for name, value in metrics.items() if value is None]
    untold = f"not told: {', '.join(silent)}" if silent else ""
    sha256 = hashlib.sha256((people.sha256 + pool.sha256).encode()).hexdigest()
    said = {"outright": outright.values, "specialness": special.values, **counted.values, "codes": dict(codes)}
    return Measured(metrics, said, sha256, "undecided" if trouble else "ok",
                    "; ".join(filter(None, (trouble, censored, untold))))  # fmt: skip


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the fresh humans in training or asked, or a sampler's population."""
    def one(c: Config) -> int:
        human, world = c.human.build(), c.world.build()
        net, at_once = human.net(world), round(4000 * max(1.0, c.effort))
        sampling = 8 * at_once * (2 * c.questions * 4 * sum(net.sizes) + 8 * net.p)
        return max(sampling, training_bytes(human, world, c.fresh))

    return max(map(one, arms.values())) + 2**29  # and the libraries themselves


def summary(
    outright: Mapping[str, Any], special: Mapping[str, Any], counted: Mapping[str, Any], codes: Mapping[str, Any]
) -> dict[str, float | None]:
    """The metrics from the stages' values; None for what has no meaning."""
    bits, least = outright["bits"], counted["least"]
    given = max(counted["bits"], 0.0) if counted["hits"] else None
    s = special["bits"] if special["bound"] == "two-sided" else None
    saved = None if bits is None else (0.0 if given is None else bits - given)
    weights = codes.get("weights")

    def by(bits: float | None) -> float | None:
        return 1 - bits / weights if weights and bits is not None else None

    first = codes["others"][0] if weights else None
    return {
        "joint/outright_bits": bits,
        "joint/given_bits": given,
        "joint/given_least_bits": least,
        "joint/saved_share": saved / bits if saved is not None and bits else None,
        "joint/saved_most_share": 1 - least / bits if bits else None,
        "joint/censored": float(given is None),
        "specialness/bits": s,
        "joint/saved_over_specialness": saved / s if saved is not None and s else None,
        "joint/apart_share": abs(saved - s) / s if saved is not None and s and given is not None else None,
        "joint/weights_bits": weights,
        "joint/index_bits": codes.get("index"),
        "joint/correction_bits": codes.get("nearest"),
        "joint/first_correction_bits": first,
        "joint/saved_coded_share": by(codes.get("index")),
        "joint/saved_by_nearest_share": by(codes.get("nearest")),
        "joint/saved_by_first_share": by(first),
        **counted["metrics"],
    }


# Stages ----------------------------------------------------------------------------------------------


def train_human(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The teacher `(1, p1)` and the human `(1, p2)`."""
    world = config["world"].build()
    theta_1 = world.teacher([stream(seed, "teacher")])
    fit = fresh.train(world, config["human"].build(), theta_1, seed, [0], "human")
    return {"theta_teacher": theta_1, "theta_human": fit.theta}, {"broken": fit.broken.get(0, "")}


def train_fresh(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Fresh humans `(count, p2)` of the teacher, or of one other."""
    world, other = config["world"].build(), config["of"] == "other"
    theta_1 = world.teacher([stream(seed, "other/teacher" if other else "teacher")])
    who = "other/fresh" if other else "fresh"
    return {"theta": fresh.train(world, config["human"].build(), theta_1, seed, range(config["count"]), who).theta}, {}


def mass(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Bits of the ball, or of S, under the initialisation prior."""
    scene = Scene(people, config, seed)
    name = f"mass/{config['centre']}/{config['where']}/{config['tolerance']:g}"
    said = estimate(scene.problem(), "smc", config["effort"], generator=stream(seed, name))
    return {}, plain(said)


def count(
    people: Stored, pool: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """How many fresh humans are in the ball, how far all are from H, and how they fail off-distribution."""
    scene, theta = Scene(people, config, seed), pool.tensors["theta"].double()
    said = frequency.estimate_from(theta, scene.problem())
    apart = scene.distances(theta)
    distance, order = apart.sort()
    first = fresh.first_within(apart, config["tolerance"])
    fits = {f"human/{kind}_fit": scene.fit(kind) for kind in ("on", "off")}
    metrics = {"joint/median_distance": float(distance.median()), "joint/nearest_distance": float(distance[0]),
               "joint/trainings": float(len(theta) if first is None else first + 1),
               "human/consistency": scene.consistency(), **scene.failures(theta, int(order[0])), **fits}
    known = {"bits": said.bits, "least": said.low, "most": said.high, "bound": said.bound, "counting": said.status,
             "hits": said.diagnostics["hits"], "draws": said.diagnostics["draws"]}
    return {}, {**known, "metrics": metrics}


def code(
    people: Stored, pool: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Bits really written of H outright, by an index of a fresh human, and by differences to two of them."""
    scene, theta = Scene(people, config, seed), pool.tensors["theta"].double()
    return {}, written(scene.problem(), scene.net, scene.theta_human[0], theta, scene.distances(theta),
                       f"{seed}/human", (0,))
