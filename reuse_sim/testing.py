"""Contract checks, one per protocol: run them on a plug-in of your own as the tests here run them on the built-ins.

    from reuse_sim.testing import check_world
    def test_my_world(): check_world(build(size=3))

Each raises AssertionError with a sentence naming what does not hold, and returns nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.outers import examples, outputs
from reuse_sim.plugins import ROOMS, missing_members
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import Method, exact
from reuse_sim.specialness.problem import LEVEL, Problem
from reuse_sim.types import BITS, Access, Estimate, Fit, Human, LeakChannel, Leaked, Outer, Picture, Schedule, World
from reuse_sim.worlds import linear_gaussian

SEED = 20_230_817
NAMES = ("a", "b", "c")
QUESTIONS = 40
SIGMAS = 4.0
"""How many of its own standard errors an estimate may lie from the exact value."""



def check_world(world: World, width: int = 4) -> None:
    """Shapes, randomness from the generators alone, one row per teacher, answers that leave their inputs as they are.

    Where the world has `human_loss`, it must agree with the mean squared error over 20,000 questions within five
    standard errors; `picture` must hold what `types.Picture` says, and f answer all of it; `labelled` must draw the
    questions that `on_distribution` and `off_distribution` draw.

    Args:
        width: hidden units of the humans asked about.
    """
    _follows("worlds", world)
    _claim(world.d >= 1, f"d is {world.d}, not a number of inputs")
    _claim(world.tolerance > 0, f"tolerance is {world.tolerance}, not above 0")

    theta = _drawn("teacher", world.teacher, (len(NAMES), None))
    _claim(not torch.equal(theta[0], theta[1]), "teacher: two generators drew the same teacher")
    draws: dict[str, Callable[[Tensor, Sequence[torch.Generator]], Tensor]] = {
        "on_distribution": lambda t, g: world.on_distribution(t, QUESTIONS, g),
        "off_distribution": lambda t, g: world.off_distribution(t, QUESTIONS, g),
        "off_distribution at strength 0": lambda t, g: world.off_distribution(t, QUESTIONS, g, 0.0),
    }
    asked = {name: _drawn(name, draw, (len(NAMES), QUESTIONS, world.d), theta) for name, draw in draws.items()}
    x, off = asked["on_distribution"], asked["off_distribution"]
    _claim(not torch.equal(x, off), "off_distribution draws the questions of on_distribution")

    net = world.human_net(width)
    _claim(isinstance(net, Mlp), f"human_net returned {type(net).__name__}, not an Mlp")
    _claim(net.sizes[0] == world.d, f"human_net takes {net.sizes[0]} inputs; questions have {world.d}")
    theta_human = net.init(_generators())
    for name, questions in asked.items():
        for what, answer, parameters in (
            ("answer", world.answer, theta),
            ("human_answer", lambda t, x: world.human_answer(net, t, x), theta_human),
        ):
            where = f"{what} to {name}"
            answers = _pure(where, answer, parameters, questions)
            _shaped(where, answers, (len(NAMES), QUESTIONS))
            alone = torch.cat([answer(parameters[i : i + 1], questions[i : i + 1]) for i in range(len(NAMES))])
            _close(where, alone, answers, "a row asked alone answers otherwise than in the stack")
    twice = world.human_answer(net, torch.stack([theta_human] * 2), torch.stack([x, off]))
    once = world.human_answer(net, theta_human, off)
    _close("human_answer", twice[1], once, "a further leading dimension changes it")

    exact = getattr(world, "human_loss", None)
    if exact is not None:
        loss = _pure("human_loss", lambda t, f: exact(net, t, f), theta_human, theta)
        _shaped("human_loss", loss, (len(NAMES),))
        many = world.on_distribution(theta, 20_000, _generators("loss"))
        squares = (world.human_answer(net, theta_human, many) - world.answer(theta, many)).square()
        errors = (squares.mean(-1) - loss).abs() / (squares.std(-1) / squares.shape[-1] ** 0.5)
        worst = float(errors.max())
        _claim(worst < 5, f"human_loss is {worst:.1f} standard errors off the mean squared error of 20,000 questions")
    if hasattr(world, "picture"):
        for row in theta:
            _check_picture(world, row)
    if hasattr(world, "labelled"):
        _check_labelled(world, dict(zip((None, 1.0, 0.0), asked.values(), strict=True)))


def _check_picture(world: Any, theta: Tensor) -> None:
    drawn = world.picture(theta)
    _claim(isinstance(drawn, Picture), f"picture returned {type(drawn).__name__}, not a Picture")
    r, c = len(drawn.rows), len(drawn.columns)
    for what in ("x", "learned"):
        _pure(f"picture's {what}", lambda t, what=what: getattr(world.picture(t), what), theta)
    _shaped("picture's x", drawn.x, (r, c, world.d))
    _claim(drawn.x.dtype == theta.dtype, f"picture's x is {drawn.x.dtype} for a teacher in {theta.dtype}")
    _shaped("picture's learned", drawn.learned, (r, c))
    _claim(drawn.learned.dtype == torch.bool, f"picture's learned is {drawn.learned.dtype}, not bool")
    for what in ("rows", "columns"):
        ticks: list[Any] = list(getattr(drawn, what))
        if not all(isinstance(tick, str) for tick in ticks):
            numbers = all(isinstance(tick, int | float) for tick in ticks)
            steps = torch.tensor(ticks if numbers else [0, 0], dtype=torch.float64).diff()
            even = bool((steps != 0).all()) and torch.allclose(steps, steps[:1])
            _claim(even, f"picture's {what} are neither names nor numbers in equal steps")
    answers = world.answer(theta.unsqueeze(0), drawn.x.flatten(0, 1).unsqueeze(0))
    _shaped("answer to picture", answers, (1, r * c))


def _check_labelled(world: Any, asked: Mapping[float | None, Tensor]) -> None:
    """asked: the questions that the world drew from `_generators()` at each strength."""
    for strength, x in asked.items():
        where = f"labelled at strength {strength}"
        for k, shape in enumerate((x.shape, x.shape[:2])):
            _drawn(where, lambda g, k=k, s=strength: world.labelled(QUESTIONS, g, s)[k], tuple(shape))
        same = torch.equal(world.labelled(QUESTIONS, _generators(), strength)[0].to(x), x)
        _claim(same, f"{where}: equal generators drew other questions than the world's own")


def check_human(human: Human, world: World) -> None:
    """Shapes, randomness from the generators alone, networks that do not touch each other, and learning.

    Trains three humans a few times: pass one with few steps. In float64, a human trained alone must equal the one
    trained in a stack within 1e-8.
    """
    _follows("humans", human)
    net = human.net(world)
    _claim(isinstance(net, Mlp), f"net returned {type(net).__name__}, not an Mlp")
    theta_0 = _drawn("init", lambda g: human.init(world, g), (len(NAMES), net.p)).double()
    teacher = world.teacher(_generators("teacher")).double()

    def train(theta_0: Tensor, teacher: Tensor, names: Sequence[str] = NAMES, off_share: float = 0.0) -> Tensor:
        fit = human.train(world, theta_0, teacher, _generators("train", names), off_share)
        _claim(isinstance(fit, Fit), f"train returned {type(fit).__name__}, not a Fit")
        _claim(not fit.broken, f"train: {next(iter(fit.broken.values()), '')}")
        _shaped("train's θ", fit.theta, (len(names), net.p))
        _shaped("train's loss", fit.loss, (len(names),))
        return fit.theta

    theta = _pure("train", train, theta_0, teacher)
    alone = train(theta_0[:1], teacher[:1], NAMES[:1])
    _close("train", alone, theta[:1], "a human trained alone differs from the same human in the stack", 1e-8)

    x = world.on_distribution(teacher, 2000, _generators("test"))
    errors = [
        (world.human_answer(net, t, x) - world.answer(teacher, x)).square().mean().item() for t in (theta_0, theta)
    ]
    _claim(errors[1] < errors[0], f"train: the error on-distribution went from {errors[0]:.3g} to {errors[1]:.3g}")
    repaired = train(theta, teacher, off_share=0.5)
    _claim(not torch.equal(repaired, train(theta, teacher)), "train: off_share changes nothing; nobody is repaired")


def check_leak(channel: LeakChannel) -> None:
    """One time and one mark per bit, from the generator alone. A human with too few bits may be an InputError."""
    _follows("leaks", channel)
    whose = ("own", "unrelated", "sibling", "random")
    _claim(channel.of in whose, f"of is '{channel.of}'; expected one of {', '.join(whose)}")
    for net, steps in ((Mlp((3, 4, 4, 1)), 500), (Mlp((3, 4, 4, 1)), 1), (Mlp((1, 1), bias=False), 500)):
        random_state = torch.get_rng_state()
        try:
            told, again = (channel.schedule(net, steps, stream(SEED, "leak")) for _ in range(2))
        except InputError:
            _claim(net.p == 1, "schedule: InputError for a human of three layers and 41 parameters")
            continue
        _claim(isinstance(told, Schedule), f"schedule returned {type(told).__name__}, not a Schedule")
        _claim(torch.equal(random_state, torch.get_rng_state()), "schedule moved the global random state")
        _claim(told.code in ("fixed", "half"), f"schedule: code is '{told.code}'; expected fixed or half")
        for what, tensor, same in (("when", told.when, again.when), ("flipped", told.flipped, again.flipped)):
            shape = tuple(tensor.shape)
            _claim(shape == (net.p, BITS), f"schedule's {what}: shape {shape}, not ({net.p}, {BITS})")
            _claim(torch.equal(tensor, same), f"schedule: equal generators, another {what}")
        _claim(told.flipped.dtype == torch.bool, f"schedule's flipped: {told.flipped.dtype}, not torch.bool")
        _claim(bool((told.when >= 0).all()), "schedule's when: a step below 0, or not a number")


def check_outer(outer: Outer, world: World, width: int = 4) -> None:
    """Shapes, arms and humans and questions apart, a swap that is pure and felt, and pressure on gradients only.

    Answers to a classification must lie within −1 and 1. The swap puts another human's bits in place, and its answers
    where the outer asks for examples; it must change something, or nothing where the outer says `has_place = False`.
    An outer's `hidden` units, where it has them, must be stacked as its answers are. An outer that predicts
    behaviours is asked about humans who have as many.

    Args:
        world, width: where it is asked, and the hidden units of the human whose bits it is handed.
    """
    _follows("outers", outer)
    net, k = world.human_net(width), outputs.count(outer)
    net = replace(net, sizes=(*net.sizes[:-1], net.sizes[-1] + k))
    arms, humans = 2, len(NAMES)
    starts = [outer.init(net, streams(SEED, ["outer/start"] * arms)) for _ in range(2)]
    _claim(starts[0].ndim == 2 and len(starts[0]) == arms, f"init: shape {tuple(starts[0].shape)}, not (2, p)")
    _claim(torch.equal(*starts), "init: equal generators, another start")
    _claim(torch.equal(starts[0][0], starts[0][1]), "init: arms with equal generators start differently")
    # Away from the start, so that parts that begin at zero are seen too.
    theta = starts[0] + 0.3 * torch.randn(starts[0].shape, generator=stream(SEED, "outer/away"))

    teacher = world.teacher(_generators("teacher"))
    x = world.off_distribution(teacher, QUESTIONS, _generators("questions"))
    x = x.unsqueeze(0).expand(arms, -1, -1, -1)
    bits, sibling = (net.init(_generators(n)).expand(arms, -1, -1) for n in ("bits", "sibling"))

    def given(value: Tensor, rival: Tensor | None = None) -> Access:
        count = value.shape[1]
        shown = examples.shown(outer, world, net, value, teacher[:count], _generators("examples")[:count])
        return Access(Leaked(value, torch.ones_like(value), torch.zeros_like(value)), rival, shown)

    def ask(theta: Tensor, x: Tensor, value: Tensor, pressure: float | Tensor = 1.0, rival: Tensor | None = None):
        answer, human, *does = outer.answer(world, net, theta, x, given(value, rival), pressure)
        _claim(len(does) == (k > 0), f"answer: {len(does)} tensors of behaviours from an outer that predicts {k}")
        for further in does:
            _shaped("answer (behaviours)", further, (*answer.shape[:2], k, answer.shape[2]))
        return torch.stack([answer, human, *(one for further in does for one in further.unbind(2))])

    whole = _pure("answer", ask, theta, x, bits)
    _shaped("answer (heads)", whole, (2 + k, arms, humans, QUESTIONS))
    squashed = world.kind != "classification" or bool((whole[:2].abs() <= 1).all())
    _claim(squashed, "answer: outside of -1 and 1 in a classification; squash it as reuse_sim.outers.blocks does")
    for what, part, expected in (
        ("an arm", ask(theta[:1], x[:1], bits[:1]), whole[:, :1]),
        ("a human", ask(theta, x[:, :1], bits[:, :1]), whole[:, :, :1]),
        ("a question", ask(theta, x[:, :, :1], bits), whole[..., :1]),
    ):
        _close("answer", part, expected, f"{what} asked alone is answered otherwise than beside others")
    _close("answer", ask(theta, x[:1], bits), whole, "questions shared by all arms, (1, H, n, d), change it")
    with suppress(InputError):  # an outer that is handed no answers may refuse a rival's
        zeros = torch.zeros(arms, humans, QUESTIONS)
        _close("answer", ask(theta, x, bits, rival=zeros), whole, "a rival of zeros differs from no rival")
    felt = not torch.allclose(ask(theta, x, sibling), whole)
    if getattr(outer, "has_place", True):
        _claim(felt, "answer: another human's bits (and examples) change nothing, no swap; if meant: has_place = False")
    else:
        _claim(not felt, "answer: another human's bits or examples change it, though it says has_place = False")

    _close("answer", ask(theta, x, bits, 0.0), whole, "pressure changes values; it may change gradients only")
    free, pressed = (_gradients(lambda t, p=p: ask(t, x, bits, p), theta) for p in (0.0, torch.ones(arms)))
    _close("answer", free[0], pressed[0], "pressure changes the gradient of the answers")
    for weak, strong in zip(free[1:], pressed[1:], strict=True):
        _claim(not torch.allclose(weak, strong), "answer: pressure does not reach what the heads share")

    hidden = getattr(outer, "hidden", None)
    if hidden is not None:
        inside = _pure("hidden", lambda t, x, b: hidden(world, net, t, x, given(b)), theta, x, bits)
        _shaped("hidden", inside, (arms, humans, QUESTIONS, None))
        part = hidden(world, net, theta, x[:, :1], given(bits[:, :1]))
        _close("hidden", part, inside[:, :1], "a human asked alone is met otherwise than beside others")


def check_estimator(estimate: Method, effort: float = 1.0) -> None:
    """An estimate of a specialness with a closed form: within its own error, repeatable, with its three arguments.

    The human is linear in three inputs and has no copies, its reference normal, n = 12 questions.

    Args:
        effort: handed to the estimator; take little where that suffices.
    """
    world: Any = linear_gaussian.build(d=3, active=2)
    net = world.human_net(1)
    (teacher,) = world.teacher(_generators()[:1])
    (x,) = world.on_distribution(teacher[None], 12, _generators("x")[:1])
    problem = Problem.for_human(
        world, teacher, net, x, tolerance=0.2, soft=True, questions="12 on-distribution questions"
    )
    sd = problem.reference.sd
    truth = exact.linear_gaussian(x.double(), world.answer(teacher[None], x[None])[0].double(), sd, 0.2).bits

    start = 0.5 * sd
    before, random_state = start.clone(), torch.get_rng_state()
    found = estimate(problem, effort, stream(SEED, "estimate"), start, LEVEL)
    once, again = (estimate(problem, effort / 10, stream(SEED, "estimate"), start, LEVEL) for _ in range(2))
    _claim(isinstance(found, Estimate), f"estimate returned {type(found).__name__}, not an Estimate")
    _claim(torch.equal(start, before), "estimate changed the start it was given")
    _claim(torch.equal(random_state, torch.get_rng_state()), "estimate moved the global random state")
    _claim((once.bits, once.low, once.high) == (again.bits, again.low, again.high), "equal generators, other bits")
    _claim(found.low <= found.bits <= found.high, f"bits {found.bits} outside of {found.low} to {found.high}")
    _claim(found.bound in ("two-sided", "lower", "upper", "none"), f"bound is '{found.bound}'")
    _claim(found.kind in ("global", "local"), f"kind is '{found.kind}'")
    lacking = [k for k in ("reference", "consistency", "tolerance") if found.diagnostics.get(k) is None]
    _claim(not lacking, f"diagnostics lack {', '.join(lacking)}: a specialness means nothing without")
    if found.status != "converged":
        _claim(" " in found.status, f"status '{found.status}' is no sentence that tells what to change")
        return
    # Limits are so many standard errors either side. A hundredth of a bit for what they leave out.
    wide = SIGMAS / NormalDist().inv_cdf((1 + found.level) / 2)
    lowest = found.bits - wide * (found.bits - found.low) - 0.01
    highest = found.bits + wide * (found.high - found.bits) + 0.01
    above, below = found.bound in ("two-sided", "upper"), found.bound in ("two-sided", "lower")
    said = f"{found.bits:.3f} bits, {found.low:.3f} to {found.high:.3f}, bound {found.bound}; exact: {truth:.3f}"
    _claim(not (above and truth > highest) and not (below and truth < lowest), f"converged, yet {said}")


def _gradients(heads: Callable[[Tensor], Tensor], theta: Tensor) -> list[Tensor]:
    """Per head, the gradient of its summed squares."""
    leaf = theta.clone().requires_grad_(True)
    return [torch.autograd.grad(h.square().sum(), leaf, retain_graph=True)[0] for h in heads(leaf)]


def _follows(room: str, thing: object) -> None:
    lacking = ", ".join(missing_members(room, thing))
    _claim(not lacking, f"{type(thing).__name__} lacks {lacking} of reuse_sim.types.{ROOMS[room]}")


def _claim(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)


def _generators(name: str = "", names: Sequence[str] = NAMES) -> list[torch.Generator]:
    return streams(SEED, [f"{name}/{n}" for n in names])


def _shaped(where: str, tensor: Tensor, shape: Sequence[int | None]) -> None:
    fits = tensor.ndim == len(shape) and all(s in (None, t) for s, t in zip(shape, tensor.shape, strict=True))
    expected = ", ".join("p" if s is None else str(s) for s in shape)
    _claim(fits, f"{where}: shape {tuple(tensor.shape)}, not ({expected})")
    _claim(bool(torch.isfinite(tensor).all()), f"{where}: values that are not finite")


def _close(where: str, got: Tensor, expected: Tensor, sentence: str, tolerance: float = 1e-4) -> None:
    same = got.shape == expected.shape and torch.allclose(got, expected, rtol=tolerance, atol=tolerance)
    _claim(same, f"{where}: {sentence}")


def _drawn(
    where: str, draw: Callable[..., Tensor], shape: Sequence[int | None], theta: Tensor | None = None
) -> Tensor:
    """What `draw` gives for three generators, after checking that it depends on each row's generator alone."""
    given = () if theta is None else (theta,)
    kept = [g.clone() for g in given]
    drawn = draw(*given, _generators())
    _claim(all(map(torch.equal, given, kept)), f"{where}: changed the parameters it was given")
    _shaped(where, drawn, shape)
    _claim(torch.equal(drawn, draw(*given, _generators())), f"{where}: equal generators gave another draw")
    rows = (slice(i, i + 1) for i in range(len(NAMES)))
    alone = torch.cat([draw(*(g[i] for g in given), _generators()[i]) for i in rows])
    _close(where, alone, drawn, "a row drawn alone differs from the same row in the stack")
    return drawn


def _pure(where: str, function: Callable[..., Any], *tensors: Tensor) -> Any:
    """What `function` returns, after checking that it says so twice and leaves its inputs as they are."""
    kept = [t.clone() for t in tensors]
    first, second = function(*tensors), function(*tensors)
    _claim(all(map(torch.equal, tensors, kept)), f"{where}: changed what it was given")
    _claim(torch.equal(first, second), f"{where}: asked twice, another result")
    return first
