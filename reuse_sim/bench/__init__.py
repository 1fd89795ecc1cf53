"""How fast the engines are beside other tools, and how far from what the machine can do: `reuse-sim bench`.

All variants of a table do the same work in turn, A B A B …, on one core of one process; figures are medians of
processor seconds, ratios medians of ratios within a round. Nothing here is a test: machines differ.
"""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from reuse_sim.bench import estimators, sampling, training
from reuse_sim.errors import InputError, nearest

NAMES = {"train": training, "sample": sampling, "specialness": estimators}


def run(name: str, rounds: int) -> dict[str, Any]:
    """`{"rows": […], "machine": {…}}` of one benchmark.

    In a row `ratio_to_x` is x's time per this variant's (above 1: faster than x) and `share_of_peak` the time of
    its multiply-adds alone per its time. Raises InputError for an unknown name.
    """
    if name not in NAMES:
        raise InputError("bench", repr(name), " or ".join(NAMES), nearest(name, NAMES))
    return NAMES[name].bench(rounds)


def show(name: str, result: dict[str, Any], to: Console) -> None:
    """The rows as tables."""
    for table, columns in NAMES[name].COLUMNS.items():
        shown = Table(*(c.replace("_", " ") for c in columns), box=SIMPLE_HEAD, title=table, title_justify="left")
        for row in (r for r in result["rows"] if r["table"] == table):
            shown.add_row(*(_cell(row.get(c)) for c in columns))
        to.print(shown)
    machine = result["machine"]
    peak = f": {machine['peak_gflops']:.0f} GF/s of multiply-adds on one core" if "peak_gflops" in machine else ""
    to.print(f"{machine['cpu']}{peak}", markup=False)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
