"""What may go on air, and that everything else is refused, on a stand-in that notes what it is told."""

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from testbed.device import Limits, Reception, Settings
from testbed.errors import RadioError, RadioTimeout, SafetyRefused, SettingOutOfRange
from testbed.radio import safety
from testbed.radio.base import Radio, check_transmit
from testbed.radio.safety import BandTable, Guard, GuardedRadio, SafetyTable, occupied_bandwidth, radiated_dbm
from tests.emulator import tone

LIMITS = Limits(
    model="stand-in",
    simulated=False,
    num_tx=1,
    num_rx=1,
    carrier_min_hz=70e6,
    carrier_max_hz=6e9,
    sample_rate_min_hz=0.5e6,
    sample_rate_max_hz=61.44e6,
    tx_gain_min_db=-89.75,
    tx_gain_max_db=0.0,
    tx_gain_step_db=0.25,
    rx_gain_min_db=-3.0,
    rx_gain_max_db=71.0,
    rx_gain_step_db=1.0,
    tx_bits=12,
    rx_full_scale=2048,
    tx_full_scale_dbm=7.0,
    rx_full_scale_dbm=10.0,
    max_transmit_samples=1 << 20,
)
ISM = BandTable(name="ISM 2.4", low_hz=2.4e9, high_hz=2.4835e9, max_power_dbm=-10.0, basis="licence exempt, 10 dBm")
SETTINGS = Settings(carrier_hz=2.44e9, sample_rate_hz=20e6, tx_gain_db=-20.0, rx_gain_db=40.0)


class StandIn:
    """Notes every call; `off_by_hz` is what its synthesiser is wrong by."""

    def __init__(self, name: str = "bs1", limits: Limits = LIMITS) -> None:
        self.name, self.limits = name, limits
        self.calls: list[tuple[str, object]] = []
        self.off_by_hz, self.stuck_gain_db, self.is_dead = 0.0, None, False

    def configure(self, wanted: Settings) -> Settings:
        self._note("configure", wanted)
        gain_db = wanted.tx_gain_db if self.stuck_gain_db is None else self.stuck_gain_db
        return replace(wanted, carrier_hz=wanted.carrier_hz + self.off_by_hz, tx_gain_db=gain_db)

    def transmit(self, samples: np.ndarray) -> None:
        self._note("transmit", samples)

    def receive(self, num_samples: int) -> Reception:
        self._note("receive", num_samples)
        return Reception(np.zeros((1, num_samples, 2), np.int16), 2048, 1, 0, 0, "unknown")

    def refresh(self) -> None:
        self._note("refresh", None)

    def mute(self) -> None:
        self._note("mute", None)

    def close(self) -> None:
        self._note("close", None)

    def _note(self, what: str, value: object) -> None:
        self.calls.append((what, value))
        if self.is_dead:
            raise RadioTimeout("no answer")

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    @property
    def gains_db(self) -> list[float]:
        return [value.tx_gain_db for name, value in self.calls if name == "configure"]  # type: ignore[attr-defined]

    @property
    def is_transmitting(self) -> bool:
        """After the calls so far."""
        on = [name for name in self.names if name in ("transmit", "mute", "close")]
        return bool(on) and on[-1] == "transmit"


def table(**changes: object) -> SafetyTable:
    return SafetyTable(**{"transmit": True, "bands": (ISM,), **changes})  # type: ignore[arg-type]


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def guard() -> Iterator[Guard]:
    made = Guard(table())
    yield made
    made.close()


@pytest.fixture
def radio(stand_in: StandIn, guard: Guard) -> GuardedRadio:
    guarded = GuardedRadio(stand_in, guard)
    guarded.configure(SETTINGS)
    return guarded


def test_a_guarded_radio_is_a_radio(radio: GuardedRadio) -> None:
    assert isinstance(radio, Radio)
    assert (radio.name, radio.limits) == ("bs1", LIMITS)
    assert radio.receive(10).num_samples == 10


def test_nothing_is_transmitted_unless_something_is_written(stand_in: StandIn) -> None:
    radio = GuardedRadio(stand_in, Guard(SafetyTable()))
    radio.configure(SETTINGS)
    with pytest.raises(SafetyRefused, match=r"bs1: .*nobody agreed.*--transmit.*transmit = true.*\[safety\]"):
        radio.transmit(tone())
    assert "transmit" not in stand_in.names
    assert set(stand_in.gains_db) == {-89.75}


