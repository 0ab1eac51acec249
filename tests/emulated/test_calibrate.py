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
from testbed.errors import RadioError, SyncError
from testbed.experiment.calibrate import Wish, calibrate, identity
from testbed.radio.base import Radio
from testbed.radio.devices.calibration import load_calibration
from testbed.radio.devices.config import load_device
from testbed.radio.gains import realise
from testbed.radio.pluto.radio import PlutoRadio
from testbed.radio.remote import RemoteRadio
from testbed.sensing.loopback import fit_loopback, probe
from testbed.units import undb
from testbed.verbs.calibrating import calibrate as verb
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
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
def test_a_calibration_that_cannot_be_is_refused_in_one_line(options: list[str], words: str) -> None:
    app = new_app("x", "y")
    app.command()(verb)
    done = CliRunner().invoke(app, ["solo", *options])
    assert done.exception is not None
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)
