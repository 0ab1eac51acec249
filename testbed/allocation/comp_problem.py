"""The CoMP problem as a value, and what a power vector reaches in it.

L base stations, each with one user and one target cell; base station l transmits P_l, base station i listens:

    SINR_i = P_i Gc[i,i] / (sum_{l != i} P_l Gc[l,i] + sigma2_c,i)     of user i, eq. (2)
    SNR_i  = sum_l P_l Gs[l,i] / sigma2_s,i                             of target cell i, noncentrality / (2N), eq. (12)

Requirements are linear in P, exactly (eqs. 17 and 18), and are written as rows A p >= b, rates first:

    Gc[i,i] P_i - zeta_i sum_{l != i} Gc[l,i] P_l >= zeta_i sigma2_c,i          zeta_i = min_comm_sinr
    sum_l Gs[l,i] P_l >= min_sensing_snr_i sigma2_s,i

Source: Zou et al., CoMP-ISAC letter (arXiv 2503.07139). Differs: the letter mixes the indices of (17) and (18) and
omits P >= 0; caps per node are ours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.arguments import NOT_NEGATIVE, POSITIVE, Good, check, numbers
from testbed.units import db


@dataclass(frozen=True, eq=False)
class CompProblem:
    """Gains, noise and requirements of L cells. Linear throughout; powers in one unit, noise in the same.

    Arrays are copied, checked and made read-only; scalars are spread over the nodes.

    Raises:
        ValueError: a shape that does not fit, a value out of range, or gains that overflow against the noise.
    """

    comm_gain: NDArray[np.float64]  # (L, L), [transmitter, receiving user]
    sensing_gain: NDArray[np.float64]  # (L, L), [transmitter, receiving node]: by way of the receiver's own target
    comm_noise_var: float | NDArray[np.float64]  # scalar or (L,), E|w|^2 at the users, > 0
    sensing_noise_var: float | NDArray[np.float64]  # scalar or (L,), at the receiving nodes, > 0
    total_power: float  # P_th, the sum over all nodes, > 0
    min_comm_sinr: float | NDArray[np.float64]  # scalar or (L,), zeta^c = 2^rate - 1; 0 asks for nothing
    min_sensing_snr: float | NDArray[np.float64]  # scalar or (L,), zeta^s = noncentrality / (2N); 0 asks for nothing
    max_power: float | NDArray[np.float64] = np.inf  # scalar or (L,), cap of every node; 0 keeps it silent

    def __post_init__(self) -> None:
        shape = numbers(self.comm_gain, "comm_gain").shape
        if len(shape) != 2 or shape[0] == 0:
            raise ValueError(f"comm_gain: found shape {shape}; must be (L, L) with L at least 1")
        for name, num_axes, rule, good in _RULES:
            value = numbers(getattr(self, name), name, shape[:1] * num_axes, spread=num_axes == 1)
            check(value, name, rule, good)
            object.__setattr__(self, name, value if num_axes else float(value))
        limits = scaled(self)
        if not all(np.all(np.isfinite(part)) for part in (limits.H, limits.N, self.rows[1])):
            raise ValueError("comp: gain times total_power over noise times requirement overflows; check the units")

    @property
    def num_nodes(self) -> int:
        """L."""
        return len(self.comm_gain)

    @property
    def required(self) -> NDArray[np.float64]:
        """SINR, then sensing SNR that is asked for, linear, shape (2L,)."""
        return np.append(self.min_comm_sinr, self.min_sensing_snr)

    @property
    def rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A of shape (2L, L) and b of shape (2L,) with A p >= b, unscaled: eq. (17), then eq. (18).

        A row that asks for nothing has b = 0 and holds for every p >= 0; it may be all zero.
        """
        own = np.diag(np.diag(self.comm_gain))
        rate = own - np.reshape(self.min_comm_sinr, (-1, 1)) * (self.comm_gain - own).T
        noise_var = np.append(self.comm_noise_var, self.sensing_noise_var)
        return np.vstack([rate, self.sensing_gain.T]), self.required * noise_var


