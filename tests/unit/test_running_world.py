"""The world whose clock runs on: the same samples as `World` gives, and streams that changes do not move."""

import numpy as np
import pytest

from sim.channel import convert
from sim.noise import absolute_index
from sim.running_clock import FreeClock
from sim.running_world import HISTORY_SAMPLES, Loop, Passage, RunningWorld, Tone, Tuning
from sim.scene import Scene, load_scene
from sim.stream import LATENCY_SAMPLES
from sim.world import World
from testbed.config import validate
from testbed.device import Settings
from testbed.errors import RadioError
from testbed.radio.gains import quantise
from tests.plutos import delay_and_gain, white_frame

SETTINGS = Settings(carrier_hz=3.5e9, sample_rate_hz=20e6, tx_gain_db=-10.0, rx_gain_db=40.0)
TX, RX = Tuning(3.5e9, 20e6, -10.0), Tuning(3.5e9, 20e6, 40.0)
FRAME = (0.2 * white_frame(1024)).astype(np.complex64)


def running(scene: Scene | str = "solo") -> RunningWorld:
    world = RunningWorld(load_scene(scene) if isinstance(scene, str) else scene, FreeClock())
    world.tune(0, TX)
    return world


def heard(world: RunningWorld, first: int, count: int, node: int = 0, absolute: int = 0, rx: Tuning = RX) -> np.ndarray:
    rails = np.empty((1, 2, count), dtype=np.float32)
    world.hear(node, rx, first, rails, absolute)
    return rails[0, 0] + 1j * rails[0, 1]


def quiet_scene(**target: object) -> Scene:
    """Solo with a noise of nothing; keywords are of its target."""
    data = load_scene("solo").model_dump()
    data["nodes"] = [row | {"noise_figure_db": 0.0} for row in data["nodes"]]
    data["targets"] = [row | target for row in data["targets"]]
    return validate(data, Scene, "solo")


@pytest.mark.parametrize("scene", ["solo", "comp"])
def test_a_loop_is_heard_to_the_bit_as_in_the_world_that_starts_anew(scene: str) -> None:
    fresh, name = World(load_scene(scene)), load_scene(scene).node_names[0]
    fresh.configure(name, SETTINGS)
    fresh.transmit(name, FRAME[None])
    got = fresh.receive(name, 5000)
    node = fresh.scene.nodes[0]
    world = running(scene)
    world.repeat(0, Loop(quantise(FRAME, 12), node.start_offset_samples))
    rails = np.empty((1, 2, 5000), dtype=np.float32)
    world.hear(0, RX, node.receive_offset_samples, rails, absolute_index(got.epoch, 0))
    codes, _ = convert(rails[0], world.limits(name).rx_amplitude(40.0), 2048)
    np.testing.assert_array_equal(codes, got.raw[0])


def test_a_loop_stays_where_it_is_when_something_changes() -> None:
    world = running()
    world.repeat(0, Loop(FRAME.astype(np.complex128), 12.5))
    before, _ = delay_and_gain(heard(world, 64 * 1024, 64 * 1024), FRAME)
    world.clock.front = 777_777  # type: ignore[union-attr]
    world.set_condition("empty")
    world.tune(0, Tuning(3.5e9, 20e6, -11.0))
    after, _ = delay_and_gain(heard(world, 2048 * 1024, 64 * 1024), FRAME)
    assert after == pytest.approx(before, abs=0.005)


