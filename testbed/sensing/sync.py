"""Time: the start of the frame, and the sub-sample offset of every transmitter, by a joint fit over ALL paths.

A receiver folds its capture at the frame period and correlates with one node's whole frame: integer start. Then the
offsets t_l maximise ||P_B(t) ybar||^2 over the whole folded frame, B holding every surveyed path with delays tied to
the geometry (SIGNAL_CHAIN section 2). Stopping at a parabola or at the self column alone breaks the false-alarm rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.errors import SyncError
from testbed.sensing.model import Path, projection_basis, time_columns
from testbed.waveform.shift import cyclic_shift

MIN_PEAK_SIGMA = 8.0  # a noise-only correlation of 1e5 lags exceeds 8 sigma with probability 1e-9
_GRID = 8  # steps per sample of the starting search
_TOLERANCE_STDERR = 1e-3  # of a step, in standard errors of the offset
_MAX_STEPS, _MAX_HALVINGS = 60, 20


@dataclass(frozen=True)
class Sync:
    """Where the frames are in a capture."""

    start: int  # first sample of the receiver's own (or serving) frame, 0 .. frame_len - 1
    offset_samples: NDArray[np.float64]  # per node, frame start after `start`; NaN for silent nodes, shape (num_nodes,)
    stderr_samples: NDArray[np.float64]  # of the offsets, shape (num_nodes,)
    folded: NDArray[np.complex128]  # mean frame after `start`, shape (frame_len,)
    gain: NDArray[np.complex128]  # joint fit of every path on the folded frame, shape (K,); 0 for silent nodes
    peak_sigma: float  # correlation peak over its noise
    num_frames: int  # folded


def fold(samples: NDArray[np.complexfloating], frame_len: int) -> NDArray[np.complex128]:
    """Mean over all whole frames of a capture, shape (frame_len,)."""
    num_frames = samples.size // frame_len
    mean: NDArray[np.complex128] = (
        samples[: num_frames * frame_len].reshape(num_frames, frame_len).mean(axis=0, dtype=np.complex128)
    )
    return mean


def synchronise(
    samples: NDArray[np.complexfloating],
    frames: NDArray[np.complex128],
    paths: Sequence[Path],
    reference: int,
    *,
    name: str = "receiver",
) -> Sync:
    """Find start and offsets.

    Args:
        samples: one channel of a capture, shape (n,), at least one frame.
        frames: what every node sends, shape (num_nodes, frame_len); zero rows are silent nodes.
        paths: every surveyed path to the receiver, those of the cell under test included.
        reference: node whose frame defines the start: the receiver itself, or its serving node.
        name: of the receiver, for messages.

    Raises:
        SyncError: too few samples, a silent reference, or no correlation peak.
    """
    frame_len = frames.shape[1]
    active = np.flatnonzero(np.any(frames != 0, axis=1))
    if samples.size < frame_len:
        raise SyncError(f"{name}: {samples.size} samples hold no frame of {frame_len}; capture more")
    if reference not in active:
        raise SyncError(f"{name}: the node it synchronises on is silent; give it power")
    num_frames = samples.size // frame_len
    folded = fold(samples, frame_len)
    start, peak_sigma = _peak(folded, frames[reference])
    if peak_sigma < MIN_PEAK_SIGMA:
        level = 10 * np.log10(np.mean(np.abs(samples) ** 2) + 1e-300)
        raise SyncError(
            f"{name}: no frame found in {samples.size} samples (peak {peak_sigma:.1f} sigma, need {MIN_PEAK_SIGMA:g}); "
            f"raise rx_gain_db or power (input is {level:.0f} dBm) or check the antenna"
        )
    aligned = np.roll(folded, -start)
    used = [path for path in paths if path.tx in active]
    offsets = _starting_offsets(aligned, frames, used, reference, active)
    fit = _refine(aligned, frames, used, offsets, active)
    gain = np.zeros(len(paths), dtype=np.complex128)
    gain[[k for k, path in enumerate(paths) if path.tx in active]] = fit.gain
    # frames repeat: an offset is known modulo the frame
    wrapped = fit.offsets - frame_len * np.round(fit.offsets / frame_len)
    return Sync(start, wrapped, fit.stderr, aligned, gain, peak_sigma, num_frames)


def _peak(folded: NDArray[np.complex128], frame: NDArray[np.complex128]) -> tuple[int, float]:
    """Lag of the largest correlation, and its size over the Rayleigh sigma of all lags (median based)."""
    magnitude = np.abs(np.fft.ifft(np.fft.fft(folded) * np.conj(np.fft.fft(frame))))
    lag = int(np.argmax(magnitude))
    sigma = float(np.median(magnitude)) / np.sqrt(2 * np.log(2))
    return lag, float(magnitude[lag] / sigma) if sigma > 0 else np.inf


def _starting_offsets(
    aligned: NDArray[np.complex128],
    frames: NDArray[np.complex128],
    paths: Sequence[Path],
    reference: int,
    active: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Offsets within a fraction of a sample: the reference first, then the others with it projected out."""
    offsets = np.full(frames.shape[0], np.nan)
    found = np.zeros((0, aligned.size), dtype=np.complex128)
    for node in [reference, *(n for n in active if n != reference)]:
        strongest = min((p.delay_samples for p in paths if p.tx == node), default=0.0)  # self or direct path
        basis = projection_basis(found.T)
        rest = aligned - basis @ (basis.conj().T @ aligned)
        lag = 0 if node == reference else _peak(rest, frames[node])[0]
        fine = lag + np.arange(-_GRID, _GRID + 1) / _GRID
        match = np.abs(cyclic_shift(frames[node], fine).conj() @ rest)
        arrival = fine[int(np.argmax(match))]
        offsets[node] = arrival - strongest
        # value, and neighbours half a sample off: takes the fraction left by the grid along
        found = np.concatenate([found, cyclic_shift(frames[node], arrival + np.array([-0.5, 0.0, 0.5]))])
    return offsets


