"""Many CoMP problems of one number of nodes as one value, and their powers by `comp_newton` all at once.

    maximise    sum_i log2(1 + SINR_i)   subject to   requirements, caps and budget        as in `comp`, per problem

1. Can the requirements be met? At most three nodes: a scan of the vertices for all problems together. More: equal power
   or a Newton point that keeps every row is a proof; without one, a linear program per problem.
2. Newton's method from equal power and from the L corners, 0.98 to one node and 0.02 over all; the best end is kept.
3. Where no start settles, or the best end is below feasible equal power or all power to one node, the alternation.

Source: as `comp`; the corner starts are ours. Differs: none. A sweep over draws, budgets or requirements is one call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.comp_feasibility import BUDGET_TOLERANCE, balanced_shares, least_shares
from testbed.allocation.comp_newton import ScaledBatch, conditioned_rows, maximise
from testbed.allocation.comp_ppa import ascend_from_each
from testbed.allocation.comp_problem import CompProblem, Scaled
from testbed.allocation.comp_vertices import MAX_SCAN_NODES, least_power


@dataclass(frozen=True, eq=False)
class CompProblems:
    """B problems of L nodes, the fields of `CompProblem` with a first axis more.

    Every field is spread over what it lacks: a comm_gain of shape (L, L) is that of every problem, a total_power of
    shape (B,) goes over budgets, noise, requirements and caps may be scalar, (L,) or (B, L). Copied, read-only.

    Raises:
        ValueError: a shape that does not fit, a value out of range, or gains that overflow against the noise.
    """

    comm_gain: NDArray[np.float64]  # (B, L, L), [problem, transmitter, receiving user]
    sensing_gain: NDArray[np.float64]  # (B, L, L), [problem, transmitter, receiving node]
    comm_noise_var: float | NDArray[np.float64]  # (B, L), > 0
    sensing_noise_var: float | NDArray[np.float64]  # (B, L), > 0
    total_power: float | NDArray[np.float64]  # (B,), > 0
    min_comm_sinr: float | NDArray[np.float64]  # (B, L), >= 0
    min_sensing_snr: float | NDArray[np.float64]  # (B, L), >= 0
    max_power: float | NDArray[np.float64] = np.inf  # (B, L), >= 0

    def __post_init__(self) -> None:
        given = {entry.name: _real(entry.name, getattr(self, entry.name)) for entry in fields(self)}
        axes = {name: 2 if "gain" in name else 0 if name == "total_power" else 1 for name in given}
        L = given["comm_gain"].shape[-1] if given["comm_gain"].ndim in (2, 3) else 0
        if L == 0:
            raise ValueError(f"comm_gain: found shape {given['comm_gain'].shape}; must be (B, L, L) with L at least 1")
        num = max((len(value) for name, value in given.items() if value.ndim > axes[name]), default=1)
        for name, value in given.items():
            shape = (num, *(L,) * axes[name])
            try:
                value = np.broadcast_to(value, shape).copy()
            except ValueError as exc:
                raise ValueError(f"{name}: found shape {value.shape}; must spread to {shape}") from exc
            above_zero = "noise" in name or name == "total_power"
            good = (value > 0 if above_zero else value >= 0) & ((value < np.inf) | (name == "max_power"))
            if not np.all(good):
                at = [int(k) for k in np.argwhere(~good)[0]]
                limit = "above 0" if above_zero else "at least 0"
                finite = "" if name == "max_power" else "finite and "
                raise ValueError(f"{name}{at}: found {value[tuple(at)]:g}; must be {finite}{limit}")
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        if not all(np.all(np.isfinite(part)) for part in _parts(self)):
            raise ValueError("comp: gain times total_power over noise times requirement overflows; check the units")

    @classmethod
    def of(cls, problems: Sequence[CompProblem]) -> "CompProblems":
        """Problems of the same number of nodes as one value.

        Raises:
            ValueError: no problems, or different numbers of nodes.
        """
        sizes = sorted({problem.num_nodes for problem in problems})
        if len(sizes) != 1:
            raise ValueError(f"problems: found {sizes or 'no'} nodes; must all have the same number, at least 1")
        return cls(**{entry.name: np.array([getattr(p, entry.name) for p in problems]) for entry in fields(cls)})

    def __len__(self) -> int:
        return len(self.comm_gain)

    def __getitem__(self, index: int) -> CompProblem:
        return CompProblem(**{entry.name: getattr(self, entry.name)[index] for entry in fields(self)})


@dataclass(frozen=True, eq=False)
class BatchAllocation:
    """Powers of B problems; what belongs to one problem has its index."""

    power: NDArray[np.float64]  # (B, L), in the problems' unit; NaN where infeasible
    objective: NDArray[np.float64]  # (B,), sum rate in bit/s/Hz; NaN where infeasible
    status: NDArray[np.str_]  # (B,), as `Allocation.status`

    def __len__(self) -> int:
        return len(self.objective)


def newton_batch(problems: CompProblems) -> BatchAllocation:
    """Steps 1 to 3 for every problem. status: as `comp.solve(problem, "newton")` gives it."""
    batch, N, D, asked = _scaled(problems)
    num, L = batch.caps.shape
    gained = np.any(np.diagonal(batch.H, axis1=1, axis2=2) > 0, axis=1)

    def one(k: int) -> Scaled:
        return Scaled(batch.H[k], N[k], D[k], batch.caps[k], asked[k])

    if L <= MAX_SCAN_NODES:
        total, least = least_power(batch, BUDGET_TOLERANCE)
    else:
        total, least = np.zeros(num), batch.filled(np.full((num, L), 1 / L))  # enough to know where that is proved
        proved = batch.meets(least)
        if not np.all(proved):
            open_ones = np.flatnonzero(~proved)
            found, proved[open_ones] = maximise(batch.pick(open_ones), least[open_ones], rescue=False)
            least[open_ones] = found
        for k in np.flatnonzero(~proved).tolist():
            shares = least_shares(one(k))
            total[k], least[k] = (np.inf, np.nan) if shares is None else (np.sum(shares.q), shares.q)
    feasible = total <= 1 + BUDGET_TOLERANCE
    q = np.where(feasible[:, None], least, np.nan)
    wanted = np.flatnonzero(feasible & gained & (total < 1 - BUDGET_TOLERANCE))
    found, settled = newton_shares(batch.pick(wanted))
    q[wanted] = found
    for k in wanted[~settled].tolist():
        q[k] = ascended(one(k), least[k], q[k])
    q[feasible & ~np.any(q > 0, axis=1)] = 1 / L  # nothing is required, nothing is gained
    q[feasible] = batch.pick(feasible).filled(q[feasible])
    power = np.minimum(q * np.reshape(problems.total_power, (-1, 1)), problems.max_power)
    objective = np.where(feasible, batch.rates(np.where(feasible[:, None], q, 0.0)), np.nan)
    status = np.where(~feasible, "infeasible", np.where(~gained, "zero_gain", "optimal" if L == 1 else "stationary"))
    return BatchAllocation(power, objective, status)


def newton_shares(batch: ScaledBatch) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Step 2: the best local maximum from equal power and the corners, (B, L), and where there is one, (B,).

    There is none where no start settles, or equal power or all power to one node is feasible and reaches more; that
    point then stands in its place.
    """
    num, L = batch.caps.shape
    starts = corner_starts(L)
    many = batch.pick(np.tile(np.arange(num), len(starts)))
    found, settled = maximise(many, np.repeat(starts, num, axis=0), rescue=False)
    lost = np.flatnonzero(~np.any(settled.reshape(len(starts), num), axis=0))
    if len(lost):
        found[lost], settled[lost] = maximise(batch.pick(lost), np.repeat(starts[:1], len(lost), axis=0))
    rates = np.where(settled, many.rates(found), -np.inf).reshape(len(starts), num)
    best = np.argmax(rates, axis=0) if num else np.zeros(0, dtype=np.intp)
    reached = np.max(rates, axis=0)
    shares = found.reshape(len(starts), num, L)[best, np.arange(num)]
    points = many.filled(np.repeat(np.vstack([starts[0], np.eye(L)]), num, axis=0))
    rates = np.where(many.meets(points), many.rates(points), -np.inf).reshape(len(starts), num)
    best = np.argmax(rates, axis=0) if num else best
    beaten = np.max(rates, axis=0) > reached + 1e-9
    shares[beaten] = points.reshape(len(starts), num, L)[best[beaten], np.flatnonzero(beaten)]
    return shares, np.isfinite(reached) & ~beaten


