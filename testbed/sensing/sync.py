"""Time: the start of the frame, and the sub-sample offset of every transmitter, by a joint fit over ALL paths.

A receiver folds its capture at the frame period and correlates with every node's whole frame. Arrivals are found by
successive cancellation, the clearest first: a well-isolated receiver hears the others louder than itself, and so is
found on what they leave. Then the offsets t_l maximise ||P_B(t) ybar||^2 over the whole folded frame, B holding every
surveyed path with delays tied to the geometry (SIGNAL_CHAIN section 2). Stopping at a parabola or at the self column
alone breaks the false-alarm rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.errors import SyncError
from testbed.sensing.model import Path, projection_basis, time_columns
from testbed.waveform.shift import cyclic_shift

MIN_PEAK_SIGMA = 8.0  # a noise-only correlation of 1e5 lags exceeds 8 sigma with probability 1e-9
MIN_FIRST = 0.1  # of the strongest arrival's amplitude: a weaker one before it is no first path but a filter's tail
_GRID = 8  # steps per sample of the starting search
_TOLERANCE_STDERR = 1e-3  # of a step, in standard errors of the offset
_MAX_STEPS, _MAX_HALVINGS = 60, 20


@dataclass(frozen=True)
class Sync:
    """Where the frames are in a capture."""

    start: int  # first sample of the receiver's own (or serving) frame, 0 .. frame_len - 1
    offset_samples: NDArray[
        np.float64
    ]  # per node, frame start after `start`; NaN if silent or lost, shape (num_nodes,)
    stderr_samples: NDArray[np.float64]  # of the offsets, shape (num_nodes,)
    folded: NDArray[np.complex128]  # mean frame after `start`, shape (frame_len,)
    peak_sigma: float  # correlation peak of the reference over its noise, the clearer nodes projected out
    num_frames: int  # folded


def fold(samples: NDArray[np.complexfloating], frame_len: int) -> NDArray[np.complex128]:
    """Mean over all whole frames of a capture, shape (frame_len,)."""
    num_frames = samples.size // frame_len
    mean: NDArray[np.complex128] = (
        samples[: num_frames * frame_len].reshape(num_frames, frame_len).mean(axis=0, dtype=np.complex128)
    )
    return mean


def synchronise(
    samples: NDArray[np.complexfloating],
    frames: NDArray[np.complex128],
    paths: Sequence[Path],
    reference: int,
    *,
    name: str = "receiver",
    names: Sequence[str] | None = None,
    needed: Sequence[int] | None = None,
) -> Sync:
    """Find start and offsets.

    Args:
        samples: one channel of a capture, shape (n,), at least one frame.
        frames: what every node sends, shape (num_nodes, frame_len); zero rows are silent nodes.
        paths: every surveyed path to the receiver, those of the cell under test included.
        reference: node whose frame defines the start: the receiver itself, or its serving node.
        name: of the receiver, for messages.
        names: of the nodes, for messages.
        needed: nodes without which nothing can be measured; every node that transmits if None. Another one that is too
            weak to be found gets the offset NaN, as if it were silent.

    Raises:
        SyncError: too few samples, a silent reference, or no correlation peak of a needed node that transmits.
    """
    num_nodes, frame_len = frames.shape
    active = np.flatnonzero(np.any(frames != 0, axis=1))
    if samples.size < frame_len:
        raise SyncError(f"{name}: {samples.size} samples hold no frame of {frame_len}; capture more")
    if reference not in active:
        raise SyncError(f"{name}: the node it synchronises on is silent; give it power")
    folded = fold(samples, frame_len)
    found = _arrivals(folded, frames, active)
    missing = [int(node) for node in active if found.peak_sigma[node] < MIN_PEAK_SIGMA]
    if lost := [node for node in missing if needed is None or node in needed]:
        raise SyncError(f"{name}: {_not_found(lost, found, samples, paths, names)}")
    active = np.setdiff1d(active, missing)
    used = [path for path in paths if path.tx in active]
    first = np.array([min((p.delay_samples for p in used if p.tx == node), default=0.0) for node in range(num_nodes)])
    model, late = _Model(folded, frames, used, active), np.zeros(num_nodes)
    fit = _refine(model, found.arrival - first)
    for node, excess in _late_arrivals(found, frames, used, first):
        late[node], kept = excess, late[node]
        trial = _refine(model, found.arrival - late - first)
        if trial.cost < fit.cost:
            fit = trial
        else:
            late[node] = kept
    start = int(found.lag[reference] - np.round(late[reference])) % frame_len
    # frames repeat: an offset is known modulo the frame
    offsets = fit.offsets - start - frame_len * np.round((fit.offsets - start) / frame_len)
    peak_sigma = float(found.peak_sigma[reference])
    return Sync(start, offsets, fit.stderr, np.roll(folded, -start), peak_sigma, samples.size // frame_len)


@dataclass(frozen=True)
class _Found:
    """The strongest arrival of every node."""

    lag: NDArray[np.int64]  # shape (num_nodes,)
    arrival: NDArray[np.float64]  # lag and a fraction on the grid; NaN where there is none, shape (num_nodes,)
    peak: NDArray[np.float64]  # correlation, shape (num_nodes,)
    peak_sigma: NDArray[np.float64]  # correlation over its noise; 0 where none was looked for, shape (num_nodes,)
    rest: NDArray[np.complex128]  # what they leave of the folded frame, shape (frame_len,)


def _arrivals(folded: NDArray[np.complex128], frames: NDArray[np.complex128], active: NDArray[np.int64]) -> _Found:
    """Greedy: of the nodes left take the one with the clearest peak, project it out, until all are out or none clear.

    The noise of a peak is what is not yet projected out: receiver noise and the frames of the nodes left.
    """
    num_nodes = frames.shape[0]
    lag, arrival = np.zeros(num_nodes, dtype=np.int64), np.full(num_nodes, np.nan)
    peak, peak_sigma = np.zeros(num_nodes), np.zeros(num_nodes)
    out = np.zeros((0, folded.size), dtype=np.complex128)
    rest, left = folded, [int(node) for node in active]
    while left:
        magnitude, sigma = _correlation(rest, frames[left])
        peak[left] = magnitude.max(axis=1)
        peak_sigma[left] = np.divide(peak[left], sigma, out=np.zeros(len(left)), where=sigma > 0)
        row = int(np.argmax(peak_sigma[left]))
        node = left.pop(row)
        if peak_sigma[node] < MIN_PEAK_SIGMA:
            break  # nor are the others clear
        lag[node] = np.argmax(magnitude[row])
        fine = lag[node] + np.arange(-_GRID, _GRID + 1) / _GRID
        match = np.abs(cyclic_shift(frames[node], fine).conj() @ rest)
        arrival[node] = fine[int(np.argmax(match))]
        # value, and neighbours half a sample off: takes the fraction left by the grid along
        out = np.concatenate([out, cyclic_shift(frames[node], arrival[node] + np.array([-0.5, 0.0, 0.5]))])
        basis = projection_basis(out.T)
        rest = folded - basis @ (basis.conj().T @ folded)
    return _Found(lag, arrival, peak, peak_sigma, rest)


def _correlation(
    rest: NDArray[np.complex128], frames: NDArray[np.complex128]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Magnitude at every lag, shape (n, frame_len), and the Rayleigh sigma of all lags (median based), shape (n,)."""
    magnitude = np.abs(np.fft.ifft(np.fft.fft(rest) * np.conj(np.fft.fft(frames))))
    sigma: NDArray[np.float64] = np.median(magnitude, axis=1) / np.sqrt(2 * np.log(2))
    return magnitude, sigma


