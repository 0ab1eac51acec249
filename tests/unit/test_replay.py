"""A capture as a radio: the stored integers, bit for bit, in the state in which they were received."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from testbed.capture import Capture, load, save
from testbed.device import Settings
from testbed.errors import (
    CaptureError,
    EndOfCapture,
    RadioError,
    RadioUnavailable,
    SafetyRefused,
    SampleLoss,
    SettingOutOfRange,
)
from testbed.radio.base import Conditioned, Radio
from testbed.radio.replay import ReplayRadio
from tests.scenes import capture_comp

FRAMES = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run: silence, then all targets, then without t1 at bs1, then all targets at another power."""
    made = tmp_path_factory.mktemp("captures")
    listening = ("bs1", "bs2", "u1")
    one = {"num_frames": FRAMES, "listening": listening}
    save(made / "muted.h5", capture_comp(muted=True, **one))
    save(made / "000_all.h5", capture_comp(power_dbm=-6.0, **one))
    save(made / "000_without_t1.h5", capture_comp(power_dbm=-6.0, condition="without:t1", num_frames=FRAMES,
                                                  listening=("bs1",)))  # fmt: skip
    save(made / "001_all.h5", capture_comp(power_dbm=-4.0, **one))
    return made


@pytest.fixture
def stored(folder: Path) -> Capture:
    return load(folder / "000_all.h5")


@pytest.fixture
def radio(folder: Path) -> Iterator[ReplayRadio]:
    made = ReplayRadio(folder / "000_all.h5", "bs1")
    yield made
    made.close()


def sent(capture: Capture, node: str = "bs1") -> np.ndarray:
    """What a node was told to send, full scale 1."""
    assert capture.frame is not None
    found = capture.node(node)
    row = capture.frame.samples[capture.tx_names.index(node)]
    return (row / found.limits.tx_amplitude(found.settings.tx_gain_db)).astype(np.complex64)[None]


def start(radio: ReplayRadio, capture: Capture) -> None:
    radio.configure(capture.node("bs1").settings)
    radio.transmit(sent(capture))


def test_it_is_a_radio_that_needs_no_consent(radio: ReplayRadio, stored: Capture) -> None:
    assert isinstance(radio, Radio)
    assert isinstance(radio, Conditioned)
    assert radio.limits.simulated
    assert radio.limits.model == "replay of emulated 12-bit radio"
    assert radio.configure(stored.node("bs1").settings) == stored.node("bs1").settings


@pytest.mark.parametrize("sizes", [(192_640,), (1, 65_535, 1, 65_536, 61_567), (100_000, 92_640)])
def test_received_are_the_stored_integers_with_their_marks(
    radio: ReplayRadio, stored: Capture, sizes: tuple[int, ...]
) -> None:
    start(radio, stored)
    node, at, clips = stored.node("bs1"), 0, 0
    for size in sizes:
        got = radio.receive(size)
        np.testing.assert_array_equal(got.raw, node.raw[:, at : at + size])
        assert got.full_scale == node.limits.rx_full_scale
        assert (got.epoch, got.start) == (node.chunks["epoch"][0], node.chunks["epoch_start"][0] + at)
        assert got.continuity == node.chunks["continuity"][0].decode()
        clips += got.clip_count
        at += size
    assert clips == node.chunks["clip_count"].sum()


def test_at_its_end_it_says_so_in_one_line(radio: ReplayRadio, stored: Capture) -> None:
    start(radio, stored)
    radio.receive(192_000)
    with pytest.raises(EndOfCapture) as end:
        radio.receive(641)
    assert str(end.value) == (
        "bs1: 000_all.h5 holds 640 more samples, 641 were asked for; ask for fewer frames, or open the replay again"
    )
    radio.receive(640)
    with pytest.raises(EndOfCapture, match=r"the last capture of .*000_all\.h5 was played; open the replay again"):
        radio.receive(1)


def test_its_own_frame_is_taken_and_any_other_refused_with_the_difference(radio: ReplayRadio, stored: Capture) -> None:
    start(radio, stored)
    good = sent(stored)
    other = good.copy()
    other[0, 5] *= 0.9
    with pytest.raises(RadioError, match=r"differs from that of 000_all\.h5 by .* % of its peak\); a replay answers"):
        radio.transmit(other)
    with pytest.raises(RadioError, match=r"320 samples, in 000_all\.h5 640"):
        radio.transmit(good[:, :320])
    radio.configure(replace(stored.node("bs1").settings, tx_gain_db=-20.0))
    with pytest.raises(RadioError, match="not the one that it was captured with"):
        radio.transmit(good)
    with pytest.raises(SafetyRefused, match="full scale"):
        radio.transmit(2.5 * good)
    start(radio, stored)
    assert radio.receive(10).num_samples == 10


def test_samples_of_a_transmission_are_not_given_as_silence(radio: ReplayRadio, stored: Capture) -> None:
    radio.configure(stored.node("bs1").settings)
    with pytest.raises(RadioError, match=r"was captured while it transmitted a frame, and it is silent now"):
        radio.receive(10)


