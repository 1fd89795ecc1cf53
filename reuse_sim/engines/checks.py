"""What a user can get wrong about a training, each said in a sentence before it does harm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from reuse_sim.engines.spec import Adam, Fixed, Head, LossKind, Network, Optimizer, Rows, Schedule, head_slices, need
from reuse_sim.nets import Mlp


def parameters(net: Network, theta: Tensor, where: str = "theta_0") -> None:
    """θ `(N, p)` of a network."""
    fits = theta.dim() == 2 and len(theta) > 0 and theta.shape[1] == net.p
    need(fits, where, _shape(theta), f"(networks, {net.p}), one row of parameters per network")
    floats = (torch.float32, torch.float64)
    need(theta.dtype in floats, where, theta.dtype, "float32 or float64", f"Convert it: {where}.float().")


def outputs(net: Network, heads: Sequence[Head]) -> None:
    """Heads that cover the outputs of a network."""
    need(len(heads) > 0, "heads", "none", "at least one", "Take (Head(),) for squared error of one output.")
    for head in heads:
        kinds = get_args(LossKind)
        need(head.loss in kinds, "heads", f"loss {head.loss!r}", " or ".join(kinds))
        need(head.outputs >= 1, "heads", f"{head.outputs} outputs in one head", "at least 1")
        need(math.isfinite(head.weight), "heads", f"weight {head.weight}", "a finite number")
    if isinstance(net, Mlp):
        count = sum(head.outputs for head in heads)
        need(count == net.sizes[-1], "heads", f"{count} outputs", f"{net.sizes[-1]}, as the network has")


def descent(
    optimizer: Optimizer, schedule: str, steps: int, clip: float | None, stop_loss: float | None, save: Sequence[int]
) -> None:
    """The numbers of an optimiser, and how long it runs."""
    rate = optimizer.rate
    need(math.isfinite(rate) and rate >= 0, "optimizer.rate", rate, "a finite number, 0 or more")
    memory = optimizer.betas if isinstance(optimizer, Adam) else (optimizer.momentum,)
    need(all(0 <= m < 1 for m in memory), "optimizer", optimizer, "momentum or betas from 0 to below 1")
    need(schedule in get_args(Schedule), "schedule", repr(schedule), " or ".join(get_args(Schedule)))
    need(steps >= 1, "steps", steps, "at least 1")
    need(clip is None or 0 < clip < math.inf, "clip", clip, "a positive number", "Take None for no limit.")
    need(stop_loss is None or not math.isnan(stop_loss), "stop_loss", stop_loss, "a number", "Take None to go on.")
    for step in save:
        need(0 <= step <= steps, "save", step, f"steps from 0 to {steps}, the end")


def fixed(questions: Fixed, net: Network, heads: Sequence[Head], theta: Tensor) -> None:
    """Questions that are the same throughout, once before the start."""
    need(questions.batch is None or questions.batch >= 1, "questions.batch", questions.batch, "at least 1")
    if questions.batch is not None:
        count = len(questions.generators)
        need(count == len(theta), "questions.generators", count, f"{len(theta)}, one per network")
    rows(Rows(stacked(questions.x), stacked(questions.y)), net, heads, theta)


def stacked(t: Tensor) -> Tensor:
    """Questions `(n, d)` as `(1, n, d)`; others as they are."""
    return t.unsqueeze(0) if t.dim() == 2 else t


def rows(asked: Rows, net: Network, heads: Sequence[Head], theta: Tensor) -> None:
    """Questions and targets of the networks θ `(c, p)`: shapes, kinds of numbers, and targets that make sense."""
    c, x, y = len(theta), asked.x, asked.y
    for where, t in (("questions.x", x), ("questions.y", y)):
        need(t.dim() == 3 and len(t) in (1, c), where, _shape(t), f"(n, columns) or ({c}, n, columns)")
        need(t.dtype == theta.dtype, where, t.dtype, f"{theta.dtype}, as the parameters", "Convert one of them.")
        need(t.device == theta.device, where, f"on {t.device}", f"on {theta.device}, where the parameters are")
    n, columns = x.shape[1], sum(head.targets for head in heads)
    need(n > 0, "questions.x", "no questions", "at least one")
    need(y.shape[1] == n, "questions.y", f"{y.shape[1]} rows", f"{n}, one per question")
    if isinstance(net, Mlp):
        d = net.sizes[0]
        need(x.shape[2] == d, "questions.x", f"{x.shape[2]} inputs", f"{d}, as the network has")
    need(y.shape[2] == columns, "questions.y", f"{y.shape[2]} columns", f"{columns}, as the heads compare")
    for head, _, at in head_slices(heads):
        target = y[..., at]
        if head.loss == "cross_entropy":
            last = head.outputs - 1
            wrong = target[~((target >= 0) & (target <= last) & (target == target.round()))]
            need(not len(wrong), "questions.y", f"class {_first(wrong)}", f"whole numbers from 0 to {last}")
        elif head.loss == "logistic":
            wrong = target[~((target >= 0) & (target <= 1))]
            need(not len(wrong), "questions.y", f"target {_first(wrong)}", "numbers from 0 to 1, for a logistic loss")


def _shape(t: Tensor) -> str:
    return "(" + ", ".join(map(str, t.shape)) + ")"


def _first(wrong: Tensor) -> str:
    return f"{wrong[0].item():g}" if len(wrong) else ""
