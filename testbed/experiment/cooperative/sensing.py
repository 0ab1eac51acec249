"""Location from one capture in which all nodes sense: any set of them, by the links that it holds."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.cooperative_subsets import BestSets, best_by_pairs
from testbed.capture import Capture
from testbed.errors import CaptureError
from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.experiment.cooperative.record import SensingRow, SetResult
from testbed.measurement import Estimate, Measurement
from testbed.sensing.cooperative_links import Links, measure_links
from testbed.sensing.cooperative_location import Located, locate_by_ranges, locate_directly
from testbed.sensing.localize import locate
from testbed.theory.cooperative import pair_information
from testbed.units import SPEED_OF_LIGHT_MPS, undb

SMALLEST_SET = 3
RANDOM_SIZE = 4


def true_place(truth: Measurement, experiment: CooperativeExperiment) -> NDArray[np.float64]:
    """Where the nodes' true ranges meet, shape (2,): of echoes and self paths in the truth file."""
    metre = SPEED_OF_LIGHT_MPS / 2 / experiment.waveform.numerology.sample_rate_hz
    delays: dict[str, dict[str, float]] = {}
    for path in truth.paths:
        if path.tx == path.rx and (path.kind == "self" or path.via == experiment.target.name):
            delays.setdefault(path.rx, {})[path.kind] = path.delay_samples.value
    names = [name for name in experiment.node_names if set(delays.get(name, {})) == {"self", "echo"}]
    if len(names) < 3:
        raise CaptureError(
            f"truth: knows echoes of {experiment.target.name} at {len(names)} nodes; names of the experiment's cell "
            f"and the scene's target must be the same"
        )
    places = {node.name: node.position_m for node in experiment.nodes}
    nodes = np.array([[*places[name], 0.0][:3] for name in names])
    ranges = [(delays[name]["echo"] - delays[name]["self"]) * metre for name in names]
    return locate(nodes, ranges, [1.0] * len(names), 0.0).position_m[:2]


def best_sets(links: Links) -> BestSets:
    """Best set of every size by the bounds of a capture's links."""
    return best_by_pairs(pair_information(links.node_position_m, links.place_m, links.path_var_matrix()))


def nearest_nodes(links: Links, count: int) -> tuple[int, ...]:
    """The nodes nearest to where the target is seen."""
    away = np.linalg.norm(links.node_position_m - links.place_m, axis=1)
    return tuple(sorted(int(node) for node in np.argsort(away)[:count]))


def sense(
    experiment: CooperativeExperiment, capture: Capture, place_m: NDArray[np.float64], *, with_sets: bool
) -> tuple[SensingRow, dict[str, NDArray[np.float64]]]:
    """One share: all nodes, and with `with_sets` the best, the nearest, every set of four, and one node less.

    Args:
        experiment: with a sensing table.
        capture: of all nodes.
        place_m: where the target is.
        with_sets: judge sets of nodes, too.

    Returns:
        The row, and the square errors of every frame by set, named by its nodes.
    """
    assert experiment.sensing is not None, "the caller has looked"
    links, num = measure_links(capture), len(experiment.nodes)
    errors: dict[str, NDArray[np.float64]] = {}

    def judged(nodes: Sequence[int] | None) -> SetResult:
        located = locate_directly(links, nodes)
        errors[set_name(located.nodes)] = located.square_errors_m2(place_m)
        return set_result(located, place_m)

    everything = judged(None)
    level = undb(experiment.sensing.min_sinr_db)
    strong, weak = (locate_by_ranges(links, min_sinr=sinr) for sinr in (level, 0.0))
    planned: list[SetResult] = []
    nearest: list[SetResult] = []
    others: list[SetResult] = []
    dead: list[SetResult] = []
    if with_sets:
        sets = best_sets(links)
        for size in range(SMALLEST_SET, num + 1):
            if sets.nodes[size]:
                planned.append(judged(sets.nodes[size]))
            nearest.append(judged(nearest_nodes(links, size)))
        if num > RANDOM_SIZE:
            candidates = itertools.combinations(range(num), RANDOM_SIZE)
            others = [judged(nodes) for nodes in candidates if links.chosen(nodes).sum() >= 2]
        if experiment.sensing.dead:
            dead = [judged([node for node in range(num) if node != gone]) for gone in range(num)]
    row = SensingRow(
        share=links.sensing_share,
        all_nodes=everything,
        weighted=_finite(strong.mean_square_error(place_m)),
        weighted_links=strong.num_links,
        weighted_bound_m2=_bound(strong),
        weighted_all=_finite(weak.mean_square_error(place_m)),
        num_usable=int(links.chosen().sum()),
        planned=tuple(planned),
        nearest=tuple(nearest),
        random=tuple(others),
        dead=tuple(dead),
        range_var_m2=tuple(tuple(None if not np.isfinite(v) else float(v) for v in r) for r in links.path_var_matrix()),
        place_m=(float(links.place_m[0]), float(links.place_m[1])),
        warnings=links.warnings,
    )
    return row, errors


def set_result(located: Located, place_m: NDArray[np.float64]) -> SetResult:
    """In plain numbers."""
    return SetResult(
        nodes=located.nodes,
        num_links=located.num_links,
        bound_m2=_bound(located),
        direct=_known(located.mean_square_error(place_m)),
    )


def set_name(nodes: Sequence[int]) -> str:
    """Of a dataset."""
    return "_".join(str(node) for node in nodes)


def _bound(located: Located) -> float | None:
    return located.bound_m2 if np.isfinite(located.bound_m2) else None


def _finite(estimate: Estimate | None) -> Estimate | None:
    return estimate if estimate is not None and np.isfinite(estimate.value) else None


def _known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None, "direct positions are always there"
    return estimate
