"""Codes that are written and read back: within the tolerance, as short as theory allows and no shorter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.ledger import message, quantised
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream

NET = Mlp((3, 4, 1))
SD = NET.prior_sd(torch.float64)


def behaviour(net: Mlp, theta: Tensor, x: Tensor):
    """Mean squared change of answers as a share of their variance."""
    own = net.forward(theta[None], x)[0, :, 0]
    return lambda t: (net.forward(t, x)[..., 0] - own).square().mean(-1) / own.var(correction=0)


def of_seed(seed: int, spread: float = 2.0):
    g = stream(seed, "net")
    theta = spread * SD * torch.randn(NET.p, generator=g, dtype=torch.float64)
    return theta, behaviour(NET, theta, torch.randn(32, 3, generator=g, dtype=torch.float64))


@pytest.mark.parametrize("seeds", [range(10), pytest.param(range(10, 110), marks=pytest.mark.slow)])
def test_every_net_is_read_back_within_the_tolerance(seeds: range) -> None:
    within = 0
    for seed in seeds:
        theta, distortion = of_seed(seed)
        tolerance = (0.3, 0.03)[seed % 2]
        code = quantised.shortest(theta, SD, distortion, tolerance)
        back = quantised.decode(code.words, SD)
        assert torch.equal(back, code.theta) and float(distortion(back[None])[0]) == code.distortion
        assert code.words.dtype == np.uint32 and len(code.words) == -(-code.bits // 32)
        within += code.distortion <= tolerance
    assert within == len(seeds)


def test_a_smaller_tolerance_takes_more_bits() -> None:
    theta, distortion = of_seed(0)
    bits = [quantised.shortest(theta, SD, distortion, t, "uniform").bits for t in (1.0, 0.1, 0.01, 1e-3, 1e-4)]
    assert bits == sorted(bits) and bits[-1] > bits[0] + 20


def test_a_normal_source_lies_between_the_rate_and_what_uniform_cells_lose() -> None:
    """½ log2(σ²/D) is the least for a normal source; uniform cells lose ½ log2(2πe/12) = .2546 bits at high rate."""
    p, header = 300, math.log2(quantised.STEPS * 2 * quantised.SPREADS) + 2
    theta = torch.randn(p, generator=stream(0, "source"), dtype=torch.float64)
    for tolerance in (1e-1, 1e-2, 1e-3):
        code = quantised.shortest(theta, torch.ones(p, dtype=torch.float64),
                                  lambda t: (t - theta).square().mean(-1), tolerance, "uniform")
        rate = 0.5 * math.log2(1 / tolerance)
        spread = 4 * math.sqrt(0.5 / p) / math.log(2)  # four standard errors of the source's own information
        step = 0.25  # the most that the next smaller step, a quarter of an octave away, can take
        assert rate - spread < code.bits / p < rate + 0.2546 + step + spread + header / p


@pytest.mark.parametrize("together", [True, False])
def test_where_curvatures_differ_by_much_steps_of_their_own_are_shorter(together: bool) -> None:
    """Reverse water-filling gains ½ log2 (mean h / geometric mean h) a parameter, less which one is of which kind."""
    p = 200
    theta = torch.randn(p, generator=stream(0, "source"), dtype=torch.float64)
    flat = torch.arange(p) >= p // 2 if together else torch.arange(p) % 2 == 1
    h, sd = torch.where(flat, 2.0**-8, 1.0).double(), torch.where(torch.arange(p) >= p // 2, 1.0, 1.001).double()
    one, own = (quantised.shortest(theta, sd, lambda t: (h * (t - theta).square()).mean(-1), 1e-4, w)
                for w in ("uniform", "sensitive"))
    gain = float(0.5 * (h.mean().log2() - h.log2().mean())) * p
    naming = 0 if together else p  # a group whose parameters are all alike names them almost for nothing
    assert gain - naming - 0.15 * p < one.bits - own.bits < gain - naming + 0.15 * p


def test_what_distorts_nothing_costs_next_to_nothing() -> None:
    theta = torch.randn(200, generator=stream(1, "source"), dtype=torch.float64)
    code = quantised.shortest(theta, torch.ones(200, dtype=torch.float64), lambda t: t[:, 0].sub(1).square(), 0.01)
    assert code.bits < 40


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-20, 20), max_size=30), st.integers(0, 6), st.floats(0.2, 20))
def test_a_message_takes_its_information_and_at_most_two_bits(k: list[int], head: int, sd: float) -> None:
    values, sds = np.array(k, np.int64), np.full(len(k), sd)

    def model(pen: message.Pen, values=values, head=head):
        return pen.uniform(head, 7), pen.normal(values, sds, 20)

    written = message.write(model)
    # The outermost cells hold all that lies beyond them.
    upper, lower = (np.where(values == edge, edge * np.inf, values + edge / 40) for edge in (20, -20))
    mass = ndtr(upper / sd) - ndtr(lower / sd)
    information = math.log2(7) - np.log2(np.maximum(mass, 1e-12)).sum()
    assert written.bits < information + 2.1
    if mass.min(initial=1) > 1e-4:
        assert written.bits > information - 0.1
    # Whatever comes after the message, and were it read before it was known.
    for after in (0, 2**32 - 1):
        spoiled = written.words.copy()
        if written.bits % 32 and after:
            spoiled[-1] |= np.uint32((1 << (-written.bits % 32)) - 1)
        told = message.read(lambda pen: model(pen, 0 * values, 0), np.append(spoiled, np.uint32(after)))
        assert told[0] == head and told[1].tolist() == k


def test_messages_are_a_prefix_code() -> None:
    """Kraft: the shares of all messages of a small space sum to no more than one."""
    def bits(a: int, b: int) -> int:
        return message.write(lambda pen: (pen.one_of(a, [0.7, 0.2, 0.1]), pen.uniform(b, 5))).bits

    lengths = [bits(a, b) for a in range(3) for b in range(5)]
    assert 0.2 < sum(2.0**-n for n in lengths) <= 1


@pytest.mark.parametrize("given, said", [
    ({"tolerance": 0.0}, "above 0"), ({"tolerance": math.nan}, "above 0"), ({"tolerance": math.inf}, "above 0"),
    ({"tolerance": -1.0}, "above 0"), ({"tolerance": 1e-14}, "the finest step"), ({"weighting": "worst"}, "best or"),
    ({"theta": torch.full((NET.p,), torch.nan)}, "finite"), ({"theta": torch.zeros(2, 3)}, "one network"),
    ({"prior_sd": torch.zeros(NET.p)}, "above 0"), ({"prior_sd": torch.ones(2)}, "finite"),
])
def test_what_cannot_be_is_said_in_one_sentence(given: dict, said: str) -> None:
    theta, distortion = of_seed(0)
    asked = {"theta": theta, "prior_sd": SD, "distortion": distortion, "tolerance": 0.1, **given}
    with pytest.raises(InputError, match=said) as caught:
        quantised.shortest(**asked)
    assert "\n" not in str(caught.value)
