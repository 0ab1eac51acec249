"""Shared by tests: run directories whose statistics are drawn from their laws, without radios or an emulator."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import stats

from sim.truth import truth
from testbed.capture import CHUNK_TABLE, Capture, NodeCapture, save
from testbed.config import validate
from testbed.device import Limits, Settings
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.feedback import first_allocation
from testbed.experiment.comp.loop import close
from testbed.experiment.comp.prediction import comm_sinr, predict
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.rounds import save_round
from testbed.experiment.comp.step import Step
from testbed.measurement import Estimate, LinkMeasurement, Measurement, MeasurementFile, save_measurements
from testbed.sensing.detect import Detection
from testbed.waveform.frame import Frame
from testbed.waveform.sequences import constellation
from tests.scenes import comp_scene, comp_text

LIMITS = Limits(
    "test radio", True, 1, 1, 70e6, 6e9, 5e5, 6e7, -89.75, 0.0, 0.25, -3.0, 71.0, 1.0, 12, 2048, 15.0, 10.2, 1 << 20
)
NUM_NUISANCE = 12  # of a cell of the CoMP scene
GAIN_STEP_DB = 0.25
GAIN_ERROR = 0.004  # relative, of a drawn gain


def drawn_detection(
    rng: np.random.Generator,
    *,
    cell: str,
    node: str,
    condition: str,
    lam: float,
    rank: int,
    num_observations: int,
    num_nuisance: int,
    num_frames: int,
    noise_var: float,
    noise_error: float = 1.0,
) -> Detection:
    """Both statistics of one set of trials, as a receiver would find them whose noise estimate is off."""
    left = num_observations - rank - num_nuisance
    explained = (
        stats.ncx2.rvs(2 * rank, lam, size=num_frames, random_state=rng) / 2
        if lam
        else rng.gamma(rank, size=num_frames)
    )
    residual = rng.gamma(left, size=num_frames)
    found = noise_var * residual.sum() / (left * num_frames)
    stand_in: Any = SimpleNamespace  # what a report reads of it
    return stand_in(
        cell=cell,
        node=node,
        condition=condition,
        known_noise=explained / noise_error,
        cfar=explained / rank / (residual / left),
        rank=rank,
        num_observations=num_observations,
        num_nuisance=num_nuisance,
        kappa=np.array([0.91, 0.82]),
        noise_var=Estimate(value=noise_var * noise_error, stderr=noise_var / 1e3, count=1_000_000),
        residual_noise_var=Estimate(value=found, stderr=found / np.sqrt(left * num_frames), count=left * num_frames),
        sync=SimpleNamespace(offset_samples=np.array([0.25, -3.5]), stderr_samples=np.array([1e-4, 2e-4])),
        derivative_paths=(),
        warnings=(),
    )


def store_capture(path: Path, experiment: CompExperiment, condition: str, frame: Frame | None) -> None:
    """A short capture of all nodes and users."""
    rng = np.random.default_rng(5)
    raw = rng.integers(-40, 40, size=(1, 1280, 2), dtype=np.int16)
    chunks = np.array([(0, 1280, 1, 0, 0, 0, b"reported", b"")], dtype=CHUNK_TABLE)
    nodes = tuple(
        NodeCapture(row.name, raw, Settings(3.5e9, 20e6, -12.25, 40.0), LIMITS, chunks) for row in experiment.receivers
    )
    simulated = experiment.emulator is not None
    info = {"emulator_seed": 77} if simulated else {}
    save(path, Capture(condition, experiment.node_names, frame, nodes, {}, experiment.resolved(), simulated, info))


def loop_experiment(**tables: Any) -> CompExperiment:
    """The CoMP preset with its loop alone and few frames; keywords replace keys of its tables, None a whole table."""
    data = comp_text()
    del data["power"]
    data["capture"]["num_frames"] = 400
    for name, changes in tables.items():
        if isinstance(changes, dict):
            data[name] = data.get(name, {}) | changes
        elif changes is None:
            data.pop(name, None)
        else:
            data[name] = changes
    return validate(data, CompExperiment, "loop")


def store_loop(run: CompRun, experiment: CompExperiment, num_rounds: int, *, with_truth: bool = True) -> None:
    """Rounds as a run of the CoMP scene leaves them: gains drawn about the true ones, powers from the solver."""
    rng = np.random.default_rng(3)
    scene, gains_db = comp_scene(), {row.name: 40.0 for row in experiment.receivers}
    allocation, previous, exact = first_allocation(experiment), None, []
    for index in range(num_rounds):
        true = truth(scene, experiment, gains_db, [[float(p) for p in allocation.power]]).points[0]
        measured = _drawn_measurement(rng, experiment, true, run, Step("rounds", index))
        frame: Any = SimpleNamespace(power=np.array(true.power))
        settings = {name: SimpleNamespace(tx_gain_db=-12.5) for name in experiment.node_names}
        outcome: Any = SimpleNamespace(
            transmission=SimpleNamespace(frame=frame, settings=settings),
            measurement=measured,
            gain_steps_db=(GAIN_STEP_DB,) * len(experiment.nodes),
            warnings=(),
        )
        predicted = None
        if previous is not None:
            predicted = predict(previous, np.array(true.power), experiment.statistic, experiment.detection.pfa)
        made, allocation = close(experiment, index, allocation, outcome, predicted)
        save_round(run.round_path(index), made, experiment.sha256)
        previous = measured
        exact.append(true)
    if with_truth:
        points = MeasurementFile(experiment_sha256=experiment.sha256, points=tuple(exact))
        save_measurements(run.truth_rounds, points)


def _drawn_measurement(
    rng: np.random.Generator, experiment: CompExperiment, true: Measurement, run: CompRun, step: Step
) -> Measurement:
    """A measurement scattered about the true one, its statistics and links stored."""

    def drawn(value: float) -> Estimate:
        return Estimate(value=value * rng.normal(1, GAIN_ERROR), stderr=value * GAIN_ERROR, count=400)

    def scattered(response: Any) -> Any:
        gain = {name: drawn(e.value) for name, e in response.gain.items()}
        gram = np.array(response.gram)
        np.fill_diagonal(gram, [e.value for e in gain.values()])
        return response.model_copy(update={"gain": gain, "gram": tuple(map(tuple, gram.tolist()))})

    num_frames, power = experiment.capture.num_frames, np.array(true.power)
    for cell in experiment.cells:
        response = true.sensing[cell.name]
        for condition in ("all", f"without:{cell.name}"):
            found = drawn_detection(
                rng,
                cell=cell.name,
                node=cell.node,
                condition=condition,
                lam=true.noncentrality[cell.name].value if condition == "all" else 0.0,
                rank=true.rank[cell.name],
                num_observations=response.num_observations,
                num_nuisance=NUM_NUISANCE,
                num_frames=num_frames,
                noise_var=true.noise_var[cell.node].value,
            )
            run.add_detection(step, found)
    links = {}
    for user in experiment.users:
        sinr = comm_sinr(true.communication[user.name], power, true.noise_var[user.name], true.node_names).value
        links[user.name] = _store_link(rng, experiment, run, step, user, sinr)
    noise_var = {
        name: Estimate(value=e.value, stderr=e.value / 500, count=250_000) for name, e in true.noise_var.items()
    }
    return Measurement(
        origin="measured",
        node_names=true.node_names,
        power=true.power,
        noise_var=noise_var,
        residual_noise_var=noise_var,
        noncentrality=true.noncentrality,
        rank=true.rank,
        num_nuisance=dict.fromkeys(true.rank, NUM_NUISANCE),
        sensing={name: scattered(response) for name, response in true.sensing.items()},
        communication={name: scattered(response) for name, response in true.communication.items()},
        links=links,
    )


def _store_link(
    rng: np.random.Generator, experiment: CompExperiment, run: CompRun, step: Step, user: Any, sinr: float
) -> LinkMeasurement:
    points = constellation(experiment.waveform.modulation)
    sent = rng.integers(0, points.size, 500)
    noise = (rng.normal(size=500) + 1j * rng.normal(size=500)) * np.sqrt(0.5 / sinr)
    error_power = rng.gamma(300, size=experiment.capture.num_frames) / 300 / sinr
    link: Any = SimpleNamespace(
        user=user.name,
        serving=user.node,
        error_power=error_power,
        symbols=(points[sent] + noise).astype(np.complex64),
        symbol_index=sent,
    )
    run.add_link(step, link)
    found = 1 / float(np.mean(error_power))

    def about(value: float) -> Estimate:
        return Estimate(value=value, stderr=value * 0.003, count=error_power.size)

    return LinkMeasurement(
        pilot_sinr=about(0.99 * found),
        data_sinr=about(found),
        decision_sinr=about(1.2 * found),
        symbol_error_rate=Estimate(value=0.0, stderr=0.0, count=124_800),
        bit_error_rate=Estimate(value=0.0, stderr=0.0, count=249_600),
    )
