"""A user's link: pilot SINR, data-aided and decision-directed error vectors, symbol and bit errors.

The channel comes from the pilot symbols alone, so the error vector of the data symbols is independent of it. Symbols
are known from the seed (SIGNAL_CHAIN section 4). All SINRs are linear and per used resource element of the data.

    data-aided      |h|^2 mean|x|^2 / mean|y - h x|^2       x: the serving node's data as they arrive
    pilot           the same powers from gains and noise of the pilot symbols, where codes keep the nodes apart
    decision        the error vector against the NEAREST symbol: reads too high where symbols are mistaken
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.errors import CaptureError
from testbed.measurement import Estimate, LinkMeasurement, PathMeasurement, PowerResponse
from testbed.sensing.channel import fit_paths, path_measurements, unbiased_power, unit_drive
from testbed.sensing.detect import SensingSetup, sensing_setup
from testbed.sensing.model import Path, SurveyUser, direct_paths, time_columns
from testbed.sensing.response import power_response
from testbed.sensing.sync import Sync, synchronise
from testbed.waveform.observations import ResourceElements
from testbed.waveform.sequences import BITS_PER_SYMBOL, constellation

SHOWN_SYMBOLS = 2000  # kept for the constellation diagram
_BLOCK_FRAMES = 512  # at a time in double precision
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


@dataclass(frozen=True)
class _Pilots:
    """What the pilot symbols give."""

    h: NDArray[np.complex128]  # amplitude per transmitter; 0 where silent, shape (num_tx,)
    variance: NDArray[np.float64]  # of h, shape (num_tx,)
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
    node, names, frames = capture.node(user.name), setup.survey.node_names, capture.frame.samples
    serving = names.index(user.node)
    paths = direct_paths(setup.survey, user, setup.numerology.sample_rate_hz)
    samples = node.samples[0]
    # an interferer that cannot be heard disturbs nobody; it is taken to be synchronous with the serving node
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
    h, variance = np.zeros(len(active), dtype=np.complex128), np.zeros(len(active))
    h[active] = inverse @ (mean / num_frames)
    variance[active] = value / num_frames * np.sum(np.abs(inverse) ** 2, axis=1)
    return _Pilots(h, variance, Estimate(value=value, stderr=value / np.sqrt(count), count=count))


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
    h, signal_per_h2 = pilots.h[serving], float(np.mean(np.abs(x) ** 2))
    delay = float(sync.offset_samples[serving]) + paths[serving].delay_samples
    ramp = np.exp(-2j * np.pi * setup.numerology.subcarriers / setup.numerology.fft_size * delay)
    equaliser = 1 / (h * np.sqrt(signal_per_h2) * np.tile(ramp, design.num_data_symbols))
    points, sent = constellation(design.modulation), design.data_indices(serving).ravel()
    aided, decided, wrong, bits = [], [], 0, 0
    shown: list[NDArray[np.complex128]] = []
    for block in _blocks(samples, sync, design.frame_len):
        y = data.extract(block, setup.numerology)
        aided.append(np.mean(np.abs(y - h * x) ** 2, axis=1))
        z = y * equaliser
        nearest = np.argmin(np.abs(z[..., None] - points), axis=-1)
        decided.append(np.mean(np.abs(z - points[nearest]) ** 2, axis=1))
        wrong += int(np.count_nonzero(nearest != sent))
        bits += int(_ONES[nearest ^ sent].sum())
        if sum(row.size for row in shown) < SHOWN_SYMBOLS:
            shown.append(z.ravel()[:SHOWN_SYMBOLS])
    error = np.concatenate(aided)
    signal = unbiased_power(h, float(pilots.variance[serving]), len(error))
    # the error of h adds to every error vector
    floor = float(np.mean(error)) - pilots.variance[serving] * signal_per_h2
    noise = Estimate(value=floor, stderr=_stderr(error), count=len(error))
    num_symbols = len(error) * len(sent)
    decision_error = np.concatenate(decided)
    mean_decided = float(np.mean(decision_error))
    measurement = LinkMeasurement(
        pilot_sinr=_pilot_sinr(columns, power, pilots, serving, len(error)),
        data_sinr=_ratio(_scaled(signal, signal_per_h2), noise),
        decision_sinr=Estimate(
            value=1 / mean_decided, stderr=_stderr(decision_error) / mean_decided**2, count=len(error)
        ),
        symbol_error_rate=_share(wrong, num_symbols),
        bit_error_rate=_share(bits, num_symbols * BITS_PER_SYMBOL[design.modulation]),
    )
    symbols = np.concatenate(shown)[:SHOWN_SYMBOLS].astype(np.complex64)
    return measurement, error / (abs(h) ** 2 * signal_per_h2), symbols


def _pilot_sinr(
    columns: NDArray[np.complex128], power: NDArray[np.float64], pilots: _Pilots, serving: int, count: int
) -> Estimate:
    """Own over other nodes' power and noise, as data would meet them, from gains of the pilot symbols."""
    per_gain = power * np.mean(np.abs(columns) ** 2, axis=0)
    received = [
        _scaled(unbiased_power(h, float(v), count), float(scale))
        for h, v, scale in zip(pilots.h, pilots.variance, per_gain, strict=True)
    ]
    others = [pilots.noise_var, *(r for tx, r in enumerate(received) if tx != serving)]
    value, stderr = sum(e.value for e in others), float(np.sqrt(sum(e.stderr**2 for e in others)))
    return _ratio(received[serving], Estimate(value=value, stderr=stderr, count=count))


def _blocks(samples: NDArray[np.complexfloating], sync: Sync, frame_len: int) -> list[NDArray[np.complexfloating]]:
    """Whole frames after the start, a bounded number at a time, each of shape (n, frame_len)."""
    num_frames = (samples.size - sync.start) // frame_len
    frames = samples[sync.start : sync.start + num_frames * frame_len].reshape(num_frames, frame_len)
    return [frames[at : at + _BLOCK_FRAMES] for at in range(0, num_frames, _BLOCK_FRAMES)]


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(value=estimate.value * factor, stderr=estimate.stderr * factor, count=estimate.count)


def _ratio(a: Estimate, b: Estimate) -> Estimate:
    """Ratio a / b of independent estimates, to first order."""
    value = a.value / b.value
    relative = np.hypot(a.stderr / a.value if a.value > 0 else 0.0, b.stderr / b.value)
    return Estimate(value=value, stderr=float(value * relative), count=min(a.count, b.count))


def _share(counted: int, total: int) -> Estimate:
    p = counted / total
    return Estimate(value=p, stderr=float(np.sqrt(p * (1 - p) / total)), count=total)


def _stderr(values: NDArray[np.float64]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(values.size)) if values.size > 1 else float(abs(values[0]))
