"""Asking a trained outer model, with its human in its place or another: all that the measures of inheritance need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from reuse_sim.experiments.scene import Scene
from reuse_sim.inheritance import probe
from reuse_sim.inheritance.figures import Society, Swaps
from reuse_sim.leaks.reading import reveal
from reuse_sim.nets import Mlp
from reuse_sim.outers import examples, outputs
from reuse_sim.outers.training import Rival
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import symmetry
from reuse_sim.types import Access, Outer, Schedule


@dataclass(frozen=True)
class Whose:
    """Whose bits an arm is handed: θ2 `(N, p2)`, and `(S, M, p2)` and `(M, p2)` for swaps of the measured humans.

    A sibling that is leaked in the human's place is not among the siblings.
    """

    humans: Tensor
    siblings: Tensor
    repaired: Tensor
    sibling: bool = False
    """Whether a sibling is in the human's place."""


def whose(of: str, scene: Scene, seed: int) -> Whose:
    """The people that a leak of that kind is of."""
    humans, siblings, repaired = (scene.people[f"theta_{name}"] for name in ("human", "siblings", "repaired"))
    if of == "random":  # nobody's: uniform in their range, so that every bit is a fair coin
        names, rows = [f"random/human/{h}" for h in range(humans.shape[1])], 2 + siblings.shape[1]
        draws = torch.stack([torch.rand(rows, scene.net.p, generator=g) for g in streams(seed, names)], dim=1)
        human, twin, *others = (2 * draws - 1) * scene.scale
        return Whose(human, torch.stack(others)[:, scene.measured], twin[scene.measured])
    if of == "sibling":
        return Whose(siblings[0, 0], siblings[0, 1:], repaired[0], sibling=True)
    place = int(of == "unrelated")
    return Whose(humans[place], siblings[place], repaired[place])


def schedule(arm: Any, scene: Scene, seed: int) -> Schedule:
    """When an arm's leak tells which bits; the same stream for every arm, so that leaks differ in nothing else."""
    return arm.leak.build().schedule(scene.net, arm.training.steps, stream(seed, "leak"))


def matched(net: Mlp, theta: Tensor, like: Tensor) -> Tensor:
    """The copies of humans θ `(M, p2)` whose hidden units stand in the places of the most similar ones of `like`.

    A copy answers as the human does. Only perceptrons of one hidden layer have copies that are known; others stay.
    """
    copies = symmetry.of_net(net)
    if copies is None:
        return theta
    sd = net.prior_sd(theta.dtype)
    rows = [copies.align(t[None] / sd, one / sd)[0] * sd for t, one in zip(theta, like, strict=True)]
    return torch.stack(rows)


@dataclass(frozen=True)
class Interview:
    """One arm's trained outer θ `(1, p)` and what it knows of its human when training has ended."""

    scene: Scene
    seed: int
    outer: Outer
    theta: Tensor
    schedule: Schedule
    steps: int
    rival: Rival | None
    people: Whose

    def access(self, theta_human: Tensor, kind: str, swapped: bool = False) -> Access:
        """What the outer is handed about humans θ2 `(M, p2)`: the same places of their bits for every human.

        An outer that has learned what it was not told has all of its human in its place; what is swapped in is
        whole as well.
        """
        told = self.schedule
        if swapped and getattr(self.outer, "learns", False):
            told = replace(told, when=torch.zeros_like(told.when), flipped=torch.zeros_like(told.flipped))
        if swapped and getattr(self.outer, "reads", "") == "units":
            theta_human = matched(self.scene.net, theta_human, self.own)
        leaked = reveal(told, theta_human[None], self.scene.scale, self.steps)
        everyone = torch.arange(len(theta_human))
        names = [f"ask/{h}/examples" for h in range(len(theta_human))]
        shown = examples.shown(
            self.outer, self.scene.world, self.scene.net, theta_human[None], self.scene.theta_teacher,
            streams(self.seed, names),
        )
        return Access(leaked, self.rival and self.rival(self.scene.x[kind], everyone), shown)

    def ask(self, theta_human: Tensor, kind: str, swapped: bool = False) -> list[Tensor]:
        """Answers and predicted human answers `(M, n)` to the questions on- or off-distribution.

        Third, the predicted behaviours `(M, k, n)` of an outer that predicts any.
        """
        scene = self.scene
        given = self.access(theta_human, kind, swapped)
        said = self.outer.answer(scene.world, scene.net, self.theta, scene.x[kind][None], given)
        return [part[0] for part in said]

    def swaps(self) -> tuple[Swaps, list[Tensor]]:
        """Answers off-distribution as they are and with others in the human's place; and all that is predicted."""
        answer, *predicted = self.ask(self.own, "off")
        after = torch.stack([self.ask(sibling, "off", swapped=True)[0] for sibling in self.people.siblings])
        return Swaps(answer, after, self.ask(self.people.repaired, "off", swapped=True)[0]), predicted

    def probed(self, truth_on: Tensor) -> Tensor | None:
        """What a linear probe of the hidden units answers off-distribution, `(M, n)`; None without hidden units."""
        inside = getattr(self.outer, "hidden", None)
        if inside is None:
            return None
        scene = self.scene
        on, off = (
            inside(scene.world, scene.net, self.theta, scene.x[kind][None], self.access(self.own, kind))[0]
            for kind in ("on", "off")
        )
        return probe.read(on, truth_on, off)

    def does(self) -> Tensor:
        """What the measured humans do off-distribution of that which the outer predicts beside answers, `(M, k, n)`."""
        scene, theta = self.scene, self.scene.people["theta_human"][0, self.scene.measured]
        return outputs.of_human(scene.world, scene.net, theta, scene.x["off"], outputs.count(self.outer))[:, 1:]

    def referred(self) -> dict[str, Tensor]:
        """What ordinary regressions on the outer's examples answer off-distribution, `(M, n)`; {} without examples."""
        shown = self.access(self.own, "off").examples
        if shown is None:
            return {}
        from reuse_sim.outers.references import references  # only here, for it takes long to load

        return references(shown.x, shown.y[0], self.scene.x["off"])

    def compared(self, off: Society) -> Society:
        """Those with whom the human is compared: a sibling whose bits were leaked is left out.

        With a sibling in the human's place each swap is compared with another than the one swapped in, who would be in
        both changes and make them agree whatever the outer does: the human itself is in neither place then.
        """
        others = off.siblings[-len(self.people.siblings) :]
        return replace(off, siblings=others.roll(1, 0) if self.people.sibling else others)

    @property
    def own(self) -> Tensor:
        """Whoever is in the place of the measured humans, `(M, p2)`."""
        return self.people.humans[self.scene.measured]
