"""A signal whose exception Python drops is noticed at the next check."""

import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from testbed import interrupts


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    monkeypatch.setattr(interrupts, "_noted", False)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    interrupts.install()
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


class Thing:
    pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_within_a_weak_reference_callback_is_dropped_by_python_and_raised_by_check(
    installed: None, number: int
) -> None:
    interrupts.check()
    thing = Thing()
    called = []

    def callback(_: object) -> None:
        called.append(1)
        signal.raise_signal(number)

    reference = weakref.ref(thing, callback)
    del thing  # the callback runs here, and its KeyboardInterrupt goes nowhere
    assert called == [1]
    assert reference() is None
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_plain_code_raises_at_once(installed: None, number: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_a_second_term_does_not_cut_the_cleaning_up_short_but_a_second_ctrl_c_does(installed: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    code = (
        "import signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from testbed import interrupts\n"
        "interrupts.install()\n"
        "signal.raise_signal(signal.SIGHUP)\n"
        "interrupts.check()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
