"""A calibration finds what the scene put there: on the emulator, and on a virtual Pluto through the real pyadi-iio."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from typer.testing import CliRunner

from testbed.command import new_app
from testbed.device import Limits, Reception, Settings
from testbed.errors import ConfigError, RadioError, SettingOutOfRange, SyncError
from testbed.experiment.calibrate import Wish, calibrate, check_wish, identity
from testbed.experiment.load import load_experiment
from testbed.radio.base import Radio
from testbed.radio.devices.calibration import Calibration, check_place, load_calibration, save_calibration
from testbed.radio.devices.config import load_device
from testbed.radio.gains import realise
from testbed.radio.pluto.radio import PlutoRadio
from testbed.radio.remote import RemoteRadio
from testbed.sensing.loopback import fit_loopback, probe
from testbed.units import undb
from testbed.verbs.calibrating import calibrate as verb
from testbed.verbs.calibrating import uncalibrated
from tests.airs import need_libiio, pluto_process
from tests.emulator import emulator_process

pytestmark = pytest.mark.emulated

LATENCY, ISOLATION_DB, NOISE_FIGURE_DB = 3.37, 47.3, 6.5
DC_DBFS, DC_PHASE_DEG, IQ_GAIN_DB, IQ_PHASE_DEG = -40.0, 30.0, 0.5, 3.0
WISH = Wish(carrier_hz=2.45e9, sample_rate_hz=20e6, power_dbm=-5.0)
DEVICE = load_device("pluto")


def scene(path: Path, **node: Any) -> Path:
    own = {
        "name": "radio1", "position_m": [0.0, 0.0], "noise_figure_db": NOISE_FIGURE_DB,
        "self_isolation_db": ISOLATION_DB, "self_delay_samples": LATENCY,
        "impairments": {
            "dc_offset_dbfs": DC_DBFS, "dc_phase_deg": DC_PHASE_DEG, "iq_gain_db": IQ_GAIN_DB,
            "iq_phase_deg": IQ_PHASE_DEG,
        },
    } | node  # fmt: skip
    path.write_text(tomli_w.dumps({"seed": 5, "nodes": [own]}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def radio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Radio]:
    path = scene(tmp_path_factory.mktemp("scene") / "one.toml")
    with emulator_process(path) as (_, endpoint):
        radio = RemoteRadio(endpoint, "radio1", timeout_s=20.0)
        yield radio
        radio.close()


def test_all_that_was_put_there_is_found(radio: Radio) -> None:
    made = calibrate(radio, DEVICE, identity(radio), WISH)
    assert made.latency_samples.value == pytest.approx(LATENCY, abs=0.01)
    assert made.latency_repeats
    assert made.isolation_db.value == pytest.approx(ISOLATION_DB, abs=0.2)
    assert made.noise_figure_db.value == pytest.approx(NOISE_FIGURE_DB, abs=0.1)
    dc = 10 ** (DC_DBFS / 20) * np.exp(1j * np.deg2rad(DC_PHASE_DEG))
    assert made.dc_i.value == pytest.approx(dc.real, rel=0.02)
    assert made.dc_q.value == pytest.approx(dc.imag, rel=0.02)
    assert made.iq_gain_db.value == pytest.approx(IQ_GAIN_DB, rel=0.02)
    assert made.iq_phase_deg.value == pytest.approx(IQ_PHASE_DEG, rel=0.02)
    for step in made.tx_steps:
        asked = step.tx_gain_db - made.tx_steps[0].tx_gain_db
        assert step.level_db.value == pytest.approx(asked, abs=max(0.05, 5 * step.level_db.stderr))
    assert made.tx_slope.value == pytest.approx(1, abs=0.002)
    assert made.simulated
    assert made.serial == "node radio1"
    # thermal noise is the same at every gain at which rounding does not hide it
    levels = [point.noise_dbm.value for point in made.noise if point.noise_dbm is not None]
    assert len(levels) >= 3
    assert np.ptp(levels) < 0.3


class Skewed:
    """A radio whose transmitter steps by 2 % too much, and by 0.3 dB more below one of its settings."""

    def __init__(self, radio: Radio, jump_db: float = 0.3) -> None:
        self._radio, self._jump_db, self._error_db = radio, jump_db, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._radio, name)

    name = property(lambda self: self._radio.name)
    limits: Limits = property(lambda self: self._radio.limits)  # type: ignore[assignment]

    def configure(self, wanted: Settings) -> Settings:
        self._error_db = 0.02 * wanted.tx_gain_db - (self._jump_db if wanted.tx_gain_db < -25 else 0.0)
        return self._radio.configure(wanted)

    def transmit(self, samples: np.ndarray) -> None:
        self._radio.transmit((samples * 10 ** (self._error_db / 20)).astype(np.complex64))

    def receive(self, num_samples: int) -> Reception:
        return self._radio.receive(num_samples)

    def mute(self) -> None:
        self._radio.mute()


def test_steps_that_are_not_what_they_say_are_found(radio: Radio) -> None:
    made = calibrate(Skewed(radio), DEVICE, identity(radio), WISH)  # type: ignore[arg-type]
    first = made.tx_steps[0].tx_gain_db
    for step in made.tx_steps:
        asked = 1.02 * (step.tx_gain_db - first) - (0.3 if step.tx_gain_db < -25 else 0.0)
        assert step.level_db.value == pytest.approx(asked, abs=max(0.05, 5 * step.level_db.stderr))
    assert made.tx_slope.value > 1.015
    assert abs(made.tx_nonlinearity_db.value) > 0.1


def test_steps_that_were_found_are_taken_into_account(radio: Radio) -> None:
    skewed = Skewed(radio, jump_db=0.0)  # between two steps that were measured nobody knows where a jump is
    made = calibrate(skewed, DEVICE, identity(radio), WISH)  # type: ignore[arg-type]
    knows = replace(radio.limits, tx_steps=made.tx_departures)
    wanted = probe()
    at_loudest: dict[Limits, float] = {}
    for limits in (radio.limits, knows):
        errors_db = []
        for power_dbm in (-5.0, -8.0, -10.0, -15.0, -20.0):
            plan, sent, on_air = realise(wanted.samples * undb(power_dbm) ** 0.5, limits)
            radio.mute()
            skewed.configure(Settings(2.45e9, 20e6, plan.tx_gain_db, 20.0))
            skewed.transmit(sent[None])
            heard = skewed.receive(64 * wanted.size).samples[0] * limits.rx_amplitude(20.0)
            errors_db.append(fit_loopback(heard.astype(np.complex128), on_air, wanted.bins).level_db.value)
        at_loudest[limits] = float(np.ptp(errors_db))
    assert at_loudest[radio.limits] > 0.2
    assert at_loudest[knows] < 0.02


def test_taps_of_the_leakage_are_listed_after_the_strongest(tmp_path: Path) -> None:
    tap = {"delay_samples": 2.5, "gain_db": -20.0, "phase_deg": 40.0}
    with emulator_process(scene(tmp_path / "taps.toml", self_taps=[tap])) as (_, endpoint):
        radio = RemoteRadio(endpoint, "radio1", timeout_s=20.0)
        try:
            made = calibrate(radio, DEVICE, identity(radio), WISH)
        finally:
            radio.close()
    first, second = made.self_taps[:2]
    assert (first.delay_samples, first.phase_deg) == (0.0, 0.0)
    assert first.gain_db == pytest.approx(-ISOLATION_DB, abs=0.2)
    assert second.delay_samples == pytest.approx(2.5, abs=0.05)
    assert second.gain_db == pytest.approx(-ISOLATION_DB - 20, abs=0.3)
    assert made.latency_samples.value == pytest.approx(LATENCY, abs=0.01)


def test_a_radio_that_does_not_hear_itself_says_so_and_is_muted(tmp_path: Path) -> None:
    path = scene(tmp_path / "deaf.toml", self_isolation_db=200.0, impairments={})
    with emulator_process(path) as (_, endpoint):
        radio = RemoteRadio(endpoint, "radio1", timeout_s=20.0)
        try:
            with pytest.raises(SyncError, match="the probe was not found"):
                calibrate(radio, DEVICE, identity(radio), Wish(2.45e9, 20e6, -40.0))
        finally:
            radio.close()


def test_an_early_clipper_is_refused(tmp_path: Path) -> None:
    path = scene(tmp_path / "clip.toml", impairments={"clip_dbfs": -8.0})
    with emulator_process(path) as (_, endpoint):
        radio = RemoteRadio(endpoint, "radio1", timeout_s=20.0)
        try:
            with pytest.raises(RadioError, match=r"radio1: \d+ samples reach full scale at rx_gain_db"):
                calibrate(radio, DEVICE, identity(radio), WISH)
        finally:
            radio.close()


@pytest.mark.parametrize("random_start", [False, True])
def test_a_virtual_pluto_is_calibrated_through_the_real_driver(random_start: bool) -> None:
    need_libiio()
    with pluto_process("solo", *(["--random-start"] if random_start else [])) as air:
        radio = PlutoRadio(f"pluto:{air.uris['radio1']}", "radio1")
        try:
            made = calibrate(radio, DEVICE, identity(radio), WISH)
        finally:
            radio.close()
    assert made.isolation_db.value == pytest.approx(55.0, abs=0.2)
    assert made.latency_repeats is not random_start
    assert made.serial == radio.attributes["hw_serial"]
    assert made.firmware == "v0.38"


def test_the_command_writes_a_file_that_can_be_checked(tmp_path: Path) -> None:
    app = new_app("x", "y")
    app.command()(verb)
    path = tmp_path / "radio1.calibration.toml"
    done = CliRunner().invoke(app, ["solo", "--device", "pluto-20msps", "--out", str(path), "--json"])
    assert done.exit_code == 0, done.output
    made = load_calibration(path)
    assert json.loads(done.stdout)["isolation_db"]["value"] == made.isolation_db.value
    assert made.isolation_db.value == pytest.approx(55.0, abs=0.2)
    assert made.conditions.fir == "lowpass_4x.ftr"


NOWHERE = Path("no such folder") / "x.calibration.toml"
CABLE = ["--device", "pluto", "--loop", "cable", "--attenuation-db"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "pluto", "--temperature-c", "1000"], "temperature_c: found 1000.0; must be less than or equal"),
        (["--device", "pluto", "--temperature-c", "nan"], "temperature_c: found nan; must be a finite number"),
        (["--device", "pluto", "--note", "n" * 600], "must have at most 500 characters"),
        (["--device", "pluto", "--note", "a\nb"], r"--note: found 'a\nb'; must be printable characters on one line"),
        ([*CABLE, "300"], "attenuation_db: found 300.0; must be less than or equal to 200"),
        ([*CABLE, "inf"], "attenuation_db: found inf; must be a finite number"),
        (["--device", "pluto", "--power-dbm", "nan"], "power_dbm: found nan; must be a finite number"),
        (["--device", "pluto", "--power-dbm", "inf"], "power_dbm: found inf; must be a finite number"),
        (["--device", "pluto", "--power-dbm", "-300"], "power_dbm: found -300.0; must be greater than or equal"),
        (["--device", "pluto", "--power-dbm", "-80"], "less than 3 dB above the -89.75 dB of pluto; use -74.8..11.8"),
        (["--device", "pluto", "--power-dbm", "12"], "above the 0 dB of pluto; use -74.8..11.8 dBm"),
        (["--device", "pluto", "--out", str(NOWHERE)], f"{NOWHERE}: cannot be written (No such file or directory)"),
        (["--device", "plato"], "device 'plato': no such configuration"),
        (["--device", "pluto", "--node", "r9"], "--node 'r9': no such transmitting node; there are radio1"),
        (["--device", "pluto", "--loop", "cable"], "--loop cable and --attenuation-db go together"),
        (
            ["--device", "pluto", "--loop", "cable", "--attenuation-db", "10"],
            "pluto needs at least 15.5 dB between its",
        ),
        (["--device", "pluto", "--out", "x.toml"], "--out x.toml: must end in .calibration.toml"),
        (["--device", "pluto"], "radio1: is simulated; say with --out where that is to go"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused_in_one_line(
    options: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "is simulated" not in words:  # which shows only when it is open
        monkeypatch.setattr("testbed.experiment.acquire.open_resource", None)
    app = new_app("x", "y")
    app.command()(verb)
    done = CliRunner().invoke(app, ["solo", *options])
    assert done.exception is not None
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)


def test_a_name_that_a_calibration_cannot_hold_is_refused_before_it(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 65 + ".toml")
    path.write_text('extends = "pluto"')
    with pytest.raises(ConfigError, match="a name of 65 characters; a calibration is of a configuration with at most"):
        check_wish(WISH, load_device(path))
    shorter = tmp_path / ("d" * 64 + ".toml")
    shorter.write_text('extends = "pluto"')
    check_wish(WISH, load_device(shorter))


def test_a_power_without_steps_below_it_is_refused_by_the_radio_as_well(radio: Radio) -> None:
    with pytest.raises(
        SettingOutOfRange, match=r"radio1: -300 dBm is tx_gain_db .*, 0 dB above its lowest; steps need"
    ):
        calibrate(radio, DEVICE, identity(radio), replace(WISH, power_dbm=-300.0))


class Hotter:
    """A radio that says its receiver reaches full scale at 300 dB more than it does."""

    def __init__(self, radio: Radio) -> None:
        self._radio = radio

    def __getattr__(self, name: str) -> Any:
        return getattr(self._radio, name)

    @property
    def limits(self) -> Limits:
        return replace(self._radio.limits, rx_full_scale_dbm=self._radio.limits.rx_full_scale_dbm + 300)


def test_what_no_radio_is_like_is_one_line(radio: Radio) -> None:
    with pytest.raises(RadioError, match=r"^radio1: measured what no radio is like: isolation_db: found ") as caught:
        calibrate(Hotter(radio), DEVICE, identity(radio), WISH)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def measured(radio: Radio) -> Calibration:
    return calibrate(radio, DEVICE, identity(radio), WISH)


BEYOND = [
    (("noise_figure_db", "value"), 500.0, "noise_figure_db: found 500; must be -20..100"),
    (("noise_figure_db", "value"), -500.0, "noise_figure_db: found -500; must be -20..100"),
    (("isolation_db", "value"), 1e300, "isolation_db: found 1e+300; must be -60..200"),
    (("isolation_db", "stderr"), -1.0, "isolation_db.stderr: found -1.0; must be greater than or equal to 0"),
    (("tx_steps", 1, "level_db", "value"), 1e30, "tx_steps[1].level_db: found 1e+30; must be -200..60"),
    (("tx_steps", 1, "tx_gain_db"), 201.0, "tx_steps[1].tx_gain_db: found 201.0; must be less than or equal to 200"),
]


def changed(measured: Calibration, where: tuple[str | int, ...], value: float) -> dict[str, Any]:
    data: dict[str, Any] = measured.model_dump(mode="json", exclude_none=True)
    table: Any = data
    for key in where[:-1]:
        table = table[key]
    table[where[-1]] = value
    return data


@pytest.mark.parametrize(("where", "value", "words"), BEYOND, ids=[words[:40] for _, _, words in BEYOND])
def test_numbers_that_no_radio_has_are_refused_when_read(
    measured: Calibration, tmp_path: Path, where: tuple[str | int, ...], value: float, words: str
) -> None:
    path = tmp_path / "x.calibration.toml"
    path.write_text(tomli_w.dumps(changed(measured, where, value)), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_calibration(path)
    assert str(caught.value).startswith(f"{path}: {words}")
    assert "\n" not in str(caught.value)


def test_two_steps_at_one_gain_are_refused_when_read(measured: Calibration, tmp_path: Path) -> None:
    path, first = tmp_path / "x.calibration.toml", measured.tx_steps[0].tx_gain_db
    path.write_text(tomli_w.dumps(changed(measured, ("tx_steps", 1, "tx_gain_db"), first)), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"tx_steps: found tx_gain_db {first:g} twice; every step must have"):
        load_calibration(path)


def test_nothing_is_left_where_a_calibration_cannot_be_written(measured: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "x.calibration.toml"
    path.mkdir()
    for write in (check_place, lambda there: save_calibration(there, measured)):
        with pytest.raises(ConfigError, match=r"x\.calibration\.toml: .*; choose another place with --out"):
            write(path)
        assert list(tmp_path.iterdir()) == [path]
    check_place(tmp_path / "y.calibration.toml")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("in_run", "words"), [(True, "start a new run"), (False, "run `isac calibrate` again")])
def test_a_refused_calibration_says_what_helps(measured: Calibration, tmp_path: Path, in_run: bool, words: str) -> None:
    (tmp_path / "devices").mkdir()
    if in_run:
        (tmp_path / "experiment.toml").touch()
    path = tmp_path / "devices" / "mine.toml"
    path.write_text('extends = "pluto"')
    stale = measured.model_copy(update={"date": "2020-01-01T00:00:00+00:00"})
    with pytest.raises(ConfigError, match="at most 30 are allowed") as caught:
        stale.check(load_device(path), Settings(2.45e9, 20e6, 0.0, 0.0))
    assert str(caught.value).endswith(words)


def test_no_earlier_calibration_of_any_radio_stands_in_the_way() -> None:
    model = load_experiment("comp")
    known = {"device": "pluto", "calibrated": True}
    rows = {
        "nodes": tuple(row.model_copy(update=known) for row in model.nodes),
        "users": tuple(row.model_copy(update=known) for row in model.users),
    }
    fresh = uncalibrated(model.model_copy(update=rows))
    assert len(fresh.users) > 0
    assert not [row.name for row in fresh.receivers if row.calibrated]
