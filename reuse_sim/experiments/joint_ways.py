"""Ways to have f and H both in one world: codes that were read back, and trainings that were run.

Each function below gives the ways of one kind, with bits and FLOPs as seen; `joint_pareto` searches over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from reuse_sim import specialness
from reuse_sim.engines.spec import BLOCK, Adam, Fresh, Head
from reuse_sim.errors import InputError
from reuse_sim.experiments import teacher_codes
from reuse_sim.experiments.rederive import rederived
from reuse_sim.experiments.scene import MUST_FAIL_BY
from reuse_sim.inheritance import observed
from reuse_sim.joint.derivation import Way, way
from reuse_sim.joint.recover import recover
from reuse_sim.joint.replay import Process, replays
from reuse_sim.joint.unrolled import supervised
from reuse_sim.ledger.shortest import shortest
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import symmetry
from reuse_sim.train import train
from reuse_sim.types import World

CORRECTED = 64
"""Fresh humans of whom the nearest is corrected in weight space."""
LESSON, RUNS = 64, 4
"""Questions of a step in which networks learn f, H or both, and how many learn, of which the best is taken."""
ROOM = 0.5
"""Share of the tolerance that a shared network may take before it is rounded; with less left its code is no shorter."""
CHEAP = 0.01
"""Share of the human's FLOPs that a learner may take and still be called fast."""
PAIR, REUSE = ("f", "H", "f on-distribution"), ("H", "f on-distribution")
"""What answering with both gives, and what answering with the human does."""


@dataclass
class Scene:
    """One world's people and questions, in float64; distances in answers are shares of var f.

    `ways`, `metrics` and `why` (a sentence for each way that is not there) are what the functions below add to.
    """

    config: Any
    people: Mapping[str, Tensor]
    seed: int
    ways: list[Way] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        c = self.config
        self.world: World = c.world.build()
        self.kind: Any = c.human.build()
        self.net: Mlp = self.kind.net(self.world)
        self.tolerance: float = c.tolerance
        self.teacher, self.human = (self.people[name][0].double() for name in ("teacher", "human"))
        self.x = self.asked("on", c.questions, "asked")
        self.f, self.h = self.right(self.x), self.of_human(self.x)
        self.variance = self.f.var(correction=0)
        self.sd = self.net.prior_sd(torch.float64)
        self.off = self.asked("off", c.off_questions, "off/asked")
        self.on = self.asked("on", c.off_questions, "on/asked")
        self.train_flops = float(self.kind.train_flops(self.world))
        self.answer_f, self.answer_h = 2.0 * self.teacher.numel(), 2.0 * self.net.p

    def asked(self, where: str, n: int, name: str) -> Tensor:
        draw = self.world.on_distribution if where == "on" else self.world.off_distribution
        return draw(self.people["teacher"], n, [stream(self.seed, name)])[0].double()

    def right(self, x: Tensor, theta_1: Tensor | None = None) -> Tensor:
        """What f, or teachers `(n, p1)`, answer to x `(m, d)`: `(m,)`, or `(n, m)`."""
        if theta_1 is None:
            return self.world.answer(self.teacher[None], x[None])[0]
        return self.world.answer(theta_1, x.expand(len(theta_1), -1, -1))

    def of_human(self, x: Tensor) -> Tensor:
        """What H answers to x `(m, d)`: `(m,)`."""
        return self.net.forward(self.human, x)[..., 0]

    def apart(self, answers: Tensor, truth: Tensor) -> Tensor:
        """The mean of (answer − truth)²/var f, `(n, questions)` -> `(n,)`."""
        return (answers - truth).square().mean(-1) / self.variance

    def from_human(self, theta_2: Tensor) -> Tensor:
        """The same of networks `(n, p2)` and the human."""
        return self.apart(self.net.forward(theta_2, self.x)[..., 0], self.h)

    def fit(self, answers: Tensor, truth: Tensor) -> float:
        return float(observed.r_squared(answers[None], truth[None]))

    def learn(self, net: Mlp, told: Callable[[Tensor], Tensor], name: str) -> Tensor:
        """θ `(p,)` of the best of RUNS networks that learn what they are `told` `(n, d)` -> `(n, outputs)`."""
        own = streams(self.seed, [f"{name}/{i}/questions" for i in range(RUNS)])
        teacher = self.people["teacher"].expand(RUNS, -1)

        def draw(members: slice, n: int) -> tuple[Tensor, Tensor]:
            x = self.world.on_distribution(teacher[members], n, own[members])
            return x, torch.stack([told(q.double()).float() for q in x])

        start = net.init(streams(self.seed, [f"{name}/{i}/init" for i in range(RUNS)]))
        fit = train(net, start, Fresh(draw, LESSON), steps=self.config.lessons, optimizer=Adam(0.02),
                    heads=(Head("squared", net.sizes[-1]),), engine="torch")
        wrong = (net.forward(fit.theta.double(), self.x) - told(self.x)).square().mean((-1, -2))
        return fit.theta[int(wrong.nan_to_num(torch.inf).argmin())].double()


