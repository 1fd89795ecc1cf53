"""The page of all claims says what the results pages say, no more."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from reuse_sim.record import verdicts
from tracking import claims, report

ROOT = Path(__file__).parents[2]
LIST = tomllib.loads((ROOT / claims.LIST).read_text(encoding="utf-8"))["claim"]


LIMITS = "supported above 0.3, refuted below 0.1"


def row(verdict="supported", value=0.8, low=0.7, high=0.9, n=20, limits=LIMITS, id="a"):
    return claims.Row("page", id, "5", verdict, "", limits, value, low, high, n)


def test_a_row_is_the_verdict_of_the_records(make_sweep, make_records, tmp_path):
    sweep = make_sweep()
    report.write(sweep, make_records(sweep), tmp_path, docs=True)
    (found,) = claims.rows(tmp_path)
    said = verdicts(sweep, make_records(sweep))[0]
    assert (found.page, found.id, found.claim, found.n) == ("made_up", "reuse", "5", 8)
    assert found.verdict == said["verdict"] == "supported"
    for name in ("value", "low", "high"):
        assert getattr(found, name) == pytest.approx(said[name], abs=0.005)


def test_every_claim_of_every_scenario_is_listed_and_every_listed_one_says_what_it_is():
    known = [c["id"] for c in LIST]
    assert len(set(known)) == len(known) == 41 and all(c["kind"] in "SMO" for c in LIST)
    text = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "scenarios").glob("*.yaml"))
    assert set(re.findall(r'\bclaim: *"?(\w+)"?', text)) <= set(known)
    assert all("supported" in c for c in LIST if c["kind"] == "M")


def test_a_project_gets_its_page(make_sweep, make_records, tmp_path):
    assert claims.write(tmp_path) is None
    (tmp_path / "scenarios").mkdir()
    (tmp_path / claims.LIST).write_bytes((ROOT / claims.LIST).read_bytes())
    sweep = make_sweep()
    report.write(sweep, make_records(sweep), tmp_path / "docs" / "results", docs=True)
    text = claims.write(tmp_path).read_text()
    assert "## 5• So the outer model" in text
    assert re.search(r"- \[made_up\]\(results/made_up.md\) supported: reuse 0\.\d\d \[", text)
    assert "1 figure on fewer worlds than asked" in text and "**Too few worlds.**" in text
    assert text.count("\n## ") == len(LIST)


def test_a_claim_over_a_sweep_is_one_line_and_a_figure_for_each_point(make_sweep, make_records, tmp_path):
    one, null = make_sweep().expect
    points = [replace(one, id=f"reuse-{b}", over="reuse", where={"leak.bits": b}) for b in (2, 8)]
    sweep = make_sweep(axes={"leak.bits": [2, 8]}, expect=(*points, replace(null, where={"leak.bits": 2})))
    page = report.write(sweep, make_records(sweep), tmp_path, docs=True).read_text()
    assert page.count("**reuse** (claim 5)") == 1 and "**supported** 0." in page
    found = claims.rows(tmp_path)
    assert [r.id for r in found] == ["reuse at bits = 2", "reuse at bits = 8"]
    for r, said in zip(found, verdicts(sweep, make_records(sweep)), strict=False):
        assert (r.verdict, r.n) == (said["verdict"], said["n"])
        assert (r.value, r.low, r.high) == pytest.approx((said["value"], said["low"], said["high"]), abs=0.005)


def test_a_claim_may_ask_for_more_worlds_and_be_refuted_by_one_figure():
    assert claims.verdict({"id": "14", "kind": "M", "worlds": 17}, [row(n=16)], {}) == "too few worlds"
    assert claims.verdict({"id": "14", "kind": "M", "worlds": 17}, [row(n=17)], {}) == "supported"
    found = [row(), row("refuted"), row("undecided")]
    assert claims.verdict({"id": "7", "kind": "M"}, found, {}) == "mixed"
    by_one = {"id": "7", "kind": "M", "refuted_by": "one"}
    assert claims.verdict(by_one, found, {}) == "refuted"
    assert claims.verdict(by_one, [row(), row("refuted", n=3)], {}) == "supported"


@pytest.mark.parametrize(("found", "said"), [
    ([], "not measured"),
    ([row(n=8)], "too few worlds"),
    ([row()], "supported"),
    ([row(), row("undecided")], "partly supported"),
    ([row(), row("refuted")], "mixed"),
    ([row("undecided")], "undecided"),
    ([row("refuted"), row("supported", n=3)], "refuted"),
])  # fmt: skip
def test_what_the_figures_say_together(found, said):
    assert claims.verdict({"id": "5", "kind": "M", "confirmatory": True}, found, {}) == said


def test_a_figure_that_falls_when_all_are_adjusted_decides_nothing():
    claim = {"id": "5", "kind": "M", "confirmatory": True, "refuted_by": "one"}
    found = [row(id="a"), row("refuted", id="b")]
    assert claims.verdict(claim, found, {("page", "a"): True, ("page", "b"): True}) == "refuted"
    assert claims.verdict(claim, found, {("page", "a"): True, ("page", "b"): False}) == "partly supported"
    assert claims.verdict(claim, found[:1], {("page", "a"): False}) == "undecided"


def test_p_is_that_of_the_t_test():
    # mean 0.8, standard error 0.05, 19 degrees of freedom, against the limit 0.3
    half = 0.05 * stats.t.ppf(0.975, 19)
    exact = 2 * stats.t.sf(0.5 / 0.05, 19)
    assert claims.p_value(row(low=0.8 - half, high=0.8 + half)) == pytest.approx(exact, rel=1e-9)
    inside = row(value=1.0, low=0.9, high=1.1, limits="supported within [0.8, 1.2], refuted below 0.5")
    assert claims.p_value(inside) == pytest.approx(2 * stats.t.sf(0.2 / (0.1 / stats.t.ppf(0.975, 19)), 19), rel=1e-9)
    beyond = row("refuted", value=0.0, low=-0.05, high=0.05)
    assert claims.p_value(beyond) == pytest.approx(2 * stats.t.sf(0.1 / (0.05 / stats.t.ppf(0.975, 19)), 19), rel=1e-9)
    assert claims.p_value(row(low=None, high=None)) == 1.0
    # Of limits that lie unevenly, the one towards the threshold.
    uneven = row(value=1.0, low=0.88, high=1.0, limits="supported above 0.85, refuted below 0.2")
    assert claims.p_value(uneven) == pytest.approx(2 * stats.t.sf(0.15 / (0.12 / stats.t.ppf(0.975, 19)), 19), rel=1e-9)


def test_p_of_counts_is_that_of_the_sign_test():
    limits = "supported above 0.85, refuted below 0.15"
    assert claims.p_value(row(value=1.0, low=0.88, high=1.0, n=20, limits=limits)) == pytest.approx(2 * 0.5**20)
    assert claims.p_value(row("refuted", value=0.03, low=0.0, high=0.14, n=30, limits=limits)) == pytest.approx(
        2 * 31 * 0.5**30)  # fmt: skip


def test_holm_s_steps():
    def with_p(p, name):
        half = stats.t.ppf(0.975, 19) / stats.t.isf(p / 2, 19) * 0.5
        return row(low=0.8 - half, high=0.8 + half, id=name)

    # .01 ≤ .05/4, .016 ≤ .05/3, .03 > .05/2: the third falls, and with it the fourth, though .04 ≤ .05.
    kept = claims.holm([with_p(p, name) for p, name in ((0.03, "c"), (0.01, "a"), (0.04, "d"), (0.016, "b"))])
    assert kept == {("page", "a"): True, ("page", "b"): True, ("page", "c"): False, ("page", "d"): False}
    assert not claims.holm([row("undecided")]) and math.isclose(claims.p_value(row(n=1)), 1.0)
