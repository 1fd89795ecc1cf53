"""What is left of the order of data: nothing where there is none, all of what is planted, and the people themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reuse_sim.artifacts import Store
from reuse_sim.errors import Refusal
from reuse_sim.experiments import data_order
from reuse_sim.experiments.data_order import METRICS, PARTS, Config, cell
from reuse_sim.humans import descent
from reuse_sim.types import Fit

SMALL: dict[str, Any] = {
    "world": {"use": "radius"},
    "human": {"use": "descent", "width": 3, "steps": 60, "rate": 0.02},
    "others": 12,
    "questions": 24,
    "tolerance": 0.1,
}


def test_where_all_questions_are_seen_at_once_no_order_is_left(tmp_path) -> None:
    """Merged neurons: humans descend on the exact expected loss, which has no batches."""
    config = Config.model_validate(SMALL | {"world": {"use": "merged_neurons"}})
    out = cell({"one": config}, 0, Store(tmp_path))["one"].metrics
    assert out["joint/order_bits"] == 0 == out["joint/order_rate_bits"] == out["joint/order_count_bits"]
    assert out["joint/order_over_human"] == 0 == out["joint/order_censored"] == out["joint/order_over_init"]
    assert out["joint/init_bits"] > 0 and out["joint/init_bits"] == out["joint/both_bits"]


def test_the_people_share_what_they_should_and_arms_share_the_people(tmp_path) -> None:
    store = Store(tmp_path)
    arms = {"one": Config.model_validate(SMALL), "fine": Config.model_validate(SMALL | {"tolerance": 0.01})}
    found = cell(arms, 0, store)
    assert store.computed == 3
    one, fine = found["one"].metrics, found["fine"].metrics
    assert set(one) == {m.name for m in METRICS} and None not in one.values()
    for name in PARTS:
        assert 0 <= one[f"joint/{name}_rate_bits"] <= one[f"joint/{name}_bits"] < fine[f"joint/{name}_bits"]
        assert one[f"joint/{name}_over_human"] == pytest.approx(one[f"joint/{name}_bits"] / one["ledger/human_bits"])
    # With so short a training much of the initialisation is there still, and the batches moved it little.
    assert one["joint/order_bits"] < one["joint/init_bits"]
    assert data_order.memory_bytes(arms) > 2**29


def test_others_differ_in_their_part_alone() -> None:
    config = dict(Config.model_validate(SMALL | {"human": {"use": "descent", "width": 3, "steps": 1, "rate": 1e-6}}))
    tensors, _ = data_order.train_people(config, 0)
    human = tensors["answers_human"]
    # A step of next to nothing leaves the initialisation: the same for other orders, another for other initialisations.
    torch.testing.assert_close(tensors["answers_order"], human.expand(12, -1), atol=1e-4, rtol=0)
    assert float((tensors["answers_init"] - human).square().mean(-1).min()) > 1e-3
    assert float((tensors["answers_both"] - tensors["answers_init"]).abs().max()) < 1e-4


def test_broken_training_is_refused(tmp_path, monkeypatch) -> None:
    def breaking(self, world, theta_0, *_):
        return Fit(theta_0, torch.zeros(len(theta_0)), {0: "network 0: loss not finite at step 3 with rate 10"})

    monkeypatch.setattr(descent.Descent, "train", breaking)
    with pytest.raises(Refusal, match="a human's training broke: network 0: loss not finite at step 3"):
        cell({"a": Config.model_validate(SMALL)}, 0, Store(tmp_path))
