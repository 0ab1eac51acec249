"""What is special about a USRP: one device time for both directions, and every loss that UHD reports.

The package behind `import uhd` bears UHD's names and reports as UHD does, with virtual boards behind it; see
`tests.uhd_stand_in`. The sentences of the radio contract run for it, too, in `test_radio_contract.py`.
"""

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from testbed.device import Reception, Settings
from testbed.errors import (
    ConfigError,
    RadioError,
    RadioTimeout,
    RadioUnavailable,
    SafetyRefused,
    SampleLoss,
    SettingOutOfRange,
)
from testbed.radio.devices.config import load_device
from testbed.radio.remote import RemoteRadio
from testbed.radio.usrp import clock as usrp_clock
from testbed.radio.usrp.radio import UsrpRadio
from tests.airs import RING_BYTES, served_process, usrp, usrp_air
from tests.emulator import tone
from tests.uhd_stand_in.air import PACKET_SAMPLES, Air, Fault
from tests.uhd_stand_in.install import FOLDER

SETTINGS = Settings(carrier_hz=3.5e9, sample_rate_hz=20e6, tx_gain_db=79.75, rx_gain_db=40.0)
PERIOD = 640
RING = RING_BYTES // 4  # samples of one channel
Open = Callable[..., UsrpRadio]


@pytest.fixture
def air() -> Iterator[Air]:
    """bs1 and u1 on a B210, everybody else on a B200 of his own; nothing is left running."""
    before = threading.active_count()
    with usrp_air(("bs1", "u1"), ("bs2",), ("bs3",), ("u2",), ("u3",)) as made:
        yield made
    gc.collect()
    assert threading.active_count() == before, threading.enumerate()


@pytest.fixture
def opener(air: Air) -> Iterator[Open]:
    opened: list[UsrpRadio] = []

    def open_one(node: str = "bs2", **options: object) -> UsrpRadio:
        opened.append(usrp(air, node, **options))
        return opened[-1]

    yield open_one
    for radio in opened:
        radio.close()


@pytest.fixture
def radio(opener: Open) -> UsrpRadio:
    made = opener()
    made.configure(SETTINGS)
    return made


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def rms(got: Reception) -> float:
    return float(np.sqrt(np.mean(np.abs(got.samples) ** 2)))


def chirp(seed: int = 3, size: int = PERIOD) -> np.ndarray:
    """A frame with a flat spectrum over the middle 75 %, shape (1, size); what beyond is, a sharp filter would cut."""
    rng = np.random.default_rng(seed)
    bins = np.fft.fftfreq(size)
    frame = np.fft.ifft(np.where(np.abs(bins) < 0.375, np.exp(2j * np.pi * rng.random(size)), 0))
    return (0.7 * frame / np.abs(frame).max())[None].astype(np.complex64)


