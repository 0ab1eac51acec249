"""What a run of localisation found: ranges against their bounds, SINRs against predictions, positions, one verdict."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from testbed.allocation.base import load_allocation
from testbed.allocation.localization import smallest_sinr
from testbed.errors import CaptureError
from testbed.experiment.localization.config import LocalizationExperiment
from testbed.experiment.localization.problem import in_words, range_problem
from testbed.experiment.localization.record import POWERS, LocalizationRun
from testbed.measurement import Estimate, Measurement, RangeIdentification, load_identification, load_measurements
from testbed.sensing.identify import predicted_comm_sinr, predicted_sinr
from testbed.sensing.localize import locate
from testbed.sensing.positions import Positions, nees, positions
from testbed.sensing.range_verdict import range_chi_square, range_std_interval
from testbed.sensing.ranging import Ranging
from testbed.theory.chi_square import bonferroni_rejects
from testbed.theory.ranging import range_std
from testbed.units import SPEED_OF_LIGHT_MPS, db, undb

MIN_INTEGRATED_DB = 20.0  # below it the bound is not reached, and outliers come
PREDICTION_DB = 0.5  # a prediction that is farther off than this is called wrong
Powers = Literal["equal", "optimum"]


@dataclass(frozen=True)
class StationRange:
    """Ranges of one base station at one power vector."""

    powers: Powers
    node: str
    power_dbm: float
    range_m: Estimate  # mean of all frames
    true_range_m: float | None
    std_m: float  # measured, over frames
    std_low_m: float  # 95 % interval
    std_high_m: float
    bound_m: float  # Cramer-Rao
    ratio: float  # rms error over the bound
    p_value: float  # of the sum of squared errors over their bounds, two-sided
    # the same about the mean of all frames: where interference repeats, the bias can fill the bound that the spread
    # does not, and the sum alone would look right
    spread_p_value: float
    is_judged: bool  # whether the integrated SINR is high enough for the bound to hold
    integrated_sinr_db: float
    sinr: Estimate  # per element, (11)
    predicted: Estimate  # from the K + 1 captures
    difference_db: float  # measured less predicted
    curry_std_m: float  # (12) at the measured SINR
    outliers: Estimate
    outliers_predicted: float


@dataclass(frozen=True)
class UserSinr:
    """A user's SINR at one power vector."""

    powers: Powers
    user: str
    node: str
    sinr: Estimate  # data-aided
    predicted: Estimate
    required: float | None
    is_met: bool  # by the estimate


@dataclass(frozen=True)
class PositionResult:
    """Positions at one power vector."""

    powers: Powers
    num_trials: int
    rms_error_m: float
    bound_m: float
    p_value: float  # of the normalised errors squared; ranges of different stations are of different frames
    ratio: float  # of their mean, per coordinate
    same_slot_p_value: float  # ranges of one frame, whose errors are correlated: reported, not judged
    same_slot_ratio: float


@dataclass(frozen=True)
class Worst:
    """The base station with the largest spread, and what becomes of the mean."""

    powers: Powers
    node: str
    std_m: float
    low_m: float
    high_m: float
    bound_m: float  # largest bound
    mean_std_m: float
    all_known_bound_m: float | None  # largest bound where every node's frames are taken out


@dataclass(frozen=True)
class Verdict:
    """Whether errors are as large as their bounds say, at one level for all tests together."""

    level: float
    num_range_tests: int
    num_position_tests: int
    smallest_range_p: float | None
    smallest_position_p: float | None
    ranges_consistent: bool
    positions_consistent: bool
    predictions_agree: bool  # all within PREDICTION_DB
    against: Literal["truth", "mean"]  # true ranges, or the mean of all frames
    notes: tuple[str, ...]

    @property
    def consistent(self) -> bool:
        """All of it."""
        return self.ranges_consistent and self.positions_consistent and self.predictions_agree


@dataclass(frozen=True, eq=False)
class LocalizationResults:
    """Everything of a run."""

    identified: RangeIdentification
    truth: Measurement | None
    ranges: tuple[StationRange, ...]
    users: tuple[UserSinr, ...]
    positions: tuple[PositionResult, ...]
    worst: tuple[Worst, ...]
    objective: float  # smallest sensing SINR of the allocation, as identified
    equal_objective: float
    status: str
    note: str  # why there is no optimum, in words
    verdict: Verdict

    @property
    def consistent(self) -> bool:
        """The verdict."""
        return self.verdict.consistent

    @property
    def is_better(self) -> bool | None:
        """Whether the worst spread of the optimum lies below that of equal powers, with disjoint 95 % intervals."""
        if len(self.worst) < 2:
            return None
        equal, optimum = self.worst
        return optimum.high_m < equal.low_m

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        table = {key: [_plain(row) for row in getattr(self, key)] for key in ("ranges", "users", "positions", "worst")}
        return {
            "consistent": self.consistent,
            "verdict": _plain(self.verdict),
            **table,
            "optimum_is_better": self.is_better,
            "smallest_sinr_db": {"equal": _level(self.equal_objective), "optimum": _level(self.objective)},
            "status": self.status,
            "note": self.note,
            "identified": self.identified.model_dump(mode="json"),
        }


