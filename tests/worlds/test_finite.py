"""The finite world: enumeration against enumeration, exactly, and what is drawn against the table."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.humans import descent
from reuse_sim.rng import streams
from reuse_sim.worlds import finite
from reuse_sim.worlds.finite import OFF, ON, QUESTIONS, agreement, bits, specialness_bits

NAMES = ["a", "b", "c", "e"]
WORLD = finite.build()
TABLE = finite.table()
FIRST, THIRD = (tuple(x[i] for x in QUESTIONS) for i in (0, 2))
PARITY = tuple(math.prod(x) for x in QUESTIONS)


def test_questions_are_divided_between_on_and_off() -> None:
    assert sorted(ON + OFF) == list(range(8)) and len(ON) == len(OFF) == 4
    assert all(QUESTIONS[i][2] == -1 for i in ON) and all(QUESTIONS[i][2] == 1 for i in OFF)


def test_priors_sum_to_1() -> None:
    assert sum(TABLE.teacher_prior.values()) == sum(TABLE.human_prior.values()) == 1
    assert set(TABLE.teacher_prior) == set(product((-1, 1), repeat=8))


def test_shortest_formulas_that_can_be_told_by_hand() -> None:
    # x₁; not x₁; xor x₁ x₂; xor x₁ xor x₂ x₃; xor x₁ x₁ for the constant −1.
    xor = tuple(-x[0] * x[1] for x in QUESTIONS)
    found = [finite.lengths()[f] for f in (FIRST, tuple(-a for a in FIRST), xor, PARITY, (-1,) * 8)]
    assert found == [1, 2, 3, 5, 3]
    assert Counter(finite.lengths().values())[1] == Counter(finite.lengths().values())[2] == 3


@pytest.mark.parametrize("symbol_bits", [0, 1, 3])
def test_a_symbol_costs_its_bits(symbol_bits: int) -> None:
    prior = finite.formulas(symbol_bits)
    assert sum(prior.values()) == 1
    assert bits(prior[PARITY]) - bits(prior[FIRST]) == pytest.approx(4 * symbol_bits, abs=1e-12)


def test_perceptrons_express_all_threshold_functions_and_no_other() -> None:
    # Of three inputs there are 104 (OEIS A000609); weights of 2 suffice for all.
    assert len(TABLE.human_prior) == 104 and PARITY not in TABLE.human_prior
    assert len(finite.perceptrons(1)) < 104
    # By hand: w·x + b > 0 never holds of 0, and of w = (1, 0, 0) with b = 0 where x₁ = 1.
    direct = sum(
        all((x[0] * a + x[1] * b + x[2] * c + e > 0) == (x[0] > 0) for x in QUESTIONS)
        for a, b, c, e in product(range(-2, 3), repeat=4)
    )
    assert TABLE.human_prior[FIRST] == Fraction(direct, 625)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(list(TABLE.teacher_prior)), st.integers(0, 8), st.sampled_from([ON, OFF, tuple(range(8))]))
def test_specialness_is_a_direct_count_of_perceptrons(f: tuple[int, ...], wrong: int, questions: tuple) -> None:
    tolerance = wrong / len(questions)
    count = 0
    for a, b, c, e in product(range(-2, 3), repeat=4):
        misses = sum((QUESTIONS[i][0] * a + QUESTIONS[i][1] * b + QUESTIONS[i][2] * c + e > 0) != (f[i] > 0)
                     for i in questions)
        count += misses <= wrong
    expected = -math.log2(count / 625) if count else math.inf
    assert specialness_bits(f, tolerance, questions=questions) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(TABLE.teacher_prior)), st.integers(0, 8))
def test_under_the_counting_measure_specialness_is_binomial(f: tuple[int, ...], wrong: int) -> None:
    count = sum(math.comb(8, k) for k in range(wrong + 1))
    got = specialness_bits(f, wrong / 8, finite.formulas(0), range(8))
    assert got == pytest.approx(8 - math.log2(count), abs=1e-12)


def test_parity_is_no_perceptron_and_infinitely_special() -> None:
    assert specialness_bits(PARITY, questions=range(8)) == math.inf
    assert specialness_bits(PARITY, 0.5, questions=range(8)) < math.inf
    assert specialness_bits(FIRST, 1.0) == 0.0


def test_the_agreement_table_is_a_distribution_with_the_right_means() -> None:
    found = finite.agreement_table(TABLE)
    assert sum(found.values()) == 1
    # Linear in answers: the mean agreement on a question is (1 + E f E h)/2, teacher and human being independent.
    for side, questions in enumerate((ON, OFF)):
        both = TABLE.teacher_prior, TABLE.human_prior
        products = [math.prod(sum(a[i] * p for a, p in prior.items()) for prior in both)
                    for i in questions]
        assert sum(key[side] * p for key, p in found.items()) == (1 + sum(products) / 4) / 2
    same = sum(p for key, p in found.items() if key[0] == 1)
    assert same == sum(p * finite.consistent(TABLE.human_prior, f, 0, ON) for f, p in TABLE.teacher_prior.items())


def test_off_distribution_answers_cost_what_on_distribution_ones_leave_open() -> None:
    on_groups = Counter()
    for f in TABLE.teacher_prior:
        on_groups[tuple(f[i] for i in ON)] += finite.off_given_on(TABLE.teacher_prior, f)
    assert len(on_groups) == 16 and set(on_groups.values()) == {1}
    # Where functions are only counted, four open answers cost four bits.
    assert bits(finite.off_given_on(finite.formulas(0), PARITY)) == 4.0


@given(st.sampled_from(list(TABLE.teacher_prior)), st.sampled_from(list(TABLE.human_prior)))
def test_agreement_is_symmetric_and_the_mean_of_its_halves(f: tuple[int, ...], h: tuple[int, ...]) -> None:
    assert agreement(f, h) == agreement(h, f) == (agreement(f, h, ON) + agreement(f, h, OFF)) / 2
    assert agreement(f, f) == 1 and agreement(f, tuple(-a for a in f)) == 0


def test_teachers_are_drawn_as_often_as_the_table_says() -> None:
    n = 20_000
    drawn = Counter(tuple(map(int, t)) for t in WORLD.teacher(streams(0, [str(i) for i in range(n)])).tolist())
    for symbols in (1, 3, 5):
        group = [f for f, s in finite.lengths().items() if s == symbols]
        p = float(sum(TABLE.teacher_prior[f] for f in group))
        assert abs(sum(drawn[f] for f in group) / n - p) < 3 * (p * (1 - p) / n) ** 0.5
    p = float(TABLE.teacher_prior[FIRST])
    assert abs(drawn[FIRST] / n - p) < 3 * (p * (1 - p) / n) ** 0.5


def test_answers_are_the_tables() -> None:
    theta = torch.tensor([FIRST, THIRD, PARITY], dtype=torch.float32)
    x = torch.tensor(QUESTIONS, dtype=torch.float32).expand(3, -1, -1)
    assert torch.equal(WORLD.answer(theta, x), theta)


@pytest.mark.parametrize(("strength", "share"), [(None, 0.0), (0.0, 0.25), (0.5, 0.625), (1.0, 1.0), (2.0, 1.0)])
def test_questions_have_their_frequencies(strength: float | None, share: float) -> None:
    theta, n = WORLD.teacher(streams(0, NAMES)), 10_000
    if strength is None:
        x = WORLD.on_distribution(theta, n, streams(1, NAMES))
    else:
        x = WORLD.off_distribution(theta, n, streams(1, NAMES), strength)
    found = torch.bincount(((x > 0).long() @ torch.tensor([4, 2, 1])).flatten(), minlength=8) / (4 * n)
    expected = torch.tensor([share / 4 if i in OFF else (1 - share) / 4 for i in range(8)])
    assert ((found - expected).abs() <= 4 * (expected * (1 - expected) / (4 * n)).sqrt()).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 3), st.integers(1, 6), st.integers(0, 10_000))
def test_questions_are_vertices_whatever_is_stacked(strength: float, n: int, seed: int) -> None:
    theta = WORLD.teacher(streams(0, NAMES))
    on = WORLD.on_distribution(theta, n, streams(seed, NAMES))
    off = WORLD.off_distribution(theta, n, streams(seed, NAMES), strength)
    assert (off.abs() == 1).all() and (on.abs() == 1).all() and (on[..., 2] == -1).all()
    assert torch.equal(WORLD.on_distribution(theta[2:3], n, streams(seed, NAMES[2:3])), on[2:3])
    assert torch.equal(WORLD.off_distribution(theta[2:3], n, streams(seed, NAMES[2:3]), strength), off[2:3])


def test_inactive_entries_are_those_that_on_distribution_answers_ignore() -> None:
    theta = WORLD.teacher(streams(0, NAMES))
    on = WORLD.on_distribution(theta, 200, streams(1, NAMES))
    off = WORLD.off_distribution(theta, 200, streams(1, NAMES))
    for entry, inactive in enumerate(WORLD.inactive(theta)):
        other = theta.clone()
        other[:, entry] *= -1
        assert torch.equal(WORLD.answer(other, on), WORLD.answer(theta, on)) == bool(inactive)
        assert torch.equal(WORLD.answer(other, off), WORLD.answer(theta, off)) != bool(inactive)


def test_humans_learn_the_four_questions_and_fail_at_the_others() -> None:
    names = [f"human/{i}" for i in range(24)]
    theta = WORLD.teacher(streams(0, names))
    human = descent.build(width=8, steps=400)
    theta_2 = human.train(WORLD, human.init(WORLD, streams(1, names)), theta, streams(2, names)).theta
    answers = WORLD.human_answer(WORLD.human_net(8), theta_2, torch.tensor(QUESTIONS, dtype=torch.float32))
    right = (answers * theta > 0).double()
    assert right[:, ON].mean() > 0.95
    assert right[:, OFF].mean() < right[:, ON].mean() - 0.15
