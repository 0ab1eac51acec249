"""Path gains of one receiver by the joint fit over all its paths, with standard errors.

The mean frame is fitted with the column of every surveyed path at once, made of what was on the air: ybar = B h + wbar,
so that h are the amplitudes of the paths themselves. Frames are alike and their phases common, so averaging first is
coherent, and the covariance of h_hat is sigma2 (B^H B)^-1 / num_frames. The squared magnitude carries that variance as
a bias, which is taken off; a gain that comes out negative is floored at zero once, here (SIGNAL_CHAIN section 4).
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
    covariance: NDArray[np.complex128]  # E[(h_hat - h)(h_hat - h)^H], shape (num_paths, num_paths)
    residual_noise_var: Estimate  # what the fit leaves of every frame, per complex sample
    num_frames: int

    def power_gain(self, row: int) -> Estimate:
        """|h|^2 less its bias, floored at 0."""
        return unbiased_power(self.h[row], float(self.covariance[row, row].real), self.num_frames)


def unit_drive(frames: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Frames on the air over the root of their mean power; silent rows stay zero. Shape (num_tx, frame_len)."""
    power = np.mean(np.abs(frames) ** 2, axis=1, keepdims=True)
    return np.divide(frames, np.sqrt(power), out=np.zeros_like(frames), where=power > 0)


def unbiased_power(amplitude: complex, variance: float, count: int) -> Estimate:
    """|a|^2 from an estimate of a with E|error|^2 = variance.

    E|a_hat|^2 = |a|^2 + v, var |a_hat|^2 = 2 |a|^2 v + v^2 for a circular Gaussian error.
    """
    value = max(abs(amplitude) ** 2 - variance, 0.0)
    return Estimate(value=value, stderr=float(np.sqrt(2 * value * variance + variance**2)), count=count)


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
    kept = slice(len(paths))
    return PathFit(tuple(paths), h[kept], covariance[kept, kept], residual, sync.num_frames)


def path_measurements(fit: PathFit, sync: Sync, receiver: str, names: Sequence[str]) -> tuple[PathMeasurement, ...]:
    """Delay, power gain and phase of every path whose transmitter is on and heard."""
    rows = []
    for row, path in enumerate(fit.paths):
        if np.isnan(fit.h[row]) or np.isnan(sync.offset_samples[path.tx]):
            continue
        gain = fit.power_gain(row)
        variance = float(fit.covariance[row, row].real)
        # of a circular error on a phasor; a phasor lost in its error has any phase
        spread = min(float(np.sqrt(variance / 2) / abs(fit.h[row])), np.pi)
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