def apart(s: Scene) -> Tensor:
    """θ1 and θ2, each by its own code; θ1 as decoded `(1, p1)`."""
    error = s.tolerance * float(s.variance)
    teacher, bits = teacher_codes.told(s.world, s.teacher[None], s.x, error, f"{s.seed}/teacher")
    human = shortest(s.human, s.sd, s.from_human, s.tolerance, f"{s.seed}/human")
    s.ways += [
        way("read θ1", (), ("θ1",), bits), way("read θ2", (), ("θ2",), human.bits),
        way("answer as f", ("θ1",), ("f", "f on-distribution"), question=s.answer_f),
        way("answer as H", ("θ2",), REUSE, question=s.answer_h),
    ]  # fmt: skip
    s.metrics |= {
        "ledger/teacher_bits": float(bits), "ledger/human_bits": float(human.bits),
        "joint/decoded_off_fit": s.fit(s.right(s.off, teacher)[0], s.right(s.off)),
        "human/on_fit": s.fit(s.of_human(s.on), s.right(s.on)),
        "human/off_fit": s.fit(s.of_human(s.off), s.right(s.off)),
    }  # fmt: skip
    return teacher


def rerun(s: Scene) -> Process:
    """The human's own training as a function of its start: its questions in their order."""
    own, teacher, human = stream(s.seed, "human/questions"), s.people["teacher"], s.kind
    blocks = -(-human.steps // BLOCK)
    x = torch.cat([s.world.on_distribution(teacher, BLOCK * human.batch, [own])[0] for _ in range(blocks)])
    x = x.unflatten(0, (-1, human.batch))[: human.steps]
    y = s.world.answer(teacher, x.flatten(0, 1)[None])[0].view(x.shape[:2])
    return Process(s.net, x, y, Adam(human.rate))


def by_process(s: Scene) -> None:
    """θ1, a start and the training rerun: the human's own start, and one learned by descent from a known one."""
    process = rerun(s)
    s.metrics["joint/replays"] = float(replays(process, s.people["start"], s.people["human"]))

    def bits(change: Tensor, origin: Tensor, name: str) -> int | None:
        """Of a start's difference `(p2,)` to a known one; None where no rounding of it trains to H."""
        def drift(d: Tensor) -> Tensor:
            return s.from_human(process(origin + d))

        try:
            return shortest(change, s.sd, drift, s.tolerance, f"{s.seed}/{name}", "uniform").bits
        except InputError:
            return None

    own = s.people["start"][0].double()
    if (told := bits(own, torch.zeros_like(own), "start")) is None:
        s.why.append("no rounding of the initialisation trains to the human within the tolerance")
    else:
        s.ways += [way("read start", (), ("start",), told), way("train", ("θ1", "start"), ("θ2",), once=s.train_flops)]
    known = s.net.init([stream(s.seed, "known/init")], torch.float64)
    unrolled = supervised(s.net, process.x.double(), process.y.double(), process.steps, process.optimizer)
    found = recover(unrolled, known, s.sd, s.from_human, [s.tolerance], steps=s.config.search)
    told = bits(found.theta[0, 0] - known[0], known[0], "learned start") if bool(found.reached.all()) else None
    if told is None:
        s.why.append(f"no learned start that trains to the human within the tolerance in {s.config.search} steps")
    else:
        s.ways += [way("read learned start", (), ("learned start",), told),
                   way("train from learned", ("θ1", "learned start"), ("θ2",), once=s.train_flops)]


def by_fresh_humans(s: Scene) -> None:
    """θ1 and fresh humans of it: the nearest corrected in weights, or one within the tolerance told by its number."""
    people, count = s.people["fresh"].double(), len(s.people["fresh"])
    near = torch.cat([s.from_human(part) for part in people.split(256)])
    group = symmetry.of_net(s.net)
    assert group is not None
    best = group.align(people[int(near[:CORRECTED].argmin())][None] / s.sd, s.human / s.sd)[0] * s.sd
    correction = shortest(s.human - best, s.sd, lambda d: s.from_human(best + d), s.tolerance,
                          f"{s.seed}/correction")
    s.ways += [
        way(f"train {CORRECTED} fresh", ("θ1",), (f"{CORRECTED} fresh",), once=CORRECTED * s.train_flops),
        way("correct the nearest", (f"{CORRECTED} fresh",), ("θ2",), math.log2(CORRECTED) + correction.bits),
    ]
    within = near <= s.tolerance
    s.metrics["joint/fresh_within"] = float(within.double().mean())
    if not bool(within.any()):
        s.why.append(f"none of {count} fresh humans within the tolerance: an index takes more than "
                     f"{math.log2(count):.1f} bits")
        return
    # As many are trained as it takes on average to meet one within the tolerance.
    share = float(within.double().mean())
    s.ways += [way("train fresh", ("θ1",), ("fresh",), once=s.train_flops / share),
               way("pick one", ("fresh",), ("θ2",), -math.log2(share))]
    picked = people[int(within.nonzero()[0])]
    s.metrics["joint/index_off_fit"] = s.fit(s.net.forward(picked, s.off)[..., 0], s.of_human(s.off))


def by_residual(s: Scene, decoded: Tensor) -> None:
    """θ1 as decoded, and a network for what H answers beyond it."""
    rest = s.learn(s.net, lambda q: (s.of_human(q) - s.right(q, decoded)[0]).unsqueeze(-1), "residual")
    f = s.right(s.x, decoded)[0]

    def left(theta: Tensor) -> Tensor:
        return s.apart(f + s.net.forward(theta, s.x)[..., 0], s.h)

    try:
        residual = shortest(rest, s.sd, left, s.tolerance, f"{s.seed}/residual")
    except InputError:
        s.why.append("no residual network within the tolerance")
        return
    s.ways += [way("read residual", (), ("residual",), residual.bits),
               way("f and residual", ("θ1", "residual"), ("H",), question=s.answer_f + s.answer_h)]
    said = s.right(s.off, decoded)[0] + s.net.forward(residual.theta, s.off)[..., 0]
    s.metrics["joint/residual_off_fit"] = s.fit(said, s.of_human(s.off))


def by_one_network(s: Scene) -> None:
    """One network that answers for both, the shortest of several widths; its f is f, or f on-distribution only."""
    best: tuple[int, Mlp, Tensor] | None = None
    for width in s.config.shared_widths:
        net = Mlp((s.world.d, width, 2), s.net.activation)
        theta = s.learn(net, lambda q: torch.stack([s.right(q), s.of_human(q)], -1), f"shared/{width}")

        def worse(theta: Tensor, net: Mlp = net) -> Tensor:
            said = net.forward(theta, s.x)
            return torch.maximum(s.apart(said[..., 0], s.f), s.apart(said[..., 1], s.h))

        if float(worse(theta[None])[0]) <= ROOM * s.tolerance:
            told = shortest(theta, net.prior_sd(torch.float64), worse, s.tolerance, f"{s.seed}/shared/{width}")
            if best is None or told.bits < best[0]:
                best = told.bits, net, told.theta
    if best is None:
        s.why.append(f"no shared network within {ROOM:g} of the tolerance before rounding")
        return
    bits, net, theta = best
    off = s.metrics["joint/shared_off_fit"] = s.fit(net.forward(theta, s.off)[..., 0], s.right(s.off))
    gives = PAIR if off >= (s.metrics["joint/decoded_off_fit"] or 0.0) - MUST_FAIL_BY else REUSE
    s.ways += [way("read shared", (), ("shared",), bits),
               way("answer as both", ("shared",), gives, question=2.0 * net.p)]


def by_distilling(s: Scene) -> None:
    """f decoded from θ2: a network of about the teacher's size learns it from H's answers on-distribution."""
    net = Mlp((s.world.d, max(1, round((s.teacher.numel() - 1) / (s.world.d + 2))), 1), s.net.activation)
    theta = s.learn(net, lambda q: s.of_human(q).unsqueeze(-1), "distilled")
    s.ways += [
        way("learn f from H", ("θ2",), ("f by H",), once=6.0 * net.p * s.config.lessons * LESSON),
        way("answer as learned", ("f by H",), ("f on-distribution",), question=2.0 * net.p),
    ]
    for where, x in (("on", s.on), ("off", s.off)):
        s.metrics[f"joint/distilled_{where}_fit"] = s.fit(net.forward(theta, x)[..., 0], s.right(x))


def by_bits_back(s: Scene) -> str:
    """θ1 and θ2 less the specialness, where H is within the tolerance of f; the sampler's status."""
    consistency = s.metrics["joint/human_consistency"] = float(s.apart(s.h[None], s.f)[0])
    if consistency > s.tolerance:
        s.why.append(f"the human, at {consistency:.3g}, is not within the tolerance of f itself")
        return ""
    problem = specialness.Problem.for_human(s.world, s.people["teacher"][0], s.net, s.x, tolerance=s.tolerance)
    found = specialness.estimate(problem, "smc", s.config.effort, generator=stream(s.seed, "specialness"))
    s.metrics["specialness/bits"] = found.bits
    bits = max(0.0, sum(s.metrics[f"ledger/{who}_bits"] or 0.0 for who in ("teacher", "human")) - found.bits)
    flops = 6.0 * s.net.p * len(s.x) * found.evaluations
    s.ways.append(way("bits back", (), ("θ1", "θ2"), bits, once=flops, note="a length, not a code"))
    return found.status


def fast_learners(s: Scene, rates: Sequence[float] = (0.02, 0.05, 0.1), runs: int = 8) -> None:
    """How learners with a hundredth of the human's FLOPs, and siblings, predict H's failure off-distribution."""
    siblings = s.net.forward(s.people["fresh"][:runs].double(), s.off)[..., 0].unsqueeze(1)
    learned: dict[int, Tensor] = {}
    for width in s.config.learner_widths:
        for rate in rates:
            build = type(s.kind)
            one = build(width=width, steps=1, rate=rate, batch=4)
            steps = int(CHEAP * s.train_flops // one.train_flops(s.world))
            kind = build(width=width, steps=max(1, steps), rate=rate, batch=4)
            names = [f"learner/{width}/{rate}/{i}" for i in range(runs)]
            fit = kind.train(s.world, kind.init(s.world, streams(s.seed, [f"{n}/init" for n in names])),
                             s.people["teacher"].expand(runs, -1), streams(s.seed, [f"{n}/questions" for n in names]))
            said = kind.net(s.world).forward(fit.theta.double(), s.off)[..., 0]
            learned[len(learned)] = said.unsqueeze(1)
    figures, _ = rederived(s.of_human(s.off)[None], siblings, learned, s.right(s.off)[None])
    own, sibling = figures["rederive/own_learned"], figures["rederive/own_fresh"]
    s.metrics |= {"joint/learner_own": own, "joint/sibling_own": sibling}
    if sibling > 0:
        s.metrics["joint/learner_over_sibling"] = own / sibling
    else:
        s.why.append("a sibling's failure does not predict the human's")
