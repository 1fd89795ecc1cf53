"""Does paying for specialness make an outer that sees many humans answer with f, where otherwise it becomes the human?

One cell is one world: some teachers, many humans who learned from them, and outers that are shown the θ2 of whoever
they are asked about. Arms differ in what they are paid for and by whose labels they learn, and are trained side by
side; they are measured on humans they never met.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field, model_validator

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments.context_paying import Place, access, account, measure_outers, train_outers
from reuse_sim.experiments.scene import does_not_fail, measure_humans, people_bytes, train_people
from reuse_sim.humans.people import Population
from reuse_sim.inheritance import figures
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream

DECIDED = 2.0
"""Bits, beside twice its standard error, by which the ledger must prefer one head for it to say anything."""
ROUGH_BITS, ROUGH_SHARE = 6.0, 0.1
"""Standard error, or share of the figure, up to which what a head is given back is told."""

METHOD = (
    "Teachers are drawn; many humans learn from them, as many from each, on-distribution. An outer model is shown the "
    "parameters of whichever human it is asked about and has two heads: what is right, and what the human answers. Its "
    "loss, in nats and averaged over humans, is the misfit of its answers to the labels on 64 named questions and on "
    "fresh ones, the squared error of the predicted human answers, and, where rewarded, log Z: the log of the share "
    "of humans, under the initialisation prior, that agree on the named questions with what the head answers when "
    "shown them. Some arms charge that the humans asked about agree as well. Errors are relative to the tolerance and "
    "weigh 64; misfits count only what is beyond it. The tolerance is 1.1 times the humans' mean error. The gradient "
    "of log Z is averaged over other humans, persistent Hamiltonian chains that follow the head; there, errors beyond "
    "twice the tolerance count by their logarithm. The shuffled control holds the head's answers against the humans' "
    "in a fixed wrong order of the questions. All arms of a world share every random stream. Measured are humans that "
    "were held out, their siblings (private) and repaired twins (total) put in their place. The ledger has no price on "
    "the outer, whom all humans share: f by a head that is shown which of G teachers costs log₂ G bits less S, a copy "
    "its misfit."
)  # fmt: skip

OUTER = ("inheritance/causal_private", "inheritance/causal_total", "inheritance/contrast", "inheritance/gap_recovered",
         "inheritance/beta", "inheritance/agree_human", "inheritance/agree_teacher", "inheritance/agree_neither",
         "inheritance/own_failure", "outer/context_recovery", "outer/off_fit", "outer/on_fit")  # fmt: skip
ROUGH = "A rough figure, from few particles, with its standard error beside it."
BACK, ERROR = "specialness/given_back_bits", "specialness/given_back_error_bits"
TOLD = "None where that is above 6 bits and a tenth of it."
METRICS = (
    *(m for m in figures.OUTER if m.name in OUTER),
    Metric("choice/swap_residual", "1", "Squared change of the outer's answers over that of the human's, siblings put "
           "in its place: 0 where nothing of it is used, 1 for a copy.", r"\sum\|M'-M\|^2 / \sum\|H'-H\|^2"),
    Metric("choice/own_share", "share", "Variance over questions of the outer's mean answer, humans from the prior put "
           "in, over the mean variance of its answers: 0 none of its own, 1 the same whoever is there."),
    Metric("choice/agrees_fresh", "share", "Humans drawn from the prior that agree with what the outer answers about "
           "them: 1 for a copy.", headline=True),
    Metric("choice/agrees_trained", "share", "Humans it was trained on that do."),
    Metric("choice/misfit_bits", "bits", "Misfit to the labels of the named questions, mean over those humans."),
    Metric("choice/acceptance", "share", "Of the chains' moves in the end; none without a reward."),
    Metric("choice/chain_nats", "nats", "Mean U of the chains in the end; none without a reward."),
    Metric("choice/against_ledger", "share", "1 where the outer follows the human by more than half (total causal) and "
           "the ledger prefers f, or the other way round; none where that is by less than 2 bits and two errors of S.",
           binary=True),
    Metric(BACK, "bits", f"−log₂ Z of the trained head, whether paid or not. {ROUGH} {TOLD}",
           headline=True),
    Metric(ERROR, "bits", "Its standard error."),
    Metric("specialness/bits", "bits", f"S of agreeing with f, mean over two teachers. {ROUGH}"),
    Metric("specialness/error_bits", "bits", "Its standard error."),
    Metric("ledger/copy_bits", "bits", "Misfit of an exact copy to the labels; every human agrees with it."),
    Metric("ledger/intended_bits", "bits", "Misfit of f, and log₂ G − S for a head that is shown which f."),
    Metric("ledger/difference_bits", "bits", "The first less the second: above 0 f is preferred."),
    *figures.HUMAN,
)  # fmt: skip

PEOPLE = ("world", "strength", "population", "human", "repair_share")
PER_ARM = ("sees", "labels", "reward", "since", "moves", "meets")


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    strength: float = Field(1.0, ge=0, le=100, description="how far off-distribution; 0 is the world's mildest")
    population: Population
    human: Annotated[Plugin, plugin("humans")]
    repair_share: float = Field(
        0.5, gt=0, lt=1, description="weight of off-distribution truth in a repaired twin's loss"
    )
    must_fail: bool = Field(True, description="leave out worlds whose humans are as good off-distribution as on it")
    questions: int = Field(1000, ge=30, le=100_000, description="questions per measured human, on and off each")

    outer: Annotated[Plugin, plugin("outers")]
    asked: int = Field(64, ge=2, le=10_000, description="named questions, those of the condition")
    batch: int = Field(32, ge=1, le=10_000, description="fresh questions per human and step, on and off each")
    humans_per_step: int = Field(12, ge=1, le=10_000, description="humans asked about in one step")
    steps: int = Field(800, ge=10, le=1_000_000)
    rate: float = Field(0.01, gt=0, le=1)
    chains: int = Field(8, ge=1, le=1024, description="humans in the chains of an outer")
    leapfrogs: int = Field(3, ge=1, le=100)
    effort: float = Field(0.02, ge=0, le=100, description="of the sampler of what is given back; 0: not asked")

    sees: Literal["human", "nothing"] = "human"
    labels: Literal["teacher", "human"] = Field("teacher", description="who says what is right on-distribution")
    reward: Literal["none", "own", "shuffled"] = "own"
    since: float = Field(0.0, ge=0, lt=1, description="share of training after which the reward counts")
    moves: int = Field(1, ge=1, le=100, description="trajectories of each chain at each step")

    meets: bool = Field(False, description="the loss has U of the humans asked about: they are to meet the condition")

    @model_validator(mode="after")
    def _possible(self) -> Config:
        if self.reward == "none" and (self.since or self.moves > 1):
            raise ValueError("since and moves belong to a reward")
        if self.meets and self.labels == "human":
            raise ValueError("meets is for labels of the teacher: the human's own are the condition's already")
        if self.reward != "none" and self.sees == "nothing":
            raise ValueError("a reward is for what is answered when shown the human: sees must be human")
        return self


def check(arms: Mapping[str, Config]) -> None:
    """Let the outer answer one blank question. Raises InputError where world, human and outer do not fit."""
    arm = next(iter(arms.values()))
    world, outer = arm.world.build(), arm.outer.build()
    net = arm.human.build().net(world)
    if world.kind != "regression":
        raise InputError("world", arm.world.use, "a world whose answers are numbers")
    given = access(torch.zeros(1, 1, net.p), torch.ones(1))
    outer.answer(world, net, outer.init(net, [stream(0, "check")]), torch.zeros(1, 1, 1, world.d), given)


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where a human's training broke, where humans do not fail, or a constant agrees."""
    first = next(iter(arms.values()))
    about = {k: getattr(first, k) for k in type(first).model_fields if k not in PER_ARM}
    people = store.stage("people", train_people, config={k: about[k] for k in PEOPLE}, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
    config = {k: about[k] for k in (*PEOPLE, "questions")}
    human = store.stage("human figures", measure_humans, people, config=config, seed=seed).values
    if first.must_fail and (trouble := does_not_fail(human)):
        raise Refusal(trouble, "undecided")
    config = about | {"arms": {name: arm.model_dump(include=set(PER_ARM)) for name, arm in arms.items()}}
    if Place(people, config, seed).constant <= 1:
        raise Refusal("a constant answer is within the tolerance of the humans: take wider humans or more of their "
                      "steps", "undecided")  # fmt: skip
    outers = store.stage("paid outers", train_outers, people, config=config, seed=seed)
    found = store.stage("paid figures", measure_outers, people, outers, config=config, seed=seed).values
    book = store.stage("paid ledger", account, people, outers, config=config, seed=seed).values
    return {name: measure(name, arm, human, outers, found[name], book) for name, arm in arms.items()}


def measure(
    name: str, arm: Config, human: Mapping[str, float], outers: Stored, found: Mapping[str, Mapping], book: Mapping
) -> Measured:
    """One arm; failed where its training broke."""
    ledger, back = book["ledger"].get(arm.labels, {}), book["given"].get(name, {})
    metrics: dict[str, float | None] = {**human, **found["metrics"], **back, **ledger}
    difference, error = ledger.get("ledger/difference_bits", 0.0), ledger.get("specialness/error_bits", 0.0)
    if abs(difference) > DECIDED + 2 * error:
        follows = found["metrics"]["inheritance/causal_total"] > 0.5
        metrics["choice/against_ledger"] = float(follows == (difference > 0))
    if back and back[ERROR] > max(ROUGH_BITS, ROUGH_SHARE * back[BACK]):
        metrics[BACK] = None
    metrics = {m.name: metrics.get(m.name) for m in METRICS}
    broken, silent = outers.values["broken"].get(name), [k for k, v in metrics.items() if v is None]
    reason = "; ".join([*([f"the outer's training broke: {broken}; lower rate"] if broken else []),
                        *([f"not told here: {', '.join(silent)}"] if silent else [])])  # fmt: skip
    diagnostics = {**found["parts"], "status_given_back": book["statuses"].get(name, ""),
                   "status_f": book["statuses"].get("f", "")}  # fmt: skip
    return Measured(metrics, diagnostics, outers.sha256, "failed" if broken else "ok", reason)


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: training people, or the outers of all arms with their chains, in float32 with a margin."""
    c = next(iter(arms.values()))
    world, outer = c.world.build(), c.outer.build()
    net = c.human.build().net(world)
    wide = getattr(outer, "width", 64) * max(net.sizes)
    asked = c.humans_per_step * (c.asked + 2 * c.batch) + c.chains * c.asked
    outers = len(arms) * (8 * outer.init(net, [torch.Generator()]).numel() + asked * 12 * wide)
    measures = len(range(c.population.count)[c.population.measured]) * c.questions * 6 * wide
    return people_bytes(c) + 4 * (outers + measures) + 2**29  # and the libraries themselves
