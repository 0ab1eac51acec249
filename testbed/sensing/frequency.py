"""Clocks: how far a transmitter's carrier and sample clock are off a receiver's, and a capture corrected for it.

A node repeats a frame x of N samples. Receiver sample k holds, of the node's frames (other nodes and noise beside it),

    y[k] = A x((1 + eps) k - tau) exp(2j pi nu k),      k = n N + r: frame n, sample r

eps is the sample clock of the transmitter over that of the receiver, less 1; nu its carrier less that of the receiver
in cycles per sample. One crystal gives nu = eps f_c / f_s, but synthesisers have steps and targets move, so both are
free. Within a frame a receiver sees a delay tau_n = tau - eps (n + 1/2) N and a phase 2 pi nu (n + 1/2) N: what a frame
says of them is its product with the frame's column and with the derivative of that,

    a_n = x_n^H y_n / ||x||^2 ~ A exp(j w n) + noise,     c_n = x'_n^H y_n / ||x'||^2 ~ a_n dtau_n + noise

(x' is taken off x: about the middle of the band phase and delay do not disturb each other). Three steps:

1. search: products of whole frames at every lag and every half cycle per frame within +-`MAX_OFFSET` of the carrier,
   their squares added over some frames. This tells the whole cycles per frame, which phases from frame to frame cannot.
   Nodes are found the clearest first; one that hides another is fitted and taken off.
2. slopes: the maximum of the periodogram of a_n (maximum likelihood, unambiguous over +-1/2 cycle per frame) and the
   straight line through dtau_n, on a few frames, then on twice as many, and so on: what was found on half the capture
   keeps the whole of it within half a cycle and half a sample. The first guess of eps is one crystal's.
3. bounds: with M samples at INR rho and an rms bandwidth beta in cycles per sample

       var(2 pi nu) >= 6 / (rho M^3),     var(eps) >= 6 / (rho (2 pi beta)^2 M^3)

   which the estimates reach to 1 / F^2 (F frames). Standard errors come from the scatter about the fitted lines.

`corrected` derotates and resamples a capture, so that it is as if taken on the transmitter's clock.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from testbed.errors import SyncError
from testbed.measurement import ClockMeasurement, Estimate
from testbed.sensing.channel import PathFit, heard_columns
from testbed.sensing.resample import derotate, resample
from testbed.sensing.sync import MIN_PEAK_SIGMA, Sync
from testbed.waveform.numerology import Numerology
from testbed.waveform.shift import cyclic_shift

MAX_OFFSET = 60e-6  # relative: two crystals of +-25 ppm each, and some room
MIN_FRAMES = 8  # fewer do not tell a drift from noise
WARN_STDERRS = 5.0
_SEARCH_SAMPLES, _MAX_SEARCH_FRAMES = 10_240, 16
_BLOCK_FRAMES = 256  # at a time in double precision
_PASSES = 3  # at every length; each squares the error of the one before
_PADDING = 4  # of the periodogram
_SLOW_BINS = slice(2, 10)  # of a residual's spectrum, on either side


@dataclass(frozen=True)
class ClockOffset:
    """Of a transmitter against a receiver."""

    nu: float  # carrier, cycles per sample of the receiver
    nu_stderr: float
    eps: float  # sample clock, relative
    eps_stderr: float
    num_frames: int

    def cfo_hz(self, sample_rate_hz: float) -> Estimate:
        """Carrier of the transmitter less that of the receiver."""
        return Estimate(value=self.nu * sample_rate_hz, stderr=self.nu_stderr * sample_rate_hz, count=self.num_frames)

    @property
    def clock_ppm(self) -> Estimate:
        """Sample clock, likewise."""
        return Estimate(value=self.eps * 1e6, stderr=self.eps_stderr * 1e6, count=self.num_frames)


def find_clock(
    samples: NDArray[np.complexfloating],
    frames: NDArray[np.complex128],
    node: int,
    carrier_cycles: float,
    *,
    name: str = "receiver",
    names: Sequence[str] | None = None,
) -> ClockOffset:
    """The clock of a transmitter as a receiver sees it.

    Args:
        samples: one channel of a capture, shape (n,).
        frames: what every node sends, shape (num_nodes, frame_len); zero rows are silent nodes.
        node: whose clock.
        carrier_cycles: carrier over sample rate: cycles of the carrier per sample.
        name: of the receiver, for messages.
        names: of the nodes, for messages.

    Raises:
        SyncError: too few frames, or the node is silent or not heard.
    """
    frame_len = frames.shape[1]
    num_frames = samples.size // frame_len
    called = names[node] if names else f"node {node}"
    if num_frames < MIN_FRAMES:
        raise SyncError(
            f"{name}: {num_frames} frames are too few to tell its clock from that of {called}; capture {MIN_FRAMES}"
        )
    if not np.any(frames[node] != 0):
        raise SyncError(f"{name}: {called}, whose clock it follows, is silent; give it power")
    rest = samples[: num_frames * frame_len].reshape(num_frames, frame_len)
    left = [int(row) for row in np.flatnonzero(np.any(frames != 0, axis=1))]
    while True:
        found = _search(rest, frames, left, carrier_cycles)
        best = max(left, key=lambda row: found[row].sigma)
        if found[best].sigma < MIN_PEAK_SIGMA:
            raise SyncError(
                f"{name}: {called}, whose clock it follows, is not heard within +-{MAX_OFFSET * 1e6:.0f} ppm (peak "
                f"{found[node].sigma:.1f} sigma, need {MIN_PEAK_SIGMA:g}); raise its power or rx_gain_db, or check the "
                f"antenna"
            )
        state, fit = _track(rest, frames[best], found[best], carrier_cycles)
        if best == node:
            return _offset(state.nu, state.eps, fit, frame_len)
        # a stronger one hides it
        rest = rest - _arriving(frames[best], state, fit.amplitude, num_frames)
        left.remove(best)


def corrected(samples: NDArray[np.complexfloating], offset: ClockOffset) -> NDArray[np.complex64]:
    """The capture as if the receiver had run on the transmitter's clock; a little shorter where clocks drift apart."""
    return resample(derotate(samples, offset.nu), offset.eps)


