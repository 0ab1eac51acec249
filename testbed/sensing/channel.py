"""Path gains of one receiver by the joint fit over all its paths, with standard errors.

The mean frame is fitted with the column of every surveyed path at once, made of what was on the air: ybar = B h + wbar,
so that h are the amplitudes of the paths themselves. Frames are alike and their phases common, so averaging first is
coherent, and with the offsets known the covariance of h_hat is sigma2 (B^H B)^-1 / num_frames.

The offsets t were fitted on the same samples, as one real unknown per transmitter. With J_l the sum over paths of l of
h_p b'_p, J' = (I - P_B) J and v = sigma2 / num_frames, to first order

    e = B^+ wbar - B^+ J dt,   dt = (Re J'^H J')^-1 Re(J'^H wbar),   cov dt = v/2 (Re J'^H J')^-1

Errors along B^+ J are in fixed phase with their amplitudes, so e is not circular: E[e^2] is kept beside E|e|^2. (The
stacked real least squares of [Re/Im of B, J] gives the same; the propagation also holds with derivative columns in B,
which the offsets were fitted without: J' is then off the paths alone, and the two terms are correlated.)

The squared magnitude carries its variance as a bias, which is taken off; a gain that comes out negative is floored at
zero once, here (SIGNAL_CHAIN section 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.measurement import Estimate, PathMeasurement
from testbed.sensing.model import Path, projection_basis, time_columns
from testbed.sensing.sync import Sync

_BLOCK_FRAMES = 512  # at a time in double precision


@dataclass(frozen=True)
class PathFit:
    """Amplitudes of paths; those of silent transmitters are NaN."""

    paths: tuple[Path, ...]
    h: NDArray[np.complex128]  # shape (num_paths,)
    covariance: NDArray[np.complex128]  # E[e e^H] of e = h_hat - h at known offsets, shape (num_paths, num_paths)
    variance: NDArray[np.float64]  # E|e|^2 with fitted offsets, shape (num_paths,)
    pseudo_variance: NDArray[np.complex128]  # E[e^2] with fitted offsets, shape (num_paths,)
    residual_noise_var: Estimate  # what the fit leaves of every frame, per complex sample
    num_frames: int

    def power_gain(self, row: int) -> Estimate:
        """|h|^2 less its bias, floored at 0."""
        return unbiased_power(self.h[row], float(self.variance[row]), self.num_frames, self.pseudo_variance[row])


def unit_drive(frames: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Frames on the air over the root of their mean power; silent rows stay zero. Shape (num_tx, frame_len)."""
    power = np.mean(np.abs(frames) ** 2, axis=1, keepdims=True)
    return np.divide(frames, np.sqrt(power), out=np.zeros_like(frames), where=power > 0)


def unbiased_power(amplitude: complex, variance: float, count: int, pseudo_variance: complex = 0.0) -> Estimate:
    """|a|^2 from an estimate of a with a Gaussian error e, v = E|e|^2 and p = E[e^2], 0 where it is circular.

    E|a_hat|^2 = |a|^2 + v,   var |a_hat|^2 = 2 (|a|^2 v + Re(conj(a)^2 p)) + v^2 + |p|^2,

    which is 4 u^T C u + 2 tr(C^2) with u = (Re a, Im a) and C the covariance of (Re e, Im e).
    """
    squares = variance**2 + abs(pseudo_variance) ** 2
    # of a_hat, less the bias of its square
    linear = abs(amplitude) ** 2 * variance + (np.conj(amplitude) ** 2 * pseudo_variance).real - squares
    return Estimate(
        value=max(abs(amplitude) ** 2 - variance, 0.0),
        stderr=float(np.sqrt(2 * max(float(linear), 0.0) + squares)),
        count=count,
    )


def fit_paths(
    samples: NDArray[np.complexfloating],
    frames: NDArray[np.complex128],
    paths: Sequence[Path],
    sync: Sync,
    noise_var: float | None,
    slopes: Sequence[Path] = (),
) -> PathFit:
    """Joint fit of all paths to a receiver.

    Args:
        samples: of the receiver, shape (n,).
        frames: what every node sends, shape (num_tx, frame_len); zero rows are silent.
        paths: all paths to the receiver.
        sync: of these samples, on the same paths.
        noise_var: E|w|^2 per sample; that of the residual if None.
        slopes: paths that are no clean taps; each gets a derivative column, which is fitted and dropped.
    """
    offsets = np.nan_to_num(sync.offset_samples)
    columns = time_columns(paths, frames, offsets)
    num_active = int(np.count_nonzero(np.any(columns != 0, axis=1)))
    if slopes:
        columns = np.concatenate([columns, time_columns(slopes, frames, offsets, derivative=True)])
    active = np.any(columns != 0, axis=1)
    B = columns[active].T
    scale = np.linalg.norm(B, axis=0)
    inverse = np.linalg.pinv(B / scale) / scale[:, None]
    residual = _residual(samples, sync, B)
    sigma2 = residual.value if noise_var is None else noise_var
    h = np.full(len(columns), np.nan, dtype=np.complex128)
    covariance = np.zeros((len(columns), len(columns)), dtype=np.complex128)
    h[active] = inverse @ sync.folded
    covariance[np.ix_(active, active)] = sigma2 / sync.num_frames * (inverse @ inverse.conj().T)
    variance, pseudo = covariance.diagonal().real.copy(), np.zeros(len(columns), dtype=np.complex128)
    kept = slice(len(paths))
    J = _offset_columns(paths, frames, sync, h[kept])
    more, pseudo[active] = _offset_errors(B[:, :num_active], inverse, J, sigma2 / sync.num_frames)
    variance[active] += more
    return PathFit(
        tuple(paths), h[kept], covariance[kept, kept], variance[kept], pseudo[kept], residual, sync.num_frames
    )


