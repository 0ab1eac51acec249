"""One USRP through UHD, shared by the radios on its channels.

Carrier, sample rate, device time and streams belong to the board, gains to a channel. What is set is read back and
compared. All commands run in one thread of their own (`worker`). Transmission and reception stand on one device
time: every reception begins at a begin of the transmitted buffer, so the way from transmitter to receiver takes equally
long in every epoch. An epoch begins with every change and behind every loss.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from testbed.device import Settings
from testbed.errors import (
    ConfigError,
    IsacError,
    RadioError,
    RadioTimeout,
    RadioUnavailable,
    SettingOutOfRange,
)
from testbed.radio.board_channel import Boards, check_length, check_tuning
from testbed.radio.devices.config import UsrpConfig
from testbed.radio.usrp import settings as setting
from testbed.radio.usrp.clock import Lead, next_begin, now
from testbed.radio.usrp.device import label, open_device
from testbed.radio.usrp.receive import MustRestart, Stream
from testbed.radio.usrp.transmit import Transmitter, to_words
from testbed.radio.usrp.uhd_library import explained
from testbed.radio.usrp.worker import Task, Worker

OPEN_TIMEOUT_S = 60.0  # a board on USB is given its firmware and its FPGA image first
FORMAT = "sc16"  # on the host: the integers of the device

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuning:
    """What all channels of a board share."""

    wanted_hz: tuple[float, float]  # carrier and sample rate
    carrier_hz: float  # realised
    sample_rate_hz: float


class Board:
    """A board and its streams. One thread at a time; only `mute` may come from another."""

    def __init__(self, args: dict[str, str], config: UsrpConfig, timeout_s: float) -> None:
        self.name, self.timeout_s = label(args), timeout_s
        self.holders: dict[int, str] = {}  # names of the radios by channel
        self.config = config
        self._worker = Worker(self.name)
        self._lead = Lead()
        self._settings: dict[int, Settings] = {}  # wanted
        self._realised: dict[int, Settings] = {}
        self._tuning: Tuning | None = None
        self._sent: dict[int, NDArray[np.uint32]] = {}  # words by channel
        self._troubles: dict[int, int] = {}  # of transmitters, since they were asked for
        self._failure = ""  # of the transmitter
        self._lost = ""  # why the board is gone
        self._epoch, self._epoch_lock = 0, threading.Lock()
        self._stream: Stream | None = None
        self._ended: list[Stream] = []  # on their way to silence
        self._receiver: tuple[tuple[int, ...], Any] | None = None  # channels and streamer
        self._transmitter: Transmitter | None = None
        self._usrp: Any = None
        try:
            with self._named():
                self.uhd, self._usrp, self.info = self._worker.ask(
                    lambda task: open_device(args, config), max(OPEN_TIMEOUT_S, timeout_s)
                )
        except BaseException:
            self._worker.end()
            raise
        if not self.info.has_clock:
            log.warning(
                "%s: its device time stands still; transmission and reception begin at any time, losses are not seen",
                self.name,
            )

    # -- commands ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Within, errors of UHD become ours."""
        try:
            yield
        except RuntimeError as exc:
            found = explained(exc, self.name)
            if isinstance(found, RadioUnavailable):
                self._lost = str(found)
            raise found from exc

    def _command(self, call: Callable[[Task], T], *, surely: bool = False) -> T:
        """Have something done by the thread that commands the board."""
        self._check_there()
        with self._named():
            return self._worker.ask(call, self.timeout_s, surely=surely)

    def _check_there(self) -> None:
        if self._lost:
            raise RadioUnavailable(self._lost)

    # -- settings ------------------------------------------------------------------------------------------------------

    def configure(self, channel: int, wanted: Settings, name: str) -> Settings:
        """Set a channel and what it shares with the others; read everything back.

        Raises:
            SettingOutOfRange: the board came back with another value, or another channel needs another carrier or rate;
                what was set before is set again.
        """
        check_tuning(wanted, channel, name, self._settings, self.holders, self.name)
        return self._command(lambda task: self._configure(channel, wanted, name, task))

    def _configure(self, channel: int, wanted: Settings, name: str, task: Task) -> Settings:
        before = self._settings.get(channel)
        if wanted == before and self._tuning is not None:
            return self._realised[channel]
        try:
            try:
                self._apply(channel, wanted, name, task)
            except SettingOutOfRange:
                if before is not None:
                    self._apply(channel, before, name, task)
                raise
        except SettingOutOfRange:
            raise
        except BaseException:
            self._tuning = None  # what is set now, nobody knows: the next one sets all of it
            raise
        return self._realised[channel]

    def _apply(self, channel: int, wanted: Settings, name: str, task: Task) -> None:
        self.begin_epoch()
        was_tuned = self._tuning is not None and self._tuning.wanted_hz == (wanted.carrier_hz, wanted.sample_rate_hz)
        if not was_tuned:
            self._tune(wanted, name)
        assert self._tuning is not None
        step_db = max(self.info.rx_gain_db[2], self.config.limits.rx_gain_step_db)
        rx_gain_db = setting.set_rx_gain(self._usrp, channel, wanted.rx_gain_db, step_db, name)
        tx_gain_db = wanted.tx_gain_db
        if channel < self.info.num_tx:
            tx_gain_db = setting.realisable_tx_gain(self._usrp, channel, wanted.tx_gain_db)
        self._settings[channel] = wanted
        self._realised[channel] = Settings(self._tuning.carrier_hz, self._tuning.sample_rate_hz, tx_gain_db, rx_gain_db)
        if self._sent and not was_tuned:
            self._play(task)
        elif channel in self._sent:
            self._raise_gain(channel, name)

    def _tune(self, wanted: Settings, name: str) -> None:
        """Another carrier or sample rate; nothing is heard of the way there."""
        info, usrp, self._tuning = self.info, self._usrp, None
        setting.silence(usrp, range(info.num_tx), self.name)
        self._drop_transmitter()
        self._drop_receiver()
        width_hz = self.config.limits.bandwidth_max_hz
        rate_hz = setting.set_rate(usrp, wanted.sample_rate_hz, width_hz, info.num_rx, info.num_tx, name)
        carrier_hz = setting.set_carrier(self.uhd, usrp, wanted.carrier_hz, info.num_rx, info.num_tx, name)
        self._tuning = Tuning((wanted.carrier_hz, wanted.sample_rate_hz), carrier_hz, rate_hz)

    # -- transmitting --------------------------------------------------------------------------------------------------

    def transmit(self, channel: int, samples: NDArray[np.complexfloating], name: str) -> None:
        """Repeat samples of full scale 1 on a channel, in place of what it sent; checked by the caller."""
        self._check_there()
        if channel not in self._realised or self._tuning is None:
            raise RadioError(f"{name}: transmit before configure; its carrier is not known")
        lengths = {other: sent.size for other, sent in self._sent.items()}
        check_length(samples.size, samples.size, channel, name, lengths, self.holders, self.name)
        words = to_words(samples)
        self._command(lambda task: self._transmit(channel, words, name, task))

    def _transmit(self, channel: int, words: NDArray[np.uint32], name: str, task: Task) -> None:
        self.begin_epoch()
        self._failure = ""
        self._sent[channel] = words
        try:
            self._play(task)
        except BaseException:
            with contextlib.suppress(IsacError, RuntimeError):
                self._silence([channel], task)
            raise

    def _play(self, task: Task) -> None:
        """Send what is to be sent, from one device time on; the gains last."""
        setting.silence(self._usrp, range(self.info.num_tx), self.name)
        channels = tuple(sorted(self._sent))
        if self._transmitter is not None and self._transmitter.channels != channels:
            self._drop_transmitter()
        if not channels:
            return
        rate_hz = self._rate_hz()
        if self._transmitter is None:
            self._transmitter = Transmitter(
                self.uhd,
                self._usrp,
                self._usrp.get_tx_stream(self._stream_args(channels)),
                channels,
                rate_hz=rate_hz,
                timed=self.info.has_clock,
                lead=self._lead,
                timeout_s=self.timeout_s,
                troubled=self._on_trouble,
                failed=self._on_failure,
            )
        elif not self._transmitter.stop():
            raise self._worker.silent(self.timeout_s)
        try:
            self._transmitter.play(np.stack([self._sent[channel] for channel in channels]))
        except RadioTimeout as exc:
            raise RadioTimeout(f"{self.name}: {exc}") from None
        if self._failure:
            raise RadioTimeout(f"{self.name}: {self._failure}")
        if task.is_abandoned:
            raise self._worker.silent(self.timeout_s)  # nobody knows that it transmits: it must not
        for channel in channels:
            self._raise_gain(channel, self.holders.get(channel, self.name))

    def _raise_gain(self, channel: int, name: str) -> None:
        step_db = max(self.info.tx_gain_db[2], self.config.limits.tx_gain_step_db)
        wanted = self._settings[channel].tx_gain_db
        got = setting.set_tx_gain(self._usrp, channel, wanted, step_db, name)
        self._realised[channel] = replace(self._realised[channel], tx_gain_db=got)

    def _on_trouble(self, channel: int) -> None:
        """From the thread that listens: samples of a channel did not leave in time."""
        with self._epoch_lock:
            self._troubles[channel] = self._troubles.get(channel, 0) + 1

    def _on_failure(self, problem: str) -> None:
        """From the thread that sends: the device takes no more samples."""
        self._failure = problem
        self._worker.post(self._give_up)

    def _give_up(self, task: Task) -> None:
        if self._failure:  # nobody has muted it, or transmits something else, since
            problem = self._failure
            self._silence(list(self._sent), task)
            self._failure = problem
            self.begin_epoch()

    def mute(self, channel: int) -> None:
        """Silence a channel: its lowest gain first, then the end of its burst."""
        self._command(lambda task: self._mute(channel, task), surely=True)

    def _mute(self, channel: int, task: Task) -> None:
        self._silence([channel] if channel < self.info.num_tx else [], task)
        self.begin_epoch()

    def _silence(self, channels: list[int], task: Task) -> None:
        if self._usrp is None:
            return
        try:
            setting.silence(self._usrp, channels, self.name)
        finally:
            was_on = [channel for channel in channels if self._sent.pop(channel, None) is not None]
            self._failure = ""
            if was_on and self._transmitter is not None and not self._transmitter.stop():
                raise self._worker.silent(self.timeout_s)
        if was_on and self._sent:
            self._play(task)

    def _drop_transmitter(self) -> None:
        transmitter, self._transmitter = self._transmitter, None
        if transmitter is not None and not transmitter.close():
            self._transmitter = transmitter
            raise self._worker.silent(self.timeout_s)

    # -- receiving -----------------------------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Nothing that was received before is given away any more."""
        with self._epoch_lock:
            self._epoch += 1
            stream, self._stream = self._stream, None
            if stream is not None:
                stream.interrupt("the radio was changed")
                self._ended.append(stream)

    def receive(self, channel: int, num_samples: int, name: str) -> tuple[NDArray[np.int16], int, int]:
        """Samples (n, 2) of a channel that follow on, their epoch and start.

        Raises:
            SampleLoss: the device reported a loss, or its time shows one, or the board was changed meanwhile.
            RadioTimeout: nothing comes, or the transmitter stalled.
            RadioUnavailable: the board is gone.
        """
        self._check_there()
        if channel not in self._realised or self._tuning is None:
            raise RadioError(f"{name}: receive before configure; its carrier and gain are not known")
        # asked behind all commands that are under way: one of them may be a mute, which settles it
        if self._failure and (problem := self._command(lambda task: self._take_failure())):
            raise RadioTimeout(f"{name}: muted; {problem}; transmit again")
        while True:
            with self._epoch_lock:
                stream = self._stream
            if stream is None:
                stream = self._command(lambda task: self._start(channel, task))
            try:
                raw, start = stream.read(channel, num_samples, name, self.timeout_s)
                return raw, stream.epoch, start
            except MustRestart:
                self.begin_epoch()
            except RadioError:
                if stream is self._stream:
                    self.begin_epoch()
                raise

    def _take_failure(self) -> str:
        problem, self._failure = self._failure, ""
        return problem

    def _start(self, reader: int, task: Task) -> Stream:
        """Begin to receive, in step with what is transmitted."""
        with self._epoch_lock:
            if self._stream is not None:
                return self._stream
            epoch = self._epoch
        channels = tuple(sorted(self.holders))
        self._await_ended()
        if self._receiver is None or self._receiver[0] != channels:
            self._receiver = None  # gone before there is another
            self._receiver = (channels, self._usrp.get_rx_stream(self._stream_args(channels)))
        rate_hz, start, due_in_s = self._rate_hz(), None, 0.0
        if self.info.has_clock:
            present = now(self._usrp, rate_hz)
            start = present + self._lead.samples(rate_hz)
            if self._transmitter is not None and self._transmitter.begin is not None:
                start = next_begin(self._transmitter.begin, self._transmitter.period, start)
            due_in_s = (start - present) / rate_hz
        stream = Stream(
            self.uhd,
            self._receiver[1],
            channels,
            reader,
            epoch=epoch,
            rate_hz=rate_hz,
            start=start,
            due_in_s=due_in_s,
            lead=self._lead,
        )
        with self._epoch_lock:
            if epoch == self._epoch and not task.is_abandoned:
                self._stream = stream
            else:
                stream.interrupt("the radio was changed")
                self._ended.append(stream)
        return stream

    def _await_ended(self) -> None:
        """Streams that end do so before another one begins: it would take their samples."""
        while self._ended:
            if not self._ended[0].join(self.timeout_s):
                raise self._worker.silent(self.timeout_s)
            self._ended.pop(0)

    def _drop_receiver(self) -> None:
        self.begin_epoch()
        self._await_ended()
        self._receiver = None

    def take_troubles(self, channel: int) -> int:
        """How often samples that a channel transmits did not leave in time, since this was asked before."""
        with self._epoch_lock:
            return self._troubles.pop(channel, 0)

    def _stream_args(self, channels: tuple[int, ...]) -> Any:
        args = self.uhd.usrp.StreamArgs(FORMAT, self.config.usrp.otw_format)
        args.channels = list(channels)
        return args

    def _rate_hz(self) -> float:
        assert self._tuning is not None, "configured before"
        return self._tuning.sample_rate_hz

    def forget(self, channel: int) -> None:
        """A channel that nobody holds any more has no settings."""
        self._settings.pop(channel, None)
        self._realised.pop(channel, None)
        self.take_troubles(channel)
        self.begin_epoch()

    # -- end -----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Drop streams and device; ends within the timeout, whatever hangs."""
        with contextlib.suppress(IsacError, RuntimeError):
            self._worker.ask(self._close, self.timeout_s, surely=True)
        self._worker.end()
        self._worker.join(self.timeout_s / 4)
        self._lost = f"{self.name}: this radio was closed"

    def _close(self, task: Task) -> None:
        try:
            self._sent.clear()
            self._drop_transmitter()
            self._drop_receiver()
        finally:
            self._transmitter, self._receiver, self._usrp = None, None, None


