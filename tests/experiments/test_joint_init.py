"""Teacher, start and process in place of θ2: what a cell says, and its parts."""

from __future__ import annotations

import json
import math

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import joint_init, starts
from reuse_sim.experiments.joint_init import rank_correlation, summary
from reuse_sim.experiments.started import Scene, information, rounded_bits
from reuse_sim.experiments.starts import DECIDING, label, linear_excess
from reuse_sim.rng import stream

ARM = {"world": {"use": "radius", "sines": 1}, "width": 1, "efforts": [1, 2, 4], "batch": 4, "questions": 10,
       "effort": 0.001, "searches": 2, "search_steps": 1, "curve": []}  # fmt: skip


def config(**changes):
    return joint_init.Config.model_validate_json(json.dumps(ARM | changes))


@pytest.mark.slow
def test_one_cell_says_everything(tmp_path) -> None:
    found = joint_init.cell({"one": config()}, 0, Store(tmp_path))["one"]
    assert set(found.metrics) == {m.name for m in joint_init.METRICS} and found.status == "ok"
    said = found.metrics
    assert said["replay/exact"] == 1 and abs(said["budget/excess_bits"] or 0) < 1e-9
    for at in map(label, DECIDING):
        human = said[f"human_bits/at_{at}"]
        assert human and said[f"ledger/init_share_at_{at}"] == pytest.approx((said[f"init_bits/at_{at}"] or 0) / human)
        found_bits, teacher = said[f"ledger/found_bits_at_{at}"], said[f"ledger/teacher_bits_at_{at}"]
        both = None if found_bits is None else pytest.approx((found_bits + (teacher or 0)) / human)
        assert said[f"ledger/joint_share_at_{at}"] == both
        assert (found_bits is None) == (said[f"recovery/share_at_{at}"] == 0)
    empty = [name for name, value in said.items() if value is None]
    assert all(name in found.reason for name in empty) and "init_bits/at_20" in empty  # not asked for


def test_drift_is_of_the_human_on_questions_of_both_kinds() -> None:
    scene = Scene(config(questions=100), 0)
    theta = scene.net.init([stream(0, "a"), stream(0, "b")], torch.float64)
    drift = scene.drift(theta[0])
    radii = scene.asked.norm(dim=1)
    assert bool((radii[:50] <= 2).all()) and bool((radii[50:] >= 2.8 - 1e-9).all())
    assert float(drift(theta)[0]) < 1e-25
    apart = (scene.net.forward(theta[1], scene.asked) - scene.net.forward(theta[0], scene.asked)).square().mean()
    assert float(drift(theta)[1]) == pytest.approx(float(apart / scene.variance))
    # f is standardised on-distribution; 4096 questions say so within 5 of their standard errors or so.
    assert float(scene.variance) == pytest.approx(1, abs=0.1)


def test_shorter_trainings_see_the_first_questions_of_longer_ones() -> None:
    scene = Scene(config(efforts=[3, 50, 70]), 0)
    assert torch.equal(scene.process(3).x, scene.process(70).x[:3]) and len(scene.process(70).x) == 70
    f = scene.world.answer(scene.theta_1, scene.process(70).x[60][None])[0]
    assert torch.allclose(scene.process(70).y[60], f)


def test_information_is_specialness_less_what_an_own_error_overpays() -> None:
    scene = Scene(config(effort=0.05, width=2), 0)
    said = information(scene, scene.net.init([stream(0, "a")], torch.float64)[0], "x")
    s = said["specialness_bits"]
    assert said["information_bits"] == pytest.approx(s - math.log2(1 + s * math.log(2)))
    assert said["information_bits"] <= 3  # an untrained net knows nothing of f


def test_a_code_without_search_rounds_at_the_coarsest_step_that_does() -> None:
    theta = torch.tensor([0.3, -1.2, 2.0, 0.7] * 10, dtype=torch.float64)
    sd = torch.full((40,), 2.0, dtype=torch.float64)

    def far(other):
        return (other - theta).abs().amax(-1)

    bits = {t: rounded_bits(theta, sd, far, t) for t in (0.05, 0.05 / 4, 1e-12)}
    assert bits[1e-12] is None
    # Whichever step does, a quarter of the tolerance is about two bits more for each parameter.
    assert (bits[0.05 / 4] or 0) - (bits[0.05] or 0) == pytest.approx(80, abs=40)
    # Within half a step of .05 at most; information of a normal of spread .6 sds at that step.
    assert 40 * 2 < (bits[0.05] or 0) < 40 * 7


