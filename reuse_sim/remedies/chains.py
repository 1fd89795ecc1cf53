"""Chains over a population of other humans: what ∇ log Z of a head is the average over.

    Z(f1) = ∫ μ(dθ2) exp(−U(θ2; f1)),  U = strength · (mean (H_θ2 − f1)²/unit − slack)₊,  ∇ log Z = −E[∇U]

with the average over humans drawn by exp(−U) μ. These humans are none that the outer model learned: each head has M
of its own, moved a little whenever the head has moved (persistent Hamiltonian Monte Carlo; Neal 2011, Tieleman 2008).
A head that uses the human uses *theirs* here, f1(x; θ2) = c H_θ2(x) + r·h_θ2(x) + N(x), so that a copy agrees with
every human and has log Z = 0.

State / Info / step: State holds what the next step needs, Info what happened. Chains lie last in memory, `(p, A, M)`:
sums over questions and units then run along whole rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp

TARGET = 0.8
"""Acceptance that step sizes are led to."""


@dataclass(frozen=True)
class Heads:
    """What a condition asks of A heads: c `(A,)`, r `(A, h)`, and N's answers to the questions `(A, n)`."""

    c: Tensor
    r: Tensor
    own: Tensor

    def take(self, arms: Tensor) -> Heads:
        return Heads(self.c[arms], self.r[arms], self.own[arms])


@dataclass(frozen=True)
class Slopes:
    """∂ log Z by c `(A,)`, r `(A, h)` and N's answers `(A, n)`."""

    c: Tensor
    r: Tensor
    own: Tensor


@dataclass(frozen=True)
class Condition:
    """Agreement of humans of architecture `net` (one hidden layer of tanh, or none) with heads on questions `(n, d)`.

    `unit` is τ var f. The reference is the initialisation prior, whitened: θ2 = sd · z.
    """

    net: Mlp
    x: Tensor
    unit: float
    strength: float = 64.0
    slack: float = 1.0

    def __post_init__(self) -> None:
        first, *_, last = sizes = self.net.sizes
        if len(sizes) > 3 or last != 1 or (self.units and self.net.activation != "tanh"):
            raise InputError("Condition.net", sizes, "one hidden layer of tanh units or none, and one output")
        if self.x.ndim != 2 or self.x.shape[1] != first:
            raise InputError("Condition.x", tuple(self.x.shape), f"(n, {first})")
        if not (self.unit > 0 and self.strength > 0 and self.slack >= 0):
            raise InputError("Condition", f"unit {self.unit}, strength {self.strength}, slack {self.slack}",
                             "a unit and a strength above 0, and a slack that is not negative")

    @property
    def units(self) -> int:
        """Hidden units h; 0 in a linear human, which has none to read."""
        return self.net.sizes[1] if len(self.net.sizes) == 3 else 0

    def hidden(self, theta: Tensor) -> Tensor:
        """tanh(Wx + b), or x itself where there are no units, θ2 `(p, B)`: `(n, h, B)`."""
        if not self.units:
            return self.x.unsqueeze(-1)
        h, d, count = self.units, self.net.sizes[0], theta.shape[1]
        w = theta[: h * d].reshape(h, d, count).transpose(0, 1).reshape(d, h * count)
        return torch.tanh((self.x @ w).reshape(-1, h, count) + theta[h * d : h * (d + 1)])

    def energy(self, z: Tensor, heads: Heads) -> tuple[Tensor, Tensor, Slopes]:
        """U `(A, M)`, its gradient by z `(p, A, M)`, and the heads' slopes averaged over the M chains."""
        p, arms, chains = z.shape
        sd = self.net.prior_sd(z.dtype).reshape(-1, 1)
        theta = z.reshape(p, -1) * sd
        h, d = self.units, self.net.sizes[0]
        inner = h * (d + 1)
        unit, out, bias = self.hidden(theta), theta[inner:-1], theta[-1]
        keep = (1 - heads.c).repeat_interleave(chains)
        read = heads.r.repeat_interleave(chains, 0).T if h else 0.0
        mixed = keep * out - read
        own = heads.own.T.repeat_interleave(chains, 1)
        rest = (unit * mixed).sum(1) + keep * bias - own
        error = rest.square().mean(0) / self.unit
        value = self.strength * (error - self.slack).clamp(min=0)
        pull = (2 * self.strength / (len(self.x) * self.unit)) * rest * (error > self.slack)
        felt = (pull.unsqueeze(1) * unit).sum(0)
        last = [keep * felt, (keep * pull.sum(0)).unsqueeze(0)]
        if h:
            before = pull.unsqueeze(1) * mixed * (1 - unit.square())
            w = (self.x.T @ before.reshape(len(self.x), -1)).reshape(d, h, -1).transpose(0, 1).reshape(h * d, -1)
            last = [w, before.sum(0), *last]
        slope = torch.cat(last) * sd

        def mean(t: Tensor) -> Tensor:
            return t.unflatten(-1, (arms, chains)).mean(-1)

        of_c = (felt * out).sum(0) + pull.sum(0) * bias
        # ∂U/∂c = −Σ pull H and ∂U/∂N = −pull; log Z has the opposite sign.
        slopes = Slopes(mean(of_c), mean(felt).T if h else heads.r.new_zeros(arms, 0), mean(pull).T)
        return value.reshape(arms, chains), slope.reshape(z.shape), slopes


