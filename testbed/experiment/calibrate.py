"""Measure one radio by itself: noise, latency, self-interference, DC, IQ imbalance, steps of the transmitter.

The radio hears its own transmitter on its first channel, over its antennas or over a cable with an attenuator. It
transmits a probe at one power, and below it: never above. What it takes is a `Radio`, guarded where it is not
simulated: consent, bands and the watchdog hold for a calibration as for any experiment. All other transmitters are to
be silent.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from testbed.config import faults, validate
from testbed.device import TX_BACKOFF_DB, Limits, Reception, Settings
from testbed.errors import ConfigError, RadioError, SettingOutOfRange
from testbed.experiment.devices import serial_of
from testbed.measurement import Estimate
from testbed.radio.base import Buffered, Described, Radio
from testbed.radio.devices.calibration import MAX_NAME, Calibration, Conditions, GainStep, NoisePoint, SelfTap
from testbed.radio.devices.config import Device
from testbed.radio.gains import realise
from testbed.radio.safety import GuardedRadio
from testbed.sensing.loopback import Loopback, fit_loopback, probe
from testbed.units import db, thermal_noise_dbm, undb

NOISE_STEP_DB = 10.0  # between receive gains
HEADROOM_DB = 6.0  # of the receiver's converter over the probe's peak
STEPS_DB = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)  # below the loudest
MIN_SPAN_DB = 3.0  # of transmit gains below the loudest: with less there is no line through the steps
MIN_NOISE_LSB = 0.5  # rms per rail
REPEATS_SAMPLES = 0.05  # a latency that repeats does so within

Note = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What is to be measured, and what is known about how."""

    carrier_hz: float
    sample_rate_hz: float
    power_dbm: float  # mean, at the transmit port
    loop: Literal["antennas", "cable"] = "antennas"
    attenuation_db: float | None = None  # of the cable
    temperature_c: float | None = None
    note: str = ""
    num_frames: int = 64  # per reception
    num_starts: int = 4  # times that the transmission begins anew


@dataclass(frozen=True)
class Identity:
    """Which radio it is, as it says itself."""

    serial: str
    firmware: str
    fir: str  # filter in use, by name


def identity(radio: Radio, fir: str = "standard") -> Identity:
    """Which radio it is, with the filter in use."""
    inner = radio.inner if isinstance(radio, GuardedRadio) else radio
    firmware = inner.attributes.get("fw_version", "") if isinstance(inner, Described) else ""
    return Identity(serial_of(radio), firmware, fir)


def check_wish(wish: Wish, device: Device, fir: str = "standard") -> None:
    """Refuse what could not be transmitted, or not be written down afterwards.

    Args:
        wish: what is to be measured.
        device: configuration of the radio.
        fir: filter in use.

    Raises:
        ConfigError: one line with the options.
    """
    if len(device.name) > MAX_NAME:
        raise ConfigError(
            f"{device.path}: a name of {len(device.name)} characters; a calibration is of a configuration with at most "
            f"{MAX_NAME}, rename the file"
        )
    for what, text in ((f"{str(device.path)!a}: its name", device.name), ("--note", wish.note)):
        if not text.isprintable():
            raise ConfigError(f"{what}: found {text[:60]!a}; must be printable characters on one line")
    given = {key: getattr(wish, key) for key in Conditions.model_fields if hasattr(wish, key)}
    validate(given | {"tx_gain_db": 0.0, "rx_gain_db": 0.0, "fir": Path(fir).name}, Conditions, "isac calibrate")
    limits, samples = device.config.limits, probe().samples
    peak = float(max(np.abs(samples.real).max(), np.abs(samples.imag).max()))  # of a mean power of 1
    full_dbm = device.config.power.tx_full_scale_dbm - TX_BACKOFF_DB - db(peak**2)
    low_dbm, high_dbm = full_dbm + limits.tx_gain_min_db + MIN_SPAN_DB, full_dbm + limits.tx_gain_max_db
    if not low_dbm <= wish.power_dbm <= high_dbm:
        beyond = f"above the {limits.tx_gain_max_db:g} dB"
        if wish.power_dbm < low_dbm:
            beyond = f"less than {MIN_SPAN_DB:g} dB above the {limits.tx_gain_min_db:g} dB"
        raise ConfigError(
            f"--power-dbm {wish.power_dbm:g}: needs tx_gain_db {wish.power_dbm - full_dbm:.2f}, {beyond} of "
            f"{device.name}; use {np.ceil(10 * low_dbm) / 10:g}..{np.floor(10 * high_dbm) / 10:g} dBm"
        )


