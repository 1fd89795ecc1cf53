"""The exact teacher from the human: descent in closed form, the law given θ2, and the codes."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.experiments import linear_teacher
from reuse_sim.rng import stream
from reuse_sim.worlds import linear_gaussian


def config(**changes):
    arm = {"world": {"use": "linear_gaussian", "d": 7, "active": 4}}
    return linear_teacher.Config.model_validate_json(json.dumps(arm | changes))


def test_the_share_kept_is_what_descent_leaves() -> None:
    world = linear_gaussian.build(d=6, active=4)
    theta_1, theta = torch.randn(2, 1, 6, generator=stream(0, "both"), dtype=torch.float64)
    kept, start = linear_teacher.share_kept(world.variance.double(), 0.07, 30), theta.clone()
    for _ in range(30):
        leaf = theta.clone().requires_grad_()
        (grad,) = torch.autograd.grad(world.human_loss(world.human_net(1), leaf, theta_1).sum(), leaf)
        theta = theta - 0.07 * grad
    assert torch.allclose(theta, theta_1 + kept * (start - theta_1), atol=1e-12)
    assert torch.equal(kept[4:], torch.ones(2, dtype=torch.float64))


def test_the_law_given_the_human_is_that_of_many_draws() -> None:
    n, g, sd = 200_000, torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64), 0.6
    theta_1, start = torch.randn(2, n, 3, generator=stream(0, "many"), dtype=torch.float64)
    theta_2 = (1 - g) * theta_1 + g * sd * start
    mean, left = linear_teacher.given_human(theta_2, g, sd)
    z = (theta_1 - mean) / left  # standard normal and independent of θ2, if the law is right
    assert torch.allclose(z.square().mean(0), torch.ones(3, dtype=torch.float64), atol=4 * (2 / n) ** 0.5)
    assert ((z * theta_2).mean(0) / theta_2.std(0)).abs().max() < 4 / n**0.5
    never, all_of_it = linear_teacher.given_human(theta_2, torch.ones(3, dtype=torch.float64), sd)
    assert never.abs().max() == 0 and torch.equal(all_of_it, torch.ones(3, dtype=torch.float64))


def test_a_cell_says_that_effort_tells_more_and_nothing_of_the_unseen(tmp_path) -> None:
    arms = {"short": config(steps=5), "long": config(steps=200), "off": config(steps=200, asked="off"),
            "unseen": config(steps=200, asked="off", only_unseen=True)}
    share = []
    for seed in range(5):
        found = linear_teacher.cell(arms, seed, Store(tmp_path))
        m = {name: f.metrics for name, f in found.items()}
        assert set(m["long"]) == {metric.name for metric in linear_teacher.METRICS}
        assert m["unseen"]["ledger/given_share"] == pytest.approx(1, abs=1e-9)
        assert all(said["ledger/prequential_error_bits"] < 1e-9 for said in m.values())
        share.append([m[name]["ledger/given_share"] for name in arms])
    short, long, off, _ = torch.tensor(share).mean(0).tolist()
    assert long < 0.2 < short < 1 and long < off < 1


def test_other_worlds_are_refused() -> None:
    with pytest.raises(ValidationError, match="closed forms"):
        config(world={"use": "radius"})
    assert linear_teacher.memory_bytes({"one": config()}) > 2**28
