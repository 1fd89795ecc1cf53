"""Plug-ins: options checked against the signature, objects against the protocol, modules as they are now."""

from __future__ import annotations

import importlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ValidationError

from reuse_sim.errors import InputError
from reuse_sim.modules import import_user_module, project_path
from reuse_sim.plugins import ROOMS, STRICT, Plugin, built_ins, missing_members, option_names, plugin

TOY = Path(__file__).parent / "toy"


class Config(BaseModel):
    model_config = STRICT
    world: Annotated[Plugin, plugin("worlds")]


class Bare(BaseModel):
    """The type of a field may also be the marker itself."""

    human: plugin("humans")  # type: ignore[valid-type]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(TOY, tmp_path, dirs_exist_ok=True)
    with project_path(tmp_path):
        yield tmp_path


def read(**data: Any) -> Plugin:
    return Config.model_validate_json(json.dumps({"world": data})).world


def line(**options: Any) -> Plugin:
    return read(use="my_lab.parts:line", **options)


def fault(**data: Any) -> tuple[tuple[str | int, ...], str]:
    """Path and message of the one error that reading these data gives."""
    with pytest.raises(ValidationError) as caught:
        read(**data)
    (error,) = caught.value.errors()
    return error["loc"], error["msg"]


def test_options_come_back_complete_with_defaults_and_as_plain_values(project):
    options = {"width": 3, "tolerance": 1.0, "kind": "own", "copy": False, "strengths": [0.0, 1.0]}
    assert line(width=3).options == options
    assert isinstance(line().options["tolerance"], float)  # so that 1 and 1.0 are the same plug-in
    assert line() == line(width=24, tolerance=1, strengths=[0, 1])


def test_building_gives_the_function_what_its_annotations_say(project):
    built = line(width=5, strengths=[1, 2.5]).build()
    assert (built.width, built.tolerance, built.strengths) == (5, 1.0, (1.0, 2.5))


def test_a_plugin_is_plain_data_that_names_its_source(project):
    chosen = line()
    dumped = chosen.model_dump(mode="json")
    assert dumped == {"use": "my_lab.parts:line", **chosen.options, "source_sha256": chosen.source_sha256}
    assert len(str(chosen.source_sha256)) == 64
    assert str(project) not in json.dumps(dumped)
    assert pickle.loads(pickle.dumps(chosen)) == chosen


def test_the_marker_alone_is_a_type_too(project):
    human = Bare.model_validate({"human": {"use": "my_lab.parts:learner", "width": 2}}).human
    assert human.build().width == 2
    assert Bare(human=human).human is human


@pytest.mark.parametrize(("option", "value"), [
    ("width", "24"), ("width", True), ("width", 24.0), ("width", 0), ("width", -1), ("width", 4097), ("width", None),
    ("tolerance", "1"), ("tolerance", False), ("kind", "own "), ("copy", 1), ("strengths", 1), ("widht", 1),
    ("room", "humans"), ("options", {}), ("source_sha256", "x"), ("option_width", 1),
])
def test_an_option_of_the_wrong_kind_is_refused_at_its_place(project, option, value):
    assert fault(use="my_lab.parts:line", **{option: value})[0] == ("world", option)


@pytest.mark.parametrize(("use", "message"), [
    ("my_lab.prats:line", "no module my_lab.prats"),
    ("no_lab.parts:line", "no module no_lab"),
    ("my_lab.parts:lime", "without a function lime; expected def lime(...) in it. did you mean 'line'?"),
    ("my_lab.parts:constant", "without a function constant"),
    ("my_lab.parts:Line", "without a function Line"),
    ("my_lab.parts:", "a dotted path such as my_pkg.my_part:build"),
    (":build", "a dotted path"), ("../my_lab:build", "a dotted path"), ("my_lab..parts:build", "a dotted path"),
    ("my_lab.parts", "for your own, write my_lab.parts:build"),
    ("radios", "did you mean 'radius'?"), ("", "expected one of"),
    ("my_lab.parts:loose", "'*widths: 'int'' in its signature; expected options named one by one"),
    ("my_lab.parts:bare", "option without annotation 'width'"),
    ("my_lab.parts:taken", "reserved name 'use'"),
    ("my_lab.parts:unknown", "NoSuchType"),
    ("my_lab.parts:unchecked", "an annotation that cannot be checked"),
])
def test_a_name_that_leads_nowhere_says_why(project, use, message):
    loc, text = fault(use=use)
    assert loc == ("world", "use")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize("data", [3, "radius", None, [], {}, {"width": 3}, {"use": 3}, {"use": None}])
def test_what_is_no_plugin_is_refused_with_the_known_names(project, data):
    with pytest.raises(ValidationError, match="radius, .*or your own"):
        Config.model_validate_json(json.dumps({"world": data}))


def test_a_default_that_breaks_its_own_rule_is_found(project):
    loc, text = fault(use="my_lab.parts:endless")
    assert loc == ("world", "use")
    assert "the default width=inf (Input should be a finite number)" in text


