"""The repaired detector: echoes as the difference of whole-block channels from calibrated ones.

    x_k = w_k^H (u_k - h_cal_k)    u_k: least squares over the whole block; h_cal_k: their mean over n_cal empty blocks
    V0_kj = sigma2 (1 + 1 / n_cal) [(S S^H)^-1]_jk w_k^H w_j        without an echo
    V1 = V0 + diag(eta_k |w_k^H a|^2)                               with one: g_k = alpha_k a, alpha_k ~ CN(0, eta_k)
    x^H (V0^-1 - V1^-1) x >= threshold                              the likelihood ratio of both laws

The statistic is a sum of exponentials, weights eig(V0 Q) without an echo and eig(V1 Q) with one, Q = V0^-1 - V1^-1.
Data of different users are not orthogonal in a block, so V0 is not diagonal: a detector for which it is has 1.3 times
the false alarms.

plain      w_k = a / ||a||
guarded    w_k = a less its part along h_cal_k, normalised: a common drift of the direct paths' gain, however large,
           does not get through. It costs the part of the echo that lies there.

The calibration's noise is common to all blocks that are judged with it: n_cal of a thousand blocks at the same powers
and gain, fresh for every power, keep it unseen. sigma2 comes from a muted capture, never from unloaded subcarriers,
into which fractional delays leak.

A verdict takes threshold and law from a detector that was told the true noise and echoes, and the statistic from the
receiver's own: then law, alarms and detections all see a receiver that is wrong.

Source: scenes/uplink.md section 3; He et al., arXiv 2603.17744 has another detector, see `uplink_paper_detector`.
Valid for: direct channels that do not change between calibration and test; echoes at the delays of the direct paths.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.errors import CaptureError
from testbed.theory.arguments import Values
from testbed.theory.hypoexponential import hypoexponential_tail, hypoexponential_threshold

MIN_CALIBRATION_BLOCKS = 1000  # with fewer, the calibration's own noise shows in the verdicts


@dataclass(frozen=True, eq=False)
class Calibration:
    """Channels without the target."""

    channels: NDArray[np.complex128]  # h_cal, shape (M, K)
    num_blocks: int  # n_cal


def calibrate(channels: NDArray[np.complex128]) -> Calibration:
    """Mean of whole-block channels (B, M, K) of an empty capture.

    Raises:
        CaptureError: no block.
    """
    if len(channels) == 0:
        raise CaptureError("calibration: no block; capture the empty scene at the powers that are tested")
    return Calibration(channels.mean(axis=0), len(channels))


@dataclass(frozen=True, eq=False)
class EchoDetector:
    """The detector for one set of powers."""

    calibration: Calibration
    combiners: NDArray[np.complex128]  # w_k, unit norm, shape (M, K)
    kept: NDArray[np.float64]  # |w_k^H a|^2 / ||a||^2, shape (K,); 1 if plain
    array_gain: NDArray[np.float64]  # |w_k^H a|^2, shape (K,)
    empty_cov: NDArray[np.complex128]  # V0, shape (K, K)
    echo_cov: NDArray[np.complex128]  # V1, shape (K, K)

    @cached_property
    def form(self) -> NDArray[np.complex128]:
        """Q = V0^-1 - V1^-1, shape (K, K)."""
        return _quadratic_form(self.empty_cov, self.echo_cov)

    @cached_property
    def h0_weights(self) -> NDArray[np.float64]:
        """Weights of the exponentials that the statistic sums without an echo, shape (K,)."""
        return _weights(self.empty_cov, self.form)

    @cached_property
    def h1_weights(self) -> NDArray[np.float64]:
        """As `h0_weights`, with an echo."""
        return _weights(self.echo_cov, self.form)

    def outputs(self, channels: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Combined differences x of whole-block channels (B, M, K), shape (B, K)."""
        return np.einsum("mk,bmk->bk", self.combiners.conj(), channels - self.calibration.channels)

    def statistic(self, channels: NDArray[np.complex128]) -> NDArray[np.float64]:
        """x^H Q x of every block, shape (B,)."""
        x = self.outputs(channels)
        return np.einsum("bk,kj,bj->b", x.conj(), self.form, x, optimize=True).real

    def threshold(self, pfa: Values) -> Values:
        """What the statistic exceeds with probability `pfa` where there is no echo."""
        return hypoexponential_threshold(pfa, self.h0_weights)

    def h0_survival(self, statistic: Values) -> Values:
        """Probability that a block without an echo exceeds a statistic: uniform over such blocks."""
        return hypoexponential_tail(statistic, self.h0_weights)

    def weights(self, covariance: NDArray[np.complex128]) -> NDArray[np.float64]:
        """Weights of the statistic where the outputs have another covariance (K, K), as of another echo, shape (K,)."""
        return _weights(covariance, self.form)

    def detection_probability(self, pfa: Values) -> Values:
        """Probability of detection (PoD) at a probability of false alarm, averaged over the echo's fading."""
        return hypoexponential_tail(self.threshold(pfa), self.h1_weights)


