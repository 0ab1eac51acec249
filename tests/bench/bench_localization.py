"""Powers for device-free localisation in the specification's scene: closed forms against the paper's approximation.

The approximation is the limit that the others should beat, ratios are below 1. What the policy iteration takes includes
the proof of its optimum.
"""

from sim.figures.localization_scenario import draw
from testbed.allocation import localization
from tests.bench.harness import Race

NUM_DROPS = 20

drops = draw(1, 0, 2 * NUM_DROPS)
problems = [drops.problem(k) for k in range(len(drops))]
problems = [problem for problem in problems if localization.solve(problem).status == "optimal"][:NUM_DROPS]


def _one_by_one(method: str) -> None:
    for problem in problems:
        localization.solve(problem, method)


RACES = [
    Race(
        name=f"powers of {NUM_DROPS} drops one by one, K = 3, self-interference -110 dB, threshold -5 dB",
        limit="sca (CVXPY, parameters)",
        contestants={
            "sca (CVXPY, parameters)": lambda: _one_by_one("sca"),
            "policy, proved": lambda: _one_by_one("policy"),
            "mean_std": lambda: _one_by_one("mean_std"),
            "lp, proved": lambda: _one_by_one("lp"),
        },
        unit_count=NUM_DROPS,
        unit="problem",
        goals={"policy, proved": (0, 0.1)},
    ),
]
