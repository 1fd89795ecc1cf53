"""Codes of data where all of them have closed forms: linear answers with normal noise, and coin flips.

For y = x·w + e with w ~ N(0, diag(prior_sd²)) and e of a known sd, in bits:

    −log₂ p(y) = Σ_i −log₂ p(y_i | y_<i) = E_q[−log₂ p(y | w)] + KL(q ‖ p) − KL(q ‖ posterior)   for every q:

evidence, prequential Bayes code, and bits back (Hinton & van Camp 1993), which pays what its q is off. y are real, so
that lengths are of densities, in units of y; told in cells of width c they grow by n log₂(1/c). `write` tells them in
such cells by a stack coder: w is decoded from bits that are there already, y written given w, and w under the prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
import torch
from torch import Tensor

from reuse_sim.errors import InputError

LN2 = math.log(2)
coders: Any = constriction  # an extension, whose modules no checker sees
stack, model = coders.stream.stack, coders.stream.model


@dataclass(frozen=True)
class Normal:
    """N(mean, covariance) over w: `(p,)` and `(p, p)`, float64."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Linear:
    """Answers y `(n,)` to questions x `(n, p)`, linear in w but for noise, and w's prior sds `(p,)`; all float64."""

    x: Tensor
    y: Tensor
    prior_sd: Tensor
    noise_sd: float
    prior_mean: Tensor | float = 0.0

    @property
    def prior(self) -> Normal:
        """Of w."""
        return Normal(self.prior_mean + torch.zeros_like(self.prior_sd), self.prior_sd.square().diag())

    def posterior(self) -> Normal:
        """Of w given y: precision 1/prior_sd² + xᵀx/noise_sd²."""
        prior, weight = self.prior, self.noise_sd**-2
        covariance = torch.linalg.inv(self.prior_sd.square().reciprocal().diag() + weight * self.x.T @ self.x)
        pull = prior.mean / self.prior_sd.square() + weight * self.x.T @ self.y
        return Normal(covariance @ pull, covariance)

    def evidence_bits(self) -> float:
        """−log₂ p(y), y being normal with covariance x diag(prior_sd²) xᵀ + noise_sd² I."""
        prior = self.prior
        covariance = self.x @ prior.covariance @ self.x.T + self.noise_sd**2 * torch.eye(len(self.y)).to(self.y)
        return -_log_density(self.y, self.x @ prior.mean, covariance) / LN2

    def prequential_bits(self) -> Tensor:
        """−log₂ p(y_i | y_<i) of each answer `(n,)`, w's law brought up to date after each."""
        mean, covariance = self.prior.mean, self.prior.covariance
        bits = []
        for x, y in zip(self.x, self.y, strict=True):
            gain = covariance @ x
            variance = x @ gain + self.noise_sd**2
            bits.append(((y - x @ mean).square() / variance + (2 * math.pi * variance).log()) / (2 * LN2))
            mean, covariance = mean + gain * (y - x @ mean) / variance, covariance - torch.outer(gain, gain) / variance
        return torch.stack(bits)

    def bits_back(self, q: Normal) -> float:
        """E_q[−log₂ p(y | w)] + KL(q ‖ prior)."""
        variance, n = self.noise_sd**2, len(self.y)
        miss = (self.y - self.x @ q.mean).square().sum() + (self.x @ q.covariance * self.x).sum()
        return float(miss / (2 * variance) + n / 2 * math.log(2 * math.pi * variance)) / LN2 + kl_bits(q, self.prior)


def kl_bits(q: Normal, p: Normal) -> float:
    """KL(q ‖ p) in bits."""
    inverse, off = torch.linalg.inv(p.covariance), q.mean - p.mean
    nats = (inverse @ q.covariance).trace() + off @ inverse @ off - len(off)
    return float(nats + p.covariance.logdet() - q.covariance.logdet()) / (2 * LN2)


def _log_density(y: Tensor, mean: Tensor, covariance: Tensor) -> float:
    root = torch.linalg.cholesky(covariance)
    z = torch.linalg.solve_triangular(root, (y - mean).unsqueeze(-1), upper=False)
    return -float(z.square().sum() / 2 + root.diagonal().log().sum() + len(y) / 2 * math.log(2 * math.pi))


# A coder that gets its bits back ------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Cells of width `answer` for y and `weight` for w, and how many of either lie to each side of 0."""

    answer: float
    weight: float
    reach: int = 2**15


