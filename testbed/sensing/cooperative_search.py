"""Where a target is, straight from the profiles of many links: direct maximum likelihood, all frames at once.

    p_hat = argmax over p of sum over links of J_k(excess_k(p)),    J = |x^H (I - P_D) y|^2 / (sigma2 ||(I - P_D) x||^2)

excess_k(p) is how much the path over p is longer than the first path of the link. No link decides alone: where noise
hides the peaks of single ones, and maximum likelihood from ranges takes outliers for distances, their sum still stands.
A coarse grid over the area, then grids about the best place that are finer by 4 each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

_COARSE, _FINE, _ZOOMS = 33, 13, 5  # points per axis, and how often the grid is refined
_REACH = 1.5  # steps of the coarser grid that a finer one extends


@dataclass(frozen=True)
class Area:
    """A rectangle in which a target is looked for. With nodes on one line it must lie on one side of it."""

    low_m: tuple[float, float]
    high_m: tuple[float, float]

    def __post_init__(self) -> None:
        if not all(np.isfinite([*self.low_m, *self.high_m])) or not np.all(np.array(self.low_m) < self.high_m):
            raise ValueError(f"area {self.low_m}..{self.high_m}; must be finite, low below high on both axes")

    @classmethod
    def around(cls, position_m: ArrayLike) -> "Area":
        """The bounding box of positions (n, 2)."""
        places = np.asarray(position_m, dtype=np.float64)
        low, high = places.min(axis=0).tolist(), places.max(axis=0).tolist()
        return cls((low[0], low[1]), (high[0], high[1]))

    def grid(self, count: int) -> NDArray[np.float64]:
        """Points in rows, shape (count^2, 2)."""
        axes = [np.linspace(low, high, count) for low, high in zip(self.low_m, self.high_m, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class Profiles:
    """J of K links and M frames over the excess of the echo's path, and the geometry that tells an excess."""

    statistic: Sequence[NDArray[np.floating]]  # per link, shape (M, G); 0 where D hides the echo
    sender_m: NDArray[np.float64]  # shape (K, 2)
    receiver_m: NDArray[np.float64]  # shape (K, 2)
    metres: float  # of path per sample
    per_sample: int  # grid points per sample, the first one at 0

    @property
    def num_frames(self) -> int:
        """M."""
        return len(self.statistic[0])

    @property
    def first_m(self) -> NDArray[np.float64]:
        """Length of the first path of every link, shape (K,)."""
        length: NDArray[np.float64] = np.linalg.norm(self.sender_m - self.receiver_m, axis=1)
        return length

    def only(self, links: NDArray[np.bool_]) -> "Profiles":
        """Some of the links."""
        kept = [J for J, keep in zip(self.statistic, links, strict=True) if keep]
        return replace(self, statistic=kept, sender_m=self.sender_m[links], receiver_m=self.receiver_m[links])

    def path_m(self, position_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Length of every link's path over positions (..., 2), shape (..., K)."""
        ends = (self.sender_m, self.receiver_m)
        away = [np.linalg.norm(position_m[..., None, :] - end, axis=-1) for end in ends]
        total: NDArray[np.float64] = away[0] + away[1]
        return total

    def excess_samples(self, position_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Excess of every link's path over positions (..., 2), shape (..., K)."""
        return (self.path_m(position_m) - self.first_m) / self.metres

    def gradient(self, position_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of path lengths by the position (..., 2), shape (..., K, 2)."""
        unit = np.zeros((*position_m.shape[:-1], len(self.sender_m), 2))
        for end in (self.sender_m, self.receiver_m):
            away = position_m[..., None, :] - end
            unit += away / np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-9)
        return unit


def at_excess(
    statistic: NDArray[np.floating], excess_samples: NDArray[np.float64], per_sample: int
) -> NDArray[np.float64]:
    """J of every frame at excesses of its own, by a parabola through three grid points; 0 beyond the grid.

    Args:
        statistic: shape (M, G).
        excess_samples: shape (M, P), or (1, P) for all frames.
        per_sample: grid points per sample.

    Returns:
        Shape (M, P).
    """
    num_frames, G = statistic.shape
    place = excess_samples * per_sample
    nearest = np.clip(np.rint(place).astype(np.intp), 1, G - 2)
    t = place - nearest
    if len(excess_samples) == 1:
        before, here, after = (statistic[:, nearest[0] + k] for k in (-1, 0, 1))
    else:
        flat = nearest + np.arange(num_frames)[:, None] * G
        before, here, after = (statistic.reshape(-1)[flat + k] for k in (-1, 0, 1))
    value = here + t * ((after - before) / 2 + t * ((after + before) / 2 - here))
    return np.where(np.abs(t) <= 1, value, 0.0).astype(np.float64, copy=False)


def search(profiles: Profiles, area: Area) -> NDArray[np.float64]:
    """The best place of every frame, shape (M, 2).

    Raises:
        ValueError: no link.
    """
    if not profiles.statistic:
        raise ValueError("no link to locate with; take more nodes, or a target farther from the lines between them")
    step = (np.array(area.high_m) - np.array(area.low_m)) / (_COARSE - 1)
    found = _best(profiles, area.grid(_COARSE)[None])
    offsets = Area((-_REACH, -_REACH), (_REACH, _REACH)).grid(_FINE)
    for _ in range(_ZOOMS):
        found = _best(profiles, np.clip(found[:, None] + offsets * step, area.low_m, area.high_m))
        step = step * (2 * _REACH / (_FINE - 1))
    return found


def _best(profiles: Profiles, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of places (M, P, 2), or (1, P, 2) for all frames, the one with the largest sum."""
    total = np.zeros((profiles.num_frames, places.shape[1]))
    ends = zip(profiles.sender_m, profiles.receiver_m, profiles.first_m, strict=True)
    for J, (sender, receiver, first) in zip(profiles.statistic, ends, strict=True):
        path = sum(np.hypot(places[..., 0] - end[0], places[..., 1] - end[1]) for end in (sender, receiver))
        total += at_excess(J, (path - first) / profiles.metres, profiles.per_sample)
    chosen = np.argmax(total, axis=1)
    best: NDArray[np.float64] = np.broadcast_to(places, (len(total), *places.shape[1:]))[np.arange(len(total)), chosen]
    return best
