"""What the swap shows: put another θ2 into the trained outer and see whether its answers follow.

The change of the answers is regressed on the change of the human's true (unquantised) answers. A
sibling's θ2 tells *private* inheritance; a repaired human's tells *total* inheritance, the failure
that the human shares with its siblings included.
"""

from __future__ import annotations

from torch import Tensor

from reuse_sim.inheritance.observed import inner


def follows(outer: Tensor, swapped: Tensor, human: Tensor, other: Tensor) -> Tensor:
    """Σ_k ⟨M_k − M, H_k − H⟩ / Σ_k ‖H_k − H‖² over K swaps: 1 follows, 0 ignores.

    Args:
        outer, swapped: answers `(H, n)` before and `(K, H, n)` after each swap.
        human, other: answers of the human in the slot `(H, n)` and of those swapped in `(K, H, n)`.
    """
    change = other - human
    return inner(swapped - outer, change).sum() / inner(change, change).sum()
