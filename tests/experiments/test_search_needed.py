"""Methods that search against methods that do not: what an answer counts for."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.errors import InputError, Refusal
from reuse_sim.experiments import search_needed
from reuse_sim.experiments.search_needed import counted, doubts, figures
from reuse_sim.types import Estimate

ARM = {"world": {"use": "radius"}, "human": {"use": "descent", "width": 3, "steps": 100, "rate": 0.02}, "questions": 16,
       "tolerances": {"3": 2.0}, "effort": 0.02}  # fmt: skip
TWICE = [{"bits": 49.0, "bound": "two-sided", "status": "converged"},
         {"bits": 51.0, "bound": "two-sided", "status": "converged"}]  # fmt: skip


def config(**changes):
    return search_needed.Config.model_validate_json(json.dumps(ARM | changes))


def said(bits, bound="two-sided", status="converged", **more):
    return {"bits": bits, "counted_bits": bits, "bound": bound, "status": status, "evaluations": 10, **more}


@pytest.mark.parametrize(("bits", "off", "within"), [(50.0, 0.0, 1), (55.0, 0.1, 1), (44.9, 0.102, 0), (80.0, 0.6, 0)])
def test_an_error_is_a_share_of_s(bits, off, within):
    found = figures(said(bits), TWICE)
    assert found["specialness/off"] == pytest.approx(off) and found["specialness/within"] == within
    assert found["specialness/signed_bits"] == pytest.approx(bits - 50)


def test_of_few_bits_three_are_a_tenth():
    few = [t | {"bits": 8.0} for t in TWICE]
    assert figures(said(11.0), few)["specialness/off"] == pytest.approx(0.1)


def test_what_says_nothing_is_off_by_all():
    found = figures(said(12.0, "lower", "no hit in 4000 draws: take smc"), TWICE)
    assert (found["specialness/bits"], found["specialness/off"], found["specialness/within"]) == (None, 1.0, 0.0)


def test_copies_are_counted_for_what_looks_about_one_place():
    def one(kind, bits=60.0):
        return Estimate(bits, bits, bits, "none", kind, "converged", {"symmetry_bits": 15.5})

    assert counted(one("local")) == pytest.approx(44.5)
    assert counted(one("global")) == 60 and counted(one("local", 9)) == 0


def test_a_sampler_that_does_not_agree_with_itself_decides_nothing():
    assert doubts(TWICE) == []
    assert "does not agree with itself (9.0 bits)" in doubts([TWICE[0], TWICE[1] | {"bits": 58.0}])[0]


def test_every_method_is_asked_about_one_human(tmp_path):
    arms = {m: config(method=m) for m in ("smc", "laplace", "volume", "gaussian_process", "subset")}
    found = search_needed.cell(arms, 0, Store(tmp_path))
    assert len({m.parameters_sha256 for m in found.values()}) == 1
    assert len({m.metrics["specialness/separate_bits"] for m in found.values()}) == 1
    assert all(set(m.metrics) == {x.name for x in search_needed.METRICS} for m in found.values())
    with pytest.raises(Refusal, match="the human itself is not consistent"):
        search_needed.cell({"main": config(tolerances={"3": 1e-6})}, 0, Store(tmp_path))


def test_bad_input():
    with pytest.raises(ValidationError, match="did you mean 'laplace'"):
        config(method="laplase")
    with pytest.raises(ValidationError, match="greater than 0"):
        config(tolerances={"3": 0})
    with pytest.raises(InputError, match="one for width 3"):
        search_needed.check({"main": config(tolerances={"4": 1.0})})
