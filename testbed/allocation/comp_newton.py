"""Many CoMP problems at once by a primal-dual Newton method: local maxima of the sum rate, one loop.

    minimise    sum_i [log I_i - log S_i]     S_i = sum_l q_l H[l,i] + 1,  I_i = S_i - q_i H[i,i]        eq. (14)
    subject to  A q - s = b, s >= 0,  sum q <= 1,  0 <= q <= caps                                eqs. (17), (18)

1. S, I, gradient and Hessian at the present q: the letter's t_i = 1 / I_i is renewed in every Newton step.
2. dq from [Hessian + sum over constraints of (price / slack) times normal normal'] dq = rhs, by LDL', for all problems
   together. Where a pivot is not positive, the convex part sum_i T_i T_i' / S_i^2 replaces the Hessian, T_i = H[:, i].
3. Slacks and prices go 99.5 % of the way to the boundary at most. The next barrier tau is mu^1.5, at least
   min(0.2 mu, 0.01 residual): a mu that outruns the residual never recovers.
4. Problems that settle or break down leave the batch; the latter start again on the convex part alone.

With the convex part alone, a step is a Newton step on the letter's surrogate (19); where the true Hessian can be used,
the end is quadratic. Sum rates need not rise from step to step: the end is checked, not the way.

Source: problem and surrogate from Zou et al., CoMP-ISAC letter (arXiv 2503.07139). Differs: the letter solves (19) to
the end for every t. No solver is called, and no problem knows of the others in its batch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.comp_problem import Scaled

_TO_BOUNDARY = 0.995
_RIDGE = 1e-14  # of the trace: a pivot below is rounding
_MU_END = 1e-12  # nats per constraint; the gap is at most the number of constraints times this
_RESIDUAL_END = 1e-9  # of stationarity relative to the gradient, and of rows with coefficients of at most 1
_MAX_STEPS = 40  # 12 are usual
_MAX_CONVEX_STEPS = 150  # without the concave part the end is linear
_DIVERGED = 1e18  # a price or step beyond this
_sum, _max = np.add.reduce, np.maximum.reduce  # half the overhead of np.sum and np.max, which counts for few problems
_SMALL = 32  # problems
_START_SLACK = 0.1  # of a row that the start violates
_START_MU = 0.1  # nats; larger forgets the start, smaller creeps along the boundary


@dataclass(frozen=True)
class ScaledBatch:
    """`comp_problem.Scaled` of B problems of L nodes, batch first, rows divided by their largest coefficient.

    Row i holds where A_i q >= b_i; one that asks for nothing reads 0 >= -1.
    """

    H: NDArray[np.float64]  # (B, L, L), communication gain over noise at the full budget
    A: NDArray[np.float64]  # (B, 2L, L), no coefficient above 1
    b: NDArray[np.float64]  # (B, 2L)
    caps: NDArray[np.float64]  # (B, L), may be inf

    @classmethod
    def of(cls, problem: Scaled) -> "ScaledBatch":
        """The batch of one."""
        A, b = conditioned_rows(problem.N, problem.D, problem.asked)
        return cls(problem.H[None], A[None], b[None], problem.caps[None])

    def pick(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "ScaledBatch":
        """The problems that a mask or indices choose."""
        return ScaledBatch(self.H[which], self.A[which], self.b[which], self.caps[which])

    def rates(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum rates in bit/s/Hz at shares q (B, L), shape (B,)."""
        own = np.diagonal(self.H, axis1=1, axis2=2) * q
        received = np.matmul(q[:, None, :], self.H)[:, 0, :]
        return np.sum(np.log1p(own / (received - own + 1)), axis=1) / np.log(2)

    def meets(self, q: NDArray[np.float64], tolerance: float = 1e-9) -> NDArray[np.bool_]:
        """Where q (B, L) keeps rows, caps and budget within a relative tolerance, shape (B,)."""
        wanted = np.matmul(np.maximum(self.A, 0), q[:, :, None])[..., 0]
        against = np.matmul(np.maximum(-self.A, 0), q[:, :, None])[..., 0] + self.b
        rows = np.all(wanted * (1 + tolerance) >= against, axis=1)
        limit = 1 + tolerance
        return rows & np.all(q <= self.caps * limit, axis=1) & (np.sum(q, axis=1) <= limit)

    def filled(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares (B, L) cut to 0 and the caps, then their largest multiple within caps and budget."""
        q = np.clip(q, 0, self.caps)
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.min(np.where(q > 0, self.caps / q, np.inf), axis=1)
            factor = np.minimum(1 / np.sum(q, axis=1), room)
        factor[~np.isfinite(factor)] = 1.0
        return np.minimum(q * factor[:, None], self.caps)


def conditioned_rows(
    N: NDArray[np.float64], D: NDArray[np.float64], asked: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows (N - D) q >= 1 with no coefficient above 1, shapes (..., 2L, L) and (..., 2L)."""
    A = N - D
    size = np.maximum(np.max(np.abs(A), axis=-1), 1.0)
    return A / size[..., None], np.where(asked, 1 / size, -1.0)


def maximise(
    problems: ScaledBatch, start: NDArray[np.float64], *, rescue: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Local maxima near `start`.

    Args:
        problems: B feasible problems of L nodes; of an infeasible one nothing useful comes back.
        start: shares (B, L), feasible or not; moved inside 0, caps and budget.
        rescue: whether problems that break down start again on the convex part alone.

    Returns:
        Shares (B, L), filling caps or budget, and where the method has settled on a point that keeps every row, (B,).
        Elsewhere the shares mean nothing.
    """
    q = problems.filled(start)
    settled = np.zeros(len(q), dtype=bool)
    for convex, max_steps in ((False, _MAX_STEPS), (True, _MAX_CONVEX_STEPS))[: 1 + rescue]:
        left = np.flatnonzero(~settled)
        if len(left) == 0:
            break
        batch = problems.pick(left)
        found, done = _loop(batch, batch.filled(start[left]), convex, max_steps)
        found = batch.filled(found)
        done &= batch.meets(found)
        q[left[done]], settled[left] = found[done], done
    return q, settled


class _Data:
    """What does not change during the iteration, batch last: long contiguous rows are what NumPy is fast on."""

    def __init__(self, problems: ScaledBatch) -> None:
        L = problems.H.shape[1]
        silent = problems.caps <= 0  # no interior: such nodes take part without any gain, and are cut off at the end
        H = np.where(silent[:, :, None], 0.0, problems.H)
        A = np.where(silent[:, None, :], 0.0, problems.A)
        served = np.diagonal(H, axis1=1, axis2=2) > 0  # a user without a gain of its own has rate 0 whatever q
        H = np.where(served[:, None, :], H, 0.0)
        self.H = np.ascontiguousarray(H.transpose(1, 2, 0))
        self.X = self.H * (1 - np.eye(L))[:, :, None]
        self.A = np.ascontiguousarray(A.transpose(1, 2, 0))
        self.b = np.ascontiguousarray(problems.b.T)
        caps = np.where(silent, 1.0, problems.caps).T
        self.caps = np.ascontiguousarray(np.minimum(caps, 2.0)) if np.any(caps < 1) else None
        pairs = np.triu_indices(L)
        self.HH, self.XX = self.H[pairs[0]] * self.H[pairs[1]], self.X[pairs[0]] * self.X[pairs[1]]
        self.AA = self.A[:, pairs[0]] * self.A[:, pairs[1]]
        self.place = np.zeros((L, L), dtype=np.intp)  # where (l, m) stands among the pairs
        self.place[pairs] = self.place[pairs[1], pairs[0]] = np.arange(len(pairs[0]))

    def keep(self, left: NDArray[np.bool_]) -> None:
        for name in ("H", "X", "A", "b", "caps", "HH", "XX", "AA"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, value[..., left])


def _loop(
    problems: ScaledBatch, start: NDArray[np.float64], convex: bool, max_steps: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    num, L = start.shape
    result, done = start.copy(), np.zeros(num, dtype=bool)
    data, where = _Data(problems), np.arange(num)
    q = _inside(start.T, data.caps)
    s = np.concatenate([np.maximum(_sum(data.A * q, axis=1) - data.b, _START_SLACK), _fixed_slack(q, data.caps)])
    z = _START_MU / s
    with np.errstate(all="ignore"):  # elements that break down are found by their numbers and leave
        for step in range(max_steps + 1):
            S = _sum(data.H * q[:, None], axis=0) + 1
            I = _sum(data.X * q[:, None], axis=0) + 1
            g = _sum(data.X / I, axis=1) - _sum(data.H / S, axis=1)
            r = _sum(data.A * q, axis=1) - data.b - s[: 2 * L]
            mu = _sum(s * z, axis=0) / len(s)
            stationarity = _max(np.abs(g + _normals_transposed(data, z)), axis=0)
            residual = np.maximum(stationarity / (1 + _max(np.abs(g), axis=0)), _max(np.abs(r), axis=0))
            good = (residual <= _RESIDUAL_END) & (mu <= _MU_END)
            bad = ~(np.isfinite(residual) & (_max(z, axis=0) < _DIVERGED))
            # those that are done stay in a small batch: they harm nobody, and cutting them out costs more
            first = good & ~done[where]
            result[where[first]], done[where[first]] = q.T[first], True
            leaving = done[where] | bad
            if step == max_steps or np.all(leaving):
                break
            if len(where) > _SMALL and np.mean(leaving) > 0.2:
                left = ~leaving
                where = where[left]
                data.keep(left)
                state = (q, s, z, S, I, g, r, mu, residual)
                q, s, z, S, I, g, r, mu, residual = (value[..., left] for value in state)
            tau = np.maximum(np.minimum(0.2 * mu, mu**1.5), np.minimum(0.2 * mu, 0.01 * residual))
            dq = _step(data, q, s, z, S, I, g, r, tau, convex)
            ds = _slack_step(data, dq, r)
            dz = tau / s - z - (z / s) * ds
            primal, dual = _length(s, ds), _length(z, dz)
            q = q + primal * dq
            s = np.concatenate([s[: 2 * L] + primal * ds[: 2 * L], _fixed_slack(q, data.caps)])
            z = z + dual * dz
    return result, done


def _inside(q: NDArray[np.float64], caps: NDArray[np.float64] | None) -> NDArray[np.float64]:
    L = len(q)
    q = 0.9 * q + 0.05 / L
    return q if caps is None else np.minimum(q, 0.9 * caps)


def _fixed_slack(q: NDArray[np.float64], caps: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Slacks of q >= 0, of the budget and of the caps: kept exactly, hence without a residual."""
    parts = [q, 1 - _sum(q, axis=0, keepdims=True)]
    return np.concatenate(parts if caps is None else [*parts, caps - q])


def _normals_transposed(data: _Data, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices times minus the gradients of the slacks, (L, B)."""
    L = data.H.shape[0]
    value = z[3 * L] - _sum(data.A * z[: 2 * L, None], axis=0) - z[2 * L : 3 * L]
    return value if data.caps is None else value + z[3 * L + 1 :]


def _slack_step(data: _Data, dq: NDArray[np.float64], r: NDArray[np.float64]) -> NDArray[np.float64]:
    parts = [_sum(data.A * dq, axis=1) + r, dq, -_sum(dq, axis=0, keepdims=True)]
    return np.concatenate(parts if data.caps is None else [*parts, -dq])


def _step(
    data: _Data,
    q: NDArray[np.float64],
    s: NDArray[np.float64],
    z: NDArray[np.float64],
    S: NDArray[np.float64],
    I: NDArray[np.float64],
    g: NDArray[np.float64],
    r: NDArray[np.float64],
    tau: NDArray[np.float64],
    convex: bool,
) -> NDArray[np.float64]:
    L = len(q)
    w, pull = z / s, tau / s
    pull[: 2 * L] -= w[: 2 * L] * r
    rhs = -g - _normals_transposed(data, pull)
    packed = _sum(data.HH / (S * S), axis=1) + _sum(data.AA * w[: 2 * L, None], axis=0) + w[3 * L]
    diagonal = w[2 * L : 3 * L] if data.caps is None else w[2 * L : 3 * L] + w[3 * L + 1 :]
    concave = _sum(data.XX / (I * I), axis=1)

    def full(part: NDArray[np.float64], diagonal: NDArray[np.float64]) -> NDArray[np.float64]:
        M = part[data.place]
        M[range(L), range(L)] += diagonal
        return M

    if convex:
        return _solve(full(packed, diagonal), rhs)[0]
    dq, definite = _solve(full(packed - concave, diagonal), rhs)
    if not np.all(definite):
        other = ~definite
        dq[:, other] = _solve(full(packed[:, other], diagonal[:, other]), rhs[:, other])[0]
    return dq


def _solve(M: NDArray[np.float64], rhs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """M x = rhs by LDL' for every element of the batch, and where every pivot is positive. M is destroyed."""
    L = len(rhs)
    ridge = _RIDGE * _sum(M[range(L), range(L)], axis=0)
    x, definite = rhs.copy(), np.ones(rhs.shape[1:], dtype=bool)
    for k in range(L):
        M[k, k] += ridge
        definite &= M[k, k] > ridge
        column = M[k + 1 :, k] / M[k, k]
        M[k + 1 :, k + 1 :] -= column[:, None] * M[k, k + 1 :]
        x[k + 1 :] -= column * x[k]
        M[k + 1 :, k] = column
    for k in reversed(range(L)):
        x[k] = x[k] / M[k, k] - _sum(M[k + 1 :, k] * x[k + 1 :], axis=0)
    return x, definite


def _length(value: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest step of at most 1 that leaves every value positive, (B,)."""
    return np.minimum(1.0, _TO_BOUNDARY / np.maximum(_max(-step / value, axis=0), 1e-300))
