"""Messages: numbers written by a range coder and read back, in the fewest bits that nothing after them can spoil.

A model says in which order which numbers come and how likely each is, once, as a function of a `Pen`. Writing and
reading are the same walk through it: a pen that writes is handed the number and hands it back, a pen that reads
ignores what it is handed. Kraft's inequality holds, for the bits are a prefix code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import constriction
import numpy as np
from torch import Tensor

stream: Any = constriction.stream  # pyright: ignore[reportAttributeAccessIssue]
WORD = 32
T = TypeVar("T")


class Pen(Protocol):
    """Writes or reads whole numbers, one model each."""

    def uniform(self, value: int, size: int) -> int:
        """A number from 0 to size − 1, all alike."""
        ...

    def one_of(self, value: int, shares: Sequence[float]) -> int:
        """A number from 0 on, with probabilities in these proportions."""
        ...

    def normal(self, values: np.ndarray, sd: np.ndarray, reach: int) -> np.ndarray:
        """Whole numbers `(n,)` from −reach to reach, each a normal of mean 0 and its own sd rounded to the nearest."""
        ...


@dataclass(frozen=True)
class Written:
    """A message: `bits` of them count, the first first; `words` are 32 bits each, padded with zeros."""

    bits: int
    words: np.ndarray


@dataclass(frozen=True)
class Code:
    """A message and what it says: θ `(p,)` as decoded, its distortion, and the bits that were written for it."""

    bits: int
    words: np.ndarray
    theta: Tensor
    distortion: float


def write(model: Callable[[Pen], object]) -> Written:
    """What `model` writes, in the fewest bits after which a reader needs nothing more."""
    coder = stream.queue.RangeEncoder()
    told: list[int] = []
    model(_Coder(told, lambda value, *model: coder.encode(value, *model)))
    sealed = coder.get_compressed()
    exact, full = int.from_bytes(sealed.astype(">u4").tobytes(), "big"), WORD * len(sealed)

    def same(prefix: int, bits: int) -> bool:
        """Whether all that begins with these bits is read as what was written."""
        rest = full + 2 * WORD - bits
        return all(_reads(model, told, _words((prefix << rest) + fill, full + 2 * WORD))
                   for fill in (0, (1 << rest) - 1))

    def shortest(bits: int) -> int | None:
        """A run of so many bits that will do."""
        near = exact >> (full - bits)
        tried = (t for t in (near, near - 1, near + 1) if 0 <= t < 1 << bits)
        return next((t for t in tried if same(t, bits)), None)

    few, many = 0, full  # two bits over the information always do, so that halving finds the edge
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if shortest(middle) is not None else (middle, many)
    prefix = shortest(many)
    size = -(-many // WORD) * WORD
    return Written(many, _words((prefix if prefix is not None else exact) << (size - many), size))


def read(model: Callable[[Pen], T], words: np.ndarray) -> T:
    """What `model` makes of a message; whatever words stand after it."""
    decoder = stream.queue.RangeDecoder(np.concatenate([np.asarray(words, np.uint32), np.zeros(4, np.uint32)]))
    return model(_Coder(None, lambda _, *model: decoder.decode(*model)))


class _Coder:
    """The pen over one of the two coders; `told` collects what was written."""

    def __init__(self, told: list[int] | None, code: Callable[..., Any]) -> None:
        self.told, self.code = told, code

    def uniform(self, value: int, size: int) -> int:
        return 0 if size == 1 else self._one(value, stream.model.Uniform(size))

    def one_of(self, value: int, shares: Sequence[float]) -> int:
        if len(shares) == 1:
            return 0
        return self._one(value, stream.model.Categorical(np.asarray(shares, np.float64), perfect=False))

    def normal(self, values: np.ndarray, sd: np.ndarray, reach: int) -> np.ndarray:
        values = np.asarray(values, np.int32)
        model = stream.model.QuantizedGaussian(-reach, reach), np.zeros(len(sd)), np.ascontiguousarray(sd, np.float64)
        got = self.code(values, *model)
        if self.told is None:
            return np.asarray(got)
        self.told += values.tolist()
        return values

    def _one(self, value: int, model: Any) -> int:
        got = self.code(value, model)
        if self.told is None:
            return int(got)
        self.told.append(value)
        return value


def _reads(model: Callable[[Pen], object], told: list[int], words: np.ndarray) -> bool:
    """Whether the words are read as `told`."""
    decoder, left = stream.queue.RangeDecoder(words), iter(told)

    def code(_: object, *model: Any) -> Any:
        value = decoder.decode(*model)
        if any(v != next(left) for v in np.atleast_1d(value).tolist()):
            raise _Other
        return value

    try:
        model(_Coder(None, code))
    except (_Other, AssertionError):  # the decoder asserts that there could be such a message
        return False
    return True


class _Other(Exception):
    """Another message."""


def _words(number: int, bits: int) -> np.ndarray:
    return np.frombuffer(number.to_bytes(bits // 8, "big"), ">u4").astype(np.uint32)
