"""Heads whose human is learned beside them: what a cell says of slots, and what their arms have in common."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.experiments import paid_heads, paying, specialness_reward
from reuse_sim.experiments.specialness_reward import METRICS

ARM = {"world": {"use": "radius", "sines": 2}, "human": {"use": "descent", "width": 4, "steps": 300, "rate": 0.02},
       "questions": 32, "asked": 256, "steps": 40, "code_steps": 60, "population": 2, "leapfrogs": 2, "effort": 0.05,
       "behaviour": 32, "slot_steps": 400, "start": "fresh"}  # fmt: skip
ARMS = {"given": {}, "learned": {"slot": "learned"}, "stopped": {"slot": "learned", "joint": False},
        "warm": {"slot": "warm"}, "copy": {"slot": "learned", "start": "copy_cold", "reward": "none"},
        "reads": {"slot": "warm", "reads": True}, "direct": {"slot": "learned", "start": "direct"}}  # fmt: skip
SEED = 3


def arms(**changes) -> dict[str, specialness_reward.Config]:
    read = specialness_reward.Config.model_validate_json
    return {k: read(json.dumps(ARM | v | changes)) for k, v in ARMS.items()}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def found(store):
    return {k: m.metrics for k, m in specialness_reward.cell(arms(), SEED, store).items()}


def test_a_cell_tells_how_well_slots_know_the_human_and_at_what_cost(found) -> None:
    assert all(set(m) == {metric.name for metric in METRICS} for m in found.values())
    given = found["given"]
    assert (given["slot/bits"], given["slot/misfit_bits"], given["slot/human_first"]) == (0, 0, 1)
    assert given["outer/context_recovery"] == pytest.approx(1, abs=1e-4)
    for name in ("learned", "stopped", "warm", "copy", "direct"):
        assert found[name]["slot/bits"] > 0
    # 400 steps more of behaviour.
    assert found["warm"]["outer/context_recovery"] > max(0.6, found["learned"]["outer/context_recovery"] + 0.2)
    assert found["warm"]["slot/human_first"] == 1 and found["direct"]["slot/human_first"] == 0
    flops = [found[name]["train_flops"] for name in ("given", "learned", "warm")]
    assert flops == sorted(set(flops)) and found["stopped"]["train_flops"] == flops[1]


def test_what_follows_is_told_against_the_human_in_the_slot(found) -> None:
    """Swaps are of parameters: whoever is in the slot, the head follows by its c."""
    for name, m in found.items():
        if name != "reads":
            assert m["inheritance/causal_private"] == pytest.approx(m["choice/share_of_human"], abs=1e-4)
            assert m["inheritance/causal_total"] == pytest.approx(m["choice/share_of_human"], abs=1e-4)
            assert m["choice/swap_residual"] == pytest.approx(m["choice/share_of_human"] ** 2, abs=1e-4)
    assert found["reads"]["choice/swap_residual"] > found["reads"]["inheritance/causal_private"] ** 2


def test_the_ledger_leaves_the_slot_out(found) -> None:
    books = [{k: v for k, v in m.items() if k.startswith(("ledger/", "specialness/"))} for m in found.values()]
    assert all(book == books[0] for book in books)


def test_slots_begin_where_watching_has_left_them(store) -> None:
    config = arms()["warm"]
    about = config.model_dump(include=set(specialness_reward.SHARED)) | {"world": config.world, "human": config.human}
    people = store.stage("people", paying.train_people, config=about, seed=SEED)
    cold, _ = paid_heads.watch(people, about | {"slots": ["given", "learned"]}, SEED)
    warm, _ = paid_heads.watch(people, about | {"slots": ["warm"]}, SEED)
    assert "warm_nu" not in cold and torch.equal(cold["x"], warm["x"]) and cold["x"].shape == (2, 32, 4)
    assert torch.equal(cold["learned_nu"], warm["learned_nu"])
    place = paying.Place(people, about)
    assert torch.allclose(warm["given_nu"] * place.net.prior_sd(), place.theta_2, atol=1e-6)

    def misses(nu: torch.Tensor) -> float:
        return float((place.h("off", (nu * place.net.prior_sd())[None])[0] - place.h("off")).square().mean())

    assert misses(warm["given_nu"]) < 1e-9 < misses(warm["warm_nu"]) < misses(warm["learned_nu"]) / 2
    # Questions are fresh ones, of both distributions.
    radii = warm["x"].norm(dim=-1)
    assert float(radii[0].max()) <= 2 and float(radii[1].min()) > 2
    assert not torch.equal(warm["x"][0], place.x["condition"]) and not torch.equal(warm["x"][0], place.x["data"])


def test_a_given_slot_has_nothing_to_bend() -> None:
    with pytest.raises(ValidationError, match="joint"):
        specialness_reward.Config.model_validate_json(json.dumps(ARM | {"joint": False}))
