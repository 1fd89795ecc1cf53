"""The page of all claims: what each says, what decides it, and what the results pages found.

Claims are listed in `scenarios/claims.toml`, verdicts are read from the pages' own tables: none is typed. A claim is
supported, or refuted, where every figure that decides it says so; families that disagree are left side by side.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking.tables import plural, table

LIST = Path("scenarios") / "claims.toml"
CONFIRMATORY, EXPLORATORY = 20, 8
"""Worlds that a verdict needs."""
COUNTS = "supported above 0.85, refuted below 0.15"
"""Limits of a share of worlds that stand for counts: 17 of 17, or 29 of 30, one way or the other."""
MOST = 6
"""Figures of one verdict that are listed; of more their number is told."""
_ROW = re.compile(r"^\| \*\*(?P<id>[^*]+)\*\* \(claim (?P<claim>\w+)\): (?P<says>.*?) \| (?P<by>.*?) \| "
                  r"(?P<limits>.*?) \| (?P<points>.*) \|$")
_POINT = re.compile(r"(?:at (?P<at>.*?): )?(?P<found>[^:]*?): \*\*(?P<verdict>\w+)\*\*")
_NUMBER = r"[−-]?[\d.,]+(?:e[−-]?\d+)?"


@dataclass(frozen=True)
class Row:
    """One decided figure of a results page: value and limits are None where it has none."""

    page: str
    id: str
    claim: str
    verdict: str
    found: str
    limits: str
    value: float | None
    low: float | None
    high: float | None
    n: int


def write(project: Path) -> Path | None:
    """Write docs/claims.md from the pages in docs/results; None in a project without a list of claims."""
    source = project / LIST
    if not source.exists():
        return None
    claims = tomllib.loads(source.read_text(encoding="utf-8"))["claim"]
    path = project / "docs" / "claims.md"
    path.write_text(page(claims, rows(project / "docs" / "results")), encoding="utf-8")
    return path


def rows(folder: Path) -> list[Row]:
    """Every figure in the claim tables of the pages in `folder` that names a claim."""
    found = []
    for path in sorted(folder.glob("*.md")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if m := _ROW.match(line):
                found += [_row(path.stem, m, point) for point in m["points"].split("<br>")]
    return found


def _row(page: str, row: re.Match[str], point: str) -> Row:
    """What a line says of one point."""
    m = _POINT.match(point)
    if m is None:
        raise ValueError(f"docs/results/{page}.md, claim {row['id']}: got {point!r}; expected FIGURE: **VERDICT**")
    numbers = re.match(rf"({_NUMBER})(?: \[({_NUMBER}), ({_NUMBER})\])?", m["found"])
    value, low, high = (_float(x) for x in numbers.groups()) if numbers else (None, None, None)
    n = re.search(r"(\d+) \w+$", m["found"])
    name = f"{row['id']} at {m['at']}" if m["at"] else row["id"]
    return Row(page, name, row["claim"], m["verdict"], m["found"], row["limits"], value, low, high,
               int(n[1]) if n else 0)  # fmt: skip


def page(claims: Sequence[Mapping[str, Any]], found: Sequence[Row]) -> str:
    """The page's text."""
    by_claim = {c["id"]: [r for r in found if r.claim == c["id"]] for c in claims}
    adjusted = holm([r for c in claims if c.get("confirmatory") for r in by_claim[c["id"]]])
    verdicts = {c["id"]: verdict(c, by_claim[c["id"]], adjusted) for c in claims}
    counts = Counter(verdicts.values())
    return "\n\n".join([
        "# All claims",
        "Every sentence of the thought experiment that can be true or false, in its order, with thresholds that were "
        "written before the runs. Verdicts come from the tables of the [results pages](results/index.md).",
        "; ".join(f"{n} {said}" for said, n in sorted(counts.items(), key=lambda p: -p[1])) + ".",
        f"A claim is supported, or refuted, where every figure that decides it is, on {EXPLORATORY} worlds or more; "
        f"those marked • ask for {CONFIRMATORY}, and their decided figures are adjusted together (Holm, 5 %), counts "
        "of worlds as signs: what that does not leave decided is undecided. *Partly*: other figures leave it undecided."
        " *Mixed*: some support it and some refute it, mostly of other worlds or sizes; but where a claim says that one"
        " figure refutes it, one does.",
        table(["", "claim", "verdict"], ([f"[{_id(c)}](#claim-{c['id']})", c["says"], verdicts[c["id"]]]
                                         for c in claims)),
        *(text for c in claims for text in _section(c, by_claim[c["id"]], verdicts[c["id"]], adjusted)),
    ]) + "\n"


def least(claim: Mapping[str, Any]) -> int:
    """Worlds that a figure needs to decide this claim."""
    return int(claim.get("worlds", CONFIRMATORY if claim.get("confirmatory") else EXPLORATORY))


