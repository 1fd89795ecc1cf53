"""A world whose humans get stuck: neurons that point against the direction they should follow.

The teacher sums m = d ReLUs along an orthonormal frame, f(x) = Σ_i relu(q_i·x), standardised. A human of the same form,
trained on the exact population loss over x ~ N(0, I), ends in a local minimum (Safran & Shamir 2018). Its units take
one direction each, but some with the wrong sign: at d = 24 about 5 of 24, at −.86 of their length. As relu(−z) is
relu(z) − z, what is missing there is linear, and small tilts of all other units supply it: on-distribution that costs
1 % of the variance. Asked about x = a(q_i − q_j) such a human is far off where i or j is one of these. Which they are
depends on the initialisation: the failure is this human's own. (Only .5 % of units have merged two directions.)

Active on-distribution: all of θ1 (every direction of the frame carries variance under N(0, I)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.nets import Mlp
from reuse_sim.types import Picture

MEAN_RELU = 1 / math.sqrt(2 * math.pi)
VAR_RELU = 0.5 - 1 / (2 * math.pi)


@dataclass(frozen=True)
class MergedNeurons:
    d: int
    reach: float
    tolerance: float

    kind: ClassVar[Literal["regression"]] = "regression"
    shifts: ClassVar[Mapping[str, str]] = {
        "differences": "Questions are differences of two of the teacher's directions, longer with growing strength."
    }

    @property
    def sd(self) -> float:
        """Standard deviation of Σ_i relu(q_i·x) under N(0, I); the projections are independent."""
        return math.sqrt(self.d * VAR_RELU)

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Orthonormal frames, Haar-distributed, as rows of a (d, d) matrix: `(T, d·d)`."""
        frames = []
        for g in generators:
            q, r = torch.linalg.qr(torch.randn(self.d, self.d, generator=g, dtype=torch.float64))
            frames.append((q * r.diagonal().sign()).T.flatten())
        return torch.stack(frames).float()

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """x ~ N(0, I)."""
        return torch.stack([torch.randn(n, self.d, generator=g) for g in generators]).to(theta_teacher.dtype)

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """x = a(q_i − q_j), i ≠ j uniform, a uniform on [0, reach · strength]."""
        questions = []
        for frame, g in zip(theta_teacher.unflatten(-1, (self.d, self.d)), generators, strict=True):
            i = torch.randint(self.d, (n,), generator=g)
            j = (i + 1 + torch.randint(self.d - 1, (n,), generator=g)) % self.d
            a = self.reach * strength * torch.rand(n, 1, generator=g)
            questions.append(a.to(frame.dtype) * (frame[i] - frame[j]))
        return torch.stack(questions)

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        return self._standardise(torch.relu(x @ self._frame(theta_teacher).transpose(-1, -2)).sum(-1))

    def human_net(self, width: int) -> Mlp:
        """Rows of W `(width, d)`; the units' ReLUs are summed with weight one, as the teacher's are."""
        return Mlp((self.d, width), "relu", bias=False)

    def human_answer(self, net: Mlp, theta_human: Tensor, x: Tensor) -> Tensor:
        return self._standardise(torch.relu(net.forward(theta_human, x)).sum(-1))

    def human_loss(self, net: Mlp, theta_human: Tensor, theta_teacher: Tensor) -> Tensor:
        """The exact E (H − f)² over x ~ N(0, I), `(N,)`, through the arc-cosine kernel."""
        w, v = net.views(theta_human)["weight0"], self._frame(theta_teacher)
        kernel = relu_kernel(w, torch.cat([w, v], dim=-2))
        human_human, human_teacher = kernel.split([w.shape[-2], self.d], dim=-1)
        # Orthonormal directions: E relu² = 1/2, and E relu(q_i·x) relu(q_j·x) = 1/2π.
        teacher_teacher = self.d / 2 + self.d * (self.d - 1) / (2 * math.pi)
        return (human_human.sum((-1, -2)) - 2 * human_teacher.sum((-1, -2)) + teacher_teacher) / self.sd**2

    def picture(self, theta_teacher: Tensor) -> Picture:
        """x = a(q_i − q_j) at a = reach, i down and j across, 40 at most: a direction followed backwards is a cross.

        None counts as learned: N(0, I) has a density everywhere, but it as good as never draws such a difference.
        """
        q = self._frame(theta_teacher)[:40]
        number = range(1, len(q) + 1)
        x = self.reach * (q.unsqueeze(1) - q)
        labels = f"j of x = {self.reach:g}(q_i − q_j)", "i"
        return Picture(x, *labels, number, number, torch.zeros(x.shape[:2], dtype=torch.bool))

    def inactive(self, theta_teacher: Tensor) -> Tensor:
        """None of θ1, `(d·d,)`."""
        return torch.zeros(theta_teacher.shape[-1], dtype=torch.bool)

    def _frame(self, theta_teacher: Tensor) -> Tensor:
        return theta_teacher.unflatten(-1, (self.d, self.d))

    def _standardise(self, total: Tensor) -> Tensor:
        return (total - self.d * MEAN_RELU) / self.sd


def relu_kernel(u: Tensor, v: Tensor) -> Tensor:
    """E relu(u_a·x) relu(v_b·x) over x ~ N(0, I): `(…, a, d)`, `(…, b, d)` -> `(…, a, b)`.

    Arc-cosine kernel of degree one (Cho & Saul 2009): |u||v| (sin φ + (π − φ) cos φ) / 2π, φ the angle.
    """
    norms = u.norm(dim=-1).unsqueeze(-1) * v.norm(dim=-1).unsqueeze(-2)
    cosine = u @ v.transpose(-1, -2) / norms.clamp_min(1e-12)
    return norms * _Angular.apply(cosine.clamp(-1, 1)) / (2 * math.pi)


class _Angular(torch.autograd.Function):
    """sin φ + (π − φ) cos φ of c = cos φ. Its derivative is π − φ: finite where arccos' own is not."""

    @staticmethod
    def forward(ctx: Any, c: Tensor) -> Tensor:  # type: ignore[override]
        beyond = math.pi - torch.acos(c)
        ctx.save_for_backward(beyond)
        return (1 - c * c).sqrt() + beyond * c

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (beyond,) = ctx.saved_tensors
        return gradient * beyond


def build(
    d: Annotated[int, Field(ge=2, le=256, description="inputs, and units of the teacher")] = 24,
    reach: Annotated[float, Field(gt=0, le=100, description="largest a of the questions a(q_i - q_j)")] = 4.0,
    tolerance: Annotated[float, Field(gt=0, le=10, description="answers within half of this are right")] = 0.1,
) -> MergedNeurons:
    """The merged-neurons world; its human has as many units as the human's `width` says."""
    return MergedNeurons(d, float(reach), float(tolerance))
