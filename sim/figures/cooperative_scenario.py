"""Random networks of the cooperative paper: Poisson fields of base stations around a target, around a user, on a torus.

Around a point, Gamma_k = pi lambda d_k^2 are arrival times of a unit-rate Poisson process and bearings are uniform: no
window, no edge. Where base stations are shared by many targets, a square torus of unit density holds both fields.

Source: Meng and Masouros, arXiv 2403.20228, system model. Differs: none in the law; densities are 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.theory.cooperative import crlb_from_moments, node_moments

_FAR_NODES = 60  # interferers drawn one by one beyond the cluster; the rest counts by its mean
_CHUNK = 1 << 20  # numbers at a time

Random = np.random.Generator


def layouts(rng: Random, num_layouts: int, num_nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Arrival times Gamma_k and bearings of the nearest nodes, each (num_layouts, num_nodes)."""
    shape = num_layouts, num_nodes
    return np.cumsum(rng.standard_exponential(shape), axis=1), rng.uniform(0, 2 * np.pi, shape)


def user_rates(
    rng: Random,
    num_draws: int,
    cluster_size: int,
    comm_power_share: float,
    acceptance: float,
    *,
    num_antennas: int = 4,
    path_loss_exponent: float = 4.0,
    beams: bool = False,
) -> NDArray[np.float64]:
    """Draws of ln(1 + SIR), eq. (8), (num_draws,), nats.

    Args:
        rng: source of randomness.
        num_draws: networks and channels.
        cluster_size: L.
        comm_power_share: p^c.
        acceptance: kappa_c, of every station but the nearest, on its own.
        num_antennas: M_t.
        path_loss_exponent: alpha.
        beams: interferers send two zero-forcing beams; otherwise their gain is Exp(1), as the paper matches it.
    """
    size = max(1, _CHUNK // (cluster_size + _FAR_NODES))
    found = []
    for first in range(0, num_draws, size):
        shape = min(size, num_draws - first), cluster_size + _FAR_NODES
        arrival = np.cumsum(rng.standard_exponential(shape), axis=1)
        loss = (arrival / arrival[:, :1]) ** (-path_loss_exponent / 2)
        accepts = rng.random(shape) < acceptance
        accepts[:, 0], accepts[:, cluster_size:] = True, False
        gain = comm_power_share * rng.standard_gamma(num_antennas - 1, shape)
        signal = np.sum(np.where(accepts, gain * loss, 0.0), axis=1)
        leak = _beams(rng, shape, num_antennas, comm_power_share) if beams else rng.standard_exponential(shape)
        interference = np.sum(np.where(accepts, 0.0, leak * loss), axis=1)
        # Campbell's mean of all beyond the last one drawn, over the nearest's loss
        interference += loss[:, -1] * arrival[:, -1] / (path_loss_exponent / 2 - 1)
        found.append(np.log1p(signal / interference))
    return np.concatenate(found)


def _beams(rng: Random, shape: tuple[int, int], num_antennas: int, share: float) -> NDArray[np.float64]:
    """p^c |h^H w^c|^2 + p^s |h^H w^s|^2 of beams with |w^c^H w^s|^2 ~ Beta(1, M_t - 1)."""
    rho2 = rng.beta(1, num_antennas - 1, shape)
    first, second = (
        (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2) for _ in range(2)
    )  # fmt: skip
    mixed = np.sqrt(rho2) * first + np.sqrt(1 - rho2) * second
    return share * np.abs(first) ** 2 + (1 - share) * np.abs(mixed) ** 2


@dataclass(frozen=True, eq=False)
class SharedField:
    """Targets on a torus that ask their N nearest base stations, for N = 1 .. J."""

    mean_load: NDArray[np.float64]  # (J,), requests per base station
    load_ratio: NDArray[np.float64]  # (J,), variance over mean of the requests per base station
    accepted: NDArray[np.float64]  # (J,), share of all requests
    crlb: NDArray[np.float64]  # (J, targets), of the stations that accepted, zeta2 = 1; inf where they do not locate


def shared_field(rng: Random, num_stations: int, max_nodes: int, load: float, num_blocks: int) -> SharedField:
    """One torus of unit density: a Poisson number of stations and targets, resource blocks given out at random.

    Args:
        rng: source of randomness.
        num_stations: mean number of base stations.
        max_nodes: J.
        load: mu_s, targets per base station.
        num_blocks: psi.
    """
    from scipy.spatial import cKDTree

    side = np.sqrt(num_stations)
    stations = rng.uniform(0, side, (max(rng.poisson(num_stations), max_nodes), 2))
    targets = rng.uniform(0, side, (max(rng.poisson(load * num_stations), 1), 2))
    distance, index = cKDTree(stations, boxsize=side).query(targets, k=np.arange(1, max_nodes + 1))
    offset = (stations[index] - targets[:, None] + side / 2) % side - side / 2
    each = node_moments(distance, np.arctan2(offset[..., 1], offset[..., 0]), 2.0)
    rows: list[Any] = []
    for size in range(1, max_nodes + 1):
        asked = index[:, :size]
        load_of = np.bincount(asked.ravel(), minlength=len(stations))
        kept = _given(rng, asked.ravel(), load_of, num_blocks).reshape(asked.shape)
        crlb = crlb_from_moments(np.where(kept, each[..., :size], 0.0).sum(axis=-1))
        rows.append((np.mean(load_of), np.var(load_of) / np.mean(load_of), np.mean(kept), crlb))
    mean, ratio, accepted, crlb = zip(*rows, strict=True)
    return SharedField(np.array(mean), np.array(ratio), np.array(accepted), np.array(crlb))


def _given(rng: Random, station: NDArray[np.int_], load: NDArray[np.int_], num_blocks: int) -> NDArray[np.bool_]:
    """Which requests get one of their station's blocks, in random order per station."""
    order = np.lexsort((rng.random(len(station)), station))
    first = np.cumsum(load) - load
    rank = np.arange(len(station)) - first[station[order]]
    given = np.empty(len(station), dtype=bool)
    given[order] = rank < num_blocks
    return given
