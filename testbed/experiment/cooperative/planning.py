"""From measured links and gains to the next plan."""

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.cooperative import plan
from testbed.allocation.cooperative_pairs import PairProblem
from testbed.allocation.cooperative_plan import Plan
from testbed.allocation.cooperative_users import UserChannels
from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.experiment.cooperative.heard import Heard
from testbed.experiment.cooperative.record import CooperativeRound
from testbed.places import distance_m
from testbed.sensing.cooperative_links import Links


def nearest_clusters(experiment: CooperativeExperiment) -> tuple[tuple[int, ...], ...]:
    """One node for every user, the nearest by the survey: before anything was measured."""
    return tuple((int(np.argmin([distance_m(user, node) for node in experiment.nodes])),) for user in experiment.users)


def clusters_of(gain: NDArray[np.float64], size: int) -> tuple[tuple[int, ...], ...]:
    """The nodes of largest measured gain for every user; gain (num_nodes, num_users), 0 of dead ones."""
    order = np.argsort(-gain, axis=0, kind="stable")
    return tuple(
        tuple(int(node) for node in column[:size] if gain[node, user] > 0) for user, column in enumerate(order.T)
    )


def link_variances(links: Links, before: CooperativeRound | None) -> NDArray[np.float64]:
    """Bounds of path lengths at all power [transmitter, receiver], m^2; inf where no echo was ever seen.

    Nodes outside the sensing cluster send nothing to measure: what the round before knew of their links stands.
    """
    found = links.path_var_matrix() * links.sensing_share
    if before is None:
        return found
    old = np.array([[np.inf if v is None else v for v in row] for row in before.range_var_m2])
    measured = np.zeros(found.shape, dtype=bool)
    measured[links.pairs[:, 0], links.pairs[:, 1]] = True
    return np.where(measured, found, old)


def make_plan(
    experiment: CooperativeExperiment, links: Links, range_var_m2: NDArray[np.float64], heard: Heard, silent: int | None
) -> Plan:
    """Sensing nodes, cluster size and share under the experiment's rate floor and backhaul.

    Args:
        experiment: resolved.
        links: of the last capture; where it sees the target.
        range_var_m2: by `link_variances`.
        heard: users' channels in it.
        silent: a dead node.
    """
    table, num = experiment.cooperative, len(experiment.nodes)
    live = np.array([node != silent for node in range(num)])
    return plan(
        PairProblem(
            node_position_m=links.node_position_m,
            target_position_m=links.place_m,
            range_var_m2=range_var_m2,
            users=UserChannels(
                gain=np.where(live[:, None], heard.gain, 0.0),
                noise_var=heard.noise_var,
                response=heard.response,
                cover_len=experiment.waveform.block_symbols,
            ),
            min_rate_bps_hz=table.min_rate_bps_hz,
            backhaul_bps_hz=table.backhaul_bps_hz,
            backhaul_price_bps_hz=table.sensing_load_bps_hz,
            margin_db=table.rate_margin_db,
            count_copies=table.count_copies,
            live=live,
        )
    )
