"""What a real radio does to samples beside noise and rounding: clock, phase noise, DC, IQ imbalance, early clipping.

Everything is off by default, and off costs nothing. A node's own clock (`clock_ppm`, `cfo_hz`), random starts and stale
samples are the world's business; what is multiplied onto samples or added to them is here, as pure functions.

Order at a receiver: arriving field, phase noise, IQ imbalance, [receiver noise], DC offset, clipping, converter.
Receiver noise joins behind the multiplications: a rotation leaves circular noise as it is, and an image of the noise
would only make it improper, by the image rejection.

Phase noise is stationary Gaussian with a Gaussian spectrum, in random access:

    phi(n) = sigma sum_k g_k h(n / K - k),     h(t) = (s sqrt(pi))^-1/2 exp(-t^2 / (2 s^2)),  g_k ~ N(0, 1)
    R(tau) = sigma^2 exp(-(pi B tau)^2 / ln 2),    S(f) ~ 2^-(f / B)^2

Knots g_k are a function of (seed, node, k), K is a whole number of samples and s = sqrt(ln 2) fs / (2 pi B K) >= 1, so
sample n is the same however a stream is cut, and the variance ripples between knots by 2 exp(-(pi s)^2) < 1.1e-4. It is
the receiver's oscillator, common to its channels; a transmitter's is taken to be clean, and a node's own leakage, which
shares its oscillator, is rotated like everything else.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from sim.noise import Purpose, unit_noise
from testbed.config import StrictModel

PHASE_NOISE_CHANNEL = 0  # of Purpose.OSCILLATOR; a random start takes another one
START_CHANNEL = 1
_REACH = 7  # standard deviations of a knot's kernel that count: exp(-7^2 / 2) = 2e-11
_GRID = 32  # points per knot, where there are so many samples


class Impairments(StrictModel):
    """Of one node; the defaults are a perfect radio on the common clock."""

    clock_ppm: float = Field(default=0.0, ge=-1000, le=1000)  # of its crystal, carrier and sample clock alike
    cfo_hz: float = 0.0  # of its carrier, beside what clock_ppm does to it
    phase_noise_deg: float = Field(default=0.0, ge=0, le=60)  # rms, of the receiver's oscillator
    phase_noise_bandwidth_hz: float = Field(default=1000.0, gt=0)  # where its spectrum has fallen by 3 dB
    dc_offset_dbfs: float | None = Field(default=None, ge=-200, le=0)  # of the receiver, re a full-scale complex tone
    dc_phase_deg: float = 0.0
    iq_gain_db: float = Field(default=0.0, ge=-6, le=6)  # receiver: gain of the Q rail over that of the I rail
    iq_phase_deg: float = Field(default=0.0, ge=-45, le=45)  # receiver: departure of the Q rail from quadrature
    tx_iq_gain_db: float = Field(default=0.0, ge=-6, le=6)  # transmitter, same convention
    tx_iq_phase_deg: float = Field(default=0.0, ge=-45, le=45)
    tx_lo_leakage_dbfs: float | None = Field(default=None, ge=-200, le=0)  # carrier beside the samples while it sends
    tx_lo_phase_deg: float = 0.0
    clip_dbfs: float | None = Field(default=None, ge=-100, le=0)  # rails are cut here, below the converter's full scale
    random_start: bool = False  # the node's streams start anywhere, another place every epoch
    stale_samples: int = Field(default=0, ge=0, lt=1 << 32)  # after settings change, so many are still of the old ones

    @model_serializer(mode="wrap")
    def _as_in_a_file(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not given is left out: TOML has no null."""
        return {key: value for key, value in plain(self).items() if value is not None}

    @property
    def is_off(self) -> bool:
        """Whether this is a perfect radio on the common clock."""
        on = self.clock_ppm != 0 or self.cfo_hz != 0 or self.random_start or self.stale_samples > 0
        added = self.dc_offset_dbfs is not None or self.clip_dbfs is not None
        return not (on or added or self.changes_received or self.changes_transmitted)

    @property
    def changes_received(self) -> bool:
        """Whether `receive` does anything."""
        return self.phase_noise_deg > 0 or self.iq_gain_db != 0 or self.iq_phase_deg != 0

    @property
    def changes_transmitted(self) -> bool:
        """Whether `transmit` does anything."""
        return self.tx_iq_gain_db != 0 or self.tx_iq_phase_deg != 0 or self.tx_lo_leakage_dbfs is not None

    @property
    def dc_offset(self) -> complex:
        """Constant in the received samples, relative to the receiver's full scale."""
        return _phasor(self.dc_offset_dbfs, self.dc_phase_deg)

    def receive(
        self,
        analogue: NDArray[np.complex64],
        *,
        first: int,
        seed: int,
        node_idx: int,
        sample_rate_hz: float,
    ) -> NDArray[np.complex64]:
        """Phase noise, then IQ imbalance, on what arrives; before receiver noise is added.

        Args:
            analogue: shape (num_rx, n), any unit.
            first: absolute index of the first sample.
            seed: of the scene.
            node_idx: of the receiver.
            sample_rate_hz: of the samples.

        Returns:
            New samples, or `analogue` itself where there is nothing to do.
        """
        if self.phase_noise_deg > 0:
            phase = self.phase_noise(
                first, analogue.shape[-1], seed=seed, node_idx=node_idx, sample_rate_hz=sample_rate_hz
            )
            cos, sin = np.cos(phase).astype(np.float32), np.sin(phase).astype(np.float32)
            analogue = _rails(analogue, cos, -sin, sin, cos)
        if self.iq_gain_db != 0 or self.iq_phase_deg != 0:
            a, b, c = (np.float32(value) for value in iq_mix(self.iq_gain_db, self.iq_phase_deg))
            analogue = _rails(analogue, a, np.float32(0), c, b)
        return analogue

    def transmit(self, samples: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """IQ imbalance and leaking carrier of the transmitter.

        Args:
            samples: what the converter puts out, relative to its full scale, shape (..., n).

        Returns:
            New samples, or `samples` itself where there is nothing to do.
        """
        if self.tx_iq_gain_db != 0 or self.tx_iq_phase_deg != 0:
            a, b, c = iq_mix(self.tx_iq_gain_db, self.tx_iq_phase_deg)
            samples = a * samples.real + 1j * (b * samples.imag + c * samples.real)
        if self.tx_lo_leakage_dbfs is not None:
            samples = samples + _phasor(self.tx_lo_leakage_dbfs, self.tx_lo_phase_deg)
        return samples

    def clip(self, analogue: NDArray[np.complex64], full_scale: float) -> tuple[NDArray[np.complex64], int]:
        """Cut rails at `clip_dbfs`, just before the converter.

        Args:
            analogue: noise and DC included, shape (num_rx, n).
            full_scale: amplitude that reaches the converter's full scale, in the unit of `analogue`.

        Returns:
            Samples (`analogue` itself where nothing was cut), and how many of them were cut in either rail.
        """
        if self.clip_dbfs is None:
            return analogue, 0
        limit = np.float32(full_scale * 10 ** (self.clip_dbfs / 20))
        cut = (np.abs(analogue.real) > limit) | (np.abs(analogue.imag) > limit)
        count = int(np.count_nonzero(cut))
        if count == 0:
            return analogue, 0
        clipped = np.empty_like(analogue)
        np.clip(analogue.real, -limit, limit, out=clipped.real)
        np.clip(analogue.imag, -limit, limit, out=clipped.imag)
        return clipped, count

    def phase_noise(
        self, first: int, count: int, *, seed: int, node_idx: int, sample_rate_hz: float
    ) -> NDArray[np.float64]:
        """Phase of the receiver's oscillator at absolute samples first .. first + count - 1, in radian, shape (count,).

        Raises:
            ValueError: the bandwidth is more than the sample rate can follow.
        """
        if count == 0:
            return np.zeros(0)
        step, points, kernel, slope = _knots(self.phase_noise_bandwidth_hz, sample_rate_hz)
        reach, spacing = len(kernel) // 2, step * points
        start, stop = first // spacing, (first + count - 1) // spacing + 2  # one knot more: the last interval's end
        # knot k stands at index k + reach - 1 of the noise, so that none is negative
        length = stop - start + 2 * reach - 1
        noise = unit_noise(seed, node_idx, start, length, PHASE_NOISE_CHANNEL, Purpose.OSCILLATOR)
        g = noise.real.astype(np.float64) * (np.sqrt(2) * np.deg2rad(self.phase_noise_deg))
        phase = _weighted(g, kernel, stop - start)
        sample = np.arange(count) + (first - start * spacing)
        if step == 1:
            return phase[sample[0] : sample[0] + count]
        p, d = phase, _weighted(g, slope, stop - start)
        c2 = 3 * (p[1:] - p[:-1]) - 2 * d[:-1] - d[1:]
        c3 = 2 * (p[:-1] - p[1:]) + d[:-1] + d[1:]
        m = sample // step
        u = (sample - m * step) / step
        between: NDArray[np.float64] = ((c3[m] * u + c2[m]) * u + d[m]) * u + p[m]
        return between


def iq_mix(gain_db: float, phase_deg: float) -> tuple[float, float, float]:
    """Coefficients of I' = a I, Q' = b Q + c I with g = gain, phi = phase: (1, g cos phi, -g sin phi) / norm.

    Written as mu x + nu conj(x), mu = (1 + g exp(-j phi)) / 2 and nu = (1 - g exp(j phi)) / 2 over the same norm
    sqrt((1 + g^2) / 2), which keeps the power of a circular signal. The image lies |nu / mu|^2 below the signal.
    """
    g, phi = 10 ** (gain_db / 20), np.deg2rad(phase_deg)
    norm = np.sqrt((1 + g**2) / 2)
    return 1 / norm, float(g * np.cos(phi) / norm), float(-g * np.sin(phi) / norm)


@lru_cache(maxsize=16)
def _knots(bandwidth_hz: float, sample_rate_hz: float) -> tuple[int, int, NDArray[np.float64], NDArray[np.float64]]:
    """Samples per grid step, steps per knot, and the weights of a knot and of its slope, shape (2 reach, steps).

    Between grid points the phase is a cubic with the right values and slopes at both ends: its error is below 1e-8 of
    the rms phase.
    """
    spread = np.sqrt(np.log(2)) / (2 * np.pi * bandwidth_hz) * sample_rate_hz  # samples
    if spread < 1:
        raise ValueError(
            f"phase_noise_bandwidth_hz: {bandwidth_hz:g} at {sample_rate_hz:g} samples per second; must be at most "
            f"{spread * bandwidth_hz:.4g}"
        )
    step = max(int(spread) // _GRID, 1)
    points = int(spread) // step
    s = spread / (step * points)
    reach = int(np.ceil(_REACH * s))
    t = np.arange(points) / points - np.arange(1 - reach, reach + 1)[:, None]
    kernel = np.exp(-(t**2) / (2 * s**2)) / np.sqrt(s * np.sqrt(np.pi))
    return step, points, kernel, -t / s**2 * kernel / points


def _weighted(g: NDArray[np.float64], kernel: NDArray[np.float64], num_knots: int) -> NDArray[np.float64]:
    """Knots through their kernel at every grid point, shape (num_knots * points,)."""
    total = np.zeros((kernel.shape[1], num_knots))
    for row, weights in enumerate(kernel):  # one after the other: the same sum for any cut
        total += weights[:, None] * g[row : row + num_knots]
    return total.T.reshape(-1)


def _rails(
    x: NDArray[np.complex64],
    ii: NDArray[np.float32] | np.float32,
    iq: NDArray[np.float32] | np.float32,
    qi: NDArray[np.float32] | np.float32,
    qq: NDArray[np.float32] | np.float32,
) -> NDArray[np.complex64]:
    """I' = ii I + iq Q, Q' = qi I + qq Q, each product and sum rounded by itself: the same for any cut."""
    y = np.empty_like(x)
    y.real = ii * x.real + iq * x.imag
    y.imag = qi * x.real + qq * x.imag
    return y


def _phasor(level_db: float | None, phase_deg: float) -> complex:
    if level_db is None:
        return 0j
    return complex(10 ** (level_db / 20) * np.exp(1j * np.deg2rad(phase_deg)))
