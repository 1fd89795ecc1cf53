"""The contracts between the rooms. A plug-in is a file with `build(**options)` returning one of these.

Shapes: T teachers, N networks stacked, n questions, d inputs, p1 and p2 parameters of teacher and
human. Questions are always stacked: `(N, n, d)`, one set per teacher or network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from reuse_sim.nets import Mlp


@runtime_checkable
class World(Protocol):
    """Questions, the teacher family that answers them rightly, and where humans are trained.

    Answers to `classification` are −1 to 1: a teacher's are −1 or 1, a human's squashed (`nets.first_logit`), and
    with a tolerance of 2 an answer is right when its sign is.

    A world may also have

    - `human_loss(net, theta_human (N, p2), theta_teacher (N, p1)) -> (N,)`, the exact expected on-distribution loss
      of a human, on which humans then descend;
    - `inactive(theta_teacher (…, p1)) -> (p1,)`, true for the entries of θ1 that no on-distribution answer depends
      on: they earn no bits back;
    - `picture(theta_teacher (p1,)) -> Picture`, questions laid out for the picture on its card;
    - `labelled(n, generators, strength) -> (x (N, n, d), truth (N, n))`, questions and what is true of them where f
      was learned itself and is only good; strength None is on-distribution.
    """

    @property
    def d(self) -> int:
        """Inputs of a question."""
        ...

    @property
    def kind(self) -> Literal["regression", "classification"]:
        """Fits are R² in one, accuracy in the other."""
        ...

    @property
    def shifts(self) -> Mapping[str, str]:
        """Its off-distribution shifts by name, each with a sentence."""
        ...

    @property
    def tolerance(self) -> float:
        """An answer is right within half of this, in units of the teacher's sd on-distribution."""
        ...

    def teacher(self, generators: Sequence[torch.Generator]) -> Tensor:
        """θ1 of one fresh teacher per generator, `(T, p1)`."""
        ...

    def on_distribution(self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator]) -> Tensor:
        """`n` on-distribution questions per row of θ1 `(N, p1)`, one generator per row: `(N, n, d)`."""
        ...

    def off_distribution(
        self, theta_teacher: Tensor, n: int, generators: Sequence[torch.Generator], strength: float = 1.0
    ) -> Tensor:
        """`n` off-distribution questions per row of θ1, `(N, n, d)`; strength 0 is the mildest shift."""
        ...

    def answer(self, theta_teacher: Tensor, x: Tensor) -> Tensor:
        """The right answers f(x): θ1 `(N, p1)`, x `(N, n, d)` -> `(N, n)`."""
        ...

    def human_net(self, width: int) -> Mlp:
        """The architecture of a human of this world with `width` hidden units."""
        ...

    def human_answer(self, net: Mlp, theta_human: Tensor, x: Tensor) -> Tensor:
        """The human's answers H(x): θ2 `(…, p2)`, x `(…, n, d)` -> `(…, n)`, in the teacher's units."""
        ...


@dataclass(frozen=True)
class Picture:
    """Questions x `(r, c, d)` laid out in r rows and c columns, so that answers to them make a picture.

    `across` and `down` say what changes along columns and rows, with one value each in `columns` and `rows`: numbers
    in equal steps, or names. `learned` `(r, c)` is true where a question lies in the on-distribution support; a world
    whose support has no edge says what counts instead.
    """

    x: Tensor
    across: str
    down: str
    columns: Sequence[float] | Sequence[str]
    rows: Sequence[float] | Sequence[str]
    learned: Tensor


@dataclass(frozen=True)
class Fit:
    """A trained population of N networks: θ `(N, p)` and the last loss `(N,)` that was computed of each.

    A network that broke keeps its last finite θ; `broken` has the sentence that says when. One that met the
    loss to stop at keeps its θ from then on; `stopped` has the step. `iterates` `(k, N, p)` are θ as they were
    before each of the k steps that were asked for; `engine` is what trained them.
    """

    theta: Tensor
    loss: Tensor
    broken: Mapping[int, str] = field(default_factory=dict)
    stopped: Mapping[int, int] = field(default_factory=dict)
    iterates: Tensor | None = None
    engine: str = ""


@runtime_checkable
class Human(Protocol):
    """A limited learner of the teacher. `off_share` > 0 trains a *repaired* human instead, going on from `theta_0`.

    Its first output answers questions; further ones are its other behaviour. A human may also have

    - `tastes(world, theta_teacher, generators)`, what `train` makes the further outputs learn when given the same
      generators: an object whose `answer(x (N, n, d))` is `(N, n, K)`;
    - `train_flops(world) -> float`, what training one costs: 2 p for an answer of a network of p parameters, 4 p more
      for its gradient;
    - `networks`, how many networks are trained for one human.
    """

    def net(self, world: World) -> Mlp:
        """The human's architecture in that world."""
        ...

    def init(self, world: World, generators: Sequence[torch.Generator]) -> Tensor:
        """Initialisations `(N, p2)`."""
        ...

    def train(
        self,
        world: World,
        theta_0: Tensor,
        theta_teacher: Tensor,
        generators: Sequence[torch.Generator],
        off_share: float = 0.0,
    ) -> Fit:
        """Train N humans side by side: θ2 from initialisations `(N, p2)` and teachers `(N, p1)`."""
        ...


