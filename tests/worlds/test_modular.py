"""The modular world: exact moments by formula and by enumeration, and humans who do not go round."""

from __future__ import annotations

from itertools import product
from math import cos, pi, sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.rng import stream, streams
from reuse_sim.worlds import modular

NAMES = [f"seed/{i}" for i in range(8)]
COSINE = modular.build()
SUM = modular.build(form="sum")
assert isinstance(COSINE, modular.Cosine) and isinstance(SUM, modular.Sum)


@pytest.mark.parametrize(("d", "frequency"), [(2, 2.0), (4, 4.0), (3, 9.0)])
def test_cosines_have_mean_0_and_sd_1_on_distribution(d: int, frequency: float) -> None:
    world = modular.build(d=d, frequency=frequency)
    theta = world.teacher(streams(0, NAMES)).double()
    torch.testing.assert_close(theta[:, :d].norm(dim=1), torch.full((8,), frequency, dtype=torch.float64))
    y = world.answer(theta, world.on_distribution(theta, 40_000, streams(1, NAMES)))
    # Largest of 16 scores.
    assert (y.mean(1).abs() * 200).max() < 4.5
    assert ((y.square().mean(1) - 1).abs() / y.square().std(1) * 200).max() < 4.5


def test_a_cosine_by_hand_and_its_period() -> None:
    # w = (3, 0), b = 0 on [−1, 1]²: mean sin(3)/3, mean square 1/2 + sin(6)/12.
    world = modular.build(d=2)
    theta = torch.tensor([[3.0, 0.0, 0.0]], dtype=torch.float64)
    mean, square = 0.14112000805986721 / 3, 0.5 - 0.27941549819892586 / 12
    x = torch.tensor([[[0.0, 0.3], [0.5, -1.0], [0.5 + 2 * pi / 3, 7.0]]], dtype=torch.float64)
    expected = (torch.tensor([[1.0, cos(1.5), cos(1.5)]], dtype=torch.float64) - mean) / sqrt(square - mean**2)
    torch.testing.assert_close(world.answer(theta, x), expected)


def test_the_shell_is_where_it_is_said_to_be() -> None:
    theta = COSINE.teacher(streams(0, NAMES))
    size = COSINE.on_distribution(theta, 1000, streams(1, NAMES)).abs()
    assert kstest(size.flatten().numpy(), "uniform").pvalue > 1e-3
    for strength in (0.0, 1.0, 2.5):
        x = COSINE.off_distribution(theta, 1000, streams(1, NAMES), strength)
        share = 2 * (x.abs().amax(-1) - 1) - strength
        assert kstest(share.flatten().numpy(), "uniform").pvalue > 1e-3


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.floats(0, 6))
def test_cosine_questions_stay_in_cube_and_shell_whatever_the_stack(d: int, strength: float) -> None:
    world = modular.build(d=d)
    theta = world.teacher(streams(0, NAMES))
    on = world.on_distribution(theta, 30, streams(1, NAMES))
    off = world.off_distribution(theta, 30, streams(1, NAMES), strength)
    assert on.shape == off.shape == (8, 30, d)
    reach = off.abs().amax(-1)
    assert (on.abs() <= 1).all()
    assert (reach >= (1 + strength / 2) * (1 - 1e-6)).all() and (reach <= (1.5 + strength / 2) * (1 + 1e-6)).all()
    assert torch.equal(world.on_distribution(theta[2:3], 30, [stream(1, NAMES[2])])[0], on[2])
    assert torch.equal(world.off_distribution(theta[2:3], 30, [stream(1, NAMES[2])], strength)[0], off[2])


