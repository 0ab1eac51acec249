"""Hot loops, compiled by Numba. Each has a plain NumPy twin; both do the same operations in the same order.

Loops over blocks of some hundred samples stay in the first-level cache, and their bodies have no branches, so that the
compiler makes vector instructions of them. Fused multiply-add stays off: results are the same on every machine.
Nothing here checks its arguments.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from sim.noise import COS, LN_2, LOG2, SIN
from sim.philox import MULTIPLIERS

BLOCK_PAIRS = 256

_M0, _M1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
# as scalars: constants to the compiler, where an array would be loads
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (np.float32(c) for c in LOG2)
_S0, _S1, _S2, _S3 = (np.float32(c) for c in SIN)
_C0, _C1, _C2, _C3 = (np.float32(c) for c in COS)


@numba.njit(cache=True, nogil=True)
def _words(keys, stream, purpose, first, words):  # type: ignore[no-untyped-def]
    """Words (4, n) of counters first, first + 1, ...; twin of `sim.philox.indexed_words`."""
    for i in range(words.shape[1]):
        index = first + np.uint64(i)
        c0, c1, c2, c3 = index & _LOW, index >> _HALF, stream, purpose
        for r in range(10):
            # the masks change nothing, but let the compiler see products of 32 bits by 32: sooner done
            product0, product1 = (c0 & _LOW) * _M0, (c2 & _LOW) * _M1
            c0, c1 = (product1 >> _HALF) ^ c1 ^ keys[r, 0], product1 & _LOW
            c2, c3 = (product0 >> _HALF) ^ c3 ^ keys[r, 1], product0 & _LOW
        words[0, i] = np.uint32(c0)
        words[1, i] = np.uint32(c1)
        words[2, i] = np.uint32(c2)
        words[3, i] = np.uint32(c3)


@numba.njit(cache=True, nogil=True)
def _gaussian(radius_words, turn_words, re, im):  # type: ignore[no-untyped-def]
    """Box-Muller transform; twin of `sim.noise.magnitude` and `sim.noise.turn`."""
    for i in range(re.size):
        bits = np.float32(np.float32(radius_words[i]) + np.float32(0.5)).view(np.int32)
        exponent = np.float32(np.int32((bits >> np.int32(23)) - np.int32(127)))
        t = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32) - np.float32(1.5)
        log2 = ((((((((_L8 * t + _L7) * t + _L6) * t + _L5) * t + _L4) * t + _L3) * t) + _L2) * t + _L1) * t + _L0
        rest = (np.float32(32.0) - exponent) - log2
        rest = rest if rest > np.float32(0.0) else np.float32(0.0)
        radius = np.sqrt(rest * LN_2)

        shifted = np.uint32(turn_words[i] + np.uint32(0x20000000))
        quadrant = np.uint32(shifted >> np.uint32(30))
        fraction = np.int32(np.int32(shifted & np.uint32(0x3FFFFFFF)) - np.int32(0x20000000))
        x = np.float32(fraction) * np.float32(2.0**-32)
        square = x * x
        sin = (((_S3 * square + _S2) * square + _S1) * square + _S0) * x
        cos = ((_C3 * square + _C2) * square + _C1) * square + _C0
        odd = quadrant & np.uint32(1)
        swapped_sin = cos if odd else sin
        swapped_cos = sin if odd else cos
        cos = -swapped_cos if (quadrant == np.uint32(1) or quadrant == np.uint32(2)) else swapped_cos
        sin = -swapped_sin if quadrant >= np.uint32(2) else swapped_sin
        re[i] = radius * cos
        im[i] = radius * sin


@numba.njit(cache=True, nogil=True)
def fill_noise(keys: NDArray[np.uint64], stream: int, purpose: int, first: int, rails: NDArray[np.float32]) -> None:
    """Unit circular noise of counters first, first + 1, ..., two samples each, as rails of shape (4 counters,)."""
    words = np.empty((4, BLOCK_PAIRS), dtype=np.uint32)
    planes = np.empty((4, BLOCK_PAIRS), dtype=np.float32)
    total = rails.size // 4
    for at in range(0, total, BLOCK_PAIRS):
        size = min(BLOCK_PAIRS, total - at)
        _words(keys, np.uint64(stream), np.uint64(purpose), np.uint64(first) + np.uint64(at), words)
        _gaussian(words[0], words[1], planes[0], planes[1])
        _gaussian(words[2], words[3], planes[2], planes[3])
        for i in range(size):
            j = 4 * (at + i)
            rails[j] = planes[0, i]
            rails[j + 1] = planes[1, i]
            rails[j + 2] = planes[2, i]
            rails[j + 3] = planes[3, i]


@numba.njit(cache=True, nogil=True)
def _weave(even, odd, both):  # type: ignore[no-untyped-def]
    for i in range(even.size):
        both[2 * i] = even[i]
        both[2 * i + 1] = odd[i]


@numba.njit(cache=True, nogil=True)
def _add_times(rail, x, scale):  # type: ignore[no-untyped-def]
    for i in range(rail.size):
        rail[i] += scale * x[i]


BLOCK = 512  # samples; a path's delay is constant within one, blocks begin at multiples of it


@numba.njit(cache=True, nogil=True)
def add_noise(
    rails: NDArray[np.float32],
    keys: NDArray[np.uint64],
    stream: int,
    purpose: int,
    first: int,
    amplitude: float,
) -> None:
    """Add circular noise of samples first, first + 1, ... to rails (2, n); first + n below 2^63."""
    words = np.empty((4, BLOCK_PAIRS), dtype=np.uint32)
    planes = np.empty((4, BLOCK_PAIRS), dtype=np.float32)
    re, im = np.empty(2 * BLOCK_PAIRS, dtype=np.float32), np.empty(2 * BLOCK_PAIRS, dtype=np.float32)
    total, scale = rails.shape[1], np.float32(amplitude)
    at, skip = 0, first % 2
    while at < total:
        _words(keys, np.uint64(stream), np.uint64(purpose), np.uint64((first + at) // 2), words)
        _gaussian(words[0], words[1], planes[0], planes[1])
        _gaussian(words[2], words[3], planes[2], planes[3])
        _weave(planes[0], planes[2], re)
        _weave(planes[1], planes[3], im)
        size = min(2 * BLOCK_PAIRS - skip, total - at)
        _add_times(rails[0, at : at + size], re[skip : skip + size], scale)
        _add_times(rails[1, at : at + size], im[skip : skip + size], scale)
        at += size
        skip = 0


@numba.njit(cache=True, nogil=True)
def _leg(end, via, velocity, time_s, nearest):  # type: ignore[no-untyped-def]
    square = 0.0
    for d in range(end.size):
        away = via[d] + time_s * velocity[d] - end[d]
        square += away * away
    return max(np.sqrt(square), nearest)


@numba.njit(cache=True, nogil=True)
def _to_turns(turns):  # type: ignore[no-untyped-def]
    return np.uint64((turns % 1.0) * 2.0**53) << np.uint64(11)


@numba.njit(cache=True, nogil=True)
def track_blocks(first, ends, velocity, nearest, rate, light, wavelength, turns, offset, delay, phase, step, amplitude):  # type: ignore[no-untyped-def]
    """Delays, phases, phase steps and amplitudes of blocks on a track; twin in `sim.channel.Motion`.

    first: number of the first block; ends (3, D) float64: transmitter, receiver, and the middle of the path at time 0;
    velocity (D,); turns: phase at time 0; offset: turns / 2^64 per sample besides; delay (n,) float64 in samples, phase
    and step (n,) uint64, amplitude (n,) float64 relative to time 0: results.
    """
    tx, rx, via = ends[0], ends[1], ends[2]
    out, back = _leg(tx, via, velocity, 0.0, nearest), _leg(rx, via, velocity, 0.0, nearest)
    start, product = (out + back) / wavelength, out * back
    edge_s = first * BLOCK / rate
    now = (_leg(tx, via, velocity, edge_s, nearest) + _leg(rx, via, velocity, edge_s, nearest)) / wavelength
    for b in range(delay.size):
        edge = (first + b) * BLOCK
        edge_s, middle_s = (edge + BLOCK) / rate, (edge + BLOCK / 2) / rate
        after = (_leg(tx, via, velocity, edge_s, nearest) + _leg(rx, via, velocity, edge_s, nearest)) / wavelength
        out, back = _leg(tx, via, velocity, middle_s, nearest), _leg(rx, via, velocity, middle_s, nearest)
        phase[b] = np.uint64(edge) * offset + _to_turns(turns + start - now)
        step[b] = offset + _to_turns(-(after - now) / BLOCK)
        amplitude[b] = product / (out * back)
        delay[b] = (out + back) / light * rate
        now = after


@numba.njit(cache=True, nogil=True)
def split_delays(delay, oversampling, table, base, taps):  # type: ignore[no-untyped-def]
    """Delays (n,) to whole oversampled samples (n,) and taps (n, T); twin of `sim.interpolator.split_delay`."""
    phases = table.shape[0] - 1
    for b in range(delay.size):
        oversampled = delay[b] * oversampling
        whole = np.floor(oversampled)
        place = (oversampled - whole) * phases
        row = min(np.int64(place), phases - 1)
        rest = place - row
        base[b] = np.int64(whole)
        for k in range(table.shape[1]):
            taps[b, k] = np.float32((1.0 - rest) * table[row, k] + rest * table[row + 1, k])


@numba.njit(cache=True, nogil=True)
def _turn(phase, step, amplitude, cos, sin, size):  # type: ignore[no-untyped-def]
    """Turn: amplitude * exp(2j pi (phase + i step) / 2^64), i = 0 .. size - 1; from the exact phase of every sample."""
    for i in range(size):
        word = np.uint32((phase + np.uint64(i) * step) >> np.uint64(32))
        shifted = np.uint32(word + np.uint32(0x20000000))
        quadrant = np.uint32(shifted >> np.uint32(30))
        fraction = np.int32(np.int32(shifted & np.uint32(0x3FFFFFFF)) - np.int32(0x20000000))
        x = np.float32(fraction) * np.float32(2.0**-32)
        square = x * x
        s = (((_S3 * square + _S2) * square + _S1) * square + _S0) * x
        c = ((_C3 * square + _C2) * square + _C1) * square + _C0
        odd = quadrant & np.uint32(1)
        swapped_s = c if odd else s
        swapped_c = s if odd else c
        cos[i] = amplitude * (-swapped_c if (quadrant == np.uint32(1) or quadrant == np.uint32(2)) else swapped_c)
        sin[i] = amplitude * (-swapped_s if quadrant >= np.uint32(2) else swapped_s)


@numba.njit(cache=True, nogil=True)
def _rotation(phase, step, amplitude, cos, sin):  # type: ignore[no-untyped-def]
    """As `_turn` for a whole block, three times sooner: 32 samples from their phases, then twice as many, 4 times.

    Always a block from its begin, so that a sample's rotation does not depend on how the stream is cut.
    """
    _turn(phase, step, amplitude, cos, sin, 32)
    c, s = np.empty(1, dtype=np.float32), np.empty(1, dtype=np.float32)
    have = 32
    while have < BLOCK:
        _turn(np.uint64(have) * step, step, np.float32(1.0), c, s, 1)
        c_on, s_on = c[0], s[0]
        cos_to, sin_to = cos[have : 2 * have], sin[have : 2 * have]
        for i in range(have):
            cos_to[i] = cos[i] * c_on - sin[i] * s_on
            sin_to[i] = cos[i] * s_on + sin[i] * c_on
        have *= 2


@numba.njit(cache=True, nogil=True)
def _add_turned(re, im, x_re, x_im, cos, sin, g_re, g_im):  # type: ignore[no-untyped-def]
    for i in range(re.size):
        c = cos[i] * g_re - sin[i] * g_im
        s = cos[i] * g_im + sin[i] * g_re
        re[i] += x_re[i] * c - x_im[i] * s
        im[i] += x_re[i] * s + x_im[i] * c


@numba.njit(cache=True, nogil=True)
def _add_scaled(re, im, x_re, x_im, g_re, g_im):  # type: ignore[no-untyped-def]
    for i in range(re.size):
        re[i] += x_re[i] * g_re - x_im[i] * g_im
        im[i] += x_re[i] * g_im + x_im[i] * g_re


@numba.njit(cache=True, nogil=True)
def _filter4(out, plane, first, taps, k, size):  # type: ignore[no-untyped-def]
    """Set (k = 0) or add to `out` four taps on stretches of a rail's planes (P, width), at (plane, index) first[k]."""
    h0, h1, h2, h3 = taps[k], taps[k + 1], taps[k + 2], taps[k + 3]
    a = plane[first[k, 0], first[k, 1] : first[k, 1] + size]
    b = plane[first[k + 1, 0], first[k + 1, 1] : first[k + 1, 1] + size]
    c = plane[first[k + 2, 0], first[k + 2, 1] : first[k + 2, 1] + size]
    d = plane[first[k + 3, 0], first[k + 3, 1] : first[k + 3, 1] + size]
    if k == 0:
        for i in range(size):
            out[i] = h0 * a[i] + h1 * b[i] + h2 * c[i] + h3 * d[i]
    else:
        for i in range(size):
            out[i] += h0 * a[i] + h1 * b[i] + h2 * c[i] + h3 * d[i]