@dataclass(frozen=True)
class Slopes:
    """Straight lines through phases and delays of frames, n counted from the middle of them."""

    amplitude: complex  # at n = 0
    omega: float  # radian per frame
    omega_stderr: float
    delay: float  # samples at n = 0
    drift: float  # samples per frame
    drift_stderr: float
    peak_sigma: float  # of the line over the scatter about it; small where phases are random
    num_frames: int


def slopes(a: NDArray[np.complex128], c: NDArray[np.complex128]) -> Slopes:
    """Fit a_n = A exp(j w n) and c_n = a_n (dtau + drift n).

    Args:
        a: products with the column, shape (num_frames,).
        c: products with its derivative, shape (num_frames,).
    """
    count = a.size
    n = np.arange(count) - (count - 1) / 2
    spread = float(np.sum(n**2))
    size = _PADDING << (count - 1).bit_length()
    w = float(2 * np.pi * np.fft.fftfreq(size)[np.argmax(np.abs(np.fft.fft(a, size)))])
    for _ in range(_PASSES):  # Newton on the periodogram: from within an eighth of a bin
        turned = a * np.exp(-1j * w * n)
        A = turned.mean()
        w += float(np.sum(n * (np.conj(A) * turned).imag) / (abs(A) ** 2 * spread))
    turned = a * np.exp(-1j * w * n)
    A = complex(turned.mean())
    noise = _scatter(turned - A, 1.5)  # three real unknowns
    across = _scatter((np.conj(A) * turned).imag / abs(A), 2)  # the rail that turns A
    dtau = (np.conj(A * np.exp(1j * w * n)) * c).real / abs(A) ** 2
    delay, drift = float(dtau.mean()), float(np.sum(n * dtau) / spread)
    rest = _scatter(dtau - delay - drift * n, 2)
    return Slopes(
        amplitude=A,
        omega=w,
        omega_stderr=float(np.sqrt(across / spread) / abs(A)),
        delay=delay,
        drift=drift,
        drift_stderr=float(np.sqrt(rest / spread)),
        peak_sigma=float(np.sqrt(2 * count * abs(A) ** 2 / noise)) if noise > 0 else np.inf,
        num_frames=count,
    )


