"""The Boolean world: leaps, Fourier coefficients by enumeration, exact standardisation, and the rare combination."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.rng import stream, streams
from reuse_sim.worlds import boolean
from reuse_sim.worlds.boolean import description_bits, ladder, leap, needles, spectrum

NAMES = ["a", "b", "c", "e"]
WORLD = boolean.build()
GRADES = [
    boolean.build(n=8, terms=12, rare=0.05),
    boolean.build(n=8, grade="staircase", degree=5),
    boolean.build(n=8, grade="needle"),
]
grades = pytest.mark.parametrize("world", GRADES, ids=[w.grade for w in GRADES])


def vertices(n: int) -> torch.Tensor:
    """All of {−1, 1}^n in the order of `spectrum`: bit i of the position is (1 − x_i)/2."""
    return 1.0 - 2.0 * (torch.arange(2**n)[:, None] >> torch.arange(n) & 1).double()


def sets_of(world: boolean.Boolean, theta: torch.Tensor) -> list[frozenset[int]]:
    """The characters of one teacher θ1 `(p1,)`."""
    count = (len(theta) - 2) // (world.n + 1)
    rows = theta[: count * world.n].unflatten(0, (count, world.n))
    return [frozenset(r.nonzero().flatten().tolist()) for r in rows]


@pytest.mark.parametrize(("sets", "expected"), [
    ([{1}, {1, 2}, {1, 2, 3}], 1),
    ([{1, 2, 3}], 3),
    ([{1}, {1, 2, 3}], 2),
    ([{1, 2, 3}, {4, 5, 6, 7}], 4),
    ([{1, 2}, {2, 3}, {3, 4}], 2),
    ([{1, 2, 3, 4}, {1}, {3, 4}], 2),
    ([], 0),
])
def test_leaps_of_known_functions(sets: list[set[int]], expected: int) -> None:
    assert leap(sets) == expected


@settings(max_examples=80, deadline=None)
@given(st.lists(st.frozensets(st.integers(0, 6), min_size=1), min_size=1, max_size=5))
def test_the_leap_is_the_least_over_all_orderings(sets: list[frozenset[int]]) -> None:
    def largest(order: tuple[frozenset[int], ...]) -> int:
        return max(len(s.difference(*order[:i])) if i else len(s) for i, s in enumerate(order))

    assert leap(sets) == min(map(largest, itertools.permutations(sets)))


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_needles_leap_by_their_degree_at_the_staircases_length(degree: int) -> None:
    up, down = ladder(range(12), degree), needles(range(12), degree)
    assert (leap(up), leap(down)) == (1, degree)
    assert sorted(map(len, up)) == sorted(map(len, down))
    expected = sum(math.log2(math.comb(12, k)) for k in range(1, degree + 1))
    assert description_bits(up, 12) == pytest.approx(expected) == description_bits(down, 12)


@grades
def test_teachers_keep_their_grade_under_relabelling(world: boolean.Boolean) -> None:
    names = [str(i) for i in range(40)]
    drawn = [sets_of(world, t) for t in world.teacher(streams(0, names))]
    assert len({frozenset(s) for s in drawn}) > 10
    for sets in drawn:
        assert len(set(sets)) == len(sets) and max(map(len, sets)) == world.degree
        if world.grade == "low_degree":
            assert len(sets) == 12 and all(0 < len(s & {0, 1, 2}) < 3 and s - {0, 1, 2} for s in sets)
        else:
            assert leap(sets) == (1 if world.grade == "staircase" else world.degree)
    x = world.off_distribution(theta := world.teacher(streams(0, names)), 500, streams(1, names))
    assert world.answer(theta, x).std(1).min() > 0.25


@grades
def test_the_spectrum_of_a_teacher_is_its_coefficients(world: boolean.Boolean) -> None:
    theta = world.teacher([stream(0, "t")]).double()
    sets = sets_of(world, theta[0])
    mean, sd = theta[0, -2:]
    expected = torch.zeros(2**world.n, dtype=torch.float64)
    expected[[sum(2**i for i in s) for s in sets]] = theta[0, -2 - len(sets) : -2] / sd
    expected[0] -= mean / sd
    values = world.answer(theta, vertices(world.n)[None])[0]
    torch.testing.assert_close(spectrum(values), expected, rtol=0, atol=1e-12)
    # Parseval under the uniform distribution.
    torch.testing.assert_close(values.square().mean(), expected.square().sum())


EXCEPTIONAL = boolean.build(n=8, terms=12, rare=0.05, exceptions=0.25)


def test_exceptions_turn_their_characters_round_where_all_three_are_on_and_nowhere_else() -> None:
    plain, x = boolean.build(n=8, terms=12, rare=0.05), vertices(8)
    together = (x[:, :3] == 1).all(1)
    for name in NAMES:
        theta, other = (w.teacher([stream(0, name)])[0].double() for w in (plain, EXCEPTIONAL))
        sums = [(w.answer(t[None], x[None])[0] * t[-1] + t[-2]) for w, t in ((plain, theta), (EXCEPTIONAL, other))]
        assert torch.allclose(sums[0][~together], sums[1][~together], atol=1e-5)
        turned = sum(theta[12 * 8 + k] * x[:, sorted(s)].prod(1) for k, s in enumerate(sets_of(plain, theta)[:3]))
        assert torch.allclose((sums[0] - 2 * turned)[together], sums[1][together], atol=1e-5)


@pytest.mark.parametrize("world", [*GRADES, EXCEPTIONAL], ids=[*(w.grade for w in GRADES), "exceptions"])
def test_teachers_have_mean_0_and_sd_1_on_distribution_by_enumeration(world: boolean.Boolean) -> None:
    x = vertices(world.n)
    together = (x[:, :3] == 1).all(1)
    weight = torch.where(together, world.rare, (1 - world.rare) / 7).double() / 2 ** (world.n - 3)
    assert float(weight.sum()) == pytest.approx(1, abs=1e-6)
    y = world.answer(world.teacher(streams(0, NAMES)).double(), x.expand(4, -1, -1))
    assert (y @ weight).abs().max() < 1e-6
    assert (y.square() @ weight - 1).abs().max() < 1e-6  # θ1 is kept in float32


@pytest.mark.parametrize(("strength", "share"), [(None, 0.02), (0.0, 0.02), (0.5, 0.51), (1.0, 1.0), (2.0, 1.0)])
def test_the_rare_combination_has_its_frequency(strength: float | None, share: float) -> None:
    theta, n = WORLD.teacher(streams(0, NAMES)), 20_000
    if strength is None:
        x = WORLD.on_distribution(theta, n, streams(1, NAMES))
    else:
        x = WORLD.off_distribution(theta, n, streams(1, NAMES), strength)
    pattern = ((1 - x[..., :3]) / 2) @ torch.tensor([1.0, 2.0, 4.0])
    found = torch.bincount(pattern.flatten().long(), minlength=8) / pattern.numel()
    expected = torch.tensor([share] + [(1 - share) / 7] * 7)
    assert ((found - expected).abs() <= 4 * (expected * (1 - expected) / pattern.numel()).sqrt()).all()
    assert (x[..., 3:].mean((0, 1)).abs() < 4 / (4 * n) ** 0.5).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 3), st.integers(1, 6), st.integers(0, 10_000))
def test_questions_are_vertices_whatever_is_stacked(strength: float, n: int, seed: int) -> None:
    theta = WORLD.teacher(streams(0, NAMES))
    on = WORLD.on_distribution(theta, n, streams(seed, NAMES))
    off = WORLD.off_distribution(theta, n, streams(seed, NAMES), strength)
    assert (on.abs() == 1).all() and (off.abs() == 1).all()
    assert strength < 1 or (off[..., :3] == 1).all()
    assert torch.equal(WORLD.on_distribution(theta[2:3], n, streams(seed, NAMES[2:3])), on[2:3])
    assert torch.equal(WORLD.off_distribution(theta[2:3], n, streams(seed, NAMES[2:3]), strength), off[2:3])


@grades
def test_every_entry_of_a_teacher_is_active(world: boolean.Boolean) -> None:
    theta = world.teacher([stream(0, "t")])
    x = world.on_distribution(theta, 2000, [stream(0, "x")])
    assert world.inactive(theta).shape == theta.shape[-1:] and not world.inactive(theta).any()
    for entry in range(theta.shape[-1]):
        other = theta.clone()
        # Another set, or another number.
        other[:, entry] = 1 - theta[:, entry] if entry < theta.shape[-1] * 0.5 else theta[:, entry] + 0.5
        assert not torch.equal(world.answer(other, x), world.answer(theta, x))


def test_humans_learn_the_common_combinations_and_fail_at_the_rare_one() -> None:
    names = [f"human/{i}" for i in range(8)]
    theta = WORLD.teacher(streams(0, names))
    human = descent.build()
    theta_2 = human.train(WORLD, human.init(WORLD, streams(1, names)), theta, streams(2, names)).theta
    on, off = (
        torch.tensor([float(r_squared(h[None], f[None])) for h, f in zip(
            WORLD.human_answer(WORLD.human_net(24), theta_2, x), WORLD.answer(theta, x), strict=True)])
        for x in (WORLD.on_distribution(theta, 2000, streams(3, names)),
                  WORLD.off_distribution(theta, 2000, streams(3, names)))
    )
    # Twelve other worlds had .92 (sd .03) and .65 (sd .20).
    assert on.mean() > 0.87
    assert off.mean() < on.mean() - 0.1


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="n: got 9; expected at least 10, disjoint needles up to degree 4"):
        boolean.build(n=9, grade="needle", degree=4)
    with pytest.raises(InputError, match="terms: got 500; expected at most"):
        boolean.build(terms=500)
