"""Bad input: one line with the place, what was got and what is expected; never a traceback, never a wrong number."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.scenario import load

TOY = Path(__file__).parent / "toy"
TEXT = (TOY / "toy.yaml").read_text()


def refusal(function: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        function(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert "; expected " in text
    return text


def test_a_file_that_cannot_be_read(tmp_path):
    assert "no.yaml: got No such file or directory; expected a file" in refusal(load, tmp_path / "no.yaml")
    assert "got Is a directory" in refusal(load, tmp_path)
    assert "embedded null byte" in refusal(load, "a\0b")
    assert "got File name too long" in refusal(load, "x" * 5000)
    (tmp_path / "locked.yaml").write_text("a: 1")
    (tmp_path / "locked.yaml").chmod(0)
    if os.geteuid() != 0:  # root may read anything
        assert "got Permission denied" in refusal(load, tmp_path / "locked.yaml")


def write(folder: Path, text: str) -> Path:
    shutil.copytree(TOY, folder, dirs_exist_ok=True)
    (folder / "toy.yaml").write_text(text)
    return folder / "toy.yaml"


def told(folder: Path, old: str, new: str, **options: Any) -> str:
    """The refusal of the toy scenario with one replacement, without the folder's name."""
    assert TEXT.count(old) == 1, old
    return refusal(load, write(folder, TEXT.replace(old, new)), **options).replace(f"{folder}/", "")


