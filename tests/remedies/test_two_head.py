"""The two-head law: against sums by hand, against its own sampler, and the identities it is known for."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reuse_sim.remedies import grammar, two_head
from reuse_sim.remedies.two_head import Heads, Humans, Setting
from reuse_sim.rng import stream

N = 3
"""Questions: 64 heads of 6 points, 7 humans."""


@lru_cache
def heads() -> Heads:
    points = list(product(range(N), (False, True)))
    told = (tuple(q == 0 for q, _ in points), tuple(q == 1 for q, _ in points), tuple(h for _, h in points))
    return Heads(grammar.prior(told), grammar.tables(2 * N).unflatten(1, (N, 2)))


@lru_cache
def humans() -> Humans:
    answers = torch.tensor(list(product((False, True), repeat=N)))[1:]
    prior = torch.rand(len(answers), generator=stream(0, "humans"), dtype=torch.float64) + 0.1
    return Humans(prior / prior.sum(), answers)


TRUTH = torch.tensor([True, False, True])


def setting(condition=(0, 1), labels=(0, 1), told: Tensor | None = None, reward="special") -> Setting:
    return Setting(heads(), humans(), condition, labels, TRUTH, torch.ones(7) if told is None else told, reward)


def leak(share: float, human: int = 4, seed: int = 0) -> Tensor:
    """What is told is certain of one human, and of the others less so the more is told."""
    other = torch.rand(7, generator=stream(seed, "leak"), dtype=torch.float64)
    other[human] = 1.0
    return other ** (8 * share)


def by_hand(s: Setting) -> dict[tuple[int, int], float]:
    """The law by loops over heads, humans and questions."""
    a_of, b_of = s.heads.answers.tolist(), s.humans.answers.tolist()

    def says(a: int, b: int, i: int) -> bool:
        return a_of[a][i][int(b_of[b][i])]

    def holds(a: int, b: int) -> bool:
        return all(says(a, b, i) == b_of[b][i] for i in s.condition)

    def agrees_with_the_next(a: int, b: int) -> bool:
        following = [*s.condition[1:], s.condition[0]]
        return all(a_of[a][j][int(b_of[b][i])] == b_of[b][i] for i, j in zip(s.condition, following, strict=True))

    prior, told = s.humans.prior.tolist(), s.told.tolist()
    known = told if s.reward == "special_given_leak" else [1.0] * len(told)
    q = {}
    for a, b in product(range(len(a_of)), range(len(b_of))):
        weight = float(s.heads.prior[a]) * prior[b] * told[b]
        weight *= all(says(a, b, i) == bool(s.truth[i]) for i in s.labels)
        if s.reward != "none":
            meets = sum(prior[k] * known[k] for k in range(len(b_of)) if holds(a, k))
            total = sum(p * k for p, k in zip(prior, known, strict=True))
            if s.reward == "shuffled" and meets:
                meets = max(min(prior), sum(prior[k] for k in range(len(b_of)) if agrees_with_the_next(a, k)))
            weight *= holds(a, b) and total / meets
        q[a, b] = weight
    total = sum(q.values())
    return {k: v / total for k, v in q.items()}


@pytest.mark.parametrize("reward", ["none", "special", "special_given_leak", "shuffled"])
@pytest.mark.parametrize(
    ("condition", "labels"), [((0, 1), (0, 1)), ((0, 2), (2,)), ((1,), (0, 1, 2)), ((0, 1, 2), (1,))]
)
def test_the_law_is_what_loops_say_and_its_margin_too(reward, condition, labels) -> None:
    s = setting(condition, labels, leak(0.5), reward)
    expected, q = by_hand(s), two_head.law(s)
    assert max(abs(float(q[a, b]) - v) for (a, b), v in expected.items()) < 1e-12
    assert torch.allclose(two_head.marginal(s), q.sum(-1), rtol=0, atol=1e-14)


def special(s: Setting, told: Tensor | None = None) -> float:
    """S of the truth on the condition's questions, under the humans or those of them that are as told."""
    weight = s.humans.prior if told is None else s.humans.prior * told
    at = list(s.condition)
    agree = (s.humans.answers[:, at] == s.truth[at]).all(-1)
    return -math.log2(float(weight[agree].sum() / weight.sum()))


