"""The claims of a scenario as written in its file: thresholds set beforehand, checked against the scenario."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from reuse_sim.errors import InputError, nearest
from reuse_sim.plugins import STRICT
from reuse_sim.record import Band, Expectation
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
    where: Annotated[dict[str, Any], Field(description="the sweep point, by the dotted paths of swept fields")] = {}
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

    def expectation(self, where: Mapping[str, Any]) -> Expectation:
        sentence = self.sentence or f"{self.metric} of {self.arm}" + (f" minus {self.minus}" if self.minus else "")
        return Expectation(
            id=self.id, sentence=sentence, metric=self.metric, arm=self.arm, minus=self.minus, where=where,
            supported=self.supported.band, refuted=self.refuted and self.refuted.band,
            claim=None if self.claim is None else str(self.claim),
        )


def check(claims: Sequence[Claim], metrics: Sequence[str], arms: Sequence[str], axes: Axes, document: Document) -> None:
    """Raises InputError where a claim of the file cannot be decided by the file's own sweep and arms."""
    for i, c in enumerate(claims):

        def fault(key: Key, got: str, expected: str, do: str = "", i: int = i) -> InputError:
            return InputError(document.at(("expect", i, *key), key=got == UNKNOWN), got, expected, do)

        if c.id in (ids := [other.id for other in claims[:i]]):
            raise fault(("id",), shown(c.id), "an id of its own", f"entry {ids.index(c.id)} has it")
        if c.metric not in metrics:
            raise fault(("metric",), shown(c.metric), f"one of {', '.join(metrics)}", nearest(c.metric, metrics))
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
        # Several points under one claim would be several figures for one world.
        missing = [path for path, values in axes.items() if len(values) > 1 and path not in c.where]
        if missing:
            raise fault(("where",), "more than one sweep point", f"a value for each of {', '.join(missing)}")


def settle(claims: Sequence[Claim], axes: Axes, canonical: Axes) -> tuple[tuple[Expectation, ...], tuple[str, ...]]:
    """The claims that `axes` still pin to one sweep point, and the ids of the others.

    `canonical` holds the swept values as validated, in the order of `axes`.
    """
    kept, left_out = [], []
    for c in claims:
        found = {path: position(value, axes[path]) for path, value in c.where.items()}
        open_axes = [path for path, values in axes.items() if len(values) > 1 and path not in c.where]
        if open_axes or None in found.values():
            left_out.append(c.id)
        else:
            kept.append(c.expectation({path: canonical[path][i] for path, i in found.items() if i is not None}))
    return tuple(kept), tuple(left_out)


def thresholds(e: Expectation) -> dict[str, Any]:
    """What decides a claim, as plain values: all but its words."""
    return {k: v for k, v in asdict(e).items() if k not in ("sentence", "claim")}


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
