"""The users' links after combining: SINR as measured and as eq. (40) says, and the rates of blocks.

    measured   e = w^H y / (w^H u_hat sqrt(p)) - s    SINR = 1 / mean |e|^2 over blocks and elements, s as it arrives
    formula    gamma = p |w^H u_hat|^2 / (sum_{i != k} p_i |w^H u_hat_i|^2 + w^H Z w)       SINR = 1 / mean (1 / gamma)

Given the estimate, E|e|^2 = 1 / gamma where errors are those of eqs. (3)-(4), so both means have one expectation, but
only where the direct channel is drawn anew in every block: both average over it. What e does not know, an estimate's
own error included, counts as noise, as it does for the bound (7).

Rates are means over blocks of N / T log2(1 + SINR), the SINR of a block measured from its own N elements or gamma. Of
so few elements, with errors of the estimate that stay the same in a block, the measured ones read .01 to .04 bit high:
the mean of a logarithm.

Source: He et al., arXiv 2603.17744, eqs. (39)-(42); definitions: scenes/uplink.md section 2. Differs: combiners have
the norm that they come with, for no SINR depends on it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.measurement import Estimate
from testbed.sensing.uplink_blocks import Blocks
from testbed.sensing.uplink_channel import PilotEstimates
from testbed.theory.uplink_rates import rate


@dataclass(frozen=True, eq=False)
class UserLinks:
    """The links of all users with one set of combiners. SINRs are linear."""

    sinr: tuple[Estimate, ...]  # measured, per user; count is blocks
    formula_sinr: tuple[Estimate, ...]  # eq. (40), per user
    rate_bps_hz: tuple[Estimate, ...]  # measured, per user
    sum_rate_bps_hz: Estimate  # measured; its error knows that users share their blocks
    formula_rate_bps_hz: tuple[Estimate, ...]  # of gamma, per user
    formula_sum_rate_bps_hz: Estimate
    symbols: NDArray[np.complex128]  # received data elements over their amplitude, shape (B, K, N)
    block_sinr: NDArray[np.float64]  # gamma of eq. (40), shape (B, K)


def user_links(blocks: Blocks, estimates: PilotEstimates, W: NDArray[np.complex128]) -> UserLinks:
    """What the users' data look like after combining.

    Args:
        blocks: received.
        estimates: of the same blocks.
        W: combiners, shape (B, M, K); user k's output is w_k^H y.

    Raises:
        ValueError: combiners of another shape.
    """
    if W.shape != estimates.outputs.shape:
        raise ValueError(f"shape W {W.shape}; must be that of the channels, {estimates.outputs.shape}")
    p = blocks.data_power
    WH = W.conj().swapaxes(-1, -2)
    gains = WH @ estimates.channels  # w_k^H u_hat_i, (B, K, K)
    own = np.einsum("bkk->bk", gains)
    sends = p > 0  # who sends no data has SINR 0
    amplitude = np.where(sends, own * np.sqrt(p), np.inf)
    symbols = (WH @ blocks.data) / amplitude[..., None]
    expected = blocks.data_columns / np.sqrt(np.where(sends, p, 1.0))[:, None]
    error = np.where(sends, np.mean(np.abs(symbols - expected) ** 2, axis=-1), np.inf)
    Z = estimates.disturbance(p)
    left = np.einsum("bmk,mn,bnk->bk", W.conj(), Z, W, optimize=True).real
    signal = p * np.abs(own) ** 2
    gamma = signal / (np.sum(p * np.abs(gains) ** 2, axis=-1) - signal + left)
    rates, formula_rates = (
        rate(sinr, blocks.design.num_pilots, blocks.design.block_len) for sinr in (1 / error, gamma)
    )
    with np.errstate(divide="ignore"):
        formula = _inverse_means(1 / gamma)
    return UserLinks(
        sinr=_inverse_means(error),
        formula_sinr=formula,
        rate_bps_hz=tuple(_mean(column) for column in rates.T),
        sum_rate_bps_hz=_mean(rates.sum(axis=1)),
        formula_rate_bps_hz=tuple(_mean(column) for column in formula_rates.T),
        formula_sum_rate_bps_hz=_mean(formula_rates.sum(axis=1)),
        symbols=symbols,
        block_sinr=gamma,
    )


def _inverse_means(inverse: NDArray[np.float64]) -> tuple[Estimate, ...]:
    """1 / mean of every column, with the error that the scatter of blocks gives it."""
    found = []
    for column in inverse.T:
        if not np.all(np.isfinite(column)):
            found.append(Estimate(value=0.0, stderr=0.0, count=column.size))
            continue
        mean = _mean(column)
        found.append(Estimate(value=1 / mean.value, stderr=mean.stderr / mean.value**2, count=mean.count))
    return tuple(found)


def _mean(values: NDArray[np.float64]) -> Estimate:
    count = values.size
    stderr = float(np.std(values, ddof=1) / np.sqrt(count)) if count > 1 else 0.0
    return Estimate(value=float(np.mean(values)), stderr=stderr, count=count)
