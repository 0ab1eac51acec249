"""Truth as a file: the exact noncentrality, delays, gains and noise of an experiment in a scene.

Written in the type of a measurement, with zero standard error. It takes the experiment's model (waveform, powers,
observations, and which paths the detector lists) and the scene's nature: columns come from the true paths. With the
detector it shares the definition of a delay (`waveform.shift`) and the extraction of observations
(`waveform.observations`); tests/unit/test_truth.py guards both by a computation that uses neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.propagation import ScenePath
from sim.scene import Scene
from sim.truth_paths import HeardPaths, heard_paths, path_measurements, path_truth
from testbed.errors import ConfigError
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.config import Experiment
from testbed.experiment.load import load_experiment
from testbed.measurement import Estimate, Measurement, MeasurementFile, PowerResponse, save_measurements
from testbed.radio.gains import realise
from testbed.units import thermal_noise_dbm, undb
from testbed.waveform.observations import ResourceElements

MAX_POWER_MW = 1e8  # 80 dBm, as far as an experiment's own powers go


def truth(
    scene: Scene,
    experiment: CompExperiment,
    rx_gain_db: Mapping[str, float],
    powers: Sequence[Sequence[float]] | None = None,
) -> MeasurementFile:
    """Truth at every power of the experiment's axis, or at the power vectors given.

    Args:
        scene: the world.
        experiment: the instrument.
        rx_gain_db: realised receive gain of a node or user, instead of what the experiment fixes for it; the
            converter's step adds LSB^2/6 to the noise.
        powers: per point a power for every node, in node order: in milliwatt, as wanted; 0 silences a node. What the
            radios make of them is what counts. None takes the experiment's axis.

    Raises:
        ConfigError: the experiment names what the scene does not have, a target moves, a gain is missing, foreign or
            not one of the scene's radios, or powers are not one per node.
    """
    _check_scene(scene, experiment)
    gains = _gains(scene, experiment, rx_gain_db)
    points = tuple(_point(scene, experiment, power, gains) for power in _powers(experiment, powers))
    return MeasurementFile(experiment_sha256=experiment.sha256, points=points)


def write_truth(
    path: Path,
    scene: Scene,
    experiment: str,
    rx_gain_db: Mapping[str, float],
    powers: Sequence[Sequence[float]] | None = None,
) -> None:
    """Write the truth of an experiment file or preset; the other arguments, and errors, are those of `truth`."""
    model = load_experiment(experiment)
    if not isinstance(model, CompExperiment):
        raise ConfigError(f"{experiment}: only a CoMP experiment has a noncentrality; use --paths-only")
    save_measurements(path, truth(scene, model, rx_gain_db, powers))


def truth_of_paths(scene: Scene, experiment: Experiment, rx_gain_db: Mapping[str, float]) -> MeasurementFile:
    """Paths and noise only, at one point without powers; transmitters may be noisy.

    Where gains fade, the mean powers of paths are told, and no phases; receivers may have several channels then.

    Args:
        scene: the world.
        experiment: the instrument, of any kind.
        rx_gain_db: as for `truth`.

    Raises:
        ConfigError: as of `truth`.
    """
    fades = scene.fading is not None
    _check_radios(scene, experiment, may_be_deaf=fades)
    _check_static(scene, may_be_noisy=True, may_fade=fades)
    waveform, gains = experiment.waveform, _gains(scene, experiment, rx_gain_db)
    noise_var = _noise_variances(scene, waveform.numerology.sample_rate_hz, gains)
    references = {name: name for name in experiment.node_names if _receives(scene, name)}
    # a receiver that serves nobody counts time from the first node's frame
    references |= {row.name: getattr(row, "node", experiment.node_names[0]) for row in experiment.listeners}
    point = path_truth(scene, waveform, experiment.node_names, references, noise_var, with_phases=not fades)
    return MeasurementFile(experiment_sha256=experiment.sha256, points=(point,))


def write_path_truth(path: Path, scene: Scene, experiment: str, rx_gain_db: Mapping[str, float]) -> None:
    """Write what `truth_of_paths` tells of an experiment file or preset."""
    save_measurements(path, truth_of_paths(scene, load_experiment(experiment), rx_gain_db))


def effective_noise_var(scene: Scene, node_idx: int, sample_rate_hz: float, rx_gain_db: float) -> float:
    """Thermal noise plus the quantiser's LSB^2/6, in milliwatt (SIGNAL_CHAIN section 2)."""
    limits = scene.limits(node_idx)
    lsb = limits.rx_amplitude(rx_gain_db) / limits.rx_full_scale
    return undb(thermal_noise_dbm(sample_rate_hz, scene.nodes[node_idx].noise_figure_db)) + lsb**2 / 6