def heard_columns(
    fit: PathFit, frames: NDArray[np.complex128], sync: Sync
) -> tuple[NDArray[np.int64], NDArray[np.complex128], NDArray[np.complex128]]:
    """What of every transmitter that is heard stands still, and the echoes, which may move.

    Returns:
        Transmitters, shape (L,); the sum of a transmitter's self, direct and clutter paths as they arrive, shape
        (L, frame_len); the columns of its echoes, shape (any, frame_len).
    """
    arrived = time_columns(fit.paths, frames, np.nan_to_num(sync.offset_samples))
    heard = np.flatnonzero(~np.isnan(sync.offset_samples))
    still = np.zeros((len(heard), frames.shape[1]), dtype=np.complex128)
    for row, tx in enumerate(heard):
        for h, path, column in zip(fit.h, fit.paths, arrived, strict=True):
            if path.tx == tx and path.kind != "echo":
                still[row] += h * column
    echoes = [c for p, c in zip(fit.paths, arrived, strict=True) if p.kind == "echo" and p.tx in heard]
    return heard, still, np.array(echoes).reshape(-1, frames.shape[1])


def path_measurements(fit: PathFit, sync: Sync, receiver: str, names: Sequence[str]) -> tuple[PathMeasurement, ...]:
    """Delay, power gain and phase of every path whose transmitter is on and heard."""
    rows = []
    for row, path in enumerate(fit.paths):
        if np.isnan(fit.h[row]) or np.isnan(sync.offset_samples[path.tx]):
            continue
        gain = fit.power_gain(row)
        # of the error across the phasor; a phasor lost in its error has any phase
        h = fit.h[row]
        across = (float(fit.variance[row]) - (np.conj(h) ** 2 * fit.pseudo_variance[row]).real / abs(h) ** 2) / 2
        spread = min(float(np.sqrt(max(across, 0.0)) / abs(h)), np.pi)
        delay = float(sync.offset_samples[path.tx]) + path.delay_samples
        rows.append(
            PathMeasurement(
                tx=names[path.tx],
                rx=receiver,
                kind=path.kind,
                via=path.via,
                delay_samples=Estimate(value=delay, stderr=float(sync.stderr_samples[path.tx]), count=fit.num_frames),
                power_gain=gain,
                phase_rad=Estimate(value=float(np.angle(fit.h[row])), stderr=spread, count=fit.num_frames),
            )
        )
    return tuple(rows)


def _offset_columns(
    paths: Sequence[Path], frames: NDArray[np.complex128], sync: Sync, h: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """J: what a later start of a transmitter adds to the mean frame, shape (frame_len, fitted offsets)."""
    slopes = time_columns(paths, frames, np.nan_to_num(sync.offset_samples), derivative=True).T * np.nan_to_num(h)
    tx = np.array([path.tx for path in paths])
    fitted = np.flatnonzero(~np.isnan(sync.offset_samples))
    return np.stack([slopes[:, tx == node].sum(axis=1) for node in fitted], axis=1)


def _offset_errors(
    B_paths: NDArray[np.complex128], inverse: NDArray[np.complex128], J: NDArray[np.complex128], v: float
) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """What fitted offsets add to E|e|^2, and E[e^2]; see above. Shapes (num_columns,)."""
    U = projection_basis(B_paths)
    off = J - U @ (U.conj().T @ J)
    K = np.linalg.pinv((off.conj().T @ off).real) * v / 2  # cov dt
    M = inverse @ J
    cross = inverse @ off @ K  # E[B^+ wbar dt^T]; zero without derivative columns
    more = np.sum((M @ K) * M.conj(), axis=1) - 2 * np.sum(cross * M.conj(), axis=1)
    pseudo: NDArray[np.complex128] = np.sum((M @ K - 2 * cross) * M, axis=1)
    return more.real, pseudo


def _residual(samples: NDArray[np.complexfloating], sync: Sync, B: NDArray[np.complex128]) -> Estimate:
    """Noise variance from what every single frame leaves: energy less the energy within range(B)."""
    frame_len = B.shape[0]
    num_frames = (samples.size - sync.start) // frame_len
    frames = samples[sync.start : sync.start + num_frames * frame_len].reshape(num_frames, frame_len)
    U = projection_basis(B)
    energy = 0.0
    for at in range(0, num_frames, _BLOCK_FRAMES):
        # double precision: what is left may be a thousandth of what was there
        block = frames[at : at + _BLOCK_FRAMES].astype(np.complex128)
        energy += float(np.linalg.norm(block) ** 2 - np.linalg.norm(block @ U.conj()) ** 2)
    count = num_frames * (frame_len - U.shape[1])
    value = energy / count
    return Estimate(value=value, stderr=value / np.sqrt(count), count=count)
