"""Nothing is transmitted on air without consent, a band that holds it, and somebody who minds it.

`GuardedRadio` stands around any radio that is not simulated, below whatever chose the power. It knows of no regulation:
a band is what the user wrote down, with the basis that he says he has. Before a transmission:

* consent (`--transmit`, or `[safety] transmit = true`), and a `[[safety.bands]]` entry that holds the occupied
  bandwidth, carrier +- half of it, and the power, mean and peak, of these very samples at this very gain;
* highest attenuation first, then tuning, the carrier read back and checked again, then the samples, then the gain, step
  by step, each read back.

Off again on every way out: `close` (return and exception), SIGINT, SIGTERM and SIGHUP (which unwind), `atexit` for a
radio that nobody closed, and a watchdog: where no radio was asked for anything for some seconds, all are muted; the
next reception by any of them puts the same samples back on the air, checked again, and begins an epoch. Ctrl-Z is
ignored meanwhile, for the watchdog of a stopped process stands still.

What no program can catch, SIGKILL or a crash of the interpreter, leaves this on a Pluto: its server drops the buffer
with the connection; the attenuation stays where it was, and so does the synthesiser. A carrier leaks at that
attenuation until a radio on that board is opened again, which silences it, or the board loses its power. SIGSTOP, and a
machine that sleeps, leave all as it is.
"""

import atexit
import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.device import Limits, Reception, Settings
from testbed.errors import IsacError, RadioError, SafetyRefused
from testbed.radio.base import Attended, Buffered, Radio, check_transmit
from testbed.units import db

OCCUPIED_SHARE = 0.99  # of the power: the usual definition of an occupied bandwidth
PEAK_OVER_MEAN_DB = 12.0  # allowed where a band gives no peak of its own
STEP_DB = 20.0  # of the gain, on its way up
MIN_WATCHDOG_S, MAX_WATCHDOG_S = 0.1, 3600.0

log = logging.getLogger(__name__)


class BandTable(StrictModel):
    """A stretch of spectrum that its user says he may transmit in."""

    name: str = Field(min_length=1, max_length=60)
    low_hz: float = Field(ge=0)
    high_hz: float = Field(gt=0)
    max_power_dbm: float = Field(ge=-150, le=80)  # mean, at the antenna port: take the antenna's gain off
    max_peak_dbm: float | None = Field(default=None, ge=-150, le=100)  # of the envelope; none: 12 dB above the mean
    basis: str = Field(min_length=3, max_length=200)  # licence, rule, or 'cabled, 30 dB attenuator'

    @model_validator(mode="after")
    def _ordered(self) -> "BandTable":
        if self.low_hz >= self.high_hz:
            raise ValueError(f"low_hz: found {self.low_hz:g}, not below high_hz = {self.high_hz:g}")
        return self

    @property
    def peak_dbm(self) -> float:
        """Largest peak of the envelope."""
        return self.max_power_dbm + PEAK_OVER_MEAN_DB if self.max_peak_dbm is None else self.max_peak_dbm


class SafetyTable(StrictModel):
    """What may be transmitted on air: nothing, unless written here."""

    transmit: bool = False  # consent; so is --transmit
    watchdog_s: float = Field(default=10.0, ge=MIN_WATCHDOG_S, le=MAX_WATCHDOG_S)  # without a call, then all is muted
    bands: tuple[BandTable, ...] = Field(default=(), max_length=100)


