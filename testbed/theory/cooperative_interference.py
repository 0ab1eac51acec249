"""What base stations in a ring, and beyond it, do to the Laplace transform of a user's received power.

The nearest station is at distance r, the L-th at r / eta. In the squared distance over r^2, t, and with a gain whose
Laplace transform is l, a Poisson ring from 1 to eta^-2 and the field beyond it have exponents

    H1(x) = int_1^{eta^-2} [1 - l(x t^(-alpha/2))] dt          H2(x) = int_{eta^-2}^inf [1 - l(x t^(-alpha/2))] dt

For l(y) = (1 + y)^-K, gains Gamma(K, 1), both are incomplete beta functions: (19) and (21), with
Bi(y) = B(y; 1 - 2/alpha, K + 2/alpha), not regularised,

    H1(x, K) = eta^-2 (1 - (1 + x eta^alpha)^-K) + (1 + x)^-K - 1
               + K x^(2/alpha) [Bi(x / (1 + x)) - Bi(x eta^alpha / (1 + x eta^alpha))]
    H2(x)    = x^(2/alpha) Bi(x eta^alpha / (1 + x eta^alpha)) - x eta^alpha / (1 + x eta^alpha) / eta^2        K = 1

Interferers send two beams, p^c and p^s, of correlation rho2 ~ Beta(1, M_t - 1) after zero forcing: their gain has
l(z) = E[1 / (1 + z + p^c p^s (1 - rho2) z^2)], which the paper matches to 1 / (1 + z). For any l,
H1 = x^(2/alpha) [G(x) - G(x eta^alpha)] and H2 = x^(2/alpha) G(x eta^alpha), G(Y) = (2/alpha) int_0^Y (1 - l(y))
y^(-1-2/alpha) dy: one table.

Everything here is multiplied by v = eta^2, which stays finite at v = 0, and is given ln x and v.

Source: Meng and Masouros, arXiv 2403.20228, eqs. (17)-(21). Differs: (19) prints (1 + x)^-alpha for (1 + x)^-K,
`printed` keeps it; the law of the two beams and G are not in the paper. Valid for: alpha >= 2.1; H2 diverges at 2.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.theory.arguments import whole

LEAST_EXPONENT = 2.1  # of the path loss: below, sums over the field converge too slowly to be computed

Grid = NDArray[np.float64]


def ring_exponent(
    x: ArrayLike, distance_ratio: ArrayLike, gain_shape: int, path_loss_exponent: float, *, printed: bool = False
) -> Any:
    """H1: exponent of the Laplace transform of a Poisson ring between the nearest and the L-th station.

    Args:
        x: argument of the transform, > 0, any shape.
        distance_ratio: eta, nearest over L-th distance, in (0, 1], broadcast with `x`.
        gain_shape: K, gains are Gamma(K, 1): 1 for interferers, M_t - 1 for servers.
        path_loss_exponent: alpha.
        printed: eq. (19) as it stands.

    Raises:
        ValueError: a number out of range.

    Source: eq. (19). Differs: unless printed, exponent K.
    """
    log_x, v = _arguments(x, distance_ratio)
    value = ring(log_x, v, whole(gain_shape, "gain_shape", 1), exponent(path_loss_exponent), printed=printed) / v
    return value if value.ndim else float(value)


def field_exponent(x: ArrayLike, distance_ratio: ArrayLike, path_loss_exponent: float) -> Any:
    """H2: exponent of the Laplace transform of the field beyond the L-th station, gains Exp(1).

    Arguments and errors as `ring_exponent`. Source: eq. (21). Differs: none.
    """
    log_x, v = _arguments(x, distance_ratio)
    value = field(log_x, v, exponent(path_loss_exponent)) / v
    return value if value.ndim else float(value)


def ring(log_x: Grid, v: Grid, K: int, alpha: float, *, printed: bool = False) -> Grid:
    """Ring: v H1(x, K), of broadcast ln x and v = eta^2 in (0, 1]."""
    from scipy import special

    a, b = 1 - 2 / alpha, K + 2 / alpha
    log_y = log_x + alpha / 2 * np.log(v)  # of x eta^alpha
    inside, at_edge = _share(log_x), _share(log_y)
    first = complement(log_y, K)
    nearest = np.expm1(-alpha * np.logaddexp(0, log_x)) if printed else -complement(log_x, K)
    bulk = special.betainc(a, b, inside) - special.betainc(a, b, at_edge)
    value = first + v * nearest + K * np.exp(2 / alpha * log_y) * special.beta(a, b) * bulk
    return value if printed else np.clip(value, 0.0, 1 - v)


def field(log_x: Grid, v: Grid, alpha: float) -> Grid:
    """Field beyond it: v H2(x), of broadcast ln x and v = eta^2 in (0, 1]."""
    from scipy import special

    a, b = 1 - 2 / alpha, 1 + 2 / alpha
    log_y = log_x + alpha / 2 * np.log(v)
    at_edge = _share(log_y)
    return np.exp(2 / alpha * log_y) * special.beta(a, b) * special.betainc(a, b, at_edge) - at_edge


def complement(log_y: Grid, K: int) -> Grid:
    """1 - (1 + y)^-K with all digits for small y."""
    return -np.expm1(-K * np.logaddexp(0, log_y))


def beams_complement(log_y: Grid, num_antennas: int, comm_power_share: float) -> Grid:
    """1 - l(y) of an interferer's two beams: E_rho2[(y + q y^2) / (1 + y + q y^2)], q = p^c p^s (1 - rho2)."""
    node, weight = np.polynomial.legendre.leggauss(48)
    u = (node + 1) / 2  # of (1 - rho2)^(M_t - 1), which is uniform
    q = comm_power_share * (1 - comm_power_share) * u ** (1 / (num_antennas - 1))
    y = np.exp(np.minimum(log_y, 300.0))  # beyond, both sides of the quotient are alike
    found = np.zeros(np.shape(y))
    for w, share in zip(weight / 2, q, strict=True):
        power = y + share * y * y
        found += w * power / (1 + power)
    return found


