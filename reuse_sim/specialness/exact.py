"""The case with a closed form: H_θ(x) = x·θ under a normal reference, and how far draws are from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.ops.stats import effective_sample_size
from torch import Tensor

from reuse_sim.specialness.problem import LN2


@dataclass(frozen=True)
class Exact:
    """−log₂ evidence, posterior mean `(d,)` and covariance `(d, d)`."""

    bits: float
    mean: Tensor
    covariance: Tensor


def linear_gaussian(x: Tensor, y: Tensor, sd: Tensor, tolerance: float) -> Exact:
    """The Gibbs posterior of a linear human: x `(n, d)`, y = f(x) `(n,)`, reference N(0, diag(sd²)).

    With v = tolerance · var f, X̃ = X diag(sd) and K = vI + X̃X̃ᵀ, the integral of
    N(θ; 0, diag(sd²)) exp(−|Xθ − y|²/(2v)) is |K/v|^(−1/2) exp(−yᵀK⁻¹y/2): the marginal density of y
    under normal noise without that noise's own constant. The posterior has precision
    diag(sd⁻²) + XᵀX/v (Rasmussen & Williams 2006, §2.1).
    """
    n, v = len(x), tolerance * y.var(correction=0)
    scaled = x * sd
    factor = torch.linalg.cholesky(torch.eye(n, dtype=x.dtype) + scaled @ scaled.T / v)
    residual = torch.linalg.solve_triangular(factor, y[:, None], upper=False)
    nats = factor.diagonal().log().sum() + residual.square().sum() / (2 * v)
    precision = torch.diag(sd**-2) + x.T @ x / v
    covariance = torch.linalg.inv(precision)
    return Exact(float(nats) / LN2, covariance @ (x.T @ y) / v, covariance)


def errors(exact: Exact, theta: Tensor) -> tuple[float, float]:
    """Largest error of the draws' mean and of their covariance, in Monte Carlo standard errors.

    θ `(chains, draws, d)`. A function's standard error is its sd over the root of its effective number of
    draws; covariances are means of products about the exact mean, one per pair of parameters.
    """
    centred = theta - exact.mean
    i, j = torch.triu_indices(theta.shape[-1], theta.shape[-1])
    return _largest(centred), _largest(centred[..., i] * centred[..., j] - exact.covariance[i, j])


def _largest(functions: Tensor) -> float:
    """The largest |mean| in standard errors of functions `(chains, draws, k)` whose mean should be 0."""
    effective = effective_sample_size(functions)
    flat = functions.flatten(0, 1)
    return float((flat.mean(0).abs() / (flat.std(0) / effective.sqrt())).max())
