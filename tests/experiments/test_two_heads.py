"""The exact two-head experiment: what a cell says, and what its arms have in common."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.experiments import two_heads
from reuse_sim.experiments.two_heads import Config, leaked, pair, people
from reuse_sim.worlds import finite


def test_teacher_and_human_agree_on_distribution_and_not_elsewhere() -> None:
    for kind in ("formula", "counted", "human"):
        for seed in range(8):
            f, w = pair(kind, seed)
            h = finite.settings(two_heads.WEIGHT)[w]
            assert finite.agreement(f, h, finite.ON) == 1 and finite.agreement(f, h, finite.OFF) < 1
            assert kind != "human" or f in finite.perceptrons(two_heads.WEIGHT)


def test_what_leaks_is_true_of_the_human_and_halves_the_others() -> None:
    humans, place, _ = people()
    for seed in range(4):
        w = pair("formula", seed)[1]
        told = [leaked(w, bits, seed) for bits in (0, 3, 6, 12)]
        assert torch.allclose(told[0], torch.ones_like(told[0]), rtol=0, atol=1e-12)
        left = [float(t @ humans.prior) * len(place) for t in told]  # settings that are as told
        assert left[0] == pytest.approx(625) and left[3] == pytest.approx(1)
        assert all(a > b for a, b in zip(left, left[1:], strict=False))
        assert all(float(t[place[w]]) > 0 for t in told)
        # By hand, from all settings: the bits of those left agree where they were told.
        order = torch.randperm(12, generator=two_heads.stream(seed, "leak"))[:3].tolist()
        bit = [[(v + 2) >> (2 - k) & 1 for v in s for k in range(3)] for s in place]
        own = bit[list(place).index(w)]
        assert left[1] == pytest.approx(sum(all(b[i] == own[i] for i in order) for b in bit))


def test_the_arms_of_one_world_say_what_the_identities_ask(tmp_path) -> None:
    base = {"draws": 20_000}
    arms = {"rewarded": Config(**base), "leaked": Config(**base, leak=10),
            "none": Config(**base, leak=10, reward="none"),
            "given": Config(**base, leak=10, reward="special_given_leak"), "more": Config(**base, leak=4, labels=6)}
    found = two_heads.cell(arms, 3, Store(tmp_path))
    m = {name: f.metrics for name, f in found.items()}
    assert m["rewarded"]["remedies/odds_bits"] == pytest.approx(m["leaked"]["remedies/odds_bits"], abs=1e-9)
    assert m["none"]["remedies/odds_bits"] == pytest.approx(m["given"]["remedies/odds_bits"], abs=1e-9)
    assert m["none"]["remedies/odds_bits"] < m["leaked"]["remedies/odds_bits"] - 0.5
    for name in ("rewarded", "leaked", "none", "given"):
        assert m[name]["remedies/formula_error_bits"] < 1e-9 and m[name]["remedies/intended_error"] < 1e-9
    assert m["leaked"]["remedies/leak_tv"] < 1e-9 < 1e-6 < m["more"]["remedies/leak_tv"]
    assert m["rewarded"]["remedies/rejection_z"] < 4 and m["rewarded"]["ledger/sign_holds"] == 1
    assert m["rewarded"]["remedies/spurious_mass"] <= 1 and m["rewarded"]["remedies/spurious_ratio"] <= 1
    net = m["rewarded"]["ledger/intended_net_bits"]
    assert m["rewarded"]["ledger/intended_wins"] == float(net >= 0)
    assert {name for said in m.values() for name in said} == {metric.name for metric in two_heads.METRICS}
    assert len({f.parameters_sha256 for f in found.values()}) == 1  # one teacher, one human


def test_what_is_not_finite_is_said(tmp_path) -> None:
    seed = next(s for s in range(50) if math.isinf(finite.specialness_bits(pair("formula", s)[0], questions=range(8))))
    found = two_heads.cell({"all": Config(condition=8, draws=1000)}, seed, Store(tmp_path))["all"]
    assert found.metrics["specialness/bits"] is None and "specialness/bits" in found.reason
    assert found.metrics["ledger/intended_wins"] == 0 and found.metrics["remedies/intended"] == 0


@pytest.mark.parametrize("given", [{"labels": 9}, {"leak": 13}, {"reward": "some"}, {"teacher": "any"}])
def test_what_cannot_be_is_refused(given) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(given)
