"""Families of guides: z = mean + sd ∘ A(flow(e)) of standard normal e, one map for all, with its log determinant.

Mean field has A the identity, full rank a lower triangle, low rank the identity and r further directions; a flow puts
two affine autoregressive transforms (Kingma et al. 2016) before the triangle. Only e → z is ever asked for, so a draw's
density is that of its own e.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from reuse_sim.rng import global_state

Family = Literal["mean_field", "low_rank", "full_rank", "flow"]


@dataclass(frozen=True)
class Guide:
    """Mean and log sd `(d,)`; `mix` is () for A = I, (B,) for A = I + lower B, (U, V) `(d, r)` for A = I + UVᵀ."""

    mean: Tensor
    log_sd: Tensor
    mix: tuple[Tensor, ...] = ()
    flow: tuple[Any, ...] = ()

    def push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z `(n, d)` of noise `(n, d)`, and log |∂z/∂e| `(n,)`."""
        log_det = self.log_sd.sum().expand(len(noise))
        for layer in self.flow:
            after = layer(noise)
            log_det = log_det + layer.log_abs_det_jacobian(noise, after)
            noise = after
        if len(self.mix) == 1:
            noise = noise + noise @ self.mix[0].tril(-1).T
        if len(self.mix) == 2:
            u, v = self.mix
            log_det = log_det + torch.linalg.slogdet(torch.eye(u.shape[1], dtype=u.dtype) + v.T @ u).logabsdet
            noise = noise + (noise @ v) @ u.T
        return self.mean + self.log_sd.exp() * noise, log_det

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """What Adam moves: the weights of a flow ten times as slowly as means and scales."""
        weights = [w for layer in self.flow for w in layer.parameters()]
        return [{"params": [self.mean, self.log_sd, *self.mix], "lr": rate}] + (
            [{"params": weights, "lr": rate / 10}] if weights else [])

    def detach(self) -> Guide:
        """The same, with nothing left to descend on."""
        for layer in self.flow:
            layer.requires_grad_(False)
        return Guide(self.mean.detach(), self.log_sd.detach(), tuple(m.detach() for m in self.mix), self.flow)


def start(family: Family, at: Tensor, sd: float, generator: torch.Generator) -> Guide:
    """A guide about `at` `(d,)` with independent parameters of that sd, its tensors ready for descent."""
    d, mix, flow = len(at), (), ()
    if family == "low_rank":
        rank = max(1, round(d**0.5))
        mix = (at.new_zeros(d, rank), torch.randn(d, rank, generator=generator, dtype=at.dtype) / d**0.5)
    if family in ("full_rank", "flow"):
        mix = (at.new_zeros(d, d),)
    if family == "flow" and d > 1:  # one parameter alone has nothing to be regressed on
        flow = tuple(_layer(d, generator) for _ in range(2))
    leaves = [t.clone().requires_grad_() for t in (at, torch.full_like(at, sd).log(), *mix)]
    return Guide(leaves[0], leaves[1], tuple(leaves[2:]), flow)


def _layer(d: int, generator: torch.Generator) -> Any:
    """One affine autoregressive transform next to the identity, its parameters in an order of its own."""
    from pyro.distributions.transforms import affine_autoregressive

    with global_state(generator):
        layer = affine_autoregressive(d, [2 * d]).double()
    with torch.no_grad():
        for weight in layer.arn.layers[-1].parameters():
            weight.mul_(0.01)
    return layer
