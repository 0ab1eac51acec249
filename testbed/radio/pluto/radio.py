"""ADALM-Pluto and its relatives with an AD936x, as a `Radio`: one channel of a board, on pyadi-iio and libiio 0.x.

The board has no clock that it would tell, and does not report lost samples: continuity is "unknown", the frames in the
samples show it. What is written is what is on the air only after it was read back; see `board`.
"""

import logging

import numpy as np

from testbed.device import Limits, Reception, Steps
from testbed.errors import RadioError, RadioUnavailable
from testbed.radio.board_channel import BoardChannel
from testbed.radio.pluto import libiio
from testbed.radio.pluto.board import Board, release, share
from testbed.radio.pluto.buffers import RX_FULL_SCALE, TX_BITS
from testbed.radio.pluto.settings import STANDARD_FIR

SCHEME = "pluto:"
MAX_TRANSMIT_SAMPLES = 1 << 20
TX_FULL_SCALE_DBM, RX_FULL_SCALE_DBM = 15.0, 10.2  # not calibrated: high for a Pluto, so a limit on power errs low

log = logging.getLogger(__name__)


class PlutoRadio(BoardChannel[Board]):
    """One channel of a Pluto. Two radios on one board share its carrier, sample rate and buffers."""

    kind = "pluto"

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
        board = share(resource.removeprefix(SCHEME), channel, node, timeout_s, fir)
        super().__init__(board, channel, node)
        info = board.info
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
    def conditions(self) -> str:
        """Endpoint of who switches the targets that a virtual board hears; empty on a real one."""
        return self._board.info.attributes.get("conditions", "") if self._limits.simulated else ""

    def receive(self, num_samples: int) -> Reception:
        """Exactly `num_samples` samples; whether they follow on nobody knows but the frames in them."""
        self._check_open()
        if num_samples < 1:
            raise ValueError(f"num_samples: {num_samples}; must be at least 1")
        raw, epoch, start = self._board.receive(self._channel, num_samples, self._name)
        clip_count = int(np.count_nonzero((np.abs(raw) >= RX_FULL_SCALE - 1).any(axis=1)))
        return Reception(raw[None], RX_FULL_SCALE, epoch, start, clip_count, "unknown")

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


def _is_off(exc: RadioUnavailable, board: Board) -> bool:
    """A Pluto lives on its USB cable; and where nobody listens any more, the server's end took the buffer with it."""
    if board.uri.startswith("usb"):
        return isinstance(exc.__cause__, OSError) and libiio.is_absent(exc.__cause__)
    return isinstance(exc.__cause__, ConnectionRefusedError) or board.info.is_virtual
