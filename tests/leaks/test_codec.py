"""The code of θ: what k known bits leave open, and nothing more."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.leaks import codec
from reuse_sim.leaks.prefix import build
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream

values = st.lists(st.floats(-1, 1), min_size=1, max_size=20).map(lambda v: torch.tensor(v, dtype=torch.float64))


@given(values, st.integers(1, 16))
def test_the_value_lies_within_half_a_cell_of_the_midpoint(share, known):
    scale = torch.full_like(share, 4.0)
    decoded = codec.decode(codec.encode(share * scale, scale), scale, known)
    assert ((decoded - share * scale).abs() <= scale / 2**known * (1 + 1e-12)).all()


@given(values)
def test_no_bits_leave_the_middle_and_one_bit_the_sign(share):
    scale = torch.ones_like(share)
    code = codec.encode(share, scale)
    assert (codec.decode(code, scale, 0) == 0).all()
    assert torch.equal(codec.decode(code, scale, 1), torch.where(share < 0, -0.5, 0.5).double())


@given(values)
def test_decoding_a_decoded_value_gives_the_same_bits(share):
    scale = torch.ones_like(share)
    code = codec.encode(share, scale)
    assert torch.equal(codec.encode(codec.decode(code, scale, 16), scale), code)


def test_a_parameter_out_of_range_is_an_error():
    with pytest.raises(InputError, match="2 × its range"):
        codec.encode(torch.tensor([2.0]), torch.tensor([1.0]))


def test_a_field_has_one_range_a_power_of_two_above_all():
    net = Mlp((2, 3, 1))
    theta = torch.zeros(5, net.p)
    theta[3, 0], theta[2, net.fields[1].start] = -1.0, 0.3
    scale = codec.field_scale(net, theta)
    assert scale[0] == 2.0 and scale[net.fields[0].slice].unique().numel() == 1
    assert scale[net.fields[1].start] == 0.5 and (scale > theta.abs().amax(0)).all()


def test_the_prefix_leak_shows_as_much_of_everything():
    theta = torch.linspace(-0.9, 0.9, 11)
    leaked = build(bits=4).reveal(theta, torch.ones(11), stream(0, "leak"))
    assert (leaked.known == 0.25).all() and ((leaked.value - theta).abs() <= 1 / 16).all()