def gather(run: LocalizationRun, experiment: LocalizationExperiment) -> LocalizationResults:
    """Results of what a run has finished.

    Raises:
        CaptureError: nothing was finished, or a file cannot be read.
    """
    measured = run.load_users()
    done: list[Powers] = [powers for powers in ("equal", "optimum") if powers in measured.power]
    if not done:
        raise CaptureError(f"{run.path}: nothing was finished; there is nothing to report, run the experiment again")
    identified = load_identification(run.identification)
    truth = load_measurements(run.truth).points[0] if run.truth.exists() else None
    true_ranges = None if truth is None else true_ranges_m(truth, experiment)
    ranges, users, places, worst = [], [], [], []
    for powers in done:
        power = measured.power[powers]
        rangings = stored_ranges(run, experiment, powers)
        predicted = predicted_sinr(identified, power)
        for node, p in zip(experiment.node_names, power, strict=True):
            true = None if true_ranges is None else true_ranges[node]
            ranges.append(_station(experiment, powers, rangings[node], p, true, predicted[node]))
        serving = {user.name: user.node for user in experiment.users}
        expected = predicted_comm_sinr(identified, power, serving)
        for name, node in serving.items():
            users.append(_user(experiment, powers, name, node, measured.sinr[powers][name], expected[name]))
        if len(experiment.nodes) >= 3:
            places.append(_position(experiment, powers, rangings, true_ranges))
        worst.append(_worst(run, experiment, powers, [row for row in ranges if row.powers == powers]))
    objective, equal, status, note = _solved(run, experiment, identified, measured.power["equal"])
    return LocalizationResults(
        identified=identified,
        truth=truth,
        ranges=tuple(ranges),
        users=tuple(users),
        positions=tuple(places),
        worst=tuple(worst),
        objective=objective,
        equal_objective=equal,
        status=status,
        note=note,
        verdict=judge(ranges, places, experiment.verdict.level, _notes(run, experiment, done, note)),
    )


def judge(
    ranges: Sequence[StationRange], places: Sequence[PositionResult], level: float, notes: Sequence[str] = ()
) -> Verdict:
    """One verdict on any number of runs: Bonferroni over all their ranges, and over all their positions.

    Every base station and power vector has two tests of its ranges: of errors, and of their spread.
    """
    range_p = [p for row in ranges if row.is_judged for p in (row.p_value, row.spread_p_value)]
    position_p = [row.p_value for row in places if np.isfinite(row.p_value)]
    return Verdict(
        level=level,
        num_range_tests=len(range_p),
        num_position_tests=len(position_p),
        smallest_range_p=min(range_p, default=None),
        smallest_position_p=min(position_p, default=None),
        ranges_consistent=not range_p or not bonferroni_rejects(range_p, level),
        positions_consistent=not position_p or not bonferroni_rejects(position_p, level),
        predictions_agree=all(abs(row.difference_db) <= PREDICTION_DB for row in ranges),
        against="mean" if any(row.true_range_m is None for row in ranges) else "truth",
        notes=tuple(notes),
    )


def stored_ranges(
    run: LocalizationRun, experiment: LocalizationExperiment, powers: str, known: str | None = None
) -> dict[str, Ranging]:
    """Ranges of every base station at one power vector, with the experiment's knowledge unless told otherwise."""
    chosen = known or experiment.localization.known
    return {node: run.read_ranging(f"{powers}/{chosen}/{node}") for node in experiment.node_names}


def true_ranges_m(truth: Measurement, experiment: LocalizationExperiment) -> dict[str, float]:
    """One way, by the delays of the true echoes after the true self paths."""
    metre = SPEED_OF_LIGHT_MPS / 2 / experiment.waveform.numerology.sample_rate_hz
    delays: dict[str, dict[str, float]] = {}
    for path in truth.paths:
        if path.tx == path.rx and (path.kind == "self" or path.via == experiment.target.name):
            delays.setdefault(path.rx, {})[path.kind] = path.delay_samples.value
    if missing := [name for name in experiment.node_names if set(delays.get(name, {})) != {"self", "echo"}]:
        raise CaptureError(
            f"truth: knows no echo of {experiment.target.name} at {', '.join(missing)}; names of the experiment's "
            f"cell and the scene's target must be the same"
        )
    return {name: (d["echo"] - d["self"]) * metre for name, d in delays.items() if name in experiment.node_names}


def _station(
    experiment: LocalizationExperiment,
    powers: Powers,
    ranging: Ranging,
    power: float,
    true: float | None,
    predicted: Estimate,
) -> StationRange:
    numerology = experiment.waveform.numerology
    test = range_chi_square(ranging, true)
    low, high = range_std_interval(ranging)
    integrated_db = _level(ranging.integrated_sinr)
    bandwidth_hz = numerology.num_subcarriers * numerology.subcarrier_spacing_hz
    return StationRange(
        powers=powers,
        node=ranging.node,
        power_dbm=_level(power),
        range_m=ranging.mean_range_m,
        true_range_m=true,
        std_m=ranging.range_std_m.value,
        std_low_m=low,
        std_high_m=high,
        bound_m=ranging.rms_crlb_m,
        ratio=test.ratio,
        p_value=test.p_value,
        spread_p_value=range_chi_square(ranging).p_value,
        is_judged=integrated_db >= MIN_INTEGRATED_DB,
        integrated_sinr_db=integrated_db,
        sinr=ranging.sinr,
        predicted=predicted,
        difference_db=_level(ranging.sinr.value) - _level(predicted.value),
        curry_std_m=float(range_std(max(ranging.sinr.value, 0.0), bandwidth_hz)),
        outliers=ranging.outliers,
        outliers_predicted=ranging.outliers_predicted,
    )


