"""From a capture to detections: synchronise, build X and D, run both tests on every frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture, NodeCapture
from testbed.config import StrictModel, validate
from testbed.errors import CaptureError, ConfigError
from testbed.measurement import Estimate
from testbed.sensing.frequency import clocks_told
from testbed.sensing.glrt import Glrt, glrt
from testbed.sensing.model import (
    MIN_KAPPA,
    Path,
    Survey,
    cell_paths,
    nuisance_paths,
    projection_basis,
    time_columns,
    visibility,
)
from testbed.sensing.sync import Sync, synchronise
from testbed.waveform.frame import FrameDesign
from testbed.waveform.numerology import Numerology
from testbed.waveform.observations import Observations

MAX_LEAK = 0.02  # noncentrality a path may leave under H0 before it gets a derivative column (SIGNAL_CHAIN section 2c)
SIGNIFICANT_STDERR = 5.0
MIN_RESIDUAL = 3  # complex degrees of freedom: the variance of F, which the verdict uses, is infinite with 2


class SensingSetup(StrictModel):
    """What detection and measurement need besides samples and frames; stored in every capture."""

    numerology: Numerology
    survey: Survey
    observations: Observations
    waveform: FrameDesign | None = None  # which elements are pilots and which are data; needed where there are users
    own_clocks: tuple[str, ...] = ()  # users that do not run from the reference clock of the nodes


@dataclass(frozen=True)
class Detection:
    """Both statistics of every frame of a capture, for one cell under test."""

    cell: str
    node: str
    condition: str
    known_noise: NDArray[np.float64] | None  # T, shape (num_frames,); None without a muted capture
    cfar: NDArray[np.float64]  # F, shape (num_frames,)
    rank: int
    num_observations: int
    num_nuisance: int
    kappa: NDArray[np.float64]  # visibility of every transmitter's echo, shape (num_nodes,)
    noise_var: Estimate | None  # from the muted capture, milliwatt
    residual_noise_var: Estimate  # from the residual of the fit
    X: NDArray[np.complex128]  # columns of the cell under test, shape (N, num_nodes)
    D: NDArray[np.complex128]  # columns of everything else, shape (N, K)
    sync: Sync
    slopes: tuple[Path, ...]  # paths that were given a derivative column
    derivative_paths: tuple[str, ...]  # their labels
    warnings: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Trials."""
        return int(self.cfar.size)


def sensing_setup(capture: Capture) -> SensingSetup:
    """The setup stored in a capture; CaptureError if it does not hold one."""
    try:
        return validate(capture.setup, SensingSetup, "capture: setup")
    except ConfigError as exc:
        raise CaptureError(str(exc)) from exc


def check_one_frame(setup: SensingSetup) -> None:
    """CaptureError where frames have data of their own: these trials all compare with the columns of one frame."""
    if setup.waveform is not None and setup.waveform.num_data_frames > 1:
        raise CaptureError(
            f"waveform.num_data_frames: {setup.waveform.num_data_frames} frames of different data; detection and "
            f"links are measured on one that repeats; capture with 1, or estimate ranges: isac range"
        )


def detect(capture: Capture, cell_name: str) -> Detection:
    """Run both tests for one cell on the node that judges it.

    Raises:
        CaptureError: the capture lacks the cell, its node or a transmitter the survey names, or observes too little.
        SyncError: no frame found.
    """
    setup = sensing_setup(capture)
    cell = next((c for c in setup.survey.cells if c.name == cell_name), None)
    if cell is None:
        known = ", ".join(c.name for c in setup.survey.cells)
        raise CaptureError(f"cell '{cell_name}': not in this capture's survey; cells are {known}")
    if capture.frame is None:
        raise CaptureError(f"condition '{capture.condition}': nothing was transmitted; there is nothing to detect")
    check_one_frame(setup)
    if capture.tx_names != setup.survey.node_names:
        raise CaptureError(
            f"transmitters {capture.tx_names} are not the survey's nodes {setup.survey.node_names}; every transmitter "
            f"needs its direct path in the model"
        )
    node = capture.node(cell.node)
    frames = capture.frame.samples
    rx = setup.survey.node_names.index(cell.node)
    rate = setup.numerology.sample_rate_hz
    wanted, nuisance = cell_paths(setup.survey, cell, rate), nuisance_paths(setup.survey, cell, rate)
    samples = node.samples[0]
    with clocks_told(samples, frames, setup.numerology, setup.survey.node_names):
        sync = synchronise(samples, frames, (*wanted, *nuisance), rx, name=node.name, names=setup.survey.node_names)
    y = aligned_observations(samples, sync, frames.shape[1], setup)
    X = columns(wanted, frames, sync.offset_samples, setup)
    D = columns(nuisance, frames, sync.offset_samples, setup)
    test, residual = _f_test(y, X, D)
    slopes = leaking_slopes(X, D, wanted, nuisance, frames, sync, setup, residual)
    if slopes:
        D = np.concatenate([D, columns(slopes, frames, sync.offset_samples, setup, derivative=True)], axis=1)
        test, residual = _f_test(y, X, D)
    count = y.shape[0] * test.num_residual
    names = setup.survey.node_names
    kappa = visibility(X, D)
    return Detection(
        cell=cell.name,
        node=node.name,
        condition=capture.condition,
        known_noise=None if node.noise_var is None else test.explained / node.noise_var.value,
        cfar=test.statistic,
        rank=test.rank,
        num_observations=test.num_observations,
        num_nuisance=test.num_nuisance,
        kappa=kappa,
        noise_var=node.noise_var,
        residual_noise_var=Estimate(value=residual, stderr=residual / np.sqrt(count), count=count),
        X=X,
        D=D,
        sync=sync,
        slopes=tuple(slopes),
        derivative_paths=tuple(path.label(names) for path in slopes),
        warnings=(*clipping_warnings(node), *_visibility_warnings(X, D, kappa, wanted, nuisance, names)),
    )


