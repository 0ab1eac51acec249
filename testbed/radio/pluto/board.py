"""One AD936x board through pyadi-iio, shared by the radios on its channels.

Carrier, sample rate, filters and buffers belong to the board, gains to a channel. What is set is read back and
compared. What is on the air is in one cyclic buffer, what is heard comes out of one receive buffer, and both stay open
until something changes, so that the start of the frame stays where it is within an epoch. libiio 0.24 is silent about
lost buffers: nothing here can say that samples follow on, and a buffer that had to be opened anew is a loss and raises.
"""

import contextlib
import errno
import logging
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.device import Settings
from testbed.errors import (
    ConfigError,
    IsacError,
    RadioError,
    RadioTimeout,
    RadioUnavailable,
    SafetyRefused,
    SampleLoss,
    SettingOutOfRange,
)
from testbed.radio.board_channel import Boards, check_length, check_tuning
from testbed.radio.pluto import libiio
from testbed.radio.pluto import settings as setting
from testbed.radio.pluto.buffers import (
    ALIGN_SAMPLES,
    KERNEL_BUFFERS,
    MAX_TX_SAMPLES,
    receive_count,
    receive_length,
    to_words,
    transmit_length,
)
from testbed.radio.pluto.info import BoardInfo, check_board, describe

_SETTLE_S = 1e-3  # dropped behind every change: synthesisers and filters settle
_PROBE_S = 0.3  # to tell a board that lost a buffer or a connection from one that is dead

log = logging.getLogger(__name__)


