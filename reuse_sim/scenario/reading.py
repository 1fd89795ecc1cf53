"""YAML 1.2 as plain values, with the line and column of each: nothing is executed, nothing guessed.

Plain scalars follow the core schema of YAML 1.2.2 (chapter 10.3.2): `no` and `on` are text, `1e-3` is a
number. Beyond YAML, so that a file means what it seems to: no tabs, no tags, no duplicate keys, keys are
text, numbers are finite, one document, and limits on size, depth and number of nodes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml import events as ev
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from reuse_sim.errors import InputError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 10_000
MAX_DIGITS = 100

Key = tuple[str | int, ...]
Mark = tuple[int, int]

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {**dict.fromkeys(("true", "True", "TRUE"), True), **dict.fromkeys(("false", "False", "FALSE"), False)}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Document:
    """A file's plain values, and where each was written: of a mapping's member, its key and its value.

    `values` and `keys` map a path such as `("sweep", "leak.bits", 0)` to line and column, from 1.
    """

    name: str
    data: Any
    values: Mapping[Key, Mark] = field(repr=False)
    keys: Mapping[Key, Mark] = field(repr=False)

    def at(self, path: Key, *, key: bool = False) -> str:
        """`file:line:column: dotted.path` of what stands there, or of the nearest above it that exists."""
        marks, found = (self.keys if key else self.values), path
        while found and found not in marks:
            found = found[:-1]
        line, column = marks.get(found, (1, 1))
        return f"{self.name}:{line}:{column}" + (f": {dotted(path)}" if path else "")


def dotted(path: Key) -> str:
    """`("outer", "width")` as `outer.width`."""
    return ".".join(map(str, path))


def read(path: Path | str) -> Document:
    """Read a file whose top level is a mapping. Raises InputError with the place of the first fault."""
    name = str(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as e:
        raise InputError(name, e.strerror or type(e).__name__, "a file that can be read") from e
    except ValueError as e:  # a NUL in the name
        raise InputError(repr(name), str(e), "the name of a file") from e
    if len(content) > MAX_BYTES:
        raise InputError(name, f"a file above {MAX_BYTES:,} bytes", f"at most {MAX_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        got = f"byte {content[e.start]:#04x}, which is not UTF-8"
        raise InputError(f"{name}:{line}", got, "a text file in UTF-8") from e
    document = parse(text, name)
    if not isinstance(document.data, dict):
        got = "an empty file" if document.data is None else shown(document.data)
        raise InputError(document.at(()), got, "a mapping of keys to values, such as `experiment: reuse`")
    return document


def parse(text: str, name: str, *, positions: bool = True) -> Document:
    """Plain values of one YAML text; errors name `name`, and line and column unless `positions` is False."""
    builder = _Builder(name if positions else "", "" if positions else name)
    top = builder.build(text)
    values, keys = {}, {}

    def expand(node: _Node, path: Key) -> Any:
        values[path] = node.mark
        if isinstance(node.value, dict):
            for k, (mark, _) in node.value.items():
                keys[*path, k] = mark
            return {k: expand(member, (*path, k)) for k, (_, member) in node.value.items()}
        if isinstance(node.value, list):
            return [expand(member, (*path, i)) for i, member in enumerate(node.value)]
        return node.value

    return Document(name, expand(top, ()), values, keys)


def shown(value: Any) -> str:
    """A value as in the file, on one line and not too long."""
    import json

    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True)
class _Node:
    """A value with its place; `size` and `height` count what lies in it, aliases expanded."""

    value: Any
    mark: Mark
    size: int = 1
    height: int = 1


class _Builder:
    """Builds nodes from the parser's events, and refuses before a limit is passed, not after."""

    def __init__(self, file: str, where: str) -> None:
        self.file, self.where = file, where
        self.anchors: dict[str, _Node] = {}
        self.count = 0

    def refuse(self, mark: Mark, path: Key, got: str, expected: str, do: str = "") -> NoReturn:
        at = f"{self.file}:{mark[0]}:{mark[1]}" if self.file else self.where
        raise InputError(f"{at}: {dotted(path)}" if path and self.file else at, got, expected, do)

    def build(self, text: str) -> _Node:
        if "\t" in text:
            place = text.index("\t")
            self.refuse(_mark(text, place), (), "a tab", "spaces", 'inside quotes, write "\\t"')
        top, documents, events = _Node(None, (1, 1)), 0, self.events(text)
        for event in events:
            if isinstance(event, ev.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.refuse(_place(event), (), "a second document", "one document in a file")
                if event.version and tuple(event.version) != (1, 2):
                    self.refuse((1, 1), (), f"%YAML {'.'.join(map(str, event.version))}", "%YAML 1.2 or none")
                top = self.node(next(events), events, ())
        return top

    def events(self, text: str) -> Iterator[Any]:
        last = (1, 1)
        try:
            for event in YAML(typ="safe", pure=True).parse(text):
                last = _place(event)
                yield event
        except ReaderError as e:
            mark = _mark(text, e.position if isinstance(e.position, int) else 0)
            got = f"the character {e.character:#04x}" if isinstance(e.character, int) else str(e.reason)
            self.refuse(mark, (), got, "a text file")
        except MarkedYAMLError as e:
            mark = e.problem_mark or e.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else last
            self.refuse(place, (), f"no YAML ({' '.join(str(e.problem or e.context).split())})", "YAML 1.2")
        except Exception as e:  # the reader's own slips on malformed text, such as an escape beyond Unicode
            self.refuse(last, (), f"no YAML ({type(e).__name__}: {e} after this place)", "YAML 1.2")

    def node(self, event: Any, events: Iterator[Any], path: Key) -> _Node:
        mark = _place(event)
        if getattr(event, "tag", None):
            self.refuse(mark, path, f"the tag {event.tag}", "values without tags")
        if isinstance(event, ev.AliasEvent):
            known = self.anchors.get(event.anchor)
            if known is None:
                self.refuse(mark, path, f"*{event.anchor}", "an anchor defined before, and outside of itself")
            node = _Node(known.value, mark, known.size, known.height)
        elif isinstance(event, ev.ScalarEvent):
            node = _Node(self.scalar(event, path), mark)
        else:
            node = self.collection(event, events, path)
        if len(path) + node.height > MAX_DEPTH:
            self.refuse(mark, (), f"a depth above {MAX_DEPTH}", f"at most {MAX_DEPTH} levels")
        if not isinstance(node.value, (dict, list)) or isinstance(event, ev.AliasEvent):
            self.add(node.size, mark)
        if event.anchor and not isinstance(event, ev.AliasEvent):
            self.anchors[event.anchor] = node
        return node

    def collection(self, event: Any, events: Iterator[Any], path: Key) -> _Node:
        mark = _place(event)
        self.add(1, mark)
        if len(path) >= MAX_DEPTH:
            self.refuse(mark, (), f"a depth above {MAX_DEPTH}", f"at most {MAX_DEPTH} levels")
        mapping: dict[str, tuple[Mark, _Node]] = {}
        members: list[_Node] = []
        while not isinstance(item := next(events), (ev.MappingEndEvent, ev.SequenceEndEvent)):
            if isinstance(event, ev.MappingStartEvent):
                key = self.key(item, path)
                if key in mapping:
                    line = mapping[key][0][0]
                    do = f"it stands in line {line} already"
                    self.refuse(_place(item), (*path, key), f"a duplicate key {key!r}", "each key once", do)
                member = self.node(next(events), events, (*path, key))
                if member.value is None and member.mark[0] > _place(item)[0]:  # nothing written: at the next token
                    member = replace(member, mark=_place(item))
                mapping[key] = (_place(item), member)
            else:
                member = self.node(item, events, (*path, len(members)))
            members.append(member)
        value = mapping if isinstance(event, ev.MappingStartEvent) else members
        size, height = sum(m.size for m in members), max((m.height for m in members), default=0)
        return _Node(value, mark, 1 + size, 1 + height)

    def key(self, event: Any, path: Key) -> str:
        if isinstance(event, ev.ScalarEvent) and not event.tag and not event.anchor:
            if event.value == "<<" and event.style is None:
                self.refuse(_place(event), path, "a merge key <<", "YAML 1.2, which has none")
            value = self.scalar(event, path)
            if isinstance(value, str):
                return value
            self.refuse(_place(event), path, f"the key {event.value or 'null'}", "text as a key", "put it in quotes")
        self.refuse(_place(event), path, "a key that is not plain text", "text as a key")

    def add(self, nodes: int, mark: Mark) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            self.refuse(mark, (), f"more than {MAX_NODES:,} nodes, aliases expanded", f"at most {MAX_NODES:,}")

    def scalar(self, event: Any, path: Key) -> Any:
        text = event.value
        if any("\ud800" <= c <= "\udfff" for c in text):
            self.refuse(_place(event), path, "half of a surrogate pair", "whole characters")
        if event.style is not None:
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        number: float | None = None
        if len(text) > MAX_DIGITS and (_INT.fullmatch(text) or _FLOAT.fullmatch(text)):
            self.refuse(_place(event), path, f"a number of {len(text)} characters", f"at most {MAX_DIGITS}")
        if _INT.fullmatch(text):
            return int(text, 10 if text.lstrip("+-").isdigit() else 0)
        if _FLOAT.fullmatch(text):
            number = float(text)
        if _NOT_FINITE.fullmatch(text) or (number is not None and not math.isfinite(number)):
            self.refuse(_place(event), path, text, "a finite number")
        return text if number is None else number


def _place(event: Any) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _mark(text: str, position: int) -> Mark:
    """Line and column, from 1, of a position in the text."""
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
