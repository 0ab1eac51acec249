"""Ranges from a capture: one per frame, each with its bound, and what they say together (SIGNAL_CHAIN section 6).

1. Start and latency of the receiver from its own frame (`latency`), jointly with clutter and echo.
2. D per frame: what the receiver knows of. `known = "own"`: self path, its derivative, own echoes of listed reflectors
   and of other targets; frames of other nodes are interference. `known = "all"`: every node's direct path with its
   derivative, echoes of reflectors and other targets, and of the target itself, where the survey expects it, with its
   derivative.
3. Elements are divided by the rms residual of their subcarrier, over all frames and symbols: interference that arrives
   over two paths is frequency selective, and unwhitened the spread is 1.2 times the bound (scenes/localization.md).
4. Projected maximum likelihood per frame (`delay`), its Cramer-Rao bound from the whitened derivative.

A trial is a FRAME OF ITS OWN DATA: at most one pass of a buffer counts. Where all frames are alike, interference of
other nodes is the same in all of them, a bias and no spread; the result says so (`independent`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.errors import CaptureError, SyncError
from testbed.measurement import Estimate
from testbed.sensing.channel import unbiased_power
from testbed.sensing.columns import MAX_DELAY_SAMPLES, BufferColumns
from testbed.sensing.delay import (
    GRID,
    DelayFit,
    Nuisance,
    Profile,
    delay_crlb,
    delay_profile,
    fit_at,
    peaks,
    refine,
)
from testbed.sensing.detect import SensingSetup, clipping_warnings, sensing_setup
from testbed.sensing.doppler import (
    RangeDopplerMap,
    moving_share,
    range_doppler_map,
    remove_static,
    restore_mean,
    tone_frequency,
)
from testbed.sensing.latency import Pass, find_arrival, find_pass, latency_step
from testbed.sensing.model import Path, cell_paths, nuisance_paths
from testbed.sensing.sync import MIN_PEAK_SIGMA
from testbed.theory.ranging import num_range_bins, outlier_probability
from testbed.units import SPEED_OF_LIGHT_MPS
from testbed.waveform.frame import FrameDesign
from testbed.waveform.shift import cyclic_shift

Known = Literal["own", "all"]
MIN_INTEGRATED_SINR = 4.0  # linear: below 6 dB every second range is an outlier
_LATENCY_STEPS = 4
_SMALL_STEP = 1e-3  # samples: what such a step leaves is far below the standard error
_TURNING_STDERRS = 5.0
_SAME_LATENCY = 0.01  # samples; by this much a reference capture may begin elsewhere between two samples


@dataclass(frozen=True)
class RangeOptions:
    """How ranges are estimated."""

    known: Known = "own"  # whose frames the receiver knows
    moving: bool = False  # estimate a Doppler shift, and follow it
    whiten: bool = True
    zero_doppler: bool = False  # take away what stands still; deletes a target that does
    min_delay_samples: float = 1.0  # of the search, after the self path
    max_delay_samples: float | None = None  # the cyclic prefix if None


@dataclass(frozen=True, eq=False)
class Ranging:
    """Ranges of one target at one node; those of frames refer to their own time, one way."""

    node: str
    range_m: NDArray[np.float64]  # shape (M,)
    crlb_m: NDArray[np.float64]  # of each, standard deviation, shape (M,)
    amplitude: NDArray[np.complex128]  # a_hat of the echo, derotated where it moves, shape (M,)
    drift_m: NDArray[np.float64]  # how far the target is from its mean place by its Doppler shift, shape (M,)
    outlier: NDArray[np.bool_]  # farther than a resolution cell from what all frames say together, shape (M,)
    mean_range_m: Estimate  # at the capture's middle, without outliers; with the error that all frames share
    range_std_m: Estimate  # spread over frames, without outliers
    rms_crlb_m: float  # of the frames
    outliers: Estimate  # share
    outliers_predicted: float
    sinr: Estimate  # per element: (|mean a|^2 - var / M) mean |x|^2 / residual
    integrated_sinr: float  # |a|^2 ||(I - P_D) x||^2 / sigma2 of a frame, whitened
    residual: Estimate  # ||(I - P_[D x]) y||^2 / (N - Q - 1), milliwatt
    subcarrier_rms: NDArray[np.float64]  # of the residual, shape (num_subcarriers,)
    doppler_hz: Estimate | None
    velocity_mps: Estimate | None  # radial, positive for a closing target
    moving_share: float | None  # of the echo's energy left by zero-Doppler removal
    latency_samples: Estimate  # arrival of the self path after a whole sample
    start: int  # that sample
    num_data: int  # frames of different data among the M
    independent: bool  # whether frames are trials of noise AND interference
    num_nuisance: int  # Q
    num_observations: int  # N
    profile_range_m: NDArray[np.float64]  # shape (G,)
    profile: NDArray[np.float64]  # mean over frames of J / sigma2, shape (G,)
    map: RangeDopplerMap  # over the same ranges
    frame_s: float  # duration of a frame
    warnings: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Trials."""
        return int(self.range_m.size)

    @property
    def spread_over_bound(self) -> float:
        """Measured standard deviation over the bound's."""
        return self.range_std_m.value / self.rms_crlb_m


