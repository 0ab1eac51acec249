"""Whole runs: run, resume, report, compare."""

import datetime
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.command import EXIT_FAILURE, EXIT_INTERRUPTED, fail
from testbed.errors import ConfigError, IsacError
from testbed.verbs.options import (
    BudgetOption,
    DataSeedOption,
    FramesOption,
    JsonOption,
    MethodOption,
    NoiseSeedOption,
    TransmitOption,
    ask,
    resolved,
)

if TYPE_CHECKING:
    from testbed.experiment.config import Experiment
    from testbed.experiment.procedure import Budget
    from testbed.experiment.record import RunDirectory


def run(
    experiment: Annotated[
        str | None, typer.Argument(help="Experiment file, or the name of a preset.", metavar="EXPERIMENT")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the run; runs/NAME-TIME if not given.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with an interrupted run, instead of EXPERIMENT.", metavar="RUN")
    ] = None,
    only: Annotated[str | None, typer.Option(help="axis (no loop) or loop (no power axis).")] = None,
    frames: FramesOption = None,
    power_dbm: Annotated[list[float] | None, typer.Option(help="Power per node; repeat for several.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds of the loop, at most.")] = None,
    budget_dbm: BudgetOption = None,
    method: MethodOption = None,
    keep_frames: Annotated[
        str | None, typer.Option(help="Frames kept of every capture: all, or a number; 0 keeps statistics only.")
    ] = None,
    data_seed: DataSeedOption = None,
    noise_seed: NoiseSeedOption = None,
    transmit: TransmitOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the directory.")] = False,
    require_consistent: Annotated[
        bool, typer.Option("--require-consistent", help="Exit with 1 unless measurement and theory are consistent.")
    ] = False,
    with_report: Annotated[bool, typer.Option("--report/--no-report", help="Write the HTML report.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Transmit, capture, detect, measure and allocate, round by round; judge, and write a report.

    Example: isac run comp --frames 200 --power-dbm -6.5 --power-dbm -4.5 --out runs/quick

    Example: isac run comp --only loop --budget-dbm -2 --out runs/loop

    Example: isac run --resume runs/loop
    """
    from testbed.experiment.display import Display
    from testbed.experiment.load import load_experiment
    from testbed.experiment.procedure import procedure
    from testbed.experiment.record import RunDirectory

    changes: dict[str, Any] = {
        "frames": frames,
        "power_dbm": power_dbm,
        "num_rounds": rounds,
        "budget_dbm": budget_dbm,
        "method": method,
        "keep_frames": keep_frames,
        "data_seed": data_seed,
        "noise_seed": noise_seed,
        "transmit": transmit or None,
        "only": only,
    }
    if resume is not None:
        typed = {"EXPERIMENT": experiment, "--out": out, "--overwrite": overwrite or None}
        typed |= {f"--{'rounds' if name == 'num_rounds' else name.replace('_', '-')}": v for name, v in changes.items()}
        if given := [name for name, value in typed.items() if value is not None]:
            raise ConfigError(f"--resume {resume}: goes on as the run began; leave out {', '.join(given)}")
        directory = RunDirectory.open(resume)
        model = load_experiment(str(directory.experiment))
    else:
        if experiment is None:
            raise ConfigError("EXPERIMENT: missing; give an experiment file or a preset, or --resume RUN")
        model = _new_experiment(experiment, changes)
        procedure(model).budget(model)  # what is wrong with it is said before anything is written
        directory = RunDirectory.create(out or _new_path(experiment), model, overwrite=overwrite)
    path = directory.path
    work = procedure(model)
    budget = _affordable(directory, work.budget(model))
    if not as_json:
        print(f"{model.title}: {budget.summary()}")
    try:
        with Display(budget.num_samples, quiet=as_json) as display:

            def ask_alone(question: str) -> bool:
                with display.paused():
                    return ask(question)

            results = work.run(path, display.notify, ask_alone)
        page = work.write_report(path, model, results) if with_report else None
        directory.finish()
    except KeyboardInterrupt:
        fail(f"interrupted; transmitters are muted; {directory.leave()}", EXIT_INTERRUPTED)
    except IsacError as exc:
        raise type(exc)(f"{exc}; {directory.leave()}") from exc
    if as_json:
        print(json.dumps({**results.to_dict(), "run": str(path), "report": page and str(page)}, indent=1))
    else:
        work.print_outcome(results, model)
        print(f"report: {page or f'none yet; isac report {path}'}")
    if require_consistent and not results.consistent:
        raise typer.Exit(EXIT_FAILURE)


def _new_experiment(experiment: str, changes: dict[str, Any]) -> "Experiment":
    """The experiment as changed on the command line."""
    if changes["only"] not in (None, "axis", "loop"):
        raise ConfigError(f"--only '{changes['only']}': must be axis or loop")
    model = resolved(experiment, **changes)
    if changes["frames"] is not None and model.kind in ("uplink", "cooperative"):
        raise ConfigError(
            f"--frames {changes['frames']}: an experiment of kind {model.kind} has numbers of trials in its own "
            f"tables; edit its file"
        )
    return model


def _new_path(experiment: str) -> Path:
    from testbed.experiment.load import experiment_path

    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{experiment_path(experiment).stem}-{stamp}"


def _affordable(directory: "RunDirectory", budget: "Budget") -> "Budget":
    """The budget; ConfigError where the disk does not hold the run."""
    from testbed.units import si_bytes

    free = shutil.disk_usage(directory.path).free
    there = sum(path.stat().st_size for path in directory.captures.glob("*.h5"))
    needed = budget.disk_bytes - there
    if needed > free:
        directory.leave()
        raise ConfigError(
            f"{directory.path}: {si_bytes(free)} free, {si_bytes(needed)} needed; make room, use fewer frames, or keep "
            f"fewer of them (--keep-frames)"
        )
    return budget


def report(
    run_directory: Annotated[Path, typer.Argument(help="Directory of a run.", metavar="RUN")],
    as_json: JsonOption = False,
) -> None:
    """Write a run's report again from its files.

    Example: isac report runs/demo
    """
    from testbed.experiment.load import load_experiment
    from testbed.experiment.procedure import procedure
    from testbed.experiment.record import RunDirectory

    directory = RunDirectory.open(run_directory)
    work = procedure(load_experiment(str(directory.experiment)))
    model, results = work.load_results(directory.path)
    path = work.write_report(directory.path, model, results)
    if as_json:
        print(json.dumps({**results.to_dict(), "report": str(path)}, indent=1))
    else:
        work.print_outcome(results, model)
        print(f"report: {path}")


def compare(
    first: Annotated[Path, typer.Argument(help="Directory of a run with a loop.", metavar="RUN")],
    second: Annotated[Path, typer.Argument(help="Directory of another.", metavar="RUN")],
    out: Annotated[Path | None, typer.Option(help="Figure to write: FILE.png, with SVG and CSV beside it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the last rounds of two runs: powers, PoD, rates, and their differences in standard errors.

    Example: isac compare runs/equal runs/ppa --out compare.png
    """
    from testbed.experiment.comp.compare import compare_runs, draw_comparison
    from testbed.experiment.comp.loop_display import print_comparison
    from testbed.experiment.comp.record import CompRun

    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"{out}: the directory {out.parent} does not exist; make it first")
    comparison = compare_runs(CompRun.open(first), CompRun.open(second))
    if out is not None:
        draw_comparison(comparison, out)
    if as_json:
        print(json.dumps(comparison.to_dict(), indent=1))
    else:
        print_comparison(comparison)
