"""Virtual Plutos as the real pyadi-iio and libiio meet them, written from pyadi-iio's documentation."""

import contextlib
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.propagation import ScenePath, scene_paths
from sim.scene import load_scene
from sim.stream import LATENCY_SAMPLES
from testbed.errors import RadioError
from tests.emulator import SETTINGS, environment, request
from tests.plutos import Plutos, delay_and_gain, import_adi, pluto_process, white_frame

pytestmark = pytest.mark.emulated

FRAME = white_frame(4096)
PEAK = 2**14  # of the 16-bit words, as pyadi-iio's examples have it
CARRIER_HZ, RATE_HZ = 3_500_000_000, 20_000_000
TX_FULL_SCALE_DBM, RX_FULL_SCALE_DBM = 15.0, 10.2  # of the scenes
NOISE_DBM = -174 + 10 * np.log10(RATE_HZ) + 8.0  # of the radios of both scenes


@pytest.fixture(scope="module")
def adi() -> Any:
    return import_adi()


@pytest.fixture(scope="module")
def solo() -> Iterator[Plutos]:
    with pluto_process("solo") as plutos:
        yield plutos


@contextlib.contextmanager
def opened(kind: Callable[..., Any], uri: str) -> Iterator[Any]:
    """A radio of pyadi-iio, whose buffers and context are gone at the end."""
    sdr = kind(uri=uri)
    try:
        yield sdr
    finally:
        sdr.tx_destroy_buffer()
        sdr.rx_destroy_buffer()
        del sdr
        gc.collect()


@pytest.fixture
def sdr(adi: Any, solo: Plutos) -> Iterator[Any]:
    with opened(adi.Pluto, solo.uris["radio1"]) as sdr:
        configure(sdr)
        yield sdr


def configure(sdr: Any, rx_gain_db: int = 20, tx_gain_db: float = -10) -> None:
    sdr.sample_rate = RATE_HZ
    sdr.rx_lo = CARRIER_HZ
    sdr.tx_lo = CARRIER_HZ
    sdr.gain_control_mode_chan0 = "manual"
    sdr.rx_hardwaregain_chan0 = rx_gain_db
    sdr.tx_hardwaregain_chan0 = tx_gain_db
    sdr.loopback = 0


def words(frame: np.ndarray, peak: float = PEAK) -> np.ndarray:
    """Samples for `tx`, the largest rail at `peak`."""
    scaled = frame * (peak / max(np.abs(frame.real).max(), np.abs(frame.imag).max()))
    return np.round(scaled.real) + 1j * np.round(scaled.imag)


def dbfs(words: np.ndarray, full_scale: float) -> float:
    return float(10 * np.log10(max(np.mean(np.abs(words) ** 2), 1e-12)) - 20 * np.log10(full_scale))


def paths(scene: str = "solo", rx: int = 0) -> dict[tuple[int, str, str | None], ScenePath]:
    return {(p.tx, p.kind, p.via): p for p in scene_paths(load_scene(scene), rx, CARRIER_HZ, RATE_HZ)}


def test_settings_read_back_as_realised(sdr: Any) -> None:
    assert sdr.sample_rate == RATE_HZ
    assert abs(sdr.rx_lo - CARRIER_HZ) <= 4
    assert sdr.tx_lo == sdr.rx_lo
    assert sdr.rx_hardwaregain_chan0 == 20
    assert sdr.tx_hardwaregain_chan0 == -10
    sdr.rx_rf_bandwidth = 18_000_000
    assert sdr.rx_rf_bandwidth == 18_000_000
    assert sdr.filter == [128, 4, 128, 4]


@pytest.mark.parametrize("rate_hz", [600_000, 1_920_000, 3_000_000, 15_360_000, 30_720_000, 61_440_000])
def test_sample_rates_from_filter_to_bare(sdr: Any, rate_hz: int) -> None:
    sdr.sample_rate = rate_hz
    assert abs(sdr.sample_rate - rate_hz) <= 1