def _noise_variances(scene: Scene, sample_rate_hz: float, rx_gain_db: Mapping[str, float]) -> dict[str, Estimate]:
    """Effective noise of every receiver while nobody transmits, at its realised gain."""
    return {
        name: Estimate.exact(effective_noise_var(scene, scene.node_names.index(name), sample_rate_hz, gain_db))
        for name, gain_db in rx_gain_db.items()
    }


@dataclass(frozen=True)
class _Sent:
    """What the experiment's nodes send, in node order."""

    on_air: NDArray[np.complex128]  # shape (num_nodes, frame_len), in sqrt(milliwatt)
    power: NDArray[np.float64]  # mean, shape (num_nodes,)
    unit: NDArray[np.complex128]  # the same at power 1; of a silent node what its converter would be given

    @property
    def active(self) -> NDArray[np.bool_]:
        """Nodes that transmit, shape (num_nodes,)."""
        return self.power > 0


def _point(
    scene: Scene, experiment: CompExperiment, wanted_power: NDArray[np.float64], rx_gain_db: Mapping[str, float]
) -> Measurement:
    sent = _sent(scene, experiment, wanted_power)
    waveform, names = experiment.waveform, experiment.node_names
    noise_var = _noise_variances(scene, waveform.numerology.sample_rate_hz, rx_gain_db)
    noncentrality, rank, sensing, communication, paths = {}, {}, {}, {}, []
    for name in names:
        heard = heard_paths(scene, waveform, names, name, name)
        paths += path_measurements(scene, heard)
        for cell in experiment.cells:
            if cell.node == name:
                lam, rank[cell.name] = _noncentrality(sent, heard, experiment, cell.name, noise_var[name].value)
                noncentrality[cell.name] = Estimate.exact(lam)
                sensing[cell.name] = _sensing(sent, heard, experiment, cell.name, name)
    for user in experiment.users:
        heard = heard_paths(scene, waveform, names, user.name, user.node)
        paths += path_measurements(scene, heard)
        communication[user.name] = _communication(sent, heard, experiment, user.name, user.node)
    return Measurement(
        origin="truth",
        node_names=names,
        power=tuple(float(p) for p in sent.power),
        noise_var=noise_var,
        noncentrality=noncentrality,
        rank=rank,
        paths=tuple(paths),
        sensing=sensing,
        communication=communication,
    )


def _sent(scene: Scene, experiment: CompExperiment, wanted_power: NDArray[np.float64]) -> _Sent:
    limits = [scene.limits(scene.node_names.index(name)) for name in experiment.node_names]
    wanted = experiment.waveform.frame(wanted_power).samples
    on_air = np.stack([realise(samples, radio)[2] for samples, radio in zip(wanted, limits, strict=True)])
    power = np.mean(np.abs(on_air) ** 2, axis=1)
    unit = experiment.waveform.frame(np.ones(len(limits))).samples.copy()
    unit[power > 0] = on_air[power > 0] / np.sqrt(power[power > 0])[:, None]
    return _Sent(on_air, power, unit)


def _noncentrality(
    sent: _Sent, heard: HeardPaths, experiment: CompExperiment, cell: str, noise_var: float
) -> tuple[float, int]:
    """Lam = 2 ||(I - P_D) X h||^2 / sigma2 and the rank of (I - P_D) X, from true columns and gains.

    D has the columns of the listed paths only: an echo that the experiment does not list costs the detector nothing of
    lam, it disturbs it. Silent nodes have no columns.
    """
    observed = experiment.detection.observations.extract(heard.columns(sent.on_air), experiment.waveform.numerology).T
    under_test, nuisance = _roles(heard, experiment, cell)
    heard_at_all = sent.active[heard.tx]
    X, D = observed[:, under_test & heard_at_all], observed[:, nuisance & heard_at_all]
    if X.shape[1] == 0:
        return 0.0, 0
    visible = _visible(X, D)
    lam = 2 * float(np.sum(np.abs(visible @ heard.gain[under_test & heard_at_all]) ** 2)) / noise_var
    return lam, int(np.linalg.matrix_rank(visible / np.linalg.norm(X, axis=0), tol=1e-3))


