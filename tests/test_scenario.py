"""Scenario files: what a file becomes, what overrides do to it, and what its hash stands for."""

from __future__ import annotations

import itertools
import json
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from reuse_sim.errors import InputError
from reuse_sim.plugins import built_ins
from reuse_sim.record import Band
from reuse_sim.scenario import Scenario, find_project, load, schema
from reuse_sim.scenario.claims import thresholds

TOY = Path(__file__).parent / "toy"
TEXT = (TOY / "toy.yaml").read_text()

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the toy scenario, with replacements, into a project of its own."""
    shutil.copytree(TOY, tmp_path, dirs_exist_ok=True)

    def written(*replacements: tuple[str, str], name: str = "toy.yaml") -> Path:
        text = TEXT
        for old, new in replacements:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return written


@pytest.fixture
def toy(write: Write) -> Scenario:
    return load(write())


def test_a_file_becomes_points_times_seeds_with_every_arm(toy, tmp_path):
    assert (toy.name, toy.title, toy.question) == ("toy", "A toy", "Does it load?")
    assert (toy.project, toy.path) == (tmp_path, tmp_path / "toy.yaml")
    assert toy.seeds == (5, 6, 7)
    assert toy.axes == {"rate": [0.5, 1.0], "size.width": [2, 4]}
    assert toy.arms == ("none", "wide", "all")
    expected = [{"rate": r, "size.width": w} for r, w in itertools.product([0.5, 1.0], [2, 4])]
    assert list(toy.points()) == expected
    assert [(c.params, c.seed) for c in toy.cells()] == [(p, s) for p in expected for s in (5, 6, 7)]


def test_arms_lie_over_the_sweep_point_and_that_over_the_file(toy):
    cell = toy.cells()[-1]
    worlds = {name: config.world.options for name, config in cell.arms.items()}
    assert {name: (w["width"], w["kind"]) for name, w in worlds.items()} == {
        "none": (1, "own"), "wide": (32, "other"), "all": (8, "own")}
    assert {config.size.width for config in cell.arms.values()} == {4}
    assert {config.size.depth for config in cell.arms.values()} == {2.0}
    assert cell.arms["all"].world.build().width == 8


def test_claims_carry_the_swept_values_as_validated(toy):
    (claim,) = toy.expect
    assert (claim.id, claim.claim, claim.metric, claim.arm, claim.minus) == ("grows", "5", "toy/size", "all", "none")
    assert claim.where == {"rate": 1.0, "size.width": 4}
    assert isinstance(claim.where["rate"], float)
    assert (claim.supported, claim.refuted) == (Band(low=0.3), Band(high=0.1))
    assert toy.left_out == ()


def test_the_module_is_the_experiments(toy):
    assert toy.module.METHOD.startswith("Nothing is done")
    assert [m.name for m in toy.module.METRICS] == ["toy/size", "toy/share"]


def test_the_module_is_refused_once_its_source_has_changed(toy, tmp_path):
    with (tmp_path / "my_lab" / "toy.py").open("a") as file:
        file.write("\nMETHOD = 'Another one.'\n")
    with pytest.raises(InputError, match="another source than when the scenario was read"):
        _ = toy.module


def test_a_scenario_is_plain_data_and_can_be_sent(toy):
    assert pickle.loads(pickle.dumps(toy)) == toy
    assert json.loads(json.dumps(toy.resolved, allow_nan=False)) == toy.resolved
    assert str(toy.project) not in json.dumps(toy.resolved)


def test_without_sweep_and_arms_there_is_one_point_and_one_arm(write):
    path = write(name="small.yaml")
    path.write_text("experiment: my_lab.toy\nseeds: 1\nworld: {use: 'my_lab.parts:line'}\n"
                    "human: {use: 'my_lab.parts:learner', width: 2}\n")
    small = load(path)
    assert (small.points(), small.arms, small.axes, small.seeds) == (({},), ("main",), {}, (0,))
    assert (small.title, small.question, small.expect) == ("small", "", ())


def test_an_experiment_may_be_a_single_file_beside_the_scenario(write, tmp_path):
    shutil.copy(tmp_path / "my_lab" / "toy.py", tmp_path / "alone.py")
    loaded = load(write(("experiment: my_lab.toy", "experiment: alone")))
    assert loaded.module.__name__ == "alone"
    assert len(loaded.resolved["experiment_sha256"]) == 64


def test_the_project_is_the_nearest_folder_with_a_pyproject(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_project(tmp_path / "a" / "b" / "x.yaml") == tmp_path / "a" / "b"
    (tmp_path / "pyproject.toml").touch()
    assert find_project(tmp_path / "a" / "b" / "x.yaml") == tmp_path
    (tmp_path / "a" / "pyproject.toml").touch()
    assert find_project(tmp_path / "a" / "b" / "x.yaml") == tmp_path / "a"


# The hash: the same for the same results, another where anything that decides them is another.


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same YAML value, the keys of every mapping in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {k: shuffled(v, rng) for k, v in items}
    return [shuffled(v, rng) for v in value] if isinstance(value, list) else value


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_keys_does_not_matter(seed, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "orders"
    shutil.copytree(TOY, folder, dirs_exist_ok=True)
    data = YAML(typ="safe", pure=True).load(TEXT)
    with (folder / "shuffled.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(shuffled(data, random.Random(seed)), file)
    assert load(folder / "shuffled.yaml").config_hash == load(folder / "toy.yaml").config_hash


@pytest.mark.parametrize("change", [
    ("title: A toy\n", ""), ("Does it load?", "Does it?"), ("It grows.", "It does grow."), ("claim: 5", "claim: x"),
    ("rate: 1e-1", "rate: 0.1"), ("rate: [0.5, 1]", "rate: [0.5, 1.0]"), ("{rate: 1, s", "{rate: 1.0, s"),
    ("{depth: 2}", "{depth: 2.0}"), ("width: 8", "width: 8, tolerance: 1, kind: own"), ("rate: 1e-1\n", ""),
    ("none: {world.width: 1}", "none: {world: {width: 0x1}}"), ("  use: my_lab.parts:learner", "  steps: 10\n  use: "
     "'my_lab.parts:learner'"), ("seeds: 3", "seeds: 3 # worlds"), (", human.steps: 2", ""),
])
def test_other_words_for_the_same_results_have_the_same_hash(write, toy, change):
    assert load(write(change)).config_hash == toy.config_hash


@pytest.mark.parametrize("change", [
    ("seeds: 3", "seeds: 4"), ("first_seed: 5", "first_seed: 6"), ("width: 8", "width: 9"), ("depth: 2", "depth: 2.5"),
    ("  rate: [0.5, 1]", "  rate: [0.5, 1, 1.5]"), ("low: 0.3", "low: 0.31"), ("world.width: 1", "world.width: 2"),
    ("\n    minus: none", ""), ("id: grows", "id: shrinks"),
])
def test_what_decides_the_results_or_the_verdicts_changes_the_hash(write, toy, change):
    assert load(write(change)).config_hash != toy.config_hash


def test_the_users_own_source_is_in_the_hash(write, toy, tmp_path):
    with (tmp_path / "my_lab" / "parts.py").open("a") as file:
        file.write("# changed\n")
    assert load(write()).config_hash != toy.config_hash


def test_overrides_that_change_nothing_leave_the_hash(write, toy):
    assert load(write(), ["size.depth=2", "human.width=24", "seeds=3"]).config_hash == toy.config_hash


# Overrides.


def test_set_changes_a_field_in_every_arm_that_leaves_it(write):
    changed = load(write(), ["world.width=5", "human={steps: 7}", "teachers=each", "names=[a, b]"]).cells()[0].arms
    assert {name: c.world.options["width"] for name, c in changed.items()} == {"none": 1, "wide": 32, "all": 5}
    assert [(c.human.options["steps"], c.teachers, c.names) for c in changed.values()] == [(7, "each", ("a", "b"))] * 3


def test_set_reads_values_as_yaml(write):
    assert load(write(), ["title=no"]).title == "no"
    assert load(write(), ["title='1'"]).title == "1"
    assert load(write(), ["title=a = b"]).title == "a = b"
    with pytest.raises(InputError, match="--set title: got 1; expected text"):
        load(write(), ["title=1"])


def test_set_pins_a_swept_field_and_keeps_the_claims_it_can_decide(write):
    pinned = load(write(), ["rate=1"])
    assert pinned.axes == {"rate": [1.0], "size.width": [2, 4]}
    assert ([e.id for e in pinned.expect], pinned.left_out) == (["grows"], ())
    elsewhere = load(write(), ["rate=0.7"])
    assert (elsewhere.axes["rate"], elsewhere.expect, elsewhere.left_out) == ([0.7], (), ("grows",))


def test_set_changes_the_sweep_and_claims_are_asked_at_every_point_of_it(write):
    wider = load(write(), ["sweep.human.width=[2, 3]"])
    assert list(wider.axes) == ["rate", "size.width", "human.width"]
    assert len(wider.points()) == 8
    assert ([e.id for e in wider.expect], wider.left_out) == (["grows-2", "grows-3"], ())
    assert [e.id for e in load(write(), ["sweep.human.width=[2]"]).expect] == ["grows"]


def test_a_claim_that_names_no_value_of_a_swept_field_is_asked_at_each(write):
    loaded = load(write(("{rate: 1, size.width: 4}", "{size.width: 4}")))
    assert [(e.id, e.over, e.where) for e in loaded.expect] == [
        ("grows-0.5", "grows", {"rate": 0.5, "size.width": 4}), ("grows-1", "grows", {"rate": 1.0, "size.width": 4})]
    everywhere = load(write(("    where: {rate: 1, size.width: 4}\n", "")))
    assert [e.id for e in everywhere.expect] == ["grows-0.5-2", "grows-0.5-4", "grows-1-2", "grows-1-4"]
    assert {e.over for e in everywhere.expect} == {"grows"}
    (pinned,) = load(write(("{rate: 1, size.width: 4}", "{size.width: 4}")), ["rate=0.5"]).expect
    assert (pinned.id, pinned.over, pinned.where) == ("grows", None, {"size.width": 4})


def test_a_slope_is_over_all_values_of_its_field_and_asked_at_each_of_the_others(write):
    sloped = write(("    where: {rate: 1, size.width: 4}\n", "    slope: rate\n"))
    found = load(sloped).expect
    assert [(e.id, e.slope, e.where) for e in found] == [
        ("grows-2", "rate", {"size.width": 2}), ("grows-4", "rate", {"size.width": 4})]
    pinned = load(sloped, ["rate=1"])
    assert (pinned.expect, pinned.left_out) == ((), ("grows",))
    assert thresholds(found[0])["slope"] == "rate"
    assert "slope" not in thresholds(load(write()).expect[0])


def test_how_a_claim_is_written_does_not_change_what_decides_it(write):
    one = "  - {id: grows, metric: toy/size, arm: all, where: {size.width: 4}, supported: {low: 1}}\n"
    each = "".join(one.replace("grows,", f"grows-{r},").replace("{size", f"{{rate: {r}, size") for r in ("0.5", "1"))

    def with_claims(text):
        file = write()
        head, _, rest = file.read_text().partition("expect:\n")
        file.write_text(head + "expect:\n" + text + rest[rest.index("\nsmoke"):])
        return load(file)

    assert with_claims(one).config_hash == with_claims(each).config_hash


def test_set_changes_one_arm(write):
    changed = load(write(), ["arms.none.world.width=2", "arms.all.size.depth=3"]).cells()[0].arms
    assert [c.world.options["width"] for c in changed.values()] == [2, 32, 8]
    assert [c.size.depth for c in changed.values()] == [2.0, 2.0, 3.0]


def test_seeds(write):
    assert load(write(), seeds=2).seeds == (5, 6)
    assert load(write(), ["first_seed=0"], seeds=2).seeds == (0, 1)


def test_smoke_is_a_layer_between_file_and_set(write):
    smoke = load(write(), smoke=True)
    assert (smoke.name, smoke.seeds) == ("toy-smoke", (5,))
    assert smoke.axes == {"rate": [1.0], "size.width": [2, 4]}
    assert {c.human.options["steps"] for c in smoke.cells()[0].arms.values()} == {2}
    changed = load(write(), ["human.steps=3", "sweep.rate=[0.5, 1]"], seeds=2, smoke=True)
    assert (changed.seeds, changed.axes["rate"]) == ((5, 6), [0.5, 1.0])
    assert {c.human.options["steps"] for c in changed.cells()[0].arms.values()} == {3}


def test_an_arm_may_switch_a_plugin(write):
    change = ("all: {}", "all: {human.use: 'my_lab.parts:zealot', human.zeal: 1}")
    switched = load(write(change, (", human.steps: 2", ""))).cells()[0].arms["all"]
    assert switched.human.options == {"width": 24, "zeal": 1.0}
    assert switched.human.build().width == 24


def test_a_sweep_may_go_over_whole_plugins(write):
    path = write(("  size.width: [2, 4]\n", "  human: [{use: 'my_lab.parts:learner'}, {use: 'my_lab.parts:zealot'}]\n"),
                 ("human:\n  use: my_lab.parts:learner\n  width: 24\n", "human: {width: 4}\n"),
                 (", human.steps: 2", ""), (", size.width: 4", ", human: {use: 'my_lab.parts:zealot'}"))
    swept = load(path)
    assert [p["human"]["use"][-7:] for p in swept.points()[:2]] == ["learner", ":zealot"]
    assert swept.points()[1]["human"]["zeal"] == 0.5
    assert swept.expect[0].where["human"] == swept.points()[1]["human"]
    same = "[{use: 'my_lab.parts:zealot'}, {use: 'my_lab.parts:zealot', zeal: 0.5}]"
    with pytest.raises(InputError, match="sweep.human: got values that are the same with their defaults filled in"):
        load(path, [f"sweep.human={same}"])


def test_the_built_in_experiment_loads_without_a_project_of_its_own(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("experiment: reuse\nseeds: 2\nworld: {use: radius}\nhuman: {use: descent}\n"
                    "leak: {use: prefix, bits: 2}\nouter: {use: slot}\nsweep: {leak.bits: [0, 16]}\n")
    loaded = load(path)
    assert loaded.project == tmp_path
    assert [c.arms["main"].leak.options["bits"] for c in loaded.cells()] == [0, 0, 16, 16]
    assert loaded.resolved["experiment_sha256"] is None


# The schema for editors.


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        value = list(value.values())
    if isinstance(value, list):
        for member in value:
            yield from references(member)


def test_the_schema_knows_every_experiment_and_only_keys_that_load_accepts():
    made = json.loads(json.dumps(schema()))
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    experiments = {a["title"]: a for a in made["oneOf"]}
    assert sorted(experiments) == sorted([*built_ins("experiments"), "your own experiment"])
    reuse = experiments["reuse"]
    assert reuse["additionalProperties"] is False
    assert reuse["required"] == ["experiment", "seeds"]
    assert {"title", "question", "sweep", "arms", "expect", "smoke", "world", "leak"} <= set(reuse["properties"])
    worlds = {a["title"] for a in reuse["properties"]["world"]["oneOf"]}
    assert worlds == {*built_ins("worlds"), "your own"}
    assert set(references(made)) == {f"#/$defs/{name}" for name in made["$defs"]}
