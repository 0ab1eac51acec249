"""The CoMP allocators in the letter's setting, feasible problems only: one by one, and 2000 at once.

The alternation is the limit that the others should beat, ratios are below 1. It would take half a minute for 2000
problems, so in the second race it solves 20: per problem, the ratio of the batch is a hundredth of what is printed.
"""

import numpy as np

from testbed.allocation import comp
from testbed.theory.detection import required_noncentrality
from testbed.units import undb
from tests.bench.harness import Race

NUM_CELLS, NUM_DRAWS, NUM_BATCH, NUM_ALONE = 3, 3500, 2000, 20

rng = np.random.default_rng(1)
cross = np.where(np.eye(NUM_CELLS), 1.0, 0.1)
comm_gain = rng.exponential(size=(NUM_DRAWS, NUM_CELLS, NUM_CELLS)) * cross
sensing_gain = rng.exponential(size=(NUM_DRAWS, NUM_CELLS, NUM_CELLS))
min_sensing_snr = required_noncentrality(0.7, 1e-6, NUM_CELLS) / 200


def _problems(which: slice | np.ndarray) -> comp.CompProblems:
    return comp.CompProblems(
        comm_gain[which], sensing_gain[which], undb(1.0), undb(15.0), undb(15.0), 1.0, min_sensing_snr
    )


feasible = np.flatnonzero(comp.solve_many(_problems(slice(None))).status != "infeasible")[:NUM_BATCH]
assert len(feasible) == NUM_BATCH
together = _problems(feasible)
alone = [together[k] for k in range(NUM_ALONE)]


def _one_by_one(method: str) -> None:
    for problem in alone:
        comp.solve(problem, method)


RACES = [
    Race(
        name=f"CoMP powers of {NUM_ALONE} problems one by one, L = {NUM_CELLS}, 15 dB",
        limit="ppa (CVXPY, parameters)",
        contestants={
            "ppa (CVXPY, parameters)": lambda: _one_by_one("ppa"),
            "newton": lambda: _one_by_one("newton"),
            "global, proved to 1e-6": lambda: _one_by_one("global"),
        },
        unit_count=NUM_ALONE,
        unit="problem",
    ),
    Race(
        name=f"CoMP powers of {NUM_BATCH} problems at once, L = {NUM_CELLS}, 15 dB; per problem 1/100 of the ratio",
        limit=f"ppa, {NUM_ALONE} problems",
        contestants={
            f"ppa, {NUM_ALONE} problems": lambda: _one_by_one("ppa"),
            f"newton, {NUM_BATCH} problems": lambda: comp.solve_many(together),
        },
        unit_count=1,
        unit="call",
    ),
]
