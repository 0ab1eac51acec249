"""The frame of nodes that sense and serve together: sensing slots, pilots, user blocks.

    slots    one per node: node l alone sends slot_symbols of QPSK in slot l, at sensing_share of its full power, then
             guard_symbols of silence, in which its echoes end; a node outside the sensing cluster leaves its slot empty
    pilots   all nodes at full power: one sequence of Zadoff and Chu for all, for nowhere else do so many strong paths
             meet, node l times exp(2j pi l m / n) in pilot symbol m of n
    blocks   one per user: the nodes that serve it send THE SAME symbols, node l under the cover exp(2j pi l m / n) over
             the block's n symbols; every other node sends data of its own; all at comm_share of their full power

By Parseval the cover makes the mean power that a user receives the sum over the nodes that serve it, whatever the
phases of their channels: powers add, the paper's non-coherent joint transmission. Combs would not do in place of slots:
one of 8 repeats within the reach of the echoes, and the self path would stand in every symbol.

`superposition` is the other way to share: no slots; every element of the blocks holds data at comm_share and, from
nodes of the sensing cluster, a known sensing symbol at sensing_share. It is for the users' rates
(scenes/cooperative.md, section 5): known data sense for free, so an echo measured under it does not tell the share.

Powers are milliwatt, the mean over the samples of a full symbol; an element has fft_size / num_subcarriers as much. A
frame's own mean is less: slots of others and guards are silent.
"""

from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.waveform.frame import MAX_FRAME_LEN, BufferDesign, Frame
from testbed.waveform.ofdm import modulate
from testbed.waveform.sequences import Modulation, data_symbols, dft_cover, zadoff_chu

# of the design's random generator: (seed, stream, node or user)
_SLOT_STREAM, _USER_STREAM, _OWN_STREAM, _SENSING_STREAM = 4, 5, 6, 7
Waveform = Literal["slots", "superposition"]
_SHARE_SLACK = 1e-9  # of rounding, where two shares are to make one


class Sharing(StrictModel):
    """Who senses and who serves whom, at which powers: what a receiver must know of a frame beside its samples."""

    full_power: tuple[float, ...]  # P of every node, milliwatt; 0: the node is dead, its row of the frame is zero
    sensing_share: float = Field(ge=0, le=1)  # p^s
    comm_share: float = Field(ge=0, le=1)  # p^c
    sensing_nodes: tuple[int, ...]  # the sensing cluster
    clusters: tuple[tuple[int, ...], ...]  # per user, the nodes that serve it
    waveform: Waveform = "slots"

    @model_validator(mode="after")
    def _consistent(self) -> "Sharing":
        if not self.full_power or min(self.full_power) < 0:
            raise ValueError(f"full_power: found {list(self.full_power)}; must be one number >= 0 per node")
        if self.sensing_share + self.comm_share > 1 + _SHARE_SLACK:
            raise ValueError(
                f"comm_share: {self.comm_share:g} and sensing_share {self.sensing_share:g} are more than 1 together; "
                f"lower one of them"
            )
        named = [("sensing_nodes", self.sensing_nodes)]
        named += [(f"clusters[{u}]", cluster) for u, cluster in enumerate(self.clusters)]
        for where, nodes in named:
            if len(set(nodes)) != len(nodes) or not all(0 <= node < len(self.full_power) for node in nodes):
                raise ValueError(
                    f"{where}: found {list(nodes)}; must be different nodes of 0..{len(self.full_power) - 1}"
                )
        return self

    @property
    def live(self) -> NDArray[np.bool_]:
        """Nodes that send anything, shape (num_nodes,)."""
        return np.array(self.full_power) > 0

    @property
    def node_sensing_share(self) -> NDArray[np.float64]:
        """Sensing share of every node, 0 outside the cluster, shape (num_nodes,)."""
        share = np.zeros(len(self.full_power))
        share[list(self.sensing_nodes)] = self.sensing_share
        return share


