"""What was measured of one board: a file beside its configuration, and whether it still holds.

A calibration belongs to one board (by its serial number), one configuration (by its hash), one carrier, sample rate and
filter, and to the days after it was made. Anything else is refused with the reason: a number that was true elsewhere
looks like one that is true here.
"""

import contextlib
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, Field, model_validator

from testbed.config import StrictModel, load
from testbed.device import Limits, Settings, Steps
from testbed.errors import ConfigError
from testbed.measurement import Estimate
from testbed.radio.devices.config import Device

_FUTURE = dt.timedelta(minutes=5)  # clocks differ
MAX_NAME = 64  # characters of a configuration's name


def _within(low: float, high: float) -> Callable[[Estimate], Estimate]:
    def check(estimate: Estimate) -> Estimate:
        if not low <= estimate.value <= high:
            raise ValueError(f"found {estimate.value:g}; must be {low:g}..{high:g}")
        return estimate

    return check


# wider than any radio is: what lies outside was not measured
GainDb = Annotated[float, Field(ge=-200, le=200)]
PowerDbm = Annotated[float, Field(ge=-200, le=100)]
NoiseFigureDb = Annotated[Estimate, AfterValidator(_within(-20, 100))]
IsolationDb = Annotated[Estimate, AfterValidator(_within(-60, 200))]
LevelDb = Annotated[Estimate, AfterValidator(_within(-200, 60))]


class Conditions(StrictModel):
    """Under which something was measured."""

    carrier_hz: float = Field(gt=0)
    sample_rate_hz: float = Field(gt=0)
    tx_gain_db: GainDb  # at which latency, isolation and IQ imbalance were measured
    rx_gain_db: GainDb
    power_dbm: PowerDbm  # mean, at the transmit port
    fir: str = Field(min_length=1, max_length=200)  # filter, by name
    loop: Literal["antennas", "cable"]  # between transmitter and receiver
    attenuation_db: float | None = Field(default=None, ge=0, le=200)  # of the cable
    temperature_c: float | None = Field(default=None, ge=-60, le=150)  # of the board or the room, where known
    note: str = Field(default="", max_length=500)


class NoisePoint(StrictModel):
    """Noise at one receive gain, nothing transmitted."""

    rx_gain_db: GainDb
    # in the sampled band, at the antenna port, rounding taken off; none where rounding hides it
    noise_dbm: Estimate | None = None
    noise_lsb: float = Field(ge=0)  # rms per rail, rounding included
    clipped: int = Field(default=0, ge=0)


class GainStep(StrictModel):
    """Level of the transmitter at one setting, relative to the loudest that was measured."""

    tx_gain_db: GainDb
    level_db: LevelDb


class SelfTap(StrictModel):
    """A path from the transmitter into the node's own receiver."""

    delay_samples: float  # after the first one of the list
    gain_db: float  # power gain from port to port
    phase_deg: float


