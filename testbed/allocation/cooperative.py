"""Clusters and power split of cooperative sensing and communication: how many base stations sense, how many serve.

    PairProblem    a measured network: link variances, user gains     `cooperative_pairs`
    MeanProblem    densities only, in the mean over layouts           `cooperative_mean`

Both are solved exactly: a root for the power split, an enumeration of sets and sizes, no search that could miss.

Source: Meng and Masouros, arXiv 2403.20228, eq. (10). Differs: the parts say where.
"""

from testbed.allocation.cooperative_mean import MeanProblem, RateModel, SensingModel, plan_mean
from testbed.allocation.cooperative_pairs import PairProblem, plan_pairs
from testbed.allocation.cooperative_plan import Option, Plan
from testbed.allocation.cooperative_region import cooperative_boundary, region_area, time_sharing_boundary
from testbed.allocation.cooperative_subsets import BestSets, best_by_moments, best_by_pairs
from testbed.allocation.cooperative_users import UserChannels, Waveform, least_share, mean_sinr, user_rates

__all__ = [
    "BestSets",
    "MeanProblem",
    "Option",
    "PairProblem",
    "Plan",
    "RateModel",
    "SensingModel",
    "UserChannels",
    "Waveform",
    "best_by_moments",
    "best_by_pairs",
    "cooperative_boundary",
    "least_share",
    "mean_sinr",
    "plan",
    "region_area",
    "time_sharing_boundary",
    "user_rates",
]


def plan(problem: PairProblem | MeanProblem) -> Plan:
    """Sensing nodes, cluster size and power share with the least position bound that meet the rate floor and backhaul.

    Args:
        problem: a measured network (rates in bit/s/Hz) or densities (nats/s/Hz).

    Returns:
        Plan; its status is "optimal", or "infeasible" with a note that names R or C, the limit and what would do.
    """
    return plan_pairs(problem) if isinstance(problem, PairProblem) else plan_mean(problem)
