"""A world of a user's own, in under forty lines, gets its card by one command; the card says what the records say."""

from __future__ import annotations

import json

import pytest

import reuse_sim
from reuse_sim import scenario
from reuse_sim.artifacts import Store
from reuse_sim.experiments import people
from reuse_sim.sweep import store_path
from tracking import cards

MY_WORLD = '''\
"""Step: yes where a line is crossed; off-distribution a second line is crossed that humans never saw."""

from dataclasses import dataclass

import torch

from reuse_sim.nets import Mlp, first_logit


@dataclass(frozen=True)
class Step:
    d: int
    kind = "classification"
    shifts = {"beyond": "Questions lie beyond the second line."}
    tolerance = 2.0
    human_answer = staticmethod(first_logit)

    def teacher(self, generators):
        return torch.stack([torch.randn(self.d, generator=g) for g in generators])

    def on_distribution(self, theta_teacher, n, generators):
        return torch.stack([torch.randn(n, self.d, generator=g) for g in generators]).to(theta_teacher)

    def off_distribution(self, theta_teacher, n, generators, strength=1.0):
        x = self.on_distribution(theta_teacher, n, generators)
        along = theta_teacher / theta_teacher.norm(dim=-1, keepdim=True)
        return x + 6 * strength * along.unsqueeze(1)

    def answer(self, theta_teacher, x):
        z = (x @ theta_teacher.unsqueeze(-1)).squeeze(-1) / theta_teacher.norm(dim=-1, keepdim=True)
        return torch.where((z > 0) & (z < 4), 1.0, -1.0).to(x)

    def human_net(self, width):
        return Mlp((self.d, width, 1), "tanh")


def build(d: int = 3) -> Step:
    return Step(d)
'''
SCENARIO = """\
experiment: people
title: How good are humans of my world?
seeds: 2
world: {use: my_world:build}
population: {siblings: 3}
human: {use: descent, width: 4, steps: 400}
questions: 200
arms: {narrow: {}, mild: {strength: 0.0}}
"""


@pytest.fixture
def mine(project):
    (project / "my_world.py").write_text(MY_WORLD)
    (project / "mine.yaml").write_text(SCENARIO)
    return project


def test_a_users_own_world_of_under_forty_lines_has_a_card(mine, tmp_path):
    assert len(MY_WORLD.splitlines()) < 40
    found, loaded = reuse_sim.run(mine / "mine.yaml"), scenario.load(mine / "mine.yaml")
    first, store = loaded.cells()[0], Store(store_path(mine))
    scenes = {arm: people.scene(first.arms[arm], first.seed, store) for arm in loaded.arms}
    assert store.computed == 0 and scenes["narrow"]["parameters_sha256"] == found.records[0].parameters_sha256
    narrow, mild = (p.read_text() for p in cards.write(found.sweep, found.records, scenes, tmp_path / "cards"))
    assert narrow.startswith("# narrow\n\nStep: yes where a line is crossed")
    assert "no `picture`" in narrow and "| shift `beyond` | Questions lie beyond the second line. |" in narrow
    assert "fails off-distribution in every one" in narrow and "use: my_world:build, d: 3}" in narrow
    mean = next(r for r in found.aggregates() if r["arm"] == "narrow")["metrics"]["human/on_fit"]["mean"]
    assert f"| human/on_fit (R² (accuracy)) | {mean:.2f} [" in narrow
    for r in found.records:
        curve = r.diagnostics["curve"]
        asked = 1.0 if r.arm == "narrow" else 0.0
        assert curve["human"][curve["strength"].index(asked)] == r.metrics["human/off_fit"]
    assert "does **not** fail off-distribution" in mild and "A narrower human or a stronger shift" in mild


@pytest.mark.slow
def test_one_command_makes_the_cards(mine, cli):
    done = cli("card", "mine.yaml", "narrow")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["docs/worlds/narrow.md"]
    text = (mine / "docs" / "worlds" / "narrow.md").read_text()
    assert "reuse-sim card mine.yaml narrow" in text
    assert (mine / "docs" / "worlds" / "figures" / "narrow.png").stat().st_size > 5000
    again = cli("card", "mine.yaml")
    assert again.returncode == 0 and "nothing to compute" in again.stderr
    assert "(mild.md): Step: yes" in (mine / "docs" / "worlds" / "index.md").read_text()
    assert len(json.loads(cli("run", "mine.yaml", "--json", "--no-track").stdout)["records"]) == 4


def test_cards_are_of_people_and_of_arms_there_are(mine, cli):
    done = cli("card", "fake.yaml")
    assert done.returncode == 2 and "experiment fake_experiment; expected experiment: people" in done.stderr
    done = cli("card", "mine.yaml", "narow")
    assert done.returncode == 2 and "arm narow; expected one of narrow, mild" in done.stderr
    assert "did you mean 'narrow'?" in done.stderr and not (mine / "docs").exists()
