"""A document with a set of changes worked in, and the grid of checked configs that follows from it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from reuse_sim.errors import InputError, nearest
from reuse_sim.plugins import Plugin
from reuse_sim.scenario.claims import mark
from reuse_sim.scenario.overrides import Override, apply, check, from_document, from_value, place, settle
from reuse_sim.scenario.reading import Document, Key, dotted, shown

MAX_POINTS = 10_000


@dataclass(frozen=True)
class Form:
    """An experiment's fields as in the file, the changes to them, the swept fields with their lists, the arms."""

    fields: dict[str, Any]
    changes: tuple[Override, ...]
    axes: dict[Key, Override]
    arms: dict[str, tuple[Override, ...]]

    @property
    def values(self) -> dict[str, list[Any]]:
        """The swept fields' values, as written."""
        return {dotted(path): axis.value for path, axis in self.axes.items()}


def read(document: Document, changes: Sequence[Override], head: Collection[str]) -> Form:
    """Work changes into a document; `head` are the keys that are no fields of the experiment.

    A change of a swept field pins it. Raises InputError for a change or an axis that makes no sense.
    """
    data = document.data
    axes = {o.path: o for o in settle(from_document(document, ("sweep",)))} if "sweep" in data else {}
    arms = {name: tuple(settle(from_document(document, ("arms", name)))) for name in data.get("arms", ())}
    arms = arms or {"main": ()}
    plain = []
    for o in changes:
        top, *rest = o.path
        if top == "sweep" and rest:
            axes[tuple(rest)] = replace(o, path=tuple(rest))
        elif top == "arms" and len(rest) > 1 and rest[0] in arms:
            arms[str(rest[0])] += (replace(o, path=tuple(rest[1:])),)
        elif top == "arms":
            name = str(rest[0]) if rest else ""
            raise InputError(o.key_at, shown(name), f"one of the arms {', '.join(arms)}, and a field",
                             nearest(name, arms))
        elif top in ("sweep", "expect", "smoke"):
            raise InputError(o.key_at, shown(o.value), "the path of a field", f"{top} is changed in the file")
        elif o.path in axes:
            axes[o.path] = replace(o, value=[o.value])
        elif top not in head:
            plain.append(o)
    for o in itertools.chain(axes.values(), *arms.values()):
        if o.path[0] in head:
            raise InputError(o.key_at, f"a change of {o.path[0]}", "a field of the experiment")
    form = Form({k: v for k, v in data.items() if k not in head}, tuple(plain), axes, arms)
    _check(form, document, head)
    return form


def _check(form: Form, document: Document, head: Collection[str]) -> None:
    settle(list(form.axes.values()))
    for axis in form.axes.values():
        if not isinstance(axis.value, list) or not axis.value:
            raise InputError(axis.key_at, shown(axis.value), "a list of one value or more")
        seen: set[str] = set()
        for value in axis.value:
            if mark(value) in seen:
                raise InputError(axis.key_at, f"{shown(value)} twice", "different values")
            seen.add(mark(value))
    points = math.prod(len(axis.value) for axis in form.axes.values())
    if points > MAX_POINTS:
        raise InputError(document.at(("sweep",), key=True), f"{points:,} sweep points", f"at most {MAX_POINTS:,}")
    for o in (*form.changes, *form.axes.values()):
        sweep = () if form.axes.get(o.path) is o else form.axes.values()
        if all(any(later.covers(o.path) for later in (*sweep, *arm)) for arm in form.arms.values()):
            raise InputError(o.key_at, "a value that the sweep or every arm replaces", "a field that they leave alone")


def grid(
    form: Form, model: type[BaseModel], document: Document, head: Collection[str], shared: Collection[str] = ()
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each sweep point's values and its arms' configs, every plug-in built once to see that it can be.

    Raises InputError for the first point and arm that is not valid, or whose fields `shared`, of which a cell has
    one, differ from another arm's.
    """
    known: list[Key] = [(name,) for name in head]
    built: set[str] = set()
    for point in itertools.product(*(axis.value for axis in form.axes.values())):
        swept = [o for axis, value in zip(form.axes.values(), point, strict=True) for o in from_value(axis, value)]
        params, configs = dict(zip(form.values, point, strict=True)), {}
        for arm, own in form.arms.items():
            try:
                configs[arm] = _config(form, [*form.changes, *swept, *own], model, document, known, built)
            except InputError as e:
                told = any(e.where.startswith((o.key_at, o.value_at)) for o in (*form.changes, *swept, *own))
                raise e if told else _in_context(e, form, model, document, known, arm, params) from None
        _check_shared(form, configs, document, shared)
        yield _canonical(params, form, configs), configs


def canonical_axes(form: Form, points: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The swept fields' values as validated, from the points' values in the grid's order."""
    axes: dict[str, list[Any]] = {}
    for axis, (name, written) in zip(form.axes.values(), form.values.items(), strict=True):
        different = {mark(params[name]): params[name] for params in points}
        if len(different) < len(written):
            raise InputError(axis.key_at, "values that are the same with their defaults filled in", "different values")
        axes[name] = list(different.values())
    return axes


def _check_shared(form: Form, configs: Mapping[str, BaseModel], document: Document, shared: Collection[str]) -> None:
    first, *others = configs.values()
    for field in shared:
        if any(getattr(c, field) != getattr(first, field) for c in others):
            own = next((o for arm in form.arms.values() for o in arm if o.path[0] == field), None)
            raise InputError(own.key_at if own else document.at(("arms",), key=True), f"{field} for one arm alone",
                             "the same in all arms", f"sweep over {field}")


def _config(
    form: Form, over: Sequence[Override], model: type[BaseModel], document: Document, known: list[Key], built: set[str]
) -> BaseModel:
    config = check(model, apply(form.fields, over), over, document, known)
    for path, plugin in _plugins(config):
        name = plugin.room + mark(plugin.model_dump(mode="json"))
        if name in built:
            continue
        try:
            plugin.build()
        except InputError as e:
            where, _ = place((*path, "use"), over, document)
            raise InputError(where, e.got, e.expected, e.do) from e
        built.add(name)
    return config


def _plugins(value: Any, path: Key = ()) -> Iterator[tuple[Key, Plugin]]:
    if isinstance(value, Plugin):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _plugins(getattr(value, name), (*path, name))
    elif isinstance(value, (list, tuple)):
        for i, member in enumerate(value):
            yield from _plugins(member, (*path, i))


def _in_context(
    e: InputError, form: Form, model: type[BaseModel], document: Document, known: list[Key], arm: str,
    params: Mapping[str, Any],
) -> InputError:
    """The same error, with the arm and the sweep point where it is not one of the file's fields alone."""
    try:
        _config(form, form.changes, model, document, known, set())
    except InputError as alone:
        if (alone.where, alone.expected) == (e.where, e.expected):
            return e
    at = [f"arm {arm}"] if form.arms[arm] else []
    at += [f"{k}={v}" for k, v in params.items()]
    do = f"{e.do} (in {', '.join(at)})" if at else e.do
    return InputError(e.where, e.got, e.expected, do.strip())


def _canonical(params: dict[str, Any], form: Form, configs: Mapping[str, BaseModel]) -> dict[str, Any]:
    """The swept values as validated (1 as 1.0 where the field is a float), seen in an arm that leaves them alone."""
    for path, name in zip(form.axes, params, strict=True):
        for arm, config in configs.items():
            if any(o.covers(path) or o.path[: len(path)] == path for o in form.arms[arm]):
                continue
            value: Any = config.model_dump(mode="json")
            for part in path:
                value = value[part]
            params[name] = value
            break
    return params
