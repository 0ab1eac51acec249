"""The Pluto driver where no board, real or virtual, can be made to behave so: a broken installation, a deaf chip."""

import dataclasses
import errno
import importlib
import os
import socket
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from testbed.device import Settings
from testbed.errors import ConfigError, RadioError, RadioUnavailable, SafetyRefused, SettingOutOfRange
from testbed.radio.gains import quantise
from testbed.radio.pluto import libiio
from testbed.radio.pluto.board import Board
from testbed.radio.pluto.buffers import receive_count, receive_length, to_words, transmit_length
from testbed.radio.pluto.info import BoardInfo
from testbed.radio.pluto.radio import PlutoRadio
from testbed.radio.pluto.settings import forbid_loopback

# -- installation ------------------------------------------------------------------------------------------------------


def broken(exc: Exception) -> Callable[[str], Any]:
    def import_module(name: str) -> Any:
        raise exc

    return import_module


INSTALLATIONS = [
    (ModuleNotFoundError("No module named 'iio'", name="iio"), "package pylibiio is not installed"),
    (ModuleNotFoundError("No module named 'adi'", name="adi"), "package pyadi-iio is not installed"),
    (AttributeError("python: undefined symbol: iio_get_backends_count"), "the C library libiio is missing"),
    (FileNotFoundError(2, "Could not find libiio C library"), "pylibiio 1.x cannot work with"),
    (OSError("libiio version 1.x required, found version 0"), "pylibiio 1.x cannot work with"),
    (AttributeError("/lib/libiio.so.0: undefined symbol: iio_device_get_label"), "is too old for pylibiio 0.25"),
    (ImportError("libusb-1.0.so.0: cannot open shared object file"), "cannot be imported"),
]


@pytest.mark.parametrize(("exc", "words"), INSTALLATIONS)
def test_a_broken_installation_is_explained_with_the_recipe(
    monkeypatch: pytest.MonkeyPatch, exc: Exception, words: str
) -> None:
    monkeypatch.setattr(importlib, "import_module", broken(exc))
    with pytest.raises(RadioUnavailable, match=words) as told:
        libiio.load("adi")
    assert "apt-get install libiio0, then pip install pyadi-iio==0.0.21 pylibiio==0.25" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("version", "words"), [((1, 0, "v1.0"), "cyclic buffers of a wrong length"), ((0, 19, "v0.19"), "0.19 is too old")]
)
def test_a_libiio_that_would_not_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, str], words: str
) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: types.SimpleNamespace(version=version))
    with pytest.raises(RadioUnavailable, match=words):
        libiio.load("adi")


def test_the_driver_is_imported_only_when_a_pluto_is_wanted() -> None:
    code = "import sys, testbed.radio.pluto.radio, testbed.experiment.config; print({'adi', 'iio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# -- addresses and errors ----------------------------------------------------------------------------------------------

URIS = [
    ("ip:192.168.2.1", ("192.168.2.1", 30431), False),
    ("ip:pluto.local:5000", ("pluto.local", 5000), False),
    ("ip:127.0.0.1:5000", ("127.0.0.1", 5000), True),
    ("ip:127.9.9.9", ("127.9.9.9", 30431), True),
    ("ip:localhost", ("localhost", 30431), True),
    ("ip:[::1]:5000", ("::1", 5000), True),
    ("ip:::1", ("::1", 30431), True),
    ("ip:0.0.0.0:5000", ("0.0.0.0", 5000), False),
    ("usb:1.2.3", None, False),
    ("usb:", None, False),
]


@pytest.mark.parametrize(("uri", "address", "is_loopback"), URIS)
def test_uris_are_those_of_libiio(uri: str, address: tuple[str, int] | None, is_loopback: bool) -> None:
    assert libiio.check_uri(uri) == uri
    if address is not None:
        assert libiio.address(uri) == address
    assert libiio.is_loopback(uri) is is_loopback


@pytest.mark.parametrize("uri", ["", "ip:", "ip::5", "192.168.2.1", "ip:host:port", "ip:host:0", "ip:host:70000", "usb",
                                 "ip:a b", "serial:/dev/ttyUSB0", "ip:pluto\n.local", "ip:plüto"])  # fmt: skip
def test_what_is_no_uri_is_refused_in_one_line(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"must read pluto:ip:HOST"):
        libiio.check_uri(uri)


