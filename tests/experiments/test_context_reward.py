"""Paying an outer that sees many humans: what a cell says, what arms have in common, what is given back."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import context_paying as paying
from reuse_sim.experiments import context_reward
from reuse_sim.experiments.context_reward import METRICS, PEOPLE, Config
from reuse_sim.experiments.scene import train_people
from reuse_sim.remedies.shown import Condition
from reuse_sim.types import Estimate

ARM = {
    "world": {"use": "radius", "sines": 2}, "human": {"use": "descent", "width": 3, "steps": 600, "rate": 0.02},
    "population": {"teachers": 2, "humans": 6, "held_out": 2, "siblings": 3}, "outer": {"use": "context", "width": 4},
    "questions": 60, "asked": 16, "batch": 4, "humans_per_step": 3, "steps": 20, "chains": 2, "effort": 0,
}  # fmt: skip
ARMS = {
    "none": {"reward": "none"}, "own": {}, "shuffled": {"reward": "shuffled"}, "late": {"since": 0.5},
    "by_human": {"labels": "human", "reward": "none"}, "blind": {"sees": "nothing", "reward": "none"},
}  # fmt: skip
SEED = 3


def arms(*names: str, **changes) -> dict[str, Config]:
    return {k: Config.model_validate_json(json.dumps(ARM | ARMS[k] | changes)) for k in names or ARMS}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return context_reward.cell(arms(), SEED, Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    config = dict(arms("own")["own"])
    people = Store(tmp_path_factory.mktemp("store")).stage(
        "people", train_people, config={k: config[k] for k in PEOPLE}, seed=SEED
    )
    return paying.Place(people, config, SEED)


def test_a_cell_says_every_metric_or_names_those_it_does_not_ask(found) -> None:
    for measured in found.values():
        assert set(measured.metrics) == {m.name for m in METRICS}
        assert all(value is not None or name in measured.reason for name, value in measured.metrics.items())
        assert {"inheritance/contrast/numerator", "inheritance/contrast/denominator"} <= set(measured.diagnostics)


def test_only_paid_arms_have_chains_and_who_sees_nothing_follows_nobody(found) -> None:
    for name, measured in found.items():
        paid = name in ("own", "shuffled", "late")
        assert (measured.metrics["choice/acceptance"] is not None) == paid
        assert (measured.metrics["choice/chain_nats"] is not None) == paid
    blind = found["blind"].metrics
    assert blind["inheritance/causal_total"] == blind["choice/swap_residual"] == 0
    assert blind["choice/own_share"] == pytest.approx(1)
    assert 0 < found["none"].metrics["choice/own_share"] < 1


def test_arms_share_all_streams_and_a_late_reward_changes_nothing_before(tmp_path) -> None:
    """An arm alone is what it is beside others, and one whose reward never came is the unpaid one."""
    unpaid = context_reward.cell(arms("none"), SEED, Store(tmp_path))["none"].metrics
    beside = context_reward.cell(arms("none", "own", "late", since=0.0), SEED, Store(tmp_path))
    assert beside["none"].metrics["outer/on_fit"] == pytest.approx(unpaid["outer/on_fit"], abs=1e-5)
    never = {"none": arms("none")["none"], "late": arms("late", since=0.999, steps=20)["late"]}
    both = context_reward.cell(never, SEED, Store(tmp_path))
    assert both["late"].metrics["outer/on_fit"] == pytest.approx(both["none"].metrics["outer/on_fit"], abs=1e-5)
    assert beside["own"].metrics["outer/on_fit"] != pytest.approx(unpaid["outer/on_fit"], abs=1e-5)


def test_a_copy_is_given_nothing_back_and_f_what_the_chains_event_weighs(place) -> None:
    g = torch.Generator().manual_seed(0)
    copy = Condition(place.net, place.condition().human, lambda _, theta: place.condition().human(theta), place.unit)
    assert paying.given_back(place, copy, torch.zeros(1, 1), 0.002, g).bits == pytest.approx(0, abs=0.1)
    # A human's own answers, whoever is shown: a mean over draws of the prior says the same.
    alone = place.alone(place.h.mean(0) * 0)
    theta = place.net.init([g] * 20_000)
    z = (theta / place.net.prior_sd()).T.unsqueeze(1)
    right = -float(((-alone.energy(z, place.in_order(torch.zeros(1, 1)))).exp().mean()).log2())
    back = paying.given_back(place, alone, torch.zeros(1, 1), 0.02, g)
    assert back.bits == pytest.approx(right, abs=max(0.5, 4 * back.diagnostics["error_bits"]))
    assert right > 0.3


def test_the_tolerance_is_the_humans_own_error(place) -> None:
    assert place.unit == pytest.approx(1.1 * float((place.h - place.f).square().mean()))
    errors = (place.h - place.f).square().mean(-1) / place.unit
    assert torch.allclose(place.misfit(place.h, place.f), 64 * (errors - 1).clamp(min=0))


def test_the_ledger_is_of_the_labels_and_adds_up(tmp_path, monkeypatch) -> None:
    def given(error: float):
        return lambda *_: Estimate(9, 8, 10, "two-sided", "global", "converged", {"error_bits": error})

    monkeypatch.setattr(paying, "given_back", given(7.0))
    rough = context_reward.cell(arms("none", effort=2, steps=10), SEED, Store(tmp_path))["none"]
    assert rough.metrics["specialness/given_back_bits"] is None and "given_back_bits" in rough.reason
    monkeypatch.setattr(paying, "given_back", given(0.5))
    asked = arms("none", "by_human", effort=1, steps=10)
    found = context_reward.cell(asked, SEED, Store(tmp_path))
    truth, human = found["none"].metrics, found["by_human"].metrics
    errs = truth["ledger/copy_bits"]
    assert truth["specialness/given_back_bits"] == 9
    assert human["ledger/copy_bits"] == 0 and human["specialness/bits"] == truth["specialness/bits"] == 9
    assert truth["ledger/intended_bits"] == pytest.approx(1 - truth["specialness/bits"])  # of two teachers
    assert human["ledger/intended_bits"] == pytest.approx(errs + 1 - truth["specialness/bits"])
    for m in (truth, human):
        assert m["ledger/difference_bits"] == pytest.approx(m["ledger/copy_bits"] - m["ledger/intended_bits"])
        follows, sure = m["inheritance/causal_total"] > 0.5, abs(m["ledger/difference_bits"]) > 3
        assert m["choice/against_ledger"] == (float(follows == (m["ledger/difference_bits"] > 0)) if sure else None)


def test_humans_that_must_agree_do(tmp_path) -> None:
    """The condition's questions are then held to the human's answers as well, which are others than the truth."""
    either = {"free": arms("none", steps=300)["none"], "meets": arms("none", steps=300, meets=True)["none"]}
    found = context_reward.cell(either, SEED, Store(tmp_path))
    place_of = {name: m.metrics for name, m in found.items()}
    assert place_of["meets"]["choice/agrees_trained"] >= place_of["free"]["choice/agrees_trained"]
    assert place_of["meets"]["outer/on_fit"] != place_of["free"]["outer/on_fit"]


def test_what_would_say_nothing_is_refused(tmp_path) -> None:
    poor = {"use": "descent", "width": 3, "steps": 1, "rate": 0.001}
    with pytest.raises(Refusal, match="does not fail"):
        context_reward.cell(arms("none", human=poor), SEED, Store(tmp_path))
    with pytest.raises(Refusal, match="constant"):
        context_reward.cell(arms("none", human=poor, must_fail=False), SEED, Store(tmp_path))
    with pytest.raises(InputError, match="numbers"):
        context_reward.check(arms("none", world={"use": "spurious"}))
    with pytest.raises(InputError, match="hidden layer"):
        context_reward.check(arms("none", human={"use": "descent", "width": 3, "depth": 2}))
    for wrong in ({"reward": "none", "since": 0.5}, {"sees": "nothing"}, {"labels": "human", "meets": True}):
        with pytest.raises(ValidationError, match="reward|meets"):
            Config.model_validate_json(json.dumps(ARM | wrong))


def test_what_an_outer_is_shown_is_all_bits_or_none() -> None:
    theta = torch.arange(6.0).reshape(2, 1, 3)
    given = paying.access(theta, torch.tensor([True, False])).leaked
    assert torch.equal(given.value[0], theta[0]) and not given.value[1].any()
    assert bool((given.known[0] == 1).all()) and not given.known[1].any()
