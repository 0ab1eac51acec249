"""The fit of a radio that hears itself, against signals made by the equations; and when a calibration still holds."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.impairments import iq_mix
from testbed.device import Limits, Settings
from testbed.errors import ConfigError, SyncError
from testbed.measurement import Estimate
from testbed.radio.devices.calibration import Calibration, load_calibration, save_calibration
from testbed.radio.devices.config import load_device
from testbed.sensing.loopback import fit_loopback, probe

PROBE = probe()


def heard(
    taps: dict[float, complex], *, noise_db: float = -60.0, frames: int = 32, iq: tuple[float, float] = (0, 0)
) -> np.ndarray:
    """Frames over paths {delay: gain}, through a mixer, with noise relative to a tap of gain 1."""
    k = np.fft.fftfreq(PROBE.size) * PROBE.size
    spectrum = np.fft.fft(PROBE.samples)
    channel = sum(gain * np.exp(-2j * np.pi * k * delay / PROBE.size) for delay, gain in taps.items())
    one = np.fft.ifft(spectrum * channel)
    a, b, c = iq_mix(*iq)
    y = np.tile(a * one.real + 1j * (b * one.imag + c * one.real), frames)
    rng = np.random.default_rng(7)
    rail = 10 ** (noise_db / 20) / np.sqrt(2)
    return y + rail * (rng.standard_normal(y.size) + 1j * rng.standard_normal(y.size))


def test_the_probe_is_flat_has_no_mirror_and_a_low_peak() -> None:
    spectrum = np.fft.fft(PROBE.samples)
    assert np.mean(np.abs(PROBE.samples) ** 2) == pytest.approx(1)
    assert np.ptp(np.abs(spectrum[PROBE.bins])) < 1e-9
    others = np.setdiff1d(np.arange(PROBE.size), PROBE.bins % PROBE.size)
    assert np.abs(spectrum[others]).max() < 1e-9
    assert not set(PROBE.bins.tolist()) & set((-PROBE.bins).tolist())
    assert 10 * np.log10(np.max(np.abs(PROBE.samples) ** 2)) < 6


def test_delay_and_gain_of_one_path_come_out_within_their_errors() -> None:
    """Five standard errors: the chance of a failure of right code is below 1e-5."""
    gain = 0.01 * np.exp(0.7j)
    fit = fit_loopback(heard({1234.567: gain}, noise_db=-50), PROBE.samples, PROBE.bins)
    assert abs(fit.delay_samples - 1234.567) < 5 * fit.delay_std_samples < 0.01
    assert abs(fit.power_gain - abs(gain) ** 2) < 5 * fit.power_gain_std
    assert fit.level_db.value == pytest.approx(-40, abs=0.05)
    assert len(fit.taps) == 1


def test_the_error_of_the_delay_is_the_scatter_of_the_delay() -> None:
    fits = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal(8 * PROBE.size) + 1j * rng.standard_normal(8 * PROBE.size)
        fits.append(fit_loopback(np.tile(PROBE.samples, 8) + 0.5 * noise, PROBE.samples, PROBE.bins))
    delays = np.array([(fit.delay_samples + 2048) % 4096 - 2048 for fit in fits])
    told = np.mean([fit.delay_std_samples for fit in fits])
    # the standard deviation of 40 values is known to 11 %; four of them
    assert delays.std(ddof=1) == pytest.approx(told, rel=0.45)
    assert abs(delays.mean()) < 4 * told / np.sqrt(40)


def test_taps_a_sample_and_a_half_apart_are_told_apart() -> None:
    paths = {100.3: 1.0 + 0j, 101.8: 0.3 * np.exp(1j), 140.0: 0.02 * np.exp(-2j)}
    fit = fit_loopback(heard(paths), PROBE.samples, PROBE.bins)
    assert [tap.delay_samples for tap in fit.taps] == pytest.approx(list(paths), abs=0.01)
    assert [abs(tap.gain) for tap in fit.taps] == pytest.approx([abs(g) for g in paths.values()], rel=0.01)


@pytest.mark.parametrize(("gain_db", "phase_deg"), [(0.5, 3.0), (-1.0, -8.0), (0.0, 2.0), (2.0, 0.0)])
def test_the_imbalance_of_the_receiver_is_found_whatever_the_way_to_it(gain_db: float, phase_deg: float) -> None:
    y = heard({7.7: 0.3 * np.exp(2j), 9.0: 0.1}, iq=(gain_db, phase_deg))
    gain, phase = fit_loopback(y, PROBE.samples, PROBE.bins).imbalance()
    assert abs(gain.value - gain_db) < max(5 * gain.stderr, 1e-4)
    assert abs(phase.value - phase_deg) < max(5 * phase.stderr, 1e-3)


def test_what_is_not_there_is_not_found() -> None:
    with pytest.raises(SyncError, match=r"the probe was not found in what was received \(.* sigma, need 8\)"):
        fit_loopback(heard({0.0: 0j}), PROBE.samples, PROBE.bins)


NOW = dt.datetime(2026, 7, 20, 12, tzinfo=dt.UTC)
SETTINGS = Settings(carrier_hz=2.45e9, sample_rate_hz=20e6, tx_gain_db=-20, rx_gain_db=40)
LIMITS = Limits(
    "pluto", False, 1, 1, 325e6, 3.8e9, 521e3, 61.44e6, -89.75, 0, 0.25, -3, 71, 1, 12, 2048, 15.0, 10.2, 1 << 20
)


def calibration(**changes: Any) -> Calibration:
    estimate = Estimate(value=1.0, stderr=0.1, count=4)
    step = {"tx_gain_db": 0.0, "level_db": estimate}
    data: dict[str, Any] = {
        "device": "pluto",
        "device_sha256": load_device("pluto").sha256,
        "model": "pluto",
        "serial": "104473",
        "simulated": False,
        "date": "2026-07-10T12:00:00+00:00",
        "conditions": {
            "carrier_hz": 2.45e9, "sample_rate_hz": 20e6, "tx_gain_db": -20.0, "rx_gain_db": 40.0, "power_dbm": -10.0,
            "fir": "standard", "loop": "cable", "attenuation_db": 40.0, "temperature_c": 25.0,
        },
        "latency_samples": estimate,
        "latency_repeats": True,
        "isolation_db": Estimate(value=41.5, stderr=0.1, count=4),
        "self_taps": [],
        "noise": [{"rx_gain_db": -3.0, "noise_lsb": 0}, {"rx_gain_db": 71.0, "noise_lsb": 9.0, "noise_dbm": estimate}],
        "noise_figure_db": estimate,
        "dc_i": estimate,
        "dc_q": estimate,
        "iq_gain_db": estimate,
        "iq_phase_deg": estimate,
        "tx_steps": [step, step | {"tx_gain_db": -1.0}],
        "tx_slope": estimate,
        "tx_nonlinearity_db": estimate,
    }  # fmt: skip
    return Calibration.model_validate(data | changes)


def test_a_fresh_calibration_of_this_board_holds_and_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "pluto.calibration.toml"
    save_calibration(path, calibration())
    read = load_calibration(path)
    assert read == calibration()
    read.check(load_device("pluto"), SETTINGS, LIMITS, "104473", now=NOW, temperature_c=30.0)
    assert read.power_error_db == pytest.approx(1.5)
    assert dict(read.lines())["reference powers"] == "+1.50 dB too much, both together"


@pytest.mark.parametrize(
    ("changed", "now", "words"),
    [
        ({"date": "2026-06-01T12:00:00+00:00"}, {}, "it is 49.0 days old, at most 30 are allowed"),
        ({"date": "2026-08-01T12:00:00+00:00"}, {}, "it is dated 2026-08-01T12:00:00+00:00, which is yet to come"),
        ({"serial": "999"}, {}, "it is of the board with serial '999', this one has '104473'"),
        ({"simulated": True}, {}, "it is of a simulated radio, this is a real one"),
        ({"device_sha256": "0" * 64}, {}, "pluto was changed since (it was made with pluto 000000000000)"),
        ({}, {"carrier_hz": 2.5e9}, "it was made at 2450 MHz, 50 MHz from the carrier; at most 20 MHz are allowed"),
        ({}, {"sample_rate_hz": 10e6}, "it was made at 20000000 samples per second"),
        ({}, {"fir": "own.ftr"}, "it was made with the filter 'standard', this is 'own.ftr'"),
        ({}, {"temperature_c": 40.0}, "it was made at 25 degrees, now it is 40"),
    ],
)
def test_a_stale_or_foreign_calibration_is_refused_with_the_reason(
    changed: dict[str, Any], now: dict[str, Any], words: str
) -> None:
    settings = replace(SETTINGS, **{key: value for key, value in now.items() if key.endswith("_hz")})
    others = {key: value for key, value in now.items() if not key.endswith("_hz")}
    with pytest.raises(ConfigError) as caught:
        calibration(**changed).check(load_device("pluto"), settings, LIMITS, "104473", now=NOW, **others)
    text = str(caught.value)
    assert f"pluto.calibration.toml: calibration refused: {words}; run `isac calibrate` again" in text
    assert "\n" not in text


def test_a_calibration_with_a_mistake_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "pluto.calibration.toml"
    save_calibration(path, calibration())
    path.write_text(path.read_text().replace("2026-07-10T12:00:00+00:00", "2026-07-10"))
    with pytest.raises(ConfigError, match="date: found '2026-07-10'; must read like 2026-07-01T12:00:00"):
        load_calibration(path)
    path.write_text(path.read_text().replace("latency_repeats", "latency_repeat"))
    with pytest.raises(ConfigError, match=r"latency_repeat: unknown key; did you mean 'latency_repeats'\?"):
        load_calibration(path)
