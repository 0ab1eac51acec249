"""Bounds, rates and plans of the cooperative paper: moments and a fixed rule against sums and adaptive rules.

What is compared with is the limit that the others should beat, ratios are below 1.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, special

from sim.figures.cooperative_scenario import layouts, user_rates
from testbed.allocation.cooperative import PairProblem, plan
from testbed.theory import cooperative_rate
from testbed.theory.cooperative import (
    crlb,
    crlb_of_clusters,
    crlb_of_information,
    fim_by_double_sum,
    fim_of_pairs,
    mean_rate,
)
from tests.bench.harness import Race
from tests.cooperative_network import NODES, TARGET, range_variances, user_channels
from tests.golden.test_cooperative_golden import nested

NUM_NODES, NUM_LAYOUTS = 30, 50

rng = np.random.default_rng(1)
arrival, bearing = layouts(rng, NUM_LAYOUTS, NUM_NODES)
distance = np.sqrt(arrival / np.pi)
positions: NDArray[np.float64] = distance[..., None] * np.stack([np.cos(bearing), np.sin(bearing)], axis=-1)
one = positions[0]
origin = np.zeros(2)
variances = np.outer(distance[0], distance[0]) ** 2
problem = PairProblem(NODES, TARGET, range_variances(), user_channels(), 1.0, 5.0, 0.4, margin_db=0.3)


def _all_sizes() -> None:
    for d, nodes in zip(distance, positions, strict=True):
        var = np.outer(d, d) ** 2
        for size in range(1, NUM_NODES + 1):
            crlb_of_information(fim_of_pairs(nodes[:size], origin, var[:size, :size]))


def _general(L: int = 5, share: float = 0.5, kappa: float = 0.7, alpha: float = 4.0, Mt: int = 4) -> float:
    """The exact form by adaptive quadrature over ln z of adaptive quadrature over v, for any alpha and M_t."""
    a = 1 - 2 / alpha
    beta = {K: special.beta(a, K + 2 / alpha) for K in (1, Mt - 1)}

    def bulk(y: float, K: int) -> float:
        return float(beta[K] * special.betainc(a, K + 2 / alpha, y / (1 + y)))

    def ring(x: float, v: float, K: int) -> float:
        y = x * v ** (alpha / 2)
        return (1 - (1 + y) ** -K) / v + (1 + x) ** -K - 1 + K * x ** (2 / alpha) * (bulk(x, K) - bulk(y, K))

    def over_v(s: float) -> float:
        z = math.exp(s)

        def at(w: float) -> float:
            v, rest = 1 / (1 + math.exp(-w)), 1 / (1 + math.exp(w))
            y = z * v ** (alpha / 2)
            m_i, m_u = (ring(x, v, K) * v / rest for x, K in ((z, 1), (z * share, Mt - 1)))
            e_i, e_u = y / (1 + y), 1 - (1 + share * y) ** (1 - Mt)
            outside = v * z ** (2 / alpha) * bulk(y, 1) - y / (1 + y)
            alone = (1 - (1 - kappa) * m_i) ** (L - 2) * (1 - (1 - kappa) * e_i)
            both = (1 - kappa * m_u - (1 - kappa) * m_i) ** (L - 2) * (1 - kappa * e_u - (1 - kappa) * e_i)
            gain = (1 + outside) ** -L * (alone - (1 + share * z) ** (1 - Mt) * both)
            return (L - 1) * rest ** (L - 2) * gain * v * rest

        return float(integrate.quad(at, -45.0, 25.0, epsabs=1e-11, epsrel=1e-9, limit=200)[0])

    return float(integrate.quad(over_v, -25.0, 50.0, epsabs=1e-9, epsrel=1e-9, limit=200)[0])


def _rate() -> float:
    for kept in (cooperative_rate._rule, cooperative_rate._interference, cooperative_rate._service):
        kept.cache_clear()
    return mean_rate(5, 0.5, acceptance=0.7, form="exact")


RACES = [
    Race(
        name=f"CRLB of one layout, N = {NUM_NODES}",
        limit="double sum",
        contestants={
            "double sum": lambda: crlb_of_information(fim_by_double_sum(one, origin)),
            "double sum in NumPy": lambda: crlb_of_information(fim_of_pairs(one, origin, variances)),
            "three moments": lambda: crlb(one, origin),
        },
        unit_count=1,
        unit="layout",
        goals={"three moments": (0, 0.02)},
    ),
    Race(
        name=f"CRLB of all sizes 1 .. {NUM_NODES} of {NUM_LAYOUTS} layouts",
        limit="double sums in NumPy",
        contestants={
            "double sums in NumPy": _all_sizes,
            "running moments": lambda: crlb_of_clusters(distance, bearing),
        },
        unit_count=NUM_LAYOUTS,
        unit="layout",
        goals={"running moments": (0, 0.02)},
    ),
    Race(
        name="mean rate, exact form, L = 5, all but the draws equal to 3e-11",
        limit="nested adaptive quadrature",
        contestants={
            "nested adaptive quadrature": _general,
            "the same, elementary at alpha = 4": lambda: nested(5, 0.5, 0.7, "exact"),
            "fixed rule": _rate,
            "fixed rule, tables kept": lambda: mean_rate(5, 0.5, acceptance=0.7, form="exact"),
            "100000 draws, to 0.2 %": lambda: user_rates(np.random.default_rng(1), 100_000, 5, 0.5, 0.7),
        },
        unit_count=1,
        unit="rate",
        goals={"fixed rule": (0, 0.02)},
    ),
    Race(
        name="plan of the preset's network, 8 nodes, 4 users",
        limit="all 256 sets",
        contestants={
            "all 256 sets": lambda: plan(problem),
            "other requirements": lambda: plan(replace(problem, min_rate_bps_hz=1.5, backhaul_bps_hz=6.0)),
        },
        unit_count=1,
        unit="plan",
    ),
]
