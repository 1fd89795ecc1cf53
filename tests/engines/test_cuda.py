"""On a GPU the torch engine does what it does on the processor; skipped where there is none."""

import pytest
import torch

from reuse_sim.engines.spec import Adam, AdamW, Fixed, Fresh, Head, Sgd
from reuse_sim.nets import Mlp
from reuse_sim.rng import streams
from reuse_sim.train import train, value_and_grad

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

NET = Mlp((4, 24, 17, 4), "tanh")
HEADS = (Head(), Head("logistic"), Head("cross_entropy", 2))
COUNT = 50


def drawn(n: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    g = streams(0, ["questions"])[0]
    x, y = (torch.randn(COUNT, n, k, generator=g, dtype=dtype) for k in (4, 3))
    y[..., 1:] = (y[..., 1:] > 0).to(dtype)
    return x, y


@pytest.mark.parametrize("optimizer", [Sgd(0.05, 0.9), Adam(0.01), AdamW(0.01)], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("clip", [None, 0.1])
def test_float64_training_agrees_with_the_processor(optimizer, clip) -> None:
    x, y = drawn(32)
    theta = NET.init(streams(0, [str(i) for i in range(COUNT)]), torch.float64)
    ends = [
        train(NET, theta.to(d), Fixed(x.to(d), y.to(d)), steps=200, optimizer=optimizer, heads=HEADS, clip=clip,
              engine="torch").theta.cpu()
        for d in ("cpu", "cuda")
    ]  # fmt: skip
    assert (ends[0] - ends[1]).abs().max() <= 1e-10
    assert (ends[0] - theta).abs().max() > 0.1


def test_float32_gradients_agree_with_float64_on_the_processor() -> None:
    x, y = drawn(32)
    theta = NET.init(streams(0, [str(i) for i in range(COUNT)]), torch.float64)
    _, exact = value_and_grad(NET, x, y, heads=HEADS)(theta)
    loss, found = value_and_grad(NET, x.float().cuda(), y.float().cuda(), heads=HEADS)(theta.float().cuda())
    assert loss.device.type == "cuda"
    assert (found.cpu() - exact).norm() <= 1e-5 * exact.norm()


def test_those_who_break_or_stop_leave_and_the_others_go_on() -> None:
    x, y = drawn(32)
    x[3, 0, 0] = torch.nan
    theta = NET.init(streams(0, [str(i) for i in range(COUNT)]), torch.float64)
    fits = [
        train(NET, theta.to(d), Fixed(x.to(d), y.to(d)), steps=120, optimizer=Adam(0.02), heads=HEADS, stop_loss=1.2,
              save=(0, 60, 120), engine="torch")
        for d in ("cpu", "cuda")
    ]  # fmt: skip
    assert list(fits[1].broken) == [3] and fits[0].stopped == fits[1].stopped and fits[0].stopped
    assert (fits[0].iterates - fits[1].iterates.cpu()).abs().max() < 1e-9


def test_minibatches_and_fresh_questions_are_drawn_where_their_generators_are() -> None:
    x, y = drawn(200, torch.float32)
    names = [str(i) for i in range(COUNT)]
    theta = NET.init(streams(0, names))
    how = {"steps": 60, "optimizer": Adam(0.01), "heads": HEADS, "engine": "torch"}
    ends = [
        train(NET, theta.to(d), Fixed(x.to(d), y.to(d), 16, streams(1, names)), **how).theta.cpu()
        for d in ("cpu", "cuda")
    ]
    assert (ends[0] - ends[1]).abs().max() < 1e-2

    def draw(members: slice, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked = torch.stack([torch.randn(n, 4, generator=g) for g in streams(2, names)[members]])
        return asked.cuda(), (asked[..., :3] > 0).float().cuda()

    fit = train(NET, theta.cuda(), Fresh(draw, 8), **how)
    assert fit.theta.device.type == "cuda" and not fit.broken and fit.loss.mean() < 3


def test_a_network_in_company_is_the_network_alone_to_rounding() -> None:
    """To the bit it is so on the processor only: on a GPU a product's order of sums depends on the stack."""
    x, y = drawn(32)
    theta = NET.init(streams(0, [str(i) for i in range(COUNT)]), torch.float64)
    how = {"steps": 50, "optimizer": Adam(0.01), "heads": HEADS, "engine": "torch"}
    crowd = train(NET, theta.cuda(), Fixed(x.cuda(), y.cuda()), **how).theta
    alone = train(NET, theta[7:8].cuda(), Fixed(x[7:8].cuda(), y[7:8].cuda()), **how).theta
    assert (crowd[7] - alone[0]).abs().max() < 1e-10
