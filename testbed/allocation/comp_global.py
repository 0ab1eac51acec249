"""The global maximum of the sum rate for up to five nodes, with a bound that proves it, by branch and bound.

    maximise  C(q) - D(q)     C = sum_i log2 S_i,  D = sum_i log2 I_i, both concave                      eq. (14)
    over the outer faces of what rows, caps and budget allow                               `comp_vertices`

1. The faces are cut into simplices. On a simplex with vertices v_k and a point c in it, C is below its tangent at c,
   and -D, convex, below the interpolation of its vertices; both are affine, so no point of the simplex exceeds
       max_k C(c) + grad C(c)'(v_k - c) - D(v_k).
   Taken at the centroid, then at a point half way to the worst vertex, the smaller counts.
2. Simplices whose bound exceeds the best known rate by more than the tolerance are halved across an edge, all at once.
3. A vertex or centroid that beats the best known rate is polished by `comp_newton` and takes its place.
4. When no simplex is left, the rate is proved; when there are too many, the largest bound says how far it may be off.

Source: branch and bound for differences of convex functions, e.g. Horst and Tuy, Global Optimization (1996). Differs:
the edge is the longest in logarithms of S and I, which are what the error of the bound is made of, and not in q; rows
and caps are loosened by 1e-12 of their largest coefficient, so that bounds hold for slightly more than is allowed.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.comp_newton import ScaledBatch, maximise
from testbed.allocation.comp_vertices import outer_simplices

MAX_NODES = 5  # of six nodes the face has five dimensions; simplices then number millions
_LOOSENINGS = (1e-12, 4e-9, 1e-7)  # the later ones where rounding leaves nothing of a face that is almost a point
_MOST_AT_ONCE = 4096  # simplices halved in one round


def global_maximum(
    problem: ScaledBatch, starts: NDArray[np.float64], tolerance: float, max_simplices: int
) -> tuple[NDArray[np.float64], float, int]:
    """Shares of the largest sum rate and an upper bound on it.

    Args:
        problem: a batch of one feasible problem of at most `MAX_NODES` nodes.
        starts: shares (number, L) from which local maxima are sought first; the first must be feasible.
        tolerance: bit/s/Hz between rate and bound at which the search ends.
        max_simplices: most simplices that are looked at.

    Returns:
        Shares (L,), upper bound in bit/s/Hz, never below the rate of the shares, and the number of simplices.
    """
    inside = starts[0]
    q, best = _polished(problem, inside, float(problem.rates(starts[:1])[0]), starts, inside)
    on = np.flatnonzero(problem.caps[0] > 0)
    reduced = replace(problem, A=problem.A[:, :, on], caps=problem.caps[:, on])
    V = next(filter(len, (outer_simplices(reduced, loosening) for loosening in _LOOSENINGS)), None)
    if V is None:  # what every user would have alone
        alone = np.log1p(np.diagonal(problem.H[0]) * np.minimum(problem.caps[0], 1.0)) / np.log(2)
        return q, max(best, float(np.sum(alone))), 0
    H = np.where(np.diagonal(problem.H[0]) > 0, problem.H[0], 0.0)  # a user without a gain of its own has rate 0
    parts = _Simplices(H[on], (H - np.diag(np.diagonal(H)))[on])
    parts.add(V, np.full(len(V), np.inf))
    count, dropped = len(V), best
    while True:
        point, reached = parts.best_point()
        if reached > best + 0.1 * tolerance:
            start = np.zeros((1, len(q)))
            start[0, on] = point
            q, best = _polished(problem, q, best, start, inside)
        dropped = max(dropped, parts.drop(best + 0.99 * tolerance))
        if len(parts.V) == 0 or count >= max_simplices:
            return q, max(dropped, best, float(np.max(parts.bound, initial=best))), count
        count += parts.halve(_MOST_AT_ONCE)


class _Simplices:
    """Those still to be looked at, with S and I at their vertices, (number, L, users), and their bounds."""

    def __init__(self, H: NDArray[np.float64], X: NDArray[np.float64]) -> None:
        self.H, self.X = H, X
        self.V = np.zeros((0, len(H), len(H)))
        self.S = self.I = np.zeros((0, *H.shape))
        self.bound = np.zeros(0)
        self._found: tuple[NDArray[np.float64], float] = (np.zeros(len(H)), -np.inf)

    def add(self, V: NDArray[np.float64], limit: NDArray[np.float64]) -> None:
        """Simplices of which it is known that no point exceeds `limit`."""
        S, I = V @ self.H + 1, V @ self.X + 1
        centre = np.mean(V, axis=1, keepdims=True)
        candidates = np.concatenate([V, centre], axis=1)
        logs = np.log2(S) - np.log2(I), np.log2(centre @ self.H + 1) - np.log2(centre @ self.X + 1)
        rates = np.sum(np.concatenate(logs, axis=1), axis=2)
        top = np.unravel_index(np.argmax(rates), rates.shape)
        if rates[top] > self._found[1]:
            self._found = candidates[top], float(rates[top])
        self.V, self.S, self.I = (np.concatenate(pair) for pair in ((self.V, V), (self.S, S), (self.I, I)))
        self.bound = np.append(self.bound, np.minimum(limit, _bounds(S, I)))

    def best_point(self) -> tuple[NDArray[np.float64], float]:
        """The best vertex or centroid so far, and its rate."""
        return self._found

    def drop(self, threshold: float) -> float:
        """Forget simplices with a bound of at most `threshold`; the largest of these bounds, -inf without any."""
        kept = self.bound > threshold
        largest = float(np.max(self.bound[~kept], initial=-np.inf))
        self.V, self.S, self.I, self.bound = self.V[kept], self.S[kept], self.I[kept], self.bound[kept]
        return largest

    def halve(self, most: int) -> int:
        """Replace those with the largest bounds by their halves; how many halves there are."""
        order = np.argsort(-self.bound)
        chosen, rest = order[:most], order[most:]
        V, S, I, bound = self.V[chosen], self.S[chosen], self.I[chosen], self.bound[chosen]
        self.V, self.S, self.I, self.bound = self.V[rest], self.S[rest], self.I[rest], self.bound[rest]
        first, second = np.triu_indices(V.shape[1], 1)
        logs = np.concatenate([np.log(S), np.log(I)], axis=2)
        edge = np.argmax(np.sum((logs[:, first] - logs[:, second]) ** 2, axis=2), axis=1)
        each = np.arange(len(V))
        middle = (V[each, first[edge]] + V[each, second[edge]]) / 2
        halves = np.concatenate([V, V])
        halves[each, first[edge]] = middle
        halves[len(V) + each, second[edge]] = middle
        self.add(halves, np.tile(bound, 2))
        return len(halves)


def _bounds(S: NDArray[np.float64], I: NDArray[np.float64]) -> NDArray[np.float64]:
    """Step 1, in bit/s/Hz, from S and I at the vertices, shape (number, L, users)."""
    D = np.sum(np.log(I), axis=2)

    def from_tangent(T: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sum(np.log(T) + S / T - 1, axis=2) - D  # (number, L)

    at_centre = np.mean(S, axis=1, keepdims=True)
    values = from_tangent(at_centre)
    worst = np.take_along_axis(S, np.argmax(values, axis=1)[:, None, None], axis=1)
    nearer = from_tangent((at_centre + worst) / 2)
    return np.minimum(np.max(values, axis=1), np.max(nearer, axis=1)) / np.log(2)


def _polished(
    problem: ScaledBatch,
    q: NDArray[np.float64],
    best: float,
    starts: NDArray[np.float64],
    inside: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """The best of q and what is feasible among the starts, drawn towards `inside`, and the local maxima near them."""
    many = problem.pick(np.zeros(len(starts), dtype=np.intp))
    found, settled = maximise(many, starts)
    candidates = np.concatenate([found[settled], _drawn_in(problem, starts, inside)])
    many = problem.pick(np.zeros(len(candidates), dtype=np.intp))
    rates = np.where(many.meets(candidates), many.rates(candidates), -np.inf)
    top = int(np.argmax(rates))
    return (candidates[top], float(rates[top])) if rates[top] > best else (q, best)


def _drawn_in(problem: ScaledBatch, q: NDArray[np.float64], inside: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each q (number, L) as far towards `inside` as its rows need, then filling budget or caps."""
    r, r_inside = q @ problem.A[0].T - problem.b[0], inside @ problem.A[0].T - problem.b[0]
    short = r < 0
    theta = np.max(np.where(short, -r / np.where(short, np.maximum(r_inside, 0) - r, 1.0), 0.0), axis=1)[:, None]
    return problem.filled((1 - theta) * q + theta * inside)
