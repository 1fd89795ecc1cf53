"""A network told in stages: read back, near what is least, whichever copy, and nothing where it would be too long."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import ncx2

from reuse_sim.errors import InputError
from reuse_sim.ledger import refined
from reuse_sim.rng import stream


def targets(times: int, p: int) -> torch.Tensor:
    return torch.randn(times, p, generator=stream(p, "targets"), dtype=torch.float64)


def test_what_is_read_is_what_was_sent_and_within_the_tolerance_100_of_100() -> None:
    sd = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.1]).double()
    for i, m in enumerate(targets(100, 5) * sd):
        def apart(t: torch.Tensor, m: torch.Tensor = m) -> torch.Tensor:
            return ((t - m) / sd).square().sum(-1)

        code = refined.shortest(sd, apart, 0.3, f"t{i}")
        assert code is not None and len(code.words) == -(-code.bits // 32)
        assert torch.equal(refined.decode(code.words, sd, f"t{i}"), code.theta)
        assert code.distortion == float(apart(code.theta[None])[0]) <= 0.3


@pytest.mark.parametrize(("p", "tolerance"), [(2, 0.04), (5, 0.1), (5, 0.6), (10, 2.0)])
def test_lengths_lie_between_what_none_can_be_shorter_than_and_ten_bits_over_the_mass(p: int, tolerance: float) -> None:
    """Targets are draws of the prior, so that the mean is at least the rate p/2 log2(p/D) of a squared error D.

    Seven bits say the rate and the number of stages, and a stage has four, of which half are wasted.
    """
    bits, least = [], []
    for i, m in enumerate(targets(40, p)):
        code = refined.shortest(torch.ones(p), lambda t, m=m: (t - m).square().sum(-1), tolerance, f"t{i}")
        assert code is not None
        bits.append(code.bits)
        least.append(-math.log2(ncx2.cdf(tolerance, p, float(m.square().sum()))))
    over = torch.tensor(bits).double() - torch.tensor(least)
    error = float(over.std()) / len(bits) ** 0.5
    assert 5 < float(over.mean()) < 11 + 2 * error
    assert sum(bits) / len(bits) > p / 2 * math.log2(p / tolerance)


def test_copies_need_not_be_told() -> None:
    """Of a network that behaves alike under all changes of sign of six numbers, six bits less are told."""
    one, any_copy = [], []
    for i, m in enumerate(targets(60, 6)):
        for found, kept in ((one, lambda t: t), (any_copy, torch.abs)):
            code = refined.shortest(
                torch.ones(6), lambda t, m=m, kept=kept: (kept(t) - kept(m)).square().sum(-1), 0.5, f"t{i}")
            assert code is not None
            found.append(code.bits)
    saved = torch.tensor(one).double() - torch.tensor(any_copy).double()
    assert abs(float(saved.mean()) - 6) < 4 * float(saved.std()) / len(saved) ** 0.5


def test_none_where_stages_do_not_suffice_or_nothing_will_do() -> None:
    (m,) = targets(1, 300)
    assert refined.shortest(torch.ones(300), lambda t: (t - m).square().mean(-1), 1e-3, "large") is None
    for never in (math.inf, math.nan):
        assert refined.shortest(torch.ones(2), lambda t, x=never: torch.full((len(t),), x), 1.0, "never") is None


def test_a_tolerance_that_is_none_is_refused() -> None:
    for tolerance in (0.0, math.nan, math.inf):
        with pytest.raises(InputError, match="tolerance"):
            refined.shortest(torch.ones(2), lambda t: t.square().sum(-1), tolerance, "none")


def test_whatever_is_sent_is_a_draw_of_the_prior() -> None:
    z = torch.zeros(20_000, 1, dtype=torch.float64)
    for k in range(6):
        z = refined._refined(z, torch.randn(z.shape, generator=stream(k, "draws"), dtype=torch.float64), 0.7**k)
        assert abs(float(z.var()) - 1) < 4 * (2 / len(z)) ** 0.5
