"""When the users' frames arrive, while every block has channels of its own: nothing adds up in phase over blocks.

Start: the capture is cut into segments of one frame, each correlated cyclically with every user's whole frame, and the
squared magnitudes are summed over segments, channels and users.

Fraction: with A(tau) the users' columns (T, K) at delays tau, and R = sum y y^H over blocks and antennas, each with
channels of its own,

    tau_hat = argmin tr((I - P_A) R)

by Gauss-Newton on the variable projection: with A1 = (I - P_A) dA/dtau and C = A^+ R A^+H,

    F_kj = Re[(A1^H A1)_kj C_jk],   g_k = Re[(A1^H R A^+H)_kk],   step = F^-1 g,   cov(tau_hat) = sigma2 / 2 F^-1.

Where differences of the users' delays are known, F and g are summed over users, and one common delay is fitted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.errors import SyncError
from testbed.sensing.uplink_columns import FrameColumns

MIN_PEAK_SIGMA = 8.0  # of the summed correlation; a sum of exponentials at 180 lags exceeds 8 sigma with 1e-4 at worst
MAX_START_BLOCKS = 64  # segments that are correlated
MAX_FIT_BLOCKS = 1000  # blocks that the fraction is fitted to: 0.001 sample at -6 dB per element and 8 channels
_GRID = 4  # steps per sample of the starting search
_TOLERANCE = 1e-7  # samples
_MAX_STEPS, _MAX_HALVINGS = 30, 20


@dataclass(frozen=True, eq=False)
class Timing:
    """Where the users' frames are."""

    start: int  # first sample of the first whole block
    delay_samples: NDArray[np.float64]  # of every user's frame after `start`, shape (K,)
    stderr_samples: NDArray[np.float64]  # shape (K,)
    peak_sigma: float  # summed correlation at `start` over what noise alone would scatter


def find_start(
    samples: NDArray[np.complexfloating], frames: NDArray[np.complex128], name: str = "receiver"
) -> tuple[int, float]:
    """First sample of the frames, 0 .. frame_len - 1, right to about a sample, and the peak in sigma.

    Args:
        samples: shape (M, n), at least one frame.
        frames: what every user repeats, shape (K, frame_len).
        name: of the receiver, for messages.

    Raises:
        SyncError: too few samples, a silent user, or no clear peak.
    """
    profile, num_terms = _profiles(samples, frames, name)
    total = profile.sum(axis=0)
    start = int(np.argmax(total))
    # of noise alone a lag is a sum of exponentials, in the worst case the same for all users
    peak_sigma = float((total[start] / np.median(total) - 1) * np.sqrt(num_terms))
    if peak_sigma < MIN_PEAK_SIGMA:
        level = 10 * np.log10(np.mean(np.abs(samples) ** 2) + 1e-300)
        raise SyncError(
            f"{name}: no frames found in {samples.shape[1]} samples (peak {peak_sigma:.1f} sigma, need "
            f"{MIN_PEAK_SIGMA:g}); raise the users' power or rx_gain_db (input is {level:.0f} dBm), or check the "
            f"antennas"
        )
    return start, peak_sigma


def coarse_delays(
    samples: NDArray[np.complexfloating], columns: FrameColumns, start: int, name: str = "receiver"
) -> NDArray[np.float64]:
    """Every user's delay after `start` to a quarter of a sample, within what the window allows, shape (K,)."""
    reach = np.arange(-columns.advance * _GRID, columns.late_samples * _GRID + 1) / _GRID
    profile, _ = _profiles(samples, columns.frames, name, start + reach)
    return reach[np.argmax(profile, axis=1)]


