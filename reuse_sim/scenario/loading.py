"""Scenario files: one YAML file in, one frozen and wholly checked `Scenario` out.

Everything that can be wrong with a scenario is found here, before anything runs: every arm at every
sweep point is validated, and each of its plug-ins is built once. Values come from, later over earlier:
the file's fields, its `smoke:` (where asked for), `--set`, the sweep point, the arm.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from reuse_sim.errors import InputError, nearest
from reuse_sim.modules import import_user_module, is_in_project, module_sha256, project_path, same_source
from reuse_sim.plugins import STRICT, built_ins
from reuse_sim.record import Expectation, Metric
from reuse_sim.scenario import claims, forms
from reuse_sim.scenario.overrides import Override, apply, check, from_document, from_text, settle
from reuse_sim.scenario.reading import Document, read, shown


class Common(BaseModel):
    """The keys of every scenario, beside the fields of its experiment."""

    model_config = ConfigDict(**{**STRICT, "validate_default": False})
    experiment: Annotated[str, Field(description="a built-in experiment, or your own my_pkg.my_experiment")]
    title: Annotated[str, Field(pattern=r"^[^\r\n]*$", description="one line")] = ""
    question: Annotated[str, Field(description="the question, in a sentence or two")] = ""
    seeds: Annotated[int, Field(ge=1, le=100_000, description="number of worlds, each drawn from its own seed")]
    first_seed: Annotated[int, Field(ge=0, le=2**53, description="the first of the seeds, which are consecutive")] = 0
    sweep: Annotated[dict[str, Any], Field(min_length=1, description="lists of values, by dotted path")] = {}
    arms: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w+-]*$")], dict[str, Any]],
        Field(min_length=1, description="for each arm its overrides, as dotted paths or nested mappings"),
    ] = {}
    expect: Annotated[tuple[claims.Claim, ...], Field(description="claims, with thresholds set beforehand")] = ()
    smoke: Annotated[dict[str, Any], Field(description="overrides for --smoke; of seeds and sweep too")] = {}


HEAD = tuple(Common.model_fields)


@dataclass(frozen=True)
class Cell:
    """One sweep point and one seed: one draw of a world, measured in every arm."""

    params: dict[str, Any]
    seed: int
    arms: dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """A scenario with everything checked and filled in.

    `resolved` is plain JSON and decides the results: each arm's complete config at each sweep point, the
    seeds, the hashes of users' modules, the claims' thresholds (no titles, no sentences). `config_hash` is
    its SHA-256. `left_out` names claims of the file whose one sweep point is gone through overrides or the
    smoke form; `expect` has all others. `name` is the file's, with `-smoke` for the smoke form.
    """

    name: str
    path: Path
    project: Path
    experiment: str
    title: str
    question: str
    seeds: tuple[int, ...]
    axes: dict[str, list[Any]]
    arms: tuple[str, ...]
    expect: tuple[Expectation, ...]
    left_out: tuple[str, ...]
    resolved: dict[str, Any] = field(repr=False)
    config_hash: str
    grid: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = field(repr=False)

    def points(self) -> tuple[dict[str, Any], ...]:
        """The swept values of each sweep point; one empty point without a sweep."""
        return tuple(params for params, _ in self.grid)

    def cells(self) -> tuple[Cell, ...]:
        """Every sweep point with every seed, in the order of the sweep."""
        return tuple(Cell(params, seed, arms) for params, arms in self.grid for seed in self.seeds)

    @property
    def module(self) -> ModuleType:
        """The experiment's module: Config, METHOD, METRICS, cell, memory_bytes.

        Raises InputError where a user's module has changed since the scenario was read.
        """
        with project_path(self.project):
            module = experiment_module(self.experiment, str(self.path))
            same_source(module.__name__, self.resolved["experiment_sha256"])
        return module


def load(path: Path | str, overrides: Sequence[str] = (), seeds: int | None = None, smoke: bool = False) -> Scenario:
    """Read and check a scenario file.

    Args:
        overrides: `PATH=VALUE` each, the value in YAML, e.g. `training.behaviour_weight=1`. A swept field is pinned
            to its value; `sweep.PATH=[...]` replaces an axis, `arms.NAME.PATH=...` changes an arm.
        seeds: how many seeds, in place of the file's number.
        smoke: take the smoke form. Without it, the smoke form is checked all the same.

    Raises InputError for the first fault: `file:line:column: dotted.path: got ...; expected ...`.
    """
    document = read(path)
    settings = [o for text in overrides for o in from_text(text)]
    if seeds is not None:
        settings.append(Override(("seeds",), seeds, "--seeds", "--seeds"))
    settle(settings)
    with project_path(find_project(Path(path))):
        scenario = _load(document, settings, smoke)
        if not smoke and "smoke" in document.data:
            _load(document, settings, smoke=True)
    return scenario


def find_project(path: Path) -> Path:
    """The nearest folder above a scenario with a pyproject.toml, else the scenario's own folder."""
    folder = path.resolve().parent
    return next((p for p in (folder, *folder.parents) if (p / "pyproject.toml").exists()), folder)