def _late_arrivals(
    found: _Found, frames: NDArray[np.complex128], paths: Sequence[Path], first: NDArray[np.float64]
) -> list[tuple[int, float]]:
    """Nodes whose strongest arrival may be an echo, each with how far it may be behind the self or direct path.

    Behind a good isolation, or an obstacle, an echo is stronger than the first path. Then the first path stands in what
    the strongest arrivals leave, earlier by a surveyed difference; nothing else comes before it. The fit decides.
    """
    magnitude, sigma = _correlation(found.rest, frames)
    least = np.maximum(MIN_PEAK_SIGMA * sigma, MIN_FIRST * found.peak)
    late = []
    for path in paths:
        excess = path.delay_samples - first[path.tx]
        near = (np.round(found.arrival[path.tx] - excess) + np.array([-1, 0, 1])).astype(int) % frames.shape[1]
        if excess > 0 and magnitude[path.tx, near].max() > least[path.tx]:
            late.append((path.tx, excess))
    return late


def _not_found(
    missing: Sequence[int],
    found: _Found,
    samples: NDArray[np.complexfloating],
    paths: Sequence[Path],
    names: Sequence[str] | None,
) -> str:
    """What was found, what is needed, what to do."""
    called = ", ".join(names[node] if names else f"node {node}" for node in missing)
    own = {path.tx for path in paths if path.kind == "self"}
    suspects = ["the antenna"]
    suspects += ["the self isolation"] if own & set(missing) else []
    suspects += ["what obstructs the direct path"] if set(missing) - own else []
    level = 10 * np.log10(np.mean(np.abs(samples) ** 2) + 1e-300)
    return (
        f"no frame of {called} found in {samples.size} samples (peak {found.peak_sigma[missing].max():.1f} sigma, need "
        f"{MIN_PEAK_SIGMA:g}); raise its power or rx_gain_db (input is {level:.0f} dBm), or check "
        f"{', '.join(suspects[:-1])} and {suspects[-1]}"
    )


