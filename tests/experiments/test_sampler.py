"""Descent against the prior over functions: codes of functions, planted counts, pairs, and what arms share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reuse_sim.artifacts import Store
from reuse_sim.experiments import sampler
from reuse_sim.experiments.sampler import (
    Config,
    agreeing,
    code,
    compared,
    descents,
    drawn,
    leap_of,
    network,
    ratio,
    table,
    target_of,
)  # fmt: skip
from reuse_sim.rng import stream
from reuse_sim.specialness import boolean

SMALL = Config.model_validate({"draws": 20_000, "networks": 100, "steps": 300, "budget": 100, "pairs": 2})
XOR, AND, PARITY = 0b01100110, 0b10000000, 0b10010110  # of bits 0 and 1 of three; of all; of all


def test_functions_have_codes() -> None:
    tables = torch.stack([boolean.TABLES["parity"](boolean.questions(3)), boolean.TABLES["and"](boolean.questions(3))])
    assert code(tables).tolist() == [PARITY, AND]
    assert torch.equal(table(3, PARITY), tables[0])


@pytest.mark.parametrize(("function", "expected"), [(0, 0), (0b10101010, 1), (XOR, 2), (PARITY, 3), (AND, 1)])
def test_leaps_that_are_known(function: int, expected: int) -> None:
    assert leap_of(3, function) == expected


def test_what_agrees_agrees_where_it_was_told() -> None:
    told = torch.tensor([0, 3, 5])
    found = agreeing(3, XOR, told)
    assert len(found) == 2**5 and all(torch.equal(table(3, f)[told], table(3, XOR)[told]) for f in found)


def test_targets_are_drawn_as_often_as_the_prior_has_them_but_for_the_dull() -> None:
    counts = torch.zeros(256, dtype=torch.long)
    counts[0], counts[255], counts[XOR], counts[AND], counts[PARITY] = 10**9, 10**9, 300, 10**9, 100
    g = stream(0, "targets")
    # AND answers all of these four alike.
    drawn_ = [target_of(counts, torch.tensor([0, 1, 2, 3]), g) for _ in range(400)]
    assert set(drawn_) == {XOR, PARITY}
    assert abs(drawn_.count(XOR) / 400 - 0.75) < 4 * (0.75 * 0.25 / 400) ** 0.5


def test_the_prior_is_that_of_brute_force() -> None:
    """n = 3: the first bit takes 7.524 bits, all of them 8.134."""
    counts = drawn(3, 8, 200_000, stream(0, "prior"))
    assert int(counts.sum()) == 200_000
    for name, bits in (("first", 7.524), ("and", 8.134)):
        hits = int(counts[code(boolean.TABLES[name](boolean.questions(3)))])
        assert math.log2(200_000 / hits) == pytest.approx(bits, abs=0.02 + 4 / math.log(2) / hits**0.5)


def test_scaled_networks_compute_the_same_functions() -> None:
    """(W, b, a, c) times (α, α, α, α²): what `descents` starts from, untrained."""
    one, small = (SMALL.model_copy(update={"scale": s, "optimizer": "sgd", "rate": 1e-9}) for s in (1.0, 0.25))
    nobody = torch.tensor([0, 7])
    usual, scaled = (descents(c, table(3, XOR), nobody, 1, 0, "same")[0] for c in (one, small))
    first, second = (boolean.truth_table(network(3, 8), t) for t in (usual, scaled))
    assert torch.equal(first, second) and not torch.allclose(usual, scaled)


def test_those_who_reached_answer_as_told_and_stopped_there() -> None:
    told = torch.tensor([0, 1, 2, 4])
    theta, reached = descents(SMALL, table(3, XOR), told, 2000, 0, "some")
    right = (boolean.truth_table(network(3, 8), theta)[:, told] == table(3, XOR)[told]).all(-1)
    assert torch.equal(right, reached) and float(reached.double().mean()) > 0.9
    early, few = descents(SMALL, table(3, XOR), told, 1, 0, "some")
    assert few.sum() < reached.sum()


def test_planted_counts() -> None:
    """P_OPT ∝ P_B² on three functions; the rest is one more."""
    prior = torch.tensor([400, 800, 1600, 3200, 10])
    found = torch.tensor([100, 400, 1600, 6400, 0]) * 100
    said = compared(prior, found, 4)
    assert said["sampler/functions"] == 4
    assert said["sampler/slope"] == pytest.approx(2, abs=1e-3)
    assert said["sampler/correlation"] == pytest.approx(1, abs=1e-4)
    p, q = prior.double() / prior.sum(), found.double() / found.sum()
    assert said["sampler/total_variation"] == pytest.approx(float((p - q).abs().sum() / 2))
    same = compared(prior, prior, 4)
    assert same["sampler/total_variation"] == pytest.approx(0) and same["sampler/slope"] == pytest.approx(1, abs=0.01)
    assert compared(prior, torch.zeros(5, dtype=torch.long), 4) == {"sampler/functions": 0.0}
    assert "sampler/slope" not in compared(torch.tensor([90, 90, 3, 1]), torch.tensor([1, 1, 1, 1]), 4)


def test_chance_variation_is_what_draws_of_the_prior_show() -> None:
    prior = torch.tensor([5000, 3000, 1500, 500])
    g = stream(0, "draws")
    found = [torch.bincount(torch.multinomial(prior.double(), 400, True, generator=g), minlength=4) for _ in range(200)]
    seen = [compared(prior, f, 4)["sampler/total_variation"] or 0.0 for f in found]
    assert np.mean(seen) == pytest.approx(compared(prior, found[0], 4)["sampler/chance_variation"], rel=0.1)


def test_the_ratio_of_planted_pairs() -> None:
    pairs = [{"needle_bits": 10.0, "staircase_bits": 9.5}, {"needle_bits": 12.0, "staircase_bits": 12.0}]
    reached = [{"staircase": 0.4, "needle": 0.1}, {"staircase": 0.5, "needle": 0.0}]
    said = ratio(pairs, reached, 1000)
    expected = (math.log2(400.5 / 100.5) + math.log2(500.5 / 0.5)) / 2
    assert said == pytest.approx({"sampler/staircase_bits": expected, "sampler/prior_gap_bits": 0.25,
                                  "sampler/staircase_reached": 0.45, "sampler/needle_reached": 0.05})
    assert ratio([], [], 10) == {}


def test_one_cell_shares_the_prior_and_says_everything(tmp_path) -> None:
    store = Store(tmp_path)
    found = sampler.cell({"adam": SMALL, "sgd": SMALL.model_copy(update={"optimizer": "sgd"})}, 0, store)
    assert (store.computed, store.reused) == (1 + 1 + 2 * 2, 2)  # prior and pairs once, descents for each
    for said in found.values():
        assert set(said.metrics) == {m.name for m in sampler.METRICS}
        assert all(v is not None or k in said.reason for k, v in said.metrics.items())
        assert all(leap_of(3, p["needle"]) >= 2 and leap_of(3, p["staircase"]) == 1 for p in said.diagnostics["pairs"])
    assert found["adam"].diagnostics["pairs"] == found["sgd"].diagnostics["pairs"]
    assert found["adam"].parameters_sha256 != found["sgd"].parameters_sha256
    assert sampler.memory_bytes({"adam": SMALL}) > 2**29
