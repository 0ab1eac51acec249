"""ADALM-Pluto and its relatives with an AD936x, as a `Radio`: one channel of a board, on pyadi-iio and libiio 0.x.

The board has no clock that it would tell, and does not report lost samples: continuity is "unknown", the frames in the
samples show it. What is written is what is on the air only after it was read back; see `board`.
"""

import logging

import numpy as np
from numpy.typing import NDArray

from testbed.device import Limits, Reception, Settings, Steps
from testbed.errors import RadioError, RadioUnavailable
from testbed.radio.base import check_transmit
from testbed.radio.pluto import libiio
from testbed.radio.pluto.board import Board, release, share
from testbed.radio.pluto.buffers import RX_FULL_SCALE, TX_BITS
from testbed.radio.pluto.settings import STANDARD_FIR

SCHEME = "pluto:"
MAX_TRANSMIT_SAMPLES = 1 << 20
TX_FULL_SCALE_DBM, RX_FULL_SCALE_DBM = 15.0, 10.2  # not calibrated: high for a Pluto, so a limit on power errs low

log = logging.getLogger(__name__)


class PlutoRadio:
    """One channel of a Pluto. Two radios on one board share its carrier, sample rate and buffers."""

    def __init__(
        self,
        resource: str,
        node: str,
        channel: int = 0,
        *,
        transmits: bool = True,
        timeout_s: float = 10.0,
        fir: str = STANDARD_FIR,
        tx_full_scale_dbm: float = TX_FULL_SCALE_DBM,
        rx_full_scale_dbm: float = RX_FULL_SCALE_DBM,
        tx_steps: Steps = (),
    ) -> None:
        """Open a channel, and silence it.

        Args:
            resource: pluto:ip:HOST[:PORT] or pluto:usb:[BUS.DEVICE.INTERFACE].
            node: name of the node or user that this radio serves.
            channel: 0, or 1 on a 2R2T board.
            transmits: False for a radio that only receives.
            timeout_s: for one answer of the board.
            fir: 'standard', 'keep' for the filter that is in the board, or the path of a .ftr file.
            tx_full_scale_dbm: calibration, of a full-scale tone at tx_gain_db = 0.
            rx_full_scale_dbm: calibration, power that reaches full scale at rx_gain_db = 0.
            tx_steps: calibration, departures of its transmit gains, see Limits.

        Raises:
            RadioUnavailable: absent, busy, not permitted, too old, or the software for it is missing.
            RadioTimeout: there, and does not answer.
            ConfigError: no such channel, or two radios that do not fit on one board.
        """
        self._name, self._channel, self._is_open = node, channel, True
        self._board = share(resource.removeprefix(SCHEME), channel, node, timeout_s, fir)
        info = self._board.info
        self._limits = Limits(
            model=f"{info.model} {info.firmware}".strip(),
            simulated=info.is_virtual,
            num_tx=int(transmits),
            num_rx=1,
            carrier_min_hz=info.carrier_hz[0],
            carrier_max_hz=info.carrier_hz[1],
            sample_rate_min_hz=info.sample_rate_hz[0],
            sample_rate_max_hz=info.sample_rate_hz[1],
            tx_gain_min_db=info.tx_gain_db[0],
            tx_gain_max_db=info.tx_gain_db[1],
            tx_gain_step_db=info.tx_gain_db[2],
            rx_gain_min_db=info.rx_gain_db[0],
            rx_gain_max_db=info.rx_gain_db[1],
            rx_gain_step_db=info.rx_gain_db[2],
            tx_bits=TX_BITS,
            rx_full_scale=RX_FULL_SCALE,
            tx_full_scale_dbm=tx_full_scale_dbm,
            rx_full_scale_dbm=rx_full_scale_dbm,
            max_transmit_samples=MAX_TRANSMIT_SAMPLES,
            tx_steps=tx_steps,
        )

    @property
    def name(self) -> str:
        """Name of the node."""
        return self._name

    @property
    def limits(self) -> Limits:
        """What the board says it can do."""
        return self._limits

    @property
    def conditions(self) -> str:
        """Endpoint of who switches the targets that a virtual board hears; empty on a real one."""
        return self._board.info.attributes.get("conditions", "") if self._limits.simulated else ""

    @property
    def attributes(self) -> dict[str, str]:
        """What the board says of itself: hw_serial, fw_version, and more."""
        return dict(self._board.info.attributes)

    @property
    def num_channels(self) -> int:
        """Of the board."""
        return self._board.info.num_channels

    def configure(self, wanted: Settings) -> Settings:
        """Apply settings and return what the board reads back."""
        self._check_open()
        wanted = self._limits.realise(wanted, self._name)
        return self._board.configure(self._channel, wanted, self._name)

    def transmit(self, samples: NDArray[np.complex64]) -> None:
        """Repeat `samples` (num_tx, n); refuses clipping before anything is sent."""
        self._check_open()
        check_transmit(samples, self._limits, self._name)
        self._board.transmit(self._channel, samples[0], self._name)

    def receive(self, num_samples: int) -> Reception:
        """Exactly `num_samples` samples; whether they follow on nobody knows but the frames in them."""
        self._check_open()
        if num_samples < 1:
            raise ValueError(f"num_samples: {num_samples}; must be at least 1")
        raw, epoch, start = self._board.receive(self._channel, num_samples, self._name)
        clip_count = int(np.count_nonzero((np.abs(raw) >= RX_FULL_SCALE - 1).any(axis=1)))
        return Reception(raw[None], RX_FULL_SCALE, epoch, start, clip_count, "unknown")

    def refresh(self) -> None:
        """Drop what the board has received so far: the world may have changed since. Begins an epoch."""
        self._check_open()
        self._board.begin_epoch()

    def mute(self) -> None:
        """Highest attenuation, test tones off, buffer gone, carrier off."""
        self._check_open()
        self._board.mute(self._channel)

    def close(self) -> None:
        """Mute and release. A board without power or without its server has nothing left to mute."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._mute_connecting_anew()
        except RadioUnavailable as exc:
            if not _is_off(exc, self._board):
                raise RadioError(f"{exc}; it may still transmit") from exc
            log.debug("%s: %s", self._name, exc)
        except (KeyboardInterrupt, SystemExit):
            self._board.mute(self._channel)  # cut short once, not twice: that is the way out where it hangs
            raise
        finally:
            release(self._board, self._channel)

    def _mute_connecting_anew(self) -> None:
        try:
            self._board.mute(self._channel)
        except RadioUnavailable as exc:
            # over IP the board was asked again just now; an error on USB may be one of the cable
            if not self._board.uri.startswith("usb") or _is_off(exc, self._board):
                raise
            self._board.mute(self._channel)

    def _check_open(self) -> None:
        if not self._is_open:
            raise RadioUnavailable(f"{self._name}: this radio was closed")


def _is_off(exc: RadioUnavailable, board: Board) -> bool:
    """A Pluto lives on its USB cable; and where nobody listens any more, the server's end took the buffer with it."""
    if board.uri.startswith("usb"):
        return isinstance(exc.__cause__, OSError) and libiio.is_absent(exc.__cause__)
    return isinstance(exc.__cause__, ConnectionRefusedError) or board.info.is_virtual
