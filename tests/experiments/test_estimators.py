"""All estimators on problems with known answers: what a record says of them, and of those that refuse."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from pydantic import ValidationError

from reuse_sim.artifacts import Store
from reuse_sim.experiments import estimators
from reuse_sim.experiments.estimators import KINDS, METRICS, Config, cell, descended, summary
from reuse_sim.rng import stream
from reuse_sim.specialness import METHODS, cases


def said(exact: float, bits: float, low: float, high: float, status: str = "converged", bound="two-sided") -> dict:
    return {"exact": exact, "bits": bits, "low": low, "high": high, "status": status, "bound": bound, "seconds": 2.0,
            "evaluations": 10}


def test_the_summary_counts_right_misled_and_held() -> None:
    answers = {
        "right and held": said(10.0, 10.5, 9.0, 11.0),
        "wrong and sure": said(10.0, 15.0, 14.0, 16.0),
        "wrong and says so": said(10.0, 15.0, 14.0, 16.0, "take more effort", "upper"),
        "within 5 %, limits too narrow": said(100.0, 104.0, 103.0, 105.0),
        "refused": {"exact": 1.0, "refused": "no"},
    }
    assert summary(answers) == pytest.approx({
        "estimator/refused": 0.2, "estimator/converged": 0.75, "estimator/right": 0.5, "estimator/misled": 0.25,
        "estimator/seconds": 2.0, "estimator/evaluations": 10.0, "estimator/inside": 1 / 3,
        "estimator/abs_error_bits": (0.5 + 5 + 4) / 3, "estimator/worst_error_bits": 5.0,
        "estimator/signed_error_bits": (0.5 + 5 + 4) / 3, "estimator/width_bits": 2.0,
        "estimator/bound_holds": 0.5,
    })
    assert set(summary(answers)) == {m.name for m in METRICS}
    assert set(summary({"none": answers["refused"]})) == {"estimator/refused"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_problems_whose_truth_a_count_or_formula_gave(kind: str) -> None:
    for name, case in KINDS[kind]().items():
        assert 0.5 < case.bits < 1500 and math.isfinite(case.bits), name


@pytest.mark.parametrize("case", [estimators.steps(4, 0.7), estimators.turned(3, 1.0)])
def test_problems_made_here_agree_with_plain_draws(case: cases.Case) -> None:
    theta = case.problem.reference.sample(400_000, stream(0, "draws"))
    if case.problem.hard:
        weights = (case.problem.cost(theta) <= case.problem.tolerance).double()
    else:
        weights = case.problem.log_likelihood(theta).exp()
    assert abs(float(weights.mean()) - 2**-case.bits) < 4 * float(weights.std()) / 400_000**0.5


def test_a_descent_ends_inside_or_nowhere() -> None:
    case = cases.ball(10, 1.5, centre=3.0)
    theta = descended(case.problem, stream(0, "start"))
    assert theta is not None and float(case.problem.cost(theta[None])) <= 1.5
    unreachable = replace(case.problem, tolerance=-1.0)
    assert descended(unreachable, stream(0, "start")) is None
    assert descended(estimators.steps(4, 0.7).problem, stream(0, "start")) is None


def test_one_cell_asks_every_arm_the_same(tmp_path) -> None:
    arms = {m: Config(problems="few", method=m, effort=0.05) for m in ("prior", "subset")}
    found = cell(arms, 1, Store(tmp_path))
    assert found["prior"].status == found["subset"].status == "ok"
    exact = [{k: v["exact"] for k, v in m.diagnostics.items()} for m in found.values()]
    assert exact[0] == exact[1] and list(exact[0]) == list(KINDS["few"]())
    again = cell(arms, 1, Store(tmp_path))
    assert {k: v.parameters_sha256 for k, v in again.items()} == {k: v.parameters_sha256 for k, v in found.items()}


def test_an_arm_whose_method_refuses_all_is_undecided(tmp_path, monkeypatch) -> None:
    def refuse(*_, **__):
        raise estimators.InputError("method", "anything", "nothing", "take smc")

    monkeypatch.setattr(estimators, "estimate", refuse)
    found = cell({"never": Config(problems="few", method="nuts")}, 0, Store(tmp_path))["never"]
    assert found.status == "undecided" and "take smc" in found.reason


@pytest.mark.parametrize("given", [{"problems": "fwe"}, {"method": "smd"}, {"effort": 0.0}])
def test_what_is_unknown_is_refused_with_a_hint(given: dict) -> None:
    with pytest.raises(ValidationError, match="few|smc|svi|greater than 0"):
        Config.model_validate({"problems": "few", "method": next(iter(METHODS)), **given})
