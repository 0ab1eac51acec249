"""The channel of a moving path as one would write it in NumPy: naively, and tidily. Rivals of `sim.channel`.

Both do what the kernel does: the delay of every block of 512 samples from the geometry of its middle, the carrier's
phase from that of its edges, 12 taps per sample, noise of full precision, rounding and saturation. Neither repeats its
noise for another cut of the stream, which the kernel does.

naive   complex128; per block an `np.convolve` with 12 taps at the sample rate, per path an `np.exp`; the default
        generator
tidy    complex64 in place, in stretches that stay in the cache; 12 taps on the twofold oversampled buffer, tap by tap
        over all blocks of equal whole delay at once; carriers as an outer product of short tables; NumPy's fastest
        noise

At the sample rate 12 taps are right over 60 % of it only: the naive one does a little less than the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.interpolator import LOOP, Design, split_delay, tap_index
from sim.propagation import ScenePath
from testbed.units import SPEED_OF_LIGHT_MPS

BLOCK = 512
NAIVE = Design(num_taps=12, band=0.3, oversampling=1)
TIDY_STRETCH = 64  # blocks at a time; 16 and 128 are slower
FINE = 64  # samples of the finer table of a carrier


@dataclass(frozen=True)
class Receiver:
    """Moving paths to one receiver, from buffers that repeat."""

    paths: Sequence[ScenePath]
    buffers: Sequence[NDArray[np.complex128]]
    sample_rate_hz: float
    carrier_hz: float
    noise: float  # sqrt(E|w|^2)
    full_scale: float  # amplitude at code 2048


def geometry(
    receiver: Receiver, path: ScenePath, first: int, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of `count` blocks: delay in samples, phase in turns at the begin, turns per sample, amplitude."""
    assert path.track is not None
    edges = (first + np.arange(count + 1)) * BLOCK / receiver.sample_rate_hz
    middles = (edges[:-1] + edges[1:]) / 2
    out, back = _legs(path, np.concatenate([np.zeros(1), edges, middles]))
    length = out + back
    turns = (length[0] - length[1 : count + 2]) * (receiver.carrier_hz / SPEED_OF_LIGHT_MPS)
    amplitude = abs(path.gain) * out[0] * back[0] / (out * back)[count + 2 :]
    delay = length[count + 2 :] * (receiver.sample_rate_hz / SPEED_OF_LIGHT_MPS)
    return delay, turns[:-1] + np.angle(path.gain) / (2 * np.pi), np.diff(turns) / BLOCK, amplitude


