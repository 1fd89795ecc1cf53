"""Humans made by gradient descent on the teacher's answers, limited in size, effort, sight and care.

Where the world knows its exact expected loss the human descends on that; elsewhere, or with `examples` or
`label_noise`, on on-distribution questions of its own: fresh ones at every step, or so many for good. A *repaired*
human does the same with a share of off-distribution truth, and goes on behaving as it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.engines.spec import BLOCK, Adam, AdamW, Fixed, Fresh, Head, Questions, Rows
from reuse_sim.errors import InputError
from reuse_sim.humans.behaviour import Tastes, tastes
from reuse_sim.humans.precision import Rounded
from reuse_sim.nets import Mlp, first_logit, first_output
from reuse_sim.train import descend, train
from reuse_sim.types import Fit, World

HEADS = {first_output: Head("squared"), first_logit: Head("logistic")}
"""The losses of humans whose answers an engine knows."""


@dataclass(frozen=True)
class Descent:
    width: int
    steps: int
    rate: float
    batch: int
    depth: int = 1
    examples: int = 0
    decay: float = 0.0
    label_noise: float = 0.0
    sees: Literal["all", "one_cue"] = "all"
    behaviours: int = 0
    precision: int = 0
    engine: Literal["auto", "torch", "numba"] = "auto"

    def net(self, world: World) -> Mlp:
        """The world's human of `width` hidden units, with `depth` such layers; behaviours are further outputs."""
        net = world.human_net(self.width)
        if self.behaviours and world.human_answer not in HEADS:
            got = f"{self.behaviours}, where humans do not answer with an output of their own"
            raise InputError("human.behaviours", got, "0 in this world", "Take another world, such as radius.")
        if self.depth > 1 and len(net.sizes) != 3:
            raise InputError("human.depth", self.depth, "1, for humans of this world have no hidden layer to repeat")
        hidden = [self.width] * self.depth if self.depth > 1 else net.sizes[1:-1]
        return Mlp((net.sizes[0], *hidden, net.sizes[-1] + self.behaviours), net.activation, net.bias)

    def init(self, world: World, generators: Sequence[torch.Generator]) -> Tensor:
        """Draws from the initialisation prior; weights of what a human is blind to are 0, and stay so."""
        net = self.net(world)
        theta = net.init(generators)
        if self.sees == "one_cue":
            cues: slice | None = getattr(world, "cues", None)
            if cues is None:
                raise InputError("human.sees", "one_cue", "a world with cues, such as spurious", "Take sees: all.")
            blind = torch.zeros(len(theta), world.d, dtype=torch.bool)
            blind[:, cues] = True
            own = [int(torch.randint(cues.start, cues.stop, (), generator=g)) for g in generators]
            blind[torch.arange(len(theta)), own] = False
            net.views(theta)["weight0"].masked_fill_(blind.unsqueeze(1), 0.0)
        return theta

    def tastes(self, world: World, theta_teacher: Tensor, generators: Sequence[torch.Generator]) -> Tastes | None:
        """What the further outputs learn, drawn before all else from the generators that `train` is given."""
        return tastes(world, theta_teacher, self.behaviours, generators) if self.behaviours else None

    def train(
        self,
        world: World,
        theta_0: Tensor,
        theta_teacher: Tensor,
        generators: Sequence[torch.Generator],
        off_share: float = 0.0,
    ) -> Fit:
        net, drawn = self.net(world), self.examples > 0 or self.label_noise > 0
        exact = None if drawn else getattr(world, "human_loss", None)
        head = None if exact else HEADS.get(world.human_answer)
        on, off = self._batch(off_share, exact is not None)
        # What has no weight at the start is not seen, so that its weight stays 0.
        seen = (net.views(theta_0)["weight0"] != 0).any(1).to(theta_0.dtype)
        likes = self.tastes(world, theta_teacher, generators) if off_share == 0 else None

        def draw(members: slice, n: int) -> tuple[Tensor, Tensor]:
            """n questions each, `on` then `off` of them to a step, and what the human is told of them."""
            theta_1, own, steps = theta_teacher[members], generators[members], n // (on + off)
            parts = []
            if on:
                parts.append(world.on_distribution(theta_1, steps * on, own).unflatten(1, (steps, on)))
            if off:
                parts.append(world.off_distribution(theta_1, steps * off, own).unflatten(1, (steps, off)))
            x = torch.cat(parts, dim=2).flatten(1, 2)
            told = world.answer(theta_1, x).unsqueeze(-1)
            if self.label_noise:
                told = _mistaken(world, told, self.label_noise, own)
            told = (told + 1) / 2 if head and head.loss == "logistic" else told
            if self.behaviours:
                does = likes.answer(x, members) if likes else net.forward(theta_0[members], x)[..., 1:]
                told = torch.cat([told, does], dim=-1)
            return x * seen[members].unsqueeze(1) if self.sees != "all" else x, told

        questions: Questions = Fresh(draw, on + off)
        if self.examples:
            rounds = max(1, round(self.examples / self.batch))
            questions = Fixed(*draw(slice(None), rounds * (on + off)), on + off, generators)
        if head is not None:
            optimizer = AdamW(self.rate, decay=self.decay) if self.decay else Adam(self.rate)
            how = {"steps": self.steps, "optimizer": optimizer, "engine": self.engine}
            heads = (head, Head("squared", self.behaviours)) if self.behaviours else (head,)
            return self._kept(net, train(self._running(net), theta_0, questions, heads=heads, **how))
        block: Rows | None = None

        def error(theta: Tensor, step: int) -> Tensor:
            nonlocal block
            if block is None or step % BLOCK == 0:
                block = questions.block(slice(None))
            x, y = block.step(step % BLOCK)
            return (world.human_answer(net, theta, x) - y[..., 0]).square().mean(-1)

        def loss(theta: Tensor, step: int) -> Tensor:
            if self.precision:
                theta = Rounded(net, self.precision).value(theta)
            if exact is None:
                return error(theta, step)
            on_loss = exact(net, theta, theta_teacher)
            return on_loss if off_share == 0 else (1 - off_share) * on_loss + off_share * error(theta, step)

        return self._kept(net, descend(loss, theta_0, steps=self.steps, rate=self.rate, decay=self.decay))

    def _running(self, net: Mlp) -> Mlp | Rounded:
        return Rounded(net, self.precision) if self.precision else net

    def _kept(self, net: Mlp, fit: Fit) -> Fit:
        """What the human is in the end: parameters of its own precision."""
        return replace(fit, theta=Rounded(net, self.precision).value(fit.theta)) if self.precision else fit

    def train_flops(self, world: World) -> float:
        """6 p per question and step; an exact loss counts as Σ sizes questions, its Gram matrix of units and inputs."""
        net, drawn = self.net(world), self.examples > 0 or self.label_noise > 0
        exact = hasattr(world, "human_loss") and not drawn
        return 6.0 * net.p * self.steps * (sum(net.sizes) if exact else self.batch)

    def _batch(self, off_share: float, exact: bool) -> tuple[int, int]:
        """On- and off-distribution questions of a step: twice as many for a repaired human, `off_share` of them off."""
        if off_share == 0:
            return self.batch, 0
        off = self.batch if exact else min(max(1, round(2 * self.batch * off_share)), 2 * self.batch - 1)
        return 0 if exact else 2 * self.batch - off, off


