"""Sample time at the speed of the wall clock, on a clock of the test's own."""

import pytest

from sim.pacing import Pacer, StreamPacer


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_block_leaves_when_its_last_sample_was_taken(clock):
    pacer = Pacer(clock)

    assert pacer.done(1, 0, 1000, 1e3, asked=100.0) == pytest.approx(101.0)
    assert pacer.done(1, 1000, 500, 1e3, asked=100.0) == pytest.approx(101.5)
    assert pacer.overruns == 0


def test_another_epoch_begins_when_its_first_samples_are_asked_for(clock):
    pacer = Pacer(clock)
    pacer.done(1, 0, 1000, 1e3, asked=100.0)
    clock.now = 150.0

    assert pacer.done(2, 0, 1000, 1e3, asked=150.0) == pytest.approx(151.0)
    assert pacer.overruns == 0


def test_work_that_takes_longer_than_the_block_lasts_is_an_overrun(clock, caplog):
    pacer = Pacer(clock)
    clock.now = 101.25

    pacer.done(1, 0, 1000, 1e3, asked=100.0)

    assert pacer.overruns == 1
    assert pacer.late_s == pytest.approx(0.25)
    assert "slower than real time: 1 overrun(s), the worst 0.25 s late at 1e+03 samples per second" in caplog.text


def test_a_client_that_asks_late_is_no_overrun(clock):
    pacer = Pacer(clock)
    pacer.done(1, 0, 1000, 1e3, asked=100.0)
    clock.now = 130.5

    due = pacer.done(1, 1000, 1000, 1e3, asked=130.0)  # made in half the time it lasts

    assert pacer.overruns == 0
    assert due == pytest.approx(102.0)  # it may leave at once


def test_a_block_asked_for_ahead_is_late_only_beyond_its_own_end(clock):
    pacer = Pacer(clock)
    pacer.done(1, 0, 1000, 1e3, asked=100.0)
    clock.now = 101.9
    pacer.done(1, 1000, 1000, 1e3, asked=100.0)
    assert pacer.overruns == 0

    clock.now = 103.1
    pacer.done(1, 2000, 1000, 1e3, asked=100.0)
    assert pacer.overruns == 1


def test_a_stream_is_let_through_as_its_samples_are_taken(clock):
    pacer = StreamPacer(1e4, clock)
    assert pacer.room(500) == 0  # time begins

    clock.now = 100.02
    assert pacer.room(500) == pytest.approx(200, abs=1)
    pacer.made(200)
    assert pacer.room(300) == 0
    clock.now = 100.09
    assert pacer.room(300) == 300  # no more than there are
    assert pacer.overruns == 0


def test_peers_that_stall_a_stream_stall_its_time(clock):
    pacer = StreamPacer(1e4, clock)
    pacer.room(10)
    clock.now = 150.0

    # nothing at hand for a minute: all but a tenth of a second of it is forgotten
    assert pacer.room(10**6) == pytest.approx(1000, abs=1)
    assert pacer.overruns == 0


def test_a_stream_whose_blocks_take_longer_than_they_last_overruns(clock, caplog):
    pacer = StreamPacer(1e4, clock)
    pacer.room(10)
    clock.now = 100.05
    pacer.room(400)
    clock.now = 100.1

    pacer.made(400)  # 40 ms of samples in 50

    assert pacer.overruns == 1
    assert "slower than real time: 1 overrun(s), now 0.01 s late" in caplog.text
