"""Parts of the USRP driver that need no device: the library and its errors, words, device time, the worker."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ConfigError, RadioError, RadioTimeout, RadioUnavailable
from testbed.radio import discovery
from testbed.radio.usrp import uhd_library
from testbed.radio.usrp.clock import MAX_LEAD_S, Lead, next_begin, time_spec
from testbed.radio.usrp.transmit import CHUNK_S, CHUNK_SAMPLES, chunks, to_words
from testbed.radio.usrp.worker import Task, Worker
from tests.emulator import environment
from tests.uhd_stand_in.air import Air
from tests.uhd_stand_in.install import FOLDER, forgotten, installed

# -- the library -------------------------------------------------------------------------------------------------------


def test_where_uhd_is_missing_the_recipe_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with forgotten():
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(RadioUnavailable, match=r"not installed here; .*python3-uhd uhd-host.*numpy<2") as told:
            uhd_library.load()
    assert "\n" not in str(told.value)


def test_a_module_that_cannot_be_loaded_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "uhd.py").write_text("raise ImportError('libuhd.so.4.3.0: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with forgotten(), pytest.raises(RadioUnavailable, match=r"cannot be loaded \(libuhd\.so\.4\.3\.0: cannot open"):
        uhd_library.load()


@pytest.mark.skipif(int(np.__version__.split(".")[0]) < 2, reason="NumPy 1 has nothing against such a module")
def test_a_module_built_for_numpy_1_is_refused_beside_numpy_2_and_stays_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # the stand-in asks NumPy for its C interface, as such a module does; NumPy itself writes the warning
    monkeypatch.setenv("UHD_STAND_IN_NUMPY1", "1")
    with installed(Air(boards=[])):
        for _ in range(2):
            with pytest.raises(RadioUnavailable, match="built for NumPy 1 and would crash beside NumPy 2") as told:
                uhd_library.load()
            assert np.__version__ in str(told.value)
            assert "numpy<2" in str(told.value)
            assert "\n" not in str(told.value)
    assert capsys.readouterr().err == ""


def test_numpys_own_warning_would_have_been_printed_for_this_very_module(monkeypatch: pytest.MonkeyPatch) -> None:
    # so that the test above proves something
    path = {"PYTHONPATH": f"{FOLDER}:.", "UHD_STAND_IN_NUMPY1": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "import uhd"], capture_output=True, text=True, env=environment(**path), check=True
    )
    expected = int(np.__version__.split(".")[0]) >= 2
    assert ("A module that was compiled using NumPy 1.x cannot be run in" in done.stderr) == expected


def test_the_module_and_its_version_are_found() -> None:
    with installed(Air(boards=[])):
        assert uhd_library.version(uhd_library.load()) == "4.3.0.0-stand-in"
    assert "uhd" not in sys.modules


def test_a_module_that_does_not_tell_its_version_has_none() -> None:
    assert uhd_library.version(object()) == ""


@pytest.mark.parametrize(
    ("text", "numbers"), [("4.3.0.0+ds1-5", (4, 3, 0, 0)), ("4.10.0", (4, 10, 0)), ("v3.15", (3, 15)), ("?", ())]
)
def test_versions_are_compared_by_number(text: str, numbers: tuple[int, ...]) -> None:
    assert uhd_library.version_number(text) == numbers
    assert uhd_library.version_number("4.10.0") > uhd_library.version_number("4.9.0.1")


def test_device_arguments_are_read() -> None:
    assert uhd_library.check_args("") == {}
    assert uhd_library.check_args("type=b200,serial=30AB,addr=192.168.40.2") == {
        "type": "b200", "serial": "30AB", "addr": "192.168.40.2",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["serial", "a=1,,b=2", "=3", "a=", "A=1", "a=1;b", "a=b=c", "a=1,a=2", "a" * 2000, "a=\n"]
)
def test_what_is_no_device_argument_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as told:
        uhd_library.check_args(text)
    assert "\n" not in str(told.value)


# what UHD says, what it means
ERRORS = [
    (
        "LookupError: KeyError: No devices found for ----->\nDevice Address:\n    type: b200\n",
        RadioUnavailable,
        "no such",
    ),
    (
        "EnvironmentError: IOError: Could not find path for image: usrp_b200_fw.hex",
        RadioUnavailable,
        "images_downloader",
    ),
    ("RuntimeError: Expected FPGA compatibility number 39, but got 38", RadioUnavailable, "uhd_image_loader"),
    ("EnvironmentError: IOError: usb rx6 transfer status: LIBUSB_TRANSFER_NO_DEVICE", RadioUnavailable, "plug it in"),
    (
        "EnvironmentError: IOError: Radio ctrl (0) no response packet",
        RadioUnavailable,
        "connection to the device is lost",
    ),
    ("RfnocError: OpTimeout: Control operation timed out waiting for ACK", RadioTimeout, "does not answer"),
    ("ValueError: Subdevice specification 'Z:9' is not valid", RadioError, "UHD refuses .ValueError: Subdevice"),
]


@pytest.mark.parametrize(("text", "kind", "meaning"), ERRORS, ids=range(len(ERRORS)))
def test_errors_of_uhd_become_one_line_of_ours(text: str, kind: type[RadioError], meaning: str) -> None:
    found = uhd_library.explained(RuntimeError(text), "uhd:type=b200")
    assert type(found) is kind
    assert str(found).startswith("uhd:type=b200: ")
    assert "\n" not in str(found)
    with pytest.raises(kind, match=meaning):
        raise found


def test_radios_that_answer_are_listed_once_and_none_is_opened() -> None:
    with installed(Air(boards=[("bs1",), ("bs2", "u1")])) as air:
        rows, why = discovery._usrps(["uhd:serial=BS1", "uhd:serial=GONE"])
        assert why == ""
        assert [(row.radio, row.model, row.problem) for row in rows] == [
            ("uhd:serial=BS1", "USRP B200", ""),
            ("uhd:serial=GONE", "", "no such device"),
            ("uhd:serial=BS2U1", "USRP B210", ""),
        ]
        assert {row.firmware for row in rows} == {"UHD 4.3.0.0-stand-in", ""}
        assert [board.num_opened for board in air.boards] == [0, 0]


def test_without_uhd_the_reason_is_one_line_and_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with forgotten():
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        began = time.monotonic()
        rows, why = discovery._usrps(["uhd:serial=BS1"])
        assert time.monotonic() - began < 1.0
    assert why.startswith("USRP: UHD's Python module is not installed here")
    assert [row.problem for row in rows] == [why]


def test_the_doctor_tries_uhd_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from testbed.experiment import doctor

    with installed(Air(boards=[])):
        assert doctor._uhd().status == "ok"
        assert doctor._uhd().found == f"4.3.0.0-stand-in beside NumPy {np.__version__}"
        if int(np.__version__.split(".")[0]) >= 2:
            monkeypatch.setenv("UHD_STAND_IN_NUMPY1", "1")
            assert doctor._uhd().status == "wrong"
            assert "built for NumPy 1" in doctor._uhd().found


# -- samples and time --------------------------------------------------------------------------------------------------


def test_words_are_rounded_and_nothing_wraps() -> None:
    samples = np.array([1 + 1j, -1 - 1j, 0.5 - 0.25j, 0.4 / 32768 + 0.6j / 32768], dtype=np.complex64)
    codes = to_words(samples).view(np.int16).reshape(-1, 2)
    assert codes.tolist() == [[32767, 32767], [-32767, -32767], [16384, -8192], [0, 1]]


@given(st.integers(1, 300_000), st.integers(1, 2), st.sampled_from([200e3, 1e6, 20e6, 61.44e6]))
def test_pieces_are_the_buffer_over_and_over_contiguous_and_short(size: int, num_channels: int, rate_hz: float) -> None:
    words = np.arange(num_channels * size, dtype=np.uint32).reshape(num_channels, size)
    found = chunks(words, rate_hz)
    whole = np.concatenate(found, axis=1)
    assert whole.shape[1] % size == 0
    np.testing.assert_array_equal(whole, np.tile(words, whole.shape[1] // size))
    assert all(piece.flags.c_contiguous and piece.shape[0] == num_channels for piece in found)
    assert all(1 <= piece.shape[1] <= max(CHUNK_SAMPLES, 1) for piece in found)
    assert all(piece.shape[1] <= max(CHUNK_S * rate_hz, 1) for piece in found)


@given(st.integers(0, 10**15), st.integers(1, 1 << 20), st.integers(-(10**9), 10**12))
def test_a_begin_is_whole_periods_on_and_the_first_that_is_not_too_early(begin: int, period: int, ahead: int) -> None:
    found = next_begin(begin, period, begin + ahead)
    assert (found - begin) % period == 0
    assert found >= max(begin, begin + ahead)
    assert found - period < begin + ahead or found == begin


@given(st.integers(0, 10**15), st.sampled_from([20e6, 30.72e6, 1e8 / 3, 61.44e6 / 7, 200e6 / 3, 12.5e6]))
def test_device_times_come_back_as_the_very_sample(sample: int, rate_hz: float) -> None:
    with installed(Air(boards=[])):
        assert time_spec(uhd_library.load(), sample, rate_hz).to_ticks(rate_hz) == sample


def test_the_lead_grows_up_to_a_limit() -> None:
    lead = Lead()
    assert lead.samples(20e6) == 2_000_000
    for _ in range(10):
        lead.lengthen()
    assert lead.seconds == MAX_LEAD_S


# -- the worker --------------------------------------------------------------------------------------------------------


def test_commands_come_in_order_and_what_nobody_waits_for_is_dropped_except_what_must_be() -> None:
    worker, gate, done = Worker("board"), threading.Event(), []

    def slow(task: Task) -> None:
        gate.wait(10)
        done.append(("slow", task.is_abandoned))

    for call, surely in (
        (slow, False),
        (lambda task: done.append("dropped"), False),
        (lambda task: done.append("mute"), True),
    ):
        began = time.monotonic()
        with pytest.raises(RadioTimeout, match=r"board: no answer within 0\.2 s; check cable"):
            worker.ask(call, 0.2, surely=surely)
        assert time.monotonic() - began < 1.0
    gate.set()
    assert worker.ask(lambda task: "back", 5.0) == "back"
    assert done == [("slow", True), "mute"]
    worker.end()
    worker.join(5.0)
    with pytest.raises(RadioUnavailable, match="closed"):
        worker.ask(lambda task: 1, 1.0)


def test_errors_of_a_command_reach_who_asked() -> None:
    worker = Worker("board")

    def fails(task: Task) -> None:
        raise RadioError("board: no")

    with pytest.raises(RadioError, match="board: no"):
        worker.ask(fails, 5.0)
    assert worker.ask(lambda task: 3, 5.0) == 3
    worker.end()
    worker.join(5.0)