def _scatter(residual: NDArray[np.complexfloating] | NDArray[np.float64], unknowns: float) -> float:
    """Variance of a frame about a fitted line, as far as it disturbs the line.

    That of all frequencies where it is white; where phases wander (phase noise, fading in blocks) slow motion is what
    counts, and is read off the lowest frequencies.
    """
    white = float(np.sum(np.abs(residual) ** 2)) / max(residual.size - unknowns, 0.5)
    if residual.size < 4 * _SLOW_BINS.stop:
        return white
    spectrum = np.abs(np.fft.fft(residual)) ** 2 / residual.size
    slow = float(np.mean(np.concatenate([spectrum[_SLOW_BINS], spectrum[::-1][_SLOW_BINS]])))
    return slow if slow > 2 * white else white


def frame_offsets(
    frames: NDArray[np.complexfloating], columns: NDArray[np.complex128], nuisance: NDArray[np.complex128]
) -> list[ClockOffset | None]:
    """Offsets that are left between transmitters and a receiver that is aligned to them; None where phases are random.

    Args:
        frames: as received, aligned, shape (num_frames, frame_len).
        columns: what of every transmitter arrives and should stand still, shape (num_tx, frame_len).
        nuisance: what else arrives (echoes, which may move), shape (any, frame_len).
    """
    frame_len, num_tx = frames.shape[1], len(columns)
    f = np.fft.fftfreq(frame_len)
    derivatives = np.fft.ifft(np.fft.fft(columns) * (-2j * np.pi * f))
    inner = np.sum(columns.conj() * derivatives, axis=1) / np.sum(np.abs(columns) ** 2, axis=1)
    derivatives = derivatives - inner[:, None] * columns
    B = np.concatenate([columns, derivatives, nuisance]).T
    scale = np.linalg.norm(B, axis=0)
    scale[scale == 0] = 1.0
    products = (np.linalg.pinv(B / scale, rcond=1e-6) / scale[:, None])[: 2 * num_tx].T
    both = frames @ products.astype(np.complex64)
    found: list[ClockOffset | None] = []
    for row in range(num_tx):
        fit = slopes(both[:, row].astype(np.complex128), both[:, num_tx + row].astype(np.complex128))
        nu, eps = fit.omega / (2 * np.pi * frame_len), -fit.drift / frame_len
        found.append(_offset(nu, eps, fit, frame_len) if fit.peak_sigma >= MIN_PEAK_SIGMA else None)
    return found


def clock_measurements(
    samples: NDArray[np.complexfloating],
    frames: NDArray[np.complex128],
    fit: PathFit,
    sync: Sync,
    *,
    receiver: str,
    names: Sequence[str],
    sample_rate_hz: float,
    taken_away: ClockOffset | None = None,
) -> tuple[ClockMeasurement, ...]:
    """Clocks of all transmitters that a receiver hears; none where frames are too few to tell.

    Args:
        samples: of the receiver, corrected or not, shape (n,).
        frames: what every node sends, shape (num_nodes, frame_len).
        fit: of these samples.
        sync: of these samples.
        receiver: its name.
        names: of the transmitters.
        sample_rate_hz: of the samples.
        taken_away: what the samples were corrected by.
    """
    frame_len = frames.shape[1]
    num_frames = (samples.size - sync.start) // frame_len
    if num_frames < MIN_FRAMES:
        return ()
    aligned = samples[sync.start : sync.start + num_frames * frame_len].reshape(num_frames, frame_len)
    heard, still, echoes = heard_columns(fit, frames, sync)
    rows = []
    for tx, left in zip(heard, frame_offsets(aligned, still, echoes), strict=True):
        if left is None:
            continue
        whole = left
        if taken_away is not None:  # what is left is an offset from it, and brings its whole error along
            nu = taken_away.nu + left.nu * (1 + taken_away.eps)
            whole = replace(left, nu=nu, eps=taken_away.eps + left.eps)
        rows.append(
            ClockMeasurement(
                tx=names[int(tx)],
                rx=receiver,
                cfo_hz=whole.cfo_hz(sample_rate_hz),
                clock_ppm=whole.clock_ppm,
                left_hz=left.cfo_hz(sample_rate_hz),
                status="ignored" if taken_away is None else "corrected",
            )
        )
    return tuple(rows)


