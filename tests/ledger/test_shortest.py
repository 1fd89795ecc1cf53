"""The shorter of both codes, and the bit that says which."""

from __future__ import annotations

import pytest
import torch

from reuse_sim.errors import InputError
from reuse_sim.ledger import quantised, refined
from reuse_sim.ledger.shortest import shortest
from reuse_sim.rng import stream

SD = torch.tensor([0.5, 2.0, 1.0, 3.0]).double()


@pytest.mark.parametrize(("times", "tolerance", "by_stages"), [(1, 0.3, True), (8, 1e-3, False)])
def test_it_is_the_shorter_of_both_and_a_bit(times: int, tolerance: float, by_stages: bool) -> None:
    """Stages where little is told, roundings where much is."""
    sd = SD.repeat(times)
    for seed in range(5):
        m = sd * torch.randn(len(sd), generator=stream(seed, "net"), dtype=torch.float64)

        def apart(t: torch.Tensor, m: torch.Tensor = m) -> torch.Tensor:
            return ((t - m) / sd).square().mean(-1)

        rounded = quantised.shortest(m, sd, apart, tolerance).bits
        staged = refined.shortest(sd, apart, tolerance, "x")
        code = shortest(m, sd, apart, tolerance, "x")
        assert code.bits == 1 + min(rounded, staged.bits if staged else rounded)
        assert float(apart(code.theta[None])[0]) == code.distortion <= tolerance
        assert (staged is not None and staged.bits < rounded) == by_stages


def test_stages_that_must_be_few_are_none_or_the_same() -> None:
    m = SD * torch.randn(4, generator=stream(0, "net"), dtype=torch.float64)

    asked = []

    def apart(t: torch.Tensor) -> torch.Tensor:
        asked.append(len(t))
        return ((t - m) / SD).square().mean(-1)

    free = refined.shortest(SD, apart, 0.1, "x")
    assert free is not None
    same = refined.shortest(SD, apart, 0.1, "x", free.bits)
    assert same is not None and same.bits == free.bits and torch.equal(same.theta, free.theta)
    assert refined.shortest(SD, apart, 0.1, "x", free.bits - 1) is None
    asked.clear()
    assert refined.shortest(SD, apart, 0.1, "x", 0) is None and not asked


def test_a_search_that_no_longer_moves_is_given_up() -> None:
    asked = []

    def never(t: torch.Tensor) -> torch.Tensor:
        asked.append(len(t))
        return torch.full((len(t),), 2.0)

    assert refined.shortest(SD, never, 1.0, "x") is None
    whole = refined.BEAM << refined.STAGE
    assert sum(asked) == len(refined.RATES) * (16 + 256 + (refined.SEEN - 2) * whole)


def test_what_rounding_refuses_is_refused() -> None:
    with pytest.raises(InputError, match="above 0"):
        shortest(torch.ones(4), SD, lambda t: t.square().sum(-1), 0.0, "x")
