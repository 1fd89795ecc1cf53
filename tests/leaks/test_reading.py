"""What of θ2 is known at a step: told bits decoded, at once or over time, wrong ones as they are told."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.leaks import drip, fixed, half, layers, prefix, random
from reuse_sim.leaks.reading import over_time, reveal
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.types import BITS, Schedule

NET, STEPS = Mlp((3, 4, 1)), 60
SCALE = torch.tensor([0.5, 1.0, 2.0])[torch.arange(NET.p) % 3]
FIELDS = ("value", "known", "slack")


def people(name="theta", count=4):
    return (2 * torch.rand(count, NET.p, generator=stream(0, name)) - 1) * SCALE


def schedule(channel):
    return channel.schedule(NET, STEPS, stream(0, "leak"))


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


@pytest.mark.parametrize("code", ["fixed", "half"])
def test_what_is_known_grows_with_the_steps_and_is_true(code):
    theta, told = people(), schedule(drip.build(bits=20, code=code))
    shares = []
    for step in (0, 1, 10, 60, 10_000):
        leaked = reveal(told, theta, SCALE, step)
        assert ((leaked.value - theta).abs() <= leaked.slack * (1 + 1e-6)).all()
        assert torch.equal(leaked.known, (told.when <= step).float().mean(-1).expand_as(theta))
        shares.append(float(leaked.known.mean()))
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)


def test_where_bits_are_known_does_not_depend_on_whose_they_are():
    told = schedule(random.build(share=0.4, flip=0.3))
    one, other = (reveal(told, people(name), SCALE, STEPS) for name in ("one", "other"))
    assert torch.equal(one.known, other.known) and not torch.equal(one.value, other.value)


@pytest.mark.parametrize(("code", "codec"), [("fixed", fixed), ("half", half)])
def test_a_bit_told_wrongly_is_read_as_it_is_told(code, codec):
    theta, told = people(), schedule(prefix.build(bits=7, flip=0.5, code=code))
    wrong = codec.encode(theta, SCALE) ^ told.flipped
    assert same(reveal(told, theta, SCALE, 0), codec.decode(wrong, torch.arange(BITS) < 7, SCALE))


def test_flipping_the_sign_alone_turns_the_value_round():
    sign = (torch.arange(BITS) == 0).expand(NET.p, BITS)
    told = Schedule(torch.zeros(NET.p, BITS), sign)
    true = Schedule(torch.zeros(NET.p, BITS), torch.zeros_like(sign))
    assert torch.equal(reveal(told, people(), SCALE, 0).value, -reveal(true, people(), SCALE, 0).value)


CHANNELS = {
    "all": prefix.build(),
    "none": prefix.build(bits=0),
    "late": prefix.build(bits=4, at=0.5),
    "drip": drip.build(bits=3.5, flip=0.1),
    "half drip": drip.build(bits=9, code="half", at=0.2),
    "layers": layers.build(layers=2, every=0.3, first="output"),
}


@pytest.mark.parametrize(
    "names", [("all", "none"), ("late",), ("drip",), ("late", "drip", "layers", "all"), ("all", "half drip", "drip")]
)
@given(st.lists(st.integers(0, STEPS), min_size=1, max_size=8))
def test_over_time_is_what_is_revealed_arm_by_arm_in_any_order_of_steps(names, steps):
    leaks = [(schedule(CHANNELS[name]), people(name)) for name in names]
    told = over_time(leaks, SCALE)
    for step in [*steps, *sorted(steps)]:
        leaked = told(step)
        for arm, (one, theta) in enumerate(leaks):
            expected = reveal(one, theta, SCALE, step)
            for name in FIELDS:
                assert torch.equal(getattr(leaked, name)[arm], getattr(expected, name)), (names[arm], name)


def test_nothing_is_decoded_again_while_nothing_changes(monkeypatch):
    calls, decode = [], fixed.decode
    monkeypatch.setattr(fixed, "decode", lambda bits, *rest: calls.append(bits.shape[-2]) or decode(bits, *rest))
    told = over_time([(schedule(CHANNELS["late"]), people()), (schedule(CHANNELS["layers"]), people())], SCALE)
    assert calls.pop() == NET.p and not calls
    shown = [told(step) for step in range(STEPS)]
    assert calls == [16, NET.p]  # the first layer's parameters at .3 of the training, everyone's at half
    assert len({id(leaked) for leaked in shown}) == 3


def test_a_drip_decodes_only_the_parameters_it_told_of(monkeypatch):
    calls, decode, channel = [], fixed.decode, schedule(drip.build(bits=2))
    told = over_time([(channel, people())], SCALE)
    monkeypatch.setattr(fixed, "decode", lambda bits, *rest: calls.append(bits.shape[-2]) or decode(bits, *rest))
    for step in range(STEPS + 1):
        told(step)
    assert calls == [n for n in ((channel.when == s).any(-1).sum() for s in range(STEPS + 1)) if n]


def test_a_parameter_out_of_range_and_a_schedule_of_another_human_are_errors():
    told = schedule(prefix.build())
    for read in (lambda s, t: reveal(s, t, SCALE, 0), lambda s, t: over_time([(s, t)], SCALE)):
        with pytest.raises(InputError, match="3 × its range"):
            read(told, 3 * SCALE[None])
        with pytest.raises(InputError, match="nan × its range"):
            read(told, torch.nan * SCALE[None])
        with pytest.raises(InputError, match=r"leak: when: got shape \(20, 16\); expected \(21, 16\)"):
            read(Schedule(told.when[:20], told.flipped), people())