@pytest.mark.parametrize(
    ("uri", "attributes", "is_simulated"),
    [
        ("ip:127.0.0.1:5", {"simulated": "isac-sim, nodes bs1"}, True),
        ("ip:127.0.0.1:5", {}, False),  # a tunnel to a real board
        ("ip:192.168.2.1", {"simulated": "isac-sim, nodes bs1"}, False),
        ("usb:1.2.3", {"simulated": "isac-sim, nodes bs1"}, False),
    ],
)
def test_only_a_virtual_board_on_loopback_counts_as_simulated(
    uri: str, attributes: dict[str, str], is_simulated: bool
) -> None:
    assert libiio.is_simulated(uri, attributes) is is_simulated


ERRORS = [
    (errno.EBUSY, "usb:1.2.3", "in use by another program"),
    (errno.EACCES, "usb:1.2.3", "udev rule"),
    (errno.EPERM, "usb:1.2.3", "udev rule"),
    (errno.ENODEV, "usb:", "no such device on USB"),
    (errno.EINVAL, "usb:", "usb:BUS.DEVICE.INTERFACE"),
    (errno.ECONNREFUSED, "ip:192.168.2.1", "no iiod runs on it"),
    (errno.EHOSTUNREACH, "ip:192.168.2.1", "no such machine"),
    (errno.ENETUNREACH, "ip:192.168.2.1", "no such machine"),
    (errno.ENOMEM, "ip:192.168.2.1", "Cannot allocate memory"),
]


@pytest.mark.parametrize(("number", "uri", "words"), ERRORS)
def test_every_error_of_opening_says_what_to_do(number: int, uri: str, words: str) -> None:
    assert words in libiio.why(OSError(number, os.strerror(number)), uri)


def test_an_unknown_name_says_so() -> None:
    assert "not known on the network" in libiio.why(socket.gaierror(-2, "Name or service not known"), "ip:x")


def test_quiet_drops_what_c_libraries_print_and_gives_it_back(capfd: pytest.CaptureFixture[str]) -> None:
    import ctypes

    libc = ctypes.CDLL(None)

    def complain(text: bytes) -> None:
        libc.fputs(text, ctypes.c_void_p.in_dll(libc, "stderr"))
        libc.fflush(None)

    with libiio.quiet():
        complain(b"one\n")
        with libiio.quiet():
            complain(b"two\n")
        complain(b"three\n")
        print("Python", file=sys.stderr)
    complain(b"four\n")
    assert capfd.readouterr().err == "Python\nfour\n"


# -- scaling -----------------------------------------------------------------------------------------------------------


def test_words_are_the_converters_codes_left_justified_and_never_wrap() -> None:
    x = np.array([0, 1, -1, 1j, -1j, 0.5, 1 / 2048, 0.49 / 2048, 0.51 / 2048], dtype=np.complex64)
    assert to_words(x).tolist() == [0, 32752, -32752, 32752j, -32752j, 16384, 16, 0, 16]


def test_words_are_what_the_gain_plan_takes_to_be_on_the_air() -> None:
    rng = np.random.default_rng(3)
    x = (rng.uniform(-1, 1, 1000) + 1j * rng.uniform(-1, 1, 1000)).astype(np.complex64)
    np.testing.assert_array_equal(to_words(x) / 32768, quantise(x, 12))
    assert np.abs(to_words(x).view(np.float64)).max() <= 32752


@pytest.mark.parametrize("size", [1, 2, 3, 640, 641, 1023, 1024, 100_001])
def test_a_frame_is_repeated_until_its_buffer_is_aligned_and_long_enough(size: int) -> None:
    length = transmit_length(size)
    assert length % size == 0
    assert length % 4 == 0
    assert length >= 1024
    assert length < max(4 * size, 1024) + 4 * size


# -- a chip that does as it likes --------------------------------------------------------------------------------------


