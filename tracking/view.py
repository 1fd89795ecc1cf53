"""The MLflow runs page as it should open: one sweep, chart mode, bars by arm, headlines on top.

MLflow shows ten runs and an alphabet of charts by default. A page's state can be kept in a tag of
the experiment (`mlflow.sharedViewState.KEY`, what its Share button writes) and opened by the key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from reuse_sim.record import Sweep
from tracking.codec import DIAGNOSTICS

TAG = "mlflow.sharedViewState."
LIMIT = 5000  # characters of a tag of an experiment, in every MLflow since 3.0


def tag(sweep: Sweep) -> tuple[str, str]:
    """The experiment tag that holds the page's state: its name and its value."""
    names = [m.name for m in sweep.metrics]
    while True:
        text = json.dumps(state(sweep, names), separators=(",", ":"))
        if len(text) <= LIMIT or not names:
            return TAG + sweep.sweep_id, text
        names.pop()  # the page adds charts for what is left out, after the others


def path(experiment_id: str, sweep_id: str) -> str:
    """The page's address below the server's: the runs view in chart mode, filtered by sweep."""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={sweep_id}&compareRunsMode=CHART"


def state(sweep: Sweep, names: Iterable[str]) -> dict[str, Any]:
    """The state of the page: filter, order, columns, groups and charts of the metrics `names`."""
    headlines = {m.name for m in sweep.metrics if m.headline}
    swept = [axis for axis, values in sweep.axes.items() if len(values) > 1]
    first = [n for n in names if n in headlines]
    rest = [n for n in names if n not in headlines]
    sections = [*dict.fromkeys(["headlines" if first else "", *map(_section, rest)]), DIAGNOSTICS.rstrip("/"), ""]
    shown = [s for s in dict.fromkeys(sections) if s] + ["Model metrics"]
    charts = [_bar(n, "headlines") for n in first] + [_bar(n, _section(n)) for n in rest]
    return {
        "searchFilter": f"tags.sweep_id = '{sweep.sweep_id}' AND tags.kind = 'record'",
        "orderByKey": "attributes.end_time",
        "orderByAsc": True,
        "startTime": "ALL",
        "selectedColumns": [f"params.`{p}`" for p in (*swept, "arm", "seed")] + [f"metrics.`{n}`" for n in first],
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": {"aggregateFunction": "average",
                    "groupByKeys": [{"mode": "param", "groupByData": p} for p in (*swept, "arm")]},
        "groupsExpanded": {},
        "useGroupedValuesInCharts": True,
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": s, "name": s, "display": s != "diagnostics", "isReordered": True} for s in shown],
        "isAccordionReordered": True,
    }


def _section(name: str) -> str:
    return name.rpartition("/")[0] or "Model metrics"


def _bar(name: str, section: str) -> dict[str, Any]:
    label = name if section == "headlines" else name.rpartition("/")[2]
    return {"type": "BAR", "uuid": name, "metricSectionId": section, "metricKey": name, "displayName": label,
            "runsCountToCompare": 100, "deleted": False, "isGenerated": True}