@numba.njit(cache=True, nogil=True)
def add_loop(rails, first, table, step, gain, fading_samples):  # type: ignore[no-untyped-def]
    """Add a repeated table, turned by `step` per sample and scaled per fading block; twin in `sim.channel`.

    rails (2, n) float32; first: index of the first sample; table (2, period) float32; step: turns / 2^64 per sample;
    gain (num_blocks, 2) float32, one row per fading block from the first sample's on; fading_samples: 0 for one.
    """
    period, total = table.shape[1], rails.shape[1]
    cos, sin = np.empty(BLOCK, dtype=np.float32), np.empty(BLOCK, dtype=np.float32)
    turned = np.int64(-1)  # the block whose rotation is at hand
    at = 0
    while at < total:
        index = first + at
        place, within = index % period, index % BLOCK
        size = min(BLOCK - within, total - at, period - place)
        row = 0
        if fading_samples:
            row = index // fading_samples - first // fading_samples
            size = min(size, fading_samples - index % fading_samples)
        re, im = rails[0, at : at + size], rails[1, at : at + size]
        x_re, x_im = table[0, place : place + size], table[1, place : place + size]
        if step == np.uint64(0):
            _add_scaled(re, im, x_re, x_im, gain[row, 0], gain[row, 1])
        else:
            if turned != index - within:
                turned = index - within
                _rotation(np.uint64(turned) * step, step, np.float32(1.0), cos, sin)
            _add_turned(re, im, x_re, x_im, cos[within:], sin[within:], gain[row, 0], gain[row, 1])
        at += size


