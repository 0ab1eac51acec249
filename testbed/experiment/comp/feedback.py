"""Measured SINRs into the solver: from a measurement to the CoMP problem, and its answer in words.

Gains are the effective ones of the measurement. Each row is scaled by one factor so that it says what was measured at
the powers that were on the air: correlated frames add what a sum linear in the powers cannot hold, and as the powers
settle the rows become exact where it counts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.base import Allocation, equal_power, random_power
from testbed.allocation.comp import CompProblem, explain, row_margins_db, solve
from testbed.errors import ConfigError
from testbed.experiment.comp.config import AllocationTable, CompExperiment, RequirementsTable
from testbed.experiment.comp.law import Law, Statistic
from testbed.experiment.comp.prediction import comm_sinr, pod, sensing_snr
from testbed.measurement import Measurement
from testbed.units import undb

Array = NDArray[np.float64]
# SINR that the solver leaves every user in any case: a node that falls silent cannot be measured in the next round
MIN_AUDIBLE_SINR = undb(-15.0)


@dataclass(frozen=True)
class Feedback:
    """A problem, and whose rows it has; users and cells in the order of the nodes they belong to."""

    problem: CompProblem
    measurement: Measurement
    users: tuple[str, ...]
    cells: tuple[str, ...]
    statistic: Statistic
    pfa: float
    requirements: RequirementsTable


def total_power(table: AllocationTable, num_nodes: int) -> float:
    """Budget of all nodes together in milliwatt."""
    return undb(table.budget_dbm) * num_nodes


def first_allocation(experiment: CompExperiment) -> Allocation:
    """What the first round transmits: a fixed scheme its own powers, everything else equal ones."""
    table, num_nodes = _tables(experiment)[1], len(experiment.nodes)
    total = total_power(table, num_nodes)
    return random_power(total, num_nodes, table.seed) if table.method == "random" else equal_power(total, num_nodes)


def feedback(measurement: Measurement, experiment: CompExperiment) -> Feedback:
    """The CoMP problem of a measurement under the experiment's requirements, margins included.

    Raises:
        ConfigError: no requirements or allocation in the experiment, or a measurement of another network, or one that
            makes no problem.
    """
    try:
        return _feedback(measurement, experiment)
    except ValueError as exc:
        raise ConfigError(f"measurement: {exc}; measure again") from exc


def _feedback(measurement: Measurement, experiment: CompExperiment) -> Feedback:
    requirements, table = _tables(experiment)
    names = measurement.node_names
    users = _in_node_order("users", names, {u.node: u.name for u in experiment.users}, set(measurement.communication))
    cells = _in_node_order("cells", names, {c.node: c.name for c in experiment.cells}, set(measurement.sensing))
    power = np.array(measurement.power)
    comm_gain, sensing_gain = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    comm_noise, sensing_noise, needed = np.zeros(len(names)), np.zeros(len(names)), np.zeros(len(names))
    for i, (user, cell) in enumerate(zip(users, cells, strict=True)):
        response = measurement.communication[user]
        noise = measurement.noise_var[user]
        gain = np.array([response.gain[name].value for name in names])
        exact = comm_sinr(response, power, noise, names).value
        others = np.arange(len(names)) != _index(names, response.serving)
        interference = float(gain[others] @ power[others])
        if interference > 0 and exact > 0:
            own = float(gain[~others] @ power[~others])
            gain[others] *= max(own / exact - noise.value, 0.0) / interference
        comm_gain[:, i], comm_noise[i] = gain, noise.value
        response = measurement.sensing[cell]
        noise = measurement.noise_var[response.node]
        gain = np.array([response.gain[name].value for name in names])
        linear = float(gain @ power) / noise.value
        exact = sensing_snr(response, power, noise).value
        sensing_gain[:, i] = gain * (exact / linear if linear > 0 else 1.0)
        sensing_noise[i] = noise.value
        needed[i] = required_snr(measurement, cell, experiment) * undb(table.sensing_margin_db)
    cap = np.full(len(names), np.inf if table.max_power_dbm is None else undb(table.max_power_dbm))
    if measurement.max_power:
        cap = np.minimum(cap, measurement.max_power)
    problem = CompProblem(
        comm_gain=comm_gain,
        sensing_gain=sensing_gain,
        comm_noise_var=comm_noise,
        sensing_noise_var=sensing_noise,
        total_power=total_power(table, len(names)),
        min_comm_sinr=max(required_sinr(experiment) * undb(table.rate_margin_db), MIN_AUDIBLE_SINR),
        min_sensing_snr=needed,
        max_power=cap,
    )
    return Feedback(problem, measurement, users, cells, experiment.statistic, experiment.detection.pfa, requirements)


def required_snr(measurement: Measurement, cell: str, experiment: CompExperiment) -> float:
    """Sensing SNR lam / (2N) that the required PoD takes, without margin."""
    law = Law.measured(measurement, cell, experiment.statistic)
    lam = law.required_noncentrality(_tables(experiment)[0].min_pod, experiment.detection.pfa)
    return lam / (2 * measurement.sensing[cell].num_observations)


def required_sinr(experiment: CompExperiment) -> float:
    """Communication SINR that the required rate takes, without margin."""
    return float(2.0 ** _tables(experiment)[0].min_rate_bps_hz - 1)


def allocate(given: Feedback, table: AllocationTable) -> Allocation:
    """Powers for the next transmission by the experiment's method."""
    return solve(given.problem, table.method, seed=table.seed)


