"""A user's link: pilot SINR, data-aided and decision-directed error vectors, symbol and bit errors.

The channel comes from the pilot symbols alone, so the error vector of the data symbols is independent of it. Symbols
are known from the seed (SIGNAL_CHAIN section 4). All SINRs are linear and per used resource element of the data.

    data-aided      |h|^2 mean|x|^2 / mean|y - h x|^2       x: the serving node's data as they arrive
    pilot           the same powers from gains and noise of the pilot symbols, where codes keep the nodes apart
    decision        mean|s|^2 over the error vector against the NEAREST symbol

Decision-directed is no measure of the link but a comparison. It reads too HIGH where symbols are mistaken, for the
nearest is nearer than the one that was sent. It can also read too LOW: a receiver that does not know the symbols
equalises by h and the phase ramp of the delay alone, and what an arrival between two samples spills from one symbol
into the next is then an error; only the frame as it arrives (x) accounts for it. So that this stays small the window
begins a quarter of the cyclic prefix early. Its frames share one error of h, which its standard error holds.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.errors import CaptureError
from testbed.measurement import ClockMeasurement, Estimate, LinkMeasurement, PathMeasurement, PowerResponse
from testbed.sensing.channel import fit_paths, path_measurements, unbiased_power, unit_drive
from testbed.sensing.detect import SensingSetup, check_one_frame, clipping_warnings, sensing_setup
from testbed.sensing.frequency import clock_measurements, clocks_told, corrected, find_clock
from testbed.sensing.model import Path, SurveyUser, direct_paths, time_columns
from testbed.sensing.response import power_response
from testbed.sensing.sync import Sync, synchronise
from testbed.waveform.observations import ResourceElements
from testbed.waveform.sequences import BITS_PER_SYMBOL, constellation

SHOWN_SYMBOLS = 2000  # kept for the constellation diagram
_BLOCK_FRAMES = 64  # at a time in double precision
_MAX_ADVANCE = 8  # samples; from 4 on an arrival half a sample early costs less than -48 dB, and -27 dB without
_ONES = np.array([value.bit_count() for value in range(64)])  # set bits of a constellation index


@dataclass(frozen=True)
class Link:
    """What one capture says of a user."""

    user: str
    serving: str
    measurement: LinkMeasurement
    response: PowerResponse
    paths: tuple[PathMeasurement, ...]
    noise_var: Estimate | None  # from the muted capture
    residual_noise_var: Estimate  # from what the joint fit leaves
    error_power: NDArray[np.float64]  # of every frame, over |h|^2 mean|x|^2: EVM squared, shape (num_frames,)
    symbols: NDArray[np.complex64]  # equalised, of the first frames, shape (n,) with n <= SHOWN_SYMBOLS
    symbol_index: NDArray[np.int64]  # that were sent, same shape
    clocks: tuple[ClockMeasurement, ...]  # of the transmitters
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Pilots:
    """What the pilot symbols give."""

    h: NDArray[np.complex128]  # amplitude per transmitter; 0 where silent, shape (num_tx,)
    covariance: NDArray[np.complex128]  # E[e e^H] of h, shape (num_tx, num_tx)
    noise_var: Estimate


def measure_link(capture: Capture, user_name: str, previous: PowerResponse | None = None) -> Link:
    """Measure a user of a capture of condition 'all'.

    Args:
        capture: holds the user.
        user_name: of the survey.
        previous: last response of the user; stands in for transmitters that are silent now.

    Raises:
        CaptureError: no such user, no waveform in the setup, nothing transmitted, or the serving node is silent.
        SyncError: no frame found.
    """
    setup = sensing_setup(capture)
    user = next((u for u in setup.survey.users if u.name == user_name), None)
    if user is None or setup.waveform is None:
        known = ", ".join(u.name for u in setup.survey.users) or "none"
        raise CaptureError(f"user '{user_name}': not in this capture's survey and waveform; users are {known}")
    if capture.frame is None:
        raise CaptureError(f"condition '{capture.condition}': nothing was transmitted; there is no link to measure")
    check_one_frame(setup)
    node, names, frames = capture.node(user.name), setup.survey.node_names, capture.frame.samples
    serving = names.index(user.node)
    paths = direct_paths(setup.survey, user, setup.numerology.sample_rate_hz)
    samples, clock = node.samples[0], None
    if user.name in setup.own_clocks:
        carrier_cycles = setup.numerology.carrier_hz / setup.numerology.sample_rate_hz
        clock = find_clock(samples, frames, serving, carrier_cycles, name=user.name, names=names)
        samples = corrected(samples, clock)
    # an interferer that cannot be heard disturbs nobody; it is taken to be synchronous with the serving node
    with clocks_told(samples, frames, setup.numerology, names):
        sync = synchronise(samples, frames, paths, serving, name=user.name, names=names, needed=[serving])
    noise_var = None if node.noise_var is None else node.noise_var.value
    fit = fit_paths(samples, frames, paths, sync, noise_var)
    data = ResourceElements(symbols=setup.waveform.data_symbol_idx)
    columns = _columns(paths, unit_drive(frames), sync, setup, data)
    response = power_response(
        fit,
        columns,
        np.zeros((len(columns), 0), dtype=np.complex128),
        node=user.name,
        serving=user.node,
        names=names,
        previous=previous,
    )
    pilots = _fit_pilots(samples, sync, paths, frames, setup)
    power = capture.frame.power
    measurement, error_power, symbols = _data_errors(samples, sync, columns, power, pilots, serving, user, setup, paths)
    clocks = clock_measurements(
        samples,
        frames,
        fit,
        sync,
        receiver=user.name,
        names=names,
        sample_rate_hz=setup.numerology.sample_rate_hz,
        taken_away=clock,
    )
    index = np.tile(setup.waveform.data_indices(serving).ravel(), len(symbols) // columns.shape[0] + 1)
    return Link(
        user=user.name,
        serving=user.node,
        measurement=measurement,
        response=response,
        paths=path_measurements(fit, sync, user.name, names),
        noise_var=node.noise_var,
        residual_noise_var=fit.residual_noise_var,
        error_power=error_power,
        symbols=symbols,
        symbol_index=index[: len(symbols)],
        clocks=clocks,
        warnings=clipping_warnings(node),
    )


def _columns(
    paths: tuple[Path, ...],
    frames: NDArray[np.complex128],
    sync: Sync,
    setup: SensingSetup,
    observations: ResourceElements,
) -> NDArray[np.complex128]:
    """Columns of all transmitters, shape (N, num_tx)."""
    arrived = time_columns(paths, frames, np.nan_to_num(sync.offset_samples))
    return observations.extract(arrived, setup.numerology).T


def _fit_pilots(
    samples: NDArray[np.complexfloating],
    sync: Sync,
    paths: tuple[Path, ...],
    frames: NDArray[np.complex128],
    setup: SensingSetup,
) -> _Pilots:
    """Least squares on the pilot elements, all transmitters at once; noise from what every frame leaves."""
    assert setup.waveform is not None, "checked by the caller"
    pilots = ResourceElements(symbols=setup.waveform.pilot_symbol_idx)
    columns = _columns(paths, frames, sync, setup, pilots)
    active = np.any(columns != 0, axis=0)
    X = columns[:, active]
    inverse = np.linalg.pinv(X)
    U, _ = np.linalg.qr(X)
    mean, energy, num_frames = np.zeros(len(X), dtype=np.complex128), 0.0, 0
    for block in _blocks(samples, sync, frames.shape[1]):
        y = pilots.extract(block, setup.numerology)
        mean += y.sum(axis=0)
        energy += float(np.linalg.norm(y) ** 2 - np.linalg.norm(y @ U.conj()) ** 2)
        num_frames += len(y)
    count = num_frames * (X.shape[0] - X.shape[1])
    value = energy / count
    h, covariance = np.zeros(len(active), dtype=np.complex128), np.zeros((len(active),) * 2, dtype=np.complex128)
    h[active] = inverse @ (mean / num_frames)
    covariance[np.ix_(active, active)] = value / num_frames * (inverse @ inverse.conj().T)
    return _Pilots(h, covariance, Estimate(value=value, stderr=value / np.sqrt(count), count=count))


def _data_errors(
    samples: NDArray[np.complexfloating],
    sync: Sync,
    columns: NDArray[np.complex128],
    power: NDArray[np.float64],
    pilots: _Pilots,
    serving: int,
    user: SurveyUser,
    setup: SensingSetup,
    paths: tuple[Path, ...],
) -> tuple[LinkMeasurement, NDArray[np.float64], NDArray[np.complex64]]:
    """Error vectors and decisions over all frames, block by block."""
    design = setup.waveform
    assert design is not None, "checked by the caller"
    data = ResourceElements(symbols=design.data_symbol_idx)
    x = columns[:, serving] * np.sqrt(power[serving])
    h, variance = pilots.h[serving], float(pilots.covariance[serving, serving].real)
    points, sent = constellation(design.modulation), design.data_indices(serving).ravel()
    # the symbols that were drawn have not exactly the constellation's mean power
    signal_per_h2, sent_power = float(np.mean(np.abs(x) ** 2)), float(np.mean(np.abs(points[sent]) ** 2))
    # a data symbol never stands first in the frame: nothing wraps into its window
    advance = min(setup.numerology.cp_len // 4, _MAX_ADVANCE)
    delay = float(sync.offset_samples[serving]) + paths[serving].delay_samples + advance
    ramp = np.exp(-2j * np.pi * setup.numerology.subcarriers / setup.numerology.fft_size * delay)
    equaliser = 1 / (h * np.sqrt(signal_per_h2 / sent_power) * np.tile(ramp, design.num_data_symbols))
    wrong, bits, common = 0, 0, 0.0
    aided: list[NDArray[np.float64]] = []
    decided: list[NDArray[np.float64]] = []
    shown: list[NDArray[np.complex128]] = []
    for block in _blocks(samples, sync, design.frame_len):
        y = data.extract(block, setup.numerology)
        aided.append(np.mean(np.abs(y - h * x) ** 2, axis=1))
        z = data.extract(np.roll(block, advance, axis=1), setup.numerology) * equaliser
        nearest = nearest_symbols(z, points)
        if not decided:
            common = _common_stderr(z, points, h, variance)
        decided.append(np.mean(np.abs(z - points[nearest]) ** 2, axis=1))
        wrong += int(np.count_nonzero(nearest != sent))
        bits += int(_ONES[nearest ^ sent].sum())
        if sum(row.size for row in shown) < SHOWN_SYMBOLS:
            shown.append(z.ravel()[:SHOWN_SYMBOLS])
    error = np.concatenate(aided)
    signal = unbiased_power(h, variance, len(error))
    # the error of h adds to every error vector
    floor = float(np.mean(error)) - variance * signal_per_h2
    noise = Estimate(value=floor, stderr=_stderr(error), count=len(error))
    num_symbols = len(error) * len(sent)
    decision_error = np.concatenate(decided)
    mean_decided = float(np.mean(decision_error))
    measurement = LinkMeasurement(
        pilot_sinr=_pilot_sinr(columns * np.sqrt(power), pilots, serving, len(error)),
        data_sinr=_ratio(_scaled(signal, signal_per_h2), noise),
        decision_sinr=Estimate(
            value=sent_power / mean_decided,
            stderr=sent_power / mean_decided**2 * float(np.hypot(_stderr(decision_error), common)),
            count=len(error),
        ),
        symbol_error_rate=_share(wrong, num_symbols),
        bit_error_rate=_share(bits, num_symbols * BITS_PER_SYMBOL[design.modulation]),
    )
    symbols = np.concatenate(shown)[:SHOWN_SYMBOLS].astype(np.complex64)
    return measurement, error / (abs(h) ** 2 * signal_per_h2), symbols


def nearest_symbols(z: NDArray[np.complex128], points: NDArray[np.complex128]) -> NDArray[np.int64]:
    """Index of the nearest point of a square constellation, rail by rail; same shape as `z`.

    An index is the label of the real rail times the number of levels, plus that of the imaginary one.
    """
    levels = isqrt(points.size)
    rail = points[::levels].real  # of every label
    label, lowest, step = np.argsort(rail), rail.min(), np.ptp(rail) / (levels - 1)

    def sliced(values: NDArray[np.float64]) -> NDArray[np.int64]:
        return label[np.clip(np.rint((values - lowest) / step), 0, levels - 1).astype(np.int64)]

    return sliced(z.real) * levels + sliced(z.imag)


def _common_stderr(z: NDArray[np.complex128], points: NDArray[np.complex128], h: complex, variance: float) -> float:
    """Standard error that the error of h, common to all frames, gives the mean decided error power."""

    def power(error: complex) -> float:
        moved = z * (h / (h + error))
        return float(np.mean(np.abs(moved - points[nearest_symbols(moved, points)]) ** 2))

    # a step of one standard deviation along each rail: the difference is the contribution itself
    rail = np.sqrt(variance / 2)
    return float(np.hypot(power(rail) - power(-rail), power(1j * rail) - power(-1j * rail)) / 2)


def _pilot_sinr(x: NDArray[np.complex128], pilots: _Pilots, serving: int, count: int) -> Estimate:
    """Own over other nodes' power and noise, as data meet them, with gains and noise of the pilot symbols.

    S / F,   S = |h_o|^2 mean|x_o|^2,   F = mean|sum over l != o of h_l x_l|^2 + sigma2,

    for frames repeat, and so do their products. A mean power h^H A h, A = x^H x / N, has the bias tr(A C) and the
    variance 2 h^H A C A h + tr(A C A C); S and F share the errors of h to first order.
    """
    own = np.arange(x.shape[1]) == serving
    h, C, A = pilots.h, pilots.covariance, x.conj().T @ x / x.shape[0]
    A_own, A_others = A * np.outer(own, own), A * np.outer(~own, ~own)
    S = max(float((h.conj() @ A_own @ h - np.trace(A_own @ C)).real), 0.0)
    F = max(float((h.conj() @ A_others @ h - np.trace(A_others @ C)).real), 0.0) + pilots.noise_var.value
    sinr = S / F
    # F d(S / F) = 2 Re(h^H T e) + e^H T e, less what noise_var errs by
    T = A_own - sinr * A_others
    TC = T @ C
    variance = (2 * (h.conj() @ TC @ T @ h) + np.trace(TC @ TC)).real + (sinr * pilots.noise_var.stderr) ** 2
    return Estimate(value=sinr, stderr=float(np.sqrt(variance)) / F, count=count)


def _blocks(samples: NDArray[np.complexfloating], sync: Sync, frame_len: int) -> list[NDArray[np.complexfloating]]:
    """Whole frames after the start, a bounded number at a time, each of shape (n, frame_len)."""
    num_frames = (samples.size - sync.start) // frame_len
    frames = samples[sync.start : sync.start + num_frames * frame_len].reshape(num_frames, frame_len)
    return [frames[at : at + _BLOCK_FRAMES] for at in range(0, num_frames, _BLOCK_FRAMES)]


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(value=estimate.value * factor, stderr=estimate.stderr * factor, count=estimate.count)


def _ratio(a: Estimate, b: Estimate) -> Estimate:
    """Ratio a / b of independent estimates, to first order; a signal floored at 0 keeps its error."""
    value = a.value / b.value
    stderr = float(np.hypot(a.stderr, value * b.stderr) / b.value)
    return Estimate(value=value, stderr=stderr, count=min(a.count, b.count))


def _share(counted: int, total: int) -> Estimate:
    """Share of a count; its error is that of (k + 1) / (n + 2), for none of n does not say never."""
    p = (counted + 1) / (total + 2)
    return Estimate(value=counted / total, stderr=float(np.sqrt(p * (1 - p) / total)), count=total)


def _stderr(values: NDArray[np.float64]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(values.size)) if values.size > 1 else float(abs(values[0]))
