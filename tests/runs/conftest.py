"""A temporary project with a fake experiment, and ways to run its scenario."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENARIO = """\
experiment: fake_experiment
title: A fake
question: Does it run?
seeds: 3
width: 8
sweep: {share: [0.2, 0.6]}
arms: {none: {}, more: {steps: 200}}
expect:
  - {id: far, sentence: It goes far., metric: inheritance/causal_private, arm: more,
     where: {share: 0.6}, supported: {low: 0.3}, refuted: {high: 0.1}}
smoke: {seeds: 1}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder with `fake.yaml`: 2 sweep points, 3 seeds, 2 arms."""
    (tmp_path / "pyproject.toml").touch()
    shutil.copy(Path(__file__).with_name("fake_experiment.py"), tmp_path)
    (tmp_path / "fake.yaml").write_text(SCENARIO)
    return tmp_path


@pytest.fixture
def start(project: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts `python ARGS` in the project, in a process group of its own."""

    def begin(*args: str, **more) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        options = {**pipes, "cwd": project, "env": env, "start_new_session": True, **more}
        return subprocess.Popen([sys.executable, *args], **options)

    return begin


@pytest.fixture
def cli(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m reuse_sim ARGS` in the project to its end."""

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        process = start("-m", "reuse_sim", *args)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    return call