def verdict(claim: Mapping[str, Any], found: Sequence[Row], adjusted: Mapping[tuple[str, str], bool]) -> str:
    """What the figures say together; a figure that is not decided any more once `adjusted` is undecided."""
    enough = {r.verdict if adjusted.get((r.page, r.id), True) else "undecided" for r in found if r.n >= least(claim)}
    if claim["kind"] == "O":
        return "opinion"
    if not found:
        return "checked" if claim.get("checked") else "not measured"
    if not enough:
        return "too few worlds"
    if "refuted" in enough and claim.get("refuted_by") == "one":
        return "refuted"
    if {"supported", "refuted"} <= enough:
        return "mixed"
    decided = enough - {"undecided"}
    if not decided:
        return "undecided"
    return decided.pop() if len(enough) == 1 else f"partly {decided.pop()}"


def holm(found: Iterable[Row], level: float = 0.05) -> dict[tuple[str, str], bool]:
    """Whether each decided figure still is when all are adjusted together (Holm 1979), by page and id.

    p is that of the t-test against the nearest threshold, two-sided, from the interval as it is written, on that side;
    of counts of worlds, that of the sign test, for no sweep of twenty worlds could lie so far beyond its threshold.
    """
    p = {(r.page, r.id): p_value(r) for r in found if r.verdict != "undecided"}
    kept, holds = {}, True
    for k, (key, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        holds = holds and value <= level / (len(p) - k)
        kept[key] = holds
    return kept


def p_value(row: Row) -> float:
    """Two-sided p of the figure lying beyond the nearest limit of the band it was decided by; 1 where unknown.

    Of counts, of their being no more than a coin's throw.
    """
    from scipy import stats

    if row.value is None or row.low is None or row.high is None or row.n < 2:
        return 1.0
    if row.limits == COUNTS:
        return float(stats.binomtest(round(row.n * row.value), row.n).pvalue)
    band = re.search(rf"{row.verdict} (above|below|within) (.*?)(?:, (?:supported|refuted)|$)", row.limits)
    limits = [y for x in re.findall(_NUMBER, band[2]) if (y := _float(x)) is not None] if band else []
    if not limits:
        return 1.0
    value, low, high = row.value, row.low, row.high
    nearest = min(limits, key=lambda x: abs(value - x))
    room, half = abs(value - nearest), value - low if nearest < value else high - value
    error = half / float(stats.t.ppf(0.975, row.n - 1))
    return float(2 * stats.t.sf(room / error, row.n - 1)) if error > 0 else 0.0 if room else 1.0


def _section(
    claim: Mapping[str, Any], found: Sequence[Row], said: str, adjusted: Mapping[tuple[str, str], bool]
) -> Iterator[str]:
    """Heading, thresholds, and per page its figures by verdict."""
    yield f"(claim-{claim['id']})="
    yield f"## {_id(claim)} {claim['says']}"
    yield f"**{said.capitalize()}.**" + (f" Decided by {claim['by']}." if "by" in claim else "")
    limits = [f"{kind}: {claim[kind]}" for kind in ("supported", "refuted") if kind in claim]
    if limits:
        yield f"{'; '.join(limits).capitalize().rstrip('.')}."
    if "checked" in claim:
        yield f"Checked by `{claim['checked']}`."
    if "see" in claim:
        yield "See " + ", ".join(f"[{name}](results/{name}.md)" for name in claim["see"]) + "."
    if "worlds" in claim:
        yield f"Asked on {claim['worlds']} worlds or more."
    lines = []
    for name in dict.fromkeys(r.page for r in found):
        here = [r for r in found if r.page == name]
        parts = []
        for kind in ("supported", "refuted", "undecided"):
            if those := [r for r in here if r.verdict == kind]:
                shown = "; ".join(f"{r.id} {r.found}" for r in those) if len(those) <= MOST else _span(those)
                parts.append(f"{kind}: {shown}")
        lost = [r.id for r in here if adjusted.get((r.page, r.id)) is False]
        few = sum(r.n < least(claim) for r in here)
        parts += [f"not after Holm: {', '.join(lost)}"] * bool(lost)
        parts += [f"{plural(few, 'figure')} on fewer worlds than asked"] * bool(few)
        lines.append(f"- [{name}](results/{name}.md) {'; '.join(parts)}")
    if lines:
        yield "\n".join(lines)


def _id(claim: Mapping[str, Any]) -> str:
    return f"{claim['id']}{'•' if claim.get('confirmatory') else ''}"


def _span(found: Sequence[Row]) -> str:
    fewest, most = min(r.n for r in found), max(r.n for r in found)
    return f"{len(found)} figures on {fewest if fewest == most else f'{fewest} to {most}'} worlds"


def _float(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text.replace("−", "-").replace(",", "").rstrip("."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
