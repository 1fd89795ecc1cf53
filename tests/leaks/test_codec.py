"""The codes of θ: what known bits leave open, and nothing more."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.leaks import codec, fixed, half
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream
from reuse_sim.types import BITS

EVERYTHING = torch.ones(BITS, dtype=torch.bool)
CODES = pytest.mark.parametrize("code", [fixed, half], ids=["fixed", "half"])
values = st.lists(st.floats(-1, 1), min_size=1, max_size=20).map(lambda v: torch.tensor(v, dtype=torch.float64))
masks = st.integers(0, 2**BITS - 1).map(lambda n: codec.digits(torch.tensor(n)))
scales = st.sampled_from([2.0**-19, 0.125, 0.7, 4.0, 2.0**14])


def old_prefix(theta, scale, known):
    """The midpoint of the cell that the first bits leave, written out with whole numbers and shifts."""
    if known == 0:
        return torch.zeros_like(theta)
    magnitude = (theta.abs() / scale * 2**15).floor().clamp(max=2**15 - 1).long()
    cell = (magnitude >> (16 - known)).double() + 0.5
    return (torch.where(theta < 0, -1.0, 1.0).double() * cell * scale.double() / 2 ** (known - 1)).to(theta.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("known", range(BITS + 1))
def test_leading_bits_leave_a_cell_and_its_middle_bit_for_bit(known, dtype):
    scale = torch.tensor([1.0, 0.25, 8.0, 0.3], dtype=dtype)
    theta = (2 * torch.rand(500, 4, generator=stream(0, "theta"), dtype=dtype) - 1) * scale
    leaked = fixed.decode(fixed.encode(theta, scale), torch.arange(BITS) < known, scale)
    assert torch.equal(leaked.value, old_prefix(theta, scale, known))
    assert torch.equal(leaked.known, torch.full_like(theta, known / BITS))
    assert torch.equal(leaked.slack, (scale / 2**known).expand_as(theta))


@given(values, scales)
def test_all_bits_of_fixed_point_are_the_middle_of_a_cell_that_codes_the_same(share, scale):
    range_ = torch.full_like(share, scale)
    bits = fixed.encode(share * scale, range_)
    leaked = fixed.decode(bits, EVERYTHING, range_)
    assert torch.equal(fixed.encode(leaked.value, range_), bits)
    assert torch.allclose((leaked.value.abs() / range_ * 2**15) % 1, torch.full_like(share, 0.5))
    assert torch.equal(leaked.slack, range_ / 2**16)


def test_all_bits_of_half_precision_are_the_number_itself():
    """Every one of the 63,488 finite numbers, told from its bits in the order in which memory has them."""
    patterns = torch.arange(2**16)
    numbers = patterns.to(torch.int16).view(torch.float16)
    patterns, numbers = patterns[numbers.isfinite()], numbers[numbers.isfinite()].float()
    scale = torch.tensor([half.LARGEST])
    bits = half.encode(numbers[:, None], scale)
    assert len(numbers) == 2**16 - 2 * 2**10 and torch.equal(bits[:, 0], codec.digits(patterns))
    value = half.decode(bits, EVERYTHING, scale).value[:, 0]
    assert torch.equal(value, numbers) and torch.equal(value.signbit(), numbers.signbit())


@given(values, scales)
def test_half_precision_rounds_as_torch_does(share, scale):
    theta, range_ = share * scale, torch.full_like(share, scale)
    leaked = half.decode(half.encode(theta, range_), EVERYTHING, range_)
    rounded = theta.half()
    assert torch.equal(leaked.value, rounded.double())
    spacing = (torch.nextafter(rounded.abs(), torch.full_like(rounded, torch.inf)) - rounded.abs()).double()
    assert torch.equal(leaked.slack, spacing / 2)


@CODES
@given(values, masks, scales)
def test_the_truth_lies_within_the_slack_whatever_is_known(code, share, known, scale):
    range_ = torch.full_like(share, scale)
    leaked = code.decode(code.encode(share * scale, range_), known, range_)
    assert ((leaked.value - share * scale).abs() <= leaked.slack * (1 + 1e-12)).all()
    assert (leaked.value.abs() <= range_.half().double().maximum(range_)).all() and (leaked.slack <= range_).all()
    assert torch.equal(leaked.known, known.double().mean().expand_as(share))


@CODES
@given(values, masks, masks)
def test_more_bits_never_widen_what_is_allowed(code, share, known, more):
    range_ = torch.ones_like(share)
    bits = code.encode(share, range_)
    few, many = (code.decode(bits, mask, range_) for mask in (known, known | more))
    if code is fixed:
        assert (many.slack <= few.slack).all()
    for end in (-1, 1):  # in half precision the value is not always the middle
        assert (end * (many.value - few.value) <= few.slack * (1 + 1e-12)).all()


@CODES
@given(values, st.integers(0, BITS - 1))
def test_each_further_leading_bit_shrinks_the_slack(code, share, known):
    range_ = torch.ones_like(share)
    bits = code.encode(share, range_)
    less, more = (code.decode(bits, torch.arange(BITS) < k, range_).slack for k in (known, known + 1))
    assert (more <= less).all()
    if code is fixed:
        assert torch.equal(more, less / 2)


@CODES
def test_of_nothing_known_the_value_is_zero_and_the_slack_the_range(code):
    scale = torch.tensor([0.5, 4.0])
    leaked = code.decode(code.encode(torch.tensor([[0.1, -3.0]]), scale), ~EVERYTHING, scale)
    assert (leaked.value == 0).all() and (leaked.known == 0).all() and torch.equal(leaked.slack[0], scale)


@settings(max_examples=25)
@given(masks, values)
def test_a_value_in_fixed_point_is_the_mean_of_all_of_the_range_with_those_bits(known, share):
    """θ uniform in its range: against the mean of those of 2¹⁶ numbers, one to a cell, that agree in known bits."""
    scale = torch.tensor([0.5], dtype=torch.float64)
    grid = ((torch.arange(2**16) + 0.5) / 2**15 - 1).double()[:, None] * scale
    bits = fixed.encode(grid, scale)[:, 0]
    told = fixed.encode(share[:1] * scale, scale)
    agree = grid[((bits == told) | ~known).all(-1)]
    leaked = fixed.decode(told, known, scale)
    assert float(leaked.value) == pytest.approx(float(agree.mean()), abs=1e-15)
    assert float(leaked.slack) == pytest.approx(float(agree.max() - agree.min()) / 2 + 2**-17, abs=1e-15)


@settings(max_examples=100)
@given(masks, st.integers(0, 2**BITS - 1), st.sampled_from([2.0**-14, 0.125, 1.0, 2.0**14]))
def test_a_value_in_half_precision_is_the_mean_of_all_numbers_in_range_with_those_bits(known, pattern, scale):
    """Against all numbers of the range that agree in the known bits, each as probable as its spacing is wide."""
    numbers = torch.arange(2**16).to(torch.int16).view(torch.float16)
    numbers = numbers[numbers.abs() <= scale]
    sizes = numbers.abs()
    spacing = (torch.nextafter(sizes, torch.full_like(sizes, torch.inf)) - sizes).double()
    bits = codec.digits(numbers.view(torch.int16))
    told = bits[pattern % len(bits)]
    agree = ((bits == told) | ~known).all(-1)
    sizes, spacing, numbers = sizes.double()[agree], spacing[agree], numbers.double()[agree]
    range_ = torch.tensor([scale], dtype=torch.float64)
    leaked = half.decode(told[None], known, range_)
    value = (numbers * spacing).sum() / spacing.sum()
    assert float(leaked.value) == pytest.approx(float(value), rel=1e-12, abs=1e-12 * scale)
    most = min(float((sizes + spacing / 2).max()), scale)
    reach = max(most - abs(float(value)), abs(float(value)) - max(float((sizes - spacing / 2).min()), 0))
    assert float(leaked.slack) == pytest.approx(reach if known[0] else most, rel=1e-9)


def test_half_precision_by_hand():
    """Range 1; of 0.75 = 0 01110 1000000000, or of another number, some bits are known."""
    scale = torch.ones(1, dtype=torch.float64)

    def told(*known, of=0.75):
        bits = half.encode(torch.tensor([of], dtype=torch.float64), scale)
        mask = torch.zeros(BITS, dtype=torch.bool)
        mask[list(known)] = True
        leaked = half.decode(bits, mask, scale)
        return float(leaked.value), float(leaked.slack)

    assert told(0, 1, 2, 3, 4, 5) == pytest.approx((0.75, 0.25), abs=2**-10)  # [.5, 1)
    assert told(0, 1, 2, 3, 4) == pytest.approx((0.75, 0.25), abs=2**-9)  # exponent 14, or 15, which is 1 alone
    assert told(0, 1, 2, 3) == pytest.approx((0.5625, 0.4375), abs=2**-8)  # exponents 12 to 15: [.125, 1)
    assert told(0, 6) == pytest.approx((7 / 12, 7 / 12), abs=2**-8)  # upper halves: Σ 1.75 · 4⁻ᵏ / Σ 2⁻ᵏ, k ≥ 1
    assert told(1, 2, 3, 4, 5)[0] == 0  # the sign is unknown
    open_bits = {5, 6}  # .5, .75, and 1 of twice their spacing; 1.5 lies outside
    assert told(*({*range(BITS)} - open_bits), of=0.5)[0] == (0.5 + 0.75 + 2 * 1.0) / 4


def test_bits_told_wrongly_give_nothing_beyond_the_range():
    """All ones are no number in half precision, and 2⁰ or more is out of this range."""
    scale = torch.tensor([0.5])
    for bits in (EVERYTHING[None], torch.arange(BITS)[None] == 1):
        for known in (EVERYTHING, torch.arange(BITS) < 4):
            leaked = half.decode(bits, known, scale)
            assert float(leaked.value.abs()) == 0.5 and 0 <= float(leaked.slack) <= 0.5


@CODES
def test_known_bits_may_differ_by_parameter_and_more_dimensions_broadcast(code):
    scale = torch.tensor([1.0, 2.0, 4.0])
    theta = (2 * torch.rand(2, 5, 3, generator=stream(0, "theta")) - 1) * scale
    known = torch.rand(2, 1, 3, BITS, generator=stream(0, "known")) < 0.5
    bits = code.encode(theta, scale)
    together = code.decode(bits, known, scale)
    for a in range(2):
        for h in range(5):
            alone = code.decode(bits[a, h], known[a, 0], scale)
            for name in ("value", "known", "slack"):
                assert torch.equal(getattr(together, name)[a, h], getattr(alone, name))


@CODES
@pytest.mark.parametrize(
    ("theta", "message"), [(2.0, "2 × its range"), (-1.001, "range"), (torch.nan, "nan"), (torch.inf, "inf")]
)
def test_a_parameter_out_of_range_or_no_number_is_an_error(code, theta, message):
    with pytest.raises(InputError, match=message):
        code.encode(torch.tensor([0.0, theta]), torch.ones(2))


def test_a_range_that_is_no_number_is_an_error():
    for code in (fixed, half):
        with pytest.raises(InputError, match="range"):
            code.encode(torch.zeros(1), torch.tensor([torch.nan]))


def test_what_half_precision_cannot_hold_is_an_error():
    with pytest.raises(InputError, match="70000; expected at most 65504 in half precision. code: fixed"):
        half.encode(torch.tensor([70_000.0]), torch.tensor([2.0**17]))


def test_a_field_has_one_range_a_power_of_two_above_all():
    net = Mlp((2, 3, 1))
    theta = torch.zeros(5, net.p)
    theta[3, 0], theta[2, net.fields[1].start] = -1.0, 0.3
    scale = codec.field_scale(net, theta)
    assert scale[0] == 2.0 and scale[net.fields[0].slice].unique().numel() == 1
    assert scale[net.fields[1].start] == 0.5 and (scale > theta.abs().amax(0)).all()