class Calibration(StrictModel):
    """Results of one board."""

    layout: Literal[1] = 1
    device: str = Field(min_length=1, max_length=MAX_NAME)  # name of its configuration
    device_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    model: str = Field(max_length=200)
    serial: str = Field(max_length=64)  # empty where the board does not tell
    firmware: str = Field(default="", max_length=64)
    simulated: bool
    date: str  # UTC, ISO 8601
    conditions: Conditions
    latency_samples: Estimate  # from the first sample sent to the first received, modulo the frame
    latency_repeats: bool  # whether it came out the same every time the transmission began anew
    isolation_db: IsolationDb  # all that leaks from transmit port to receive port, a positive number
    self_taps: tuple[SelfTap, ...] = Field(max_length=64)
    noise: tuple[NoisePoint, ...] = Field(min_length=1, max_length=256)
    noise_figure_db: NoiseFigureDb  # at the highest gain
    dc_i: Estimate  # relative to full scale, nothing transmitted, at the receive gain of the conditions
    dc_q: Estimate
    iq_gain_db: Estimate  # Q rail over I rail, of transmitter and receiver together
    iq_phase_deg: Estimate  # departure from quadrature, likewise
    tx_steps: tuple[GainStep, ...] = Field(min_length=2, max_length=256)
    tx_slope: Estimate  # dB measured per dB asked for
    tx_nonlinearity_db: Estimate  # largest departure of a step from the straight line

    @model_validator(mode="after")
    def _dated(self) -> "Calibration":
        try:
            _ = self.made
        except ValueError:
            raise ValueError(f"date: found '{self.date[:40]}'; must read like 2026-07-01T12:00:00+00:00") from None
        return self

    @model_validator(mode="after")
    def _distinct(self) -> "Calibration":
        gains_db = [step.tx_gain_db for step in self.tx_steps]
        if twice := [gain_db for gain_db in gains_db if gains_db.count(gain_db) > 1]:
            raise ValueError(f"tx_steps: found tx_gain_db {twice[0]:g} twice; every step must have a gain of its own")
        return self

    @property
    def made(self) -> dt.datetime:
        """When."""
        made = dt.datetime.fromisoformat(self.date)
        if made.tzinfo is None:
            raise ValueError("no time zone")
        return made

    @property
    def power_error_db(self) -> float | None:
        """What the reference powers say too much, transmitter and receiver together; known with a cable only."""
        if self.conditions.loop != "cable" or self.conditions.attenuation_db is None:
            return None
        return self.isolation_db.value - self.conditions.attenuation_db

    @property
    def tx_departures(self) -> Steps:
        """For `Limits.tx_steps`: by how much steps of the transmitter depart from the loudest that was measured, in dB.

        What the loudest one itself departs from its reference power only a power meter could tell.
        """
        loudest = max(self.tx_steps, key=lambda step: step.tx_gain_db)
        return tuple(
            (step.tx_gain_db, step.level_db.value - loudest.level_db.value - (step.tx_gain_db - loudest.tx_gain_db))
            for step in sorted(self.tx_steps, key=lambda step: step.tx_gain_db)
        )

    def lines(self) -> list[tuple[str, str]]:
        """For people: what, and how much."""
        repeats = "" if self.latency_repeats else "; another one after every start: not to be used"
        taps = ", ".join(f"{tap.gain_db:.1f} dB at {tap.delay_samples:+.2f}" for tap in self.self_taps)
        found = [
            ("latency", f"{_told(self.latency_samples, 3)} samples, modulo the frame{repeats}"),
            ("isolation", f"{_told(self.isolation_db, 2)} dB; taps {taps}"),
            ("noise", ", ".join(f"{n.noise_dbm.value:.1f} dBm at {n.rx_gain_db:g}" for n in self.noise if n.noise_dbm)),
            ("noise figure", f"{_told(self.noise_figure_db, 2)} dB at the highest gain"),
            ("DC", f"{_told(self.dc_i, 5)}, {_told(self.dc_q, 5)} of full scale"),
            ("IQ", f"{_told(self.iq_gain_db, 3)} dB, {_told(self.iq_phase_deg, 3)} degrees, both directions together"),
            ("transmitter", f"{_told(self.tx_slope, 4)} dB per dB, {_told(self.tx_nonlinearity_db, 3)} off the line"),
        ]
        if (error_db := self.power_error_db) is not None:
            found.append(("reference powers", f"{error_db:+.2f} dB too much, both together"))
        return found

    def check(
        self,
        device: Device,
        settings: Settings,
        limits: Limits | None = None,
        serial: str | None = None,
        *,
        fir: str = "",
        now: dt.datetime | None = None,
        temperature_c: float | None = None,
    ) -> None:
        """Refuse where this does not hold for a board as it is set now.

        Args:
            device: configuration of the board.
            settings: carrier and sample rate in use.
            limits: as the radio reports them; None before it is opened.
            serial: of the board, as it reports it, empty where it does not; None before it is opened.
            fir: filter in use; that of the configuration if not given.
            now: UTC; the clock's if not given.
            temperature_c: of the board, where known.

        Raises:
            ConfigError: stale or foreign; the line says why and what to do.
        """
        where, table = device.calibration_path, device.config.calibration
        now = dt.datetime.now(dt.UTC) if now is None else now
        reasons = []
        if limits is not None and self.simulated != limits.simulated:
            kinds = ("a simulated radio", "a real one")
            reasons.append("it is of {}, this is {}".format(*(kinds if self.simulated else kinds[::-1])))
        if serial is not None and self.serial != serial:
            reasons.append(f"it is of the board with serial '{self.serial}', this one has '{serial}'")
        if self.device_sha256 != device.sha256:
            reasons.append(
                f"{device.name} was changed since (it was made with {self.device} {self.device_sha256[:12]})"
            )
        age = now - self.made
        if age < -_FUTURE:
            reasons.append(f"it is dated {self.date}, which is yet to come")
        elif age > dt.timedelta(days=table.max_age_days):
            days = age / dt.timedelta(days=1)
            reasons.append(f"it is {days:.1f} days old, at most {table.max_age_days:g} are allowed")
        made_at = self.conditions
        if (off_hz := abs(made_at.carrier_hz - settings.carrier_hz)) > table.max_carrier_offset_hz:
            reasons.append(
                f"it was made at {made_at.carrier_hz / 1e6:.6g} MHz, {off_hz / 1e6:.6g} MHz from the carrier; at most "
                f"{table.max_carrier_offset_hz / 1e6:g} MHz are allowed"
            )
        if abs(made_at.sample_rate_hz - settings.sample_rate_hz) > 1e-6 * settings.sample_rate_hz:
            reasons.append(f"it was made at {made_at.sample_rate_hz:.10g} samples per second")
        if made_at.fir != Path(fir or device.fir).name:
            reasons.append(f"it was made with the filter '{made_at.fir}', this is '{Path(fir or device.fir).name}'")
        if temperature_c is not None and made_at.temperature_c is not None:
            off_c = abs(temperature_c - made_at.temperature_c)
            if off_c > table.max_temperature_offset_c:
                reasons.append(f"it was made at {made_at.temperature_c:g} degrees, now it is {temperature_c:g}")
        if reasons:
            # a run counts with the copy that it made when it began
            in_run = where.parent.name == "devices" and (where.parent.parent / "experiment.toml").is_file()
            again = "start a new run" if in_run else "run `isac calibrate` again"
            raise ConfigError(f"{where}: calibration refused: {'; '.join(reasons)}; {again}")


