"""Where the letter's alternation stops short of the optimum, and what finds it.

The letter calls problem (19) convex; it is biconvex, and from equal power the alternation may end in a local maximum.
The instance: `np.round(np.random.default_rng(16).exponential(size=(3, 3)), 3)`, unit variance on every link, noise 1,
budget 30, nothing required; of the seeds 0..39 the one that loses most. Both ends are corners, all power to one node:
log2(1 + 30 * 0.136) = 2.34483 and log2(1 + 30 * 0.73) = 4.51728 bit/s/Hz; a scan of the budget slice finds no more.
"""

import numpy as np
import pytest

from testbed.allocation import comp

COMM_GAIN = np.array([[0.390, 1.291, 0.032], [0.631, 0.730, 0.019], [1.302, 2.560, 0.136]])
PROBLEM = comp.CompProblem(COMM_GAIN, np.ones((3, 3)), 1.0, 1.0, 30.0, 0.0, 0.0)
STALL, OPTIMUM = np.log2(1 + 30 * 0.136), np.log2(1 + 30 * 0.73)


def test_the_alternation_from_equal_power_stalls_at_a_kkt_point():
    allocation = comp.solve(PROBLEM, tolerance=1e-12)

    assert allocation.status == "stationary"
    assert allocation.kkt_residual < 1e-8
    assert allocation.objective == pytest.approx(STALL, abs=1e-8)
    assert allocation.power == pytest.approx([0, 0, 30], abs=1e-6)


@pytest.mark.parametrize(("method", "arguments"), [("ppa", {"starts": "corners"}), ("newton", {}), ("global", {})])
def test_corner_starts_and_the_certified_search_find_the_optimum(method, arguments):
    allocation = comp.solve(PROBLEM, method, **arguments)

    assert allocation.objective == pytest.approx(OPTIMUM, abs=1e-8)
    assert allocation.power == pytest.approx([0, 30, 0], abs=1e-6)


def test_a_scan_of_the_slice_finds_no_more_and_the_bound_says_so():
    x, y = np.meshgrid(np.linspace(0, 1, 301), np.linspace(0, 1, 301))
    inside = x + y <= 1
    q = 30 * np.stack([x[inside], y[inside], np.maximum(1 - x[inside] - y[inside], 0)])
    own = np.diag(COMM_GAIN)[:, None] * q
    best = np.max(np.sum(np.log2(1 + own / (COMM_GAIN.T @ q - own + 1)), axis=0))

    allocation = comp.solve(PROBLEM, "global")

    assert best == pytest.approx(OPTIMUM, abs=1e-12)
    assert allocation.status == "optimal"
    assert OPTIMUM - 1e-9 <= allocation.upper_bound <= OPTIMUM + 1e-6
