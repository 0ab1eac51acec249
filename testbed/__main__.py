"""`isac`: the instrument's command line. Heavy imports stand inside the verbs, so that help answers at once."""

import datetime
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.command import EXIT_FAILURE, EXIT_INTERRUPTED, fail, new_app, run_app
from testbed.errors import CaptureError, ConfigError, IsacError

if TYPE_CHECKING:
    from testbed.experiment.config import Experiment
    from testbed.sensing.detect import Detection

app = new_app("isac", "ISAC Testbed: sensing and communication experiments on software radios, or on simulated air.")
files = new_app("file", "Look at capture files.")
app.add_typer(files, name="file")

ExperimentArgument = Annotated[
    str, typer.Argument(help="Experiment file, or the name of a preset.", metavar="EXPERIMENT")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
FramesOption = Annotated[int | None, typer.Option(min=1, help="Trials per power, cell and hypothesis.")]
DataSeedOption = Annotated[int | None, typer.Option(min=0, help="Seed of the data symbols.")]
NoiseSeedOption = Annotated[int | None, typer.Option(min=0, max=2**64 - 1, help="Seed of the emulator's noise.")]


@app.command()
def init(
    preset: Annotated[str, typer.Argument(help="Preset to start from.")] = "comp",
    out: Annotated[Path | None, typer.Option(help="File to write; PRESET.toml if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a preset experiment to edit.

    Example: isac init comp --out mine.toml
    """
    from testbed.experiment.config import preset_text

    text, path = preset_text(preset), out or Path(f"{preset}.toml")
    if path.exists() and not force:
        raise ConfigError(f"{path}: exists; pass --force to replace it, or --out for another name")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written ({exc.strerror})") from exc
    print(f"wrote {path}; next: isac check {path}")


@app.command()
def check(experiment: ExperimentArgument, as_json: JsonOption = False) -> None:
    """Check an experiment and print its link budget; nothing is transmitted.

    Example: isac check comp
    """
    from testbed.experiment.budget import link_budget
    from testbed.experiment.config import load_experiment
    from testbed.experiment.display import print_budget

    model = load_experiment(experiment)
    budget = link_budget(model)
    if as_json:
        print(json.dumps(budget.to_dict(), indent=1))
    else:
        print(f"{model.title}\n")
        print_budget(budget, model)
    if budget.faults:
        fail("; ".join(budget.faults), EXIT_FAILURE)


@app.command()
def run(
    experiment: ExperimentArgument,
    out: Annotated[Path | None, typer.Option(help="Directory of the run; runs/NAME-TIME if not given.")] = None,
    frames: FramesOption = None,
    power_dbm: Annotated[list[float] | None, typer.Option(help="Power per node; repeat for several.")] = None,
    data_seed: DataSeedOption = None,
    noise_seed: NoiseSeedOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the directory.")] = False,
    require_consistent: Annotated[
        bool, typer.Option("--require-consistent", help="Exit with 1 unless measurement and theory are consistent.")
    ] = False,
    with_report: Annotated[bool, typer.Option("--report/--no-report", help="Write the HTML report.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Transmit, capture, detect and judge: measured PoD against theory, with a report.

    Example: isac run comp --frames 200 --power-dbm -6.5 --power-dbm -4.5 --out runs/quick
    """
    from testbed.experiment.budget import link_budget
    from testbed.experiment.config import experiment_path
    from testbed.experiment.display import Display, print_verdict
    from testbed.experiment.loop import run as run_experiment
    from testbed.experiment.record import RunDirectory
    from testbed.experiment.report.page import write_report
    from testbed.units import si_bytes

    model = _resolved(experiment, frames, power_dbm, data_seed, noise_seed)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    path = out or Path("runs") / f"{experiment_path(experiment).stem}-{stamp}"
    directory = RunDirectory.create(path, model, overwrite=overwrite)
    budget = link_budget(model)
    free = shutil.disk_usage(path).free
    if budget.disk_bytes > free:
        directory.leave()
        raise ConfigError(f"{path}: {si_bytes(free)} free, {si_bytes(budget.disk_bytes)} needed; use fewer frames")
    if not as_json:
        print(f"{model.title}: {budget.summary()}")
    try:
        with Display(model, quiet=as_json) as display:
            results = run_experiment(directory, display.notify, _ask)
        page = write_report(directory, model, results) if with_report else None
        directory.finish()
    except KeyboardInterrupt:
        fail(f"interrupted; transmitters are muted; {directory.leave()}", EXIT_INTERRUPTED)
    except IsacError as exc:
        raise type(exc)(f"{exc}; {directory.leave()}") from exc
    if as_json:
        print(json.dumps({**results.to_dict(), "run": str(path), "report": page and str(page)}, indent=1))
    else:
        print_verdict(results)
        print(f"report: {page or f'none yet; isac report {path}'}")
    if require_consistent and not results.verdict.consistent:
        raise typer.Exit(EXIT_FAILURE)


@app.command()
def capture(
    experiment: ExperimentArgument,
    out: Annotated[Path, typer.Option(help="Capture file to write.")],
    condition: Annotated[str, typer.Option(help="all, without:CELL, empty or muted.")] = "all",
    power_dbm: Annotated[
        float | None, typer.Option(help="Power per node; the experiment's highest if not given.")
    ] = None,
    frames: FramesOption = None,
    data_seed: DataSeedOption = None,
    noise_seed: NoiseSeedOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Capture all nodes once, under one condition and at one power.

    Example: isac capture comp --condition without:t1 --power-dbm -6.5 --frames 100 --out h0.h5
    """
    from testbed.experiment.loop import capture_once
    from testbed.units import si_bytes

    model = _resolved(experiment, frames, None if power_dbm is None else [power_dbm], data_seed, noise_seed)
    allowed = (*model.conditions, "empty", "muted")
    if condition not in allowed:
        raise ConfigError(f"--condition '{condition}': must be one of {', '.join(allowed)}")
    if out.exists() and not force:
        raise ConfigError(f"{out}: exists; pass --force to replace it, or --out for another name")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: the directory {out.parent} does not exist; make it first")
    taken = capture_once(model, out, condition, max(model.power.axis_dbm), _ask)
    clipped = sum(int(node.chunks["clip_count"].sum()) for node in taken.nodes)
    print(
        f"wrote {out}: {len(taken.nodes)} nodes x {taken.nodes[0].num_samples} samples, condition {condition}, "
        f"{clipped} clipped, {si_bytes(out.stat().st_size)}"
    )


@app.command()
def detect(
    captures: Annotated[list[Path], typer.Argument(help="Capture files.")],
    pfa: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Instead of the experiment's.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the statistics of every frame (HDF5).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Detect again on stored captures: bit for bit what the run recorded.

    A capture of condition 'all' is judged for the cell of every node it holds, 'without:CELL' for that cell.

    Example: isac detect runs/demo/captures/004_all.h5
    """
    from testbed.capture import load
    from testbed.experiment.record import write_detection

    rows: list[dict[str, Any]] = []
    for path in captures:
        loaded = load(path)
        level = pfa if pfa is not None else float(loaded.experiment["detection"]["pfa"])
        if not 0 < level < 1:
            raise ConfigError(f"--pfa {level:g}: must lie between 0 and 1, both excluded")
        for detection in _detections(loaded):
            rows.append({"capture": str(path), **_summary(detection, level)})
            if save is not None:
                write_detection(save, f"{path.stem}/{detection.cell}", detection)
            for warning in detection.warnings:
                print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print("capture                cell  node   condition      frames  rank  kappa min   PoD(T)   PoD(F)  lam_hat")
    for row in rows:
        known = "-" if row["pod_known_noise"] is None else f"{row['pod_known_noise']:.4f}"
        lam = "-" if row["noncentrality"] is None else f"{row['noncentrality']['value']:.2f}"
        print(
            f"{Path(row['capture']).name:22} {row['cell']:5} {row['node']:6} {row['condition']:13} "
            f"{row['num_frames']:7d} {row['rank']:5d} {row['kappa_min']:10.2f} {known:>8} "
            f"{row['pod_cfar']:8.4f} {lam:>8}"
        )


@app.command()
def report(
    run_directory: Annotated[Path, typer.Argument(help="Directory of a run.", metavar="RUN")],
    as_json: JsonOption = False,
) -> None:
    """Write a run's report again from its files.

    Example: isac report runs/demo
    """
    from testbed.experiment.display import print_verdict
    from testbed.experiment.record import RunDirectory
    from testbed.experiment.report.page import load_results, write_report

    directory = RunDirectory.open(run_directory)
    model, results = load_results(directory)
    path = write_report(directory, model, results)
    if as_json:
        print(json.dumps({**results.to_dict(), "report": str(path)}, indent=1))
    else:
        print_verdict(results)
        print(f"report: {path}")


@files.command("check")
def file_check(paths: Annotated[list[Path], typer.Argument(help="Capture files.")]) -> None:
    """Check that captures are whole: layout, loss record, hash of every chunk.

    Example: isac file check runs/demo/captures/*.h5
    """
    from testbed.capture import check as faults_of

    faults = [fault for path in paths for fault in faults_of(path)]
    if faults:
        fail("; ".join(faults), EXIT_FAILURE)
    print(f"{len(paths)} whole")


@files.command("info")
def file_info(path: Annotated[Path, typer.Argument(help="Capture file.")], as_json: JsonOption = False) -> None:
    """Say what a capture holds.

    Example: isac file info runs/demo/captures/004_all.h5
    """
    from testbed.capture import load

    loaded = load(path)
    info: dict[str, Any] = {
        "title": loaded.experiment.get("title"),
        "condition": loaded.condition,
        "simulated": loaded.simulated,
        **loaded.info,
        "transmitters": loaded.tx_names,
        "nodes": {
            node.name: {
                "num_samples": node.num_samples,
                "clipped": int(node.chunks["clip_count"].sum()),
                "lost": int(node.chunks["lost_before"].sum()),
                "model": node.limits.model,
                **node.settings.to_dict(),
                "noise_var_mw": None if node.noise_var is None else node.noise_var.model_dump(),
            }
            for node in loaded.nodes
        },
    }
    if as_json:
        print(json.dumps(info, indent=1))
        return
    for key, value in info.items():
        if key != "nodes":
            print(f"{key}: {json.dumps(value) if isinstance(value, dict) else value}")
    for name, row in info["nodes"].items():
        print(f"node {name}: " + ", ".join(f"{k} {v}" for k, v in row.items() if k != "noise_var_mw"))


def _resolved(
    name: str,
    frames: int | None,
    power_dbm: list[float] | None,
    data_seed: int | None,
    noise_seed: int | None,
) -> "Experiment":
    """The experiment with the command line's overrides, validated again."""
    from testbed.config import validate
    from testbed.experiment.config import Experiment, load_experiment

    data = load_experiment(name).model_dump(mode="json")
    if frames is not None:
        data["capture"]["num_frames"] = frames
    if power_dbm:
        data["power"]["axis_dbm"] = power_dbm
    if data_seed is not None:
        data["waveform"]["data_seed"] = data_seed
    if noise_seed is not None:
        if data["emulator"] is None:
            raise ConfigError("--noise-seed: this experiment is on air; there is no emulator to seed")
        data["emulator"]["seed"] = noise_seed
    return validate(data, Experiment, name)


def _detections(loaded: Any) -> "list[Detection]":
    from testbed.sensing.detect import detect as detect_cell
    from testbed.sensing.detect import sensing_setup

    held = {node.name for node in loaded.nodes}
    cells = [cell for cell in sensing_setup(loaded).survey.cells if cell.node in held]
    if loaded.condition.startswith("without:"):
        cells = [cell for cell in cells if cell.name == loaded.condition.removeprefix("without:")]
    if not cells:
        raise CaptureError(
            f"condition '{loaded.condition}': no cell under test for the nodes {', '.join(sorted(held))}"
        )
    return [detect_cell(loaded, cell.name) for cell in cells]


def _summary(detection: "Detection", pfa: float) -> dict[str, Any]:
    import hashlib

    import numpy as np

    from testbed.theory.consistency import noncentrality_estimate
    from testbed.theory.detection import cfar_threshold, glrt_threshold

    known, cfar = detection.known_noise, detection.cfar
    limit = cfar_threshold(pfa, detection.rank, detection.num_observations, detection.num_nuisance)
    row: dict[str, Any] = {
        "cell": detection.cell,
        "node": detection.node,
        "condition": detection.condition,
        "num_frames": detection.num_frames,
        "rank": detection.rank,
        "num_observations": detection.num_observations,
        "num_nuisance": detection.num_nuisance,
        "kappa_min": float(np.nanmin(detection.kappa)),
        "pfa": pfa,
        "pod_known_noise": None,
        "pod_cfar": float(np.mean(cfar >= limit)),
        "noncentrality": None,
        "cfar_blake2b": hashlib.blake2b(cfar.tobytes(), digest_size=16).hexdigest(),
    }
    if known is not None:
        lam, stderr = noncentrality_estimate(known, detection.rank)
        row |= {
            "pod_known_noise": float(np.mean(known >= glrt_threshold(pfa, detection.rank))),
            "noncentrality": {"value": float(lam), "stderr": float(stderr), "count": known.size},
            "known_noise_blake2b": hashlib.blake2b(known.tobytes(), digest_size=16).hexdigest(),
        }
    return row


def _ask(question: str) -> bool:
    return typer.confirm(question, default=True, err=True)


def main() -> None:
    """Entry point."""
    run_app(app)


if __name__ == "__main__":
    main()
