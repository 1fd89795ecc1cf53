"""Layers of changes over a scenario's fields, and pydantic's errors told with the place each came from."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from reuse_sim.errors import InputError, nearest
from reuse_sim.plugins import Plugin, Room, option_names
from reuse_sim.scenario.reading import Document, Key, dotted, parse, shown

_EXPECTED = {
    "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number", "string_type": "text",
    "bool_type": "true or false", "list_type": "a list", "tuple_type": "a list",
    "dict_type": "a mapping", "model_type": "a mapping", "model_attributes_type": "a mapping",
}
"""What pydantic's types are called in a scenario file."""

_PREFIX = re.compile("^(Input should be |Value error, |Assertion failed, )")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Override:
    """One field's new value, with the places of its key and of the value (`file:line:column: path`, `--set path`)."""

    path: Key
    value: Any
    key_at: str
    value_at: str

    def covers(self, path: Key) -> bool:
        """Whether this layer decides the whole of what stands at `path`."""
        return path[: len(self.path)] == self.path


def from_document(document: Document, path: Key) -> list[Override]:
    """The overrides in the mapping that a document has at `path`: dotted keys, nested mappings, or both."""
    value = document.data
    for part in path:
        value = value[part]
    return list(_flatten((), value, path, document))


def from_value(axis: Override, value: Any) -> list[Override]:
    """The overrides that one value of a swept field makes, told with the axis's place."""
    if isinstance(value, dict) and value:
        return list(_flatten(axis.path, value, (), axis.key_at))
    return [Override(axis.path, value, axis.key_at, axis.key_at)]