@dataclass(frozen=True)
class State:
    """Chains z `(p, A, M)` and the heads' step sizes `(A,)`."""

    z: Tensor
    size: Tensor


@dataclass(frozen=True)
class Info:
    """Mean acceptance `(A,)`, mean U in nats `(A,)`, and ∂ log Z at the heads that were asked about."""

    acceptance: Tensor
    energy: Tensor
    slopes: Slopes


def init(condition: Condition, arms: int, chains: int, generator: torch.Generator, size: float = 0.05) -> State:
    """M draws of the reference for each of A heads."""
    return drawn(condition.net.p, arms, chains, generator, condition.x.dtype, size)


def drawn(
    p: int, arms: int, chains: int, generator: torch.Generator, dtype: torch.dtype = torch.float32, size: float = 0.05
) -> State:
    """The same for humans of p parameters."""
    if arms < 1 or chains < 1:
        raise InputError("chains", f"{chains} for each of {arms} heads", "at least 1 of each")
    return State(torch.randn(p, arms, chains, generator=generator, dtype=dtype),
                 torch.full((arms,), float(size), dtype=dtype))


def step(
    condition: Condition, state: State, heads: Heads, generator: torch.Generator, moves: Tensor, leapfrogs: int = 4
) -> tuple[State, Info]:
    """`moves` `(A,)` trajectories of every chain of a head for exp(−U) μ, then the slopes at where they are.

    Step sizes follow the acceptance, by head, so that the chains are right up to how fast the heads move under them.
    """
    if moves.shape != state.size.shape or int(moves.min()) < 1 or leapfrogs < 1:
        raise InputError("moves, leapfrogs", (moves.tolist(), leapfrogs), "at least 1, moves for each head")

    def of(some: Tensor) -> Energy:
        asked = heads.take(some)
        return lambda z: condition.energy(z, asked)[:2]

    state, accepted = move(of, state, generator, moves, leapfrogs)
    value, _, slopes = condition.energy(state.z, heads)
    return state, Info(accepted, value.mean(-1), slopes)


Energy = Callable[[Tensor], tuple[Tensor, Tensor]]
"""U `(a, M)` of a heads and its gradient `(p, a, M)`, at chains z `(p, a, M)`."""


def move(
    of: Callable[[Tensor], Energy], state: State, generator: torch.Generator, moves: Tensor, leapfrogs: int
) -> tuple[State, Tensor]:
    """As `step`, whatever U is: `of` heads by number `(a,)`. Returns the mean acceptance `(A,)` too, NaN without moves.

    A head may have 0 moves; its chains stay.
    """
    z, size, accepted = state.z, state.size, torch.where(moves > 0, 0.0, torch.nan).to(state.size.dtype)
    for k in range(int(moves.max())):
        some = (moves > k).nonzero()[:, 0]
        moved, share = _trajectory(of(some), z[:, some], size[some], generator, leapfrogs)
        z = z.index_copy(1, some, moved)
        size = size.index_copy(0, some, (size[some] * (0.2 * (share - TARGET)).exp()).clamp(1e-4, 0.6))
        accepted = accepted.index_add(0, some, share / moves[some])
    return State(z, size), accepted


def _trajectory(
    energy: Energy, z: Tensor, size: Tensor, generator: torch.Generator, leapfrogs: int
) -> tuple[Tensor, Tensor]:
    """One trajectory of every chain, z `(p, A, M)`, and the mean acceptance `(A,)`; steps vary lest one resonates."""
    stride = size.unsqueeze(-1) * (0.8 + 0.4 * torch.rand(z.shape[1:], generator=generator, dtype=z.dtype))
    momentum = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    now, slope = energy(z)
    before = (momentum.square().sum(0) + z.square().sum(0)) / 2 + now
    there, momentum = z, momentum - stride / 2 * (slope + z)
    for k in range(leapfrogs):
        there = there + stride * momentum
        now, slope = energy(there)
        momentum = momentum - (stride if k < leapfrogs - 1 else stride / 2) * (slope + there)
    after = (momentum.square().sum(0) + there.square().sum(0)) / 2 + now
    accept = (before - after).nan_to_num(-torch.inf).clamp(max=0).exp()
    chosen = torch.rand(accept.shape, generator=generator, dtype=z.dtype) < accept
    return torch.where(chosen, there, z), accept.mean(-1)
