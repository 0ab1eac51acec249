"""Truth as a file: the exact noncentrality, delays, gains and noise of an experiment in a scene.

Written in the type of a measurement, with zero standard error. It takes the experiment's model (waveform, powers,
observations, and which paths the detector lists) and the scene's nature: columns come from the true paths. With the
detector it shares the definition of a delay (`waveform.shift`) and the extraction of observations
(`waveform.observations`); tests/unit/test_truth.py guards both by a computation that uses neither.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.propagation import ScenePath, scene_paths
from sim.scene import Scene
from testbed.errors import ConfigError
from testbed.experiment.config import Experiment, load_experiment
from testbed.measurement import Estimate, Measurement, MeasurementFile, PathMeasurement, save_measurements
from testbed.radio.gains import realise
from testbed.units import thermal_noise_dbm, undb
from testbed.waveform.shift import cyclic_shift


def truth(scene: Scene, experiment: Experiment, rx_gain_db: dict[str, float]) -> MeasurementFile:
    """Truth at every power of the experiment's axis.

    Args:
        scene: the world.
        experiment: the instrument.
        rx_gain_db: realised receive gain per node; the converter's step adds LSB^2/6 to the noise.

    Raises:
        ConfigError: the experiment names nodes or cells that the scene does not have, a target moves, or a gain is not
            one of the scene's radios.
    """
    _check_scene(scene, experiment)
    _check_gains(scene, rx_gain_db)
    points = tuple(_point(scene, experiment, power_dbm, rx_gain_db) for power_dbm in experiment.power.axis_dbm)
    return MeasurementFile(experiment_sha256=experiment.sha256, points=points)


def write_truth(path: Path, scene: Scene, experiment: str, rx_gain_db: dict[str, float]) -> None:
    """Write the truth of an experiment file or preset; gains given here stand for those the experiment fixes.

    Raises:
        ConfigError: the experiment says auto and a gain is missing, or a gain is given for no node.
    """
    model = load_experiment(experiment)
    fixed = model.capture.rx_gain_db
    gains = {} if fixed == "auto" else dict.fromkeys(model.node_names, float(fixed))
    foreign = sorted(set(rx_gain_db) - set(model.node_names))
    gains |= rx_gain_db
    missing = [name for name in model.node_names if name not in gains]
    if foreign or missing:
        raise ConfigError(
            f"rx_gain_db: {', '.join(foreign)} is no node of the experiment; nodes are {', '.join(model.node_names)}"
            if foreign
            else f"rx_gain_db: the experiment says auto; give the realised gain of {', '.join(missing)}"
        )
    save_measurements(path, truth(scene, model, gains))


def effective_noise_var(scene: Scene, node_idx: int, sample_rate_hz: float, rx_gain_db: float) -> float:
    """Thermal noise plus the quantiser's LSB^2/6, in milliwatt (SIGNAL_CHAIN section 2)."""
    limits = scene.limits(node_idx)
    lsb = limits.rx_amplitude(rx_gain_db) / limits.rx_full_scale
    return undb(thermal_noise_dbm(sample_rate_hz, scene.nodes[node_idx].noise_figure_db)) + lsb**2 / 6


def _point(scene: Scene, experiment: Experiment, power_dbm: float, rx_gain_db: dict[str, float]) -> Measurement:
    names = experiment.node_names
    index = [scene.node_names.index(name) for name in names]
    wanted = experiment.waveform.frame(np.full(len(names), undb(power_dbm)))
    on_air = np.stack([realise(samples, scene.limits(i))[2] for samples, i in zip(wanted.samples, index, strict=True)])
    numerology = experiment.waveform.numerology
    noise_var = {
        name: effective_noise_var(scene, i, numerology.sample_rate_hz, rx_gain_db[name])
        for name, i in zip(names, index, strict=True)
    }
    noncentrality, rank, paths = {}, {}, []
    for name, rx in zip(names, index, strict=True):
        arriving = [
            path
            for path in scene_paths(scene, rx, numerology.carrier_hz, numerology.sample_rate_hz)
            if path.tx in index
        ]
        delays = _delays(scene, arriving, rx, wanted.frame_len)
        observed = experiment.detection.observations.extract(
            cyclic_shift(on_air[[index.index(p.tx) for p in arriving]], delays), numerology
        ).T
        listed = np.array([_listed(path, experiment) for path in arriving])
        for cell in experiment.cells:
            if cell.node == name:
                lam, r = _noncentrality(observed, arriving, listed, cell.name, noise_var[name])
                noncentrality[cell.name], rank[cell.name] = Estimate.exact(lam), r
        paths += [
            PathMeasurement(
                tx=scene.nodes[path.tx].name,
                rx=name,
                kind=path.kind,
                via=path.via,
                delay_samples=Estimate.exact(delay),
                power_gain=Estimate.exact(abs(path.gain) ** 2),
                phase_rad=Estimate.exact(float(np.angle(path.gain))),
            )
            for path, delay in zip(arriving, delays, strict=True)
        ]
    return Measurement(
        origin="truth",
        node_names=names,
        power=tuple(float(p) for p in np.mean(np.abs(on_air) ** 2, axis=1)),
        noise_var={name: Estimate.exact(value) for name, value in noise_var.items()},
        noncentrality=noncentrality,
        rank=rank,
        paths=tuple(paths),
    )


