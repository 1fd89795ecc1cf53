"""Limits that hold for any nonnegative weights of a known mean, without asking how they are spread."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BETS = (1.0, 0.75, 0.5, 0.25, 0.1)


@dataclass(frozen=True)
class Weights:
    """`log_weight` `(m, k)` in nats: m independent groups of k weights that need not be, each of mean e^x at most."""

    log_weight: Tensor

    @property
    def groups(self) -> Tensor:
        """Log of each group's mean `(m,)`."""
        return torch.logsumexp(self.log_weight, 1) - math.log(self.log_weight.shape[1])

    @property
    def log_mean(self) -> float:
        """Log of the mean; −infinity where all weights are 0."""
        return float(torch.logsumexp(self.groups, 0)) - math.log(len(self.groups))

    def limit(self, alpha: float) -> float:
        """x is at least this, except with a chance of `alpha` or less; −infinity where all weights are 0.

        A gambler who stakes a share b of what he has on each group in turn, at price e^x, comes to Π (1 − b + b w/e^x),
        of mean at most 1: by Markov's inequality he has more than 1/alpha with chance alpha at most, also when he
        spreads his money over several b. The limit is the largest x at which he would have that (after Waudby-Smith &
        Ramdas 2024). b = 1 is the geometric mean of the weights, and log(1/alpha)/m below it; smaller b forgive
        weights of 0. One group can only be trusted to log(1/alpha).
        """
        logs = self.groups
        if bool(logs.isneginf().all()):
            return -math.inf
        bets = torch.tensor(BETS if len(logs) > 1 else (1.0,), dtype=logs.dtype)[:, None]
        high = float(logs.max())
        low = high - math.log(len(bets) / alpha) - 10.0 - len(logs)
        for _ in range(80):
            x = (low + high) / 2
            fortunes = torch.logaddexp(torch.log1p(-bets), bets.log() + logs - x).sum(1)
            rich = float(torch.logsumexp(fortunes, 0)) - math.log(len(bets)) > -math.log(alpha)
            low, high = (x, high) if rich else (low, x)
        return low

    @property
    def effective(self) -> float:
        """Effective number of groups: 1 where one has all the weight, 0 where none has any."""
        if math.isinf(self.log_mean):
            return 0.0
        return float(1 / torch.softmax(self.groups, 0).square().sum())

    @property
    def error(self) -> float:
        """Standard error of `log_mean`, from how the groups spread; needs two groups."""
        m = len(self.groups)
        return math.sqrt(max(m / max(self.effective, 1.0) - 1, 0.0) / (m - 1))

    def guess(self, deviations: float) -> float:
        """The log mean if log weights are normal, their mean plus half their variance, and `deviations` errors more.

        No limit, but nearer: few weights of a wide spread seldom hold the large ones that make up the mean. Weights of
        0 count by their share.
        """
        found = self.groups[self.groups.isfinite()]
        m, variance = len(found), float(found.var()) if len(found) > 1 else 0.0
        error = math.sqrt(variance / m + variance**2 / (2 * max(m - 1, 1)))
        return float(found.mean()) + variance / 2 + deviations * error + math.log(m / len(self.groups))
