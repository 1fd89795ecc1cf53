"""Rederiving a human: planted answers, shared learners, and costs."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import reuse_sim
from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import rederive
from reuse_sim.humans import descent
from reuse_sim.plugins import Plugin
from reuse_sim.rng import stream
from reuse_sim.types import Fit

DESCENT = {"use": "descent", "width": 6, "steps": 150, "rate": 0.01, "batch": 16}
ARM = {"world": {"use": "radius"}, "human": DESCENT, "fresh": 3, "learner": DESCENT, "learner_widths": [12],
       "questions": 300}  # fmt: skip


def arms(**changes):
    return {name: rederive.Config.model_validate_json(json.dumps(ARM | change)) for name, change in changes.items()}


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(0, f"answers {shape}"))


def test_planted_answers():
    """H = f + e, fresh humans H exactly, learners 0, and f + e/2 ± f/5 at width 2: their mean is nearer than either.

    f and e are orthogonal and |e|² = |f|²/4, so that |H|² = 5/4 in units of |f|².
    """
    x = torch.arange(400) * (2 * torch.pi / 400)
    truth, e = x.sin()[None], 0.5 * (3 * x).sin()[None]
    human, middle = truth + e, truth + e / 2
    learned = {1: torch.zeros(2, 1, 400), 2: torch.stack([middle - 0.2 * truth, middle + 0.2 * truth])}
    metrics, parts = rederive.rederived(human, human.expand(2, -1, -1), learned, truth)
    assert metrics == pytest.approx(
        {
            "rederive/fresh_fit": 1.0,
            "rederive/learned_fit": 1 - (1 / 16 + 1 / 25) / (5 / 4),
            "rederive/teacher_fit": 1 - (1 / 4) / (5 / 4),
            "rederive/pooled_fit": 1 - (1 / 16) / (5 / 4),
            "rederive/own_fresh": 1.0,
            "rederive/own_learned": 1 - (1 / 16 + 1 / 25) / (1 / 4),
            "rederive/gap": (1 / 16 + 1 / 25) / (5 / 4),
        },
        abs=1e-5,
    )
    assert parts["best_width"] == 2 and parts["learned_by_width"]["1"] == pytest.approx(0, abs=1e-6)


def test_the_best_width_is_by_the_mean_over_its_learners_and_f_is_a_candidate():
    human, truth = drawn(1, 500), drawn(2, 500)[:1]
    near, far = human + 0.5 * drawn(3, 500)[:1], human + 3 * drawn(4, 500)[:1]
    # One learner of width 1 is H itself, yet those of width 2 are the better kind.
    learned = {1: torch.stack([human, far]), 2: torch.stack([near, near])}
    metrics, parts = rederive.rederived(human, near.expand(2, -1, -1), learned, truth)
    assert parts["best_width"] == 2 and metrics["rederive/gap"] == pytest.approx(0, abs=1e-6)
    right, _ = rederive.rederived(human, near.expand(2, -1, -1), learned, human)
    assert right["rederive/learned_fit"] == right["rederive/teacher_fit"] == 1 > right["rederive/fresh_fit"]


def test_learners_with_the_humans_budget_and_width_know_it_as_well_as_fresh_ones(tmp_path):
    """Means over four worlds; one world's gap has an sd of about .03 here."""
    found = [rederive.cell(arms(one={"learner_widths": [], "fresh": 6}), s, Store(tmp_path))["one"] for s in range(4)]
    gaps = [f.metrics["rederive/gap"] for f in found]
    fits = [f.metrics["rederive/fresh_fit"] for f in found]
    assert abs(sum(gaps) / 4) < 0.1 and min(fits) > 0.5 and max(fits) < 0.999  # nobody is somebody else
    assert all(f.metrics["human/train_flops"] == f.metrics["learner/train_flops"] for f in found)


def test_a_cell_says_everything_and_arms_share_what_they_have_in_common(tmp_path):
    store = Store(tmp_path)
    changed = {"human": {"use": "evolved", "width": 6, "generations": 5, "offspring": 6}}
    found = rederive.cell(arms(one={}, other=changed), 0, store)
    assert set(found["one"].metrics) == {m.name for m in rederive.METRICS}
    assert all(v is not None for v in found["one"].metrics.values()) and found["one"].status == "ok"
    # Humans and figures twice, learners of widths 6 and 12 once.
    assert (store.computed, store.reused) == (6, 2)
    assert found["one"].parameters_sha256 != found["other"].parameters_sha256
    assert found["one"].metrics["human/train_flops"] == 6 * 37 * 150 * 16
    assert found["other"].metrics["human/train_flops"] == 2 * 37 * 64 * 6 * 5
    assert rederive.memory_bytes(arms(one={})) > 2**29


def test_a_kind_that_does_not_tell_its_cost_is_said_so(tmp_path):
    """As the docs' skeleton does."""
    shutil.copy(Path(__file__).parents[2] / "docs" / "skeletons" / "my_human.py", tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "experiment: rederive\nseeds: 1\nworld: {use: radius}\nhuman: {use: 'my_human:build', steps: 20}\n"
        "fresh: 2\nlearner: {use: descent, steps: 20}\nquestions: 60\n"
    )
    (record,) = reuse_sim.run(tmp_path / "mine.yaml").records
    assert record.status == "ok" and record.metrics["human/train_flops"] is None
    assert "human/train_flops" in record.reason and record.metrics["learner/train_flops"] > 0


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    narrow = Plugin(room="humans", use="mine:build", options={"steps": 3})
    with pytest.raises(ValueError, match="a learner with an option 'width'"):
        rederive.Config.model_validate(dict(arms(one={})["one"]) | {"learner": narrow})
    with pytest.raises(InputError, match="arm one: human.depth: got 2"):
        rederive.check(arms(one={"world": {"use": "linear"}, "learner": DESCENT | {"depth": 2}}))
    rederive.check(arms(one={}))

    def breaking(self, world, theta_0, *_):
        return Fit(theta_0, torch.zeros(len(theta_0)), {1: "network 1: loss not finite at step 0 with rate 10"})

    monkeypatch.setattr(descent.Descent, "train", breaking)
    with pytest.raises(Refusal, match="arm one: a training broke: network 1: loss not finite at step 0"):
        rederive.cell(arms(one={}), 0, Store(tmp_path))
