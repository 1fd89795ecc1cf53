"""Prices, misfits, swaps, and what training of heads keeps and holds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.remedies import reward, swap
from reuse_sim.remedies.chains import Condition
from reuse_sim.remedies.heads import Own, bits, kl_nats, l2_nats, misfit_nats
from reuse_sim.remedies.reward import Rules, Scene, Start
from reuse_sim.rng import stream

NET, N = Mlp((2, 3, 1)), 16


def scene() -> Scene:
    x = torch.randn(2, N, 2, generator=stream(0, "x"))
    theta = NET.init([stream(0, "human")])[0] * 2
    return Scene(NET, theta, Condition(NET, x[0], 0.2), x[1])


def start(own: Own, c: float = 0.0, rho: float = 0.2, seed: int = 0) -> Start:
    mu = torch.randn(own.p, generator=stream(seed, "mu")).expand(len(own.wave), -1)
    return Start(mu, torch.full_like(mu, math.log(rho)), torch.full((len(mu),), c), torch.zeros(len(mu), 3))


def rules(arms: int, at: Scene, **changes) -> Rules:
    nought, no = torch.zeros(arms), torch.zeros(arms, dtype=torch.bool)
    labels = tuple(at.units(x)[0].expand(arms, -1) for x in (at.condition.x, at.x_data))
    plain = Rules(nought, nought + 1, nought, nought, nought, no, no, nought.long() + 1,
                  torch.arange(N).expand(arms, -1), (labels[0], labels[1]), no)  # fmt: skip
    return replace(plain, **changes)


@settings(max_examples=20, deadline=None)
@given(mu=st.floats(-3, 3), rho=st.floats(0.05, 3))
def test_kl_is_that_of_torch(mu: float, rho: float) -> None:
    m, s = torch.full((2, 5), mu, dtype=torch.float64), torch.full((2, 5), rho, dtype=torch.float64)
    right = kl_divergence(Normal(m, s), Normal(m * 0, s * 0 + 1))
    assert torch.allclose(kl_nats(m, s.log()), right.sum(1), atol=1e-12)
    assert torch.allclose(bits(kl_nats(m, s.log())), right.sum(1) / math.log(2), atol=1e-12)
    # A decay is the density of the mean less that of the prior's peak, whatever the precision.
    assert float(l2_nats(m)[0]) == pytest.approx(5 * mu**2 / 2)


def test_misfit_is_nothing_within_the_tolerance_and_a_normal_noise_without_slack() -> None:
    y = torch.zeros(1, 128, dtype=torch.float64)
    assert float(misfit_nats(y + 0.3, y, 0.1, 64.0)) == 0
    assert float(misfit_nats(y + 0.5, y, 0.1, 64.0)) == pytest.approx(64 * 1.5)
    noise = Normal(y, math.sqrt(0.1))
    density = (noise.log_prob(y) - noise.log_prob(y + 0.5)).sum()
    assert float(misfit_nats(y + 0.5, y, 0.1, 64.0, slack=0.0)) == pytest.approx(float(density))


def test_swaps_tell_a_copy_from_one_that_answers_by_itself() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, False, True]))
    heads = replace(start(own), c=torch.tensor([0.0, 1.0, 0.5]))
    others = NET.init([stream(k, "other") for k in range(3)])
    x = at.x_data
    before = reward.answer(own, heads, at, x)
    after = torch.stack([reward.answer(own, heads, at, x, o) for o in others])
    h, theirs = at.units(x)[0], NET.forward(others, x)[..., 0]
    assert swap.residual(before, after, h, theirs).tolist() == pytest.approx([0, 1, 0.25], abs=1e-5)
    assert swap.causal(before, after, h, theirs).tolist() == pytest.approx([0, 1, 0.5], abs=1e-5)
    # Reading hidden units moves a head whose c is 0.
    reads = replace(heads, r=torch.ones(3, 3))
    moved = torch.stack([reward.answer(own, reads, at, x, o) for o in others])
    assert float(swap.residual(reward.answer(own, reads, at, x), moved, h, theirs)[0]) > 0.1
    with pytest.raises(InputError, match="humans that differ"):
        swap.causal(before, after[:1], h, h[None])


def test_own_networks_are_sines_and_tanh() -> None:
    own = Own(2, 4, torch.tensor([True, False]))
    mu = torch.randn(2, own.p, generator=stream(0, "mu"))
    x = torch.randn(7, 2, generator=stream(0, "q"))
    said = own.answer(mu, x)
    assert torch.allclose(said[1], own.net.forward(mu[1] * own.net.prior_sd(), x)[..., 0], atol=1e-6)
    v = own.net.views(mu[0] * own.prior_sd[0])
    wave = torch.sin(x @ v["weight0"].T + v["bias0"]) @ v["weight1"][0] + v["bias1"]
    assert torch.allclose(said[0], wave, atol=1e-6)
    assert not own.answer(own.silent(mu), x).any()
    with pytest.raises(InputError):
        Own(2, 0, torch.tensor([True]))


def test_a_copy_costs_less_than_to_say_the_same_alone() -> None:
    """It needs no more of its own than silence."""
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    plain = rules(2, at, low=torch.tensor([1.0, 0.0]), high=torch.tensor([1.0, 0.0]))
    done = reward.train(own, replace(start(own), c=torch.tensor([1.0, 0.0])), plain, at, stream(0, "train"), steps=400,
                        rate=0.03, cosine=True)  # fmt: skip
    assert done.broken == () and done.heads.c.tolist() == [1.0, 0.0]
    assert float(done.loss[0]) < float(done.loss[1]) - 2 and float(done.misfit.max()) < 1
    assert float(own.answer(done.heads.mu, at.x_data)[0].square().mean()) < 0.2  # within the tolerance of silence


def test_a_reward_makes_the_same_head_agree_with_fewer_humans() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    paid = rules(2, at, high=torch.zeros(2), until=torch.tensor([0.0, 150.0]))
    done = reward.train(own, start(own), paid, at, stream(0, "train"), steps=150, rate=0.02, population=16)
    z = torch.randn(NET.p, 1, 4000, generator=stream(1, "z"))
    share = []
    for i in range(2):
        said = own.answer(done.heads.mu, at.condition.x)
        heads = reward.Heads(done.heads.c, done.heads.r, said).take(torch.tensor([i]))
        share.append(float((-at.condition.energy(z, heads)[0]).logsumexp(1)))
    assert share[1] < share[0] - 0.5
    assert math.isnan(done.acceptance[0]) and 0.3 < float(done.acceptance[1]) <= 1


def test_the_human_is_closed_before_it_opens_and_c_keeps_its_limits() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, True, False]))
    opens = rules(3, at, opens=torch.tensor([0.0, 15.0, 100.0]), low=torch.tensor([0.3, 0.3, 0.3]))
    done = reward.train(own, start(own, c=0.5), opens, at, stream(0, "train"), steps=20, rate=0.05)
    assert done.c_path[:7, 1].tolist() == [0.0] * 7 and done.c_path[:, 2].tolist() == [0.0] * 10
    assert bool(((done.c_path[:, 0] >= 0.3) & (done.c_path[:, 0] <= 1)).all()) and float(done.c_path[-1, 1]) >= 0.3
    assert not done.heads.r.any()


def test_heads_alone_train_as_they_do_beside_others() -> None:
    """Own gradients, own clip, own moments: only the random draws are shared out by place."""
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    still = replace(start(own), log_rho=torch.full((2, own.p), -20.0))
    both = rules(2, at, l2=torch.ones(2, dtype=torch.bool))
    two = reward.train(own, still, both, at, stream(0, "a"), steps=30, rate=0.02)
    one = Own(2, 4, own.wave[:1])
    alone = reward.train(one, Start(*(getattr(still, k)[:1] for k in still.__dataclass_fields__)),
                         rules(1, at, l2=torch.ones(1, dtype=torch.bool)), at, stream(0, "b"), steps=30,
                         rate=0.02)  # fmt: skip
    assert torch.allclose(two.heads.mu[:1], alone.heads.mu, atol=1e-5)
    assert torch.allclose(two.heads.mu[0], two.heads.mu[1], atol=1e-6)


def test_a_head_that_breaks_is_left_and_named() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    begin = start(own)
    begin = replace(begin, mu=begin.mu.clone())
    begin.mu[1, -1] = torch.nan
    done = reward.train(own, begin, rules(2, at), at, stream(0, "train"), steps=10, rate=0.02)
    assert done.broken == (1,) and bool(done.heads.mu[0].isfinite().all())


def test_flops_count_the_chains() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    paid = rules(2, at, until=torch.tensor([0.0, 10.0]), moves=torch.tensor([1, 2]))
    found = reward.flops(own, at, paid, steps=10, population=4, leapfrogs=3)
    learning = 6 * own.p * 10 * 2 * N
    assert found.tolist() == pytest.approx([learning, learning + 6 * NET.p * N * 4 * ((60 + 20) * 4 + 10)])


def test_what_does_not_fit_together_is_refused() -> None:
    at, own = scene(), Own(2, 4, torch.tensor([True, True]))
    with pytest.raises(InputError, match="Rules"):
        reward.train(own, start(own), rules(3, at), at, stream(0, "g"), steps=5, rate=0.1)
    with pytest.raises(InputError, match="steps"):
        reward.train(own, start(own), rules(2, at), at, stream(0, "g"), steps=0, rate=0.1)
    with pytest.raises(InputError, match="low"):
        rules(2, at, low=torch.full((2,), 2.0))
    with pytest.raises(InputError, match="x_data"):
        fewer = replace(at, x_data=at.x_data[:3])
        reward.train(own, start(own), rules(2, at), fewer, stream(0, "g"), steps=5, rate=0.1)
