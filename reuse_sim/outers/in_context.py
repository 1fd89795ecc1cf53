"""Learning the human from its answers: a small transformer that never sees θ2.

It is shown m examples (x_i, H(x_i)) and asked questions x. Each is a token,

    context: E (x_i, H(x_i)) + e        question: Q x + q

and in each layer every token z attends to the context tokens c_i, in several views v (attention heads) of
k entries each, and then passes a block of ReLU units,

    z ← z + Σ_v O_v Σ_i a_vi V_v c_i,    a_v = softmax_i(Q_v z · K_v c_i / √k)    or, linear, a_vi = Q_v z · K_v c_i / m
    z ← z + D relu(U z + u)

Questions attend to the context alone, so that one is answered as it would be by itself, and examples have
no order. Two heads read a question's last z: what is right, and what the human answers. Its place for the
human is the context: the swap replaces the answers in it by another's answers to the same questions. The
leak's `of` says whose they are; its bits are not read.

With linear attention a layer can be one gradient step on in-context linear regression (von Oswald et al.
2022, arXiv 2212.07677): `gradient_steps` writes those weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.outers import blocks
from reuse_sim.types import Access, World


@dataclass(frozen=True)
class InContext:
    width: int
    layers: int
    views: int
    attention: Literal["softmax", "linear"]
    examples: int
    examples_from: Literal["on_distribution", "off_distribution"]
    examples_of: Literal["human", "teacher"] = "human"

    @property
    def has_place(self) -> bool:
        """Nothing of the human is in a context of the teacher's answers."""
        return self.examples_of == "human"

    @property
    def _view(self) -> int:
        """Entries of a view."""
        return -(-self.width // self.views)

    def _layout(self, net: Mlp) -> blocks.Layout:
        d, k, inner = net.sizes[0], self.width, self.views * self._view
        layout: dict[str, tuple[tuple[int, ...], float]] = {
            "shown": ((k, d + 1), (1 / (d + 1)) ** 0.5),
            "shown_bias": ((k,), 0.0),
            "asked": ((k, d), (1 / (d + 1)) ** 0.5),
            "asked_bias": ((k,), 0.0),
        }
        for i in range(self.layers):
            layout |= {f"{name}{i}": ((inner, k), (1 / k) ** 0.5) for name in ("query", "key", "value")}
            layout |= {f"out{i}": ((k, inner), (1 / inner) ** 0.5)}
            layout |= {f"up{i}": ((2 * k, k), (2 / k) ** 0.5), f"up{i}_bias": ((2 * k,), 0.0)}
            layout |= {f"down{i}": ((k, 2 * k), (1 / (2 * k)) ** 0.5)}
        return {**layout, **blocks.heads(k)}

    def init(self, net: Mlp, generators: Sequence[torch.Generator]) -> Tensor:
        return blocks.init(self._layout(net), generators)

    def answer(
        self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access, pressure: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Raises InputError where no examples are handed in, or a rival is: this outer has no place for one."""
        if access.rival is not None:
            raise InputError("rival", "matched", "none with outer: in_context", "use outer: slot")
        v = blocks.views(self._layout(net), theta)
        answer, human = blocks.own_heads(v, self._tokens(v, x, access), pressure)
        return blocks.squash(world, answer), blocks.squash(world, human)

    def hidden(self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access) -> Tensor:
        """The answer head's units and z, `(A, H, n, 2 width)`."""
        v = blocks.views(self._layout(net), theta)
        z = self._tokens(v, x, access)
        return blocks.hidden(blocks.head_units(v, z, 0), z)

    def _tokens(self, v: blocks.Views, x: Tensor, access: Access) -> Tensor:
        """Every question's last z, `(A, H, width, n)`."""
        if access.examples is None:
            raise InputError("examples", "none", "the human's answers to some questions, in access.examples")
        shown, y = access.examples.x, access.examples.y.unsqueeze(-1)
        arms, humans, m = y.shape[:3]
        context = torch.cat([shown.expand(arms, -1, -1, -1), y], dim=-1)
        x = x.expand(arms, humans, -1, -1)
        z = torch.cat([_linear(v, "shown", context), _linear(v, "asked", x)], dim=2)  # (A, H, m + n, width)
        for i in range(self.layers):
            c = z[:, :, :m]
            keys, values = self._apart(_linear(v, f"key{i}", c)), self._apart(_linear(v, f"value{i}", c))
            if i == self.layers - 1:
                z = z[:, :, m:]  # nobody reads the context again
            scores = self._apart(_linear(v, f"query{i}", z)) @ keys.transpose(-1, -2)
            a = scores / m if self.attention == "linear" else torch.softmax(scores / self._view**0.5, dim=-1)
            z = z + _linear(v, f"out{i}", (a @ values).transpose(2, 3).flatten(-2))
            z = z + _linear(v, f"down{i}", torch.relu(_linear(v, f"up{i}", z)))
        return z.transpose(-1, -2)

    def _apart(self, z: Tensor) -> Tensor:
        """Tokens `(A, H, n, views k)` as `(A, H, views, n, k)`."""
        return z.unflatten(-1, (self.views, self._view)).transpose(2, 3)


def _linear(v: blocks.Views, name: str, z: Tensor) -> Tensor:
    """Each arm's matrix, and its bias where it has one, on tokens `(A, H, n, in)`: `(A, H, n, out)`."""
    out = torch.einsum("aki,ahni->ahnk", v[name], z)
    return out + v[f"{name}_bias"][:, None, None] if f"{name}_bias" in v else out


def gradient_steps(outer: InContext, net: Mlp, w: Tensor, rate: float) -> Tensor:
    """θ `(1, p)` with which both heads answer w'·x, w' being `w` `(d,)` after one gradient step per layer.

    The loss descended on is that of the examples, Σ_i (w·x_i − y_i)² / 2m. Tokens hold x and a residual: y − w·x of an
    example, −w·x of a question; a layer takes `rate` Σ_i r_i x_i·x / m off the residual of each. Raises InputError
    where attention is not linear, or width or view have no room for x (and the residual).
    """
    d = net.sizes[0]
    if outer.attention != "linear":
        raise InputError("attention", outer.attention, "linear", "set outer.attention: linear")
    if outer.width <= d:
        raise InputError("width", outer.width, f"more than {d}, the inputs of a question", "set a larger outer.width")
    if outer._view < d:
        raise InputError("views", outer.views, f"views of {d} entries or more", "set a smaller outer.views")
    layout = outer._layout(net)
    theta = w.new_zeros(1, blocks.size(layout))
    v, inputs = {name: part[0] for name, part in blocks.views(layout, theta).items()}, torch.arange(d)
    for embedding in (v["shown"], v["asked"]):
        embedding[inputs, inputs] = 1.0
        embedding[d, :d] = -w
    v["shown"][d, d] = 1.0
    for i in range(outer.layers):
        v[f"query{i}"][inputs, inputs] = v[f"key{i}"][inputs, inputs] = 1.0
        v[f"value{i}"][0, d], v[f"out{i}"][d, 0] = 1.0, -rate
    v["skip"][:, d] = -1.0
    return theta


def build(
    width: Annotated[int, Field(gt=0, le=1024, description="entries of a token")] = 32,
    layers: Annotated[int, Field(ge=1, le=8, description="layers of attention")] = 2,
    views: Annotated[int, Field(ge=1, le=64, description="attention heads")] = 4,
    attention: Annotated[
        Literal["softmax", "linear"], Field(description="weights of the examples: softmax, or scores as they are")
    ] = "softmax",
    examples: Annotated[int, Field(gt=0, le=4096, description="answers of the human in the context")] = 32,
    examples_from: Annotated[
        Literal["on_distribution", "off_distribution"], Field(description="where the questions of the context lie")
    ] = "on_distribution",
    examples_of: Annotated[
        Literal["human", "teacher"], Field(description="whose answers those are; the teacher's are a few true labels")
    ] = "human",
) -> InContext:
    """An outer model that is shown some of the human's answers, and none of its bits."""
    return InContext(width, layers, views, attention, examples, examples_from, examples_of)
