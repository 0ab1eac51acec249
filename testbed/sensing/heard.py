"""What one receiver heard of the frames: observations of every frame, and the columns that model them.

Start and latency come from the receiver's own frame, jointly with clutter and echo (`latency`); whole buffers are
shifted at the delays of known paths, frames alone at those of the echo (`columns`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from testbed.errors import CaptureError, SyncError
from testbed.sensing.columns import BufferColumns
from testbed.sensing.delay import (
    Nuisance,
    Profile,
    delay_profile,
    peaks,
)
from testbed.sensing.detect import SensingSetup
from testbed.sensing.latency import Pass, find_arrival, find_pass, latency_step
from testbed.sensing.model import Path, cell_paths, nuisance_paths
from testbed.sensing.sync import MIN_PEAK_SIGMA
from testbed.waveform.frame import FrameDesign
from testbed.waveform.shift import cyclic_shift

Known = Literal["own", "all"]
_LATENCY_STEPS = 4
_SMALL_STEP = 1e-3  # samples: what such a step leaves is far below the standard error
_SAME_LATENCY = 0.01  # samples; by this much a reference capture may begin elsewhere between two samples


def known_paths(setup: SensingSetup, node: str, cell_name: str | None, known: Known) -> tuple[list[Path], list[Path]]:
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


@dataclass(frozen=True, eq=False)
class Heard:
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
    ) -> "Heard":
        """Find the frames of known nodes in the samples of one receiver, and model them.

        Args:
            samples: shape (n,).
            frames: what every node sends, shape (num_nodes, buffer_len).
            design: of the frames.
            rx: the receiver's own row of `frames`.
            known: paths in D; the first path of a node that has one is found in the samples.
            echoes: of the target over other nodes, in D with their derivatives.
            name: of the receiver, for messages.
            low: of the search for the echo, samples after the self path.
            high: of that search.
            reference: samples without the target, taken off.
        """
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
            heard = replace(heard, pooled_delay=common_delay(quiet))
        return heard

    def _less(self, reference: NDArray[np.complexfloating], buffer: NDArray[np.complex128], name: str) -> "Heard":
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

    def _fine(self, low: float, high: float) -> "Heard":
        """Sub-sample offsets, jointly with the echo."""
        D = self.nuisance()
        pooled = common_delay(self.profile(D, self.columns(0.0), low, high))
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
        columns = [self.scaled(column) for group in self.modelled for column in group]
        return Nuisance.of(columns, self.own.num_observations)

    def columns(self, doppler: float) -> "EchoColumns":
        """Of the echo, at delays after the self path, shifted by `doppler` cycles per sample."""
        return EchoColumns(self, doppler)

    def profile(self, D: Nuisance, columns: "EchoColumns", low: float, high: float) -> Profile:
        """J of every frame over the search."""
        numerology = self.design.numerology
        return delay_profile(D.removed(self.y), columns, D, numerology.subcarriers, numerology.fft_size, low, high)

    def weighted(self, weight: NDArray[np.float64]) -> "Heard":
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

    def scaled(self, columns: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Columns weighted as the observations are."""
        return columns if self.weight is None else columns * self.weight


@dataclass(frozen=True)
class EchoColumns:
    """Columns x of the echo, weighted as its observations are."""

    heard: Heard
    doppler: float

    def __call__(
        self, delay_samples: NDArray[np.float64] | float, orders: Sequence[int]
    ) -> list[NDArray[np.complex128]]:
        """At these delays, one per frame or one for all, an array (M or 1, N) per order of the derivative."""
        heard = self.heard
        rows = heard.found.rows
        if np.ndim(delay_samples) == 0 and not self.doppler and heard.own.num_frames == 1:
            rows = rows[:1]  # all frames are alike
        first = heard.design.frame_len * np.arange(rows.size)
        delays = heard.offset[heard.rx] + np.asarray(delay_samples)
        found = heard.own.each(delays, rows, orders, doppler=self.doppler, first=first)
        return [heard.scaled(column) for column in found]


def _cut(samples: NDArray[np.complexfloating], found: Pass, frame_len: int) -> NDArray[np.complexfloating]:
    stop = found.start + found.rows.size * frame_len
    return samples[found.start : stop].reshape(-1, frame_len)


def _find_others(
    samples: NDArray[np.complexfloating], frames: NDArray[np.complex128], heard: Heard, name: str
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


def common_delay(profile: Profile) -> float:
    """Peak of J summed over frames."""
    return float(peaks(replace(profile, statistic=profile.statistic.sum(axis=0, keepdims=True)))[0])
