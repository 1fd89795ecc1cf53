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

from reuse_sim import testing
from reuse_sim.humans import descent
from reuse_sim.leaks import prefix
from reuse_sim.outers import slot
from reuse_sim.specialness import METHODS
from reuse_sim.types import Estimate, Fit, Leaked
from reuse_sim.worlds import merged_neurons, radius

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


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("build", [*built_ins("humans"), skeleton("my_human")])
def test_humans(build: Callable[..., Any], world: Callable[..., Any]) -> None:
    testing.check_human(small("humans", build), world())


@pytest.mark.parametrize("build", [*built_ins("leaks"), skeleton("my_leak")])
def test_leaks(build: Callable[..., Any]) -> None:
    testing.check_leak(build())


@pytest.mark.parametrize("bits", range(17))
def test_prefix_leak_of_any_length(bits: int) -> None:
    testing.check_leak(prefix.build(bits=bits))


@pytest.mark.parametrize("build", [*built_ins("outers"), skeleton("my_outer")])
def test_outers(build: Callable[..., Any]) -> None:
    testing.check_outer(small("outers", build), radius.build())


SLOW = [pytest.param(f, id=name, marks=pytest.mark.slow) for name, f in METHODS.items()]


@pytest.mark.parametrize("estimate", [*SLOW, skeleton("my_estimator", "estimate")])
def test_estimators(estimate: testing.Estimator) -> None:
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


class Peeking(prefix.Prefix):
    def reveal(self, theta_human, scale, generator):
        large = (theta_human.abs() > scale / 2).float()
        return Leaked(theta_human * large, large)


class Zeros(prefix.Prefix):
    def reveal(self, theta_human, scale, generator):
        return Leaked(theta_human, torch.zeros_like(theta_human))


class Boundless(prefix.Prefix):
    def reveal(self, theta_human, scale, generator):
        return super().reveal(theta_human.clamp(-scale, scale), scale, generator)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Peeking, "what is known depends on θ2"),
        (Zeros, "of nothing known the midpoint is 0"),
        (Boundless, "must raise InputError"),
    ],
)
def test_a_broken_leak_is_caught(kind: type, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        testing.check_leak(kind(16, "own"))


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


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Deaf, "no swap"),
        (Unpressed, "pressure does not reach"),
        (Averaging, "a question asked alone"),
    ],
)
def test_a_broken_outer_is_caught(kind: type, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        testing.check_outer(of_class(kind, slot.build(width=6)), radius.build())


def told(bits: float = 0.0, low: float = 0.0, high: float = 0.0, **changed: Any) -> testing.Estimator:
    """An estimator that says the same whatever it is asked."""
    arguments = {"reference": "r", "consistency": "c", "tolerance": 0.2}
    given = {"bound": "two-sided", "kind": "global", "status": "converged", "diagnostics": arguments, **changed}
    return lambda problem, effort, generator, start: Estimate(bits, low, high, **given)


def noisy(problem: Any, effort: float, generator: torch.Generator, start: Any) -> Estimate:
    return told(*[float(torch.randn(()))] * 3)(problem, effort, generator, start)


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
def test_a_broken_estimator_is_caught(estimate: testing.Estimator, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        testing.check_estimator(estimate)


def test_a_bound_is_held_to_one_side_only() -> None:
    testing.check_estimator(told(90.0, 0.0, 91.0, bound="upper"))
    with pytest.raises(AssertionError, match="bound lower"):
        testing.check_estimator(told(90.0, 89.0, 91.0, bound="lower"))
