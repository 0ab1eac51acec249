"""A scene of one radio that hears itself and one echo, and what a stream of samples tells about it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from sim.stream import LATENCY_SAMPLES
from tests.emulator import emulator_process

SAMPLE_RATE_HZ, CARRIER_HZ = 20e6, 3.5e9
RX_GAIN_DB = 60.0
DISTANCE_M, SELF_DELAY_SAMPLES = 117.3, 3.0
SCENE = f"""
seed = 5

[hardware]
tx_full_scale_dbm = 15.0
rx_full_scale_dbm = 10.0

[[nodes]]
name = "r"
position_m = [0.0, 0.0]
antenna_gain_dbi = 20.0
noise_figure_db = 5.0
self_isolation_db = 75.0
self_delay_samples = {SELF_DELAY_SAMPLES}

[[targets]]
name = "t"
position_m = [{DISTANCE_M}, 0.0]
rcs_m2 = 100.0
"""

# By hand from the scene. Amplitudes are of |1| received over |1| sent.
WAVELENGTH_M = 299_792_458.0 / CARRIER_HZ
ECHO_DELAY_SAMPLES = 2 * DISTANCE_M / 299_792_458.0 * SAMPLE_RATE_HZ
FULL_SCALES_DB = 15.0 - 10.0 + RX_GAIN_DB
ECHO_POWER = 100.0**2 * WAVELENGTH_M**2 * 100.0 / ((4 * np.pi) ** 3 * DISTANCE_M**4)
ECHO_GAIN = np.sqrt(ECHO_POWER * 10 ** (FULL_SCALES_DB / 10)) * np.exp(-2j * np.pi * 2 * DISTANCE_M / WAVELENGTH_M)
SELF_GAIN = 10 ** ((FULL_SCALES_DB - 75.0) / 20)
NOISE_VAR = 1.380649e-23 * 290.0 * SAMPLE_RATE_HZ * 1e3 * 10 ** ((5.0 - 10.0 + RX_GAIN_DB) / 10)

PERIOD = 4096


def signal() -> np.ndarray:
    """One period of tones of equal power and drawn phase over 80 % of the rate, of power 0.04."""
    rng = np.random.default_rng(8)
    spectrum = np.zeros(PERIOD, dtype=complex)
    spectrum[tones()] = np.exp(2j * np.pi * rng.random(tones().size))
    wave = np.fft.ifft(spectrum)
    return (0.2 * wave / np.sqrt(np.mean(np.abs(wave) ** 2))).astype(np.complex64)


def tones() -> np.ndarray:
    """Bins in use."""
    bins = np.arange(PERIOD)
    return bins[np.abs(np.fft.fftfreq(PERIOD)) < 0.4]


@dataclass(frozen=True)
class Echo:
    """What was found in a stream."""

    delay_samples: float  # of the echo, the channel's latency taken off
    gain: complex
    self_gain: complex
    noise_var: np.ndarray  # per period, what neither path explains; the first one without its beginning


def find_echo(heard: np.ndarray) -> Echo:
    """Delay and gains by least squares over whole periods; residuals of every sample from the first period on."""
    periods = heard[: heard.size // PERIOD * PERIOD].reshape(-1, PERIOD)
    f = np.fft.fftfreq(PERIOD)[tones()]
    sent = np.fft.fft(signal())[tones()]
    channel = np.fft.fft(periods[1:].mean(axis=0))[tones()] / sent
    leakage = np.exp(-2j * np.pi * f * (SELF_DELAY_SAMPLES + LATENCY_SAMPLES))

    def fit(delay: float) -> tuple[float, np.ndarray, np.ndarray]:
        basis = np.stack([leakage, np.exp(-2j * np.pi * f * (delay + LATENCY_SAMPLES))], axis=1)
        gains = np.linalg.lstsq(basis, channel, rcond=None)[0]
        return float(np.sum(np.abs(channel - basis @ gains) ** 2)), gains, basis @ gains

    coarse = min(np.arange(4.5, 60.0, 0.25), key=lambda delay: fit(delay)[0])
    found = minimize_scalar(
        lambda delay: fit(delay)[0], bounds=(coarse - 0.25, coarse + 0.25), method="bounded", options={"xatol": 1e-7}
    )
    _, (self_gain, gain), response = fit(found.x)
    expected = np.zeros(PERIOD, dtype=complex)
    expected[tones()] = response * sent
    residual = np.abs(periods - np.fft.ifft(expected)) ** 2
    noise_var = residual.mean(axis=1)
    noise_var[0] = residual[0, 100:].mean()  # until the echo has come
    return Echo(float(found.x), complex(gain), complex(self_gain), noise_var)


def check_echo(heard: np.ndarray) -> None:
    """Delay, gain and continuity of a stream that was heard from its first sample.

    Of a million samples 33 dB above the noise the delay is known to 2e-5 samples and the gain to 2e-4 dB; the rest of
    the tolerance is the channel's own, -65 dB. A sample lost or doubled anywhere leaves a residual far above the noise.
    """
    echo = find_echo(heard)
    assert abs(echo.delay_samples - ECHO_DELAY_SAMPLES) < 1e-3
    assert abs(echo.gain / ECHO_GAIN - 1) < 2e-3  # 0.02 dB, and the carrier's phase
    assert abs(echo.self_gain / SELF_GAIN - 1) < 2e-3
    # 5.5 standard errors of one period; over 245 periods the chance of failing is 1e-5
    np.testing.assert_allclose(echo.noise_var, NOISE_VAR, rtol=5.5 / np.sqrt(PERIOD - 100))


@contextlib.contextmanager
def echo_emulator(folder: Path, pattern: str, tx_endpoint: str) -> Iterator[str]:
    """The emulator with the scene above and raw ports; yields where its receiver is heard."""
    scene = folder / "echo.toml"
    scene.write_text(SCENE)
    options = ["--raw-rx", "r=tcp://127.0.0.1:0", "--raw-tx", f"r={tx_endpoint}", "--raw-pattern", pattern]
    options += ["--raw-sample-rate-hz", str(SAMPLE_RATE_HZ), "--raw-carrier-hz", str(CARRIER_HZ)]
    with emulator_process(scene, *options, "--raw-rx-gain-db", str(RX_GAIN_DB)) as (child, _):
        assert child.stdout is not None
        ports = dict(child.stdout.readline().decode().rsplit(" ", 1) for _ in range(2))
        yield ports["raw-rx r"].strip()
