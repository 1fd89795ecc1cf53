"""What a run gives back: its records as a table, its aggregates, its verdicts."""

from __future__ import annotations

import dataclasses
import json
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reuse_sim.errors import InputError, nearest
from reuse_sim.record import RunRecord, Sweep, aggregate, read_records, verdicts

if TYPE_CHECKING:
    import pandas as pd

    from reuse_sim.scenario import Scenario


@dataclass(frozen=True)
class Results:
    """The header of a run and its records, one per sweep point, arm and seed."""

    sweep: Sweep
    records: tuple[RunRecord, ...]

    def frame(self) -> pd.DataFrame:
        """One row per record: swept values, arm, seed, status, reason, each metric, `parameters_sha256`, `wall_s`."""
        import pandas as pd

        names = [m.name for m in self.sweep.metrics]
        rows = [
            {**{axis: r.params[axis] for axis in self.sweep.axes}, "arm": r.arm, "seed": r.seed, "status": r.status,
             "reason": r.reason, **{name: r.metrics.get(name) for name in names},
             "parameters_sha256": r.parameters_sha256, "wall_s": r.wall_s}
            for r in self.records
        ]
        table = pd.DataFrame(rows, columns=list(rows[0]) if rows else None)
        return table.astype({name: float for name in names}) if rows else table

    def aggregates(self) -> list[dict[str, Any]]:
        """Per sweep point and arm, each metric's mean, 95 % interval and n of worlds."""
        return aggregate(self.sweep, self.records)

    def claims(self) -> list[dict[str, Any]]:
        """The verdict on each expected claim, with the figure that decides it."""
        return verdicts(self.sweep, self.records)

    def json(self) -> dict[str, Any]:
        """Everything as one object of plain values; what is not finite is None."""
        records = [dataclasses.asdict(r) for r in self.records]
        for r in records:
            del r["sweep_id"]
        return {
            "scenario": self.sweep.scenario, "config_hash": self.sweep.config_hash, "sweep_id": self.sweep.sweep_id,
            "records": records, "aggregates": self.aggregates(), "claims": self.claims(),
        }


def run(
    path: Path | str | Scenario,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    seeds: int | None = None,
    smoke: bool = False,
    workers: int = 1,
) -> Results:
    """Run a scenario and return its results; the records file is written, nothing is tracked.

    Args:
        path: a scenario file, or a `Scenario` that was loaded (then without overrides).
        overrides: values by dotted path, `{"outer.width": 24}`, or as on the command line,
            `["outer.width=24"]`.
        seeds: number of seeds in place of the file's.
        smoke: the file's smoke form.
        workers: processes; with more than 1 a script needs the usual `if __name__ == "__main__"`.

    What is stored is not computed again. Raises InputError for bad input. A cell that fails gives
    records with status `failed` and a reason, no exception.
    """
    from reuse_sim import scenario as scenarios
    from reuse_sim import sweep

    if isinstance(path, scenarios.Scenario):
        if overrides or seeds is not None or smoke:
            raise InputError("run", "a loaded scenario with overrides", "overrides where it is loaded")
        scenario, command = path, "reuse_sim.run(scenario)"
    else:
        texts = as_texts(overrides)
        scenario = scenarios.load(path, texts, seeds, smoke)
        command = command_line(scenario, texts, seeds, smoke)
    outcome = sweep.run(scenario, workers=workers, command=command)
    if outcome.stopped:
        signal.raise_signal(outcome.stopped)
    return Results(outcome.sweep, outcome.records)


def command_line(scenario: Scenario, overrides: Sequence[str], seeds: int | None, smoke: bool) -> str:
    """The command that repeats a run from its project's folder."""
    path = scenario.path.resolve()
    file = path.relative_to(scenario.project) if path.is_relative_to(scenario.project) else path
    more = [*(part for text in overrides for part in ("--set", text))]
    more += [*(["--seeds", str(seeds)] if seeds is not None else []), *(["--smoke"] if smoke else [])]
    return shlex.join(["reuse-sim", "run", str(file), *more])


def as_texts(overrides: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Overrides as `PATH=VALUE`, the value in YAML (of which JSON is a part)."""
    if isinstance(overrides, str):
        raise InputError("overrides", repr(overrides), "a mapping, or a list of PATH=VALUE")
    if not isinstance(overrides, Mapping):
        return list(overrides)
    try:
        return [f"{k}={json.dumps(v, allow_nan=False)}" for k, v in overrides.items()]
    except (TypeError, ValueError) as error:
        raise InputError("overrides", str(error), "plain finite values") from error


def load(path: Path | str) -> Results:
    """The results of a run that was made before.

    `path` is a scenario file (its run as the file is now), a scenario's name (its latest run in the
    project of the current folder), a folder of `runs`, or a records file. Raises InputError where
    there is no such run, or its file is damaged.
    """
    file = records_file(path)
    try:
        sweep, records = read_records(file)
    except OSError as error:
        raise InputError(str(file), error.strerror or str(error), "a readable records file") from error
    except ValueError as error:
        raise InputError(str(file), str(error), "a whole records file", "Run the scenario again") from error
    from reuse_sim.sweep.journal import in_order

    return Results(sweep, tuple(in_order(sweep, records)))


def records_file(path: Path | str) -> Path:
    """The records file that `path` means; see `load`."""
    given = Path(path)
    if given.suffix in (".yaml", ".yml"):
        from reuse_sim import scenario
        from reuse_sim.sweep import cells

        file = cells.folder(scenario.load(given)) / "records.jsonl"
        if not file.exists():
            raise InputError(str(given), "a scenario not run as it is now", "one that was", f"reuse-sim run {given}")
        return file
    if given.suffix == ".jsonl":
        return given
    runs = here() / "runs"
    for folder in (given, runs / given):
        found = [*folder.glob("records.jsonl"), *folder.glob("*/records.jsonl")] if folder.is_dir() else []
        if found:
            return max(found, key=lambda f: f.stat().st_mtime_ns)
    known = sorted({f.parent.parent.name for f in runs.glob("*/*/records.jsonl")})
    raise InputError(str(path), "no run of that name", f"one of {', '.join(known) or 'the scenarios that were run'}",
                     nearest(given.name, known))


def here() -> Path:
    """The project of the current folder: its nearest parent with a pyproject.toml, or else the folder itself."""
    folder = Path.cwd()
    return next((p for p in (folder, *folder.parents) if (p / "pyproject.toml").exists()), folder)