class Board:
    """A board and its buffers. One thread at a time; only `mute` may come from another."""

    def __init__(self, uri: str, timeout_s: float, fir: str = setting.STANDARD_FIR) -> None:
        self.uri, self.timeout_s, self.fir = libiio.check_uri(uri), timeout_s, setting.check_fir(fir)
        self.holders: dict[int, str] = {}  # names of the radios by channel
        self._lock = threading.RLock()
        self._wanted: dict[int, Settings] = {}
        self._realised: dict[int, Settings] = {}
        self._sent: dict[int, NDArray[np.complex128]] = {}  # words of the converter, by channel
        self._period = 1
        self._spoilt, self._lost = False, ""
        self._epoch, self._position, self._is_fresh = 0, 0, False
        self._rest: dict[int, NDArray[np.int16]] = {}  # of the last receive buffer, by channel
        self._sdr: Any = None
        try:
            with self._named():
                self.info = self._connect()
        except BaseException:
            self._destroy()
            raise

    # -- connection ----------------------------------------------------------------------------------------------------

    def _connect(self) -> BoardInfo:
        """Open the context and make it silent."""
        adi = libiio.load("adi")
        context = libiio.open_context(self.uri, self.timeout_s)
        num_channels = check_board(context, self.uri)
        self._sdr = (adi.ad9361 if num_channels == 2 else adi.Pluto)(uri_ctx=context)
        self._silence(range(num_channels))
        setting.forbid_loopback(self._sdr, self.uri)
        return describe(self._sdr, self.uri, num_channels, keeps_filter=self.fir == setting.KEEP_FIR)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Within, errors of libiio become ours."""
        try:
            with libiio.quiet():
                yield
        except OSError as exc:
            raise self._fault(libiio.bare(exc)) from exc
        except KeyError as exc:
            raise RadioError(f"{self.uri}: the board has no attribute {exc}; write a newer firmware to it") from exc
        except Exception as exc:
            if type(exc) is not Exception:  # of no class of its own: pyadi
                raise
            raise RadioError(f"{self.uri}: pyadi-iio: {' '.join(str(exc).split())}") from exc

    def _fault(self, exc: OSError) -> RadioError:
        """What it means that a command failed.

        libiio reports an answer that is late and a server that is gone alike, as a broken pipe. And an answer that
        comes late would be taken for that of the next command: after either, the connection is made anew.
        """
        if exc.errno == errno.EBUSY:
            return RadioUnavailable(f"{self.uri}: in use by another program; close that one first")
        if libiio.is_late(exc) or (libiio.is_gone(exc) and self.uri.startswith("ip:")):
            self._spoilt = True
            try:
                libiio.probe(self.uri, min(_PROBE_S, self.timeout_s))
                if not libiio.is_late(exc):
                    text = f"the connection broke ({exc.strerror}) and is made anew for whoever asks next"
                    return RadioTimeout(f"{self.uri}: {text}")
                return self._silent()
            except RadioTimeout:
                return self._silent()
            except RadioUnavailable:
                pass  # nobody there
        if libiio.is_gone(exc) or libiio.is_late(exc):
            return self._gone(exc)
        return RadioError(f"{self.uri}: the board refuses ({exc.strerror or exc})")

    def _gone(self, exc: OSError) -> RadioUnavailable:
        self._lost = (
            f"{self.uri}: the connection to the board is lost ({exc.strerror}); plug it in again or restart it, then "
            f"`isac radios` should list it"
        )
        return RadioUnavailable(self._lost)

    def _silent(self) -> RadioTimeout:
        return RadioTimeout(f"{self.uri}: no answer within {self.timeout_s:g} s; check that the board still runs")

    @contextlib.contextmanager
    def _talking(self, *, restore: bool = True) -> Iterator[None]:
        """A working connection: made anew where it is spoilt, with what was set and sent before."""
        with self._lock:
            if self._lost:
                raise RadioUnavailable(self._lost)
            with self._named():
                if self._spoilt:
                    self._reconnect(restore=restore)
                yield

    def _reconnect(self, *, restore: bool) -> None:
        try:
            libiio.probe(self.uri, self.timeout_s)
        except RadioUnavailable as exc:
            self._lost = str(exc)
            raise
        log.warning("%s: connecting anew", self.uri)
        self._destroy()
        wanted, sent = dict(self._wanted), dict(self._sent)
        self._realised, self._sent, self._is_fresh = {}, {}, False  # or what was sent would be sent unset
        try:
            if _identity(self._connect()) != _identity(self.info):
                raise RadioUnavailable(
                    f"{self.uri}: another board answers there than the one that was opened; connect that one and "
                    f"start again"
                )
            for channel, settings in wanted.items():
                self._apply(channel, settings)
        finally:
            self._sent = sent
        self._spoilt, self._lost = False, ""
        if restore:
            self._play()
            for channel in sent:
                setting.set_tx_gain(self._sdr, channel, wanted[channel].tx_gain_db, self.holders[channel])

    def _destroy(self) -> None:
        """Drop transmit buffer, receive buffer, context, in this order: libiio 0.x crashes in another."""
        sdr, self._sdr = self._sdr, None
        if sdr is None:
            return
        with libiio.quiet():
            if self._spoilt:
                # else the end of a buffer would wait for an answer
                _cancel(sdr._txbuf)
                _cancel(sdr._rxbuf)
            for drop in (sdr.tx_destroy_buffer, sdr.rx_destroy_buffer, sdr.close):
                try:
                    drop()
                except OSError as exc:
                    log.debug("%s: %s", self.uri, exc)
            # whoever still holds the object, in a traceback say, must not hold the context by it
            sdr._ctrl = sdr._rxadc = sdr._txdac = None
            del sdr, drop

    # -- settings ------------------------------------------------------------------------------------------------------

    def configure(self, channel: int, wanted: Settings, name: str) -> Settings:
        """Set a channel and what it shares with the others; read everything back.

        Raises:
            SettingOutOfRange: the board came back with another value, or another channel needs another carrier or rate;
                what was set before is set again.
        """
        check_tuning(wanted, channel, name, self._wanted, self.holders, self.uri)
        with self._talking():
            before = self._wanted.get(channel)
            try:
                self._apply(channel, wanted)
            except SettingOutOfRange:
                if before is not None:
                    self._apply(channel, before)
                raise
            return self._realised[channel]

    def _apply(self, channel: int, wanted: Settings) -> None:
        sdr, name = self._sdr, self.holders[channel]
        self._begin_epoch()
        shared = next(iter(self._realised.values()), None)
        if shared is None or not _is_tuned(shared, wanted):
            self._realised.clear()
            setting.attenuate(sdr, range(self.info.num_channels))  # nothing is heard of the way there
            rate_hz = setting.set_rate(sdr, wanted.sample_rate_hz, self.fir, name)
            carrier_hz = setting.set_carrier(sdr, wanted.carrier_hz, name)
        else:
            rate_hz, carrier_hz = shared.sample_rate_hz, shared.carrier_hz
        rx_gain_db = setting.set_rx_gain(sdr, channel, wanted.rx_gain_db, name)
        if channel in self._sent:
            tx_gain_db = setting.set_tx_gain(sdr, channel, wanted.tx_gain_db, name)
        else:
            # set when it transmits; the synthesiser may be on for the other channel, and leaks
            setting.attenuate(sdr, [channel])
            tx_gain_db = wanted.tx_gain_db
        self._wanted[channel] = wanted
        self._realised[channel] = Settings(carrier_hz, rate_hz, tx_gain_db, rx_gain_db)

    # -- transmitting --------------------------------------------------------------------------------------------------

    def transmit(self, channel: int, samples: NDArray[np.complexfloating], name: str) -> None:
        """Repeat samples of full scale 1 on a channel, in place of what it sent; checked by the caller."""
        if channel not in self._realised:
            raise RadioError(f"{name}: transmit before configure; its carrier is not known")
        size = transmit_length(samples.size)
        lengths = {other: sent.size for other, sent in self._sent.items()}
        check_length(size, samples.size, channel, name, lengths, self.holders, self.uri)
        if size > MAX_TX_SAMPLES:
            raise SafetyRefused(
                f"{name}: {samples.size} samples make a buffer of {size}, at most {MAX_TX_SAMPLES} fit; use a length "
                f"that is a multiple of {ALIGN_SAMPLES}"
            )
        with self._talking():
            self._begin_epoch()
            self._period = samples.size
            self._sent[channel] = np.tile(to_words(samples), size // samples.size)
            try:
                self._play()
                setting.set_tx_gain(self._sdr, channel, self._realised[channel].tx_gain_db, name)
            except BaseException:
                self._sent.pop(channel, None)
                with contextlib.suppress(IsacError, OSError):
                    self._silence([channel])
                raise

    def _play(self) -> None:
        """Send what is to be sent; nothing: take the carrier away as well."""
        # pyadi raises where a cyclic buffer is replaced in place
        self._sdr.tx_destroy_buffer()
        if not self._sent:
            setting.power_down(self._sdr, True, self.uri)
            return
        channels = sorted(self._sent)
        setting.enable_transmitters(self._sdr, channels)
        self._sdr.tx_cyclic_buffer = True
        setting.power_down(self._sdr, False, self.uri)
        words = [self._sent[channel] for channel in channels]
        self._sdr.tx(words if len(words) > 1 else words[0])

    def _silence(self, channels: Iterable[int]) -> None:
        """Attenuation first, which alone is enough; then tones, buffer and carrier."""
        setting.attenuate(self._sdr, channels)
        setting.silence_tones(self._sdr)
        self._play()

    def mute(self, channel: int) -> None:
        """Silence a channel; the last one takes the carrier away. Connects anew where the connection is spoilt."""
        with self._lock:
            self._sent.pop(channel, None)  # whatever comes now, it is not to be sent again
            if self._lost:
                self._lost, self._spoilt = "", True
            with self._talking(restore=bool(self._sent)):
                self._begin_epoch()
                self._silence([channel])

    # -- receiving -----------------------------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Nothing that was received before is given away any more."""
        with self._lock:
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        # the buffer itself is dropped by who receives: it may be in use just now
        self._epoch += 1
        self._is_fresh = False

    def receive(self, channel: int, num_samples: int, name: str) -> tuple[NDArray[np.int16], int, int]:
        """Samples (n, 2) of a channel that follow on as far as libiio knows, their epoch and start.

        Raises:
            SampleLoss: the receive buffer ended in between, and was or can be opened anew.
            RadioTimeout: the board does not answer.
            RadioUnavailable: it is gone.
        """
        if channel not in self._realised:
            raise RadioError(f"{name}: receive before configure; its carrier and gain are not known")
        out = np.empty((num_samples, 2), dtype=np.int16)
        if not self._is_fresh:
            with self._talking():
                self._open(num_samples)
        epoch, start, filled = self._epoch, self._position, 0
        while filled < num_samples:
            if not self._rest or self._rest[channel].shape[0] == 0:
                self._rest = self._refill(name)
            if epoch != self._epoch:
                raise SampleLoss(f"{name}: interrupted after {filled} of {num_samples} samples; the radio was changed")
            taken = min(num_samples - filled, self._rest[channel].shape[0])
            out[filled : filled + taken] = self._rest[channel][:taken]
            self._rest = {which: rest[taken:] for which, rest in self._rest.items()}
            filled += taken
            self._position += taken
        return out, epoch, start

    def _open(self, num_samples: int) -> None:
        """Open the receive buffer anew; what was in the old one is stale."""
        sdr = self._sdr
        _ = sdr.rx_lo  # libiio waits 5 s in opening a buffer on a board that does not answer; this asks in time
        sdr.rx_destroy_buffer()
        rate_hz = next(iter(self._realised.values())).sample_rate_hz
        settle = int(_SETTLE_S * rate_hz)
        num_samples += settle
        size = receive_length(num_samples, self._period, rate_hz, self.timeout_s)
        sdr.rx_enabled_channels = sorted(self.holders)
        sdr.rx_buffer_size = size
        sdr._rxadc.set_kernel_buffers_count(receive_count(num_samples, size, len(self.holders)))
        try:
            sdr._rx_init_channels()
        except OSError as exc:
            if exc.errno != errno.ENOMEM:
                raise
            sdr._rxadc.set_kernel_buffers_count(KERNEL_BUFFERS)
        self._rest = {}
        self._is_fresh = True
        self._position = 0
        while settle > 0:
            rest = self._refill(self.uri)
            self._rest = {which: samples[settle:] for which, samples in rest.items()}
            settle -= size

    def _refill(self, name: str) -> dict[int, NDArray[np.int16]]:
        try:
            with libiio.quiet():
                rails = self._sdr._rx_buffered_data()
        except OSError as exc:
            self._begin_epoch()
            raise self._loss(libiio.bare(exc), name) from exc
        return {
            channel: np.stack(rails[2 * i : 2 * i + 2], axis=-1)
            for i, channel in enumerate(self._sdr.rx_enabled_channels)
        }

    def _loss(self, exc: OSError, name: str) -> RadioError:
        """What it means that a receive buffer failed; pyadi has dropped it, the next reception opens another."""
        try:
            if exc.errno == errno.EBUSY:
                return self._fault(exc)
            libiio.probe(self.uri, min(_PROBE_S, self.timeout_s))
            with self._named():
                _ = self._sdr.rx_lo  # the connection for commands is another one
        except RadioUnavailable:
            return self._gone(exc)
        except RadioTimeout:
            return self._silent()
        return SampleLoss(
            f"{name}: the receive buffer gave nothing for {self.timeout_s:g} s ({exc.strerror}) and is opened anew; "
            f"what was sent in between is lost; lower the sample rate or raise the timeout"
        )

    def forget(self, channel: int) -> None:
        """A channel that nobody holds any more has no settings."""
        with self._lock:
            self._wanted.pop(channel, None)
            self._realised.pop(channel, None)
            self._begin_epoch()

    # -- end -----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Drop buffers and context."""
        with self._lock:
            self._spoilt = self._spoilt or bool(self._lost)
            self._destroy()
            self._lost = f"{self.uri}: this radio was closed"


