"""What the ranges of a cluster of base stations tell about a target's position: Fisher information and its bound.

Node i has distance d_i, bearing th_i, u_i = (cos th_i, sin th_i), weight w_i = d_i^-beta. Every node sends, every node
listens, and link (i, j) measures d_i + d_j, with gradient g_ij = u_i + u_j:

    F = zeta2 sum_ij w_i w_j g_ij g_ij^T                                            eq. (5), the double sum
      = zeta2 [(S^2 + |z1|^2) I + C(S z2 + z1^2)],    C(c) = [[Re c, Im c], [Im c, -Re c]]

    S = sum w_i,   z1 = sum w_i e^{j th_i},   z2 = sum w_i e^{2j th_i}              three moments
    CRLB = tr F / det F

so running sums along the nodes give all cluster sizes in one pass. Without a node's own echo, i = j, two more moments
are taken off: 4 zeta2 sum w_i^2 u_i u_i^T.

Source: Meng and Masouros, cooperative ISAC networks (arXiv 2403.20228), eqs. (5), (6), (11). Differs: the moments are
not in the paper; (11) as printed loses terms, see `crlb_by_link_pairs`. Singular, or of a condition number above 1e12:
the bound is inf and never an exception. Valid for: relative to 1e-16 times the condition number.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.theory.arguments import not_negative

SINGULAR = 1e12  # condition number above which a Fisher information counts as singular

Information = NDArray[np.float64]  # (..., 2, 2), real, symmetric, 1 / length^2


def fim(
    node_position: ArrayLike,
    target_position: ArrayLike,
    beta: float = 2.0,
    zeta2: float = 1.0,
    *,
    own_echo: bool = True,
) -> Information:
    """Fisher information of a target's position from all bistatic ranges of N nodes, by moments.

    Args:
        node_position: shape (..., N, 2), any unit of length.
        target_position: shape (2,) or (..., 2), same unit.
        beta: path-loss exponent of one way, >= 0; 2 is the radar equation.
        zeta2: link constant, length^(2 beta - 2); `link_constant`.
        own_echo: whether node i hears its own echo, i = j.

    Returns:
        F, shape (..., 2, 2), 1 / length^2.

    Raises:
        ValueError: shapes that do not fit, a node on the target, a negative beta or zeta2.

    Source: eq. (5). Differs: three moments instead of N^2 terms.
    """
    return _fim(_moments(*_weights(node_position, target_position, beta)).sum(axis=-1), constant(zeta2), own_echo)


def crlb(
    node_position: ArrayLike,
    target_position: ArrayLike,
    beta: float = 2.0,
    zeta2: float = 1.0,
    *,
    own_echo: bool = True,
) -> Any:
    """Cramer-Rao bound of the position, tr F^-1, length^2: a float, or shape (...); inf where F is singular.

    Arguments and errors as `fim`. Source: eq. (6). Differs: inf for N = 1 and for nodes in line with the target.
    """
    moments = _moments(*_weights(node_position, target_position, beta)).sum(axis=-1)
    return crlb_from_moments(moments, zeta2, own_echo=own_echo)


def crlb_of_clusters(
    distance: ArrayLike, bearing_rad: ArrayLike, beta: float = 2.0, zeta2: float = 1.0, *, own_echo: bool = True
) -> NDArray[np.float64]:
    """CRLB of the first 1, 2, ..., N nodes, in the order given, of any number of layouts at once.

    Args:
        distance: node to target, shape (..., N), > 0.
        bearing_rad: of the nodes, shape (..., N), counted in one sense from any direction.
        beta: path-loss exponent of one way.
        zeta2: link constant.
        own_echo: whether node i hears its own echo.

    Returns:
        Shape (..., N), length^2; element N - 1 is of the first N nodes, element 0 is inf.

    Raises:
        ValueError: shapes that differ, a distance that is not above 0, a negative beta or zeta2.
    """
    running = np.cumsum(node_moments(distance, bearing_rad, beta), axis=-1)
    found: NDArray[np.float64] = crlb_from_moments(running, zeta2, own_echo=own_echo)
    found[..., 0] = np.inf  # of rank 1, or 0 without its own echo, whatever rounding says
    return found


def node_moments(distance: ArrayLike, bearing_rad: ArrayLike, beta: float = 2.0) -> NDArray[np.complex128]:
    """What every node adds: w, w e^{j th}, w e^{2j th}, w^2, w^2 e^{2j th}, shape (5, ..., N). Additive over nodes.

    Arguments and errors as `crlb_of_clusters`.
    """
    d, th = np.asarray(distance, dtype=np.float64), np.asarray(bearing_rad, dtype=np.float64)
    if d.shape != th.shape or d.ndim == 0 or d.shape[-1] == 0:
        raise ValueError(f"distance {d.shape}, bearing_rad {th.shape} - both must be (..., N) with N at least 1")
    if not np.all(np.isfinite(d) & (d > 0)) or not np.all(np.isfinite(th)):
        raise ValueError("distance, bearing_rad - must be finite, distances above 0: no node may stand on the target")
    return _moments(d ** -_exponent(beta), np.exp(1j * th))


def crlb_from_moments(moments: NDArray[np.complex128], zeta2: float = 1.0, *, own_echo: bool = True) -> Any:
    """CRLB of sets of nodes from sums of their `node_moments`.

    Args:
        moments: shape (5, ...).
        zeta2: link constant, >= 0; 0 gives inf.
        own_echo: whether node i hears its own echo.

    Returns:
        A float, or shape (...), length^2; inf for the empty set and where F is singular.
    """
    zeta2, S = constant(zeta2), moments[0].real
    with np.errstate(divide="ignore", invalid="ignore"):
        half_trace, det, coupling = _normalised(moments, own_echo)
        # det over the larger eigenvalue is the smaller one
        regular = det * SINGULAR > (half_trace + np.abs(coupling)) ** 2
        regular &= half_trace * SINGULAR > 1  # a single node without its own echo leaves rounding only
        value = np.where(regular, 2 * half_trace / (det * zeta2 * S**2), np.inf)
    return value if value.ndim else float(value)


def fim_by_double_sum(
    node_position: ArrayLike,
    target_position: ArrayLike,
    beta: float = 2.0,
    zeta2: float = 1.0,
    *,
    own_echo: bool = True,
) -> Information:
    """Eq. (5) as it stands, N^2 terms, of one layout: what the moments are checked and timed against.

    Arguments and errors as `fim`; node_position is (N, 2).
    """
    w, u = _weights(node_position, target_position, beta)
    F = np.zeros((2, 2))
    for i in range(len(w)):
        for j in range(len(w)):
            if i != j or own_echo:
                g = np.array([(u[i] + u[j]).real, (u[i] + u[j]).imag])
                F += w[i] * w[j] * np.outer(g, g)
    return constant(zeta2) * F


def crlb_by_link_pairs(
    node_position: ArrayLike,
    target_position: ArrayLike,
    beta: float = 2.0,
    zeta2: float = 1.0,
    *,
    printed: bool = False,
) -> float:
    """Eq. (11): tr F over det F, the determinant as a sum over pairs of links (Cauchy and Binet); N^4 terms.

        det F = zeta2^2 sum_{(k,l) before (i,j)} w_k w_l w_i w_j (g_kl x g_ij)^2

    Args:
        node_position: shape (N, 2); own echoes count.
        target_position: shape (2,).
        beta: path-loss exponent of one way.
        zeta2: link constant.
        printed: the inner sum over j > max((k - i) N + l, 1), which loses j = 1 wherever i > k.
            Otherwise j > max(..., 0).

    Raises:
        ValueError: as `fim`.

    Source: eq. (11). Differs: unless printed, as above; then it equals `crlb`.
    """
    w, u = _weights(node_position, target_position, beta)
    num, g = len(w), (u[:, None] + u).ravel()
    weight = (w[:, None] * w).ravel()
    cross = (np.conj(g)[:, None] * g).imag ** 2 * weight[:, None] * weight
    later = np.triu(np.ones((num**2, num**2), dtype=bool), 1)
    if printed:
        k, i = np.divmod(np.arange(num**2), num)[0][:, None], np.arange(num**2) // num
        later &= ~((i > k) & (np.arange(num**2) % num == 0))
    det, trace = float(np.sum(cross[later])), float(weight @ np.abs(g) ** 2)
    return trace / (det * constant(zeta2)) if det * SINGULAR > trace**2 else np.inf


def _normalised(moments: NDArray[np.complex128], own_echo: bool) -> tuple[Any, Any, Any]:
    """Half the trace, determinant and coupling c of F / (zeta2 S^2): F is half_trace I + C(coupling) there."""
    S = moments[0].real
    r1, r2 = moments[1] / S, moments[2] / S
    half_trace, coupling = 1 + np.abs(r1) ** 2, r2 + r1**2
    if own_echo:
        det = 1 - np.abs(r2) ** 2 + 2 * (np.abs(r1) ** 2 - (r1**2 * r2.conj()).real)  # neither part can be negative
        return half_trace, det, coupling
    half_trace, coupling = half_trace - 2 * moments[3].real / S**2, coupling - 2 * moments[4] / S**2
    return half_trace, (half_trace - np.abs(coupling)) * (half_trace + np.abs(coupling)), coupling


def _fim(moments: NDArray[np.complex128], zeta2: float, own_echo: bool) -> Information:
    half_trace, _, coupling = _normalised(moments, own_echo)
    return zeta2 * symmetric(half_trace * moments[0].real ** 2, coupling * moments[0].real ** 2)


def symmetric(half_trace: Any, coupling: Any) -> Information:
    """Matrix half_trace I + C(coupling), shape (..., 2, 2)."""
    off = np.imag(coupling)
    rows = [[half_trace + np.real(coupling), off], [off, half_trace - np.real(coupling)]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def _moments(w: NDArray[np.float64], u: NDArray[np.complex128]) -> NDArray[np.complex128]:
    found = np.empty((5, *w.shape), dtype=np.complex128)
    found[0], found[3] = w, w * w
    found[1] = w * u
    found[2] = found[1] * u
    found[4] = found[2] * w
    return found


def _weights(
    node_position: ArrayLike, target_position: ArrayLike, beta: float
) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Weights w and the bearings as unit complex numbers, (..., N)."""
    offset, distance = offsets(node_position, target_position, (2,))
    return distance ** -_exponent(beta), np.ascontiguousarray(offset / distance[..., None]).view(np.complex128)[..., 0]


def offsets(
    node_position: ArrayLike, target_position: ArrayLike, axes: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Target to nodes, (..., N, 2 or 3), and its length."""
    nodes, target = np.asarray(node_position, dtype=np.float64), np.asarray(target_position, dtype=np.float64)
    fits = nodes.ndim >= 2 and nodes.shape[-1] in axes and nodes.shape[-2] > 0 and target.shape[-1:] == nodes.shape[-1:]
    if not fits:
        wanted = " or ".join(f"(..., N, {n}) and (..., {n})" for n in axes)
        raise ValueError(f"node_position {nodes.shape}, target_position {target.shape} - must be {wanted}")
    offset = nodes - target[..., None, :]
    distance = np.sqrt(np.sum(offset * offset, axis=-1))
    if not np.all((distance > 0) & (distance < np.inf)):
        raise ValueError("node_position - must be finite and apart from the target: no node may stand on it")
    return offset, distance


def _exponent(beta: float) -> float:
    return float(not_negative(beta, "beta"))


def constant(zeta2: float) -> float:
    """The link constant as a float, or ValueError when it is negative or not finite."""
    return float(not_negative(zeta2, "zeta2"))
