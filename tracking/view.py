"""The MLflow runs page as it should open: one sweep, chart mode, bars by arm, headlines on top.

MLflow shows ten runs and an alphabet of charts by default. A page's state can be kept in a tag of
the experiment (`mlflow.sharedViewState.KEY`, what its Share button writes) and opened by the key.
The page loads 100 runs and averages what it has loaded: of a sweep with more records it shows the runs of
kind `mean` instead, one per arm and sweep point.
"""

from __future__ import annotations

import base64
import itertools
import json
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from reuse_sim.record import Sweep
from tracking.codec import case
from tracking.limits import expected

TAG = "mlflow.sharedViewState."
PAGE = 100
BARS = 20
UNNAMED = "Model metrics"  # the page's own name for metrics without a slash


def tag(sweep: Sweep) -> tuple[str, str]:
    """The experiment tag that holds the page's state: its name and its value, packed as MLflow does."""
    packed = zlib.compress(json.dumps(state(sweep)).encode())
    return TAG + sweep.sweep_id, "deflate;" + base64.b64encode(packed).decode()


def path(experiment_id: str, sweep_id: str) -> str:
    """The page's address below the server's: the runs view in chart mode, filtered by sweep."""
    query = {"viewStateShareKey": sweep_id, "compareRunsMode": "CHART", "workflowType": "machine_learning"}
    return f"/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def state(sweep: Sweep) -> dict[str, Any]:
    """Filter, order, columns, groups and charts of the page."""
    headlines = [m.name for m in sweep.metrics if m.headline]
    rest = [m.name for m in sweep.metrics if not m.headline]
    sections = dict.fromkeys([*(["headlines"] if headlines else []), *map(_section, rest), "diagnostics", UNNAMED])
    columns = [*(f"params.`{p}`" for p in (*sweep.axes, "arm", "seed")), *(f"metrics.`{n}`" for n in headlines)]
    cases, kind = list(_cases(sweep)), "record" if expected(sweep) <= PAGE else "mean"
    return {
        "searchFilter": f"tags.sweep_id = '{sweep.sweep_id}' AND tags.kind = '{kind}'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "startTime": "ALL",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {c: 40 + 7 * len(c) for c in columns},
        "runsHiddenMode": "SHOW_ALL" if len(cases) <= BARS else "FIRST_20_RUNS",  # more bars have no room for names
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "case"}]},
        "groupsExpanded": {f"tag.case.{case}": False for case in cases},
        "compareRunCharts": [*(_bar(n, "headlines") for n in headlines), *(_bar(n, _section(n)) for n in rest)],
        "compareRunSections": [
            {"uuid": s, "name": s, "display": s != "diagnostics", "isReordered": True} for s in sections],
        "isAccordionReordered": True,
    }


def _cases(sweep: Sweep) -> Iterator[str]:
    for arm, *values in itertools.product(sweep.arms, *sweep.axes.values()):
        yield case(arm, dict(zip(sweep.axes, values, strict=True)))


def _section(name: str) -> str:
    return name.rpartition("/")[0] or UNNAMED


def _bar(name: str, section: str) -> dict[str, Any]:
    return {"type": "BAR", "uuid": name, "metricSectionId": section, "metricKey": name,
            "displayName": name.rpartition("/")[2], "runsCountToCompare": 100, "deleted": False, "isGenerated": True}