def calibrate(radio: Radio, device: Device, who: Identity, wish: Wish, say: Note = lambda text: None) -> Calibration:
    """Measure a radio; it is muted before, in between and afterwards.

    Raises:
        SyncError: it does not hear itself.
        RadioError: its receiver clips, it failed, or what was measured is of no radio.
        SettingOutOfRange: the power is more than it has, or leaves no steps below it.
        SafetyRefused: it would transmit on air what nobody allowed.
    """
    try:
        return _measured(radio, device, who, wish, say)
    except ValidationError as exc:
        raise RadioError(
            f"{radio.name}: measured what no radio is like: {faults(exc, Calibration)}; is it alive, and its "
            f"configuration {device.name} true?"
        ) from exc


def _measured(radio: Radio, device: Device, who: Identity, wish: Wish, say: Note) -> Calibration:
    loop = _Loop(radio, wish)
    try:
        say("noise against receive gain, nothing transmitted")
        noise = [loop.noise(gain_db) for gain_db in _gains(radio.limits)]
        loop.find_gain()
        quiet = loop.quiet()
        say(f"latency, leakage and images at tx_gain_db {loop.tx_gain_db:g}, rx_gain_db {loop.rx_gain_db:g}")
        starts = [loop.measure(loop.tx_gain_db) for _ in range(wish.num_starts)]
        say("steps of the transmitter")
        lowest_db = radio.limits.tx_gain_min_db
        asked = [loop.tx_gain_db - step for step in STEPS_DB if loop.tx_gain_db - step >= lowest_db]
        levels = [loop.measure(gain_db)[0].level_db for gain_db in asked]
    finally:
        radio.mute()
    latency, repeats = _latency(starts, loop.size)
    gains, phases = zip(*(fit.imbalance() for fit, _ in starts), strict=True)
    slope, departure = _line(asked, levels)
    best = starts[0][0]
    figure = noise[-1].noise_dbm
    if figure is None:
        raise RadioError(
            f"{radio.name}: noise of {noise[-1].noise_lsb:.2f} LSB rms at the highest receive gain; is it alive?"
        )
    return Calibration(
        device=device.name,
        device_sha256=device.sha256,
        model=radio.limits.model,
        serial=who.serial,
        firmware=who.firmware,
        simulated=radio.limits.simulated,
        date=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        conditions=Conditions(
            carrier_hz=wish.carrier_hz,
            sample_rate_hz=wish.sample_rate_hz,
            tx_gain_db=loop.tx_gain_db,
            rx_gain_db=loop.rx_gain_db,
            power_dbm=loop.power_dbm,
            fir=Path(who.fir).name,
            loop=wish.loop,
            attenuation_db=wish.attenuation_db,
            temperature_c=wish.temperature_c,
            note=wish.note,
        ),
        latency_samples=latency,
        latency_repeats=repeats,
        isolation_db=_mean([_negative(fit.level_db) for fit, _ in starts]),
        self_taps=tuple(_relative(best, loop.size)),
        noise=tuple(noise),
        noise_figure_db=Estimate(
            value=figure.value - thermal_noise_dbm(wish.sample_rate_hz, 0.0), stderr=figure.stderr, count=figure.count
        ),
        dc_i=quiet[0],
        dc_q=quiet[1],
        iq_gain_db=_mean(gains),
        iq_phase_deg=_mean(phases),
        tx_steps=tuple(
            GainStep(
                tx_gain_db=gain_db,
                level_db=Estimate(value=level.value - levels[0].value, stderr=level.stderr, count=level.count),
            )
            for gain_db, level in zip(asked, levels, strict=True)
        ),
        tx_slope=slope,
        tx_nonlinearity_db=departure,
    )


