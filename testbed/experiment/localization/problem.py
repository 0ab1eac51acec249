"""From what was identified to the solver's problem, and its answer in words."""

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.base import Allocation
from testbed.allocation.localization import RangeProblem, sinrs, solve
from testbed.experiment.localization.config import LocalizationExperiment
from testbed.measurement import RangeIdentification
from testbed.sensing.identify import gains
from testbed.units import db, undb


def range_problem(
    identified: RangeIdentification, experiment: LocalizationExperiment, max_power: NDArray[np.float64]
) -> RangeProblem:
    """The problem as identified. Gains that came out negative, below their own error, count as 0.

    What reaches a receiver from another node was measured as one arrival: all of it is `direct_gain` or `comm_gain`.

    Args:
        identified: in node order of the experiment.
        experiment: requirements and bandwidth.
        max_power: mean power in milliwatt that every node's radio can realise, shape (K,).
    """
    found, table = gains(identified), experiment.localization
    num = len(identified.node_names)
    comm, comm_noise, asked = np.eye(num), np.ones(num), np.zeros(num)
    for k, node in enumerate(identified.node_names):
        user = experiment.user_of(node)
        if user is None or table.min_user_sinr_db is None:
            continue  # a node without a user has one that hears it alone and asks for nothing
        column = identified.user_names.index(user)
        comm[:, k], comm_noise[k] = found.user_arrival[:, column], found.user_noise_var[column]
        asked[k] = undb(table.min_user_sinr_db)
    numerology = experiment.waveform.numerology
    return RangeProblem(
        comm_gain=comm,
        comm_echo_gain=np.zeros((num, num)),  # in comm_gain
        echo_gain=np.diag(found.echo),
        direct_gain=found.arrival,
        self_gain=found.residual_self,
        sensing_noise_var=found.noise_var,
        comm_noise_var=comm_noise,
        max_power=np.minimum(max_power, undb(table.max_power_dbm)),
        min_comm_sinr=asked,
        bandwidth_hz=numerology.num_subcarriers * numerology.subcarrier_spacing_hz,
        own_echo=table.own_echo,
    )


def allocate(problem: RangeProblem, experiment: LocalizationExperiment) -> Allocation:
    """The experiment's method on a problem."""
    return solve(problem, experiment.localization.method)


def in_words(problem: RangeProblem, allocation: Allocation, experiment: LocalizationExperiment) -> str:
    """What an allocation that is no optimum means, and what would do; empty for one that is."""
    names = experiment.node_names
    if allocation.status == "zero_gain":
        deaf = [name for name, gain in zip(names, problem.echo_gain.diagonal(), strict=True) if gain == 0]
        return f"{', '.join(deaf)}: hears no echo of its own, whatever the powers; nothing to optimise"
    if allocation.status != "infeasible":
        return ""
    comm, _ = sinrs(problem, allocation.power)
    asked = np.asarray(problem.min_comm_sinr)
    short = db(float(np.min((comm / np.where(asked > 0, asked, 1))[asked > 0])))
    last = [experiment.user_of(names[k]) or names[k] for k in np.flatnonzero(asked > 0)]
    return (
        f"no powers within the caps give {', '.join(last)} {experiment.localization.min_user_sinr_db:g} dB each; "
        f"{-short:.2f} dB less for all of them is the most (localization.min_user_sinr_db)"
    )
