"""Single stages on files: capture, detect, measure, allocate."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.errors import CaptureError, ConfigError
from testbed.verbs.options import (
    BudgetOption,
    DataSeedOption,
    ExperimentArgument,
    FramesOption,
    JsonOption,
    MethodOption,
    NoiseSeedOption,
    TransmitOption,
    ask,
    resolved,
)

if TYPE_CHECKING:
    from testbed.allocation.base import Allocation
    from testbed.experiment.config import Experiment
    from testbed.measurement import Measurement
    from testbed.sensing.detect import Detection


def capture(
    experiment: ExperimentArgument,
    out: Annotated[Path, typer.Option(help="Capture file to write.")],
    condition: Annotated[str, typer.Option(help="all, without:CELL, empty or muted.")] = "all",
    power_dbm: Annotated[
        float | None, typer.Option(help="Power per node; the experiment's highest if not given.")
    ] = None,
    allocation: Annotated[Path | None, typer.Option(help="Allocation file; powers of every node.")] = None,
    frames: FramesOption = None,
    data_seed: DataSeedOption = None,
    noise_seed: NoiseSeedOption = None,
    transmit: TransmitOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Capture all nodes once, under one condition and at one power.

    Example: isac capture comp --condition without:t1 --power-dbm -6.5 --frames 100 --out h0.h5
    """
    from testbed.experiment.single import capture_once
    from testbed.units import si_bytes

    if power_dbm is not None and allocation is not None:
        raise ConfigError("--power-dbm and --allocation: both say how much to transmit; give one")
    powers_dbm = None if power_dbm is None else [power_dbm]
    model = resolved(
        experiment,
        frames=frames,
        power_dbm=powers_dbm,
        data_seed=data_seed,
        noise_seed=noise_seed,
        transmit=transmit,
    )
    allowed = (*model.conditions, "empty", "muted")
    if condition not in allowed:
        raise ConfigError(f"--condition '{condition}': must be one of {', '.join(allowed)}")
    if out.exists() and not force:
        raise ConfigError(f"{out}: exists; pass --force to replace it, or --out for another name")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: the directory {out.parent} does not exist; make it first")
    chosen, about = _powers(model, allocation)
    taken = capture_once(model, out, condition, chosen, ask, about)
    clipped = sum(int(node.chunks["clip_count"].sum()) for node in taken.nodes)
    print(
        f"wrote {out}: {len(taken.nodes)} nodes x {taken.nodes[0].num_samples} samples, condition {condition}, "
        f"{clipped} clipped, {si_bytes(out.stat().st_size)}"
    )


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
    from testbed.experiment.comp.statistics import write_detection

    rows: list[dict[str, Any]] = []
    for path in captures:
        loaded = load(path)
        if pfa is None and "detection" not in loaded.experiment:
            raise ConfigError(f"{path}: its experiment has no [detection]; give --pfa")
        level = pfa if pfa is not None else float(loaded.experiment["detection"]["pfa"])
        if not 0 < level < 1:
            raise ConfigError(f"--pfa {level:g}: must lie between 0 and 1, both excluded")
        for detection in detections(loaded):
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


