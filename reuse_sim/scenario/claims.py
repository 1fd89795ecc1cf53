"""The claims of a scenario as written in its file: thresholds set beforehand, checked against the scenario."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from reuse_sim.errors import InputError, nearest
from reuse_sim.plugins import STRICT
from reuse_sim.record import Band, Expectation, Metric
from reuse_sim.scenario.reading import Document, Key, shown

UNKNOWN = "an unknown key"
Axes = Mapping[str, Sequence[Any]]


class Limits(BaseModel):
    """A band that the whole interval must lie in; an absent limit is none."""

    model_config = STRICT
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.low is None and self.high is None:
            raise ValueError("a threshold: low, high or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("low at most high")
        return self

    @property
    def band(self) -> Band:
        return Band(self.low, self.high)


class Claim(BaseModel):
    """One entry of `expect:`; see `record.Expectation` for what it means."""

    model_config = STRICT
    id: Annotated[str, Field(pattern=r"^[\w.-]+$", description="unique in the file")]
    claim: Annotated[int | str | None, Field(description="the claim it decides")] = None
    sentence: Annotated[str, Field(description="the claim in words")] = ""
    metric: str
    arm: str
    minus: Annotated[str | None, Field(description="an arm whose figure is subtracted, world by world")] = None
    where: Annotated[
        dict[str, Any],
        Field(description="the sweep point, by the dotted paths of swept fields; at each value of those not named"),
    ] = {}
    slope: Annotated[
        str | None, Field(description="a swept field of numbers: the figure is its slope on it, world by world")
    ] = None
    supported: Limits
    refuted: Limits | None = None

    @model_validator(mode="after")
    def _apart(self) -> Claim:
        a, b, inf = self.supported, self.refuted, float("inf")
        if b is not None:
            bottom = max(-inf if x.low is None else x.low for x in (a, b))
            top = min(inf if x.high is None else x.high for x in (a, b))
            if bottom < top:
                raise ValueError("bands of supported and refuted that do not overlap")
        return self

    def expectation(self, where: Mapping[str, Any], point: Sequence[Any] = ()) -> Expectation:
        """The claim at one sweep point, `point` having the values of the axes that it is asked at several of."""
        sentence = self.sentence or f"{self.metric} of {self.arm}" + (f" minus {self.minus}" if self.minus else "")
        return Expectation(
            id="-".join([self.id, *map(slug, point)]), sentence=sentence, metric=self.metric, arm=self.arm,
            minus=self.minus, where=where, supported=self.supported.band, refuted=self.refuted and self.refuted.band,
            claim=None if self.claim is None else str(self.claim), over=self.id if point else None, slope=self.slope,
        )  # fmt: skip


def check(
    claims: Sequence[Claim], metrics: Sequence[Metric], arms: Sequence[str], axes: Axes, document: Document
) -> None:
    """Raises InputError where a claim of the file cannot be decided by the file's own sweep and arms."""
    taken: dict[str, int] = {}
    names, pooled = [m.name for m in metrics], [m.name for m in metrics if m.pooled]
    for i, c in enumerate(claims):

        def fault(key: Key, got: str, expected: str, do: str = "", i: int = i) -> InputError:
            return InputError(document.at(("expect", i, *key), key=got == UNKNOWN), got, expected, do)

        if c.metric not in names:
            raise fault(("metric",), shown(c.metric), f"one of {', '.join(names)}", nearest(c.metric, names))
        for key, arm in (("arm", c.arm), ("minus", c.minus)):
            if arm is not None and arm not in arms:
                raise fault((key,), shown(arm), f"one of the arms {', '.join(arms)}", nearest(arm, arms))
        if c.minus == c.arm:
            raise fault(("minus",), shown(c.minus), "another arm than its arm")
        for path, value in c.where.items():
            if path not in axes:
                known = f"one of the swept fields {', '.join(axes)}" if axes else "no key, for nothing is swept"
                raise fault(("where", path), UNKNOWN, known, nearest(path, axes))
            if position(value, axes[path]) is None:
                raise fault(("where", path), shown(value), f"one of the sweep's {shown(list(axes[path]))}")
        if c.slope is not None:
            _check_slope(c, axes, pooled, fault)
        for name in dict.fromkeys([c.id, *(e.id for e in settle([c], axes, axes)[0])]):
            if name in taken:
                raise fault(("id",), shown(name), "an id of its own", f"entry {taken[name]} has it")
            taken[name] = i


def _check_slope(c: Claim, axes: Axes, pooled: Collection[str], fault: Callable[..., InputError]) -> None:
    numbers = [p for p, values in axes.items() if len(values) > 1 and all(type(v) in (int, float) for v in values)]
    if c.slope not in numbers:
        known = f"one of {', '.join(numbers)}" if numbers else "none, for nothing is"
        raise fault(("slope",), shown(c.slope), f"a field swept over two numbers or more: {known}")
    if c.slope in c.where:
        raise fault(("where", c.slope), shown(c.where[c.slope]), "nothing, for the slope is over all its values")
    if c.metric in pooled:
        raise fault(("metric",), shown(c.metric), "a metric that has a value in each world, to have a slope")


def settle(claims: Sequence[Claim], axes: Axes, canonical: Axes) -> tuple[tuple[Expectation, ...], tuple[str, ...]]:
    """The claims at their sweep points, and the ids of those whose point is not among `axes` any more.

    A claim that does not name a swept field is asked at each of its values. `canonical` holds the swept values as
    validated, in the order of `axes`.
    """
    kept, left_out = [], []
    for c in claims:
        named = {path: position(value, axes[path]) for path, value in c.where.items()}
        if None in named.values() or (c.slope and len(axes[c.slope]) < 2):
            left_out.append(c.id)
            continue
        ways = [[named[p]] if p in named else [0] if p == c.slope else range(len(values)) for p, values in axes.items()]
        several = [p for p, values in axes.items() if p not in named and len(values) > 1 and p != c.slope]
        for places in itertools.product(*ways):
            at = {p: i for p, i in zip(axes, places, strict=True) if i is not None and (p in named or p in several)}
            kept.append(c.expectation({p: canonical[p][i] for p, i in at.items()}, [axes[p][at[p]] for p in several]))
    return tuple(kept), tuple(left_out)


def thresholds(e: Expectation) -> dict[str, Any]:
    """What decides a claim, as plain values: all but its words."""
    found = {k: v for k, v in asdict(e).items() if k not in ("sentence", "claim", "over")}
    return {k: v for k, v in found.items() if k != "slope" or v is not None}


def slug(value: Any) -> str:
    """A swept value as part of an id: `4`, `0.05`, `wave`; of a plug-in its name and options."""
    plain = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return re.sub(r"[^\w.-]+", "_", "_".join(map(str, plain))).strip("_")


def position(value: Any, values: Sequence[Any]) -> int | None:
    """Where `value` stands among `values`, as `mark` compares them."""
    marks = [mark(v) for v in values]
    return marks.index(mark(value)) if mark(value) in marks else None


def mark(value: Any) -> str:
    """The same text for the same plain value: 1 and 1.0 are the same, 1 and true are not."""

    def whole(v: Any) -> Any:
        if isinstance(v, dict):
            return {k: whole(member) for k, member in v.items()}
        if isinstance(v, list):
            return [whole(member) for member in v]
        return int(v) if isinstance(v, float) and v.is_integer() else v

    return json.dumps(whole(value), sort_keys=True)