@numba.njit(cache=True, nogil=True)
def add_filtered(rails, first, planes, period, base, taps, phase, step, amplitude, gain, fading_samples):  # type: ignore[no-untyped-def]
    """Add a source through delays, phases and amplitudes that change from block to block; twin in `sim.channel`.

    rails (2, n) float32; first: index of the first sample; planes (2, P, width): the source, oversampled P times, q at
    (q % P, q // P), wrapped for BLOCK samples beyond `period`; period 0: no wrap, indices as they are; base
    (num_blocks,): whole delay in oversampled samples; taps (num_blocks, T); phase, step (num_blocks,): turns / 2^64 at
    the block's begin and per sample; amplitude (num_blocks,); gain and fading_samples as in `add_loop`. Blocks begin at
    multiples of BLOCK, the first holds `first`.
    """
    num_planes, num_taps, total = planes.shape[1], taps.shape[1], rails.shape[1]
    lag = num_taps // 2 - 1
    x_re, x_im = np.empty(BLOCK, dtype=np.float32), np.empty(BLOCK, dtype=np.float32)
    cos, sin = np.empty(BLOCK, dtype=np.float32), np.empty(BLOCK, dtype=np.float32)
    begin = np.empty((num_taps, 2), dtype=np.int64)
    turned = np.int64(-1)  # the block whose rotation is at hand
    at = 0
    while at < total:
        index = first + at
        block = index // BLOCK - first // BLOCK
        within = index % BLOCK
        size = min(BLOCK - within, total - at)
        row = 0
        if fading_samples:
            row = index // fading_samples - first // fading_samples
            size = min(size, fading_samples - index % fading_samples)
        q = num_planes * index - base[block] + lag
        plane = q % num_planes
        place = (q - plane) // num_planes
        place = place % period if period else place
        for k in range(num_taps):  # one oversampled sample earlier each
            begin[k, 0] = plane
            begin[k, 1] = place
            plane -= 1
            if plane < 0:
                plane = num_planes - 1
                place = period - 1 if period and place == 0 else place - 1
        for k in range(0, num_taps, 4):
            _filter4(x_re, planes[0], begin, taps[block], k, size)
            _filter4(x_im, planes[1], begin, taps[block], k, size)
        if turned != block:
            turned = block
            _rotation(phase[block], step[block], amplitude[block], cos, sin)
        re, im = rails[0, at : at + size], rails[1, at : at + size]
        _add_turned(re, im, x_re, x_im, cos[within:], sin[within:], gain[row, 0], gain[row, 1])
        at += size


