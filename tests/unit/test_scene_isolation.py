"""Another isolation than the scene's: of all nodes that have leakage, and of nothing else."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from sim import __main__ as command_line
from sim.propagation import scene_paths
from sim.scene import Scene, load_scene, with_self_isolation
from testbed import interrupts
from testbed.errors import ConfigError
from testbed.experiment import children
from testbed.units import db
from tests.emulator import remote_radio, tone


def test_nodes_that_transmit_and_receive_have_the_isolation_asked_for_and_users_their_own() -> None:
    scene = load_scene("localization")

    changed = with_self_isolation(scene, 55.0)

    assert [node.self_isolation_db for node in changed.nodes] == [55.0] * 3 + [60.0] * 3
    assert [node.self_isolation_db for node in scene.nodes] == [65.0] * 3 + [60.0] * 3
    back = with_self_isolation(changed, 65.0)
    assert back == scene
    before, after = (scene_paths(one, 0, 3.5e9, 20e6) for one in (scene, changed))
    for old, new in zip(before, after, strict=True):
        ratio_db = db(abs(new.gain) ** 2 / abs(old.gain) ** 2)
        assert ratio_db == pytest.approx(10.0 if new.kind == "self" else 0.0, abs=1e-9)
        assert new.delay_samples == old.delay_samples


@pytest.mark.parametrize("isolation_db", [-0.1, 300.5, math.nan, math.inf, -math.inf])
def test_an_isolation_out_of_range_is_refused_in_one_line(isolation_db: float) -> None:
    with pytest.raises(ConfigError, match=r"^--self-isolation-db (-0.1|300.5|nan|inf|-inf): must be 0 to 300 dB$"):
        with_self_isolation(load_scene("comp"), isolation_db)


def test_a_scene_without_leakage_has_no_isolation_to_change() -> None:
    scene = load_scene("solo")
    nodes = [node.model_copy(update={"num_tx": 0}) for node in scene.nodes]

    with pytest.raises(ConfigError, match="no node of the scene transmits and receives"):
        with_self_isolation(Scene.model_validate(scene.model_copy(update={"nodes": tuple(nodes)}).model_dump()), 50.0)


@pytest.mark.parametrize("verb", ["emulate", "pluto"])
def test_the_command_line_refuses_an_isolation_out_of_range_in_one_line(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["isac-sim", verb, "comp", "--self-isolation-db=-3"])
    monkeypatch.setattr(interrupts, "install", lambda: None)  # signals are the test runner's

    with pytest.raises(SystemExit) as end:
        command_line.main()

    assert end.value.code != 0
    assert capsys.readouterr().err.strip() == "error: --self-isolation-db -3: must be 0 to 300 dB"


@pytest.mark.emulated
def test_the_emulator_is_started_with_the_isolation_asked_for(tmp_path: Path) -> None:
    power = {}
    for isolation_db in (40.0, 60.0):
        with (
            children.emulator("solo", None, tmp_path / "log", self_isolation_db=isolation_db) as endpoint,
            remote_radio(endpoint, "radio1") as radio,
        ):
            radio.transmit(tone(amplitude=0.05))
            raw = radio.receive(64_000).raw.astype(np.float64)
            power[isolation_db] = float(np.mean(raw**2))
    # -21 dBm sent: 37 dB above the noise at 60 dB; echoes are 20 dB below the leakage and more
    assert db(power[40.0] / power[60.0]) == pytest.approx(20.0, abs=1.0)