@pytest.mark.parametrize(("old", "new", "message"), [
    # keys
    ("size: {d", "siz: {d", "toy.yaml:10:1: siz: got an unknown key 'siz'; expected one of world, human, size, rate,"),
    ("size: {d", "siz: {d", "did you mean 'size'?"),
    ("  width: 24", "  widht: 24", "toy.yaml:9:3: human.widht: got an unknown key 'widht'; expected one of use, width, "
                                   "steps. did you mean 'human.width'? (and 1 more)"),
    ("{depth: 2}", "{dept: 2}", "toy.yaml:10:8: size.dept: got an unknown key 'dept'; expected one of width, depth"),
    ("seeds: 3", "sedes: 3", "toy.yaml:1:1: seeds: got nothing; expected a value for seeds"),
    ("title: A toy", "titel: A toy", "toy.yaml:2:1: titel: got an unknown key 'titel'"),
    ("rate: 1e-1", "size.depth: 2", "here, write size: {depth: ...}"),
    ("rate: 1e-1", '"a\\nb\\u2028": 2', "toy.yaml:11:1: a\\nb\\u2028: got an unknown key 'a\\nb\\u2028'; expected"),
    ("rate: 1e-1", "seeds: 3", "toy.yaml:11:1: seeds: got a duplicate key 'seeds'"),
    ("  width: 24\n", "", "toy.yaml:8:3: human.width: got nothing; expected a value for width"),
    # types
    ("width: 24", 'width: "24"', 'toy.yaml:9:10: human.width: got "24"; expected a whole number'),
    ("width: 24", "width: true", "human.width: got true; expected a whole number"),
    ("width: 24", "width: 24.0", "human.width: got 24.0; expected a whole number"),
    ("width: 24", "width:", "toy.yaml:9:3: human.width: got null; expected a whole number"),
    ("{depth: 2}", "{depth: '2'}", 'size.depth: got "2"; expected a number'),  # a model that is not strict itself
    ("rate: 1e-1", "names: fast", 'toy.yaml:11:8: names: got "fast"; expected a list'),
    ("{depth: 2}", "3", "toy.yaml:10:7: size: got 3; expected a mapping"),
    ("rate: 1e-1", "names: [a, 1]", "toy.yaml:11:12: names.1: got 1; expected text"),
    ("rate: 1e-1", "teachers: eech", "teachers: got \"eech\"; expected a whole number or 'each'"),
    ("width: 8}", "kind: ovn}", "world.kind: got \"ovn\"; expected 'own' or 'other'. did you mean 'own'?"),
    ("{use: \"my_lab.parts:line\", width: 8}", "line", 'toy.yaml:6:8: world: got "line"; expected a mapping such as'),
    ("title: A toy", 'title: "two\\nlines"', "title: got \"two\\nlines\"; expected text of the form"),
    # numbers
    ("width: 24", "width: 0", "human.width: got 0; expected greater than 0"),
    ("width: 24", "width: -3", "human.width: got -3; expected greater than 0"),
    ("width: 8}", "width: 10000000000}", "toy.yaml:6:42: world.width: got 10000000000; expected less than or equal to"),
    ("width: 24", "width: .nan", "toy.yaml:9:10: human.width: got .nan; expected a finite number"),
    ("rate: 1e-1", "rate: .inf", "toy.yaml:11:7: rate: got .inf; expected a finite number"),
    ("seeds: 3", "seeds: 0", "toy.yaml:4:8: seeds: got 0; expected greater than or equal to 1"),
    ("seeds: 3", "seeds: 1e6", "seeds: got 1000000.0; expected a whole number"),
    ("seeds: 3", "seeds: 1000000", "seeds: got 1000000; expected less than or equal to 100000"),
    ("first_seed: 5", "first_seed: -5", "toy.yaml:5:13: first_seed: got -5"),
    # fields against each other
    ("{depth: 2}", "{depth: 0.7}", "toy.yaml:1:1: got fields that do not fit together; expected rate at most size.depth"
                                   ". (in arm none, rate=1, size.width=2)"),
    # sweep
    ("  rate: [0.5, 1]\n  size.width: [2, 4]", "  {}", "sweep: got {}; expected 1 or more entries"),
    ("\n  rate: [0.5, 1]\n  size.width: [2, 4]", "", "toy.yaml:12:1: sweep: got null; expected a mapping"),
    ("\n  rate: [0.5, 1]\n  size.width: [2, 4]", " 3", "toy.yaml:12:8: sweep: got 3; expected a mapping"),
    ("  rate: [0.5, 1]", "  rate: []", "toy.yaml:13:3: sweep.rate: got []; expected a list of one value or more"),
    ("  rate: [0.5, 1]", "  rate: 1", "toy.yaml:13:3: sweep.rate: got 1; expected a list of one value or more"),
    ("  rate: [0.5, 1]", "  rate: [1, 0.5, 1.0]", "toy.yaml:13:3: sweep.rate: got 1.0 twice; expected different"),
    ("  rate: [0.5, 1]", "  rate: [0.5, 1, -1]", "toy.yaml:13:3: sweep.rate: got -1; expected greater than 0"),
    ("  rate: [0.5, 1]", "  rate: [0.5, 1, fast]", 'toy.yaml:13:3: sweep.rate: got "fast"; expected a number'),
    ("  rate: [0.5, 1]", "  rtae: [0.5, 1]", "toy.yaml:13:3: sweep.rtae: got an unknown key 'rtae'"),
    ("  rate: [0.5, 1]", "  seeds: [1, 2]", "toy.yaml:13:3: sweep.seeds: got a change of seeds; expected a field of"),
    ("  rate: [0.5, 1]", "  size: {width: [1]}", "toy.yaml:14:3: sweep.size.width: got a field that is set twice"),
    ("  rate: [0.5, 1]", "  size: [{depth: 3}]", "toy.yaml:14:3: sweep.size.width: got a field that is set twice"),
    ("  rate: [0.5, 1]", f"  rate: {[*range(1, 80)]}\n  world.tolerance: {[*range(100)]}",
     "toy.yaml:12:1: sweep: got 15,800 sweep points; expected at most 10,000"),
    ("  rate: [0.5, 1]", "  rate.x: [1]", "toy.yaml:13:3: sweep.rate.x: got a field inside of rate, which is none"),
    ("  rate: [0.5, 1]", "  rate..x: [1]", "toy.yaml:13:3: sweep.rate..x: got 'rate..x'; expected a dotted path"),
    ("all: {}", "all: {rate: 0.3}\n  none2: {rate: 0.3}", None),  # 'none' and 'wide' leave the rate alone
    # arms
    ("all: {}", "all:", "toy.yaml:18:3: arms.all: got null; expected a mapping"),
    ("all: {}", "all of it: {}", "arms.all of it: got \"all of it\"; expected text of the form"),
    ("all: {}", "all: {word.width: 2}", "toy.yaml:18:9: arms.all.word.width: got an unknown key 'word'"),
    ("all: {}", "all: {world.widht: 2}", "toy.yaml:18:9: arms.all.world.widht: got an unknown key 'widht'; expected "
                                         "one of use, width, tolerance, kind, copy, strengths. did you mean 'world.w"),
    ("all: {}", "all: {world: {widht: 2}}", "toy.yaml:18:17: arms.all.world.widht: got an unknown key 'widht'"),
    ("all: {}", "all: {widht: 2}", "toy.yaml:18:9: arms.all.widht: got an unknown key 'widht'"),
    ("all: {}", "all: {depth: 2}", "did you mean 'size.depth'?"),
    ("all: {}", "all: {world.width: -2}", "toy.yaml:18:22: arms.all.world.width: got -2; expected greater than 0"),
    ("all: {}", "all: {world.width: 2, world: {width: 2}}", "toy.yaml:18:33: arms.all.world.width: got a field that is "
                                                            "set twice; expected one value"),
    ("all: {}", "all: {seeds: 2}", "toy.yaml:18:9: arms.all.seeds: got a change of seeds; expected a field of the"),
    ("all: {}", "all: {human.use: 'my_lab.parts:zealot', human.steps: 2}",
     "toy.yaml:18:43: arms.all.human.steps: got an unknown key 'steps'; expected one of use, width, zeal"),
    ("  width: 24\n", "  width: 24\n  steps: 2\nnames: []\n", None),
    ("all: {}", "all: {world.use: 'my_lab.parts:learner'}", "toy.yaml:18:20: arms.all.world.use: got an object of type "
                                                            "Learner without answer, d, "),
    ("all: {}", "all: {world.width: 13}", "toy.yaml:6:14: world.use: got RuntimeError: no world is 13 wide, as "
                                          "everyone knows in its line(); expected options that it can be built with. ("
                                          "in arm all, rate=0.5, size.width=2)"),
    ("all: {}", "all: {teachers: each}", "toy.yaml:18:9: arms.all.teachers: got teachers for one arm alone; expected "
                                         "the same in all arms. sweep over teachers"),
    ("all: {}", "all: {teachers: 1}", None),
    # claims
    ("metric: toy/size", "metric: toy/sise", "toy.yaml:23:13: expect.0.metric: got \"toy/sise\"; expected one of "
                                             "toy/size, toy/share. did you mean 'toy/size'?"),
    ("arm: all", "arm: al", "toy.yaml:24:10: expect.0.arm: got \"al\"; expected one of the arms none, wide, all. did "),
    ("minus: none", "minus: nine", "toy.yaml:25:12: expect.0.minus: got \"nine\""),
    ("minus: none", "minus: all", "expect.0.minus: got \"all\"; expected another arm than its arm"),
    ("{rate: 1, s", "{rate: 2, s", "toy.yaml:26:19: expect.0.where.rate: got 2; expected one of the sweep's [0.5, 1]"),
    ("{rate: 1, s", "{rate: true, s", "expect.0.where.rate: got true; expected one of the sweep's [0.5, 1]"),
    ("{rate: 1, s", "{rat: 1, s", "toy.yaml:26:13: expect.0.where.rat: got an unknown key; expected one of the swept "
                                  "fields rate, size.width. did you mean 'rate'?"),
    ("{rate: 1, s", "{s", None),
    ("refuted: {high: 0.1}", "refuted: {high: 0.1}\n  - {id: rises, metric: toy/size, arm: all, where: {rate: 1}, "
     "supported: {low: 1}}\n  - {id: rises-2, metric: toy/size, arm: all, where: {rate: 1, size.width: 2}, supported: "
     "{low: 1}}", "expect.2.id: got \"rises-2\"; expected an id of its own. entry 1 has it"),
    ("    where: {rate: 1, size.width: 4}\n", "    where: {size.width: 4}\n    slope: rate\n", None),
    ("    where: {rate: 1, size.width: 4}\n", "    slope: rat\n", "toy.yaml:26:12: expect.0.slope: got \"rat\"; "
     "expected a field swept over two numbers or more: one of rate, size.width"),
    ("    where: {rate: 1, size.width: 4}\n", "    where: {rate: 1}\n    slope: rate\n", "expect.0.where.rate: got 1; "
     "expected nothing, for the slope is over all its values"),
    ("supported: {low: 0.3}", "supported: {}", "toy.yaml:27:16: expect.0.supported: got fields that do not fit "
                                               "together; expected a threshold: low, high or both"),
    ("supported: {low: 0.3}", "supported: {low: 2, high: 1}", "expected low at most high"),
    ("supported: {low: 0.3}", "supported: {low: 0}", "expected bands of supported and refuted that do not overlap"),
    ("    supported: {low: 0.3}\n", "", "expect.0.supported: got nothing; expected a value for supported"),
    ("supported: {low: 0.3}", "suported: {low: 0.3}", "toy.yaml:27:5: expect.0.suported: got an unknown key"),
    ("refuted: {high: 0.1}", "refuted: {high: 0.1}\n  - {id: grows, metric: toy/size, arm: all, supported: {low: 1}}",
     "toy.yaml:29:10: expect.1.id: got \"grows\"; expected an id of its own. entry 0 has it"),
    # smoke
    ("human.steps: 2}", "human.stpes: 2}", "toy.yaml:29:36: smoke.human.stpes: got an unknown key 'stpes'; expected "
                                           "one of use, width, steps. did you mean 'human.steps'?"),
    ("human.steps: 2}", "human.steps: 0}", "toy.yaml:29:49: smoke.human.steps: got 0; expected greater than 0"),
    ("{seeds: 1, ", "{seeds: no, ", 'toy.yaml:29:16: smoke.seeds: got "no"; expected a whole number'),
    ("sweep.rate: [1]", "sweep.rate: []", "smoke.sweep.rate: got []; expected a list of one value or more"),
    ("sweep.rate: [1]", "arms.nine.rate: 1", "smoke.arms.nine.rate: got \"nine\"; expected one of the arms none, wide"),
    # experiments and parts
    ("experiment: my_lab.toy", "experiment: my_lab.tyo", "toy.yaml:1:13: experiment: got no module my_lab.tyo in "),
    ("experiment: my_lab.toy", "experiment: resue", "toy.yaml:1:13: experiment: got \"resue\"; expected one of "),
    ("experiment: my_lab.toy", "experiment: resue", "did you mean 'reuse'?"),
    ("experiment: my_lab.toy", "experiment: my_lab.parts", "got the module my_lab.parts without cell, memory_bytes, "
     "Config (a pydantic model), METHOD (text), METRICS (a tuple of reuse_sim.record.Metric); expected an experiment"),
    ("experiment: my_lab.toy\n", "", "toy.yaml:1:1: experiment: got nothing; expected a value for experiment"),
    ("parts:learner", "parts:laerner", "toy.yaml:8:8: human.use: got module my_lab.parts (my_lab/parts.py) without a "
                                       "function laerner; expected def laerner(...) in it. did you mean 'learner'?"),
    ("use: my_lab.parts:learner", "use: desent", "toy.yaml:8:8: human.use: got 'desent'; expected one of "),
    ("  use: my_lab.parts:learner\n", "", "expected 'use' to name one of "),
])
def test_the_first_fault_of_a_scenario_is_told_with_its_place(old, new, message, tmp_path):
    if message is None:  # close to a fault, and none
        load(write(tmp_path, TEXT.replace(old, new)))
    else:
        assert message in told(tmp_path, old, new)


