"""The polynomial world: orthonormal terms by quadrature, and inputs that matter off-distribution only."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.hermite_e import hermegauss
from scipy.stats import kstest

from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.inheritance.observed import r_squared
from reuse_sim.rng import stream, streams
from reuse_sim.worlds import polynomial

NAMES = [f"seed/{i}" for i in range(6)]
WORLD = polynomial.build()
HIDDEN = polynomial.build(seen=3, hidden=2)


def quadrature(d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes `(4^d, d)` and weights, exact under N(0, I) for polynomials of degree 7 in each input."""
    nodes, weights = (torch.as_tensor(a) for a in hermegauss(4))
    grid = torch.cartesian_prod(*[nodes] * d).reshape(-1, d)
    each = torch.cartesian_prod(*[weights / weights.sum()] * d).reshape(-1, d)
    return grid, each.prod(-1)


@pytest.mark.parametrize("seen", [1, 2, 4])
def test_terms_are_orthonormal_and_of_mean_0(seen: int) -> None:
    world = polynomial.build(seen=seen)
    x, weight = quadrature(seen)
    terms = world.terms(x)
    assert terms.shape[-1] == comb(seen + 3, 3) - 1
    assert (weight @ terms).abs().max() < 1e-12
    torch.testing.assert_close(terms.mT * weight @ terms, torch.eye(terms.shape[-1], dtype=torch.float64))


def test_terms_by_hand() -> None:
    world = polynomial.build(seen=2, hidden=1)
    x = torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64)
    got = {tuple(e.tolist()): v.item() for e, v in zip(world.exponents, world.terms(x), strict=True)}
    assert len(got) == 19
    for exponents, value in {
        (1, 0, 0): 2.0, (0, 1, 0): -1.0, (0, 0, 1): 3.0, (2, 0, 0): 3 / sqrt(2), (0, 3, 0): 2 / sqrt(6),
        (2, 1, 0): -3 / sqrt(2), (0, 0, 2): 9 / sqrt(3), (0, 0, 3): 27 / sqrt(15), (1, 1, 1): -6.0,
        (1, 0, 2): 18 / sqrt(3), (0, 2, 1): 0.0,
    }.items():
        assert got[exponents] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("options", "shares"), [
    ({}, (1 / 3, 1 / 3, 1 / 3)), ({"growth": 0.5, "hidden": 2}, (4 / 7, 2 / 7, 1 / 7)),
])
def test_teachers_have_variance_1_and_the_stated_share_by_degree(options, shares) -> None:
    world = polynomial.build(**options)
    theta = world.teacher(streams(0, NAMES)).double()
    seen = ~world.inactive(theta)
    for degree, share in enumerate(shares, start=1):
        of = seen & (world.exponents.sum(-1) == degree)
        torch.testing.assert_close(theta[:, of].square().sum(1), torch.full((6,), share).double(), rtol=1e-5, atol=0)
    x, weight = quadrature(4)
    x = torch.cat([x, torch.zeros(len(x), world.hidden)], -1).expand(6, -1, -1)
    y = world.answer(theta, x)
    assert (y @ weight).abs().max() < 1e-6 and (y.square() @ weight - 1).abs().max() < 1e-5