class CooperativeDesign(BufferDesign):
    """Frames of slots, pilots and user blocks, in this order; the buffer is one frame."""

    num_stations: int = Field(ge=2, le=64)
    num_users: int = Field(ge=1, le=64)
    slot_symbols: int = Field(default=7, ge=1, le=1024)
    guard_symbols: int = Field(default=1, ge=1, le=64)
    num_pilot_symbols: int = Field(default=8, ge=2, le=1024)
    block_symbols: int = Field(default=8, ge=2, le=1024)
    modulation: Modulation = "qpsk"  # of data; sensing symbols and pilots are QPSK
    num_data_frames: Literal[1] = 1

    @model_validator(mode="after")
    def _consistent(self) -> "CooperativeDesign":
        if self.frame_len > MAX_FRAME_LEN:
            raise ValueError(
                f"frame_len: found {self.frame_len} samples; must be at most {MAX_FRAME_LEN}; use fewer symbols"
            )
        for key, count in (("num_pilot_symbols", self.num_pilot_symbols), ("block_symbols", self.block_symbols)):
            if count < self.num_stations:
                raise ValueError(
                    f"{key}: found {count}; must be at least num_stations = {self.num_stations}, whose covers are "
                    f"orthogonal only then"
                )
        return self

    @property
    def num_nodes(self) -> int:
        """Transmitting nodes."""
        return self.num_stations

    @property
    def num_symbols(self) -> int:
        """OFDM symbols of a frame."""
        return self._first_block_symbol + self.num_users * self.block_symbols

    @property
    def frame_len(self) -> int:
        """Samples of a frame."""
        return self.num_symbols * self.numerology.symbol_len

    @property
    def slot_len(self) -> int:
        """Samples of a slot, its guard included."""
        return (self.slot_symbols + self.guard_symbols) * self.numerology.symbol_len

    @property
    def guard_len(self) -> int:
        """Samples of silence that end a slot."""
        return self.guard_symbols * self.numerology.symbol_len

    @property
    def element_power(self) -> float:
        """Power of a resource element over the mean power of a full symbol's samples."""
        return self.numerology.fft_size / self.numerology.num_subcarriers

    @property
    def pilot_symbol_idx(self) -> tuple[int, ...]:
        """Indices of the pilot symbols within the frame."""
        first = self._first_pilot_symbol
        return tuple(range(first, first + self.num_pilot_symbols))

    def slot_symbol_idx(self, node_idx: int) -> tuple[int, ...]:
        """Indices of the symbols that a node sends in its slot."""
        first = node_idx * (self.slot_symbols + self.guard_symbols)
        return tuple(range(first, first + self.slot_symbols))

    def slot_window(self, node_idx: int) -> slice:
        """Samples of a node's slot, guard included, without the first cyclic prefix, where echoes of others end."""
        return slice(node_idx * self.slot_len + self.numerology.cp_len, (node_idx + 1) * self.slot_len)

    def block_symbol_idx(self, user_idx: int) -> tuple[int, ...]:
        """Indices of the symbols of a user's block."""
        first = self._first_block_symbol + user_idx * self.block_symbols
        return tuple(range(first, first + self.block_symbols))

    @cached_property
    def pilots(self) -> NDArray[np.complex128]:
        """Unit pilots of every node, shape (num_nodes, num_pilot_symbols, num_subcarriers)."""
        count = self.numerology.num_subcarriers
        length = _prime_from(count)
        # a root per symbol: one symbol repeated would leave the start in doubt by whole symbols
        roots = [1 + m % (length - 1) for m in range(self.num_pilot_symbols)]
        sequence = np.stack([zadoff_chu(root, length)[:count] for root in roots])
        return _covers(self.num_nodes, self.num_pilot_symbols)[..., None] * sequence

    @cached_property
    def block_cover(self) -> NDArray[np.complex128]:
        """exp(2j pi l m / n) of node l in symbol m of a block, shape (num_nodes, block_symbols)."""
        return _covers(self.num_nodes, self.block_symbols)

    @cached_property
    def slot_elements(self) -> NDArray[np.complex128]:
        """Unit elements of every node's slot, shape (num_nodes, slot_symbols, num_subcarriers)."""
        return self._drawn("qpsk", _SLOT_STREAM, self.num_nodes, self.slot_symbols)

    @cached_property
    def user_elements(self) -> NDArray[np.complex128]:
        """Data for every user, before the cover, shape (num_users, block_symbols, num_subcarriers)."""
        return self._drawn(self.modulation, _USER_STREAM, self.num_users, self.block_symbols)

    @cached_property
    def own_elements(self) -> NDArray[np.complex128]:
        """Data of a node where it serves nobody, shape (num_nodes, num_users, block_symbols, num_subcarriers)."""
        drawn = self._drawn(self.modulation, _OWN_STREAM, self.num_nodes, self.num_users * self.block_symbols)
        return drawn.reshape(self.num_nodes, self.num_users, self.block_symbols, -1)

    @cached_property
    def sensing_elements(self) -> NDArray[np.complex128]:
        """Sensing symbols in the blocks, of superposition: shape as `own_elements`."""
        drawn = self._drawn("qpsk", _SENSING_STREAM, self.num_nodes, self.num_users * self.block_symbols)
        return drawn.reshape(self.num_nodes, self.num_users, self.block_symbols, -1)

    def transmission(self, sharing: Sharing) -> Frame:
        """What every node repeats. `pilot_power` is its full power, `data_power` its data's, comm_share of that.

        Raises:
            ValueError: a sharing for other numbers of nodes or users.
        """
        if len(sharing.full_power) != self.num_nodes or len(sharing.clusters) != self.num_users:
            raise ValueError(
                f"sharing: found {len(sharing.full_power)} nodes and {len(sharing.clusters)} clusters; must be "
                f"{self.num_nodes} and {self.num_users}, as the waveform has them"
            )
        full = np.array(sharing.full_power)
        data, sensing = sharing.comm_share * full, sharing.node_sensing_share * full
        if sharing.waveform == "slots":
            return self._frame(full, sensing, data, np.zeros(self.num_nodes), sharing.clusters)
        return self._frame(full, np.zeros(self.num_nodes), data, sensing, sharing.clusters)

    def frame(self, pilot_power: NDArray[np.float64], data_power: NDArray[np.float64] | None = None) -> Frame:
        """Slots and pilots of all nodes at one power, blocks at another; nobody serves, all data are a node's own.

        This is what levels are planned with; `transmission` says who senses and who serves.
        """
        pilot, data = self._powers(pilot_power, data_power)
        return self._frame(pilot, pilot, data, np.zeros(self.num_nodes), ((),) * self.num_users)

    def with_data_seed(self, data_seed: int) -> "CooperativeDesign":
        """The design with other symbols; a plain copy would keep those that were drawn."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        return CooperativeDesign(**fields | {"data_seed": data_seed})

    @property
    def _first_pilot_symbol(self) -> int:
        return self.num_stations * (self.slot_symbols + self.guard_symbols)

    @property
    def _first_block_symbol(self) -> int:
        return self._first_pilot_symbol + self.num_pilot_symbols

    def _drawn(self, modulation: Modulation, stream: int, count: int, num_symbols: int) -> NDArray[np.complex128]:
        shape = (num_symbols, self.numerology.num_subcarriers)
        return np.stack([data_symbols(modulation, shape, self._rng(stream, key))[0] for key in range(count)])

    def _frame(
        self,
        pilot: NDArray[np.float64],
        slot: NDArray[np.float64],
        data: NDArray[np.float64],
        superposed: NDArray[np.float64],
        clusters: tuple[tuple[int, ...], ...],
    ) -> Frame:
        """Parts at the powers of their own, each (num_nodes,)."""
        grid = np.zeros((self.num_nodes, self.num_symbols, self.numerology.num_subcarriers), dtype=np.complex128)
        for node in range(self.num_nodes):
            grid[node, self.slot_symbol_idx(node)] = np.sqrt(slot[node]) * self.slot_elements[node]
            grid[node, self.pilot_symbol_idx] = np.sqrt(pilot[node]) * self.pilots[node]
            for user, cluster in enumerate(clusters):
                sent = self.own_elements[node, user]
                if node in cluster:
                    sent = self.block_cover[node, :, None] * self.user_elements[user]
                sensed = np.sqrt(superposed[node]) * self.sensing_elements[node, user]
                grid[node, self.block_symbol_idx(user)] = np.sqrt(data[node]) * sent + sensed
        return Frame(np.sqrt(self.element_power) * modulate(grid, self.numerology), pilot, data)


def _covers(num_nodes: int, num_symbols: int) -> NDArray[np.complex128]:
    return np.stack([dft_cover(node, num_symbols).conj() for node in range(num_nodes)])


def _prime_from(number: int) -> int:
    """Smallest odd prime that is not below `number`."""
    candidate = max(number, 3) | 1
    while any(candidate % factor == 0 for factor in range(3, int(candidate**0.5) + 1, 2)):
        candidate += 2
    return candidate
