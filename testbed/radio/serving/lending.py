"""A radio that is lent to one client at a time, and taken back from one that is not heard of."""

import itertools
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.device import Limits, Reception, Settings
from testbed.errors import IsacError, RadioError, RadioUnavailable, SafetyRefused
from testbed.radio.base import Buffered, Conditioned, Described, Radio, check_transmit
from testbed.radio.safety import GuardedRadio

MUTE_AGAIN_S = 5.0  # after a muting that failed
MAX_ATTRIBUTES, MAX_ATTRIBUTE = 64, 200  # of what a radio says of itself: so many, so many characters each

log = logging.getLogger(__name__)


class Lent:
    """One radio of a server: who holds it, what it sends, and since when nothing was heard of the holder.

    A holder who is silent for `watchdog_s` finds his radio muted; it goes on with his next request or sign of life, and
    he is told that it was so. After `idle_timeout_s`, or with the connection, the radio is taken back.
    """

    def __init__(
        self, name: str, opener: Callable[[], Radio], *, transmits: bool, watchdog_s: float, idle_timeout_s: float
    ) -> None:
        self.name = name
        self.holder: bytes | None = None  # ZMQ's name of his connection
        self._open, self._transmits = opener, transmits
        self._watchdog_s, self._idle_timeout_s = watchdog_s, idle_timeout_s
        self._radio: Radio | None = opener()
        self._limits = self._radio.limits
        self.is_replay = isinstance(self._radio, Conditioned)
        self._hold, self._ended_hold, self._ended_why = "", "", ""
        self._since = self._address = ""
        self._heard_s = 0.0  # monotonic
        self._on_air: NDArray[np.complex64] | None = None  # what the holder wants to be sent
        self._is_muted = False  # by the watchdog
        self._mutings = 0
        self._mute_again_s: float | None = None  # monotonic; while set, it may transmit and is lent to nobody

    @property
    def radio(self) -> Radio:
        """The radio, opened anew where it was lost."""
        if self._radio is None:
            self._radio = self._open()
            self._limits = self._radio.limits
        return self._radio

    @property
    def limits(self) -> Limits:
        """What whoever holds it can do with it."""
        return self._limits if self._transmits else replace(self._limits, num_tx=0)

    @property
    def is_transmitting(self) -> bool:
        """Whether it is on the air, as far as this server knows."""
        return self._on_air is not None and not self._is_muted

    @property
    def held_by(self) -> str | None:
        """Who holds it, in words; None where nobody does."""
        return None if self.holder is None else f"a client at {self._address} since {self._since}"

    def lend(self, identity: bytes, address: str) -> dict[str, Any]:
        """Give it to a client, or again to the one who has it; returns what he needs to know.

        Raises:
            RadioUnavailable: somebody else holds it, or it could not be muted.
        """
        if self.holder is not None and self.holder != identity:
            raise RadioUnavailable(f"{self.name}: held by {self.held_by}; wait until that one is done, or end it")
        if self._mute_again_s is not None:
            raise RadioUnavailable(f"{self.name}: could not be muted and may still transmit; look after its server")
        limits, radio = self.limits, self.radio
        if self.holder is None:
            self.holder, self._hold, self._mutings = identity, secrets.token_hex(8), 0
            self._address, self._since = address or "an unknown address", time.strftime("%H:%M:%S %Z")
        self._heard_s = time.monotonic()
        return {
            "limits": limits.to_dict(),
            "hold": self._hold,
            "watchdog_s": self._watchdog_s,
            "buffered": isinstance(radio, Buffered),
            "board": _board(radio),
        }

    def is_over(self, hold: Any) -> bool:
        """Whether a hold has ended: what it sent was muted then."""
        return isinstance(hold, str) and bool(hold) and hold != self._hold and self._mute_again_s is None

    def require(self, identity: bytes, hold: Any) -> None:
        """Let pass only who holds it, be it on another connection that shows his hold; a sign of life.

        Raises:
            RadioUnavailable: somebody else, nobody, or no longer.
        """
        if self.holder is None or (self.holder != identity and hold != self._hold):
            if isinstance(hold, str) and hold and hold == self._ended_hold:
                raise RadioUnavailable(f"{self.name}: is no longer this client's: {self._ended_why}; open it again")
            who = f"held by {self.held_by}" if self.holder is not None else "held by nobody"
            raise RadioUnavailable(f"{self.name}: {who}; say hello before anything else")
        self._heard_s = time.monotonic()

    def attend(self) -> int:
        """Go on with what was muted for want of a sign of life; returns how often that happened."""
        if self._is_muted and self._on_air is not None:
            with _Loss(self):
                self.radio.transmit(self._on_air)
                self._is_muted = False
                if isinstance(self.radio, Buffered):
                    self.radio.refresh()  # of the silence nothing is given away
                log.warning("%s: its client is heard of again; transmits", self.name)
        return self._mutings

    def configure(self, wanted: Settings) -> Settings:
        """As the radio does."""
        with _Loss(self):
            return self.radio.configure(wanted)

    def transmit(self, samples: NDArray[np.complex64]) -> None:
        """As the radio does."""
        check_transmit(samples, self.limits, self.name)
        with _Loss(self):
            try:
                self.radio.transmit(samples)
            except SafetyRefused:
                raise  # what was on the air stays
            except BaseException:
                self._on_air = None
                raise
            self._on_air, self._is_muted = samples.copy(), False

    def receive(self, num_samples: int) -> Reception:
        """As the radio does; what was muted for want of a sign of life goes on first."""
        self.attend()
        with _Loss(self):
            return self.radio.receive(num_samples)

    def refresh(self) -> None:
        """As the radio does, where it keeps samples."""
        with _Loss(self):
            if isinstance(self.radio, Buffered):
                self.radio.refresh()

    def mute(self) -> None:
        """As the radio does."""
        self._on_air, self._is_muted = None, False
        with _Loss(self):
            self.radio.mute()

    def mind(self, is_late: bool) -> None:
        """Mute or take back what nobody is heard of; `is_late` says that requests may be waiting, so be patient."""
        now_s = time.monotonic()
        if self._mute_again_s is not None:
            if now_s >= self._mute_again_s:
                self._mute_surely()
            return
        if self.holder is None:
            return
        silence_s = (now_s - self._heard_s) / (2 if is_late else 1)
        if silence_s > self._idle_timeout_s:
            self.take_back(f"nothing was heard from it for {self._idle_timeout_s:g} s")
        elif silence_s > self._watchdog_s and self.is_transmitting:
            self._is_muted = True
            self._mutings += 1
            log.warning("%s: muted; nothing was heard from its client for %g s", self.name, self._watchdog_s)
            self._mute_surely()

    def take_back(self, why: str) -> None:
        """Mute, and lend to the next one."""
        was_on_air = self.is_transmitting
        log.log(logging.WARNING if was_on_air else logging.INFO, "%s: taken back and muted; %s", self.name, why)
        self._end_hold(why)
        if self.is_replay:
            self._release()  # it begins at its beginning for the next one
        elif self.limits.num_tx > 0:
            self._mute_surely()

    def _end_hold(self, why: str) -> None:
        self._ended_hold, self._ended_why = self._hold, why
        self.holder, self._hold = None, ""
        self._on_air, self._is_muted = None, False

    def _release(self) -> None:
        radio, self._radio = self._radio, None
        if radio is not None:
            radio.close()

    def close(self) -> bool:
        """Mute and release; whether it did so."""
        self.holder = None
        try:
            self._release()
        except RadioError as exc:
            log.debug("%s: %s", self.name, exc)
            return False
        except Exception as exc:  # whatever it is, the others are muted
            log.error("%s: %r", self.name, exc)
            return False
        return True

    def lose(self) -> None:
        """Its own server or board is gone: drop it; who comes next has it opened anew."""
        self._end_hold("its radio was lost")
        try:
            self._release()
        except IsacError as exc:
            log.error("%s: %s", self.name, exc)

    def _mute_surely(self) -> None:
        """Mute, and once more later where that fails."""
        self._mute_again_s = None
        if self._radio is None:
            return
        try:
            self._radio.mute()
        except RadioUnavailable as exc:
            log.error("%s: %s", self.name, exc)
            self.lose()
        except Exception as exc:  # whatever it is, the server goes on
            log.error("%s: could not be muted: %s", self.name, exc)
            self._mute_again_s = time.monotonic() + MUTE_AGAIN_S


def _board(radio: Radio) -> dict[str, Any]:
    """Which radio it is, for a client that has a configuration of it."""
    inner = radio.inner if isinstance(radio, GuardedRadio) else radio
    if not isinstance(inner, Described):
        return {"attributes": {}, "num_channels": 0}
    told = ((key, str(value)[:MAX_ATTRIBUTE]) for key, value in sorted(inner.attributes.items()))
    return {"attributes": dict(itertools.islice(told, MAX_ATTRIBUTES)), "num_channels": inner.num_channels}


class _Loss:
    """Around calls of a radio: where it is gone, it is dropped."""

    def __init__(self, lent: Lent) -> None:
        self._lent = lent

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, RadioUnavailable):
            self._lent.lose()
