"""Ranges from stored captures."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.errors import CaptureError, ConfigError
from testbed.verbs.options import JsonOption

if TYPE_CHECKING:
    from testbed.measurement import Estimate
    from testbed.sensing.ranging import RangeOptions, Ranging


def ranges(
    captures: Annotated[list[Path], typer.Argument(help="Capture files, with the target on.")],
    known: Annotated[
        str, typer.Option(help="own: a node knows its own frames only; all: those of every node.")
    ] = "own",
    node: Annotated[list[str] | None, typer.Option(help="Only this node; may be given again.")] = None,
    cell: Annotated[str | None, typer.Option(help="Whose target; that of the node if not given.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Capture without the target, subtracted; for static scenes.")
    ] = None,
    moving: Annotated[bool, typer.Option("--moving", help="Estimate a Doppler shift and follow it.")] = False,
    zero_doppler: Annotated[
        bool, typer.Option("--zero-doppler", help="Take away what stands still; with --moving only.")
    ] = False,
    no_whitening: Annotated[
        bool, typer.Option("--no-whitening", help="Take interference as white; its bound is then too small.")
    ] = False,
    max_range_m: Annotated[
        float | None, typer.Option(min=1.0, help="Of the search; that of the cyclic prefix if not given.")
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="PNG of the range profiles, with --moving the range-Doppler maps; CSV beside it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate the range of a target from every frame of stored captures, beside the Cramer-Rao bound.

    A trial is a frame of its own data; of a buffer of such frames one pass is used.

    Example: isac range all.h5 --figure ranges.png
    """
    from testbed.capture import load
    from testbed.sensing.detect import sensing_setup
    from testbed.sensing.ranging import RangeOptions, estimate_ranges
    from testbed.units import SPEED_OF_LIGHT_MPS

    if known not in ("own", "all"):
        raise ConfigError(f"--known '{known}': must be own or all")
    if zero_doppler and not moving:
        raise ConfigError("--zero-doppler: deletes a target that stands still; give --moving as well")
    if figure is not None and figure.suffix != ".png":
        raise ConfigError(f"--figure {figure}: must end in .png")
    if figure is not None and len(captures) > 1:
        raise ConfigError("--figure: shows one capture; give one")
    without = None if reference is None else load(reference)
    rows, drawn, carrier_hz = [], [], 0.0
    for path in captures:
        loaded = load(path)
        setup = sensing_setup(loaded)
        carrier_hz, rate_hz = setup.numerology.carrier_hz, setup.numerology.sample_rate_hz
        metre = SPEED_OF_LIGHT_MPS / 2 / rate_hz
        options = RangeOptions(
            known="all" if known == "all" else "own",
            moving=moving,
            whiten=not no_whitening,
            zero_doppler=zero_doppler,
            max_delay_samples=None if max_range_m is None else max_range_m / metre,
        )
        for name in _nodes(loaded, setup.survey.node_names, node):
            found = estimate_ranges(loaded, name, options, cell=cell, reference=without)
            drawn.append(found)
            rows.append({"capture": str(path), "condition": loaded.condition, **_summary(found, options)})
            for warning in found.warnings:
                print(f"warning: {name}: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        _print(rows)
    if figure is not None:
        from testbed.experiment.range_figures import range_figure

        saved = range_figure(drawn, figure.with_suffix(""), carrier_hz, moving=moving)
        print(f"wrote {saved.png}, {saved.csv}", file=sys.stderr)


def _nodes(loaded: Any, transmitters: tuple[str, ...], wanted: list[str] | None) -> list[str]:
    held = [row.name for row in loaded.nodes if row.name in transmitters]
    if wanted:
        if missing := [name for name in wanted if name not in held]:
            raise CaptureError(f"--node {missing[0]}: not in this capture; it holds {', '.join(held) or 'none'}")
        return wanted
    if not held:
        raise CaptureError(f"condition '{loaded.condition}': holds no transmitting node; users have no range")
    return held


def _summary(found: "Ranging", options: "RangeOptions") -> dict[str, Any]:
    """Plain data of one node; ranges of frames come last."""
    return {
        "node": found.node,
        "known": options.known,
        "num_frames": found.num_frames,
        "num_data": found.num_data,
        "independent": found.independent,
        "num_observations": found.num_observations,
        "num_nuisance": found.num_nuisance,
        "range_m": _plain(found.mean_range_m),
        "range_std_m": _plain(found.range_std_m),
        "range_crlb_m": found.rms_crlb_m,
        "outliers": _plain(found.outliers),
        "outliers_predicted": found.outliers_predicted,
        "sinr": _plain(found.sinr),
        "integrated_sinr": found.integrated_sinr,
        "residual_mw": _plain(found.residual),
        "doppler_hz": None if found.doppler_hz is None else _plain(found.doppler_hz),
        "velocity_mps": None if found.velocity_mps is None else _plain(found.velocity_mps),
        "moving_share": found.moving_share,
        "latency_samples": _plain(found.latency_samples),
        "warnings": list(found.warnings),
        "frame_range_m": found.range_m.tolist(),
        "frame_crlb_m": found.crlb_m.tolist(),
        "frame_outlier": found.outlier.tolist(),
    }


def _plain(estimate: "Estimate") -> dict[str, Any]:
    return {
        "value": estimate.value if math.isfinite(estimate.value) else None,
        "stderr": estimate.stderr if math.isfinite(estimate.stderr) else None,
        "count": estimate.count,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    from testbed.units import db

    print(
        "capture                node    frames  range m              std m    bound m  ratio  outliers (theory)  "
        "SINR dB           E dB   velocity m/s"
    )
    for row in rows:
        sinr, std = row["sinr"], row["range_std_m"]
        level = "      -"
        if sinr["value"] > 0:
            error_db = 10 / math.log(10) * sinr["stderr"] / sinr["value"]
            level = f"{db(sinr['value']):7.2f} +- {error_db:.2f}"
        energy = f"{db(row['integrated_sinr']):6.1f}" if row["integrated_sinr"] > 0 else "     -"
        speed = row["velocity_mps"]
        moves = "-" if speed is None else f"{speed['value']:.3f} +- {speed['stderr']:.3f}"
        print(
            f"{Path(row['capture']).name:22} {row['node']:6} {row['num_frames']:7d}  "
            f"{_number(row['range_m']['value'], 9, 3)} +- {_number(row['range_m']['stderr'], 0, 3)}  "
            f"{_number(std['value'], 7, 3)}  {row['range_crlb_m']:7.3f}  "
            f"{_number(_ratio(std['value'], row['range_crlb_m']), 5, 2)}  {row['outliers']['value']:8.4f} "
            f"({row['outliers_predicted']:.1e})  {level:16} {energy}   {moves}"
        )


def _ratio(std: float | None, bound: float) -> float | None:
    return None if std is None or bound == 0 else std / bound


def _number(value: float | None, width: int, digits: int) -> str:
    text = "-" if value is None else f"{value:.{digits}f}"
    return f"{text:>{width}}" if width else text
