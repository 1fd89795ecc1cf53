"""Specialness against a teacher's size: the slope, the code, and what a cell says."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.experiments import teacher_size
from reuse_sim.experiments.teacher_size import deming, fixed_bits, least_squares, summary, told_bits
from reuse_sim.rng import stream
from reuse_sim.types import Estimate
from reuse_sim.worlds import radius

ARM = {"world": {"use": "radius"}, "human": {"use": "descent", "steps": 100, "rate": 0.02}, "sines": [1, 2, 3],
       "questions": 16, "tolerance": 0.5, "effort": 0.1}  # fmt: skip


def config(**changes):
    return teacher_size.Config.model_validate_json(json.dumps(ARM | changes))


def test_deming_treats_both_alike() -> None:
    x, y = [1.0, 2.0, 4.0, 8.0], [3.0, 2.5, 9.0, 14.0]
    assert deming(x, [3 + 2 * v for v in x]) == pytest.approx(2)
    slope = deming(x, y)
    assert slope is not None and deming(y, x) == pytest.approx(1 / slope)
    # The direction of most spread.
    points = torch.tensor([x, y], dtype=torch.float64)
    direction = torch.linalg.eigh(torch.cov(points)).eigenvectors[:, 1]
    assert slope == pytest.approx(float(direction[1] / direction[0]))
    assert deming([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]) == 0 and deming([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) is None


def test_each_slope_is_that_of_the_truth_where_its_errors_are() -> None:
    """Of noise as large as the truth: Deming is right where both have it, least squares where y alone does.

    Within five standard errors: .0122 and .0114 of Deming, .0071 and .0061 of least squares, n = 20,000.
    """
    g = stream(0, "noise")
    truth, noise, other = (torch.randn(20_000, generator=g, dtype=torch.float64) for _ in range(3))
    both = (truth + noise).tolist(), (truth + other).tolist()
    alone = truth.tolist(), both[1]
    assert deming(*both) == pytest.approx(1.0, abs=0.06) and least_squares(*alone) == pytest.approx(1.0, abs=0.035)
    # cov = 1, var 2 and 2, or 1 and 2.
    assert least_squares(*both) == pytest.approx(0.5, abs=0.03)
    assert deming(*alone) == pytest.approx((1 + 5**0.5) / 2, abs=0.06)
    assert least_squares([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) is None


def test_the_fixed_point_is_the_shortest_that_keeps_the_teacher_within_the_tolerance() -> None:
    world: Any = radius.build(sines=2)
    theta = world.teacher([stream(0, "teacher")])
    x = world.on_distribution(theta, 200, [stream(0, "x")])[0]
    lengths = [fixed_bits(world, theta, x, tolerance, 0) for tolerance in (0.3, 1e-2, 1e-4, 1e-6)]
    assert all(length is not None and length % 14 == 0 for length in lengths)
    each = [length // 14 for length in lengths if length is not None]
    # A hundredth of the error is a tenth of the cell, 3.3 bits.
    assert each == sorted(each)
    assert [b - a for a, b in zip(each[1:], each[2:], strict=False)] == pytest.approx([3, 3], abs=1)
    assert fixed_bits(world, theta, x, 1e-12, 0) is None


def test_the_message_is_shorter_than_fixed_point_and_none_where_there_is_no_code() -> None:
    world: Any = radius.build(sines=2)
    theta = world.teacher([stream(0, "teacher")])
    x = world.on_distribution(theta, 64, [stream(0, "x")])[0].double()
    for tolerance in (0.15, 1e-2):
        told, plain = told_bits(world, theta, x, tolerance, "x"), fixed_bits(world, theta, x, tolerance, 0)
        assert told is not None and plain is not None and told < plain
    assert told_bits(world, theta, x, 1e-16, "x") is None


def test_the_summary_of_planted_sizes() -> None:
    def size(code: int | None, bits: float | None, parameters: int) -> dict:
        return {"code_bits": code, "fixed_bits": code and 2 * code, "bits": bits, "teacher_parameters": parameters,
                "on_fit": 0.9, "consistency": 0.1, "tolerance": 0.2}

    said = summary([size(10, 7.0, 2), size(20, 12.0, 4), size(40, 22.0, 8)])
    assert said == pytest.approx({
        "specialness/slope": 0.5, "specialness/least_squares_slope": 0.5, "specialness/fixed_slope": 0.25,
        "specialness/intercept_bits": 2.0, "specialness/bits_per_parameter": 2.5, "specialness/smallest_bits": 7.0,
        "specialness/largest_bits": 22.0, "ledger/smallest_teacher_bits": 10, "ledger/largest_teacher_bits": 40,
        "ledger/smallest_return_bits": -3.0, "ledger/largest_return_bits": -18.0,
        "human/least_on_fit": 0.9, "human/consistent": 1.0,
    })
    assert set(said) == {m.name for m in teacher_size.METRICS}
    lacking = summary([size(10, 7.0, 2), size(None, 12.0, 4), size(40, 22.0, 8)])
    assert lacking["specialness/slope"] is None and lacking["specialness/bits_per_parameter"] is not None


def test_one_cell_has_all_sizes_and_humans_that_grow(tmp_path) -> None:
    store = Store(tmp_path)
    found = teacher_size.cell({"one": config(), "same": config(width_per_sine=0)}, 0, store)
    said = found["one"].diagnostics
    assert list(said) == ["1", "2", "3"]
    assert [s["human_parameters"] for s in said.values()] == [6 * w + 1 for w in (5, 6, 7)]  # 1.5 and 4.5 to even
    assert [s["human_parameters"] for s in found["same"].diagnostics.values()] == [19] * 3
    assert [s["teacher_parameters"] for s in said.values()] == [8, 14, 20]
    assert store.computed == 6 and set(found["one"].metrics) == {m.name for m in teacher_size.METRICS}
    slope = deming([s["code_bits"] for s in said.values()], [s["bits"] for s in said.values()])
    assert found["one"].metrics["specialness/slope"] == slope
    assert teacher_size.memory_bytes({"one": config()}) > 2**29


def test_a_size_that_did_not_converge_makes_the_world_undecided(tmp_path, monkeypatch) -> None:
    def never(problem, *_, **__):
        return Estimate(9.0, 8.0, 10.0, "lower", "global", "stuck: take more effort")

    monkeypatch.setattr(teacher_size, "estimate", never)
    found = teacher_size.cell({"one": config()}, 0, Store(tmp_path))["one"]
    assert found.status == "undecided" and found.reason.startswith("1 sines: stuck")


@pytest.mark.parametrize("given", [{"world": {"use": "spurious"}}, {"sines": [1, 2]}, {"sines": [2, 1, 4]}])
def test_what_cannot_be_is_refused(given) -> None:
    with pytest.raises(ValidationError, match="sines|three sizes"):
        config(**given)
