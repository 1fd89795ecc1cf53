"""Sweeps and records back from MLflow, as they were sent: what the pages of `docs/results` are made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reuse_sim.record import RunRecord, Sweep
from tracking import codec, store
from tracking.records import in_order

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def read(project: Path, scenario: str | None = None) -> list[tuple[Sweep, list[RunRecord]]]:
    """The latest sweep of each scenario (or of one), by name; records in the order of the scenario file.

    A sweep that was broken off counts only where no other is there. Raises store.Unreachable where
    the store does not answer or holds something else than was sent.
    """
    client = store.connect(project)
    try:
        ids = _experiments(client, scenario)
        found = [r for r in store.runs(client, ids, "tags.kind = 'summary'") if "record_sha256" in r.data.tags]
        found.sort(key=lambda r: r.info.status != "KILLED")  # a stable sort: otherwise oldest first
        newest: dict[str, Run] = {r.data.tags["scenario"]: r for r in found}
        return [_sweep(client, newest[name]) for name in sorted(newest)]
    except Exception as error:
        raise store.Unreachable(store.one_line(error, project)) from error


def locate(project: Path, sweep_id: str | None, scenario: str | None) -> tuple[str, str]:
    """The sweep that was meant and the experiment it is in; the latest where `sweep_id` is None.

    Raises store.Unreachable where there is none.
    """
    client = store.connect(project)
    try:
        condition = f"tags.sweep_id = '{sweep_id}'" if sweep_id else "tags.sweep_id != ''"
        page = client.search_runs(_experiments(client, scenario), condition, max_results=1)
    except Exception as error:
        raise store.Unreachable(store.one_line(error, project)) from error
    if not page:
        what = f"of {scenario or sweep_id}" if scenario or sweep_id else "of any scenario"
        raise store.Unreachable(f"no runs {what} are tracked; `reuse-sim sync` sends what was run here")
    return page[0].data.tags["sweep_id"], page[0].info.experiment_id


def _experiments(client: MlflowClient, scenario: str | None) -> list[str]:
    return [e.experiment_id for e in client.search_experiments(filter_string=f"name LIKE '{store.PREFIX}%'")
            if scenario is None or e.name == store.experiment_name(scenario)]


def _sweep(client: MlflowClient, summary: Run) -> tuple[Sweep, list[RunRecord]]:
    sweep = codec.sweep(summary)
    condition = f"tags.sweep_id = '{sweep.sweep_id}' AND tags.kind = 'record'"
    records = [codec.record(run) for run in store.runs(client, [summary.info.experiment_id], condition)]
    return sweep, in_order(sweep, records)
