"""Channels: which bits become known when, by formula; how often they are wrong; what is too much to tell."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.leaks import drip, layers, prefix, random
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.types import BITS

NET = Mlp((3, 4, 2, 1))
LARGE = Mlp((24, 25))  # 625 parameters, n = 10⁴ bits
STEPS = 400


def known(channel, step, net=NET, steps=STEPS, name="leak"):
    return channel.schedule(net, steps, stream(0, name)).when <= step


@given(st.integers(0, BITS))
def test_the_prefix_shows_as_much_of_everything_from_the_start(bits):
    assert torch.equal(known(prefix.build(bits=bits), 0), (torch.arange(BITS) < bits).expand(NET.p, BITS))


@given(st.floats(0, 1), st.floats(0, 1))
def test_random_shows_its_share_of_the_bits_and_a_larger_share_the_same_places_too(one, other):
    less, more = (known(random.build(share=share), 0) for share in sorted((one, other)))
    assert less.sum() == round(min(one, other) * NET.p * BITS) and (more | ~less).all()


def test_random_places_are_the_generators_and_even_over_bits():
    one, again, other = (known(random.build(share=0.3), 0, LARGE, name=n) for n in ("a", "a", "b"))
    assert torch.equal(one, again) and not torch.equal(one, other)
    standard_error = (0.3 * 0.7 / LARGE.p) ** 0.5
    assert ((one.double().mean(0) - 0.3).abs() < 4 * standard_error).all()


def test_random_shows_whole_parameters_where_asked():
    mask = known(random.build(share=0.5, by="parameter"), 0)
    assert (mask.all(-1) | ~mask.any(-1)).all() and mask.all(-1).sum() == round(NET.p / 2)


@pytest.mark.parametrize(("first", "order"), [("input", (0, 1, 2)), ("output", (2, 1, 0))])
def test_layers_come_one_after_the_other_from_either_end(first, order):
    channel = layers.build(layers=2, first=first, every=0.25, bits=5, at=0.5)
    for step, told in ((0, 0), (199, 0), (200, 1), (299, 1), (300, 2), (400, 2)):
        mask = known(channel, step)
        for field in NET.fields:
            expected = (torch.arange(BITS) < 5) & (int(field.name[-1]) in order[:told])
            assert torch.equal(mask[field.slice], expected.expand(mask[field.slice].shape)), (step, field)


@pytest.mark.parametrize("t", [500, 1000, 3000])
@pytest.mark.parametrize("at", [0.0, 0.25])
def test_a_drip_fills_up_by_the_occupancy_formula(t, at):
    """n = 10⁴, k = 10: after t datapoints 1 − (1 − k/n)^t is known, within 3 standard errors."""
    fraction = 1 - (1 - 10 / 10_000) ** t
    begin, share = int(at * 4000), known(drip.build(bits=10, at=at), t + int(at * 4000), LARGE, 4000).double().mean()
    assert abs(float(share) - fraction) < 3 * (fraction * (1 - fraction) / 10_000) ** 0.5
    assert not known(drip.build(bits=10, at=at), begin, LARGE, 4000).any()  # nothing comes before its first datapoint


def test_a_drip_of_everything_takes_one_step_and_one_of_nothing_never_ends():
    assert (drip.build(bits=NET.p * BITS).schedule(NET, STEPS, stream(0, "leak")).when == 1).all()
    assert (drip.build(bits=0).schedule(NET, STEPS, stream(0, "leak")).when == torch.inf).all()


def test_the_first_and_the_second_step_of_a_drip_tell_as_many_on_average():
    """Pr[step 1] = q and Pr[step 2] = (1 − q) q with q = 1/4: no step is skipped or doubled by rounding."""
    when = drip.build(bits=2500).schedule(LARGE, STEPS, stream(0, "leak")).when
    for step, probability in ((1, 1 / 4), (2, 3 / 16), (3, 9 / 64)):
        share = float((when == step).double().mean())
        assert abs(share - probability) < 3 * (probability * (1 - probability) / 10_000) ** 0.5


CHANNELS = pytest.mark.parametrize("build", [prefix.build, random.build, layers.build, drip.build])


@CHANNELS
@pytest.mark.parametrize("flip", [0.0, 0.1, 1.0])
def test_bits_are_wrong_as_often_as_asked_and_times_are_the_same(build, flip):
    told, true = (build(flip=f).schedule(LARGE, STEPS, stream(0, "leak")) for f in (flip, 0.0))
    share = float(told.flipped.double().mean())
    assert abs(share - flip) <= 3 * (flip * (1 - flip) / 10_000) ** 0.5
    assert torch.equal(told.when, true.when) and not true.flipped.any()


@CHANNELS
@given(st.floats(0, 1))
def test_every_leak_begins_at_its_share_of_the_training(build, at):
    early, late = (build(at=a).schedule(NET, STEPS, stream(0, "leak")).when for a in (0.0, at))
    assert torch.equal(late, early + round(at * STEPS))


def test_what_comes_at_the_end_is_known_when_training_is_over_and_not_before():
    channel = prefix.build(at=1.0)
    assert not known(channel, STEPS - 1).any() and known(channel, STEPS).all()


def test_more_bits_than_there_are_is_an_error_that_names_the_limit():
    with pytest.raises(InputError, match=f"at most {NET.p * BITS}, all bits of the human's {NET.p} parameters"):
        drip.build(bits=NET.p * BITS + 1).schedule(NET, STEPS, stream(0, "leak"))
    with pytest.raises(InputError, match="layers: got 4; expected at most 3"):
        layers.build(layers=4).schedule(NET, STEPS, stream(0, "leak"))
