"""A record survives being an MLflow run, whatever is in it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.record import RunRecord
from tracking import codec

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)
RECORDS = st.builds(
    RunRecord, sweep_id=st.just("0123456789ab"), arm=st.sampled_from(["none", "all"]), seed=st.integers(0, 2**40),
    params=st.dictionaries(st.sampled_from(["outer.width", "teachers"]), st.integers() | st.sampled_from(["each"])),
    status=st.sampled_from(["ok", "failed", "interrupted", "undecided"]), reason=st.text(max_size=9000),
    metrics=st.dictionaries(st.sampled_from(["a/b", "a/c", "bits"]), st.none() | NUMBERS),
    diagnostics=st.dictionaries(st.text(max_size=8), VALUES, max_size=4), parameters_sha256=st.sampled_from(["", "ab"]),
    wall_s=st.floats(0, 1e6))


def as_run(sweep, record):
    """What MLflow gives back for what is sent: strings and floats, and no tag over 5000 characters."""
    tags = codec.common_tags(sweep, "record", record.task_key) | codec.tags(record)
    assert all(isinstance(v, str) and len(v) <= 5000 for v in tags.values())
    assert list(tags)[-1] == "record_sha256"
    data = SimpleNamespace(tags=tags, params=codec.params(record), metrics=codec.metrics(sweep, record))
    assert all(isinstance(v, float) for v in data.metrics.values())
    return SimpleNamespace(data=data, info=SimpleNamespace(run_id="r", run_name=record.task_key))


@given(record=RECORDS)
def test_a_record_comes_back_whole(record):
    assert codec.record(as_run(SimpleNamespace(metrics=(), sweep_id="0123456789ab", scenario="s", config_hash="c"),
                               record)) == record


@given(record=RECORDS, wall=st.floats(0, 9))
def test_the_hash_is_of_everything_but_the_wall_time(record, wall):
    assert codec.sha256(replace(record, wall_s=wall)) == codec.sha256(record)
    assert codec.sha256(replace(record, seed=record.seed + 1)) != codec.sha256(record)
    assert codec.sha256(replace(record, diagnostics={**record.diagnostics, "new": 1})) != codec.sha256(record)


def test_a_header_comes_back_whole(make_sweep):
    sweep = make_sweep(axes={"outer.width": [24, 48], "teachers": [1, "each"]}, question="why? " * 3000)
    run = SimpleNamespace(data=SimpleNamespace(tags=codec.sweep_tags(sweep)))
    assert codec.sweep(run) == sweep


def test_a_changed_metric_is_noticed(make_sweep, make_records):
    sweep = make_sweep()
    run = as_run(sweep, make_records(sweep)[0])
    run.data.metrics["human/off_fit"] += 1e-12
    with pytest.raises(ValueError, match="was changed after it was recorded"):
        codec.record(run)


def test_headlines_come_first_and_diagnostics_last(make_sweep, make_records):
    sweep = make_sweep()
    names = list(codec.metrics(sweep, make_records(sweep)[0]))
    assert names[:2] == ["inheritance/causal_private", "inheritance/causal_total"]
    assert names[-4:] == ["diagnostics/inheritance.contrast.numerator", "diagnostics/inheritance.contrast.denominator",
                          "diagnostics/chain.r_hat", "wall_s"]


def test_params_are_arm_seed_and_what_is_swept(make_sweep, make_records):
    sweep = make_sweep(axes={"outer.width": [24, 48]})
    assert codec.params(make_records(sweep)[-1]) == {"arm": "all", "seed": "7", "outer.width": "48"}
