"""What the receive gains of a session are planned with."""

from dataclasses import replace

import numpy as np
import pytest

from sim.scene import load_scene
from testbed.device import TX_BACKOFF_DB
from testbed.experiment.load import load_experiment
from testbed.experiment.session import loudest
from testbed.radio.gains import realise
from testbed.units import undb

LIMITS = load_scene("comp").limits(0)


@pytest.mark.parametrize("preset", ["comp", "localization", "uplink", "cooperative"])
def test_the_loudest_frame_is_the_highest_power_of_the_experiment_or_of_the_radios(preset: str) -> None:
    experiment = load_experiment(preset)
    if preset == "localization":
        experiment = experiment.shortened(16)  # type: ignore[attr-defined]
    strong = dict.fromkeys(experiment.node_names, replace(LIMITS, tx_full_scale_dbm=60.0))
    asked = np.full(len(experiment.nodes), undb(experiment.highest_power_dbm))
    np.testing.assert_array_equal(loudest(strong, experiment).samples, experiment.waveform.frame(asked).samples)

    weak = dict.fromkeys(experiment.node_names, replace(LIMITS, tx_full_scale_dbm=-40.0))
    for row in loudest(weak, experiment).samples:
        plan, sent, _ = realise(row, next(iter(weak.values())))
        assert plan.tx_gain_db == LIMITS.tx_gain_max_db
        # as loud as it can be, to the converter's grid
        peak = max(np.abs(sent.real).max(), np.abs(sent.imag).max())
        assert peak == pytest.approx(10 ** (-TX_BACKOFF_DB / 20), abs=1 / 2048)