def test_consent_without_a_band_is_refused_with_what_to_write(stand_in: StandIn) -> None:
    radio = GuardedRadio(stand_in, Guard(table(bands=())))
    radio.configure(SETTINGS)
    with pytest.raises(SafetyRefused, match=r"there is none.*\[\[safety\.bands\]\].*max_power_dbm and basis"):
        radio.transmit(tone())
    assert "transmit" not in stand_in.names


# carrier, offset of the tone in cycles per sample, is it held by 2.4..2.4835 GHz at 20 MS/s
EDGES = [(2.4835e9, 0.0, True), (2.4836e9, 0.0, False), (2.475e9, 0.4, True), (2.476e9, 0.4, False), (2.4e9, 0.0, True),
         (2.407e9, 0.4, False), (2.409e9, -0.4, True), (3.5e9, 0.0, False)]  # fmt: skip


@pytest.mark.parametrize(("carrier_hz", "offset", "is_held"), EDGES)
def test_a_band_must_hold_the_occupied_bandwidth_and_not_only_the_carrier(
    stand_in: StandIn, guard: Guard, carrier_hz: float, offset: float, is_held: bool
) -> None:
    radio = GuardedRadio(stand_in, guard)
    radio.configure(replace(SETTINGS, carrier_hz=carrier_hz))
    wave = 0.5 * np.exp(2j * np.pi * offset * np.arange(1000))
    samples = wave.astype(np.complex64)[None]
    if is_held:
        radio.transmit(samples)
        assert stand_in.is_transmitting
        return
    with pytest.raises(SafetyRefused, match=r"no band of .safety. holds .ISM 2\.4 2400\.\.2483\.5 MHz"):
        radio.transmit(samples)
    assert not stand_in.is_transmitting


def test_mean_and_peak_are_limited_by_the_samples_and_the_gain(stand_in: StandIn, guard: Guard) -> None:
    radio = GuardedRadio(stand_in, guard)
    # a tone of amplitude 0.5 at 7 dBm full scale: 7 - 6.02 = 0.98 dBm at gain 0, the band allows -10
    radio.configure(replace(SETTINGS, tx_gain_db=-11.0))
    radio.transmit(tone())
    radio.configure(replace(SETTINGS, tx_gain_db=-11.0))
    with pytest.raises(
        SafetyRefused, match=r"would transmit -9\.77 dBm with peaks of -9\.77 dBm.*allows -10 and 2 dBm"
    ):
        radio.configure(replace(SETTINGS, tx_gain_db=-10.75))
    assert stand_in.gains_db[-1] == -11.0
    assert stand_in.is_transmitting
    # a single sample of full scale in 10,000: the mean is 40 dB below the peak
    peaky = np.zeros((1, 10_000), np.complex64)
    peaky[0, 0] = 1.0
    radio.mute()
    radio.configure(replace(SETTINGS, tx_gain_db=0.0))
    with pytest.raises(SafetyRefused, match=r"-33\.00 dBm with peaks of 7\.00 dBm"):
        radio.transmit(peaky)


def test_the_start_goes_from_the_highest_attenuation_over_tuning_to_the_gain(
    radio: GuardedRadio, stand_in: StandIn
) -> None:
    stand_in.calls.clear()
    radio.transmit(tone())
    assert stand_in.names == ["configure", "transmit", "configure", "configure", "configure", "configure"]
    assert stand_in.gains_db == [-89.75, -69.75, -49.75, -29.75, -20.0]
    assert [value.carrier_hz for name, value in stand_in.calls if name == "configure"] == [2.44e9] * 5  # type: ignore[attr-defined]


def test_configured_gain_is_returned_and_applied_only_while_transmitting(
    radio: GuardedRadio, stand_in: StandIn
) -> None:
    assert radio.configure(replace(SETTINGS, tx_gain_db=-20.1)).tx_gain_db == -20.0
    assert stand_in.gains_db[-1] == -89.75
    radio.transmit(tone())
    assert stand_in.gains_db[-1] == -20.0
    assert radio.configure(replace(SETTINGS, tx_gain_db=-30.0)).tx_gain_db == -30.0
    assert stand_in.gains_db[-1] == -30.0
    radio.mute()
    radio.configure(SETTINGS)
    assert stand_in.gains_db[-1] == -89.75