def _user(
    experiment: LocalizationExperiment, powers: Powers, name: str, node: str, sinr: Estimate, predicted: Estimate
) -> UserSinr:
    asked = experiment.localization.min_user_sinr_db
    required = None if asked is None else undb(asked)
    return UserSinr(powers, name, node, sinr, predicted, required, required is None or sinr.value >= required)


def _position(
    experiment: LocalizationExperiment,
    powers: Powers,
    rangings: Mapping[str, Ranging],
    true_ranges: Mapping[str, float] | None,
) -> PositionResult:
    places = {node.name: node.position_m for node in experiment.nodes}
    height = experiment.localization.target_height_m
    target: Any = experiment.target.position_m
    if true_ranges is not None:  # where the true ranges meet; the survey may be a little off
        nodes = np.array([[*places[name], 0.0][:3] for name in rangings])
        target = locate(nodes, [true_ranges[name] for name in rangings], [1.0] * len(rangings), height).position_m
    elif len(target) == 2:
        target = (*target, height)
    found = {shifted: positions(rangings, places, height, shifted=shifted) for shifted in (True, False)}
    judged, same_slot = (_nees(found[shifted], target) for shifted in (True, False))
    return PositionResult(
        powers=powers,
        num_trials=int(np.count_nonzero(found[True].judged)),
        rms_error_m=found[True].rms_error_m(target),
        bound_m=found[True].error_bound_m,
        p_value=judged[0],
        ratio=judged[1],
        same_slot_p_value=same_slot[0],
        same_slot_ratio=same_slot[1],
    )


def _nees(found: Positions, target: Any) -> tuple[float, float]:
    """P value, and mean normalised error squared per coordinate; NaN where no position can be judged."""
    if not np.any(found.judged):
        return float("nan"), float("nan")
    test = nees(found, target)
    return test.p_value, test.statistic / test.num_dof


def _worst(
    run: LocalizationRun, experiment: LocalizationExperiment, powers: Powers, rows: Sequence[StationRange]
) -> Worst:
    last = max(rows, key=lambda row: row.std_m)
    all_known = None
    if experiment.contrast is not None:
        all_known = max(r.rms_crlb_m for r in stored_ranges(run, experiment, powers, "all").values())
    return Worst(
        powers=powers,
        node=last.node,
        std_m=last.std_m,
        low_m=last.std_low_m,
        high_m=last.std_high_m,
        bound_m=max(row.bound_m for row in rows),
        mean_std_m=float(np.mean([row.std_m for row in rows])),
        all_known_bound_m=all_known,
    )


def _solved(
    run: LocalizationRun,
    experiment: LocalizationExperiment,
    identified: RangeIdentification,
    equal: Sequence[float],
) -> tuple[float, float, str, str]:
    """Smallest SINRs as identified, status and note of the allocation."""
    problem = range_problem(identified, experiment, np.array(equal))
    start = smallest_sinr(problem, np.array(equal))
    if not run.allocation.exists():
        return float("nan"), start, "missing", "the run ended before powers were solved for"
    allocation = load_allocation(run.allocation)[0]
    return allocation.objective, start, allocation.status, in_words(problem, allocation, experiment)


def _notes(
    run: LocalizationRun, experiment: LocalizationExperiment, done: Sequence[Powers], note: str
) -> tuple[str, ...]:
    notes = [note] if note else []
    for powers in done:
        for node, ranging in stored_ranges(run, experiment, powers).items():
            notes += [f"{node}, {powers} powers: {text}" for text in ranging.warnings]
    if not run.truth.exists():
        notes.append("no truth: errors are about the mean of all frames, a bias that they share does not show")
    if len(experiment.nodes) < 3:
        notes.append("fewer than three base stations: no position is judged")
    missing = [powers for powers in POWERS if powers not in done]
    if missing and not note:
        notes.append(f"not measured: {', '.join(missing)} powers")
    return tuple(dict.fromkeys(notes))


def _level(value: float) -> float:
    return db(value) if value > 0 else float("-inf")


def _plain(row: Any) -> dict[str, Any]:
    """Plain data of a row; what JSON has no number for becomes null."""
    plain = {}
    for entry in dataclasses.fields(row):
        value = getattr(row, entry.name)
        if isinstance(value, Estimate):
            value = {key: _finite(number) for key, number in value.model_dump(mode="python").items()}
        plain[entry.name] = list(value) if isinstance(value, tuple) else _finite(value)
    return plain


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
