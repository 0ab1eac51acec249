"""A stored capture through the acquisition once more, with replays as its radios."""

import contextlib
from pathlib import Path

import numpy as np

from testbed.capture import Capture, load
from testbed.errors import CaptureError
from testbed.experiment.acquire import Transmission, acquire, setup_document
from testbed.experiment.config import Experiment
from testbed.experiment.load import validate_experiment
from testbed.radio.base import Radio
from testbed.radio.gains import quantise
from testbed.radio.replay import ReplayRadio


def replay_capture(path: Path, out: Path, experiment: Experiment | None = None) -> tuple[Capture, Capture]:
    """Acquire a capture again from replays of its nodes; returns it and what came of it.

    Radios are set and send as then. With an `experiment` instead of the capture's own they send its frame, at the
    powers of the capture. Noise variances are those of its run.

    Raises:
        RadioError: the experiment's frame is another one.
        CaptureError: no capture, or the experiment has other transmitters.
        SampleLoss: samples are missing in it, or a transmitter fell silent, and the experiment does not take that.
    """
    stored = load(path)
    wanted = experiment or validate_experiment(stored.experiment, f"{path}: its experiment")
    if wanted.node_names != stored.tx_names:
        raise CaptureError(
            f"{path}: transmitters are {', '.join(stored.tx_names)}; the experiment has {', '.join(wanted.node_names)}"
        )
    lengths = {node.num_samples for node in stored.nodes}
    if len(lengths) != 1:
        raise CaptureError(f"{path}: its nodes hold different numbers of samples; it cannot be acquired at once")
    frame = stored.frame
    if frame is not None and experiment is not None:
        frame = experiment.waveform.frame(frame.pilot_power, frame.data_power)
    with contextlib.ExitStack() as stack:
        radios: list[Radio] = [stack.enter_context(contextlib.closing(ReplayRadio(path, n.name))) for n in stored.nodes]
        settings = {}
        for node, radio in zip(stored.nodes, radios, strict=True):
            settings[node.name] = radio.configure(node.settings)
            if frame is None or node.name not in stored.tx_names:
                continue
            # on the converter's grid, as it was sent; what was realised once is realised the same again
            row = frame.samples[stored.tx_names.index(node.name)]
            codes = row / node.limits.tx_amplitude(node.settings.tx_gain_db)
            if row.any():
                radio.transmit(quantise(codes, node.limits.tx_bits).astype(np.complex64)[None])
        noise_var = {node.name: node.noise_var for node in stored.nodes if node.noise_var is not None}
        further = {key: value for key, value in stored.setup.items() if key not in setup_document(wanted)}
        transmission = Transmission(stored.frame, settings, tuple(radios))
        count, condition = lengths.pop(), stored.condition
        again = acquire(out, radios, wanted, transmission, condition, count, noise_var, stored.info, further)
    return stored, again