@pytest.mark.parametrize(("p", "held_out"), [(5, 1), (7, 3), (13, 5), (31, 15)])
def test_sums_are_standardised_exactly_on_seen_and_on_held_out_pairs(p: int, held_out: int) -> None:
    world = modular.build(form="sum", p=p, held_out=held_out)
    assert isinstance(world, modular.Sum)
    seen, hidden = ({(int(a), int(b)) for a, b in world.pairs(h)} for h in (False, True))
    assert seen | hidden == set(product(range(p), repeat=2)) and not seen & hidden
    for pairs, times in ((seen, p - held_out), (hidden, held_out)):
        for residue in (lambda a, b: a, lambda a, b: b, lambda a, b: (a + b) % p):
            counts = [sum(residue(a, b) == r for a, b in pairs) for r in range(p)]
            assert counts == [times] * p
    theta = torch.tensor([[k, phase] for k in range(1, (p + 1) // 2) for phase in (0.0, 1.0)], dtype=torch.float64)
    for h in (False, True):
        x = torch.nn.functional.one_hot(world.pairs(h), p).flatten(-2).double()
        y = world.answer(theta, x.expand(len(theta), -1, -1))
        assert y.mean(1).abs().max() < 1e-12 and (y.square().mean(1) - 1).abs().max() < 1e-12


def test_a_sum_by_hand() -> None:
    # p = 5: 4 + 3 = 2 mod 5, key 2, phase 1.
    world = modular.build(form="sum", p=5, held_out=1)
    x = torch.zeros(1, 1, 10)
    x[0, 0, [4, 5 + 3]] = 1
    assert world.answer(torch.tensor([[2.0, 1.0]]), x).item() == pytest.approx(sqrt(2) * cos(8 * pi / 5 + 1), abs=1e-6)


def test_keys_of_teachers_are_uniform() -> None:
    key, phase = SUM.teacher(streams(0, [str(i) for i in range(1200)])).unbind(-1)
    counts = torch.bincount(key.long(), minlength=7)
    assert counts[0] == 0 and len(counts) == 7
    assert (counts[1:] - 200).abs().max() < 4 * (1200 * 5 / 36) ** 0.5
    assert kstest((phase / (2 * pi)).numpy(), "uniform").pvalue > 1e-3


def held_out_share(world: modular.Sum, x: torch.Tensor) -> float:
    a, b = x.unflatten(-1, (2, world.p)).argmax(-1).unbind(-1)
    hidden = {(int(i), int(j)) for i, j in world.pairs(True)}
    pairs = list(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
    return sum(pair in hidden for pair in pairs) / len(pairs)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([(5, 2), (7, 1), (11, 5), (23, 8)]), st.floats(0, 2))
def test_sum_questions_are_one_hot_and_of_their_pairs_whatever_the_stack(size, strength: float) -> None:
    world = modular.build(form="sum", p=size[0], held_out=size[1])
    assert isinstance(world, modular.Sum)
    theta = world.teacher(streams(0, NAMES))
    on = world.on_distribution(theta, 50, streams(1, NAMES))
    off = world.off_distribution(theta, 50, streams(1, NAMES), strength)
    for x in (on, off):
        assert x.shape == (8, 50, 2 * world.p) and ((x == 0) | (x == 1)).all()
        assert (x.unflatten(-1, (2, world.p)).sum(-1) == 1).all()
    assert held_out_share(world, on) == 0
    p = min(strength, 1.0)
    assert abs(held_out_share(world, off) - p) <= 5 * (p * (1 - p) / 400) ** 0.5 + 1 / 400
    assert torch.equal(world.on_distribution(theta[2:3], 50, [stream(1, NAMES[2])])[0], on[2])
    assert torch.equal(world.off_distribution(theta[2:3], 50, [stream(1, NAMES[2])], strength)[0], off[2])


@pytest.mark.parametrize(("world", "right", "wrong"), [(COSINE, 0.95, 0.3), (SUM, 0.98, 0.6)])
def test_a_human_is_right_where_it_was_asked_and_wrong_beyond(world, right: float, wrong: float) -> None:
    theta_1 = world.teacher(streams(0, NAMES))
    human = descent.build(width=24, steps=1500)
    theta_2 = human.train(world, human.init(world, streams(1, NAMES)), theta_1, streams(2, NAMES)).theta
    on, off = (
        float(r_squared(world.human_answer(world.human_net(24), theta_2, x), world.answer(theta_1, x)))
        for x in (world.on_distribution(theta_1, 2000, streams(3, NAMES)),
                  world.off_distribution(theta_1, 2000, streams(3, NAMES)))
    )
    assert on > right and off < wrong


@pytest.mark.parametrize("world", [COSINE, SUM])
def test_every_parameter_is_active_on_distribution(world) -> None:
    theta = world.teacher(streams(0, NAMES))
    assert not world.inactive(theta).any() and world.inactive(theta).shape == theta.shape[1:]
    x = world.on_distribution(theta, 200, streams(1, NAMES))
    for i in range(theta.shape[1]):
        other = theta.clone()
        other[:, i] += 1
        assert ((world.answer(other, x) - world.answer(theta, x)).abs().amax(1) > 0.01).all()


def test_moduli_that_would_break_the_design_are_refused() -> None:
    with pytest.raises(InputError, match="p: got 15; expected a prime"):
        modular.build(form="sum", p=15)
    with pytest.raises(InputError, match="held_out: got 7; expected at most 6"):
        modular.build(form="sum", p=13, held_out=7)
