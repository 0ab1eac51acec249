"""One link of a cooperative network: a receiver looks at the slot in which one node is alone.

With y the samples of the slot, guard included, but for its first cyclic prefix, in which echoes of what all nodes sent
before the slot still arrive,

    D     the transmitter's first path (direct, or self where it is the receiver), its derivative, and the first paths
          of all other nodes: a fractional delay has tails as long as the frame, and those of a self path 51 dB above
          noise reach into every slot (scenes/cooperative.md, section 2)
    x     the transmitter's frame, later by the excess of the echo's path over the first one
    J     |x(excess)^H (I - P_D) y|^2 / ||(I - P_D) x||^2      per frame, on a grid of 1/32 sample, 0 where D hides x

Without the other nodes, ranges were off by up to 7 standard errors of 400 frames' mean in the prototype; with the first
cyclic prefix, by 14 in slot 0, which user data precede, at a sensing share of .06.

Frames repeat, so what differs between them is noise, and what their mean holds beside D and x is a model's fault.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.sensing.cooperative_columns import ArrivedFrames
from testbed.sensing.model import MIN_KAPPA, projection_basis

PER_SAMPLE = 32  # delays of the grid


@dataclass(frozen=True, eq=False)
class SlotLink:
    """J over the grid, and what is needed to look closer at one excess."""

    tx: int
    rx: int
    slot: slice
    arrived: ArrivedFrames
    basis: NDArray[np.complex128]  # of range(D), shape (slot_len, Q)
    statistic: NDArray[np.float32]  # J of every frame, in the unit of |y|^2, shape (M, G)
    mean: NDArray[np.complex128]  # (I - P_D) mean y, shape (slot_len,)
    pooled: NDArray[np.float64]  # J of it, shape (G,)
    scatter: float  # sum over frames of ||(I - P_D) (y - mean y)||^2

    @property
    def num_frames(self) -> int:
        """M."""
        return len(self.statistic)

    @property
    def freedom(self) -> int:
        """Complex degrees of freedom that D leaves in a frame."""
        return self.basis.shape[0] - self.basis.shape[1]

    def at(self, excess_samples: float) -> "SlotEcho":
        """The echo at one excess, exact columns."""
        x, x1 = (self.arrived.later(self.tx, self.slot, excess_samples, order) for order in (0, 1))
        left, left1 = self._removed(x), self._removed(x1)
        energy, whole = _energy(left), _energy(x)
        slope = _energy(left1) - _overlap(left, left1) / max(energy, 1e-300)
        free_slope = _energy(x1) - _overlap(x, x1) / whole
        power = _overlap(left, self.mean) / max(energy, 1e-300)
        return SlotEcho(
            kappa=energy / whole,
            information=max(slope, 0.0) / free_slope,
            pooled=power,
            slope_ratio=max(slope, 0.0) / max(energy, 1e-300),
            unexplained=_energy(self.mean) - power,
        )

    def _removed(self, column: NDArray[np.complex128]) -> NDArray[np.complex128]:
        left: NDArray[np.complex128] = column - self.basis @ (self.basis.conj().T @ column)
        return left


@dataclass(frozen=True)
class SlotEcho:
    """What the mean frame of a link says of an echo at one excess."""

    kappa: float  # ||(I - P_D) x||^2 / ||x||^2
    information: float  # ||(I - P_[D x]) x'||^2 over the same without D
    pooled: float  # |x^H (I - P_D) mean y|^2 / ||(I - P_D) x||^2, in the unit of |y|^2
    slope_ratio: float  # ||(I - P_[D x]) x'||^2 / ||(I - P_D) x||^2, per sample^2
    unexplained: float  # ||(I - P_[D x]) mean y||^2


def slot_link(
    arrived: ArrivedFrames, frames: NDArray[np.complexfloating], slot: slice, tx: int, rx: int, num_delays: int
) -> SlotLink:
    """A link from the frames that a receiver cut.

    Args:
        arrived: all nodes' frames over their first paths to the receiver.
        frames: received, shape (M, frame_len).
        slot: samples in which node `tx` is alone, and echoes of nothing else arrive.
        tx: transmitter.
        rx: receiver.
        num_delays: G, grid points of 1/32 sample from excess 0 on.
    """
    columns = [*arrived.first(slot), arrived.later(tx, slot, 0.0, order=1)]
    basis = projection_basis(np.stack(columns, axis=1))
    y = frames[:, slot].astype(np.complex128)
    left = y - (y @ basis.conj()) @ basis.T
    mean = left.mean(axis=0)
    grid = arrived.grid(tx, slot, num_delays, PER_SAMPLE)
    whole = _squares(grid).sum(axis=1)
    energy = whole - _squares(grid @ basis.conj().astype(np.complex64)).sum(axis=1)
    clear = energy > MIN_KAPPA * whole
    scale = np.where(clear, 1 / np.where(clear, energy, 1.0), 0.0).astype(np.float32)
    matched = left.astype(np.complex64) @ grid.conj().T
    pooled = np.abs(matched.mean(axis=0, dtype=np.complex128)) ** 2 * scale
    return SlotLink(
        tx=tx,
        rx=rx,
        slot=slot,
        arrived=arrived,
        basis=basis,
        statistic=_squares(matched) * scale,
        mean=mean,
        pooled=pooled,
        scatter=float(np.sum(np.abs(left - mean) ** 2)),
    )


def _squares(values: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Squared magnitudes, without the square root of `abs`."""
    squared: NDArray[np.float32] = np.square(values.real) + np.square(values.imag)
    return squared


def _energy(column: NDArray[np.complex128]) -> float:
    return float(np.vdot(column, column).real)


def _overlap(one: NDArray[np.complex128], other: NDArray[np.complex128]) -> float:
    """|one^H other|^2."""
    return float(np.abs(np.vdot(one, other)) ** 2)