def estimate_ranges(
    capture: Capture,
    node: str,
    options: RangeOptions | None = None,
    *,
    cell: str | None = None,
    reference: Capture | None = None,
) -> Ranging:
    """Ranges of one target at one node of a capture, a range per frame.

    Args:
        capture: condition with the target on.
        node: a transmitting node that the capture holds.
        options: see there.
        cell: of the survey, whose target is wanted; that of the node if None, else the first. Its place is used for
            other nodes' echoes (`known = "all"`) only; cells elsewhere are other targets, and known.
        reference: the same transmission without the target; it is subtracted frame by frame.

    Raises:
        CaptureError: a capture that does not fit: muted, without waveform, another transmission than the reference.
        SyncError: a frame that has to be found is not.
    """
    setup, options = sensing_setup(capture), options or RangeOptions()
    received = capture.node(node)
    if capture.frame is None:
        raise CaptureError(f"condition '{capture.condition}': nothing was transmitted; there is nothing to range")
    if setup.waveform is None:
        raise CaptureError("capture: setup.waveform is missing; it says which elements of a frame are data")
    names = setup.survey.node_names
    if capture.tx_names != names or node not in names:
        raise CaptureError(f"node '{node}': no transmitter of the survey; nodes are {', '.join(names)}")
    frames = capture.frame.samples
    if frames.shape[1] % setup.waveform.frame_len:
        raise CaptureError(f"frame: {frames.shape[1]} samples are no whole frames of {setup.waveform.frame_len}")
    known, echoes = _paths(setup, node, cell, options.known)
    without = None
    if reference is not None:
        if reference.frame is None or not np.array_equal(reference.frame.samples, frames):
            raise CaptureError("reference: another transmission; capture it at the same powers and data")
        without = reference.node(node).samples[0]
    found = range_frames(
        received.samples[0],
        frames,
        setup.waveform,
        names.index(node),
        known,
        echoes,
        options,
        without,
        name=node,
    )
    return replace(found, warnings=(*clipping_warnings(received), *found.warnings))


def _paths(setup: SensingSetup, node: str, cell_name: str | None, known: Known) -> tuple[list[Path], list[Path]]:
    """Paths in D, and other nodes' echoes of the target."""
    survey, rate = setup.survey, setup.numerology.sample_rate_hz
    cells = {cell.name: cell for cell in survey.cells}
    if cell_name is not None and cell_name not in cells:
        raise CaptureError(f"cell '{cell_name}': not in this capture's survey; cells are {', '.join(cells)}")
    if not cells:
        raise CaptureError("survey: lists no cell; give the place where the target is expected")
    own = [cell for cell in survey.cells if cell.node == node]
    chosen = cells[cell_name] if cell_name else (own or survey.cells)[0]
    rx = survey.node_names.index(node)
    here = chosen.model_copy(update={"node": node})
    same = {cell.name for cell in survey.cells if cell.position_m == chosen.position_m}
    paths = [path for path in nuisance_paths(survey, here, rate) if not (path.kind == "echo" and path.via in same)]
    if known == "own":
        return [path for path in paths if path.tx == rx], []
    return paths, [path for path in cell_paths(survey, here, rate) if path.tx != rx]