def write(data: Sequence[Linear], qs: Sequence[Normal], grid: Grid, spare: np.ndarray) -> np.ndarray:
    """Words of a message that holds all answers and the `spare` words too: its length is what it has over those.

    The answers are rounded to cells; `read` gives them back as they were rounded, and the spare words.
    Raises InputError where an answer lies outside of the grid, or the spare words do not suffice.
    """
    coder, normal = stack.AnsCoder(spare), model.QuantizedGaussian(-grid.reach, grid.reach)
    for one, q in zip(data, qs, strict=True):
        if coder.num_words() < len(one.prior_sd) + 2:
            raise InputError("spare", f"{len(spare)} words", "a word for every weight of the first data, and two more")
        k = _chain(q, grid, lambda _, law: int(coder.decode(law)))
        told = _cells(one.y, grid)
        w = torch.from_numpy(k * grid.weight)
        means, sd = (one.x @ w).numpy() / grid.answer, one.noise_sd / grid.answer
        coder.encode_reverse(told, normal, means, np.full(len(told), sd))
        coder.encode_reverse(k, normal, *_prior(one, grid))
    return coder.get_compressed()


def read(
    words: np.ndarray, like: Sequence[Linear], qs: Sequence[Normal], grid: Grid
) -> tuple[list[Tensor], np.ndarray]:
    """The rounded answers of each data and the spare words: `like` and `qs` as for `write`, their answers ignored."""
    coder, normal = stack.AnsCoder(words), model.QuantizedGaussian(-grid.reach, grid.reach)
    answers: list[Tensor] = []
    for one, q in reversed(list(zip(like, qs, strict=True))):
        k = coder.decode(normal, *_prior(one, grid))
        means = (one.x @ torch.from_numpy(k * grid.weight)).numpy() / grid.answer
        told = coder.decode(normal, means, np.full(len(means), one.noise_sd / grid.answer))
        answers.append(torch.from_numpy(told * grid.answer))
        laws: list[Any] = []
        _chain(q, grid, lambda i, law, k=k, laws=laws: laws.append(law) or int(k[i]))
        for value, law in zip(k[::-1].tolist(), laws[::-1], strict=True):  # put back as they were taken, the last first
            coder.encode_reverse(value, law)
    return answers[::-1], coder.get_compressed()


def _cells(y: Tensor, grid: Grid) -> np.ndarray:
    cells = np.round(y.numpy() / grid.answer)
    if np.abs(cells).max() > grid.reach:
        raise InputError("y", f"{np.abs(cells).max():.0f} cells from 0", f"{grid.reach} at most", "take wider cells")
    return cells.astype(np.int32)


def _prior(one: Linear, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    return one.prior.mean.numpy() / grid.weight, one.prior_sd.numpy() / grid.weight


def _chain(q: Normal, grid: Grid, take: Callable[[int, Any], int]) -> np.ndarray:
    """Cells of w `(p,)`, `take(i, law)` each in turn, by q's law of w_i given those before."""
    root, z = torch.linalg.cholesky(q.covariance).numpy(), np.zeros(len(q.mean))
    k = np.zeros(len(z), np.int32)
    for i, mean in enumerate(q.mean.numpy()):
        expected = mean + root[i, :i] @ z[:i]
        law = model.QuantizedGaussian(-grid.reach, grid.reach, expected / grid.weight, root[i, i] / grid.weight)
        k[i] = take(i, law)
        z[i] = (k[i] * grid.weight - expected) / root[i, i]
    return k


# Coins --------------------------------------------------------------------------------------------------


def kt_bits(flips: Sequence[int]) -> float:
    """Length of flips (0 or 1) foretold by (ones + ½)/(flips + 1) so far (Krichevsky & Trofimov 1981)."""
    ones = sum(flips)
    zeros = len(flips) - ones
    log_p = math.lgamma(ones + 0.5) + math.lgamma(zeros + 0.5) - math.log(math.pi) - math.lgamma(len(flips) + 1)
    return -log_p / LN2


def kt_regret_bits(ones: int, n: int) -> float:
    """`kt_bits` less n h(ones/n), the length for one who knew the share: ½ log₂ n + 1 at most, whatever the flips."""
    share = ones / n
    known = -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0) * n
    return kt_bits([1] * ones + [0] * (n - ones)) - known