def test_another_carrier_while_transmitting_starts_from_silence_again(radio: GuardedRadio, stand_in: StandIn) -> None:
    radio.transmit(tone())
    stand_in.calls.clear()
    radio.configure(replace(SETTINGS, carrier_hz=2.45e9))
    assert stand_in.names[:3] == ["mute", "configure", "transmit"]
    assert stand_in.gains_db[0] == -89.75
    with pytest.raises(SafetyRefused):
        radio.configure(replace(SETTINGS, carrier_hz=3.5e9))
    assert stand_in.is_transmitting


def test_a_carrier_that_comes_back_outside_the_band_is_never_transmitted_on(
    radio: GuardedRadio, stand_in: StandIn
) -> None:
    stand_in.off_by_hz = 100e6
    with pytest.raises(SafetyRefused, match="2540"):
        radio.transmit(tone())
    assert "transmit" not in stand_in.names
    assert stand_in.names[-1] == "mute"


def test_a_gain_that_does_not_follow_mutes(radio: GuardedRadio, stand_in: StandIn) -> None:
    stand_in.stuck_gain_db = -50.0
    with pytest.raises(RadioError, match="came back as -50; not transmitted"):
        radio.transmit(tone())
    assert "transmit" not in stand_in.names
    stand_in.stuck_gain_db = -89.75
    with pytest.raises(RadioError, match=r"tx_gain_db -69\.75 came back as -89\.75; muted"):
        radio.transmit(tone())
    assert not stand_in.is_transmitting


def test_clipping_and_transmitting_before_configuring_are_refused(stand_in: StandIn, guard: Guard) -> None:
    radio = GuardedRadio(stand_in, guard)
    with pytest.raises(SafetyRefused, match="before configure"):
        radio.transmit(tone())
    radio.configure(SETTINGS)
    with pytest.raises(SafetyRefused, match="full scale"):
        radio.transmit(tone(amplitude=1.5))
    with pytest.raises(SettingOutOfRange):
        radio.configure(replace(SETTINGS, tx_gain_db=3.0))
    assert "transmit" not in stand_in.names


def test_a_radio_that_only_receives_needs_no_consent() -> None:
    stand_in = StandIn("u1", replace(LIMITS, num_tx=0))
    radio = GuardedRadio(stand_in, Guard(SafetyTable()))
    radio.configure(replace(SETTINGS, carrier_hz=3.5e9))
    assert radio.receive(100).num_samples == 100
    with pytest.raises(SafetyRefused, match="has no transmitter"):
        radio.transmit(tone())