def _told(estimate: Estimate, digits: int) -> str:
    return f"{estimate.value:.{digits}f} +- {estimate.stderr:.{digits}f}"


def load_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        ConfigError: one line with the dotted key.
    """
    return load(path, Calibration)


def check_place(path: Path) -> None:
    """Refuse a place that `save_calibration` could not write to; nothing is left there.

    Raises:
        ConfigError: one line.
    """
    part = _part(path)
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; choose another place with --out")
        part.touch()
        part.unlink()
    except (OSError, ValueError) as exc:
        raise _unwritable(path, exc) from exc


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    head = "# Measured by `isac calibrate`; not to be edited. It holds for this one board, for some time.\n"
    data: dict[str, Any] = calibration.model_dump(mode="json", exclude_none=True)
    part = _part(path)
    try:
        part.write_text(head + tomli_w.dumps(data), encoding="utf-8")
        part.replace(path)
    except (OSError, ValueError) as exc:
        raise _unwritable(path, exc) from exc
    finally:
        with contextlib.suppress(OSError, ValueError):
            part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _unwritable(path: Path, exc: OSError | ValueError) -> ConfigError:
    told = exc.strerror or exc if isinstance(exc, OSError) else exc
    return ConfigError(f"{path}: cannot be written ({told}); choose another place with --out")