class Guard:
    """Rules and watchdog of all radios of a session."""

    def __init__(self, table: SafetyTable) -> None:
        self.table = table
        self._deadline = math.inf
        self._radios: set[GuardedRadio] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def require_consent(self, name: str) -> None:
        """Refuse where nobody agreed to transmit at all.

        Raises:
            SafetyRefused: with what to write.
        """
        if not self.table.transmit:
            raise SafetyRefused(
                f"{name}: would transmit on air, and nobody agreed to that; pass --transmit, or write transmit = true "
                f"in the experiment's [safety] table"
            )

    def check(self, name: str, settings: Settings, limits: Limits, samples: NDArray[Any]) -> None:
        """Refuse what no band holds: consent, occupied bandwidth, mean and peak power.

        Raises:
            SafetyRefused: with what was found and what to write or change.
        """
        self.require_consent(name)
        half_hz = occupied_bandwidth(samples, settings.sample_rate_hz) / 2
        low_hz, high_hz = settings.carrier_hz - half_hz, settings.carrier_hz + half_hz
        bands = [band for band in self.table.bands if band.low_hz <= low_hz and high_hz <= band.high_hz]
        if not bands:
            known = ", ".join(f"{b.name} {b.low_hz / 1e6:.10g}..{b.high_hz / 1e6:.10g} MHz" for b in self.table.bands)
            raise SafetyRefused(
                f"{name}: would occupy {low_hz / 1e6:.6f}..{high_hz / 1e6:.6f} MHz, which no band of [safety] holds "
                f"({known or 'there is none'}); where you may transmit there, write [[safety.bands]] with name, "
                f"low_hz, high_hz, max_power_dbm and basis"
            )
        mean_dbm, peak_dbm = radiated_dbm(samples, settings, limits)
        if any(mean_dbm <= band.max_power_dbm and peak_dbm <= band.peak_dbm for band in bands):
            return
        band = max(bands, key=lambda band: band.max_power_dbm)
        raise SafetyRefused(
            f"{name}: would transmit {mean_dbm:.2f} dBm with peaks of {peak_dbm:.2f} dBm; the band {band.name} allows "
            f"{band.max_power_dbm:g} and {band.peak_dbm:g} dBm; lower the power or tx_gain_db"
        )

    @contextlib.contextmanager
    def call(self, expected_s: float = 0.0) -> Iterator[None]:
        """A radio is asked for something, which takes so long: the controller is alive."""
        self._deadline = time.monotonic() + expected_s + self.table.watchdog_s
        try:
            yield
        finally:
            self._deadline = time.monotonic() + self.table.watchdog_s

    def watch(self, radio: "GuardedRadio") -> None:
        """Mind a radio that begins to transmit, until it is closed."""
        with self._lock:
            self._radios.add(radio)
            if self._thread is None:
                _mind_signals(self)
                self._ended.clear()
                atexit.register(self.close)
                self._thread = threading.Thread(target=self._run, name="isac-watchdog", daemon=True)
                self._thread.start()

    def forget(self, radio: "GuardedRadio") -> None:
        """Mind a radio no longer."""
        with self._lock:
            self._radios.discard(radio)

    def resume(self) -> bool:
        """Put back on the air whatever the watchdog muted; whether that was anything."""
        with self._lock:
            radios = list(self._radios)
        return any([radio.resume() for radio in radios])

    @property
    def is_stalled(self) -> bool:
        """Whether no radio was asked for anything for too long."""
        return time.monotonic() > self._deadline

    def close(self) -> None:
        """End the watchdog, and mute whatever nobody closed."""
        self._ended.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(self.table.watchdog_s)
        atexit.unregister(self.close)
        for radio in list(self._radios):
            try:
                radio.close()
            except Exception as exc:  # whatever it is, the others are muted
                log.error("%s: %s", radio.name, exc)
        _leave_signals(self)

    def _run(self) -> None:
        pause_s = min(self.table.watchdog_s / 4, 0.5)
        while not self._ended.wait(pause_s):
            if self.is_stalled:
                for radio in list(self._radios):
                    radio.trip()


