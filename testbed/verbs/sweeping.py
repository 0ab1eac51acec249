"""Sweeps: many runs of one experiment, and what they say together."""

import contextlib
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from testbed.command import EXIT_FAILURE, EXIT_INTERRUPTED, fail
from testbed.documents import write_document
from testbed.errors import ConfigError
from testbed.verbs.options import FramesOption, JsonOption, TransmitOption, resolved

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from testbed.experiment.procedure import Procedure
    from testbed.experiment.sweep_run import Sweep
    from testbed.sweep import SweepRow


def sweep(
    experiment: Annotated[
        str | None, typer.Argument(help="Experiment file, or the name of a preset.", metavar="EXPERIMENT")
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=V1,V2,... of the experiment file; repeat for a grid.", metavar="AXIS"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the sweep.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with an interrupted sweep.", metavar="SWEEP")] = None,
    only: Annotated[str | None, typer.Option(help="Part of every run: loop (of comp, as a rule) or axis.")] = None,
    frames: FramesOption = None,
    keep_frames: Annotated[str, typer.Option(help="Frames kept of every capture: all, or a number.")] = "0",
    seed: Annotated[int, typer.Option(min=0, help="From it and its index follows every point's noise.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; each runs an emulator of its own.")] = 1,
    transmit: TransmitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment over a grid of settings; compare schemes over budgets, measured and in theory.

    Example: isac sweep comp --set allocation.budget_dbm=-6,-4,-2 --set allocation.method=ppa,equal --out sweeps/comp
    """
    from testbed.experiment.procedure import procedure
    from testbed.experiment.sweep_run import new_sweep, open_sweep, point_experiment, run_sweep

    if resume is not None:
        if experiment is not None or axes or out is not None:
            raise ConfigError(f"--resume {resume}: goes on as the sweep began; leave out EXPERIMENT, --set and --out")
        work = open_sweep(resume)
    else:
        if experiment is None or not axes or out is None:
            raise ConfigError(
                "EXPERIMENT, --set and --out are needed to begin a sweep; --resume SWEEP to go on with one"
            )
        if only not in (None, "loop", "axis"):
            raise ConfigError(f"--only '{only}': must be loop or axis")
        model = resolved(experiment, frames=frames, keep_frames=keep_frames, transmit=transmit)
        if model.kind == "comp":  # whose points are judged by their loops, unless told otherwise
            part: Literal["axis", "loop"] = "axis" if only == "axis" else "loop"
            model = resolved(experiment, frames=frames, keep_frames=keep_frames, only=part, transmit=transmit)
        elif only is not None:
            raise ConfigError(f"--only {only}: an experiment of kind {model.kind} has no such parts")
        work = new_sweep(out, model, dict(_axis(text) for text in axes), seed)
    kind = procedure(point_experiment(work, work.points[0]))
    try:
        with contextlib.ExitStack() as stack:
            rows = run_sweep(work, _executor(stack, workers), lambda row, count: _tell(kind, row, count, as_json))
        found = kind.conclude_sweep(work, rows)
        write_document(work.folder / "sweep.json", found)
    except KeyboardInterrupt:
        fail(f"interrupted; to go on: isac sweep --resume {work.folder}", EXIT_INTERRUPTED)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _print(work, kind, found)
    if failed := [row for row in rows if row.result is None]:
        fail(f"{len(failed)} of {len(rows)} points failed; the first: {failed[0].error}", EXIT_FAILURE)


def _print(work: "Sweep", kind: "Procedure", found: dict[str, Any]) -> None:
    kind.print_sweep(work, found)
    for path in found["figures"]:
        print(f"figure: {path}")
    print(f"rows: {work.folder / 'rows.csv'}")


def _tell(kind: "Procedure", row: "SweepRow", count: int, quiet: bool) -> None:
    if quiet:
        return
    values = ", ".join(f"{key.split('.')[-1]} {value}" for key, value in row.point.values.items())
    if row.result is None:
        print(f"point {row.point.index} of {count}: {values}: FAILED, {row.error}", flush=True)
        return
    said = kind.describe_row(row.result)
    print(f"point {row.point.index} of {count}: {values}: {said}", flush=True)


def _axis(text: str) -> tuple[str, list[Any]]:
    key, found, values = text.partition("=")
    if not found or not key or not values:
        raise ConfigError(f"--set '{text}': must read KEY=V1,V2,..., e.g. allocation.budget_dbm=-6,-4")
    return key.strip(), [_value(item.strip()) for item in values.split(",")]


def _value(text: str) -> Any:
    """As TOML would read it; a bare word is text."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _executor(stack: contextlib.ExitStack, workers: int) -> "Executor | None":
    if workers == 1:
        return None
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")  # a fork would copy sockets and locks
    return stack.enter_context(ProcessPoolExecutor(workers, mp_context=context))
