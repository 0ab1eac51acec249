"""The frame one node repeats: preamble, pilots, data; mean power 1, then scaled to its powers.

What is repeated may also be several frames, alike but for their data: then interference from other nodes is another in
every frame, as noise is, and does not repeat into a bias (scenes/localization.md section 3).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.waveform.numerology import Numerology
from testbed.waveform.ofdm import modulate
from testbed.waveform.sequences import Modulation, comb, data_symbols, dft_cover, zadoff_chu

# streams of the frame's random generator: (seed, stream, node), and for the data of further frames (.., frame)
_PILOT_STREAM, _DATA_STREAM = 0, 1
MAX_FRAME_LEN = 1 << 22  # samples: 0.2 s at 20 MS/s, 64 MiB per node in double precision


@dataclass(frozen=True)
class Frame:
    """What all transmitting nodes repeat.

    Powers are linear, in milliwatt at the antenna port where a radio is calibrated, else relative to its reference.
    What they are powers of, its design says: a `FrameDesign` the mean of samples, an `UplinkDesign` an element, a
    `CooperativeDesign` the samples of a full symbol.
    """

    samples: NDArray[np.complex128]  # shape (num_nodes, frame_len), scaled to the powers; see BufferDesign.buffer_len
    pilot_power: NDArray[np.float64]  # preamble and pilots, shape (num_nodes,)
    data_power: NDArray[np.float64]  # shape (num_nodes,)

    @property
    def frame_len(self) -> int:
        """Samples of one repetition."""
        return int(self.samples.shape[-1])

    @property
    def power(self) -> NDArray[np.float64]:
        """Mean power over the frame of what is really sent, shape (num_nodes,)."""
        mean: NDArray[np.float64] = np.mean(np.abs(self.samples) ** 2, axis=-1)
        return mean

    @property
    def peak_to_average(self) -> NDArray[np.float64]:
        """Largest squared rail (real or imaginary part) over the mean power, linear, shape (num_nodes,)."""
        rail = np.maximum(np.abs(self.samples.real), np.abs(self.samples.imag)).max(axis=-1)
        return np.divide(rail**2, self.power, out=np.ones_like(rail), where=self.power > 0)


class BufferDesign(StrictModel):
    """What the designs of all buffers have; the `[waveform]` table of an experiment file is one of them."""

    numerology: Numerology
    data_seed: int = Field(default=1, ge=0)
    num_data_frames: int = Field(default=1, ge=1, le=65536)  # frames of different data before the buffer repeats

    @property
    def num_nodes(self) -> int:
        """Transmitting nodes."""
        raise NotImplementedError

    @property
    def frame_len(self) -> int:
        """Samples of a frame."""
        raise NotImplementedError

    @property
    def buffer_len(self) -> int:
        """Samples before anything repeats: `num_data_frames` frames. It is the `frame_len` of the `Frame`."""
        return self.num_data_frames * self.frame_len

    def frame(self, pilot_power: NDArray[np.float64], data_power: NDArray[np.float64] | None = None) -> Frame:
        """What all nodes repeat at these powers, shape (num_nodes,); data at those of pilots if None.

        Raises:
            ValueError: wrong shape, negative or not finite.
        """
        raise NotImplementedError

    def _powers(
        self, pilot_power: NDArray[np.float64], data_power: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both power vectors, checked."""
        pilot = np.asarray(pilot_power, dtype=np.float64)
        data = pilot if data_power is None else np.asarray(data_power, dtype=np.float64)
        for name, power in (("pilot_power", pilot), ("data_power", data)):
            if power.shape != (self.num_nodes,) or not np.all(np.isfinite(power)) or np.any(power < 0):
                raise ValueError(f"{name}: {power}; must be {self.num_nodes} finite numbers >= 0, one per node")
        return pilot, data

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.data_seed, spawn_key=key))


