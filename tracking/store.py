"""The connection to MLflow: which store, quiet, and with an answer within seconds.

The default store is `sqlite:///<project>/mlflow.db`; `MLFLOW_TRACKING_URI` names another one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PREFIX = "reuse_sim/"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # else the page is laid out for chat traces
DEADLINE_S = 8.0
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Set where the user has not: MLflow's own patience is 7 tries of 120 s each."""


class Unreachable(Exception):
    """The tracking store cannot be used; the text is one line a user can act on."""


def uri(project: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or the project's own sqlite file."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or f"sqlite:///{project.resolve() / 'mlflow.db'}"


def is_server(address: str) -> bool:
    return urlsplit(address).scheme in ("http", "https")


def connect(project: Path) -> MlflowClient:
    """A client of the tracking store, which is created if it is the project's own and absent.

    Raises Unreachable within seconds where the store does not answer.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    address = uri(project)
    if "://" not in address:
        raise Unreachable(f"MLFLOW_TRACKING_URI is '{address}'; expected http(s)://HOST or sqlite:////PATH")
    _within_deadline(lambda: _probe(address), address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its deprecations are not ours, even where warnings are errors
            from mlflow import MlflowClient

            for noisy in ("mlflow", "alembic"):
                logging.getLogger(noisy).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])
            client = MlflowClient(tracking_uri=address, registry_uri=address)
            client.search_experiments(max_results=1)
    except Exception as error:
        raise Unreachable(_why(error, address)) from error
    return client


def one_line(error: BaseException, project: Path) -> str:
    """Why the store failed, in one line, for a user."""
    return str(error) if isinstance(error, Unreachable) else _why(error, uri(project))


def experiment_name(scenario: str) -> str:
    """One MLflow experiment per scenario: its runs share their columns and charts."""
    return PREFIX + scenario


def experiment_id(client: MlflowClient, project: Path, scenario: str) -> str:
    """The scenario's experiment, created if absent and restored if it was deleted in the UI."""
    name = experiment_name(scenario)
    found = client.get_experiment_by_name(name)
    if found is None:
        local = None if is_server(uri(project)) else (project.resolve() / "mlartifacts" / scenario).as_uri()
        try:
            return client.create_experiment(name, artifact_location=local, tags=KIND)
        except Exception:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def runs(client: MlflowClient, experiments: list[str], condition: str) -> Iterator[Run]:
    """The active runs that meet `condition`, oldest first."""
    token = None
    while experiments and token != "":
        page = client.search_runs(experiments, condition, max_results=500, page_token=token,
                                  order_by=["attributes.end_time ASC"])
        yield from page
        token = page.token or ""


def _within_deadline(call: Callable[[], None], address: str) -> None:
    """Run `call` and wait for `DEADLINE_S` at most; a host that swallows packets never answers."""
    problem: list[BaseException] = []

    def guarded() -> None:
        try:
            call()
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    if thread.is_alive():
        raise Unreachable(f"{_public(address)}: no answer within {DEADLINE_S:.0f} s")
    if problem:
        raise Unreachable(_why(problem[0], address)) from problem[0]


def _probe(address: str) -> None:
    """One plain try before MLflow's own: it tries a database ten times over 100 s."""
    parts = urlsplit(address)
    if is_server(address):
        try:
            urllib.request.urlopen(address.rstrip("/") + "/health", timeout=2 * DEADLINE_S).close()
        except urllib.error.HTTPError as answer:
            answer.close()  # it is there; behind a proxy /health may be closed
    elif parts.scheme == "sqlite":
        if not address.startswith("sqlite:///"):
            raise ValueError("expected sqlite:////PATH")
        with contextlib.closing(sqlite3.connect(address.removeprefix("sqlite:///"))) as connection:
            connection.execute("SELECT name FROM sqlite_master").fetchall()
    elif parts.scheme.split("+")[0] in ("mysql", "postgresql", "mssql"):
        import sqlalchemy

        sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool).connect().close()


def _why(error: BaseException, address: str) -> str:
    """`ADDRESS: what went wrong`, on one line and without the address's password."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{_public(address)}: {text.replace(address, _public(address))[:300]}"


def _public(address: str) -> str:
    secret = urlsplit(address).netloc.rpartition("@")[0]
    return address.replace(f"{secret}@", "") if secret else address
