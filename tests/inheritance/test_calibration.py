"""Do intervals over ten worlds hold what is true? And do three well-known mistakes show?

Five hundred worlds of trained networks in fifty groups. Null: answers of a network that learned f itself and has never
met the human. Power: a known share of the human's answers, the rest that network's.
Of fifty 95 % intervals 43 or more hold the truth with probability .997.
"""

import pytest
import torch

from reuse_sim.humans import descent
from reuse_sim.inheritance import causal, observed
from reuse_sim.rng import streams
from reuse_sim.stats import ratio_interval, t_interval
from reuse_sim.worlds import radius, spurious

GROUPS, SIZE, SIBLINGS, QUESTIONS = 50, 10, 4, 200
WORLDS = GROUPS * SIZE
ENOUGH = 43
KINDS = {"alike": (radius.build(), {}), "each their own": (spurious.build(), {"sees": "one_cue"})}
"""Humans of one teacher who share nine tenths of their failure, and two thirds."""


@pytest.fixture(scope="module", params=KINDS)
def people(request):
    """What teachers, humans, siblings and models without access answer off-distribution: `(W, n)`, siblings first."""
    world, limits = KINDS[request.param]
    theta_1 = world.teacher(streams(0, [f"{w}/teacher" for w in range(WORLDS)]))
    said = {}
    for who, count, width in (("human", 1 + SIBLINGS, 6), ("outer", 1, 9)):
        names = [f"{w}/{who}/{k}" for k in range(count) for w in range(WORLDS)]
        learner = descent.build(width=width, steps=150, rate=0.03, batch=16, **limits)
        start, asked = learner.init(world, streams(1, names)), streams(2, names)
        theta = learner.train(world, start, theta_1.repeat(count, 1), asked).theta.unflatten(0, (count, WORLDS))
        x = world.off_distribution(theta_1, QUESTIONS, streams(3, [f"{w}/ask" for w in range(WORLDS)]))
        said[who] = world.human_answer(learner.net(world), theta, x)
    f = world.answer(theta_1, x)
    return {"f": f, "human": said["human"][0], "siblings": said["human"][1:], "direct": said["outer"][0],
            "tolerance": world.tolerance, "alike": request.param == "alike"}  # fmt: skip


def each(outer, people, siblings=None, mask=None):
    """Contrast parts per world, `(W,)` each; `mask` `(W, n)` leaves questions out."""
    siblings = people["siblings"] if siblings is None else siblings
    parts = []
    for w in range(WORLDS):
        chosen = slice(None) if mask is None else mask[w]
        one = [t[..., w, chosen].unsqueeze(-2) for t in (outer, people["f"], people["human"], siblings)]
        parts.append(torch.stack(observed.sibling_contrast(*one)))
    return torch.stack(parts, 1)


def held(parts, truth) -> int:
    """Groups whose interval of the contrast holds the truth."""
    over, under = parts.unflatten(1, (GROUPS, SIZE)).tolist()
    intervals = [ratio_interval([a], [b]) for a, b in zip(over, under, strict=True)]
    return sum(i.low <= truth <= i.high for i in intervals)


def mixed(people, share, human=None):
    human = people["human"] if human is None else human
    return share * human + (1 - share) * people["direct"]


def test_without_access_the_contrast_holds_nothing(people):
    assert held(each(people["direct"], people), 0.0) >= ENOUGH


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_planted_shares_are_held_and_a_copy_is_told_from_nothing(people, share):
    parts = each(mixed(people, share), people)
    assert held(parts, share) >= ENOUGH
    if share == 1.0:
        assert held(parts, 0.0) <= 0.05 * GROUPS


def test_with_a_sibling_in_the_humans_place_the_contrast_holds_nothing(people, request):
    if not people["alike"]:
        # Siblings who see one cue of five are the human's double or its opposite. In .8^10 = 11 % of groups none is a
        # double, and nothing there tells of those who might be: no interval over ten worlds can hold 0 then.
        why = "ten worlds are too few for so coarse a trait"
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))
    copy, others = mixed(people, 1.0, people["siblings"][0]), people["siblings"][1:]
    assert held(each(copy, people, others), 0.0) >= ENOUGH


def test_with_a_sibling_in_the_humans_place_swaps_hold_nothing(people):
    copy, others = mixed(people, 1.0, people["siblings"][0]), people["siblings"][1:]
    # The swap is compared with another sibling than the one that goes in.
    figures = []
    for w in range(WORLDS):
        before, after = copy[w][None], torch.stack([mixed(people, 1.0, s)[w] for s in others])[:, None]
        human, compared = people["human"][w][None], others[:, w][:, None].roll(1, 0)
        figures.append(float(causal.follows(before, after, human, compared)))
    intervals = [t_interval(group) for group in torch.tensor(figures).unflatten(0, (GROUPS, SIZE)).tolist()]
    assert sum(i.low <= 0 <= i.high for i in intervals) >= ENOUGH


# Mistakes --------------------------------------------------------------------------------------------


def test_questions_chosen_by_the_humans_own_errors_are_a_mistake_that_shows(people):
    if people["alike"]:
        pytest.skip("where failures are shared, the human's own errors are nearly everybody's")
    everyone = torch.cat([people["human"][None], people["siblings"]])
    wrong = (everyone - people["f"]).abs() > people["tolerance"] / 2
    assert held(each(people["direct"], people, mask=wrong[0]), 0.0) < ENOUGH
    assert held(each(people["direct"], people, mask=wrong.any(0)), 0.0) >= ENOUGH


def test_questions_as_units_of_analysis_are_a_mistake_that_shows(people):
    own = people["human"] - people["siblings"].mean(0)
    over, under = ((people[who] - people["f"]) * own for who in ("direct", "human"))
    pooled = [t.unflatten(0, (GROUPS, SIZE)).flatten(1).tolist() for t in (over, under)]
    intervals = [ratio_interval([a], [b]) for a, b in zip(*pooled, strict=True)]
    assert sum(i.low <= 0 <= i.high for i in intervals) < ENOUGH


def test_a_leaked_sibling_left_in_the_comparison_is_a_mistake_that_shows(people):
    if people["alike"]:
        pytest.skip("where nine tenths of failures are shared, a quarter of the rest is lost in the scatter of worlds")
    copy = mixed(people, 1.0, people["siblings"][0])
    assert held(each(copy, people), 0.0) < ENOUGH
