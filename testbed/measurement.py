"""Measured quantities: value, standard error, count. Truth is of the same type, with zero standard error."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from testbed.config import StrictModel
from testbed.errors import CaptureError


class Estimate(StrictModel):
    """A measured number; never a bare one. `stderr` is one standard deviation of `value`; 0 says exact."""

    value: float
    stderr: float = Field(ge=0)
    count: int = Field(ge=0)

    @classmethod
    def exact(cls, value: float) -> "Estimate":
        """A true value."""
        return cls(value=value, stderr=0.0, count=0)


class PathMeasurement(StrictModel):
    """One path of one transmitter-receiver pair, in the word order transmitter, receiver."""

    tx: str
    rx: str
    kind: Literal["self", "direct", "echo", "clutter"]
    via: str | None = None  # target or reflector
    delay_samples: Estimate  # after the first sample of the receiver's own frame, modulo the frame
    power_gain: Estimate | None = None  # linear
    phase_rad: Estimate | None = None  # only where all frames share one phase


class Measurement(StrictModel):
    """What is known of the network at one power vector."""

    origin: Literal["measured", "truth"]
    node_names: tuple[str, ...]  # transmitting nodes, the order of `power`
    power: tuple[float, ...]  # realised, milliwatt, linear
    noise_var: dict[str, Estimate]  # per receiver: E|w|^2 per complex sample, milliwatt; muted capture
    residual_noise_var: dict[str, Estimate] = {}  # per receiver: from the residual of the detector's fit
    noncentrality: dict[str, Estimate] = {}  # per cell under test: lam of 2T ~ ncx2(2r, lam)
    rank: dict[str, int] = {}  # per cell: r
    paths: tuple[PathMeasurement, ...] = ()


class MeasurementFile(StrictModel):
    """A list of measurements, one per power point."""

    experiment_sha256: str
    points: tuple[Measurement, ...]


MAX_FILE_BYTES = 100_000_000
NOISE_BLOCK_SAMPLES = 1 << 20  # per channel; squares of a whole capture would take twice its memory


def save_measurements(path: Path, measurements: MeasurementFile) -> None:
    """Write as JSON; floats keep every bit. CaptureError in one line when the file cannot be written."""
    text = json.dumps(measurements.model_dump(mode="json"), indent=1) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise CaptureError(f"{path}: cannot be written ({exc.strerror or exc}); choose another directory") from exc


def load_measurements(path: Path) -> MeasurementFile:
    """Read what `save_measurements` wrote; CaptureError in one line otherwise."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CaptureError(f"{path}: larger than {MAX_FILE_BYTES} bytes; not a measurement file")
        return MeasurementFile.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise CaptureError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except ValidationError as exc:
        raise CaptureError(f"{path}: not a measurement file ({exc.error_count()} faults); measure again") from exc


def noise_estimate(raw: NDArray[np.int16], lsb: float) -> Estimate:
    """E|w|^2 per complex sample in milliwatt from a muted capture.

    value = mean(I^2 + Q^2) lsb^2, with standard error value / sqrt(count): |w|^2 of a complex Gaussian is exponential.

    Args:
        raw: integers, shape (num_rx, n, 2).
        lsb: sqrt(milliwatt) of one raw count.

    Raises:
        ValueError: no samples.
    """
    count = raw.shape[0] * raw.shape[1]
    if count == 0:
        raise ValueError(f"raw: found shape {raw.shape}; must hold at least one sample")
    total = 0
    for at in range(0, raw.shape[1], NOISE_BLOCK_SAMPLES):
        # exact: 2^30, the largest square of an int16, fits in int32
        squares = np.square(raw[:, at : at + NOISE_BLOCK_SAMPLES], dtype=np.int32)
        total += int(np.sum(squares, dtype=np.int64))
    value = total / count * lsb**2
    return Estimate(value=value, stderr=value / np.sqrt(count), count=count)


def pool(estimates: list[Estimate]) -> Estimate:
    """Pool estimates of one quantity, weighted by their counts."""
    count = np.array([e.count for e in estimates], dtype=np.float64)
    weight = count / count.sum()
    value = float(np.dot(weight, [e.value for e in estimates]))
    stderr = float(np.sqrt(np.dot(weight**2, [e.stderr**2 for e in estimates])))
    return Estimate(value=value, stderr=stderr, count=int(count.sum()))