@settings(max_examples=40)
@given(st.floats(0, 1), st.integers(0, 1000), st.sampled_from([(0,), (0, 1), (2, 1), (0, 1, 2)]))
def test_the_odds_of_direct_heads_to_the_copy(share: float, seed: int, both: tuple[int, ...]) -> None:
    told = leak(share, 4, seed)
    for reward, given_leak in (("special", None), ("none", told), ("special_given_leak", told)):
        s = setting(both, both, told, reward)
        q = two_head.marginal(s)
        found = two_head.odds_bits(q, s.heads.direct, s.heads.copy)
        assert found == pytest.approx(two_head.formula_bits(s.heads, TRUTH, both, special(s, given_leak)), abs=1e-9)


def test_the_reward_does_not_move_with_the_leak_when_labels_are_on_the_conditions_questions() -> None:
    def moved(**changes) -> float:
        before, after = (two_head.marginal(setting(told=told, **changes)) for told in (None, leak(1.0)))
        return float((before - after).abs().sum() / 2)

    assert moved() < 1e-12
    assert moved(labels=(0,)) > 0.01  # labels on fewer
    assert moved(labels=(0, 1, 2)) > 0.01  # on more
    assert moved(reward="none") > 0.01
    assert moved(reward="special_given_leak") > 0.01


def test_without_reward_a_leak_erodes_what_direct_heads_had() -> None:
    s = setting(reward="none")
    odds = [two_head.odds_bits(two_head.marginal(replace(s, told=leak(share))), s.heads.direct, s.heads.copy)
            for share in (0.0, 0.3, 1.0)]
    assert odds[0] > odds[1] > odds[2]
    only = (torch.arange(7) == 4).double()  # all is known of one who is right there: S is gone
    gone = two_head.odds_bits(two_head.marginal(replace(s, told=only)), s.heads.direct, s.heads.copy)
    assert gone == pytest.approx(two_head.formula_bits(s.heads, TRUTH, (0, 1), 0.0), abs=1e-9)


def test_what_a_head_says_where_nobody_asks_earns_nothing() -> None:
    s = setting()
    q, right = two_head.marginal(s), s.heads.direct & s.heads.are(TRUTH, (0, 1))
    intended = s.heads.are(TRUTH, range(N))
    prior = float(s.heads.prior[intended].sum() / s.heads.prior[right].sum())
    assert float(q[intended].sum() / q[s.heads.direct].sum()) == pytest.approx(prior, abs=1e-12)
    assert 0.1 < prior < 0.9


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([(0,), (0, 1), (0, 1, 2)]))
def test_chance_is_worth_little(seed: int, condition: tuple[int, ...]) -> None:
    prior = torch.rand(7, generator=stream(seed, "prior"), dtype=torch.float64) ** 4
    s = replace(setting(condition), humans=Humans(prior / prior.sum(), humans().answers))
    worth = two_head.spurious_bits(s)
    met = float(s.heads.prior[two_head.meets(s) > 0].sum())
    assert float(worth.exp2() @ s.humans.prior) == pytest.approx(met, abs=1e-12) and met <= 1 + 1e-12
    for k in (-2.0, 0.0, 0.5, 1.0, 3.0):
        assert float(s.humans.prior[worth >= k].sum()) <= 2**-k + 1e-12


