"""What drivers share that open a board once for the radios on all of its channels.

Carrier and sample rate belong to the board, gains to a channel. A board is opened by the first radio that wants a
channel of it, and closed with the last one.
"""

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from testbed.device import Limits, Settings
from testbed.errors import ConfigError, IsacError, RadioUnavailable, SafetyRefused, SettingOutOfRange
from testbed.radio.base import check_transmit
from testbed.radio.devices.config import Device
from testbed.radio.devices.match import narrowed


class BoardInfo(Protocol):
    """What a board is."""

    @property
    def attributes(self) -> dict[str, str]:
        """What it says of itself."""

    @property
    def num_channels(self) -> int:
        """That radios can have."""


class Board(Protocol):
    """A board, which radios on its channels share."""

    holders: dict[int, str]  # names of the radios by channel

    @property
    def info(self) -> BoardInfo:
        """What it is."""

    def configure(self, channel: int, wanted: Settings, name: str) -> Settings:
        """Set a channel and what it shares with the others; read everything back."""

    def transmit(self, channel: int, samples: NDArray[np.complexfloating[Any, Any]], name: str) -> None:
        """Repeat samples of full scale 1 on a channel; checked by the caller."""

    def begin_epoch(self) -> None:
        """Nothing that was received before is given away any more."""

    def mute(self, channel: int) -> None:
        """Silence a channel."""

    def forget(self, channel: int) -> None:
        """A channel that nobody holds any more has no settings."""

    def close(self) -> None:
        """Release it."""


B = TypeVar("B", bound=Board)


class Boards(Generic[B]):
    """The boards of a driver that are open, by address."""

    def __init__(self, label: Callable[[B], str]) -> None:
        """Begin with none; `label` tells boards apart in messages."""
        self._label = label
        self._boards: dict[Hashable, B] = {}
        self._lock = threading.Lock()

    def share(self, address: Hashable, opener: Callable[[], B], claim: Callable[[B], None]) -> B:
        """The board at an address, opened by the first who asks; `claim` takes a channel of it, or refuses.

        Raises:
            ConfigError: another address leads to this very board; what is set there would be unset here.
        """
        with self._lock:
            board = self._boards.get(address)
            if board is None:
                board = opener()
            try:
                self._refuse_twins(board)
                claim(board)
            except IsacError:
                if not board.holders:
                    board.close()
                raise
            self._boards[address] = board
            return board

    def _refuse_twins(self, board: B) -> None:
        serial = board.info.attributes.get("hw_serial", "")
        for other in self._boards.values():
            if other is not board and serial and other.info.attributes.get("hw_serial") == serial:
                raise ConfigError(
                    f"{self._label(board)}: is the board with serial {serial} that serves "
                    f"{', '.join(other.holders.values())} at {self._label(other)}; give its radios one address"
                )

    def release(self, board: B, channel: int) -> None:
        """Give a channel back; the last one closes the board."""
        with self._lock:
            board.holders.pop(channel, None)
            board.forget(channel)
            if not board.holders:
                for address in [address for address, found in self._boards.items() if found is board]:
                    del self._boards[address]
                board.close()


class BoardChannel(Generic[B]):
    """One channel of a board as a `Radio`, but for receiving and closing, in which drivers differ."""

    kind: ClassVar[str]  # of the device, as its configuration has it
    _limits: Limits

    def __init__(self, board: B, channel: int, node: str) -> None:
        self._board, self._channel, self._name, self._is_open = board, channel, node, True

    @property
    def name(self) -> str:
        """Name of the node."""
        return self._name

    @property
    def limits(self) -> Limits:
        """What it can do."""
        return self._limits

    @property
    def attributes(self) -> dict[str, str]:
        """What the board says of itself: hw_serial, fw_version, and more; and its kind."""
        return self._board.info.attributes | {"kind": self.kind}

    @property
    def num_channels(self) -> int:
        """Of the board."""
        return self._board.info.num_channels

    def narrow(self, device: Device) -> None:
        """Use no more of it than a configuration allows."""
        self._limits = narrowed(self._limits, device)

    def configure(self, wanted: Settings) -> Settings:
        """Apply settings and return what the board reads back."""
        self._check_open()
        return self._board.configure(self._channel, self._limits.realise(wanted, self._name), self._name)

    def transmit(self, samples: NDArray[np.complex64]) -> None:
        """Repeat `samples` (num_tx, n); refuses clipping before anything is sent."""
        self._check_open()
        check_transmit(samples, self._limits, self._name)
        self._board.transmit(self._channel, samples[0], self._name)

    def refresh(self) -> None:
        """Drop what the board has received so far: the world may have changed since. Begins an epoch."""
        self._check_open()
        self._board.begin_epoch()

    def mute(self) -> None:
        """Stop transmitting."""
        self._check_open()
        self._board.mute(self._channel)

    def _check_open(self) -> None:
        if not self._is_open:
            raise RadioUnavailable(f"{self._name}: this radio was closed")


def check_tuning(
    wanted: Settings, channel: int, name: str, others: Mapping[int, Settings], holders: Mapping[int, str], board: str
) -> None:
    """Refuse a carrier or sample rate that differs from that of another channel.

    Raises:
        SettingOutOfRange: naming the other radio.
    """
    for other, theirs in others.items():
        same = (theirs.carrier_hz, theirs.sample_rate_hz) == (wanted.carrier_hz, wanted.sample_rate_hz)
        if other != channel and not same:
            raise SettingOutOfRange(
                f"{name}: {wanted.carrier_hz:.10g} Hz at {wanted.sample_rate_hz:g} Hz differs from "
                f"{theirs.carrier_hz:.10g} Hz at {theirs.sample_rate_hz:g} Hz of {holders[other]}; channels of one "
                f"board ({board}) share carrier and sample rate"
            )


def check_length(
    size: int, num_samples: int, channel: int, name: str, others: Mapping[int, int], holders: Mapping[int, str],
    board: str,
) -> None:  # fmt: skip
    """Refuse a buffer that is not as long as that of another channel.

    Raises:
        SafetyRefused: naming the other radio.
    """
    for other, length in others.items():
        if other != channel and length != size:
            raise SafetyRefused(
                f"{name}: {num_samples} samples do not fit the {length} of {holders[other]}; channels of one board "
                f"({board}) share one buffer length"
            )