_MAGIC = np.float32(3 << 22)  # adding it leaves no room for a fraction: rounds to even, and is undone exactly


@numba.njit(cache=True, nogil=True)
def _round(rail, scale, largest, codes):  # type: ignore[no-untyped-def]
    """One rail to whole codes, rounded half to even and saturated."""
    for i in range(rail.size):
        value = rail[i] * scale
        value = value if value < largest else largest
        value = value if value > -largest else -largest
        codes[i] = np.int32((value + _MAGIC) - _MAGIC)


@numba.njit(cache=True, nogil=True)
def to_codes(rails, scale, largest, pairs):  # type: ignore[no-untyped-def]
    """Rails (2, n) float32 to codes, rounded and saturated; returns samples with a saturated rail.

    pairs (n,) int32: a sample's two little-endian int16, in-phase first, written at once.
    """
    limit = np.int32(largest)
    clip_count = np.int64(0)
    x, y = np.empty(BLOCK, dtype=np.int32), np.empty(BLOCK, dtype=np.int32)
    for at in range(0, rails.shape[1], BLOCK):
        size = min(BLOCK, rails.shape[1] - at)
        to = pairs[at : at + size]
        _round(rails[0, at : at + size], scale, largest, x)
        _round(rails[1, at : at + size], scale, largest, y)
        for i in range(size):
            to[i] = np.int32((x[i] & np.int32(0xFFFF)) | (y[i] << np.int32(16)))
        saturated = np.int32(0)
        for i in range(size):
            saturated += np.int32(max(abs(x[i]), abs(y[i])) >= limit)
        clip_count += saturated
    return clip_count