def measure(
    captures: Annotated[
        list[Path],
        typer.Argument(
            help="Capture file of condition 'all'; or, for localisation, a muted one and one of every node alone."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Measurement file to write (JSON).")] = None,
    previous: Annotated[
        Path | None, typer.Option(help="Measurement of the round before; stands in for silent transmitters.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the network on stored captures: gains, noise, SINRs, each with its standard error.

    Example: isac measure runs/demo/captures/round000_all.h5 --out measurement.json

    Example: isac measure captures/muted.h5 captures/alone_bs1.h5 captures/alone_bs2.h5 --out identification.json
    """
    if len(captures) > 1:
        if previous is not None:
            raise ConfigError("--previous: belongs to one capture of condition 'all'; leave it out")
        _identify(captures, out, as_json)
        return
    from testbed.capture import load
    from testbed.experiment.comp.loop_display import print_measurement
    from testbed.measurement import MeasurementFile, save_measurements
    from testbed.sensing.measure import measure as measure_capture

    before = None if previous is None else _points(previous)[-1]
    loaded = load(captures[0])
    measured = measure_capture(loaded, before)
    measurement = measured.measurement
    for warning in measured.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if out is not None:
        document = MeasurementFile(experiment_sha256=_sha256(loaded.experiment), points=(measurement,))
        save_measurements(out, document)
    if as_json:
        print(json.dumps(measurement.model_dump(mode="json"), indent=1))
        return
    print_measurement(measurement)
    if out is not None:
        print(f"wrote {out}; next: isac allocate EXPERIMENT {out}")


def _identify(captures: list[Path], out: Path | None, as_json: bool) -> None:
    """Gains of a network that ranges, from its K + 1 captures in any order."""
    from testbed.capture import load
    from testbed.experiment.localization.display import print_identification
    from testbed.measurement import save_identification
    from testbed.sensing.identify import identify

    silent, alone = None, {}
    for path in captures:
        loaded = load(path)
        if loaded.frame is None:
            silent = loaded
            continue
        loud = [name for name, row in zip(loaded.tx_names, loaded.frame.samples, strict=True) if row.any()]
        if len(loud) != 1:
            raise ConfigError(f"{path}: {', '.join(loud)} transmit; gains are identified with one node on the air")
        alone[loud[0]] = loaded
    if silent is None:
        raise ConfigError("captures: none is muted; gains are identified with one of no transmitter as well")
    identified = identify(silent, alone)
    for warning in identified.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if out is not None:
        save_identification(out, identified)
    if as_json:
        print(json.dumps(identified.model_dump(mode="json"), indent=1))
        return
    print_identification(identified)
    if out is not None:
        print(f"wrote {out}; next: isac allocate EXPERIMENT {out}")


def allocate(
    experiment: ExperimentArgument,
    measurement: Annotated[Path, typer.Argument(help="Measurement file.")],
    point: Annotated[int, typer.Option(help="Which measurement of the file; the last one if not given.")] = -1,
    budget_dbm: BudgetOption = None,
    method: MethodOption = None,
    out: Annotated[Path | None, typer.Option(help="Allocation file to write (JSON).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Share the transmit power on a measurement, under the experiment's requirements.

    Example: isac allocate runs/demo/experiment.toml runs/demo/rounds/000/measurement.json --out next.json
    """
    model = resolved(experiment, budget_dbm=budget_dbm, method=method)
    if model.kind == "localization":
        _allocate_ranging(model, experiment, measurement, out, as_json)
        return
    from testbed.allocation.base import save_allocation
    from testbed.experiment.comp.config import as_comp
    from testbed.experiment.comp.feedback import allocate as solve
    from testbed.experiment.comp.feedback import feedback
    from testbed.experiment.comp.loop_display import print_allocation

    comp = as_comp(model, experiment)
    points = _points(measurement)
    if not -len(points) <= point < len(points):
        raise ConfigError(f"--point {point}: {measurement} holds {len(points)} measurements, 0..{len(points) - 1}")
    given = feedback(points[point], comp)
    assert comp.allocation is not None, "feedback has looked"
    allocation = solve(given, comp.allocation)
    if out is not None:
        save_allocation(out, allocation, points[point].node_names)
    if as_json:
        print(json.dumps(allocation.to_dict(), indent=1))
        return
    print_allocation(given, allocation)
    if out is not None:
        print(f"wrote {out}; next: isac capture {experiment} --allocation {out} --out next.h5")


def _allocate_ranging(model: "Experiment", experiment: str, measurement: Path, out: Path | None, as_json: bool) -> None:
    """Powers of localisation, within the experiment's cap."""
    import numpy as np

    from testbed.allocation.base import save_allocation
    from testbed.experiment.localization.config import LocalizationExperiment
    from testbed.experiment.localization.display import power_line
    from testbed.experiment.localization.problem import allocate as solve
    from testbed.experiment.localization.problem import in_words, range_problem
    from testbed.measurement import load_identification

    assert isinstance(model, LocalizationExperiment), "the caller has looked at its kind"
    identified = load_identification(measurement)
    if identified.node_names != model.node_names:
        raise ConfigError(
            f"{measurement}: is of {', '.join(identified.node_names)}; the experiment has {', '.join(model.node_names)}"
        )
    problem = range_problem(identified, model, np.full(len(model.nodes), np.inf))
    allocation = solve(problem, model)
    if out is not None:
        save_allocation(out, allocation, model.node_names)
    if as_json:
        print(json.dumps(allocation.to_dict(), indent=1))
        return
    print(in_words(problem, allocation, model) or power_line(model, allocation))
    if out is not None:
        print(f"wrote {out}; next: isac capture {experiment} --allocation {out} --out next.h5")


def _points(path: Path) -> "tuple[Measurement, ...]":
    from testbed.measurement import load_measurements

    points = load_measurements(path).points
    if not points:
        raise ConfigError(f"{path}: holds no measurement; measure again")
    return points


def _powers(model: "Experiment", path: Path | None) -> "tuple[Allocation, dict[str, Any]]":
    """Powers to transmit, and what the capture says of them."""
    from testbed.allocation.base import equal_power, load_allocation
    from testbed.units import db, undb

    if path is None:
        power_dbm, num_nodes = max(model.equal_powers_dbm), len(model.nodes)
        return equal_power(undb(power_dbm) * num_nodes, num_nodes), {"power_dbm": power_dbm}
    allocation, names = load_allocation(path)
    if names != model.node_names:
        raise ConfigError(f"{path}: allocates to {', '.join(names)}; the experiment has {', '.join(model.node_names)}")
    return allocation, {"power_dbm": [db(float(p)) if p > 0 else None for p in allocation.data_power]}


def _sha256(document: dict[str, Any]) -> str:
    from testbed.experiment.config import document_sha256

    return document_sha256(document)


def detections(loaded: Any) -> "list[Detection]":
    """Detection again, of every cell that a capture can judge."""
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