def _sensing(sent: _Sent, heard: HeardPaths, experiment: CompExperiment, cell: str, node: str) -> PowerResponse:
    """gram_lm = Re(conj(h_l) h_m (X1^H (I - P_D) X1)_lm) / N, so that lam(P) = 2 N / sigma2 s^T gram s, s = sqrt(P).

    X1 has the columns of unit drive, D those of the listed paths from the nodes that transmit. What concerns a silent
    node is told as if all transmitted: it would bring its self and direct paths along.
    """
    observations, numerology = experiment.detection.observations, experiment.waveform.numerology
    observed = observations.extract(heard.columns(sent.unit), numerology).T
    under_test, nuisance = _roles(heard, experiment, cell)

    def gram(D: NDArray[np.complex128]) -> NDArray[np.float64]:
        visible = _visible(observed[:, under_test], D)
        return _gram(visible, heard.gain[under_test], heard.tx[under_test], sent.power.size)

    told = gram(observed[:, nuisance])
    active = sent.active
    if active.any() and not active.all():
        both = np.ix_(active, active)
        told[both] = gram(observed[:, nuisance & active[heard.tx]])[both]
    return _power_response(told, experiment, node, None, observations.num_observations(numerology))


def _communication(
    sent: _Sent, heard: HeardPaths, experiment: CompExperiment, user: str, serving: str
) -> PowerResponse:
    """gram_lm = mean over the data elements of Re(conj(y_l) y_m), y_l all that comes from node l at unit drive.

    SINR = P_o gram_oo / (s^T gram s + sigma2), o the serving node and s = sqrt(P) of the others.
    """
    numerology = experiment.waveform.numerology
    elements = ResourceElements(symbols=experiment.waveform.data_symbol_idx)
    observed = elements.extract(heard.columns(sent.unit), numerology).T
    gram = _gram(observed, heard.gain, heard.tx, sent.power.size)
    return _power_response(gram, experiment, user, serving, elements.num_observations(numerology))


def _gram(
    columns: NDArray[np.complex128], gain: NDArray[np.complex128], tx: NDArray[np.int64], num_tx: int
) -> NDArray[np.float64]:
    """Real part of the mean product of what comes from each two transmitters, shape (num_tx, num_tx).

    Columns (num_observations, num_paths) with their gains and transmitters; a transmitter's paths add up.
    """
    received = np.stack([columns[:, tx == l] @ gain[tx == l] for l in range(num_tx)], axis=1)
    gram = (received.conj().T @ received).real / columns.shape[0]
    symmetric: NDArray[np.float64] = (gram + gram.T) / 2  # of rounding
    return symmetric


def _power_response(
    gram: NDArray[np.float64], experiment: CompExperiment, node: str, serving: str | None, num_observations: int
) -> PowerResponse:
    gains = zip(experiment.node_names, np.diag(gram), strict=True)
    return PowerResponse(
        node=node,
        serving=serving,
        num_observations=num_observations,
        gain={name: Estimate.exact(float(gain)) for name, gain in gains},
        gram=tuple(tuple(float(value) for value in row) for row in gram),
    )