def _mistaken(world: World, told: Tensor, noise: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Answers `(N, n, 1)` with normal noise of that sd, or in a classification each turned with that probability."""
    if world.kind == "classification":
        if noise > 0.5:
            raise InputError("human.label_noise", noise, "at most 0.5, a coin's, where answers are turned")
        drawn = torch.stack([torch.rand(told.shape[1:], generator=g, dtype=told.dtype) for g in generators])
        return torch.where(drawn < noise, -told, told)
    return told + noise * torch.stack([torch.randn(told.shape[1:], generator=g, dtype=told.dtype) for g in generators])


def build(
    width: Annotated[int, Field(gt=0, le=4096, description="hidden units of a layer")] = 24,
    steps: Annotated[int, Field(gt=0, le=1_000_000, description="steps of Adam, cosine rate")] = 1500,
    rate: Annotated[float, Field(gt=0, le=10, description="first learning rate")] = 0.02,
    batch: Annotated[int, Field(gt=0, le=65_536, description="questions per step")] = 32,
    depth: Annotated[int, Field(ge=1, le=16, description="hidden layers")] = 1,
    examples: Annotated[
        int, Field(ge=0, le=1_000_000, description="on-distribution questions in all; 0: fresh ones at every step")
    ] = 0,
    decay: Annotated[float, Field(ge=0, le=100, description="weight decay, as in AdamW")] = 0.0,
    label_noise: Annotated[
        float, Field(ge=0, le=10, description="sd of what the human is told, or share of answers turned")
    ] = 0.0,
    sees: Annotated[
        Literal["all", "one_cue"], Field(description="blinding: every input, or of the world's cues only one, its own")
    ] = "all",
    behaviours: Annotated[
        int, Field(ge=0, le=64, description="further outputs, each with a taste of its own to learn")
    ] = 0,
    precision: Annotated[
        int, Field(ge=0, le=16, description="bits of each parameter, while learning too; 0: as the computer has it")
    ] = 0,
    engine: Annotated[
        Literal["auto", "torch", "numba"], Field(description="what trains it; auto is numba where that can")
    ] = "auto",
) -> Descent:
    """A human trained by Adam."""
    return Descent(
        width, steps, float(rate), batch, depth, examples, float(decay), float(label_noise), sees, behaviours,
        precision, engine,
    )