_RULES: tuple[tuple[str, int, str, Good], ...] = (  # field, number of axes, what is allowed
    ("comm_gain", 2, *NOT_NEGATIVE),
    ("sensing_gain", 2, *NOT_NEGATIVE),
    ("comm_noise_var", 1, *POSITIVE),
    ("sensing_noise_var", 1, *POSITIVE),
    ("total_power", 0, *POSITIVE),
    ("min_comm_sinr", 1, *NOT_NEGATIVE),
    ("min_sensing_snr", 1, *NOT_NEGATIVE),
    ("max_power", 1, "at least 0, or inf for no cap", lambda x: x >= 0),
)


def comm_sinr(problem: CompProblem, power: NDArray[np.float64]) -> NDArray[np.float64]:
    """SINR of every user at `power` (L,), linear, shape (L,): eq. (2)."""
    p = _power(problem, power)
    own = p * np.diag(problem.comm_gain)
    return own / (problem.comm_gain.T @ p - own + problem.comm_noise_var)


def sensing_snr(problem: CompProblem, power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Noncentrality / (2N) of every target cell at `power` (L,), linear, shape (L,): eq. (12), large-N form."""
    return problem.sensing_gain.T @ _power(problem, power) / problem.sensing_noise_var


def sum_rate(problem: CompProblem, power: NDArray[np.float64]) -> float:
    """Sum over users of log2(1 + SINR) at `power` (L,), bit/s/Hz: eq. (3)."""
    return float(np.sum(np.log1p(comm_sinr(problem, power))) / np.log(2))


def row_margins_db(problem: CompProblem, power: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is reached over what is required, in dB, shape (2L,), rates then sensing.

    inf where nothing is required; -inf where something is required and nothing is reached.
    """
    reached = np.append(comm_sinr(problem, power), sensing_snr(problem, power))
    required = problem.required
    return db(np.divide(reached, required, out=np.full(len(required), np.inf), where=required > 0))


@dataclass(frozen=True)
class Scaled:
    """The problem in numbers near 1, for solvers: shares q = p / total_power, noise 1.

    Row i holds where ratio_i = N_i q / (D_i q + 1) >= 1, that is (N - D)_i q >= 1: row i of A p >= b over b_i.
    """

    H: NDArray[np.float64]  # (L, L), communication gain over noise at the full budget
    N: NDArray[np.float64]  # (2L, L), wanted over required; 0 where nothing is asked
    D: NDArray[np.float64]  # (2L, L), interference over noise; 0 in sensing rows and where nothing is asked
    caps: NDArray[np.float64]  # (L,), may be inf
    asked: NDArray[np.bool_]  # (2L,), rows that require something

    def ratios(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reached over required at shares q, shape (2L,); inf where nothing is asked."""
        return np.where(self.asked, (self.N @ q) / (self.D @ q + 1), np.inf)

    def meets(self, q: NDArray[np.float64], tolerance: float = 1e-9) -> bool:
        """Whether q keeps rows, caps and budget within a relative tolerance."""
        limit = 1 + tolerance
        return bool(np.all(self.ratios(q) * limit >= 1) and np.all(q <= self.caps * limit) and np.sum(q) <= limit)

    def filled(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares cut to the caps, then their largest multiple within caps and budget: it raises every SINR and SNR."""
        q = np.minimum(q, self.caps)
        on = q > 0
        if not np.any(on):
            return q
        return np.minimum(q * min(1 / np.sum(q), np.min(self.caps[on] / q[on])), self.caps)


def scaled(problem: CompProblem) -> Scaled:
    """The same problem in shares of the total power, with noise 1 and every row over its right-hand side."""
    asked = problem.required > 0
    with np.errstate(over="ignore", invalid="ignore"):  # refused when the problem is made
        H = problem.comm_gain * (problem.total_power / np.asarray(problem.comm_noise_var))
        Hs = problem.sensing_gain * (problem.total_power / np.asarray(problem.sensing_noise_var))
        own = np.diag(np.diag(H))
        wanted = np.vstack([own, Hs.T])
        N = np.divide(wanted, problem.required[:, None], out=np.zeros_like(wanted), where=asked[:, None])
        D = np.where(asked[:, None], np.vstack([(H - own).T, np.zeros_like(H)]), 0.0)
        return Scaled(H, N, D, np.asarray(problem.max_power) / problem.total_power, asked)


def _power(problem: CompProblem, power: NDArray[np.float64]) -> NDArray[np.float64]:
    p = numbers(power, "power", (problem.num_nodes,))
    check(p, "power", *NOT_NEGATIVE)
    return p
