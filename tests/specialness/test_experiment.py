"""The experiment `specialness`: what arms share, what a record carries, and when it is undecided."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.errors import Refusal
from reuse_sim.experiments import specialness as experiment
from reuse_sim.experiments.specialness import METRICS, Config, cell, contradiction, memory_bytes

SMALL = {
    "world": {"use": "linear_gaussian", "d": 4, "active": 3},
    "human": {"use": "descent", "width": 1, "steps": 60, "rate": 0.05},
    "questions": 12,
    "tolerance": 0.2,
    "svi": {"steps": 100, "draws": 500},
    "nuts": {"chains": 2, "warmup": 20, "draws": 60},
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory):
    store = Store(tmp_path_factory.mktemp("store"))
    arms = {whose: Config.model_validate({**SMALL, "whose": whose}) for whose in ("own", "unrelated", "untrained")}
    return cell(arms, 3, store), store, arms


def test_arms_differ_in_who_gives_back_and_share_everything_else(measured) -> None:
    arms, store, _ = measured
    assert (store.computed, store.reused) == (3, 6)  # people, SVI and NUTS once for three arms
    own, unrelated, untrained = (arms[a].metrics for a in ("own", "unrelated", "untrained"))
    assert own["specialness/bits"] == unrelated["specialness/bits"] == untrained["specialness/bits"]
    assert own["specialness/given_back_bits"] > untrained["specialness/given_back_bits"]
    assert own["specialness/given_back_bits"] > unrelated["specialness/given_back_bits"]
    assert len({m.parameters_sha256 for m in arms.values()}) == 1


def test_a_record_carries_its_three_arguments_and_both_statuses(measured) -> None:
    for m in measured[0].values():
        assert m.diagnostics["reference"] == "initialisation prior of a linear 4-1 human"
        assert m.diagnostics["consistency"] == (
            "mean of (H - f)²/var f over 12 on-distribution questions of the linear_gaussian world")
        assert m.diagnostics["tolerance"] == 0.2
        assert m.diagnostics["nuts"]["status"] and m.diagnostics["svi"]["status"]
        assert m.diagnostics["nuts"]["rhat_max"] > 0.9 and m.diagnostics["nuts"]["ess_min"] > 0


def test_metrics_are_all_defined_and_agree_with_the_exact_ones(measured) -> None:
    m = measured[0]["own"].metrics
    assert set(m) <= {metric.name for metric in METRICS}
    assert abs(m["specialness/bits"] - m["specialness/exact_bits"]) < 0.5
    cost = m["specialness/consistency"] * 12 / (2 * 0.2) / 0.6931471805599453
    assert m["specialness/given_back_bits"] == pytest.approx(m["specialness/bits"] - cost)


def test_the_same_cell_anew_is_the_same_to_the_last_bit(measured, tmp_path: Path) -> None:
    before, _, arms = measured
    again = cell({"own": arms["own"]}, 3, Store(tmp_path))["own"]
    assert again == before["own"]


def test_another_seed_is_another_world(measured, tmp_path: Path) -> None:
    before, _, arms = measured
    again = cell({"own": arms["own"]}, 4, Store(tmp_path))["own"]
    assert again.metrics["specialness/bits"] != before["own"].metrics["specialness/bits"]


def test_a_human_whose_training_breaks_is_refused(tmp_path: Path) -> None:
    world = {"use": "radius"}
    human = {"use": "descent", "width": 2, "steps": 20, "rate": 10.0}
    config = Config.model_validate({**SMALL, "world": world, "human": human})
    broken = {0: "network 0: loss not finite at step 3 with rate 10"}
    people = experiment.train_people

    def breaks(asked, seed):
        return people(asked, seed)[0], {"broken": list(broken.values())}

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Refusal, match="broke: network 0"):
        patch.setattr(experiment, "train_people", breaks)
        patch.setattr(Store, "stage", _unstored)
        cell({"own": config}, 0, Store(tmp_path))


def _unstored(self, name, function, *inputs, config, seed):
    from reuse_sim.artifacts import Stored

    return Stored("", *function(*inputs, config, seed), False)


ESTIMATES = [
    ("converged", (30.0, 31.0), "upper", (0.0, 33.0), ""),
    ("converged", (30.0, 31.0), "two-sided", (30.5, 32.0), ""),
    ("chains disagree", (30.0, 31.0), "two-sided", (30.5, 32.0), "nuts: chains disagree"),
    ("converged", (36.0, 37.0), "upper", (0.0, 33.0), "contradict"),
    ("converged", (30.0, 31.0), "two-sided", (35.0, 36.0), "contradict"),
]


@pytest.mark.parametrize(("status", "nuts", "bound", "svi", "said"), ESTIMATES)
def test_what_is_believed(status: str, nuts: tuple, bound: str, svi: tuple, said: str) -> None:
    found = contradiction({"bound": bound, "low": svi[0], "high": svi[1]},
                          {"status": status, "low": nuts[0], "high": nuts[1]})
    assert said in found and bool(found) == bool(said)


@pytest.mark.parametrize(("field", "value"), [
    ("tolerance", 0), ("tolerance", float("inf")), ("questions", 1), ("whose", "nobody"), ("nuts", {"chains": 1}),
    ("nuts", {"draw": 100}), ("svi", {"steps": 1.5}), ("population", {"humans": 1}),
])
def test_bad_configs_are_refused(field: str, value) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({**SMALL, field: value})


def test_memory_grows_with_what_is_asked() -> None:
    small = Config.model_validate(SMALL)
    large = Config.model_validate({**SMALL, "questions": 100_000})
    assert memory_bytes({"a": small}) < 2**30 < memory_bytes({"a": small, "b": large})
