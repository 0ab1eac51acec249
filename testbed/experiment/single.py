"""One capture without a run."""

import tempfile
from pathlib import Path
from typing import Any

from testbed.allocation.base import Allocation
from testbed.capture import Capture
from testbed.experiment.acquire import acquire, transmit
from testbed.experiment.conditions import Ask
from testbed.experiment.config import Experiment
from testbed.experiment.session import capture_noise, open_session


def capture_once(
    experiment: Experiment, path: Path, condition: str, allocation: Allocation, ask: Ask, info: dict[str, Any]
) -> Capture:
    """One capture of all nodes at one power vector under one condition, with the noise variance of a muted capture.

    `condition` is one of the experiment's, 'empty' or 'muted'; `info` is further plain data for the file.
    """
    length = experiment.samples_per_capture
    wanted = experiment.waveform.frame(allocation.pilot_power, allocation.data_power)
    sends = () if condition == "muted" else (wanted,)
    with tempfile.TemporaryDirectory(prefix="isac-") as folder:
        workspace = Path(folder)
        with open_session(experiment, workspace / "emulator.log", ask, sends=sends) as session:
            listening = [radio for radio in session.radios if radio.limits.num_rx > 0]
            if condition == "muted":
                return acquire(path, listening, experiment, session.quiet, condition, length, {}, session.info)
            noise_var, _ = capture_noise(session, experiment, workspace / "muted.h5")
            transmission = transmit(session.radios, wanted, experiment, session.rx_gain_db)
            session.conditions.set(condition)
            about = {**info, **session.info}
            return acquire(path, listening, experiment, transmission, condition, length, noise_var, about)
