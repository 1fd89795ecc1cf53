"""The stacked trainer against torch's own optimiser, one network at a time."""

import pytest
import torch

from reuse_sim.nets import Mlp
from reuse_sim.rng import streams
from reuse_sim.train import descend

NET = Mlp((3, 5, 1), "tanh")


def start(n: int) -> torch.Tensor:
    return NET.init(streams(0, [str(i) for i in range(n)]), torch.float64)


def questions() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(32, 3, dtype=torch.float64, generator=streams(0, ["x"])[0])
    return x, x[:, 0] * x[:, 1]


def loss(theta: torch.Tensor, _step: int) -> torch.Tensor:
    x, y = questions()
    return (NET.forward(theta, x)[..., 0] - y).square().mean(-1)


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_it_is_adam_with_a_cosine_rate_for_each_network_apart(n, clip):
    fit = descend(loss, start(n), steps=200, rate=0.01, clip=clip)
    for i in range(n):
        theta = start(n)[i].clone().requires_grad_()
        adam = torch.optim.Adam([theta], lr=0.01)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 200)
        for step in range(200):
            adam.zero_grad()
            loss(theta[None], step).sum().backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_([theta], clip)
            adam.step()
            rate.step()
        # clip_grad_norm_ divides by norm + 1e-6, ours by the norm: that is the looser bound.
        assert torch.allclose(fit.theta[i], theta.detach(), rtol=0, atol=1e-12 if clip is None else 1e-5)


def test_a_network_that_breaks_stops_alone_and_is_named():
    def breaking(theta: torch.Tensor, step: int) -> torch.Tensor:
        bad = torch.tensor([0.0, float("nan") if step == 7 else 0.0, 0.0], dtype=torch.float64)
        return loss(theta, step) + bad

    broken, whole = (descend(f, start(3), steps=50, rate=0.01) for f in (breaking, loss))
    assert list(broken.broken) == [1] and "step 7" in broken.broken[1] and "rate" in broken.broken[1]
    assert torch.equal(broken.theta[[0, 2]], whole.theta[[0, 2]])
    assert torch.equal(broken.theta[1], descend(loss, start(3), steps=50, rate=0.01).theta[1]) is False
    assert torch.isfinite(broken.theta).all()
