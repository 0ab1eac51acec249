"""The paper's detector, on captures: echoes estimated from a block's pilots, looked for in the same block's data.

    y_s[t] = w_s^H (y[t] - sum_k h_hat_k s_k[t])                    data with the direct paths cancelled        (9)
    mu[t]  = w_s^H sum_k g_hat_k s_k[t],   Sigma = w_s^H B w_s,     chi = sum_t |mu[t]|^2 / Sigma
    T = Re sum_t mu*[t] y_s[t] / Sigma,    detected where T > sqrt(chi / 2) Q^-1(pfa)                     (13), (14)
    w_s maximises w^H A w / w^H B w,   A = sum_k p_k Theta_g,k,   B = sum_k p_k C_u,k + sigma2 I         (18)-(22)

Its null hypothesis is wrong for a receiver that estimates from the block it judges: without a target the pilots carry
no echo either, yet g_hat is not 0, and what cancelling leaves goes along with it. Its false alarms are many times the
nominal ones, and its detections the same number: theory.uplink_mismatch. What its model promises is `model_pod`.

Source: He et al., arXiv 2603.17744, eqs. (9)-(16), (21), (22). Differs: columns at their exact delays.
Valid for: nothing but a comparison; use `uplink_detector`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.sensing.uplink_blocks import Blocks
from testbed.sensing.uplink_channel import PilotEstimates
from testbed.theory.uplink_detection import deflection_detection_probability, deflection_threshold
from testbed.theory.uplink_sensing import sensing


@dataclass(frozen=True, eq=False)
class PaperTest:
    """The paper's statistic of every block."""

    statistic: NDArray[np.float64]  # T, shape (B,)
    deflection: NDArray[np.float64]  # chi, shape (B,)
    sensing_sinr: float  # gamma_s = w_s^H A w_s / w_s^H B w_s

    def detected(self, pfa: float) -> NDArray[np.bool_]:
        """Decisions at a nominal probability of false alarm, shape (B,)."""
        found: NDArray[np.bool_] = self.statistic > deflection_threshold(self.deflection, pfa)
        return found

    def model_pod(self, pfa: float) -> float:
        """Probability of detection as the model has it, eq. (15) averaged over the blocks."""
        return float(np.mean(deflection_detection_probability(self.deflection, pfa)))


def paper_test(
    blocks: Blocks, estimates: PilotEstimates, data_columns: NDArray[np.complex128] | None = None
) -> PaperTest:
    """The paper's statistic of every block.

    Args:
        blocks: received.
        estimates: of the same blocks, with the echo's covariance as if the target were there.
        data_columns: as decoded, shape (B, K, N); those sent if not given.
    """
    s = blocks.data_columns if data_columns is None else data_columns
    p = blocks.data_power
    best = sensing(estimates.statistics, estimates.pilot_power, p)
    w, sigma = best.combiner, estimates.statistics.noise_var * float(p @ best.error + 1)
    direct, echo = (np.einsum("m,bmk->bk", w.conj(), x) for x in (estimates.direct, estimates.echo))
    y_s = w.conj() @ blocks.data - (direct[:, None, :] @ s)[:, 0]
    mu = (echo[:, None, :] @ s)[:, 0]
    chi = np.sum(np.abs(mu) ** 2, axis=-1) / sigma
    T = np.sum((mu.conj() * y_s).real, axis=-1) / sigma
    return PaperTest(T, chi, best.sinr)