def test_receive_gain_is_dropped_unless_manual_and_gain_controls_are_there(sdr: Any) -> None:
    sdr.gain_control_mode_chan0 = "slow_attack"
    sdr.rx_hardwaregain_chan0 = 33
    assert sdr.rx_hardwaregain_chan0 != 33
    with pytest.raises(OSError, match="22"):
        sdr.gain_control_mode_chan0 = "loud"


@pytest.mark.parametrize(("name", "value"), [("rx_lo", 100_000_000), ("tx_lo", 4_000_000_000)])
def test_a_carrier_beyond_a_stock_pluto_is_refused(sdr: Any, name: str, value: int) -> None:
    before = getattr(sdr, name)
    with pytest.raises(OSError) as caught:
        setattr(sdr, name, value)
    assert caught.value.errno == 22
    assert getattr(sdr, name) == before


def test_a_cyclic_frame_is_heard_over_the_leakage_at_the_right_level_and_delay(sdr: Any) -> None:
    configure(sdr, rx_gain_db=40)
    sent = words(FRAME)
    sdr.tx_cyclic_buffer = True
    sdr.tx(sent)
    sdr.rx_buffer_size = 64 * FRAME.size
    heard = sdr.rx()
    # 55 dB of isolation between ports; noise and rounding 30 dB below
    level = dbfs(sent, 2**15) + TX_FULL_SCALE_DBM - 10 - 55 - (RX_FULL_SCALE_DBM - 40)
    assert dbfs(heard, 2048) == pytest.approx(level, abs=0.05)
    delay, gain = delay_and_gain(heard, sent)
    leakage_db = TX_FULL_SCALE_DBM - 10 - 55 - (RX_FULL_SCALE_DBM - 40)
    assert 20 * np.log10(abs(gain) * 2**15 / 2048) == pytest.approx(leakage_db, abs=0.02)
    # both streams began at the same instant of the clock or a whole number of samples later; 2.37 is the scene's
    assert delay % 1 == pytest.approx(2.37 % 1, abs=0.01)
    again, _ = delay_and_gain(sdr.rx(), sent)
    assert again == pytest.approx(delay, abs=0.002)


def test_an_echo_shows_where_the_target_stands_and_goes_with_it_while_streams_stay(sdr: Any, solo: Plutos) -> None:
    configure(sdr, rx_gain_db=30, tx_gain_db=0)
    sent = words(FRAME)
    sdr.tx_cyclic_buffer = True
    sdr.tx(sent)
    sdr.rx_buffer_size = 256 * FRAME.size
    with_target = sdr.rx()
    request(solo.control, op="condition", condition="without:t1")
    without = sdr.rx()
    request(solo.control, op="condition", condition="all")
    leakage_delay, leakage = delay_and_gain(without, sent)
    assert delay_and_gain(with_target, sent)[0] == pytest.approx(leakage_delay, abs=0.002)
    delay, echo = delay_and_gain(with_target - without, sent)
    found, self_path = paths()[0, "echo", "t1"], paths()[0, "self", None]
    assert abs(echo / leakage) == pytest.approx(abs(found.gain) / abs(self_path.gain), rel=0.05)
    assert delay - leakage_delay == pytest.approx(found.delay_samples, abs=0.05)


def test_receive_noise_is_the_scenes(sdr: Any) -> None:
    configure(sdr, rx_gain_db=60)
    sdr.rx_buffer_size = 1 << 18
    # 0.02 dB is 2 standard errors of 262,144 samples
    assert dbfs(sdr.rx(), 2048) == pytest.approx(NOISE_DBM - RX_FULL_SCALE_DBM + 60, abs=0.05)


