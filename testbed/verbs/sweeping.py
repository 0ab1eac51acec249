"""Sweeps: many runs of one experiment, and what they say together."""

import contextlib
import functools
import itertools
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from testbed.command import EXIT_FAILURE, EXIT_INTERRUPTED, fail
from testbed.documents import write_document
from testbed.errors import ConfigError, IsacError
from testbed.verbs.options import FramesOption, JsonOption, TransmitOption, resolved

if TYPE_CHECKING:
    from testbed.dask_cluster import Cluster
    from testbed.experiment.config import Experiment
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
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Processes of this machine, each with an emulator of its own. Default: 1, this one."
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Use the workers of a dask scheduler instead, as many as it has, e.g. tcp://127.0.0.1:8786. They "
            "must see the sweep's directory. It can run anything here: only on a network you trust.",
            metavar="ADDRESS",
        ),
    ] = None,
    transmit: TransmitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment over a grid of settings; compare schemes over budgets, measured and in theory.

    Numbers are the same for any number of workers; one that dies is replaced, and its point run again.

    Example: isac sweep comp --set allocation.budget_dbm=-6,-4,-2 --set allocation.method=ppa,equal --out sweeps/comp
    """
    from testbed.experiment.procedure import procedure
    from testbed.experiment.sweep_run import new_sweep, open_sweep, point_experiment

    if workers is not None and scheduler is not None:
        raise ConfigError(
            f"--workers {workers}: are processes of this machine, --scheduler uses the workers that {scheduler} has; "
            f"leave out one, or add workers there: dask worker {scheduler} --nworkers {workers} --nthreads 1"
        )
    if resume is not None:
        if experiment is not None or axes or out is not None:
            raise ConfigError(f"--resume {resume}: goes on as the sweep began; leave out EXPERIMENT, --set and --out")
        start = functools.partial(open_sweep, resume)
    elif experiment is None or not axes or out is None:
        raise ConfigError("EXPERIMENT, --set and --out are needed to begin a sweep; --resume SWEEP to go on with one")
    else:
        model = _model(experiment, only, frames=frames, keep_frames=keep_frames, transmit=transmit)
        start = functools.partial(new_sweep, out, model, dict(_axis(text) for text in axes), seed)
    with contextlib.ExitStack() as stack:
        cluster = None if scheduler is None else stack.enter_context(_cluster(scheduler))
        work = start()
        kind = procedure(point_experiment(work, work.points[0]))
        with _said_how_to_go_on(work, scheduler):  # once the workers have ended
            rows = _rows(work, cluster, workers or 1, functools.partial(_tell, kind, as_json))
            found = kind.conclude_sweep(work, rows)
            write_document(work.folder / "sweep.json", found)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _print(work, kind, found)
    if failed := [row for row in rows if row.result is None]:
        fail(f"{len(failed)} of {len(rows)} points failed; the first: {failed[0].error}", EXIT_FAILURE)


def _model(experiment: str, only: str | None, **options: Any) -> "Experiment":
    if only not in (None, "loop", "axis"):
        raise ConfigError(f"--only '{only}': must be loop or axis")
    model = resolved(experiment, **options)
    if model.kind == "comp":  # whose points are judged by their loops, unless told otherwise
        part: Literal["axis", "loop"] = "axis" if only == "axis" else "loop"
        return resolved(experiment, only=part, **options)
    if only is not None:
        raise ConfigError(f"--only {only}: an experiment of kind {model.kind} has no such parts")
    return model


def _cluster(scheduler: str) -> "Cluster":
    from testbed.dask_cluster import Cluster

    return Cluster(scheduler)


def _rows(
    work: "Sweep", cluster: "Cluster | None", workers: int, tell: Callable[["SweepRow", int, int], None]
) -> "list[SweepRow]":
    """Run it on a cluster or here; `tell` gets every row, the number of points that are done, and of all."""
    from testbed.experiment.sweep_run import fault_of_worker, run_sweep
    from testbed.processes import Processes

    done = itertools.count(1)
    with contextlib.ExitStack() as stack:
        if cluster is not None:
            cluster.check(fault_of_worker(work))
        local = stack.enter_context(Processes(workers)) if cluster is None and workers > 1 else None
        return run_sweep(work, cluster or local, lambda row, count: tell(row, next(done), count))


@contextlib.contextmanager
def _said_how_to_go_on(work: "Sweep", scheduler: str | None) -> Iterator[None]:
    hint = f"to go on: isac sweep --resume {work.folder}" + (f" --scheduler {scheduler}" if scheduler else "")
    try:
        yield
    except IsacError as exc:
        raise type(exc)(f"{exc}; {hint}") from exc
    except KeyboardInterrupt:
        fail(f"interrupted; {hint}", EXIT_INTERRUPTED)


def _print(work: "Sweep", kind: "Procedure", found: dict[str, Any]) -> None:
    kind.print_sweep(work, found)
    for path in found["figures"]:
        print(f"figure: {path}")
    print(f"rows: {work.folder / 'rows.csv'}")


def _tell(kind: "Procedure", quiet: bool, row: "SweepRow", num_done: int, count: int) -> None:
    if quiet:
        return
    values = ", ".join(f"{key.split('.')[-1]} {value}" for key, value in row.point.values.items())
    said = f"FAILED, {row.error}" if row.result is None else kind.describe_row(row.result)
    print(f"{num_done} of {count} done: point {row.point.index}: {values}: {said}", flush=True)


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
