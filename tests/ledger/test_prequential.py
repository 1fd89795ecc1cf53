"""Prequential codes: what learners foretell, what it costs, and a coder that writes it."""

from __future__ import annotations

import math

import constriction
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reuse_sim.engines.spec import Adam, Fixed
from reuse_sim.errors import InputError
from reuse_sim.ledger import prequential, students
from reuse_sim.ledger.students import Waves
from reuse_sim.nets import Mlp
from reuse_sim.rng import stream, streams
from reuse_sim.train import train

LINE = Mlp((2, 1))


def asked(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, n, 2, generator=stream(seed, "x"))


def test_blocks_double_and_end_at_n() -> None:
    assert prequential.ends(8, 64) == (8, 16, 32, 64) and prequential.ends(5, 12) == (5, 10, 12)
    assert prequential.ends(3, 3) == (3,)
    bits = torch.arange(12.0)
    assert prequential.blocks(bits, 5).tolist() == [10.0, 35.0, 21.0]
    with pytest.raises(InputError, match="first block"):
        prequential.ends(9, 8)


def test_a_block_is_foretold_by_a_learner_of_those_before() -> None:
    """Of one block more the learner is the one trained on both: batches that show all of it give full descent."""
    x, starts = asked(12), LINE.init(streams(0, ["a", "b"]))
    y = torch.stack([x[0] @ torch.tensor([1.0, -2.0]) + 0.5, x[0, :, 0]])
    two = {"first": 3, "steps": 60, "rate": 0.05, "batch": 600}
    said = prequential.foretold(LINE, starts, x.expand(2, -1, -1), y, streams(1, ["a", "b"]), **two)
    assert torch.equal(said[:, :3], LINE.forward(starts, x)[:, :3, 0])
    seen = Fixed(x[:, :3].expand(2, -1, -1), y[:, :3, None])
    fit = train(LINE, starts, seen, steps=60, optimizer=Adam(0.05))
    assert torch.allclose(said[:, 3:6], LINE.forward(fit.theta, x)[:, 3:6, 0], atol=0.15)
    # What comes later is not seen, and the next learner has seen it.
    later = y.clone()
    later[:, 3:] += 100
    again = prequential.foretold(LINE, starts, x.expand(2, -1, -1), later, streams(1, ["a", "b"]), **two)
    assert torch.equal(again[:, :6], said[:, :6])
    assert ((again - said)[:, 6:].abs() > 0.01).all()
    # And what came before is.
    earlier = y.clone()
    earlier[:, :3] += 100
    other = prequential.foretold(LINE, starts, x.expand(2, -1, -1), earlier, streams(1, ["a", "b"]), **two)
    assert ((other - said)[:, 3:6].abs() > 0.01).all()


def test_learners_stacked_are_as_alone() -> None:
    student, x = Mlp((2, 5, 1)), asked(40)
    starts = students.cold(student, streams(0, ["a", "b"]))
    y = torch.stack([x[0, :, 0].sin(), x[0, :, 1]])
    both = prequential.foretold(student, starts, x.expand(2, -1, -1), y, streams(3, ["a", "b"]), steps=30, first=5)
    one = prequential.foretold(student, starts[1:], x, y[1:], streams(3, ["b"]), steps=30, first=5)
    assert torch.allclose(both[1:], one, atol=1e-5)


def test_who_knows_it_says_it_in_nothing_and_who_learns_it_stops_paying() -> None:
    x, w = asked(256), torch.tensor([0.8, -1.1])
    y = (x[0] @ w)[None]
    knows = torch.cat([w, torch.zeros(1)])[None]
    starts = torch.cat([torch.zeros(1, 3), knows])
    said = prequential.foretold(LINE, starts, x.expand(2, -1, -1), y.expand(2, -1), streams(1, ["a", "b"]), rate=0.05)
    cold, warm = prequential.blocks(prequential.normal_bits(y, said, 0.05 * float(y.var())), 16).double()
    assert float(warm.sum()) < 0.1
    first = float(y[0, :16].square().sum() / (2 * 0.05 * y.var() * math.log(2)))
    assert float(cold[0]) == pytest.approx(first, rel=1e-5) and float(cold[1:].sum()) < 0.1 * first


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.01, 2))
def test_an_answer_costs_its_density(y: float, said: float, noise: float) -> None:
    sd = noise**0.5
    normal = torch.distributions.Normal(torch.tensor(said, dtype=torch.float64), sd)
    cell = math.sqrt(2 * math.pi) * sd
    expected = -float(normal.log_prob(torch.tensor(y, dtype=torch.float64))) / math.log(2) - math.log2(cell)
    given_y, told = (torch.tensor([v], dtype=torch.float64) for v in (y, said))
    assert float(prequential.normal_bits(given_y, told, noise)) == pytest.approx(expected, abs=1e-9)
    yes, no = (float(prequential.logistic_bits(torch.tensor([v], dtype=torch.float64), told)) for v in (1.0, 0.0))
    assert 2**-yes + 2**-no == pytest.approx(1) and yes == pytest.approx(math.log2(1 + math.exp(-said)), abs=1e-9)