class _Loop:
    """A radio that hears itself: its probe, its gains."""

    def __init__(self, radio: Radio, wish: Wish) -> None:
        self.radio, self.wish, self._probe = radio, wish, probe()
        self.size = self._probe.size
        wanted = self._probe.samples * np.sqrt(undb(wish.power_dbm))
        plan, self._sent, on_air = realise(wanted, radio.limits)
        if (span_db := plan.tx_gain_db - radio.limits.tx_gain_min_db) < MIN_SPAN_DB:
            raise SettingOutOfRange(
                f"{radio.name}: {wish.power_dbm:g} dBm is tx_gain_db {plan.tx_gain_db:g}, {span_db:g} dB above its "
                f"lowest; steps need {MIN_SPAN_DB:g} dB, use a higher power"
            )
        self.tx_gain_db = plan.tx_gain_db
        self.power_dbm = db(float(np.mean(np.abs(on_air) ** 2)))
        self.rx_gain_db = radio.limits.rx_gain_min_db
        # as the converter has it, whatever the gain behind it; the gain is what is measured
        self._on_air = on_air
        radio.mute()

    def noise(self, gain_db: float) -> NoisePoint:
        """Noise at a receive gain."""
        got, rx_gain_db = self._silence(gain_db)
        limits, raw = self.radio.limits, got.raw[0].astype(np.float64)
        variance = float(np.mean(np.var(raw, axis=0)))  # per rail, LSB^2
        count = raw.shape[0]
        found = None
        if variance > MIN_NOISE_LSB**2:  # below, rounding is no noise of its own, and hides what there is
            power = 2 * (variance - 1 / 12) * limits.rx_amplitude(rx_gain_db) ** 2 / got.full_scale**2
            relative = variance / (variance - 1 / 12) / np.sqrt(count)
            found = Estimate(value=db(power), stderr=float(10 / np.log(10) * relative), count=count)
        return NoisePoint(
            rx_gain_db=rx_gain_db,
            noise_dbm=found,
            noise_lsb=float(np.sqrt(variance)),
            clipped=got.clip_count,
        )

    def quiet(self) -> tuple[Estimate, Estimate]:
        """DC of both rails relative to full scale, at the receive gain of the loop."""
        parts = [self._silence(self.rx_gain_db)[0] for _ in range(self.wish.num_starts)]
        raw = np.concatenate([part.raw[0] for part in parts]).astype(np.float64) / parts[0].full_scale
        spread = raw.std(axis=0) / np.sqrt(raw.shape[0])
        i, q = (
            Estimate(value=float(mean), stderr=float(std), count=raw.shape[0])
            for mean, std in zip(raw.mean(axis=0), spread, strict=True)
        )
        return i, q

    def find_gain(self) -> None:
        """Receive gain that leaves the probe's peak its headroom."""
        limits = self.radio.limits
        for _ in range(3):  # at the lowest gain there may be nothing but rounding to see
            peak = float(np.abs(self._receive(self.tx_gain_db).raw.astype(np.int32)).max()) / limits.rx_full_scale
            room_db = -HEADROOM_DB - db(max(peak, 1 / limits.rx_full_scale) ** 2)
            step = limits.rx_gain_step_db
            wanted_db = np.floor((self.rx_gain_db + room_db) / step + 1e-9) * step
            self.rx_gain_db = float(np.clip(wanted_db, limits.rx_gain_min_db, limits.rx_gain_max_db))

    def measure(self, tx_gain_db: float) -> tuple[Loopback, float]:
        """The loop at a transmit gain, the transmission begun anew; and its delay from the begin of the epoch."""
        got = self._receive(tx_gain_db)
        if got.clip_count:
            raise RadioError(
                f"{self.radio.name}: {got.clip_count} samples reach full scale at rx_gain_db {self.rx_gain_db:g}; "
                f"lower the power, or put more attenuation between transmitter and receiver"
            )
        heard = got.samples[0].astype(np.complex128) * self.radio.limits.rx_amplitude(self.rx_gain_db)
        fit = fit_loopback(heard, self._on_air, self._probe.bins)
        return fit, float((fit.delay_samples + got.start) % self.size)

    def _silence(self, gain_db: float) -> tuple[Reception, float]:
        self.radio.mute()
        back = self.radio.configure(self._settings(self.radio.limits.tx_gain_min_db, gain_db))
        return self._fresh(), back.rx_gain_db

    def _receive(self, tx_gain_db: float) -> Reception:
        self.radio.mute()
        back = self.radio.configure(self._settings(tx_gain_db, self.rx_gain_db))
        self.rx_gain_db = back.rx_gain_db
        self.radio.transmit(self._sent[None])
        return self._fresh()

    def _fresh(self) -> Reception:
        if isinstance(self.radio, Buffered):
            self.radio.refresh()
        return self.radio.receive(self.wish.num_frames * self.size)

    def _settings(self, tx_gain_db: float, rx_gain_db: float) -> Settings:
        return Settings(self.wish.carrier_hz, self.wish.sample_rate_hz, tx_gain_db, rx_gain_db)


