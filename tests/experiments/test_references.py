"""One event under several references: what each reference is, what arms share, and what is said where nobody agrees."""

from __future__ import annotations

import json
import math

import pytest
import torch

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import references
from reuse_sim.humans import descent
from reuse_sim.nets import Mlp
from reuse_sim.types import Estimate, Fit

RADIUS = {"world": {"use": "radius", "sines": 1}, "human": {"use": "descent", "width": 3, "steps": 200, "rate": 0.02},
          "questions": 16, "tolerance": 0.4, "trained": 40, "effort": 0.3}  # fmt: skip
CUES = {**RADIUS, "world": {"use": "spurious"}, "consistency": "disagreement", "tolerance": 0.25}


def arms(base=RADIUS, **changes):
    return {name: references.Config.model_validate_json(json.dumps(base | change)) for name, change in changes.items()}


@pytest.fixture(scope="module")
def radius(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    kinds = ("initialisation", "around_nothing", "training", "other_teacher", "gaussian_process")
    return references.cell(arms(**{k: {"reference": k} for k in kinds}), 0, store), store


def test_every_arm_says_everything_and_the_event_is_the_same(radius):
    found, store = radius
    for name, said in found.items():
        assert set(said.metrics) == {m.name for m in references.METRICS}
        assert all(v is not None or k in said.reason for k, v in said.metrics.items()), name
    assert len({said.diagnostics["tolerance"] for said in found.values()}) == 1
    assert len({said.metrics["specialness/consistency"] for said in found.values()}) == 1
    assert len({said.diagnostics["reference"] for said in found.values()}) == 5
    # People, strangers, and one estimate for each reference; the initialisation's is read again by all arms.
    assert (store.computed, store.reused) == (2 + 5, 4 + 5)
    assert found["other_teacher"].parameters_sha256 != found["training"].parameters_sha256


def test_bits_are_minus_log2_of_shares(radius):
    found, _ = radius
    said = found["training"]
    hits, n = said.diagnostics["hits"], said.diagnostics["draws"]
    assert n == 40 and 0 < hits <= n
    assert said.metrics["specialness/bits"] == pytest.approx(-math.log2(hits / n))
    prior = found["initialisation"].metrics["specialness/bits"]
    assert said.metrics["specialness/against_initialisation_bits"] == pytest.approx(-math.log2(hits / n) - prior)
    assert said.metrics["specialness/per_parameter_bits"] == pytest.approx(-math.log2(hits / n) / 19)
    assert found["initialisation"].metrics["specialness/against_initialisation_bits"] == 0


def test_the_initialisation_prior_agrees_with_plain_draws(tmp_path):
    """At a tolerance that one network in some dozens meets."""
    one = arms(one={"tolerance": 0.9, "effort": 1.0})
    found = references.cell(one, 3, Store(tmp_path))["one"]
    people = Store(tmp_path).stage("people", references.train_people, seed=3,
                                   config=references._only(one["one"], "world", "human", "trained"))
    problem = references.Scene(people, one["one"], 3).problem()
    theta = problem.reference.sample(200_000, torch.Generator().manual_seed(1))
    share = float((problem.cost(theta) <= 0.9).double().mean())
    assert 0.001 < share < 0.5
    error = found.diagnostics["error_bits"] + (1 / (200_000 * share)) ** 0.5 / math.log(2)
    assert found.metrics["specialness/bits"] == pytest.approx(-math.log2(share), abs=4 * error)


def test_around_nothing_has_the_spread_of_each_layer():
    net = Mlp((2, 2, 1))  # weights 4, biases 2; weights 2, bias 1
    theta = torch.tensor([1.0, -1, 3, 1, 2, -2, 3, -3, 0])
    reference = references.around_nothing(net, theta)
    first, second = (20 / 6) ** 0.5, 6**0.5
    assert reference.sd.tolist() == pytest.approx([first] * 6 + [second] * 3)
    assert reference.mean == 0.0


def test_answers_are_counted_by_the_binomial_formula(tmp_path):
    """Four of 16 may be wrong: 1 + 16 + 120 + 560 + 1820 ways of 2^16."""
    found = references.cell(arms(CUES, counting={"reference": "counting"}), 0, Store(tmp_path))["counting"]
    assert found.metrics["specialness/bits"] == pytest.approx(16 - math.log2(2517))
    assert found.metrics["specialness/low_bits"] == found.metrics["specialness/high_bits"]


def test_where_no_trained_human_agrees_there_is_a_bound_and_no_figure(tmp_path):
    one = {"reference": "other_teacher", "tolerance": 0.01}
    found = references.cell(arms(one=one), 0, Store(tmp_path))["one"]
    assert found.diagnostics["hits"] == 0 and found.status == "ok"
    assert found.metrics["specialness/bits"] is None and "none of 40 draws" in found.reason
    # 1 − (1 − q)^40 = .9 at the share q that the bound is the bits of.
    assert found.metrics["specialness/bound_bits"] == pytest.approx(-math.log2(1 - 0.1 ** (1 / 40)))


def test_what_did_not_converge_is_undecided(tmp_path, monkeypatch):
    def never(*_, **__):
        return Estimate(9.0, 8.0, 10.0, "upper", "global", "chains stuck: take more effort", {})

    monkeypatch.setattr(references, "estimate", never)
    found = references.cell(arms(one={}), 0, Store(tmp_path))["one"]
    assert found.status == "undecided" and "chains stuck" in found.reason
    assert found.metrics["specialness/bits"] is found.metrics["specialness/bound_bits"] is None
    assert found.metrics["specialness/high_bits"] == 10.0


@pytest.mark.parametrize(("base", "kind"), [(RADIUS, "counting"), (CUES, "gaussian_process")])
def test_a_reference_that_makes_no_sense_of_the_consistency_is_refused(base, kind):
    with pytest.raises(InputError, match=f"arm one: reference {kind}"):
        references.check(arms(base, one={"reference": kind}))
    references.check(arms(base, one={}))
    assert references.memory_bytes(arms(base, one={})) > 2**29


def test_a_human_whose_training_broke_is_refused(tmp_path, monkeypatch):
    def breaking(self, world, theta_0, *_):
        return Fit(theta_0, torch.zeros(len(theta_0)), {0: "network 0: loss not finite at step 0"})

    monkeypatch.setattr(descent.Descent, "train", breaking)
    with pytest.raises(Refusal, match="training broke: network 0: loss not finite"):
        references.cell(arms(one={}), 0, Store(tmp_path))
