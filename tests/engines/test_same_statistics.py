"""In float32 trajectories of two engines part; what is measured must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from reuse_sim import scenario
from reuse_sim.artifacts import Store

pytest.importorskip("numba", reason="the numba engine is an extra: pip install '.[fast]'")

SEEDS = 50
LEVEL = 0.01
HEADLINES = ("inheritance/causal_private", "inheritance/causal_total", "inheritance/contrast", "human/off_fit",
             "human/on_fit", "human/own_failure_share")  # fmt: skip


SCENARIO = """
experiment: reuse
title: The same from both engines?
question: Do humans trained by one engine differ from those trained by the other?
seeds: 1
world: {{use: radius, sines: 4}}
population: {{teachers: each, humans: 48, held_out: 12, siblings: 4}}
human: {{use: descent, width: 6, steps: 450, rate: 0.01, batch: 32, engine: {engine}}}
leak: {{use: prefix, bits: 16, of: own}}
outer: {{use: context, width: 12}}
training: {{steps: 300, rate: 0.01, batch: 8, off_batch: 8, humans_per_step: 20, behaviour_weight: 0}}
questions: 300
arms: {{all: {{}}}}
"""


def figures(engine: str, seeds: range, folder: Path) -> dict[str, np.ndarray]:
    """The headlines of that many worlds whose humans were trained by one engine."""
    (file := folder / f"{engine}.yaml").write_text(SCENARIO.format(engine=engine))
    loaded = scenario.load(file)
    arms, store = loaded.cells()[0].arms, Store(folder / engine)
    found = [loaded.module.cell(arms, seed, store)["all"].metrics for seed in seeds]
    return {name: np.array([metrics[name] for metrics in found]) for name in HEADLINES}


@pytest.mark.slow
def test_no_headline_tells_one_engine_from_the_other(tmp_path):
    ours = figures("numba", range(SEEDS), tmp_path)
    other = figures("torch", range(SEEDS, 2 * SEEDS), tmp_path)  # other worlds: two independent samples
    found = {name: ks_2samp(ours[name], other[name]).pvalue for name in HEADLINES}
    assert min(found.values()) > LEVEL / len(HEADLINES), found
    # The same test tells a shift of one standard deviation.
    moved = {name: ks_2samp(ours[name], other[name] + other[name].std()).pvalue for name in HEADLINES}
    assert max(moved.values()) < LEVEL, moved
    for n in HEADLINES:
        print(f"{n}: {ours[n].mean():.3f} and {other[n].mean():.3f}, sd {ours[n].std():.3f}, p {found[n]:.2f}")
