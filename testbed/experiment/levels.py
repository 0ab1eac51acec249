"""What a receiver's converter is expected to see: its gain, the noise in LSB, the peak below full scale."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.device import Limits
from testbed.errors import SettingOutOfRange
from testbed.experiment.config import Experiment
from testbed.radio.gains import MIN_NOISE_LSB, plan_receive_gain
from testbed.units import db, thermal_noise_dbm, undb

NOISE_PEAK_SIGMA = 4.5  # of a rail: exceeded about once in 150,000 samples


@dataclass(frozen=True)
class Levels:
    """Levels of one receiver at the highest equal power; `faults` forbid a run."""

    rx_gain_db: float
    noise_dbm: float
    noise_lsb: float  # rms per rail, in steps of the converter
    peak_dbfs: float  # largest rail, noise peak included
    full_scale: float  # sqrt(milliwatt)
    faults: tuple[str, ...]


def receiver_levels(experiment: Experiment, limits: Limits, receiver: str, arrived: NDArray[np.complex128]) -> Levels:
    """Levels of a node or user.

    Args:
        experiment: resolved.
        limits: of its radio.
        receiver: its name.
        arrived: one frame of everything that reaches it but noise, in sqrt(milliwatt), shape (frame_len,).
    """
    noise_figure_db = next(row.noise_figure_db for row in experiment.receivers if row.name == receiver)
    noise_dbm = thermal_noise_dbm(experiment.waveform.numerology.sample_rate_hz, noise_figure_db)
    rail = float(np.sqrt(undb(noise_dbm) / 2))
    peak = float(max(np.abs(arrived.real).max(), np.abs(arrived.imag).max())) + NOISE_PEAK_SIGMA * rail
    rx_gain_db, faults = _receive_gain(experiment, limits, peak, rail, receiver)
    full_scale = limits.rx_amplitude(rx_gain_db)
    noise_lsb = float(rail / full_scale * limits.rx_full_scale / limits.rx_lsb)
    peak_dbfs = db(peak**2 / full_scale**2)
    if peak_dbfs > 0:
        faults.append(
            f"{receiver}: clipping: the peak at {experiment.highest_equal_power_dbm:g} dBm is {peak_dbfs:.1f} dB above "
            f"full scale at rx_gain_db {rx_gain_db:g}; lower rx_gain_db or power, or raise the isolation"
        )
    if noise_lsb < MIN_NOISE_LSB:
        faults.append(
            f"{receiver}: noise is {noise_lsb:.2f} LSB rms per rail at rx_gain_db {rx_gain_db:g}; at least 1 is "
            f"needed for rounding to act as noise; raise rx_gain_db"
        )
    return Levels(rx_gain_db, noise_dbm, noise_lsb, peak_dbfs, full_scale, tuple(faults))


def _receive_gain(
    experiment: Experiment, limits: Limits, peak: float, rail: float, receiver: str
) -> tuple[float, list[str]]:
    wanted = experiment.rx_gain_db(receiver)
    if wanted != "auto":
        return float(wanted), []
    full_scale = limits.rx_amplitude(limits.rx_gain_min_db)
    try:
        noise_lsb = rail / full_scale * limits.rx_full_scale / limits.rx_lsb
        return plan_receive_gain(peak / full_scale, noise_lsb, limits.rx_gain_min_db, limits), []
    except SettingOutOfRange as exc:
        return limits.rx_gain_min_db, [f"{receiver}: {exc}"]
