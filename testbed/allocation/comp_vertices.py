"""Vertices of what a CoMP problem allows: least powers of many small problems, and simplices that fill the outer face.

    allowed = {q: A q >= b, sum q <= 1, 0 <= q <= caps}         shares of the budget, rows as in `ScaledBatch`

More of the same power raises every SINR and SNR, so the sum rate is largest where the budget or a cap stops it: on one
of the outer faces sum q = 1 and q_l = caps_l, polytopes of L - 1 dimensions. Without caps there is one, the slice.

1. Every choice of as many constraints as there are dimensions gives a point; those that keep all others are vertices.
2. Rows are loosened by 1 to 2 parts in 1e12 of their largest coefficient, each by another part: no point then lies on
   more constraints than it needs, so which vertices lie on which facet is known without a tolerance. The face is
   slightly larger than it was: a bound on it is a bound.
3. A face is cut into the cones from one of its vertices over the simplices of the facets that do not hold it.

Source: pulling triangulation, Cohen and Hickey, J. ACM 26 (1979). Differs: the loosening instead of exact arithmetic.
"""

import functools
import itertools

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.comp_newton import ScaledBatch

MAX_SCAN_NODES = 3  # the least power takes a choice of L among 4L constraints: 220 for three nodes, 1820 for four
_FEASIBLE = 1e-10  # relative to the terms of a row, as the linear programs have it
_SINGULAR = 1e-13