def from_text(text: str) -> list[Override]:
    """The overrides of one `PATH=VALUE`, the value in YAML. Raises InputError."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise InputError("--set", repr(text), "PATH=VALUE, such as outer.width=48")
    where = f"--set {name}"
    if not value:
        raise InputError(where, "no value", "a value", "write null or '' for nothing")
    path = _split(name, where)
    data = parse(value, where, positions=False).data
    if isinstance(data, dict) and data:
        return list(_flatten(path, data, (), where))
    return [Override(path, data, where, where)]


def settle(overrides: Sequence[Override]) -> Sequence[Override]:
    """The same overrides of one place. Raises InputError where two of them set the same field."""
    for i, later in enumerate(overrides):
        for earlier in overrides[:i]:
            if earlier.covers(later.path) or later.covers(earlier.path):
                raise InputError(later.key_at, "a field that is set twice", "one value", f"see {earlier.key_at}")
    return overrides


def apply(data: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """A copy of `data` with the overrides put in, in order; mappings on the way are made where missing."""
    changed = dict(data)
    for o in overrides:
        changed = _put(changed, o.path, o.value)
    return changed


def check(
    model: type[Model], data: Any, overrides: Sequence[Override], document: Document, known: Sequence[Key] = ()
) -> Model:
    """`data`, overrides included, as a strict model. Raises InputError at the place of the first fault.

    `known` are paths that exist beside the model's own, for the nearest spelling.
    """
    try:
        # As JSON: strict about types, yet a list may be a tuple, as in a file there is no other way to write one.
        checked = model.model_validate_json(json.dumps(data, default=repr), strict=True, extra="forbid")
    except ValidationError as e:
        raise _explain(e, data, overrides, document, [*known_paths(model, data), *known]) from None
    for o in overrides:
        if o.value != {} and _existing(data, o.path) != o.path:
            raise InputError(o.key_at, f"a field inside of {dotted(_existing(data, o.path))}, which is none", "a field")
    return checked


def known_paths(model: type[BaseModel], data: Any, prefix: Key = ()) -> Iterator[Key]:
    """The path of every field of a config model, the options of the plug-ins that `data` names included."""
    for name, field in model.model_fields.items():
        path, inner = (*prefix, name), data.get(name) if isinstance(data, dict) else None
        yield path
        for part in _parts([field.annotation, *field.metadata]):
            if isinstance(part, Room):
                use = inner.get("use") if isinstance(inner, dict) else None
                yield from ((*path, option) for option in ("use", *option_names(part.name, use)))
            elif isinstance(part, type) and issubclass(part, BaseModel) and part is not Plugin:
                yield from known_paths(part, inner, path)


def _flatten(prefix: Key, value: Any, path: Key, source: Document | str) -> Iterator[Override]:
    """Leaves of `value`; `prefix` is the field they change, `path` where they stand in the document."""
    for key, inner in value.items():
        here = (*path, key)
        if isinstance(source, Document):
            key_at, value_at = source.at(here, key=True), source.at(here)
        else:
            key_at = value_at = f"{source}.{dotted(here)}"
        field = (*prefix, *_split(key, key_at))
        if isinstance(inner, dict) and inner:
            yield from _flatten(field, inner, here, source)
        else:
            yield Override(field, inner, key_at, value_at)


def _split(name: str, where: str) -> Key:
    path = tuple(name.split("."))
    if not all(path):
        raise InputError(where, repr(name), "a dotted path such as outer.width")
    return path


def _put(data: Any, path: Key, value: Any) -> Any:
    if not path:
        return data if value == {} and isinstance(data, dict) else value
    if data is None:
        data = {}
    if not isinstance(data, dict):  # stays, and is told as what it is; see `check`
        return data
    return {**data, path[0]: _put(data.get(str(path[0])), path[1:], value)}


def _parts(annotations: Iterable[Any]) -> Iterator[Any]:
    for a in annotations:
        yield a
        yield from _parts(typing.get_args(a))


@dataclass
class _Fault:
    path: Key
    where: str
    got: str
    expected: list[str]
    do: str
    order: tuple[int, int]


def _explain(
    error: ValidationError, data: Any, overrides: Sequence[Override], document: Document, known: Sequence[Key]
) -> InputError:
    """The first fault by its place in the file, on one line, with the number of the others."""
    faults: dict[Key, _Fault] = {}
    for e in error.errors(include_url=False):
        kind, context = e["type"], e.get("ctx", {})
        path = _existing(data, e["loc"])
        got, do = shown(e["input"]), ""
        expected = _EXPECTED.get(kind) or _PREFIX.sub("", " ".join(e["msg"].split()))
        if kind == "missing":
            path = e["loc"]
            got, expected = "nothing", f"a value for {path[-1]}"
        elif kind == "extra_forbidden":
            siblings = list(dict.fromkeys(str(k[-1]) for k in known if k[:-1] == path[:-1]))
            got, do = f"an unknown key '{path[-1]}'", _meant(path, siblings, known)
            expected = f"one of {', '.join(siblings)}" if siblings else "no key here"
        elif kind == "too_short":
            expected = f"{context['min_length']} or more entries"
        elif kind in ("value_error", "assertion_error") and isinstance(e["input"], dict):
            got = "fields that do not fit together"
        elif kind == "string_pattern_mismatch":
            expected = f"text of the form {context['pattern']}"
        elif kind == "plugin":
            got, expected, do = context["got"], context["expected"], context["do"]
        elif kind == "literal_error" and isinstance(e["input"], str):
            words = context["expected"].replace(" or ", ", ").split(", ")
            do = nearest(e["input"], [word.strip("'") for word in words])
        if path in faults:  # the branches of a union
            faults[path].expected.append(expected)
            continue
        where, order = place(path, overrides, document, kind)
        faults[path] = _Fault(path, where, got, [expected], do, order)
    # A misspelt key comes first: that the right one is missing follows from it.
    first, *others = sorted(faults.values(), key=lambda f: (not f.got.startswith("an unknown key"), f.order))
    do = " ".join(part for part in (first.do, f"(and {len(others)} more)" if others else "") if part)
    return InputError(first.where, first.got, " or ".join(first.expected), do)


def _existing(data: Any, loc: Key) -> Key:
    """The part of pydantic's path that exists in the data: it adds the names of a union's branches."""
    for i, part in enumerate(loc):
        inside = isinstance(data, dict) and part in data
        if not inside and not (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            return loc[:i]
        data = data[part]  # type: ignore[index]
    return loc


def place(
    path: Key, overrides: Sequence[Override], document: Document, kind: str = ""
) -> tuple[str, tuple[int, int]]:
    """Where what stands at `path` was written, and its line and column for sorting; `kind` is pydantic's error."""
    unknown, written = kind == "extra_forbidden", path in document.values
    for o in reversed(overrides):
        if path and o.covers(path):
            rest = dotted(path[len(o.path) :])
            return (o.key_at if unknown else o.value_at) + (f".{rest}" if rest else ""), (0, 0)
        above = o.path[: len(path)] == path and path  # the override made what stands there
        if (above and not written) or (kind == "missing" and o.path == (*path[:-1], "use")):
            return o.key_at, (0, 0)
    at = path if written or kind != "missing" else path[:-1]
    return document.at(path, key=unknown), document.values.get(at, (1, 1))


def _meant(path: Key, siblings: Sequence[str], known: Sequence[Key]) -> str:
    last = str(path[-1])
    if "." in last:
        head, _, rest = last.partition(".")
        return f"here, write {head}: {{{rest}: ...}}"
    elsewhere = [k for k in known if k[-1] == last]
    if elsewhere:
        return f"did you mean '{dotted(elsewhere[0])}'?"
    prefix = [dotted(path[:-1])] if path[:-1] else []
    return nearest(".".join([*prefix, last]), [".".join([*prefix, s]) for s in siblings]) or nearest(
        dotted(path), [dotted(k) for k in known]
    )
