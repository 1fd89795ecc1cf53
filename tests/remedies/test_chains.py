"""Chains over other humans: the posterior, and ∇ log Z against a closed form and finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.remedies import chains
from reuse_sim.remedies.chains import Condition, Heads
from reuse_sim.rng import stream

LINEAR, SMALL = Mlp((2, 1)), Mlp((2, 3, 1))


def condition(net: Mlp, n: int = 12, **options) -> Condition:
    x = torch.randn(n, 2, generator=stream(0, "x"), dtype=torch.float64)
    return Condition(net, x, options.pop("unit", 0.7), options.pop("strength", 6.0), **options)


def heads(c: float, n: int = 12, units: int = 0, r: float = 0.0) -> Heads:
    own = torch.randn(1, n, generator=stream(0, "own"), dtype=torch.float64)
    return Heads(torch.tensor([c], dtype=torch.float64), torch.full((1, units), r, dtype=torch.float64), own)


def exact(at: Condition, head: Heads) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log Z, posterior mean and covariance of z for a linear human and no slack.

    U = k |Φz(1 − c) − N|² with k = strength/(n unit), so that log Z = −log det(A)/2 + 2k² bᵀA⁻¹b − k|N|² with
    A = I + 2k(1 − c)²ΦᵀΦ and b = (1 − c)ΦᵀN.
    """
    n = len(at.x)
    k, keep = at.strength / (n * at.unit), 1 - head.c[0]
    phi = torch.cat([at.x, torch.ones(n, 1, dtype=at.x.dtype)], 1) * at.net.prior_sd(at.x.dtype)
    a = torch.eye(3, dtype=at.x.dtype) + 2 * k * keep**2 * phi.T @ phi
    b = keep * phi.T @ head.own[0]
    inverse = torch.linalg.inv(a)
    log_z = -torch.logdet(a) / 2 + 2 * k**2 * b @ inverse @ b - k * head.own[0] @ head.own[0]
    return log_z, 2 * k * inverse @ b, inverse


def test_chains_keep_a_posterior_that_is_known_and_average_its_gradient() -> None:
    at, head = condition(LINEAR, slack=0.0), heads(0.3)
    g = stream(1, "chains")
    state = chains.init(at, 1, 4000, g, size=0.3)
    state, info = chains.step(at, state, head, g, torch.tensor([60]), 5)
    _, mean, covariance = exact(at, head)
    z = state.z[:, 0]
    error = covariance.diagonal().sqrt() / 4000**0.5
    assert bool(((z.mean(1) - mean).abs() < 4.5 * error).all())
    assert torch.allclose(torch.cov(z), covariance, atol=5 * float(covariance.max()) / 2000**0.5)
    assert 0.5 < float(info.acceptance) <= 1
    leaf = replace(head, c=head.c.clone().requires_grad_(), own=head.own.clone().requires_grad_())
    by_c, by_own = torch.autograd.grad(exact(at, leaf)[0], (leaf.c, leaf.own))
    each = [at.energy(state.z[:, :, i : i + 500], head)[2] for i in range(0, 4000, 500)]
    for name, right in (("c", by_c), ("own", by_own)):
        draws = torch.stack([getattr(s, name) for s in each])
        error = draws.std(0) / len(each) ** 0.5
        assert bool(((getattr(info.slopes, name) - right).abs() < 6 * error + 1e-3).all()), name