def range_frames(
    samples: NDArray[np.complexfloating],
    frames: NDArray[np.complex128],
    design: FrameDesign,
    rx: int,
    known: Sequence[Path],
    echoes: Sequence[Path] = (),
    options: RangeOptions | None = None,
    reference: NDArray[np.complexfloating] | None = None,
    *,
    name: str = "receiver",
) -> Ranging:
    """Ranges from the samples of one receiver; see `estimate_ranges`.

    Args:
        samples: shape (n,).
        frames: what every node sends, shape (num_nodes, buffer_len).
        design: of the frames.
        rx: the receiver's own row of `frames`.
        known: paths in D; the first path of a node that has one is found in the samples.
        echoes: of the target over other nodes, in D with their derivatives.
        options: see there.
        reference: samples without the target.
        name: of the receiver, for messages.
    """
    options = options or RangeOptions()
    low = options.min_delay_samples
    high = float(design.numerology.cp_len) if options.max_delay_samples is None else options.max_delay_samples
    if not 0 <= low < high - 2 / GRID or high > MAX_DELAY_SAMPLES:
        raise ValueError(f"delays {low:g}..{high:g} samples; must be a stretch within 0..{MAX_DELAY_SAMPLES:g}")
    heard = _Heard.align(samples, frames, design, rx, known, echoes, name, low, high, reference)
    D = heard.nuisance()
    if options.zero_doppler:
        moving = remove_static(D.removed(heard.y), heard.self_column(), design.numerology.num_subcarriers)
        heard = replace(heard, y=moving)
    y, pooled = heard.y, heard.pooled_delay
    doppler = 0.0
    if options.moving:
        still = fit_at(y, np.full(len(y), pooled), heard.columns(0.0), D)
        doppler = tone_frequency(still.amplitude).frequency / design.frame_len
    columns = heard.columns(doppler)
    rough = fit_at(y, pooled + heard.drift(doppler), columns, D)
    freedom = D.basis.shape[1] - D.rank - 1  # what the fit of D and x leaves
    rms = _subcarrier_rms(heard, D, rough, columns, freedom)
    weight = 1 / rms if options.whiten else np.full(rms.size, 1 / np.sqrt(np.mean(rms**2)))
    white = heard.weighted(weight)
    D, columns = white.nuisance(), white.columns(doppler)
    profile = white.profile(D, columns, low, high)
    fit = refine(white.y, peaks(profile), columns, D, low, high)
    together = fit_at(white.y, _pooled_delay(profile) + heard.drift(doppler), columns, D)
    return _summary(heard, options, profile, fit, together, rough, rms, freedom, doppler, (low, high))


