"""One node's samples into a capture file: received, looked over, repeated or given up as the experiment says.

A radio reports what it knows: lost samples, underflows, no answer. The frames say the rest (`sensing.integrity`): a
loss moves all frames behind it, a silent transmitter is missing from some. A recording that is not whole starts again,
so that what is stored follows on; what happened to it stands in the file beside it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from testbed import interrupts
from testbed.capture import CaptureWriter, Notice, NoticeKind
from testbed.device import Reception, raw_to_complex
from testbed.errors import RadioError, RadioTimeout, SampleLoss
from testbed.experiment.tables import AcquisitionTable
from testbed.radio.base import Buffered, Radio
from testbed.sensing.integrity import MIN_FRAMES, Heard, Integrity, examine, hear

BLOCK_SAMPLES = 1 << 22  # received and stored at a time: bounds memory on long captures
MAX_NAMED = 5  # silences in one message
MAX_LISTENED = 1 << 16  # samples that tell which channel is the loudest

_DAMAGE: tuple[NoticeKind, ...] = ("underflow", "gap")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Fault:
    """Why a recording is not whole."""

    notices: tuple[Notice, ...]
    error: RadioError

    @property
    def is_damage(self) -> bool:
        """Whether the samples follow on, and what was sent did not."""
        return all(notice.kind in _DAMAGE for notice in self.notices)


def record(
    writer: CaptureWriter,
    radio: Radio,
    num_samples: int,
    policy: AcquisitionTable,
    frames: NDArray[np.complex128] | None,
    names: Sequence[str],
) -> None:
    """Receive and write a node's samples; a fault starts its recording again, as often as the experiment allows.

    Args:
        writer: of the capture file.
        radio: of the node.
        num_samples: to be stored.
        policy: what to do about faults.
        frames: what every transmitter repeats, shape (num_tx, frame_len), by the receiver's own clock; None where
            nothing is transmitted or the clocks differ: then samples are taken as the radio gives them.
        names: of the transmitters.

    Raises:
        SampleLoss: samples were lost, or a transmitter fell silent, in every attempt allowed.
        RadioTimeout: the radio did not answer in any.
    """
    for attempt in range(1, policy.max_attempts + 1):
        if isinstance(radio, Buffered):
            radio.refresh()  # it cannot know that a target was moved, or that a reception failed
        fault = _record_once(writer, radio, num_samples, policy, _Watch(frames, num_samples), names)
        if fault is None:
            return
        wish = policy.on_damage if fault.is_damage else policy.on_loss
        for notice in fault.notices:
            writer.notice(radio.name, notice)
        if wish == "stop" or attempt == policy.max_attempts:
            tried = f"; given up after {attempt} attempts" if attempt > 1 else ""
            raise type(fault.error)(f"{fault.error}{tried}") from fault.error
        log.warning("attempt %d of %d: %s; received again", attempt, policy.max_attempts, fault.error)
        writer.restart(radio.name)


def _record_once(
    writer: CaptureWriter,
    radio: Radio,
    num_samples: int,
    policy: AcquisitionTable,
    watch: "_Watch",
    names: Sequence[str],
) -> _Fault | None:
    stored, follows = 0, None
    while stored < num_samples:
        interrupts.check()
        try:
            block = radio.receive(min(BLOCK_SAMPLES, num_samples - stored))
        except SampleLoss as exc:
            return _Fault((Notice("lost", stored, exc.num_lost),), exc)
        except RadioTimeout as exc:
            return _Fault((Notice("timeout", stored),), exc)
        if follows not in (None, (block.epoch, block.start)):
            text = f"{radio.name}: reception at sample {block.start} does not follow the one before"
            return _Fault((Notice("lost", stored),), SampleLoss(f"{text}; lower the sample rate"))
        found = watch.examine(block, stored)
        if found.losses:
            return _shifted(radio.name, found)
        if damage := _damage(radio.name, stored, block, found, names):
            if policy.on_damage != "keep":
                return damage
            log.warning("%s; kept", damage.error)
            for notice in damage.notices:
                writer.notice(radio.name, notice)
        if block.continuity == "unknown":
            if found.verified:
                block = replace(block, continuity="verified")
            elif watch.is_on:
                writer.notice(radio.name, Notice("unverified", stored, block.num_samples))
        writer.write(radio.name, block)
        stored += block.num_samples
        follows = (block.epoch, block.start + block.num_samples)
    return None


def _shifted(name: str, found: Integrity) -> _Fault:
    text = ", ".join(f"{loss.num_samples} near sample {loss.sample}" for loss in found.losses[:MAX_NAMED])
    return _Fault(
        tuple(Notice("shifted", loss.sample, loss.num_samples) for loss in found.losses),
        SampleLoss(
            f"{name}: samples were lost without a report (modulo the frame: {text}), for the frames behind them stand "
            f"elsewhere; lower the sample rate"
        ),
    )


def _damage(name: str, stored: int, block: Reception, found: Integrity, names: Sequence[str]) -> _Fault | None:
    told = (Notice("underflow", stored, 0, name),) if block.num_underflows else ()
    seen = tuple(Notice("gap", gap.sample, gap.num_samples, names[gap.tx]) for gap in found.gaps)
    said = [f"its radio reports {block.num_underflows} underflows"] if told else []
    if seen:
        text = ", ".join(f"{gap.node} near sample {gap.sample_start}" for gap in seen[:MAX_NAMED])
        more = f" and {len(seen) - MAX_NAMED} times more" if len(seen) > MAX_NAMED else ""
        said.append(f"transmitters fell silent ({text}{more})")
    if not said:
        return None
    return _Fault((*told, *seen), SampleLoss(f"{name}: {' and '.join(said)}; check the host that feeds them"))


class _Watch:
    """The frames of one recording, from reception to reception."""

    def __init__(self, frames: NDArray[np.complex128] | None, num_samples: int) -> None:
        """Watch a recording of `num_samples` for the frames, shape (num_tx, frame_len)."""
        self._frames = frames if frames is not None and np.any(frames) else None
        # what repeats may be a buffer of many frames, and then no reception holds enough of it to compare: to look for
        # arrivals in millions of samples would take a minute and tell nothing
        frame_len = 1 if self._frames is None else self._frames.shape[1]
        most = min(num_samples, BLOCK_SAMPLES + frame_len - 1) // frame_len
        self._compares = self._frames is not None and most >= MIN_FRAMES
        self._heard: Heard | None = None
        self._rest = np.zeros(0, dtype=np.complex64)  # of the frame that the reception before ended in
        self._channel: int | None = None

    @property
    def is_on(self) -> bool:
        """Whether there are frames that could tell of losses, be it that there are too few of them to compare."""
        return self._frames is not None

    def examine(self, block: Reception, stored: int) -> Integrity:
        """Look the frames of a reception over, which comes after `stored` samples, and the last of those with them."""
        if self._frames is None or not self._compares:
            return Integrity(verified=False)
        if self._channel is None:
            # what is lost is lost on all channels; the loudest shows it best
            self._channel = int(np.argmax(np.abs(block.raw[:, :MAX_LISTENED]).mean(axis=(1, 2))))
        first, frame_len = stored - self._rest.size, self._frames.shape[1]
        samples = raw_to_complex(block.raw[self._channel], block.full_scale)
        samples = np.concatenate([self._rest, samples]) if self._rest.size else samples
        whole, self._rest = np.split(samples, [samples.size - samples.size % frame_len])
        received = whole.reshape(-1, frame_len)
        if self._heard is None and len(received):
            self._heard = hear(received, self._frames)
        if self._heard is None:
            return Integrity(verified=False)
        return examine(received, self._heard).later(first)
