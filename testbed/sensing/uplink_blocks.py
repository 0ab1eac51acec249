"""A capture as coherence blocks: the elements of every frame and channel, and the users' columns at their delays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.capture import Capture
from testbed.config import validate
from testbed.errors import CaptureError, ConfigError
from testbed.sensing.uplink_columns import FrameColumns
from testbed.sensing.uplink_timing import Timing, coarse_delays, find_start, fit_delays
from testbed.waveform.frame import Frame
from testbed.waveform.uplink import UplinkDesign


@dataclass(frozen=True, eq=False)
class Blocks:
    """What a receiver of M channels heard of K users in B blocks of T elements, in sqrt(milliwatt)."""

    elements: NDArray[np.complex128]  # shape (B, M, T)
    columns: NDArray[np.complex128]  # S, every user's frame as on the air, delayed; shape (K, T)
    source: FrameColumns  # what the columns were made of
    design: UplinkDesign
    frame: Frame  # on the air
    timing: Timing

    @property
    def num_blocks(self) -> int:
        """B."""
        return len(self.elements)

    @property
    def pilots(self) -> NDArray[np.complex128]:
        """Received pilots, shape (B, M, tau)."""
        return self.elements[..., self.design.pilot_idx]

    @property
    def data(self) -> NDArray[np.complex128]:
        """Received data, shape (B, M, N)."""
        return self.elements[..., self.design.data_idx]

    @property
    def pilot_columns(self) -> NDArray[np.complex128]:
        """Shape (K, tau)."""
        return self.columns[:, self.design.pilot_idx]

    @property
    def data_columns(self) -> NDArray[np.complex128]:
        """Shape (K, N)."""
        return self.columns[:, self.design.data_idx]

    @property
    def data_power(self) -> NDArray[np.float64]:
        """Mean power of the data columns: that of an element as sent, as far as the window shows it; shape (K,).

        0 for a user that sends pilots alone, which delays smear over the elements beside them, 30 dB below.
        """
        power = np.mean(np.abs(self.data_columns) ** 2, axis=1)
        return np.where(self.frame.data_power > 0, power, 0.0)


def uplink_blocks(
    capture: Capture,
    receiver: str,
    *,
    timing: Timing | None = None,
    relative_delays: ArrayLike | None = None,
    advance: int | None = None,
    max_blocks: int | None = None,
) -> Blocks:
    """Find the frames of all users in a capture and cut it into blocks.

    Args:
        capture: of one epoch in which all users transmit; one frame more than blocks wanted.
        receiver: its name.
        timing: of another capture of the same start, or surveyed; it is fitted to this one if not given.
        relative_delays: samples, known differences of the users' delays, shape (K,): one common delay is fitted then.
        advance: samples that windows begin before the end of the cyclic prefix; half of it if not given.
        max_blocks: to be cut at most.

    Raises:
        CaptureError: no such receiver, nothing transmitted, another waveform than an uplink's, or no whole block.
        SyncError: frames are not found, or users arrive too far apart.
    """
    node, design = capture.node(receiver), uplink_design(capture.setup)
    if capture.frame is None:
        raise CaptureError(f"condition '{capture.condition}': nothing was transmitted; capture with all users on")
    if capture.frame.samples.shape != (design.num_users, design.frame_len):
        raise CaptureError(
            f"frame: found shape {capture.frame.samples.shape}; the waveform has {design.num_users} users and frames "
            f"of {design.frame_len} samples"
        )
    early = design.numerology.cp_len // 2 if advance is None else advance
    source = FrameColumns(capture.frame.samples, design.numerology, early)
    samples = node.samples
    if timing is None:
        start, peak_sigma = find_start(samples, source.frames, receiver)
        if relative_delays is None:
            first = coarse_delays(samples, source, start, receiver)
        else:
            offsets = np.asarray(relative_delays, dtype=np.float64)
            first = offsets + np.mean(coarse_delays(samples, source, start, receiver) - offsets)
        elements = _cut(samples, source, start, receiver, max_blocks)
        common = relative_delays is not None
        delay, stderr = fit_delays(elements, source, first, common=common, name=receiver)
        timing = Timing(start, delay, stderr, peak_sigma)
    else:
        elements = _cut(samples, source, timing.start, receiver, max_blocks)
    return Blocks(elements, source.at(timing.delay_samples), source, design, capture.frame, timing)


def uplink_design(setup: Mapping[str, Any]) -> UplinkDesign:
    """The waveform of a capture's setup.

    Raises:
        CaptureError: it is missing, or another one.
    """
    try:
        return validate(setup["waveform"], UplinkDesign, "setup.waveform")
    except (KeyError, ConfigError) as exc:
        raise CaptureError(f"capture: its waveform is not that of an uplink ({exc}); capture with such a one") from exc


def _cut(
    samples: NDArray[np.complex64], source: FrameColumns, start: int, name: str, max_blocks: int | None
) -> NDArray[np.complex128]:
    """Elements of all whole blocks, shape (B, M, T)."""
    frame_len = source.frames.shape[-1]
    count = (samples.shape[1] - start) // frame_len
    count = count if max_blocks is None else min(count, max_blocks)
    if count < 1:
        raise CaptureError(
            f"{name}: {samples.shape[1]} samples hold no whole block from {start} on; capture one frame more than "
            f"wanted"
        )
    whole = samples[:, start : start + count * frame_len].reshape(samples.shape[0], count, frame_len)
    return source.extract(whole.transpose(1, 0, 2))
