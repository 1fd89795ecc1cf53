"""The page says what the records say, to the digit, and warns where it should."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from reuse_sim.record import Band, Metric, figure
from tracking import report, tables
from tracking.limits import limits


def rows_of(text, first_header):
    """Cells of the first table whose first header is `first_header`."""
    table = text[text.index(f"| {first_header} |"):].split("\n\n")[0]
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def change(records, chosen, **metrics):
    return [replace(r, metrics={**r.metrics, **metrics}) if chosen(r) else r for r in records]


def test_the_page_has_all_parts_in_order(tmp_path, make_sweep, make_records):
    sweep = make_sweep()
    path = report.write(sweep, make_records(sweep), tmp_path)
    text = path.read_text()
    parts = ["# Does the outer model reuse the human?", sweep.question, "## What was found", "![", "## Limits",
             "## Method", sweep.method, sweep.command, "## Claims", "## Other measurements", "## What is measured",
             "## How it was run", sweep.config_hash, "torch 2.13.0"]
    places = [text.index(part) for part in parts]
    assert path.name == "report.md" and places == sorted(places)
    for link in re.findall(r"]\((figures/.+)\)", text):
        assert (tmp_path / link).stat().st_size > 1000 and (tmp_path / link).with_suffix(".png").exists()
    for metric in sweep.metrics:
        assert f"`{metric.name}`" in text and metric.meaning in text and metric.formula in text


def test_table_figures_are_the_intervals(tmp_path, make_sweep, make_records):
    sweep = make_sweep()
    records = make_records(sweep)
    records[2] = replace(records[2], status="undecided")
    text = report.write(sweep, records, tmp_path).read_text()
    half = figure(sweep.metrics[3], [r for r in records if r.arm == "half" and r.status == "ok"])
    row = rows_of(text, "arm")[2]
    assert row[:2] == ["half", "7 (1 undecided left out)"]
    assert row[2] == f"{half.mean:.2f} [{half.low:.2f}, {half.high:.2f}]"


def test_what_is_the_same_in_every_arm_takes_one_line(make_sweep, make_records):
    sweep = make_sweep(axes={"outer.width": [24, 48]})
    records = change(make_records(sweep), lambda r: True, **{"human/off_fit": 0.2, "outer/off_fit": 0.5})
    text = report.page(sweep, records, {})
    part = text[text.index("### human"):]
    assert rows_of(part, "width") == [[w, "every arm", "8", "0.20 [0.20, 0.20]"] for w in ("24", "48")]
    uneven = report.page(sweep, [replace(records[0], status="failed"), *records[1:]], {})
    assert len(rows_of(uneven[uneven.index("### human"):], "width")) == 8


def test_claims_tell_threshold_figure_and_verdict(make_sweep, make_records):
    sweep = make_sweep()
    reuse, null = rows_of(report.page(sweep, make_records(sweep), {}), "claim")
    assert reuse[0].startswith("**reuse** (claim 5): With all its bits")
    assert reuse[1] == "`inheritance/causal_private` of `all` less `placebo`"
    assert reuse[2] == "supported above 0.3, refuted below 0.1"
    assert re.fullmatch(r"0\.7\d \[0\.\d\d, 0\.\d\d\], 8 worlds: \*\*supported\*\*", reuse[3])
    assert null[2] == "supported within [−0.15, 0.15]"
    assert null[3] == "0.00 [0.00, 0.00], 8 worlds: **supported**"


def test_one_world_has_no_interval(make_sweep, make_records):
    sweep = make_sweep(seeds=1)
    text = report.page(sweep, make_records(sweep), {})
    assert re.fullmatch(r"−?0\.\d\d", rows_of(text, "arm")[0][2])
    assert "one world only, there is no interval" in text
    assert "nan" not in text.lower()


def test_no_world_at_all(tmp_path, make_sweep, make_records):
    sweep = make_sweep()
    records = [replace(r, status="failed", reason="the disk is full", metrics={}, diagnostics={})
               for r in make_records(sweep)]
    text = report.write(sweep, records, tmp_path).read_text()
    assert "No world counts: the disk is full." in text and "No world counts, so there are no means." in text
    assert report.finding(sweep, records) == "No world counts: the disk is full."
    assert not (tmp_path / "figures").exists()


def test_a_value_that_is_not_finite_is_a_dash_and_a_warning(make_sweep, make_records):
    sweep = make_sweep(seeds=4)
    records = change(make_records(sweep), lambda r: r.arm == "all" and r.seed < 2, **{"specialness/bits": None})
    records = change(records, lambda r: r.arm == "none", **{"specialness/bits": None})
    text = report.page(sweep, records, {})
    table = rows_of(text[text.index("### specialness"):], "arm")
    assert [row[2] for row in table] == ["—", *["12.8 [12.8, 12.8]"] * 2, "12.8 [12.8, 12.8] (n = 2)"]
    assert "`specialness/bits` has no finite value in 6 runs of 16." in text


def test_limits_name_arm_and_figures(make_sweep, make_records):
    sweep = make_sweep(axes={"outer.width": [24, 48]})
    good = make_records(sweep)
    assert limits(sweep, good) == ["No warning applies to these runs."]
    worse = change(good, lambda r: r.arm == "all" and r.params["outer.width"] == 48,
                   **{"outer/off_fit": 0.1, "human/off_fit": 0.25})
    assert limits(sweep, worse) == ["Arm `all`: the outer model does worse off-distribution than the human itself "
                                    "(0.10 against 0.25 at width = 48)."]
    (ignorant,) = limits(sweep, change(good, lambda r: r.arm == "half", **{"outer/context_recovery": 0.49}))
    assert ignorant.startswith("Arm `half`: context recovery is below 0.5 (at 2 sweep points, at worst 0.49 at width")
    assert "the other figures of this arm mean nothing" in ignorant
    (ended,) = limits(sweep, [replace(good[0], status="undecided", reason="the human\ndoes not fail"), *good[1:]])
    assert ended == "1 run of 64 left undecided and left out of every mean: the human does not fail."
    reasons = ["C = 0.5, not 2 in x2", "C = 0.15, not 2 in x2", "C = 1.63, not 2 in x2", "C = 0.5, but 2 in x2"]
    out = [replace(r, status="undecided", reason=why) for r, why in zip(good, reasons, strict=False)]
    assert [text.partition("mean: ")[2] for text in limits(sweep, [*out, *good[4:]])] == [
        "C = 0.15 to 1.63, not 2 in x2.", "C = 0.5, but 2 in x2."]
    assert limits(sweep, good[:-3])[0] == "The sweep is not finished: 61 of 64 runs are here."
    few = make_sweep(seeds=4)
    assert limits(few, make_records(few))[0].startswith("With 4 worlds the intervals are wide")


def test_the_finding_is_one_line_of_plain_words(make_sweep, make_records):
    sweep = make_sweep()
    said = report.finding(sweep, make_records(sweep))
    assert re.fullmatch(r"Supported: With all its bits, the outer model reuses the human "
                        r"\(0\.7\d \[0\.\d\d, 0\.\d\d\], 8 worlds\)\. Of 1 other claim: 1 supported\.", said)
    flat = change(make_records(sweep), lambda r: r.arm == "all", **{"inheritance/causal_private": 0.02})
    assert report.finding(sweep, flat).startswith("Refuted: With all its bits")
    wide = replace(sweep, expect=(sweep.expect[0], replace(sweep.expect[1], supported=Band(1.0, 2.0))))
    assert report.finding(wide, make_records(sweep)).endswith("Of 1 other claim: 1 undecided (null).")
    alone = replace(sweep, expect=sweep.expect[:1])
    assert report.finding(alone, make_records(sweep)).endswith("8 worlds).")


def test_without_claims_the_finding_is_the_first_headline(make_sweep, make_records):
    sweep = make_sweep(axes={"outer.width": [24]}, arms=("all",), expect=())
    said = report.finding(sweep, make_records(sweep))
    assert re.fullmatch(r"inheritance/causal_private is 0\.\d\d \[0\.\d\d, 0\.\d\d\] in arm all at width = 24\.", said)


def test_a_pipe_or_a_line_end_in_a_sentence_does_not_break_a_table(make_sweep, make_records):
    sweep = make_sweep()
    sweep = replace(sweep, expect=(replace(sweep.expect[0], sentence="either | or\nboth"),))
    (row,) = rows_of(report.page(sweep, make_records(sweep), {}).replace("\\|", "/"), "claim")
    assert len(row) == 4 and row[0].endswith("either / or both")


def test_docs_pages_and_their_list(tmp_path, make_sweep, make_records):
    assert report.index(tmp_path).startswith("# Results")
    for name in ("second", "first"):
        sweep = make_sweep(scenario=name, title=f"The {name} one")
        path = report.write(sweep, make_records(sweep), tmp_path, docs=True)
        assert path == tmp_path / f"{name}.md"
        assert f"(figures/{name}-inheritance-causal_private.svg)" in path.read_text()
    text = (tmp_path / "index.md").read_text()
    assert text.index("[The first one](first.md)") < text.index("[The second one](second.md)")
    assert "```{toctree}\n:hidden:\n\nfirst\nsecond\n```" in text
    assert text.count("**Supported**: With all its bits") == 2
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    report.write(sweep, list(reversed(make_records(sweep))), tmp_path, docs=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("values, places", [
    ([0.8], 2), ([0.05, 0.01], 2), ([9.99], 2), ([12.5], 1), ([125.0], 0), ([1e6], 0), ([0.0042], 4), ([0.0], 2),
    ([None, float("nan")], 2), ([], 2), ([-12.5, 3], 1)])
def test_decimals_follow_the_largest_value(values, places):
    assert tables.digits(values) == places


@pytest.mark.parametrize("value, places, text", [
    (0.806, 2, "0.81"), (-0.001, 2, "0.00"), (-0.5, 2, "−0.50"), (1690.2, 0, "1,690"), (3e-9, 10, "3e−09"),
    (0, 2, "0.00")])
def test_numbers_as_written(value, places, text):
    assert tables.number(value, places) == text


def test_units_stand_beside_names():
    assert tables.named(Metric("a/fit", "R²", "")) == "a/fit (R²)"
    assert [tables.named(Metric("a/b", unit, "")) for unit in ("", "1")] == ["a/b", "a/b"]
    assert tables.named(Metric("a/bits", "bits", ""), "bits") == "bits"
