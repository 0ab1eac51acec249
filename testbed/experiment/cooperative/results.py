"""What a run of a cooperative network found: location against its bound, users against prediction, the loop."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.errors import CaptureError
from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.experiment.cooperative.record import CooperativeRound, CooperativeRun, SensingRow, SetResult, UserRow
from testbed.experiment.cooperative.sensing import SMALLEST_SET, set_name
from testbed.units import db

LOW, HIGH = 0.8, 1.25  # of MSE over bound: three to four standard errors of 400 trials about 1
SLOPE = (-1.12, -0.88)  # of ln MSE over ln p^s
SLOPE_FROM = 0.125  # shares from here on are regressed
PREDICTION_DB = 0.5
NUM_STDERRS = 2.0


@dataclass(frozen=True)
class Step:
    """Two sets of nodes in the same frames."""

    smaller: tuple[int, ...]
    larger: tuple[int, ...]
    z: float  # mean difference of square errors over its standard error; positive: the second is better


@dataclass(frozen=True)
class Sensing:
    """Location over shares and sets."""

    rows: tuple[SensingRow, ...]
    slope: float | None  # of ln MSE over ln p^s
    slope_stderr: float | None
    growth: tuple[Step, ...]  # best set of one size against that of the next
    against_nearest: tuple[Step, ...]  # nearest set against the best one, by size
    random_over_best: float | None  # mean MSE of all sets of four over that of the best one

    @property
    def consistent(self) -> bool:
        """Whether every set's MSE is what its bound says."""
        judged = [row.all_nodes for row in self.rows]
        judged += [found for row in self.rows for found in (*row.planned, *row.dead)]
        slope_fits = self.slope is None or SLOPE[0] <= self.slope <= SLOPE[1]
        return slope_fits and all(LOW <= (ratio(found) or 0.0) <= HIGH for found in judged)


@dataclass(frozen=True)
class CooperativeResults:
    """Everything of a run."""

    sensing: Sensing | None
    users: tuple[UserRow, ...]
    rounds: tuple[CooperativeRound, ...]
    min_rate_bps_hz: float

    @property
    def largest_difference_db(self) -> float:
        """Of measured over predicted SINR."""
        found = [
            abs(db(row.measured_sinr.value / row.predicted_sinr))
            for row in self.users
            if row.measured_sinr.value > 0 and row.predicted_sinr > 0
        ]
        return max(found, default=0.0)

    @property
    def users_consistent(self) -> bool:
        """Whether SINRs are as predicted."""
        return self.largest_difference_db <= PREDICTION_DB

    @property
    def planned_rounds(self) -> tuple[CooperativeRound, ...]:
        """Rounds by a plan that knew the network as it was: not the first, not the first with a dead node."""
        return tuple(after for before, after in itertools.pairwise(self.rounds) if before.dead == after.dead)

    @property
    def loop_consistent(self) -> bool:
        """Whether planned rounds meet the floor within their errors, and locate as predicted."""
        return all(meets(made, self.min_rate_bps_hz) and predicted_well(made) for made in self.planned_rounds)

    @property
    def consistent(self) -> bool:
        """All of it."""
        sensing = self.sensing is None or self.sensing.consistent
        return sensing and self.users_consistent and self.loop_consistent

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        sensing = None
        if self.sensing is not None:
            plain = dataclasses.asdict(self.sensing)
            plain["rows"] = [row.model_dump(mode="json") for row in self.sensing.rows]
            sensing = plain | {"consistent": self.sensing.consistent}
        return {
            "consistent": self.consistent,
            "sensing": sensing,
            "users_consistent": self.users_consistent,
            "largest_difference_db": self.largest_difference_db,
            "users": [row.model_dump(mode="json") for row in self.users],
            "loop_consistent": self.loop_consistent,
            "rounds": [
                made.model_dump(mode="json") | {"meets": meets(made, self.min_rate_bps_hz)} for made in self.rounds
            ],
        }


def gather(run: CooperativeRun, experiment: CooperativeExperiment) -> CooperativeResults:
    """Results of what a run has finished.

    Raises:
        CaptureError: nothing was finished, or a file cannot be read.
    """
    rows, users, rounds = run.load_sensing().rows, run.load_users().rows, run.load_loop().rounds
    if not (rows or users or rounds):
        raise CaptureError(f"{run.path}: nothing was finished; there is nothing to report, run the experiment again")
    sensing = None if not rows else _sensing(run, rows)
    return CooperativeResults(sensing, users, rounds, experiment.cooperative.min_rate_bps_hz)


def ratio(found: SetResult) -> float | None:
    """MSE over its bound."""
    return None if not found.bound_m2 else found.direct.value / found.bound_m2


def meets(made: CooperativeRound, floor: float) -> bool:
    """Every measured rate, two standard errors added, reaches the floor."""
    return all(u.measured_rate.value + NUM_STDERRS * u.measured_rate.stderr >= floor for u in made.users)


def predicted_well(made: CooperativeRound) -> bool:
    """The MSE is what the plan on the air had predicted."""
    if made.predicted_bound_m2 is None:
        return True
    return LOW <= made.located.direct.value / made.predicted_bound_m2 <= HIGH


def _sensing(run: CooperativeRun, rows: Sequence[SensingRow]) -> Sensing:
    steady = [row for row in rows if row.share >= SLOPE_FROM]
    slope, slope_stderr = None, None
    if len(steady) >= 3:
        x = np.log([row.share for row in steady])
        y = np.log([row.all_nodes.direct.value for row in steady])
        error = np.array([row.all_nodes.direct.stderr / row.all_nodes.direct.value for row in steady])
        weight = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
        slope, slope_stderr = float(weight @ y), float(np.sqrt(np.sum((weight * error) ** 2)))
    index = int(np.argmax([row.share for row in rows]))
    best, errors = rows[index], run.read_errors(index)

    def step(smaller: SetResult, larger: SetResult) -> Step:
        first, second = (errors[set_name(found.nodes)] for found in (smaller, larger))
        difference = first - second
        spread = float(np.std(difference, ddof=1) / np.sqrt(difference.size))
        return Step(smaller.nodes, larger.nodes, float(difference.mean()) / spread if spread > 0 else 0.0)

    by_size = {len(found.nodes): found for found in best.planned}
    near = {len(found.nodes): found for found in best.nearest}
    sizes = sorted(by_size)
    compared = [size for size in sizes if size in near and near[size].nodes != by_size[size].nodes]
    random = None
    if best.random and 4 in by_size:
        random = float(np.mean([found.direct.value for found in best.random])) / by_size[4].direct.value
    return Sensing(
        rows=tuple(rows),
        slope=slope,
        slope_stderr=slope_stderr,
        growth=tuple(step(by_size[a], by_size[b]) for a, b in itertools.pairwise(sizes)),
        against_nearest=tuple(step(near[size], by_size[size]) for size in compared if size >= SMALLEST_SET),
        random_over_best=random,
    )
