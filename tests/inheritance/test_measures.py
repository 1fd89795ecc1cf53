"""Measures of inheritance on answers whose inheritance is known by construction."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.inheritance import causal, figures, observed
from reuse_sim.rng import stream
from reuse_sim.stats import ratio_interval


def draw(*shape: int, name: str = "x") -> torch.Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


f, human, siblings = draw(2, 50, name="f"), draw(2, 50, name="h"), draw(4, 2, 50, name="s")


@given(st.floats(-1, 2))
def test_a_mixture_of_human_and_teacher_inherits_its_weight(w):
    outer = f + w * (human - f)
    over, under = observed.sibling_contrast(outer, f, human, siblings)
    assert float(over / under) == pytest.approx(w, abs=1e-9)
    assert float(observed.beta(outer, f, human)) == pytest.approx(w, abs=1e-9)
    swapped = f + w * (siblings - f)
    assert float(causal.follows(outer, swapped, human, siblings)) == pytest.approx(w, abs=1e-9)
    assert float(observed.gap_recovered(outer, f, human)) == pytest.approx(1 - w**2, abs=1e-9)
    assert float(observed.own_failure(outer, f, human)) == pytest.approx(0, abs=1e-9)


def test_what_ignores_the_swap_has_no_causal_inheritance():
    outer = draw(2, 50, name="m")
    assert float(causal.follows(outer, outer.expand(4, 2, 50), human, siblings)) == 0.0


def test_common_failure_gives_beta_but_no_contrast():
    """M copies a sibling: it fails as all do (β near the shared share) and has nothing of this human's own."""
    parts, betas = [], []
    for w in range(200):
        g = stream(w, "world")
        shared = 2 * torch.randn(1, 200, generator=g, dtype=torch.float64)
        people = shared + torch.randn(6, 1, 200, generator=g, dtype=torch.float64)
        right = torch.zeros(1, 200, dtype=torch.float64)
        parts.append(observed.sibling_contrast(people[5], right, people[0], people[1:5]))
        betas.append(float(observed.beta(people[5], right, people[0])))
    interval = ratio_interval([[float(a) for a, _ in parts]], [[float(b) for _, b in parts]])
    assert interval.low <= 0 <= interval.high and interval.high - interval.low < 0.1
    assert sum(betas) / 200 == pytest.approx(0.8, abs=0.05)  # 4 / (4 + 1)


def test_the_own_share_of_failure():
    """Failures of variance 4 in common and 1 of one's own: a share of 1/5."""
    g = stream(0, "share")
    shared = 2 * torch.randn(1, 40_000, generator=g, dtype=torch.float64)
    people = shared + torch.randn(5, 1, 40_000, generator=g, dtype=torch.float64)
    share = observed.own_failure_share(torch.zeros(1, 40_000, dtype=torch.float64), people[0], people[1:])
    assert float(share) == pytest.approx(0.2, abs=0.01)


def test_agreement_splits_into_human_teacher_both_and_neither():
    right, human = torch.zeros(1, 4), torch.tensor([[1.0, 1.0, 1.0, 0.02]])
    outer = torch.tensor([[1.04, 0.04, 0.5, 0.01]])
    near = observed.agreement(outer, right, human, tolerance=0.1)
    assert [float(n) for n in near] == [0.5, 0.5, 0.25]
    assert int(observed.disagreement(right, human, torch.zeros(3, 1, 4), 0.1)) == 3


def test_performance_gap_recovered_of_burns_et_al():
    """ImageNet accuracies of AlexNet and its students DINO-RN50 and ViT-B/8 (arXiv 2312.09390)."""
    for transfer, ceiling, recovered in ((61.9, 64.5, 0.6709), (66.6, 74.0, 0.5747)):
        assert observed.performance_gap_recovered(56.6, transfer, ceiling) == pytest.approx(recovered, abs=5e-5)
        # As squared errors against a ceiling of zero error, the same ratio.
        error = torch.tensor([[(ceiling - transfer) / (ceiling - 56.6)]]).sqrt()
        zero, one = torch.zeros(1, 1), torch.ones(1, 1)
        assert float(observed.gap_recovered(error, zero, one)) == pytest.approx(recovered, abs=5e-5)


@pytest.mark.parametrize("scores", [(56.6, 60.0, 56.6), (56.6, 60.0, 50.0), (0.5, math.nan, 0.9), (0.5, 0.6, math.inf)])
def test_no_gap_and_no_score_are_no_ratio(scores):
    with pytest.raises(InputError):
        observed.performance_gap_recovered(*scores)


