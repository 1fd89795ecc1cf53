"""Every built-in and every skeleton of the docs keeps its protocol's contract; a broken one is caught."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reuse_sim import specialness, testing
from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.leaks import prefix
from reuse_sim.outers import direct, in_context, slot
from reuse_sim.specialness import METHODS
from reuse_sim.types import BITS, Estimate, Fit, Schedule
from reuse_sim.worlds import digits, merged_neurons, radius, spurious

SKELETONS = Path(__file__).parents[1] / "docs" / "skeletons"
SMALL = {
    "humans": {"width": 4, "steps": 60, "restarts": 3, "elders": 2, "elder_width": 8, "elder_steps": 60}
    | {"generations": 60, "offspring": 12},
    "outers": {"width": 6},
}
"""Options of the checks, per room: small and quick, where a plug-in has them."""


def built_ins(room: str) -> list[Any]:
    """The `build` of every module of the room that has one."""
    package = importlib.import_module(f"reuse_sim.{room}")
    modules = [importlib.import_module(m.name) for m in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    return [pytest.param(m.build, id=m.__name__) for m in modules if hasattr(m, "build")]


def skeleton(name: str, function: str = "build") -> Any:
    path = SKELETONS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return pytest.param(getattr(module, function), id=f"skeleton {name}")


def small(room: str, build: Callable[..., Any]) -> Any:
    return build(**{k: v for k, v in SMALL[room].items() if k in inspect.signature(build).parameters})


WORLDS = [*built_ins("worlds"), skeleton("my_world")]


@pytest.mark.parametrize("build", WORLDS)
def test_worlds(build: Callable[..., Any]) -> None:
    testing.check_world(build())


def real_images_later(worlds: list[Any]) -> list[Any]:
    """Humans of real digits, whose teacher is trained first, among the slow tests."""
    return [pytest.param(*w.values, id=w.id, marks=pytest.mark.slow) if "digits" in w.id else w for w in worlds]


@pytest.mark.parametrize("world", real_images_later(WORLDS))
@pytest.mark.parametrize("build", [*built_ins("humans"), skeleton("my_human")])
def test_humans(build: Callable[..., Any], world: Callable[..., Any]) -> None:
    testing.check_human(small("humans", build), world())


@pytest.mark.parametrize("build", [*built_ins("leaks"), skeleton("my_leak")])
def test_leaks(build: Callable[..., Any]) -> None:
    testing.check_leak(build())


@pytest.mark.parametrize("bits", range(17))
def test_prefix_leak_of_any_length(bits: int) -> None:
    testing.check_leak(prefix.build(bits=bits))


@pytest.mark.parametrize("world", [radius.build(), spurious.build()], ids=["regression", "classification"])
@pytest.mark.parametrize("build", [*built_ins("outers"), skeleton("my_outer")])
def test_outers(build: Callable[..., Any], world: Any) -> None:
    testing.check_outer(small("outers", build), world)


@pytest.mark.parametrize("world", [radius.build(), spurious.build()], ids=["regression", "classification"])
@pytest.mark.parametrize("build", [slot.build, direct.build])
def test_outers_that_predict_behaviours(build: Callable[..., Any], world: Any) -> None:
    testing.check_outer(build(width=6, behaviours=2), world)


SLOW = [pytest.param(f, id=name, marks=pytest.mark.slow) for name, f in METHODS.items()]


@pytest.mark.parametrize("estimate", [*SLOW, skeleton("my_estimator", "estimate")])
def test_estimators(estimate: specialness.Method) -> None:
    testing.check_estimator(estimate, effort=0.5)


def test_every_skeleton_is_checked() -> None:
    checked = {"my_world", "my_human", "my_leak", "my_outer", "my_estimator"}
    assert {p.stem for p in SKELETONS.glob("my_*.py")} == checked


# Each check must be able to fail: a member that breaks one promise, and the sentence that says so.


class SharedDraws(merged_neurons.MergedNeurons):
    def on_distribution(self, theta_teacher, n, generators):
        return super().on_distribution(theta_teacher, n, generators[:1] * len(generators))


class GlobalDraws(radius.Radius):
    def teacher(self, generators):
        return torch.randn(len(generators), 6 * self.sines + 2)


class Meddling(radius.Radius):
    def answer(self, theta_teacher, x):
        x *= 1.0 + 1e-3
        return super().answer(theta_teacher, x)


class WrongLoss(merged_neurons.MergedNeurons):
    def human_loss(self, net, theta_human, theta_teacher):
        return 1.1 * super().human_loss(net, theta_human, theta_teacher)


class Narrow(radius.Radius):
    def off_distribution(self, theta_teacher, n, generators, strength=1.0):
        return super().off_distribution(theta_teacher, n, generators, strength)[..., 0]


def redrawn(**changed: Any) -> Any:
    """A radius world whose picture has these fields changed."""

    class Redrawn(radius.Radius):
        def picture(self, theta_teacher):
            right = super().picture(theta_teacher)
            wrong = {name: change(getattr(right, name)) for name, change in changed.items()}
            return dataclasses.replace(right, **wrong)

    return Redrawn()


class Relabelled(digits.Digits):
    def labelled(self, n, generators, strength):
        return super().labelled(n, generators, 2 * strength if strength else strength)


class Mislabelled(digits.Digits):
    def labelled(self, n, generators, strength):
        x, truth = super().labelled(n, generators, strength)
        return x, truth[..., :-1]


class Unrepeatable(digits.Digits):
    def labelled(self, n, generators, strength):
        x, truth = super().labelled(n, generators, strength)
        return x, truth + torch.rand(())


def of_class(cls: type, built: Any) -> Any:
    return cls(**{f.name: getattr(built, f.name) for f in dataclasses.fields(built)})


@pytest.mark.parametrize(
    ("world", "sentence"),
    [
        (of_class(SharedDraws, merged_neurons.build()), "on_distribution: a row drawn alone"),
        (of_class(GlobalDraws, radius.build()), "teacher: equal generators gave another draw"),
        (of_class(Meddling, radius.build()), "answer to on_distribution: changed what it was given"),
        (of_class(WrongLoss, merged_neurons.build()), "human_loss is .* standard errors off"),
        (of_class(Narrow, radius.build()), r"off_distribution: shape \(3, 40\), not \(3, 40, 4\)"),
        (redrawn(x=lambda x: x[..., :3]), r"picture's x: shape \(41, 41, 3\), not \(41, 41, 4\)"),
        (redrawn(x=lambda x: x + torch.rand(())), "picture's x: asked twice"),
        (redrawn(x=lambda x: x.double()), "picture's x is torch.float64 for a teacher in torch.float32"),
        (redrawn(rows=lambda rows: rows[1:]), r"picture's x: shape \(41, 41, 4\), not \(40, 41, 4\)"),
        (redrawn(columns=lambda columns: [*columns[:-1], 9.0]), "picture's columns are neither names nor numbers"),
        (redrawn(rows=lambda rows: ["a", *rows[1:]]), "picture's rows are neither names nor numbers"),
        (redrawn(learned=lambda learned: learned[1:]), r"picture's learned: shape \(40, 41\)"),
        (redrawn(learned=lambda learned: learned.float()), "picture's learned is torch.float32, not bool"),
        (of_class(Relabelled, digits.build(steps=5)), "labelled at strength 1.0: .* drew other questions"),
        (of_class(Mislabelled, digits.build(steps=5)), r"labelled at strength None: shape \(3, 39\), not \(3, 40\)"),
        (of_class(Unrepeatable, digits.build(steps=5)), "labelled at strength None: .* another draw"),
        (object(), "object lacks answer, d, .* of reuse_sim.types.World"),
    ],
)
def test_a_broken_world_is_caught(world: Any, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        testing.check_world(world)


class Idle(descent.Descent):
    def train(self, world, theta_0, theta_teacher, generators, off_share=0.0):
        return Fit(theta_0, torch.zeros(len(theta_0)))


class Mixing(descent.Descent):
    def train(self, world, theta_0, theta_teacher, generators, off_share=0.0):
        fit = super().train(world, theta_0, theta_teacher, generators, off_share)
        return dataclasses.replace(fit, theta=fit.theta + 1e-6 * fit.theta.mean(0))


class Unrepaired(descent.Descent):
    def train(self, world, theta_0, theta_teacher, generators, off_share=0.0):
        return super().train(world, theta_0, theta_teacher, generators)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Idle, "the error on-distribution went from"),
        (Mixing, "a human trained alone differs"),
        (Unrepaired, "off_share changes nothing"),
    ],
)
def test_a_broken_human_is_caught(kind: type, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        testing.check_human(of_class(kind, descent.build(width=3, steps=40)), radius.build())


class Bare:
    """A leak of everything, in so many lines."""

    of = "own"

    def schedule(self, net, steps, generator):
        return Schedule(torch.zeros(net.p, BITS), torch.zeros(net.p, BITS, dtype=torch.bool))


class Remembering(Bare):
    def __init__(self):
        self.asked = 0

    def schedule(self, net, steps, generator):
        self.asked += 1
        return dataclasses.replace(super().schedule(net, steps, generator), when=torch.full((net.p, BITS), self.asked))


class Global(Bare):
    def schedule(self, net, steps, generator):
        torch.rand(1)
        return super().schedule(net, steps, generator)


class Coarse(Bare):
    def schedule(self, net, steps, generator):
        return dataclasses.replace(super().schedule(net, steps, generator), when=torch.zeros(net.p))


class Prophetic(Bare):
    def schedule(self, net, steps, generator):
        return dataclasses.replace(super().schedule(net, steps, generator), when=torch.full((net.p, BITS), -1.0))


class Refusing(Bare):
    def schedule(self, net, steps, generator):
        raise InputError("leak", "a human", "none")


class Strangers(Bare):
    of = "strangers"


def test_a_leak_of_a_few_lines_passes() -> None:
    testing.check_leak(Bare())


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Remembering, "equal generators, another when"),
        (Global, "moved the global random state"),
        (Coarse, r"schedule's when: shape \(41,\), not \(41, 16\)"),
        (Prophetic, "a step below 0"),
        (Refusing, "InputError for a human of three layers"),
        (Strangers, "of is 'strangers'"),
        (object, "object lacks of, schedule of reuse_sim.types.LeakChannel"),
    ],
)
def test_a_broken_leak_is_caught(kind: type, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        testing.check_leak(kind())


class Deaf(slot.Slot):
    def answer(self, world, net, theta, x, access, pressure=1.0):
        blank = dataclasses.replace(access.leaked, value=torch.zeros_like(access.leaked.value))
        return super().answer(world, net, theta, x, dataclasses.replace(access, leaked=blank), pressure)


class Unpressed(slot.Slot):
    def answer(self, world, net, theta, x, access, pressure=1.0):
        return super().answer(world, net, theta, x, access)


class Averaging(slot.Slot):
    def answer(self, world, net, theta, x, access, pressure=1.0):
        answer, human = super().answer(world, net, theta, x, access, pressure)
        return answer - answer.mean(-1, keepdim=True), human


class Denying(slot.Slot):
    has_place = False


class Loud(slot.Slot):
    def answer(self, world, net, theta, x, access, pressure=1.0):
        answer, human = super().answer(world, net, theta, x, access, pressure)
        return 3 * answer, human


class Mixing(slot.Slot):
    def hidden(self, world, net, theta, x, access):
        inside = super().hidden(world, net, theta, x, access)
        return inside - inside.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Deaf, "no swap"),
        (Denying, "change it, though it says has_place = False"),
        (Unpressed, "pressure does not reach"),
        (Averaging, "a question asked alone"),
        (Loud, "outside of -1 and 1"),
        (Mixing, "hidden: a human asked alone"),
    ],
)
def test_a_broken_outer_is_caught(kind: type, sentence: str) -> None:
    world = spurious.build() if kind is Loud else radius.build()
    with pytest.raises(AssertionError, match=sentence):
        testing.check_outer(of_class(kind, slot.build(width=6)), world)


def test_an_outer_that_does_not_hear_the_answers_in_its_context_is_caught() -> None:
    class Unheard(in_context.InContext):
        def answer(self, world, net, theta, x, access, pressure=1.0):
            blank = dataclasses.replace(access.examples, y=torch.zeros_like(access.examples.y))
            return super().answer(world, net, theta, x, dataclasses.replace(access, examples=blank), pressure)

    with pytest.raises(AssertionError, match="no swap"):
        testing.check_outer(of_class(Unheard, in_context.build(width=6)), radius.build())


def told(bits: float = 0.0, low: float = 0.0, high: float = 0.0, **changed: Any) -> specialness.Method:
    """An estimator that says the same whatever it is asked."""
    arguments = {"reference": "r", "consistency": "c", "tolerance": 0.2}
    given = {"bound": "two-sided", "kind": "global", "status": "converged", "diagnostics": arguments, "level": 0.95}
    given |= changed
    return lambda problem, effort, generator, start, level: Estimate(bits, low, high, **given)


def noisy(problem: Any, effort: float, generator: torch.Generator, start: Any, level: float) -> Estimate:
    return told(*[float(torch.randn(()))] * 3)(problem, effort, generator, start, level)


@pytest.mark.parametrize(
    ("estimate", "sentence"),
    [
        (told(3.0, 2.9, 3.1), "converged, yet 3.000 bits, 2.900 to 3.100"),
        (told(90.0, 89.0, 91.0), "converged, yet 90.000 bits"),
        (told(3.0, 3.1, 3.2), "outside of"),
        (told(3.0, 2.9, 3.1, diagnostics={"reference": "r"}), "diagnostics lack consistency, tolerance"),
        (told(status="failed"), "no sentence"),
        (told(kind="both"), "kind is 'both'"),
        (noisy, "moved the global random state"),
    ],
)
def test_a_broken_estimator_is_caught(estimate: specialness.Method, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        testing.check_estimator(estimate)


def test_a_bound_is_held_to_one_side_only() -> None:
    testing.check_estimator(told(90.0, 0.0, 91.0, bound="upper"))
    with pytest.raises(AssertionError, match="bound lower"):
        testing.check_estimator(told(90.0, 89.0, 91.0, bound="lower"))