def test_silence_is_not_given_as_a_transmission(folder: Path, stored: Capture) -> None:
    radio = ReplayRadio(folder / "muted.h5", "bs1")
    radio.configure(stored.node("bs1").settings)
    with pytest.raises(RadioError, match=r"in muted\.h5 the node was silent"):
        radio.transmit(sent(stored))
    assert radio.receive(10).num_samples == 10


# attribute, wanted, what is said
SETTINGS = [
    ("carrier_hz", 3.6e9, "outside"),
    ("sample_rate_hz", 10e6, "outside"),
    ("rx_gain_db", 41.0, "bs1.rx_gain_db: 41 dB is outside 40..40 dB of replay of"),
    ("tx_gain_db", 3.0, "outside"),
]


@pytest.mark.parametrize(("attribute", "wanted", "words"), SETTINGS)
def test_settings_of_another_capture_are_refused(
    radio: ReplayRadio, stored: Capture, attribute: str, wanted: float, words: str
) -> None:
    with pytest.raises(SettingOutOfRange, match=words):
        radio.configure(replace(stored.node("bs1").settings, **{attribute: wanted}))


def test_a_carrier_that_a_synthesiser_rounded_is_the_one_that_was_wanted(tmp_path: Path, stored: Capture) -> None:
    realised = replace(stored.node("bs1").settings, carrier_hz=3500000002.0)
    nodes = tuple(replace(node, settings=replace(node.settings, carrier_hz=3500000002.0)) for node in stored.nodes)
    save(tmp_path / "x.h5", replace(stored, nodes=nodes))
    radio = ReplayRadio(tmp_path / "x.h5", "bs1")
    wanted = Settings(3.5e9, 20e6, realised.tx_gain_db, 40.0)
    assert radio.configure(wanted) == realised


def test_another_condition_is_refused(radio: ReplayRadio, stored: Capture) -> None:
    start(radio, stored)
    radio.set_condition("without:t1")
    with pytest.raises(RadioError, match="captured under condition 'all', not 'without:t1'"):
        radio.receive(10)
    radio.set_condition("all")
    assert radio.receive(10).num_samples == 10


def test_a_gap_in_the_capture_is_sample_loss_and_samples_go_on_behind_it(tmp_path: Path, stored: Capture) -> None:
    nodes = []
    for node in stored.nodes:
        chunks = node.chunks.copy()
        chunks["epoch_start"][1:] += 700
        chunks["lost_before"][1] = 700
        nodes.append(replace(node, chunks=chunks))
    save(tmp_path / "x.h5", replace(stored, nodes=tuple(nodes)))
    radio = ReplayRadio(tmp_path / "x.h5", "bs1")
    start(radio, stored)
    with pytest.raises(SampleLoss) as lost:
        radio.receive(70_000)
    assert lost.value.num_lost == 700
    got = radio.receive(1000)
    np.testing.assert_array_equal(got.raw, stored.node("bs1").raw[:, 70_000:71_000])
    assert got.start == 70_700


def test_a_folder_is_played_in_the_order_of_time_as_the_state_changes(folder: Path) -> None:
    captures = {name: load(folder / f"{name}.h5") for name in ("muted", "000_all", "000_without_t1", "001_all")}
    radio, user = ReplayRadio(folder, "bs1"), ReplayRadio(folder, "u1")
    both = (radio, user)
    size = captures["muted"].nodes[0].num_samples

    def hears(one: ReplayRadio, name: str) -> None:
        np.testing.assert_array_equal(one.receive(size).raw, captures[name].node(one.name).raw)

    def set_condition(condition: str) -> None:
        for one in both:
            one.set_condition(condition)

    set_condition("all")
    for one in both:
        one.mute()
        one.configure(captures["muted"].node(one.name).settings)
        hears(one, "muted")
    for step, power in (("000_all", "000_all"), ("001_all", "001_all")):
        for one in both:
            one.mute()
            one.configure(captures[power].node(one.name).settings)
        radio.transmit(sent(captures[power]))
        set_condition("all")
        for one in both:
            hears(one, step)
        if step == "000_all":
            set_condition("without:t1")
            hears(radio, "000_without_t1")
    with pytest.raises(EndOfCapture, match="the last capture of"):
        user.receive(1)


def test_what_cannot_be_replayed_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no capture")
    for path, node, words in (
        (tmp_path / "none.h5", "bs1", "no such file"),
        (tmp_path / "text.h5", "bs1", "not a readable capture"),
        (tmp_path / "empty", "bs1", "holds no capture"),
        (folder / "000_without_t1.h5", "bs2", "node 'bs2' is in no capture; there are bs1"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(CaptureError, match=words) as refused:
            ReplayRadio(path, node)
        assert "\n" not in str(refused.value)


def test_a_closed_replay_gives_nothing(radio: ReplayRadio) -> None:
    radio.close()
    for call in (lambda: radio.receive(1), radio.mute, lambda: radio.set_condition("all")):
        with pytest.raises(RadioUnavailable, match="closed"):
            call()