def test_r_squared_uses_each_humans_own_mean():
    truth = torch.tensor([[0.0, 2.0], [10.0, 12.0]])
    assert float(observed.r_squared(truth + 0.5, truth)) == pytest.approx(1 - 4 * 0.25 / 4)


def test_every_figure_of_an_outer_is_defined_and_the_other_way_round():
    society = figures.Society(f, human, siblings, draw(2, 50, name="r"))
    swaps = figures.Swaps(human, siblings, society.repaired)
    metrics, parts = figures.of_outer(society, swaps, human, f, f, 0.1, probed=f)
    yes_or_no, _ = figures.of_outer(society, swaps, human, f, f, 0.1, "classification", f)
    behaviour = figures.of_behaviour(draw(2, 3, 50, name="does"), draw(2, 3, 50, name="did"))
    names = ("chance", "ridge", "neighbours", "gaussian_process")
    beside = figures.of_references(dict.fromkeys(names, f), human, 0.5, "regression")
    assert set(yes_or_no | behaviour | beside) == {m.name for m in figures.OUTER} and metrics["outer/probe_fit"] == 1
    assert set(yes_or_no) - set(metrics) == {"outer/accepted", "outer/wrongly_accepted"}
    without, _ = figures.of_outer(society, swaps, human, f, f, 0.1)
    assert set(metrics) - set(without) == {"outer/probe_fit"}
    assert set(figures.of_human(society, society, 0.1)) == {m.name for m in figures.HUMAN}
    assert metrics["inheritance/causal_private"] == metrics["inheritance/causal_total"] == pytest.approx(1)
    assert metrics["inheritance/contrast"] == pytest.approx(
        parts["inheritance/contrast/numerator"] / parts["inheritance/contrast/denominator"]
    )


def test_behaviour_is_fitted_one_by_one_and_a_bit_is_half_the_error():
    """One behaviour is missed by a quarter of its variance, a larger one by three quarters: a half on average."""
    g = stream(0, "behaviours")
    did = torch.randn(2, 2, 50, generator=g, dtype=torch.float64) * torch.tensor([[1.0], [100.0]])
    did = did - did.mean(-1, keepdim=True)
    share = torch.tensor([[0.25], [0.75]], dtype=torch.float64)
    found = figures.of_behaviour(did * (1 - share.sqrt()), did)
    assert found["outer/behaviour_fit"] == pytest.approx(0.5)
    assert found["outer/behaviour_log2_error"] == pytest.approx(-1)
    half = figures.of_behaviour(did * (1 - (share / 2).sqrt()), did)
    assert half["outer/behaviour_log2_error"] == pytest.approx(-2)


def test_an_outer_is_judged_beside_the_best_reference():
    answers = {"chance": human.mean(-1, keepdim=True).expand(2, 50), "ridge": human / 2, "neighbours": 0 * human}
    found = figures.of_references(answers, human, 0.9, "regression")
    assert found["reference/chance_fit"] == pytest.approx(0)
    at_half = float(observed.r_squared(human / 2, human))
    assert 0.7 < found["reference/ridge_fit"] == pytest.approx(at_half) and found["reference/neighbours_fit"] < 0
    assert found["outer/above_references"] == pytest.approx(0.9 - at_half)
    signs = figures.of_references({"ridge": human / 9}, human, 0.9, "classification")
    assert signs["reference/ridge_fit"] == 1 and signs["outer/above_references"] == pytest.approx(-0.1)


def test_accuracy_counts_signs():
    truth = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    assert float(observed.accuracy(torch.tensor([[0.2, -3.0, -0.1, 0.5]]), truth)) == 0.5
    assert float(observed.fit("classification", truth / 9, truth)) == 1
    assert float(observed.fit("regression", truth / 2, truth)) == pytest.approx(0.75)


def test_what_is_accepted_is_answered_yes_with_the_probability_asked_for():
    """Answers −1 to 1 are 2p − 1: of .99, .98, .979, −1 the first two have p ≥ .99; one of them is wrong."""
    answer, truth = torch.tensor([[0.99, 0.98, 0.979, -1.0]]), torch.tensor([[1.0, -1.0, -1.0, -1.0]])
    shares = [float(s) for s in observed.accepted(answer.double(), truth)]
    assert shares == [0.5, 0.25]
    assert float(observed.accepted(answer, truth, 0.5)[0]) == 0.75