def _legs(path: ScenePath, time_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert path.track is not None
    x, y = (p + v * time_s for p, v in zip(path.track.via_m, path.track.velocity_mps, strict=True))
    ends = (path.track.tx_m, path.track.rx_m)
    out, back = (np.sqrt((x - end[0]) ** 2 + (y - end[1]) ** 2) for end in ends)
    return out, back


class Naive:
    """A loop over paths and blocks."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.rng = np.random.default_rng(1)

    def arriving(self, first: int, count: int) -> NDArray[np.complex128]:
        """Samples first .. first + count - 1 without noise; both multiples of a block."""
        total = np.zeros(count, dtype=np.complex128)
        reach = tap_index(NAIVE)
        for path in self.receiver.paths:
            buffer = self.receiver.buffers[path.tx]
            delay, phase, step, amplitude = geometry(self.receiver, path, first // BLOCK, count // BLOCK)
            whole, taps = split_delay(delay, NAIVE)
            x = np.empty((count // BLOCK, BLOCK), dtype=np.complex128)
            for b in range(count // BLOCK):
                begin = first + b * BLOCK - whole[b]
                heard = np.arange(begin - reach[-1], begin + BLOCK - reach[0]) % buffer.size
                x[b] = np.convolve(buffer[heard], taps[b], mode="valid")
            turns = phase[:, None] + step[:, None] * np.arange(BLOCK)
            total += (amplitude[:, None] * x * np.exp(2j * np.pi * turns)).reshape(-1)
        return total

    def receive(self, first: int, count: int) -> NDArray[np.int16]:
        """Codes (count, 2)."""
        arriving = self.arriving(first, count)
        noise = self.rng.standard_normal(count) + 1j * self.rng.standard_normal(count)
        samples = (arriving + self.receiver.noise / np.sqrt(2) * noise) * (2048 / self.receiver.full_scale)
        rails = np.stack([samples.real, samples.imag], axis=1)
        return np.clip(np.round(rails), -2047, 2047).astype(np.int16)


class Tidy:
    """All blocks of a stretch at once, nothing allocated that is as long as the stretch."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.rng = np.random.Generator(np.random.SFC64(1))
        size = TIDY_STRETCH * BLOCK
        self.planes = [_planes(buffer, size) for buffer in receiver.buffers]
        self.total, self.x, self.turned = (np.empty((TIDY_STRETCH, BLOCK), dtype=np.complex64) for _ in range(3))
        self.product = np.empty((TIDY_STRETCH, 2 * BLOCK), dtype=np.float32)
        self.noise = np.empty((TIDY_STRETCH, 2 * BLOCK), dtype=np.float32)

    def receive(self, first: int, count: int, noise: bool = True) -> NDArray[np.int16]:
        """Codes (count, 2)."""
        codes = np.empty((count, 2), dtype=np.int16)
        blocks = count // BLOCK
        tables = [self._tables(path, first // BLOCK, blocks) for path in self.receiver.paths]
        for at in range(0, blocks, TIDY_STRETCH):
            upto = min(at + TIDY_STRETCH, blocks)
            samples = self._stretch(tables, first // BLOCK, at, upto)
            if noise:
                fresh = self.noise[: upto - at]
                self.rng.standard_normal(out=fresh, dtype=np.float32)
                fresh *= np.float32(self.receiver.noise / np.sqrt(2))
                samples += fresh
            samples *= np.float32(2048 / self.receiver.full_scale)
            np.rint(samples, out=samples)
            np.clip(samples, -2047, 2047, out=samples)
            codes[at * BLOCK : upto * BLOCK].reshape(upto - at, 2 * BLOCK)[...] = samples
        return codes

    def arriving(self, first: int, count: int) -> NDArray[np.complex64]:
        """Samples without noise and conversion."""
        blocks = count // BLOCK
        tables = [self._tables(path, first // BLOCK, blocks) for path in self.receiver.paths]
        stretches = [(at, min(at + TIDY_STRETCH, blocks)) for at in range(0, blocks, TIDY_STRETCH)]
        parts = [self._stretch(tables, first // BLOCK, at, upto).reshape(-1).copy() for at, upto in stretches]
        return np.concatenate(parts).view(np.complex64)

    def _tables(self, path: ScenePath, first: int, blocks: int) -> tuple[NDArray, ...]:
        """Per block: whole delay, taps, and the carrier's coarse and fine table."""
        delay, phase, step, amplitude = geometry(self.receiver, path, first, blocks)
        whole, taps = split_delay(delay, LOOP)
        coarse_turns = phase[:, None] + step[:, None] * np.arange(0, BLOCK, FINE)
        coarse = amplitude[:, None] * np.exp(2j * np.pi * coarse_turns)
        fine = np.exp(2j * np.pi * step[:, None] * np.arange(FINE))
        return whole, taps, coarse.astype(np.complex64), fine.astype(np.complex64)

    def _stretch(self, tables: Sequence[tuple[NDArray, ...]], first: int, at: int, upto: int) -> NDArray[np.float32]:
        """What arrives in blocks at .. upto - 1, as rows of in-phase and quadrature samples in turn."""
        total = self.total[: upto - at]
        total[...] = 0
        for path, (whole, taps, coarse, fine) in zip(self.receiver.paths, tables, strict=True):
            x = self.x[: upto - at]
            self._filter(path.tx, whole, taps, first, at, upto, x.view(np.float32))
            turned = self.turned[: upto - at]
            outer = turned.reshape(upto - at, BLOCK // FINE, FINE)
            np.multiply(coarse[at:upto, :, None], fine[at:upto, None, :], out=outer)
            x *= turned
            total += x
        return total.view(np.float32)

    def _filter(
        self, tx: int, whole: NDArray, taps: NDArray, first: int, at: int, upto: int, out: NDArray[np.float32]
    ) -> None:
        """Taps one after the other over runs of blocks of equal whole delay."""
        planes, period = self.planes[tx], self.receiver.buffers[tx].size
        reach = tap_index(LOOP)
        b = at
        while b < upto:
            end = b + int(np.argmin(np.append(whole[b:upto] == whole[b], False)))
            rows, product = out[b - at : end - at], self.product[: end - b]
            for k, h in enumerate(taps[b:end].T):
                place, plane = divmod(2 * (first + b) * BLOCK - int(whole[b]) - int(reach[k]), 2)
                begin = place % period
                stretch = planes[plane, begin : begin + (end - b) * BLOCK].view(np.float32).reshape(end - b, -1)
                if k == 0:
                    np.multiply(stretch, h[:, None], out=rows)
                else:
                    np.multiply(stretch, h[:, None], out=product)
                    rows += product
            b = end


def _planes(buffer: NDArray[np.complex128], beyond: int) -> NDArray[np.complex64]:
    """Even and odd samples of the twofold oversampled buffer, going on for `beyond` samples: (2, period + beyond)."""
    n = buffer.size
    spectrum = np.fft.fft(buffer)
    half = np.fft.ifft(spectrum * np.exp(1j * np.pi * np.fft.fftfreq(n)))
    at = np.arange(n + beyond) % n
    return np.stack([buffer[at], half[at]]).astype(np.complex64)
