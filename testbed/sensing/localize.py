"""Where a target is: maximum likelihood from ranges, with its error ellipse, and other places that fit as well.

    minimise over x   sum_k ((|x - q_t(k)| + |x - q_r(k)|) / 2 - rho_k)^2 / sigma_k^2

rho_k is a range, one way, where transmitter and receiver are one node, else half a path length. The height is known
(two coordinates are sought) or not (three, below the nodes).

1. Start: linear least squares on differences of squared ranges, weighted. Along the direction in which the nodes hardly
   differ - none, if they stand in a line or a plane - squared ranges tell the distance but not the side: both. Path
   lengths have no such linear form and start from the best places of a coarse grid.
2. Levenberg and Marquardt's iteration from every start, until a step is below 1e-13 of the distance to the nodes.
3. The best end is the position; others whose sum of squares is within 9.21 of it, the 99 % point of chi-squared with
   two degrees of freedom, are told. Mirror images are among them. Without a height the lowest of all is taken.
4. Where the sum of squares has less than 1e-3 chance and two ranges could be spared: leave each out in turn, and keep
   the best of what is left if it has more. Where one could be spared, the contradiction is seen, but not whose it is.

Source: specification, section 9, and standard theory (Fisher information sum_k g_k g_k' / sigma_k^2, g_k the gradient
of range k). Differs: the specification takes differences unweighted. Valid for: errors small against the ranges.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

OUTLIER_CHANCE = 1e-3  # of a sum of squares below which a range is looked for that does not fit
SAME_FIT = 9.21  # excess of the sum of squares up to which another place fits as well
_FLAT = 1e-9  # relative singular value below which a direction is not measured
_SINGULAR = 1e-6  # the same at a position that was estimated: on a line of nodes rounding leaves 1e-8 of the distance
_STEP = 1e-13
_MAX_STEPS = 200
_APART = 1e-6  # of the distance to the nodes; ends that are nearer are one place
_HOPELESS = 1e3  # a start with this times the sum of squares of the best ends nowhere near it
_NUM_STARTS = 8  # of the grid
_AREA: tuple[NDArray[np.float64], ...] = (  # of the grid: angle; distance and height over the longest half path
    np.deg2rad(np.arange(0, 360, 10)),
    np.arange(0.05, 1.3, 0.1),
    np.array([-1.0, -0.6, -0.3, -0.1, 0.0, 0.1, 0.3, 0.6, 1.0]),
)


@dataclass(frozen=True)
class Ellipse:
    """Of an error on the ground; infinite axes where the geometry is singular."""

    semi_major_m: float
    semi_minor_m: float
    angle_rad: float  # of the major axis, from x towards y, in [-pi/2, pi/2]


@dataclass(frozen=True, eq=False)
class Position:
    """A position and how far it is to be trusted."""

    position_m: NDArray[np.float64]  # (3,)
    covariance_m2: NDArray[np.float64]  # Cramer-Rao bound, (2, 2) if the height was known, else (3, 3); inf: singular
    dilution: float  # error of the position over that of a range, all ranges alike; HDOP if the height was known
    chi2: float  # sum of squares of the ranges that were used
    num_dof: int  # its degrees of freedom, ranges used less coordinates sought
    alternatives_m: NDArray[np.float64]  # (n, 3), other places that fit as well; mirror images among them
    outlier: int | None  # range that was left out
    note: str  # what is valid but surprising

    @property
    def error_bound_m(self) -> float:
        """Bound of the root mean square position error; inf where the geometry is singular."""
        return math.sqrt(np.trace(self.covariance_m2))

    @property
    def p_value(self) -> float:
        """Chance of a larger sum of squares; 1 without degrees of freedom."""
        return _chance(self.chi2, self.num_dof)

    def ellipse(self, confidence: float = 0.95) -> Ellipse:
        """Ellipse on the ground that holds the target with this probability, errors being normal."""
        if not 0 < confidence < 1:
            raise ValueError(f"confidence {confidence:g} - it must lie in (0, 1)")
        ground = self.covariance_m2[:2, :2]
        if not np.all(np.isfinite(ground)):
            return Ellipse(math.inf, math.inf, 0.0)
        values, vectors = np.linalg.eigh(ground)
        minor, major = np.sqrt(-2 * math.log1p(-confidence) * np.maximum(values, 0.0)).tolist()
        x, y = vectors[:, 1] * (1 if vectors[0, 1] >= 0 else -1)
        return Ellipse(major, minor, math.atan2(y, x))


def locate(
    node_position_m: ArrayLike,
    range_m: ArrayLike,
    range_std_m: ArrayLike,
    height_m: float | None = None,
    *,
    outlier_chance: float = OUTLIER_CHANCE,
) -> Position:
    """Position of a target from its ranges to nodes.

    Args:
        node_position_m: (K, 3).
        range_m: one way, slant, (K,).
        range_std_m: standard deviations, (K,) or one for all, above 0; inf leaves a range out.
        height_m: of the target; None: unknown, sought below the nodes. One height for all nodes cannot tell above from
            below, and says little about the height itself.
        outlier_chance: of the sum of squares, below which one range may be left out; 0 never does.

    Returns:
        The position. Singular geometry, as on the line through two nodes, has a covariance of inf.

    Raises:
        ValueError: shapes that do not fit, fewer usable ranges than coordinates, or values that are not finite.
    """
    nodes = _positions(node_position_m, "node_position_m")
    return _locate(nodes, nodes, range_m, range_std_m, height_m, outlier_chance, "range_m")


def locate_paths(
    transmitter_position_m: ArrayLike,
    receiver_position_m: ArrayLike,
    path_length_m: ArrayLike,
    path_length_std_m: ArrayLike,
    height_m: float | None = None,
    *,
    outlier_chance: float = OUTLIER_CHANCE,
) -> Position:
    """Position of a target from path lengths, transmitter to target to receiver.

    Args:
        transmitter_position_m: of every path, (K, 3).
        receiver_position_m: of every path, (K, 3); that of the transmitter where the path goes out and back.
        path_length_m: (K,), twice the range where a path goes out and back.
        path_length_std_m: standard deviations, (K,) or one for all, above 0; inf leaves a path out.
        height_m: as in `locate`.
        outlier_chance: as in `locate`.

    Returns:
        As `locate`; `dilution` is for errors of half path lengths.

    Raises:
        ValueError: as `locate`.
    """
    sent = _positions(transmitter_position_m, "transmitter_position_m")
    heard = _positions(receiver_position_m, "receiver_position_m")
    if sent.shape != heard.shape:
        raise ValueError(f"receiver_position_m {heard.shape} - it must have the shape of transmitter_position_m")
    half, half_std = (np.asarray(value, dtype=np.float64) / 2 for value in (path_length_m, path_length_std_m))
    if np.array_equal(sent, heard):
        heard = sent
    return _locate(sent, heard, half, half_std, height_m, outlier_chance, "path_length_m")


def position_covariance(
    node_position_m: ArrayLike,
    position_m: ArrayLike,
    range_std_m: ArrayLike,
    *,
    known_height: bool = True,
    receiver_position_m: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Cramer-Rao bound of a position, (2, 2) for a known height, else (3, 3); inf where the geometry is singular.

    Args:
        node_position_m: (K, 3).
        position_m: of the target, (3,).
        range_std_m: of ranges or half path lengths, (K,) or one for all.
        known_height: whether only x and y are sought.
        receiver_position_m: where echoes are heard, (K, 3); the transmitting nodes where it is left out.
    """
    sent = _positions(node_position_m, "node_position_m")
    heard = sent if receiver_position_m is None else _positions(receiver_position_m, "receiver_position_m")
    std = np.broadcast_to(np.asarray(range_std_m, dtype=np.float64), len(sent))
    size = 2 if known_height else 3
    return _covariance(_model(sent, heard, np.asarray(position_m, dtype=np.float64), size)[1] / std[:, None])


