"""Columns of one node's buffer as a receiver's frames see them: delayed, Doppler shifted, reduced to data elements.

A buffer holds B frames of different data. Where all frames share a delay the whole buffer is shifted by a phase ramp on
its DFT: exact for any delay, the definition of SIGNAL_CHAIN section 1. Where every frame has a delay of its own, each
is cut out with some of its neighbours, which fade out smoothly, and shifted alone: the kernel of a shift has died out
before it reaches the cut (80 dB below an element, tested).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.waveform.numerology import Numerology
from testbed.waveform.ofdm import resource_elements

MAX_DELAY_SAMPLES = 192.0  # of a frame alone, either way: the rest of the margin is the kernel's
_MARGIN, _FADE = 512, 256  # samples around a frame, and the outer ones of them that fade


@dataclass(frozen=True, eq=False)
class BufferColumns:
    """What one node repeats, ready to be delayed."""

    buffer: NDArray[np.complex128]  # shape (B * frame_len,)
    frame_len: int
    numerology: Numerology
    symbols: Sequence[int]  # of a frame, that are observed

    @property
    def num_frames(self) -> int:
        """B, frames of different data."""
        return self.buffer.size // self.frame_len

    @property
    def num_observations(self) -> int:
        """N, elements observed per frame."""
        return len(self.symbols) * self.numerology.num_subcarriers

    def extract(self, frames: NDArray[np.complexfloating]) -> NDArray[np.complex128]:
        """Frames (..., frame_len) to observations (..., N), symbol by symbol."""
        elements = resource_elements(frames, self.numerology, self.symbols)
        return elements.reshape(*elements.shape[:-2], self.num_observations)

    def together(self, delay_samples: float, order: int = 0) -> NDArray[np.complex128]:
        """Every frame of the buffer at one delay, or a derivative with respect to it.

        Args:
            delay_samples: tau, any.
            order: of the derivative d/d tau, 0 for none.

        Returns:
            Shape (B, N).
        """
        f = np.fft.fftfreq(self.buffer.size)
        shifted = np.fft.ifft(self._spectrum * _slopes(f, order) * np.exp(-2j * np.pi * f * delay_samples))
        return self.extract(shifted.reshape(self.num_frames, self.frame_len))

    def each(
        self,
        delay_samples: ArrayLike,
        rows: NDArray[np.int64],
        orders: Sequence[int] = (0,),
        *,
        doppler: float = 0.0,
        first: NDArray[np.int64] | None = None,
    ) -> list[NDArray[np.complex128]]:
        """Frames at delays of their own, and derivatives.

        Args:
            delay_samples: one per frame or one for all, at most MAX_DELAY_SAMPLES in size, shape (M,) or ().
            rows: which frame of the buffer each one is, shape (M,).
            orders: of the derivatives wanted.
            doppler: cycles per sample, turned by the time of the receiver.
            first: the receiver's index of the first sample of every frame, shape (M,); needed with a Doppler shift.

        Returns:
            One array of shape (M, N) per order.

        Raises:
            ValueError: a delay beyond what the margins hold.
        """
        tau = np.atleast_1d(np.asarray(delay_samples, dtype=np.float64))
        if not np.all(np.abs(tau) <= MAX_DELAY_SAMPLES):
            raise ValueError(f"delay_samples {np.max(np.abs(tau)):g}; must be at most {MAX_DELAY_SAMPLES:g}")
        spectra = self._frame_spectra
        f = np.fft.fftfreq(spectra.shape[1])
        source = spectra[rows] if len(spectra) > 1 else spectra
        shifted = source * np.exp(-2j * np.pi * f * tau[:, None])
        turn = None
        if doppler:
            assert first is not None, "a Doppler shift needs the time of every frame"
            index = first[:, None] + np.arange(self.frame_len)
            turn = np.exp(2j * np.pi * (doppler * index % 1.0))
        found = []
        for order in orders:
            frames = np.fft.ifft(shifted * _slopes(f, order))[:, _MARGIN : _MARGIN + self.frame_len]
            found.append(self.extract(frames if turn is None else frames * turn))
        return found

    @cached_property
    def _spectrum(self) -> NDArray[np.complex128]:
        return np.fft.fft(self.buffer)

    @cached_property
    def _frame_spectra(self) -> NDArray[np.complex128]:
        """Spectra of every frame with its margins, shape (B, any)."""
        around = np.arange(-_MARGIN, self.frame_len + _MARGIN)
        index = np.arange(self.num_frames)[:, None] * self.frame_len + around
        fade = np.ones(around.size)
        rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(_FADE) + 0.5) / _FADE)
        fade[:_FADE], fade[-_FADE:] = rise, rise[::-1]
        return np.fft.fft(self.buffer[index % self.buffer.size] * fade)


def _slopes(f: NDArray[np.floating], order: int) -> NDArray[np.complex128] | float:
    """(-2j pi f)^order."""
    if order == 0:
        return 1.0
    return np.asarray((-2j * np.pi * f) ** order, dtype=np.complex128)
