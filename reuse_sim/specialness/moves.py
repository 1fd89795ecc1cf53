"""Moves of a whole population that leave reference · exp(−βC), or the reference inside of C ≤ level, as it is."""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_sim.specialness.space import Space, State

_FAR = 1e8


def hmc(
    space: Space, state: State, beta: Tensor | float, step: Tensor, leapfrogs: int, generator: torch.Generator,
    scale: Tensor | float = 1.0,
) -> tuple[State, Tensor]:
    """One trajectory of Hamiltonian Monte Carlo per member for the density reference · exp(−βC).

    Args:
        state: with gradients.
        beta: one number, or one per member `(n,)`.
        step: step sizes `(n,)` in units of `scale`; draw them around their mean so that no trajectory resonates.
        scale: standard deviations `(d,)` or `(n, d)` of the target, in units of which momenta are drawn; 1 where
            nothing is known.

    Returns the population after it and each trajectory's acceptance probability `(n,)`; those that leave the
    support or are not finite are rejected.
    """
    beta = torch.as_tensor(beta, dtype=state.z.dtype)
    strength = beta.reshape(-1, 1)
    stride = step.unsqueeze(-1) * scale

    def force(s: State) -> Tensor:
        assert s.base_slope is not None and s.cost_slope is not None
        return torch.addcmul(s.base_slope, strength, s.cost_slope, value=-1)

    def energy(s: State, p: Tensor) -> Tensor:
        return p.square().sum(-1) / 2 - s.base + beta * s.cost

    momentum = torch.randn(state.z.shape, generator=generator, dtype=state.z.dtype)
    before, now = energy(state, momentum), state
    momentum.addcmul_(stride, force(now), value=0.5)
    for k in range(leapfrogs):
        # A diverging trajectory is kept finite, so that the cost is asked no nonsense; it is rejected all the same.
        z = torch.addcmul(now.z, stride, momentum).nan_to_num_(0.0).clamp_(-_FAR, _FAR)
        now = space.state(z, slopes=True)
        momentum.addcmul_(stride, force(now), value=1.0 if k < leapfrogs - 1 else 0.5)
    accept = (before - energy(now, momentum)).nan_to_num(-torch.inf).clamp(max=0).exp()
    chosen = torch.rand(len(accept), generator=generator, dtype=accept.dtype) < accept
    return state.where(chosen, now), accept


def walk(
    space: Space, state: State, size: Tensor | float, generator: torch.Generator, beta: Tensor | float = 0.0,
    level: Tensor | float = torch.inf, scale: Tensor | float = 1.0,
) -> tuple[State, Tensor]:
    """One step of each member without gradients, for the density reference · exp(−βC) restricted to C ≤ level.

    Where z is standard normal this is preconditioned Crank–Nicolson, z' = √(1 − size²) z + size ξ, which leaves the
    reference alone (Cotter et al. 2013), with size · scale, at most 1, for size; elsewhere what the reference proposes,
    or a random walk z' = z + size · scale · ξ, accepted by the reference's density. `size` is one number or one per
    member `(n,)`, `scale` one number, one per coordinate `(d,)` or `(n, d)`.

    Returns the population after it and each step's acceptance probability `(n,)`.
    """
    size = torch.as_tensor(size, dtype=state.z.dtype).reshape(-1, 1)
    propose = getattr(space.problem.reference, "propose", None)
    if propose is not None and not space.normal:
        moved = propose(state.z, size, generator)
    else:
        noise = torch.randn(state.z.shape, generator=generator, dtype=state.z.dtype)
        size = (size * scale).clamp(max=1.0) if space.normal else size * scale
        moved = (1 - size**2).sqrt() * state.z + size * noise if space.normal else state.z + size * noise
    now = space.state(moved)
    log_ratio = beta * (state.cost - now.cost) + (0.0 if space.normal else now.base - state.base)
    log_ratio = torch.where(now.cost <= level, log_ratio.nan_to_num(-torch.inf), -torch.inf)
    accept = log_ratio.clamp(max=0).exp()
    chosen = torch.rand(len(accept), generator=generator, dtype=accept.dtype) < accept
    return state.where(chosen, now), accept