@dataclass(frozen=True, eq=False)
class _Heard:
    """Observations of every frame, and all that is needed to model them."""

    y: NDArray[np.complex128]  # whitened by `weight`, shape (M, N)
    design: FrameDesign
    own: BufferColumns
    others: dict[int, BufferColumns]  # of further known nodes
    found: Pass
    rx: int
    offset: dict[int, float]  # start of a known node's buffer after the own one's, samples
    offset_stderr: float  # of the receiver's own
    known: tuple[Path, ...]
    echoes: tuple[Path, ...]
    pooled_delay: float  # of the echo, where the search of all frames together found it
    weight: NDArray[np.float64] | None
    interfered: bool  # whether other nodes transmit
    name: str
    notes: tuple[str, ...]

    @classmethod
    def align(
        cls,
        samples: NDArray[np.complexfloating],
        frames: NDArray[np.complex128],
        design: FrameDesign,
        rx: int,
        known: Sequence[Path],
        echoes: Sequence[Path],
        name: str,
        low: float,
        high: float,
        reference: NDArray[np.complexfloating] | None,
    ) -> "_Heard":
        symbols = design.data_symbol_idx
        active = [l for l in range(len(frames)) if np.any(frames[l])]
        numerology = design.numerology
        buffers = {l: BufferColumns(frames[l], design.frame_len, numerology, symbols) for l in active}
        found = find_pass(samples, frames[rx], design.frame_len, name)
        own = buffers.pop(rx)
        y = own.extract(_cut(samples, found, design.frame_len))
        wanted = sorted({path.tx for path in known} & set(buffers))
        heard = cls(
            y=y,
            design=design,
            own=own,
            others={l: buffers[l] for l in wanted},
            found=found,
            rx=rx,
            offset={rx: found.fraction},
            offset_stderr=0.0,
            known=tuple(path for path in known if path.tx in active),
            echoes=tuple(path for path in echoes if path.tx in wanted),
            pooled_delay=0.0,
            weight=None,
            interfered=len(active) > 1,
            name=name,
            notes=(),
        )
        if wanted:
            heard = replace(heard, offset=heard.offset | _find_others(samples, frames, heard, name))
        heard = heard._fine(low, high)
        if reference is not None:
            heard = heard._less(reference, frames[rx], name)
            quiet = heard.profile(heard.nuisance(), heard.columns(0.0), low, high)
            heard = replace(heard, pooled_delay=_pooled_delay(quiet))
        return heard

    def _less(self, reference: NDArray[np.complexfloating], buffer: NDArray[np.complex128], name: str) -> "_Heard":
        """The frames of a capture without the target taken off, each from its own kind."""
        frame_len = self.design.frame_len
        found = find_pass(reference, buffer, frame_len, f"{name}, reference")
        quiet = self.own.extract(_cut(reference, found, frame_len))
        notes = self.notes
        if abs(found.fraction - self.found.fraction) > _SAME_LATENCY:
            notes += (f"{name}: the reference began {found.fraction - self.found.fraction:+.3f} sample elsewhere",)
        if self.own.num_frames == 1:
            return replace(self, y=self.y - quiet.mean(axis=0), notes=notes)
        place = np.full(self.own.num_frames, -1)
        place[found.rows] = np.arange(found.rows.size)
        at = place[self.found.rows]
        if np.any(at < 0):
            raise CaptureError(
                f"reference: holds {found.rows.size} frames, not all {self.found.rows.size} that are wanted; capture "
                f"a whole buffer"
            )
        return replace(self, y=self.y - quiet[at], notes=notes)

    def _fine(self, low: float, high: float) -> "_Heard":
        """Sub-sample offsets, jointly with the echo."""
        D = self.nuisance()
        pooled = _pooled_delay(self.profile(D, self.columns(0.0), low, high))
        heard, stderr = replace(self, pooled_delay=pooled), 0.0
        firsts = heard.first_paths
        for _ in range(_LATENCY_STEPS):
            x, x1 = heard.columns(0.0)(pooled, (0, 1))
            paths, slopes, further = heard.modelled
            step = latency_step(heard.y, paths, slopes, [*further, x, x1])
            later = np.clip(step.later_samples, -0.5, 0.5)
            offset = {path.tx: heard.offset[path.tx] + float(later[i]) for i, path in enumerate(firsts)}
            heard, stderr = replace(heard, offset=offset), float(step.stderr_samples[0])
            if np.all(np.abs(later) < _SMALL_STEP):
                break
        return replace(heard, offset_stderr=stderr)

    @property
    def first_paths(self) -> list[Path]:
        """Those that tell when a known node's frames begin, self or direct; the receiver's own first."""
        found = [next((p for p in self.known if p.tx == l and p.kind in ("self", "direct")), None) for l in self.offset]
        assert None not in found, "a survey has a self or direct path of every node"
        return [path for path in found if path is not None]

    def arrived(self, path: Path, order: int = 0) -> NDArray[np.complex128]:
        """Column of a path, exact, not weighted, shape (M or 1, N)."""
        columns = self.own if path.tx == self.rx else self.others[path.tx]
        frames = columns.together(self.offset[path.tx] + path.delay_samples, order)
        return frames[self.found.rows] if len(frames) > 1 else frames

    def self_column(self) -> NDArray[np.complex128]:
        """The own frame at its first arrival, not weighted, shape (M or 1, N)."""
        return self.modelled[0][0]

    @cached_property
    def modelled(self) -> tuple[list[NDArray[np.complex128]], ...]:
        """Columns of first paths, their derivatives, and the further ones in D, not weighted."""
        first = self.first_paths
        further = [self.arrived(path) for path in self.known if path not in first]
        for path in self.echoes:
            further += [self.arrived(path), self.arrived(path, 1)]
        return [self.arrived(path) for path in first], [self.arrived(path, 1) for path in first], further

    def nuisance(self) -> Nuisance:
        """range(D)."""
        columns = [self._scaled(column) for group in self.modelled for column in group]
        return Nuisance.of(columns, self.own.num_observations)

    def columns(self, doppler: float) -> "_EchoColumns":
        """Of the echo, at delays after the self path, shifted by `doppler` cycles per sample."""
        return _EchoColumns(self, doppler)

    def profile(self, D: Nuisance, columns: "_EchoColumns", low: float, high: float) -> Profile:
        """J of every frame over the search."""
        numerology = self.design.numerology
        return delay_profile(D.removed(self.y), columns, D, numerology.subcarriers, numerology.fft_size, low, high)

    def weighted(self, weight: NDArray[np.float64]) -> "_Heard":
        """Elements times the weight of their subcarrier; columns follow."""
        tiled = np.tile(weight, len(self.own.symbols))
        weighted = replace(self, y=self.y * tiled, weight=tiled)
        vars(weighted)["modelled"] = self.modelled  # the same paths at the same offsets
        return weighted

    def drift(self, doppler: float) -> NDArray[np.float64]:
        """How much later than in the middle of all frames an echo arrives that moves, samples, shape (M,)."""
        numerology, M = self.design.numerology, len(self.y)
        per_sample = -doppler * numerology.sample_rate_hz / numerology.carrier_hz
        from_middle: NDArray[np.float64] = np.arange(M, dtype=np.float64) - (M - 1) / 2
        return per_sample * self.design.frame_len * from_middle

    def _scaled(self, columns: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return columns if self.weight is None else columns * self.weight


@dataclass(frozen=True)
class _EchoColumns:
    """Columns x of the echo, weighted as its observations are."""

    heard: _Heard
    doppler: float

    def __call__(
        self, delay_samples: NDArray[np.float64] | float, orders: Sequence[int]
    ) -> list[NDArray[np.complex128]]:
        heard = self.heard
        rows = heard.found.rows
        if np.ndim(delay_samples) == 0 and not self.doppler and heard.own.num_frames == 1:
            rows = rows[:1]  # all frames are alike
        first = heard.design.frame_len * np.arange(rows.size)
        delays = heard.offset[heard.rx] + np.asarray(delay_samples)
        found = heard.own.each(delays, rows, orders, doppler=self.doppler, first=first)
        return [heard._scaled(column) for column in found]


def _cut(samples: NDArray[np.complexfloating], found: Pass, frame_len: int) -> NDArray[np.complexfloating]:
    stop = found.start + found.rows.size * frame_len
    return samples[found.start : stop].reshape(-1, frame_len)


def _find_others(
    samples: NDArray[np.complexfloating], frames: NDArray[np.complex128], heard: _Heard, name: str
) -> dict[int, float]:
    """Offsets of further nodes: the clearest first, on what those found so far leave."""
    L, frame_len = frames.shape[1], heard.design.frame_len
    begin = heard.found.start - int(heard.found.rows[0]) * frame_len  # of the receiver's own buffer
    passes = max(samples.size // L, 1)
    rest = samples[: min(samples.size, passes * L)].astype(np.complex128)
    index = np.arange(rest.size) % L

    def cancelled(node: int, arrival: float) -> None:
        nonlocal rest
        around = cyclic_shift(frames[node], arrival + np.array([-0.5, 0.0, 0.5]))[:, index]
        rest = rest - np.linalg.lstsq(around.T, rest, rcond=None)[0] @ around

    cancelled(heard.rx, begin + heard.found.fraction)
    offsets, left = {}, list(heard.others)
    while left:
        arrivals = {node: find_arrival(rest, frames[node]) for node in left}
        node = max(arrivals, key=lambda l: arrivals[l][1])
        arrival, sigma = arrivals[node]
        if sigma < MIN_PEAK_SIGMA:
            raise SyncError(
                f"{name}: frame of transmitter {node} not found (peak {sigma:.1f} sigma, need {MIN_PEAK_SIGMA:g}); "
                f"use known = 'own', or raise its power"
            )
        cancelled(node, arrival)
        left.remove(node)
        direct = next(path for path in heard.known if path.tx == node and path.kind == "direct")
        later = arrival - begin - direct.delay_samples
        offsets[node] = later - L * np.round(later / L)
    return offsets


def _pooled_delay(profile: Profile) -> float:
    """Peak of J summed over frames."""
    return float(peaks(replace(profile, statistic=profile.statistic.sum(axis=0, keepdims=True)))[0])


def _subcarrier_rms(
    heard: _Heard, D: Nuisance, fit: DelayFit, columns: _EchoColumns, freedom: int
) -> NDArray[np.float64]:
    """Of the residual of [D x], over frames and symbols, per subcarrier."""
    (x,) = columns(fit.delay_samples, (0,))
    left = D.removed(heard.y) - fit.amplitude[:, None] * D.removed(x)
    power = np.abs(left.reshape(-1, heard.design.numerology.num_subcarriers)) ** 2
    rms: NDArray[np.float64] = np.sqrt(power.mean(axis=0) * heard.own.num_observations / freedom)
    return rms


def _summary(
    heard: _Heard,
    options: RangeOptions,
    profile: Profile,
    fit: DelayFit,
    together: DelayFit,
    rough: DelayFit,
    rms: NDArray[np.float64],
    freedom: int,
    doppler: float,
    search: tuple[float, float],
) -> Ranging:
    """Everything in words and metres. Amplitudes are those at the delay that all frames agree on."""
    numerology, frame_len = heard.design.numerology, heard.design.frame_len
    metre = SPEED_OF_LIGHT_MPS / 2 / numerology.sample_rate_hz  # of range per sample of delay
    M, N = heard.y.shape
    sigma2 = float(np.sum(together.residual)) / (M * freedom)  # whitened: near 1
    variance = sigma2 * float(np.mean(1 / together.energy))  # of an amplitude
    amplitude, warnings, doppler_hz = together.amplitude, list(heard.notes), None
    frequency = doppler * frame_len
    if options.moving:
        if options.zero_doppler:
            amplitude = restore_mean(amplitude, frequency)
        tone = tone_frequency(amplitude, variance)
        amplitude = amplitude * np.exp(-2j * np.pi * tone.frequency * np.arange(M))
        frequency += tone.frequency
        rate = numerology.sample_rate_hz / frame_len
        doppler_hz = Estimate(value=frequency * rate, stderr=tone.stderr * rate, count=M)
    power = unbiased_power(complex(np.mean(amplitude)), variance / M, M)
    each = float(np.mean(np.abs(amplitude) ** 2)) - variance
    if each - power.value > _TURNING_STDERRS * np.sqrt((2 * max(each, 0) * variance + variance**2) / M):
        warnings.append(
            "the echo's phase turns or its strength changes from frame to frame; is the target moving? Its power is "
            "taken frame by frame"
        )
        power = Estimate(value=each, stderr=float(np.sqrt((2 * each * variance + variance**2) / M)), count=M)
    residual = float(np.sum(rough.residual)) / (M * freedom)
    sent = float(np.mean(np.abs(heard.self_column()) ** 2))  # per element
    count = M * freedom
    sinr = power.value * sent / residual
    # relative variances of power and residual add
    sinr_stderr = float(np.hypot(power.stderr * sent / residual, sinr / np.sqrt(count)))
    crlb = metre * delay_crlb(max(power.value, 1e-300), fit.slope_energy, sigma2)
    drift = metre * heard.drift(frequency / frame_len)
    cell = numerology.fft_size / numerology.num_subcarriers
    outlier = np.abs(fit.delay_samples - together.delay_samples) > cell
    ranges = metre * fit.delay_samples
    integrated = power.value * float(np.mean(together.energy)) / sigma2
    bins = num_range_bins(
        numerology.num_subcarriers * numerology.subcarrier_spacing_hz, metre * (search[1] - search[0])
    )
    misses = float(np.mean(outlier))
    num_data = min(heard.own.num_frames, M)
    independent = num_data == M or not heard.interfered or options.known == "all"
    bound = float(np.sqrt(np.mean(crlb**2)))
    common = np.hypot(metre * heard.offset_stderr, 0.0 if independent else bound / np.sqrt(num_data))
    mean, std = _spread((ranges - drift)[~outlier], float(common))
    share = None
    if options.zero_doppler:
        share = moving_share(frequency, M)
    if integrated < MIN_INTEGRATED_SINR:
        still = "; zero-Doppler removal deletes a target that stands still" if options.zero_doppler else ""
        warnings.append(f"the echo hardly stands out of noise: integrated SINR {integrated:.2g}{still}")
    if not independent:
        warnings.append(
            "all frames hold the same data: the interference of other nodes repeats with them, a bias that the spread "
            "does not show; transmit frames of different data (waveform.num_data_frames)"
        )
    return Ranging(
        node=heard.name,
        range_m=ranges,
        crlb_m=crlb,
        amplitude=amplitude,
        drift_m=drift,
        outlier=outlier,
        mean_range_m=mean,
        range_std_m=std,
        rms_crlb_m=bound,
        outliers=Estimate(value=misses, stderr=float(np.sqrt(misses * (1 - misses) / M)), count=M),
        outliers_predicted=float(outlier_probability(integrated, bins)),
        sinr=Estimate(value=sinr, stderr=sinr_stderr, count=M),
        integrated_sinr=integrated,
        residual=Estimate(value=residual, stderr=residual / float(np.sqrt(count)), count=count),
        subcarrier_rms=rms,
        doppler_hz=doppler_hz,
        velocity_mps=None if doppler_hz is None else _velocity(doppler_hz, numerology.carrier_hz),
        moving_share=share,
        latency_samples=Estimate(value=heard.offset[heard.rx], stderr=heard.offset_stderr, count=M),
        start=heard.found.start,
        num_data=num_data,
        independent=independent,
        num_nuisance=N - freedom - 1,
        num_observations=N,
        profile_range_m=metre * profile.delay_samples,
        profile=profile.statistic.mean(axis=0) / sigma2,
        map=_picture(heard, profile),
        frame_s=frame_len / numerology.sample_rate_hz,
        warnings=tuple(warnings),
    )


def _spread(ranges: NDArray[np.float64], common_stderr: float) -> tuple[Estimate, Estimate]:
    """Mean and standard deviation of ranges, with an error that all share."""
    n = ranges.size
    if n == 0:
        nothing = Estimate(value=float("nan"), stderr=float("inf"), count=0)
        return nothing, nothing
    std = float(np.std(ranges, ddof=1)) if n > 1 else float("nan")
    own = std / float(np.sqrt(n)) if n > 1 else float("inf")
    mean = Estimate(value=float(np.mean(ranges)), stderr=float(np.hypot(own, common_stderr)), count=n)
    spread = std / float(np.sqrt(2 * (n - 1))) if n > 1 else float("inf")
    return mean, Estimate(value=std, stderr=spread, count=n)


def _velocity(doppler_hz: Estimate, carrier_hz: float) -> Estimate:
    """Radial, of a monostatic echo: v = nu c / (2 fc)."""
    per_hz = SPEED_OF_LIGHT_MPS / 2 / carrier_hz
    return Estimate(value=doppler_hz.value * per_hz, stderr=doppler_hz.stderr * per_hz, count=doppler_hz.count)


def _picture(heard: _Heard, profile: Profile) -> RangeDopplerMap:
    numerology = heard.design.numerology
    left = heard.nuisance().removed(heard.y)
    return range_doppler_map(
        left, heard.self_column(), numerology.subcarriers, numerology.fft_size, profile.delay_samples
    )
