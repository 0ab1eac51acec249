"""Positions of a target, one per frame, by the links among any subset of the nodes: two ways, and their bound.

    direct     argmax over p of the sum of all links' J (`cooperative_search`): the default
    weighted   argmin over p of sum (r_k - rho_k(p))^2 / var(r_k), from the path lengths r_k of each link's own peak;
               links below `min_sinr` are left out: their peaks are sometimes noise, and one such length moves a place
               farther than all others hold it
    bound      F = sum over links g g^T / var(r_k), g the gradient of the path length; its inverse, inf if singular

Both come from the same profiles, so a set of nodes, or a network without a dead node, costs no further capture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.measurement import Estimate
from testbed.sensing.cooperative_links import Links
from testbed.sensing.cooperative_search import Area, Profiles, search
from testbed.theory.cooperative import crlb_of_information, fim_of_pairs
from testbed.units import undb

MIN_SINR = undb(15.0)  # integrated; below, single links have outliers
_COARSE = 41  # points per axis of the starting grid
_STEPS, _TOLERANCE_M = 12, 1e-6


@dataclass(frozen=True, eq=False)
class Located:
    """A position per frame."""

    nodes: tuple[int, ...]  # the set
    num_links: int
    position_m: NDArray[np.float64]  # shape (M, 2); NaN where too few links are strong enough
    covariance_m2: NDArray[np.float64]  # Cramer-Rao bound, shape (2, 2); inf if singular

    @property
    def bound_m2(self) -> float:
        """Bound of the mean square error."""
        return float(np.trace(self.covariance_m2))

    def mean_square_error(self, place_m: ArrayLike) -> Estimate | None:
        """Mean of |p_hat - p|^2 over frames, m^2; None where there are no positions."""
        squared = self.square_errors_m2(place_m)
        if not np.all(np.isfinite(squared)):
            return None
        count = squared.size
        return Estimate(
            value=float(np.mean(squared)), stderr=float(np.std(squared, ddof=1) / np.sqrt(count)), count=count
        )

    def square_errors_m2(self, place_m: ArrayLike) -> NDArray[np.float64]:
        """|p_hat - p|^2 of every frame, shape (M,): sets of nodes compare frame by frame."""
        squared: NDArray[np.float64] = np.sum((self.position_m - np.asarray(place_m, dtype=np.float64)) ** 2, axis=1)
        return squared


def locate_directly(links: Links, nodes: Sequence[int] | None = None, *, area: Area | None = None) -> Located:
    """Direct maximum likelihood over the profiles of a set's links.

    Args:
        links: of a capture.
        nodes: the set; all if None.
        area: in which the target is; that of the links if None.

    Raises:
        ValueError: a node that there is not, or no link in the set.
    """
    used = links.chosen(nodes)
    found = search(links.profiles.only(used), area or links.area)
    return Located(_named(links, nodes), int(used.sum()), found, position_bound(links, nodes))


def locate_by_ranges(
    links: Links, nodes: Sequence[int] | None = None, *, area: Area | None = None, min_sinr: float = MIN_SINR
) -> Located:
    """Weighted maximum likelihood from the path lengths of a set's links.

    Args:
        links: of a capture.
        nodes: the set; all if None.
        area: in which the target is; that of the links if None.
        min_sinr: integrated, linear, of a link that is used; 0 takes all.

    Returns:
        Positions, NaN where the links left are singular; the bound is that of the links left.

    Raises:
        ValueError: a node that there is not.
    """
    used = links.chosen(nodes, min_sinr)
    bound = position_bound(links, nodes, min_sinr=min_sinr)
    if not np.all(np.isfinite(bound)):
        nowhere = np.full((links.num_frames, 2), np.nan)
        return Located(_named(links, nodes), int(used.sum()), nowhere, bound)
    profiles, weight = links.profiles.only(used), 1 / links.path_var_m2[used]
    found = _weighted(profiles, path_lengths(profiles), weight, area or links.area)
    return Located(_named(links, nodes), int(used.sum()), found, bound)


def position_bound(
    links: Links,
    nodes: Sequence[int] | None = None,
    *,
    place_m: ArrayLike | None = None,
    min_sinr: float = 0.0,
) -> NDArray[np.float64]:
    """Cramer-Rao bound of a position per frame, from the bounds of the links' path lengths, shape (2, 2).

    Args:
        links: of a capture.
        nodes: the set; all if None.
        place_m: of the target; where all frames together see it if None.
        min_sinr: integrated, linear, of a link that counts.

    Returns:
        The inverse of F; inf throughout where F is singular, as with fewer than two links.
    """
    used = links.chosen(nodes, min_sinr)
    at = links.place_m if place_m is None else np.asarray(place_m, dtype=np.float64)
    variance = np.where(used, links.path_var_m2, np.inf)
    F = fim_of_pairs(links.node_position_m, at, links.as_matrix(variance))
    if not np.isfinite(crlb_of_information(F)):
        return np.full((2, 2), np.inf)
    (a, b), (_, d) = F.tolist()
    return np.array([[d, -b], [-b, a]]) / (a * d - b * b)


def path_lengths(profiles: Profiles) -> NDArray[np.float64]:
    """Length of every link's path by the peak of its own profile, c (tau_echo - tau_first) + d, m, shape (K, M).

    Of chosen links: a profile in which D hides the echo has its peak anywhere.
    """
    found = []
    for J in profiles.statistic:
        at = np.clip(np.argmax(J, axis=1), 1, J.shape[1] - 2)
        before, here, after = (np.take_along_axis(J, (at + k)[:, None], 1)[:, 0].astype(np.float64) for k in (-1, 0, 1))
        bend = before - 2 * here + after
        offset = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1.0), 0.0)
        found.append((at + np.clip(offset, -0.5, 0.5)) / profiles.per_sample)
    lengths: NDArray[np.float64] = profiles.first_m[:, None] + profiles.metres * np.array(found)
    return lengths


def _weighted(
    profiles: Profiles, lengths: NDArray[np.float64], weight: NDArray[np.float64], area: Area
) -> NDArray[np.float64]:
    """Least squares of all frames: the best point of a coarse grid, then Gauss and Newton's iteration, (M, 2)."""
    grid = area.grid(_COARSE)
    rho = profiles.path_m(grid)  # (P, K)
    cost = (rho**2 @ weight)[:, None] - 2 * (weight * rho) @ lengths  # (P, M), less what no place changes
    p = grid[np.argmin(cost, axis=0)]
    for _ in range(_STEPS):
        error = lengths.T - profiles.path_m(p)  # (M, K)
        g = profiles.gradient(p)  # (M, K, 2)
        normal = np.einsum("mki,k,mkj->mij", g, weight, g)
        slope = np.einsum("mki,k,mk->mi", g, weight, error)
        step = np.linalg.solve(normal, slope[..., None])[..., 0]
        p = np.clip(p + step, area.low_m, area.high_m)
        if np.max(np.abs(step)) < _TOLERANCE_M:
            break
    return p


def _named(links: Links, nodes: Sequence[int] | None) -> tuple[int, ...]:
    return tuple(range(len(links.node_names))) if nodes is None else tuple(nodes)