def _gains(limits: Limits) -> list[float]:
    """Receive gains from the lowest to the highest."""
    step = limits.rx_gain_step_db
    spaced = np.arange(limits.rx_gain_min_db, limits.rx_gain_max_db, NOISE_STEP_DB)
    return [float(np.ceil(gain / step - 1e-9) * step) for gain in spaced] + [limits.rx_gain_max_db]


def _latency(starts: Sequence[tuple[Loopback, float]], size: int) -> tuple[Estimate, bool]:
    """Mean over all starts, on the circle of the frame, and whether they agree."""
    first = starts[0][1]
    apart = np.array([(delay - first + size / 2) % size - size / 2 for _, delay in starts])
    each = float(np.sqrt(np.mean([fit.delay_std_samples**2 for fit, _ in starts])))
    spread = float(apart.std(ddof=1)) if apart.size > 1 else 0.0
    repeats = bool(np.abs(apart - apart.mean()).max() <= max(REPEATS_SAMPLES, 5 * each))
    value = float((first + apart.mean() + size / 2) % size - size / 2)
    return Estimate(value=value, stderr=max(each, spread) / np.sqrt(apart.size), count=apart.size), repeats


def _line(asked: Sequence[float], levels: Sequence[Estimate]) -> tuple[Estimate, Estimate]:
    """Straight line through levels against gains: its slope, and the largest departure from it."""
    x, y = np.array(asked), np.array([level.value for level in levels])
    weight = 1 / np.maximum(np.array([level.stderr for level in levels]), 1e-4)
    centre = float(np.average(x, weights=weight**2))
    energy = float(np.sum((weight * (x - centre)) ** 2))
    slope = float(np.sum(weight**2 * (x - centre) * y) / energy)
    line = np.average(y, weights=weight**2) + slope * (x - centre)
    apart = y - line
    worst = int(np.argmax(np.abs(apart)))
    return (
        Estimate(value=slope, stderr=float(1 / np.sqrt(energy)), count=x.size),
        Estimate(value=float(apart[worst]), stderr=levels[worst].stderr, count=1),
    )


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    values: NDArray[np.float64] = np.array([estimate.value for estimate in estimates])
    each = float(np.sqrt(np.mean([estimate.stderr**2 for estimate in estimates])))
    spread = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return Estimate(value=float(values.mean()), stderr=max(each, spread) / np.sqrt(values.size), count=values.size)


def _negative(estimate: Estimate) -> Estimate:
    return estimate.model_copy(update={"value": -estimate.value})


def _relative(fit: Loopback, size: int) -> list[SelfTap]:
    """Paths by delay after the strongest, which comes first."""
    first = fit.taps[0]
    return [
        SelfTap(
            delay_samples=float((tap.delay_samples - first.delay_samples + size / 2) % size - size / 2),
            gain_db=db(abs(tap.gain) ** 2),
            phase_deg=float(np.degrees(np.angle(tap.gain / first.gain))),
        )
        for tap in fit.taps
    ]
