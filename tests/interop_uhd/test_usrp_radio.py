"""The USRP driver on UHD itself: its simulator, with a clock of ours and as it is packaged, which is without."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from testbed.errors import RadioError, RadioUnavailable, SafetyRefused, SampleLoss, SettingOutOfRange
from testbed.radio.usrp.radio import UsrpRadio
from tests.interop_uhd.signals import (
    LSB,
    NOISE_AMPLITUDE,
    NUM_FRAMES,
    SETTINGS,
    STANDARD_ERRORS,
    check_heard,
    ofdm_frame,
    offset_of,
    receive,
)
from tests.interop_uhd.simulated_usrp import PACKET_SAMPLES, SERIAL, SimulatedUsrp, need_uhd, simulated_usrp

pytestmark = pytest.mark.interop_uhd


@pytest.fixture(scope="module")
def timed() -> Iterator[SimulatedUsrp]:
    need_uhd()
    with simulated_usrp("--clock") as usrp:
        yield usrp


@pytest.fixture(scope="module")
def clockless() -> Iterator[SimulatedUsrp]:
    need_uhd()
    with simulated_usrp() as usrp:
        yield usrp


def test_opening_tells_what_the_device_says_and_leaves_it_silent(timed: SimulatedUsrp) -> None:
    with timed.radio(settings=None) as radio:
        limits, attributes = radio.limits, radio.attributes
        assert (limits.model, limits.simulated, limits.num_tx, limits.num_rx) == ("USRP e320", False, 1, 1)
        assert (limits.tx_gain_min_db, limits.tx_gain_max_db, limits.tx_gain_step_db) == (0.0, 89.75, 0.25)
        assert (limits.rx_gain_min_db, limits.rx_gain_max_db, limits.rx_gain_step_db) == (0.0, 76.0, 1.0)
        assert attributes["hw_serial"] == SERIAL
        assert attributes["fw_version"].startswith("4.")
        assert timed.say() == {"transmitting": False, "tx_gain_db": 0.0, "rx_gain_db": 0.0}


def test_settings_reach_the_device_and_come_back(timed: SimulatedUsrp) -> None:
    with timed.radio() as radio:
        assert radio.configure(replace(SETTINGS, tx_gain_db=79.9, rx_gain_db=30.4)) == replace(
            SETTINGS, tx_gain_db=80.0, rx_gain_db=30.0
        )
        # the gain of a transmitter that is silent is its lowest, whatever it is to be
        assert timed.say() == {"transmitting": False, "tx_gain_db": 0.0, "rx_gain_db": 30.0}
        with pytest.raises(SettingOutOfRange, match=r"radio1\.sample_rate_hz"):
            radio.configure(replace(SETTINGS, sample_rate_hz=6e6))
        assert timed.say()["rx_gain_db"] == 30.0


def test_clipping_samples_never_reach_the_device(timed: SimulatedUsrp) -> None:
    with timed.radio() as radio, pytest.raises(SafetyRefused):
        radio.transmit(np.full((1, 100), 1.5, dtype=np.complex64))
    assert not timed.say()["transmitting"]


def test_a_frame_comes_back_over_both_paths_with_its_first_sample_first(timed: SimulatedUsrp) -> None:
    frame = ofdm_frame()
    with timed.radio() as radio:
        radio.transmit(frame)
        assert timed.say() == {"transmitting": True, "tx_gain_db": SETTINGS.tx_gain_db, "rx_gain_db": 20.0}
        receptions = [receive(radio, frame) for _ in range(3)]
    assert [found.start for found in receptions] == [k * NUM_FRAMES * frame.shape[1] for k in range(3)]
    assert {(found.epoch, found.continuity, found.num_underflows, found.clip_count) for found in receptions} == {
        (receptions[0].epoch, "reported", 0, 0)
    }
    for found in receptions:
        check_heard(found, frame, offset=0)


def test_at_the_rate_of_the_master_clock_no_sample_is_missing(timed: SimulatedUsrp) -> None:
    frame = ofdm_frame()
    with timed.radio() as radio:
        radio.configure(replace(SETTINGS, sample_rate_hz=5e6))
        radio.transmit(frame)
        for _ in range(20):
            check_heard(receive(radio, frame), frame, offset=0)


def test_the_way_from_transmitter_to_receiver_takes_equally_long_in_every_epoch(timed: SimulatedUsrp) -> None:
    frame = ofdm_frame()
    with timed.radio() as radio:
        epochs = []
        for _ in range(3):
            radio.transmit(frame)
            epochs.append(receive(radio, frame))
            radio.refresh()
            epochs.append(receive(radio, frame))
            radio.configure(replace(SETTINGS, rx_gain_db=21.0))
            radio.configure(SETTINGS)
            epochs.append(receive(radio, frame))
            radio.mute()
    assert all(first.epoch < second.epoch for first, second in itertools.pairwise(epochs))
    assert [found.start for found in epochs] == [0] * len(epochs)
    for found in epochs:
        check_heard(found, frame, offset=0)


def test_without_a_clock_a_frame_comes_back_at_any_offset_and_whole(clockless: SimulatedUsrp) -> None:
    frame = ofdm_frame()
    with clockless.radio() as radio:
        radio.transmit(frame)
        first, second = receive(radio, frame), receive(radio, frame)
    assert (first.epoch, first.start + first.num_samples) == (second.epoch, second.start)
    assert first.continuity == second.continuity == "unknown"
    offset = offset_of(first, frame)
    check_heard(first, frame, offset)
    check_heard(second, frame, offset)


def test_mute_takes_the_gain_down_and_ends_the_burst_twice_if_asked(timed: SimulatedUsrp) -> None:
    frame = ofdm_frame()
    with timed.radio() as radio:
        radio.transmit(frame)
        loud = receive(radio, frame)
        for _ in range(2):
            radio.mute()
            state = timed.say()
            assert (state["transmitting"], state["tx_gain_db"]) == (False, 0.0)
        silent = receive(radio, frame)
    assert silent.epoch > loud.epoch
    power = np.mean(np.abs(silent.samples) ** 2)
    noise_power = NOISE_AMPLITUDE**2 + LSB**2 / 6
    assert power == pytest.approx(noise_power, rel=STANDARD_ERRORS / np.sqrt(silent.num_samples))


def test_closing_silences_the_device_ends_all_threads_and_gives_it_back(timed: SimulatedUsrp) -> None:
    frame = ofdm_frame()
    for _ in range(3):
        with timed.radio() as radio:
            radio.transmit(frame)
            check_heard(receive(radio, frame), frame, offset=0)
        state = timed.say()
        assert (state["transmitting"], state["tx_gain_db"]) == (False, 0.0)
        assert not [thread.name for thread in threading.enumerate() if "usrp" in thread.name]
        with pytest.raises(RadioUnavailable):
            radio.receive(10)


def loss(radio: UsrpRadio, frame: NDArray[np.complex64]) -> SampleLoss:
    with pytest.raises(SampleLoss) as found:
        for _ in range(200):
            receive(radio, frame)
    assert "\n" not in str(found.value)
    return found.value


def test_a_packet_lost_on_the_way_is_a_loss_of_its_samples(timed: SimulatedUsrp) -> None:
    frame = ofdm_frame()
    with timed.radio() as radio:
        radio.transmit(frame)
        before = receive(radio, frame)
        timed.say("lose")
        found = loss(radio, frame)
        assert found.num_lost == PACKET_SAMPLES
        assert "out of sequence" in str(found)
        after = receive(radio, frame)
    assert after.epoch > before.epoch
    check_heard(after, frame, offset=0)


def test_an_overflow_is_a_loss_of_what_lies_before_uhd_has_started_anew(timed: SimulatedUsrp) -> None:
    frame = ofdm_frame()
    with timed.radio() as radio:
        radio.transmit(frame)
        before = receive(radio, frame)
        timed.say("overflow")
        found = loss(radio, frame)
        assert found.num_lost > 0
        assert "overflow" in str(found)
        after = receive(radio, frame)
    assert after.epoch > before.epoch
    check_heard(after, frame, offset=0)


def test_losses_without_a_clock_are_told_although_nobody_knows_how_many(clockless: SimulatedUsrp) -> None:
    frame = ofdm_frame()
    with clockless.radio() as radio:
        radio.transmit(frame)
        for command in ("lose", "overflow"):
            receive(radio, frame)
            clockless.say(command)
            assert loss(radio, frame).num_lost == 0
            after = receive(radio, frame)
            check_heard(after, frame, offset_of(after, frame))


def test_an_underflow_is_counted_and_the_frame_falls_back_into_step(timed: SimulatedUsrp) -> None:
    frame = ofdm_frame()
    with timed.radio() as radio:
        radio.transmit(frame)
        assert receive(radio, frame).num_underflows == 0
        timed.say("underflow")  # from here on every sample leaves later than it should
        deadline, heard = time.monotonic() + 20, receive(radio, frame)
        while not heard.num_underflows and time.monotonic() < deadline:
            heard = receive(radio, frame)
        assert heard.num_underflows == 1
        while True:
            radio.refresh()
            try:
                check_heard(receive(radio, frame), frame, offset=0)
                break
            except AssertionError:  # as long as it has not begun anew
                if time.monotonic() > deadline:
                    raise


def test_a_device_that_is_gone_is_told_in_one_line_and_closing_ends() -> None:
    need_uhd()
    frame = ofdm_frame()
    with simulated_usrp("--clock") as usrp:
        radio = UsrpRadio(usrp.resource, "radio1", device=usrp.device, timeout_s=2.0)
        try:
            radio.configure(SETTINGS)
            radio.transmit(frame)
            receive(radio, frame)
            usrp.process.kill()
            usrp.process.wait()
            with pytest.raises(RadioError) as gone:
                for _ in range(100):
                    receive(radio, frame)
            assert "\n" not in str(gone.value)
        finally:
            began = time.monotonic()
            with pytest.raises(RadioError) as left:
                radio.close()
            assert time.monotonic() - began < 30
        assert "\n" not in str(left.value)
