"""What tests transmit, and what must come back of it over the air of `loopback.py`.

Noise is another one in every run. Bounds on it are five standard errors wide: a bound fails by chance in six runs of
ten million.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from testbed.device import Reception, Settings
from testbed.radio.base import Radio
from testbed.waveform.frame import FrameDesign
from testbed.waveform.numerology import Numerology

SETTINGS = Settings(carrier_hz=2.4e9, sample_rate_hz=1e6, tx_gain_db=80.0, rx_gain_db=20.0)
# of loopback.py at these settings: the direct path has gain 1
ECHO_SAMPLES, ECHO_AMPLITUDE = 7, 0.3j
NOISE_AMPLITUDE = 1e-4  # of full scale, rms
NUM_FRAMES = 16  # received at once
STANDARD_ERRORS = 5
LSB = 2.0**-15
DESIGN = FrameDesign(
    numerology=Numerology(
        carrier_hz=SETTINGS.carrier_hz,
        sample_rate_hz=SETTINGS.sample_rate_hz,
        fft_size=64,
        cp_len=16,
        num_subcarriers=52,
    ),
    preamble_roots=(25,),
    preamble_len=53,
    num_data_symbols=14,
)


def ofdm_frame() -> NDArray[np.complex64]:
    """Preamble, pilots and data, with rails up to half of full scale, shape (1, frame_len)."""
    frame = DESIGN.frame(np.ones(1)).samples
    return (0.5 * frame / np.abs(frame.view(np.float64)).max()).astype(np.complex64)


def receive(radio: Radio, frame: NDArray[np.complex64]) -> Reception:
    """Some frames at once."""
    return radio.receive(NUM_FRAMES * frame.shape[1])


def check_heard(reception: Reception, frame: NDArray[np.complex64], offset: int) -> None:
    """Both paths of a frame from its sample `offset` on, and nothing else but noise and two roundings."""
    once = frame[0].astype(np.complex128)
    expected = np.roll(once + ECHO_AMPLITUDE * np.roll(once, ECHO_SAMPLES), -offset)
    rows = reception.samples[0].astype(np.complex128).reshape(-1, once.size)
    error_power, signal_power = np.mean(np.abs(rows - expected) ** 2), np.mean(np.abs(expected) ** 2)
    # a rounding is uniform over a step, on both rails; that of the transmitter comes over both paths
    noise_power = NOISE_AMPLITUDE**2 + LSB**2 / 6 * (2 + abs(ECHO_AMPLITUDE) ** 2)
    # the noise is Gaussian: the standard error of its mean power is that power over the root of their number
    assert error_power == pytest.approx(noise_power, rel=STANDARD_ERRORS / np.sqrt(rows.size))
    correlation = abs(np.mean(expected.conj() * rows)) / np.sqrt(signal_power * np.mean(np.abs(rows) ** 2))
    assert correlation > 1 - noise_power / signal_power  # is half of that below 1


def offset_of(reception: Reception, frame: NDArray[np.complex64]) -> int:
    """Sample of the frame that the reception begins with, by its strongest path."""
    mean = reception.samples[0].reshape(-1, frame.shape[1]).mean(axis=0)
    return int(np.argmax(np.abs(np.fft.ifft(np.fft.fft(frame[0]) * np.fft.fft(mean).conj()))))
