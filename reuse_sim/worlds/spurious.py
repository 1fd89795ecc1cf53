"""Spurious cues: what decides a question is hard to read, and what usually goes with it is easy.

A question x = (z, c) has k core features z ~ N(0, I) and C cues c. The truth is the sign of a quadratic
form of z. On-distribution each cue has the truth's sign nine times in ten, independently of the other
cues, so that a human who counts cues is nearly always right; off-distribution the cues say nothing
(`random`) or the opposite (`flip`), and z decides as before.

Active on-distribution: all of θ1, since z is distributed alike on and off and answers depend on nothing else.
Hardly exercised there: that f ignores the cues. Whoever answers by the majority of five of them is wrong on
.86 % of on-distribution questions, and on half of those with random cues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp, first_logit
from reuse_sim.types import Picture

WEAKEST, STRONGEST = 0.8, 1.2


@dataclass(frozen=True)
class Spurious:
    """f(x) = sign Σ_j (u_j·z)(v_j·z) over r pairs, all 2r directions orthonormal; θ1 = (u_1, v_1, …), p1 = 2rk.

    The form is that of the matrix Σ_j (u_j v_jᵀ + v_j u_jᵀ)/2, with eigenvalues ±1/2, r times each; v -> −v turns every
    answer round, so that P(f = 1) = 1/2 exactly. A cue's size is uniform on [.8, 1.2] and tells nothing.
    """

    core: int
    pairs: int
    number: int
    agreement: float
    shift: Literal["random", "flip"]
    tolerance: float

    kind: ClassVar[Literal["classification"]] = "classification"
    shifts: ClassVar[Mapping[str, str]] = {
        "random": "Cues agree with the truth less and less, at strength 1 as often as not.",
        "flip": "Cues agree with the truth less and less, at strength 1 as seldom as they disagree on-distribution.",
    }

    @property
    def d(self) -> int:
        return self.core + self.number

    @property
    def cues(self) -> slice:
        """Positions of the cues in a question."""
        return slice(self.core, self.d)

    def agreement_at(self, strength: float) -> float:
        """P(a cue has the truth's sign) off-distribution, from `agreement` at 0 linearly to the shift's own at 1."""
        last = 0.5 if self.shift == "random" else 1 - self.agreement
        return self.agreement + (last - self.agreement) * min(strength, 1.0)

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Orthonormal directions, Haar-distributed: `(T, 2rk)`."""
        shape = self.core, 2 * self.pairs
        q, r = torch.linalg.qr(torch.stack([torch.randn(shape, generator=g, dtype=torch.float64) for g in generators]))
        return (q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)).transpose(-1, -2).flatten(1).float()

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Cues that agree with the truth with probability `agreement`, `(N, n, k + C)`."""
        return self._questions(theta_teacher, n, generators, self.agreement)

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """The same with agreement `agreement_at(strength)`: on-distribution at 0, as far off as it goes from 1 on."""
        return self._questions(theta_teacher, n, generators, self.agreement_at(strength))

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """-1 or 1, `(N, n)`."""
        directions = theta_teacher.unflatten(-1, (2 * self.pairs, self.core))
        along = (x[..., : self.core] @ directions.transpose(-1, -2)).unflatten(-1, (self.pairs, 2))
        form = along.prod(-1).sum(-1)
        return torch.where(form < 0, -1.0, 1.0).to(x.dtype)

    def human_net(self, width: int) -> Mlp:
        """A tanh perceptron with the logit as its output."""
        return Mlp((self.d, width, 1), "tanh")

    human_answer = staticmethod(first_logit)

    def inactive(self, theta_teacher: Tensor) -> Tensor:
        """None of θ1, `(2rk,)`."""
        return torch.zeros(theta_teacher.shape[-1], dtype=torch.bool)

    def picture(self, theta_teacher: Tensor) -> Picture:
        """Across, z goes round in the plane of u_1 and v_1 at |z| = 2; down, one cue more says yes (1, the others −1).

        f depends on the column alone, and on the row whoever counts cues. Learned is where most cues agree with the
        truth, as they do on nearly all on-distribution questions.
        """
        u, v = theta_teacher.unflatten(-1, (-1, self.core))[:2]
        degrees = torch.arange(4.5, 360, 9).to(u)  # f changes at multiples of 90
        angle = degrees.deg2rad().unsqueeze(-1)
        z = 2 * (angle.cos() * u + angle.sin() * v)
        yes = torch.arange(0, self.number + 1, -(-self.number // 40))
        cues = torch.where(torch.arange(self.number) < yes.unsqueeze(-1), 1.0, -1.0).to(u)
        x = torch.cat([z.expand(len(cues), -1, -1), cues.unsqueeze(1).expand(-1, len(z), -1)], dim=-1)
        learned = cues.sum(-1, keepdim=True) * self.answer(theta_teacher[None], z[None]) > 0
        labels = "angle of z in the plane of u₁ and v₁", f"cues that say yes, of {self.number}"
        return Picture(x, *labels, degrees.tolist(), yes.tolist(), learned)

    def _questions(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], agreement: float
    ) -> Tensor:
        dtype = theta_teacher.dtype
        z = torch.stack([torch.randn(n, self.core, generator=g, dtype=dtype) for g in generators])
        draws = [torch.rand(2, n, self.number, generator=g, dtype=dtype) for g in generators]
        agrees, size = torch.stack(draws, dim=1)
        sign = torch.where(agrees < agreement, 1, -1) * self.answer(theta_teacher, z).unsqueeze(-1)
        return torch.cat([z, sign * (WEAKEST + (STRONGEST - WEAKEST) * size)], dim=-1)


def build(
    core: Annotated[int, Field(ge=2, le=256, description="features that decide the truth")] = 4,
    pairs: Annotated[int, Field(ge=1, le=128, description="products in the quadratic form, each of 2 directions")] = 1,
    cues: Annotated[int, Field(ge=1, le=256, description="features that go with the truth on-distribution")] = 5,
    agreement: Annotated[float, Field(gt=0.5, le=1, description="how often a cue has the truth's sign")] = 0.9,
    shift: Annotated[
        Literal["random", "flip"], Field(description="what cues do off-distribution: say nothing or the opposite")
    ] = "random",
    tolerance: Annotated[float, Field(gt=0, le=2, description="answers within half of this are right")] = 2.0,
) -> Spurious:
    """The spurious-cue world. At tolerance 2 an answer is right where its sign is.

    Raises InputError where `core` features have no room for 2 `pairs` orthonormal directions.
    """
    if 2 * pairs > core:
        raise InputError("pairs", pairs, f"at most {core // 2}, half of core = {core}")
    return Spurious(core, pairs, cues, float(agreement), shift, float(tolerance))
