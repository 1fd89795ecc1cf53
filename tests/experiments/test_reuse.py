"""The reuse experiment on worlds small enough for a test: what must hold whatever the figures are."""

import logging
from types import SimpleNamespace

import pytest
import torch

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import reuse, scene
from reuse_sim.experiments.interview import Interview, Whose, whose
from reuse_sim.experiments.reuse import Config, cell
from reuse_sim.inheritance import figures
from reuse_sim.leaks import fixed
from reuse_sim.nets import Mlp
from reuse_sim.outers import references, slot
from reuse_sim.rng import stream, streams
from reuse_sim.scenario import load

SMALL = {
    "world": {"use": "merged_neurons", "d": 6},
    "human": {"use": "descent", "width": 6, "steps": 200},
    "leak": {"use": "prefix"},
    "outer": {"use": "slot", "width": 8},
    "training": {"steps": 30, "batch": 16, "off_batch": 8},
    "questions": 60,
}
SHOWN = {"use": "in_context", "width": 8, "examples": 6}
ARMS = {
    "none": {"leak": {"use": "prefix", "bits": 0}},
    "placebo": {"leak": {"use": "prefix", "of": "unrelated"}},
    "sibling": {"leak": {"use": "prefix", "of": "sibling"}},
    "random": {"leak": {"use": "prefix", "of": "random"}},
    "drip": {"leak": {"use": "drip", "bits": 20, "flip": 0.1, "code": "half"}},
    "never": {"leak": {"use": "drip", "bits": 0}},
    "all": {},
    "choice": {"rival": "matched"},
    "wide": {"outer": {"use": "slot", "width": 9}},
    "shown": {"outer": SHOWN},
    "shown_unrelated": {"outer": SHOWN, "leak": {"use": "prefix", "of": "unrelated"}},
    "direct": {"outer": {"use": "direct", "width": 8}},
    "filled": {"outer": {"use": "slot", "width": 8, "learns": True}, "leak": {"use": "prefix", "bits": 3}},
    "learned": {"outer": {"use": "slot", "width": 8, "learns": True}, "leak": {"use": "prefix", "bits": 0}},
    "units": {"outer": {"use": "slot", "width": 8, "reads": "units"}},
    "few": {"training": {"steps": 30, "batch": 16, "off_batch": 8, "labelled": 20, "chosen": "disagreement"}},
    "by_human": {"training": {"steps": 30, "batch": 16, "off_batch": 8, "labels": "human", "decay": 0.01}},
    "gate": {"outer": {"use": "gate", "width": 8}},
}


CLASSIFICATION = {"outer/accepted", "outer/wrongly_accepted"}
BEHAVIOUR = {"outer/behaviour_fit", "outer/behaviour_log2_error"}
REFERENCES = {f"reference/{name}_fit" for name in ("chance", "ridge", "neighbours", "gaussian_process")}
BESIDE = {*REFERENCES, "outer/above_references"}


def configs(**changes) -> dict[str, Config]:
    return {name: Config.model_validate({**SMALL, **arm, **changes}) for name, arm in ARMS.items()}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, logging.getLogger().warning)


@pytest.fixture
def everyone_fails(monkeypatch):
    monkeypatch.setattr(scene, "MUST_FAIL_BY", -10.0)


