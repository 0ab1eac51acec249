"""Receive combining of the uplink: one vector per user from estimated channels, and one for the target.

    maximise    sum_k log2(1 + gamma_k)         over unit-norm w_k                                              (P6, P7)
    gamma_k = p_k |w_k^H u_k|^2 / (sum_{i != k} p_i |w_k^H u_i|^2 + w_k^H Z w_k)                           (39), (40)

with channel estimates u_k, data powers p_k and Z the covariance of noise and estimation errors.

    optimal   w_k = S^-1 u_k,  S = sum_i p_i u_i u_i^H + Z        global optimum, every user's at once
    sca       the paper's Algorithm 2, successive convex approximation; reaches the same, see `sca_combiners`
    mrc       w_k = u_k
    zf        w_k = k-th column of (U^+)^H; for K > M, where users cannot be separated, least squares

All are normalised. A user's SINR depends on its own vector alone, so that (P6) is K Rayleigh quotients; a rate that is
asked of a user or of the target cannot change the optimum, only be met by it or not.

Algorithm 2, with x = sqrt(p_k) w_k^H u_k, y the denominator, (x0, y0) those of the round before:

1. w_k = MRC.
2. ln(1 + |x|^2 / y) >= const + 2 Re(x0* x) / y0 - d (|x|^2 + y),   d = |x0|^2 / (y0 (y0 + |x0|^2))              (44)
   maximise the sum of the right-hand sides subject to ||w_k|| <= 1                                              (P8)
   = for every user (d S + mu I) w = sqrt(p_k) u_k x0* / y0 with mu >= 0 from the norm, by bisection
3. Repeat 2 until the sum rate changes by less than the tolerance; normalise.

Source: He et al., uplink ISAC (arXiv 2603.17744), (39)-(45), Algorithm 2. Differs: optimal is not in the paper; step 2
in closed form instead of a convex solver; no regulariser to make the norm tight, the SINR does not see it; tolerance
1e-8, because 1e-6 leaves up to 2e-5 bit/s/Hz where users differ by 20 dB and a hundred rounds are needed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["METHODS", "combined_sinr", "combiners", "sca_combiners", "sensing_combiner"]

METHODS = ("optimal", "sca", "mrc", "zf")
_TOLERANCE = 1e-8  # change of the sum of log2(1 + gamma) that ends Algorithm 2
_MAX_ROUNDS = 1000
_BISECTIONS = 60

_Complex = NDArray[np.complex128]
_Real = NDArray[np.float64]


def combiners(channels: _Complex, noise_cov: _Complex, data_power: _Real, method: str = "optimal") -> _Complex:
    """Combining vectors of all users; user k's output is w_k^H y.

    Args:
        channels: estimates u_k in columns, shape (..., M, K); leading axes are blocks.
        noise_cov: Z, shape (M, M) or (..., M, M), Hermitian, positive definite, linear.
        data_power: p, shape (K,) or (..., K), linear, >= 0.
        method: "optimal", "sca", "mrc" or "zf".

    Returns:
        W, shape (..., M, K), columns of unit norm; a column is 0 where the user's channel is.

    Raises:
        ValueError: an unknown method, shapes that do not fit, a negative power, numbers that are not finite, or a Z
            that is not Hermitian positive definite.
    """
    if method not in METHODS:
        raise ValueError(f"method: found {method!r}; must be one of {', '.join(METHODS)}")
    U, Z, p = _checked(channels, noise_cov, data_power)
    if method == "mrc":
        return _unit(U)
    if method == "zf":
        return _unit(np.conj(np.swapaxes(np.linalg.pinv(U), -1, -2)))
    if method == "optimal":
        return _unit(np.linalg.solve(_received(U, Z, p), U))
    W = np.empty_like(U)
    for block in np.ndindex(U.shape[:-2]):
        W[block] = _ascend(U[block], Z[block], p[block], _TOLERANCE, _MAX_ROUNDS)[0]
    return W


def sca_combiners(
    channels: _Complex,
    noise_cov: _Complex,
    data_power: _Real,
    *,
    tolerance: float = _TOLERANCE,
    max_rounds: int = _MAX_ROUNDS,
) -> tuple[_Complex, tuple[float, ...]]:
    """Algorithm 2 on one block with its history.

    Args:
        channels: (M, K), as `combiners`.
        noise_cov: (M, M), as `combiners`.
        data_power: (K,), as `combiners`.
        tolerance: ends the rounds when sum_k log2(1 + gamma_k) changes by less, > 0.
        max_rounds: most rounds, >= 1.

    Returns:
        W (M, K) and sum_k log2(1 + gamma_k), without a prelog, of MRC and after every round; it never falls.

    Raises:
        ValueError: as `combiners`, more than one block, or a tolerance or number of rounds out of range.
    """
    if not (0 < tolerance < np.inf) or max_rounds < 1:
        raise ValueError(f"tolerance {tolerance:g}, max_rounds {max_rounds}; must be above 0 and at least 1")
    U, Z, p = _checked(channels, noise_cov, data_power)
    if U.ndim != 2:
        raise ValueError(f"channels: found shape {U.shape}; must be one block, (M, K)")
    return _ascend(U, Z, p, tolerance, max_rounds)


def combined_sinr(channels: _Complex, noise_cov: _Complex, data_power: _Real, W: _Complex) -> _Real:
    """SINR of every user after combining, eq. (40), linear, shape (..., K); arguments and errors as `combiners`.

    W, shape (..., M, K), of any norm; 0 where its column is 0.
    """
    U, Z, p = _checked(channels, noise_cov, data_power)
    if np.shape(W) != U.shape:
        raise ValueError(f"W: found shape {np.shape(W)}; must be {U.shape} like channels")
    return _sinr(U, Z, p, np.asarray(W))


def sensing_combiner(echo_channels: _Complex, noise_cov: _Complex, data_power: _Real) -> tuple[_Complex, _Real]:
    """Combining vector of the target from estimated echoes, and its SINR: eqs. (41) and (22).

    w maximises w^H A w / w^H Z w with A = sum_k p_k g_k g_k^H: the top left singular vector of L^-1 G, Z = L L^H.

    Args:
        echo_channels: estimates g_k in columns, shape (..., M, K).
        noise_cov: Z, as `combiners`.
        data_power: p, as `combiners`.

    Returns:
        w, shape (..., M), unit norm, and the SINR per symbol, linear, shape (...). All echoes 0: any w, SINR 0.

    Raises:
        ValueError: as `combiners`.
    """
    G, Z, p = _checked(echo_channels, noise_cov, data_power)
    L = np.linalg.cholesky(Z)
    left, size, _ = np.linalg.svd(np.linalg.solve(L, G * np.sqrt(p)[..., None, :]), full_matrices=False)
    w = np.linalg.solve(np.conj(np.swapaxes(L, -1, -2)), left[..., :1])
    return _unit(w)[..., 0], size[..., 0] ** 2


def _ascend(
    U: _Complex, Z: _Complex, p: _Real, tolerance: float, max_rounds: int
) -> tuple[_Complex, tuple[float, ...]]:
    W = _unit(U)
    eigenvalues, V = np.linalg.eigh(_received(U, Z, p))
    turned = V.conj().T @ U
    history = [_sum_rate(U, Z, p, W)]
    for _ in range(max_rounds):
        gain = W.conj().T @ U  # [user, source]
        x0 = np.sqrt(p) * np.diag(gain)
        signal = np.abs(x0) ** 2
        y0 = np.abs(gain) ** 2 @ p - signal + _noise(W, Z)
        active = signal > 0  # a user that is not heard stays with MRC
        if not np.any(active):
            break
        safe = np.where(active, y0, 1.0)
        d = np.where(active, signal / (safe * (safe + signal)), 1.0)
        b = turned * (np.sqrt(p) * x0.conj() / safe)  # V^H b, a column per user
        loaded = d * eigenvalues[:, None]
        mu = _multiplier(np.abs(b) ** 2, loaded)
        proposed = np.where(active, V @ (b / (loaded + mu)), W)
        reached = _sum_rate(U, Z, p, proposed)
        if reached < history[-1]:  # rounding at the optimum
            break
        W = proposed
        history.append(reached)
        if reached - history[-2] < tolerance:
            break
    return _unit(W), tuple(history)


def _multiplier(size: _Real, loaded: _Real) -> _Real:
    """Least mu >= 0 (K,) with sum over rows of size / (loaded + mu)^2 <= 1; both (M, K)."""
    low, high = np.zeros(size.shape[1]), np.sqrt(np.sum(size, axis=0))
    for _ in range(_BISECTIONS):
        mu = (low + high) / 2
        long = np.sum(size / (loaded + mu) ** 2, axis=0) > 1
        low, high = np.where(long, mu, low), np.where(long, high, mu)
    inside = np.sum(size / loaded**2, axis=0) <= 1
    return np.where(inside, 0.0, high)


def _sinr(U: _Complex, Z: _Complex, p: _Real, W: _Complex) -> _Real:
    gain = np.abs(np.conj(np.swapaxes(W, -1, -2)) @ U) ** 2 * p[..., None, :]  # (..., K, K), [user, source]
    own = np.diagonal(gain, axis1=-2, axis2=-1)
    others = np.sum(np.where(np.eye(U.shape[-1], dtype=bool), 0.0, gain), axis=-1)  # no difference of large numbers
    left = others + _noise(W, Z)
    return np.divide(own, left, out=np.zeros_like(left), where=left > 0)


def _sum_rate(U: _Complex, Z: _Complex, p: _Real, W: _Complex) -> float:
    return float(np.sum(np.log1p(_sinr(U, Z, p, W))) / np.log(2))


def _noise(W: _Complex, Z: _Complex) -> _Real:
    """w_k^H Z w_k, (..., K)."""
    return np.sum(W.conj() * (Z @ W), axis=-2).real


def _received(U: _Complex, Z: _Complex, p: _Real) -> _Complex:
    """S, (..., M, M)."""
    return (U * p[..., None, :]) @ np.conj(np.swapaxes(U, -1, -2)) + Z


def _unit(W: Any) -> _Complex:
    """Columns of unit norm; 0 stays 0."""
    largest = np.max(np.abs(W), axis=-2, keepdims=True)
    W = W / np.where(largest > 0, largest, 1.0)  # a norm of numbers near 1 neither overflows nor vanishes
    norm = np.linalg.norm(W, axis=-2, keepdims=True)
    return W / np.where(norm > 0, norm, 1.0)


def _checked(channels: Any, noise_cov: Any, data_power: Any) -> tuple[_Complex, _Complex, _Real]:
    U = np.asarray(channels, dtype=np.complex128)
    if U.ndim < 2 or 0 in U.shape:
        raise ValueError(f"channels: found shape {U.shape}; must be (..., M, K), a column per user")
    blocks, (M, K) = U.shape[:-2], U.shape[-2:]
    Z, p = np.asarray(noise_cov, dtype=np.complex128), np.asarray(data_power, dtype=np.float64)
    if Z.shape not in ((M, M), (*blocks, M, M)):
        raise ValueError(f"noise_cov: found shape {Z.shape}; must be {(M, M)} or {(*blocks, M, M)}")
    if p.shape not in ((K,), (*blocks, K)):
        raise ValueError(f"data_power: found shape {p.shape}; must be {(K,)} or {(*blocks, K)}")
    if not np.all(np.isfinite(p)) or np.any(p < 0):
        raise ValueError(f"data_power: found {p[~((p >= 0) & (p < np.inf))].flat[0]:g}; must be finite and at least 0")
    if not (np.all(np.isfinite(U)) and np.all(np.isfinite(Z))):
        raise ValueError("channels, noise_cov: found numbers that are not finite")
    size = np.max(np.abs(Z))
    if np.max(np.abs(Z - np.conj(np.swapaxes(Z, -1, -2)))) > 1e-9 * size:
        raise ValueError("noise_cov: not Hermitian - a covariance matrix E[n n^H] is")
    try:
        np.linalg.cholesky(Z)
    except np.linalg.LinAlgError as exc:
        raise ValueError("noise_cov: not positive definite; add the noise of the receiver") from exc
    return U, np.broadcast_to(Z, (*blocks, M, M)), np.broadcast_to(p, (*blocks, K))
