"""Evidence from posterior draws: bridge sampling (Meng & Wong 1996) against a Gaussian fitted to half of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pyro.ops.stats import effective_sample_size
from torch import Tensor

from reuse_sim.specialness.problem import LN2, Problem
from reuse_sim.specialness.space import Space


@dataclass(frozen=True)
class Evidence:
    """−log₂ evidence, its standard error, and the share of the Gaussian's draws inside the cell."""

    bits: float
    error: float
    inside: float


def bits(problem: Problem, chains: Tensor, generator: torch.Generator, proposals: int = 4000) -> Evidence:
    """−log₂ ∫ μ(dθ) exp(−nβC), all copies counted, from posterior draws `(chains, n, d)`.

    Each half of the draws takes its turn as the one the Gaussian is fitted to; the mean of the two is returned.
    They share no draw, but their chains: the error is the larger of the two and not divided by √2.
    """
    half = chains.shape[1] // 2
    first, second = chains[:, :half], chains[:, half : 2 * half]
    sides = [_bridge(problem, fit, used, generator, proposals) for fit, used in ((first, second), (second, first))]
    spread = abs(sides[0].bits - sides[1].bits) / 2
    return Evidence(
        sum(s.bits for s in sides) / 2, max(spread, *(s.error for s in sides)), min(s.inside for s in sides)
    )


def _bridge(problem: Problem, fit: Tensor, used: Tensor, generator: torch.Generator, proposals: int) -> Evidence:
    space, copies = Space(problem), problem.symmetry
    z_fit, z_used = (space.z(t.flatten(0, 1)) for t in (fit, used))
    if copies:
        # The centre depends on the fitted half only, so the cell is fixed when the other half is moved into it.
        centre = copies.centre(z_fit)
        z_fit, z_used = copies.align(z_fit, centre), copies.align(z_used, centre)
    gaussian = fitted(z_fit)
    noise = torch.randn(proposals, problem.dim, generator=generator, dtype=z_fit.dtype)
    z_new = gaussian.loc + noise @ gaussian.scale_tril.T

    def log_ratio(z: Tensor) -> Tensor:
        return space.log_joint(z) - gaussian.log_prob(z)

    at_posterior, at_gaussian = log_ratio(z_used), log_ratio(z_new)
    inside = copies.inside(z_new, centre) if copies else torch.ones(proposals, dtype=torch.bool)
    at_gaussian = torch.where(inside, at_gaussian, -torch.inf)
    log_r, error = iterate(at_posterior.unflatten(0, used.shape[:2]), at_gaussian)
    return Evidence(-log_r / LN2 - problem.symmetry_bits, error / LN2, float(inside.double().mean()))


def fitted(z: Tensor) -> torch.distributions.MultivariateNormal:
    """The normal with mean and covariance of z `(n, d)`, the latter drawn towards its diagonal by a share d/(d + n)."""
    n, d = z.shape
    covariance = torch.cov(z.T).reshape(d, d)
    share = d / (d + n)  # so that fewer draws than dimensions give a proper normal too
    return torch.distributions.MultivariateNormal(
        z.mean(0), (1 - share) * covariance + share * torch.diag(covariance.diagonal())
    )


def iterate(at_posterior: Tensor, at_gaussian: Tensor) -> tuple[float, float]:
    """log r and its standard error from log(p/q) at draws of p `(chains, n)` and of q `(m,)`, r = ∫ p.

    Meng & Wong's iteration to its fixed point; the error is Frühwirth-Schnatter's (2004) relative one, with the
    number of posterior draws replaced by their effective number.
    """
    p, q = at_posterior.flatten(), at_gaussian
    log_sp, log_sq = math.log(len(p) / (len(p) + len(q))), math.log(len(q) / (len(p) + len(q)))

    def shares(log_ratio: Tensor, log_r: Tensor) -> Tensor:
        """−log(s_p p/(q r) + s_q)."""
        return -torch.logaddexp(log_sp + log_ratio - log_r, torch.tensor(log_sq, dtype=log_ratio.dtype))

    log_r = p.median()
    for _ in range(1000):
        over = torch.logsumexp(q - log_r + shares(q, log_r), 0) - math.log(len(q))
        under = torch.logsumexp(shares(p, log_r), 0) - math.log(len(p))
        step = over - under
        log_r = log_r + step
        if abs(float(step)) < 1e-10:
            break
    f_q, f_p = (q - log_r + shares(q, log_r)).exp(), shares(at_posterior, log_r).exp()
    effective = float(effective_sample_size(f_p.unsqueeze(-1)).clamp(1, f_p.numel()).nan_to_num(f_p.numel()))
    relative = f_q.var() / f_q.mean() ** 2 / len(q) + f_p.var() / f_p.mean() ** 2 / effective
    return float(log_r), float(relative.sqrt())