_boards: Boards[Board] = Boards(lambda board: board.name)
release = _boards.release


def share(args: dict[str, str], config: UsrpConfig, channel: int, name: str, timeout_s: float) -> Board:
    """The board of these device arguments, opened by the first who asks; `release` gives the channel back."""
    address = tuple(sorted(args.items()))
    return _boards.share(
        address, lambda: Board(args, config, timeout_s), lambda board: _claim(board, config, channel, name)
    )


def _claim(board: Board, config: UsrpConfig, channel: int, name: str) -> None:
    info = board.info
    if not 0 <= channel < info.num_rx:
        raise ConfigError(
            f"{name}: channel {channel} of {board.name}, which has {info.num_rx} ({info.model} with usrp.rx_subdev "
            f"'{board.config.usrp.rx_subdev}'); give another channel, or another device configuration"
        )
    if channel in board.holders:
        raise ConfigError(
            f"{name}: channel {channel} of {board.name} already serves {board.holders[channel]}; give another channel"
        )
    others = ", ".join(board.holders.values())
    if config != board.config:
        raise ConfigError(f"{name}: its device configuration differs from that of {others}, on the same {board.name}")
    if board.holders and not info.has_clock:
        raise ConfigError(
            f"{name}: {board.name} already serves {others}; its device time stands still, so channels cannot be aligned"
        )
    board.begin_epoch()  # the stream is to hold the new channel as well
    board.holders[channel] = name
