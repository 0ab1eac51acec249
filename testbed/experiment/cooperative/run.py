"""A run of a cooperative network: location over power shares, users over clusters, a loop, a dead node."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture, load
from testbed.experiment import children
from testbed.experiment.acquire import acquire, transmit
from testbed.experiment.begin import begun, keep_samples, measured_noise
from testbed.experiment.conditions import Ask, step_epoch
from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.experiment.cooperative.display import round_lines, sensing_lines, users_lines
from testbed.experiment.cooperative.heard import Heard
from testbed.experiment.cooperative.planning import clusters_of, link_variances, make_plan, nearest_clusters
from testbed.experiment.cooperative.record import (
    CooperativeRound,
    CooperativeRun,
    LoopFile,
    SensingFile,
    UsersFile,
)
from testbed.experiment.cooperative.results import CooperativeResults, gather
from testbed.experiment.cooperative.sensing import sense, set_result, true_place
from testbed.experiment.cooperative.users import user_rows
from testbed.experiment.load import load_experiment
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.session import Session, open_session
from testbed.measurement import Estimate, load_measurements
from testbed.sensing.cooperative_links import measure_links
from testbed.sensing.cooperative_location import locate_directly
from testbed.waveform.cooperative import Sharing

MAX_DATA_SHARE = 0.75  # beside sensing; above, peaks of eight nodes' data clip at some phases


def run(directory: CooperativeRun, notify: Notify, ask: Ask) -> CooperativeResults:
    """Run the experiment of a run directory, or what an interruption left of it. Every exit path mutes; captures on
    disk stay whole.

    Raises:
        ConfigError: the link budget forbids the run, with every fault.
        RadioError: a radio or the emulator failed; what was captured before stays readable.
    """
    experiment = load_cooperative(directory.experiment)
    notify(Progress("opening radios"))
    before = begun(directory, experiment)
    with contextlib.ExitStack() as stack:
        gains = None if before is None else before.rx_gain_db
        session = stack.enter_context(open_session(experiment, directory.path / "emulator.log", ask, gains))
        truth_written = _start_truth(stack, experiment, directory, session.rx_gain_db)
        noise_var = measured_noise(session, experiment, directory, before, notify)
        truth_written()
        work = _Work(session, experiment, directory, notify, noise_var, known_place(directory, experiment))
        if experiment.sensing is not None:
            work.sensing_axis()
        if experiment.user_rates is not None:
            work.user_points()
        work.close_loop()
    results = gather(directory, experiment)
    directory.write_results(results.to_dict())
    return results


def load_cooperative(path: Path) -> CooperativeExperiment:
    """Read an experiment of this kind."""
    experiment = load_experiment(str(path))
    assert isinstance(experiment, CooperativeExperiment), "the caller has looked at its kind"
    return experiment


def known_place(directory: CooperativeRun, experiment: CooperativeExperiment) -> NDArray[np.float64]:
    """Where the target is: by the truth file, or by the survey where there is none."""
    if directory.truth.exists():
        return true_place(load_measurements(directory.truth).points[0], experiment)
    return np.array(experiment.target.position_m[:2])


@dataclass
class _Work:
    """One run: what it has, and where it writes."""

    session: Session
    experiment: CooperativeExperiment
    directory: CooperativeRun
    notify: Notify
    noise_var: dict[str, Estimate]
    place_m: NDArray[np.float64]
    serial: int = 0  # of the next capture; names its epoch on simulated air

    def sensing_axis(self) -> None:
        """Every share, all nodes sensing; sets of nodes are judged at the largest."""
        table = self.experiment.sensing
        assert table is not None, "the caller has looked"
        rows = list(self.directory.load_sensing().rows)
        for index, share in enumerate(table.shares):
            serial = self._next()
            if index < len(rows):
                continue
            # data of all nodes at once are the loudest that a receiver hears, and say nothing of where a target is
            sharing = self.experiment.sharing(share, min(1 - share, MAX_DATA_SHARE))
            capture = self._captured(f"sensing{index:03d}", sharing, table.num_trials, serial, users=False)
            row, errors = sense(self.experiment, capture, self.place_m, with_sets=share == max(table.shares))
            self.directory.write_errors(index, errors)
            rows.append(row)
            self.directory.save(self.directory.sensing, SensingFile(rows=tuple(rows)))
            self._keep(f"sensing{index:03d}", capture)
            self.notify(Progress(f"sensing at {share:g}", lines=sensing_lines(row, index == 0), warnings=row.warnings))

    def user_points(self) -> None:
        """Every waveform, cluster size and share: predicted from one capture, measured in each."""
        table = self.experiment.user_rates
        assert table is not None, "the caller has looked"
        rows = list(self.directory.load_users().rows)
        points = [(w, size, p) for w in table.waveforms for size in table.cluster_sizes for p in table.shares]
        points = [point for point in points if not (point[0] == "superposition" and point[2] >= 1)]
        per_point, num_users = [self._next() for _ in range(len(points) + 1)], len(self.experiment.users)
        if len(rows) == len(points) * num_users:
            return
        # gains as the pilots of a first capture tell them; they choose the clusters and predict everything
        first = self.experiment.sharing(0.5, 0.5)
        first_capture = self._captured("users_gains", first, table.num_frames, per_point[0], nodes=False)
        heard = Heard.of(first_capture, self.experiment)
        for index, (waveform, size, share) in enumerate(points):
            if index * num_users < len(rows):
                continue
            clusters = clusters_of(heard.gain, size)
            sharing = self.experiment.sharing(1 - share, share, clusters=clusters, waveform=waveform)
            stem = f"users{index:03d}"
            capture = self._captured(stem, sharing, table.num_frames, per_point[1 + index], nodes=False)
            made = user_rows(self.experiment, heard, capture, sharing, size)
            rows += made
            self.directory.save(self.directory.users, UsersFile(rows=tuple(rows)))
            self._keep(stem, capture)
            self.notify(Progress(stem, lines=users_lines(made, index == 0)))
        self._keep("users_gains", first_capture)

    def close_loop(self) -> None:
        """From half and half with all nodes sensing; then, if one is named, with a dead node, planned without it."""
        table, rounds = self.experiment.cooperative, list(self.directory.load_loop().rounds)
        dead = None if table.dead_node is None else self.experiment.node_names.index(table.dead_node)
        gone = [None] * (1 + table.num_rounds) + ([] if dead is None else [dead, dead])
        sharing, size = self.experiment.sharing(0.5, 0.5, clusters=nearest_clusters(self.experiment)), 1
        predicted: float | None = None
        before: CooperativeRound | None = None
        for index, silent in enumerate(gone):
            serial = self._next()
            on_air = sharing if silent is None else _without(sharing, silent)
            if index < len(rounds):
                made = rounds[index]
            else:
                made = self._round(index, on_air, size, silent, predicted, serial, before)
                rounds.append(made)
                self.directory.save(self.directory.loop, LoopFile(rounds=tuple(rounds)))
                self.notify(Progress(f"round {index}", lines=round_lines(made)))
            before = made
            if made.feasible:
                share, nodes = float(made.plan["comm_power_share"]), made.plan["sensing_nodes"]
                size, clusters = int(made.plan["comm_cluster_size"]), made.plan["clusters"]
                sharing = self.experiment.sharing(
                    1 - share, share, tuple(nodes), tuple(tuple(c) for c in clusters), dead=silent
                )
                predicted = float(made.plan["crlb"])

    def _round(
        self,
        index: int,
        sharing: Sharing,
        size: int,
        silent: int | None,
        predicted: float | None,
        serial: int,
        before: CooperativeRound | None,
    ) -> CooperativeRound:
        """Transmit, capture, locate, measure users, plan.

        Users' SINRs are predicted by the round before, which has not seen these samples.
        """
        stem = f"round{index:03d}"
        capture = self._captured(stem, sharing, self.experiment.cooperative.num_trials, serial)
        links = measure_links(capture)
        nodes = [node for node in sharing.sensing_nodes if node != silent]
        located = locate_directly(links, nodes)
        heard = Heard.of(capture, self.experiment)
        earlier = heard if index == 0 else self.directory.read_heard(index - 1, self.experiment)
        users = user_rows(self.experiment, earlier, capture, sharing, size)
        self.directory.write_heard(index, heard)
        variances = link_variances(links, before)
        plan = make_plan(self.experiment, links, variances, heard, silent)
        clusters = clusters_of(heard.gain, max(plan.comm_cluster_size, 1))
        self._keep(stem, capture)
        return CooperativeRound(
            index=index,
            dead=None if silent is None else self.experiment.node_names[silent],
            sensing_nodes=tuple(nodes),
            cluster_size=size,
            comm_share=sharing.comm_share,
            clusters=sharing.clusters,
            predicted_bound_m2=predicted,
            located=set_result(located, self.place_m),
            users=tuple(users),
            range_var_m2=tuple(tuple(None if np.isinf(v) else float(v) for v in row) for row in variances),
            plan=plan.to_dict() | {"clusters": [list(c) for c in clusters]},
            feasible=plan.status == "optimal",
            note=plan.note,
        )

    def _next(self) -> int:
        self.serial += 1
        return self.serial

    def _captured(
        self, stem: str, sharing: Sharing, num_frames: int, serial: int, *, nodes: bool = True, users: bool = True
    ) -> Capture:
        """A capture of so many frames; one that an interrupted run left is taken as it is."""
        path, session, experiment = self.directory.captures / f"{stem}.h5", self.session, self.experiment
        if path.exists():
            return load(path)
        transmission = transmit(session.radios, experiment.waveform.transmission(sharing), experiment,
                                session.rx_gain_db)  # fmt: skip
        session.conditions.set("all", step_epoch(serial))
        num, live = len(experiment.nodes), sharing.live
        listening = [radio for row, radio in enumerate(session.radios) if (nodes if row < num else users)]
        listening = [radio for radio in listening if radio.name not in _dead_names(experiment.node_names, live)]
        length = (num_frames + 1) * experiment.waveform.frame_len
        setup = {"sharing": sharing.model_dump(mode="json")}
        about: dict[str, Any] = {"step": stem, **session.info}
        taken = acquire(path, listening, experiment, transmission, "all", length, self.noise_var, about, setup)
        self.notify(Progress(stem, length * len(listening)))
        return taken

    def _keep(self, stem: str, capture: Capture) -> None:
        keep_samples(self.directory.captures / f"{stem}.h5", self.experiment, capture)


def _without(sharing: Sharing, silent: int) -> Sharing:
    """The same plan on the air where one node is silent: it neither senses nor serves."""
    power = tuple(0.0 if node == silent else p for node, p in enumerate(sharing.full_power))
    nodes = tuple(node for node in sharing.sensing_nodes if node != silent)
    clusters = tuple(tuple(node for node in cluster if node != silent) for cluster in sharing.clusters)
    return sharing.model_copy(update={"full_power": power, "sensing_nodes": nodes, "clusters": clusters})


def _dead_names(names: Sequence[str], live: NDArray[np.bool_]) -> set[str]:
    return {name for name, on in zip(names, live, strict=True) if not on}


def _start_truth(
    stack: contextlib.ExitStack,
    experiment: CooperativeExperiment,
    directory: CooperativeRun,
    rx_gain_db: dict[str, float],
) -> Callable[[], None]:
    """Begin writing the truth file of an emulated run; returns what waits for it."""
    if experiment.emulator is None or directory.truth.exists():
        return lambda: None
    log = directory.path / "truth.log"
    written = children.truth(
        experiment.emulator.scene, directory.experiment, rx_gain_db, directory.truth, log, paths_only=True
    )
    return stack.enter_context(written)
