"""YAML with positions: the core schema, the limits, and one refusal with its place for all else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.scenario.reading import parse, read


def refusal(function: Any, *args: Any) -> str:
    with pytest.raises(InputError) as caught:
        function(*args)
    text = str(caught.value)
    assert "\n" not in text
    assert "; expected " in text
    return text


@pytest.mark.parametrize(("text", "value"), [
    ("1", 1), ("-007", -7), ("0x1F", 31), ("0o17", 15), ("+3", 3), ("1e-3", 0.001), (".5", 0.5), ("2.", 2.0),
    ("1_000", "1_000"), ("12:30", "12:30"), ("no", "no"), ("on", "on"), ("true", True), ("False", False),
    ("tRue", "tRue"), ("null", None), ("~", None), ("none", "none"), ("'1'", "1"), ('"true"', "true"),
    ("2001-12-14", "2001-12-14"), ("=", "="), ("1e", "1e"), ("e1", "e1"), ("0b1", "0b1"), ("--1", "--1"),
])
def test_plain_scalars_follow_the_core_schema(text, value):
    data = parse(f"a: {text}", "f").data["a"]
    assert (data, type(data)) == (value, type(value))


def test_positions_of_keys_and_values_from_one():
    document = parse("a: 1\nb:\n  c.d: [x, {e: y}]\n  f:\n", "f.yaml")
    assert document.at(("a",)) == "f.yaml:1:4: a"
    assert document.at(("b", "c.d"), key=True) == "f.yaml:3:3: b.c.d"
    assert document.at(("b", "c.d", 1, "e")) == "f.yaml:3:16: b.c.d.1.e"
    assert document.at(("b", "f")) == "f.yaml:4:3: b.f"  # nothing is written there: the key's place
    assert document.at(("b", "missing")) == "f.yaml:3:3: b.missing"
    assert document.at(()) == "f.yaml:1:1"


@pytest.mark.parametrize(("text", "message"), [
    ("a: 1\nb:\t2", "f:2:3: got a tab; expected spaces"),
    ("a: 1\nb: 2\na: 3", "f:3:1: a: got a duplicate key 'a'; expected each key once. it stands in line 1 already"),
    ("a: {b: 1, 'b': 2}", "f:1:11: a.b: got a duplicate key 'b'"),
    ("a: !!python/object:os.system x", "f:1:4: a: got the tag"),
    ("a: !mine [1]", "f:1:4: a: got the tag !mine"), ("a: !!str 1", "f:1:4: a: got the tag"), ("!x a: 1", "f:1:1"),
    ("a: [1, .inf]", "f:1:8: a.1: got .inf; expected a finite number"), ("a: -.Inf", "got -.Inf"),
    ("a: .NaN", "got .NaN"), ("a: 1e999", "got 1e999; expected a finite number"),
    (f"a: {'9' * 101}", "got a number of 101 characters; expected at most 100"),
    (f"a: 0x{'f' * 101}", "got a number of 103 characters"),
    ("a: *x", "f:1:4: a: got *x"), ("a: &x [*x]", "f:1:8: a.0: got *x"), ("<<: {a: 1}", "got a merge key"),
    ("1: 2", "f:1:1: got the key 1; expected text as a key. put it in quotes"), ("true: 2", "got the key true"),
    ("? [a]\n: 1", "got a key that is not plain text"), ("&k a: 1", "got a key that is not plain text"),
    ("a: 1\n---\nb: 2", "f:2:1: got a second document"), ("%YAML 1.1\n---\na: 1", "f:1:1: got %YAML 1.1"),
    ("a: [1", "f:1:6: got no YAML"), ("a: 'x", "got no YAML"), ("a: b: c", "f:1:5: got no YAML"), ("@a: 1", "f:1:1"),
    ("a: \"\\ud800\"", "half of a surrogate pair"), ('a: "\\UFFFFFFFF"', "got no YAML"),
    ("a\x00b", "f:1:2: got the character 0x00"), ("a: " + "[" * 40 + "]" * 40, "f:1:35: got a depth above 32"),
    ("- " * 40, "got a depth above 32"),
])
def test_what_is_no_plain_yaml_is_refused_at_its_place(text, message):
    assert message in refusal(parse, text, "f")


def bomb(levels: int, width: int) -> str:
    lines = [f"l0: &l0 [{', '.join(['x'] * width)}]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


def test_limits_hold_up_to_their_edge():
    assert len(parse(f"a: [{', '.join('1' * 9998)}]", "f").data["a"]) == 9998
    assert "more than 10,000 nodes" in refusal(parse, f"a: [{', '.join('1' * 9999)}]", "f")
    parse("a: " + "[" * 30 + "x" + "]" * 30, "f")
    assert "a depth above 32" in refusal(parse, "a: " + "[" * 32 + "x" + "]" * 32, "f")


def test_anchors_are_expanded_but_do_not_explode():
    assert parse("a: &x {b: 1}\nc: *x", "f").data == {"a": {"b": 1}, "c": {"b": 1}}
    assert parse(bomb(3, 9), "f").data["l2"][0][0][0] == "x"
    assert "f:5:10: got more than 10,000 nodes, aliases expanded" in refusal(parse, bomb(30, 9), "f")
    deep = "\n".join(["l0: &l0 x", *(f"l{i}: &l{i} [*l{i - 1}]" for i in range(1, 40))])
    assert "a depth above 32" in refusal(parse, deep, "f")


@given(st.text(st.sampled_from("ab:-[]{}#&*!|>'\"%@`?,\n \t0.e\\x\x85\ufeff"), max_size=60))
@example("a: \ufeff")
def test_any_text_is_data_or_one_refusal(text):
    try:
        parse(text, "f")
    except InputError as e:
        assert "\n" not in str(e)


@pytest.mark.parametrize(("content", "message"), [
    (b"", "f.yaml:1:1: got an empty file; expected a mapping"), (b"# nothing\n", "got an empty file"),
    (b"- 1\n", "f.yaml:1:1: got [1]; expected a mapping"), (b"text", 'got "text"'),
    (b"a: 1\nb: \xe9\n", "f.yaml:2: got byte 0xe9, which is not UTF-8"),
    (b"\x7fELF\x02\x01\x01\x00\x00", "got the character 0x7f"), (b"\xff\xfea\x00", "got byte 0xff"),
    (b"#" * 1_000_001, "got a file above 1,000,000 bytes"),
])
def test_a_file_that_is_no_mapping_in_utf_8(content, message, tmp_path):
    (tmp_path / "f.yaml").write_bytes(content)
    text = refusal(read, tmp_path / "f.yaml")
    assert message in text
    assert text.startswith(str(tmp_path / "f.yaml"))


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read(tmp_path / "f.yaml").data == {"a": 1, "b": 2}
