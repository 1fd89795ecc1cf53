"""The place among shared draws: what is sent follows q, what it costs, and that it is read back."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.ledger import message, relative
from reuse_sim.rng import stream


def bias(extra: float, bits: float = 7.0, times: int = 400) -> tuple[float, float]:
    """Bias of E θ, in sds of q, with 2^(KL + extra) candidates, and its standard error; q = N(m, s²), p = N(0, 1)."""
    s = 0.2
    m = math.sqrt(2 * bits * math.log(2) + 1 + 2 * math.log(s) - s**2)  # so that KL is `bits`
    count = max(1, round(2 ** (bits + extra)))
    normal = torch.randn(times, count, 1, generator=stream(0, f"p {extra}"), dtype=torch.float64)
    mean, sd, g = torch.tensor([m]).double(), torch.tensor([s]).double(), stream(0, "place")
    sent = torch.stack([told[relative.choose(told, mean, sd, 1, g)[0]] for told in normal])[:, 0]
    off = (sent - m) / s
    return float(off.mean()), float(off.std()) / times**0.5


def test_the_bias_is_gone_with_a_few_bits_more_than_the_divergence_and_grows_with_fewer() -> None:
    enough, error = bias(5)
    assert abs(enough) < 0.05 + 3 * error and error < 0.06
    few = [abs(bias(t)[0]) for t in (-1, -2, -4)]
    assert few[0] > 0.3 and few[1] > 1.5 * few[0] and few[2] > 1.5 * few[1]


def test_ordered_noise_leaves_the_law_alone_and_makes_early_places_likely() -> None:
    """Over all orders of six candidates they are sent with probability ∝ q/p; over 64, the mean place is early."""
    told = torch.linspace(-1.5, 1.5, 6, dtype=torch.float64)[:, None]
    m, s, g = torch.tensor([0.5]).double(), torch.tensor([0.8]).double(), stream(0, "noise")
    law = torch.softmax((told.square() - ((told - m) / s).square())[:, 0] / 2, 0)
    orders = [torch.tensor(order) for order in itertools.permutations(range(6))]
    sent = torch.cat([order[relative.choose(told[order], m, s, 30, g)] for order in orders])
    shares = torch.bincount(sent, minlength=6) / len(sent)
    assert bool(((shares - law).abs() < 4 * (law * (1 - law) / len(sent)).sqrt()).all())
    many = torch.randn(64, 1, generator=stream(1, "p"), dtype=torch.float64)
    assert float(relative.choose(many, m, s, 4000, g).double().mean()) < 24  # 31.5 without the order


def test_places_are_counted_by_a_code_that_is_near_its_divergence() -> None:
    p = 12
    sd, g = torch.ones(p, dtype=torch.float64), stream(0, "place")
    mean, spread = torch.linspace(-1.5, 1.5, p).double(), torch.full((p,), 0.3).double()
    bits, within = [], 0
    for k in range(20):
        sent = relative.send(mean, spread, sd, lambda t: ((t - mean) / spread).square().mean(-1), 4.0, f"t{k}", g)
        back = relative.decode(sent.words, sd, f"t{k}")
        assert torch.equal(back, sent.theta) and len(sent.words) == -(-sent.bits // 32)
        bits.append(sent.bits)
        within += sent.within and sent.distortion <= 4
    parts = len(relative.blocks((spread**2 + mean**2 - 1 - 2 * spread.log()) / (2 * math.log(2))))
    assert within == 20
    header = math.log2(relative.ATTEMPTS * p) + 2
    # Per block the logarithm of the place, and of the logarithm, as for any code of whole numbers.
    assert sent.divergence - 3 * parts < sum(bits) / 20 < sent.divergence + header + 7 * parts
    assert sent.divergence > 15 and parts >= 2


def test_another_name_is_another_network() -> None:
    sd, mean, s = torch.ones(3).double(), torch.ones(3).double(), torch.full((3,), 0.4).double()
    sent = relative.send(mean, s, sd, lambda t: (t - mean).square().mean(-1), 9.0, "one", stream(0, "g"))
    assert not torch.equal(relative.decode(sent.words, sd, "two"), sent.theta)


def test_over_a_hundred_bits_are_sent() -> None:
    p = 60
    mean = torch.randn(p, generator=stream(0, "m"), dtype=torch.float64)
    s, sd = torch.full((p,), 0.25).double(), torch.ones(p).double()
    sent = relative.send(mean, s, sd, lambda t: ((t - mean) / s).square().mean(-1), 1.5, "long", stream(0, "g"))
    assert sent.divergence > 100 and sent.within
    assert torch.equal(relative.decode(sent.words, sd, "long"), sent.theta)
    assert sent.bits < 1.7 * sent.divergence


def test_blocks_hold_what_they_may_and_all_there_is() -> None:
    bits = torch.rand(41, generator=stream(0, "b"), dtype=torch.float64) * 6
    parts = relative.blocks(bits, 20.0)
    assert all(float(bits[part].sum()) <= 20 for part in parts)
    assert sorted(i for part in parts for i in range(41)[part]) == list(range(41))
    assert len(relative.blocks(bits / 1000)) == 1


def test_a_place_is_read_back_whatever_it_is() -> None:
    for place in (0, 1, 2, 3, 1023, 1024, 2**relative.MOST - 1):
        told = relative._Told(3, [place, 0])
        written = message.write(lambda pen, told=told: relative._model(pen, 5, told))
        assert message.read(lambda pen: relative._model(pen, 5, relative._Told(0, [])), written.words) == told


def test_a_parameter_too_far_from_its_prior_is_said() -> None:
    far = torch.tensor([6.0]).double()
    with pytest.raises(InputError, match="bits from its prior"):
        relative.send(far, far / 60, far / 6, lambda t: t.square().mean(-1), 1.0, "far", stream(0, "g"))