@pytest.mark.parametrize(("source", "message"), [
    ("def build(:", "SyntaxError"), ("1 / 0", "ZeroDivisionError: division by zero while importing broken"),
    ("import no_such_thing", "no_such_thing"), ("raise SystemExit(3)", "SystemExit: 3"),
    ("raise RuntimeError('two\\nlines')", "two lines"),
])
def test_a_module_that_does_not_import_says_why_on_one_line(project, source, message):
    (project / "broken.py").write_text(source)
    loc, text = fault(use="broken:build")
    assert loc == ("world", "use")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(("use", "message"), [
    ("line", "RuntimeError: no world is 13 wide, as everyone knows in its line(); expected options that it can be"),
    ("unfinished", "type object without answer, d, human_answer, human_net, kind, off_distribution, on_distribution, "
                   "shifts, teacher, tolerance; expected an object following reuse_sim.types.World"),
    ("forgotten", "the class Line itself"),
])
def test_what_cannot_be_built_is_one_line(project, use, message):
    chosen = read(use=f"my_lab.parts:{use}", **({"width": 13} if use == "line" else {}))
    with pytest.raises(InputError) as caught:
        chosen.build()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"my_lab.parts:{use} (worlds): ")


def test_a_method_that_cannot_be_called_is_missing(project):
    assert missing_members("humans", import_user_module("my_lab.parts").shadowed()) == ["train"]


def test_an_edited_module_is_imported_anew_and_its_old_plugin_is_not_built(project):
    file = project / "fresh.py"
    source = "from my_lab.parts import Line\ndef build(w: int = {}):\n  return Line(w, 1, ())\n"
    file.write_text(source.format(1))
    old = read(use="fresh:build")
    file.write_text(source.format(2))  # same size, same second: a cached .pyc would hide it
    new = read(use="fresh:build")
    assert (old.options, new.options) == ({"w": 1}, {"w": 2})
    assert old.source_sha256 != new.source_sha256
    assert new.build().width == 2
    with pytest.raises(InputError, match="another source than when the scenario was read"):
        old.build()


def test_the_hash_of_a_package_covers_what_its_parts_import(project):
    before = line().source_sha256
    (project / "my_lab" / "helper.py").write_text("x = 1\n")
    assert line().source_sha256 != before


def test_two_projects_may_use_the_same_name(tmp_path):
    built = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.py").write_text(f"def build(of: str = {name!r}): ...\n")
        with project_path(tmp_path / name):
            built.append(read(use="same:build").options["of"])
    assert built == ["one", "two"]


@pytest.mark.parametrize("name", ["json", "sys", "netrc"])  # imported, built in, and not imported so far
def test_a_module_named_like_one_of_pythons_is_refused_and_stands_in_for_none(project, name):
    (project / f"{name}.py").write_text("def build(): ...\n")
    assert f"a module that Python has from elsewhere ({name} in " in fault(use=f"{name}:build")[1]
    assert not hasattr(importlib.import_module(name), "build")


def test_the_project_leaves_no_trace_on_the_path(tmp_path):
    before = list(sys.path), sys.dont_write_bytecode
    with pytest.raises(ZeroDivisionError), project_path(tmp_path):
        assert sys.path[-1] == str(tmp_path)
        raise ZeroDivisionError
    assert (sys.path, sys.dont_write_bytecode) == before


def test_outside_of_its_project_a_plugin_still_builds(tmp_path):
    shutil.copytree(TOY, tmp_path, dirs_exist_ok=True)
    with project_path(tmp_path):
        chosen = line()
    assert chosen.build().width == 24


@pytest.mark.parametrize(("room", "name"), [(room, name) for room in ROOMS for name in built_ins(room)])
def test_every_built_in_is_a_member_of_its_room(room, name):
    class One(BaseModel):
        part: Annotated[Plugin, plugin(room)]

    chosen = One.model_validate({"part": {"use": name}}).part
    assert sorted(chosen.options) == sorted(option_names(room, name))
    assert chosen.source_sha256 is None  # the package's own source is hashed as a whole
    assert missing_members(room, chosen.build()) == []


def test_every_room_has_members_and_no_other_room_is_known():
    assert all(built_ins(room) for room in ROOMS)
    with pytest.raises(ValueError, match="no room 'world'"):
        plugin("world")


def test_the_schema_offers_each_built_in_with_its_options():
    alternatives = {a["title"]: a for a in Config.model_json_schema()["properties"]["world"]["oneOf"]}
    assert sorted(alternatives) == sorted([*built_ins("worlds"), "your own"])
    radius = alternatives["radius"]
    assert radius["properties"]["use"] == {"const": "radius"}
    assert sorted(radius["properties"]) == sorted(["use", *option_names("worlds", "radius")])
    assert radius["additionalProperties"] is False


def test_reading_scenarios_does_not_import_torch():
    code = "import sys, reuse_sim.scenario; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=TOY.parents[1]).returncode == 0