@dataclass(frozen=True)
class _Fit:
    offsets: NDArray[np.float64]
    cost: float  # ||(I - P_B) ybar||^2
    residual: NDArray[np.complex128]
    J: NDArray[np.complex128]  # Jacobian of the model, projected off B
    gain: NDArray[np.complex128]
    stderr: NDArray[np.float64]


def _refine(
    aligned: NDArray[np.complex128],
    frames: NDArray[np.complex128],
    paths: Sequence[Path],
    offsets: NDArray[np.float64],
    active: NDArray[np.int64],
) -> _Fit:
    """Gauss-Newton on the variable projection ||(I - P_B(t)) ybar||^2, with step halving."""
    fit = _linearise(aligned, frames, paths, offsets, active)
    for _ in range(_MAX_STEPS):
        stacked = np.concatenate([fit.J.real, fit.J.imag])
        step = np.linalg.lstsq(stacked, np.concatenate([fit.residual.real, fit.residual.imag]), rcond=None)[0]
        step = np.clip(step, -0.25, 0.25)
        for _ in range(_MAX_HALVINGS):
            trial_offsets = fit.offsets.copy()
            trial_offsets[active] += step
            trial = _linearise(aligned, frames, paths, trial_offsets, active)
            if trial.cost <= fit.cost:
                break
            step = step / 2
        else:
            return fit  # no descent left: the minimum to rounding
        fit = trial
        if np.all(np.abs(step) < _TOLERANCE_STDERR * fit.stderr[active]):
            break
    return fit


def _linearise(
    aligned: NDArray[np.complex128],
    frames: NDArray[np.complex128],
    paths: Sequence[Path],
    offsets: NDArray[np.float64],
    active: NDArray[np.int64],
) -> _Fit:
    """Residual and Jacobian after Kaufman: r = (I - P_B) ybar, J_l = (I - P_B) sum over paths of l of h_p b'_p."""
    B = time_columns(paths, frames, offsets).T
    Q, R = np.linalg.qr(B)
    coordinates = Q.conj().T @ aligned
    residual = aligned - Q @ coordinates
    gain: NDArray[np.complex128] = np.linalg.lstsq(R, coordinates, rcond=1e-10)[0].astype(np.complex128)
    slopes = time_columns(paths, frames, offsets, derivative=True).T * gain
    J = np.stack([slopes[:, [p.tx == node for p in paths]].sum(axis=1) for node in active], axis=1)
    J = J - Q @ (Q.conj().T @ J)
    cost = float(np.sum(np.abs(residual) ** 2))
    freedom = 2 * (aligned.size - len(paths)) - active.size
    sigma2 = 2 * cost / max(freedom, 1)  # E|w|^2 of a folded sample
    stderr = np.full(offsets.shape, np.nan)
    # Fisher information of offsets from complex data: 2 Re(J^H J) / sigma2
    stderr[active] = np.sqrt(np.diag(np.linalg.pinv((J.conj().T @ J).real)) * sigma2 / 2)
    return _Fit(offsets, cost, residual, J, gain, stderr)
