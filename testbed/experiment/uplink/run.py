"""A run of the uplink: the detector where direct channels stand, rates where they fade, a loop that needs both."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.uplink import sensing_sinr
from testbed.capture import Capture, load
from testbed.experiment import children
from testbed.experiment.acquire import Transmission, acquire, mute, transmit
from testbed.experiment.begin import begun, keep_samples, measured_noise
from testbed.experiment.conditions import Ask, step_epoch
from testbed.experiment.load import load_experiment
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.session import Session, open_session
from testbed.experiment.uplink.allocating import allocate, equal_powers, sum_rate, uplink_problem
from testbed.experiment.uplink.budget import assumed_echo_gains
from testbed.experiment.uplink.config import UplinkExperiment
from testbed.experiment.uplink.detecting import TrueValues, judge_power
from testbed.experiment.uplink.display import detector_lines, rates_lines, round_lines
from testbed.experiment.uplink.rating import rate_capture
from testbed.experiment.uplink.record import DetectorStatistics, LoopFile, LoopRound, RatesFile, RatesRow, UplinkRun
from testbed.experiment.uplink.results import UplinkResults, gather
from testbed.measurement import Estimate, load_measurements, noise_estimate
from testbed.units import undb

SEEDS_PER_PART = 1000  # the parts of a run have data of their own


@dataclass
class _Air:
    """An open network and the number of its next capture, which names its epoch on simulated air."""

    session: Session
    serial: int = 0


def run(directory: UplinkRun, notify: Notify, ask: Ask) -> UplinkResults:
    """Run the experiment of a run directory, or what an interruption left of it. Every exit path mutes; captures on
    disk stay whole.

    Raises:
        ConfigError: the link budget forbids the run, with every fault.
        RadioError: a radio or the emulator failed; what was captured before stays readable.
    """
    experiment = load_uplink(directory.experiment)
    notify(Progress("opening radios"))
    before = begun(directory, experiment)
    with contextlib.ExitStack() as stack:
        gains = None if before is None else before.rx_gain_db
        needs_standing = experiment.detector is not None
        needs_fading = experiment.rates is not None or experiment.loop is not None
        airs: dict[str, _Air] = {}
        for fading, needed in (("run", needs_standing), ("block", needs_fading)):
            if not needed or (experiment.emulator is None and airs):
                continue  # on air there is one air
            log = directory.path / f"emulator_{fading}.log"
            airs[fading] = _Air(stack.enter_context(open_session(_with_fading(experiment, fading), log, ask, gains)))
        first = next(iter(airs.values())).session
        truth_written = _start_truth(stack, experiment, directory, first.rx_gain_db)
        noise_var = measured_noise(first, experiment, directory, before, notify)[experiment.receiver.name]
        truth_written()
        truth = true_values(directory, experiment)
        work = _Work(experiment, directory, notify, noise_var, truth, airs)
        if experiment.detector is not None:
            for index, power_dbm in enumerate(experiment.detector.axis_dbm):
                power = np.full(len(experiment.nodes), undb(power_dbm))
                work.detect(f"axis/{index:03d}", f"detector{index:03d}", power_dbm, power, power, index)
        if experiment.rates is not None:
            work.rate_axis()
        if experiment.loop is not None:
            work.close_loop()
    results = gather(directory, experiment)
    directory.write_results(results.to_dict())
    return results


def load_uplink(path: Path) -> UplinkExperiment:
    """Read an experiment of this kind."""
    experiment = load_experiment(str(path))
    assert isinstance(experiment, UplinkExperiment), "the caller has looked at its kind"
    return experiment


def true_values(directory: UplinkRun, experiment: UplinkExperiment) -> TrueValues | None:
    """What the truth file tells, if there is one."""
    if not directory.truth.exists():
        return None
    return TrueValues.of(load_measurements(directory.truth).points[0], experiment)


@dataclass
class _Work:
    """One run: what it has, and where it writes."""

    experiment: UplinkExperiment
    directory: UplinkRun
    notify: Notify
    noise_var: Estimate
    truth: TrueValues | None
    airs: dict[str, _Air]

    def detect(
        self,
        key: str,
        stem: str,
        power_dbm: float,
        pilot: NDArray[np.float64],
        data: NDArray[np.float64],
        seed: int,
    ) -> DetectorStatistics:
        """Muted, calibration, H0 and H1 at one power vector, where direct channels stand."""
        assert self.experiment.detector is not None, "the caller has looked"
        table, air = self.experiment.detector, self.airs["run"] if "run" in self.airs else self.airs["block"]
        serials = [self._next(air) for _ in range(4)]  # the same numbers, resumed or not
        if (stored := self.directory.read_detector(key)) is not None:
            return stored[0]
        experiment = self._with_data(seed)
        muted = self._captured(air, experiment, f"{stem}_muted", None, "empty", table.num_muted, serials[0])
        noise_var = noise_estimate(muted.nodes[0].raw, muted.nodes[0].lsb)
        on_air = self._transmit(air, experiment, pilot, data)
        captures = [
            self._captured(air, experiment, f"{stem}_{what}", on_air, condition, count, serial)
            for what, condition, count, serial in (
                ("calibration", "empty", table.num_calibration, serials[1]),
                ("h0", "empty", table.num_h0, serials[2]),
                ("h1", "all", table.num_h1, serials[3]),
            )
        ]
        about, arrays = judge_power(experiment, power_dbm, noise_var, captures, self.truth)
        self.directory.write_detector(key, about, arrays)
        for capture, what in zip((muted, *captures), ("muted", "calibration", "h0", "h1"), strict=True):
            keep_samples(self.directory.captures / f"{stem}_{what}.h5", experiment, capture)
        lines = detector_lines(about, arrays, table.pfa, with_header=key.endswith("000"))
        warnings = tuple(note for capture in captures for node in capture.nodes for note in node.notes())
        self.notify(Progress(stem, lines=lines, warnings=warnings))
        return about

    def rate_axis(self) -> None:
        """Every power and seed, with and without the target."""
        table = self.experiment.rates
        assert table is not None, "the caller has looked"
        rows = list(self.directory.load_rates().rows)
        for index, power_dbm in enumerate(table.axis_dbm):
            power = np.full(len(self.experiment.nodes), undb(power_dbm))
            for seed in range(table.num_seeds):
                place, serials = index * table.num_seeds + seed, [self._next(self.airs_fading) for _ in range(2)]
                if place < len(rows):
                    continue
                stem = f"rates{index:03d}_{seed:03d}"
                row = self._rated(stem, power_dbm, seed, power, power, serials, (table.num_blocks, table.num_h0))
                rows.append(row)
                self.directory.save_rates(RatesFile(rows=tuple(rows)))
            made = rows[index * table.num_seeds : (index + 1) * table.num_seeds]
            self.notify(Progress(f"rates at {power_dbm:g} dBm", lines=rates_lines(made, with_header=index == 0)))

    def close_loop(self) -> None:
        """Rounds from equal powers: measure, allocate, transmit."""
        table = self.experiment.loop
        assert table is not None, "the caller has looked"
        rounds = list(self.directory.load_loop().rounds)
        pilot = data = equal_powers(self.experiment)
        for index in range(table.num_rounds):
            air, count = self.airs_fading, table.num_seeds
            serials = [[self._next(air) for _ in range(2)] for _ in range(count)]
            echo = tuple(Estimate.exact(gain) for gain in assumed_echo_gains(self.experiment))
            if self.experiment.detector is not None:
                first_seed = (1 + index) * SEEDS_PER_PART
                echo = self.detect(
                    f"loop/{index:03d}", f"loop{index:03d}", table.power_dbm, pilot, data, first_seed
                ).echo_gain
            if index < len(rounds):
                pilot, data = (np.array(x) for x in (rounds[index].next_pilot_power, rounds[index].next_data_power))
                continue
            eta = [max(gain.value, 0.0) for gain in echo]
            rows = [
                self._rated(
                    f"loop{index:03d}_{seed:03d}",
                    table.power_dbm,
                    (20 + index) * SEEDS_PER_PART + seed,
                    pilot,
                    data,
                    serials[seed],
                    (table.num_blocks, 0),
                    eta,
                )
                for seed in range(count)
            ]
            made = self._round(index, pilot, data, rows, echo)
            rounds.append(made)
            self.directory.save_loop(LoopFile(rounds=tuple(rounds)))
            self.notify(Progress(f"round {index}", lines=round_lines(made)))
            pilot, data = np.array(made.next_pilot_power), np.array(made.next_data_power)

    def _round(
        self,
        index: int,
        pilot: NDArray[np.float64],
        data: NDArray[np.float64],
        rows: Sequence[RatesRow],
        echo: Sequence[Estimate],
    ) -> LoopRound:
        """Feed what a round measured to the solver."""
        assert self.experiment.loop is not None, "the caller has looked"
        beta = np.mean([[gain.value for gain in row.direct_gain] for row in rows], axis=0)
        eta = [max(gain.value, 0.0) for gain in echo]
        problem = uplink_problem(self.experiment, beta.tolist(), eta, self.noise_var.value)
        best = allocate(problem, self.experiment.loop.method)
        feasible = best.status != "infeasible"
        following = (best.pilot_power, best.data_power) if feasible else (pilot, data)
        reach = best.certificate.get("largest_sensing_sinr")
        note = "" if feasible else f"infeasible as measured, powers are kept (largest sensing SINR {reach})"
        frozen = allocate(problem, "ao")
        return LoopRound(
            index=index,
            pilot_power=_numbers(pilot),
            data_power=_numbers(data),
            rows=tuple(rows),
            echo_gain=tuple(echo),
            sensing_sinr=float(sensing_sinr(problem, pilot, data)),
            predicted_sum_rate=sum_rate(problem, _numbers(pilot), _numbers(data)),
            status=best.status,
            next_pilot_power=_numbers(following[0]),
            next_data_power=_numbers(following[1]),
            next_sum_rate=sum_rate(problem, _numbers(following[0]), _numbers(following[1])),
            alternating_sum_rate=float(frozen.objective),
            note=note,
        )

    def _rated(
        self,
        stem: str,
        power_dbm: float,
        seed: int,
        pilot: NDArray[np.float64],
        data: NDArray[np.float64],
        serials: Sequence[int],
        counts: tuple[int, int],
        echo_gain: Sequence[float] | None = None,
    ) -> RatesRow:
        """Capture with and, if any blocks are wanted, without the target; rates of it."""
        air, experiment = self.airs_fading, self._with_data(10 * SEEDS_PER_PART + seed)
        on_air = self._transmit(air, experiment, pilot, data)
        full = self._captured(air, experiment, f"{stem}_all", on_air, "all", counts[0], serials[0])
        empty = None
        if counts[1]:
            empty = self._captured(air, experiment, f"{stem}_empty", on_air, "empty", counts[1], serials[1])
        eta = assumed_echo_gains(experiment) if echo_gain is None else echo_gain
        row = rate_capture(experiment, power_dbm, seed, self.noise_var, eta, full, empty)
        for capture, what in ((full, "all"), (empty, "empty")):
            if capture is not None:
                keep_samples(self.directory.captures / f"{stem}_{what}.h5", experiment, capture)
        return row

    @property
    def airs_fading(self) -> _Air:
        """Where direct channels are redrawn; on air the only one."""
        return self.airs["block"] if "block" in self.airs else self.airs["run"]

    def _next(self, air: _Air) -> int:
        air.serial += 1
        return air.serial

    def _with_data(self, seed: int) -> UplinkExperiment:
        """The experiment with other data."""
        waveform = self.experiment.waveform.with_data_seed(self.experiment.waveform.data_seed + seed)
        return self.experiment.model_copy(update={"waveform": waveform})

    def _transmit(
        self, air: _Air, experiment: UplinkExperiment, pilot: NDArray[np.float64], data: NDArray[np.float64]
    ) -> Transmission:
        frame = experiment.waveform.frame(pilot, data)
        return transmit(air.session.radios, frame, experiment, air.session.rx_gain_db)

    def _captured(
        self,
        air: _Air,
        experiment: UplinkExperiment,
        stem: str,
        on_air: Transmission | None,
        condition: str,
        num_blocks: int,
        serial: int,
    ) -> Capture:
        """A capture of so many blocks; one that an interrupted run left is taken as it is."""
        path = self.directory.captures / f"{stem}.h5"
        session = air.session
        if on_air is None:
            on_air = mute(session.radios, experiment, session.rx_gain_db)
        if path.exists():
            return load(path)
        session.conditions.set(condition, step_epoch(serial))
        listening = [radio for radio in session.radios if radio.name == experiment.receiver.name]
        count = num_blocks * experiment.waveform.frame_len
        count += experiment.waveform.frame_len if on_air.frame is not None else 0
        about: dict[str, Any] = {"step": stem, **session.info}
        taken = acquire(path, listening, experiment, on_air, condition if on_air.frame is not None else "muted", count,
                        {experiment.receiver.name: self.noise_var}, about)  # fmt: skip
        self.notify(Progress(stem, count * experiment.receiver.num_channels))
        return taken


def _with_fading(experiment: UplinkExperiment, fading: str) -> UplinkExperiment:
    if experiment.emulator is None:
        return experiment
    emulator = experiment.emulator.model_copy(update={"direct_fading": fading})
    return experiment.model_copy(update={"emulator": emulator})


def _start_truth(
    stack: contextlib.ExitStack, experiment: UplinkExperiment, directory: UplinkRun, rx_gain_db: dict[str, float]
) -> Callable[[], None]:
    """Begin writing the truth file of an emulated run; returns what waits for it."""
    if experiment.emulator is None or directory.truth.exists():
        return lambda: None
    log = directory.path / "truth.log"
    written = children.truth(
        experiment.emulator.scene, directory.experiment, rx_gain_db, directory.truth, log, paths_only=True
    )
    return stack.enter_context(written)


def _numbers(power: Any) -> tuple[float, ...]:
    return tuple(float(p) for p in power)