class GuardedRadio:
    """A radio that transmits only what its guard lets pass. Stands around any other; a `Radio` itself."""

    def __init__(self, radio: Radio, guard: Guard) -> None:
        self._radio, self._guard = radio, guard
        self._lock = threading.RLock()  # the watchdog comes from another thread; a call ends within its own timeout
        self._wanted: Settings | None = None  # realisable, with the gain that a transmission is to have
        self._samples: NDArray[np.complex64] | None = None  # on the air, or to be
        self._tripped = self._is_closed = False

    @property
    def name(self) -> str:
        """Name of the node."""
        return self._radio.name

    @property
    def inner(self) -> Radio:
        """The radio that is guarded; to ask it, not to use it."""
        return self._radio

    @property
    def limits(self) -> Limits:
        """What the radio can do."""
        return self._radio.limits

    def configure(self, wanted: Settings) -> Settings:
        """Set the radio; its gain for transmitting is applied when it transmits.

        Raises:
            SafetyRefused: it is transmitting, and what it sends must not be sent so; nothing is changed.
        """
        with self._lock, self._guard.call():
            wanted = self.limits.realise(wanted, self.name)
            if self.limits.num_tx == 0:
                return self._radio.configure(wanted)
            if self._samples is None or self._tripped:
                back = self._radio.configure(replace(wanted, tx_gain_db=self.limits.tx_gain_min_db))
            else:
                self._guard.check(self.name, wanted, self.limits, self._samples)
                before = self._wanted
                if before is not None and _is_same_channel(before, wanted):
                    back = self._raise_gain(wanted, before.tx_gain_db)
                else:
                    self._radio.mute()
                    back = self._start(wanted, self._samples)
            self._wanted = wanted
            return replace(back, tx_gain_db=wanted.tx_gain_db)

    def transmit(self, samples: NDArray[np.complex64]) -> None:
        """Repeat `samples` once everything allows it: from the highest attenuation up to the configured gain.

        Raises:
            SafetyRefused: no consent, no band, too much power, clipping; what was on the air stays.
        """
        with self._lock, self._guard.call():
            if self._is_closed:
                self._radio.transmit(samples)  # says that it is closed
            check_transmit(samples, self.limits, self.name)
            if self._wanted is None:
                raise SafetyRefused(f"{self.name}: transmit before configure; its carrier is not known")
            self._guard.check(self.name, self._wanted, self.limits, samples)
            self._start(self._wanted, samples)
            self._samples, self._tripped = samples.copy(), False

    def receive(self, num_samples: int) -> Reception:
        """Receive; all transmissions that the watchdog had muted go on first, for this radio may hear any of them."""
        with self._guard.call():  # from here on nothing is muted that was not
            if self._guard.resume():
                self.refresh()  # of the silence nothing is given away, and nothing follows on what was before it
            with self._lock:
                rate_hz = self.limits.sample_rate_max_hz if self._wanted is None else self._wanted.sample_rate_hz
                with self._guard.call(2 * max(num_samples, 0) / rate_hz):
                    return self._radio.receive(num_samples)

    def resume(self) -> bool:
        """Transmit again if the watchdog had muted it; whether it had."""
        with self._lock:
            if not self._tripped or self._samples is None or self._wanted is None:
                return False
            with self._guard.call():
                log.warning("%s: the watchdog had muted it; transmits again", self.name)
                self._start(self._wanted, self._samples)
                self._tripped = False
            return True

    def refresh(self) -> None:
        """Drop what was received so far, where the radio keeps any."""
        with self._lock, self._guard.call():
            if isinstance(self._radio, Buffered):
                self._radio.refresh()

    @property
    def patience_s(self) -> float | None:
        """After how much silence a server mutes it; None where none does."""
        return self._radio.patience_s if isinstance(self._radio, Attended) else None

    def attend(self, wait: bool = True) -> int | None:
        """A sign of life for the server behind which it stands, if any; says nothing to the guard."""
        return self._radio.attend(wait) if isinstance(self._radio, Attended) else 0

    def check(self, wanted: Settings, samples: NDArray[np.complex64]) -> None:
        """Refuse now what would be refused later; nothing is set.

        Raises:
            SafetyRefused: as `transmit` does after `configure`.
        """
        self._guard.check(self.name, self.limits.realise(wanted, self.name), self.limits, samples)

    def mute(self) -> None:
        """Stop transmitting."""
        with self._lock, self._guard.call():
            self._samples, self._tripped = None, False
            self._radio.mute()

    def trip(self) -> None:
        """Called by the watchdog: mute, and remember what was on the air."""
        if not self._lock.acquire(blocking=False):
            return  # within a call, which may hang; the others do not wait for it
        try:
            if self._samples is None or self._tripped or self._is_closed or not self._guard.is_stalled:
                return
            self._radio.mute()
            self._tripped = True
            log.warning("%s: muted; no radio was asked for anything for a while", self.name)
        except Exception as exc:  # whatever it is, the watchdog goes on with the others
            log.error("%s: %s", self.name, exc)  # and once more soon
        finally:
            self._lock.release()

    def close(self) -> None:
        """Mute and release."""
        with self._lock:
            self._is_closed, self._samples = True, None
            try:
                self._radio.close()
            finally:
                self._guard.forget(self)

    def _start(self, wanted: Settings, samples: NDArray[np.complex64]) -> Settings:
        lowest = self.limits.tx_gain_min_db
        self._guard.watch(self)
        try:
            back = self._radio.configure(replace(wanted, tx_gain_db=lowest))
            # the carrier that it really has
            realised = replace(wanted, carrier_hz=back.carrier_hz, sample_rate_hz=back.sample_rate_hz)
            self._guard.check(self.name, realised, self.limits, samples)
            if back.tx_gain_db > lowest:
                raise RadioError(
                    f"{self.name}: tx_gain_db {lowest:g} came back as {back.tx_gain_db:g}; not transmitted"
                )
            self._radio.transmit(samples)
            return self._raise_gain(wanted, lowest)
        except BaseException:
            self._samples = None
            with contextlib.suppress(IsacError):
                self._radio.mute()
            raise

    def _raise_gain(self, wanted: Settings, now_db: float) -> Settings:
        """To the wanted gain, up in steps and down at once; each step is read back."""
        back = None
        while back is None or now_db != wanted.tx_gain_db:
            now_db = min(now_db + STEP_DB, wanted.tx_gain_db)
            back = self._radio.configure(replace(wanted, tx_gain_db=now_db))
            if back.tx_gain_db != now_db:
                self._samples = None
                with contextlib.suppress(IsacError):
                    self._radio.mute()
                raise RadioError(f"{self.name}: tx_gain_db {now_db:g} came back as {back.tx_gain_db:g}; muted")
        return back


