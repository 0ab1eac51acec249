"""What every user's frame is to the receiver: delayed exactly, and seen through a window ahead of the symbols.

The window of every symbol begins some samples before its cyclic prefix ends, so that frames may come a little early or
late, and a start that is a sample wrong still leaves every window within its coherence block. A delay is a phase ramp
over the DFT of the whole frame. On elements it is a ramp, too, to -30 dB only: a delay of a fraction of a sample is a
filter as long as the frame. So frames are delayed first, and then go the way of the received samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.waveform.numerology import Numerology
from testbed.waveform.ofdm import resource_elements


@dataclass(frozen=True, eq=False)
class FrameColumns:
    """Frames of all users, ready to be delayed."""

    frames: NDArray[np.complex128]  # as on the air, shape (..., K, frame_len)
    numerology: Numerology
    advance: int  # samples that a window begins before the end of the cyclic prefix

    @property
    def late_samples(self) -> int:
        """Samples that a frame may come late; it may come early by `advance`."""
        return self.numerology.cp_len - self.advance

    def extract(self, blocks: NDArray[np.complexfloating]) -> NDArray[np.complex128]:
        """Blocks of samples (..., frame_len) to elements (..., T), symbol by symbol."""
        num_symbols = blocks.shape[-1] // self.numerology.symbol_len
        elements = resource_elements(blocks, self.numerology, range(num_symbols), self.advance)
        return elements.reshape(*elements.shape[:-2], -1)

    def at(self, delay_samples: ArrayLike, order: int = 0) -> NDArray[np.complex128]:
        """Columns at one delay per user, or their derivative with respect to it.

        Args:
            delay_samples: tau, shape (K,).
            order: of the derivative d/d tau, 0 for none.

        Returns:
            Shape (..., K, T).
        """
        f = np.fft.fftfreq(self.frames.shape[-1])
        tau = np.asarray(delay_samples, dtype=np.float64)[:, None]
        slope = (-2j * np.pi * f) ** order if order else 1.0
        return self.extract(np.fft.ifft(np.fft.fft(self.frames) * (slope * np.exp(-2j * np.pi * f * tau))))

    def ramp(self, delay_samples: ArrayLike, element_subcarrier: NDArray[np.int64]) -> NDArray[np.complex128]:
        """What a delay and the window do to elements, to -30 dB: shape (K, T)."""
        late = np.asarray(delay_samples, dtype=np.float64)[:, None] + self.advance
        return np.exp(-2j * np.pi * element_subcarrier / self.numerology.fft_size * late)
