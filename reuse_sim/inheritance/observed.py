"""What answers alone show: fit, agreement, β, and the sibling contrast.

Shapes: answers of the outer M, the teacher f and the human `(H, n)`, siblings `(S, H, n)`; H humans asked
n questions each. Figures are pooled over humans and questions of
one world: the world is the unit of analysis, so none of them carries an interval.
"""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from reuse_sim.errors import InputError


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product over humans and questions, `(…, H, n)` twice -> `(…)`."""
    return (a * b).sum((-2, -1))


def r_squared(answer: Tensor, truth: Tensor) -> Tensor:
    """1 − Σ(answer − truth)² / Σ(truth − mean)², the mean being each human's own; `(…)`."""
    centred = truth - truth.mean(-1, keepdim=True)
    error = answer - truth
    return 1 - inner(error, error) / inner(centred, centred)


def accuracy(answer: Tensor, truth: Tensor) -> Tensor:
    """Share of answers with the truth's sign, `(…)`."""
    return (answer * truth > 0).float().mean((-2, -1))


def fit(kind: str, answer: Tensor, truth: Tensor) -> Tensor:
    """How well one answers as another does: R² in a regression, accuracy in a classification."""
    return accuracy(answer, truth) if kind == "classification" else r_squared(answer, truth)


def beta(outer: Tensor, teacher: Tensor, human: Tensor) -> Tensor:
    """Least-squares coefficient of M − f on H − f: ⟨M − f, H − f⟩ / ‖H − f‖².

    Not evidence of reuse by itself: networks trained on the same labels fail alike.
    """
    failure = human - teacher
    return inner(outer - teacher, failure) / inner(failure, failure)


def sibling_contrast(outer: Tensor, teacher: Tensor, human: Tensor, siblings: Tensor) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of Σ⟨M − f, Z⟩ / Σ⟨H − f, Z⟩ with Z = H − mean of siblings.

    Expected 0 where M carries nothing of this human's own, 1 for a full copy, whatever share of the
    failure the siblings have in common. The ratio is taken over summed worlds (`stats.ratio_interval`).
    A sibling whose bits were leaked must be left out of `siblings` by the caller.
    """
    own = human - siblings.mean(0)
    return inner(outer - teacher, own), inner(human - teacher, own)


def own_failure(outer: Tensor, teacher: Tensor, human: Tensor) -> Tensor:
    """Root mean square of the part of M − f that H − f does not explain, in units of f."""
    rest = outer - teacher - beta(outer, teacher, human)[..., None, None] * (human - teacher)
    return rest.square().mean((-2, -1)).sqrt()


def own_failure_share(teacher: Tensor, human: Tensor, siblings: Tensor) -> Tensor:
    """Share of a human's squared failure that siblings do not have: 1 − mean ⟨E_i, E_j⟩ / mean ‖E_i‖²."""
    failures = torch.cat([human.unsqueeze(0), siblings]) - teacher
    flat = failures.flatten(1)
    gram = flat @ flat.T
    count = len(gram)
    shared = (gram.sum() - gram.diagonal().sum()) / (count * (count - 1))
    return 1 - shared / gram.diagonal().mean()


def disagreement(teacher: Tensor, human: Tensor, siblings: Tensor, tolerance: float) -> Tensor:
    """Number of questions, over all humans, at which H or any sibling misses f by more than half the tolerance."""
    wrong = (torch.cat([human.unsqueeze(0), siblings]) - teacher).abs() > tolerance / 2
    return wrong.any(0).sum()


def agreement(outer: Tensor, teacher: Tensor, human: Tensor, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """P(M = H), P(M = f), P(neither), equality being within half the tolerance."""
    with_human = (outer - human).abs() <= tolerance / 2
    with_teacher = (outer - teacher).abs() <= tolerance / 2
    shares = [s.float().mean((-2, -1)) for s in (with_human, with_teacher, ~(with_human | with_teacher))]
    return shares[0], shares[1], shares[2]


def gap_recovered(outer: Tensor, teacher: Tensor, human: Tensor) -> Tensor:
    """1 − MSE(M, f) / MSE(H, f): 1 answers rightly, 0 no better than the human, negative worse."""
    return 1 - inner(outer - teacher, outer - teacher) / inner(human - teacher, human - teacher)


def performance_gap_recovered(weak: float, student: float, ceiling: float) -> float:
    """(student − weak) / (ceiling − weak), three scores of one measure (Burns et al. 2023, arXiv 2312.09390).

    1 where the student of a weak supervisor is as good as one taught the truth, 0 where it is no better than its
    supervisor. `gap_recovered` is the same of negative mean squared errors, the human being the weak and the ceiling
    being without error. Raises InputError where the ceiling is not above the weak: there is no gap to recover.
    """
    if not all(map(isfinite, (weak, student, ceiling))):
        raise InputError("scores", (weak, student, ceiling), "finite numbers")
    if ceiling <= weak:
        raise InputError("ceiling", ceiling, f"more than {weak}, the weak score", "compare with a better ceiling")
    return (student - weak) / (ceiling - weak)


def accepted(answer: Tensor, truth: Tensor, probability: float = 0.99) -> tuple[Tensor, Tensor]:
    """Shares of questions answered yes with that probability or more, and of those among all that are no: `(…)` each.

    For answers from −1 to 1, which are 2p − 1.
    """
    yes = answer >= 2 * probability - 1
    return yes.float().mean((-2, -1)), (yes & (truth < 0)).float().mean((-2, -1))