def test_the_proposals_own_sampler_draws_from_the_law() -> None:
    s, count = setting(told=leak(0.2)), 60_000
    found = torch.bincount(two_head.rejection(s, count, stream(1, "rejection")), minlength=64).double()
    accepted = float(found.sum())
    # Accepted are Σ p(a) Pr[D | G, a] of all that are proposed.
    d = two_head.say(s.heads, s.humans, s.labels, TRUTH) * (s.humans.prior * s.told)
    g = two_head.say(s.heads, s.humans, s.condition)
    paid = two_head.meets(s)
    share = float((s.heads.prior / paid.where(paid > 0, torch.inf)) @ (d * g).sum(-1))
    assert accepted == pytest.approx(count * share, abs=4 * (count * share * (1 - share)) ** 0.5)
    q = two_head.marginal(s)
    error = (accepted * q * (1 - q)).sqrt()
    often = q * accepted > 20
    z = ((found - accepted * q) / error)[often]
    assert often.sum() > 5 and float(z.abs().max()) < 3.5
    assert found[q == 0].sum() == 0


@pytest.mark.parametrize("bits", [-1.0, 0.0, 1.0])
def test_the_whole_ledger_turns_at_break_even(bits: float) -> None:
    s = setting()
    net = two_head.ledger_bits(s.heads, TRUTH, special(s))
    intended, copy = s.heads.are(TRUTH, range(N)), s.heads.copy
    even = replace(s, heads=two_head.repriced(s.heads, copy, bits - net))
    assert two_head.ledger_bits(even.heads, TRUTH, special(s)) == pytest.approx(bits, abs=1e-12)
    found = two_head.odds_bits(two_head.marginal(even), intended, copy)
    assert found == pytest.approx(bits, abs=1e-9)


def test_a_condition_on_all_questions_shuts_out_the_intended_head_once_the_human_is_known() -> None:
    wrong = 6  # answers yes to all, and the truth says no to one
    told = (torch.arange(7) == wrong).double()
    s = replace(setting((0, 1, 2), (0, 2)), told=told)
    q = two_head.marginal(s)
    assert float(q[s.heads.are(TRUTH, range(N))].sum()) == 0 and float(q[s.heads.copy].sum()) > 0


def test_what_is_inherited_of_heads_one_can_name() -> None:
    human = torch.tensor([True, True, True])
    h, one = heads(), torch.zeros(64, dtype=torch.float64)
    cases = {"copy": (h.copy, (1.0, 0.0)), "intended": (h.are(TRUTH, range(N)), (0.0, 1.0))}
    against = (h.answers[..., 0] & ~h.answers[..., 1]).all(-1)
    cases["against"] = (against, (-1.0, -1.0))  # wrong on two of three, the human on one
    for which, expected in cases.values():
        q = torch.where(which, 1.0, one)
        assert two_head.inherited(q, h, human, TRUTH, (0, 1, 2)) == pytest.approx(expected)


def test_odds_of_nothing() -> None:
    q = torch.tensor([0.5, 0.5, 0.0])
    first, last = torch.tensor([True, False, False]), torch.tensor([False, False, True])
    assert two_head.odds_bits(q, first, last) == math.inf and two_head.odds_bits(q, last, first) == -math.inf
    assert math.isnan(two_head.odds_bits(q, last, last))


def test_a_shuffled_reward_pays_the_copy_nothing_and_a_constant_what_it_is_worth():
    paid = two_head.meets_shuffled(setting(condition=(0, 1, 2)))
    assert float(paid[heads().copy]) == pytest.approx(1.0)
    # What says the same to every question says it to the next one too.
    for says in (False, True):
        constant = heads().are(torch.full((N,), says), range(N))
        meets = float(two_head.meets(setting(condition=(0, 1, 2)))[constant])
        assert float(paid[constant]) == pytest.approx(max(meets, float(humans().prior.min())))
    # f is paid for the humans who answer as it would one question on.
    direct = heads().are(TRUTH, range(N))
    ahead = (humans().answers == TRUTH.roll(-1)).all(1)
    assert float(paid[direct]) == pytest.approx(max(float(humans().prior[ahead].sum()), float(humans().prior.min())))