def until(condition: object, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_the_watchdog_mutes_all_when_nobody_asks_and_the_next_reception_goes_on() -> None:
    guard = Guard(table(watchdog_s=0.2))
    inner = [StandIn("bs1"), StandIn("bs2")]
    radios = [GuardedRadio(radio, guard) for radio in inner]
    try:
        for radio in radios:
            radio.configure(SETTINGS)
            radio.transmit(tone())
        # whoever is asked keeps the others on the air too: they belong to one controller
        for _ in range(10):
            time.sleep(0.05)
            radios[0].receive(10)
        assert all(radio.is_transmitting for radio in inner)
        assert until(lambda: not any(radio.is_transmitting for radio in inner))
        inner[1].calls.clear()
        radios[1].receive(10)
        assert inner[1].names[0] == "configure"
        assert inner[1].gains_db == [-89.75, -69.75, -49.75, -29.75, -20.0]
        assert inner[1].names[-1] == "receive"
        assert inner[0].is_transmitting  # the others too: a reception is to hear all of them
        radios[0].mute()
        radios[0].receive(10)
        assert not inner[0].is_transmitting
    finally:
        guard.close()
    assert [radio.names[-1] for radio in inner] == ["close", "close"]


def test_the_watchdog_tries_again_where_muting_failed() -> None:
    guard = Guard(table(watchdog_s=0.1))
    inner = StandIn()
    radio = GuardedRadio(inner, guard)
    try:
        radio.configure(SETTINGS)
        radio.transmit(tone())
        inner.is_dead = True
        assert until(lambda: inner.names.count("mute") >= 2)
        inner.is_dead = False
        assert until(lambda: radio._tripped)
    finally:
        guard.close()


def test_a_long_reception_is_no_stall() -> None:
    guard = Guard(table(watchdog_s=0.1))
    inner = StandIn()
    radio = GuardedRadio(inner, guard)
    slow = inner.receive
    inner.receive = lambda n: (time.sleep(0.6), slow(n))[1]  # type: ignore[method-assign]
    try:
        radio.configure(SETTINGS)
        radio.transmit(tone())
        radio.receive(10_000_000)  # half a second of samples
        assert inner.is_transmitting
    finally:
        guard.close()


def test_a_receiver_hears_after_a_stall_what_it_heard_before_and_nothing_of_the_silence() -> None:
    guard = Guard(table(watchdog_s=0.2))
    inner = [StandIn("bs1"), StandIn("u1", replace(LIMITS, num_tx=0))]
    station, user = (GuardedRadio(radio, guard) for radio in inner)
    try:
        for radio in (station, user):
            radio.configure(SETTINGS)
        station.transmit(tone())
        assert until(lambda: not inner[0].is_transmitting)  # the operator moves a target
        inner[1].calls.clear()
        user.receive(10)
        assert inner[0].is_transmitting
        assert inner[1].names == ["refresh", "receive"]
        user.receive(10)
        assert inner[1].names == ["refresh", "receive", "receive"]
    finally:
        guard.close()


@pytest.mark.parametrize("hung", [0, 1])
def test_a_radio_that_hangs_keeps_no_other_on_the_air(hung: int) -> None:
    guard = Guard(table(watchdog_s=0.2))
    inner = [StandIn("bs1"), StandIn("bs2")]
    radios = [GuardedRadio(radio, guard) for radio in inner]
    over = threading.Event()
    quick = inner[hung].receive
    inner[hung].receive = lambda n: (over.wait(10.0), quick(n))[1]  # type: ignore[method-assign]
    try:
        for radio in radios:
            radio.configure(SETTINGS)
            radio.transmit(tone())
        stuck = threading.Thread(target=radios[hung].receive, args=(10,))
        stuck.start()
        assert until(lambda: not inner[1 - hung].is_transmitting, 2.0)
        over.set()
        stuck.join()
    finally:
        over.set()
        guard.close()


def test_a_call_that_ends_late_is_no_stall_once_it_has_ended() -> None:
    guard = Guard(table(watchdog_s=0.4))
    inner = StandIn()
    radio = GuardedRadio(inner, guard)
    slow = inner.receive
    inner.receive = lambda n: (time.sleep(1.0), slow(n))[1]  # type: ignore[method-assign]
    try:
        radio.configure(SETTINGS)
        radio.transmit(tone())
        radio.receive(10)
        time.sleep(0.15)
        assert inner.is_transmitting
    finally:
        guard.close()


def test_the_watchdog_outlives_a_fault_of_a_radio_and_mutes_the_others() -> None:
    guard = Guard(table(watchdog_s=0.1))
    inner = [StandIn("bs1"), StandIn("bs2")]
    radios = [GuardedRadio(radio, guard) for radio in inner]
    tried = threading.Event()

    def fail() -> None:
        tried.set()
        raise KeyError("hardwaregain")

    try:
        for radio in radios:
            radio.configure(SETTINGS)
            radio.transmit(tone())
        mute, inner[0].mute = inner[0].mute, fail  # type: ignore[method-assign]
        assert tried.wait(5.0)
        assert until(lambda: not inner[1].is_transmitting)
        inner[0].mute = mute  # type: ignore[method-assign]
        assert until(lambda: not inner[0].is_transmitting)
    finally:
        guard.close()


def test_a_fault_in_closing_one_radio_keeps_no_other_on_the_air(guard: Guard) -> None:
    inner = [StandIn("bs1"), StandIn("bs2")]
    for one in inner:
        radio = GuardedRadio(one, guard)
        radio.configure(SETTINGS)
        radio.transmit(tone())

        def fail(one: StandIn = one) -> None:
            one._note("close", None)
            raise KeyError("hardwaregain")

        one.close = fail  # type: ignore[method-assign]
    guard.close()
    assert [one.names[-1] for one in inner] == ["close", "close"]


def test_a_radio_muted_for_its_gain_starts_anew_and_from_the_highest_attenuation(
    radio: GuardedRadio, stand_in: StandIn
) -> None:
    radio.transmit(tone())
    stand_in.stuck_gain_db = -50.0
    with pytest.raises(RadioError, match="came back as -50; muted"):
        radio.configure(replace(SETTINGS, tx_gain_db=-30.0))
    assert not stand_in.is_transmitting
    stand_in.stuck_gain_db = None
    stand_in.calls.clear()
    radio.configure(SETTINGS)
    assert stand_in.gains_db == [-89.75]  # nothing is on the air


@pytest.fixture
def plain_signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # as in a process of its own: no guard of another test minds them
    monkeypatch.setattr(safety, "_minding", set())
    monkeypatch.setattr(safety, "_taken", set())
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("plain_signals")
def test_a_second_signal_does_not_cut_the_muting_short() -> None:
    guard = Guard(table())
    inner = StandIn()
    radio = GuardedRadio(inner, guard)
    radio.configure(SETTINGS)
    radio.transmit(tone())
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGHUP)  # by the shell, while all is being muted
    signal.raise_signal(signal.SIGTERM)
    guard.close()
    assert inner.names[-1] == "close"


