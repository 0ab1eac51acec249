"""The device-free localisation problem as a value, and what a power vector reaches in it.

K base stations, each with one user; all measure their range to one target from their own echo. Base station j transmits
p_j, user k and base station k listen:

    comm_k    = p_k H[k,k] / (sum_{j != k} p_j (H[j,k] + F[j,k]) + p_k F[k,k] + n_c,k)                          eq. (9)
    sensing_k = p_k E[k,k] / (sum_{j != k} p_j (E[j,k] + D[j,k]) + beta_k p_k + n_s,k)                         eq. (11)
    sigma_k   = c / (2 B_k) / sqrt(2 sensing_k)                                                                eq. (12)

H direct to users, F by way of the target to users, E by way of the target to base stations, D direct between base
stations, beta what is left of the own transmission. Solvers see rows over receivers k and transmitters j:

    s_k p_k >= t (A p + n_s)_k           the level t of the sensing SINRs, s_k = w_k E[k,k], w_k = (B_k / max B)^2
    c_k p_k >= Gamma_k (C p + n_c)_k     what the users need, linear in p

Source: Rivera Figueroa, Bishoyi and Petrova, arXiv 2402.10660. Differs: the equations did not survive in the
copies that are stored, (9), (11) and (12) are derived from the prose; powers of different arrivals add, which holds
where their delays differ by more than 1 / B; (P1.a) names eq. (7), a signal, and (9) is meant; the paper's reduction to
the smallest SINR holds for equal bandwidths only, the weights w_k make it hold for any.
"""

import functools
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.arguments import NOT_NEGATIVE, POSITIVE, Good, check, numbers
from testbed.theory.ranging import range_std

OwnEcho = Literal["interference", "signal", "ignore"]

MEETS = 1e-9  # a requirement that is met within this, relative, is met


@dataclass(frozen=True, eq=False)
class RangeProblem:
    """Gains, noise and requirements of K base stations. Linear throughout; powers in one unit, noise in the same.

    Arrays are copied, checked and made read-only; scalars are spread over the nodes.

    Raises:
        ValueError: a shape that does not fit, a value out of range, or gains that overflow against each other.
    """

    comm_gain: NDArray[np.float64]  # (K, K), H, [transmitter, receiving user]
    comm_echo_gain: NDArray[np.float64]  # (K, K), F, [transmitter, receiving user]: by way of the target
    echo_gain: NDArray[np.float64]  # (K, K), E, [transmitter, receiving node]: by way of the target
    direct_gain: NDArray[np.float64]  # (K, K), D, [transmitter, receiving node]; (11) leaves its diagonal out
    self_gain: float | NDArray[np.float64]  # scalar or (K,), beta: residual self-interference over own power
    sensing_noise_var: float | NDArray[np.float64]  # scalar or (K,), over the band at the base stations, > 0
    comm_noise_var: float | NDArray[np.float64]  # scalar or (K,), over the band at the users, > 0
    max_power: float | NDArray[np.float64]  # scalar or (K,), cap of every node; 0 keeps it silent
    min_comm_sinr: float | NDArray[np.float64]  # scalar or (K,), Gamma; 0 asks for nothing
    bandwidth_hz: float | NDArray[np.float64] = 100e6  # scalar or (K,); only their ratios matter to the powers
    own_echo: OwnEcho = "interference"  # what F[k,k] is to user k: "interference", "signal", or "ignore"

    def __post_init__(self) -> None:
        shape = numbers(self.comm_gain, "comm_gain").shape
        if len(shape) != 2 or shape[0] == 0:
            raise ValueError(f"comm_gain: found shape {shape}; must be (K, K) with K at least 1")
        for name, num_axes, rule, good in _RULES:
            value = numbers(getattr(self, name), name, shape[:1] * num_axes, spread=num_axes == 1)
            check(value, name, rule, good)
            object.__setattr__(self, name, value)
        if self.own_echo not in get_args(OwnEcho):
            raise ValueError(f"own_echo: found {self.own_echo!r}; must be one of {', '.join(get_args(OwnEcho))}")
        P, gth, q = np.asarray(self.max_power), np.asarray(self.min_comm_sinr), self.scaled
        heard, served = self.sensing_rows[0] * P > 0, self.comm_rows[0] * P > 0
        vanished = np.any(q.n == 0) or np.any(q.asked != (gth > 0))
        kept = q.A[heard], q.n[heard], q.C[served], q.m[served], *self.rows
        if vanished or not all(np.all(np.isfinite(part)) for part in kept):
            raise ValueError("localization: ratios of gains, powers and noise overflow or vanish; check the units")

    @property
    def num_nodes(self) -> int:
        """K."""
        return len(self.comm_gain)

    @functools.cached_property
    def weight(self) -> NDArray[np.float64]:
        """w, shape (K,): (B_k / max B)^2, by which a sensing SINR counts; 1 for equal bandwidths."""
        return np.square(np.asarray(self.bandwidth_hz) / np.max(self.bandwidth_hz))

    @functools.cached_property
    def sensing_rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Signal s (K,), weighted, and interference A (K, K), [receiver, transmitter], beta on its diagonal."""
        A = (self.echo_gain + self.direct_gain).T.copy()
        np.fill_diagonal(A, self.self_gain)
        return self.weight * self.echo_gain.diagonal(), A

    @functools.cached_property
    def comm_rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Signal c (K,) and interference C (K, K), [receiver, transmitter]; `own_echo` says where F[k,k] counts."""
        C = (self.comm_gain + self.comm_echo_gain).T.copy()
        signal, own = self.comm_gain.diagonal(), self.comm_echo_gain.diagonal()
        np.fill_diagonal(C, own if self.own_echo == "interference" else 0.0)
        return signal + own if self.own_echo == "signal" else signal, C

    @functools.cached_property
    def rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A of shape (K, K) and b of shape (K,) with A p >= b, unscaled: (P1.a) multiplied out, one row per user."""
        c, C = self.comm_rows
        gth = np.asarray(self.min_comm_sinr)
        return np.diag(c) - gth[:, None] * C, gth * self.comm_noise_var

    @functools.cached_property
    def scaled(self) -> "Scaled":
        """The same problem in shares of the caps, with every row over its own signal at the cap."""
        P = np.asarray(self.max_power)
        (s, A), (c, C) = self.sensing_rows, self.comm_rows
        gth = np.asarray(self.min_comm_sinr)
        with np.errstate(over="ignore"):  # refused when the problem is made
            n, m = _over(np.asarray(self.sensing_noise_var), s * P), _over(gth * self.comm_noise_var, c * P)
            A, C = _over(A * P, s * P), _over(gth[:, None] * C * P, c * P)
        asked = gth > 0
        return Scaled(A, n, np.where(asked[:, None], C, 0.0), np.where(asked, m, 0.0))

    def rows_at(self, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """M of shape (2K, K) and v of shape (2K,): M p >= v where every weighted sensing SINR is `level` or more."""
        s, A = self.sensing_rows
        lower, b = self.rows
        upper = np.diag(s) - level * A
        return np.vstack([upper, lower]), np.append(level * np.asarray(self.sensing_noise_var), b)


_RULES: tuple[tuple[str, int, str, Good], ...] = (  # field, number of axes, what is allowed
    ("comm_gain", 2, *NOT_NEGATIVE),
    ("comm_echo_gain", 2, *NOT_NEGATIVE),
    ("echo_gain", 2, *NOT_NEGATIVE),
    ("direct_gain", 2, *NOT_NEGATIVE),
    ("self_gain", 1, *NOT_NEGATIVE),
    ("sensing_noise_var", 1, *POSITIVE),
    ("comm_noise_var", 1, *POSITIVE),
    ("max_power", 1, *NOT_NEGATIVE),
    ("min_comm_sinr", 1, *NOT_NEGATIVE),
    ("bandwidth_hz", 1, *POSITIVE),
)


def sinrs(problem: RangeProblem, power: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Communication and sensing SINRs at `power` (K,), linear, unweighted, shape (K,) each: eqs. (9) and (11).

    Raises:
        ValueError: a power of another shape, negative or not finite.
    """
    p = numbers(power, "power", (problem.num_nodes,))
    check(p, "power", *NOT_NEGATIVE)
    (c, C), (s, A) = problem.comm_rows, problem.sensing_rows
    comm = c * p / (C @ p + problem.comm_noise_var)
    return comm, s / problem.weight * p / (A @ p + problem.sensing_noise_var)


