"""What a run found of the clocks: offsets of every transmitter at every receiver, and what was done about them.

Where a reference is said to be shared the offsets are a check of it. Where users have clocks of their own, captures of
theirs were brought to the clock of the serving node before anything was measured.
"""

from collections.abc import Sequence

from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.rounds import load_rounds
from testbed.experiment.report.table import Entry, Table
from testbed.experiment.report.wording import minus, plus_minus
from testbed.measurement import ClockMeasurement, Measurement, load_measurements
from testbed.sensing.frequency import clock_warnings

STATUS_TEXTS = {"corrected": "corrected", "ignored": "ignored, the reference is shared"}


def measured_clocks(run: CompRun) -> list[tuple[ClockMeasurement, ...]]:
    """Of every measurement of a run: its powers, then its rounds."""
    measured: list[Measurement] = []
    if run.measurements.exists():
        measured += load_measurements(run.measurements).points
    measured += [made.measurement for made in load_rounds(run.rounds)]
    return [m.clocks for m in measured if m.clocks]


def clock_table(run: CompRun) -> Table | None:
    """The clocks of the last measurement; None where none was told."""
    found = measured_clocks(run)
    if not found:
        return None
    heads = ("Receiver", "Transmitter", "Carrier offset (Hz)", "Clock offset (ppm)", "Left (Hz)", "In std. errors", "")
    return Table(heads, tuple(_row(clock) for clock in found[-1]))


def worst_warnings(found: Sequence[tuple[ClockMeasurement, ...]]) -> tuple[str, ...]:
    """One line per receiver and transmitter that turns: that of the capture where it stands out most."""
    worst: dict[tuple[str, str], ClockMeasurement] = {}
    for clock in (clock for clocks in found for clock in clocks if clock_warnings([clock])):
        key = (clock.rx, clock.tx)
        if key not in worst or _stderrs(clock) > _stderrs(worst[key]):
            worst[key] = clock
    return clock_warnings(list(worst.values()))


def _row(clock: ClockMeasurement) -> tuple[str | Entry, ...]:
    left = clock.left_hz
    return (
        clock.rx,
        clock.tx,
        plus_minus(clock.cfo_hz.value, clock.cfo_hz.stderr),
        plus_minus(clock.clock_ppm.value, clock.clock_ppm.stderr),
        plus_minus(left.value, left.stderr),
        minus(f"{left.value / left.stderr:+.1f}") if left.stderr > 0 else "–",
        Entry(STATUS_TEXTS[clock.status], grade="bad" if clock_warnings([clock]) else ""),
    )


def _stderrs(clock: ClockMeasurement) -> float:
    return abs(clock.left_hz.value) / max(clock.left_hz.stderr, 1e-300)
