"""Digits: real images, a teacher who has seen them shifted, and humans who have not.

The 1,797 handwritten digits of 8 × 8 pixels that ship with scikit-learn (Alpaydin & Kaynak 1998); the question
is whether the digit is even. On-distribution an image is moved by less than half a pixel and a little noise is
added; off-distribution it is turned, covered or faded as well. f is a network trained on all of these with the
true labels, so it is good, not perfect: `labelled` says what is true.

All of θ1 is active on-distribution; what is not exercised there is that f answers alike when an image is turned,
covered or faded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, Literal, get_args

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from reuse_sim.engines.spec import Adam, Fresh, Head
from reuse_sim.nets import Mlp, first_logit
from reuse_sim.train import train
from reuse_sim.types import Picture

SIDE = 8
JITTER, NOISE = 0.4, 0.05  # pixels; sd, where ink is 0 to 1
TURN, COVER, FADE = 5 * math.pi / 12, 5.0, 0.95
BATCH, RATE = 128, 0.01

Shift = Literal["rotation", "occlusion", "contrast"]


@dataclass(frozen=True)
class Digits:
    """f(x) = sign of a ReLU network 64-`width`-1 with parameters θ1."""

    width: int
    steps: int
    shift: Shift
    d: int = SIDE * SIDE
    tolerance: float = 2.0

    kind: ClassVar[Literal["classification"]] = "classification"
    shifts: ClassVar[Mapping[str, str]] = {
        "rotation": "Images are turned either way, by up to 75 degrees at strength 1.",
        "occlusion": "A blank square covers a part, 5 pixels wide at strength 1.",
        "contrast": "Ink fades towards the paper, to 5 % at strength 1.",
    }

    @property
    def net(self) -> Mlp:
        """The teacher's network."""
        return Mlp((self.d, self.width, 1), "relu")

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 `(T, p1)`, each trained on half plain images and half shifted ones, of all three kinds and strengths."""

        def draw(members: slice, n: int) -> tuple[Tensor, Tensor]:
            both = [self._lesson(n, g) for g in generators[members]]
            return torch.stack([x for x, _ in both]), torch.stack([(y + 1) / 2 for _, y in both]).unsqueeze(-1)

        start = self.net.init(generators)
        how = {"steps": self.steps, "optimizer": Adam(RATE), "heads": (Head("logistic"),)}
        return train(self.net, start, Fresh(draw, BATCH), **how).theta

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Images `(N, n, 64)`, ink from 0 to 1 but for the noise."""
        return torch.stack([questions(n, g)[0] for g in generators]).to(theta_teacher.dtype)

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """The same, shifted."""
        return torch.stack([questions(n, g, self.shift, strength)[0] for g in generators]).to(theta_teacher.dtype)

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """−1 or 1, `(N, n)`."""
        return torch.where(self.net.forward(theta_teacher, x)[..., 0] < 0, -1.0, 1.0).to(x.dtype)

    def human_net(self, width: int) -> Mlp:
        """A ReLU perceptron 64-`width`-1 with the logit as its output."""
        return Mlp((self.d, width, 1), "relu")

    human_answer = staticmethod(first_logit)

    def inactive(self, theta_teacher: Tensor) -> Tensor:
        """None of θ1, `(p1,)`."""
        return torch.zeros(theta_teacher.shape[-1], dtype=torch.bool)

    def labelled(self, n: int, generators: Sequence[torch.Generator], strength: float | None) -> tuple[Tensor, Tensor]:
        """Images `(N, n, 64)` as `on_distribution` (None) or `off_distribution` draws them, and the truth `(N, n)`."""
        shift, strength = (None, 0.0) if strength is None else (self.shift, strength)
        x, truth = zip(*(questions(n, g, shift, strength) for g in generators), strict=True)
        return torch.stack(x), torch.stack(truth)

    def picture(self, theta_teacher: Tensor) -> Picture:
        """The first image of each digit across, shifted more and more down; learned is the row of strength 0.

        Images are neither moved nor noisy; all are turned one way, or covered in the middle.
        """
        images, digits = _data()
        first = torch.stack([images[digits == k][0] for k in range(10)])
        still, turn, middle = torch.zeros(10, 2), torch.ones(10), torch.full((10, 2), 0.5)
        strengths, names = [k / 20 for k in range(21)], [str(k) for k in range(10)]
        x = [_shown(first, still, turn, 0 * first, middle, self.shift, strength) for strength in strengths]
        learned = torch.tensor(strengths).unsqueeze(-1).expand(-1, 10) == 0
        labels = "digit", f"strength of {self.shift}"
        return Picture(torch.stack(x).to(theta_teacher.dtype), *labels, names, strengths, learned)

    def _lesson(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        kinds: tuple[Shift, ...] = get_args(Shift)
        strengths = 1.2 * torch.rand(len(kinds), generator=generator)
        sizes = [n - n // 2] + [n // 2 // 3 + (k < n // 2 % 3) for k in range(3)]
        parts = [questions(sizes[0], generator)]
        parts += [questions(m, generator, k, float(s)) for m, k, s in zip(sizes[1:], kinds, strengths, strict=True)]
        x, y = (torch.cat(both) for both in zip(*parts, strict=True))
        order = torch.randperm(n, generator=generator)
        return x[order], y[order]


def questions(
    n: int, generator: torch.Generator, shift: Shift | None = None, strength: float = 1.0
) -> tuple[Tensor, Tensor]:
    """n images `(n, 64)`, shifted if asked, and what is true of them, −1 odd or 1 even, `(n,)`."""
    images, digits = _data()
    chosen = torch.randint(len(images), (n,), generator=generator)
    place = 2 * torch.rand(n, 2, generator=generator) - 1
    turn = 2 * torch.rand(n, generator=generator) - 1
    noise = torch.randn(n, SIDE, SIDE, generator=generator)
    corner = torch.rand(n, 2, generator=generator)
    x = _shown(images[chosen], place, turn, noise, corner, shift, strength)
    return x, torch.where(digits[chosen] % 2 == 0, 1.0, -1.0)


def _shown(
    images: Tensor, place: Tensor, turn: Tensor, noise: Tensor, corner: Tensor, shift: Shift | None, strength: float
) -> Tensor:
    """Images `(n, 8, 8)` as they are asked about, `(n, 64)`.

    place `(n, 2)` and turn `(n,)` are from −1 to 1, noise `(n, 8, 8)` is in sds, corner `(n, 2)` from 0 to 1.
    """
    angle = turn * (TURN * strength if shift == "rotation" else 0.0)
    x = _moved(images, JITTER * place, angle) + NOISE * noise
    if shift == "occlusion":
        x = _covered(x, corner, COVER * strength)
    if shift == "contrast":
        x = x * max(0.0, 1 - FADE * strength)
    return x.flatten(1)


def _moved(images: Tensor, pixels: Tensor, angle: Tensor) -> Tensor:
    """Images `(n, 8, 8)` moved by `pixels` `(n, 2)` and turned by `angle` `(n,)`, bilinearly."""
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    grid = affine_grid(
        torch.cat([turn, pixels.unsqueeze(-1) * 2 / SIDE], -1), [len(images), 1, SIDE, SIDE], align_corners=False
    )
    return grid_sample(images.unsqueeze(1), grid, align_corners=False).squeeze(1)


def _covered(images: Tensor, corner: Tensor, side: float) -> Tensor:
    """Images with a blank square of `side` pixels; pixels at its edge are covered in part."""
    first = corner * (SIDE - min(side, SIDE))
    pixel = torch.arange(SIDE)
    inside = [
        ((first[:, k, None] + side).clamp_max(SIDE).minimum(pixel + 1) - first[:, k, None].maximum(pixel)).clamp(0, 1)
        for k in range(2)
    ]
    return images * (1 - inside[0].unsqueeze(2) * inside[1].unsqueeze(1))


@cache
def _data() -> tuple[Tensor, Tensor]:
    """Images `(1797, 8, 8)` with ink from 0 to 1, and digits `(1797,)`."""
    from sklearn.datasets import load_digits

    ink, digits = (np.asarray(column) for column in load_digits(return_X_y=True))
    return torch.as_tensor(ink, dtype=torch.float32).unflatten(1, (SIDE, SIDE)) / 16, torch.as_tensor(digits)


def build(
    width: Annotated[int, Field(gt=0, le=1024, description="hidden units of the teacher")] = 96,
    steps: Annotated[int, Field(gt=0, le=100_000, description="training steps of the teacher")] = 1500,
    shift: Annotated[Shift, Field(description="what happens to images off-distribution")] = "rotation",
) -> Digits:
    """The digits world: is the digit even?"""
    return Digits(width, steps, shift)
