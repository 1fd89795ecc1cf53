"""Slots: what they cost and learn, against closed forms, and what heads and slots send to each other."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.remedies import reward, slots, swap
from reuse_sim.remedies.chains import Condition
from reuse_sim.remedies.heads import Own
from reuse_sim.remedies.reward import Rules, Scene, Start
from reuse_sim.remedies.slots import Slots
from reuse_sim.rng import children, stream

LINEAR, SMALL, N = Mlp((2, 1)), Mlp((2, 3, 1)), 16
YES, NO = torch.tensor([True]), torch.tensor([False])


def scene(net: Mlp = SMALL, dtype: torch.dtype = torch.float32, **options) -> Scene:
    x = torch.randn(4, N, 2, generator=stream(0, "x"), dtype=dtype)
    theta = net.init([stream(0, "human")], dtype)[0] * 2
    return Scene(net, theta, Condition(net, x[0], options.pop("unit", 0.2), **options), x[1], x[2:] * 1.5)


def cold(net: Mlp, learned: torch.Tensor, joint: torch.Tensor, dtype: torch.dtype = torch.float32) -> Slots:
    """Equal starts of all slots."""
    nu = torch.randn(net.p, generator=stream(0, "nu"), dtype=dtype).expand(len(learned), -1).clone()
    return Slots(nu, torch.full_like(nu, math.log(0.2)), learned, joint)


def heads(own: Own, c: float, units: int = 3) -> Start:
    mu = torch.randn(own.p, generator=stream(0, "mu")).expand(len(own.wave), -1)
    return Start(mu, torch.full_like(mu, math.log(0.2)), torch.full((len(mu),), c), torch.zeros(len(mu), units))


def rules(arms: int, at: Scene, **changes) -> Rules:
    nought, no = torch.zeros(arms), torch.zeros(arms, dtype=torch.bool)
    labels = tuple(at.units(x)[0].expand(arms, -1) for x in (at.condition.x, at.x_data))
    plain = Rules(nought, nought + 1, nought, nought, nought, no, no, nought.long() + 1,
                  torch.arange(N).expand(arms, -1), (labels[0], labels[1]), no)  # fmt: skip
    return replace(plain, **changes)


def design(at: Scene, x: torch.Tensor) -> torch.Tensor:
    """Φ with H(x) = Φ ν for a linear human."""
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1) * at.human.prior_sd(x.dtype)


def test_behaviour_alone_leads_to_the_posterior_that_is_known() -> None:
    """Linear, no slack: nats are |ν|²/2 + k Σ_sets |Φν − y|², and Σ σ²/2 − log σ + (k/2) Σ_sets |Φ diag σ|²."""
    at = scene(LINEAR, strength=6.0, slack=0.0)
    seen = at.behaviour()
    done = slots.learn(cold(LINEAR, YES, YES), seen, stream(0, "learn"), steps=800, rate=0.05, cosine=True)
    k, phi = 6.0 / (N * 0.2), torch.cat([design(at, x) for x in seen.x])
    nu = torch.linalg.solve(torch.eye(3) + 2 * k * phi.T @ phi, 2 * k * phi.T @ seen.y.flatten())
    sigma = (1 + k * phi.square().sum(0)) ** -0.5
    assert torch.allclose(done.nu[0], nu, atol=1e-3)
    assert torch.allclose(done.log_sigma[0].exp(), sigma, rtol=0.15)
    cost = slots.account(done, seen, stream(1, "draws"), draws=2000)
    right = (sigma**2 + nu**2 - 1).sum() / 2 - sigma.log().sum()
    assert float(cost.kl) == pytest.approx(float(right), rel=0.05)
    assert float(cost.misfit) == pytest.approx(float(k * (phi @ nu - seen.y.flatten()).square().sum()), rel=0.01)
    assert float(cost.coarse) == pytest.approx(float(k / 2 * (phi * sigma).square().sum()), rel=0.15)


def test_the_joint_optimum_is_the_ridge_of_behaviour_and_of_what_the_head_leaves() -> None:
    """With c held at 1 the condition asks nothing of ν, and the data's labels less N stand beside behaviour."""
    at, own = scene(LINEAR, strength=6.0, slack=0.0), Own(2, 1, torch.tensor([False, False]))
    one, labels = torch.ones(2), (torch.zeros(2, N), 1 - at.units(at.x_data)[0].expand(2, -1))
    held = rules(2, at, low=one, high=one, l2=YES.expand(2), target=labels)
    done = reward.train(own, heads(own, 1.0, 0), held, at, stream(0, "train"), steps=800, rate=0.05, cosine=True,
                        slots=cold(LINEAR, YES.expand(2), torch.tensor([True, False])))  # fmt: skip
    assert done.slots is not None
    seen, k = at.behaviour(), 6.0 / (N * 0.2)
    phi, data = torch.cat([design(at, x) for x in seen.x]), design(at, at.x_data)
    left = labels[1][0] - own.answer(done.heads.mu, at.x_data)[0]
    both = torch.cat([phi, data]), torch.cat([seen.y.flatten(), left])
    for nu, (p, y) in zip(done.slots.nu, (both, (phi, seen.y.flatten())), strict=True):
        assert torch.allclose(nu, torch.linalg.solve(torch.eye(3) + 2 * k * p.T @ p, 2 * k * p.T @ y), atol=2e-3)
    assert float((done.slots.nu[0] - done.slots.nu[1]).norm()) > 0.1


