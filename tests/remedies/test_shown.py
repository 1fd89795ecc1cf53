"""Chains for outers that are shown the human: against closed forms, against `chains`, against finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp, first_output
from reuse_sim.outers.context import Context
from reuse_sim.remedies import chains, shown
from reuse_sim.remedies.shown import Condition, Heads
from reuse_sim.rng import stream
from reuse_sim.types import Access, Leaked
from reuse_sim.worlds.radius import Radius

NET, N = Mlp((2, 3, 1)), 12
X = torch.randn(N, 2, generator=stream(0, "x"), dtype=torch.float64)


def human(net: Mlp = NET, x: Tensor = X):
    return lambda theta: first_output(net, theta, x)


def mixed(net: Mlp = NET):
    """f1 = c H + N, φ = (c, N's answers)."""
    return lambda phi, theta: phi[:, :1, None] * human(net)(theta) + phi[:, None, 1:]


def condition(net: Mlp = NET, unit: float = 0.7, strength: float = 6.0, slack: float = 0.3,
              far: float = 1e9) -> Condition:  # fmt: skip
    return Condition(net, human(net), mixed(net), unit, strength, slack, far)


def heads(*c: float, order: Tensor | None = None) -> Heads:
    own = torch.randn(len(c), N, generator=stream(0, "own"), dtype=torch.float64)
    phi = torch.cat([torch.tensor(c, dtype=torch.float64)[:, None], own], 1)
    return Heads(phi, (torch.arange(N) if order is None else order).expand(len(c), -1))


def fresh(net: Mlp, arms: int, count: int) -> Tensor:
    return torch.randn(net.p, arms, count, generator=stream(1, "z"), dtype=torch.float64)


def test_every_human_agrees_with_a_copy_and_nothing_pulls_at_it() -> None:
    copies = Heads(torch.cat([torch.ones(2, 1), torch.zeros(2, N)], 1).double().requires_grad_(), heads(0, 0).asked)
    at, z = condition(slack=0.0), fresh(NET, 2, 50)
    value, slope = at.slopes(z, copies)
    (by_phi,) = torch.autograd.grad(shown.log_z(at, chains.State(z, torch.ones(2)), copies).sum(), copies.phi)
    assert not value.any() and not slope.any() and not by_phi.any()


@settings(max_examples=20, deadline=None)
@given(c=st.sampled_from([0.0, 0.4, -1.0]), slack=st.sampled_from([0.0, 0.5]))
def test_heads_of_two_parts_have_the_slopes_that_chains_know_in_closed_form(c: float, slack: float) -> None:
    """c = 0 does not look at the human at all."""
    at, these, z = condition(slack=slack), heads(c, c / 2), fresh(NET, 2, 5)
    old = chains.Condition(NET, X, at.unit, at.strength, slack)
    value, slope, slopes = old.energy(z, chains.Heads(these.phi[:, 0], torch.zeros(2, 3).double(), these.phi[:, 1:]))
    found, by_z = at.slopes(z, these)
    assert torch.allclose(found, value, atol=1e-9) and torch.allclose(by_z, slope, atol=1e-9)
    phi = these.phi.clone().requires_grad_()
    surrogate = shown.log_z(at, chains.State(z, torch.ones(2)), Heads(phi, these.asked))
    (by_phi,) = torch.autograd.grad(surrogate.sum(), phi)
    assert torch.allclose(by_phi, torch.cat([slopes.c[:, None], slopes.own], 1), atol=1e-9)
    assert torch.allclose(surrogate, -value.mean(1))


def test_the_gradient_of_log_z_is_that_of_its_closed_form() -> None:
    """A linear human, no slack: U = k |Φz(1 − c) − N|², k = strength/(n unit), so that log Z is a Gaussian integral."""
    net = Mlp((2, 1))
    at, head, count = condition(net, strength=6.0, slack=0.0), heads(0.3), 4000
    phi_z = torch.cat([X, torch.ones(N, 1).double()], 1) * net.prior_sd(torch.float64)

    def log_z(phi: Tensor) -> Tensor:
        k, keep, own = at.strength / (N * at.unit), 1 - phi[0, 0], phi[0, 1:]
        a = torch.eye(3).double() + 2 * k * keep**2 * phi_z.T @ phi_z
        b = keep * phi_z.T @ own
        return -torch.logdet(a) / 2 + 2 * k**2 * b @ torch.linalg.solve(a, b) - k * own @ own

    phi = head.phi.clone().requires_grad_()
    (right,) = torch.autograd.grad(log_z(phi), phi)
    g = stream(2, "chains")
    state = shown.init(at, 1, count, g, torch.float64)
    state, acceptance = shown.step(at, replace(state, size=state.size * 6), head, g, torch.tensor([60]), 5)
    groups = []
    for part in state.z.split(500, dim=2):
        leaf = head.phi.clone().requires_grad_()
        of = shown.log_z(at, chains.State(part, state.size), Heads(leaf, head.asked))
        groups.append(torch.autograd.grad(of.sum(), leaf)[0][0])
    draws = torch.stack(groups)
    error = draws.std(0) / len(draws) ** 0.5
    assert bool(((draws.mean(0) - right[0]).abs() < 6 * error + 1e-3).all())
    assert 0.5 < float(acceptance) <= 1


def test_the_outer_with_tokens_has_the_slopes_of_finite_differences() -> None:
    """Through the human and through the tokens of the outer that is shown it, in float64."""
    world = Radius(d=2)
    net, outer = Mlp((2, 3, 1)), Context(4)

    def answer(phi: Tensor, theta: Tensor) -> Tensor:
        known = torch.ones_like(theta)
        return outer.answer(world, net, phi, X[None, None], Access(Leaked(theta, known, known * 0)))[0]

    at = Condition(net, human(net), answer, 0.5, 6.0, 0.0, 4.0)  # some of them far
    phi = outer.init(net, [stream(3, "phi")] * 2).double().requires_grad_()
    these, z = Heads(phi, torch.arange(N).expand(2, -1)), fresh(net, 2, 3)
    _, slope = at.slopes(z, these)
    (by_phi,) = torch.autograd.grad(shown.log_z(at, chains.State(z, torch.ones(2)), these).sum(), phi)
    h, flat = 1e-6, phi.detach()
    for k in (0, 5, net.p - 1):
        change = torch.zeros_like(z)
        change[k] = h
        right = (at.energy(z + change, these) - at.energy(z - change, these)) / (2 * h)
        assert torch.allclose(slope[k], right.detach(), rtol=1e-4, atol=1e-6)
    for k in (0, 40, flat.shape[1] - 1):
        change = torch.zeros_like(flat)
        change[:, k] = h
        up, down = (at.energy(z, Heads(flat + s * change, these.asked)).mean(1) for s in (1, -1))
        assert torch.allclose(by_phi[:, k], -(up - down) / (2 * h), rtol=1e-4, atol=1e-6)


def test_a_shuffled_head_is_held_against_other_questions() -> None:
    order = torch.randperm(N, generator=stream(4, "order"))
    at, z, plain = condition(), fresh(NET, 1, 6), heads(0.0)
    turned = Heads(torch.cat([plain.phi[:, :1], plain.phi[:, 1:][:, order]], 1), plain.asked)
    assert torch.equal(at.energy(z, heads(0.0, order=order)), at.energy(z, turned))
    # Shown its own answers in a wrong order a copy does not agree.
    copy = Heads(torch.cat([torch.ones(1, 1), torch.zeros(1, N)], 1).double(), order[None])
    assert bool((replace(at, slack=0.0).energy(z, copy) > 0).all())


def test_heads_do_not_touch_each_other_and_those_without_moves_stay() -> None:
    at, both = condition(), heads(0.0, 0.5)
    state = shown.init(at, 2, 4, stream(5, "z"), torch.float64)
    moved, acceptance = shown.step(at, state, both, stream(6, "g"), torch.tensor([2, 0]))
    assert torch.equal(moved.z[:, 1], state.z[:, 1]) and math.isnan(acceptance[1]) and acceptance[0] > 0
    assert not torch.equal(moved.z[:, 0], state.z[:, 0])
    tiny, accepted = shown.step(at, replace(state, size=state.size / 50), both, stream(6, "g"), torch.tensor([3, 3]))
    assert bool((accepted > chains.TARGET).all()) and bool((tiny.size > state.size / 50).all())
    alone = chains.State(state.z[:, :1], state.size[:1])
    again, _ = shown.step(at, alone, both.take(torch.tensor([0])), stream(6, "g"), torch.tensor([2]))
    assert torch.allclose(again.z, moved.z[:, :1], atol=1e-12)


def test_far_away_an_error_counts_by_its_logarithm() -> None:
    z, head = fresh(NET, 1, 50), heads(0.0)
    plain, bent = condition(), condition(far=5.0)
    u, v = plain.energy(z, head), bent.energy(z, head)
    near = u <= 5.0
    assert bool(near.any()) and not bool(near.all())
    assert torch.equal(v[near], u[near])
    assert torch.allclose(v[~near], 5 * (1 + (u[~near] / 5).log()))
    # The slope of 5 (1 + log(U/5)) is that of U times 5/U, which is 1 where they meet.
    pull = (5.0 / u).clamp(max=1.0)
    assert torch.allclose(bent.slopes(z, head)[1], plain.slopes(z, head)[1] * pull)


def test_what_cannot_be_is_refused() -> None:
    for wrong in ({"unit": 0.0}, {"slack": -1.0}, {"far": 0.0}):
        with pytest.raises(InputError):
            condition(**wrong)
    at, g = condition(), stream(0, "g")
    with pytest.raises(InputError):
        shown.init(at, 1, 0, g)
    state = shown.init(at, 1, 2, g, torch.float64)
    for moves in (torch.tensor([-1]), torch.tensor([1, 1])):
        with pytest.raises(InputError):
            shown.step(at, state, heads(0.0), g, moves)
