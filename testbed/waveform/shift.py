"""What a delay does to a repeated frame: a phase ramp over the DFT of the WHOLE frame (SIGNAL_CHAIN section 1).

This is the definition shared by emulator and model, exact for every delay, also beyond the cyclic prefix. The Nyquist
bin counts as -1/2, so that delays compose and stay unitary.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cyclic_shift(frame: NDArray[np.complexfloating], delay_samples: ArrayLike) -> NDArray[np.complex128]:
    """Delay a repeated frame: ifft(fft(frame) exp(-2j pi f tau)), f = fftfreq(frame_len).

    Args:
        frame: shape (..., frame_len).
        delay_samples: tau, any real number, broadcast against the leading axes of `frame`.

    Returns:
        Delayed frame, broadcast shape (..., frame_len).
    """
    return np.fft.ifft(np.fft.fft(frame) * delay_ramp(frame.shape[-1], delay_samples))


def delay_ramp(frame_len: int, delay_samples: ArrayLike) -> NDArray[np.complex128]:
    """What a delay is to the DFT of a repeated frame: exp(-2j pi f tau), shape (..., frame_len)."""
    tau = np.asarray(delay_samples, dtype=np.float64)[..., None]
    return np.exp(-2j * np.pi * np.fft.fftfreq(frame_len) * tau)


def cyclic_derivative(frame: NDArray[np.complexfloating], delay_samples: ArrayLike) -> NDArray[np.complex128]:
    """d/d tau of `cyclic_shift`, per sample of delay: the spectrum times -2j pi f. Same shapes."""
    tau = np.asarray(delay_samples, dtype=np.float64)[..., None]
    f = np.fft.fftfreq(frame.shape[-1])
    return np.fft.ifft(np.fft.fft(frame) * (-2j * np.pi * f) * np.exp(-2j * np.pi * f * tau))


def rms_bandwidth(frame: NDArray[np.complexfloating]) -> NDArray[np.float64]:
    """Root mean square bandwidth `beta` in cycles per sample about the carrier, shape (...,)."""
    power = np.abs(np.fft.fft(frame)) ** 2
    f = np.fft.fftfreq(frame.shape[-1])
    beta: NDArray[np.float64] = np.sqrt(np.sum(power * f**2, axis=-1) / np.sum(power, axis=-1))
    return beta
