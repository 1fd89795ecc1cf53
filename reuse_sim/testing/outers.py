"""The contract of an outer model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.outers import examples, outputs
from reuse_sim.rng import stream, streams
from reuse_sim.testing.tools import NAMES, QUESTIONS, SEED, claim, close, follows, generators, pure, shaped
from reuse_sim.types import Access, Leaked, Outer, World


def check_outer(outer: Outer, world: World, width: int = 4) -> None:
    """Shapes, arms and humans and questions apart, a swap that is pure and felt, and pressure on gradients only.

    Answers to a classification must lie within −1 and 1. The swap puts another human's bits in place, and its answers
    where the outer asks for examples; it must change something, or nothing where the outer says `has_place = False`.
    An outer's `hidden` units, where it has them, must be stacked as its answers are. An outer that predicts
    behaviours is asked about humans who have as many.

    Args:
        world, width: where it is asked, and the hidden units of the human whose bits it is handed.
    """
    follows("outers", outer)
    net, k = world.human_net(width), outputs.count(outer)
    net = replace(net, sizes=(*net.sizes[:-1], net.sizes[-1] + k))
    arms, humans = 2, len(NAMES)
    starts = [outer.init(net, streams(SEED, ["outer/start"] * arms)) for _ in range(2)]
    claim(starts[0].ndim == 2 and len(starts[0]) == arms, f"init: shape {tuple(starts[0].shape)}, not (2, p)")
    claim(torch.equal(*starts), "init: equal generators, another start")
    claim(torch.equal(starts[0][0], starts[0][1]), "init: arms with equal generators start differently")
    # Away from the start, so that parts that begin at zero are seen too.
    theta = starts[0] + 0.3 * torch.randn(starts[0].shape, generator=stream(SEED, "outer/away"))

    teacher = world.teacher(generators("teacher"))
    x = world.off_distribution(teacher, QUESTIONS, generators("questions"))
    x = x.unsqueeze(0).expand(arms, -1, -1, -1)
    bits, sibling = (net.init(generators(n)).expand(arms, -1, -1) for n in ("bits", "sibling"))

    def given(value: Tensor, rival: Tensor | None = None) -> Access:
        count = value.shape[1]
        shown = examples.shown(outer, world, net, value, teacher[:count], generators("examples")[:count])
        return Access(Leaked(value, torch.ones_like(value), torch.zeros_like(value)), rival, shown)

    def ask(theta: Tensor, x: Tensor, value: Tensor, pressure: float | Tensor = 1.0, rival: Tensor | None = None):
        answer, human, *does = outer.answer(world, net, theta, x, given(value, rival), pressure)
        claim(len(does) == (k > 0), f"answer: {len(does)} tensors of behaviours from an outer that predicts {k}")
        for further in does:
            shaped("answer (behaviours)", further, (*answer.shape[:2], k, answer.shape[2]))
        return torch.stack([answer, human, *(one for further in does for one in further.unbind(2))])

    whole = pure("answer", ask, theta, x, bits)
    shaped("answer (heads)", whole, (2 + k, arms, humans, QUESTIONS))
    squashed = world.kind != "classification" or bool((whole[:2].abs() <= 1).all())
    claim(squashed, "answer: outside of -1 and 1 in a classification; squash it as reuse_sim.outers.blocks does")
    for what, part, expected in (
        ("an arm", ask(theta[:1], x[:1], bits[:1]), whole[:, :1]),
        ("a human", ask(theta, x[:, :1], bits[:, :1]), whole[:, :, :1]),
        ("a question", ask(theta, x[:, :, :1], bits), whole[..., :1]),
    ):
        close("answer", part, expected, f"{what} asked alone is answered otherwise than beside others")
    close("answer", ask(theta, x[:1], bits), whole, "questions shared by all arms, (1, H, n, d), change it")
    with suppress(InputError):  # an outer that is handed no answers may refuse a rival's
        zeros = torch.zeros(arms, humans, QUESTIONS)
        close("answer", ask(theta, x, bits, rival=zeros), whole, "a rival of zeros differs from no rival")
    felt = not torch.allclose(ask(theta, x, sibling), whole)
    if getattr(outer, "has_place", True):
        claim(felt, "answer: another human's bits (and examples) change nothing, no swap; if meant: has_place = False")
    else:
        claim(not felt, "answer: another human's bits or examples change it, though it says has_place = False")

    close("answer", ask(theta, x, bits, 0.0), whole, "pressure changes values; it may change gradients only")
    free, pressed = (gradients(lambda t, p=p: ask(t, x, bits, p), theta) for p in (0.0, torch.ones(arms)))
    close("answer", free[0], pressed[0], "pressure changes the gradient of the answers")
    for weak, strong in zip(free[1:], pressed[1:], strict=True):
        claim(not torch.allclose(weak, strong), "answer: pressure does not reach what the heads share")

    hidden = getattr(outer, "hidden", None)
    if hidden is not None:
        inside = pure("hidden", lambda t, x, b: hidden(world, net, t, x, given(b)), theta, x, bits)
        shaped("hidden", inside, (arms, humans, QUESTIONS, None))
        part = hidden(world, net, theta, x[:, :1], given(bits[:, :1]))
        close("hidden", part, inside[:, :1], "a human asked alone is met otherwise than beside others")


def gradients(heads: Callable[[Tensor], Tensor], theta: Tensor) -> list[Tensor]:
    """Per head, the gradient of its summed squares."""
    leaf = theta.clone().requires_grad_(True)
    return [torch.autograd.grad(h.square().sum(), leaf, retain_graph=True)[0] for h in heads(leaf)]
