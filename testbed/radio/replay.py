"""Captures as a radio: what was received comes out again, bit for bit, in the order in which it was captured.

`replay:PATH` names a capture file, or a folder of them (a run's `captures`), played in the order of their time. A radio
of it gives what its node received, in the state in which it did so: carrier, sample rate, receive gain, its own frame
on the air or silence, and the condition. It moves on to the next capture when the state changes, or when one was given
out whole and more is asked for. So a run that does again what it did hears again what it heard.

It has no transmitter, of course: it takes the frame that it was captured with, and refuses any other.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.capture import NodeCapture, load, taken_at
from testbed.device import Continuity, Limits, Reception, Settings
from testbed.errors import CaptureError, EndOfCapture, RadioError, RadioUnavailable, SampleLoss
from testbed.radio.base import check_transmit

TUNING = 1e-6  # relative: a carrier or rate so far from the captured one is the same one, rounded by the radio
SAME_FRAME = 1e-6  # of the frame's peak: what complex64 leaves of it


@dataclass(frozen=True)
class _Take:
    """A capture of the node, without its samples."""

    path: Path
    condition: str
    row: NDArray[np.complex128] | None  # what the node sent, in sqrt(milliwatt); None where it was silent
    settings: Settings
    limits: Limits


class ReplayRadio:
    """A node of captures as a `Radio`."""

    def __init__(self, path: Path, node: str) -> None:
        """Look through the captures for those that hold the node.

        Raises:
            CaptureError: no such file or folder, no capture, or none that holds the node.
        """
        self._name, self._path, self._is_open = node, path, True
        self._takes = _takes(path, node)
        self._limits = _limits(self._takes)
        self._wanted: Settings | None = None
        self._row: NDArray[np.complex128] | None = None  # on the air, as it were
        self._condition: str | None = None  # None until somebody chooses
        self._at = self._position = 0  # take, and sample in it
        self._state: tuple[Any, ...] | None = None  # in which the last samples were given out
        self._node: NodeCapture | None = None  # of the take, once it was asked for

    @property
    def name(self) -> str:
        """Name of the node."""
        return self._name

    @property
    def limits(self) -> Limits:
        """Those of the captured radio, as far as it was used; nothing is on air."""
        return self._limits

    def configure(self, wanted: Settings) -> Settings:
        """Take the settings of the captures, and no others but transmit gains; returns them as realised then."""
        self._check_open()
        realised, first = self._limits.realise(wanted, self._name), self._takes[0].settings
        self._wanted = replace(realised, carrier_hz=first.carrier_hz, sample_rate_hz=first.sample_rate_hz)
        return self._wanted

    def transmit(self, samples: NDArray[np.complex64]) -> None:
        """Take the frame of a capture that is still to come.

        Raises:
            RadioError: another frame; how much it differs.
        """
        self._check_open()
        check_transmit(samples, self._limits, self._name)
        if self._wanted is None:
            raise RadioError(f"{self._name}: transmit before configure; its power is not known")
        row = samples[0].astype(np.complex128) * self._limits.tx_amplitude(self._wanted.tx_gain_db)
        differences = [_difference(row, take.row) for take in self._takes[self._at :]]
        if min(differences) > SAME_FRAME:
            take = self._takes[self._at + int(np.argmin(differences))]
            raise RadioError(
                f"{self._name}: this frame is not the one that it was captured with ({_in_words(row, take)}); a replay "
                f"answers only what was sent: use the experiment and the powers of the capture"
            )
        self._row = row

    def receive(self, num_samples: int) -> Reception:
        """The next samples of the capture made in the present state.

        Raises:
            EndOfCapture: it holds no more.
            SampleLoss: the capture itself lost samples here.
            RadioError: the next capture was made in another state.
        """
        self._check_open()
        if num_samples < 1:
            raise ValueError(f"num_samples: {num_samples}; must be at least 1")
        node = self._next()
        left = node.num_samples - self._position
        if num_samples > left:
            raise EndOfCapture(
                f"{self._name}: {self._takes[self._at].path.name} holds {left} more samples, {num_samples} were asked "
                f"for; ask for fewer frames, or open the replay again"
            )
        start, self._position = self._position, self._position + num_samples
        return self._cut(node, start, num_samples)

    def set_condition(self, condition: str) -> None:
        """The world is said to be in this condition; captures of another are then refused."""
        self._check_open()
        self._condition = condition

    def mute(self) -> None:
        """Be silent."""
        self._check_open()
        self._row = None

    def close(self) -> None:
        """Release; may be called twice."""
        self._is_open, self._node, self._row = False, None, None

    def _next(self) -> NodeCapture:
        """The capture to read from: the one at hand, or the next one."""
        settings = None if self._wanted is None else replace(self._wanted, tx_gain_db=0.0)
        state = (settings, None if self._row is None else self._row.tobytes(), self._condition)
        if self._node is not None and self._position == 0:
            pass  # nothing of it was given out
        elif self._state is not None and (state != self._state or self._is_at_end()):
            if self._at + 1 == len(self._takes):
                raise EndOfCapture(
                    f"{self._name}: the last capture of {self._path} was played; open the replay again to begin anew"
                )
            self._at, self._position, self._node, self._state = self._at + 1, 0, None, None
        take = self._takes[self._at]
        self._check_state(take)
        if self._node is None:
            self._node = load(take.path).node(self._name)
        self._state = state
        return self._node

    def _is_at_end(self) -> bool:
        return self._node is not None and self._position >= self._node.num_samples

    def _check_state(self, take: _Take) -> None:
        where = f"{self._name}: {take.path.name} was captured"
        if self._wanted is not None and self._wanted.rx_gain_db != take.settings.rx_gain_db:
            raise RadioError(
                f"{where} at rx_gain_db {take.settings.rx_gain_db:g}, not {self._wanted.rx_gain_db:g}; set that"
            )
        if take.row is None and self._row is not None:
            raise RadioError(f"{where} while it was silent, and now it transmits; mute it")
        if take.row is not None and _difference(self._row, take.row) > SAME_FRAME:
            now = "it is silent now" if self._row is None else _in_words(self._row, take)
            raise RadioError(f"{where} while it transmitted a frame, and {now}; transmit that frame first")
        if self._condition not in (None, take.condition) and take.condition != "muted":
            raise RadioError(
                f"{where} under condition '{take.condition}', not '{self._condition}'; replay the captures of that"
            )

    def _cut(self, node: NodeCapture, start: int, num_samples: int) -> Reception:
        """Samples with the marks that the loss record has for them."""
        rows = node.chunks
        first = int(np.searchsorted(rows["sample_start"], start, side="right")) - 1
        stop = int(np.searchsorted(rows["sample_start"], start + num_samples, side="left"))
        rows = rows[max(first, 0) : stop]
        ends = rows["epoch_start"] + rows["sample_count"]
        begins = rows["sample_start"] >= start
        follows = (rows["epoch"][1:] == rows["epoch"][:-1]) & (rows["epoch_start"][1:] == ends[:-1])
        if not follows.all():
            lost = int(rows["lost_before"][1:].sum())
            raise SampleLoss(
                f"{self._name}: the capture lost samples near its sample {start}; begin behind them", num_lost=lost
            )
        marks = {row.decode() for row in rows["continuity"]}
        continuity: Continuity = "reported"
        if "unknown" in marks:
            continuity = "unknown"
        elif marks == {"verified"}:
            continuity = "verified"
        return Reception(
            raw=node.raw[:, start : start + num_samples],
            full_scale=node.limits.rx_full_scale,
            epoch=int(rows["epoch"][0]),
            start=int(rows["epoch_start"][0]) + start - int(rows["sample_start"][0]),
            clip_count=int(rows["clip_count"][begins].sum()),
            continuity=continuity,
        )

    def _check_open(self) -> None:
        if not self._is_open:
            raise RadioUnavailable(f"{self._name}: this replay was closed")


def _takes(path: Path, node: str) -> tuple[_Take, ...]:
    """Captures that hold the node, in the order of their time."""
    if path.is_dir():
        folder = path / "captures" if (path / "captures").is_dir() else path
        paths = sorted(folder.glob("*.h5"), key=lambda one: (taken_at(one), one.name))
        if not paths:
            raise CaptureError(f"{path}: holds no capture; give a capture file, or a run with kept frames")
    else:
        paths = [path]
    takes, held = [], dict[str, None]()
    for one in paths:
        capture = load(one)
        held |= dict.fromkeys(found.name for found in capture.nodes)
        if node not in [found.name for found in capture.nodes]:
            continue
        row = None
        if capture.frame is not None and node in capture.tx_names:
            row = capture.frame.samples[capture.tx_names.index(node)]
        found = capture.node(node)
        takes.append(_Take(one, capture.condition, row if row is not None and row.any() else None, found.settings,
                           found.limits))  # fmt: skip
    if not takes:
        raise CaptureError(f"{path}: node '{node}' is in no capture; there are {', '.join(held) or 'none'}")
    return tuple(takes)


def _limits(takes: tuple[_Take, ...]) -> Limits:
    """Limits of the captured radio, narrowed to what was captured."""
    first = takes[0]
    gains_db = [take.settings.rx_gain_db for take in takes]
    for take in takes:
        tuned = (take.settings.carrier_hz, take.settings.sample_rate_hz)
        if tuned != (first.settings.carrier_hz, first.settings.sample_rate_hz):
            raise CaptureError(
                f"{take.path}: has another carrier or sample rate than {first.path.name}; replay it alone"
            )
    carrier_hz, rate_hz = first.settings.carrier_hz, first.settings.sample_rate_hz
    return replace(
        first.limits,
        model=f"replay of {first.limits.model.removeprefix('replay of ')}",
        simulated=True,
        carrier_min_hz=carrier_hz * (1 - TUNING),
        carrier_max_hz=carrier_hz * (1 + TUNING),
        sample_rate_min_hz=rate_hz * (1 - TUNING),
        sample_rate_max_hz=rate_hz * (1 + TUNING),
        rx_gain_min_db=min(gains_db),
        rx_gain_max_db=max(gains_db),
    )


def _difference(row: NDArray[np.complex128] | None, stored: NDArray[np.complex128] | None) -> float:
    """Largest difference of two frames over the stored one's peak; infinite where they cannot be compared."""
    if row is None or stored is None or row.shape != stored.shape:
        return float("inf")
    return float(np.abs(row - stored).max() / np.abs(stored).max())


def _in_words(row: NDArray[np.complex128], take: _Take) -> str:
    if take.row is None:
        return f"in {take.path.name} the node was silent"
    if row.shape != take.row.shape:
        return f"{row.size} samples, in {take.path.name} {take.row.size}"
    return f"it differs from that of {take.path.name} by {100 * _difference(row, take.row):.3g} % of its peak"
