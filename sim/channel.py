"""From paths to samples: what arrives at a receiver, and the converter. Plain NumPy twins of `sim.kernels` stand here.

A buffer that repeats through static paths is again a repeated buffer: its delays are exact phase ramps over the whole
buffer, computed once per change, and all paths of equal period and Doppler are one table. A path that moves, or whose
clocks drift, is filtered from the twofold oversampled buffer, with the delay, phase and amplitude of its geometry in
every block of 512 samples. Carriers turn by integer phase accumulators, exact at any sample index.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.compiled import kernels
from sim.fading import PathFading
from sim.interpolator import LOOP, Design, split_delay, tap_table
from sim.noise import Purpose, stream_word, unit_noise
from sim.philox import round_keys
from sim.propagation import ScenePath, Track
from testbed.units import SPEED_OF_LIGHT_MPS
from testbed.waveform.shift import delay_ramp

BLOCK = 512  # samples of constant delay; blocks begin at multiples of it
NEAREST_M = 1e-3  # a target that runs through a node: no path gain is defined at distance zero
_TURN = 1 << 64  # one turn of the phase accumulator
Rails = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Loop:
    """A table that repeats, per channel or one for all."""

    tables: Rails  # (num_rx or 1, 2, period), in sqrt(milliwatt)
    phase_step: int  # turns / 2^64 per sample
    response: NDArray[np.complex64]  # (num_rx,)
    fading: PathFading | None


@dataclass(frozen=True)
class Motion:
    """Delay, phase and amplitude of a path over time; constant but for the clocks where there is no track."""

    path: ScenePath
    wavelength_m: float
    sample_rate_hz: float
    start_samples: float  # of the transmit buffer

    def delay_at(self, index: int) -> float:
        """Delay in samples at a sample of the receiver."""
        delay = self.path.delay_samples
        if self.path.track is not None:
            out, back = _legs(self.path.track, np.array([index / self.sample_rate_hz]))
            delay = float(out[0] + back[0]) / SPEED_OF_LIGHT_MPS * self.sample_rate_hz
        return self.start_samples + delay + self.path.drift * index

    def blocks(
        self, first_block: int, count: int, design: Design
    ) -> tuple[NDArray[np.int64], Rails, NDArray[np.uint64], NDArray[np.uint64], Rails]:
        """Whole delays, taps (count, T), phases, phase steps and amplitudes of blocks, shape (count,).

        The delay is that of the block's middle. Phases are those of the path's length at the block's begin and end, so
        the carrier turns without a step from block to block.
        """
        path, count_from = self.path, first_block + np.arange(count)
        offset = _step(path.carrier_offset_hz if path.track else path.doppler_hz, self.sample_rate_hz)
        turns, gain = float(np.angle(path.gain)) / (2 * np.pi), abs(path.gain)
        if path.track is None:
            delay: NDArray[np.float64] = np.full(count, path.delay_samples)
            phase = (count_from * BLOCK).astype(np.uint64) * np.uint64(offset)  # wraps modulo one turn by design
            phase, step = phase + _to_turns(np.array(turns)), np.full(count, offset, dtype=np.uint64)
            amplitude: NDArray[np.float64] = np.full(count, gain)
        else:
            delay, phase, step, amplitude = self._on_track(path.track, first_block, count, turns, offset)
            amplitude = gain * amplitude
        middle = count_from * float(BLOCK) + BLOCK / 2
        base, taps = self._split(self.start_samples + delay + path.drift * middle, design)
        return base, taps, phase, step, amplitude.astype(np.float32)

    def _on_track(
        self, track: Track, first_block: int, count: int, turns: float, offset: int
    ) -> tuple[NDArray[np.float64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.float64]]:
        """Delays in samples, phases, phase steps, and amplitudes relative to the begin of the epoch."""
        rate_hz, compiled = self.sample_rate_hz, kernels()
        if compiled is not None:
            delay, amplitude = np.empty(count), np.empty(count)
            phase, step = np.empty(count, dtype=np.uint64), np.empty(count, dtype=np.uint64)
            ends, velocity = np.array([track.tx_m, track.rx_m, track.via_m], float), np.array(track.velocity_mps, float)
            compiled.track_blocks(
                first_block, ends, velocity, NEAREST_M, rate_hz, SPEED_OF_LIGHT_MPS, self.wavelength_m,
                turns, np.uint64(offset), delay, phase, step, amplitude,
            )  # fmt: skip
            return delay, phase, step, amplitude
        edge: NDArray[np.int64] = (first_block + np.arange(count + 1)) * BLOCK
        middle = edge[:-1].astype(np.float64) + BLOCK / 2
        out, back = _legs(track, edge / rate_hz)
        out_mid, back_mid = _legs(track, middle / rate_hz)
        (out_0, back_0), length = _legs(track, np.zeros(1)), (out + back) / self.wavelength_m
        phase = edge[:-1].astype(np.uint64) * np.uint64(offset)  # wraps modulo one turn by design
        phase = phase + _to_turns(turns + (out_0 + back_0) / self.wavelength_m - length[:-1])
        step = np.uint64(offset) + _to_turns(-np.diff(length) / BLOCK)
        delay = (out_mid + back_mid) / SPEED_OF_LIGHT_MPS * rate_hz
        return delay, phase, step, out_0 * back_0 / (out_mid * back_mid)

    @staticmethod
    def _split(delay: NDArray[np.float64], design: Design) -> tuple[NDArray[np.int64], Rails]:
        """As `split_delay`."""
        compiled = kernels()
        if compiled is None:
            return split_delay(delay, design)
        base, taps = np.empty(delay.size, dtype=np.int64), np.empty((delay.size, design.num_taps), dtype=np.float32)
        compiled.split_delays(delay, design.oversampling, tap_table(design), base, taps)
        return base, taps


@dataclass(frozen=True, eq=False)
class Moving:
    """A source heard over a path whose delay changes."""

    planes: Rails  # (2, P, width): the oversampled source, sample q at (q % P, q // P)
    period: int  # of the source; 0 for a stretch of a stream
    design: Design
    motion: Motion
    response: NDArray[np.complex64]  # (num_rx,)
    fading: PathFading | None
    origin: int = 0  # index of the first sample of `planes`


Arrival = Loop | Moving


def arrivals(
    paths: Sequence[ScenePath],
    buffers: Sequence[NDArray[np.complex128] | None],
    start_offsets: Sequence[float],
    sample_rate_hz: float,
    carrier_hz: float = SPEED_OF_LIGHT_MPS,
    epoch: int = 0,
) -> tuple[Arrival, ...]:
    """Everything that reaches a receiver while nothing is changed.

    Args:
        paths: paths to the receiver.
        buffers: per node what it repeats at its antenna, in sqrt(milliwatt), shape (n,); None when muted.
        start_offsets: per node, samples from the epoch's start to its buffer's first sample.
        sample_rate_hz: of the receiver.
        carrier_hz: of the receiver.
        epoch: in whose blocks fading paths fade.
    """
    sums: dict[tuple[int, int], NDArray[np.complex128]] = {}  # of spectra
    single: list[Arrival] = []
    planes: dict[int, Rails] = {}
    spectra: dict[int, NDArray[np.complex128]] = {}
    for path in paths:
        buffer = buffers[path.tx]
        if buffer is None:
            continue
        response = np.array(path.response, dtype=np.complex128)
        fading = None if path.fading is None else replace(path.fading, epoch=epoch)
        if path.track is not None or path.drift != 0:
            if path.tx not in planes:
                planes[path.tx] = loop_planes(buffer)
            motion = Motion(path, SPEED_OF_LIGHT_MPS / carrier_hz, sample_rate_hz, start_offsets[path.tx])
            source = (planes[path.tx], buffer.size, LOOP, motion)
            single.append(Moving(*source, response.astype(np.complex64), fading))
            continue
        if path.tx not in spectra:
            spectra[path.tx] = np.fft.fft(buffer)
        delay = start_offsets[path.tx] + path.delay_samples
        arrived = path.gain * spectra[path.tx] * delay_ramp(buffer.size, delay)
        step = _step(path.doppler_hz, sample_rate_hz)
        if fading is not None:
            single.append(Loop(_rails(np.fft.ifft(arrived))[None], step, response.astype(np.complex64), fading))
            continue
        key = (buffer.size, step)
        if key not in sums:
            sums[key] = np.zeros((response.size, buffer.size), dtype=np.complex128)
        for channel, factor in zip(sums[key], response, strict=True):  # one by one: buffers may be long
            channel += factor * arrived
    tables = (
        Loop(np.stack([_rails(np.fft.ifft(row)) for row in table]), step, np.ones(len(table), np.complex64), None)
        for (_, step), table in sums.items()
    )
    return (*tables, *single)


def loop_planes(buffer: NDArray[np.complex128]) -> Rails:
    """A repeated buffer, twofold oversampled by its DFT, as planes for `Moving`: (2, 2, period + BLOCK)."""
    n = buffer.size
    spectrum, wide = np.fft.fft(buffer), np.zeros(2 * n, dtype=np.complex128)
    positive = (n + 1) // 2  # the Nyquist bin counts as -1/2, as in `waveform.shift`
    wide[:positive], wide[n + positive :] = spectrum[:positive], spectrum[positive:]
    samples = 2 * np.fft.ifft(wide)
    planes = np.stack([_rails(samples[p::2]) for p in range(2)], axis=1)
    return np.ascontiguousarray(planes[:, :, np.arange(n + BLOCK) % n])


def render(sources: Sequence[Arrival], first: int, rails: Rails) -> None:
    """Add samples first .. first + n - 1 of every arrival to rails (num_rx, 2, n)."""
    num_rx, _, count = rails.shape
    compiled = kernels()
    for source in sources:
        size, gains = _gains(source, first, count, num_rx)
        if isinstance(source, Loop):
            for m in range(num_rx):
                table = source.tables[m if len(source.tables) > 1 else 0]
                add = add_loop if compiled is None else compiled.add_loop
                add(rails[m], first, table, np.uint64(source.phase_step), gains[m], size)
        else:
            begin = first // BLOCK
            base, taps, phase, step, amplitude = source.motion.blocks(
                begin, (first + count - 1) // BLOCK - begin + 1, source.design
            )
            base = base + source.design.oversampling * source.origin
            for m in range(num_rx):
                add = add_filtered if compiled is None else compiled.add_filtered
                add(rails[m], first, source.planes, source.period, base, taps, phase, step, amplitude, gains[m], size)


def add_loop(rails: Rails, first: int, table: Rails, step: np.uint64, gain: Rails, fading_samples: int) -> None:
    """Plain twin of `sim.kernels.add_loop`."""
    index = first + np.arange(rails.shape[1])
    x = _complex(table)[index % table.shape[1]] * _per_sample(gain, index, fading_samples)
    if step:
        x = x * _phasor(index.astype(np.uint64) * step)
    rails += _rails(x)


def add_filtered(
    rails: Rails,
    first: int,
    planes: Rails,
    period: int,
    base: NDArray[np.int64],
    taps: Rails,
    phase: NDArray[np.uint64],
    step: NDArray[np.uint64],
    amplitude: Rails,
    gain: Rails,
    fading_samples: int,
) -> None:
    """Plain twin of `sim.kernels.add_filtered`."""
    index = first + np.arange(rails.shape[1])
    block = index // BLOCK - first // BLOCK
    num_planes, lag = planes.shape[1], taps.shape[1] // 2 - 1
    source = planes[0] + 1j * planes[1]
    x = np.zeros(index.size, dtype=np.complex64)
    for k in range(taps.shape[1]):
        q = num_planes * index - base[block] - (k - lag)
        plane, place = q % num_planes, q // num_planes
        x += taps[block, k] * source[plane, place % period if period else place]
    turned = phase[block] + (index % BLOCK).astype(np.uint64) * step[block]
    rails += _rails(x * amplitude[block] * _phasor(turned) * _per_sample(gain, index, fading_samples))


def add_noise(
    rails: Rails, seed: int, node_idx: int, channel: int, purpose: Purpose, first: int, amplitude: float
) -> None:
    """Add noise of E|w|^2 = amplitude^2 at absolute indices first, first + 1, ... to rails (2, n)."""
    compiled = kernels()
    if compiled is None or first >= 1 << 63:
        noise = unit_noise(seed, node_idx, first, rails.shape[1], channel, purpose)
        rails += np.float32(amplitude) * _rails(noise)
    else:
        stream = stream_word(node_idx, channel)
        compiled.add_noise(rails, round_keys(seed), stream, int(purpose), first, amplitude)


def warm_up() -> None:
    """Load the compiled kernels now, not at the first sample: half a second, or several at the very first use."""
    path = ScenePath(0, 0, "direct", None, 1.0, 0.0, 0.0)
    drifting = replace(path, drift=1e-9)
    rails = np.zeros((1, 2, 16), dtype=np.float32)
    moving = replace(path, track=Track((0.0, 0.0), (0.0, 0.0), (1.0, 0.0), (1.0, 0.0)))
    render(arrivals([path, drifting, moving], [np.ones(16, dtype=np.complex128)], [0.0], 1.0), 0, rails)
    add_noise(rails[0], 0, 0, 0, Purpose.RECEIVER, 0, 1.0)
    convert(rails[0], 1.0, 2048)


def convert(
    rails: Rails, amplitude: float, full_scale: int, out: NDArray[np.int16] | None = None
) -> tuple[NDArray[np.int16], int]:
    """Analogue-to-digital conversion with rounding and saturation.

    Args:
        rails: samples in sqrt(milliwatt), shape (2, n).
        amplitude: sqrt(milliwatt) at full scale.
        full_scale: code at full scale; codes reach from -(full_scale - 1) to full_scale - 1.
        out: where the codes go, (n, 2) and contiguous; a new array if not given.

    Returns:
        Codes (n, 2) int16, and the number of samples with a saturated rail.
    """
    scale, largest = np.float32(full_scale / amplitude), np.float32(full_scale - 1)
    codes = np.empty((rails.shape[1], 2), dtype=np.int16) if out is None else out
    compiled = kernels()
    if compiled is not None:
        return codes, int(compiled.to_codes(rails, scale, largest, codes.view(np.int32)[:, 0]))
    np.rint(np.clip(rails.T * scale, -largest, largest), out=codes, casting="unsafe")
    return codes, int(np.count_nonzero((np.abs(codes) >= largest).any(axis=1)))


def _gains(source: Arrival, first: int, count: int, num_rx: int) -> tuple[int, Rails]:
    """Samples per fading block (0: one), and gains (num_rx, num_blocks, 2) with the channels' response."""
    size, drawn = 0, np.ones((num_rx, 1), dtype=np.complex64)
    if source.fading is not None:
        size = source.fading.block_samples
        begin = first // size
        drawn = source.fading.gains(begin, (first + count - 1) // size - begin + 1, num_rx)
    gains = np.ascontiguousarray(drawn * source.response[:, None])
    return size, gains.view(np.float32).reshape(num_rx, -1, 2)


def _legs(track: Track, time_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lengths from the transmitter to the middle of the path and on to the receiver, in metres, none below 1 mm."""
    via = np.array(track.via_m) + time_s[:, None] * np.array(track.velocity_mps)
    return (
        np.maximum(np.linalg.norm(via - np.array(track.tx_m), axis=1), NEAREST_M),
        np.maximum(np.linalg.norm(via - np.array(track.rx_m), axis=1), NEAREST_M),
    )


def _step(frequency_hz: float, sample_rate_hz: float) -> int:
    """Turns / 2^64 per sample."""
    return round(frequency_hz / sample_rate_hz * _TURN) % _TURN


def _to_turns(turns: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Turns modulo one to the phase accumulator's units; 53 bits, 1e-16 of a turn."""
    return ((turns % 1.0) * 2.0**53).astype(np.uint64) << np.uint64(11)


def _phasor(phase: NDArray[np.uint64]) -> NDArray[np.complex64]:
    return np.exp(2j * np.pi / _TURN * phase.astype(np.float64)).astype(np.complex64)


def _per_sample(gain: Rails, index: NDArray[np.int64], fading_samples: int) -> NDArray[np.complex64]:
    row = index // fading_samples - index[0] // fading_samples if fading_samples else np.zeros_like(index)
    return _complex(gain.T)[row]


def _complex(rails: Rails) -> NDArray[np.complex64]:
    return rails[0] + np.complex64(1j) * rails[1]


def _rails(samples: NDArray[np.complexfloating]) -> Rails:
    return np.stack([samples.real, samples.imag]).astype(np.float32)