def range_stds(problem: RangeProblem, power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Range standard deviation of every base station at `power` (K,), m, shape (K,), inf where silent: eq. (12)."""
    return range_std(sinrs(problem, power)[1], problem.bandwidth_hz)


def smallest_sinr(problem: RangeProblem, power: NDArray[np.float64]) -> float:
    """The objective: the smallest weighted sensing SINR, linear.

    The largest range standard deviation is c / (2 max B) / sqrt(2 x) of it.
    """
    return float(np.min(problem.weight * sinrs(problem, power)[1]))


def serves(problem: RangeProblem, power: NDArray[np.float64]) -> bool:
    """Whether `power` (K,) gives every user its SINR and keeps to the caps, within 1e-9 of each."""
    comm = sinrs(problem, power)[0]
    within = np.all(power <= np.asarray(problem.max_power) * (1 + MEETS))
    return bool(np.all(comm >= np.asarray(problem.min_comm_sinr) * (1 - MEETS)) and within)


@dataclass(frozen=True)
class Scaled:
    """The problem in numbers near 1, for solvers: shares x = p / max_power, every row over its own signal at the cap.

        x >= t (A x + n)        x >= C x + m        0 <= x <= 1

    n is inf where no echo can be heard, m where a user has no signal at all. C and m are 0 where nothing is asked.
    """

    A: NDArray[np.float64]  # (K, K), diagonal: beta over own echo
    n: NDArray[np.float64]  # (K,)
    C: NDArray[np.float64]  # (K, K), with Gamma in it; diagonal: of the own echo
    m: NDArray[np.float64]  # (K,)

    @property
    def asked(self) -> NDArray[np.bool_]:
        """Users that need something, shape (K,)."""
        return self.m > 0

    def level(self, x: NDArray[np.float64]) -> float:
        """Smallest weighted sensing SINR at shares x."""
        return float(np.min(x / (self.A @ x + self.n)))

    def serves(self, x: NDArray[np.float64], tolerance: float) -> bool:
        """Whether every user has its SINR within a relative tolerance."""
        return bool(np.all(x * (1 + tolerance) >= self.C @ x + self.m))

    def relaxed(self, factor: float) -> "Scaled":
        """The same problem with all required SINRs times `factor`."""
        return Scaled(self.A, self.n, factor * self.C, factor * self.m)


def _over(part: NDArray[np.float64], signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows over the signal of their receiver, inf where there is none."""
    return np.divide(part.T, signal, out=np.full_like(part.T, np.inf), where=signal > 0).T