def _delays(scene: Scene, paths: Sequence[ScenePath], rx: int, frame_len: int) -> NDArray[np.float64]:
    """Delay of every path after the first whole sample of the receiver's own frame, modulo the frame."""
    own = scene.nodes[rx].start_offset_samples + scene.nodes[rx].self_delay_samples
    start = round(own)
    delays = np.array([scene.nodes[p.tx].start_offset_samples + p.delay_samples - start for p in paths])
    wrapped: NDArray[np.float64] = delays - frame_len * np.round(delays / frame_len)
    return wrapped


def _noncentrality(
    observed: NDArray[np.complex128],
    paths: Sequence[ScenePath],
    listed: NDArray[np.bool_],
    cell: str,
    noise_var: float,
) -> tuple[float, int]:
    """Lam = 2 ||(I - P_D) X h||^2 / sigma2 and the rank of (I - P_D) X, from true columns and gains.

    D has the columns of the listed paths only: an echo that the experiment does not list costs the detector nothing of
    lam, it disturbs it.
    """
    under_test = np.array([path.via == cell and path.kind == "echo" for path in paths])
    X, D = observed[:, under_test], observed[:, listed & ~under_test]
    h = np.array([path.gain for path in paths])[under_test]
    D = D / np.linalg.norm(D, axis=0)
    coefficients = np.linalg.lstsq(D, X, rcond=1e-12)[0]
    visible = X - D @ coefficients
    lam = 2 * float(np.sum(np.abs(visible @ h) ** 2)) / noise_var
    return lam, int(np.linalg.matrix_rank(visible / np.linalg.norm(X, axis=0), tol=1e-3))


def _listed(path: ScenePath, experiment: Experiment) -> bool:
    """Whether the experiment's detector has a column for a path."""
    if path.kind == "echo":
        return path.via in {cell.name for cell in experiment.cells}
    if path.kind == "clutter":
        return path.via in {reflector.name for reflector in experiment.reflectors}
    return True


def _check_gains(scene: Scene, rx_gain_db: dict[str, float]) -> None:
    hardware = scene.hardware
    low, high = hardware.rx_gain_min_db, hardware.rx_gain_max_db
    for name, gain_db in rx_gain_db.items():
        if not low <= gain_db <= high:  # a NaN is refused here as well
            raise ConfigError(
                f"rx_gain_db: {gain_db:g} dB of {name} is outside {low:g}..{high:g} dB of {hardware.model}; "
                f"give the gain as realised"
            )


def _check_scene(scene: Scene, experiment: Experiment) -> None:
    """One noncentrality for all frames needs a static scene that has what the experiment names."""
    targets = [target.name for target in scene.targets]
    for i, name in enumerate(experiment.node_names):
        if name not in scene.node_names:
            raise ConfigError(
                f"nodes[{i}].name: '{name}' is no node of the scene; it has {', '.join(scene.node_names)}"
            )
    for i, cell in enumerate(experiment.cells):
        if cell.name not in targets:
            raise ConfigError(f"cells[{i}].name: '{cell.name}' is no target of the scene; it has {', '.join(targets)}")
    clutter = [reflector.name for reflector in scene.clutter]
    for i, reflector in enumerate(experiment.reflectors):
        if reflector.name not in clutter:
            raise ConfigError(
                f"reflectors[{i}].name: '{reflector.name}' is no clutter of the scene; "
                f"it has {', '.join(clutter) or 'none'}"
            )
    for i, target in enumerate(scene.targets):
        if any(target.velocity_mps):
            raise ConfigError(
                f"targets[{i}].velocity_mps: {target.name} moves; the truth file is for static scenes, set it to zero"
            )
