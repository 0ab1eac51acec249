"""What users get from a cluster of L nodes without phase alignment, from measured gains.

In a user's block the L nodes of largest measured gain send the same symbols, node l under the cover c_l[m] =
exp(j 2 pi l m / M) over M symbols, so that powers add whatever the phases; all others send their own data. With g_l,u
the received power per resource element at full power, G_S and G_I its sums over served and other nodes,

    slots            SINR_u = p^c G_S / (p^c G_I + sigma_u^2)       sensing has its own slots, at p^s
    superposition    SINR_u = p^c G_S / (G_I + sigma_u^2)           sensing on the same elements; the user removes its L
                                                                    serving nodes' known sensing signals
    R_u = mean over elements of log2(1 + |h_eff|^2 / (its denominator)),   h_eff = sqrt(p^c) sum_S h_l[k] c_l[m]

log2(1 + SINR_u) is an upper bound of R_u, reached at L = 1. Without the h_l, R_u is averaged over independent uniform
phases. Both rise with p^c from 0, so the least share that reaches a floor is one bisection.

Source: eq. (8) of arXiv 2403.20228 for a testbed. Differs: superposition is (8) with noise, one antenna and the
cancellation at the user; slots make interference fall with p^c too, so that only noise makes the rate depend on p^c.
"""

import functools
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.arguments import NOT_NEGATIVE, POSITIVE, check, numbers
from testbed.units import undb

Waveform = Literal["slots", "superposition"]

_NUM_PHASES = 1024  # of the lattice that stands for uniform phases: rates to some 1e-3
_BISECTIONS = 60


@dataclass(frozen=True, eq=False)
class UserChannels:
    """What n nodes are to U users, as measured. Copied, checked, made read-only.

    Raises:
        ValueError: shapes that do not fit, a negative gain, a noise variance not above 0, an unknown waveform.
    """

    gain: NDArray[np.float64]  # (n, U), received power per resource element at full power; 0 for a dead node
    noise_var: float | NDArray[np.float64]  # scalar or (U,), per resource element
    response: NDArray[np.complex128] | None = None  # (n, U, K), h_l per subcarrier at full power, where it is known
    cover_len: int = 8  # M, symbols of a cover
    waveform: Waveform = "slots"

    def __post_init__(self) -> None:
        gain = numbers(self.gain, "gain")
        if gain.ndim != 2 or 0 in gain.shape:
            raise ValueError(f"gain: found shape {gain.shape}; must be (nodes, users)")
        check(gain, "gain", *NOT_NEGATIVE)
        noise = numbers(self.noise_var, "noise_var", gain.shape[1:], spread=True)
        check(noise, "noise_var", *POSITIVE)
        if self.response is not None:
            h = np.array(self.response, dtype=np.complex128)
            if h.ndim != 3 or h.shape[:2] != gain.shape or not np.all(np.isfinite(h)):
                raise ValueError(f"response: found shape {h.shape}; must be {gain.shape} and subcarriers, finite")
            h.setflags(write=False)
            object.__setattr__(self, "response", h)
        if self.waveform not in get_args(Waveform) or self.cover_len < 1:
            raise ValueError(f"waveform {self.waveform!r}, cover_len {self.cover_len}: must be slots or superposition")
        object.__setattr__(self, "gain", gain)
        object.__setattr__(self, "noise_var", noise)

    @functools.cached_property
    def order(self) -> NDArray[np.int_]:
        """Nodes of every user from strong to weak, (n, U)."""
        return np.argsort(-self.gain, axis=0, kind="stable")

    def serving(self, cluster_size: int) -> NDArray[np.bool_]:
        """Which nodes serve which user, (n, U); nodes without gain never do."""
        rank = np.argsort(self.order, axis=0)
        return (rank < cluster_size) & (self.gain > 0)


def mean_sinr(channels: UserChannels, cluster_size: int, comm_power_share: float) -> NDArray[np.float64]:
    """SINR_u by mean powers, linear, shape (U,).

    Args:
        channels: as measured.
        cluster_size: L.
        comm_power_share: p^c, 0..1.
    """
    served = channels.serving(cluster_size)
    signal = comm_power_share * np.sum(np.where(served, channels.gain, 0.0), axis=0)
    return signal / _disturbance(channels, served, comm_power_share)


def user_rates(
    channels: UserChannels, cluster_size: int, comm_power_share: float, margin_db: float = 0.0
) -> NDArray[np.float64]:
    """R_u, bit/s/Hz, shape (U,).

    Args:
        channels: as measured; with `response`, over its subcarriers and the cover, else over uniform phases.
        cluster_size: L.
        comm_power_share: p^c, 0..1.
        margin_db: taken off the signal: what the rates still are when it is so much weaker.
    """
    served = channels.serving(cluster_size)
    share = comm_power_share * undb(-margin_db)
    sinr = share * _powers(channels, served) / _disturbance(channels, served, comm_power_share)[:, None]
    return np.mean(np.log2(1 + sinr), axis=1)


def least_share(channels: UserChannels, cluster_size: int, min_rate_bps_hz: float, margin_db: float = 0.0) -> float:
    """Least p^c at which every user has the rate floor with the margin, to 1e-15; NaN where p^c = 1 does not do.

    The share that is returned reaches the floor.
    """
    served = channels.serving(cluster_size)
    power = undb(-margin_db) * _powers(channels, served)

    def reaches(share: float) -> bool:
        sinr = share * power / _disturbance(channels, served, share)[:, None]
        return bool(np.min(np.mean(np.log2(1 + sinr), axis=1)) >= min_rate_bps_hz)

    if not reaches(1.0):
        return float("nan")
    low, high = 0.0, 1.0
    if reaches(low):
        return low
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _disturbance(channels: UserChannels, served: NDArray[np.bool_], comm_power_share: float) -> NDArray[np.float64]:
    others = np.sum(np.where(served, 0.0, channels.gain), axis=0)
    return (comm_power_share if channels.waveform == "slots" else 1.0) * others + channels.noise_var


def _powers(channels: UserChannels, served: NDArray[np.bool_]) -> NDArray[np.float64]:
    """|sum over serving nodes|^2 at full power, at every element or for every draw of phases, (U, .)."""
    num = len(channels.gain)
    if channels.response is None:
        turns = _lattice(num)  # (P, n)
        amplitude = np.where(served, np.sqrt(channels.gain), 0.0)
        return np.abs(np.exp(2j * np.pi * turns) @ amplitude).T ** 2
    cover = np.exp(2j * np.pi * np.outer(np.arange(num), np.arange(channels.cover_len)) / channels.cover_len)
    h = np.where(served[:, :, None], channels.response, 0.0)
    effective = np.einsum("luk,lm->ukm", h, cover)
    return np.abs(effective.reshape(h.shape[1], -1)) ** 2


@functools.lru_cache(maxsize=8)
def _lattice(num: int) -> NDArray[np.float64]:
    """Evenly spread points of the n-torus, (P, n): multiples of powers of the root of x^(n+1) = x + 1."""
    root = 2.0
    for _ in range(60):
        root = (1 + root) ** (1 / (num + 1))
    return np.outer(np.arange(_NUM_PHASES) + 0.5, root ** -np.arange(1.0, num + 1)) % 1.0