def test_a_stretch_does_not_depend_on_how_it_is_cut() -> None:
    world = running(quiet_scene(velocity_mps=[30.0, -10.0]))
    passage = Passage(0)
    world.send(0, passage)
    for k in range(5):
        passage.append(passage.end, np.roll(FRAME, 100 * k))
    whole = heard(world, 0, 6000)
    parts = [heard(world, at, size, absolute=at) for at, size in ((0, 1), (1, 700), (701, 3299), (4000, 2000))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_what_is_sent_once_arrives_with_the_delay_and_gain_of_its_path_and_ends() -> None:
    world = running(quiet_scene())
    passage = Passage(0)
    world.send(0, passage)
    passage.append(5000, FRAME)
    got = heard(world, 0, 10_000)
    delay = 5000 + 2.37 + LATENCY_SAMPLES
    spectrum = np.fft.fft(got[4096:8192])
    wanted = np.fft.fft(FRAME, 4096) * np.exp(-2j * np.pi * np.fft.fftfreq(4096) * (delay - 4096))
    gain = np.vdot(wanted, spectrum) / np.vdot(wanted, wanted)
    # leakage of 55 dB; the noise in these 4096 samples is 31 dB below it, 2.8 % of the amplitude
    assert 20 * np.log10(abs(gain)) == pytest.approx(15 - 10 - 55, abs=0.05)
    assert np.linalg.norm(spectrum - gain * wanted) < 0.05 * np.linalg.norm(spectrum)


def test_history_is_bounded() -> None:
    passage = Passage(0)
    piece = np.ones(1 << 16, dtype=np.complex64)
    for _ in range(100):
        passage.append(passage.end, piece)
    assert len(passage._pieces) <= HISTORY_SAMPLES / piece.size + 1
    assert passage.stretch(passage.end - 10, 20).sum() == 10
    assert passage.stretch(0, 10).sum() == 0


def test_a_passage_that_is_closed_may_be_cut() -> None:
    passage = Passage(100)
    passage.append(100, np.ones(50, dtype=np.complex64))
    passage.close(cut=120)
    assert passage.stretch(90, 100).sum() == 20


def test_a_tone_is_a_turning_phasor_with_the_phase_of_its_path() -> None:
    scene = quiet_scene(rcs_m2=0.0)
    data = scene.model_dump()
    data["clutter"] = []
    data["nodes"][0]["self_delay_samples"] = 7.25
    world = running(validate(data, Scene, "solo"))
    world.clock.front = 1000  # type: ignore[union-attr]
    world.generate(0, (Tone(1.3e6, 0.5 + 0j),))
    got = heard(world, 1000, 4000)
    index = np.arange(1000, 5000)
    amplitude = 0.5 * 10 ** ((15 - 10 - 55) / 20)
    wanted = amplitude * np.exp(2j * np.pi * 1.3e6 / 20e6 * (index - 7.25))
    assert np.abs(np.vdot(wanted, got) / np.vdot(wanted, wanted) - 1) < 1e-3


@pytest.mark.parametrize(("rx", "hears"), [
    (RX, True),
    (Tuning(3.5e9 + 1e6, 20e6, 40.0), True),
    (Tuning(3.5e9 + 20e6, 20e6, 40.0), False),
    (Tuning(3.5e9, 10e6, 40.0), False),
])  # fmt: skip
def test_a_transmission_is_heard_by_who_has_its_rate_and_is_tuned_near_it(rx: Tuning, hears: bool) -> None:
    world = running()
    world.repeat(0, Loop(FRAME.astype(np.complex128), 0.0))
    loud = np.mean(np.abs(heard(world, 0, 20_000, rx=rx)) ** 2)
    world.repeat(0, None)
    quiet = np.mean(np.abs(heard(world, 0, 20_000, rx=rx)) ** 2)
    assert bool(loud > 3 * quiet) is hears


def test_it_tells_who_transmits_and_leaves_radios_to_their_drivers() -> None:
    world = running("comp")
    assert world.transmitting() == {"bs1": False, "bs2": False, "bs3": False}
    world.repeat(0, Loop(FRAME.astype(np.complex128), 0.0))
    assert world.transmitting() == {"bs1": True, "bs2": False, "bs3": False}
    world.tune(0, None)
    assert world.transmitting() == {"bs1": False, "bs2": False, "bs3": False}
    for call in (lambda: world.configure("bs1", SETTINGS), lambda: world.mute("bs1"), lambda: world.receive("bs1", 1)):
        with pytest.raises(RadioError, match="bs1: is a virtual Pluto"):
            call()