def in_words(given: Feedback, allocation: Allocation) -> str:
    """Why an allocation is infeasible, in one line: the conflicting rows, and what power would do."""
    if "y" in allocation.certificate:
        names = given.measurement.node_names
        return explain(
            given.problem, allocation.certificate, given.users, given.cells, names, lambda row: _reached(given, row)
        )
    labels = [f"rate of {user}" for user in given.users] + [f"PoD of {cell}" for cell in given.cells]
    margins = row_margins_db(given.problem, allocation.power)
    missed = [f"{label} by {-margin:.1f} dB" for label, margin in zip(labels, margins, strict=True) if margin < 0]
    caps = np.broadcast_to(given.problem.max_power, allocation.power.shape)
    missed += [
        f"the cap of {name}" for name, p, cap in zip(given.measurement.node_names, allocation.power, caps, strict=True)
        if p > cap
    ]  # fmt: skip
    return f"these powers miss {', '.join(missed)}"


def _reached(given: Feedback, row: dict[str, Any]) -> str:
    """What a row reaches, as people ask for it: PoD or rate."""
    if row["kind"] == "rate":
        rate = float(np.log2(1 + row["reached"]))
        floor = max(given.requirements.min_rate_bps_hz, float(np.log2(1 + MIN_AUDIBLE_SINR)))
        return f"rate of {given.users[row['index']]} reaches {rate:.2f} of {floor:.3g} bit/s/Hz"
    cell = given.cells[row["index"]]
    value = pod(given.measurement, cell, row["reached"], given.statistic, given.pfa)
    return f"PoD of {cell} reaches {value:.2f} of {given.requirements.min_pod:g}"


def _tables(experiment: CompExperiment) -> tuple[RequirementsTable, AllocationTable]:
    if experiment.requirements is None or experiment.allocation is None:
        raise ConfigError("the experiment has no [requirements] and [allocation]; see the comp preset")
    return experiment.requirements, experiment.allocation


def _in_node_order(kind: str, nodes: tuple[str, ...], owned: dict[str, str], measured: set[str]) -> tuple[str, ...]:
    missing = [name for name in nodes if owned.get(name) not in measured]
    if missing:
        raise ConfigError(
            f"{kind}: the measurement has none for {', '.join(missing)}; it must be one of this experiment's network, "
            f"with one of them for every node"
        )
    return tuple(owned[name] for name in nodes)


def _index(names: tuple[str, ...], name: str | None) -> int:
    return names.index(name) if name in names else -1