def fit_delays(
    elements: NDArray[np.complex128],
    columns: FrameColumns,
    first: NDArray[np.float64],
    *,
    common: bool = False,
    name: str = "receiver",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Delays of all users after the start, and their standard errors, shape (K,) each.

    Args:
        elements: blocks, shape (B, M, T); the first MAX_FIT_BLOCKS count.
        columns: of the frames on the air.
        first: where the search begins, within about 0.3 samples, shape (K,).
        common: fit one delay for all; differences stay those of `first`.
        name: of the receiver, for messages.

    Raises:
        SyncError: a delay that runs away from where its search began, or that the window does not hold.
    """
    used = elements[:MAX_FIT_BLOCKS]
    rows = used.reshape(-1, used.shape[-1])
    R = rows.T @ rows.conj()
    fit = _Fit.at(R, columns, first, len(rows))
    for _ in range(_MAX_STEPS):
        step = fit.step(common)
        for _ in range(_MAX_HALVINGS):
            trial = _Fit.at(R, columns, fit.delay + step, len(rows))
            if trial.cost <= fit.cost:
                break
            step = step / 2
        else:
            break  # the minimum to rounding
        fit = trial
        if np.max(np.abs(step)) < _TOLERANCE:
            break
    moved = np.abs(fit.delay - first)
    outside = (fit.delay < -columns.advance) | (fit.delay > columns.late_samples)
    if np.any(moved > 1.0) or np.any(outside):
        user = int(np.argmax(np.where(outside, np.inf, moved)))
        raise SyncError(
            f"{name}: user {user + 1} arrives {fit.delay[user]:.2f} samples after the start, begun at "
            f"{first[user]:.2f}; must stay within a sample of it and within {-columns.advance}.."
            f"{columns.late_samples}; raise its power, or bring the users' starts together"
        )
    return fit.delay, fit.stderr(common)


@dataclass(frozen=True, eq=False)
class _Fit:
    """The variable projection at some delays."""

    delay: NDArray[np.float64]
    cost: float  # tr((I - P_A) R)
    gradient: NDArray[np.float64]  # g
    fisher: NDArray[np.float64]  # F
    noise_var: float

    @classmethod
    def at(cls, R: NDArray[np.complex128], columns: FrameColumns, delay: NDArray[np.float64], num_rows: int) -> "_Fit":
        A, A1 = columns.at(delay).T, columns.at(delay, order=1).T
        inverse = np.linalg.pinv(A)
        A1 = A1 - A @ (inverse @ A1)
        RA = R @ inverse.conj().T
        C = inverse @ RA
        cost = float(np.trace(R).real - np.trace(A @ (inverse @ R)).real)
        fisher = ((A1.conj().T @ A1) * C.T).real
        freedom = num_rows * (A.shape[0] - A.shape[1])
        return cls(delay, cost, np.diag(A1.conj().T @ RA).real, fisher, cost / freedom)

    def step(self, common: bool) -> NDArray[np.float64]:
        if common:
            return np.full(self.delay.size, np.clip(self.gradient.sum() / self.fisher.sum(), -0.25, 0.25))
        return np.clip(np.linalg.lstsq(self.fisher, self.gradient, rcond=None)[0], -0.25, 0.25)

    def stderr(self, common: bool) -> NDArray[np.float64]:
        if common:
            return np.full(self.delay.size, np.sqrt(self.noise_var / 2 / self.fisher.sum()))
        return np.sqrt(self.noise_var / 2 * np.diag(np.linalg.pinv(self.fisher)))


def _profiles(
    samples: NDArray[np.complexfloating],
    frames: NDArray[np.complex128],
    name: str,
    lags: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], int]:
    """Squared correlations of every user at all lags, or at those given, shape (K, lags), and how many were summed."""
    frame_len = frames.shape[-1]
    num_segments = min(samples.shape[-1] // frame_len, MAX_START_BLOCKS)
    if num_segments < 1:
        raise SyncError(f"{name}: {samples.shape[-1]} samples hold no frame of {frame_len}; capture more")
    size = np.linalg.norm(frames, axis=-1, keepdims=True)
    if np.any(size == 0):
        silent = ", ".join(str(k + 1) for k in np.flatnonzero(size[:, 0] == 0))
        raise SyncError(f"{name}: user {silent} is silent; give every user power")
    segments = samples[:, : num_segments * frame_len].reshape(-1, frame_len)
    spectra = np.fft.fft(segments.astype(np.complex128))
    conj = np.conj(np.fft.fft(frames / size))
    profile = []
    for row in conj:
        if lags is None:
            correlation = np.fft.ifft(spectra * row)
        else:
            turn = np.exp(2j * np.pi * np.outer(np.fft.fftfreq(frame_len), lags))
            correlation = (spectra * row) @ turn / frame_len
        profile.append(np.sum(np.abs(correlation) ** 2, axis=0))
    return np.stack(profile), len(segments)
