"""What the docs show works, and what there is stands in the docs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import reuse_sim
from reuse_sim import scenario
from reuse_sim.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def text_of(folder: str) -> str:
    return "\n".join(p.read_text() for p in sorted((DOCS / folder).glob("*.md")))


def modules() -> list[str]:
    files = [p for package in ("reuse_sim", "tracking") for p in (ROOT / package).rglob("*.py")]
    return sorted(".".join(p.relative_to(ROOT).with_suffix("").parts) for p in files if not p.stem.startswith("__"))


@pytest.mark.parametrize("module", modules())
def test_every_module_has_its_place_in_the_api(module: str) -> None:
    assert re.search(rf"^\.\. automodule:: {re.escape(module)}$", text_of("api"), re.M)


def test_no_page_of_the_api_is_of_a_module_that_is_gone() -> None:
    written = set(re.findall(r"^\.\. automodule:: (\S+)$", text_of("api"), re.M))
    packages = {f"reuse_sim.{name}" for name in ("specialness", "engines", "bench", "testing")}
    assert written <= {*modules(), "reuse_sim", *packages}


@pytest.mark.parametrize("command", [c.name or c.callback.__name__ for c in app.registered_commands if c.callback])
def test_every_command_is_explained(command: str) -> None:
    assert f"reuse-sim {command}" in text_of("howto")


def test_the_scenario_of_the_docs_is_one(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "howto" / "scenario.md").read_text(), re.S)
    (whole,) = [b for b in blocks if "experiment:" in b]
    file = tmp_path / "mine.yaml"
    file.write_text(whole)
    loaded = scenario.load(file)
    assert [e.id for e in loaded.expect] == ["wide"]
    assert len(loaded.points()) == 3 and loaded.arms == ("none", "placebo", "all", "ceiling")
    assert len(scenario.load(file, smoke=True).points()) == 2


SKELETONS_AT_WORK = """
experiment: reuse
seeds: 2
world: {use: my_world:build, d: 2}
population: {siblings: 3}
human: {use: my_human:build, width: 4, steps: 100}
leak: {use: my_leak:build, share: 1.0}
outer: {use: my_outer:build, width: 8}
training: {steps: 50}
questions: 100
arms: {placebo: {leak.of: unrelated}, all: {}}
"""


def test_the_skeletons_run_in_a_scenario(tmp_path: Path) -> None:
    for file in (DOCS / "skeletons").glob("my_*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "mine.yaml").write_text(SKELETONS_AT_WORK)
    found = reuse_sim.run(tmp_path / "mine.yaml")
    assert {(r.status, r.reason) for r in found.records} == {("ok", "")} and len(found.records) == 4
    swaps = found.frame().set_index(["arm", "seed"])["inheritance/causal_private"]
    assert swaps.notna().all() and swaps.nunique() == 4
