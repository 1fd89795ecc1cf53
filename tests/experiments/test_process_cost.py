"""What reruns cost: the search for a rate, the step at which a loss is met, factors of planted runs, and one cell."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError
from reuse_sim.experiments import process_cost
from reuse_sim.experiments.process_cost import factors
from reuse_sim.humans.descent import Descent

ARM = {"world": {"use": "radius"}, "human": {"use": "descent", "width": 6, "steps": 450, "batch": 32},
       "outer": {"width": 8, "target": 0.6, "batches": [2, 8, 32], "runs": 4, "steps": 60}}  # fmt: skip


def config(**changes):
    return process_cost.Config.model_validate_json(json.dumps(ARM | changes))


def test_a_loss_over_some_questions_is_not_above_the_loss():
    arm = config()
    task = process_cost.Task(arm.world.build(), arm.outer, 0)
    whole = task.loss(task.theta_0)
    error = task.net.forward(task.theta_0, task.x)[..., 0] - task.f
    assert whole == pytest.approx(float((error.square().mean(1) / task.f.var(correction=0)).log().mean().exp()))
    parts = [task.loss(task.theta_0, n) for n in (64, 512, 2047)]
    assert sorted(parts) == parts and parts[-1] <= whole


def test_factors_of_planted_runs():
    """S = 100 (1 + 10/B), c = 6 · 50 = 300: a critical batch takes 3000, the outer 600,000 FLOPs."""
    batches = [2, 4, 8, 16, 32, 64]
    ran = {"least": 100.0, "critical": 10.0, "misfit": 0.0, "parameters": 50, "batches": batches,
           "steps": [100 * (1 + 10 / b) for b in batches],
           "noise": [{"simple": 4.0, "curved": 6.0, "error": 3.0}, None, {"simple": 8.0, "curved": 8.0, "error": 4.0}]}
    said = factors(ran, config(share=0.005))  # 3000
    assert said == pytest.approx({
        "process/per_batch_factor": 2, "process/per_datapoint_factor": 11, "process/once_factor": 1.005,
        "process/premium": 4, "process/measured_premium": 4, "process/premium_off": 0, "process/flops_ratio": 0.005,
        "process/sample_ratio": 10, "process/best_over_critical": 1, "process/break_even_over_critical": 1,
        "process/doomed": 0, "process/critical_batch": 10, "process/least_steps": 100, "process/misfit": 0,
        "process/noise_simple": 6, "process/noise_curved": 7, "process/noise_error": 2.5,
        "process/rerun_flops": 3000, "process/outer_flops": 600_000,
    })  # fmt: skip
    assert set(said) == {m.name for m in process_cost.METRICS}
    own = factors(ran, config())
    assert own["process/rerun_flops"] == 6 * 37 * 450 * 32 and own["process/doomed"] == 1


@pytest.mark.slow
def test_arms_of_one_outer_share_its_runs_and_a_cell_says_everything(tmp_path):
    store = Store(tmp_path)
    arms = {"own": config(), "share": config(share=0.1), "never": config(outer=ARM["outer"] | {"target": 1e-4})}
    found = process_cost.cell(arms, 0, store)
    assert store.computed == 2
    own, share = ({k: v or 0.0 for k, v in found[arm].metrics.items()} for arm in ("own", "share"))
    assert own["process/critical_batch"] == share["process/critical_batch"] > 0
    assert share["process/once_factor"] == pytest.approx(1.1)
    assert share["process/per_batch_factor"] == pytest.approx(1 + 0.2 * share["process/least_steps"])
    assert found["never"].status == "undecided" and "Take more steps" in found["never"].reason
    assert process_cost.memory_bytes(arms) > 2**29


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(ValidationError, match="three sizes"):
        config(outer=ARM["outer"] | {"batches": [8, 2, 4]})
    monkeypatch.delattr(Descent, "train_flops")
    with pytest.raises(InputError, match="train_flops"):
        process_cost.check({"one": config()})
    process_cost.check({"one": config(share=1.0)})