def experiment_module(name: str, where: str) -> ModuleType:
    """The module of an experiment. Raises InputError, with `where`, if there is none or it lacks a part.

    Beside its parts it may have SHARED, the names of Config's fields that all arms of a cell must have in common, and
    `check(arms)`, which raises InputError where a cell's parts do not fit together.
    """
    known = built_ins("experiments")
    if name in known:
        module = importlib.import_module(f"reuse_sim.experiments.{name}")
    elif "." in name or is_in_project(name):
        try:
            module = import_user_module(name)
        except InputError as e:
            raise InputError(where, e.got, e.expected, e.do) from e
    else:
        raise InputError(where, shown(name), f"one of {', '.join(known)}, or your own my_pkg.my_experiment",
                         nearest(name, known))
    config, metrics = getattr(module, "Config", None), getattr(module, "METRICS", None)
    lacking = [part for part in ("cell", "memory_bytes") if not callable(getattr(module, part, None))]
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        lacking.append("Config (a pydantic model)")
    elif clash := [f for f in config.model_fields if f in Common.model_fields]:
        raise InputError(where, f"the field {clash[0]} in the Config of {name}", "names that scenarios leave free")
    if not isinstance(getattr(module, "METHOD", None), str):
        lacking.append("METHOD (text)")
    if not isinstance(metrics, tuple) or not all(isinstance(m, Metric) for m in metrics):
        lacking.append("METRICS (a tuple of reuse_sim.record.Metric)")
    if lacking:
        raise InputError(where, f"the module {name} without {', '.join(lacking)}", "an experiment")
    return module


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of scenario files, with the built-in experiments and plug-ins."""
    from reuse_sim.scenario.json_schema import build

    return build(Common, {name: experiment_module(name, name).Config for name in built_ins("experiments")})


def _fits(module: ModuleType, arms: dict[str, Any], params: dict[str, Any], document: Document) -> None:
    try:
        getattr(module, "check", lambda arms: None)(arms)
    except InputError as e:
        at = f"(at {', '.join(f'{k}={v}' for k, v in params.items())})" if params else ""
        raise InputError(f"{document.name}: {e.where}", e.got, e.expected, f"{e.do} {at}".strip()) from e


def _load(document: Document, settings: Sequence[Override], smoke: bool) -> Scenario:
    """One form of a document, inside its project's path."""
    changes = list(settings)
    if smoke:
        if not isinstance(document.data.get("smoke"), dict):
            raise InputError(document.at(("smoke",)), "no smoke form", "a key such as smoke: {seeds: 2}")
        changes = [*settle(from_document(document, ("smoke",))), *settings]
    head = {k: v for k, v in document.data.items() if k in Common.model_fields}
    about = [o for o in changes if o.path[0] in HEAD and o.path[0] not in ("sweep", "arms", "expect", "smoke")]
    common = check(Common, apply(head, about), about, document)
    where = next((o.value_at for o in about if o.path == ("experiment",)), document.at(("experiment",)))
    module = experiment_module(common.experiment, where)

    written = forms.read(document, [], HEAD)
    form = forms.read(document, changes, HEAD)
    grid = tuple(forms.grid(form, module.Config, document, HEAD, getattr(module, "SHARED", ())))
    for params, arms in grid:
        _fits(module, arms, params, document)
    claims.check(common.expect, module.METRICS, list(form.arms), written.values, document)
    axes = forms.canonical_axes(form, [params for params, _ in grid])
    expect, left_out = claims.settle(common.expect, form.values, axes)
    seeds = tuple(range(common.first_seed, common.first_seed + common.seeds))
    points = [{"params": p, "arms": {a: c.model_dump(mode="json") for a, c in arms.items()}} for p, arms in grid]
    resolved = {"experiment": common.experiment, "experiment_sha256": module_sha256(module.__name__),
                "seeds": list(seeds), "points": points, "expect": [claims.thresholds(e) for e in expect]}
    canonical = json.dumps(resolved, sort_keys=True, separators=(",", ":"), allow_nan=False)
    path = Path(document.name)
    return Scenario(
        name=path.stem + ("-smoke" if smoke else ""), path=path, project=find_project(path),
        experiment=common.experiment, title=common.title or path.stem, question=common.question, seeds=seeds,
        axes=axes, arms=tuple(form.arms), expect=expect, left_out=left_out, resolved=json.loads(canonical),
        config_hash=hashlib.sha256(canonical.encode()).hexdigest(), grid=grid,
    )
