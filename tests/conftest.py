"""One thread per test process, and a clean Pyro parameter store for every test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

# Before anything imports mlflow or opens a figure.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MPLBACKEND="Agg", OMP_NUM_THREADS="1")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("same every time", derandomize=True, deadline=None)
settings.load_profile("same every time")


@pytest.fixture(autouse=True)
def clean_pyro() -> Iterator[None]:
    yield
    if "pyro" in sys.modules:
        sys.modules["pyro"].clear_param_store()