def test_every_arm_has_every_metric_and_no_access_has_no_causal_inheritance(store, everyone_fails):
    records = cell(configs(), 0, store)
    assert list(records) == list(ARMS)
    for name, record in records.items():
        lacking = CLASSIFICATION | BEHAVIOUR | (set() if name in ("shown", "shown_unrelated") else BESIDE)
        assert record.status == "ok" and set(record.metrics) == {m.name for m in reuse.METRICS} - lacking
    for without in ("none", "never"):
        assert records[without].metrics["inheritance/causal_private"] == 0.0
        assert records[without].metrics["inheritance/causal_total"] == 0.0
    assert records["never"].metrics == records["none"].metrics
    assert records["direct"].metrics["inheritance/causal_private"] == 0.0
    # Nothing is told of the human that was learned, so that only a swap of the whole of it is felt.
    assert records["learned"].metrics["inheritance/causal_private"] != 0.0
    # The examples are the human's: another's put in their place is felt, whoever's bits leak or do not.
    assert records["shown"].metrics["inheritance/causal_private"] != 0.0
    assert records["shown"].metrics["outer/off_fit"] != records["shown_unrelated"].metrics["outer/off_fit"]
    assert records["gate"].metrics["inheritance/causal_private"] == pytest.approx(0.5, abs=0.1)
    assert len({records[name].metrics["inheritance/causal_private"] for name in ARMS}) >= len(ARMS) - 3
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
    monkeypatch.setattr(scene, "MUST_FAIL_BY", 10.0)
    monkeypatch.setattr(reuse, "train_outers", None)
    records = cell(configs(), 0, store)
    assert all(r.status == "undecided" and "does not fail" in r.reason for r in records.values())
    assert all("human/off_fit" in r.metrics and "outer/off_fit" not in r.metrics for r in records.values())


def test_a_human_whose_training_breaks_is_refused_by_name(store):
    broken = {"use": "descent", "width": 6, "steps": 50, "rate": 10.0}
    world = {"use": "radius"}

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Refusal, match="step 0.*lower human.rate"):
        patch.setattr(scene.society, "train", _breaking)
        cell({"all": Config.model_validate({**SMALL, "world": world, "human": broken})}, 0, store)


def _breaking(world, human, population, repair_share, seed):
    tensors = torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), torch.zeros(2, 4, 1, 1), torch.zeros(2, 1, 1)
    return scene.People(*tensors), {0: "network 0: loss not finite at step 0 with rate 10"}


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


def test_a_leak_at_the_end_is_measured_but_not_trained_with(store, everyone_fails):
    arms = {
        name: Config.model_validate({**SMALL, "leak": {"use": "prefix", **leak}})
        for name, leak in {"none": {"bits": 0}, "end": {"at": 1.0}, "start": {}}.items()
    }
    shown, train = {}, reuse.training.train

    def watched(outer, trainings, room, told, *rest):
        shown.update(dict(zip(arms, [(told(29).known[i], told(30).known[i]) for i in range(3)], strict=True)))
        return train(outer, trainings, room, told, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse.training, "train", watched)
        records = cell(arms, 0, store)
    assert {name: (float(a.mean()), float(b.mean())) for name, (a, b) in shown.items()} == {
        "none": (0, 0), "end": (0, 1), "start": (1, 1)}  # fmt: skip
    swaps = {name: record.metrics["inheritance/causal_private"] for name, record in records.items()}
    assert swaps["none"] == 0 and swaps["end"] != 0 and swaps["end"] != swaps["start"]


def scene_of(humans: int, siblings: int, held_out: int) -> SimpleNamespace:
    net = Mlp((3, 2, 1))
    measured, whole = (held_out or humans), (humans + held_out)
    shapes = {"human": (2, whole), "siblings": (2, siblings, measured), "repaired": (2, measured)}
    people = {f"theta_{k}": torch.randn(*s, net.p, generator=stream(0, k)) for k, s in shapes.items()}
    scale = 2.0 ** (torch.arange(net.p) % 3)
    return SimpleNamespace(people=people, net=net, scale=scale, measured=slice(humans if held_out else 0, whole))


@pytest.mark.parametrize(("of", "place", "first"), [("own", 0, 0), ("unrelated", 1, 0), ("sibling", 0, 1)])
def test_whose_bits_are_leaked_and_swapped(of, place, first):
    here = scene_of(4, 3, 0)
    found = whose(of, here, 0)
    human = here.people["theta_siblings"][0, 0] if of == "sibling" else here.people["theta_human"][place]
    assert torch.equal(found.humans, human) and torch.equal(found.repaired, here.people["theta_repaired"][place])
    assert torch.equal(found.siblings, here.people["theta_siblings"][place, first:])


