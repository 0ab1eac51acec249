"""The network of the cooperative preset, computed from its scene's geometry: link variances and users' gains.

8 nodes at 3.5 GHz and 20 MS/s, FFT of 64 with 52 subcarriers, slots of 7 symbols of 80 samples, 18 dBm, 6 dBi, a
target of 10 m2, noise figures 8 and 5 dB, quantised with 1 LSB = noise rms. Echo and direct (self) path are told
apart by projection, with the mean Gram matrix of a flat spectrum; links that keep less than 0.3 of their echo are not
used.
"""

import numpy as np

from testbed.allocation.cooperative import UserChannels
from testbed.theory.link import echo_gain
from testbed.units import SPEED_OF_LIGHT_MPS, thermal_noise_dbm, undb

NODES = np.array(
    [(40, 60), (75, 25), (-60, -75), (15, 85), (-30, -105), (65, 70), (-110, 20), (-75, 75)], dtype=np.float64
)
TARGET = np.array([-5.0, -8.0])
USERS = np.array([(-45, 50), (70, -20), (-20, -70), (40, 50)], dtype=np.float64)
SAMPLE_RATE_HZ, CARRIER_HZ = 20e6, 3.5e9
QUANTISED = 13 / 12  # noise and LSB^2 / 6 of it, per rail
BINS = np.r_[-26:0, 1:27] / 64


def range_variances(least_kappa=0.3):
    """var(r_ij) at p^s = 1, (8, 8), m^2; inf for links that are not used."""
    num = len(NODES)
    to_target = np.linalg.norm(NODES - TARGET, axis=1)
    apart = np.linalg.norm(NODES[:, None] - NODES, axis=-1)
    noise = undb(thermal_noise_dbm(SAMPLE_RATE_HZ, 8.0)) * QUANTISED
    var = np.full((num, num), np.inf)
    for i in range(num):
        for j in range(num):
            gain = echo_gain(to_target[i], to_target[j], 10.0, SPEED_OF_LIGHT_MPS / CARRIER_HZ, undb(12.0))
            energy = 7 * 80 * undb(18.0) * gain / noise
            excess = (to_target[i] + to_target[j] - apart[i, j]) / SPEED_OF_LIGHT_MPS * SAMPLE_RATE_HZ
            columns = [column(delay, order) for delay in (0.0, excess) for order in (0, 1)]
            echo = left_over(columns[2], columns[:2])
            if echo >= least_kappa:
                # 1 / var of the delay in samples; the derivative also loses what looks like amplitude or phase
                information = 2 * energy * left_over(columns[3], columns[:3])
                var[i, j] = (SPEED_OF_LIGHT_MPS / SAMPLE_RATE_HZ) ** 2 / information
    return var


def column(delay, order):
    """Spectrum of the frame at a delay in samples, of unit energy, or its derivative over delay."""
    return (-2j * np.pi * BINS) ** order * np.exp(-2j * np.pi * BINS * delay) / np.sqrt(len(BINS))


def left_over(wanted, others):
    """Energy of what is orthogonal to `others`."""
    Q, _ = np.linalg.qr(np.stack(others, axis=1))
    return float(np.linalg.norm(wanted - Q @ (Q.conj().T @ wanted)) ** 2)


def user_channels(waveform="slots"):
    """Received power per resource element over frames at full power: 43.3 + 20 + 30 log10(d) dB less 6 dBi."""
    distance = np.linalg.norm(NODES[:, None] - USERS, axis=-1)
    gain = undb(18.0 + 6.0 - (43.3 + 20 + 30 * np.log10(distance))) * 64 / 52
    return UserChannels(gain, undb(thermal_noise_dbm(SAMPLE_RATE_HZ, 5.0)) * QUANTISED, waveform=waveform)