BITS = 16
"""Bits of a coded parameter, the most significant first."""


@dataclass(frozen=True)
class Leaked:
    """What is known of θ2, `(…, p2)` each: told bits taken as they are, unknown ones never for zeros.

    `value` is the expectation given the told bits, `known` their share, and all that they allow lies within
    `value ± slack`.
    """

    value: Tensor
    known: Tensor
    slack: Tensor


@dataclass(frozen=True)
class Schedule:
    """A leak, bit by bit: when each of the 16 bits of each coded parameter becomes known, and which are told wrongly.

    `when` `(p2, 16)` is the training step before which a bit becomes known: 0 from the start, as many as there are
    steps at the end of training, infinity never. `flipped` `(p2, 16)` is true for bits told wrongly. `code` says what
    they are bits of: fixed point within a range per field, or IEEE half precision.
    """

    when: Tensor
    flipped: Tensor
    code: Literal["fixed", "half"] = "fixed"


@runtime_checkable
class LeakChannel(Protocol):
    """Which bits of a coded θ2 become known, when, and how truly. It never sees θ2."""

    @property
    def of(self) -> Literal["own", "unrelated", "sibling", "random"]:
        """Whose bits: the human's own, those of the same human in an unrelated world, a sibling's, random ones."""
        ...

    def schedule(self, net: Mlp, steps: int, generator: torch.Generator) -> Schedule:
        """The bits of a human of architecture `net`, told over an outer's `steps` training steps.

        Raises InputError where it would tell more than there is.
        """
        ...


@dataclass(frozen=True)
class Examples:
    """Questions x `(H, m, d)`, the same for all arms, and what the human answered to them, y `(A, H, m)`."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Access:
    """What an outer model is handed beside the questions, stacked over A arms and H humans.

    `leaked` holds `(A, H, p2)`; `rival` holds `(A, H, n)`, another answerer's answers to the same
    questions, or None where no arm has one; `examples` are None where the outer asks for none.
    """

    leaked: Leaked
    rival: Tensor | None = None
    examples: Examples | None = None


@runtime_checkable
class Outer(Protocol):
    """A model that must predict the human and answer questions. The θ2 swap is `answer` with another `Access`.

    How it is taught is no part of it (`outers.training.Training`). An outer may also have

    - `examples`, how many of the human's answers it is shown (`Access.examples`; none where absent), and
      `examples_from`, `on_distribution` (where absent) or `off_distribution`; and `examples_of`, `human` (where absent)
      or `teacher`, whose answers are then shown in the human's place;
    - `behaviours`, how many k of the human's further outputs it predicts beside the answers: then `answer` gives
      those, `(A, H, k, n)`, third;
    - `has_place`, False where it reads nothing of the human, so that the swap changes nothing;
    - `reads`, `units` where it reads the human's hidden units: a swap then puts in the copy whose units match;
    - `learns`, True where it fills what is not leaked of θ2 from behaviour: a swap then puts in all bits of the other;
    - `hidden(world, net, theta, x, access) -> (A, H, n, units)`, what its answer head reads, for the probe;
    - `own(net, theta (A, p)) -> (A, q)`, the parameters that an L2 penalty falls on, where not on all.
    """

    def init(self, net: Mlp, generators: Sequence[torch.Generator]) -> Tensor:
        """Own parameters `(A, p)`, one generator per arm (equal generators give equal starts)."""
        ...

    def answer(
        self, world: World, net: Mlp, theta: Tensor, x: Tensor, access: Access, pressure: Tensor | float = 1.0
    ) -> tuple[Tensor, ...]:
        """Answers and predicted human answers, each `(A, H, n)`, to questions x `(A, H, n, d)`.

        `pressure` `(A,)` multiplies the gradient that predicting the human sends into what the two
        heads share; it leaves the values as they are.
        """
        ...


@dataclass(frozen=True)
class Estimate:
    """A specialness in bits with its interval, what kind of figure it is, and whether to believe it.

    `bound` says what `low` and `high` are worth as statements about `quantity`: `two-sided`, both limits hold at
    `level`; `lower`, only `low` does (S is at least that); `upper`, only `high`; `none`, neither. A limit that does not
    hold says nothing: it is there to keep all three finite and in order, and where nothing at all is known on its side
    it equals `bits`.
    """

    bits: float
    low: float
    high: float
    bound: Literal["two-sided", "lower", "upper", "none"]
    kind: Literal["global", "local"]
    status: str
    """`converged`, or a sentence saying what is wrong and what to change."""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    level: float = 0.9
    quantity: str = "specialness"
    """What the bits are of, where it is not the specialness of the whole reference: `the basin of the start`, …"""
    evaluations: int = 0
    """How many θ the cost was computed for, with or without its gradient."""
    seconds: float = 0.0
    """Processor seconds."""
