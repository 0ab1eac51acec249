"""A transmitter on air is off after every way out; the attributes of a virtual Pluto show it.

The board says of itself that it is simulated, so an experiment would not guard it; here the guard stands around it all
the same, in a process of its own that ends in the way under test.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from testbed.errors import SafetyRefused
from testbed.radio.pluto.radio import PlutoRadio
from testbed.radio.safety import BandTable, Guard, GuardedRadio, SafetyTable
from tests.airs import Air, is_silent, need_libiio, pluto_process, settings_of
from tests.emulator import SETTINGS, environment, tone

pytestmark = pytest.mark.emulated

TIMEOUT_S = 60
BAND = BandTable(name="lab", low_hz=3.48e9, high_hz=3.52e9, max_power_dbm=10.0, basis="cabled, 60 dB attenuator")

PROGRAM = """
import os, sys, time
from testbed.radio.pluto.radio import PlutoRadio
from testbed.radio.safety import BandTable, Guard, GuardedRadio, SafetyTable
from tests.contract.test_pluto_safety import BAND
from tests.emulator import SETTINGS, tone

way, uri = sys.argv[1:]
if way == "interrupts":
    from testbed import interrupts
    interrupts.install()
guard = Guard(SafetyTable(transmit=True, watchdog_s=0.5 if way == "watchdog" else 30.0, bands=(BAND,)))
radio = GuardedRadio(PlutoRadio("pluto:" + uri, "bs1"), guard)
try:
    radio.configure(SETTINGS)
    radio.transmit(tone())
    radio.receive(1000)
    print("transmitting", flush=True)
    sys.stdin.readline()
    if way == "exception":
        raise RuntimeError("a fault of the program")
    if way == "kill":
        os.kill(os.getpid(), 9)
    if way == "watchdog":
        time.sleep(2.0)  # nobody asks any radio for anything
        print("stalled", flush=True)
        sys.stdin.readline()
        radio.receive(1000)
        print("back", flush=True)
        sys.stdin.readline()
    if way in ("signal", "interrupts"):
        time.sleep(60)
finally:
    if way not in ("unclosed", "signal"):
        radio.close()
"""


@pytest.fixture(scope="module")
def air() -> Iterator[Air]:
    need_libiio()
    with pluto_process() as made:
        yield made


def started(air: Air, way: str) -> "subprocess.Popen[str]":
    """A program that is transmitting."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, way, air.uris["bs1"]],
        env=environment(PYTHONPATH=os.pathsep.join(path or "." for path in sys.path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said(child, "transmitting")
    assert air.is_transmitting()
    assert not is_silent(air.uris["bs1"])
    return child


def said(child: "subprocess.Popen[str]", word: str) -> None:
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    assert line == word, (line, child.communicate(timeout=TIMEOUT_S))


def proceed(child: "subprocess.Popen[str]") -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def ended(child: "subprocess.Popen[str]") -> int:
    child.communicate(timeout=TIMEOUT_S)
    return child.returncode


@pytest.mark.parametrize(("way", "status"), [("return", 0), ("exception", 1), ("unclosed", 0)])
def test_it_is_silent_after_return_exception_and_a_radio_that_nobody_closed(air: Air, way: str, status: int) -> None:
    child = started(air, way)
    proceed(child)
    assert ended(child) == status
    assert is_silent(air.uris["bs1"])
    assert not air.is_transmitting()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("way", ["signal", "interrupts"])
def test_it_is_silent_after_signals_with_and_without_the_command_lines_handlers(
    air: Air, way: str, number: signal.Signals
) -> None:
    child = started(air, way)
    child.send_signal(number)
    assert ended(child) != 0
    assert is_silent(air.uris["bs1"])
    assert not air.is_transmitting()


def test_the_watchdog_silences_a_controller_that_stalls_and_it_goes_on_when_that_is_back(air: Air) -> None:
    child = started(air, "watchdog")
    proceed(child)
    said(child, "stalled")
    assert is_silent(air.uris["bs1"])
    proceed(child)
    said(child, "back")
    assert air.is_transmitting()
    assert settings_of(air.uris["bs1"])["tx_gain_db"] == [SETTINGS.tx_gain_db]
    proceed(child)
    assert ended(child) == 0
    assert is_silent(air.uris["bs1"])


def test_what_sigkill_leaves_on_is_as_documented_and_the_next_opening_silences_it(air: Air) -> None:
    uri = air.uris["bs1"]
    child = started(air, "kill")
    proceed(child)
    assert ended(child) == -signal.SIGKILL
    deadline = time.monotonic() + 5.0
    while air.is_transmitting() and time.monotonic() < deadline:
        time.sleep(0.01)
    left = settings_of(uri)
    assert not left["has_buffer"]  # the server drops it with the connection
    assert left["tx_gain_db"] == [SETTINGS.tx_gain_db]
    assert left["powerdown"] == 0
    PlutoRadio(f"pluto:{uri}", "bs1").close()
    assert is_silent(uri)


def test_a_refused_transmission_leaves_the_board_silent(air: Air) -> None:
    guard = Guard(SafetyTable(transmit=True))
    radio = GuardedRadio(PlutoRadio(f"pluto:{air.uris['bs1']}", "bs1"), guard)
    try:
        assert radio.configure(SETTINGS).tx_gain_db == SETTINGS.tx_gain_db
        with pytest.raises(SafetyRefused, match=r"which no band of \[safety\] holds"):
            radio.transmit(tone())
        assert is_silent(air.uris["bs1"])
        assert settings_of(air.uris["bs1"])["tx_lo_hz"] == pytest.approx(SETTINGS.carrier_hz, abs=16)
    finally:
        radio.close()
        guard.close()


def test_the_gain_is_there_only_while_it_transmits(air: Air) -> None:
    uri = air.uris["bs1"]
    guard = Guard(SafetyTable(transmit=True, bands=(BAND,)))
    radio = GuardedRadio(PlutoRadio(f"pluto:{uri}", "bs1"), guard)
    try:
        radio.configure(SETTINGS)
        assert settings_of(uri)["tx_gain_db"] == [-89.75]
        radio.transmit(tone())
        on = settings_of(uri)
        assert (on["tx_gain_db"], on["powerdown"], on["has_buffer"]) == ([SETTINGS.tx_gain_db], 0, True)
        radio.mute()
        assert is_silent(uri)
    finally:
        radio.close()
        guard.close()
