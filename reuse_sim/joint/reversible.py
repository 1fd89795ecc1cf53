"""Descent with momentum that can be run backwards to the last bit (Maclaurin, Duvenaud & Adams 2015, algorithm 3).

Parameters and velocities are whole numbers of a small unit. Multiplying a velocity by γ = n/d < 1 would lose log₂(1/γ)
bits; they go into a buffer: the remainder modulo d is pushed onto it, and a digit modulo n is taken from it to fill up
the product. The buffer is what of the start can no longer be told from the end.

Each velocity has a buffer of its own, a whole number that begins at 2³⁰ and so always has digits to give. Whenever it
could outgrow 62 bits, its lowest 16 bits are set aside; when that is so follows from γ alone, so that nothing else need
be remembered to put them back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from reuse_sim.engines.spec import need

Gradient = Callable[[Tensor, int], Tensor]
"""θ `(N, p)` and the number of the step to the gradient `(N, p)`; the same bits whenever it is asked the same."""
FIRST, LIMIT, SPILL = 30, 62, 16


@dataclass(frozen=True)
class State:
    """Whole numbers `(N, p)` of units: θ, velocity; the buffer, and what was set aside of it, the oldest first."""

    theta: Tensor
    velocity: Tensor
    buffer: Tensor
    aside: tuple[Tensor, ...] = ()

    @property
    def bits(self) -> float:
        """By how many bits the buffers of all velocities have grown."""
        return SPILL * sum(t.numel() for t in self.aside) + float((self.buffer.double().log2() - FIRST).sum())


@dataclass(frozen=True)
class Reversible:
    """v ← γ v − (1 − γ) g(θ), θ ← θ + rate v, in whole numbers of 2^−`fraction`.

    γ is `momentum`, taken as the nearest fraction with a denominator up to 1000. Raises InputError for a momentum that
    is not between 0 and 1.
    """

    gradient: Gradient
    steps: int
    rate: float
    momentum: float | Fraction
    fraction: int = 40

    def __post_init__(self) -> None:
        g = Fraction(self.momentum).limit_denominator(1000)
        need(0 < g < 1, "momentum", self.momentum, "a number above 0 and below 1, of which something is left")
        need(8 <= self.fraction <= 50, "fraction", self.fraction, "8 to 50 bits after the point")
        object.__setattr__(self, "momentum", g)

    @property
    def lost_bits(self) -> float:
        """What theory says is lost of each parameter: T log₂(1/γ)."""
        return self.steps * math.log2(1 / self.momentum)

    def begin(self, theta_0: Tensor) -> State:
        """The state of θ₀ `(N, p)`, rounded to units, at rest."""
        theta = self._units(theta_0)
        return State(theta, torch.zeros_like(theta), torch.full_like(theta, 1 << FIRST))

    def value(self, state: State) -> Tensor:
        """θ `(N, p)` in float64."""
        return state.theta.double() * 2.0**-self.fraction

    def forward(self, state: State) -> State:
        """All steps."""
        theta, v, buffer, aside = state.theta, state.velocity, state.buffer, list(state.aside)
        n, d = self._ratio
        for step, spills in enumerate(self._spills):
            push = v.remainder(d)
            v = v.div(d, rounding_mode="floor") * n
            for _ in range(spills):
                aside.append(buffer & (1 << SPILL) - 1)
                buffer = buffer >> SPILL
            buffer = buffer * d + push
            v = v + buffer.remainder(n)
            buffer = buffer.div(n, rounding_mode="floor")
            v = v - self._pull(theta, step)
            theta = theta + self._move(v)
        return State(theta, v, buffer, tuple(aside))

    def backward(self, state: State) -> State:
        """All steps undone, from what `forward` left: the state it began at, to the last bit."""
        theta, v, buffer, aside = state.theta, state.velocity, state.buffer, list(state.aside)
        n, d = self._ratio
        for step, spills in reversed(list(enumerate(self._spills))):
            theta = theta - self._move(v)
            v = v + self._pull(theta, step)
            buffer = buffer * n + v.remainder(n)
            v = v.div(n, rounding_mode="floor") * d
            v = v + buffer.remainder(d)
            buffer = buffer.div(d, rounding_mode="floor")
            for _ in range(spills):
                buffer = (buffer << SPILL) + aside.pop()
        return State(theta, v, buffer, tuple(aside))

    @property
    def _ratio(self) -> tuple[int, int]:
        g = Fraction(self.momentum)
        return g.numerator, g.denominator

    @property
    def _spills(self) -> list[int]:
        """How often 16 bits are set aside before each step: whenever the largest a buffer can be might overflow."""
        n, d = self._ratio
        largest, out = 1 << FIRST, []
        for _ in range(self.steps):
            count = 0
            while largest * d >= 1 << LIMIT:
                largest, count = largest >> SPILL, count + 1
            largest = (largest * d + d - 1) // n
            out.append(count)
        return out

    def _pull(self, theta: Tensor, step: int) -> Tensor:
        return self._units((1 - float(self.momentum)) * self.gradient(theta.double() * 2.0**-self.fraction, step))

    def _move(self, v: Tensor) -> Tensor:
        return (self.rate * v.double()).round().long()

    def _units(self, value: Tensor) -> Tensor:
        return (value.double() * 2.0**self.fraction).round().long()
