"""Positions of one target from the ranges of several nodes, frame by frame, and whether their covariances are right.

A trial takes one range of every node. Two nodes' errors in ONE slot are correlated: both contain the product of the
same two nodes' data (scenes/localization.md section 4). Judged positions of a target that stands still therefore take
node k's range from frame t + k: every range is used once, and no two of one slot meet. Positions from one slot are what
a tracker would have; they are reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.errors import CaptureError
from testbed.sensing.localize import locate
from testbed.sensing.ranging import Ranging
from testbed.theory.chi_square import ChiSquareTest, chi_square_test


@dataclass(frozen=True, eq=False)
class Positions:
    """A position per trial."""

    nodes: tuple[str, ...]
    position_m: NDArray[np.float64]  # (T, 3)
    covariance_m2: NDArray[np.float64]  # Cramer-Rao bound, (T, 2, 2) if the height was known, else (T, 3, 3)
    outlier: NDArray[np.bool_]  # whether any of its ranges is an outlier, (T,); such a position has no bound
    shifted: bool  # node k's range is of frame t + k
    independent: bool  # whether trials are

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Positions whose covariance says something, (T,): no outlier, no singular geometry."""
        return ~self.outlier & np.all(np.isfinite(self.covariance_m2), axis=(1, 2))

    @property
    def error_bound_m(self) -> float:
        """Root mean square position error by the covariances; NaN where no position can be judged."""
        traces = np.trace(self.covariance_m2[self.judged], axis1=1, axis2=2)
        return float(np.sqrt(np.mean(traces))) if traces.size else float("nan")

    def errors_m(self, position_m: ArrayLike) -> NDArray[np.float64]:
        """Errors of the judged positions against a true place, coordinates that were sought, (n, 2) or (n, 3)."""
        size = self.covariance_m2.shape[-1]
        errors: NDArray[np.float64] = (self.position_m - _point(position_m))[self.judged, :size]
        return errors

    def rms_error_m(self, position_m: ArrayLike) -> float:
        """Root mean square error of the judged positions; NaN where there is none."""
        errors = self.errors_m(position_m)
        return float(np.sqrt(np.mean(np.sum(errors**2, axis=1)))) if len(errors) else float("nan")


def positions(
    rangings: Mapping[str, Ranging],
    node_position_m: Mapping[str, Sequence[float]],
    height_m: float | None = None,
    *,
    shifted: bool = True,
) -> Positions:
    """Locate a target from every trial of a capture.

    Frames that all nodes have count, T of them in the order of the buffer. Trial t takes node k's range from frame
    (t + k) mod T, or all from frame t. Nothing is taken for an error by disagreement: a range that is an outlier makes
    the position one, which is kept, marked, and judged by nobody. Positions beside a mirror image are the ones `locate`
    prefers.

    Args:
        rangings: of at least two nodes, or three without a height, of one capture.
        node_position_m: of each of them, 2 coordinates or 3.
        height_m: of the target; None: sought. With node positions of 2 coordinates all is on the ground, and it is 0.
        shifted: see above; a target that moves cannot be shifted.

    Raises:
        CaptureError: a node without a place, or no frame that all have.
        ValueError: a shift of ranges that are followed by their Doppler shift, or too few nodes.
    """
    names = tuple(rangings)
    missing = [name for name in names if name not in node_position_m]
    if missing:
        raise CaptureError(f"node '{missing[0]}': has ranges but no position; positions are of {list(node_position_m)}")
    if height_m is None and all(len(node_position_m[name]) == 2 for name in names):
        height_m = 0.0
    if len(names) < (3 if height_m is None else 2):
        raise ValueError(f"{len(names)} nodes - a position needs a range per coordinate")
    moving = any(ranging.doppler_hz is not None for ranging in rangings.values())
    if moving and shifted:
        raise ValueError("shifted - a target that moves has to be located from ranges of one time")
    nodes = np.array([_point(node_position_m[name]) for name in names])
    order = _trials(list(rangings.values()), by_time=moving)
    T = order.shape[1]
    if shifted:
        order = np.stack([np.roll(frames, -k) for k, frames in enumerate(order)])
    rho, sigma, bad = (
        np.stack([values[frames] for values, frames in zip(rows, order, strict=True)], axis=1)
        for rows in (
            [ranging.range_m for ranging in rangings.values()],
            [ranging.crlb_m for ranging in rangings.values()],
            [ranging.outlier for ranging in rangings.values()],
        )
    )
    found = [locate(nodes, rho[t], sigma[t], height_m, outlier_chance=0.0) for t in range(T)]
    return Positions(
        nodes=names,
        position_m=np.array([position.position_m for position in found]),
        covariance_m2=np.array([position.covariance_m2 for position in found]),
        outlier=np.any(bad, axis=1),
        shifted=shifted,
        independent=all(ranging.independent for ranging in rangings.values()),
    )


def nees(found: Positions, position_m: ArrayLike, *, level: float = 0.05) -> ChiSquareTest:
    """Normalised estimation errors squared: sum of e^T C^-1 e over trials, two (three) degrees of freedom for each.

    Args:
        found: positions; outliers are left out (`sensing.range_verdict.outlier_p_value` judges whether there are too
            many).
        position_m: where the target is.
        level: probability of a wrong "not consistent".

    Raises:
        CaptureError: no position can be judged.

    Valid for: errors small against the ranges, and independent: `found.shifted` and `found.independent`.
    """
    errors = found.errors_m(position_m)
    if len(errors) == 0:
        raise CaptureError(
            f"positions: none of {len(found.position_m)} can be judged, outliers or singular geometry throughout"
        )
    solved = np.linalg.solve(found.covariance_m2[found.judged], errors[..., None])[..., 0]
    return chi_square_test(float(np.sum(errors * solved)), errors.size, level)


def _trials(rangings: Sequence[Ranging], *, by_time: bool) -> NDArray[np.int64]:
    """Which range of every node is of trial t, (K, T).

    Receivers need not begin with the same frame of the buffer: a slot is a frame, cyclically. Where the target moves,
    and where all frames are one, it is a time.
    """
    if by_time or min(ranging.num_data for ranging in rangings) == 1:
        T = min(ranging.num_frames for ranging in rangings)
        return np.tile(np.arange(T), (len(rangings), 1))
    common = rangings[0].frame_idx
    for ranging in rangings[1:]:
        common = np.intersect1d(common, ranging.frame_idx)
    if common.size == 0:
        raise CaptureError("positions: the nodes have no frame in common; capture a whole buffer")
    sorted_frames = [np.argsort(ranging.frame_idx) for ranging in rangings]
    kept = [np.isin(r.frame_idx[at], common) for r, at in zip(rangings, sorted_frames, strict=True)]
    return np.stack([at[keep] for at, keep in zip(sorted_frames, kept, strict=True)])


def _point(position_m: ArrayLike) -> NDArray[np.float64]:
    """Three coordinates; the ground where there are two."""
    point = np.asarray(position_m, dtype=np.float64)
    if point.shape not in ((2,), (3,)):
        raise ValueError(f"position_m {point.shape} - must be (2,) or (3,)")
    return np.append(point, 0.0) if point.size == 2 else point