def test_questions_are_normal_on_distribution_and_in_a_shell_off_it() -> None:
    theta = HIDDEN.teacher(streams(0, NAMES))
    on = HIDDEN.on_distribution(theta, 2000, streams(1, NAMES))
    assert kstest(on[..., :3].flatten().numpy(), "norm").pvalue > 1e-3
    for strength in (0.0, 1.0, 2.0):
        x = HIDDEN.off_distribution(theta, 2000, streams(1, NAMES), strength)
        share = 2 * (x[..., :3].norm(dim=-1) / sqrt(3) - 1 - strength)
        assert kstest(share.flatten().numpy(), "uniform").pvalue > 1e-3
        if strength:
            assert kstest(x[..., 3:].flatten().numpy() / strength, "norm").pvalue > 1e-3


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 3), st.booleans(), st.floats(0, 4))
def test_questions_stay_in_their_support_whatever_the_stack(seen: int, hidden: int, further, strength) -> None:
    world = polynomial.build(seen=seen, hidden=hidden, shift="further" if further or not hidden else "hidden")
    theta = world.teacher(streams(0, NAMES))
    on = world.on_distribution(theta, 30, streams(1, NAMES))
    off = world.off_distribution(theta, 30, streams(1, NAMES), strength)
    assert on.shape == off.shape == (6, 30, seen + hidden)
    assert (on[..., seen:] == 0).all()
    if world.shift == "further":
        radius = off[..., :seen].norm(dim=-1) / sqrt(seen)
        assert (radius >= (1 + strength) * (1 - 1e-5)).all() and (radius <= (1.5 + strength) * (1 + 1e-5)).all()
    else:
        assert torch.equal(off[..., :seen], on[..., :seen])
    assert hidden == 0 or bool((off[..., seen:] != 0).any()) == (strength > 0)
    assert torch.equal(world.teacher([stream(0, NAMES[2])])[0], theta[2])
    assert torch.equal(world.on_distribution(theta[2:3], 30, [stream(1, NAMES[2])])[0], on[2])
    assert torch.equal(world.off_distribution(theta[2:3], 30, [stream(1, NAMES[2])], strength)[0], off[2])


@pytest.mark.parametrize("shift", ["further", "hidden"])
def test_inactive_entries_and_no_others_are_silent_on_distribution(shift) -> None:
    world = polynomial.build(seen=3, hidden=2, shift=shift)
    theta = world.teacher(streams(0, NAMES)).double()
    inactive = world.inactive(theta)
    # 55 terms in 5 inputs, 19 of them in the 3 seen ones.
    assert inactive.shape == (55,) and int(inactive.sum()) == 36
    on = world.on_distribution(theta, 200, streams(1, NAMES))
    off = world.off_distribution(theta, 200, streams(1, NAMES))
    for i in range(55):
        other = theta.clone()
        other[:, i] += 1
        changed = ~torch.isclose(world.answer(other, on), world.answer(theta, on), rtol=0, atol=1e-12)
        assert changed.any() != inactive[i]
        assert (world.answer(other, off) != world.answer(theta, off)).any()


def test_nothing_is_inactive_where_nothing_is_hidden() -> None:
    assert not WORLD.inactive(WORLD.teacher(streams(0, NAMES))).any()


@pytest.mark.parametrize(("world", "wrong"), [
    (WORLD, 0.75), (polynomial.build(hidden=2, shift="hidden"), 0.5),
])
def test_a_human_is_right_where_it_was_asked_and_wrong_beyond(world: polynomial.Polynomial, wrong: float) -> None:
    theta_1 = world.teacher(streams(0, NAMES))
    human = descent.build(width=24, steps=1500)
    theta_0 = human.init(world, streams(1, NAMES))
    theta_2 = human.train(world, theta_0, theta_1, streams(2, NAMES)).theta
    net = world.human_net(24)
    on, off = (
        float(r_squared(world.human_answer(net, theta_2, x), world.answer(theta_1, x)))
        for x in (world.on_distribution(theta_1, 2000, streams(3, NAMES)),
                  world.off_distribution(theta_1, 2000, streams(3, NAMES)))
    )
    assert on > 0.9 and off < wrong
    before, after = (net.views(t)["weight0"] for t in (theta_0, theta_2))
    assert torch.equal(before[..., world.seen :], after[..., world.seen :])
    assert not np.isclose(before[..., : world.seen], after[..., : world.seen]).all()


def test_a_shift_of_hidden_inputs_needs_some() -> None:
    with pytest.raises(InputError, match="shift: got hidden"):
        polynomial.build(shift="hidden")