def dilution(node_position_m: ArrayLike, position_m: ArrayLike, *, known_height: bool = True) -> float:
    """Root mean square position error over that of a range, all ranges alike: HDOP for a known height, else PDOP."""
    covariance = position_covariance(node_position_m, position_m, 1.0, known_height=known_height)
    return math.sqrt(np.trace(covariance))


@dataclass(frozen=True, eq=False)
class _Ranges:
    """What is known: where each path begins and ends, half its length, and whether the height is."""

    sent: NDArray[np.float64]  # (K, 3)
    heard: NDArray[np.float64]  # (K, 3); the same array where the paths go out and back
    rho: NDArray[np.float64]  # (K,)
    sigma: NDArray[np.float64]  # (K,)
    height_m: float | None

    @property
    def size(self) -> int:
        """Number of coordinates sought."""
        return 3 if self.height_m is None else 2

    def place(self, sought: NDArray[np.float64]) -> NDArray[np.float64]:
        """The three coordinates, the known height added."""
        return sought if self.height_m is None else np.append(sought, self.height_m)

    def residual(self, sought: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Normalised errors (K,) and their Jacobian (K, size)."""
        rho, gradient = _model(self.sent, self.heard, self.place(sought), self.size)
        return (rho - self.rho) / self.sigma, gradient / self.sigma[:, None]

    def chi2(self, sought: NDArray[np.float64]) -> float:
        """Sum of squares."""
        return float(np.sum(self.residual(sought)[0] ** 2))

    def without(self, k: int) -> "_Ranges":
        """All but one."""
        return self.only(np.arange(len(self.rho)) != k)

    def only(self, kept: NDArray[Any]) -> "_Ranges":
        """Some of them."""
        sent = self.sent[kept]
        heard = sent if self.heard is self.sent else self.heard[kept]
        return _Ranges(sent, heard, self.rho[kept], self.sigma[kept], self.height_m)


@dataclass(frozen=True, eq=False)
class _Fit:
    sought: NDArray[np.float64]  # (size,)
    chi2: float
    others: list[NDArray[np.float64]]


def _locate(
    sent: NDArray[np.float64],
    heard: NDArray[np.float64],
    rho: ArrayLike,
    sigma: ArrayLike,
    height_m: float | None,
    outlier_chance: float,
    name: str,
) -> Position:
    rho, sigma = np.asarray(rho, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    K = len(sent)
    if rho.shape != (K,) or sigma.shape not in ((), (K,)):
        raise ValueError(f"{name} {rho.shape}, its deviations {sigma.shape} - must be ({K},), one per row of positions")
    if not np.all(np.isfinite(rho)) or not np.all(sigma > 0) or not (height_m is None or math.isfinite(height_m)):
        raise ValueError(f"{name} and height_m must be finite, standard deviations above 0")
    sigma = np.broadcast_to(sigma, (K,))
    usable = np.flatnonzero(np.isfinite(sigma))
    ranges = _Ranges(sent, heard, rho, sigma, height_m).only(usable)
    if len(usable) < ranges.size:
        raise ValueError(f"{name}: found {len(usable)} usable - at least {ranges.size} are needed")
    fit, used, outlier, notes = _fit(ranges), ranges, None, []
    if _chance(fit.chi2, len(usable) - ranges.size) < outlier_chance:
        found = _without_outlier(ranges, outlier_chance)
        if isinstance(found, str):
            notes.append(found)
        else:
            k, fit = found
            used, outlier = ranges.without(k), int(usable[k])
            notes.append(f"range {outlier} does not fit the others and was left out")
    covariance = _covariance(used.residual(fit.sought)[1])
    plain = _covariance(used.residual(fit.sought)[1] * used.sigma[:, None])
    if not np.all(np.isfinite(covariance)):
        notes.append("singular geometry: some direction is not measured")
    if fit.others:
        notes.append("mirror ambiguity: other places fit as well")
    return Position(
        used.place(fit.sought),
        covariance,
        math.sqrt(np.trace(plain)),
        fit.chi2,
        len(used.rho) - used.size,
        np.array([used.place(other) for other in fit.others]).reshape(-1, 3),
        outlier,
        "; ".join(notes),
    )


def _without_outlier(ranges: _Ranges, chance: float) -> tuple[int, _Fit] | str:
    """Step 4: which range to leave out, and the fit without it; or why none is."""
    K, num_dof = len(ranges.rho), len(ranges.rho) - ranges.size - 1
    if num_dof < 1:
        return "the ranges contradict each other; there are too few to tell which is wrong"
    fits = [_fit(ranges.without(k)) for k in range(K)]
    k = int(np.argmin([fit.chi2 for fit in fits]))
    if _chance(fits[k].chi2, num_dof) < chance:
        return "the ranges contradict each other, whichever one is left out"
    return k, fits[k]


def _fit(ranges: _Ranges) -> _Fit:
    """Steps 1 to 3."""
    starts = _linear_starts(ranges) if ranges.heard is ranges.sent else _grid_starts(ranges)
    costs = [ranges.chi2(start) for start in starts]
    hopeless = _HOPELESS * (min(costs) + len(ranges.rho))
    ends = [_refined(ranges, start) for start, cost in zip(starts, costs, strict=True) if cost <= hopeless]
    ends.sort(key=lambda end: (round(ranges.chi2(end), 6), *end))  # of mirror images always the same
    least = ranges.chi2(ends[0])
    reach = float(np.max(np.abs(ranges.rho)))
    places: list[NDArray[np.float64]] = []
    for end in ends:
        new = all(np.linalg.norm(end - other) > _APART * reach for other in places)
        if new and ranges.chi2(end) <= least + SAME_FIT:
            places.append(end)
    if ranges.height_m is None:
        places.sort(key=lambda place: float(place[2]))
    return _Fit(places[0], ranges.chi2(places[0]), places[1:])


def _linear_starts(ranges: _Ranges) -> list[NDArray[np.float64]]:
    """Step 1 for ranges: |q - x|^2 less its weighted mean is linear in x."""
    q, rho = ranges.sent[:, : ranges.size], ranges.rho
    squared = rho**2
    if ranges.height_m is not None:
        squared = np.maximum(squared - (ranges.sent[:, 2] - ranges.height_m) ** 2, 0.0)
    weight = 1 / (ranges.sigma * np.maximum(np.abs(rho), 1e-3 * np.max(np.abs(rho)) + 1e-300))
    share = weight**2 / np.sum(weight**2)
    centre = share @ q
    d = q - centre
    missing = squared - np.sum(d**2, axis=1)  # |x - centre|^2 - 2 d.(x - centre)
    u, s, vt = np.linalg.svd(weight[:, None] * d, full_matrices=False)
    across = u.T @ (weight * -(missing - share @ missing) / 2)
    measured = s > _FLAT * max(s[0], 1e-300)
    starts = [centre + (across[measured] / s[measured]) @ vt[measured]] if np.all(measured) else []
    measured[-1] = False
    inside = (across[measured] / s[measured]) @ vt[measured]
    off = math.sqrt(max(float(share @ missing - inside @ inside), 0.0)) * _normal(vt, measured)
    return [*starts, centre + inside + off, centre + inside - off]


def _normal(vt: NDArray[np.float64], measured: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A unit vector across the directions that are measured."""
    full = np.linalg.svd(vt[measured], full_matrices=True)[2] if np.any(measured) else np.eye(vt.shape[1])
    return full[-1]


def _grid_starts(ranges: _Ranges) -> list[NDArray[np.float64]]:
    """Step 1 for path lengths: the best places of a coarse grid, no two of them neighbours."""
    angle, distance, height = _AREA
    nodes = np.concatenate([ranges.sent, ranges.heard])
    centre, reach = np.mean(nodes, axis=0), float(np.max(ranges.rho) + np.ptp(nodes[:, :2]))
    a, r, z = np.meshgrid(angle, reach * distance, reach * height if ranges.height_m is None else [0.0])
    grid = np.stack([centre[0] + r * np.cos(a), centre[1] + r * np.sin(a), centre[2] + z], axis=-1).reshape(-1, 3)
    if ranges.height_m is not None:
        grid[:, 2] = ranges.height_m
    rho = np.mean([np.linalg.norm(grid[:, None] - ends[None], axis=-1) for ends in (ranges.sent, ranges.heard)], axis=0)
    cost = np.sum(((rho - ranges.rho) / ranges.sigma) ** 2, axis=1)
    chosen: list[int] = []
    for k in np.argsort(cost).tolist():
        if all(np.linalg.norm(grid[k] - grid[other]) > 0.15 * reach for other in chosen):
            chosen.append(k)
        if len(chosen) == _NUM_STARTS:
            break
    return [grid[k, : ranges.size] for k in chosen]


def _refined(ranges: _Ranges, sought: NDArray[np.float64]) -> NDArray[np.float64]:
    """Step 2."""
    damping, (r, J) = 1e-3, ranges.residual(sought)
    reach = float(np.max(np.abs(ranges.rho))) + 1e-300
    for _ in range(_MAX_STEPS):
        normal, slope = J.T @ J, J.T @ r
        size = np.diag(normal) + 1e-12 * np.trace(normal) + 1e-300
        step = -np.linalg.solve(normal + damping * np.diag(size), slope)
        tried, trial_J = ranges.residual(sought + step)
        if tried @ tried <= (r @ r) * (1 + 1e-14) + 1e-300:  # rounding aside
            sought, r, J = sought + step, tried, trial_J
            damping = max(damping / 10, 1e-15)
        else:
            damping *= 10
        if np.linalg.norm(step) <= _STEP * reach or damping > 1e15:
            break
    return sought


def _model(
    sent: NDArray[np.float64], heard: NDArray[np.float64], place: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half path lengths (K,) and their gradients (K, size)."""
    rho, gradient = _distance(place, sent, size)
    if heard is sent:
        return rho, gradient
    back, back_gradient = _distance(place, heard, size)
    return (rho + back) / 2, (gradient + back_gradient) / 2


def _distance(
    place: NDArray[np.float64], nodes: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    away = place - nodes
    distance = np.sqrt(np.sum(away * away, axis=1))
    return distance, away[:, :size] / np.maximum(distance, 1e-300)[:, None]


def _covariance(J: NDArray[np.float64]) -> NDArray[np.float64]:
    """(J'J)^-1, or inf throughout where a direction is not measured."""
    size = J.shape[1]
    _, s, vt = np.linalg.svd(J, full_matrices=False)
    if len(s) < size or not s[-1] > _SINGULAR * s[0]:
        return np.full((size, size), np.inf)
    return (vt.T / s**2) @ vt


def _chance(chi2: float, num_dof: int) -> float:
    from scipy import special

    return float(special.gammaincc(num_dof / 2, chi2 / 2)) if num_dof > 0 else 1.0


def _positions(value: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or not np.all(np.isfinite(array)):
        raise ValueError(f"{name} {array.shape} - it must be (K, 3) and finite")
    return array
