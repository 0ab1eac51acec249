"""From measured statistics to the next pilot and data powers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.base import Allocation
from testbed.allocation.uplink import UplinkProblem, rates, sensing_sinr, solve
from testbed.experiment.uplink.config import UplinkExperiment
from testbed.experiment.uplink.rating import statistics_of


def uplink_problem(
    experiment: UplinkExperiment, direct_gain: Sequence[float], echo_gain: Sequence[float], noise_var: float
) -> UplinkProblem:
    """The problem as measured. The target has to have what equal powers give it: (16) would ask for what no power has.

    Args:
        experiment: with a loop.
        direct_gain: beta of every user; negative ones count as 0.
        echo_gain: eta of every user.
        noise_var: per element, milliwatt.
    """
    assert experiment.loop is not None, "the caller has looked"
    found = statistics_of(experiment, direct_gain, echo_gain, noise_var)
    design = experiment.waveform

    def asking(min_sensing_sinr: float) -> UplinkProblem:
        return UplinkProblem(
            direct_cov=found.direct_cov,
            echo_cov=found.echo_cov,
            noise_var=noise_var,
            block_len=design.block_len,
            pilot_len=design.num_pilots,
            energy=experiment.energy_mw,
            min_rate_bps_hz=experiment.loop.min_rate_bps_hz if experiment.loop is not None else 0.0,
            min_sensing_sinr=min_sensing_sinr,
        )

    start = equal_powers(experiment)
    free = asking(0.0)
    return asking(float(sensing_sinr(free, start, start)))


def equal_powers(experiment: UplinkExperiment) -> NDArray[np.float64]:
    """Every user's power per element where pilots and data have the same."""
    return np.full(len(experiment.nodes), experiment.energy_mw / experiment.waveform.block_len)


def allocate(problem: UplinkProblem, method: str) -> Allocation:
    """Powers by a method."""
    return solve(problem, method)


def sum_rate(problem: UplinkProblem, pilot_power: Sequence[float], data_power: Sequence[float]) -> float:
    """The bound (8), bit/s/Hz."""
    return float(np.sum(rates(problem, np.array(pilot_power), np.array(data_power))))
