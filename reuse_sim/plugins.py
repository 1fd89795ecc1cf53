"""Parts named in a scenario: a built-in (`use: radius`) or a user's own (`use: my_pkg.my_world:build`).

A plug-in is a function `build(**options)` whose annotated signature says which options it takes:

    def build(width: Annotated[int, Field(gt=0, le=4096)] = 24) -> World: ...

Options are checked strictly against it, and what it returns against the room's protocol in `types.py`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil
import typing
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    create_model,
    model_serializer,
)
from pydantic_core import PydanticCustomError, core_schema

from reuse_sim.errors import InputError, nearest
from reuse_sim.modules import current_project, import_user_module, module_sha256, one_line, project_path, same_source

ROOMS = {"worlds": "World", "humans": "Human", "leaks": "LeakChannel", "outers": "Outer"}
"""Each room of plug-ins and the protocol of `reuse_sim.types` its members follow."""

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)
"""How every config model reads its fields: nothing is converted, nothing unknown passes, numbers are finite."""

_RESERVED = {"use", "source_sha256"}


class Plugin(BaseModel):
    """A plug-in with its options checked and complete; plain values, so that it can be hashed and sent.

    `source_sha256` is the hash of a user's module (of the whole package, if it lies in one), None for a
    built-in. `project` is the folder it was found in and no part of the dump.
    """

    model_config = ConfigDict(frozen=True)
    room: str = Field(exclude=True)
    use: str
    options: dict[str, Any]
    source_sha256: str | None = None
    project: Path | None = Field(default=None, exclude=True)

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        source = {"source_sha256": self.source_sha256} if self.source_sha256 else {}
        return {"use": self.use, **self.options, **source}

    def build(self) -> Any:
        """The object itself, checked against the room's protocol. Raises InputError naming what is wrong."""
        where = f"{self.use} ({self.room})"
        with project_path(self.project):
            function = _function(self.room, self.use)
            same_source(_module_of(self.use, function), self.source_sha256)
            # From JSON, as when first read: a list is a tuple again where the signature says so.
            options = options_model(function).model_validate_json(json.dumps(self.options))
            values = {f.alias or name: getattr(options, name) for name, f in type(options).model_fields.items()}
            try:
                built = function(**values)
            except InputError:
                raise
            except Exception as e:
                got = f"{one_line(e)} in its {function.__name__}()"
                raise InputError(where, got, "options that it can be built with") from e
        lacking = missing_members(self.room, built)
        if lacking:
            got = f"{_described(built)} without {', '.join(lacking)}"
            raise InputError(where, got, f"an object following reuse_sim.types.{ROOMS[self.room]}")
        return built