def test_strong_samples_saturate_at_twelve_bits(sdr: Any) -> None:
    configure(sdr, rx_gain_db=71, tx_gain_db=0)
    sdr.tx_cyclic_buffer = True
    sdr.tx(words(FRAME))
    heard = sdr.rx()
    assert np.abs(heard.real).max() == 2047
    assert np.mean(np.abs(heard.real) == 2047) > 0.05


def test_a_gain_control_keeps_samples_within_range(sdr: Any) -> None:
    configure(sdr, tx_gain_db=0)
    for mode in ("fast_attack", "slow_attack", "hybrid"):
        sdr.gain_control_mode_chan0 = mode
        sdr.tx_cyclic_buffer = True
        sdr.tx(words(FRAME))
        sdr.rx_buffer_size = 1 << 20
        sdr.rx()
        heard = sdr.rx()
        assert 0.2 < np.abs(heard.real).max() / 2048 < 0.9
        loud = sdr.rx_hardwaregain_chan0
        sdr.tx_destroy_buffer()
        sdr.rx()
        sdr.rx()
        assert sdr.rx_hardwaregain_chan0 > loud + 20
        sdr.rx_destroy_buffer()


def test_a_burst_is_heard_once(sdr: Any) -> None:
    configure(sdr, tx_gain_db=0)
    sdr.rx_buffer_size = 8 * FRAME.size
    sdr.rx()
    sent = words(FRAME)
    sdr.tx(sent)
    heard = sdr.rx()
    power = np.abs(heard) ** 2
    on = np.flatnonzero(power > 0.05 * power.max())
    assert FRAME.size * 0.98 < on[-1] - on[0] < FRAME.size + 50
    delay = 2.37 + LATENCY_SAMPLES
    bins = np.fft.fft(heard[: 2 * FRAME.size])
    wanted = np.fft.fft(np.concatenate([sent, np.zeros(FRAME.size)]))
    wanted *= np.exp(-2j * np.pi * np.fft.fftfreq(2 * FRAME.size) * delay)
    match = np.abs(np.vdot(wanted, bins)) / np.linalg.norm(wanted) / np.linalg.norm(bins)
    assert match > 0.999


def test_what_is_pushed_piece_by_piece_is_heard_without_a_gap(adi: Any, solo: Plutos) -> None:
    rng = np.random.default_rng(1)
    pieces = [words(white_frame(2048, seed=k)) for k in range(40)]
    with opened(adi.Pluto, solo.uris["radio1"]) as talker, opened(adi.Pluto, solo.uris["radio1"]) as listener:
        configure(talker, tx_gain_db=0)
        listener.rx_buffer_size = 4096
        listener.rx()
        heard = []
        for k, piece in enumerate(pieces):
            talker.tx(piece)
            if k % 2:
                heard.append(listener.rx())
        heard += [listener.rx() for _ in range(4)]
    size = 1 << 17
    sent, got = np.concatenate(pieces), np.concatenate(heard)
    # the scene's start of 2.37 samples: where the match is by whole samples, 0.37 remain
    sent = np.fft.ifft(np.fft.fft(sent, size) * np.exp(-2j * np.pi * np.fft.fftfreq(size) * 0.37))[: sent.size]
    shift = np.fft.ifft(np.fft.fft(got, size) * np.conj(np.fft.fft(sent, size)))
    at = int(np.argmax(np.abs(shift)))
    for begin in rng.integers(0, sent.size - 1024, 20):
        a, b = sent[begin : begin + 1024], got[at + begin : at + begin + 1024]
        assert np.abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