@pytest.mark.parametrize(("override", "message"), [
    ("human.widht=3", "--set human.widht: got an unknown key 'widht'; expected one of use, width, steps. did you mean "
                      "'human.width'?"),
    ("hunam.width=3", "--set hunam.width: got an unknown key 'hunam'"), ("humans.width=3", "did you mean 'human'?"),
    ("seed=3", "did you mean 'seeds'?"), ("depth=3", "did you mean 'size.depth'?"),
    ("human.width='3'", '--set human.width: got "3"; expected a whole number'),
    ("human={width: -3}", "--set human.width: got -3; expected greater than 0"),
    ("human=3", "--set human: got 3; expected a mapping such as {use: NAME}"),
    ("human.width.x=3", "--set human.width.x: got a field inside of human.width, which is none"),
    ("human.use=descnet", "--set human.use: got 'descnet'"),
    ("human.width=.nan", "--set human.width: got .nan; expected a finite number"),
    ("human.width=!!int 3", "--set human.width: got the tag"), ("human.width=[1", "--set human.width: got no YAML"),
    ("human.width", "--set: got 'human.width'; expected PATH=VALUE"), ("=3", "--set: got '=3'"), ("", "--set: got ''"),
    ("human.width=", "--set human.width: got no value"), ("a..b=3", "--set a..b: got 'a..b'; expected a dotted path"),
    ("expect=[]", "--set expect: got []; expected the path of a field. expect is changed in the file"),
    ("sweep={}", "--set sweep: got {}"), ("sweep.rate=[]", "--set sweep.rate: got []; expected a list"),
    ("sweep.rate=2", "--set sweep.rate: got 2; expected a list"), ("smoke.seeds=2", "smoke is changed in the file"),
    ("sweep.rate=[1, x]", '--set sweep.rate: got "x"; expected a number'),
    ("arms.non.rate=2", "--set arms.non.rate: got \"non\"; expected one of the arms none, wide, all, and a field. did "
                        "you mean 'none'?"),
    ("arms.none=2", "--set arms.none: got \"none\"; expected one of the arms none, wide, all, and a field"),
    ("seeds=0", "--set seeds: got 0; expected greater than or equal to 1"),
    ("experiment=resue", "--set experiment: got \"resue\""),
])
def test_the_first_fault_of_an_override_is_told_with_its_path(override, message, tmp_path):
    assert message in refusal(load, write(tmp_path, TEXT), [override])