def latency(got: Reception, frame: np.ndarray) -> int:
    """Where in the period the frame begins, in samples, from the start of the epoch.

    The leakage stands 45 dB above the noise here; folded over a hundred periods the peak of the correlation is 65 dB
    above it: it is never missed.
    """
    size = frame.shape[1]
    folded = got.samples[0][: got.num_samples // size * size].reshape(-1, size).mean(axis=0)
    found = np.abs(np.fft.ifft(np.fft.fft(folded) * np.conj(np.fft.fft(frame[0]))))
    return int(np.argmax(found) + got.start) % size


# -- one device time ---------------------------------------------------------------------------------------------------


def test_every_epoch_begins_at_a_begin_of_the_transmitted_buffer_to_the_sample(radio: UsrpRadio, air: Air) -> None:
    frame, found, epochs = chirp(), [], []
    for change in (
        lambda: radio.transmit(frame),
        radio.refresh,
        lambda: radio.configure(replace(SETTINGS, rx_gain_db=41.0)),
        lambda: (radio.mute(), radio.transmit(frame)),
        lambda: radio.configure(replace(SETTINGS, tx_gain_db=70.0)),
        lambda: radio.configure(replace(SETTINGS, carrier_hz=3.6e9)),
        lambda: radio.transmit(frame),
    ):
        change()
        got = radio.receive(100 * PERIOD)
        found.append(latency(got, frame))
        epochs.append(got.epoch)
        assert got.start == 0
        assert got.continuity == "reported"
    assert len(set(found)) == 1
    assert epochs == sorted(set(epochs))
    # and it is that of the air: the filter of its paths, the leakage, and where the scene lets the node begin
    assert found[0] == 12 + round(air.scene.nodes[1].start_offset_samples)


def test_the_latency_is_the_same_for_another_opening_of_the_board_and_another_length(opener: Open) -> None:
    found = []
    for size in (PERIOD, 1000, 100_003):
        made = opener()
        made.configure(SETTINGS)
        frame = chirp(size=size)
        made.transmit(frame)
        found.append(latency(made.receive(3 * size), frame))
        made.close()
    assert len(set(found)) == 1


def test_a_period_stays_in_step_over_many_receptions(radio: UsrpRadio) -> None:
    frame = chirp()
    radio.transmit(frame)
    first = radio.receive(100 * PERIOD + 17)
    rest = [radio.receive(100 * PERIOD + 17) for _ in range(20)]
    assert {latency(got, frame) for got in rest if got.epoch == first.epoch} == {latency(first, frame)}


def test_device_times_are_whole_samples_however_long_the_device_runs(opener: Open, air: Air) -> None:
    # a year of device time: in seconds as a float, a sample of 20 MS/s would be 5e-8 of 3e7 s, below its resolution
    board = air.board("bs2")
    radio = opener()
    radio.configure(SETTINGS)
    board.offset_s -= 31_536_000.0
    frame = chirp()
    radio.transmit(frame)
    found = []
    for _ in range(3):
        radio.refresh()
        found.append(latency(radio.receive(100 * PERIOD), frame))
    assert len(set(found)) == 1
    assert board.tx is not None
    assert all(start > 31_536_000 * 20_000_000 for start in board.tx.starts)


def test_streams_begin_ahead_of_device_time_and_never_at_once(radio: UsrpRadio, air: Air) -> None:
    radio.transmit(tone())
    radio.receive(1000)
    assert "start_cont" in air.board("bs2").log
    board = air.board("bs2")
    assert board.tx is not None and board.tx.starts
    assert usrp_clock.LEAD_S >= 0.1


# -- losses ------------------------------------------------------------------------------------------------------------

AFTER = 50_000
# what UHD reports, what the reader is told, how many samples are known to be lost
LOSSES = [
    (
        Fault("overflow", AFTER, 12_345),
        "overflow, 12345 samples lost near sample 50000 .* the host is too slow",
        12_345,
    ),
    (Fault("overflow", AFTER, 4080, True), "out of sequence, 4080 samples lost .* between device and host", 4080),
    (Fault("jump", AFTER, 777), "device time jumps by 777 samples near sample .*, and no loss was reported", 777),
    (Fault("late"), r"came too late .*0\.1 s ahead.* receive again, the next one is given 0\.2 s", 0),
    (Fault("broken_chain", AFTER), "expected another stream command .broken chain. near sample 50000", 0),
    (Fault("alignment", AFTER), "could not be aligned in time near sample 50000", 0),
    (Fault("bad_packet", AFTER), "a packet could not be read near sample 50000", 0),
]


@pytest.mark.parametrize(
    ("fault", "told", "num_lost"), LOSSES, ids=[row[0].kind + "-seq" * row[0].out_of_sequence for row in LOSSES]
)
def test_every_error_of_uhd_is_a_typed_loss_and_an_epoch_begins_behind_it(
    radio: UsrpRadio, air: Air, fault: Fault, told: str, num_lost: int
) -> None:
    frame = chirp()
    radio.transmit(frame)
    before = radio.receive(PERIOD)
    radio.refresh()
    air.board("bs2").rx_faults.append(fault)
    with pytest.raises(SampleLoss, match=told) as loss:
        radio.receive(2 * AFTER)
    assert one_line(loss).startswith("bs2: ")
    assert loss.value.num_lost == num_lost
    after = radio.receive(100 * PERIOD)
    assert after.epoch > before.epoch + 1
    assert after.start == 0
    assert latency(after, frame) == latency(before, frame)


def test_what_came_before_a_loss_is_still_given_out(radio: UsrpRadio, air: Air) -> None:
    air.board("bs2").rx_faults.append(Fault("overflow", 200_000, 999))
    first = radio.receive(60_000)
    second = radio.receive(60_000)
    assert (second.epoch, second.start) == (first.epoch, 60_000)
    with pytest.raises(SampleLoss, match="999 samples lost"):
        radio.receive(200_000)


def test_a_gap_that_nobody_reports_is_never_within_a_reception(radio: UsrpRadio, air: Air) -> None:
    # the gap lies within what one receive call brings, of which only the first time is told
    for after in (PACKET_SAMPLES // 2, 3 * PACKET_SAMPLES, 41_000):
        air.board("bs2").rx_faults.append(Fault("jump", after, 1))
        with pytest.raises(SampleLoss, match="jumps by 1 samples"):
            radio.receive(after + 10)


def test_what_is_left_of_an_earlier_stream_is_not_taken_for_the_begin_of_the_next(radio: UsrpRadio, air: Air) -> None:
    quiet = rms(radio.receive(10_000))
    radio.refresh()
    air.board("bs2").rx_faults.append(Fault("stale", count=1500))
    got = radio.receive(10_000)
    assert got.start == 0
    # 10,000 samples of noise each: the standard error of the ratio is 0.7 %; the stale ones are at full scale
    assert rms(got) == pytest.approx(quiet, rel=0.05)


def test_a_device_that_falls_silent_is_a_timeout_and_the_next_reception_is_another_epoch(
    opener: Open, air: Air
) -> None:
    radio = opener(timeout_s=0.5)
    radio.configure(SETTINGS)
    air.board("bs2").rx_faults.append(Fault("silence", 1000))
    began = time.monotonic()
    with pytest.raises(RadioTimeout, match=r"no answer within 0\.5 s: the device sends no samples"):
        radio.receive(50_000)
    assert 0.4 < time.monotonic() - began < 2.0
    assert radio.receive(1000).start == 0


def test_a_change_by_another_thread_interrupts_a_reception(radio: UsrpRadio) -> None:
    timer = threading.Timer(0.1, radio.mute)
    timer.start()
    with pytest.raises(SampleLoss, match=r"bs2: interrupted after \d+ of 50000000 samples; the radio was changed"):
        radio.receive(50_000_000)
    timer.join()


# -- the ring ----------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_a_stream_that_nobody_reads_is_parked_given_out_and_begun_anew(radio: UsrpRadio, air: Air) -> None:
    frame, board = chirp(), air.board("bs2")
    radio.transmit(frame)
    first = radio.receive(PERIOD)
    until(lambda: board.log.count("stop_cont") == board.log.count("start_cont"), "the stream is not parked")
    assert board.log.count("start_cont") == 1
    second = radio.receive(100_000)
    assert (second.epoch, second.start) == (first.epoch, PERIOD)
    third = radio.receive(RING)  # more than is left
    assert (third.epoch, third.start) == (first.epoch + 1, 0)
    assert latency(third, frame) == latency(second, frame) == latency(first, frame)


def test_a_reception_may_be_longer_than_the_ring(radio: UsrpRadio) -> None:
    got = radio.receive(5 * RING)
    assert got.num_samples == 5 * RING
    # noise of two stretches a ring apart has nothing in common: of 100,000 samples the correlation has a standard error
    # of 0.003, and exceeds 0.03 with probability exp(-90)
    a, b = got.samples[0][:100_000], got.samples[0][RING : RING + 100_000]
    assert abs(np.vdot(a, b)) / np.vdot(a, a).real < 0.03


def test_who_reads_one_channel_is_not_held_up_by_the_other(opener: Open) -> None:
    station, user = opener("bs1"), opener("u1")
    for one in (station, user):
        one.configure(SETTINGS)
    first = station.receive(5 * RING)
    rest = station.receive(1000)
    assert (rest.epoch, rest.start) == (first.epoch, 5 * RING)
    behind = user.receive(1000)  # its samples are gone
    assert (behind.epoch, behind.start) == (first.epoch + 1, 0)


# -- transmitting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["underflow", "underflow_in_packet", "seq_error", "seq_error_in_packet"])
def test_samples_that_did_not_leave_in_time_are_counted_and_the_burst_is_begun_anew_in_step(
    radio: UsrpRadio, air: Air, kind: str
) -> None:
    frame, board = chirp(), air.board("bs2")
    radio.transmit(frame)
    before = radio.receive(100 * PERIOD)
    assert before.num_underflows == 0
    board.tx_faults.append(Fault(kind, after=3_000_000, count=101))
    radio.transmit(frame)  # the fault is the next burst's
    got = radio.receive(100 * PERIOD)
    counts = [got.num_underflows]
    assert board.tx is not None
    for _ in range(200):
        counts.append(radio.receive(100 * PERIOD).num_underflows)
    assert len(board.tx.starts) == 3  # of bursts: before, with the fault, anew
    assert sum(counts) == 1
    assert board.tx.starts[2] > board.tx.starts[1]
    assert (board.tx.starts[2] - board.tx.starts[1]) % PERIOD == 0
    radio.refresh()
    assert latency(radio.receive(100 * PERIOD), frame) == latency(before, frame)


def test_an_underflow_without_a_new_burst_would_be_out_of_step(radio: UsrpRadio, air: Air) -> None:
    # so that the test above proves something: right behind the fault the frame is where it should not be
    frame, board = chirp(), air.board("bs2")
    radio.transmit(frame)
    before = radio.receive(100 * PERIOD)
    board.tx_faults.append(Fault("underflow", after=1, count=101))
    radio._board._transmitter._again.set = lambda: None  # deaf
    radio.transmit(frame)
    assert (latency(radio.receive(100 * PERIOD), frame) - latency(before, frame)) % PERIOD == 101
    del radio._board._transmitter._again.set


def test_a_burst_that_comes_too_late_is_begun_anew_with_a_longer_lead(radio: UsrpRadio, air: Air) -> None:
    board = air.board("bs2")
    board.tx_faults.append(Fault("time_error"))
    radio.transmit(tone(amplitude=0.9))
    assert board.tx is not None
    until(lambda: board.tx is not None and len(board.tx.starts) == 2, "no second burst")
    got = radio.receive(64_000)
    assert got.num_underflows == 1
    assert radio._board._lead.seconds == 2 * usrp_clock.LEAD_S
    assert rms(got) > 0.02


def test_a_transmitter_that_takes_no_more_samples_is_reported_and_silenced(opener: Open, air: Air) -> None:
    radio, board = opener(timeout_s=0.5), air.board("bs2")
    radio.configure(SETTINGS)
    board.tx_faults.append(Fault("stuck", after=5_000_000))
    radio.transmit(tone())
    assert board.channels["tx"][0]["gain"] == SETTINGS.tx_gain_db
    with pytest.raises(RadioTimeout, match=r"bs2: muted; no answer within 0\.5 s: the device took \d+ of") as told:
        for _ in range(1000):
            radio.receive(100_000)
    one_line(told)
    assert board.channels["tx"][0]["gain"] == 0.0
    radio.receive(1000)  # told once
    radio.mute()


def test_until_it_transmits_and_from_muting_on_the_gain_is_the_lowest(opener: Open, air: Air) -> None:
    board = air.board("bs2")
    radio = opener()
    assert board.channels["tx"][0]["gain"] == 0.0  # boards are found at their highest
    assert radio.configure(SETTINGS).tx_gain_db == SETTINGS.tx_gain_db
    assert board.channels["tx"][0]["gain"] == 0.0
    radio.transmit(tone())
    assert board.channels["tx"][0]["gain"] == SETTINGS.tx_gain_db
    assert radio.configure(replace(SETTINGS, tx_gain_db=50.0)).tx_gain_db == 50.0 == board.channels["tx"][0]["gain"]
    radio.mute()
    assert board.channels["tx"][0]["gain"] == 0.0
    assert not air.transmitting()["bs2"]


def test_a_retuned_transmitter_is_silent_on_the_way(radio: UsrpRadio, air: Air) -> None:
    board = air.board("bs2")
    radio.transmit(tone())
    at = len(board.log)
    radio.configure(replace(SETTINGS, carrier_hz=2.4e9))
    steps = board.log[at:]
    assert steps.index("tx0 gain 0") < steps.index("tx0 freq 2.4e+09") < steps.index("tx0 gain 79.75")
    assert air.transmitting()["bs2"]


def test_leaving_without_closing_and_an_exception_leave_nothing_on(air: Air) -> None:
    radio = usrp(air, "bs2")
    with pytest.raises(KeyboardInterrupt):
        try:
            radio.configure(SETTINGS)
            radio.transmit(tone())
            raise KeyboardInterrupt
        finally:
            radio.close()
    assert not air.transmitting()["bs2"]
    assert air.board("bs2").channels["tx"][0]["gain"] == 0.0


def test_a_gain_that_stays_up_is_an_error_in_one_line(radio: UsrpRadio, air: Air) -> None:
    radio.transmit(tone())
    board = air.board("bs2")
    board.coerced["gain"] = lambda gain_db: max(gain_db, 12.0)
    with pytest.raises(RadioError, match=r"the transmit gain of channel 0 stays at 12 dB, 0 was set; it may") as told:
        radio.mute()
    one_line(told)
    assert not air.transmitting()["bs2"]  # the burst has ended all the same
    board.coerced.clear()


def test_a_gain_that_stays_up_silences_the_other_channel_as_well() -> None:
    with usrp_air(("bs1", "bs2")) as air:
        pair = [usrp(air, node) for node in ("bs1", "bs2")]
        for radio in pair:
            radio.configure(SETTINGS)
            radio.transmit(tone())
        board = air.board("bs1")
        board.coerced["gain"] = lambda gain_db: max(gain_db, 12.0)
        with pytest.raises(RadioError, match="the transmit gain of channel 0 stays at 12 dB"):
            pair[0].mute()
        assert not any(air.transmitting().values())
        board.coerced.clear()
        for radio in pair:
            radio.close()


# -- two channels ------------------------------------------------------------------------------------------------------


def test_two_radios_share_a_board_and_each_has_its_own_gain_and_samples(opener: Open, air: Air) -> None:
    station, user = opener("bs1"), opener("u1")
    assert (station.num_channels, user.limits.num_tx) == (2, 0)
    station.configure(SETTINGS)
    user.configure(replace(SETTINGS, rx_gain_db=60.0))
    station.transmit(tone(amplitude=0.9))
    board = air.board("bs1")
    assert [row["gain"] for row in board.channels["rx"]] == [40.0, 60.0]
    a, b = station.receive(64_000), user.receive(64_000)
    assert (a.epoch, a.start) == (b.epoch, b.start)  # the very same stretch of device time
    assert rms(a) != pytest.approx(rms(b), rel=0.05)
    assert board.num_opened == 1
    user.close()
    assert air.transmitting()["bs1"]
    station.close()
    assert not air.transmitting()["bs1"]


def test_two_transmitters_begin_together_and_one_goes_on_alone() -> None:
    with usrp_air(("bs1", "bs2")) as air:
        pair = [usrp(air, node) for node in ("bs1", "bs2")]
        frames = [chirp(1), chirp(2)]
        for radio, frame in zip(pair, frames, strict=True):
            radio.configure(SETTINGS)
            radio.transmit(frame)
        alone = [latency(radio.receive(100 * PERIOD), frame) for radio, frame in zip(pair, frames, strict=True)]
        offsets = [round(air.scene.nodes[k].start_offset_samples) for k in (0, 1)]
        assert alone == [12 + offsets[0], 12 + offsets[1]]
        with pytest.raises(SafetyRefused, match="bs2: 641 samples do not fit the 640 of bs1; channels of one board"):
            pair[1].transmit(chirp(2, 641))
        pair[0].mute()
        assert air.transmitting() == {"bs1": False, "bs2": True, "bs3": False}
        assert [row["gain"] for row in air.board("bs1").channels["tx"]] == [0.0, SETTINGS.tx_gain_db]
        assert latency(pair[1].receive(100 * PERIOD), frames[1]) == alone[1]
        for radio in pair:
            radio.close()


def test_conflicting_settings_on_one_board_are_refused_in_one_line(opener: Open) -> None:
    station, user = opener("bs1"), opener("u1")
    station.configure(SETTINGS)
    for changed in ({"carrier_hz": 3.6e9}, {"sample_rate_hz": 10e6}):
        with pytest.raises(
            SettingOutOfRange, match=r"u1: .* of bs1; channels of one board .* share carrier and"
        ) as told:
            user.configure(replace(SETTINGS, **changed))
        one_line(told)


def test_a_channel_serves_one_node_and_a_board_has_so_many(opener: Open) -> None:
    opener("bs1")
    with pytest.raises(ConfigError, match=r"channel 0 of uhd:type=b200,serial=BS1U1 already serves bs1"):
        opener("bs1")
    with pytest.raises(ConfigError, match=r"channel 1 of uhd:.*, which has 1 .*usrp\.rx_subdev 'A:A'"):
        opener("bs2", channel=1)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_come_back_as_the_board_realised_them(opener: Open, air: Air) -> None:
    radio, board = opener(), air.board("bs2")
    back = radio.configure(Settings(2_399_999_999.5, 20e6 * (1 + 1e-8), 60.1, 40.4))
    row = board.channels["rx"][0]
    assert back == Settings(row["freq"], 20e6, 60.0, 40.0)
    assert back.carrier_hz != 2_399_999_999.5
    assert abs(back.carrier_hz - 2_399_999_999.5) < 0.01  # steps of the digital tuner


@pytest.mark.parametrize(
    ("what", "coerce", "wanted", "told"),
    [
        (
            "rate",
            None,
            {"sample_rate_hz": 15e6},
            r"sample_rate_hz: 15000000 Hz came .* as 13333333\.33, the nearest",
        ),
        ("freq", lambda hz: hz + 50.0, {"carrier_hz": 3.6e9}, r"carrier_hz: 3600000000 Hz came back .* as 360000005"),
        ("gain", lambda db: db - 6, {"rx_gain_db": 50.0}, r"rx_gain_db: 50 dB came back from the board as 44"),
    ],
    ids=["rate", "carrier", "gain"],
)
def test_what_the_board_makes_of_it_beyond_a_tolerance_is_an_error_and_changes_nothing(
    radio: UsrpRadio, air: Air, what: str, coerce: Callable[[float], float] | None, wanted: dict[str, float], told: str
) -> None:
    board = air.board("bs2")
    radio.transmit(tone(amplitude=0.9))
    loud = rms(radio.receive(64_000))
    before = {direction: dict(board.channels[direction][0]) for direction in ("rx", "tx")}
    if coerce is not None:
        changed = next(iter(wanted.values()))
        board.coerced[what] = lambda value: coerce(value) if abs(value - changed) < 0.5 else value
    with pytest.raises(SettingOutOfRange, match=told) as error:
        radio.configure(replace(SETTINGS, **wanted))
    one_line(error)
    assert {direction: board.channels[direction][0] for direction in ("rx", "tx")} == before
    # two receptions of 64,000 samples of a tone 30 dB above the noise: standard error 0.0125 %, this is 16 of them
    assert rms(radio.receive(64_000)) == pytest.approx(loud, rel=0.002)


def test_a_synthesiser_that_does_not_lock_is_an_error(radio: UsrpRadio, air: Air) -> None:
    board = air.board("bs2")
    board.lo_locked = False
    with pytest.raises(SettingOutOfRange, match="the rx synthesiser of channel 0 does not lock"):
        radio.configure(replace(SETTINGS, carrier_hz=2.4e9))
    board.lo_locked = True
    radio.configure(SETTINGS)


def test_limits_are_the_configurations_and_no_wider_than_the_boards(opener: Open) -> None:
    limits = opener().limits
    assert (limits.tx_gain_min_db, limits.tx_gain_max_db, limits.rx_gain_max_db) == (0.0, 89.75, 76.0)
    assert limits.sample_rate_min_hz == 40e6 / 512  # the board's; the configuration says 62.5 kHz
    assert limits.sample_rate_max_hz == 40e6
    assert (limits.simulated, limits.rx_full_scale, limits.tx_bits) == (False, 32768, 12)
    assert limits.model == "USRP B200"


def test_attributes_name_the_board_and_uhds_version(opener: Open) -> None:
    told = opener().attributes
    assert (told["hw_serial"], told["fw_version"], told["model"]) == ("BS2", "4.3.0.0-stand-in", "B200")


@pytest.mark.parametrize("call", ["receive", "transmit"])
def test_before_configure_nothing_is_sent_or_taken_for_a_measurement(opener: Open, call: str) -> None:
    radio = opener()
    with pytest.raises(RadioError, match=f"bs2: {call} before configure"):
        radio.receive(10) if call == "receive" else radio.transmit(tone())


# -- opening -----------------------------------------------------------------------------------------------------------


def refused(air: Air, node: str = "bs2", device: str = "b200", **changes: object) -> str:
    """The line that says why a board cannot be opened."""
    made = load_device(device)
    usrp_table = made.config.usrp.model_copy(update=changes)  # type: ignore[attr-defined]
    made = replace(made, config=made.config.model_copy(update={"usrp": usrp_table}))
    with pytest.raises((RadioUnavailable, ConfigError)) as told:
        usrp(air, node, device=made)
    return one_line(told)


def test_a_board_that_is_absent_busy_or_too_old_is_one_line(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RadioUnavailable, match=r"uhd:type=b200,serial=NONE: no such device; check cable") as told:
        UsrpRadio("uhd:serial=NONE", "bs1", device=load_device("b200"))
    one_line(told)
    air.board("bs2").busy = True
    assert "in use by another program; close that one first" in refused(air)
    air.board("bs2").busy = False
    air.version = "3.15.0.0"
    assert "UHD 3.15.0.0 is too old, 4.0.0 or newer is needed" in refused(air)


def test_clocks_that_are_not_as_configured_are_one_line(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.radio.usrp.device._REF_LOCK_S", 0.1)
    board = air.board("bs2")
    board.coerced["clock"] = lambda hz: 30.72e6
    assert "its master clock runs at 30720000 Hz, not at the 40000000 of the configuration" in refused(air)
    board.coerced.clear()
    board.ref_locked = False
    assert "does not lock to its external reference" in refused(air, clock_source="external")
    board.ref_locked, board.has_pps = True, False
    assert "no pulse per second arrives" in refused(air, clock_source="external", time_source="external")
    board.has_pps = True
    made = load_device("b200")
    table = made.config.usrp.model_copy(update={"time_source": "external"})  # type: ignore[attr-defined]
    radio = usrp(air, "bs2", device=replace(made, config=made.config.model_copy(update={"usrp": table})))
    assert "time at pulse" in board.log
    radio.close()


def test_an_antenna_or_a_device_of_another_kind_is_one_line(air: Air) -> None:
    assert "usrp.rx_antenna 'CAL' is none of channel 0, which has TX/RX, RX2; set one of" in refused(
        air, rx_antenna="CAL"
    )
    with pytest.raises(ConfigError, match=r"bs1: device 'pluto' is a pluto; 'uhd:' needs one of a USRP"):
        UsrpRadio("uhd:", "bs1", device=load_device("pluto"))
    with pytest.raises(ConfigError, match="found 'serial'; must be nothing, or device arguments of UHD"):
        UsrpRadio("uhd:serial", "bs1", device=load_device("b200"))


def test_a_board_that_was_unplugged_is_gone_and_there_is_nothing_left_to_mute(opener: Open, air: Air) -> None:
    radio, board = opener(), air.board("bs2")
    radio.configure(SETTINGS)
    board.gone = True
    with pytest.raises(RadioUnavailable, match="the device is gone; plug it in again") as told:
        radio.configure(replace(SETTINGS, rx_gain_db=30.0))
    one_line(told)
    with pytest.raises(RadioUnavailable, match="the device is gone"):
        radio.receive(10)
    radio.close()
    board.gone = False
    again = opener()
    again.configure(SETTINGS)
    assert again.receive(10).num_samples == 10


def test_a_board_that_is_unplugged_while_it_streams_is_unavailable_and_not_a_loss(radio: UsrpRadio, air: Air) -> None:
    board = air.board("bs2")
    timer = threading.Timer(0.1, lambda: setattr(board, "gone", True))
    timer.start()
    with pytest.raises(RadioUnavailable, match="bs2: receiving: the device is gone; plug it in again"):
        radio.receive(50_000_000)
    timer.join()
    with pytest.raises(RadioUnavailable, match="the device is gone"):
        radio.receive(10)
    radio.close()


def test_a_board_that_hangs_is_a_timeout_and_what_was_not_begun_is_never_done(opener: Open, air: Air) -> None:
    radio = opener(timeout_s=0.5)
    radio.configure(SETTINGS)
    with air.freeze():
        with pytest.raises(RadioTimeout, match=r"no answer within 0\.5 s"):
            radio.configure(replace(SETTINGS, rx_gain_db=30.0))
        with pytest.raises(RadioTimeout, match=r"no answer within 0\.5 s"):
            radio.transmit(tone())  # stands behind the other one
    assert radio.receive(1000).num_samples == 1000
    assert not air.transmitting()["bs2"]


def test_a_transmission_that_nobody_waits_for_any_more_is_not_left_on(opener: Open, air: Air) -> None:
    radio = opener(timeout_s=0.5)
    radio.configure(SETTINGS)
    with air.freeze(), pytest.raises(RadioTimeout, match=r"no answer within 0\.5 s"):
        radio.transmit(tone())  # has begun, and hangs
    until(lambda: not air.transmitting()["bs2"], "it transmits")
    assert air.board("bs2").channels["tx"][0]["gain"] == 0.0
    assert rms(radio.receive(64_000)) < 0.002


def test_closing_a_board_that_hangs_ends_within_the_timeout_and_says_so(air: Air) -> None:
    radio = usrp(air, "bs2", timeout_s=0.5)
    radio.configure(SETTINGS)
    radio.transmit(tone())
    with air.freeze():
        began = time.monotonic()
        with pytest.raises(RadioTimeout, match=r"no answer within 0\.5 s"):
            radio.close()
        assert time.monotonic() - began < 2.0
    until(lambda: not air.transmitting()["bs2"], "it transmits")  # muted as soon as it answers
    until(lambda: threading.active_count() == 1 or not _ours(), "threads go on")


def _ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("isac-usrp")]


# -- a device without a clock ------------------------------------------------------------------------------------------


def test_without_a_clock_everything_starts_at_once_and_nothing_is_claimed_of_continuity(
    opener: Open, air: Air, caplog: pytest.LogCaptureFixture
) -> None:
    air.board("bs1").clockless = True
    radio = opener("bs1")
    assert sum("its device time stands still" in row.message for row in caplog.records) == 1
    radio.configure(SETTINGS)
    radio.transmit(tone(amplitude=0.9))
    loud = radio.receive(64_000)
    assert loud.continuity == "unknown"
    radio.mute()
    assert rms(radio.receive(64_000)) < 0.2 * rms(loud)
    with pytest.raises(ConfigError, match="already serves bs1; its device time stands still, so channels cannot"):
        opener("u1")


# -- behind a server ---------------------------------------------------------------------------------------------------

CONSENT = {
    "transmit": True,
    "watchdog_s": 1.0,
    "bands": [
        {
            "name": "test",
            "low_hz": 3.4e9,
            "high_hz": 3.6e9,
            "max_power_dbm": 20.0,
            "basis": "a stand-in, nothing on air",
        }
    ],
}


def test_a_served_usrp_is_used_from_elsewhere_says_which_it_is_and_is_muted_when_its_client_is_lost(
    tmp_path: Path,
) -> None:
    device = tmp_path / "here.toml"
    device.write_text('extends = "b200"\n[limits]\nsample_rate_min_hz = 100e3\n')
    radios = {
        node: {"radio": f"uhd:serial={node.upper()}", "device": str(device), "transmits": node == "bs1"}
        for node in ("bs1", "u1")
    }
    variables = {
        "PYTHONPATH": f"{FOLDER}{os.pathsep}{FOLDER.parents[1]}",
        "UHD_STAND_IN_AIR": '{"boards": [["bs1"], ["u1"]]}',
    }
    with served_process(radios, variables=variables, safety=CONSENT) as (_, endpoint):
        station, user = RemoteRadio(endpoint, "bs1", timeout_s=10.0), RemoteRadio(endpoint, "u1", timeout_s=10.0)
        assert station.attributes["hw_serial"] == "BS1"
        assert not station.limits.simulated  # nobody can tell
        station.configure(SETTINGS)
        user.configure(replace(SETTINGS, rx_gain_db=70.0))
        quiet = rms(user.receive(64_000))
        station.transmit(chirp())
        user.refresh()
        loud = user.receive(64_000)
        assert loud.continuity == "reported"
        assert rms(loud) > 3 * quiet
        assert len({latency(station.receive(100 * PERIOD), chirp()) for _ in range(3)}) == 1
        assert rms(user.receive(64_000)) > 3 * quiet
        station._client.close()  # as if its machine had gone
        until(lambda: (user.refresh(), rms(user.receive(64_000)))[1] < 1.5 * quiet, "it still transmits")
        user.close()
