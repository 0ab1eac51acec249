"""CoMP on virtual USRPs: on air as far as their driver can tell, so with consent, bands and an operator."""

import re
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from sim.stream import LATENCY_SAMPLES
from testbed.capture import load
from testbed.device import Settings
from testbed.errors import ConfigError, SafetyRefused
from testbed.experiment.calibrate import Wish, calibrate, identity
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.run import run
from testbed.experiment.load import load_experiment
from testbed.radio.devices.config import load_device
from tests.airs import usrp, usrp_air
from tests.scenes import comp_text
from tests.uhd_stand_in.air import Air

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

PAIRS = (("bs1", "u1"), ("bs2", "u2"), ("bs3", "u3"))
FRAMES = 600
BAND = {"name": "lab", "low_hz": 3.48e9, "high_hz": 3.52e9, "max_power_dbm": 0.0, "basis": "cabled, 60 dB attenuators"}


def comp_on(air: Air, path: Path, *, transmit: bool = True) -> CompExperiment:
    """The preset's axis at one power: a base station and its user on every board."""
    data = comp_text() | {"power": {"axis_dbm": [-6.0]}, "safety": {"transmit": transmit, "bands": [BAND]}}
    data["capture"]["num_frames"] = FRAMES
    data["detection"]["statistic"] = "cfar"
    del data["loop"], data["emulator"]
    for row in data["nodes"] + data["users"]:
        board = air.board(row["name"])
        row |= {"radio": f"uhd:serial={board.address['serial']}", "device": "b210"}
        row["channel"] = board.nodes.index(row["name"])
        row["rx_gain_db"] = "auto"  # by steps of a converter of 12 bits, of which the words here hold 16 each
    path.write_text(tomli_w.dumps(data))
    model = load_experiment(str(path))
    assert isinstance(model, CompExperiment)
    return model


def test_comp_on_usrps_agrees_with_theory_and_nothing_is_guessed(tmp_path: Path) -> None:
    with usrp_air(*PAIRS) as air:
        asked: list[str] = []

        def ask(question: str) -> bool:
            """The operator moves the targets."""
            found = re.match(r"condition '([^']+)'", question)
            assert found
            asked.append(found[1])
            air.world.set_condition(found[1])
            return True

        results = run(CompRun.create(tmp_path / "run", comp_on(air, tmp_path / "x.toml"), overwrite=False),
                      lambda progress: None, ask)  # fmt: skip
        assert results.axis is not None
        # device time passes with the wall clock, and noise with it: every run draws its own. Four tests, each of which
        # fails by chance with probability 1e-4
        assert min(results.axis.verdict.p_values.values()) > 1e-4, results.axis.verdict
        assert {"all", "without:t1", "without:t2", "without:t3"} <= set(asked)
        assert not any(air.transmitting().values())
    captures = sorted((tmp_path / "run" / "captures").glob("*.h5"))
    assert captures
    for path in captures:
        capture = load(path)
        assert not capture.simulated
        for node in capture.nodes:
            # told by the device, never guessed from frames
            assert set(node.chunks["continuity"].tolist()) == {b"reported"}
            assert node.limits.model.startswith("USRP")
    muted = load(captures[0].with_name("muted.h5"))
    assert muted.info["devices"]["bs1"]["name"] == "b210"
    for node in muted.nodes:
        assert node.limits.rx_lsb == 16
        rms = np.sqrt(np.mean(node.raw.astype(float) ** 2)) / 16
        assert 0.9 <= rms <= 2.3, (node.name, rms)


def test_without_consent_no_usrp_transmits(tmp_path: Path) -> None:
    with usrp_air(*PAIRS) as air:
        model = comp_on(air, tmp_path / "x.toml", transmit=False)
        with pytest.raises(SafetyRefused, match="bs1: would transmit on air, and nobody agreed to that"):
            run(CompRun.create(tmp_path / "run", model, overwrite=False), lambda progress: None, lambda question: True)
        assert not any(air.transmitting().values())


def test_a_usrp_is_calibrated_and_its_latency_repeats() -> None:
    device, wish = load_device("b200"), Wish(carrier_hz=3.5e9, sample_rate_hz=20e6, power_dbm=-5.0)
    with usrp_air() as air:
        radio = usrp(air, "bs2")
        try:
            made = calibrate(radio, device, identity(radio), wish)
        finally:
            radio.close()
    assert made.latency_repeats
    latency = next(node.start_offset_samples for node in air.scene.nodes if node.name == "bs2") + LATENCY_SAMPLES
    assert made.latency_samples.value == pytest.approx(latency, abs=0.01)
    assert made.isolation_db.value == pytest.approx(60.0, abs=0.2)
    assert made.noise_figure_db.value == pytest.approx(8.0, abs=0.1)
    assert made.tx_slope.value == pytest.approx(1.0, abs=0.002)
    assert made.serial == air.board("bs2").address["serial"]
    assert made.firmware.startswith("4.3")
    settings = Settings(3.5e9, 20e6, 0.0, 0.0)
    made.check(device, settings, radio.limits, made.serial)
    with pytest.raises(ConfigError, match="it is of the board with serial"):
        made.check(device, settings, radio.limits, air.board("bs3").address["serial"])
