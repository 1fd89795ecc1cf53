"""The question-answering part: never longer than the whole, all of it where there is no more, and learned alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.errors import Refusal
from reuse_sim.experiments import question_answering_part
from reuse_sim.experiments.question_answering_part import METRICS, Config, cell
from reuse_sim.humans import descent
from reuse_sim.types import Fit

SMALL: dict[str, Any] = {
    "world": {"use": "radius", "sines": 1},
    "human": {"use": "descent", "width": 4, "steps": 300, "rate": 0.03},
    "questions": 24,
    "tolerance": 0.7,
    "fresh": 2,
    "effort": 0.1,
}


def arm(behaviours: int, **changes: Any) -> Config:
    return Config.model_validate(SMALL | changes | {"human": SMALL["human"] | {"behaviours": behaviours}})


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory):
    store = Store(tmp_path_factory.mktemp("store"))
    return cell({"none": arm(0), "two": arm(2)}, 1, store), store


def test_the_part_is_at_most_the_whole_and_all_of_it_where_there_is_nothing_else(measured) -> None:
    arms, store = measured
    none, two = arms["none"].metrics, arms["two"].metrics
    assert none["joint/part_over_whole"] == 1 == none["specialness/answers_over_whole"]
    assert 0 < two["ledger/answering_bits"] < two["ledger/human_bits"]
    assert two["joint/part_over_whole"] == two["ledger/answering_bits"] / two["ledger/human_bits"]
    assert store.computed == 6


def test_fresh_humans_who_learn_f_answer_as_the_human_does(measured) -> None:
    for m in measured[0].values():
        assert m.metrics["joint/fresh_on_fit"] > 0.8 and m.metrics["joint/told_on_fit"] > 0.8
    assert measured[0]["none"].metrics["human/behaviour_fit"] is None
    assert measured[0]["two"].metrics["human/behaviour_fit"] > 0.2


def test_the_answers_are_less_special_than_all_a_human_does(tmp_path) -> None:
    metrics = cell({"two": arm(2, tolerance=0.9, effort=0.5)}, 1, Store(tmp_path))["two"].metrics
    assert 0 < metrics["specialness/answers_bits"] < metrics["specialness/whole_bits"]


def test_a_record_says_everything_or_why_not(measured, tmp_path) -> None:
    for m in measured[0].values():
        assert set(m.metrics) == {metric.name for metric in METRICS}
        assert all(name in m.reason for name, value in m.metrics.items() if value is None)
    strict = cell({"two": arm(2, tolerance=0.01)}, 1, Store(tmp_path))["two"]
    assert strict.status == "ok" and strict.metrics["specialness/whole_bits"] is None
    assert strict.reason.startswith("the human itself is not consistent") and strict.metrics["ledger/human_bits"] > 0


def test_what_cannot_be_is_refused(tmp_path, monkeypatch) -> None:
    with pytest.raises(ValidationError, match="an option 'behaviours'"):
        Config.model_validate(SMALL | {"human": {"use": "selected"}})

    def breaking(self, world, theta_0, *_):
        return Fit(theta_0, torch.zeros(len(theta_0)), {0: "network 0: loss not finite at step 3 with rate 10"})

    monkeypatch.setattr(descent.Descent, "train", breaking)
    with pytest.raises(Refusal, match="a human's training broke: network 0: loss not finite at step 3"):
        cell({"a": arm(0)}, 0, Store(tmp_path))
    assert question_answering_part.memory_bytes({"a": arm(2)}) > 2**29