@pytest.mark.parametrize("joint", [True, False])
def test_slopes_of_the_joint_loss_are_those_of_finite_differences(joint: bool) -> None:
    at, own = scene(dtype=torch.float64, slack=0.1), Own(2, 4, torch.tensor([True, False]))
    begin, x = heads(own, 0.6), at.x
    begin = Start(begin.mu.double(), begin.log_rho.double(), begin.c.double(), begin.r.double() + 0.3)
    under = rules(2, at)
    noise, noise_2 = (torch.randn(2, p, generator=stream(1, "noise"), dtype=torch.float64) for p in (own.p, SMALL.p))
    flags = cold(SMALL, YES.expand(2), torch.tensor([joint, joint]), torch.float64)
    said, units = at.units(x)

    def of_slot(here: Slots) -> torch.Tensor:
        return slots.length(here, at.behaviour(), noise_2).total

    def loss(nu, log_sigma, mu, c, r) -> torch.Tensor:
        here = flags.at(nu, log_sigma)
        read = slots.read(here, SMALL, x, said, units)
        target = reward._target(under, here, read[0])
        return reward.nats(own, replace(begin, mu=mu, c=c, r=r), *read, target, under, at, noise)[0] + of_slot(here)

    leaves = [t.clone().requires_grad_() for t in (flags.nu, flags.log_sigma, begin.mu, begin.c, begin.r)]
    slopes = torch.autograd.grad(loss(*leaves).sum(), leaves)
    if joint:
        torch.autograd.gradcheck(loss, leaves, atol=1e-6, rtol=1e-5)
        return
    alone = torch.autograd.grad(of_slot(flags.at(*leaves[:2])).sum(), leaves[:2])
    assert torch.equal(slopes[0], alone[0]) and torch.equal(slopes[1], alone[1])
    torch.autograd.gradcheck(lambda *rest: loss(flags.nu, flags.log_sigma, *rest), leaves[2:], atol=1e-6, rtol=1e-5)


def test_a_slot_whose_gradient_is_stopped_learns_as_from_behaviour_alone_and_another_does_not() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, True, True]))
    learned, joint = torch.tensor([True, True, False]), torch.tensor([False, True, False])
    begin, paid = cold(SMALL, learned, joint), rules(3, at, until=torch.tensor([60.0, 60.0, 60.0]))
    done = reward.train(own, heads(own, 0.5), paid, at, stream(0, "train"), steps=60, rate=0.02, population=4,
                        slots=begin)  # fmt: skip
    assert done.slots is not None and done.nu_path is not None
    g = stream(0, "train")
    torch.randn(SMALL.p, 3, 4, generator=g)  # where the chains begin is drawn before
    alone = slots.learn(begin, at.behaviour(), children([g], 1)[0], steps=60, rate=0.02)
    assert torch.equal(done.slots.nu[0], alone.nu[0]) and torch.equal(done.slots.log_sigma[0], alone.log_sigma[0])
    assert float((done.slots.nu[1] - alone.nu[1]).abs().max()) > 1e-3
    # A given one neither moves nor costs, and its head answers with the human.
    assert torch.equal(done.slots.nu[2], begin.nu[2]) and done.nu_path.shape == (10, 3, SMALL.p)
    assert done.slot_length is not None and float(done.slot_length.total[2]) == 0 and float(done.slot_length.kl[0]) > 0
    said, units = at.units(at.x)
    read = slots.read(begin, SMALL, at.x, said, units)
    assert torch.equal(read[0][2], said) and torch.equal(read[1][2], units) and not torch.equal(read[0][0], said)


def test_given_slots_are_the_same_bits_as_none() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    paid, given_ = rules(2, at, until=torch.tensor([20.0, 0.0])), cold(SMALL, NO.expand(2), NO.expand(2))
    plain, held = (reward.train(own, heads(own, 0.5), paid, at, stream(0, "train"), steps=20, rate=0.02, population=4,
                                slots=s) for s in (None, given_))  # fmt: skip
    assert torch.equal(plain.heads.mu, held.heads.mu) and torch.equal(plain.c_path, held.c_path)
    assert held.slots is None and held.slot_length is None


