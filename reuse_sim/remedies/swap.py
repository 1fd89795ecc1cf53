"""Another human in the trained head's place: how much of the head moves with it.

Answers of the head `(…, n)` before and `(K, …, n)` after K swaps; of the human in it `(n,)`, or of one in each head
`(…, n)`; and of those put there, `(K, n)`.
"""

from __future__ import annotations

from torch import Tensor

from reuse_sim.errors import InputError


def causal(before: Tensor, after: Tensor, human: Tensor, others: Tensor) -> Tensor:
    """Σ_k ⟨M_k − M, H_k − H⟩ / Σ_k ‖H_k − H‖²: 1 follows the human, 0 ignores it, `(…)`."""
    moved, change = _changes(before, after, human, others)
    return (moved * change).sum((0, -1)) / change.square().sum((0, -1))


def residual(before: Tensor, after: Tensor, human: Tensor, others: Tensor) -> Tensor:
    """Σ_k ‖M_k − M‖² / Σ_k ‖H_k − H‖²: 0 where nothing of the human is used, 1 for a copy, `(…)`.

    A head that reads the human in another way than by its answers moves too: then it exceeds the causal figure's
    square.
    """
    moved, change = _changes(before, after, human, others)
    return moved.square().sum((0, -1)) / change.square().sum((0, -1))


def _changes(before: Tensor, after: Tensor, human: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Of the head `(K, …, n)`, and of the human in it."""
    fits = human.shape in (before.shape, before.shape[-1:]) and len(after) == len(others)
    if after.shape[1:] == before.shape and fits:
        change = others.reshape(len(others), *[1] * (before.ndim - 1), -1) - human
        if bool((change.square().sum((0, -1)) > 0).all()):
            return after - before, change
    shapes = [tuple(t.shape) for t in (before, after, human, others)]
    got = f"answers {shapes[0]} and {shapes[1]}, humans {shapes[2]} and {shapes[3]}"
    raise InputError("swap", got, "(…, n), (K, …, n), (n,) or (…, n), (K, n), and humans that differ")
