"""What fresh humans save: balls against a closed form, what censoring says, slopes over kinds, and whole cells."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.stats import ncx2

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError
from reuse_sim.experiments import fresh_by_kind, fresh_human_reference
from reuse_sim.experiments.balls import Scene, ball
from reuse_sim.experiments.fresh_by_kind import regressed, saved_share
from reuse_sim.experiments.fresh_human_reference import summary
from reuse_sim.nets import Mlp, first_output
from reuse_sim.rng import stream
from reuse_sim.specialness import estimate, frequency
from reuse_sim.types import Estimate

WORLD: dict[str, Any] = {"world": {"use": "radius", "sines": 2},
                         "human": {"use": "descent", "width": 3, "steps": 60, "rate": 0.02, "batch": 16}}  # fmt: skip
ARM = WORLD | {"fresh": 64, "questions": 16, "tolerance": 0.2, "agreement": 0.5, "effort": 0.1}


def config(**changes: Any) -> fresh_human_reference.Config:
    return fresh_human_reference.Config.model_validate_json(json.dumps(ARM | changes))


# Balls of a linear human: |θ − h|² is non-central χ² under the prior, and under training that adds noise to θ1.


def linear() -> tuple[Any, Mlp, torch.Tensor, torch.Tensor]:
    """World, net, questions whose Gram matrix is n times the identity, and a human h `(3,)`."""
    net = Mlp((3, 1), bias=False)
    q, _ = torch.linalg.qr(torch.randn(12, 3, generator=stream(0, "x"), dtype=torch.float64))
    return SimpleNamespace(human_answer=first_output), net, q * 12**0.5, torch.tensor([0.9, -0.4, 0.3]).double()


def exact(h: torch.Tensor, mean: torch.Tensor, sd: float, squared: float) -> float:
    """−log₂ Pr[|θ − h|² ≤ squared] for θ normal about `mean`."""
    return -math.log2(float(ncx2.cdf(squared / sd**2, 3, float((h - mean).square().sum()) / sd**2)))


@pytest.mark.parametrize("tolerance", [0.02, 0.1, 0.5])
def test_both_ways_to_weigh_a_ball_agree_with_the_closed_form(tolerance: float) -> None:
    world, net, x, h = linear()
    variance, teacher, noise, draws = 2.0, torch.tensor([1.0, -0.5, 0.2]).double(), 0.3, 200_000
    problem = ball(world, net, x, first_output(net, h, x), variance, tolerance, "")
    outright = estimate(problem, "smc", 2.0, generator=stream(1, "s"), level=0.999)
    truth = exact(h, torch.zeros(3).double(), 3**-0.5, tolerance * variance)
    assert outright.status == "converged" and outright.low <= truth <= outright.high
    trained = teacher + noise * torch.randn(draws, 3, generator=stream(2, "t"), dtype=torch.float64)
    given = frequency.estimate_from(trained, problem, level=0.999)
    assert given.low <= exact(h, teacher, noise, tolerance * variance) <= given.high
    assert given.high - given.low < 0.5


def test_where_nobody_is_in_the_ball_the_figure_is_a_bound() -> None:
    world, net, x, h = linear()
    problem = ball(world, net, x, first_output(net, h, x), 1.0, 1e-9, "")
    said = frequency.estimate_from(torch.randn(1000, 3, generator=stream(0, "t"), dtype=torch.float64), problem)
    assert said.bound == "lower" and said.low == pytest.approx(-math.log2(1 - 0.1 ** (1 / 1000)), abs=1e-9)


# What is made of them ---------------------------------------------------------------------------------


def counted(hits: int, draws: int = 1024) -> dict[str, Any]:
    bits = -math.log2(hits / draws) if hits else math.log2(draws + 1)
    return {"bits": bits, "least": bits - 0.5, "hits": hits, "metrics": {}}


def test_the_summary_of_planted_figures() -> None:
    mass = {"bits": 40.0, "bound": "two-sided"}, {"bits": 20.0, "bound": "two-sided"}
    said = summary(*mass, counted(64), {"weights": 100, "index": 10, "nearest": 60.0, "others": [80.0]})
    assert said["joint/given_bits"] == 4 and said["joint/saved_share"] == pytest.approx(0.9)
    assert said["joint/saved_over_specialness"] == pytest.approx(1.8)
    assert said["joint/apart_share"] == pytest.approx(0.8)
    assert said["joint/saved_coded_share"] == pytest.approx(0.9)
    assert said["joint/saved_by_nearest_share"] == pytest.approx(0.4)
    assert said["joint/saved_by_first_share"] == pytest.approx(0.2)
    none = summary(*mass, counted(0), {})
    assert none["joint/censored"] == 1 and none["joint/given_bits"] is None and none["joint/apart_share"] is None
    assert none["joint/saved_share"] == 0  # told outright: a lower bound …
    assert none["joint/saved_most_share"] == pytest.approx(1 - (math.log2(1025) - 0.5) / 40)  # … and the upper one
    unknown = summary(mass[0], {"bits": 50.0, "bound": "lower"}, counted(64), {})
    assert unknown["specialness/bits"] is None and unknown["joint/saved_over_specialness"] is None


def test_a_cell_says_everything_and_what_it_says_holds_together(tmp_path) -> None:
    store = Store(tmp_path)
    arms = {"own": config(), "tight": config(tolerance=1e-4, coded=False), "other": config(of="other", coded=False),
            "event": config(centre="teacher", tolerance=0.5)}  # fmt: skip
    found = fresh_human_reference.cell(arms, 0, store)
    for said in found.values():
        assert {m.name for m in fresh_human_reference.METRICS} == set(said.metrics)
        assert all(name in said.reason for name, value in said.metrics.items() if value is None)
    own, tight = found["own"].metrics, found["tight"]
    assert tight.metrics["joint/censored"] == 1 and "censored: none of 64 fresh humans" in tight.reason
    assert own["joint/censored"] == 0 and (own["joint/saved_share"] or 0) > 0
    # One teacher, one S for all arms, and the ball about f is its event.
    assert len({said.metrics["specialness/bits"] for said in found.values()}) == 1
    assert found["event"].metrics["joint/outright_bits"] == own["specialness/bits"]
    # Of another teacher fresh humans are further away.
    assert (found["other"].metrics["joint/median_distance"] or 0) > 2 * (own["joint/median_distance"] or 0)
    # The index is of a fresh human in the ball.
    codes = found["own"].diagnostics["codes"]
    assert own["joint/index_bits"] is not None and codes["first_hit"] is not None
    assert own["joint/index_bits"] < (own["joint/weights_bits"] or 0)
    assert own["joint/trainings"] == codes["first_hit"] + 1 and tight.metrics["joint/trainings"] == 64
    assert fresh_human_reference.memory_bytes(arms) > 2**29


def test_what_the_nearest_says_of_the_humans_own_is_all_where_it_is_the_human(tmp_path) -> None:
    store, asked = Store(tmp_path), config()
    own = {"world": asked.world, "human": asked.human}
    people = store.stage("one_human", fresh_human_reference.train_human, config=own, seed=0)
    pool = store.stage("fresh", fresh_human_reference.train_fresh, config=own | {"count": 64, "of": "own"}, seed=0)
    scene = Scene(people, own | {"questions": 16, "where": "on"}, 0)
    theta = torch.cat([pool.tensors["theta"], people.tensors["theta_human"]]).double()
    itself, others = scene.failures(theta, 64), [scene.failures(theta[:64], i) for i in range(64)]
    assert itself["joint/nearest_private"] == pytest.approx(1) and itself["joint/nearest_own"] == pytest.approx(1)
    # Of a random sibling, measured from the mean of the others: 0 in the mean.
    assert sum(o["joint/nearest_private"] for o in others) / 64 == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("experiment", [fresh_human_reference, fresh_by_kind])
def test_a_classification_has_no_ball(experiment) -> None:
    arm = config(world={"use": "spurious"})
    with pytest.raises(InputError, match="regression"):
        experiment.check({"own": arm})


def test_figures_that_did_not_converge_make_the_arm_undecided(tmp_path, monkeypatch) -> None:
    def never(problem, *_, **__):
        return Estimate(9.0, 8.0, 10.0, "upper", "global", "stuck: take more effort")

    monkeypatch.setattr(fresh_human_reference, "estimate", never)
    found = fresh_human_reference.cell({"own": config(coded=False)}, 0, Store(tmp_path))["own"]
    assert found.status == "undecided" and found.reason.startswith("outright: stuck")


# Kinds ----------------------------------------------------------------------------------------------


def test_planted_slopes_are_found_each_at_the_other_held() -> None:
    first, second = [0.0, 1.0, 2.0, 5.0, 3.0], [2.0, 1.0, 7.0, 1.0, 8.0]
    spread = [float(torch.tensor(x).double().std(correction=0)) for x in (first, second)]
    slopes, together = regressed([3 + 0.5 * a - 0.25 * b for a, b in zip(first, second, strict=True)], first, second)
    assert slopes == pytest.approx((0.5 * spread[0], -0.25 * spread[1]))
    assert together == pytest.approx(float(torch.corrcoef(torch.tensor([first, second]).double())[0, 1]))
    assert regressed([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == (None, None)
    assert regressed([1.0, 2.0, 4.0], [1.0, 2.0, 3.0], [2.0, 4.0, 6.0])[0] is None


def test_nothing_is_saved_where_nobody_hit() -> None:
    assert saved_share(40.0, 4.0, 3) == pytest.approx(0.9) and saved_share(40.0, 12.0, 0) == 0


def test_a_cell_has_all_kinds_and_the_learners_own_is_what_they_agree_with(tmp_path) -> None:
    arm = WORLD | {"efforts": [5, 300], "widths": [3, 4], "fresh": 64, "questions": 16, "tolerance": 0.2, "effort": 0.1}
    arm = arm | {"human": WORLD["human"] | {"steps": 300}, "where": "on"}
    kinds = fresh_by_kind.Config.model_validate_json(json.dumps(arm))
    found = fresh_by_kind.cell({"all": kinds}, 0, Store(tmp_path))["all"]
    assert list(found.diagnostics) == [f"{w} units, {s} steps" for w in (3, 4) for s in (5, 300)]
    assert set(found.metrics) == {m.name for m in fresh_by_kind.METRICS}
    said = found.diagnostics
    assert said["3 units, 300 steps"]["agreement"] > said["3 units, 5 steps"]["agreement"]
    ratio = 300 * (6 * 4 + 1) / (5 * (6 * 3 + 1))
    assert found.metrics["human/flops_ratio"] == pytest.approx(ratio)
    assert fresh_by_kind.memory_bytes({"all": kinds}) > 2**29
