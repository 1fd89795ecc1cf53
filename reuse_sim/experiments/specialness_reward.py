"""Does paying an answer head for the specialness of its human make it answer with its own f? Would it in the ledger?

One cell is one world: a teacher f, a human that learned it, and heads f1 = c H + N that learn to answer from the
human's own labels. Arms are heads that start elsewhere or are paid otherwise, trained side by side. Beside them stands
the exact ledger of the same event: what a copy costs, and what f costs less the bits that its specialness gives back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field, model_validator

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import Refusal
from reuse_sim.experiments.paid_heads import KNOWN, train_heads, watch
from reuse_sim.experiments.paying import account, train_people
from reuse_sim.experiments.scene import does_not_fail, training_bytes
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.remedies.chains import Condition

DECIDED = 2.0
"""Bits by which the ledger must prefer one head for it to say anything."""

METHOD = (
    "A teacher f is drawn and a human H learns it on-distribution. Heads f1 = c H + N learn from the human's own "
    "answers on-distribution; N is a network of the outer model's own with a normal posterior over its parameters. "
    "Their loss, in nats, is the length of a code of those parameters (KL of the posterior to its prior, and the "
    "misfit of draws to the mean's own answers), the misfit of the mean to the labels on two sets of 128 questions, "
    "and, where rewarded, log Z: the log of the share of humans, under the initialisation prior, that agree with the "
    "head on one of them. Misfits are 64 times the excess of the mean squared error over the tolerance, relative to "
    "it; the tolerance is 1.1 times the human's own error. The gradient of log Z is averaged over humans of a "
    "population of its own, persistent Hamiltonian chains that follow the head. The shuffled control shows the chains"
    " the head's own part in a fixed wrong order of the questions. The ledger is the same loss, at its ends: J of the"
    " copy is the least of it with c = 1; J of the direct head is the lower of two: the shortest of six codes of f by"
    " N less S, the specialness of agreeing with f; and what training with c held at 0 comes to from there. Both take"
    " log Z from sequential Monte Carlo. A head is called direct where N makes up more than half of the variance of "
    "its answer. Swaps put siblings (private) or a repaired human (total) in the trained head's place. The H of a head "
    "is the human itself, or a network of its architecture that is learned beside the head: a normal posterior whose KL"
    " to the initialisation prior is paid, and at the same tolerance its misfit, and that of its draws, to what the "
    "human is seen to answer to two further sets of 128 questions, on- and off-distribution. On the condition's "
    "questions the head must then agree with it and not with the labels. What the head misses bends it too, unless that"
    " gradient is stopped. log Z is over all humans, whoever is in the slot, and the ledger leaves the slot out, for "
    "which both of its heads must pay."
)

WHERE = "in worlds where the ledger prefers f by more than 2 bits; none elsewhere"
METRICS = (
    Metric("inheritance/causal_private", "1", "Change of the head's answers off-distribution on that of the human's, "
           "siblings put in its place: 1 follows the human."),
    Metric("inheritance/causal_total", "1", "The same with a repaired human in its place.",
           headline=True),
    Metric("inheritance/gap_recovered", "share", "1 − MSE(f1, f)/MSE(H, f) off-distribution.", headline=True),
    Metric("choice/share_of_human", "1", "c, the weight of the human's answer in the head."),
    Metric("choice/swap_residual", "1", "Squared change of the head's answers over that of the human's, siblings put "
           "in its place: 0 where nothing of it is used, 1 for a copy.", r"\sum\|M'-M\|^2 / \sum\|H'-H\|^2"),
    Metric("choice/distance_human", "sd of f", "Root mean square of f1 − H off-distribution."),
    Metric("choice/distance_teacher", "sd of f", "Root mean square of f1 − f off-distribution."),
    Metric("choice/own_share", "share", "Variance of N's answers on-distribution over that of N's and the human's.",
           r"\mathrm{var}\,N / (\mathrm{var}\,N + \mathrm{var}(cH + r \cdot h))", headline=True),
    Metric("choice/direct", "share", "1 where that is above a half.", binary=True),
    Metric("choice/against_ledger", "share", "1 where that is not what the ledger prefers; none where it prefers "
           "neither by more than 2 bits.", headline=True, binary=True),
    Metric("choice/causal_where_direct", "1", f"Total causal {WHERE}."),
    Metric("choice/gap_where_direct", "share", f"Gap recovered {WHERE}."),
    Metric("choice/price_bits", "bits", "KL of the trained own network."),
    Metric("choice/misfit_bits", "bits", "Misfit of the trained head on both sets of questions."),
    Metric("choice/acceptance", "share", "Of the chains' moves in the end; none without a reward."),
    Metric("outer/context_recovery", "R²", "Fit of the slot's human to the actual one off-distribution; 1 where it is "
           "given. Where it is low nothing else means anything.", headline=True),
    Metric("slot/bits", "bits", "KL of the slot to the initialisation prior; 0 where the human is given."),
    Metric("slot/misfit_bits", "bits", "Misfit of the slot to the behaviour it saw, and of its draws."),
    Metric("slot/human_first", "share", f"1 where the slot knows the human (R² {KNOWN} off-distribution) before N knows"
           f" f (R² {KNOWN} on-distribution), by tenths of training; ½ where both come at once, none where neither."),
    Metric("ledger/difference_bits", "bits", "J of the copy less J of the direct head: above 0 that is preferred.",
           r"J_{copy} - J_{direct}"),
    Metric("ledger/copy_bits", "bits", "J of the copy: what it costs to keep N silent. Every human agrees with it."),
    Metric("ledger/direct_bits", "bits", "J of the direct head: the lower of the next two."),
    Metric("ledger/intended_bits", "bits", "The code of f less S."),
    Metric("ledger/held_bits", "bits", "J of what training with c held at 0 comes to from that code."),
    Metric("ledger/direct_gap", "share", "Gap recovered by the direct head: is it right where the human is not?"),
    Metric("ledger/teacher_bits", "bits", "KL of N's code of f within the tolerance."),
    Metric("ledger/copy_preferred", "share", "1 where the copy is shorter than either before bits come back.",
           binary=True),
    Metric("specialness/bits", "bits", "S of agreeing with f, soft with the same misfit."),
    Metric("specialness/held_bits", "bits", "The same of agreeing with the head that was held at c = 0."),
    Metric("human/on_fit", "R²", "Fit of the human to f on-distribution."),
    Metric("human/off_fit", "R²", "Fit of the human to f off-distribution."),
    Metric("outer/on_fit", "R²", "Fit of the head to f on-distribution."),
    Metric("outer/off_fit", "R²", "Fit of the head to f off-distribution."),
    Metric("train_flops", "FLOPs", "Of training the head, its chains with it."),
)  # fmt: skip

OF_LOG_Z = ("ledger/difference_bits", "ledger/direct_bits", "ledger/intended_bits", "ledger/held_bits",
            "specialness/bits", "specialness/held_bits")
"""What is not told where log Z is not believed."""
SHARED = ("world", "human", "must_fail", "questions", "asked", "own", "width", "steps", "rate", "code_steps",
          "population", "leapfrogs", "effort", "behaviour", "slot_steps")  # fmt: skip


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    questions: int = Field(128, ge=2, le=10_000, description="of the condition, and as many of the data")
    asked: int = Field(2048, ge=2, le=100_000, description="off-distribution questions that failure is told on")
    own: Literal["wave", "tanh"] = Field("wave", description="units of N: sines, as f is made of, or like the human's")
    width: int = Field(4, ge=1, le=256, description="hidden units of the own network N")
    steps: int = Field(500, ge=10, le=1_000_000)
    rate: float = Field(0.02, gt=0, le=1)
    code_steps: int = Field(400, ge=10, le=1_000_000, description="of coding f, and then of the ledger's direct head")
    population: int = Field(8, ge=1, le=1024, description="humans in the chains of a head")
    leapfrogs: int = Field(4, ge=1, le=100)
    must_fail: bool = Field(True, description="leave out worlds whose human is as good off-distribution as on it")
    effort: float = Field(0.25, gt=0, le=100, description="of the sampler of S")
    behaviour: int = Field(
        128, ge=2, le=10_000, description="questions of each distribution that a learned slot sees the human answer"
    )
    slot_steps: int = Field(1000, ge=10, le=1_000_000, description="of a warm slot's learning before answers begin")

    start: Literal["copy_cold", "copy_warm", "direct", "fresh"] = Field(
        "copy_cold", description="copies are c = 1 and N silent, its units drawn anew or those of the ledger's direct "
        "head; direct is that head itself; fresh is c = 0 and N drawn"
    )
    reward: Literal["none", "own", "shuffled"] = "own"
    since: float = Field(0.0, ge=0, le=1, description="share of training after which the reward counts")
    opens: float = Field(0.0, ge=0, le=1, description="share of training before which the human cannot be used")
    moves: int = Field(1, ge=1, le=100, description="trajectories of each chain at each step")
    free: bool = Field(False, description="c from −3 to 3 and not from 0 to 1")
    reads: bool = Field(False, description="the head reads the human's hidden units too, by weights without a price")
    price: Literal["kl", "l2"] = "kl"
    slot: Literal["given", "learned", "warm"] = Field(
        "given", description="the head's human is the actual one, one learned beside the head from nothing, or one "
        "learned before answers begin and further on"
    )
    joint: bool = Field(True, description="what the head's answers miss bends a learned slot too")

    @model_validator(mode="after")
    def _possible(self) -> Config:
        if self.reward == "none" and self.since:
            raise ValueError("since belongs to a reward")
        if self.slot == "given" and not self.joint:
            raise ValueError("joint belongs to a slot that is learned or warm")
        return self


def check(arms: Mapping[str, Config]) -> None:
    """Raises InputError where the chains cannot move this kind of human."""
    arm = next(iter(arms.values()))
    world = arm.world.build()
    Condition(arm.human.build().net(world), torch.zeros(2, world.d), 1.0)


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world. Raises Refusal where the human's training broke, or the human does not fail off-distribution."""
    shared = next(iter(arms.values())).model_dump(include=set(SHARED), exclude={"world", "human"})
    first = next(iter(arms.values()))
    about = shared | {"world": first.world, "human": first.human}
    people = store.stage("people", train_people, config={k: about[k] for k in ("world", "human", "questions", "asked")},
                         seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
    if first.must_fail and (trouble := does_not_fail(people.values["human"])):
        raise Refusal(trouble, "undecided")
    if people.values["constant"] <= 1:
        raise Refusal("a constant answer is within the tolerance of the human: take a wider human or more of its steps",
                      "undecided")  # fmt: skip
    ledger = store.stage("ledger", account, people, config=about, seed=seed)
    own = {name: arm.model_dump(exclude=set(SHARED)) for name, arm in arms.items()}
    watched = store.stage("watched", watch, people, config=about | {"slots": sorted({a.slot for a in arms.values()})},
                          seed=seed)  # fmt: skip
    heads = store.stage("heads", train_heads, people, ledger, watched, config=about | {"arms": own}, seed=seed)
    return {name: measure(name, people, ledger, heads) for name in arms}


def measure(name: str, people: Stored, ledger: Stored, heads: Stored) -> Measured:
    """One arm; undecided where the head broke. Where log Z is not believed the ledger says nothing, the head does."""
    found, book = heads.values["arms"][name], ledger.values["metrics"]
    doubts = list(ledger.values["trouble"])
    difference = book["ledger/difference_bits"]
    direct, preferred = float(found["choice/own_share"] > 0.5), difference > DECIDED and not doubts
    metrics: dict[str, float | None] = {
        **people.values["human"], **book, **found,
        "choice/direct": direct,
        "choice/against_ledger": None if doubts or abs(difference) <= DECIDED else float(direct != preferred),
        "choice/causal_where_direct": found["inheritance/causal_total"] if preferred else None,
        "choice/gap_where_direct": found["inheritance/gap_recovered"] if preferred else None,
    }
    if doubts:
        metrics |= dict.fromkeys(OF_LOG_Z)
    broken = name in heads.values["broken"]
    metrics = {m.name: metrics.get(m.name) for m in METRICS}
    silent = [k for k, v in metrics.items() if v is None]
    reason = "; ".join([*(["the head's loss stopped being finite: lower rate"] if broken else []), *doubts,
                        *([f"not told here: {', '.join(silent)}"] if silent else [])])  # fmt: skip
    return Measured(metrics, {"c_path": heads.values["c_path"][name], **ledger.values["estimates"]}, heads.sha256,
                    "undecided" if broken else "ok", reason)  # fmt: skip


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the chains of all heads at once, or the humans' training."""
    first = next(iter(arms.values()))
    human, world = first.human.build(), first.world.build()
    chains = 4 * len(arms) * first.population * first.questions * 8 * sum(human.net(world).sizes)
    return max(chains, training_bytes(human, world, 5)) + 2**29  # and the libraries themselves
