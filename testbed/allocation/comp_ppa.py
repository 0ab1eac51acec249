"""The letter's alternating power allocation: a local maximum of the sum rate under rate and sensing requirements.

    maximise  sum_i [log S_i - log I_i]       S_i = sum_l q_l H[l,i] + 1,  I_i = S_i - q_i H[i,i]          eq. (14)
    subject to  (N - D) q >= 1,  sum q <= 1,  0 <= q <= caps                                          eqs. (17), (18)

1. t_i = 1 / I_i at the present q: -log I_i >= -t_i I_i + log t_i + 1, with equality there.           eqs. (15), (16)
2. q <- argmax sum_i log S_i - w'q, w_l = sum_{i != l} t_i H[l,i], subject to the same: concave.           eq. (19)
3. The solver's point is cut back to caps and budget, and drawn towards an interior point until the rows hold exactly.
4. Stop when the rate rises by less than the tolerance and the KKT residual is small, too; else go to 1.

The rate never falls: step 2 maximises a lower bound that touches at the present q. Under Slater's condition the limit
is a KKT point, not always the global maximum.

Source: Zou et al., CoMP-ISAC letter (arXiv 2503.07139). Differs: the letter calls (19) convex, it is so only in q or in
t alone; it gives neither start nor stopping rule, and the rise alone stops on plateaus (seen: 9.3 bit/s/Hz after two
rounds on the way to 15.9); users without a gain of their own are left out of the sum, their rate is 0 whatever q.

Step 2 is one CVXPY problem per number of nodes, built once, with all data as parameters. CVXPY is imported there.
"""

import functools
import logging
import threading
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.comp_problem import Scaled

log = logging.getLogger(__name__)

_STANDSTILL = 1e-11  # a relative rise of the sum rate below the convex solver's own rounding
_STATIONARY = 1e-3  # KKT residual below which a small rise means that there is little left to gain
# Two digits more than Clarabel's default; where it does not get there it says "almost solved". The point is checked.
_TIGHT: dict[str, Any] = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


def ascend(
    problem: Scaled, start: NDArray[np.float64], interior: NDArray[np.float64], tolerance: float, max_rounds: int
) -> tuple[NDArray[np.float64], tuple[float, ...], str]:
    """Alternate from `start` until the sum rate settles.

    Args:
        problem: in shares of the budget.
        start: feasible shares (L,).
        interior: feasible shares (L,), the further inside the better.
        tolerance: relative rise of the sum rate that counts as settled.
        max_rounds: most alternations.

    Returns:
        Shares (L,), the sum rate in bit/s/Hz at the start and after each round (never falling), and a note that is
        empty unless the convex solver failed, its accuracy ended the rise early, or the rounds ran out.
    """
    q, history, note = start, [rate(problem.H, start)], ""
    for k in range(1, max_rounds + 1):
        proposed = _surrogate(len(q)).maximiser(problem, q)
        if proposed is None:
            note = f"round {k}: the convex solver failed; powers of round {k - 1} kept"
            log.warning(note)
            break
        proposed = _feasible(problem, proposed, interior)
        reached, before = rate(problem.H, proposed), history[-1]
        if reached <= before * (1 + _STANDSTILL) or not problem.meets(proposed):
            if kkt_residual(problem, q) > _STATIONARY:
                note = f"round {k}: no rise within the convex solver's accuracy; kkt_residual says how far"
            break
        q = proposed
        history.append(reached)
        rise = (reached - before) / max(1.0, reached)
        if rise <= tolerance and kkt_residual(problem, q) <= _STATIONARY:
            break
    else:
        note = f"not settled after {max_rounds} rounds; kkt_residual says how far"
    return q, tuple(history), note


def ascend_from_each(
    problem: Scaled, starts: NDArray[np.float64], interior: NDArray[np.float64], tolerance: float, max_rounds: int
) -> tuple[NDArray[np.float64], tuple[float, ...], str]:
    """The best end of `ascend` from several starts (number, L), each drawn towards `interior` until it is feasible."""
    ends = [ascend(problem, _feasible(problem, q, interior), interior, tolerance, max_rounds) for q in starts]
    return max(ends, key=lambda end: end[1][-1])


