"""Kernels with known values, both forms against counting, and wide networks against their limit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.specialness import cases, exact, gaussian_process

X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)


def draws(net: Mlp, x: Tensor, n: int) -> Tensor:
    """Answers `(n, questions)` of n networks from the initialisation prior."""
    theta = torch.randn(n, net.p, generator=stream(0, "prior"), dtype=torch.float64) * net.prior_sd(torch.float64)
    return net.forward(theta, x)[..., 0]


def test_arc_cosine_values() -> None:
    # Unit vectors in two dimensions have preactivations N(0, 1): ½ with itself, 1/2π at a right angle, 0 opposite.
    right = 1 / (2 * math.pi)
    known = [[0.5, right, 0.0, 1.0], [right, 0.5, right, 2 * right], [0.0, right, 0.5, 0.0], [1.0, 2 * right, 0.0, 2.0]]
    for width in (3, 100):
        k = gaussian_process.kernel(Mlp((2, width, 1), "relu", bias=False), X)
        torch.testing.assert_close(k, torch.tensor(known, dtype=torch.float64), rtol=0, atol=1e-12)
    # He's gain keeps variances through every layer: the second meets correlation 1/π where the first met 0.
    deep = gaussian_process.kernel(Mlp((2, 9, 9, 1), "relu", bias=False), X)
    a = math.acos(1 / math.pi)
    assert float(deep[0, 0]) == pytest.approx(0.5)
    assert float(deep[0, 1]) == pytest.approx((math.sin(a) + (math.pi - a) / math.pi) / (2 * math.pi), abs=1e-12)


@pytest.mark.parametrize("net", [Mlp((2, 2, 1)), Mlp((2, 2, 1), "relu"), Mlp((2, 1))])
def test_kernels_are_the_covariance_of_the_prior_s_answers_at_any_width(net: Mlp) -> None:
    y, k = draws(net, 1.5 * X, 200_000), gaussian_process.kernel(net, 1.5 * X)
    products = y[:, :, None] * y[:, None]
    assert ((products.mean(0) - k).abs() < 4.5 * products.std(0) / len(y) ** 0.5).all()


def test_the_tanh_kernel_is_known_to_what_fewer_nodes_change() -> None:
    x = 3 * torch.randn(20, 4, generator=stream(0, "x"), dtype=torch.float64)
    whole, fewer = (gaussian_process.kernel(Mlp((4, 5, 1)), x, share) for share in (1.0, 2 / 3))
    assert float((whole - fewer).abs().max()) < 1e-6
    # arcsine bounds tanh's from above and the steep limit is sign(u): E = (2/π) arcsin ρ.
    steep = gaussian_process.kernel(Mlp((2, 1, 1), bias=False), 200 * X[:2] + 100 * X[[1, 0]])
    assert float(steep[0, 1]) == pytest.approx(2 / math.pi * math.asin(0.8), abs=0.02)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_both_forms_agree_with_counting_draws_of_the_process(activation) -> None:
    net, n = Mlp((2, 4, 1), activation), 400_000
    f = torch.tensor([0.3, -0.2, 0.1, 0.5], dtype=torch.float64)
    variance, tolerance = float(f.var(correction=0)), 2.0
    factor = torch.linalg.cholesky(gaussian_process.kernel(net, X))
    g = torch.randn(n, 4, generator=stream(0, "g"), dtype=torch.float64) @ factor.T
    c = (g - f).square().mean(1) / variance
    for values, soft in (((c <= tolerance).double(), False), ((-4 * c / (2 * tolerance)).exp(), True)):
        e = gaussian_process.evidence(net, X, f, tolerance, soft=soft)
        assert abs(2**-e.bits - float(values.mean())) < 4 * float(values.std()) / n**0.5
        assert e.status == "converged" and e.bound == "two-sided" and e.high - e.low < 1e-4
        assert "Gaussian process" in e.diagnostics["reference"] and e.diagnostics["tolerance"] == tolerance


def test_a_linear_human_is_its_own_process() -> None:
    net, x = Mlp((2, 1), bias=False), torch.randn(12, 2, generator=stream(0, "x"), dtype=torch.float64)
    f = x @ torch.tensor([0.5, -1.0], dtype=torch.float64)
    truth = exact.linear_gaussian(x, f, net.prior_sd(torch.float64), 0.1)
    assert gaussian_process.evidence(net, x, f, 0.1, soft=True).bits == pytest.approx(truth.bits, abs=1e-8)


def test_far_tails_are_exact() -> None:
    # Orthogonal questions to a linear network: K = I; f is far out along one of them.
    net, x = Mlp((2, 1), bias=False), 2**0.5 * torch.eye(2, dtype=torch.float64)
    f = torch.tensor([15.0, 0.0], dtype=torch.float64)  # var f = 56.25
    # |g − f|² ≤ 2 · 56.25 · .01 under N(0, I): the noncentral ball.
    e = gaussian_process.evidence(net, x, f, 0.01)
    assert e.bits == pytest.approx(cases.ball(2, 0.5625, centre=15.0).bits, rel=1e-6)
    assert e.bits > 140


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_networks_come_nearer_to_the_process_as_they_widen(activation) -> None:
    f = torch.tensor([0.1, -0.1, 0.2], dtype=torch.float64)
    variance, n, off = float(f.var(correction=0)), 20_000, []
    for width in (1, 8, 128):
        net = Mlp((2, width, 1), activation, bias=False)
        share = ((draws(net, X[:3], n) - f).square().mean(1) <= 4.0 * variance).double().mean()
        limit = 2 ** -gaussian_process.evidence(net, X[:3], f, 4.0).bits
        off.append(abs(float(share) - limit) / (limit / n) ** 0.5)
    assert off[0] > 6 and off[2] < 4 and off[1] < off[0]


def test_what_cannot_be_asked_is_refused() -> None:
    net, f = Mlp((2, 3, 1)), torch.tensor([0.3, -0.2, 0.1, 0.5])
    for given in ((X[:, :1], f, 0.1), (X, f[:3], 0.1), (X, torch.ones(4), 0.1), (X, f, 0.0), (X, f, math.nan)):
        with pytest.raises(InputError):
            gaussian_process.evidence(net, *given)
