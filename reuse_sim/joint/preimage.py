"""How many initialisations lead to the same end: log₂ [μ(Train⁻¹B) / μ(B)], B all that behaves as the human.

Both masses by one sampler, under the initialisation prior μ: first of all starts whose training drifts at most so far
from the human, then of all networks that do. A log-determinant of the Jacobian is no substitute: it lets directions in
which training expands pay for those in which it contracts, and knows nothing of how far either goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reuse_sim.engines.spec import need
from reuse_sim.joint.unrolled import Training
from reuse_sim.types import Estimate

Cost = Callable[[Tensor], Tensor]
Measure = Callable[[Cost, bool], Estimate]
"""−log₂ of the mass of {cost ≤ tolerance}, θ `(n, p)` -> `(n,)`; the flag says whether autograd can follow the cost."""


@dataclass(frozen=True)
class Preimage:
    """−log₂ of both masses: of the starts that end there, and of the ends themselves."""

    start: Estimate
    end: Estimate

    @property
    def bits(self) -> float:
        """log₂ of the ratio: by so many bits more of the starts are right than of the ends."""
        return self.end.bits - self.start.bits

    @property
    def limits(self) -> tuple[float, float]:
        """Of the two intervals, which are independent, added in squares."""
        down = math.hypot(self.end.bits - self.end.low, self.start.high - self.start.bits)
        up = math.hypot(self.end.high - self.end.bits, self.start.bits - self.start.low)
        return self.bits - down, self.bits + up

    @property
    def status(self) -> str:
        """`converged`, or what is wrong with either."""
        said = {"starts": self.start.status, "ends": self.end.status}
        return "; ".join(f"{k}: {v}" for k, v in said.items() if v != "converged") or "converged"


def preimage(drift: Cost, process: Callable[[Tensor], Tensor], measure: Measure) -> Preimage:
    """Both masses of one human.

    Args:
        drift: of θ `(n, p)` from the human, `(n,)`, differentiable.
        process: training, θ₀ `(n, p)` -> θ_T `(n, p)`; differentiated only where it is an unrolled `Training`.
        measure: the sampler, with its prior and tolerance.
    """
    through = isinstance(process, Training)
    return Preimage(measure(lambda theta: drift(process(theta)), through), measure(drift, True))


def log2_det(training: Training, theta_0: Tensor) -> float:
    """log₂ |det ∂θ_T/∂θ₀| at θ₀ `(p,)`, exact: of a Jacobian of p tangents; minus infinity where it is singular."""
    return float(torch.linalg.slogdet(training.jacobian(theta_0))[1]) / math.log(2)


def log2_det_sampled(
    training: Training, theta_0: Tensor, generator: torch.Generator, *, probes: int = 16, order: int = 40
) -> tuple[float, float]:
    """The same by stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017), for networks whose Jacobian is too large.

    ½ tr log JᵀJ over `probes` random directions, `order` products with J (forwards) and Jᵀ (backwards) each. Returns
    bits and their standard error over the probes, which does not know what is left out below `order` < p. What training
    contracts below √ε of its largest expansion cannot be told from that in a square, and counts as that: then
    the figure is an upper bound.
    """
    p = len(theta_0)
    need(probes >= 2, "probes", probes, "at least 2")
    need(order >= 1, "order", order, "at least 1")
    order = min(order, p)
    theta = theta_0.expand(probes, p).clone()
    v = torch.randn(probes, p, generator=generator, dtype=theta_0.dtype)
    basis, diagonal, beside = [v / v.norm(dim=1, keepdim=True)], [], []
    for _ in range(order):
        w = _gram(training, theta, basis[-1])
        diagonal.append((w * basis[-1]).sum(1))
        for _ in range(2):  # against all before, twice: Lanczos alone forgets
            for b in basis:
                w = w - (w * b).sum(1, keepdim=True) * b
        size = w.norm(dim=1, keepdim=True)
        beside.append(size.squeeze(1))
        basis.append(torch.where(size > 0, w / size.clamp(min=1e-300), 0.0))
    t = torch.diag_embed(torch.stack(diagonal, 1))
    off = torch.stack(beside, 1)[:, : order - 1]
    t = t + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    values, vectors = torch.linalg.eigh(t)
    floor = torch.finfo(values.dtype).eps * values.amax(1, keepdim=True)
    logs = (vectors[:, 0].square() * values.clamp(min=floor).log()).sum(1)
    each = p * logs / (2 * math.log(2))
    return float(each.mean()), float(each.std()) / probes**0.5


def _gram(training: Training, theta_0: Tensor, v: Tensor) -> Tensor:
    """JᵀJ v for a stack of v `(n, p)` at θ₀ `(n, p)`."""
    forward = training.tangent(theta_0, v)[1]
    leaf = theta_0.detach().clone().requires_grad_()
    with torch.enable_grad():
        (back,) = torch.autograd.grad(training(leaf), leaf, forward)
    return back
