"""One radio hears itself: level, delay and taps of the way from its transmitter to its receiver, and IQ imbalance.

The probe is a frame of N samples with tones of one size on one of every two mirrored bins, +1, -2, +3, -4, ...:
whatever a quadrature mixer mirrors falls on a bin that is empty otherwise, and DC on bin 0. Y(k) is the mean spectrum
of some frames, its noise the scatter between them.

    H(k) = Y(k) / X(k) = sum_i a_i exp(-j 2 pi k tau_i / N)
    rho  = sum_k Y(-k) Y(k) / sum_k |Y(k)|^2 = nu / conj(mu),       y = mu x + nu conj(x)
    g exp(j phi) = (1 - rho) / (1 + rho)

with g the gain of the Q rail over that of the I rail and phi its departure from quadrature, that is with
mu = (1 + g exp(-j phi)) / 2 and nu = (1 - g exp(j phi)) / 2. Transmitter and receiver share a carrier here, and their
images fall on the same bins: where both are imbalanced, g and phi are those of neither.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.errors import SyncError
from testbed.measurement import Estimate
from testbed.units import db

MIN_SIGMA = 8.0  # of the strongest path over the noise, to be one
TAP_SIGMA = 6.0  # of a further path
TAP_FLOOR_DB = -45.0  # of a further path, relative to the strongest
_DB_PER_NEPER = 20 / np.log(10)


@dataclass(frozen=True)
class Probe:
    """A frame that shows what a loop does to it."""

    samples: NDArray[np.complex128]  # shape (N,), mean power 1
    bins: NDArray[np.int64]  # with a tone, signed, ascending

    @property
    def size(self) -> int:
        """Samples of the frame."""
        return self.samples.size


@dataclass(frozen=True)
class Tap:
    """A path; its delay modulo the frame, its gain from port to port."""

    delay_samples: float
    gain: complex


@dataclass(frozen=True)
class Loopback:
    """What came back."""

    power_gain: float  # of all paths together, linear
    power_gain_std: float
    taps: tuple[Tap, ...]  # the strongest first
    delay_std_samples: float  # of the strongest
    image: complex  # rho
    image_std: float  # of either part

    @property
    def delay_samples(self) -> float:
        """Of the strongest path."""
        return self.taps[0].delay_samples

    @property
    def level_db(self) -> Estimate:
        """Power gain in dB."""
        return Estimate(
            value=db(self.power_gain), stderr=10 / np.log(10) * self.power_gain_std / self.power_gain, count=1
        )

    def imbalance(self) -> tuple[Estimate, Estimate]:
        """Gain in dB and phase in degrees of the Q rail relative to the I rail."""
        ratio = (1 - self.image) / (1 + self.image)
        spread = 2 * self.image_std / abs(1 + self.image) ** 2 / abs(ratio)  # of log ratio, either part
        return (
            Estimate(value=_DB_PER_NEPER * np.log(abs(ratio)), stderr=_DB_PER_NEPER * spread, count=1),
            Estimate(value=float(np.degrees(np.angle(ratio))), stderr=float(np.degrees(spread)), count=1),
        )


def probe(size: int = 4096, occupied: float = 0.8) -> Probe:
    """The frame: phases by Newman keep its peaks about 5 dB above the mean.

    Args:
        size: N, samples.
        occupied: share of the sample rate.
    """
    k = np.arange(1, int(occupied * size / 2) + 1)
    bins = np.sort(np.where(k % 2 == 1, k, -k))
    spectrum = np.zeros(size, dtype=np.complex128)
    spectrum[bins] = np.exp(1j * np.pi * np.arange(bins.size) ** 2 / bins.size)
    samples = np.fft.ifft(spectrum)
    return Probe(samples / np.sqrt(np.mean(np.abs(samples) ** 2)), bins)


def fit_loopback(
    heard: NDArray[np.complexfloating], sent: NDArray[np.complexfloating], bins: NDArray[np.int64]
) -> Loopback:
    """Fit the loop.

    Args:
        heard: whole frames, in sqrt(milliwatt) at the receive port, shape (M N,), M >= 2.
        sent: one frame as it is on the air, in sqrt(milliwatt) at the transmit port, shape (N,).
        bins: of the probe.

    Raises:
        SyncError: no path stands out of the noise.
    """
    size = sent.size
    frames = np.fft.fft(np.asarray(heard, dtype=np.complex128).reshape(-1, size), axis=1)
    num_frames = frames.shape[0]
    x = np.fft.fft(sent)[bins]
    y, mirrored = frames.mean(axis=0)[bins], frames.mean(axis=0)[-bins]
    # of a mean bin; the transmitted signal itself does not scatter
    noise = float(np.mean(np.var(frames[:, bins], axis=0, ddof=1))) / num_frames
    h, energy = y / x, float(np.sum(np.abs(x) ** 2))
    noise_h = noise * float(np.mean(1 / np.abs(x) ** 2))
    taps = _taps(h, bins, size, noise_h)
    received = float(np.sum(np.abs(y) ** 2)) - bins.size * noise
    spread = np.sqrt(2 * max(received, 0.0) * noise + bins.size * noise**2)
    curvature = 2 * abs(taps[0].gain) ** 2 * float(np.sum((2 * np.pi / size * (bins - bins.mean())) ** 2))
    total = float(np.sum(np.abs(y) ** 2))
    return Loopback(
        power_gain=received / energy,
        power_gain_std=float(spread) / energy,
        taps=taps,
        delay_std_samples=float(np.sqrt(noise_h / curvature)),
        image=complex(np.sum(mirrored * y) / total),
        image_std=float(np.sqrt(noise / 2 / total)),
    )


def _taps(h: NDArray[np.complex128], bins: NDArray[np.int64], size: int, noise: float) -> tuple[Tap, ...]:
    """Paths, one after the other, delays and gains of all refitted with each."""
    delays: list[float] = []
    rest, gains = h, np.zeros(0, dtype=np.complex128)
    for _ in range(8):
        found = _strongest(rest, bins, size)
        amplitude = abs(np.mean(rest * np.exp(2j * np.pi * bins * found / size)))
        sigma = np.sqrt(noise / bins.size)
        if not delays and not amplitude > MIN_SIGMA * sigma:
            raise SyncError(
                f"the probe was not found in what was received ({amplitude / max(sigma, 1e-300):.1f} sigma, need "
                f"{MIN_SIGMA:g}); raise the power, or check cable and antennas"
            )
        if delays and (amplitude < TAP_SIGMA * sigma or db(amplitude**2 / np.max(np.abs(gains)) ** 2) < TAP_FLOOR_DB):
            break
        delays = _refined([*delays, found], h, bins, size)
        gains, rest = _project(np.array(delays), h, bins, size)
    order = np.argsort(-np.abs(gains))
    return tuple(Tap(float(delays[i] % size), complex(gains[i])) for i in order)


def _strongest(h: NDArray[np.complex128], bins: NDArray[np.int64], size: int) -> float:
    """Delay at which all tones agree best, to a hundredth of a sample and finer."""
    grid = np.zeros(4 * size, dtype=np.complex128)
    grid[bins] = h
    delay = float(np.argmax(np.abs(np.fft.ifft(grid)))) / 4
    for span in (0.25, 0.02, 0.0015):
        tried = delay + span * np.linspace(-1, 1, 33)
        turned = np.exp(2j * np.pi / size * np.outer(tried, bins))
        delay = float(tried[int(np.argmax(np.abs(turned @ h)))])
    return delay


def _project(
    delays: NDArray[np.float64], h: NDArray[np.complex128], bins: NDArray[np.int64], size: int
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Gains of paths with given delays, and what they leave over."""
    columns = np.exp(-2j * np.pi / size * np.outer(bins, delays))
    gains: NDArray[np.complex128] = np.linalg.lstsq(columns, h, rcond=None)[0].astype(np.complex128)
    return gains, h - columns @ gains


def _refined(delays: list[float], h: NDArray[np.complex128], bins: NDArray[np.int64], size: int) -> list[float]:
    """Gauss-Newton over delays and gains together."""
    tau = np.array(delays)
    for _ in range(12):
        gains, rest = _project(tau, h, bins, size)
        columns = np.exp(-2j * np.pi / size * np.outer(bins, tau))
        slopes = columns * gains * (-2j * np.pi / size * bins)[:, None]
        jacobian = np.hstack([slopes, columns, 1j * columns])
        step = np.linalg.lstsq(
            np.vstack([jacobian.real, jacobian.imag]), np.concatenate([rest.real, rest.imag]), rcond=None
        )[0][: tau.size]
        tau = tau + np.clip(step, -0.25, 0.25)
        if np.abs(step).max() < 1e-7:
            break
    return [float(t) for t in tau]
