"""Any differentiable network: the same answers as the engine for perceptrons, and networks that only it can train."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from reuse_sim.engines import functional, stacked
from reuse_sim.engines.spec import Adam, AdamW, Fixed, Head, Rows, Sgd, Work
from reuse_sim.errors import InputError
from reuse_sim.nets import Mlp
from reuse_sim.rng import streams
from reuse_sim.train import train, value_and_grad

NET = Mlp((3, 6, 4))
HEADS = (Head("squared", 1), Head("cross_entropy", 2, weight=0.5), Head("logistic", 1, weight=2.0))


@dataclass(frozen=True)
class Wave:
    """a sin(b x): no perceptron."""

    p: int = 2

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        return theta[..., 0] * torch.sin(theta[..., 1] * x)


def questions(c: int, n: int = 12) -> tuple[Tensor, Tensor]:
    generator = streams(0, ["x"])[0]
    x = torch.randn(c, n, 3, generator=generator, dtype=torch.float64)
    label = torch.randint(2, (c, n, 1), generator=generator).double()
    return x, torch.cat([x[..., :1] * x[..., 1:2], label, torch.rand(c, n, 1, generator=generator).double()], -1)


def start(n: int) -> Tensor:
    return NET.init(streams(0, [str(i) for i in range(n)]), torch.float64)


@pytest.mark.parametrize("optimizer", [Sgd(0.05, 0.9), Adam(0.01), AdamW(0.01)])
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("own", [1, 3])
def test_it_trains_as_the_engine_for_perceptrons(optimizer, clip, own):
    x, y = questions(own)
    work = Work(NET, HEADS, optimizer, clip)
    found = []
    for engine in (functional, stacked):
        state = engine.start(work, start(3))
        engine.advance(state, Rows(x, y), 0, range(50), [optimizer.rate] * 50)
        found.append((engine.theta(state), state.loss))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*found, strict=True))


def test_gradients_in_chunks_are_those_of_the_engine_for_perceptrons():
    x, y = questions(40)
    found = [e.value_and_grad(NET, HEADS, x, y)(start(40)) for e in (functional, stacked)]
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*found, strict=True))


def test_a_network_of_ones_own_finds_the_wave_that_made_the_answers():
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    truth = torch.tensor([1.5, 0.8], dtype=torch.float64)
    theta = torch.tensor([[1.0, 1.0], [2.0, 0.5]], dtype=torch.float64)
    fit = train(Wave(), theta, Fixed(x, Wave().forward(truth, x)), steps=600, optimizer=Adam(0.05))
    assert fit.engine == "torch.func"
    assert torch.allclose(fit.theta, truth.expand(2, 2), atol=1e-4)


def test_its_gradient_is_the_formula():
    x = torch.tensor([[0.7]], dtype=torch.float64)
    a, b = 1.5, 0.8
    value, gradient = value_and_grad(Wave(), x, torch.zeros_like(x))(torch.tensor([[a, b]], dtype=torch.float64))
    wave, slope = torch.sin(b * x[0, 0]), torch.cos(b * x[0, 0])
    assert torch.allclose(value[0], (a * wave) ** 2)
    assert torch.allclose(gradient[0], torch.stack([2 * a * wave**2, 2 * a * wave * a * x[0, 0] * slope]))


def test_one_that_breaks_leaves_the_others_be():
    x, y = questions(3)
    work = Work(NET, HEADS, Adam(0.01))
    bad = x.clone()
    bad[1] = float("inf")
    whole, broken = (functional.start(work, start(3)) for _ in range(2))
    functional.advance(whole, Rows(x, y), 0, range(20), [0.01] * 20)
    functional.advance(broken, Rows(bad, y), 0, range(20), [0.01] * 20)
    assert broken.broken == {1: 0}
    assert torch.equal(functional.theta(broken)[1], start(3)[1])
    assert torch.allclose(functional.theta(broken)[[0, 2]], functional.theta(whole)[[0, 2]], rtol=0, atol=1e-14)


def test_heads_that_do_not_fit_its_outputs_are_refused():
    x = torch.zeros(4, 1)
    with pytest.raises(InputError, match="a network of 1 outputs; expected 2"):
        train(Wave(), torch.ones(1, 2), Fixed(x, x.expand(4, 2)), steps=1, optimizer=Sgd(0.1), heads=(Head(outputs=2),))