@pytest.mark.parametrize("sibling", [False, True])
def test_with_a_sibling_in_place_each_swap_is_compared_with_another_than_goes_in(sibling):
    off = figures.Society(*(torch.randn(*s, 5, generator=stream(0, str(s))) for s in ((2,), (2, 1), (4, 2), (2, 2))))
    others = off.siblings[1:] if sibling else off.siblings
    people = Whose(torch.zeros(1), others, torch.zeros(1), sibling)
    asked = Interview(None, 0, None, None, None, 1, None, people)
    compared = asked.compared(off).siblings
    assert len(compared) == len(others) == (3 if sibling else 4)
    for goes_in, stands in zip(others, compared, strict=True):
        assert torch.equal(goes_in, stands) != sibling


@pytest.mark.parametrize("held_out", [0, 2])
def test_random_bits_are_nobodys_and_each_networks_own(held_out):
    here = scene_of(4, 5, held_out)
    found = whose("random", here, 0)
    assert found.humans.shape == here.people["theta_human"][0].shape
    assert found.siblings.shape == here.people["theta_siblings"][0].shape
    assert found.repaired.shape == here.people["theta_repaired"][0].shape
    rows = torch.cat([found.humans, found.siblings.flatten(0, 1), found.repaired])
    assert len(rows.unique(dim=0)) == len(rows) and (rows.abs() <= here.scale).all()
    assert torch.equal(found.humans, whose("random", here, 0).humans)
    assert not torch.equal(found.humans, whose("random", here, 1).humans)
    assert torch.equal(whose("random", scene_of(3, 5, 0), 0).humans, found.humans[:3])  # by name: others shift nothing


def test_every_bit_of_random_parameters_is_a_fair_coin():
    here = scene_of(500, 3, 0)
    bits = fixed.encode(whose("random", here, 0).humans, here.scale).double()
    n = len(bits) * here.net.p
    assert ((bits.mean((0, 1)) - 0.5).abs() < 4 * 0.5 / n**0.5).all()


def test_a_leak_of_more_than_the_human_has_is_found_before_anything_runs(tmp_path):
    (tmp_path / "mine.yaml").write_text("""
experiment: reuse
seeds: 1
world: {use: merged_neurons, d: 5}
human: {use: descent, width: 4}
leak: {use: drip, bits: 321}
outer: {use: slot}
""")
    with pytest.raises(InputError, match=r"mine.yaml: arm main: leak.bits: got 321.*at most 320, all bits"):
        load(tmp_path / "mine.yaml")
    load(tmp_path / "mine.yaml", ["leak.bits=320"])
    for bad in ("leak.flip=1.5", "leak.at=-0.1", "leak.code=double", "leak.of=nobody", "leak.flip=.nan"):
        with pytest.raises(InputError, match=bad.partition("=")[0]):
            load(tmp_path / "mine.yaml", ["leak.bits=1", bad])


def test_an_outer_is_trained_on_the_examples_of_whomever_the_leak_is_of(store, everyone_fails, monkeypatch):
    rooms, whole = [], reuse.training.train

    def train(outer, trainings, room, *rest):
        rooms.append(room)
        return whole(outer, trainings, room, *rest)

    monkeypatch.setattr(reuse.training, "train", train)
    arms = configs()
    cell({name: arms[name] for name in ("shown", "shown_unrelated")}, 0, store)
    (room,) = rooms
    assert torch.equal(room.theta_shown[0], room.theta_human)
    assert room.theta_shown.shape[0] == 2 and not torch.allclose(room.theta_shown[1], room.theta_human)


def test_references_predict_the_human_from_the_examples_that_the_outer_is_shown(store, everyone_fails, monkeypatch):
    seen, whole = [], references.references

    def watched(*given):
        seen.append(given)
        return whole(*given)

    monkeypatch.setattr(references, "references", watched)
    arms = configs()
    records = cell({name: arms[name] for name in ("all", "shown", "shown_unrelated")}, 0, store)
    (x, y, asked), (x_again, y_other, _) = seen
    assert x.shape[:2] == (1, 6) and torch.equal(x, x_again) and not torch.equal(y, y_other)
    world = arms["shown"].world.build()
    off = world.off_distribution(world.teacher(streams(0, ["own/teacher/0"])), 60, streams(0, ["ask/0/off"]))
    assert torch.equal(asked, off) and not BESIDE & set(records["all"].metrics)
    for name in ("shown", "shown_unrelated"):
        figure = records[name].metrics
        best = max(figure[reference] for reference in REFERENCES)
        assert figure["outer/above_references"] == pytest.approx(figure["outer/context_recovery"] - best)
        assert figure["reference/chance_fit"] <= 0


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


