"""How much of the order of its data, and of its initialisation, is left in what a human does?

One cell is one world: a teacher, a human, and others who share all of its making but the batches, or but the
initialisation. What the part that differs tells of the human, to within the tolerance, is held against its own length
at the same tolerance. Arms are tolerances: the people are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from reuse_sim.artifacts import Store, Stored
from reuse_sim.errors import Refusal
from reuse_sim.experiments.scene import training_bytes
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.joint import order
from reuse_sim.ledger.shortest import shortest
from reuse_sim.nets import Mlp
from reuse_sim.plugins import STRICT, Plugin, plugin
from reuse_sim.record import Measured, Metric
from reuse_sim.rng import stream, streams
from reuse_sim.types import Human, World

PARTS = {"order": "the order of its data, given initialisation and teacher",
         "init": "its initialisation, given order of data and teacher",
         "both": "both, given the teacher"}  # fmt: skip

METHOD = (
    "A teacher f is drawn and a human learns it, from an initialisation and in batches of questions. Others share the "
    "teacher and the initialisation and have other batches, of other questions, which is more than another order; or "
    "share the batches and have another initialisation; or neither. All answer the same on-distribution questions. "
    "The bits that the part tells are those of the human's answers given the others: with their covariance taken for "
    "normal, what answers within the tolerance tell through normal noise of that variance (Σ ½ log₂(1 + λ/D)), the "
    "fewest that bring them within it (reverse water-filling), and −log₂ of the share of the others who are within "
    "it. |θ2| is the human's shortest code within the same tolerance of its own answers on the same questions, as a "
    "share of var f."
)

METRICS = (
    *(metric for name, what in PARTS.items() for metric in (
        Metric(f"joint/{name}_bits", "bits", f"what is left of {what}: through noise of the tolerance",
               r"\sum_i \tfrac12 \log_2 (1 + \lambda_i / D)", headline=True),
        Metric(f"joint/{name}_over_human", "1", "the same as a share of |θ2|", headline=True),
        Metric(f"joint/{name}_rate_bits", "bits", "the fewest that bring answers within the tolerance",
               r"\sum_i \tfrac12 \log_2^+ (\lambda_i / \theta)"),
        Metric(f"joint/{name}_count_bits", "bits", "−log₂ of the share of the others within the tolerance; where none "
               "is, log₂ of one more than their number"),
        Metric(f"joint/{name}_censored", "share", "worlds where none of the others is within the tolerance",
               binary=True))),
    Metric("joint/order_over_init", "1", "what is left of the order as a share of what is left of the initialisation"),
    Metric("ledger/human_bits", "bits", "|θ2| within the tolerance", headline=True),
    Metric("human/on_fit", "R²", "fit of the human to the teacher, on-distribution"),
    Metric("human/off_fit", "R²", "fit of the human to the teacher, off-distribution"),
)  # fmt: skip


class Config(BaseModel):
    model_config = STRICT

    world: Annotated[Plugin, plugin("worlds")]
    human: Annotated[Plugin, plugin("humans")]
    others: int = Field(128, ge=2, le=65_536, description="other humans for each part that differs")
    questions: int = Field(128, ge=2, le=100_000, description="on-distribution questions that all answer")
    tolerance: float = Field(gt=0, le=100, description="mean squared error that counts as none, as a share of var f")


def cell(arms: Mapping[str, Config], seed: int, store: Store) -> Mapping[str, Measured]:
    """One world at every tolerance. Raises Refusal where a human's training broke."""
    return {name: measure(arm, seed, store) for name, arm in arms.items()}


def measure(arm: Config, seed: int, store: Store) -> Measured:
    about = {k: v for k, v in dict(arm).items() if k != "tolerance"}
    people = store.stage("humans of one making", train_people, config=about, seed=seed)
    if people.values["broken"]:
        raise Refusal(f"a human's training broke: {people.values['broken'][0]}; lower human.rate")
    found = store.stage("what is left of it", tell, people, config=dict(arm), seed=seed)
    metrics = dict(found.values) | people.values["fits"]
    return Measured({m.name: metrics[m.name] for m in METRICS}, {}, people.sha256)


def train_people(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The answers `(n,)` of the human and `(N, n)` of the others, by part; θ1 and θ2."""
    world: World = config["world"].build()
    human: Human = config["human"].build()
    theta_1, n = world.teacher([stream(seed, "teacher")]), config["others"]

    def train(inits: list[str], batches: list[str]) -> Any:
        theta_0 = human.init(world, streams(seed, inits))
        return human.train(world, theta_0, theta_1.expand(len(inits), -1), streams(seed, batches))

    one, init, batch = ["human"], [f"init/{k}" for k in range(n)], [f"batches/{k}" for k in range(n)]
    fits = {"human": train(one, one), "order": train(one * n, batch), "init": train(init, one * n),
            "both": train(init, batch)}  # fmt: skip
    x = world.on_distribution(theta_1, config["questions"], [stream(seed, "questions")])
    net = human.net(world)
    tensors = {f"answers_{k}": world.human_answer(net, fit.theta.double(), x.double()) for k, fit in fits.items()}
    tensors |= {"theta_teacher": theta_1, "theta_human": fits["human"].theta}
    held = {kind: draw(theta_1, 4096, [stream(seed, f"ask/{kind}")])
            for kind, draw in (("on", world.on_distribution), ("off", world.off_distribution))}  # fmt: skip
    told = {f"human/{kind}_fit": float(r_squared(world.human_answer(net, fits["human"].theta, y),
                                                 world.answer(theta_1, y))) for kind, y in held.items()}  # fmt: skip
    return tensors, {"broken": [s for fit in fits.values() for s in fit.broken.values()], "fits": told}


def tell(people: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is left of every part at one tolerance, and the human's length."""
    world: World = config["world"].build()
    net: Mlp = config["human"].build().net(world)
    theta_1, theta_2 = people.tensors["theta_teacher"], people.tensors["theta_human"][0].double()
    x = world.on_distribution(theta_1, config["questions"], [stream(seed, "questions")]).double()
    answers = people.tensors["answers_human"][0]
    variance = float(world.answer(theta_1.double(), x).var(correction=0))
    near = same_answers(world, net, x[0], answers, variance)
    human = float(shortest(theta_2, net.prior_sd(torch.float64), near, config["tolerance"], f"{seed}/human").bits)
    out: dict[str, Any] = {"ledger/human_bits": human}
    for name in PARTS:
        left = order.spread(answers, people.tensors[f"answers_{name}"], config["tolerance"] * variance)
        out |= {f"joint/{name}_bits": left.noisy, f"joint/{name}_over_human": left.noisy / human,
                f"joint/{name}_rate_bits": left.rate, f"joint/{name}_count_bits": left.count,
                f"joint/{name}_censored": float(left.censored)}  # fmt: skip
    out["joint/order_over_init"] = out["joint/order_bits"] / max(out["joint/init_bits"], 1e-9)
    return {}, out


def same_answers(world: World, net: Mlp, x: Tensor, answers: Tensor, variance: float) -> Callable[[Tensor], Tensor]:
    """The mean of (H_θ − answers)²/variance over x, θ `(n, p)` -> `(n,)`."""
    return lambda theta: (world.human_answer(net, theta, x) - answers).square().mean(-1) / variance


def memory_bytes(arms: Mapping[str, Config]) -> int:
    """Peak of one cell: the training of all others of one part."""
    most = max(training_bytes(c.human.build(), c.world.build(), c.others) for c in arms.values())
    return most + 2**29  # and the libraries themselves
