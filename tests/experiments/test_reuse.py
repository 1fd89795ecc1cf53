"""The reuse experiment on worlds small enough for a test: what must hold whatever the figures are."""

import logging

import pytest
import torch

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import reuse
from reuse_sim.experiments.reuse import Config, cell
from reuse_sim.outers import slot
from reuse_sim.scenario import load

SMALL = {
    "world": {"use": "merged_neurons", "d": 6},
    "human": {"use": "descent", "width": 6, "steps": 200},
    "leak": {"use": "prefix"},
    "outer": {"use": "slot", "width": 8, "steps": 30, "batch": 16, "off_batch": 8},
    "questions": 60,
}
SHOWN = {**SMALL["outer"], "use": "in_context", "examples": 6}
ARMS = {
    "none": {"leak": {"use": "prefix", "bits": 0}},
    "placebo": {"leak": {"use": "prefix", "of": "unrelated"}},
    "sibling": {"leak": {"use": "prefix", "of": "sibling"}},
    "all": {},
    "choice": {"rival": "matched"},
    "wide": {"outer": {**SMALL["outer"], "width": 9}},
    "shown": {"outer": SHOWN},
    "shown_unrelated": {"outer": SHOWN, "leak": {"use": "prefix", "of": "unrelated"}},
    "direct": {"outer": {**SMALL["outer"], "use": "direct"}},
    "gate": {"outer": {**SMALL["outer"], "use": "gate"}},
}


def configs(**changes) -> dict[str, Config]:
    return {name: Config.model_validate({**SMALL, **arm, **changes}) for name, arm in ARMS.items()}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, logging.getLogger().warning)


@pytest.fixture
def everyone_fails(monkeypatch):
    monkeypatch.setattr(reuse, "MUST_FAIL_BY", -10.0)


def test_every_arm_has_every_metric_and_no_access_has_no_causal_inheritance(store, everyone_fails):
    records = cell(configs(), 0, store)
    assert list(records) == list(ARMS)
    for record in records.values():
        assert record.status == "ok" and set(record.metrics) == {m.name for m in reuse.METRICS}
    assert records["none"].metrics["inheritance/causal_private"] == 0.0
    assert records["none"].metrics["inheritance/causal_total"] == 0.0
    assert records["direct"].metrics["inheritance/causal_private"] == 0.0
    # The examples are the human's: another's put in their place is felt, whoever's bits leak or do not.
    assert records["shown"].metrics["inheritance/causal_private"] != 0.0
    assert records["shown"].metrics["outer/off_fit"] != records["shown_unrelated"].metrics["outer/off_fit"]
    assert records["gate"].metrics["inheritance/causal_private"] == pytest.approx(0.5, abs=0.1)
    assert len({r.parameters_sha256 for r in records.values()}) == 1


def test_an_arm_does_not_depend_on_the_others_beside_it(store, everyone_fails):
    together = cell(configs(), 0, store)
    for name in ("all", "wide"):
        alone = cell({name: configs()[name]}, 0, store)
        for metric, value in alone[name].metrics.items():
            assert value == pytest.approx(together[name].metrics[metric], rel=1e-3, abs=1e-3)  # float32 stacks


def test_an_outer_that_does_not_show_its_hidden_units_has_no_probe(store, everyone_fails, monkeypatch):
    monkeypatch.delattr(slot.Slot, "hidden")
    (record,) = cell({"all": configs()["all"]}, 0, store).values()
    assert record.status == "ok" and "outer/probe_fit" not in record.metrics


def test_a_second_run_computes_nothing(store, everyone_fails):
    first = cell(configs(), 0, store)
    computed = store.computed
    assert cell(configs(), 0, store) == first and store.computed == computed


def test_a_world_whose_human_does_not_fail_is_excluded_before_any_outer(store, monkeypatch):
    monkeypatch.setattr(reuse, "MUST_FAIL_BY", 10.0)
    monkeypatch.setattr(reuse, "train_outers", None)
    records = cell(configs(), 0, store)
    assert all(r.status == "undecided" and "does not fail" in r.reason for r in records.values())
    assert all("human/off_fit" in r.metrics and "outer/off_fit" not in r.metrics for r in records.values())


def test_a_human_whose_training_breaks_is_refused_by_name(store):
    broken = {"use": "descent", "width": 6, "steps": 50, "rate": 10.0}
    world = {"use": "radius"}

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Refusal, match="step 0.*lower human.rate"):
        patch.setattr(reuse.society, "train", _breaking)
        cell({"all": Config.model_validate({**SMALL, "world": world, "human": broken})}, 0, store)


def _breaking(world, human, population, repair_share, seed):
    tensors = torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), torch.zeros(2, 4, 1, 1), torch.zeros(2, 1, 1)
    return reuse.People(*tensors), {0: "network 0: loss not finite at step 0 with rate 10"}


def test_the_leaked_sibling_is_left_out_of_every_comparison(store, everyone_fails, monkeypatch):
    seen = []
    whole = reuse.figures.of_outer
    monkeypatch.setattr(
        reuse.figures,
        "of_outer",
        lambda off, swaps, *rest: seen.append((len(off.siblings), len(swaps.siblings))) or whole(off, swaps, *rest),
    )
    arms = configs()
    cell({name: arms[name] for name in ("all", "sibling")}, 0, store)
    assert seen == [(4, 4), (3, 3)]


def test_an_outer_is_trained_on_the_examples_of_whomever_the_leak_is_of(store, everyone_fails, monkeypatch):
    rooms, whole = [], reuse.training.train

    def train(outers, room, *rest):
        rooms.append(room)
        return whole(outers, room, *rest)

    monkeypatch.setattr(reuse.training, "train", train)
    arms = configs()
    cell({name: arms[name] for name in ("shown", "shown_unrelated")}, 0, store)
    (room,) = rooms
    assert torch.equal(room.theta_shown[0], room.theta_human)
    assert room.theta_shown.shape[0] == 2 and not torch.allclose(room.theta_shown[1], room.theta_human)


def test_parts_that_do_not_fit_together_are_found_before_anything_runs(tmp_path):
    (tmp_path / "mine.yaml").write_text("""
experiment: reuse
seeds: 1
world: {use: merged_neurons}
human: {use: descent}
leak: {use: prefix}
outer: {use: context}
""")
    with pytest.raises(InputError, match=r"mine.yaml: arm main: outer: context: .*one hidden layer.*use outer: slot"):
        load(tmp_path / "mine.yaml")
    with pytest.raises(InputError, match=r"arm main: rival: .*outer: slot"):
        load(tmp_path / "mine.yaml", ["world={use: radius}", "rival=matched"])


def test_siblings_leak_only_where_outers_are_measured_on_their_own_humans():
    with pytest.raises(ValueError, match="held_out: 0"):
        Config.model_validate({**SMALL, "leak": {"use": "prefix", "of": "sibling"}, "population": {"held_out": 2}})


def test_the_memory_estimate_is_of_the_right_size():
    """A population of 100 000 humans cannot fit where one does."""
    small, large = ({"all": Config.model_validate({**SMALL, "population": {"humans": n}})} for n in (1, 10_000))
    assert 2**28 < reuse.memory_bytes(small) < 2**31
    assert reuse.memory_bytes(large) > 4 * reuse.memory_bytes(small)
