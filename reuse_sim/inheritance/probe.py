"""Does the outer model know what it does not say? A linear probe of its hidden units.

A ridge regression learns f from the hidden units on-distribution and is asked off-distribution. If f stands in
them, the probe is right where the answers are the human's: knowledge that a reusing head hides (Mallen et al.
2023, arXiv 2312.01037). If only H does, no probe can be: what was never learned cannot be read.

Hidden units are what the answer head reads, so that head and probe differ in what they were trained for alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_sim.inheritance.observed import performance_gap_recovered, r_squared

PENALTIES = tuple(10.0**k for k in range(-6, 4))
"""Of which one is chosen, in units of the mean variance of a hidden unit; from where float32 units are exact."""


def read(hidden_on: Tensor, truth_on: Tensor, hidden_off: Tensor) -> Tensor:
    """What the probe answers off-distribution, `(H, m)`, in float64.

    One regression for all humans, as one head answers for all. The penalty is that with the least error on the last
    quarter of each human's questions among those fitted on the rest; then it is fitted on all.

    Args:
        hidden_on, truth_on: hidden units `(H, n, units)` and right answers `(H, n)` on-distribution.
        hidden_off: hidden units `(H, m, units)` off-distribution.
    """
    h, f, off = hidden_on.double(), truth_on.double(), hidden_off.double()
    kept = h.shape[1] - max(1, h.shape[1] // 4)
    rows = [part.flatten(0, 1) for part in (h[:, :kept], h[:, kept:], h)]
    answers = [part.flatten() for part in (f[:, :kept], f[:, kept:], f)]
    held = _ridge(rows[0], answers[0], rows[1], PENALTIES)
    best = int((held - answers[1]).square().mean(-1).argmin())
    return _ridge(rows[2], answers[2], off.flatten(0, 1), PENALTIES[best : best + 1])[0].unflatten(0, off.shape[:2])


def probe(hidden_on: Tensor, truth_on: Tensor, hidden_off: Tensor, truth_off: Tensor) -> float:
    """R² off-distribution of what the probe reads, truth_off being f there, `(H, m)`."""
    return float(r_squared(read(hidden_on, truth_on, hidden_off), truth_off.double()))


def unsaid(probe_fit: float, answer_fit: float) -> float:
    """(probe − answer) / (1 − answer): the share of what the answers lack that the probe finds.

    1 knows all and does not say it, 0 or below does not know it. Raises InputError where the answers lack nothing.
    """
    return performance_gap_recovered(answer_fit, probe_fit, 1.0)


def _ridge(x: Tensor, y: Tensor, asked: Tensor, penalties: tuple[float, ...]) -> Tensor:
    """Answers `(penalties, m)` to rows `(m, units)` of regressions fitted on x `(n, units)`, y `(n,)`."""
    # One scale for all units: scaled each to its own, those that hardly stir on-distribution run wild off it.
    centre, scale = x.mean(0), x.var(0).mean().sqrt().clamp(min=1e-12)
    x, asked = (x - centre) / scale, (asked - centre) / scale
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    along = vectors.T @ (x.T @ (y - y.mean())) / len(x)
    weights = along / (values.clamp(min=0) + torch.tensor(penalties, dtype=x.dtype).unsqueeze(-1))
    return y.mean() + weights @ vectors.T @ asked.T
