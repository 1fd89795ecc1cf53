"""Specialness under the Gaussian process that a network's initialisation prior becomes when it is infinitely wide.

Its reference is the process, not the finite network: answers g(x) on n questions are N(0, K), with K the covariance of
the initialisation prior's own answers. For one hidden layer K is exact at any width, and only "normal" is the limit
(Neal 1996); every further layer takes the one before it as infinitely wide (Lee et al. 2018). With (u, v) normal of
variances p, q and correlation cos α,

    ReLU: E φ(u) φ(v) = √(pq) (sin α + (π − α) cos α) / 2π            (arc-cosine, Cho & Saul 2009),

and tanh by evenly spaced nodes in both directions, whose error falls by e^(−2πa/h) with their distance h and that of
tanh's pole a = π/(2√q); what a third fewer of them change is reported.

Soft form: −log₂ E exp(−Σ (g − f)²/(2v)), v = tolerance · var f: a Gaussian integral. Hard form: the probability that
the mean of (g − f)²/var f is at most the tolerance: a generalised χ², integrated exactly (`quadratic.log_share`).
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.specialness import exact, quadratic
from reuse_sim.specialness.problem import LEVEL, LN2
from reuse_sim.types import Estimate

REACH, MOST = 8.5, 240
"""Standard deviations that nodes cover, and how many there are at most."""


def evidence(
    net: Mlp, x: Tensor, f: Tensor, tolerance: float, *, soft: bool = False, level: float = LEVEL
) -> Estimate:
    """−log₂ of how much of the process agrees with answers f `(n,)` to questions x `(n, d)`, as `human.problem` asks.

    Its limits are what the numerical errors of kernel and integral allow. It counts functions, so that copies of a
    network are no matter. Raises InputError for answers all alike, a tolerance that is not above 0, and questions that
    do not fit the network.
    """
    began = time.process_time()
    x, f = x.double(), f.double()
    if x.dim() != 2 or x.shape[1] != net.sizes[0] or f.shape != (len(x),):
        raise InputError("x, f", f"{tuple(x.shape)}, {tuple(f.shape)}", f"(n, {net.sizes[0]}) and (n,)")
    variance = float(f.var(correction=0))
    if not variance > 0:
        raise InputError("f", "answers all alike", "answers that vary", "take other questions")
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise InputError("tolerance", tolerance, "a finite number above 0")
    ask = _soft if soft else _hard
    nats, numeric = ask(kernel(net, x), f, tolerance * variance)
    rough, _ = ask(kernel(net, x, 2 / 3), f, tolerance * variance)
    error = (numeric + abs(nats - rough)) / LN2
    bits = max(0.0, -nats / LN2)
    return Estimate(
        bits=bits, low=max(0.0, bits - error), high=bits + error, bound="two-sided", kind="global", level=level,
        quantity="specialness under the Gaussian process of infinite width",
        status="converged" if error < 0.1 else f"the kernel is good to {error:.2g} bits only: take smaller questions x",
        seconds=time.process_time() - began,
        diagnostics={"error_bits": error, "reference": f"Gaussian process of infinitely wide {net.activation} networks",
                     "consistency": f"mean of (H - f)²/var f over {len(x)} questions", "tolerance": tolerance,
                     "form": f"soft, {len(x) / (2 * tolerance):g} nats per unit of C" if soft else "hard",
                     "symmetry_bits": 0.0},
    )


def kernel(net: Mlp, x: Tensor, share: float = 1.0) -> Tensor:
    """Covariance `(n, n)` of the initialisation prior's answers to x `(n, d)`, by a share of the nodes (tanh)."""
    sd = net.views(net.prior_sd(torch.float64))
    k = x @ x.T * float(sd["weight0"][0, 0]) ** 2 + _bias(sd, 0)
    for layer in range(1, len(net.sizes) - 1):
        mean = _relu(k) if net.activation == "relu" else _tanh(k, share)
        k = net.sizes[layer] * float(sd[f"weight{layer}"][0, 0]) ** 2 * mean + _bias(sd, layer)
    return k


def _bias(sd: dict[str, Tensor], layer: int) -> float:
    return float(sd[f"bias{layer}"][0]) ** 2 if f"bias{layer}" in sd else 0.0


def _relu(k: Tensor) -> Tensor:
    size = k.diagonal().clamp(min=0).sqrt()
    scale = size[:, None] * size
    cosine = (k / scale.clamp(min=1e-300)).clamp(-1, 1)
    angle = torch.acos(cosine)
    angle = angle.fill_diagonal_(0.0)  # acos loses half its digits there
    return scale * (torch.sin(angle) + (math.pi - angle) * torch.cos(angle)) / (2 * math.pi)


def _tanh(k: Tensor, share: float) -> Tensor:
    """E tanh(u) tanh(v): u = √p a, v = √q (c a + s b) at nodes (a, b), one row of k at a time."""
    size = k.diagonal().clamp(min=0).sqrt()
    nodes = min(MOST, math.ceil(2 * REACH * 3 * max(1.0, float(size.max()))))  # 2πa/h is then about 30
    a = torch.linspace(-REACH, REACH, round(share * nodes), dtype=k.dtype)
    weight = torch.softmax(-a.square() / 2, 0)
    cosine = (k / (size[:, None] * size).clamp(min=1e-300)).clamp(-1, 1)
    cosine = cosine.clone().fill_diagonal_(1.0)
    out = torch.empty_like(k)
    for i, c in enumerate(cosine):
        s = (1 - c**2).clamp(min=0).sqrt()
        v = size[i:, None, None] * (c[i:, None, None] * a[:, None] + s[i:, None, None] * a)
        inner = torch.tanh(v) @ weight
        out[i, i:] = out[i:, i] = inner @ (weight * torch.tanh(size[i] * a))
    return out


def _soft(k: Tensor, f: Tensor, v: float) -> tuple[float, float]:
    values, turn = torch.linalg.eigh(k)
    root, one = turn * values.clamp(min=0).sqrt(), torch.ones(len(f), dtype=f.dtype)
    return -exact.linear_gaussian(root, f, one, v / float(f.var(correction=0))).bits * LN2, 0.0


def _hard(k: Tensor, f: Tensor, v: float) -> tuple[float, float]:
    """mean (g − f)² ≤ v with g = U √λ ξ: c = Σ f²/n, b = −2 √λ Uᵀf/n, h = 2λ/n."""
    values, turn = torch.linalg.eigh(k)
    values, n = values.clamp(min=0), len(f)
    return quadratic.log_share(float(f.square().mean()), -2 * values.sqrt() * (turn.T @ f) / n, 2 * values / n, v)
