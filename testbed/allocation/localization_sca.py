"""The paper's successive convex approximation (Algorithm 1) for the best smallest sensing SINR.

    maximise t over (x, t, z)  subject to  z >= A x + n                                                     eq. (13)
                                           x_k >= t z_k                  not convex                         eq. (14)
                                           x >= C x + m,  0 <= x <= 1                                (P1.a), (P1.b)

1. x = 1, all at their caps; where that serves not all users, their least powers, scaled up to the box (`start`).
2. t0 = min x / (A x + n), z0 = A x + n.
3. t z = ((t + z)^2 - (t - z)^2) / 4, the square that is subtracted replaced by its tangent at (t0, z0). In
   tau = t / t0 and zeta = z / z0, where that point is (1, 1), (14) reads

       x_k / (t0 z0_k) >= (tau + zeta_k)^2 / 4                                                               eq. (15)

   which is exact at (1, 1) and elsewhere asks for more: the problem is convex and its maximiser feasible. The solver
   is given xi = x / x0, too, so that a station of little power counts as much as the others.
4. t and z anew from its x, not from its slacks; stop when t rises by less than the tolerance, relative; else go to 3.

Source: Rivera Figueroa et al., P4 and Algorithm 1. Differs: scaled before it is linearised (in watts t is 1e-4 and z
1e-9, and (15) says nothing); relative stop; a start for draws in which step 1 violates (P1.a), on which the paper is
silent; t never falls, a step that does not raise it ends the loop.

Step 3 is one CVXPY problem per number of nodes, built once, with all data as parameters. CVXPY is imported there.
"""

import functools
import logging
import threading
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.localization_feasibility import Balanced, drawn_inside, filled, start
from testbed.allocation.localization_problem import Scaled

log = logging.getLogger(__name__)

_AMPLE = 1e6  # a step or a surplus of more is cut, for the solver's sake; the next round goes on
_SERVED = 1e-12  # relative: what rounding may cost a user
# Two digits more than Clarabel's default; where it does not get there it says "almost solved". The point is checked.
_TIGHT: dict[str, Any] = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


def ascend(
    q: Scaled, users: Balanced, tolerance: float, max_rounds: int
) -> tuple[NDArray[np.float64], tuple[float, ...], str]:
    """Steps 1 to 4 for a problem in which all echoes are heard and some power serves all users.

    Args:
        q: in shares of the caps.
        users: balanced point of the users, towards which a point is drawn that a solver left outside their rows.
        tolerance: relative rise of t that counts as settled.
        max_rounds: most convex problems.

    Returns:
        Shares (K,), the smallest sensing SINR at the start and after each round (never falling), and a note that is
        empty unless the solver failed or the rounds ran out.
    """
    x = start(q, users)
    history, note = [q.level(x)], ""
    if history[0] == 0:
        return x, tuple(history), "the users leave no power to a node whose user needs none"
    for k in range(1, max_rounds + 1):
        proposed = _approximation(len(x)).maximiser(q, x)
        if proposed is None:
            note = f"round {k}: the convex solver failed; powers of round {k - 1} kept"
            log.warning(note)
            break
        proposed = filled(drawn_inside(q, proposed, users))
        reached, before = q.level(proposed), history[-1]
        if reached <= before or not q.serves(proposed, _SERVED):
            break
        x = proposed
        history.append(reached)
        if reached - before <= tolerance * before:
            break
    else:
        note = f"not settled after {max_rounds} rounds"
    return x, tuple(history), note


class _Approximation:
    """Step 3 for K nodes: a CVXPY problem whose data are parameters. One solve at a time."""

    def __init__(self, K: int) -> None:
        import cvxpy

        cp: Any = cvxpy  # only partly typed
        self._lock = threading.Lock()
        self._xi = xi = cp.Variable(K, nonneg=True)
        tau, zeta = cp.Variable(), cp.Variable(K)
        self._A, self._n = cp.Parameter((K, K), nonneg=True), cp.Parameter(K, nonneg=True)  # over z0, columns times x0
        self._gain = cp.Parameter(K, nonneg=True)  # x0 / (t0 z0)
        self._users, self._m = cp.Parameter((K, K)), cp.Parameter(K)  # over x0, columns times x0
        self._caps = cp.Parameter(K, nonneg=True)  # 1 / x0
        constraints = [
            zeta >= self._A @ xi + self._n,
            cp.multiply(self._gain, xi) >= cp.square(tau + zeta) / 4,
            self._users @ xi >= self._m,
            xi <= self._caps,
        ]
        self._problem: Any = cp.Problem(cp.Maximize(tau), constraints)
        assert self._problem.is_dcp(dpp=True)

    def maximiser(self, q: Scaled, x: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Point of the problem that is exact at x, within the box, to solver accuracy; None when the solver fails."""
        import cvxpy

        z0 = q.A @ x + q.n
        t0 = np.min(x / z0)
        users = (np.eye(len(x)) - q.C) * x
        size = np.maximum(np.max(np.abs(users), axis=1), q.m)
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "may be inaccurate"; the caller checks the point
            self._A.value, self._n.value = q.A * x / z0[:, None], q.n / z0
            self._gain.value = np.minimum(x / (t0 * z0), _AMPLE)
            self._users.value, self._m.value = users / size[:, None], q.m / size
            self._caps.value = np.minimum(1 / x, _AMPLE)
            for settings in (_TIGHT, {}):
                try:
                    self._problem.solve(solver="CLARABEL", warm_start=False, **settings)
                except (cvxpy.error.SolverError, ArithmeticError, ValueError):
                    continue
                found = self._xi.value
                if found is not None and np.all(np.isfinite(found)):
                    return np.clip(x * np.array(found, dtype=np.float64), 0.0, 1.0)
        return None


@functools.lru_cache(maxsize=8)
def _approximation(K: int) -> _Approximation:
    return _Approximation(K)
