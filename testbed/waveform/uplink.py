"""The frame of uplink users: one coherence block of tau pilots on one subcarrier and coded data on all other elements.

All users share all elements. Pilots are told apart by a cover across time, exp(-2j pi k n / tau) for user k in symbol
n, so that delays, which turn subcarriers but not symbols, leave them orthogonal. Data are QPSK, a word of the
convolutional code per user and frame, interleaved by a permutation of the user's own; its last information bits are a
CRC, by which a receiver knows a right word.

Powers are milliwatt per resource element: an element of power p is sqrt(p) times a symbol of modulus 1 before the
unitary inverse DFT. A frame at equal powers p has the mean power p num_subcarriers / fft_size over its useful samples,
12/16 of p in the reference scene; `Frame.power` tells that of what is sent, cyclic prefixes included.
"""

from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from testbed.waveform.coding import CRC_BITS, MEMORY, encode, with_crc
from testbed.waveform.frame import MAX_FRAME_LEN, BufferDesign, Frame
from testbed.waveform.ofdm import modulate
from testbed.waveform.sequences import constellation, dft_cover

_BITS_STREAM, _INTERLEAVER_STREAM = 2, 3  # of the design's random generator: (seed, stream, node)


class UplinkDesign(BufferDesign):
    """Frames of one coherence block, sent by single-antenna users; the buffer is one frame."""

    num_users: int = Field(ge=1, le=64)
    num_symbols: int = Field(ge=1, le=4096)
    num_pilots: int = Field(ge=1, le=4096)  # tau, in symbols 0 .. tau - 1
    pilot_subcarrier: int = 1
    num_data_frames: Literal[1] = 1

    @model_validator(mode="after")
    def _consistent(self) -> "UplinkDesign":
        if self.frame_len > MAX_FRAME_LEN:
            raise ValueError(
                f"num_symbols: found {self.num_symbols} of {self.numerology.symbol_len} samples; a frame may have "
                f"{MAX_FRAME_LEN} at most"
            )
        if not self.num_users <= self.num_pilots <= self.num_symbols:
            raise ValueError(
                f"num_pilots: found {self.num_pilots}; must be at least num_users = {self.num_users}, whose covers are "
                f"orthogonal only then, and at most num_symbols = {self.num_symbols}"
            )
        if self.pilot_subcarrier not in self.numerology.subcarriers:
            half = self.numerology.num_subcarriers // 2
            raise ValueError(f"pilot_subcarrier: found {self.pilot_subcarrier}; must be one of +-1..+-{half}")
        if self.num_data <= MEMORY + CRC_BITS:
            raise ValueError(
                f"num_symbols: {self.num_data} data elements hold no bit beside the tail and the CRC; use more symbols"
            )
        return self

    @property
    def num_nodes(self) -> int:
        """Transmitting nodes: the users."""
        return self.num_users

    @property
    def frame_len(self) -> int:
        """Samples of a frame."""
        return self.num_symbols * self.numerology.symbol_len

    @property
    def block_len(self) -> int:
        """T, elements of a block."""
        return self.num_symbols * self.numerology.num_subcarriers

    @property
    def num_data(self) -> int:
        """N = T - tau, data elements of a block."""
        return self.block_len - self.num_pilots

    @property
    def num_bits(self) -> int:
        """Information bits per user and frame, those of the CRC included."""
        return self.num_data - MEMORY

    @property
    def pilot_idx(self) -> NDArray[np.int64]:
        """Where the pilots stand among the elements, symbol by symbol, shape (tau,)."""
        column = int(np.flatnonzero(self.numerology.subcarriers == self.pilot_subcarrier)[0])
        return np.arange(self.num_pilots) * self.numerology.num_subcarriers + column

    @property
    def data_idx(self) -> NDArray[np.int64]:
        """Where the data stand among the elements, shape (N,)."""
        return np.setdiff1d(np.arange(self.block_len), self.pilot_idx)

    @property
    def element_subcarrier(self) -> NDArray[np.int64]:
        """Subcarrier of every element, shape (T,)."""
        return np.tile(self.numerology.subcarriers, self.num_symbols)

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """Information bits that every user sends, shape (num_users, num_bits)."""
        count = self.num_bits - CRC_BITS
        payload = [self._rng(_BITS_STREAM, user).integers(0, 2, count) for user in range(self.num_users)]
        return with_crc(np.stack(payload))

    @cached_property
    def interleaver(self) -> NDArray[np.int64]:
        """Which bit of a user's code word stands at every place of the data, shape (num_users, 2 N)."""
        rngs = [self._rng(_INTERLEAVER_STREAM, user) for user in range(self.num_users)]
        return np.stack([rng.permutation(2 * self.num_data) for rng in rngs])

    def data_elements(self, bits: NDArray[np.integer]) -> NDArray[np.complex128]:
        """Unit data elements of information bits (..., num_users, num_bits), shape (..., num_users, N)."""
        words = encode(bits)
        sent = np.take_along_axis(words, np.broadcast_to(self.interleaver, words.shape), axis=-1)
        return constellation("qpsk")[2 * sent[..., 0::2].astype(np.intp) + sent[..., 1::2]]

    def code_order(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Values of the bits as they were sent, (..., num_users, 2 N), in the order of the code words."""
        back = np.argsort(self.interleaver, axis=-1)
        return np.take_along_axis(values, np.broadcast_to(back, values.shape), axis=-1)

    def grid(self) -> NDArray[np.complex128]:
        """Elements of modulus 1 of every user, shape (num_users, num_symbols, num_subcarriers)."""
        grid = np.empty((self.num_users, self.block_len), dtype=np.complex128)
        grid[:, self.pilot_idx] = [dft_cover(user, self.num_pilots) for user in range(self.num_users)]
        grid[:, self.data_idx] = self.data_elements(self.bits)
        return grid.reshape(self.num_users, self.num_symbols, -1)

    def frame(self, pilot_power: NDArray[np.float64], data_power: NDArray[np.float64] | None = None) -> Frame:
        """What all users repeat; powers in milliwatt per resource element, shape (num_users,)."""
        pilot, data = self._powers(pilot_power, data_power)
        return Frame(self.samples_of(self.bits, pilot, data), pilot, data)

    def samples_of(
        self, bits: NDArray[np.integer], pilot_power: NDArray[np.float64], data_power: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        """Frames (..., num_users, frame_len) of other bits, (..., num_users, num_bits), at powers per element."""
        grid = np.empty((*bits.shape[:-1], self.block_len), dtype=np.complex128)
        pilots = np.stack([dft_cover(user, self.num_pilots) for user in range(self.num_users)])
        grid[..., self.pilot_idx] = np.sqrt(pilot_power)[:, None] * pilots
        grid[..., self.data_idx] = np.sqrt(data_power)[:, None] * self.data_elements(bits)
        return modulate(grid.reshape(*bits.shape[:-1], self.num_symbols, -1), self.numerology)

    def with_data_seed(self, data_seed: int) -> "UplinkDesign":
        """The design with other data; a plain copy would keep the bits that were drawn."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        return UplinkDesign(**fields | {"data_seed": data_seed})