@settings(max_examples=20, deadline=None)
@given(c=st.floats(-1.5, 1.5), r=st.floats(-1, 1), slack=st.sampled_from([0.0, 0.5, 1.0]))
def test_slopes_are_those_of_the_energy(c: float, r: float, slack: float) -> None:
    at, head = condition(SMALL, slack=slack), heads(c, units=3, r=r)
    z = torch.randn(SMALL.p, 1, 5, generator=stream(2, "z"), dtype=torch.float64)
    value, slope, slopes = at.energy(z, head)

    def u(z: torch.Tensor, head: Heads) -> torch.Tensor:
        theta = (z * SMALL.prior_sd(z.dtype)[:, None, None]).permute(1, 2, 0)
        hidden, out = SMALL.layers(theta, at.x)
        f1 = head.c[:, None, None] * out[..., 0] + (hidden @ head.r[0]) + head.own[:, None]
        error = (out[..., 0] - f1).square().mean(-1) / at.unit
        return at.strength * (error - slack).clamp(min=0)

    leaves = [t.clone().requires_grad_() for t in (z, head.c, head.r, head.own)]
    right = u(leaves[0], Heads(*leaves[1:]))
    assert torch.allclose(value, right, rtol=1e-9, atol=1e-9)
    by_z, by_c, by_r, by_own = torch.autograd.grad(right.sum(), leaves)
    assert torch.allclose(slope, by_z, rtol=1e-8, atol=1e-8)
    for found, by in ((slopes.c, by_c), (slopes.r, by_r), (slopes.own, by_own)):
        assert torch.allclose(found, -by / 5, rtol=1e-8, atol=1e-8)


def test_the_gradient_of_log_z_agrees_with_finite_differences_of_its_evidence() -> None:
    """One human, tanh, with a slack: log Z at c ± h over the same million draws of the prior."""
    at, n = condition(SMALL, strength=3.0, slack=0.3), 200_000
    z = torch.randn(SMALL.p, 1, n, generator=stream(3, "prior"), dtype=torch.float64)

    def log_z(c: float) -> float:
        return float((-at.energy(z, heads(c, units=3))[0]).logsumexp(1)) - math.log(n)

    h = 1e-3
    right = (log_z(0.2 + h) - log_z(0.2 - h)) / (2 * h)
    g = stream(4, "chains")
    state = chains.init(at, 1, 4000, g, size=0.2)
    _, info = chains.step(at, state, heads(0.2, units=3), g, torch.tensor([60]), 5)
    assert float(info.slopes.c) == pytest.approx(right, abs=0.1)


def test_every_human_agrees_with_a_copy_and_no_reward_moves_it() -> None:
    at = condition(SMALL)
    copy = Heads(torch.ones(1).double(), torch.zeros(1, 3).double(), torch.zeros(1, 12).double())
    z = torch.randn(SMALL.p, 1, 64, generator=stream(5, "z"), dtype=torch.float64)
    value, slope, slopes = at.energy(z, copy)
    assert not value.any() and not slope.any() and not slopes.c.any() and not slopes.own.any()


def test_heads_do_not_touch_each_other() -> None:
    at = condition(SMALL)
    both = Heads(torch.tensor([0.0, 0.5]).double(), torch.zeros(2, 3).double(),
                 torch.randn(2, 12, generator=stream(6, "own"), dtype=torch.float64))  # fmt: skip
    z = torch.randn(SMALL.p, 2, 4, generator=stream(6, "z"), dtype=torch.float64)
    value, slope, slopes = at.energy(z, both)
    for i in range(2):
        alone = at.energy(z[:, i : i + 1], both.take(torch.tensor([i])))
        assert torch.allclose(alone[0], value[i : i + 1], atol=1e-12)
        assert torch.allclose(alone[1], slope[:, i : i + 1], atol=1e-12)
        assert torch.allclose(alone[2].c, slopes.c[i : i + 1], atol=1e-12)


@pytest.mark.parametrize(
    "change", [{"net": Mlp((2, 3, 3, 1))}, {"net": Mlp((3, 2, 1))}, {"unit": 0.0}, {"slack": -1.0}]
)
def test_a_condition_that_cannot_be_is_refused(change) -> None:
    with pytest.raises(InputError):
        replace(condition(SMALL), **change)


def test_moves_that_cannot_be_are_refused() -> None:
    at = condition(SMALL)
    state = chains.init(at, 1, 2, stream(0, "g"))
    with pytest.raises(InputError):
        chains.step(at, state, heads(0.0, units=3), stream(0, "g"), torch.tensor([0]))
    with pytest.raises(InputError):
        chains.init(at, 1, 0, stream(0, "g"))
