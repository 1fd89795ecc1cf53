"""The figure of a ledger: which sweeps have one, and that its bars are the entries."""

from __future__ import annotations

import pytest

from reuse_sim.experiments import ledger
from reuse_sim.record import RunRecord
from tracking import report, waterfall

ENTRIES = {"dear": (50.0, 70.0, 40.0), "cheap": (20.0, 55.0, 62.0)}
"""|θ1|, |θ2| and S by arm; heads take 1 bit and 3."""


@pytest.fixture
def ledgers(make_sweep):
    header = make_sweep(arms=tuple(ENTRIES), metrics=ledger.METRICS, expect=())
    records = []
    for seed in range(3):
        for arm, (teacher, human, s) in ENTRIES.items():
            more = seed - 1.0  # worlds differ in θ1 alone
            total = teacher + more + human + 1
            values = {"ledger/teacher_bits": teacher + more, "ledger/human_bits": human, "specialness/bits": s,
                      "ledger/plain_bits": total, "ledger/reuse_bits": human + 3, "ledger/intended_bits": total - s}
            records.append(RunRecord(header.sweep_id, {}, arm, seed, "ok", "", values, {}, "", 0.0))
    return header, records


def test_bars_are_the_entries_and_the_given_back_ends_where_the_rest_begins(ledgers, tmp_path) -> None:
    header, records = ledgers
    drawn = waterfall.draw(header, waterfall.ledgers(header, records))
    (ax,) = drawn.axes
    bars = [(round(b.get_x(), 6), round(b.get_width(), 6)) for b in ax.patches]
    # Reuse: |θ2| and head H. Intended: |θ2|, |θ1|, head f, and S back from the end of them.
    assert bars[:6] == [(0, 70), (70, 3), (0, 70), (70, 50), (120, 1), (81, 40)]
    assert bars[6:] == [(0, 55), (55, 3), (0, 55), (55, 20), (75, 1), (14, 62)]
    words = [" ".join(t.get_text().split()) for t in ax.texts]
    assert words == ["reuse by 8 bits", "intended by 44 bits"]
    assert waterfall.write(header, records, tmp_path, "x-") == "x-waterfall"
    assert {p.name for p in tmp_path.iterdir()} == {"x-waterfall.svg", "x-waterfall.png"}


def test_worlds_that_do_not_count_are_left_out(ledgers, make_sweep, tmp_path) -> None:
    header, records = ledgers
    undecided = [RunRecord(r.sweep_id, {}, r.arm, r.seed, "undecided", "why", r.metrics, {}, "", 0.0) for r in records]
    assert waterfall.write(header, undecided, tmp_path) is None
    mixed = waterfall.ledgers(header, [*undecided[:2], *records[2:]])
    assert mixed["{}", "dear"]["worlds"] == 2 and mixed["{}", "dear"]["teacher"] == pytest.approx(50.5)
    assert waterfall.write(make_sweep(), [], tmp_path) is None and not list(tmp_path.iterdir())


def test_the_page_shows_it_first(ledgers, tmp_path) -> None:
    header, records = ledgers
    text = report.write(header, records, tmp_path).read_text()
    assert "(figures/waterfall.svg)" in text


def test_nobody_is_shorter_where_the_interval_holds_nothing() -> None:
    sure = {"reuse": 50.0, "intended": 20.0, "low": 21.0, "high": 39.0}
    assert waterfall._verdict(sure)[1] == "  intended\n  by 30 [21, 39] bits"
    assert waterfall._verdict({**sure, "low": -2.0, "high": 62.0})[1] == "  not told apart\n  30 [−2, 62] bits"
    dear = {"reuse": 20.0, "intended": 50.0, "low": -39.0, "high": -21.0}
    assert waterfall._verdict(dear)[1] == "  reuse\n  by 30 [21, 39] bits"