def test_cyclic_buffers_are_one_at_a_time_and_go_with_their_connection(adi: Any, solo: Plutos, sdr: Any) -> None:
    sdr.tx_cyclic_buffer = True
    sdr.tx(words(FRAME))
    assert request(solo.control, op="status")["transmitting"] == {"radio1": True}
    with pytest.raises(Exception, match="cyclic"):  # pyadi-iio's own
        sdr.tx(words(FRAME))
    with opened(adi.Pluto, solo.uris["radio1"]) as other:
        other.tx_cyclic_buffer = True
        with pytest.raises(OSError) as caught:
            other.tx(words(FRAME))
        assert caught.value.errno == 16
    sdr.tx_destroy_buffer()
    assert request(solo.control, op="status")["transmitting"] == {"radio1": False}
    program = (
        "import sys, time, numpy as np, adi\n"
        "sdr = adi.Pluto(uri=sys.argv[1]); sdr.tx_cyclic_buffer = True; sdr.tx(np.full(64, 8000 + 0j))\n"
        "print('on', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, solo.uris["radio1"]], stdout=subprocess.PIPE, env=environment()
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"on\n"
        assert request(solo.control, op="status")["transmitting"] == {"radio1": True}
        child.send_signal(signal.SIGKILL)
    wait_until(lambda: request(solo.control, op="status")["transmitting"] == {"radio1": False})


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_second_push_of_a_cyclic_buffer_is_busy(sdr: Any) -> None:
    sdr.tx_cyclic_buffer = True
    sdr.tx(words(FRAME))
    with pytest.raises(OSError) as caught:
        sdr._txbuf.push()
    assert caught.value.errno == 16


@pytest.mark.parametrize("off", ["powerdown", "detuned", "not enabled"])
def test_a_transmitter_that_is_off_or_elsewhere_is_not_heard(sdr: Any, off: str) -> None:
    configure(sdr, rx_gain_db=60)
    sdr.tx_cyclic_buffer = True
    sdr.tx(words(FRAME))
    oscillator = sdr._ctrl.find_channel("altvoltage1", True)
    if off == "powerdown":
        oscillator.attrs["powerdown"].value = "1"
    elif off == "detuned":
        sdr.tx_lo = CARRIER_HZ - 2 * RATE_HZ
    else:
        sdr._ctrl.attrs["ensm_mode"].value = "alert"
    sdr.rx_buffer_size = 1 << 17
    quiet = dbfs(sdr.rx(), 2048)
    oscillator.attrs["powerdown"].value = "0"
    sdr._ctrl.attrs["ensm_mode"].value = "fdd"
    sdr.tx_lo = CARRIER_HZ
    assert quiet == pytest.approx(NOISE_DBM - RX_FULL_SCALE_DBM + 60, abs=0.1)
    assert dbfs(sdr.rx(), 2048) > quiet + 10


def test_a_transmitter_tuned_beside_the_receiver_is_heard_beside(sdr: Any) -> None:
    sdr.tx_cyclic_buffer = True
    sdr.tx_lo = CARRIER_HZ + 2_000_000
    sdr.tx(np.full(256, PEAK + 0j))
    sdr.rx_buffer_size = 20_000
    spectrum = np.abs(np.fft.fft(sdr.rx()))
    assert np.argmax(spectrum) * RATE_HZ / 20_000 == pytest.approx(2e6, abs=RATE_HZ / 20_000)


def test_generators_make_a_tone(sdr: Any) -> None:
    sdr.dds_single_tone(1_000_000, 0.5)
    sdr.rx_buffer_size = 20_000
    heard = sdr.rx()
    sdr.disable_dds()
    spectrum = np.abs(np.fft.fft(heard)) / heard.size
    assert np.argmax(spectrum) * RATE_HZ / 20_000 == pytest.approx(1e6, abs=1)
    # I and Q at half of full scale: 6 dB below a full-scale tone
    level = -6.02 + TX_FULL_SCALE_DBM - 65 - (RX_FULL_SCALE_DBM - 20)
    assert 20 * np.log10(spectrum.max() / 2048) == pytest.approx(level, abs=0.1)
    assert dbfs(sdr.rx(), 2048) < level - 20


def test_digital_loopback_gives_the_words_back_to_the_bit(sdr: Any) -> None:
    sdr.loopback = 1
    sdr.tx_cyclic_buffer = True
    sent = words(FRAME)
    sdr.tx(sent)
    sdr.rx_buffer_size = FRAME.size
    heard = sdr.rx()
    codes = np.floor(sent.real / 16) + 1j * np.floor(sent.imag / 16)
    start = int(np.argmax(np.abs(np.fft.ifft(np.fft.fft(heard) * np.conj(np.fft.fft(codes))))))
    np.testing.assert_array_equal(np.roll(heard, -start), codes)


def test_two_nodes_on_a_board_are_its_two_channels(adi: Any) -> None:
    with (
        pluto_process("comp", "--board", "bs1,u1") as plutos,
        opened(adi.ad9361, plutos.uris["bs1,u1"]) as pair,
        opened(adi.Pluto, plutos.uris["bs2"]) as other,
    ):
        assert list(plutos.uris) == ["bs1,u1", "bs2", "bs3", "u2", "u3"]
        configure(pair, rx_gain_db=40)
        configure(other, rx_gain_db=40)
        pair.gain_control_mode_chan1 = "manual"
        pair.rx_hardwaregain_chan1 = 40
        sent = words(FRAME)
        pair.tx_cyclic_buffer = True
        pair.tx([sent, 0 * sent])
        pair.rx_buffer_size = 64 * FRAME.size
        at_station, at_user = pair.rx()
        leakage, direct = paths("comp", 0)[0, "self", None], paths("comp", 3)[0, "direct", None]
        (leakage_delay, leakage_gain), (direct_delay, direct_gain) = (
            delay_and_gain(heard, sent) for heard in (at_station, at_user)
        )
        assert abs(direct_gain / leakage_gain) == pytest.approx(abs(direct.gain / leakage.gain), rel=0.05)
        apart = direct.delay_samples - leakage.delay_samples
        assert direct_delay - leakage_delay == pytest.approx(apart, abs=0.1)
        assert request(plutos.control, op="status")["transmitting"] == {"bs1": True, "bs2": False, "bs3": False}
        # the second transmitter goes nowhere, one receiver alone is a buffer of half the size
        pair.tx_destroy_buffer()
        pair.rx_destroy_buffer()
        pair.tx([0 * sent, sent])
        pair.rx_enabled_channels = [1]
        assert pair.rx().shape == (64 * FRAME.size,)
        assert request(plutos.control, op="status")["transmitting"] == {"bs1": False, "bs2": False, "bs3": False}
        other.rx_buffer_size = 1 << 16
        assert dbfs(other.rx(), 2048) == pytest.approx(NOISE_DBM - RX_FULL_SCALE_DBM + 40, abs=0.5)


def test_another_node_is_heard_over_the_direct_path(adi: Any) -> None:
    with (
        pluto_process("comp") as plutos,
        opened(adi.Pluto, plutos.uris["bs1"]) as near,
        opened(adi.Pluto, plutos.uris["bs2"]) as far,
    ):
        configure(near, rx_gain_db=60, tx_gain_db=0)
        configure(far, rx_gain_db=60)
        sent = words(FRAME)
        near.tx_cyclic_buffer = True
        near.tx(sent)
        far.rx_buffer_size = 256 * FRAME.size
        _, gain = delay_and_gain(far.rx(), sent)
        link = TX_FULL_SCALE_DBM - RX_FULL_SCALE_DBM + 60 + 20 * np.log10(abs(paths("comp", 1)[0, "direct", None].gain))
        assert 20 * np.log10(abs(gain) * 16) == pytest.approx(link, abs=0.3)
        far.sample_rate = 10_000_000  # another rate is not heard
        assert dbfs(far.rx(), 2048) == pytest.approx(NOISE_DBM - 3.01 - RX_FULL_SCALE_DBM + 60, abs=0.1)


def test_stale_buffers_are_of_before_the_change(adi: Any) -> None:
    with pluto_process("solo", "--stale-buffers") as plutos, opened(adi.Pluto, plutos.uris["radio1"]) as sdr:
        configure(sdr, rx_gain_db=45)
        sdr._rxadc.set_kernel_buffers_count(3)
        sdr.tx_cyclic_buffer = True
        sdr.tx(words(FRAME))
        sdr.rx_buffer_size = 4 * FRAME.size
        before = dbfs(sdr.rx(), 2048)
        sdr.tx_hardwaregain_chan0 = -20
        levels = [dbfs(sdr.rx(), 2048) for _ in range(5)]
        assert levels[:3] == pytest.approx([before] * 3, abs=0.1)
        assert levels[3:] == pytest.approx([before - 10] * 2, abs=0.2)


def test_streams_that_start_anywhere(adi: Any) -> None:
    delays = []
    with pluto_process("solo", "--random-start") as plutos, opened(adi.Pluto, plutos.uris["radio1"]) as sdr:
        configure(sdr)
        sent = words(FRAME)
        sdr.rx_buffer_size = 16 * FRAME.size
        for _ in range(3):
            sdr.tx_cyclic_buffer = True
            sdr.tx(sent)
            first, _ = delay_and_gain(sdr.rx(), sent)
            second, _ = delay_and_gain(sdr.rx(), sent)
            assert second == pytest.approx(first, abs=0.002)
            delays.append(first)
            sdr.tx_destroy_buffer()
            sdr.rx_destroy_buffer()
    assert min(abs(a - b) for k, a in enumerate(delays) for b in delays[:k]) > 1


STATUS = "0x80000088"


def status(device: Any) -> int:
    register = device.debug_attrs["direct_reg_access"]
    register.value = STATUS
    found = int(register.value, 16)
    register.value = f"{STATUS} {found:#x}"
    return found


def test_a_transmitter_that_runs_dry_says_so_once(sdr: Any) -> None:
    status(sdr._txdac)
    sdr.rx_buffer_size = FRAME.size
    sdr.tx(words(FRAME))
    assert status(sdr._txdac) == 0
    sdr.rx()
    sdr.rx()
    assert status(sdr._txdac) == 1
    sdr.tx_destroy_buffer()
    assert status(sdr._txdac) == 1
    assert status(sdr._txdac) == 0


def test_wanted_underflows_silence_a_cyclic_buffer_and_set_its_bit(adi: Any) -> None:
    with (
        pluto_process("solo", "--underflow-every", "100000") as plutos,
        opened(adi.Pluto, plutos.uris["radio1"]) as sdr,
    ):
        configure(sdr, tx_gain_db=0)
        sdr.tx_cyclic_buffer = True
        sdr.tx(np.full(64, PEAK + 0j))
        sdr.rx_buffer_size = 300_000
        weak = np.abs(sdr.rx()) < 5
        assert weak.sum() == pytest.approx(3 * 1024, abs=100)
        assert status(sdr._txdac) == 1


def test_paced_samples_take_their_time_and_who_is_late_loses_some(adi: Any) -> None:
    with pluto_process("solo", "--realtime") as plutos, opened(adi.Pluto, plutos.uris["radio1"]) as sdr:
        configure(sdr)
        sdr.sample_rate = 2_000_000
        sent = words(FRAME)
        sdr.tx_cyclic_buffer = True
        sdr.tx(sent)
        sdr.rx_buffer_size = 25 * FRAME.size  # 51 ms
        sdr.rx()
        status(sdr._rxadc)
        began = time.monotonic()
        delays = [delay_and_gain(sdr.rx(), sent)[0] for _ in range(10)]
        assert 0.4 < time.monotonic() - began < 1.5
        assert np.ptp(delays) < 0.01
        assert status(sdr._rxadc) == 0
        time.sleep(0.6)  # ten buffers; four are kept
        for _ in range(4):
            assert delay_and_gain(sdr.rx(), sent)[0] == pytest.approx(delays[0], abs=0.01)
        assert status(sdr._rxadc) == 4
        assert abs(delay_and_gain(sdr.rx(), sent)[0] - delays[0]) > 0.5


def test_paced_pushes_wait_for_a_free_buffer(adi: Any) -> None:
    with pluto_process("solo", "--realtime") as plutos, opened(adi.Pluto, plutos.uris["radio1"]) as sdr:
        configure(sdr)
        sdr.sample_rate = 2_000_000
        piece = np.tile(words(FRAME), 25)
        began = time.monotonic()
        for _ in range(14):
            sdr.tx(piece)
        assert 0.4 < time.monotonic() - began < 1.5  # ten of 51 ms; four wait in kernel buffers


def test_a_paced_stream_goes_on_at_another_sample_rate(adi: Any) -> None:
    with pluto_process("solo", "--realtime") as plutos, opened(adi.Pluto, plutos.uris["radio1"]) as sdr:
        configure(sdr)
        piece = words(FRAME)
        sdr.rx_buffer_size = FRAME.size
        for rate_hz in (20_000_000, 1_000_000, 10_000_000):
            sdr.sample_rate = rate_hz
            began = time.monotonic()
            for _ in range(20):
                sdr.tx(piece)
                sdr.rx()
            assert time.monotonic() - began < 1.5


def test_the_control_endpoint_sets_conditions_only(solo: Plutos) -> None:
    for op in ("mute", "configure"):
        with pytest.raises(RadioError, match="virtual Pluto; use its ip: uri"):
            request(solo.control, op=op, node="radio1", settings=SETTINGS.to_dict())
    with pytest.raises(RadioError, match="targets here: t1"):
        request(solo.control, op="condition", condition="without:t7")
    assert request(solo.control, op="condition", condition="all", epoch=70_000)["epoch"] >= 70_000  # type: ignore[operator]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--board", "bs1,u9"], "--board: node 'u9' is not in this scene; nodes here: bs1"),
        (["--board", "bs1,u1", "--board", "bs2,u1"], "--board: node 'u1' is given twice"),
        (["--board", "u1,u2,u3"], "--board u1,u2,u3: 3 receive and 0 transmit channels; a Pluto has two of each"),
        (["--model", "ad9371"], "--model 'ad9371': must be ad9363a, ad9364, ad9361"),
        (["--control", "tcp://0.0.0.0:0"], "only loopback addresses"),
    ],
)
def test_a_board_that_cannot_be_is_refused_in_one_line(options: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sim", "pluto", "comp", *options],
        capture_output=True, text=True, timeout=60, env=environment(),
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert done.stdout == ""


SEED, LINES = 20251122, 20_000
GROWTH_BYTES = 40e6
DEVICES = ["iio:device0", "iio:device2", "iio:device3", "cf-ad9361-lpc", "ad9361-phy", "iio:device9", "", "."]
NUMBERS = ["0", "1", "-1", "3", "64", "1e9", "99999999999", "9" * 30, "0x10", "nan", "4294967296", "٣"]
VALID = [
    "VERSION", "PRINT", "ZPRINT", "BINARY", "HELP", "TIMEOUT 100", "READ iio:device0", "READ iio:device0 DEBUG",
    "READ iio:device0 INPUT voltage0 hardwaregain", "READ iio:device3 BUFFER watermark", "GETTRIG iio:device3",
    "SETTRIG iio:device3 x", "OPEN iio:device3 64 00000003", "OPEN iio:device2 64 00000003 CYCLIC",
    "READBUF iio:device3 256", "CLOSE iio:device3", "CLOSE iio:device2", "SET iio:device3 BUFFERS_COUNT 4",
    "WRITE iio:device0 OUTPUT altvoltage0 frequency 11", "WRITEBUF iio:device2 256", "WRITE iio:device0 calib_mode 4",
]  # fmt: skip


def malformed(rng: random.Random) -> bytes:
    """A line that is no good command, or one with numbers and names that do not belong there."""
    match rng.randrange(7):
        case 0:
            return rng.randbytes(rng.randrange(60)).replace(b"\n", b"")
        case 1:
            text = bytearray(rng.choice(VALID).encode())
            for _ in range(rng.randint(1, 3)):
                text[rng.randrange(len(text))] = rng.randrange(256)
            return bytes(text).replace(b"\n", b"")
        case 2:
            words = rng.choice(VALID).split()
            words[rng.randrange(len(words))] = rng.choice(NUMBERS + DEVICES)
            return " ".join(words).encode()
        case 3:
            mask = rng.choice(["00000003", "ffffffff", "0", "x"])
            return f"OPEN {rng.choice(DEVICES)} {rng.choice(NUMBERS)} {mask}".encode()
        case 4:
            verb = rng.choice(["READBUF", "WRITEBUF", "WRITE", "READ"])
            return f"{verb} {rng.choice(DEVICES)} {rng.choice(NUMBERS)}".encode()
        case 5:
            return b"A" * rng.choice([1000, 1023, 1024, 1025, 5000, 100_000])
        case _:
            return f"WRITE iio:device0 INPUT voltage0 hardwaregain {rng.choice(NUMBERS)}".encode()


def memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_twenty_thousand_malformed_lines_end_nothing_and_none_is_met_with_silence(adi: Any) -> None:
    rng = random.Random(SEED)
    with pluto_process("solo") as plutos:
        address = ("127.0.0.1", int(plutos.uris["radio1"].rsplit(":", 1)[1]))
        sent, at_first = 0, 0
        while sent < LINES:
            with socket.create_connection(address, timeout=20) as client:
                reader = client.makefile("rb")
                for _ in range(rng.randint(1, 60)):
                    sent += 1
                    # with what a command that waits for bytes would take; VERSION shows that the server still answers
                    client.sendall(malformed(rng) + b"\r\n")
                    if rng.random() < 0.02:
                        break  # gone in the midst of whatever it was
                else:
                    client.sendall(b"\0" * 300 + b"\r\nVERSION\r\n")
                    client.shutdown(socket.SHUT_WR)
                    answer = reader.read(1 << 16)
                    assert answer
                reader.close()
            if sent > LINES // 10 and not at_first:
                at_first = memory_bytes(plutos.process.pid)
        assert memory_bytes(plutos.process.pid) - at_first < GROWTH_BYTES
        assert plutos.process.poll() is None
        with opened(adi.Pluto, plutos.uris["radio1"]) as sdr:
            configure(sdr)
            assert sdr.rx().size == 1024


@pytest.mark.parametrize(
    ("line", "errno_"),
    [
        (b"ZORK", 22), (b"ZPRINT", 22), (b"READ iio:device9 x", 19), (b"READ iio:device0 nothing", 2),
        (b"READ iio:device0 INPUT voltage7 hardwaregain", 19), (b"READBUF iio:device3 64", 9),
        (b"CLOSE iio:device3", 6), (b"OPEN iio:device3 100000000000 00000003", 12),
        (b"OPEN iio:device0 8 00000001", 22),
        (b"OPEN iio:device3 64 00000010", 22), (b"SET iio:device3 BUFFERS_COUNT 0", 22), (b"GETTRIG iio:device3", 2),
        (b"WRITE iio:device0 trx_rate_governor_available 0", 13), (b"A" * 5000, 22),
        (b"WRITE iio:device0 x 99999999", 12),
    ],
)  # fmt: skip
def test_every_refusal_has_its_errno(solo: Plutos, line: bytes, errno_: int) -> None:
    address = ("127.0.0.1", int(solo.uris["radio1"].rsplit(":", 1)[1]))
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(line + b"\r\n")
        assert client.recv(100) == b"%d\n" % -errno_