@contextlib.contextmanager
def clocks_told(
    samples: NDArray[np.complexfloating], frames: NDArray[np.complex128], numerology: Numerology, names: Sequence[str]
) -> Iterator[None]:
    """Where no frame is found, say so if it is there on another clock: that is how a missing reference shows."""
    try:
        yield
    except SyncError as exc:
        off = []
        for node in np.flatnonzero(np.any(frames != 0, axis=1)):
            try:
                found = find_clock(samples, frames, int(node), numerology.carrier_hz / numerology.sample_rate_hz)
            except SyncError:
                continue
            cfo = found.cfo_hz(numerology.sample_rate_hz)
            if abs(cfo.value) > WARN_STDERRS * cfo.stderr:
                off.append(f"{names[int(node)]} by {cfo.value:.4g} Hz")
        if not off:
            raise
        raise SyncError(
            f"{exc}; carriers are off ({', '.join(off)}): the radios do not share a reference; connect it, or state "
            f'shared_reference = "nodes" if users have clocks of their own'
        ) from exc


def clock_warnings(clocks: Sequence[ClockMeasurement]) -> tuple[str, ...]:
    """Transmitters that turn against a receiver though they are said not to, or after a correction; a line each."""
    turning: dict[tuple[str, str], list[str]] = {}
    for clock in clocks:
        left = clock.left_hz
        # the stated error rests on the scatter of so many frames
        limit = stats.t.isf(stats.norm.sf(WARN_STDERRS), max(2 * left.count - 3, 1))
        if abs(left.value) > limit * left.stderr:
            said = f"{clock.tx} by {left.value:.4g} +- {left.stderr:.2g} Hz"
            turning.setdefault((clock.rx, clock.status), []).append(said)
    warnings = []
    for (rx, status), phases_of in turning.items():
        phases = f"{rx}: phases turn from frame to frame, of {', '.join(phases_of)}"
        if status == "corrected":
            warnings.append(f"{phases}, on the clock of the serving node; do the nodes share a reference?")
        else:
            warnings.append(
                f"{phases}, though they are said to share its reference; check the cable and what moves, or state "
                f'shared_reference = "nodes" if users have clocks of their own'
            )
    return tuple(warnings)


@dataclass(frozen=True)
class _State:
    """Where the search stands."""

    tau: float  # delay in the first frame's window, samples; at its first sample
    nu: float
    eps: float

    def moved(self, found: Slopes, num_frames: int, frame_len: int) -> "_State":
        """With slopes about the state taken in."""
        nu = self.nu + found.omega / (2 * np.pi * frame_len)
        eps = self.eps - found.drift / frame_len
        middle = num_frames / 2 * frame_len
        at_middle = self.tau - self.eps * middle + float(np.clip(found.delay, -0.5, 0.5))
        return _State(at_middle + eps * middle, nu, eps)


def _offset(nu: float, eps: float, found: Slopes, frame_len: int) -> ClockOffset:
    return ClockOffset(
        nu=nu,
        nu_stderr=found.omega_stderr / (2 * np.pi * frame_len),
        eps=eps,
        eps_stderr=found.drift_stderr / frame_len,
        num_frames=found.num_frames,
    )