@pytest.mark.usefixtures("plain_signals")
def test_a_stop_from_the_keyboard_waits_until_nothing_is_on_the_air() -> None:
    guards = [Guard(table()), Guard(table())]
    for guard in guards:
        radio = GuardedRadio(StandIn(), guard)
        radio.configure(SETTINGS)
        radio.transmit(tone())
    for guard in guards:
        # a process that is stopped minds nothing, and its watchdog stands still with it
        assert signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        guard.close()
    assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.parametrize("sample", [complex(0.1, np.nan), complex(np.nan, 0.1), complex(0.1, np.inf)])
def test_samples_that_are_no_numbers_are_refused_on_either_rail(sample: complex) -> None:
    samples = tone()
    samples[0, 3] = sample
    with pytest.raises(SafetyRefused, match=r"bs1: transmit samples reach (nan|inf) of full scale"):
        check_transmit(samples, LIMITS, "bs1")


def test_a_guard_that_closes_closes_what_nobody_closed(radio: GuardedRadio, stand_in: StandIn, guard: Guard) -> None:
    radio.transmit(tone())
    guard.close()
    assert stand_in.names[-1] == "close"
    guard.close()


def test_occupied_bandwidth_and_radiated_power_of_known_signals() -> None:
    assert occupied_bandwidth(np.zeros((1, 64)), 20e6) == 0.0
    assert occupied_bandwidth(np.ones((1, 64)), 20e6) == 0.0
    assert occupied_bandwidth(tone(size=64), 20e6) == pytest.approx(2 * 20e6 / 64)
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((1, 1 << 16)) + 1j * rng.standard_normal((1, 1 << 16))
    assert occupied_bandwidth(noise, 20e6) == pytest.approx(0.99 * 20e6, rel=0.002)
    mean_dbm, peak_dbm = radiated_dbm(np.array([[1.0, 0.0]]), SETTINGS, LIMITS)
    assert (mean_dbm, peak_dbm) == pytest.approx((7 - 20 - 3.0103, 7 - 20))


@pytest.mark.parametrize(
    "band",
    [
        {"name": "x", "low_hz": 2.0, "high_hz": 1.0, "max_power_dbm": 0.0, "basis": "none"},
        {"name": "x", "low_hz": 1.0, "high_hz": 2.0, "max_power_dbm": 0.0, "basis": ""},
        {"name": "x", "low_hz": 1.0, "high_hz": 2.0, "basis": "licence"},
    ],
)
def test_a_band_needs_an_order_a_limit_and_a_basis(band: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BandTable(**band)  # type: ignore[arg-type]