@settings(max_examples=25, deadline=None)
@given(c=st.floats(-1, 2), size=st.floats(0, 5), shift=st.floats(-3, 3), sd=st.floats(0.05, 1.5), of=st.integers(0, 9))
def test_no_slot_gets_back_more_bits_than_it_pays(c: float, size: float, shift: float, sd: float, of: int) -> None:
    """−log Z ≤ KL + E U, whatever head and slot: what keeps the joint loss from running away. Linear, no slack."""
    x = torch.randn(N, 2, generator=stream(of, "x"), dtype=torch.float64)
    own = size * torch.randn(N, generator=stream(of, "own"), dtype=torch.float64)
    phi = torch.cat([x, torch.ones(N, 1, dtype=x.dtype)], 1) * LINEAR.prior_sd(x.dtype)
    k, keep = 6.0 / (N * 0.2), 1 - c
    a = torch.eye(3, dtype=x.dtype) + 2 * k * keep**2 * phi.T @ phi
    b = keep * phi.T @ own
    log_z = -torch.logdet(a) / 2 + 2 * k**2 * b @ torch.linalg.solve(a, b) - k * own @ own
    nu = shift * torch.randn(1, 3, generator=stream(of, "nu"), dtype=torch.float64)
    kl = float(slots.kl_nats(nu, torch.full_like(nu, math.log(sd))))
    expected = k * ((keep * phi @ nu[0] - own).square().sum() + (keep * sd) ** 2 * phi.square().sum())
    assert -float(log_z) <= kl + float(expected) + 1e-9 * (1 + abs(float(log_z)))


def test_a_rewarded_copy_does_not_bend_its_human_away_to_make_room_for_n() -> None:
    """c held at 1: no human agrees with N, and log Z falls as fast as the slot's own misfit to the head grows."""
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    one, paid = torch.ones(2), torch.tensor([0.0, 150.0])
    done = reward.train(own, heads(own, 1.0), rules(2, at, low=one, until=paid), at, stream(0, "train"), steps=150,
                        rate=0.05, population=8, slots=cold(SMALL, YES.expand(2), YES.expand(2)))  # fmt: skip
    assert done.slots is not None and done.slot_length is not None
    alone, beside = done.slot_length.total.tolist()
    assert beside < 1.5 * alone and float(done.misfit[1]) < 20


def test_swaps_are_told_against_the_human_in_each_slot() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, False, True]))
    begin = replace(heads(own, 0.0), c=torch.tensor([0.0, 1.0, 0.5]))
    inside, others = SMALL.init([stream(k, "slot") for k in range(3)]), SMALL.init([stream(k, "o") for k in range(4)])
    x = at.x_data
    before = reward.answer(own, begin, at, x, inside)
    after = torch.stack([reward.answer(own, begin, at, x, o) for o in others])
    h, theirs = SMALL.forward(inside, x)[..., 0], SMALL.forward(others, x)[..., 0]
    assert swap.causal(before, after, h, theirs).tolist() == pytest.approx([0, 1, 0.5], abs=1e-5)
    assert swap.residual(before, after, h, theirs).tolist() == pytest.approx([0, 1, 0.25], abs=1e-5)
    # One head, one human: the same as where that human is in all.
    assert swap.causal(before, after, h[1], theirs)[1] == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match="humans that differ"):
        swap.causal(before, after, h[:2], theirs)


def test_a_slot_that_breaks_is_left_and_its_head_named() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    begin = cold(SMALL, YES.expand(2), NO.expand(2))
    begin.nu[1, 0] = torch.nan
    done = reward.train(own, heads(own, 0.5), rules(2, at), at, stream(0, "train"), steps=10, rate=0.02, slots=begin)
    assert done.broken == (1,) and done.slots is not None and bool(done.slots.nu[0].isfinite().all())


def test_flops_count_the_slot() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    begin = cold(SMALL, torch.tensor([False, True]), NO.expand(2))
    plain, found = (reward.flops(own, at, rules(2, at), steps=10, population=4, leapfrogs=3, slots=s)
                    for s in (None, begin))  # fmt: skip
    assert (found - plain).tolist() == pytest.approx([0, 6 * SMALL.p * 10 * 4 * N])


def test_what_does_not_fit_together_is_refused() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    begin = cold(SMALL, YES.expand(2), YES.expand(2))
    with pytest.raises(InputError, match="x_behaviour"):
        blind = replace(at, x_behaviour=None)
        reward.train(own, heads(own, 0.5), rules(2, at), blind, stream(0, "g"), steps=5, rate=0.1, slots=begin)
    with pytest.raises(InputError, match="Slots"):
        three = cold(SMALL, YES.expand(3), YES.expand(3))
        reward.train(own, heads(own, 0.5), rules(2, at), at, stream(0, "g"), steps=5, rate=0.1, slots=three)
    with pytest.raises(InputError, match="p2"):
        replace(begin, log_sigma=begin.log_sigma[:1])
    with pytest.raises(InputError, match="Behaviour"):
        replace(at.behaviour(), x=at.x_data)
    with pytest.raises(InputError, match="steps"):
        slots.learn(begin, at.behaviour(), stream(0, "g"), steps=0, rate=0.1)
