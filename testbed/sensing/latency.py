"""When the frames of known nodes arrive, in a capture of one pass of a buffer: start, and sub-sample offsets.

1. Coarse: correlate the pass with a node's whole buffer, and refine the peak by Newton's method on |c(tau)|^2, all in
   the spectrum. The receiver's own node first; then, of the others, on what the first paths found so far leave.
2. Fine: on the observed elements, all frames together, the first path s of a node (self or direct, 0 or the surveyed
   distance behind its start) is fitted with its derivative: y = c s + d s' + B b + w. To first order the path arrives
   Re(d / c) later than assumed. B holds what else is known to be there, frame by frame with free amplitudes: clutter,
   and the echo with its own derivative, wherever it is and however fast it moves. Without it a strong echo pulls
   the latency, and every range with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.errors import SyncError
from testbed.sensing.sync import MIN_PEAK_SIGMA

MAX_FRAMES = 4096  # of a buffer of one: more of the same add no data, and would be held in memory all at once
_NEWTON_STEPS = 12
_NEWTON_TOLERANCE = 1e-6  # samples


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of a buffer in a capture: which samples, and which of the buffer's frames they are."""

    start: int  # first sample of the first whole frame
    rows: NDArray[np.int64]  # frame of the buffer that each one is, shape (M,)
    fraction: float  # samples after `start`, of the arrival; -0.5..0.5
    peak_sigma: float  # correlation peak over its noise


def find_pass(
    samples: NDArray[np.complexfloating], buffer: NDArray[np.complex128], frame_len: int, name: str = "receiver"
) -> Pass:
    """Find a node's frames in a capture, at most one pass of its buffer.

    With a buffer of one frame all whole frames of the capture are found, up to MAX_FRAMES: they are alike.

    Args:
        samples: shape (n,), at least one frame.
        buffer: what the node repeats, shape (B * frame_len,).
        frame_len: samples of a frame.
        name: of the receiver, for messages.

    Raises:
        SyncError: a silent node, too few samples, or no clear peak.
    """
    if not np.any(buffer):
        raise SyncError(f"{name}: its own transmitter is silent; a range needs its frame")
    if samples.size < frame_len:
        raise SyncError(f"{name}: {samples.size} samples hold no frame of {frame_len}; capture more")
    arrival, peak_sigma = find_arrival(samples, buffer)
    if peak_sigma < MIN_PEAK_SIGMA:
        raise SyncError(
            f"{name}: own frame not found (peak {peak_sigma:.1f} sigma, need {MIN_PEAK_SIGMA:g}); raise its power or "
            f"capture a whole buffer of {buffer.size} samples"
        )
    lag = int(np.round(arrival))
    start = lag % frame_len
    num_frames = (samples.size - start) // frame_len
    if num_frames < 1:
        raise SyncError(f"{name}: {samples.size} samples hold no whole frame; capture one frame more than wanted")
    num_rows = buffer.size // frame_len
    num_frames = min(num_frames, num_rows if num_rows > 1 else MAX_FRAMES)
    rows = ((start - lag) // frame_len + np.arange(num_frames)) % num_rows
    return Pass(start, rows, arrival - lag, peak_sigma)


def find_arrival(samples: NDArray[np.complexfloating], buffer: NDArray[np.complex128]) -> tuple[float, float]:
    """Strongest arrival of a repeated buffer, samples after the first one, 0 .. buffer length; and its peak in sigma.

    The capture is folded at the buffer's length, or filled up with zeros.
    """
    L = buffer.size
    passes = max(samples.size // L, 1)
    folded = np.zeros(L, dtype=np.complex128)
    part = samples[: passes * L]
    if part.size < L:
        folded[: part.size] = part
    else:
        folded = part.reshape(passes, L).mean(axis=0, dtype=np.complex128)
    Z = np.fft.fft(folded) * np.conj(np.fft.fft(buffer))
    magnitude = np.abs(np.fft.ifft(Z))
    lag = int(np.argmax(magnitude))
    sigma = float(np.median(magnitude)) / np.sqrt(2 * np.log(2))  # of a Rayleigh law
    f = np.fft.fftfreq(L)
    tau = float(lag)
    for _ in range(_NEWTON_STEPS):
        z = Z * np.exp(2j * np.pi * f * tau)
        c, c1, c2 = np.sum(z), 2j * np.pi * (z @ f), -4 * np.pi**2 * (z @ f**2)
        slope, curvature = 2 * (np.conj(c) * c1).real, 2 * (abs(c1) ** 2 + (np.conj(c) * c2).real)
        if curvature >= 0:
            break  # no peak within reach: the integer will do
        step = float(np.clip(-slope / curvature, -0.25, 0.25))
        tau += step
        if abs(step) < _NEWTON_TOLERANCE or abs(tau - lag) > 1:
            break
    if abs(tau - lag) > 1:
        tau = float(lag)
    return tau, float(magnitude[lag]) / sigma if sigma > 0 else 0.0


@dataclass(frozen=True, eq=False)
class LatencyStep:
    """How much later first paths arrive than assumed."""

    later_samples: NDArray[np.float64]  # shape (K,)
    stderr_samples: NDArray[np.float64]  # shape (K,)


def latency_step(
    y: NDArray[np.complex128],
    first: Sequence[NDArray[np.complex128]],
    slopes: Sequence[NDArray[np.complex128]],
    nuisance: Sequence[NDArray[np.complex128]],
) -> LatencyStep:
    """One Gauss-Newton step on the arrivals of first paths, all frames together.

    Args:
        y: observations, shape (M, N).
        first: column of every first path where it is assumed, K arrays of shape (M, N) or (1, N).
        slopes: their derivatives with respect to the delay, K arrays.
        nuisance: what else is there, with an amplitude of its own in every frame, same shapes.

    Returns:
        The step, and its Cramer-Rao bound with the noise of the residual.
    """
    K = len(first)
    G = np.stack(np.broadcast_arrays(*first, *slopes), axis=-1)  # (M or 1, N, 2K)
    if nuisance:
        U, _ = np.linalg.qr(_unit(np.stack(np.broadcast_arrays(*nuisance), axis=-1)))
        Uh = np.conj(np.swapaxes(U, -1, -2))
        G = G - U @ (Uh @ G)
        y = y - (U @ (Uh @ y[..., None]))[..., 0]
    Gh = np.conj(np.swapaxes(G, -1, -2))
    repeats = len(y) // len(G) if len(G) == 1 else 1
    normal = np.sum(Gh @ G, axis=0) * repeats
    scale = 1 / np.sqrt(normal.diagonal().real)  # equal columns: the normal equations keep 12 digits
    right = np.sum(Gh @ y[..., None], axis=0)[:, 0]
    inverse = np.linalg.pinv(normal * scale * scale[:, None]) * scale * scale[:, None]
    fit = inverse @ right
    c, d = fit[:K], fit[K:]
    rest = float(np.sum(np.abs(y) ** 2) - (np.conj(right) @ fit).real)
    sigma2 = max(rest, 0.0) / max(y.size - len(nuisance) * len(y) - 2 * K, 1)
    variance = sigma2 * inverse.diagonal().real[K:] / (2 * np.abs(c) ** 2)
    return LatencyStep((d / c).real, np.sqrt(variance))


def _unit(columns: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Columns (.., N, Q) of norm 1, zero ones left as they are."""
    norms = np.linalg.norm(columns, axis=-2, keepdims=True)
    return columns / np.where(norms > 0, norms, 1.0)