class Chip:
    """Attributes as pyadi shows them; what stands in `stuck` stays as it is."""

    def __init__(self, **stuck: Any) -> None:
        object.__setattr__(self, "stuck", stuck)
        object.__setattr__(self, "calls", [])
        for name, value in {
            "gain_control_mode_chan0": "slow_attack",
            "rx_hardwaregain_chan0": 71.0,
            "tx_hardwaregain_chan0": -10.0,
            "tx_lo": 2.45e9,
            "rx_lo": 2.4e9,
            "sample_rate": 30.72e6,
            "rx_rf_bandwidth": 18e6,
            "tx_rf_bandwidth": 18e6,
            "loopback": 0,
            "_txbuf": None,
            "_rxbuf": None,
            "_ctrl": 1,
            "_rxadc": 1,
            "_txdac": 1,
            "_tx_channel_names": [],
            "dds_scales": ["0.5"] * 4,
            "powerdown": 0,
        }.items():
            object.__setattr__(self, name, stuck.get(name, value))

    def __setattr__(self, name: str, value: Any) -> None:
        self.calls.append((name, value))
        if name == "rx_hardwaregain_chan0" and self.gain_control_mode_chan0 != "manual":
            return  # as pyadi does, without a word
        if name not in self.stuck:
            object.__setattr__(self, name, value)

    def _set_iio_attr(self, channel: str, attribute: str, output: bool, value: Any) -> None:
        setattr(self, attribute if attribute == "powerdown" else "sample_rate", value)

    def _get_iio_attr(self, channel: str, attribute: str, output: bool) -> Any:
        return getattr(self, attribute)

    def disable_dds(self) -> None:
        self.calls.append(("disable_dds", None))

    def tx_destroy_buffer(self) -> None:
        self.calls.append(("tx_destroy_buffer", None))

    def rx_destroy_buffer(self) -> None:
        self.calls.append(("rx_destroy_buffer", None))

    def close(self) -> None:
        self.calls.append(("close", None))

    def tx(self, data: Any) -> None:
        self.calls.append(("tx", data))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


INFO = BoardInfo("chip", "", False, {}, 1, (325e6, 3.8e9), (521e3, 61.44e6), (-3, 71, 1), (-89.75, 0, 0.25))
WANTED = Settings(3.5e9, 20e6, -20.0, 40.0)