def rate(H: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Sum rate in bit/s/Hz at shares q."""
    own = np.diag(H) * q
    return float(np.sum(np.log1p(own / (H.T @ q - own + 1))) / np.log(2))


def kkt_residual(problem: Scaled, q: NDArray[np.float64]) -> float:
    """How far q is from a KKT point of the sum-rate problem, relative to the gradient; 0 at one.

    min over mu >= 0 of ||[g + J' mu; slack * mu]|| / ||g||, g the gradient of the sum rate in shares, J and slack
    those of rows (scaled to coefficients of at most 1), budget, caps and q >= 0.
    """
    from scipy.optimize import nnls

    L = len(q)
    S = problem.H.T @ q + 1
    own = np.diag(problem.H)
    cross = problem.H - np.diag(own)
    g = problem.H @ (1 / S) - cross @ (1 / (S - own * q))
    if not np.any(g):
        return 0.0
    A, b = _conditioned(problem)
    capped = np.isfinite(problem.caps)
    J = np.vstack([A[problem.asked], -np.ones(L), -np.eye(L)[capped], np.eye(L)])
    slack = np.concatenate([(A @ q - b)[problem.asked], [1 - np.sum(q)], (problem.caps - q)[capped], q])
    return float(nnls(np.vstack([J.T, np.diag(slack)]), np.append(-g, np.zeros(len(slack))))[1] / np.linalg.norm(g))


def _feasible(problem: Scaled, q: NDArray[np.float64], interior: NDArray[np.float64]) -> NDArray[np.float64]:
    """The point nearest to q towards `interior` that keeps every row, within caps and budget and filling them."""
    q = problem.filled(np.maximum(q, 0.0))
    A = (problem.N - problem.D)[problem.asked]
    r, r_inside = A @ q - 1, A @ interior - 1
    short = r < 0
    if not np.any(short):
        return q
    theta = float(np.max(-r[short] / np.maximum(r_inside[short] - r[short], -r[short])))
    if theta > 1e-3 and problem.meets(q):  # the interior is too thin to be worth the way
        return q
    return problem.filled((1 - theta) * q + theta * interior)


def _conditioned(problem: Scaled) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows A q >= b with no coefficient above 1; a row that asks for nothing reads 0 >= -1 and keeps an interior."""
    A = problem.N - problem.D
    size = np.maximum(np.max(np.abs(A), axis=1), 1.0)
    return A / size[:, None], np.where(problem.asked, 1 / size, -1.0)


class _Surrogate:
    """Step 2 for L nodes: a CVXPY problem whose data are parameters. One solve at a time."""

    def __init__(self, L: int) -> None:
        import cvxpy

        cp: Any = cvxpy  # only partly typed
        self._lock = threading.Lock()
        self._q = q = cp.Variable(L, nonneg=True)
        self._T = cp.Parameter((L, L), nonneg=True)  # H' / S: every logarithm is 0 at the present q
        self._c = cp.Parameter(L, nonneg=True)  # 1 / S
        self._w = cp.Parameter(L, nonneg=True)
        self._A, self._b = cp.Parameter((2 * L, L)), cp.Parameter(2 * L)
        self._caps = cp.Parameter(L, nonneg=True)
        bound = cp.sum(cp.log(self._T @ q + self._c)) - self._w @ q
        self._problem: Any = cp.Problem(cp.Maximize(bound), [self._A @ q >= self._b, cp.sum(q) <= 1, q <= self._caps])
        assert self._problem.is_dcp(dpp=True)

    def maximiser(self, problem: Scaled, q: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Maximiser of the bound that touches at q, to solver accuracy; None when the solver fails."""
        import cvxpy

        own = np.diag(problem.H)
        served = own > 0
        S = problem.H.T @ q + 1
        t = np.where(served, 1 / (S - own * q), 0.0)
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "may be inaccurate"; the caller checks the point
            self._T.value = np.where(served[:, None], problem.H.T / S[:, None], 0.0)
            self._c.value = np.where(served, 1 / S, 1.0)
            self._w.value = (problem.H - np.diag(own)) @ t
            self._A.value, self._b.value = _conditioned(problem)
            self._caps.value = np.minimum(problem.caps, 1.0)
            for settings in (_TIGHT, {}):
                try:
                    # a warm start would keep the row scaling of the problem before, whatever its size
                    self._problem.solve(solver="CLARABEL", warm_start=False, **settings)
                except (cvxpy.error.SolverError, ArithmeticError, ValueError):
                    continue
                found = self._q.value
                if found is not None and np.all(np.isfinite(found)):
                    return np.array(found, dtype=np.float64)
        return None


@functools.lru_cache(maxsize=8)
def _surrogate(L: int) -> _Surrogate:
    return _Surrogate(L)
