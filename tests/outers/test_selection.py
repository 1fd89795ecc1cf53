"""Each policy takes the questions that its formula wants, and none twice."""

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.outers import selection
from reuse_sim.rng import streams
from reuse_sim.worlds import radius, spurious

WORLD = spurious.build()
THETA = WORLD.teacher(streams(0, ["a", "b"]))
X = WORLD.on_distribution(THETA, 400, streams(1, ["a", "b"]))
TRUTH = WORLD.answer(THETA, X)
HUMAN = -TRUTH


def taken(policy, budget=60):
    return selection.choose(policy, WORLD, X, TRUTH, HUMAN, budget, streams(2, ["a", "b"]))


@pytest.mark.parametrize("policy", ["random", "uncertain", "threshold", "disagreement", "hard", "easy"])
def test_as_many_as_the_budget_and_none_twice(policy):
    chosen = taken(policy)
    assert chosen.shape == (2, 60) and all(len(set(row)) == 60 for row in chosen.tolist())
    assert torch.equal(chosen[:, :20], taken("random")[:, :20]), "the first third is random for all"
    assert torch.equal(chosen, taken(policy))


def test_hard_and_easy_questions_are_the_two_ends_of_one_order():
    easy, hard = taken("easy"), taken("hard")
    mean, _ = selection.committee(WORLD, X, TRUTH, easy[:, :20], streams(2, ["a", "b"]))
    again, _ = selection.committee(WORLD, X, TRUTH, easy[:, :20], streams(2, ["a", "b"]))
    assert torch.equal(mean, again)
    assert not set(easy[0, 20:].tolist()) & set(hard[0, 20:].tolist())


def test_scores_by_hand():
    """Five questions: sure yes, sure no, coin, at the threshold but vague, at the threshold and sure of it."""
    mean, sd = torch.tensor([1.0, -1.0, 0.0, 0.98, 0.98]), torch.tensor([0.0, 0.0, 0.5, 0.3, 0.0])
    human = torch.tensor([-1.0, -1.0, 0.0, 0.98, 0.0])

    def best(policy):
        return int(selection.scores(policy, mean, sd, human, True).argmax())

    assert best("uncertain") == 2 and best("hard") == 2 and best("easy") == 0
    assert best("threshold") == 3 and best("disagreement") == 0
    straddle = selection.scores("threshold", mean, sd, human, True)
    assert straddle.tolist() == pytest.approx([-0.02, -1.98, 1.96 * 0.5 - 0.98, 1.96 * 0.3, 0.0], abs=1e-6)
    assert int(selection.scores("uncertain", mean, sd, human, False).argmax()) == 2


def test_the_committee_learns_what_it_saw_and_is_unsure_elsewhere():
    world = radius.build()
    theta = world.teacher(streams(0, ["a"]))
    x = world.on_distribution(theta, 300, streams(1, ["a"]))
    truth = world.answer(theta, x)
    known = torch.arange(80).unsqueeze(0)
    mean, sd = selection.committee(world, x, truth, known, streams(2, ["a"]))
    error = (mean - truth).abs()[0]
    assert error[:80].mean() < 0.5 * error[80:].mean() and sd[0, :80].mean() < sd[0, 80:].mean()


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(InputError, match="at most the pool's 400"):
        taken("random", 401)
    with pytest.raises(InputError, match="random, uncertain or disagreement"):
        selection.scores("easy", TRUTH, TRUTH, TRUTH, False)
    with pytest.raises(InputError, match="training.chosen"):
        selection.scores("best", TRUTH, TRUTH, TRUTH, True)  # type: ignore[arg-type]
