"""An open network: radios, the world's conditions, receive gains, and the noise of a muted capture."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from testbed.capture import Capture
from testbed.device import Limits, Settings
from testbed.errors import ConfigError
from testbed.experiment import children
from testbed.experiment.acquire import Transmission, acquire, mute, open_radios, plan_receivers
from testbed.experiment.conditions import Ask, Conditions, OperatorConditions, SimulatedConditions
from testbed.experiment.config import Experiment
from testbed.experiment.devices import node_devices
from testbed.experiment.procedure import procedure
from testbed.measurement import Estimate, noise_estimate
from testbed.radio.base import Conditioned, Radio
from testbed.radio.gains import MIN_NOISE_LSB, realise
from testbed.radio.resources import conditions_endpoint
from testbed.radio.safety import GuardedRadio
from testbed.units import undb
from testbed.waveform.frame import Frame

# Frames of other data have other peaks, and an experiment may draw its data anew for every capture. What lies between
# is judged when it is to be transmitted.
OTHER_PEAKS_DB = 1.0


@dataclass(frozen=True)
class Session:
    """Radios that are open, set and silent."""

    radios: list[Radio]  # nodes, then users
    conditions: Conditions
    quiet: Transmission  # settings while nothing is transmitted
    info: dict[str, Any]  # of the world, for every capture

    @property
    def rx_gain_db(self) -> dict[str, float]:
        """Receive gain per node, as realised."""
        return {name: settings.rx_gain_db for name, settings in self.quiet.settings.items()}


@contextlib.contextmanager
def open_session(
    experiment: Experiment,
    log: Path,
    ask: Ask,
    rx_gain_db: dict[str, float] | None = None,
    sends: Sequence[Frame] | None = None,
) -> Iterator[Session]:
    """Start the emulator if there is one, open the radios, plan their gains for the highest power, and stay silent.

    Args:
        experiment: resolved.
        log: of the emulator.
        ask: the operator.
        rx_gain_db: receive gains of a run that is continued; they are not planned again.
        sends: what will be transmitted; None for a run, which sends equal powers.

    Raises:
        ConfigError: the link budget of a radio forbids the experiment, with every fault; or gains are to be planned of
            captures that are replayed.
        SafetyRefused: what will be transmitted is not allowed; nobody was asked to move anything yet.
        RadioError: a radio or the emulator failed.
    """
    with contextlib.ExitStack() as stack:
        endpoint = None
        if experiment.emulator is not None:
            table = experiment.emulator
            changes = table.self_isolation_db, table.direct_fading
            endpoint = stack.enter_context(children.emulator(table.scene, table.seed, log, *changes))
        radios = stack.enter_context(open_radios(experiment, endpoint))
        limits = {radio.name: radio.limits for radio in radios}
        if faults := procedure(experiment).budget(experiment, limits).faults:
            models = ", ".join(dict.fromkeys(each.model for each in limits.values()))
            raise ConfigError(f"link budget ({models}): " + "; ".join(faults))
        planned = [] if rx_gain_db is not None else [r for r in radios if experiment.rx_gain_db(r.name) == "auto"]
        _check_replays(planned)
        _check_safety(radios, experiment, sends, plans=bool(planned))
        conditions = _conditions(experiment, radios, endpoint, ask)
        stack.callback(conditions.close)
        conditions.set("all")
        gains = plan_receivers(radios, experiment, loudest(limits, experiment)) if rx_gain_db is None else rx_gain_db
        quiet = mute(radios, experiment, gains)
        info = conditions.describe()
        if devices := node_devices(experiment):
            info["devices"] = {name: known.provenance() for name, known in devices.items()}
        yield Session(radios, conditions, quiet, info)


def capture_noise(session: Session, experiment: Experiment, path: Path) -> tuple[dict[str, Estimate], tuple[str, ...]]:
    """Capture with no transmitter on; the noise variance of every node, and warnings: noise too small, samples lost."""
    listening = [radio for radio in session.radios if radio.limits.num_rx > 0]
    capture = acquire(path, listening, experiment, session.quiet, "muted", experiment.muted_samples, {}, session.info)
    noise_var = {node.name: noise_estimate(node.raw, node.lsb) for node in capture.nodes}
    notes = [note for node in capture.nodes for note in node.notes()]
    return noise_var, (*notes, *_coarse_noise(capture, noise_var))


def _conditions(experiment: Experiment, radios: list[Radio], endpoint: str | None, ask: Ask) -> Conditions:
    """Simulated radios obey the wire, wherever their server runs; real air obeys the operator."""
    simulated = [radio.limits.simulated for radio in radios]
    if not any(simulated):
        return OperatorConditions(ask)
    if not all(simulated):
        raise ConfigError("nodes: some radios are simulated and some are not; they share no air, use one kind")
    servers = [
        (server, row.keys)
        for radio, row in zip(radios, experiment.receivers, strict=True)
        if (server := conditions_endpoint(radio, endpoint or row.radio)) is not None
    ]
    replays = [radio for radio in radios if isinstance(radio, Conditioned)]
    return SimulatedConditions(list(dict.fromkeys(servers)), replays=replays)


def _check_replays(planned: Sequence[Radio]) -> None:
    """No gain can be planned where nothing is heard but what was captured."""
    if names := [radio.name for radio in planned if isinstance(radio, Conditioned)]:
        raise ConfigError(
            f"rx_gain_db 'auto' of {', '.join(names)}: a replay has only the gains that it was captured with; give "
            f"fixed rx_gain_db (`isac file info CAPTURE` shows them)"
        )


def _check_safety(radios: Sequence[Radio], experiment: Experiment, sends: Sequence[Frame] | None, plans: bool) -> None:
    """Ask every guard about what will be transmitted, before anybody moves a target and anything is captured.

    Only about what is sure to be: where gains are planned the loudest frame, for that is sounded with, else equal
    powers, a little less of them.
    """
    guarded = [(row, r) for row, r in enumerate(radios[: len(experiment.nodes)]) if isinstance(r, GuardedRadio)]
    if not guarded:
        return
    limits = {radio.name: radio.limits for radio in radios}
    frames = list(sends or ())
    if plans:
        frames.append(loudest(limits, experiment))
    elif sends is None:
        frames.append(_at_power(limits, experiment, experiment.highest_equal_power_dbm - OTHER_PEAKS_DB))
    numerology = experiment.waveform.numerology
    for frame in frames:
        for row, radio in guarded:
            plan, sent, _ = realise(frame.samples[row], radio.limits)
            settings = Settings(
                numerology.carrier_hz, numerology.sample_rate_hz, plan.tx_gain_db, radio.limits.rx_gain_min_db
            )
            if plan.scale > 0:
                radio.check(settings, sent[None])


def loudest(limits: Mapping[str, Limits], experiment: Experiment) -> Frame:
    """Every node at the highest power it may be given, as far as its radio goes."""
    return _at_power(limits, experiment, experiment.highest_power_dbm)


def _at_power(limits: Mapping[str, Limits], experiment: Experiment, power_dbm: float) -> Frame:
    """Every node at a power, as far as its radio goes."""
    unit = experiment.waveform.frame(np.ones(len(experiment.nodes)))
    mean = np.mean(np.abs(unit.samples) ** 2, axis=1)  # less than one where a node is silent in others' slots
    largest = [
        limits[name].largest_power(float(ratio))
        for name, ratio in zip(experiment.node_names, unit.peak_to_average, strict=True)
    ]
    return experiment.waveform.frame(np.minimum(undb(power_dbm), largest / mean))


def _coarse_noise(capture: Capture, noise_var: dict[str, Estimate]) -> tuple[str, ...]:
    """Nodes whose noise is too small for the converter: its rounding error is then no longer noise."""
    warnings = []
    for node in capture.nodes:
        # per rail, less the rounding's own 1/12
        rms = np.sqrt(max(noise_var[node.name].value / node.lsb**2 / 2 - 1 / 12, 0.0)) / node.limits.rx_lsb
        if rms < MIN_NOISE_LSB:
            warnings.append(
                f"{node.name}: noise is {rms:.2f} LSB rms per rail, at least {MIN_NOISE_LSB:g} wanted; raise rx_gain_db"
            )
    return tuple(warnings)
