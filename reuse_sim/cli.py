"""The command line. Nothing heavy is imported up here, so that `--help` answers at once.

Exit codes: 0 all well (a refuted claim too), 1 a cell failed, 2 bad input, 3 done but tracking not
synced, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from reuse_sim.errors import InputError
from reuse_sim.terminal import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    NOT_SYNCED,
    OK,
    close,
    run_tracked,
    say,
    shown,
    stdout_for_json,
    unreachable_as_error,
)

app = typer.Typer(
    help="When does a model that knows a human reuse the human's answers, and what would the intended answer cost?",
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A scenario file, such as scenarios/reuse_quick.yaml.",
                                      show_default=False)]
Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="A scenario's name.", show_default=False)]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", show_default=False,
                                                    help="Set a field, such as outer.width=24; repeatable.")]


def main() -> NoReturn:
    """Entry point of `reuse-sim` and `python -m reuse_sim`: every foreseeable fault is one line and an exit code."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        code = say(f"error: {error}", BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        code = say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # The reader of our output has gone, as with `| head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        do = ". Make room: what was finished is kept, and the same command continues" if full else ""
        code = say(f"error: {error.strerror or error}{where}{do}", FAILED)
    except Exception as error:
        message = getattr(error, "format_message", None)  # What typer raises for wrong usage.
        if message is None:
            raise
        code = say(f"error: {message()} (see --help)", BAD_INPUT)
    sys.exit(code if isinstance(code, int) else OK)


@app.command()
def run(
    file: File,
    overrides: Settings = None,
    seeds: Annotated[int | None, typer.Option(help="Number of worlds.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    no_track: Annotated[bool, typer.Option("--no-track", help="Send nothing to MLflow.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="The scenario's smoke form: seconds.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, show_default="one per core, at most one per world",
                                                help="Processes.")] = None,
) -> int:
    """Run a scenario, or what is left of it: stored results are not computed again."""
    with stdout_for_json(as_json) as out:
        from reuse_sim import results, scenario

        loaded = scenario.load(file, overrides or (), seeds, smoke)
        for claim in loaded.left_out:
            say(f"claim {claim} is left out: its sweep point is not in this run")
        command = results.command_line(loaded, overrides or (), seeds, smoke)
        outcome, found, unsynced = run_tracked(loaded, command, workers, track=not no_track)
        if as_json:
            import json

            out.write(json.dumps(found.json(), allow_nan=False) + "\n")
            out.flush()
        else:
            close(found, outcome, loaded.project, tracked=not (no_track or unsynced))
    if outcome.stopped:
        return say(f"{outcome.stopped.name}: finished cells are kept, the same command continues",
                    128 + outcome.stopped)
    if any(r.status == "failed" for r in outcome.records):
        return FAILED
    return NOT_SYNCED if unsynced else OK


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)]) -> int:
    """Check scenario files without running anything."""
    from reuse_sim import scenario

    code = OK
    for file in files:
        try:
            loaded = scenario.load(file)
        except InputError as error:
            code = say(f"error: {error}", BAD_INPUT)
        else:
            typer.echo(f"{file}: ok, {len(loaded.cells())} cells of {len(loaded.arms)} arms")
    return code


