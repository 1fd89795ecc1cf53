"""The order of leak and evaluation: planted figures, arms on the same people, and what is left when all is told."""

from __future__ import annotations

from typing import Any

import pytest

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError
from reuse_sim.experiments.leak_order import METRICS, ORDERS, Config, cell, check, doubts, figures, flops

SMALL: dict[str, Any] = {
    "world": {"use": "radius"},
    "human": {"use": "descent", "width": 3, "steps": 300, "rate": 0.02},
    "questions": 24,
    "watched": 24,
    "tolerance": 0.7,
    "path": {"walkers": 8, "steps": 60, "leapfrogs": 2},
    "separate": {"effort": 0.1},
}
LEAKS = {"none": 0.0, "half": 0.5, "all": 1.0}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory):
    store = Store(tmp_path_factory.mktemp("store"))
    return cell({name: Config.model_validate(SMALL | {"leak": leak}) for name, leak in LEAKS.items()}, 0, store), store


def told(bits: float | None) -> dict[str, Any]:
    bound = "two-sided" if bits is not None else "lower"
    return {"bits": bits or 0.0, "bound": bound, "evaluations": 10,
            "status": "converged" if bits is not None else "no walker: no result"}  # fmt: skip


def test_planted_orders() -> None:
    out = figures({"separate": told(41.0), "conditional": told(12.0), "own": told(9.0)}, told(40.0), 20.0)
    assert out["specialness/separate_shift_bits"] == 1 and out["specialness/conditional_over_separate"] == 0.3
    assert out["specialness/own_over_separate"] == pytest.approx(0.225)
    assert out["specialness/own_off"] == pytest.approx(31 / 40)
    profits = [out[f"ledger/{name}_profit_bits"] for name in ORDERS]
    assert profits == [21, -8, -11] and out["ledger/own_flips"] == 1 == out["ledger/conditional_flips"]
    dear = figures({"separate": told(41.0), "conditional": told(12.0), "own": told(9.0)}, told(40.0), 50.0)
    assert dear["ledger/own_flips"] == 0 == dear["ledger/conditional_flips"]


def test_no_result_is_no_figure_and_wholly_off() -> None:
    out = figures({"separate": told(40.0), "conditional": None, "own": told(None)}, told(40.0), None)
    silent = {name for name, value in out.items() if value is None}
    assert {"specialness/own_bits", "specialness/conditional_bits", "ledger/own_flips"} <= silent
    assert out["specialness/own_off"] == 1 and out["specialness/separate_shift_bits"] == 0


def test_what_makes_a_world_undecided() -> None:
    assert doubts(told(40.0), told(41.9), 0.1, 0.2) == []
    assert "itself (2.1 bits)" in doubts(told(40.0), told(42.1), 0.1, 0.2)[0]
    assert "not consistent" in doubts(told(40.0), told(40.0), 0.3, 0.2)[0]
    for first, again in ((told(40.0), None), (told(None), told(1.0))):
        assert "no figure" in doubts(first, again, 0.1, 0.2)[0]


def test_told_all_nothing_is_left_but_for_who_evaluates_apart(measured) -> None:
    arms, store = measured
    # People and price once; the sampler apart, the one after the leak and the harvest in each of three arms.
    assert store.computed == 2 + 3 * 3
    full, none = arms["all"], arms["none"]
    assert full.metrics["specialness/conditional_bits"] == 0
    assert abs(full.metrics["specialness/own_bits"]) < 0.5
    assert none.metrics["specialness/separate_shift_bits"] == 0
    apart = [m.metrics["specialness/separate_bits"] for m in arms.values()]
    assert len(set(apart)) == 3 and max(apart) - min(apart) < 2  # begun anew in every arm
    assert min(apart) > 3
    assert len({m.parameters_sha256 for m in arms.values()}) == 1


def test_a_record_says_everything_or_why_not(measured) -> None:
    for m in measured[0].values():
        assert set(m.metrics) == {metric.name for metric in METRICS}
        assert all(name in m.reason for name, value in m.metrics.items() if value is None)


def test_flops_by_hand() -> None:
    arm = Config.model_validate(SMALL)
    found = {"separate": told(1.0), "conditional": {"bits": 0.0, "status": "by construction"}, "own": told(1.0)}
    p = 4 * 3 + 3 + 3 + 1
    got = flops(arm, found)
    assert got["compute/separate_flops"] == 10 * 24 * 6 * p and got["compute/conditional_flops"] == 24 * 6 * p
    assert got["compute/own_flops"] == pytest.approx(8 * 60 * (2 * 24 * 6 * p + 0.2 * 24 * 2 * p))
    assert got["compute/own_extra_flops"] == pytest.approx(8 * 60 * 0.2 * 24 * 2 * p)


def test_a_sampler_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="arm a: separate.method: got none"):
        check({"a": Config.model_validate(SMALL | {"separate": {"method": "none"}})})
