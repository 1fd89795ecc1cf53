"""The floor: how many multiply-adds one core does per second, measured where the engines are measured.

Sixteen chains of fused multiply-adds in registers and nothing else. Without numba, the best product of two
matrices stands for it, which is a little less.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

STEPS = 200_000


def burner() -> tuple[Callable[[], object], float]:
    """Something to time, and the float32 operations it does."""
    try:
        import numpy as np

        from reuse_sim.engines.kernel import LANES, fused
    except ImportError:
        side = 512
        a, b, c = (torch.ones(side, side) for _ in range(3))
        return lambda: torch.mm(a, b, out=c), 2.0 * side**3
    memory = np.zeros(18 * LANES, np.float32)
    return lambda: fused(memory, STEPS), 2.0 * STEPS * 16 * LANES
