"""A made-up sweep with known means: four arms with known effects, worlds scattered by a fixed rule."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reuse_sim.record import Band, Expectation, Metric, RunRecord, Sweep, to_json

ROOT = Path(__file__).parents[2]
METRICS = (
    Metric("human/off_fit", "R²", "How well the human answers off-distribution.", r"R^2(H, f)"),
    Metric("outer/off_fit", "R²", "How well the outer model answers off-distribution."),
    Metric("outer/context_recovery", "R²", "How well the outer model predicts the human off-distribution."),
    Metric("inheritance/causal_private", "1", "Change of answers per change of the human's own, by swapping siblings.",
           r"\sum_k\langle M_k-M,\,H_k-H\rangle\,/\,\sum_k\lVert H_k-H\rVert^2", headline=True),
    Metric("inheritance/contrast", "1", "What the model carries of this human's own failures.",
           r"\sum_w\langle M-f,Z\rangle\,/\,\sum_w\langle H-f,Z\rangle", pooled=True),
    Metric("inheritance/causal_total", "1", "Change of answers when the human is repaired.", headline=True),
    Metric("specialness/bits", "bits", "Share of the prior at least as consistent, in bits."),
)
EFFECT = {"none": 0.0, "placebo": 0.02, "half": 0.35, "all": 0.8, "choice": 0.4, "ceiling": 0.05}


@pytest.fixture
def make_sweep():
    """Builds a header; `axes` and `arms` may be chosen."""

    def make(axes=None, arms=("none", "placebo", "half", "all"), seeds=8, **changes):
        expect = (
            Expectation("reuse", "With all its bits, the outer model reuses the human.", "inheritance/causal_private",
                        "all", Band(low=0.3), Band(high=0.1), minus="placebo", claim="5"),
            Expectation("null", "With no bits, nothing private is inherited.", "inheritance/contrast", "none",
                        Band(-0.15, 0.15)),
        )
        values = dict(
            scenario="made_up", sweep_id="0123456789ab", config_hash="0123456789ab" + "0" * 52, experiment="reuse",
            title="Does the outer model reuse the human?", question="Is a human at hand cheaper than the teacher?",
            method="A teacher is drawn. A human learns it badly. An outer model is handed the human.",
            metrics=METRICS, axes=axes or {}, arms=tuple(arms), expect=expect, seeds=tuple(range(seeds)),
            resolved={"experiment": "reuse", "outer": {"use": "slot", "width": 48}},
            command="reuse-sim run scenarios/made_up.yaml",
            manifest={"versions": {"torch": "2.13.0"}, "threads": 1, "cpu": "x86_64", "seeds": list(range(seeds))},
        )
        return Sweep(**{**values, **changes})

    return make


@pytest.fixture
def make_records():
    """Builds the records of a header: causal effects as in EFFECT, worlds ± 0.1 about them, fits known."""

    def make(sweep):
        points = [dict(zip(sweep.axes, v, strict=True)) for v in itertools.product(*sweep.axes.values())]
        return [_record(sweep, i, p, s, a) for i, p in enumerate(points) for s in sweep.seeds for a in sweep.arms]

    return make


def _record(sweep, i, point, seed, arm):
    scatter = 0.1 * math.sin(7 * seed + 3 * i + len(arm))
    effect = EFFECT.get(arm, 0.5) * (1 - 0.2 * i)
    return RunRecord(
        sweep_id=sweep.sweep_id, params=point, arm=arm, seed=seed, status="ok", reason="",
        metrics={
            "human/off_fit": 0.2 + scatter / 10, "outer/off_fit": 0.5, "outer/context_recovery": 0.9,
            "inheritance/causal_private": effect + scatter, "inheritance/causal_total": 0.9 * effect + scatter / 3,
            "inheritance/contrast": effect, "specialness/bits": 12.5 + 1 / 3,
        },
        diagnostics={"inheritance/contrast/numerator": effect * (1 + seed),
                     "inheritance/contrast/denominator": 1 + seed,
                     "chain": {"r_hat": 1.002, "converged": True}, "notes": ["a", 1]},
        parameters_sha256="ab" * 32, wall_s=0.25 + seed / 100,
    )


@pytest.fixture(scope="session")
def new_store(tmp_path_factory):
    """A project whose store a process of its own has just made, and what that process printed."""
    project = tmp_path_factory.mktemp("new")
    code = "import sys; from pathlib import Path; from tracking import store; store.connect(Path(sys.argv[1]))"
    env = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, str(project)], capture_output=True, text=True, cwd="/", env=env)
    return project, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path, new_store, monkeypatch):
    """A project folder with an empty store: making one takes seconds, copying it nothing."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(new_store[0] / "mlflow.db", tmp_path)
    return tmp_path


@pytest.fixture
def keep(project):
    """Writes a records file as a run leaves it; returns its folder."""

    def write(sweep, records):
        folder = project / "runs" / sweep.scenario / sweep.sweep_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "records.jsonl").write_text("".join(to_json(item) + "\n" for item in (sweep, *records)))
        return folder

    return write


@pytest.fixture
def runs(project):
    """All active runs of the project's store, by task; a task with two runs fails."""

    def read(lifecycle="ACTIVE_ONLY"):
        from mlflow.entities import ViewType

        from tracking import store

        client = store.connect(project)
        ids = [e.experiment_id for e in client.search_experiments()]
        found = client.search_runs(ids, run_view_type=getattr(ViewType, lifecycle), max_results=1000)
        by_task = {r.data.tags["task_key"]: r for r in found}
        assert len(by_task) == len(found)
        return by_task

    return read