def _f_test(y: NDArray[np.complex128], X: NDArray[np.complex128], D: NDArray[np.complex128]) -> tuple[Glrt, float]:
    """The test of unknown noise, and the noise variance of its residual."""
    num_observations, rank, num_nuisance = X.shape[0], projection_basis(X).shape[1], projection_basis(D).shape[1]
    left = num_observations - rank - num_nuisance
    if left < MIN_RESIDUAL:
        raise CaptureError(
            f"observations: N - r - Q = {num_observations} - {rank} - {num_nuisance} leaves "
            f"{left if left > 0 else 'nothing'} for the F test; at least {MIN_RESIDUAL} needed; observe more symbols"
        )
    test = glrt(y, X, None, D)
    return test, float(np.mean(test.residual)) / test.num_residual


def aligned_observations(
    samples: NDArray[np.complexfloating], sync: Sync, frame_len: int, setup: SensingSetup
) -> NDArray[np.complex128]:
    """Observations of every whole frame after the start, shape (num_frames, N)."""
    num_frames = (samples.size - sync.start) // frame_len
    frames = samples[sync.start : sync.start + num_frames * frame_len].reshape(num_frames, frame_len)
    return setup.observations.extract(frames, setup.numerology)


def columns(
    paths: Sequence[Path],
    frames: NDArray[np.complex128],
    offset_samples: NDArray[np.float64],
    setup: SensingSetup,
    *,
    derivative: bool = False,
) -> NDArray[np.complex128]:
    """Model columns of paths, shape (N, K); a silent node gives a zero column."""
    offsets = np.nan_to_num(offset_samples)
    return setup.observations.extract(time_columns(paths, frames, offsets, derivative=derivative), setup.numerology).T


def leaking_slopes(
    X: NDArray[np.complex128],
    D: NDArray[np.complex128],
    wanted: Sequence[Path],
    nuisance: Sequence[Path],
    frames: NDArray[np.complex128],
    sync: Sync,
    setup: SensingSetup,
    noise_var: float,
) -> list[Path]:
    """Self and direct paths that are no clean taps: they get a derivative column.

    The folded frame is fitted with the derivative column of every strong path beside all paths. A coefficient c says
    how far the path's response departs from a delayed copy, to first order; it leaves lam0 = 2 ||P_{X|D} c d'||^2 /
    sigma2 under H0. Significant ones above MAX_LEAK count. The noise variance is that of the residual, which is
    there without a muted capture.
    """
    strong = [path for path in nuisance if path.kind in ("self", "direct") and np.any(frames[path.tx] != 0)]
    offsets = np.nan_to_num(sync.offset_samples)
    paths = time_columns((*wanted, *nuisance), frames, offsets)
    slopes = time_columns(strong, frames, offsets, derivative=True)
    B = np.concatenate([paths, slopes]).T
    scale = np.linalg.norm(B, axis=0)
    scale[scale == 0] = 1.0
    inverse = np.linalg.pinv(B / scale)
    fit = inverse @ sync.folded
    c = (fit / scale)[len(paths) :]
    stderr = (
        np.sqrt(np.sum(np.abs(inverse) ** 2, axis=1) * noise_var / sync.num_frames)[len(paths) :] / scale[len(paths) :]
    )
    observed = columns(strong, frames, sync.offset_samples, setup, derivative=True)
    leaks = 2 * glrt((observed * c).T, X, noise_var, D).statistic
    significant = np.abs(c) > SIGNIFICANT_STDERR * stderr
    return [path for path, leak, sure in zip(strong, leaks, significant, strict=True) if sure and leak > MAX_LEAK]


def clipping_warnings(node: NodeCapture) -> tuple[str, ...]:
    """What to say of a receiver that clipped, or whose samples were not whole; nothing otherwise."""
    clipped = int(node.chunks["clip_count"].sum())
    if clipped == 0:
        return node.notes()
    return (
        *node.notes(),
        f"{node.name}: {clipped} of {node.num_samples} samples clipped; the laws do not hold for them; "
        f"lower rx_gain_db",
    )


def _visibility_warnings(
    X: NDArray[np.complex128],
    D: NDArray[np.complex128],
    kappa: NDArray[np.float64],
    wanted: Sequence[Path],
    nuisance: Sequence[Path],
    names: Sequence[str],
) -> tuple[str, ...]:
    """Name the two paths where an echo is mostly hidden."""
    warnings = []
    for l, path in enumerate(wanted):
        if kappa[l] < MIN_KAPPA:
            share = np.abs(D[:, : len(nuisance)].conj().T @ X[:, l]) / np.linalg.norm(D[:, : len(nuisance)], axis=0)
            other = nuisance[int(np.nanargmax(share))]
            warnings.append(
                f"{path.label(names)} is hidden by {other.label(names)} (kappa {kappa[l]:.2f}, below {MIN_KAPPA}): "
                f"they lie within a resolution cell; move the cell or widen the bandwidth"
            )
    return tuple(warnings)