def test_overrides_that_contradict_each_other_or_change_nothing_are_refused(tmp_path):
    path = write(tmp_path, TEXT)
    assert "set twice" in refusal(load, path, ["rate=1", "rate=2"])
    assert "set twice" in refusal(load, path, ["human={width: 3}", "human.width=2"])
    assert refusal(load, path, ["seeds=1"], 2).startswith("--seeds: got a field that is set twice")
    assert refusal(load, path, seeds=0).startswith("--seeds: got 0; expected greater than or equal to 1")
    write(tmp_path, TEXT.replace("all: {}", "all: {world.width: 3}"))
    replaced = "world.width: got a value that the sweep or every arm replaces"
    assert f"--set {replaced}" in refusal(load, path, ["world.width=5"])
    write(tmp_path, TEXT.replace("size.width: [2, 4]", "world.width: [2, 4]").replace(", size.width: 4", "")
          .replace("all: {}", "all: {world.width: 3}"))
    assert f"sweep.{replaced}" in refusal(load, path)


def test_smoke_without_a_smoke_form(tmp_path):
    assert "smoke: got no smoke form" in told(tmp_path, TEXT[TEXT.index("smoke:"):], "", smoke=True)


def test_an_experiment_may_not_take_the_names_of_scenarios(tmp_path):
    path = write(tmp_path, TEXT)
    file = tmp_path / "my_lab" / "toy.py"
    file.write_text(file.read_text().replace("names: tuple", "sweep: tuple"))
    assert "got the field sweep in the Config of my_lab.toy" in refusal(load, path)


@given(st.integers(0, len(TEXT) - 1), st.sampled_from(["", *"x:\n -{]'0.&~"]))
def test_a_slip_of_one_character_is_a_scenario_or_one_refusal(tmp_path_factory, at, slip):
    path = write(tmp_path_factory.getbasetemp() / "slips", TEXT[:at] + slip + TEXT[at + 1 :])
    try:
        load(path)
    except InputError as e:
        assert "\n" not in str(e)
        assert str(e).startswith(str(path))
