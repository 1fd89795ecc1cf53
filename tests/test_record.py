"""Records survive JSON; verdicts follow from thresholds written beforehand and from nothing else."""

import dataclasses
import json

import pytest

from reuse_sim.record import (
    Band,
    Expectation,
    Metric,
    RunRecord,
    Sweep,
    aggregate,
    figure,
    finite,
    from_json,
    to_json,
    verdicts,
)
from reuse_sim.stats import share_interval, t_interval

PLAIN, POOLED = Metric("m/plain", "1", "a mean"), Metric("m/pooled", "1", "a ratio", pooled=True)


def record(seed: int, arm: str, value: float | None, status: str = "ok", **params) -> RunRecord:
    parts = {} if value is None else {"m/pooled/numerator": 2 * value, "m/pooled/denominator": 2.0}
    metrics = {"m/plain": value, "m/pooled": value}
    return RunRecord("id", params, arm, seed, status, "", metrics, parts, "0" * 64, 1.0)  # type: ignore[arg-type]


def sweep(*expect: Expectation) -> Sweep:
    return Sweep(
        "s", "id", "hash", "e", "t", "q", "m", (PLAIN, POOLED), {"a": [1, 2]}, ("x", "y"), expect, (0, 1), {}, "c", {}
    )


def claim(metric="m/plain", **fields) -> Expectation:
    return Expectation(
        **{
            "id": "c",
            "sentence": "s",
            "metric": metric,
            "arm": "x",
            "supported": Band(low=0.3),
            "refuted": Band(high=0.1),
            **fields,
        }
    )


@pytest.mark.parametrize(
    "item", [sweep(claim(where={"a": 1}, minus="y")), record(1, "x", 0.5, a=1), record(2, "y", None)]
)
def test_json_round_trip(item):
    again = from_json(to_json(item))
    assert again == item or dataclasses.asdict(again) == dataclasses.asdict(item)


def test_a_binary_metric_has_the_limits_of_a_share_and_its_differences_those_of_a_mean():
    metric = dataclasses.replace(PLAIN, binary=True)
    ones, mixed = ([record(seed, arm, value) for seed, value in enumerate(values)]
                   for arm, values in (("x", [1.0] * 9), ("y", [1.0] * 6 + [0.0] * 3)))
    assert figure(metric, ones) == share_interval([1] * 9) and figure(PLAIN, ones).low == 1.0
    assert figure(metric, ones, mixed) == t_interval([0.0] * 6 + [1.0] * 3)


def test_json_refuses_what_is_not_finite_and_what_is_no_record():
    with pytest.raises(ValueError):
        to_json(record(0, "x", float("nan")))
    with pytest.raises(ValueError):
        from_json(json.dumps({"kind": "other"}))
    assert finite({"a": 1.0, "b": float("inf")}) == ({"a": 1.0, "b": None}, "not finite: b")


@pytest.mark.parametrize("metric", ["m/plain", "m/pooled"])
@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.5, 0.52, 0.48), "supported"),
        ((0.0, 0.02, 0.01), "refuted"),
        ((0.0, 0.5, 1.0), "undecided"),
        ((0.2, 0.2, 0.21), "undecided"),
    ],
)
def test_the_whole_interval_must_lie_in_the_band(metric, values, verdict):
    records = [record(i, "x", v, a=1) for i, v in enumerate(values)]
    assert verdicts(sweep(claim(metric)), records)[0]["verdict"] == verdict


def test_a_difference_is_paired_within_worlds():
    offsets = (0.0, 5.0, -3.0, 9.0)  # between worlds; they cancel within
    records = [record(i, arm, o + d, a=1) for i, o in enumerate(offsets) for arm, d in (("x", 0.5), ("y", 0.1))]
    out = verdicts(sweep(claim(minus="y")), records)[0]
    assert out["value"] == pytest.approx(0.4) and out["verdict"] == "supported" and out["n"] == 4


def test_two_worlds_decide_nothing_and_a_point_selects_its_records():
    records = [record(0, "x", 0.5, a=1), record(1, "x", 0.5, a=1), *(record(i, "x", 0.0, a=2) for i in range(4))]
    assert verdicts(sweep(claim(where={"a": 1})), records)[0]["reason"].startswith("2 worlds")
    assert verdicts(sweep(claim(where={"a": 2})), records)[0]["verdict"] == "refuted"


def test_a_slope_is_that_of_each_world():
    # y = offset + slope x, slopes 1, 2, 3 (and of the placebo .5), whatever the offsets; x is not evenly spaced.
    def line(seed, arm, slope, at=(1, 2, 8)):
        return [record(seed, arm, 10.0 * seed + slope * x, a=x) for x in at]

    many = [r for i, b in enumerate((1.0, 2.0, 3.0)) for r in (*line(i, "x", b), *line(i, "y", 0.5))]
    one = verdicts(sweep(claim(slope="a")), many)[0]
    assert (one["value"], one["n"], one["verdict"]) == (pytest.approx(2.0), 3, "undecided")
    assert verdicts(sweep(claim(slope="a", minus="y")), many)[0]["value"] == pytest.approx(1.5)
    # A world that lacks a value, or has none to subtract, does not count.
    short = [*many, *line(7, "x", 50.0, at=(1, 2)), *line(8, "x", 50.0), *line(8, "y", 0.0, at=(1, 8))]
    assert verdicts(sweep(claim(slope="a", minus="y")), short)[0] == one | verdicts(
        sweep(claim(slope="a", minus="y")), many)[0]  # fmt: skip


def test_undecided_worlds_are_counted_both_ways():
    fine = [record(i, "x", 0.5 + i / 100, a=1) for i in range(4)]
    assert verdicts(sweep(claim()), [*fine, record(9, "x", 0.5, "undecided", a=1)])[0]["verdict"] == "supported"
    spoilt = verdicts(sweep(claim()), [*fine, record(9, "x", -5.0, "undecided", a=1)])[0]
    assert spoilt["verdict"] == "undecided" and "undecided worlds" in spoilt["reason"]


def test_aggregates_count_every_world_and_leave_failed_ones_out_of_means():
    records = [record(0, "x", 1.0, a=1), record(1, "x", 3.0, a=1), record(2, "x", 99.0, "failed", a=1)]
    (row,) = aggregate(sweep(), records)
    assert row["metrics"]["m/plain"]["mean"] == 2.0 and row["metrics"]["m/plain"]["n"] == 2
    assert row["counts"] == {"ok": 2, "undecided": 0, "failed": 1, "interrupted": 0}