_boards: Boards[Board] = Boards(lambda board: board.uri)
release = _boards.release


def share(uri: str, channel: int, name: str, timeout_s: float, fir: str) -> Board:
    """The board at `uri`, opened by the first who asks; `release` gives the channel back."""
    return _boards.share(uri, lambda: Board(uri, timeout_s, fir), lambda board: _claim(board, channel, name, fir))


def _claim(board: Board, channel: int, name: str, fir: str) -> None:
    if not 0 <= channel < board.info.num_channels:
        raise ConfigError(
            f"{name}: channel {channel} of {board.uri}, which has {board.info.num_channels} "
            f"({board.info.model}); a second channel needs a 2R2T board (fw_setenv mode 2r2t, compatible ad9361)"
        )
    if channel in board.holders:
        raise ConfigError(
            f"{name}: channel {channel} of {board.uri} already serves {board.holders[channel]}; give another channel"
        )
    if fir != board.fir:
        raise ConfigError(
            f"{name}: fir '{fir}' differs from '{board.fir}' of {', '.join(board.holders.values())}; channels of one "
            f"board ({board.uri}) share the filter"
        )
    board.begin_epoch()  # the receive buffer is to hold the new channel as well
    board.holders[channel] = name


def _identity(info: BoardInfo) -> tuple[object, ...]:
    """What a board keeps when it comes back; who was simulated may transmit on air now."""
    return info.is_virtual, info.num_channels, info.attributes.get("hw_serial")


def _is_tuned(realised: Settings, wanted: Settings) -> bool:
    return (
        abs(realised.carrier_hz - wanted.carrier_hz) <= setting.CARRIER_TOLERANCE_HZ
        and abs(realised.sample_rate_hz - wanted.sample_rate_hz) <= setting.RATE_TOLERANCE * wanted.sample_rate_hz
    )


def _cancel(buffer: Any) -> None:
    if buffer:
        buffer.cancel()
