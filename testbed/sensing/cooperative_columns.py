"""What every node's frame is to one receiver within one slot: exact columns, also on a fine grid of delays.

A delay is a phase ramp on the DFT of the whole frame (`waveform.shift`). On a grid of 1/n sample all delays come from
ONE inverse transform, n times as long: sample k of it is the frame k/n samples on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.waveform.shift import delay_ramp


@dataclass(frozen=True, eq=False)
class ArrivedFrames:
    """Frames of all nodes as they arrive at one receiver over their first paths."""

    spectra: NDArray[np.complex128]  # DFT of the frames, delayed, shape (num_nodes, frame_len); zero rows are dead

    @classmethod
    def of(cls, frames: NDArray[np.complex128], first_samples: NDArray[np.float64]) -> "ArrivedFrames":
        """Frames (num_nodes, frame_len) with first paths at these delays, shape (num_nodes,); NaN for dead nodes."""
        live = np.isfinite(first_samples)
        spectra = np.zeros(frames.shape, dtype=np.complex128)
        spectra[live] = np.fft.fft(frames[live]) * delay_ramp(frames.shape[1], first_samples[live])
        return cls(spectra)

    def first(self, slot: slice) -> NDArray[np.complex128]:
        """First paths within a slot, shape (num_nodes, slot_len)."""
        found: NDArray[np.complex128] = self._in_time[:, slot]
        return found

    def later(self, tx: int, slot: slice, excess_samples: float, order: int = 0) -> NDArray[np.complex128]:
        """A node's frame so much after its first path, or a derivative by that delay, shape (slot_len,)."""
        f = np.fft.fftfreq(self.spectra.shape[1])
        shifted = self.spectra[tx] * (-2j * np.pi * f) ** order * np.exp(-2j * np.pi * f * excess_samples)
        return np.fft.ifft(shifted)[slot]

    def grid(self, tx: int, slot: slice, num_delays: int, per_sample: int) -> NDArray[np.complex64]:
        """A node's frame 0, 1/per_sample, 2/per_sample .. after its first path, shape (num_delays, slot_len)."""
        frame_len = self.spectra.shape[1]
        padded = np.zeros(frame_len * per_sample, dtype=np.complex128)
        half = (frame_len + 1) // 2  # of an even length, the bin at -1/2 goes with the negative ones
        padded[:half], padded[half - frame_len :] = self.spectra[tx, :half], self.spectra[tx, half:]
        fine = (np.fft.ifft(padded) * per_sample).astype(np.complex64)
        at = np.arange(slot.start, slot.stop) * per_sample - np.arange(num_delays)[:, None]
        return fine[at]

    @property
    def _in_time(self) -> NDArray[np.complex128]:
        return np.fft.ifft(self.spectra)