@dataclass(frozen=True)
class Room:
    """Tells pydantic that a field holds a plug-in of this room; made by `plugin`."""

    name: str

    def read(self, data: Any) -> Plugin:
        if isinstance(data, Plugin):
            return data
        if not isinstance(data, dict):
            raise _invalid((), data, f"a mapping such as {{use: NAME}} with one of {_listed(self.name)}")
        if not isinstance(data.get("use"), str):
            loc, got = (("use",), data["use"]) if "use" in data else ((), data)
            raise _invalid(loc, got, f"'use' to name one of {_listed(self.name)}")
        try:
            function = _function(self.name, data["use"])
            model = options_model(function)
        except InputError as e:
            raise _invalid(("use",), data["use"], e.expected, e.do, e.got) from e
        try:
            options = model.model_validate_json(json.dumps({k: v for k, v in data.items() if k != "use"}))
        except ValidationError as e:
            for error in e.errors():  # a default's error bears the field's name, all others the option's
                if error["type"] != "extra_forbidden" and error["loc"][0] in model.model_fields:
                    name = str(error["loc"][0]).removeprefix("option_")
                    got = f"the default {name}={error['input']} ({error['msg']})"
                    raise _invalid(("use",), data["use"], "defaults that keep to their annotations", got=got) from e
            raise
        return Plugin(
            room=self.name,
            use=data["use"],
            options=options.model_dump(mode="json", by_alias=True),
            source_sha256=module_sha256(_module_of(data["use"], function)),
            project=current_project(),
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        members = []
        for name in built_ins(self.name):
            options = options_model(_function(self.name, name)).__pydantic_core_schema__
            member = dict(handler.resolve_ref_schema(handler(options)))
            member["title"] = name
            member["properties"] = {"use": {"const": name}, **member.get("properties", {})}
            member["required"] = ["use", *member.get("required", [])]
            members.append(member)
        own = {"use": {"type": "string", "pattern": r"^[\w.]+:\w+$"}}
        members.append({"title": "your own", "type": "object", "properties": own, "required": ["use"]})
        return {"oneOf": members}


def plugin(room: str) -> Any:
    """The type of a config field that holds a plug-in of `room`: `world: Annotated[Plugin, plugin("worlds")]`."""
    if room not in ROOMS:
        raise ValueError(f"no room '{room}'; there are {', '.join(ROOMS)}")
    return Room(room)


@functools.cache
def built_ins(room: str) -> tuple[str, ...]:
    """Names of the members of `reuse_sim.<room>`, without importing them; empty where there is no such room.

    A member has a function `build`, an experiment a function `cell`; other modules there are its helpers.
    """
    path, mark = Path(__file__).parent / room, "\ndef cell(" if room == "experiments" else "\ndef build("
    names = [m.name for m in pkgutil.iter_modules([str(path)])]
    sources = {n: path / f"{n}.py" for n in sorted(names)}
    return tuple(n for n, file in sources.items() if file.is_file() and mark in file.read_text("utf-8"))


def option_names(room: str, use: Any) -> list[str]:
    """The options that a plug-in takes; empty where it cannot be loaded."""
    try:
        return [f.alias or name for name, f in options_model(_function(room, use)).model_fields.items()]
    except (InputError, TypeError):
        return []


@functools.cache
def options_model(build: FunctionType) -> type[BaseModel]:
    """The strict pydantic model of a build function's options. Raises InputError where its signature has none."""
    where, fields = f"{build.__module__}:{build.__name__}", {}
    try:
        parameters = inspect.signature(build).parameters.values()
        own = {k: v for k, v in build.__annotations__.items() if k != "return"}  # may exist for type checkers only
        hints = typing.get_type_hints(SimpleNamespace(__annotations__=own), build.__globals__, include_extras=True)
    except Exception as e:
        raise InputError(where, f"a signature that cannot be read ({one_line(e)})", "annotated options") from e
    for p in parameters:
        if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            raise InputError(where, f"'{p}' in its signature", "options named one by one")
        if p.name not in hints or p.name in _RESERVED:
            kind = "reserved name" if p.name in _RESERVED else "option without annotation"
            raise InputError(where, f"{kind} '{p.name}' in its signature", "annotated options with names of their own")
        default = ... if p.default is p.empty else p.default
        # An alias, since an option may be called what pydantic keeps for itself ("copy", "_x").
        fields[f"option_{p.name}"] = (hints[p.name], Field(default, alias=p.name))
    try:
        return create_model("Options", __config__=STRICT, **fields)
    except Exception as e:
        got = f"an annotation that cannot be checked ({one_line(e)})"
        raise InputError(where, got, "annotations of plain values") from e


def missing_members(room: str, built: Any) -> list[str]:
    """Members of the room's protocol that an object lacks, methods that cannot be called included."""
    protocol = getattr(importlib.import_module("reuse_sim.types"), ROOMS[room])
    methods = {name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")}
    members = sorted(methods | {name for name, value in vars(protocol).items() if isinstance(value, property)})
    if isinstance(built, type):  # a class has the methods of its objects, but is none of them
        return members
    return [m for m in members if not hasattr(built, m) or (m in methods and not callable(getattr(built, m)))]


def _function(room: str, use: str) -> FunctionType:
    """The build function that `use` names. Raises InputError, its `where` the name."""
    if ":" not in use:
        if use not in built_ins(room):
            do = f"for your own, write {use}:build" if "." in use else nearest(use, built_ins(room))
            raise InputError(use, repr(use), f"one of {_listed(room)}", do)
        module, attribute = importlib.import_module(f"reuse_sim.{room}.{use}"), "build"
    else:
        name, _, attribute = use.partition(":")
        if not attribute.isidentifier() or not all(part.isidentifier() for part in name.split(".")):
            raise InputError(use, repr(use), "a dotted path such as my_pkg.my_part:build")
        module = import_user_module(name)
    function = getattr(module, attribute, None)
    if not inspect.isfunction(function):
        has = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
        got = f"module {module.__name__} ({module.__file__}) without a function {attribute}"
        raise InputError(use, got, f"def {attribute}(...) in it", nearest(attribute, has))
    return function


def _module_of(use: str, function: FunctionType) -> str:
    return use.partition(":")[0] if ":" in use else function.__module__


def _listed(room: str) -> str:
    return ", ".join([*built_ins(room), "or your own my_pkg.my_part:build"])


def _invalid(loc: tuple[str, ...], value: Any, expected: str, do: str = "", got: str = "") -> ValidationError:
    """A pydantic error at a place inside the field."""
    context = {"got": got or json.dumps(value, default=str), "expected": expected, "do": do}
    error = PydanticCustomError("plugin", "got {got}; expected {expected}" + (". {do}" if do else ""), context)
    return ValidationError.from_exception_data("plug-in", [{"type": error, "loc": loc, "input": value}])


def _described(built: Any) -> str:
    if isinstance(built, type):
        return f"the class {built.__name__} itself"
    return f"an object of type {type(built).__name__}"
