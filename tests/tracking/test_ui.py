"""The MLflow page opens at the sweep that was meant, as charts, and its server goes when we go."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

import pytest

from tracking import codec, reader, store, ui, view
from tracking.recorder import Recorder


@pytest.fixture
def tracked(project, make_sweep, make_records):
    """A project with two sweeps of one scenario."""
    for sweep_id in ("a" * 12, "b" * 12):
        sweep = make_sweep(sweep_id=sweep_id, seeds=1, axes={"outer.width": [24, 48]})
        records = make_records(sweep)
        recorder = Recorder(project, sweep)
        for record in records:
            recorder.add(record)
        assert recorder.synced
        recorder._release()
    return project


def unpacked(value):
    return json.loads(zlib.decompress(base64.b64decode(value.removeprefix("deflate;"))))


def test_the_view_groups_by_arm_and_point_headlines_first(make_sweep, make_records):
    sweep = make_sweep(axes={"population.teachers": [1, "each"], "outer.width": [24, 48]})
    name, value = view.tag(sweep)
    state = unpacked(value)
    assert name == "mlflow.sharedViewState.0123456789ab" and len(value) < 5000
    assert state["searchFilter"] == "tags.sweep_id = '0123456789ab' AND tags.kind = 'mean'"
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "case"}]
    assert {f"tag.case.{codec.tags(r)['case']}" for r in make_records(sweep)} == set(state["groupsExpanded"])
    sections = [s["name"] for s in state["compareRunSections"]]
    assert sections == ["headlines", "human", "outer", "inheritance", "specialness", "diagnostics", "Model metrics"]
    assert {c["metricSectionId"] for c in state["compareRunCharts"]} <= set(sections)
    assert [c["metricKey"] for c in state["compareRunCharts"]][:2] == [
        "inheritance/causal_private", "inheritance/causal_total"]
    assert state["selectedColumns"][:4] == ["params.`population.teachers`", "params.`outer.width`", "params.`arm`",
                                            "params.`seed`"]


@pytest.mark.parametrize("seeds, kind", [(25, "record"), (26, "mean")])
def test_a_sweep_of_more_than_a_page_shows_its_means(make_sweep, seeds, kind):
    assert view.state(make_sweep(seeds=seeds))["searchFilter"].endswith(f"tags.kind = '{kind}'")


@pytest.mark.parametrize("widths, mode", [(5, "SHOW_ALL"), (6, "FIRST_20_RUNS")])
def test_more_bars_than_have_names_are_hidden_at_first(make_sweep, widths, mode):
    assert view.state(make_sweep(axes={"outer.width": list(range(widths))}))["runsHiddenMode"] == mode


def test_the_path_names_the_view(tracked):
    client = store.connect(tracked)
    experiment = client.get_experiment_by_name("reuse_sim/made_up")
    path = ui.view_path(tracked, "a" * 12)
    assert path == (f"/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey={'a' * 12}&compareRunsMode=CHART"
                    "&workflowType=machine_learning")
    assert unpacked(experiment.tags[f"mlflow.sharedViewState.{'a' * 12}"])["searchFilter"].startswith("tags.sweep_id")
    assert ui.view_path(tracked) == ui.view_path(tracked, scenario="made_up") == path.replace("a" * 12, "b" * 12)


@pytest.mark.parametrize("sweep_id, scenario", [("c" * 12, None), (None, "unheard")])
def test_what_is_not_there_is_said(tracked, sweep_id, scenario):
    with pytest.raises(store.Unreachable, match=f"no runs of {scenario or sweep_id}"):
        ui.view_path(tracked, sweep_id, scenario)


def test_a_server_that_runs_already_is_used(tracked, monkeypatch):
    monkeypatch.setattr(reader, "locate", lambda *args: ("a" * 12, "7"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org/")
    said, opened = [], []
    monkeypatch.setattr(ui.webbrowser, "open", opened.append)
    ui.open_ui(tracked, None, None, None, True, said.append)
    assert said == opened == ["https://mlflow.example.org" + view.path("7", "a" * 12)]


def test_a_taken_port_is_said(tracked):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(store.Unreachable, match=f"port {port} is taken"), ui.served(tracked, port):
            pass
        assert ui._free_port(port) != port


@contextlib.contextmanager
def ended(child):
    """Ctrl-C on leaving, however the test goes."""
    try:
        yield
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(120)


@pytest.mark.slow
def test_serve_record_through_it_and_leave_nothing(tracked, tmp_path, make_sweep, make_records, monkeypatch):
    """The whole way over HTTP: records, artifacts and reading, and Ctrl-C ends server and workers."""
    # Where the tests run in the background of a script Ctrl-C is ignored, by all that they start, too.
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from pathlib import Path; from tracking.ui import open_ui; "
            "open_ui(Path(sys.argv[1]), None, None, int(sys.argv[2]), False, lambda url: print(url, flush=True))")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    child = subprocess.Popen([sys.executable, "-c", code, str(tracked), str(port)], stdout=subprocess.PIPE, text=True,
                             cwd=tracked, env={**os.environ, "PYTHONPATH": str(Path(ui.__file__).parents[1])})
    assert child.stdout
    with child.stdout, ended(child):
        url = child.stdout.readline().strip()
        assert url == f"http://127.0.0.1:{port}" + ui.view_path(tracked)
        with urllib.request.urlopen(urllib.parse.urldefrag(url).url) as page:
            assert b"<title>MLflow</title>" in page.read()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        sweep = make_sweep(scenario="over_http", seeds=2)
        records = make_records(sweep)
        recorder = Recorder(tmp_path, sweep)
        for record in records:
            recorder.add(record)
        recorder.close(records, None)
        assert recorder.synced, recorder.reason
        ((header, found),) = reader.read(tmp_path, "over_http")
        assert header == sweep and sorted(r.task_key for r in found) == sorted(r.task_key for r in records)
    assert child.returncode == 0
    assert list((tracked / "mlartifacts").rglob("report.md"))
    deadline = time.monotonic() + 10
    while not ui._is_free(port):
        assert time.monotonic() < deadline
        time.sleep(0.1)
