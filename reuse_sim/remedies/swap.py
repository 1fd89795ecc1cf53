"""Another human in the trained head's place: how much of the head moves with it.

Answers of the head `(…, n)` before and `(K, …, n)` after K swaps, of the humans `(n,)` and `(K, n)`.
"""

from __future__ import annotations

from torch import Tensor

from reuse_sim.errors import InputError


def causal(before: Tensor, after: Tensor, human: Tensor, others: Tensor) -> Tensor:
    """Σ_k ⟨M_k − M, H_k − H⟩ / Σ_k ‖H_k − H‖²: 1 follows the human, 0 ignores it, `(…)`."""
    moved, change = _changes(before, after, human, others)
    return (moved * change).sum((0, -1)) / change.square().sum()


def residual(before: Tensor, after: Tensor, human: Tensor, others: Tensor) -> Tensor:
    """Σ_k ‖M_k − M‖² / Σ_k ‖H_k − H‖²: 0 where nothing of the human is used, 1 for a copy, `(…)`.

    A head that reads the human in another way than by its answers moves too: then it exceeds the causal figure's
    square.
    """
    moved, change = _changes(before, after, human, others)
    return moved.square().sum((0, -1)) / change.square().sum()


def _changes(before: Tensor, after: Tensor, human: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    change = others - human
    if after.shape[1:] != before.shape or len(after) != len(others) or not float(change.square().sum()) > 0:
        got = f"answers {tuple(before.shape)} and {tuple(after.shape)}, humans {tuple(others.shape)}"
        raise InputError("swap", got,
                         "(…, n), (K, …, n), (K, n), and humans that differ")
    return after - before, change.reshape(len(change), *[1] * (before.ndim - 1), -1)