class FrameDesign(BufferDesign):
    """Frames of a preamble, pilots and data."""

    preamble_roots: tuple[int, ...]  # Zadoff-Chu root of every transmitting node, all different
    preamble_len: int = Field(ge=3, le=65537)  # sequence length; its first num_subcarriers elements are sent
    num_preamble_symbols: int = Field(default=1, ge=1, le=64)
    pilot_code: Literal["comb", "dft_cover"] = "comb"
    num_pilot_symbols: int = Field(default=1, ge=0, le=64)
    modulation: Modulation = "qpsk"
    num_data_symbols: int = Field(ge=1, le=4096)

    @model_validator(mode="after")
    def _fits(self) -> "FrameDesign":
        if self.buffer_len > MAX_FRAME_LEN:
            frames = f"{self.num_data_frames} frames of " if self.num_data_frames > 1 else ""
            raise ValueError(
                f"frame_len: found {self.buffer_len} samples ({frames}{self.num_symbols} symbols of "
                f"{self.numerology.symbol_len}); must be at most {MAX_FRAME_LEN}; use fewer symbols or less fft_size"
            )
        if len(set(self.preamble_roots)) != len(self.preamble_roots) or not self.preamble_roots:
            raise ValueError(f"preamble_roots: found {list(self.preamble_roots)}; one different root per node")
        for root in self.preamble_roots:
            zadoff_chu(root, self.preamble_len)
        if self.preamble_len < self.numerology.num_subcarriers:
            raise ValueError(
                f"preamble_len: found {self.preamble_len}; must be at least num_subcarriers = "
                f"{self.numerology.num_subcarriers}"
            )
        if self.pilot_code == "dft_cover" and 0 < self.num_pilot_symbols < self.num_nodes:
            raise ValueError(
                f"num_pilot_symbols: found {self.num_pilot_symbols}; a dft_cover of {self.num_nodes} nodes needs at "
                f"least {self.num_nodes} (or 0 for no pilots)"
            )
        return self

    @property
    def num_nodes(self) -> int:
        """Transmitting nodes."""
        return len(self.preamble_roots)

    @property
    def num_symbols(self) -> int:
        """OFDM symbols of a frame: preamble, pilots, data, in this order."""
        return self.num_preamble_symbols + self.num_pilot_symbols + self.num_data_symbols

    @property
    def frame_len(self) -> int:
        """Samples of a frame."""
        return self.num_symbols * self.numerology.symbol_len

    @property
    def data_symbol_idx(self) -> tuple[int, ...]:
        """Indices of the data symbols within the frame."""
        return tuple(range(self.num_preamble_symbols + self.num_pilot_symbols, self.num_symbols))

    @property
    def pilot_symbol_idx(self) -> tuple[int, ...]:
        """Indices of the pilot symbols within the frame."""
        return tuple(range(self.num_preamble_symbols, self.num_preamble_symbols + self.num_pilot_symbols))

    def data_indices(self, node_idx: int, frame_idx: int = 0) -> NDArray[np.int64]:
        """Constellation index of every data symbol of a node, shape (num_data_symbols, num_subcarriers)."""
        return self._data(node_idx, frame_idx)[1]

    def grid(self, frame_idx: int = 0) -> NDArray[np.complex128]:
        """Resource elements of every node at unit mean power per element of a full symbol, in one of the frames.

        Shape (num_nodes, num_symbols, num_subcarriers). A comb symbol holds the power of a full one: its elements are
        stronger by num_subcarriers / (elements of the comb).
        """
        return np.stack([self._node_grid(node_idx, frame_idx) for node_idx in range(self.num_nodes)])

    def frame(self, pilot_power: NDArray[np.float64], data_power: NDArray[np.float64] | None = None) -> Frame:
        """Frames of all nodes: mean power exactly 1 at unit powers, then preamble and pilots scaled by
        sqrt(pilot_power), data by sqrt(data_power) (same as pilot_power if None). Mean over the whole buffer.

        Args:
            pilot_power: linear, shape (num_nodes,).
            data_power: linear, shape (num_nodes,).

        Raises:
            ValueError: wrong shape, negative or not finite.
        """
        pilot, data = self._powers(pilot_power, data_power)
        samples = self._unit_samples.copy()
        data_start = self.data_symbol_idx[0] * self.numerology.symbol_len
        frames = samples.reshape(self.num_nodes, self.num_data_frames, self.frame_len)  # a view
        frames[..., :data_start] *= np.sqrt(pilot)[:, None, None]
        frames[..., data_start:] *= np.sqrt(data)[:, None, None]
        return Frame(samples, pilot, data)

    @cached_property
    def _unit_samples(self) -> NDArray[np.complex128]:
        samples = np.empty((self.num_nodes, self.buffer_len), dtype=np.complex128)
        for frame_idx in range(self.num_data_frames):
            at = frame_idx * self.frame_len
            samples[:, at : at + self.frame_len] = modulate(self.grid(frame_idx), self.numerology)
        return samples / np.sqrt(np.mean(np.abs(samples) ** 2, axis=-1, keepdims=True))

    def _node_grid(self, node_idx: int, frame_idx: int) -> NDArray[np.complex128]:
        num_subcarriers = self.numerology.num_subcarriers
        sequence = zadoff_chu(self.preamble_roots[node_idx], self.preamble_len)[:num_subcarriers]
        preamble = np.tile(sequence, (self.num_preamble_symbols, 1))
        return np.concatenate([preamble, self._pilots(node_idx), self._data(node_idx, frame_idx)[0]])

    def _data(self, node_idx: int, frame_idx: int) -> tuple[NDArray[np.complex128], NDArray[np.int64]]:
        if not 0 <= frame_idx < self.num_data_frames:
            raise ValueError(f"frame_idx {frame_idx}; must lie in 0..{self.num_data_frames - 1}")
        shape = (self.num_data_symbols, self.numerology.num_subcarriers)
        further = (frame_idx,) if frame_idx else ()  # the first frame is that of a buffer of one
        return data_symbols(self.modulation, shape, self._rng(_DATA_STREAM, node_idx, *further))

    def _pilots(self, node_idx: int) -> NDArray[np.complex128]:
        shape = (self.num_pilot_symbols, self.numerology.num_subcarriers)
        if self.pilot_code == "dft_cover":
            # one base row for all symbols and nodes: orthogonality comes from the cover alone
            base, _ = data_symbols("qpsk", (1, shape[1]), self._rng(_PILOT_STREAM, 0))
            return dft_cover(node_idx, self.num_pilot_symbols)[:, None] * base
        symbols, _ = data_symbols("qpsk", shape, self._rng(_PILOT_STREAM, node_idx))
        owned = comb(node_idx, self.num_nodes, self.numerology.subcarriers)
        return np.where(owned, symbols * np.sqrt(shape[1] / max(int(owned.sum()), 1)), 0.0)
