"""Radios into captures: open, set, transmit, receive, store. Every exit path mutes."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from testbed.capture import CHUNK_TABLE, Capture, CaptureWriter, NodeCapture, load
from testbed.device import Settings
from testbed.errors import IsacError, RadioError
from testbed.experiment.config import Experiment
from testbed.experiment.devices import NodeDevice, check_calibration, node_devices
from testbed.experiment.reception import record
from testbed.experiment.tables import RadioTable
from testbed.measurement import Estimate
from testbed.radio.attendance import attended
from testbed.radio.base import Radio
from testbed.radio.gains import plan_receive_gain, realise
from testbed.radio.resources import Options, open_resource
from testbed.radio.safety import Guard, GuardedRadio
from testbed.waveform.frame import Frame

SOUNDING_FRAMES = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transmission:
    """What is on the air, and how every radio was set for it."""

    frame: Frame | None  # as realised; None while muted
    settings: dict[str, Settings]  # realised, per node
    radios: tuple[Radio, ...] = ()  # all of the network: who transmits need not listen


@contextlib.contextmanager
def open_radios(experiment: Experiment, emulator_endpoint: str | None) -> Iterator[list[Radio]]:
    """The experiment's radios, nodes and then users; closed, and therefore muted, on every exit.

    Raises:
        ConfigError: the keys of a radio cannot be used, or a board has no such channel.
        SafetyRefused: a radio would transmit on air, and nobody agreed to that.
        RadioUnavailable: a radio is not there, or not what its device's configuration says.
        RadioError: at the end, naming the radios that did not answer while being muted and may still transmit.
    """
    radios: list[Radio] = []
    devices = node_devices(experiment)
    guard = Guard(experiment.safety)
    try:
        for row in experiment.receivers:
            radio = _opened(row, experiment, emulator_endpoint, devices.get(row.name))
            # what is not simulated transmits with consent only, and somebody minds it
            radios.append(radio if radio.limits.simulated else GuardedRadio(radio, guard))
            if not radio.limits.simulated and radio.limits.num_tx > 0:
                guard.require_consent(radio.name)
        yield radios
    finally:
        try:
            loud = [radio.name for radio in reversed(radios) if not _closed(radio) and radio.limits.num_tx > 0]
        finally:
            guard.close()  # and what an interrupt left on the air
        if loud:
            raise RadioError(
                f"{', '.join(loud)}: did not answer while being muted and may still transmit; switch them off by hand"
            )


def _opened(row: RadioTable, experiment: Experiment, emulator_endpoint: str | None, known: NodeDevice | None) -> Radio:
    resource = emulator_endpoint if row.radio == "emulator" else row.radio
    assert resource is not None, "the experiment's own check demands an emulator table"
    hardware = experiment.hardware if known is None else known.hardware  # a board knows nothing of its powers
    options = Options(
        channel=row.channel,
        device=None if known is None else known.device,
        fir=row.fir if known is None else known.fir,
        transmits=row.name in experiment.node_names,
        timeout_s=experiment.acquisition.timeout_s,
        keys=row.keys,
        tx_full_scale_dbm=hardware.tx_full_scale_dbm,
        rx_full_scale_dbm=hardware.rx_full_scale_dbm,
        tx_steps=() if known is None else known.tx_steps,
    )
    radio = open_resource(resource, row.name, options)
    if known is not None:
        try:
            check_calibration(known, radio, experiment)
        except IsacError:
            radio.close()
            raise
    return radio


def _closed(radio: Radio) -> bool:
    try:
        radio.close()
    except RadioError as exc:
        log.debug("%s: %s", radio.name, exc)
        return False
    except Exception as exc:  # whatever it is, the others are muted
        log.error("%s: %r", radio.name, exc)
        return False
    return True


def mute(radios: Sequence[Radio], experiment: Experiment, rx_gain_db: dict[str, float]) -> Transmission:
    """Silence all nodes and set the receivers; for the muted capture."""
    for radio in radios:
        radio.mute()
    settings = {
        radio.name: radio.configure(_settings(experiment, radio.limits.tx_gain_min_db, rx_gain_db[radio.name]))
        for radio in radios
    }
    return Transmission(None, settings, tuple(radios))


def transmit(
    radios: Sequence[Radio], wanted: Frame, experiment: Experiment, rx_gain_db: dict[str, float]
) -> Transmission:
    """Put a frame on the air; returns what the hardware does, not what was asked.

    A node is muted while its gain changes, so that no old buffer is heard at a new gain. The radios after the
    transmitting ones only receive.
    """
    on_air = np.empty_like(wanted.samples)
    settings = {
        radio.name: radio.configure(_settings(experiment, radio.limits.tx_gain_min_db, rx_gain_db[radio.name]))
        for radio in radios[len(on_air) :]
    }
    for row, radio in enumerate(radios[: len(on_air)]):
        plan, sent, on_air[row] = realise(wanted.samples[row], radio.limits)
        radio.mute()
        asked = _settings(experiment, plan.tx_gain_db, rx_gain_db[radio.name])
        settings[radio.name] = radio.configure(asked)
        if settings[radio.name].tx_gain_db != asked.tx_gain_db:
            raise RadioError(
                f"{radio.name}: tx_gain_db {asked.tx_gain_db:g} came back as {settings[radio.name].tx_gain_db:g}"
            )
        if plan.scale > 0:
            radio.transmit(sent[None])
    return Transmission(Frame(on_air, wanted.pilot_power, wanted.data_power), settings, tuple(radios))


def acquire(
    path: Path,
    radios: Sequence[Radio],
    experiment: Experiment,
    transmission: Transmission,
    condition: str,
    num_samples: int,
    noise_var: dict[str, Estimate],
    info: dict[str, Any],
    setup: Mapping[str, Any] | None = None,
) -> Capture:
    """Capture `num_samples` from each of `radios` into a file and read it back: what is judged is what is stored.

    Args:
        path: of the capture file.
        radios: nodes that the file shall hold.
        experiment: resolved.
        transmission: what is on the air.
        condition: state of the world.
        num_samples: per node.
        noise_var: per node, from the run's muted capture; empty before it.
        info: further plain data for the file.
        setup: what detection and measurement need beside the experiment: who sends what, where it changes.

    Raises:
        SampleLoss: a node lost samples, or a transmitter fell silent, in every attempt that the experiment allows; the
            attempts are logged, and counted in the file.
        RadioTimeout: a node did not answer in any of them.
        RadioError: the server of a radio had muted it meanwhile.
    """
    nodes = tuple(
        NodeCapture(
            name=radio.name,
            raw=np.empty((radio.limits.num_rx, 0, 2), dtype=np.int16),
            settings=transmission.settings[radio.name],
            limits=radio.limits,
            chunks=np.empty(0, dtype=CHUNK_TABLE),
            noise_var=noise_var.get(radio.name),
        )
        for radio in radios
    )
    capture = Capture(
        condition=condition,
        tx_names=experiment.node_names,
        frame=transmission.frame,
        nodes=nodes,
        setup=setup_document(experiment) | dict(setup or {}),
        experiment=experiment.resolved(),
        simulated=any(radio.limits.simulated for radio in radios),
        info=info,
    )
    with CaptureWriter(path, capture) as writer, attended(transmission.radios):
        for radio in radios:
            frames = None
            if transmission.frame is not None and radio.name not in experiment.unsteady:
                frames = transmission.frame.samples
            record(writer, radio, num_samples, experiment.acquisition, frames, experiment.node_names)
    return load(path)


def setup_document(experiment: Experiment) -> dict[str, Any]:
    """What detection and measurement need of the experiment, as every capture keeps it."""
    return {
        "numerology": experiment.waveform.numerology.model_dump(mode="json"),
        "survey": experiment.survey.model_dump(mode="json"),
        "observations": experiment.observations.model_dump(mode="json"),
        "waveform": experiment.waveform.model_dump(mode="json"),
        "own_clocks": list(experiment.own_clocks),
    }


def plan_receivers(radios: Sequence[Radio], experiment: Experiment, loudest: Frame) -> dict[str, float]:
    """Receive gain per radio: as the experiment fixes it, or planned from sounding captures at the highest power."""
    wanted = {radio.name: experiment.rx_gain_db(radio.name) for radio in radios}
    fixed = {name: float(gain_db) for name, gain_db in wanted.items() if gain_db != "auto"}
    planned = [radio for radio in radios if radio.name not in fixed]
    if not planned:
        return fixed
    gains = {radio.name: radio.limits.rx_gain_min_db for radio in radios} | fixed
    noise = {}
    # noise in LSB shows only at a high gain, the peak only where nothing clips: two soundings
    high = {radio.name: radio.limits.rx_gain_max_db for radio in radios}
    mute(radios, experiment, high)
    for radio in planned:
        quiet = radio.receive(SOUNDING_FRAMES * experiment.waveform.frame_len).raw.astype(np.float64)
        noise[radio.name] = float(np.sqrt(np.mean(quiet**2))) / radio.limits.rx_lsb
    for _ in range(2):
        transmit(radios, loudest, experiment, gains)
        for radio in planned:
            sounding = radio.receive(SOUNDING_FRAMES * experiment.waveform.frame_len)
            peak = max(float(np.abs(sounding.raw.astype(np.int32)).max()), 1.0) / sounding.full_scale
            below_db = radio.limits.rx_gain_max_db - gains[radio.name]
            at_gain = noise[radio.name] * 10 ** (-below_db / 20)
            gains[radio.name] = plan_receive_gain(peak, at_gain, gains[radio.name], radio.limits)
    return gains


def _settings(experiment: Experiment, tx_gain_db: float, rx_gain_db: float) -> Settings:
    numerology = experiment.waveform.numerology
    return Settings(numerology.carrier_hz, numerology.sample_rate_hz, tx_gain_db, rx_gain_db)
