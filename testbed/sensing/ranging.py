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

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.sensing.channel import unbiased_power
from testbed.sensing.columns import MAX_DELAY_SAMPLES
from testbed.sensing.delay import (
    GRID,
    DelayFit,
    Nuisance,
    Profile,
    delay_crlb,
    fit_at,
    peaks,
    refine,
)
from testbed.sensing.detect import clipping_warnings, sensing_setup
from testbed.sensing.doppler import (
    RangeDopplerMap,
    moving_share,
    range_doppler_map,
    remove_static,
    restore_mean,
    tone_frequency,
)
from testbed.sensing.heard import EchoColumns, Heard, Known, common_delay, known_paths
from testbed.sensing.model import Path
from testbed.theory.ranging import num_range_bins, outlier_probability
from testbed.units import SPEED_OF_LIGHT_MPS
from testbed.waveform.frame import FrameDesign

MIN_INTEGRATED_SINR = 4.0  # linear: below 6 dB every second range is an outlier
_TURNING_STDERRS = 5.0


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
    echo_power: Estimate  # per element: (|mean a|^2 - var / M) mean |x|^2, milliwatt
    sinr: Estimate  # per element: echo_power / residual
    integrated_sinr: float  # |a|^2 ||(I - P_D) x||^2 / sigma2 of a frame, whitened
    residual: Estimate  # ||(I - P_[D x]) y||^2 / (N - Q - 1), milliwatt
    subcarrier_rms: NDArray[np.float64]  # of the residual, shape (num_subcarriers,)
    doppler_hz: Estimate | None
    velocity_mps: Estimate | None  # radial, positive for a closing target
    moving_share: float | None  # of the echo's energy left by zero-Doppler removal
    latency_samples: Estimate  # arrival of the self path after a whole sample
    start: int  # that sample
    frame_idx: NDArray[np.int64]  # of the buffer: which frame each one is, shape (M,)
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
    known, echoes = known_paths(setup, node, cell, options.known)
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
    heard = Heard.align(samples, frames, design, rx, known, echoes, name, low, high, reference)
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
    together = fit_at(white.y, common_delay(profile) + heard.drift(doppler), columns, D)
    return _summary(heard, options, profile, fit, together, rough, rms, freedom, doppler, (low, high))


def _subcarrier_rms(
    heard: Heard, D: Nuisance, fit: DelayFit, columns: EchoColumns, freedom: int
) -> NDArray[np.float64]:
    """Of the residual of [D x], over frames and symbols, per subcarrier."""
    (x,) = columns(fit.delay_samples, (0,))
    left = D.removed(heard.y) - fit.amplitude[:, None] * D.removed(x)
    power = np.abs(left.reshape(-1, heard.design.numerology.num_subcarriers)) ** 2
    rms: NDArray[np.float64] = np.sqrt(power.mean(axis=0) * heard.own.num_observations / freedom)
    return rms


def _summary(
    heard: Heard,
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
    echo_power = Estimate(value=power.value * sent, stderr=power.stderr * sent, count=M)
    sinr = echo_power.value / residual
    # relative variances of power and residual add
    sinr_stderr = float(np.hypot(echo_power.stderr / residual, sinr / np.sqrt(count)))
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
        echo_power=echo_power,
        sinr=Estimate(value=sinr, stderr=sinr_stderr, count=M),
        integrated_sinr=integrated,
        residual=Estimate(value=residual, stderr=residual / float(np.sqrt(count)), count=count),
        subcarrier_rms=rms,
        doppler_hz=doppler_hz,
        velocity_mps=None if doppler_hz is None else _velocity(doppler_hz, numerology.carrier_hz),
        moving_share=share,
        latency_samples=Estimate(value=heard.offset[heard.rx], stderr=heard.offset_stderr, count=M),
        start=heard.found.start,
        frame_idx=heard.found.rows,
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


def _picture(heard: Heard, profile: Profile) -> RangeDopplerMap:
    numerology = heard.design.numerology
    left = heard.nuisance().removed(heard.y)
    return range_doppler_map(
        left, heard.self_column(), numerology.subcarriers, numerology.fft_size, profile.delay_samples
    )