def least_power(problems: ScaledBatch, cap_tolerance: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least sum of shares that meets rows and caps, whatever the budget, and the shares.

    Args:
        problems: B problems of at most `MAX_SCAN_NODES` nodes.
        cap_tolerance: relative excess of a cap that does not count.

    Returns:
        (B,), inf where no power does; (B, L), NaN there.
    """
    num, L = problems.caps.shape
    assert L <= MAX_SCAN_NODES
    caps = problems.caps * (1 + cap_tolerance)
    capped = bool(np.any(np.isfinite(caps)))
    eye = np.broadcast_to(np.eye(L), (num, L, L))
    G, h = np.concatenate([problems.A, eye], axis=1), np.concatenate([problems.b, np.zeros((num, L))], axis=1)
    if capped:
        present = np.isfinite(caps)
        G = np.concatenate([G, np.where(present[:, :, None], -eye, 0.0)], axis=1)
        h = np.concatenate([h, np.where(present, -caps, -1.0)], axis=1)
    chosen = _choices(G.shape[1], L)
    G, h = np.ascontiguousarray(G.transpose(1, 2, 0)), np.ascontiguousarray(h.T)  # (m, L, B), (m, B)
    with np.errstate(all="ignore"):
        q = _cramer([[G[chosen[:, i], j] for j in range(L)] for i in range(L)], [h[chosen[:, i]] for i in range(L)])
        total = functools.reduce(np.add, q)  # (choices, B)
        for k in (k for k in range(len(G)) if not 2 * L <= k < 3 * L):
            row, floor = G[k], h[k]
            terms = [row[j] * q[j] for j in range(L)]
            size = functools.reduce(np.add, [np.abs(term) for term in terms]) + np.abs(floor)
            slack = functools.reduce(np.add, terms) - floor
            total = np.where(slack >= -_FEASIBLE * size, total, np.inf)
        for share in q:  # a coordinate is as uncertain as the whole point
            total = np.where(share >= -_FEASIBLE * np.abs(total), total, np.inf)
    total = np.where(np.isfinite(total), total, np.inf)
    best, everyone = np.argmin(total, axis=0), np.arange(num)
    least = total[best, everyone]
    shares = np.stack([share[best, everyone] for share in q], axis=1)
    shares = np.where(np.isfinite(least)[:, None], np.clip(shares, 0, problems.caps), np.nan)
    return np.where(np.isfinite(least), np.sum(shares, axis=1), np.inf), shares


def outer_simplices(problem: ScaledBatch, loosening: float) -> NDArray[np.float64]:
    """Simplices that cover the outer faces of a batch of one, shape (number, L, L): simplex, vertex, share.

    Args:
        problem: one problem whose nodes all may transmit.
        loosening: of rows and caps, in units of their largest coefficient.

    Returns:
        None at all, shape (0, L, L), when no power is allowed even so.
    """
    A, b, caps = problem.A[0], problem.b[0], problem.caps[0]
    L = len(caps)
    asked = np.any(A != 0, axis=1)
    capped = caps < 1
    # irrational multiples: no two rows are loosened alike
    part = loosening * (1 + np.modf(np.arange(1, len(b) + 1) * (np.sqrt(5) - 1) / 2)[0])
    part_caps = loosening * (1 + np.modf(np.arange(1, L + 1) * (np.sqrt(2) - 1))[0])
    b = np.maximum(b - part, 0.5 * b)  # stays positive: more of the same power must still help
    normals = np.vstack([np.eye(L), A[asked], -np.eye(L)[capped]])
    floors = np.concatenate([np.zeros(L), b[asked], -(caps + part_caps)[capped]])
    outer = [(np.ones(L), 1.0), *((np.eye(L)[l], (caps + part_caps)[l]) for l in np.flatnonzero(capped))]
    found = []
    for k, (normal, level) in enumerate(outer):
        others = np.ones(len(normals), dtype=bool)
        if k == 0:
            G, h = normals, floors
        else:  # the budget is one of the constraints now, and the cap on which the face lies is none
            others[L + np.sum(asked) + k - 1] = False
            G, h = np.vstack([normals[others], -np.ones(L)]), np.append(floors[others], -1.0)
        found.append(_simplices(normal, level, G, h))
    return np.concatenate(found)


def _simplices(
    normal: NDArray[np.float64], level: float, G: NDArray[np.float64], h: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Simplices that fill {normal'q = level, G q >= h}, of which no vertex lies on more than L - 1 rows of G."""
    L = len(normal)
    chosen = _choices(len(G), L - 1)
    M = np.concatenate([np.broadcast_to(normal, (len(chosen), 1, L)), G[chosen]], axis=1)
    rhs = np.concatenate([np.full((len(chosen), 1), level), h[chosen]], axis=1)
    regular = np.abs(np.linalg.det(M)) > _SINGULAR
    points = np.linalg.solve(M[regular], rhs[regular][..., None])[..., 0]
    chosen = chosen[regular]
    slack = points @ G.T - h
    np.put_along_axis(slack, chosen, 0.0, axis=1)  # on those it lies by construction
    inside = np.all(slack >= 0, axis=1)
    points = np.maximum(points[inside], 0.0)
    on = np.zeros((len(points), len(G)), dtype=bool)
    np.put_along_axis(on, chosen[inside], True, axis=1)
    sets = [frozenset(np.flatnonzero(column).tolist()) for column in on.T]
    listed = _triangulation(frozenset(range(len(points))), [s for s in sets if s], {})
    whole = [simplex for simplex in listed if len(simplex) == L]
    return points[np.array(whole, dtype=np.intp).reshape(-1, L)]


def _triangulation(
    face: frozenset[int], facets: list[frozenset[int]], known: dict[frozenset[int], list[tuple[int, ...]]]
) -> list[tuple[int, ...]]:
    """Simplices, as vertices, of the face with those vertices."""
    if len(face) <= 1:
        return [tuple(face)] if face else []
    if face not in known:
        apex = min(face)
        parts = {face & facet for facet in facets} - {face, frozenset()}
        largest = [part for part in parts if not any(part < other for other in parts)]
        known[face] = [
            (apex, *simplex) for part in largest if apex not in part for simplex in _triangulation(part, facets, known)
        ]
    return known[face]


@functools.lru_cache(maxsize=32)
def _choices(num: int, size: int) -> NDArray[np.intp]:
    return np.array(list(itertools.combinations(range(num), size)), dtype=np.intp).reshape(-1, size)


def _cramer(M: list[list[NDArray[np.float64]]], rhs: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Solution of M x = rhs with elements that are arrays of one shape; NaN or inf where M is singular."""
    det = _determinant(M)
    norms = [functools.reduce(np.add, [np.abs(element) for element in row]) for row in M]
    det = np.where(np.abs(det) > _SINGULAR * functools.reduce(np.multiply, norms), det, np.nan)
    L = len(M)
    return [_determinant([[rhs[i] if j == k else M[i][j] for j in range(L)] for i in range(L)]) / det for k in range(L)]


def _determinant(M: list[list[NDArray[np.float64]]]) -> NDArray[np.float64]:
    if len(M) == 1:
        return M[0][0]
    if len(M) == 2:
        return M[0][0] * M[1][1] - M[0][1] * M[1][0]
    minors = [[[row[k] for k in range(3) if k != j] for row in M[1:]] for j in range(3)]
    return M[0][0] * _determinant(minors[0]) - M[0][1] * _determinant(minors[1]) + M[0][2] * _determinant(minors[2])