def beams(log_x: Grid, v: Grid, alpha: float, num_antennas: int, comm_power_share: float) -> tuple[Grid, Grid]:
    """Both, v H1 and v H2, for interferers that send two zero-forcing beams; arguments as `ring`."""
    table = _table(alpha, num_antennas, comm_power_share)
    log_y = log_x + alpha / 2 * np.log(v)
    scale = np.exp(2 / alpha * log_y)  # v x^(2/alpha)
    outer = table(log_y)
    return np.clip(scale * (table(log_x) - outer), 0.0, 1 - v), scale * outer


@functools.lru_cache(maxsize=8)
def _table(alpha: float, num_antennas: int, comm_power_share: float) -> Any:
    """G(Y) as a function of ln Y: spline of ln G, which is straight at both ends."""
    from scipy import interpolate

    log_y = np.arange(-100.0, 30 * alpha, 0.05)
    node, weight = np.polynomial.legendre.leggauss(6)
    u = log_y[:-1, None] + 0.025 * (node + 1)
    density = beams_complement(u, num_antennas, comm_power_share) * np.exp(-2 / alpha * u) * 2 / alpha
    first = np.exp((1 - 2 / alpha) * log_y[0]) / (alpha / 2 - 1)  # where 1 - l(y) = y
    G = first + np.append(0.0, np.cumsum(0.025 * density @ weight))
    spline = interpolate.make_interp_spline(log_y, np.log(G), k=5)
    return lambda at: np.exp(spline(np.clip(at, log_y[0], log_y[-1])) + (1 - 2 / alpha) * np.minimum(at - log_y[0], 0))


def exponent(path_loss_exponent: float) -> float:
    """alpha, or ValueError where it is below 2.1."""
    if not LEAST_EXPONENT <= path_loss_exponent < np.inf:
        raise ValueError(f"path_loss_exponent {path_loss_exponent:g} - must be {LEAST_EXPONENT} or more")
    return float(path_loss_exponent)


def _share(log_y: Grid) -> Grid:
    """Share y / (1 + y)."""
    from scipy import special

    return special.expit(log_y)


def _arguments(x: ArrayLike, distance_ratio: ArrayLike) -> tuple[Grid, Grid]:
    x, eta = np.asarray(x, dtype=np.float64), np.asarray(distance_ratio, dtype=np.float64)
    if not np.all((x > 0) & (x < np.inf)) or not np.all((eta > 0) & (eta <= 1)):
        raise ValueError("x, distance_ratio - must be finite and above 0, distance_ratio at most 1")
    return np.log(x), eta**2
