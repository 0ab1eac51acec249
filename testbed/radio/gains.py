"""Gain plans: a linear power becomes a hardware gain step and a digital scale; a receive gain leaves the peak room.

A radio realises a power with a coarse gain and a digital scale for the rest (SIGNAL_CHAIN section 1). The frame that
counts afterwards is the one on the air: quantised by the converter, at the realised gain.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.device import TX_BACKOFF_DB, Limits
from testbed.errors import SettingOutOfRange
from testbed.units import db, undb

_SLACK_DB = 1e-3  # of the back-off, so that the largest power of a radio passes whatever its rounding
MIN_NOISE_LSB = 0.9  # rms per rail; with less, rounding is no longer noise (wanted: 1, the CoMP preset's value)
RX_BACKOFF_DB = 3.0  # the peak of the strongest sum stays this far below full scale (ARCHITECTURE section 4)


@dataclass(frozen=True)
class TransmitPlan:
    """How one node realises its power."""

    tx_gain_db: float
    scale: float  # digital factor on the frame's samples (in sqrt(milliwatt)); 0 for a silent node


def plan_gain(power: float, peak: float, limits: Limits) -> TransmitPlan:
    """Split a transmit power into the lowest sufficient gain step and a digital scale.

    The lowest gain that keeps the peak below full scale uses most of the converter's range.

    Args:
        power: mean power in milliwatt, linear; 0 silences the node at the lowest gain.
        peak: largest rail of the frame's samples, in sqrt(milliwatt).
        limits: of the radio.

    Raises:
        SettingOutOfRange: the power needs more gain than the radio has; the message names the largest power.
    """
    if power == 0:
        return TransmitPlan(limits.tx_gain_min_db, 0.0)
    room_db = db(undb(-TX_BACKOFF_DB) / peak**2) + limits.tx_full_scale_dbm
    step = limits.tx_gain_step_db
    gain_db = float(np.ceil((-room_db - _SLACK_DB) / step) * step)
    if limits.tx_steps:  # as calibrated, it may be quieter there than it should be
        while peak > limits.tx_amplitude(gain_db) * undb(_SLACK_DB - TX_BACKOFF_DB) ** 0.5:
            gain_db += step
    if gain_db > limits.tx_gain_max_db + 1e-9:
        largest_dbm = db(power) - (gain_db - limits.tx_gain_max_db)
        raise SettingOutOfRange(
            f"power: {db(power):.2f} dBm needs tx_gain_db {gain_db:g} dB, above the {limits.tx_gain_max_db:g} dB of "
            f"{limits.model} at this peak-to-average ratio; use at most {largest_dbm:.2f} dBm"
        )
    gain_db = max(gain_db, limits.tx_gain_min_db)
    return TransmitPlan(gain_db, 1.0 / limits.tx_amplitude(gain_db))


def quantise(samples: NDArray[np.complexfloating], bits: int) -> NDArray[np.complex128]:
    """Samples of full scale 1 on the grid of a `bits`-wide converter: codes -(2^(bits-1)-1) .. 2^(bits-1)-1.

    Idempotent; no code beyond full scale is produced for |re|, |im| <= 1.
    """
    half = float(1 << (bits - 1))
    rails = np.stack([samples.real, samples.imag]).astype(np.float64)
    codes = np.clip(np.rint(rails * half), -(half - 1), half - 1) / half
    return codes[0] + 1j * codes[1]


def realise(
    samples: NDArray[np.complex128], limits: Limits
) -> tuple[TransmitPlan, NDArray[np.complex64], NDArray[np.complex128]]:
    """One node's frame as a radio will put it on the air.

    Args:
        samples: wanted, in sqrt(milliwatt), shape (frame_len,); all zero for a silent node.
        limits: of the radio.

    Returns:
        The plan; the samples to send (full scale 1, on the converter's grid); what is then on the air, in
        sqrt(milliwatt).
    """
    peak = float(max(np.abs(samples.real).max(), np.abs(samples.imag).max()))
    plan = plan_gain(float(np.mean(np.abs(samples) ** 2)), peak, limits)
    codes = quantise(samples * plan.scale, limits.tx_bits)
    # codes have at most 16 bits: complex64 holds them exactly
    return plan, codes.astype(np.complex64), codes * limits.tx_amplitude(plan.tx_gain_db)


def plan_receive_gain(peak: float, noise_rms_lsb: float, rx_gain_db: float, limits: Limits) -> float:
    """Receive gain from a sounding capture: the peak 3 dB below full scale comes first, then the noise.

    Args:
        peak: largest rail of the sounding capture, full scale 1; must not have clipped.
        noise_rms_lsb: noise per rail in LSB at `rx_gain_db`.
        rx_gain_db: gain of the sounding capture.
        limits: of the radio.

    Returns:
        Realisable gain: noise at 2 LSB rms per rail where the peak allows it, else the largest gain the peak allows.

    Raises:
        SettingOutOfRange: the noise would fall below 1 LSB rms per rail, or the sounding held none.
    """
    if not noise_rms_lsb > 0:
        raise SettingOutOfRange(
            f"rx_gain_db: the sounding at {rx_gain_db:g} dB shows no noise at all; is the receiver alive?"
        )
    step = limits.rx_gain_step_db
    room_db = -RX_BACKOFF_DB - db(peak**2)
    wanted_db = db((2.0 / noise_rms_lsb) ** 2)
    gain_db = rx_gain_db + min(room_db, wanted_db)
    gain_db = float(np.clip(np.floor(gain_db / step + 1e-9) * step, limits.rx_gain_min_db, limits.rx_gain_max_db))
    noise_db = db(noise_rms_lsb**2) + gain_db - rx_gain_db
    if noise_db < db(MIN_NOISE_LSB**2):
        raise SettingOutOfRange(
            f"rx_gain_db: {gain_db:g} dB keeps the peak {RX_BACKOFF_DB:g} dB below full scale but puts the noise "
            f"{-noise_db:.1f} dB below 1 LSB rms; reduce the transmit power or the leakage"
        )
    return gain_db