@app.command("list")
def list_scenarios() -> None:
    """List the scenarios in ./scenarios with their titles."""
    from reuse_sim import scenario

    files = sorted(Path("scenarios").glob("*.y*ml"))
    if not files:
        raise InputError("scenarios", "no scenario file in ./scenarios", "some", "Change to a project's folder")
    for file in files:
        try:
            title = scenario.load(file).title
        except InputError as error:
            title = f"(invalid: {error})"
        typer.echo(f"{file}  {title}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors."""
    import json

    from reuse_sim import scenario

    typer.echo(json.dumps(scenario.schema(), indent=2))


@app.command()
def report(name: Name = None) -> None:
    """Write docs/results pages from the tracked runs, one scenario's or all, and the page of all claims."""
    from reuse_sim.results import here
    from tracking import claims, reader
    from tracking import report as pages

    project = here()
    with unreachable_as_error():
        # A smoke run is no result, unless asked for by name.
        sweeps = [s for s in reader.read(project, name) if name or not s[0].scenario.endswith("-smoke")]
    if not sweeps:
        raise InputError(name or "report", "no tracked run", "one", "Run a scenario first, or `sync` what was run")
    for sweep, records in sweeps:
        typer.echo(shown(pages.write(sweep, records, project / "docs" / "results", docs=True)))
    if page := claims.write(project):
        typer.echo(shown(page))


@app.command()
def card(
    file: File,
    arms: Annotated[list[str] | None, typer.Argument(metavar="[ARM]...", help="Some arms only.",
                                                     show_default=False)] = None,
    overrides: Settings = None,
    seeds: Annotated[int | None, typer.Option(help="Number of worlds.", show_default=False)] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="The scenario's smoke form: seconds.")] = False,
) -> int:
    """Run a scenario of the `people` experiment and write a card per arm, in docs/worlds."""
    from reuse_sim import results, scenario
    from reuse_sim.artifacts import Store
    from reuse_sim.errors import nearest
    from reuse_sim.experiments import people
    from reuse_sim.sweep import store_path

    loaded = scenario.load(file, overrides or (), seeds, smoke)
    if loaded.module is not people or loaded.axes:
        raise InputError(str(file), f"experiment {loaded.experiment}", "experiment: people, and nothing swept")
    for arm in arms or ():
        if arm not in loaded.arms:
            raise InputError(str(file), f"arm {arm}", f"one of {', '.join(loaded.arms)}", nearest(arm, loaded.arms))
    command = results.command_line(loaded, overrides or (), seeds, smoke)
    outcome, found, unsynced = run_tracked(loaded, command, None, track=True)
    from tracking import cards

    configs, store = loaded.cells()[0].arms, Store(store_path(loaded.project))
    scenes = {
        arm: people.scene(configs[arm], cards.world_to_show(found.records, arm), store) for arm in arms or loaded.arms
    }

    for path in cards.write(found.sweep, found.records, scenes, loaded.project / "docs" / "worlds"):
        typer.echo(shown(path))
    if any(r.status == "failed" for r in outcome.records):
        return FAILED
    return NOT_SYNCED if unsynced else OK


@app.command()
def sync() -> int:
    """Send to MLflow what was run while it was down; what is there already is not sent again."""
    from reuse_sim.results import here
    from tracking import recorder

    done = recorder.sync(here())
    typer.echo(f"{done.sent} MLflow runs written, {done.sweeps} sweeps looked at")
    return say(f"not synced: {done.reason}", NOT_SYNCED) if done.reason else OK


@app.command()
def ui(
    name: Name = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the MLflow server.",
                                             show_default="5000 or a free one")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
) -> None:
    """Open MLflow at the runs of a scenario, as charts."""
    from reuse_sim import results
    from tracking.ui import open_ui

    sweep_id = None
    if name:
        with suppress(InputError):  # Not run here: MLflow may know it all the same.
            sweep_id = results.load(name).sweep.sweep_id
    with unreachable_as_error():
        open_ui(results.here(), sweep_id, name, port, browser, typer.echo)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(metavar="train|sample|specialness", show_default=False)],
    rounds: Annotated[int, typer.Option(min=1, help="Times that every variant runs.")] = 9,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Time the engines beside other tools (pip install 'reuse_sim[bench]') and the machine's own limit."""
    with stdout_for_json(as_json) as out:
        import json

        from reuse_sim import bench, summary

        result = bench.run(name, rounds)
        if as_json:
            out.write(json.dumps(result, allow_nan=False) + "\n")
        else:
            bench.show(name, result, summary.console(sys.stdout))


@app.command()
def clean(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Remove the stored stage results of the project (records, reports and MLflow stay)."""
    import shutil

    from reuse_sim.results import here
    from reuse_sim.sweep import store_path

    store = store_path(here())
    size = sum(f.stat().st_size for f in store.rglob("*") if f.is_file())
    what = f"{size:,} bytes of stored results in {shown(store)}"
    if not store.exists():
        typer.echo(f"nothing to remove in {shown(store)}")
    elif yes or typer.confirm(f"Remove {what}?"):
        shutil.rmtree(store)
        typer.echo(f"removed {what}")