def test_the_linear_budget_has_no_excess() -> None:
    assert all(linear_excess(stream(seed, "budget")) < 1e-9 for seed in range(5))


def test_the_summary_of_planted_stages() -> None:
    c = config(efforts=[1, 2, 3])
    codes = {f"{name}_{label(t)}": v for t in DECIDING for name, v in (
        ("human_bits/at", 100.0), ("init_bits/at", 40.0), ("ledger/teacher_bits_at", 80.0),
        ("ledger/found_bits_at", 45.0))}

    def searched(steps, reached=(True, True)):
        return {"steps": steps, "reached": list(reached), "trainings": [4 * s + 1 for s in steps]}

    def mass(bits, status="converged"):
        return {"bits": bits, "start_status": status, "end_status": "converged"}

    searches = {"1": {"5": searched([9, 9])}, "2": {"5": searched([5, 5])},
                "3": {"1": searched([10, 20], (True, False)), "5": searched([2, 4]), "10": searched([0, 0])}}
    masses = {"1": {"masses": {"5": mass(3.0)}, "information_bits": 1.0},
              "2": {"masses": {"5": mass(6.0)}, "information_bits": 5.0},
              "3": {"masses": {"1": mass(30.0, "stuck"), "5": mass(20.0), "10": mass(10.0)}, "information_bits": 4.0}}
    said = summary(c, codes, searches, masses)
    assert said["ledger/init_share_at_1"] == 0.4 and said["ledger/joint_share_at_10"] == 1.25
    assert [said[f"preimage/share_at_{at}"] for at in ("1", "5", "10")] == [0.3, 0.2, 0.1]
    assert said["recovery/share_at_1"] == 0.5 and said["recovery/found"] == 1 and said["recovery/steps_at_1"] == 15
    assert said["recovery/trainings"] == 61
    assert said["preimage/information_correlation"] == pytest.approx(0.5)
    assert said["recovery/cost_correlation"] == pytest.approx(-1)
    assert said["preimage/converged"] == pytest.approx(9 / 10)
    lacking = summary(c, codes | {"human_bits/at_1": None}, searches, masses)
    assert lacking["ledger/init_share_at_1"] is None and lacking["preimage/share_at_1"] is None


def test_ranks_of_what_does_not_vary_say_nothing() -> None:
    assert rank_correlation([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) is None
    assert rank_correlation([1.0, 2.0, 3.0], [9.0, 4.0, 1.0]) == -1


def test_a_start_without_a_code_is_told(tmp_path, monkeypatch) -> None:
    def never(theta, sd, distortion, tolerance, name, weighting):
        raise InputError("tolerance", tolerance, "more than there is")

    monkeypatch.setattr(starts, "shortest", never)
    found = joint_init.cell({"one": config()}, 0, Store(tmp_path))["one"]
    assert found.metrics["ledger/init_share_at_5"] is None and "got 0.05; expected more than there is" in found.reason


def test_a_teacher_without_a_code_is_told(tmp_path, monkeypatch) -> None:
    def never(world, theta_1, x, error, name):
        raise InputError("tolerance", error, "more than there is")

    monkeypatch.setattr(starts.teacher_codes, "told", never)
    found = joint_init.cell({"one": config()}, 0, Store(tmp_path))["one"]
    assert found.metrics["ledger/joint_share_at_5"] is None and "expected more than there is" in found.reason


def test_a_broken_human_is_refused(tmp_path) -> None:
    with pytest.raises(Refusal, match="lower rate"):
        joint_init.cell({"one": config(rate=10, efforts=[1, 2, 4], width=64)}, 0, _Broken(tmp_path))


class _Broken(Store):
    def stage(self, name, function, *inputs, config, seed):
        out = super().stage(name, function, *inputs, config=config, seed=seed)
        return type(out)(out.key, out.tensors, {**out.values, "broken": True}, False)


@pytest.mark.parametrize(("given", "match"), [
    ({"world": {"use": "spurious"}}, "first output"), ({"efforts": [1, 2]}, "three numbers"),
    ({"efforts": [4, 2, 8]}, "in order"), ({"curve": [0.07]}, "some of 0.001"),
])
def test_what_cannot_be_is_refused(given, match) -> None:
    with pytest.raises(ValidationError, match=match):
        config(**given)


def test_memory_is_told() -> None:
    assert joint_init.memory_bytes({"one": config()}) > 2**29
    more = joint_init.memory_bytes({"one": config(efforts=[1, 2, 2000], searches=500, width=64)})
    assert more > 2 * joint_init.memory_bytes({"one": config()})
