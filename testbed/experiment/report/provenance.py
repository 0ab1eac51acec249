"""Where the numbers of a report come from: waveform, realised settings, seeds, versions, files, how to run it again."""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tomli_w

from testbed.capture import Capture, load
from testbed.errors import CaptureError
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.results import Results
from testbed.experiment.comp.step import Step
from testbed.experiment.config import Experiment
from testbed.experiment.record import RunDirectory
from testbed.experiment.report.caveats import recorded_sha256
from testbed.experiment.report.table import Table
from testbed.experiment.report.wording import count_text, minus
from testbed.units import db, si_bytes

_SHORT_ARRAY = re.compile(r"\[\n(?: +[^\[\]{}\n\"]+,\n)+\]")  # of numbers; tomli_w writes one to a line


@dataclass(frozen=True)
class ShownCaptures:
    """What is left on disk of the captures whose settings a report shows."""

    muted: Capture | None
    loud: Capture | None  # with all transmitters on
    title: str  # which one that is
    fault: str  # why one of them is missing, in words

    @property
    def found(self) -> list[Capture]:
        """Those that are there, the muted one first."""
        return [capture for capture in (self.muted, self.loud) if capture is not None]


def shown_captures(run: CompRun, experiment: CompExperiment, results: Results) -> ShownCaptures:
    """The muted capture, and with all targets on that of the highest power of an axis or of the last round."""
    step = _shown_step(experiment, results)
    if step.kind == "points":
        title = f"at {minus(f'{experiment.axis_dbm[step.index]:g}')} dBm with all targets on"
    else:
        title = f"in round {step.index} with all targets on"
    found: list[Capture | None] = []
    faults = []
    for path in (run.muted_path, run.capture_path(step, "all")):
        try:
            found.append(load(path))
        except CaptureError as exc:
            found.append(None)
            faults.append(str(exc).replace(f"{run.path}/", ""))
    if faults and experiment.capture.keep_frames == 0:
        faults = ["samples were not kept (capture.keep_frames = 0), and settings stand with them."]
    return ShownCaptures(found[0], found[1], title, faults[0] if faults else "")


def kept_text(captures: Sequence[Capture]) -> str:
    """Which part of a capture is left where a run kept but its first frames; empty where all is there."""
    parts = [
        f"{count_text(max(node.num_samples for node in c.nodes))} of {count_text(int(c.info['captured_samples']))} "
        f"samples of the '{c.condition}' capture"
        for c in captures
        if "captured_samples" in c.info
    ]
    return f"The run kept the first {' and '.join(parts)}; levels and counts are of those." if parts else ""


def _shown_step(experiment: CompExperiment, results: Results) -> Step:
    if results.steps[0].kind == "points":
        return max(results.steps, key=lambda step: experiment.axis_dbm[step.index])
    return results.steps[-1]


def settings_table(muted: Capture, loud: Capture) -> Table:
    """Realised settings of every node, from the muted capture and one with all transmitters on."""
    columns = [_node_settings(muted, loud, node.name) for node in loud.nodes]
    rows = zip(*(column.values() for column in columns), strict=True)
    names = columns[0].keys() if columns else ()
    return Table(
        ("Setting", *(n.name for n in loud.nodes)), tuple((k, *row) for k, row in zip(names, rows, strict=True))
    )


def _node_settings(muted: Capture, loud: Capture, name: str) -> dict[str, str]:
    node, quiet = loud.node(name), muted.node(name)
    limits, settings = node.limits, node.settings
    rms = np.sqrt(np.mean(np.square(quiet.raw, dtype=np.float64)))
    peak = int(np.max(np.abs(node.raw.astype(np.int32)), initial=0))
    power = None
    if loud.frame is not None and name in loud.tx_names:
        power = loud.frame.power[loud.tx_names.index(name)]
    continuity = ", ".join(sorted({c.decode() for n in (node, quiet) for c in n.chunks["continuity"]}))
    clipped, lost = ([int(n.chunks[key].sum()) for n in (quiet, node)] for key in ("clip_count", "lost_before"))
    return {
        "Radio": limits.model,
        "Simulated": "yes" if limits.simulated else "no",
        "Carrier (MHz)": f"{settings.carrier_hz / 1e6:.6g}",
        "Sample rate (MS/s)": f"{settings.sample_rate_hz / 1e6:.6g}",
        "Transmit gain (dB)": minus(f"{settings.tx_gain_db:g}"),
        "Transmit power, realised (dBm)": _power(power),
        "Receive gain (dB)": minus(f"{settings.rx_gain_db:g}"),
        "Receive gain, muted capture (dB)": minus(f"{quiet.settings.rx_gain_db:g}"),
        "Converter, transmit (bits)": str(limits.tx_bits),
        "Converter, receive (bits)": f"{math.log2(2 * limits.rx_full_scale / limits.rx_lsb):.3g}",
        "Full scale at this gain (dBm)": minus(f"{limits.rx_full_scale_dbm - settings.rx_gain_db:.2f}"),
        "Noise, muted (LSB rms per rail)": f"{rms:.2f}",
        "Largest rail (dB of full scale)": minus(f"{20 * math.log10(max(peak, 1) / limits.rx_full_scale):.1f}"),
        "Clipped samples: muted, on": f"{clipped[0]}, {clipped[1]}",
        "Lost samples: muted, on": f"{lost[0]}, {lost[1]}",
        "Continuity": continuity or "–",
    }