def test_behaviour_that_the_human_does_not_have_is_found_before_anything_runs(tmp_path):
    (tmp_path / "mine.yaml").write_text("""
experiment: reuse
seeds: 1
world: {use: radius}
human: {use: descent, behaviours: 2}
leak: {use: prefix}
outer: {use: slot, behaviours: 2}
""")
    load(tmp_path / "mine.yaml")
    said = "mine.yaml: arm main: outer.behaviours: got 3; expected at most 2.*Set human.behaviours: 3, or"
    for more in ([], ["outer={use: direct}"], ["outer.learns=true"]):
        with pytest.raises(InputError, match=said):
            load(tmp_path / "mine.yaml", [*more, "outer.behaviours=3"])
    with pytest.raises(InputError, match="got 2; expected at most 0"):
        load(tmp_path / "mine.yaml", ["human.behaviours=0"])


def test_behaviour_is_measured_where_the_outer_predicts_it(store, everyone_fails):
    """Two of three behaviours: with the human's bits they are predicted better than with another's."""
    arms = {"none": {}, "known": {"behaviours": 2}, "unrelated": {"behaviours": 2}}
    base = {**SMALL, "world": {"use": "radius"}, "human": {"use": "descent", "width": 6, "steps": 200, "behaviours": 3}}
    how = {"steps": 300, "batch": 16, "off_batch": 16, "rate": 0.02}
    outers = {name: Config.model_validate(
        {**base, "outer": {**SMALL["outer"], **more}, "training": how,
         "leak": {"use": "prefix", "of": "unrelated" if name == "unrelated" else "own"}}
    ) for name, more in arms.items()}  # fmt: skip
    found = {name: record.metrics for name, record in cell(outers, 0, store).items()}
    assert not BEHAVIOUR & set(found["none"]) and set(found["known"]) - set(found["none"]) == BEHAVIOUR
    assert found["known"]["outer/behaviour_fit"] > 0.9
    assert found["known"]["outer/behaviour_log2_error"] < found["unrelated"]["outer/behaviour_log2_error"] - 1


def test_dials_that_do_not_fit_the_world_are_found_before_anything_runs(tmp_path):
    (tmp_path / "mine.yaml").write_text("""
experiment: reuse
seeds: 1
world: {use: radius}
human: {use: descent}
leak: {use: prefix}
outer: {use: slot}
""")
    for bad, said in {
        "training.confidence=0.5": "training.confidence: got 0.5; expected 0 where answers are numbers",
        "training={labelled: 9, chosen: easy}": "training.chosen: got easy; expected random, uncertain or disagreement",
    }.items():
        with pytest.raises(InputError, match=f"mine.yaml: arm main: {said}"):
            load(tmp_path / "mine.yaml", [bad])
    with pytest.raises(InputError, match="a slot that learns, for 2 humans"):
        load(tmp_path / "mine.yaml", ["outer.learns=true", "population.humans=3"])
    load(tmp_path / "mine.yaml", ["world={use: spurious}", "training={labelled: 9, chosen: easy, confidence: 0.5}"])


def test_siblings_leak_only_where_outers_are_measured_on_their_own_humans():
    with pytest.raises(ValueError, match="held_out: 0"):
        Config.model_validate({**SMALL, "leak": {"use": "prefix", "of": "sibling"}, "population": {"held_out": 2}})


def test_the_memory_estimate_is_of_the_right_size():
    """A population of 100 000 humans cannot fit where one does."""
    small, large = ({"all": Config.model_validate({**SMALL, "population": {"humans": n}})} for n in (1, 10_000))
    assert 2**28 < reuse.memory_bytes(small) < 2**31
    assert reuse.memory_bytes(large) > 4 * reuse.memory_bytes(small)
