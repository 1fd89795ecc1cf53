"""Networks that learn answers in order to foretell them: tanh perceptrons as humans are, and sums of sines.

A student is a `Network` with `prior_sd` and `init`. It begins *cold* where its last weights are 0: it says 0 to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from reuse_sim.nets import Mlp


@dataclass(frozen=True)
class Waves:
    """Σ_k a_k sin(w_k·x + b_k) + c: θ is `(w row-major, b, a, c)`, p = m d + 2 m + 1 for m units."""

    d: int
    units: int
    frequency: float = 1.365
    """Root mean square of |w_k| at initialisation: by default what it is in the radius world's teachers."""

    @property
    def p(self) -> int:
        return self.units * (self.d + 2) + 1

    def prior_sd(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard deviations `(p,)`: w `frequency`/√d, b that of a uniform angle, a √(2/m), c ½."""
        sizes = [self.units * self.d, self.units, self.units, 1]
        sd = [self.frequency / self.d**0.5, pi / 3**0.5, (2 / self.units) ** 0.5, 0.5]
        return torch.tensor(sd, dtype=dtype).repeat_interleave(torch.tensor(sizes))

    def init(self, generators: Sequence[torch.Generator], dtype: torch.dtype = torch.float32) -> Tensor:
        """Normal draws `(N, p)`, one generator per network."""
        return torch.stack([torch.randn(self.p, generator=g, dtype=dtype) for g in generators]) * self.prior_sd(dtype)

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        """Answers `(…, n, 1)` of θ `(…, p)` to x `(…, n, d)`."""
        w, b, a, c = theta.split([self.units * self.d, self.units, self.units, 1], dim=-1)
        waves = torch.sin(x @ w.unflatten(-1, (self.units, self.d)).transpose(-1, -2) + b.unsqueeze(-2))
        return waves @ a.unsqueeze(-1) + c.unsqueeze(-2)


Student = Mlp | Waves


def cold(student: Student, generators: Sequence[torch.Generator], dtype: torch.dtype = torch.float32) -> Tensor:
    """Initialisations `(N, p)` that answer 0: what leads to the output is 0, and its bias."""
    theta = student.init(generators, dtype)
    last = student.units + 1 if isinstance(student, Waves) else student.sizes[-2] + student.bias
    theta[:, -last:] = 0.0
    return theta
