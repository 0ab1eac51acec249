"""What moves: the Doppler shift of an echo from its amplitudes over frames, and what stands still, taken out.

Frames of length T_f seconds sample the phase of an echo: a_t = a exp(2j pi nu t T_f). With M frames nu is unambiguous
within +-1 / (2 T_f) and resolved to a bin of 1 / (M T_f). It is positive for a closing target:
v = -dR/dt = nu c / (2 fc).

    var(nu) >= 6 / ((2 pi T_f)^2 rho M (M^2 - 1)),   rho = |a|^2 / var(a_t)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PAD = 8  # grid points per bin
_STEPS = 20


@dataclass(frozen=True)
class FrequencyFit:
    """Frequency of a tone, cycles per frame, in [-0.5, 0.5)."""

    frequency: float
    stderr: float  # Cramer-Rao bound with the noise of the residual
    peak: float  # periodogram's, over the sum of |a|^2: 1 for a clean tone


def tone_frequency(amplitude: NDArray[np.complex128], variance: float | None = None) -> FrequencyFit:
    """Maximum-likelihood frequency of amplitudes over frames: peak of the padded periodogram, then Newton's method.

    Args:
        amplitude: a_t, shape (M,), at least 2.
        variance: of a_t, E|e|^2; from what the tone leaves if None.

    Raises:
        ValueError: fewer than 2 frames.
    """
    M = amplitude.size
    if M < 2:
        raise ValueError(f"amplitude: found {M} frames; a Doppler shift needs at least 2")
    size = _PAD * M
    at = int(np.argmax(np.abs(np.fft.fft(amplitude, size))))
    nu = float(np.fft.fftfreq(size)[at])
    k = np.arange(M) - (M - 1) / 2
    for _ in range(_STEPS):
        z = amplitude * np.exp(-2j * np.pi * nu * k)
        s, s1, s2 = np.sum(z), -2j * np.pi * (z @ k), -4 * np.pi**2 * (z @ k**2)
        slope, bend = 2 * (np.conj(s) * s1).real, 2 * (abs(s1) ** 2 + (np.conj(s) * s2).real)
        if bend >= 0:
            break
        step = float(np.clip(-slope / bend, -0.5 / size, 0.5 / size))
        nu += step
        if abs(step) < 1e-12:
            break
    tone = np.sum(amplitude * np.exp(-2j * np.pi * nu * k)) / M
    total = float(np.sum(np.abs(amplitude) ** 2))
    if variance is None:
        variance = max(total - M * abs(tone) ** 2, 0.0) / max(M - 1, 1)
    rho = abs(tone) ** 2 / variance if variance > 0 else np.inf
    stderr = float(np.sqrt(6 / (4 * np.pi**2 * rho * M * (M**2 - 1)))) if rho > 0 else np.inf
    return FrequencyFit(float(nu), stderr, M * abs(tone) ** 2 / total if total > 0 else 0.0)


def remove_static(y: NDArray[np.complex128], x: NDArray[np.complex128], num_subcarriers: int) -> NDArray[np.complex128]:
    """Zero-Doppler removal: take the response that all frames share, H_k = sum conj(x) y / sum |x|^2, times x, away.

    Division, averaged with the weight that each element has: constant-modulus data or not, nothing static survives.
    A static echo is removed with the rest; a moving one keeps `moving_share` of its energy.

    Args:
        y: observations, shape (M, N), symbol by symbol.
        x: the own frame's elements at the delay of its first path, shape (M, N) or (1, N).
        num_subcarriers: elements of a symbol.
    """
    shape = (len(y), -1, num_subcarriers)
    elements, sent = y.reshape(shape), np.broadcast_to(x, y.shape).reshape(shape)
    power = np.sum(np.abs(sent) ** 2, axis=(0, 1))
    H = np.sum(sent.conj() * elements, axis=(0, 1)) / np.where(power > 0, power, 1.0)
    return (elements - H * sent).reshape(y.shape)


def restore_mean(amplitude: NDArray[np.complex128], frequency: float) -> NDArray[np.complex128]:
    """Amplitudes of a moving echo as they were before zero-Doppler removal took their mean away.

    A tone that is no whole number of bins loses part of itself, and without it seems to turn at another rate. Fixed
    point: tone, frequency, mean of the tone, until the frequency stands.

    Args:
        amplitude: derotated by `frequency`, shape (M,).
        frequency: cycles per frame.
    """
    k = np.arange(amplitude.size)
    turn = np.exp(2j * np.pi * frequency * k)
    turned = amplitude * turn
    restored, nu = turned, frequency
    for _ in range(_STEPS):
        e = np.exp(2j * np.pi * nu * k)
        moving = e - np.mean(e)
        energy = float(np.sum(np.abs(moving) ** 2))
        if energy < 1e-6 * k.size:
            break  # it stands still: nothing is left of it
        restored = turned + np.vdot(moving, turned) / energy * np.mean(e)
        before, nu = nu, tone_frequency(restored).frequency
        if abs(nu - before) < 1e-9:
            break
    return restored / turn


def moving_share(frequency: float, num_frames: int) -> float:
    """Share of a moving echo's energy that zero-Doppler removal leaves: 1 - |sin(pi nu M) / (M sin(pi nu))|^2.

    Args:
        frequency: nu, cycles per frame.
        num_frames: M.

    Source: localisation specification, section 9.2, with frames for symbols.
    """
    below = num_frames * np.sin(np.pi * frequency)
    if abs(below) < 1e-12:
        return 0.0
    return float(1 - (np.sin(np.pi * frequency * num_frames) / below) ** 2)


@dataclass(frozen=True, eq=False)
class RangeDopplerMap:
    """Power over delay and Doppler shift."""

    delay_samples: NDArray[np.float64]  # shape (G,)
    frequency: NDArray[np.float64]  # cycles per frame, shape (F,)
    power: NDArray[np.float64]  # |sum_t a_t(tau) exp(-2j pi nu t)|^2 / M, shape (F, G)


def range_doppler_map(
    y: NDArray[np.complex128],
    x: NDArray[np.complex128],
    subcarriers: NDArray[np.int64],
    fft_size: int,
    delay_samples: NDArray[np.float64],
    *,
    divide: bool = False,
) -> RangeDopplerMap:
    """The picture: divide received by transmitted elements (or match), inverse transform, transform over frames.

    Exact only for delays near that of `x` and within the cyclic prefix; for looking, and for starts.

    Args:
        y: observations with D removed, shape (M, N).
        x: the own frame's elements without delay, shape (M, N) or (1, N).
        subcarriers: of a symbol's elements.
        fft_size: bins of a symbol.
        delay_samples: wanted, shape (G,).
        divide: by x, else matched with conj(x) / mean |x|^2; alike for constant-modulus data.
    """
    sent = np.broadcast_to(x, y.shape)
    if divide:
        heard = np.divide(y, sent, out=np.zeros_like(y), where=sent != 0)
    else:
        heard = y * sent.conj() / np.mean(np.abs(sent) ** 2)
    channel = heard.reshape(len(y), -1, len(subcarriers)).mean(axis=1)
    profile = channel @ np.exp(2j * np.pi * np.outer(subcarriers, delay_samples) / fft_size) / len(subcarriers)
    M = len(y)
    spectrum = np.fft.fftshift(np.fft.fft(profile, 2 * M, axis=0), axes=0)
    return RangeDopplerMap(delay_samples, np.fft.fftshift(np.fft.fftfreq(2 * M)), np.abs(spectrum) ** 2 / M)
