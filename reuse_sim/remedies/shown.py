"""Chains over other humans for any outer model that is shown a human's θ2: what its bits back are learned from.

    U(θ2; φ) = strength · (mean_x (H_θ2(x) − f1(x; φ, θ2))²/unit − slack)₊,   ∇_φ log Z = −E[∂U/∂φ]

with the average over humans drawn by exp(−U) μ, μ the initialisation prior. The answer head f1 of an outer φ is shown
whoever is in the chain, all bits of it. So a copy agrees with every human and has log Z = 0; a head that does not look
has log Z = −S; one that looks which of G answers to give, −S + log G at best; and one that copies only those humans it
knows to be trained is paid for all others.

Beyond `far` nats U goes on as far (1 + log(U/far)). Humans there weigh less than exp(−far) all the same; but chains
that start there find their way down as from a high temperature, and a head cannot run away from chains that do not
follow.

`chains` has the same for heads c H + r·h + N, with slopes in closed form; here they are autograd's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.remedies import chains
from reuse_sim.remedies.chains import Energy, State

FAR = 64.0
"""Nats: an error of more than twice the tolerance, with a strength of 64, counts by its logarithm."""


@dataclass(frozen=True)
class Heads:
    """Parameters φ `(A, q)` of A outers, and the order `(A, n)` in which their answers are held against the humans'.

    0 … n−1 but for shuffled rewards.
    """

    phi: Tensor
    asked: Tensor

    def take(self, arms: Tensor) -> Heads:
        return Heads(self.phi[arms], self.asked[arms])


@dataclass(frozen=True)
class Condition:
    """Agreement of humans of architecture `net` with what an outer answers that is shown them, on n questions.

    Attributes:
        human: what humans θ2 `(A, M, p2)` answer, `(A, M, n)`.
        answer: f1 of φ `(A, q)`, shown θ2 `(A, M, p2)`: `(A, M, n)`.
        unit: τ var f.
    """

    net: Mlp
    human: Callable[[Tensor], Tensor]
    answer: Callable[[Tensor, Tensor], Tensor]
    unit: float
    strength: float = 64.0
    slack: float = 1.0
    far: float = FAR

    def __post_init__(self) -> None:
        if not (min(self.unit, self.strength, self.far) > 0 and self.slack >= 0):
            got = f"unit {self.unit}, strength {self.strength}, far {self.far}, slack {self.slack}"
            raise InputError("Condition", got, "unit, strength and far above 0, and a slack that is not negative")

    def energy(self, z: Tensor, heads: Heads) -> Tensor:
        """U `(A, M)` of whitened humans z `(p2, A, M)`: θ2 = sd · z. Differentiable in z and φ."""
        theta = z.permute(1, 2, 0) * self.net.prior_sd(z.dtype)
        human, said = self.human(theta), self.answer(heads.phi, theta)
        order = heads.asked.unsqueeze(1).expand_as(said)
        error = (human - said.gather(-1, order)).square().mean(-1) / self.unit
        value = self.strength * (error - self.slack).clamp(min=0)
        return torch.where(value > self.far, self.far * (1 + (value.clamp(min=self.far) / self.far).log()), value)

    def slopes(self, z: Tensor, heads: Heads) -> tuple[Tensor, Tensor]:
        """U `(A, M)` and its gradient by z `(p2, A, M)`."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            value = self.energy(leaf, heads)
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), slope


def init(condition: Condition, arms: int, count: int, generator: torch.Generator, dtype=torch.float32) -> State:
    """`count` draws of the reference for each of A heads."""
    return chains.drawn(condition.net.p, arms, count, generator, dtype)


def step(
    condition: Condition, state: State, heads: Heads, generator: torch.Generator, moves: Tensor, leapfrogs: int = 4
) -> tuple[State, Tensor]:
    """`moves` `(A,)` trajectories of every chain of a head, 0 where it stays; acceptance `(A,)`, NaN where it stays."""
    if moves.shape != state.size.shape or len(heads.phi) != len(moves) or int(moves.min()) < 0 or leapfrogs < 1:
        raise InputError("moves, leapfrogs", (moves.tolist(), leapfrogs),
                         f"moves for each of {len(state.size)} heads, none negative, and a leapfrog step or more")
    still = Heads(heads.phi.detach(), heads.asked)

    def of(some: Tensor) -> Energy:
        asked = still.take(some)
        return lambda z: condition.slopes(z, asked)

    return chains.move(of, state, generator, moves, leapfrogs)


def log_z(condition: Condition, state: State, heads: Heads) -> Tensor:
    """−U averaged over the chains, which stay where they are, `(A,)`: its gradient by φ is that of log Z.

    Its value is not log Z, which nothing here needs or knows.
    """
    return -condition.energy(state.z.detach(), heads).mean(-1)
