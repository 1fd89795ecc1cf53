"""Fresh humans as a code: shares against what can be solved, codes read back, copies found."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.errors import InputError
from reuse_sim.humans import descent
from reuse_sim.joint import fresh
from reuse_sim.ledger import quantised
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream, streams
from reuse_sim.specialness import symmetry
from reuse_sim.worlds import radius

NET = Mlp((3, 5, 1), "tanh")


# The index ------------------------------------------------------------------------------------------


@given(st.one_of(st.none(), st.integers(0, 10**9)))
def test_an_index_is_read_back(index: int | None) -> None:
    assert fresh.read_index(fresh.write_index(index)) == index


def test_no_index_begins_with_another_and_lengths_are_eliass() -> None:
    words = [fresh.write_index(None), *map(fresh.write_index, range(5000))]
    ordered = sorted(words)
    assert not any(b.startswith(a) for a, b in zip(ordered, ordered[1:], strict=False))
    # Delta of k takes ⌊log₂ k⌋ + 2 ⌊log₂(⌊log₂ k⌋ + 1)⌋ + 1 bits; and one says that there is an index.
    for k in (1, 2, 3, 4, 7, 8, 100, 4096):
        n = int(math.log2(k))
        assert len(fresh.write_index(k - 1)) == 1 + n + 2 * int(math.log2(n + 1)) + 1
    # Kraft: with every index there ever is the lengths are those of a full code.
    assert sum(2.0 ** -len(w) for w in words) < 1


@pytest.mark.parametrize("bits", ["", "1", "10", "11" * 9, "00", "012", "1000000"])
def test_what_was_never_written_is_refused(bits: str) -> None:
    with pytest.raises(InputError, match="read_index"):
        fresh.read_index(bits)
    with pytest.raises(InputError, match="write_index"):
        fresh.write_index(-1)


def test_the_first_within_is_the_first_not_the_nearest() -> None:
    distance = torch.tensor([0.5, 0.2, 0.1, 0.3])
    assert fresh.first_within(distance, 0.2) == 1 and fresh.first_within(distance, 0.05) is None


def test_a_universal_code_of_the_first_hit_costs_about_the_share() -> None:
    """The first hit is geometric: −log₂ share − γ/ln 2 bits in log₂ k on average, and the code's own 2 log₂ log₂ k."""
    share, g = 2.0**-8, stream(0, "hits")
    hits = torch.rand(4000, 4096, generator=g) < share
    firsts = [fresh.first_within(1 - h.float(), 0.5) for h in hits]
    lengths = torch.tensor([len(fresh.write_index(i)) for i in firsts], dtype=torch.float64)
    log_k = torch.tensor([math.log2(i + 1) for i in firsts if i is not None], dtype=torch.float64)
    assert float(log_k.mean()) == pytest.approx(8 - 0.57722 / math.log(2), abs=4 * float(log_k.std()) / 4000**0.5)
    assert 8 < float(lengths.mean()) < 8 + 2 * math.log2(9) + 2


def test_the_index_decodes_to_the_same_network() -> None:
    """Number 11 trained alone is number 11 trained among others, bit for bit."""
    world: Any = radius.build(2)
    human = descent.build(3, 40, 0.02, 16)
    theta_1 = world.teacher([stream(3, "teacher")])
    many = fresh.train(world, human, theta_1, 3, range(16)).theta
    (told,) = fresh.train(world, human, theta_1, 3, [fresh.read_index(fresh.write_index(11)) or 0]).theta
    assert torch.equal(many[11], told) and not torch.equal(many[10], told)
    start, asked = (streams(3, [f"fresh/11/{what}"]) for what in ("init", "questions"))
    assert torch.equal(human.train(world, human.init(world, start), theta_1, asked).theta[0], told)
    assert not torch.equal(fresh.train(world, human, theta_1, 3, [11], "others").theta[0], told)


# The correction -------------------------------------------------------------------------------------


def align(theta: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    copies, sd = symmetry.of_net(NET), NET.prior_sd(torch.float64)
    assert copies
    return sd * copies.align(theta / sd, centre / sd)


def planted(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A network, and the same with its units in another order and some of their signs turned."""
    g = stream(seed, "planted")
    theta = NET.init([g], torch.float64)[0]
    v = {k: t.clone() for k, t in NET.views(theta).items()}
    order, sign = torch.randperm(5, generator=g), 1.0 - 2.0 * (torch.rand(5, generator=g) < 0.5)
    moved = torch.cat([(v["weight0"][order] * sign[:, None]).flatten(), v["bias0"][order] * sign,
                       v["weight1"][0, order] * sign, v["bias1"]])  # fmt: skip
    return theta, moved


@pytest.mark.parametrize("seed", range(8))
def test_alignment_finds_a_planted_order_and_signs(seed: int) -> None:
    theta, moved = planted(seed)
    assert torch.equal(align(moved[None], theta)[0], theta)


def distortion_about(theta: torch.Tensor):
    x = torch.randn(64, 3, generator=stream(0, "x"), dtype=torch.float64)
    target = NET.forward(theta, x)[..., 0]

    def distortion(t: torch.Tensor) -> torch.Tensor:
        return (NET.forward(t, x)[..., 0] - target).square().mean(-1) / target.var()

    return distortion


def test_a_fresh_human_that_will_do_needs_no_correction() -> None:
    theta, moved = planted(1)
    said = fresh.correct(NET, theta, moved, 4, align, quantised.shortest, distortion_about(theta), 1e-6)
    assert said.bits == len(fresh.write_index(4)) + 1 and torch.equal(said.theta, moved)


def test_a_correction_decodes_within_the_tolerance_and_is_short_where_it_is_small() -> None:
    theta, moved = planted(2)
    distortion = distortion_about(theta)
    noise = torch.randn(NET.p, generator=stream(2, "noise"), dtype=torch.float64) * NET.prior_sd(torch.float64)
    outright = quantised.shortest(theta, NET.prior_sd(torch.float64), distortion, 1e-3).bits
    near, far = (fresh.correct(NET, theta, moved + size * noise, 0, align, quantised.shortest, distortion, 1e-3)
                 for size in (0.1, 3.0))  # fmt: skip
    for said in (near, far):
        assert float(distortion(said.theta[None])[0]) <= 1e-3
        assert said.spread_bits == 4 * fresh.EXPONENT_BITS
    assert near.bits < 0.7 * outright < far.bits


def test_without_alignment_a_planted_copy_is_far() -> None:
    theta, moved = planted(2)
    distortion = distortion_about(theta)
    fresh_one = moved + 0.05 * NET.prior_sd(torch.float64)
    aligned, as_it_is = (fresh.correct(NET, theta, fresh_one, 0, how, quantised.shortest, distortion, 1e-3).bits
                         for how in (align, lambda t, _: t))  # fmt: skip
    assert aligned < 0.8 * as_it_is


def test_the_spread_is_the_nearest_power_of_two_by_field() -> None:
    difference = torch.cat([torch.full((f.slice.stop - f.slice.start,), s, dtype=torch.float64)
                            for f, s in zip(NET.fields, (0.22, 1.0, 0.0, 100.0), strict=True)])  # fmt: skip
    assert fresh.spread(NET, difference) == [-2, 0, -12, 3]
    sd = fresh.prior_sd(NET, [-2, 0, -12, 3])
    assert [float(sd[f.slice][0]) for f in NET.fields] == [0.25, 1.0, 2.0**-12, 8.0]