def corner_starts(L: int) -> NDArray[np.float64]:
    """Equal shares, then 0.98 to one node and 0.02 over all, shape (L + 1, L)."""
    return np.vstack([np.full(L, 1 / L), 0.98 * np.eye(L) + 0.02 / L])


def ascended(problem: Scaled, least: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Step 3: shares by the alternation as "ppa" starts it, and from `other`, a point of `newton_shares`."""
    L = len(least)
    interior = max(balanced_shares(problem), problem.filled(least), key=lambda q: float(np.min(problem.ratios(q))))
    equal = np.full(L, 1 / L)
    starts = np.vstack([equal if problem.meets(equal) else interior, other])
    return ascend_from_each(problem, starts, interior, 1e-9, 500)[0]


def _scaled(
    problems: CompProblems,
) -> tuple[ScaledBatch, NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    H, N, D, asked = _parts(problems)
    A, b = conditioned_rows(N, D, asked)
    caps = np.asarray(problems.max_power) / np.reshape(problems.total_power, (-1, 1))
    return ScaledBatch(H, A, b, caps), N, D, asked


def _parts(
    problems: CompProblems,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """H, N, D and asked of `comp_problem.Scaled`, batch first."""
    budget, L = np.reshape(problems.total_power, (-1, 1)), problems.comm_gain.shape[-1]
    required = np.concatenate([problems.min_comm_sinr, problems.min_sensing_snr], axis=1)
    asked = required > 0
    with np.errstate(over="ignore", invalid="ignore"):  # refused when the problems are made
        H = problems.comm_gain * (budget / problems.comm_noise_var)[:, None, :]
        Hs = problems.sensing_gain * (budget / problems.sensing_noise_var)[:, None, :]
        own = H * np.eye(L)
        wanted = np.concatenate([own, Hs.transpose(0, 2, 1)], axis=1)
        N = np.divide(wanted, required[..., None], out=np.zeros_like(wanted), where=asked[..., None])
        D = np.concatenate([(H - own).transpose(0, 2, 1), np.zeros_like(H)], axis=1)
    return H, N, np.where(asked[..., None], D, 0.0), asked


def _real(name: str, value: Any) -> NDArray[np.float64]:
    try:
        found = np.asarray(value)
    except ValueError as exc:  # rows of different lengths
        raise ValueError(f"{name}: found {str(value)[:40]!r}; must be an array of numbers") from exc
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{name}: found elements of type {found.dtype}; must be real numbers")
    return found.astype(np.float64)