def occupied_bandwidth(samples: NDArray[Any], sample_rate_hz: float) -> float:
    """Width around the carrier that holds 99 % of the power of a repeated buffer, shape (num_tx, n); in Hz."""
    power = np.sum(np.abs(np.fft.fft(samples.astype(np.complex128), axis=-1)) ** 2, axis=0)
    if not power.any():
        return 0.0
    distance = np.abs(np.fft.fftfreq(power.size))
    order = np.argsort(distance, kind="stable")
    held = np.searchsorted(np.cumsum(power[order]), OCCUPIED_SHARE * power.sum())
    return float(2 * distance[order[min(held, power.size - 1)]] * sample_rate_hz)


def radiated_dbm(samples: NDArray[Any], settings: Settings, limits: Limits) -> tuple[float, float]:
    """Mean power and peak of the envelope at the antenna port, all channels together, by the radio's calibration."""
    power = np.sum(np.abs(samples.astype(np.complex128)) ** 2, axis=0)
    full_scale_dbm = db(limits.tx_amplitude(settings.tx_gain_db) ** 2)
    return full_scale_dbm + db(float(power.mean())), full_scale_dbm + db(float(power.max()))


def _is_same_channel(a: Settings, b: Settings) -> bool:
    return (a.carrier_hz, a.sample_rate_hz) == (b.carrier_hz, b.sample_rate_hz)


_ENDING = (signal.SIGTERM, signal.SIGHUP)
_STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)  # Ctrl-Z, and the terminal of a background process
_minding: set[Guard] = set()  # those that need the signals below
_taken: set[signal.Signals] = set()  # where the default is replaced


def _mind_signals(guard: Guard) -> None:
    """Have SIGTERM and SIGHUP raise where they would end the process on the spot: what unwinds mutes.

    Have those ignored that would stop it: its watchdog would stand still while it transmits.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may; `testbed.interrupts` has done so on the command line
    _minding.add(guard)
    for number in (*_ENDING, *_STOPPING):
        if signal.getsignal(number) is signal.SIG_DFL:
            _taken.add(number)
            signal.signal(number, _unwind if number in _ENDING else signal.SIG_IGN)


def _leave_signals(guard: Guard) -> None:
    """Give the signals back once no guard needs them."""
    _minding.discard(guard)
    if _minding or threading.current_thread() is not threading.main_thread():
        return
    while _taken:
        number = _taken.pop()
        if signal.getsignal(number) in (_unwind, signal.SIG_IGN):
            signal.signal(number, signal.SIG_DFL)


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    for repeated in _taken.intersection(_ENDING):
        signal.signal(repeated, signal.SIG_IGN)  # a second one must not cut the muting short
    raise SystemExit(128 + number)
