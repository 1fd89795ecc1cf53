"""The entries of a world's ledger as stages: its teacher and human, what each is coded in, and the specialness.

All are of one `Event`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from reuse_sim.artifacts import Stored
from reuse_sim.errors import InputError
from reuse_sim.experiments import teacher_codes
from reuse_sim.inheritance import observed
from reuse_sim.ledger import copies, gaussian, quantised, refined, relative
from reuse_sim.rng import stream
from reuse_sim.specialness import Problem, estimate, symmetry
from reuse_sim.specialness.reference import DiagonalNormal
from reuse_sim.types import Human, World
from reuse_sim.worlds.radius import Radius

KIND = 1
"""Bits that say whether a teacher is coarse or generic, where there are both."""
WHICH = {"refined": 1, "rounded": 2, "index": 2}
"""Bits that say which code follows."""


def draw(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A teacher `(1, p1)`."""
    world, g = config["world"].build(), stream(seed, "teacher")
    coarse = config["teacher"] == "coarse"
    return {"theta_teacher": teacher_codes.coarse(world, g) if coarse else world.teacher([g])}, {}


def train(teacher: Stored, config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its human `(1, p2)`."""
    world: World = config["world"].build()
    human: Human = config["human"].build()
    theta_0 = human.init(world, [stream(seed, "human/init")])
    fit = human.train(world, theta_0, teacher.tensors["theta_teacher"], [stream(seed, "human/questions")])
    return {"theta_human": fit.theta}, {"broken": fit.broken.get(0, "")}


def spread(config: Mapping[str, Any], seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Mean and sd `(q,)` of the free coordinates over the family; no sd is 0."""
    mean, sd = teacher_codes.spread(config["world"].build(), config["family"])
    return {"mean": mean, "sd": sd}, {}


def weigh(
    teacher: Stored, human: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The specialness of the event, and how the trained human does."""
    event = Event(teacher, config, seed)
    net, theta_2 = config["human"].build().net(event.world), human.tensors["theta_human"].double()
    named = f"{len(event.x)} on-distribution questions of the {config['world'].use} world"
    problem = Problem.for_human(event.world, event.theta_1[0], net, event.x, tolerance=event.tolerance,
                                consistency=config["consistency"], questions=named)
    said = estimate(problem, "smc", config["effort"], generator=stream(seed, "specialness"))
    finite = {k: v if math.isfinite(v := getattr(said, k)) else None for k in ("bits", "low", "high")}
    own = float(problem.cost(theta_2))
    fits = {}
    for kind, draw in (("on", event.world.on_distribution), ("off", event.world.off_distribution)):
        x = draw(event.teacher, 4096, [stream(seed, f"ask/{kind}")]).double()
        h, f = event.world.human_answer(net, theta_2, x), event.world.answer(event.theta_1, x)
        fits[f"{kind}_fit"] = float(observed.fit(event.world.kind, h, f))
    return {}, {**finite, "status": said.status, "bound": said.bound, **problem.report, "consistency": own,
                "consistent": float(own <= event.tolerance), **fits}


def code_human(
    teacher: Stored, human: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """θ2 by the codes, under the initialisation prior."""
    event = Event(teacher, config, seed)
    net, theta_2 = config["human"].build().net(event.world), human.tensors["theta_human"].double()
    group = symmetry.of_net(net)
    distortion = event.distortion(lambda theta: event.world.human_answer(net, theta, event.x), theta_2)

    def units(theta: Tensor) -> tuple[list[copies.Unit], bool]:
        if group is None:
            return [tuple(theta.tolist())], False
        return [tuple(u) for u in theta[group.units].tolist()], group.signed

    sd = net.prior_sd(torch.float64)
    return {}, codes(theta_2[0], sd, distortion, event.tolerance, units, "human", seed,
                     config["descent"] if event.smooth else 0)


def code_teacher(teacher: Stored, *rest: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """θ1 by the codes of its family, or a coarse one outright: the family's spread if generic, configuration, seed."""
    *family, config, seed = rest
    event = Event(teacher, config, seed)
    if not family:
        bits = KIND + teacher_codes.coarse_bits(event.world)
        blank = dict.fromkeys(("rounded", "index", "refined", "expected", "within"))
        return {}, {**blank, "bits": bits, "copies": 0, "trouble": "", "why": "a coarse teacher is told exactly"}
    mean, sd, free, answers = event.charted(family[0])
    chart = teacher_codes.chart(event.world)
    said = codes(free[0], sd, event.distortion(answers, free), event.tolerance,
                 lambda u: (chart.units(mean + u), False), "teacher", seed, config["descent"] if event.smooth else 0)
    if isinstance(event.world, Radius) and said["bits"] is not None:  # there are coarse ones too
        said["bits"] += KIND
    return {}, said


def weigh_teacher(
    teacher: Stored, family: Stored, config: Mapping[str, Any], seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The mass of the family's normal within the tolerance of f, as a specialness of teachers."""
    event = Event(teacher, config, seed)
    mean, sd, free, answers = event.charted(family)
    distortion = event.distortion(answers, free)

    def cost(u: Tensor) -> Tensor:
        # Trajectories that ran off end in sines of infinity, which are no numbers.
        return distortion(u).nan_to_num(nan=math.inf, posinf=math.inf)

    problem = Problem(dim=len(sd), reference=DiagonalNormal(sd, "spread of the teacher's family"),
                      cost=cost, tolerance=event.tolerance,
                      consistency="mean of (f' - f)²/var f over the same questions", probe=answers)
    said = estimate(problem, "smc", config["effort"], generator=stream(seed, "teacher/mass"))
    return {}, {"mass": said.bits if math.isfinite(said.bits) else None, "mass_status": said.status}


class Event:
    """One world's event: a teacher, the questions `(n, d)` and the tolerance, the same for every entry."""

    def __init__(self, teacher: Stored, config: Mapping[str, Any], seed: int) -> None:
        self.world: Any = config["world"].build()
        self.teacher, self.tolerance = teacher.tensors["theta_teacher"], config["tolerance"]
        self.theta_1 = self.teacher.double()
        asked = self.world.on_distribution(self.teacher, config["questions"], [stream(seed, "questions")])
        self.x = asked[0].double()
        self.smooth = config["consistency"] == "squared"

    def charted(self, family: Stored) -> tuple[Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Mean and sd `(q,)` of the free coordinates, f's own less the mean `(1, q)`, and answers `(n, m)` by those."""
        chart, (mean, sd) = teacher_codes.chart(self.world), (family.tensors["mean"], family.tensors["sd"])

        def answers(u: Tensor) -> Tensor:
            return self.world.answer(chart.theta(mean + u), self.x.expand(len(u), *self.x.shape))

        return mean, sd, chart.free(self.theta_1) - mean, answers

    def distortion(self, answers: Callable[[Tensor], Tensor], theta: Tensor) -> quantised.Distortion:
        """C of networks `(n, p)` to one network's own answers, θ `(1, p)`, in place of f's; var f is that of f."""
        with torch.no_grad():
            own = answers(theta)
            variance = self.world.answer(self.theta_1, self.x[None]).var(correction=0)
        if self.smooth:
            return lambda t: (answers(t) - own).square().mean(-1) / variance
        if self.world.kind == "classification":
            return lambda t: ((answers(t) > 0) != (own > 0)).double().mean(-1)
        return lambda t: ((answers(t) - own).abs() > self.world.tolerance / 2).double().mean(-1)


def codes(
    theta: Tensor, sd: Tensor, distortion: quantised.Distortion, tolerance: float,
    units: Callable[[Tensor], tuple[list[copies.Unit], bool]], name: str, seed: int, steps: int,
) -> dict[str, Any]:
    """What each code takes for θ `(p,)` under N(0, diag sd²), and the shortest with WHICH less what copies tell.

    Roundings begin at the Gaussian's mean, which is short and within the tolerance, or else at θ. Places among draws
    give nothing back: which copy comes of them is chance. `steps` towards the Gaussian; 0 where there is no gradient.
    """
    g = stream(seed, f"{name}/gaussian")
    q = gaussian.shortest(theta, sd, distortion, tolerance, g, steps) if steps else None
    found: list[tuple[int, int]] = []
    trouble, why = "", "" if steps else "there is no Gaussian without a gradient"
    rounded = index = None
    try:
        code = quantised.shortest(theta if q is None else q.mean, sd, distortion, tolerance, "uniform")
        rounded = code.bits
        found.append((rounded + WHICH["rounded"], copies.bits(*units(code.theta))))
    except InputError as e:
        trouble = str(e)
    if q is not None:
        try:
            sent = relative.send(q.mean, q.sd, sd, distortion, tolerance, f"{seed}/{name}",
                                 stream(seed, f"{name}/index"))
            if sent.within:
                index = sent.bits
                found.append((index + WHICH["index"], 0))
            else:
                why = "no draw that was sent is within the tolerance"
        except InputError as e:
            why = str(e)
    staged = refined.shortest(sd, distortion, tolerance, f"{seed}/{name}/refined")
    if staged is not None:
        found.append((staged.bits + WHICH["refined"], 0))
    written, told = min(found, key=lambda f: f[0] - f[1]) if found else (None, None)
    return {
        "rounded": rounded, "index": index, "refined": staged and staged.bits,
        "expected": q and q.bits, "within": q and q.within,
        "multiplier": q and q.multiplier, "spread": q and q.spread, "expected_distortion": q and q.expected,
        "bits": None if written is None or told is None else max(0, written - told), "copies": told,
        "trouble": trouble, "why": why or trouble,
    }