def _visible(X: NDArray[np.complex128], D: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """(I - P_D) X."""
    D = D / np.linalg.norm(D, axis=0)
    left: NDArray[np.complex128] = X - D @ np.linalg.lstsq(D, X, rcond=1e-12)[0]
    return left


def _roles(heard: HeardPaths, experiment: CompExperiment, cell: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which paths are the echoes of a cell, and for which others the experiment's detector has a column."""
    under_test = np.array([path.via == cell and path.kind == "echo" for path in heard.paths])
    listed = np.array([_listed(path, experiment) for path in heard.paths])
    return under_test, listed & ~under_test


def _listed(path: ScenePath, experiment: CompExperiment) -> bool:
    """Whether the experiment's detector has a column for a path."""
    if path.kind == "echo":
        return path.via in {cell.name for cell in experiment.cells}
    if path.kind == "clutter":
        return path.via in {reflector.name for reflector in experiment.reflectors}
    return True


def _powers(experiment: CompExperiment, powers: Sequence[Sequence[float]] | None) -> list[NDArray[np.float64]]:
    """Wanted power of every node, point by point."""
    names = experiment.node_names
    if powers is None:
        if not experiment.axis_dbm:
            raise ConfigError("power.axis_dbm: the experiment has none; give the powers, e.g. --power-mw 0.3,0.3,0.3")
        return [np.full(len(names), undb(power_dbm)) for power_dbm in experiment.axis_dbm]
    for i, vector in enumerate(powers):
        if len(vector) != len(names):
            raise ConfigError(
                f"powers[{i}]: found {len(vector)} numbers; must be {len(names)}, in milliwatt, one for each of "
                f"{', '.join(names)}"
            )
        for name, power in zip(names, vector, strict=True):
            if not 0 <= power <= MAX_POWER_MW:  # a NaN is refused here as well
                raise ConfigError(f"powers[{i}]: {power:g} mW of {name}; must be 0 (silent) to {MAX_POWER_MW:g} mW")
    return [np.array(vector, dtype=np.float64) for vector in powers]


def _gains(scene: Scene, experiment: Experiment, given: Mapping[str, float]) -> dict[str, float]:
    """Receive gain of every node and user: as given, else as the experiment fixes it."""
    names = [row.name for row in experiment.receivers]
    foreign = sorted(set(given) - set(names))
    if foreign:
        raise ConfigError(
            f"rx_gain_db: {', '.join(foreign)} is no receiver of the experiment; receivers are {', '.join(names)}"
        )
    gains, missing = {}, []
    for name in names:
        wanted = given.get(name, experiment.rx_gain_db(name))
        if wanted == "auto":
            missing.append(name)
        else:
            gains[name] = float(wanted)
    if missing:
        raise ConfigError(f"rx_gain_db: the experiment says auto; give the realised gain of {', '.join(missing)}")
    hardware = scene.hardware
    low, high = hardware.rx_gain_min_db, hardware.rx_gain_max_db
    for name, gain_db in gains.items():
        if not low <= gain_db <= high:  # a NaN is refused here as well
            raise ConfigError(
                f"rx_gain_db: {gain_db:g} dB of {name} is outside {low:g}..{high:g} dB of {hardware.model}; "
                f"give the gain as realised"
            )
    return gains


def _check_scene(scene: Scene, experiment: CompExperiment) -> None:
    """One noncentrality for all frames needs a static scene that has what the experiment names."""
    _check_radios(scene, experiment)
    targets = [target.name for target in scene.targets]
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
    _check_static(scene)


def _receives(scene: Scene, name: str) -> bool:
    return scene.nodes[scene.node_names.index(name)].num_rx > 0


def _check_radios(scene: Scene, experiment: Experiment, *, may_be_deaf: bool = False) -> None:
    """The scene has the experiment's nodes and listeners, and they can do what they shall."""
    listeners = tuple(row.name for row in experiment.listeners)
    tables = {"nodes": experiment.node_names, experiment.receiving_table: listeners}
    for table, names in tables.items():
        for i, name in enumerate(names):
            if name not in scene.node_names:
                raise ConfigError(
                    f"{table}[{i}].name: '{name}' is no node of the scene; it has {', '.join(scene.node_names)}"
                )
            real = scene.nodes[scene.node_names.index(name)]
            must_receive = table != "nodes" or not may_be_deaf
            if (real.num_rx == 0 and must_receive) or (table == "nodes" and real.num_tx == 0):
                raise ConfigError(
                    f"{table}[{i}].name: '{name}' has num_tx = {real.num_tx} and num_rx = {real.num_rx} in the "
                    f"scene; {'nodes must transmit and receive' if table == 'nodes' else 'users must receive'}"
                )


def _check_static(scene: Scene, *, may_be_noisy: bool = False, may_fade: bool = False) -> None:
    """The truth file tells of one channel per pair of nodes, that stays as it is, between radios on one clock."""
    for i, target in enumerate(scene.targets):
        if target.velocity_mps is not None and any(target.velocity_mps):
            raise ConfigError(
                f"targets[{i}].velocity_mps: {target.name} moves; the truth file is for static scenes, set it to zero"
            )
    reason = "which the truth file cannot tell of"
    if scene.fading is not None and not may_fade:
        raise ConfigError(f"fading: gains change from block to block, {reason}; remove the table")
    for i, target in enumerate(scene.targets):
        if target.num_scatterers > 1:
            raise ConfigError(f"targets[{i}].num_scatterers: {target.name} is extended, {reason}; set it to 1")
    for i, node in enumerate(scene.nodes):
        impairments = node.impairments
        if node.num_tx == 0:  # a user's own clock changes none of its gains, once it is corrected for
            impairments = impairments.model_copy(update={"clock_ppm": 0.0, "cfo_hz": 0.0})
        fades = node.path_loss is not None and node.path_loss.rician_k_db is not None
        found = {
            "num_rx": node.num_rx > 1 and not may_fade,
            "self_taps": bool(node.self_taps),
            "tx_noise_dbc": node.tx_noise_dbc is not None and not may_be_noisy,
            "path_loss.rician_k_db": fades and not may_fade,
            "impairments": not impairments.is_off,
        }
        for key, is_so in found.items():
            if is_so:
                instead = "take --paths-only" if key == "tx_noise_dbc" else "do without truth"
                raise ConfigError(f"nodes[{i}].{key}: {node.name} has it, {reason}; remove it, or {instead}")
