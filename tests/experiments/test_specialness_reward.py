"""Paying for specialness: what a cell says, what the arms have in common, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import paying, specialness_reward
from reuse_sim.experiments.specialness_reward import METRICS

ARM = {"world": {"use": "radius", "sines": 2}, "human": {"use": "descent", "width": 4, "steps": 300, "rate": 0.02},
       "questions": 32, "asked": 256, "steps": 40, "code_steps": 60, "population": 2, "leapfrogs": 2,
       "effort": 0.05}  # fmt: skip
SEED = 3


def arms(**changes) -> dict[str, specialness_reward.Config]:
    own = {
        "copy": {}, "none": {"reward": "none"}, "direct": {"start": "direct"}, "shut": {"start": "fresh", "opens": 1.0},
        "warm": {"start": "copy_warm", "reward": "shuffled"}, "reads": {"start": "fresh", "reads": True},
    }  # fmt: skip
    read = specialness_reward.Config.model_validate_json
    return {k: read(json.dumps(ARM | v | changes)) for k, v in own.items()}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return specialness_reward.cell(arms(), SEED, Store(tmp_path_factory.mktemp("store")))


def test_a_cell_says_every_metric_or_names_those_it_does_not_ask(found) -> None:
    for measured in found.values():
        assert set(measured.metrics) == {m.name for m in METRICS}
        assert all(value is not None or name in measured.reason for name, value in measured.metrics.items())


def test_one_ledger_stands_beside_all_arms_and_adds_up(found) -> None:
    books = [{k: v for k, v in m.metrics.items() if k.startswith(("ledger/", "specialness/"))} for m in found.values()]
    assert all(book == books[0] for book in books)
    book = books[0]
    if book["ledger/difference_bits"] is None:
        assert "specialness" in found["copy"].reason
        return
    assert book["ledger/difference_bits"] == pytest.approx(book["ledger/copy_bits"] - book["ledger/direct_bits"])
    assert book["ledger/direct_bits"] == min(book["ledger/intended_bits"], book["ledger/held_bits"])
    assert book["ledger/intended_bits"] >= book["ledger/teacher_bits"] - book["specialness/bits"] - 1e-3


def test_heads_follow_the_human_by_the_share_they_use_of_it(found) -> None:
    for name, measured in found.items():
        m = measured.metrics
        if name != "reads":
            assert m["inheritance/causal_private"] == pytest.approx(m["choice/share_of_human"], abs=1e-4)
            assert m["choice/swap_residual"] == pytest.approx(m["choice/share_of_human"] ** 2, abs=1e-4)
        assert 0 <= m["choice/own_share"] <= 1
        assert m["choice/direct"] == float(m["choice/own_share"] > 0.5)
    shut = found["shut"].metrics
    assert shut["choice/share_of_human"] == 0 and shut["choice/own_share"] == pytest.approx(1)
    assert found["reads"].metrics["choice/swap_residual"] > found["reads"].metrics["inheritance/causal_private"] ** 2
    assert found["none"].metrics["choice/acceptance"] is None and found["copy"].metrics["choice/acceptance"] > 0
    assert found["none"].metrics["train_flops"] < found["copy"].metrics["train_flops"]


def test_the_ledger_is_held_against_only_where_it_prefers_something(found) -> None:
    for m in (measured.metrics for measured in found.values()):
        difference = m["ledger/difference_bits"] or 0.0
        assert (m["choice/against_ledger"] is None) == (abs(difference) <= 2)
        assert (m["choice/gap_where_direct"] is None) == (difference <= 2)
        if abs(difference) > 2:
            assert m["choice/against_ledger"] == float(m["choice/direct"] != float(difference > 0))


def test_specialness_is_of_the_chains_event(tmp_path) -> None:
    config = arms()["copy"]
    about = {"world": config.world, "human": config.human, "questions": 32, "asked": 256}
    people = Store(tmp_path).stage("people", paying.train_people, config=about, seed=SEED)
    place = paying.Place(people, about)
    f = place.f("condition")
    problem = place.problem(f)
    theta = problem.reference.sample(6, torch.Generator().manual_seed(0))
    z = (theta.float() / place.net.prior_sd()).T.unsqueeze(1)
    heads = paying.reward.Heads(torch.zeros(1), torch.zeros(1, place.net.sizes[1]), f[None])
    energy, slope, _ = place.scene.condition.energy(z, heads)
    assert torch.allclose(problem.strength * problem.cost(theta), energy[0].double(), rtol=1e-4, atol=1e-3)
    assert problem.gradient is not None
    upward = problem.strength * problem.gradient(theta)[1] * place.net.prior_sd().double()
    assert torch.allclose(upward, slope[:, 0].T.double(), rtol=1e-3, atol=1e-2)


def test_worlds_that_would_say_nothing_are_refused(tmp_path) -> None:
    with pytest.raises(Refusal, match="constant") as told:
        poor = {"use": "descent", "width": 4, "steps": 1, "rate": 0.001}
        specialness_reward.cell(arms(human=poor, must_fail=False), SEED, Store(tmp_path))
    assert told.value.status == "undecided"


def test_a_reward_that_is_none_has_no_beginning_and_humans_without_units_no_chains() -> None:
    with pytest.raises(ValidationError, match="since"):
        specialness_reward.Config.model_validate_json(json.dumps(ARM | {"reward": "none", "since": 0.5}))
    with pytest.raises(InputError, match="hidden layer"):
        specialness_reward.check(arms(human={"use": "descent", "width": 4, "depth": 2}))
