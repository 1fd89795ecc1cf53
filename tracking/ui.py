"""The MLflow page: a server for the project's store, opened at one sweep's runs in chart mode."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

from tracking import reader, store, view

START_S = 120.0


def open_ui(project: Path, sweep_id: str | None, scenario: str | None, port: int | None, browser: bool,
            notice: Callable[[str], None]) -> None:
    """Show the runs page of a sweep, or of the latest one; serves until interrupted.

    Args:
        sweep_id, scenario: which sweep; None takes the latest.
        port: where to serve on 127.0.0.1; None takes 5000 or, if that is taken, a free one.
        browser: open the page in the user's browser.
        notice: told the address once it answers.

    With `MLFLOW_TRACKING_URI` at a server nothing is started. Raises store.Unreachable where there is
    nothing to show, the store does not answer or the server does not start.
    """
    path = view_path(project, sweep_id, scenario)
    address = store.uri(project)
    if store.is_server(address):
        _show(address.rstrip("/") + path, browser, notice)
        return
    for number in (signal.SIGTERM, signal.SIGHUP):  # else these would end us and leave the server behind
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    with served(project, port) as (base, server), contextlib.suppress(KeyboardInterrupt):
        _show(base + path, browser, notice)
        server.wait()
        raise store.Unreachable(f"the MLflow server ended with exit code {server.returncode}")


def view_path(project: Path, sweep_id: str | None = None, scenario: str | None = None) -> str:
    """The address, below the server's, of the sweep's runs page in chart mode. Raises store.Unreachable."""
    sweep_id, experiment = reader.locate(project, sweep_id, scenario)
    return view.path(experiment, sweep_id)


@contextlib.contextmanager
def served(project: Path, port: int | None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An MLflow server on the project's store, ended on leaving; yields its address and process."""
    port = port or _free_port(5000)
    base = f"http://127.0.0.1:{port}"
    if not _is_free(port):
        raise store.Unreachable(f"port {port} is taken; choose another")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri(project),
               "--artifacts-destination", (project.resolve() / "mlartifacts").as_uri(), "--host", "127.0.0.1",
               "--port", str(port), "--workers", "1"]
    # Its own session: ending it must end its workers too, and Ctrl-C is ours to handle.
    child = subprocess.Popen(command, env={**store.QUIET, **os.environ}, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait(child, base)
        yield base, child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _wait(child: subprocess.Popen[bytes], base: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise store.Unreachable(f"the MLflow server ended with exit code {child.returncode}")
        try:
            urllib.request.urlopen(f"{base}/health", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise store.Unreachable(f"the MLflow server did not answer within {START_S:.0f} s")


def _show(url: str, browser: bool, notice: Callable[[str], None]) -> None:
    notice(url)
    if browser:
        webbrowser.open(url)


def _is_free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return s.connect_ex(("127.0.0.1", port)) != 0


def _free_port(wanted: int) -> int:
    if _is_free(wanted):
        return wanted
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
