"""USRPs as a `Radio`: one channel of a board, on UHD's Python module.

The board has a clock, and reports what it loses: continuity is "reported". Whatever UHD reports reaches the caller as a
typed error or a count; see `receive` and `transmit`.
"""

import logging
from dataclasses import replace

import numpy as np

from testbed.device import Continuity, Limits, Reception, Steps
from testbed.errors import ConfigError, RadioError, RadioUnavailable
from testbed.radio.board_channel import BoardChannel
from testbed.radio.devices.config import Device, UsrpConfig
from testbed.radio.devices.tables import LimitsTable
from testbed.radio.usrp.board import Board, release, share
from testbed.radio.usrp.device import DeviceInfo, merged_args
from testbed.radio.usrp.uhd_library import GONE, check_args

SCHEME = "uhd:"
RX_FULL_SCALE = 1 << 15  # of format sc16; codes end one below it
MAX_TRANSMIT_SAMPLES = 1 << 20
_FORMAT_BITS = {"sc16": 16, "sc12": 12, "sc8": 8}  # between device and host

log = logging.getLogger(__name__)


class UsrpRadio(BoardChannel[Board]):
    """One channel of a USRP. Two radios on one board share its carrier, sample rate and device time."""

    kind = "usrp"

    def __init__(
        self,
        resource: str,
        node: str,
        channel: int = 0,
        *,
        device: Device,
        transmits: bool = True,
        timeout_s: float = 10.0,
        tx_steps: Steps = (),
    ) -> None:
        """Open a channel, and silence it.

        Args:
            resource: uhd: and device arguments besides, or instead of, the configuration's: uhd:serial=30AB.
            node: name of the node or user that this radio serves.
            channel: of the board, in the order of the configuration's subdevices.
            device: configuration of the board.
            transmits: False for a radio that only receives.
            timeout_s: for one answer of the board; opening it may take longer.
            tx_steps: calibration, departures of its transmit gains, see Limits.

        Raises:
            RadioUnavailable: absent, busy, not as its configuration says, or UHD is missing or unusable.
            RadioTimeout: there, and does not answer.
            ConfigError: the configuration is of no USRP, no such channel, or two radios that do not fit on one board.
        """
        config = device.config
        if not isinstance(config, UsrpConfig):
            raise ConfigError(f"{node}: device '{device.name}' is a {config.kind}; '{resource}' needs one of a USRP")
        args = merged_args(config, check_args(resource.removeprefix(SCHEME)))
        super().__init__(share(args, config, channel, node, timeout_s), channel, node)
        try:
            bits = min(config.limits.rx_bits, _FORMAT_BITS[config.usrp.otw_format])
            step = 1 << (16 - bits)  # a converter of fewer bits stands left in the word
            self._clips_at = RX_FULL_SCALE - step  # its largest code
            limits = _limits(config, self._board.info, node, transmits, channel)
            self._limits = replace(limits, tx_steps=tx_steps, rx_lsb=step)
        except BaseException:
            release(self._board, channel)
            raise

    def receive(self, num_samples: int) -> Reception:
        """Exactly `num_samples` samples that follow on, as the device's time shows."""
        self._check_open()
        if num_samples < 1:
            raise ValueError(f"num_samples: {num_samples}; must be at least 1")
        raw, epoch, start = self._board.receive(self._channel, num_samples, self._name)
        clip_count = int(np.count_nonzero((np.abs(raw.astype(np.int32)) >= self._clips_at).any(axis=1)))
        continuity: Continuity = "reported" if self._board.info.has_clock else "unknown"
        troubles = self._board.take_troubles(self._channel)
        return Reception(raw[None], RX_FULL_SCALE, epoch, start, clip_count, continuity, troubles)

    def close(self) -> None:
        """Mute and release. A board that was unplugged has nothing left to mute."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._board.mute(self._channel)
        except RadioUnavailable as exc:
            if GONE not in str(exc):
                raise RadioError(f"{exc}; without its samples it sends nothing, but its gain may still be up") from exc
            log.debug("%s: %s", self._name, exc)
        finally:
            release(self._board, self._channel)


def _limits(config: UsrpConfig, info: DeviceInfo, name: str, transmits: bool, channel: int) -> Limits:
    """The configuration's limits, narrowed to what the board says it can do."""
    table, power = config.limits, config.power
    if transmits and channel >= info.num_tx:
        raise ConfigError(
            f"{name}: channel {channel} has no transmitter: the {info.model} has {info.num_tx} with usrp.tx_subdev "
            f"'{config.usrp.tx_subdev}'; give another channel"
        )
    carrier = _both(table, "carrier", "hz", info.carrier_hz, name)
    rate = _both(table, "sample_rate", "hz", info.sample_rate_hz, name)
    rx_gain = _both(table, "rx_gain", "db", info.rx_gain_db, name)
    tx_gain = (table.tx_gain_min_db, table.tx_gain_max_db)
    if info.num_tx:
        tx_gain = _both(table, "tx_gain", "db", info.tx_gain_db, name)
    return Limits(
        model=info.model,
        simulated=False,  # nobody can tell
        num_tx=int(transmits),
        num_rx=1,
        carrier_min_hz=carrier[0],
        carrier_max_hz=carrier[1],
        sample_rate_min_hz=rate[0],
        sample_rate_max_hz=rate[1],
        tx_gain_min_db=tx_gain[0],
        tx_gain_max_db=tx_gain[1],
        tx_gain_step_db=max(table.tx_gain_step_db, info.tx_gain_db[2]),
        rx_gain_min_db=rx_gain[0],
        rx_gain_max_db=rx_gain[1],
        rx_gain_step_db=max(table.rx_gain_step_db, info.rx_gain_db[2]),
        tx_bits=table.tx_bits,
        rx_full_scale=RX_FULL_SCALE,
        tx_full_scale_dbm=power.tx_full_scale_dbm,
        rx_full_scale_dbm=power.rx_full_scale_dbm,
        max_transmit_samples=MAX_TRANSMIT_SAMPLES,
    )


def _both(
    table: LimitsTable, what: str, unit: str, found: tuple[float, float, float], name: str
) -> tuple[float, float]:
    """Where the configuration's range and the board's overlap."""
    low, high = getattr(table, f"{what}_min_{unit}"), getattr(table, f"{what}_max_{unit}")
    both = max(low, found[0]), min(high, found[1])
    if both[0] > both[1]:
        raise RadioUnavailable(
            f"{name}: {what} of the configuration, {low:.10g}..{high:.10g}, is beyond the board's, "
            f"{found[0]:.10g}..{found[1]:.10g}; name the configuration of this board"
        )
    return both