@dataclass(frozen=True)
class _Model:
    """What is fitted."""

    folded: NDArray[np.complex128]  # ybar, shape (frame_len,)
    frames: NDArray[np.complex128]  # shape (num_nodes, frame_len)
    paths: Sequence[Path]  # of the active nodes
    active: NDArray[np.int64]


@dataclass(frozen=True)
class _Fit:
    offsets: NDArray[np.float64]
    cost: float  # ||(I - P_B) ybar||^2
    residual: NDArray[np.complex128]
    J: NDArray[np.complex128]  # Jacobian of the model, projected off B
    stderr: NDArray[np.float64]


def _refine(model: _Model, offsets: NDArray[np.float64]) -> _Fit:
    """Gauss-Newton on the variable projection ||(I - P_B(t)) ybar||^2, with step halving."""
    fit = _linearise(model, offsets)
    for _ in range(_MAX_STEPS):
        stacked = np.concatenate([fit.J.real, fit.J.imag])
        step = np.linalg.lstsq(stacked, np.concatenate([fit.residual.real, fit.residual.imag]), rcond=None)[0]
        step = np.clip(step, -0.25, 0.25)
        for _ in range(_MAX_HALVINGS):
            trial_offsets = fit.offsets.copy()
            trial_offsets[model.active] += step
            trial = _linearise(model, trial_offsets)
            if trial.cost <= fit.cost:
                break
            step = step / 2
        else:
            return fit  # no descent left: the minimum to rounding
        fit = trial
        if np.all(np.abs(step) < _TOLERANCE_STDERR * fit.stderr[model.active]):
            break
    return fit


def _linearise(model: _Model, offsets: NDArray[np.float64]) -> _Fit:
    """Residual and Jacobian after Kaufman: r = (I - P_B) ybar, J_l = (I - P_B) sum over paths of l of h_p b'_p."""
    folded, frames, paths, active = model.folded, model.frames, model.paths, model.active
    B = time_columns(paths, frames, offsets).T
    Q, R = np.linalg.qr(B)
    coordinates = Q.conj().T @ folded
    residual = folded - Q @ coordinates
    gain: NDArray[np.complex128] = np.linalg.lstsq(R, coordinates, rcond=1e-10)[0].astype(np.complex128)
    slopes = time_columns(paths, frames, offsets, derivative=True).T * gain
    J = np.stack([slopes[:, [p.tx == node for p in paths]].sum(axis=1) for node in active], axis=1)
    J = J - Q @ (Q.conj().T @ J)
    cost = float(np.sum(np.abs(residual) ** 2))
    freedom = 2 * (folded.size - len(paths)) - active.size
    sigma2 = 2 * cost / max(freedom, 1)  # E|w|^2 of a folded sample
    stderr = np.full(offsets.shape, np.nan)
    # Fisher information of offsets from complex data: 2 Re(J^H J) / sigma2
    stderr[active] = np.sqrt(np.diag(np.linalg.pinv((J.conj().T @ J).real)) * sigma2 / 2)
    return _Fit(offsets, cost, residual, J, stderr)
