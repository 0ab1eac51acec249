"""The radio protocol: seven members, structural typing, no base class.

Samples go in and come out as `complex64 (num_channels, n)`, full scale |re|, |im| <= 1. There is no clock in the
protocol: buffers are cyclic, and the frame found in the samples is the zero of time.
"""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from testbed.device import Limits, Reception, Settings
from testbed.errors import SafetyRefused

if TYPE_CHECKING:
    from testbed.radio.devices.config import Device


@runtime_checkable
class Radio(Protocol):
    """A radio port set. The contract, each sentence of which is tested in `tests/contract`:

    * `transmit` repeats its buffer until it is replaced or muted. Samples with |re| or |im| > 1 are refused
      (SafetyRefused), never wrapped or clipped. Shape must be (num_tx, n).
    * `receive` returns exactly `num_samples` contiguous samples or raises `SampleLoss` or `RadioTimeout`. Within an
      epoch, successive receives follow on without a gap.
    * `configure` takes wanted settings and returns the realised ones: rounded is returned rounded, unattainable raises
      `SettingOutOfRange` and changes nothing.
    * `mute` stops transmitting. It may be called in any state, twice, and ends within the radio's timeout.
    * `close` mutes, then releases the radio, also if muting fails, which raises; it may be called twice. Afterwards
      every other call raises `RadioUnavailable`.
    """

    @property
    def name(self) -> str:
        """Name of the node this radio serves."""

    @property
    def limits(self) -> Limits:
        """What the radio can do."""

    def configure(self, wanted: Settings) -> Settings:
        """Apply settings and return the realised ones."""

    def transmit(self, samples: NDArray[np.complex64]) -> None:
        """Repeat `samples`, shape (num_tx, n), until replaced or muted."""

    def receive(self, num_samples: int) -> Reception:
        """Receive contiguous samples on all channels."""

    def mute(self) -> None:
        """Stop transmitting."""

    def close(self) -> None:
        """Mute and release."""


@runtime_checkable
class Buffered(Protocol):
    """A radio that goes on filling buffers while nobody receives, and hence may hold samples of before a change.

    Radios behind the wire are told of every change of the world; a real one is not. Whoever knows asks for `refresh`.
    """

    def refresh(self) -> None:
        """Drop what was received so far; begins an epoch."""


@runtime_checkable
class Attended(Protocol):
    """A radio behind a server that mutes it when its client is not heard of for a while."""

    @property
    def patience_s(self) -> float | None:
        """Silence after which the server mutes it; None where nobody minds."""

    def attend(self, wait: bool = True) -> int | None:
        """Give a sign of life; what had been muted for want of one goes on.

        Returns how often that was so until now; None without `wait` where another call is under way, which is a sign
        as well.
        """


@runtime_checkable
class Described(Protocol):
    """A radio that tells which one it is."""

    @property
    def attributes(self) -> dict[str, str]:
        """What it says of itself: hw_serial, fw_version and more; empty where it says nothing."""

    @property
    def num_channels(self) -> int:
        """Of its board; 0 where it does not say."""

    def narrow(self, device: "Device") -> None:
        """Use no more of it than a configuration allows."""


@runtime_checkable
class Conditioned(Protocol):
    """A radio whose world has conditions that are set at the radio itself: a replay."""

    def set_condition(self, condition: str) -> None:
        """Choose 'all', 'empty' or 'without:<name>'."""


def check_transmit(samples: NDArray[Any], limits: Limits, name: str) -> None:
    """Refuse buffers a radio must not send: wrong shape, too long, not finite, beyond full scale.

    Raises:
        SafetyRefused: with what was found and what is allowed.
    """
    if limits.num_tx == 0:
        raise SafetyRefused(f"{name}: has no transmitter; give the power to a node that has one")
    if (
        samples.ndim != 2
        or samples.shape[0] != limits.num_tx
        or not 1 <= samples.shape[1] <= limits.max_transmit_samples
    ):
        raise SafetyRefused(
            f"{name}: transmit buffer of shape {samples.shape}; must be "
            f"({limits.num_tx}, 1..{limits.max_transmit_samples})"
        )
    peak = float(np.maximum(np.abs(samples.real).max(), np.abs(samples.imag).max()))
    if not peak <= 1.0:  # also refuses NaN
        raise SafetyRefused(f"{name}: transmit samples reach {peak:.4g} of full scale 1; reduce the digital scale")