def test_a_range_coder_writes_it_in_so_many_bits() -> None:
    """Answers in cells a quarter of the noise wide, by a real coder from what was foretold; and it is read back."""
    x, noise = asked(400), 0.5
    y = (x[0] @ torch.tensor([0.8, -1.1]) + noise**0.5 * torch.randn(400, generator=stream(0, "noise")))[None]
    said = prequential.foretold(LINE, torch.zeros(1, 3), x, y, streams(1, ["a"]), rate=0.05, steps=200)
    cell = noise**0.5 / 4
    k = np.round(y[0].double().numpy() / cell).astype(np.int32)
    family = constriction.stream.model.QuantizedGaussian(-4000, 4000)
    law = family, said[0].double().numpy() / cell, np.full(400, 4.0)
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(k, *law)
    rounded = torch.from_numpy(k * cell)[None]
    expected = float(prequential.normal_bits(rounded, said.double(), noise).sum())
    expected += 400 * math.log2(math.sqrt(2 * math.pi) * 4)  # these cells are that much finer
    assert coder.num_bits() == pytest.approx(expected, rel=0.01, abs=32)
    assert np.array_equal(constriction.stream.queue.RangeDecoder(coder.get_compressed()).decode(*law), k)


@given(st.lists(st.lists(st.floats(0, 500), min_size=4, max_size=4), min_size=1, max_size=4))
def test_a_mixture_is_never_more_than_its_logarithm_behind_the_best_of_each_block(rows: list[list[float]]) -> None:
    blocks = torch.tensor(rows, dtype=torch.float64)
    mixed = prequential.mixture(blocks)
    best = blocks.min(0).values
    assert (mixed >= best - 1e-9).all() and (mixed <= best + math.log2(len(rows)) + 1e-9).all()
    by_hand = -(2.0**-blocks).mean(0).log2()
    assert torch.allclose(mixed[by_hand < 900], by_hand[by_hand < 900], atol=1e-9)


def test_random_labels_are_not_compressed() -> None:
    """Of n fair coins no code saves δ bits but with probability 2^−δ (here 2⁻¹⁰ for each of four learners)."""
    n, student = 128, Mlp((2, 6, 1))
    x = asked(n).expand(4, -1, -1)
    y = torch.randint(2, (4, n), generator=stream(0, "labels")).float()
    starts = students.cold(student, streams(0, list("abcd")))
    z = prequential.foretold(student, starts, x, y, streams(1, list("abcd")), steps=100, loss="logistic")
    bits = prequential.logistic_bits(y, z).sum(-1)
    assert (bits >= n - 10).all()
    assert float(prequential.logistic_bits(y, z)[:, :16].sum()) == pytest.approx(64)  # nothing is known yet
    learnable = (x[..., 0] > 0).float()
    z = prequential.foretold(student, starts, x, learnable, streams(1, list("abcd")), steps=100, rate=0.05,
                            loss="logistic")
    assert (prequential.logistic_bits(learnable, z).sum(-1) < n / 2).all()


def test_a_learner_that_was_taught_begins_as_the_other() -> None:
    student, x = Mlp((2, 12, 1)), asked(2000)
    y = (1.5 * x[0, :, 0]).tanh()[None] - 0.5
    start = students.cold(student, streams(0, ["a"]))
    theta = prequential.taught(student, start, x, y, streams(1, ["a"]), steps=400, rate=0.02)
    new = asked(500, seed=1)
    left = student.forward(theta, new)[..., 0] - ((1.5 * new[0, :, 0]).tanh()[None] - 0.5)
    assert float(left.square().mean()) < 2e-3 < float(y.square().mean()) / 50


@pytest.mark.parametrize("student", [Mlp((3, 7, 1)), Mlp((3, 5, 4, 1)), Waves(3, 7)])
def test_a_cold_student_says_nothing_and_can_learn(student) -> None:
    theta = students.cold(student, streams(0, ["a", "b"]))
    x = torch.randn(2, 11, 3, generator=stream(0, "x"))
    assert torch.equal(student.forward(theta, x), torch.zeros(2, 11, 1)) and not torch.equal(theta[0], theta[1])
    leaf = theta.clone().requires_grad_()
    (student.forward(leaf, x)[..., 0] - 1).square().sum().backward()
    assert leaf.grad is not None and (leaf.grad.abs().sum(-1) > 0).all()


def test_waves_are_sums_of_sines() -> None:
    waves = Waves(2, 3)
    theta = waves.init(streams(0, ["a"]))[0]
    w, b, a, c = theta[:6].view(3, 2), theta[6:9], theta[9:12], theta[12]
    x = asked(5)[0]
    expected = sum(a[k] * torch.sin(x @ w[k] + b[k]) for k in range(3)) + c
    assert torch.allclose(waves.forward(theta, x)[:, 0], expected, atol=1e-6) and waves.p == 13
    draws = waves.init(streams(0, [str(i) for i in range(3000)]), torch.float64)
    sd = waves.prior_sd(torch.float64)
    assert torch.allclose(draws.std(0) / sd, torch.ones(13, dtype=torch.float64), atol=4 / (2 * 3000) ** 0.5)
    assert float(sd[:2].square().sum()) == pytest.approx(waves.frequency**2)
