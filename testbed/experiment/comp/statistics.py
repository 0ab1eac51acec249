"""The statistics file of a run: both statistics of every frame and cell, error vectors and symbols of every user.

It is closed, and whole, after each addition, so what was judged before an interruption stays.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.sensing.detect import Detection
from testbed.sensing.link import Link


@dataclass(frozen=True)
class StoredDetection:
    """What `detections.h5` keeps of a Detection."""

    cell: str
    node: str
    condition: str
    known_noise: NDArray[np.float64]  # T, shape (num_frames,)
    cfar: NDArray[np.float64]  # F, shape (num_frames,)
    rank: int
    num_observations: int
    num_nuisance: int
    kappa: NDArray[np.float64]
    offset_samples: NDArray[np.float64]
    offset_stderr_samples: NDArray[np.float64]
    noise_var: Estimate
    residual_noise_var: Estimate
    derivative_paths: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class StoredLink:
    """What is kept of a user's link besides its measurement."""

    user: str
    serving: str
    error_power: NDArray[np.float64]  # EVM squared of every frame, data-aided, shape (num_frames,)
    symbols: NDArray[np.complex64]  # equalised, of the first frames, shape (n,)
    symbol_index: NDArray[np.int64]  # that were sent, shape (n,)


def write_detection(path: Path, key: str, detection: Detection) -> None:
    """Append a detection to a detections file; the file is closed, and whole, after each."""
    if detection.known_noise is None or detection.noise_var is None:
        raise CaptureError(f"{detection.node}: the capture holds no noise variance; capture 'muted' first")
    with _new_group(path, key) as group:
        group["known_noise"] = detection.known_noise
        group["cfar"] = detection.cfar
        group["kappa"] = detection.kappa
        group["offset_samples"] = detection.sync.offset_samples
        group["offset_stderr_samples"] = detection.sync.stderr_samples
        for name in ("rank", "num_observations", "num_nuisance", "node", "cell", "condition"):
            group.attrs[name] = getattr(detection, name)
        group.attrs["noise_var"] = detection.noise_var.model_dump_json()
        group.attrs["residual_noise_var"] = detection.residual_noise_var.model_dump_json()
        group.attrs["derivative_paths"] = json.dumps(detection.derivative_paths)
        group.attrs["warnings"] = json.dumps(detection.warnings)


def write_link(path: Path, key: str, link: Link) -> None:
    """Append a user's error vectors and symbols."""
    with _new_group(path, key) as group:
        group["error_power"] = link.error_power
        group["symbols"] = link.symbols
        group["symbol_index"] = link.symbol_index
        group.attrs["user"] = link.user
        group.attrs["serving"] = link.serving


def read_link(path: Path, key: str) -> StoredLink:
    """Read a user's error vectors and symbols; CaptureError where the file does not hold them."""
    try:
        with h5py.File(path, "r") as file:
            group = file[key]
            return StoredLink(
                user=str(group.attrs["user"]),
                serving=str(group.attrs["serving"]),
                error_power=group["error_power"][()],
                symbols=group["symbols"][()],
                symbol_index=group["symbol_index"][()],
            )
    except (OSError, KeyError, ValueError) as exc:
        raise CaptureError(f"{path}: link '{key}' cannot be read ({exc}); did the run end early?") from exc


def read_detection(path: Path, key: str) -> StoredDetection:
    """Read a detection; CaptureError where the file does not hold it."""
    try:
        with h5py.File(path, "r") as file:
            group = file[key]
            return StoredDetection(
                cell=str(group.attrs["cell"]),
                node=str(group.attrs["node"]),
                condition=str(group.attrs["condition"]),
                known_noise=group["known_noise"][()],
                cfar=group["cfar"][()],
                rank=int(group.attrs["rank"]),
                num_observations=int(group.attrs["num_observations"]),
                num_nuisance=int(group.attrs["num_nuisance"]),
                kappa=group["kappa"][()],
                offset_samples=group["offset_samples"][()],
                offset_stderr_samples=group["offset_stderr_samples"][()],
                noise_var=Estimate.model_validate_json(group.attrs["noise_var"]),
                residual_noise_var=Estimate.model_validate_json(group.attrs["residual_noise_var"]),
                derivative_paths=tuple(json.loads(group.attrs["derivative_paths"])),
                warnings=tuple(json.loads(group.attrs["warnings"])),
            )
    except (OSError, KeyError, ValueError) as exc:
        raise CaptureError(f"{path}: detections '{key}' cannot be read ({exc}); did the run end early?") from exc


@contextlib.contextmanager
def _new_group(path: Path, key: str) -> Iterator[h5py.Group]:
    """An empty group of the file, in place of one of an earlier attempt."""
    try:
        file = h5py.File(path, "a")
    except OSError as exc:
        raise CaptureError(f"{path}: cannot be written; is it a detections file, in a directory that exists?") from exc
    with file:
        if key in file:
            del file[key]
        yield file.create_group(key)