def echo_detector(
    columns: NDArray[np.complex128],
    calibration: Calibration,
    steering: NDArray[np.complex128],
    echo_gain: ArrayLike,
    noise_var: float,
    *,
    guarded: bool = True,
) -> EchoDetector:
    """The detector of a set of powers.

    Args:
        columns: S, of the blocks that are tested, shape (K, T).
        calibration: at the same powers and gain.
        steering: a, of the target's direction, calibrated, shape (M,).
        echo_gain: eta, mean power gain of every user's echo, linear, shape (K,).
        noise_var: sigma2 per element from a muted capture, milliwatt.
        guarded: see above.

    Raises:
        ValueError: shapes that do not fit, no echo, or noise_var not positive.
        CaptureError: a user whose direct path comes from the target's direction, so that a guard leaves nothing.
    """
    h = calibration.channels
    a, eta = np.asarray(steering, dtype=np.complex128), np.asarray(echo_gain, dtype=np.float64)
    K = columns.shape[0]
    if h.shape != (a.size, K) or eta.shape != (K,):
        raise ValueError(f"shapes calibration {h.shape}, steering {a.shape}, echo_gain {eta.shape}; K is {K}")
    if not np.all(np.isfinite(eta)) or np.any(eta < 0) or not np.any(eta > 0):
        raise ValueError(f"echo_gain {eta}; must be finite, >= 0, and one > 0")
    if not (noise_var > 0 and np.isfinite(noise_var)):
        raise ValueError(f"noise_var {noise_var}; must be positive")
    W = np.repeat(a[:, None], K, axis=1)
    if guarded:
        along = np.sum(h.conj() * W, axis=0) / np.sum(np.abs(h) ** 2, axis=0)
        W = W - along * h
    size = np.linalg.norm(W, axis=0)
    kept = size**2 / np.sum(np.abs(a) ** 2)
    if np.any(kept < 1e-6):
        user = int(np.argmin(kept))
        raise CaptureError(
            f"guard: the direct path of user {user + 1} comes from the target's direction, and nothing is left of the "
            f"echo; use the plain detector"
        )
    W = W / size
    gain = np.abs(W.conj().T @ a) ** 2
    inverse = np.linalg.inv(columns @ columns.conj().T)
    V0 = noise_var * (1 + 1 / calibration.num_blocks) * inverse.T * (W.conj().T @ W)
    return EchoDetector(calibration, W, kept, gain, V0, V0 + np.diag(eta * gain))


def _quadratic_form(V0: NDArray[np.complex128], V1: NDArray[np.complex128]) -> NDArray[np.complex128]:
    Q = np.linalg.inv(V0) - np.linalg.inv(V1)
    return ((Q + Q.conj().T) / 2).astype(np.complex128)


def _weights(V: NDArray[np.complex128], Q: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Eigenvalues of V Q, real: those of L^H Q L, V = L L^H; rounding below 0 is 0."""
    L = np.linalg.cholesky(V)
    found: NDArray[np.float64] = np.maximum(np.linalg.eigvalsh(L.conj().T @ Q @ L), 0.0)
    return found