def board_on(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> Board:
    def connect(self: Board) -> BoardInfo:
        self._sdr = chip
        return INFO

    monkeypatch.setattr(Board, "_connect", connect)
    board = Board("usb:1.2.3", timeout_s=1.0)
    board.holders[0] = "bs1"
    return board


def test_settings_are_written_in_the_order_that_keeps_the_air_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip()
    assert board_on(chip, monkeypatch).configure(0, WANTED, "bs1") == WANTED
    order = [name for name in chip.names if "bandwidth" not in name]
    assert order == ["tx_hardwaregain_chan0", "sample_rate", "tx_lo", "rx_lo", "gain_control_mode_chan0",
                     "rx_hardwaregain_chan0", "tx_hardwaregain_chan0"]  # fmt: skip
    assert [call for call in chip.calls if call[0] == "tx_hardwaregain_chan0"] == [
        ("tx_hardwaregain_chan0", -89.75)] * 2  # fmt: skip


def test_a_gain_that_does_not_come_back_ends_the_transmission(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip(tx_hardwaregain_chan0=-10.0)
    board = board_on(chip, monkeypatch)
    board.configure(0, WANTED, "bs1")
    with pytest.raises(SettingOutOfRange, match=r"bs1\.tx_gain_db: -20 dB came back .* as -10"):
        board.transmit(0, np.ones(640, np.complex64), "bs1")
    assert chip.names[-2:] == ["tx_destroy_buffer", "powerdown"]
    assert chip.powerdown == 1


def test_what_pyadi_raises_becomes_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    board = board_on(Chip(), monkeypatch)
    for raised, words in ((Exception("Channel voltage1 not found"), "pyadi-iio: Channel voltage1"),
                          (KeyError("powerdown"), "no attribute 'powerdown'")):  # fmt: skip
        with pytest.raises(RadioError, match=words), board._named():
            raise raised
    with pytest.raises(ValueError, match="a fault of ours"), board._named():
        raise ValueError("a fault of ours")


STUCK = [
    ("rx_hardwaregain_chan0", 71.0, SettingOutOfRange, r"bs1\.rx_gain_db: 40 dB came back .* as 71"),
    ("tx_lo", 2.45e9, SettingOutOfRange, r"bs1\.carrier_hz: 3500000000 Hz came back .* as 2450000000"),
    ("rx_lo", 2.45e9, SettingOutOfRange, r"bs1\.carrier_hz: 3500000000 Hz came back"),
    ("sample_rate", 30.72e6, SettingOutOfRange, r"bs1\.sample_rate_hz: 20000000 Hz came back .* as 30720000"),
    ("gain_control_mode_chan0", "slow_attack", RadioError, "bs1: gain control stays 'slow_attack'"),
]


@pytest.mark.parametrize(("attribute", "value", "error", "words"), STUCK)
def test_what_does_not_come_back_as_written_is_an_error(
    monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any, error: type[Exception], words: str
) -> None:
    board = board_on(Chip(**{attribute: value}), monkeypatch)
    with pytest.raises(error, match=words):
        board.configure(0, WANTED, "bs1")


def test_synthesisers_that_differ_by_a_step_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    board = board_on(Chip(rx_lo=3.5e9 - 5), monkeypatch)
    with pytest.raises(SettingOutOfRange, match="transmitter at 3500000000 Hz, receiver at 3499999995 Hz"):
        board.configure(0, WANTED, "bs1")


def test_a_loopback_is_switched_off_and_one_that_stays_on_is_refused() -> None:
    chip = Chip()
    object.__setattr__(chip, "loopback", 2)
    forbid_loopback(chip, "usb:")
    assert chip.calls == [("loopback", 0)]
    with pytest.raises(SafetyRefused, match="loopback cannot be switched off"):
        forbid_loopback(Chip(loopback=2), "usb:")


def test_muting_attenuates_first_then_tones_then_the_buffer_then_the_carrier(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip()
    board = board_on(chip, monkeypatch)
    board.configure(0, WANTED, "bs1")
    board.transmit(0, np.ones(640, np.complex64), "bs1")
    chip.calls.clear()
    board.mute(0)
    assert chip.names == ["tx_hardwaregain_chan0", "dds_scales", "disable_dds", "tx_destroy_buffer", "powerdown"]
    assert chip.calls[0] == ("tx_hardwaregain_chan0", -89.75)
    assert chip.calls[-1] == ("powerdown", 1)


def test_a_carrier_that_cannot_be_switched_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    board = board_on(Chip(powerdown=0), monkeypatch)
    with pytest.raises(RadioError, match="carrier cannot be switched off"):
        board.mute(0)


def test_a_cyclic_buffer_is_destroyed_before_it_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip()
    board = board_on(chip, monkeypatch)
    board.configure(0, WANTED, "bs1")
    for _ in range(2):
        chip.calls.clear()
        board.transmit(0, np.ones(640, np.complex64), "bs1")
        assert [n for n in chip.names if n != "tx_enabled_channels"] == [
            "tx_destroy_buffer", "tx_cyclic_buffer", "powerdown", "tx", "tx_hardwaregain_chan0"]  # fmt: skip


def test_what_is_dropped_is_dropped_in_the_order_that_libiio_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip()
    board = board_on(chip, monkeypatch)
    board.close()
    assert [name for name in chip.names if not name.startswith("_")] == [
        "tx_destroy_buffer", "rx_destroy_buffer", "close"]  # fmt: skip
    with pytest.raises(RadioUnavailable, match="this radio was closed"):
        board.configure(0, WANTED, "bs1")


@pytest.mark.parametrize(
    ("period", "num_samples", "rate_hz", "timeout_s", "size"),
    [
        (640, 1000, 20e6, 10.0, 16640),  # 26 frames: the least that is worth a transfer
        (640, 10_000_000, 20e6, 10.0, 261_760),  # 409 frames: the most
        (2, 1000, 20e6, 10.0, 16384),
        (1_000_000, 1000, 20e6, 10.0, 16384),  # a frame that does not fit
        (640, 1_000_000, 1e6, 0.1, 24_960),  # a quarter of the timeout
    ],
)
def test_receive_buffers_are_whole_frames_within_the_timeout(
    period: int, num_samples: int, rate_hz: float, timeout_s: float, size: int
) -> None:
    assert receive_length(num_samples, period, rate_hz, timeout_s) == size


@pytest.mark.parametrize(
    ("num_samples", "length", "num_channels", "count"),
    [(1000, 16384, 1, 4), (1_280_000, 261_760, 1, 6), (40_000_000, 261_760, 1, 32), (40_000_000, 261_760, 2, 16)],
)
def test_a_capture_fits_into_the_buffers_of_the_board_as_far_as_its_memory_goes(
    num_samples: int, length: int, num_channels: int, count: int
) -> None:
    assert receive_count(num_samples, length, num_channels) == count


# -- ends that are not clean -------------------------------------------------------------------------------------------


def faulty(chip: Chip, *numbers: int) -> None:
    """From now on, commands to a chip fail with these errors, one after the other."""
    left = list(numbers)

    def fail() -> None:
        chip.calls.append(("disable_dds", None))
        if left:
            raise OSError(left.pop(0), "as a test wishes")

    object.__setattr__(chip, "disable_dds", fail)


def radio_on(chip: Chip, monkeypatch: pytest.MonkeyPatch, uri: str = "usb:1.2.3", info: BoardInfo = INFO) -> PlutoRadio:
    def connect(self: Board) -> BoardInfo:
        self._sdr = chip
        self._silence([0])
        return info

    monkeypatch.setattr(Board, "_connect", connect)
    radio = PlutoRadio(f"pluto:{uri}", "bs1")
    radio.configure(WANTED)
    radio.transmit(np.ones((1, 640), np.complex64))
    return radio


def test_a_board_on_usb_that_is_there_and_cannot_be_muted_may_still_transmit(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip()
    radio = radio_on(chip, monkeypatch)
    faulty(chip, *[errno.EBUSY] * 9)
    with pytest.raises(RadioError, match=r"in use by another program.*it may still transmit"):
        radio.close()


def test_a_board_on_usb_that_is_unplugged_has_nothing_left_to_mute(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip()
    radio = radio_on(chip, monkeypatch)
    faulty(chip, *[errno.EPIPE, *[errno.ENODEV] * 9])
    radio.close()


def test_a_fault_of_the_usb_cable_is_not_taken_for_a_board_without_power(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip()
    radio = radio_on(chip, monkeypatch)
    faulty(chip, errno.EIO)
    chip.calls.clear()
    radio.close()
    assert chip.names.count("disable_dds") > 1  # connected anew, and silenced
    assert chip.powerdown == 1


@pytest.mark.parametrize("is_virtual", [True, False])
def test_a_real_board_behind_a_tunnel_that_leads_nowhere_may_still_transmit(
    monkeypatch: pytest.MonkeyPatch, is_virtual: bool
) -> None:
    chip = Chip()
    radio = radio_on(chip, monkeypatch, "ip:127.0.0.1:5", dataclasses.replace(INFO, is_virtual=is_virtual))

    def hang_up(uri: str, timeout_s: float) -> str:
        raise RadioUnavailable(f"{uri}: what answers there is no iiod (''); check the address")

    monkeypatch.setattr(libiio, "probe", hang_up)
    faulty(chip, *[errno.EPIPE] * 9)
    if is_virtual:
        radio.close()
        return
    with pytest.raises(RadioError, match="it may still transmit"):
        radio.close()


def test_an_interrupt_while_closing_ends_the_program_and_not_the_muting(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip()
    radio = radio_on(chip, monkeypatch)
    plain, interrupts = chip.disable_dds, [KeyboardInterrupt()]

    def interrupted() -> None:
        plain()
        if interrupts:
            raise interrupts.pop()

    object.__setattr__(chip, "disable_dds", interrupted)
    with pytest.raises(KeyboardInterrupt):
        radio.close()
    assert chip.powerdown == 1
    assert chip.calls[-1] != ("powerdown", 1)  # and released


@pytest.mark.parametrize("change", [{"is_virtual": True}, {"attributes": {"hw_serial": "2"}}])
def test_another_board_at_the_address_is_never_taken_for_the_one_that_was_opened(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    chip = Chip()
    board = board_on(chip, monkeypatch)
    board.configure(0, WANTED, "bs1")
    board.transmit(0, np.ones(640, np.complex64), "bs1")

    def connect(self: Board) -> BoardInfo:
        self._sdr = chip
        return dataclasses.replace(INFO, **change)

    monkeypatch.setattr(Board, "_connect", connect)
    board._spoilt = True
    chip.calls.clear()
    for _ in range(2):
        with pytest.raises(RadioUnavailable, match=r"usb:1\.2\.3: another board .* start again"):
            board.configure(0, WANTED, "bs1")
    assert "tx" not in chip.names


@pytest.mark.parametrize("host", ["192.168..1", "a" * 70])
def test_an_address_that_no_network_knows_is_one_line(host: str) -> None:
    with pytest.raises(RadioUnavailable, match="not known on the network"):
        libiio.probe(f"ip:{host}", 1.0)
