"""Trade-off of mean rate against position bound: cooperative design and time sharing between its corners.

Time sharing sends with all power for a share 1 - tau of the time, at the rate R_A, and senses with all power for tau:

    CRLB_TS(R) = CRLB(N_B) / (1 - R / R_A)

    slot     every slot meets the backhaul by itself: R_A <= C, e N_B <= C
    joint    both at once: R_A + e N_B <= C, the best such corner for every R

Under joint accounting the cooperative region contains time sharing: R_c is concave in p^c with R_c(0) = 0, so
p^c(R) <= R / R_A. Under slot accounting it is sure to once C >= R_max + e N, and may fail below.

Source: Meng and Masouros, arXiv 2403.20228, Fig. 5. Differs: the paper only says "two corner points"; both accountings
are choices.
"""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.allocation.cooperative_mean import MeanProblem, best_cluster, plan_mean
from testbed.allocation.cooperative_plan import affordable

Accounting = Literal["slot", "joint"]


def cooperative_boundary(problem: MeanProblem, min_rates: ArrayLike) -> NDArray[np.float64]:
    """Least bound at every rate floor, shape of `min_rates`, length^2; inf where none is possible."""
    rates = np.asarray(min_rates, dtype=np.float64)
    found = [plan_mean(replace(problem, min_rate=float(R))).crlb for R in rates.ravel()]
    return np.array(found).reshape(rates.shape)


def time_sharing_boundary(problem: MeanProblem, min_rates: ArrayLike, accounting: Accounting) -> NDArray[np.float64]:
    """The same of time sharing, R counted once; `problem.min_rate` is not looked at.

    Raises:
        ValueError: another accounting.
    """
    if accounting not in ("slot", "joint"):
        raise ValueError(f"accounting: found {accounting!r}; must be slot or joint")
    R = np.asarray(min_rates, dtype=np.float64)
    C, e = problem.backhaul, problem.backhaul_price
    _, largest = best_cluster(problem.rate)
    crlb = problem.sets.crlb
    corners = [(min(largest, C), affordable(C, 0.0, e, len(crlb) - 1))]
    if accounting == "joint":
        corners = [(min(largest, C - e * size), size) for size in range(2, corners[0][1] + 1)]
    best = np.full(R.shape, math.inf)
    for rate, size in corners:
        bound = crlb[size] if accounting == "joint" else problem.sets.within(size)[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = np.where(rate > R, bound / (1 - R / rate), np.inf) if rate > 0 else np.where(R == 0, bound, np.inf)
        best = np.minimum(best, shared)
    return best


def region_area(min_rates: ArrayLike, crlb: ArrayLike) -> float:
    """Area under rate against 1 / CRLB, by trapezoids over the rates, which rise; both of shape (J,)."""
    R, information = np.asarray(min_rates, dtype=np.float64), 1 / np.asarray(crlb, dtype=np.float64)
    return float(np.sum(np.diff(R) * (information[1:] + information[:-1]) / 2))