def _products(
    blocks: NDArray[np.complexfloating], template: NDArray[np.complex128], state: _State
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """a_n and c_n about a state, shape (num_frames,) each; `template` is the conjugate spectrum of the frame."""
    num_frames, frame_len = blocks.shape
    f = np.fft.fftfreq(frame_len)
    power = np.abs(template) ** 2
    slope = 2 * np.pi * (f - np.sum(f * power) / power.sum())
    ramp = np.exp(-2j * np.pi * state.nu * np.arange(frame_len))
    n = np.arange(num_frames)
    phase = np.exp(-2j * np.pi * ((state.nu * frame_len * n) % 1.0))
    tau = state.tau - state.eps * (n + 0.5) * frame_len
    a, c = np.empty(num_frames, dtype=np.complex128), np.empty(num_frames, dtype=np.complex128)
    for at in range(0, num_frames, _BLOCK_FRAMES):
        part = slice(at, at + _BLOCK_FRAMES)
        S = np.fft.fft(blocks[part] * ramp) * template * np.exp(2j * np.pi * f * tau[part, None])
        a[part] = S.sum(axis=1) * phase[part]
        c[part] = (S @ (1j * slope)) * phase[part]
    return a / power.sum(), c / np.sum(slope**2 * power)


def _track(
    blocks: NDArray[np.complexfloating], frame: NDArray[np.complex128], found: "_Found", carrier_cycles: float
) -> tuple[_State, Slopes]:
    """Slopes on some frames, on twice as many, on all."""
    num_frames, frame_len = blocks.shape
    template = np.conj(np.fft.fft(frame))
    state = _State(float(found.lag), found.nu, found.nu / carrier_cycles)
    length = min(max(_search_frames(frame_len), MIN_FRAMES), num_frames)
    while True:
        for _ in range(_PASSES):
            fit = slopes(*_products(blocks[:length], template, state))
            state = state.moved(fit, length, frame_len)
        if length == num_frames:
            return state, fit
        length = min(2 * length, num_frames)


def _arriving(
    frame: NDArray[np.complex128], state: _State, amplitude: complex, num_frames: int
) -> NDArray[np.complex64]:
    """A node's frames as they arrive, but for the drift within a frame; shape (num_frames, frame_len)."""
    frame_len = frame.size
    n, r = np.arange(num_frames)[:, None], np.arange(frame_len)
    arriving = np.empty((num_frames, frame_len), dtype=np.complex64)
    for at in range(0, num_frames, _BLOCK_FRAMES):
        part = n[at : at + _BLOCK_FRAMES]
        tau = state.tau - state.eps * (part[:, 0] + 0.5) * frame_len
        cycles = state.nu * (frame_len * part + r)
        arriving[at : at + _BLOCK_FRAMES] = amplitude * cyclic_shift(frame, tau) * np.exp(2j * np.pi * (cycles % 1.0))
    return arriving


@dataclass(frozen=True)
class _Found:
    """The strongest arrival of a node."""

    sigma: float
    lag: int  # samples
    nu: float  # to a quarter of a cycle per frame


def _search_frames(frame_len: int) -> int:
    return min(max(_SEARCH_SAMPLES // frame_len, 1), _MAX_SEARCH_FRAMES)


def _search(
    blocks: NDArray[np.complexfloating], frames: NDArray[np.complex128], nodes: Sequence[int], carrier_cycles: float
) -> dict[int, _Found]:
    """Strongest arrival of every node over lags and carrier offsets."""
    frame_len = frames.shape[1]
    first = blocks[: _search_frames(frame_len)].astype(np.complex128)
    ramp = np.exp(-1j * np.pi * np.arange(frame_len) / frame_len)  # half a cycle per frame
    spectra = np.fft.fft(first), np.fft.fft(first * ramp)
    most = int(np.ceil(2 * MAX_OFFSET * carrier_cycles * frame_len))
    half_cycles = np.arange(-most, most + 1)
    return {node: _strongest(spectra, frames[node], half_cycles) for node in nodes}


def _strongest(
    spectra: tuple[NDArray[np.complex128], NDArray[np.complex128]],
    frame: NDArray[np.complex128],
    half_cycles: NDArray[np.int64],
) -> _Found:
    """The highest sum of squared products over lags and offsets.

    Sums of K squares of noise follow a gamma law; sigma is that of a Rayleigh magnitude of the same probability.
    """
    template = np.conj(np.fft.fft(frame))
    best, lag, half = -1.0, 0, 0
    medians = []
    for h in half_cycles:
        whole, odd = divmod(int(h), 2)
        products = np.fft.ifft(np.roll(spectra[odd], -whole, axis=1) * template)
        power = np.sum(products.real**2 + products.imag**2, axis=0)
        medians.append(float(np.median(power)))
        at = int(np.argmax(power))
        if power[at] > best:
            best, lag, half = float(power[at]), at, int(h)
    num_frames = len(spectra[0])
    scale = float(np.median(medians)) / special.gammaincinv(num_frames, 0.5)
    sigma = float(np.sqrt(-2 * stats.gamma.logsf(best / scale, num_frames))) if scale > 0 else 0.0
    return _Found(sigma, lag, half / 2 / frame.size)