def _power(power: float | None) -> str:
    if power is None:
        return "–"
    return minus(f"{db(float(power)):.3f}") if power > 0 else "off"


def waveform_text(experiment: CompExperiment) -> str:
    """Frame, subcarriers and observations in two sentences."""
    design, numerology = experiment.waveform, experiment.waveform.numerology
    duration_us = design.frame_len / numerology.sample_rate_hz * 1e6
    num_observations = experiment.detection.observations.num_observations(numerology)
    per = " or ".join(
        word for word, has in (("power", experiment.axis_dbm), ("round", experiment.loop is not None)) if has
    )
    return (
        f"Frame of {count_text(design.frame_len)} samples ({duration_us:.4g} µs): "
        f"{design.num_preamble_symbols} preamble, {design.num_pilot_symbols} {design.pilot_code} pilot and "
        f"{design.num_data_symbols} {design.modulation.upper()} data symbols; FFT {numerology.fft_size}, "
        f"cyclic prefix {numerology.cp_len}, {numerology.num_subcarriers} subcarriers "
        f"{numerology.subcarrier_spacing_hz / 1e3:.6g} kHz apart. "
        f"The detector looks at N = {num_observations} observations of each frame; "
        f"{count_text(experiment.capture.num_frames)} frames per {per}, cell and hypothesis."
    )


def provenance_rows(run: RunDirectory, experiment: Experiment, captures: Sequence[Capture]) -> list[tuple[str, str]]:
    """Hash, seeds, dates and versions."""
    rows = [
        ("Experiment, SHA-256", _recorded_sha256(run, experiment)),
        ("Seed of the data symbols", str(experiment.waveform.data_seed)),
    ]
    if experiment.emulator is not None:
        rows.append(("Scene", Path(experiment.emulator.scene).name))
    if captures:
        if "emulator_seed" in captures[0].info:
            rows.append(("Seed of the noise", str(captures[0].info["emulator_seed"])))
        rows.append(("Captured (UTC)", " to ".join(str(c.info.get("created", "–")) for c in captures)))
        rows += [(f"Version of {name}", str(v)) for name, v in dict(captures[0].info.get("versions", {})).items()]
    return rows


def _recorded_sha256(run: RunDirectory, experiment: Experiment) -> str:
    """As the run's files have it."""
    if isinstance(run, CompRun) and isinstance(experiment, CompExperiment):
        return recorded_sha256(run, experiment)
    session = run.load_session()
    return experiment.sha256 if session is None else session.experiment_sha256


def resolved_toml(experiment: Experiment) -> str:
    """The experiment with all defaults, as a file that could be run; without paths of this machine."""
    keys = {"__all__": {"keys"}}
    document = experiment.model_dump(mode="json", exclude_none=True, exclude={"nodes": keys, "users": keys})
    if experiment.emulator is not None and Path(experiment.emulator.scene).is_absolute():
        document["emulator"]["scene"] = Path(experiment.emulator.scene).name
    for row in (*document["nodes"], *document["users"]):
        row["fir"] = Path(row["fir"]).name
    return _SHORT_ARRAY.sub(
        lambda m: " ".join(m[0].split()).replace("[ ", "[").replace(", ]", "]"), tomli_w.dumps(document)
    )


def file_table(run: RunDirectory) -> Table:
    """What lies in the run directory, the report itself left out."""
    rows = []
    for path in sorted(run.path.iterdir(), key=lambda p: (p.is_dir(), p.name)):
        inside = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        if path == run.report or not inside:
            continue
        name = f"{path.name}/ ({len(inside)} files)" if path.is_dir() else path.name
        rows.append((name, si_bytes(sum(p.stat().st_size for p in inside))))
    return Table(("File", "Size"), tuple(rows))


def repeat_command(run: RunDirectory) -> str:
    """The command that runs the same experiment again; never a path of this machine."""
    path = run.path
    if path.is_absolute():
        path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path(path.name)
    return f"isac run {shlex.quote(str(path / run.experiment.name))} --out {shlex.quote(f'{path}-again')}"
