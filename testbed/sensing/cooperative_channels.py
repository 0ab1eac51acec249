"""A user's channels from all nodes of a cooperative network, by maximum likelihood from the pilots of many frames.

The whole capture is folded at the frame's period. Where its frames begin is found with everything that is sent
(`sync`); from there on only pilots count, as for any user. With A(tau) the nodes' frames at delays tau, seen at the
pilot symbols,

    tau_hat = argmin ||(I - P_A(tau)) y||^2,   a_hat = A^+ y,   h_l[k] = a_l sqrt(P_l) exp(-2j pi k tau_l / fft_size)

Columns are exact delays of whole frames: a ramp on elements is wrong by -30 dB, as much as a far node is weaker than a
near one. Noise is the scatter of frames about their mean, for frames repeat, interference included.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.sensing.cooperative_capture import Network, network_of
from testbed.sensing.cooperative_timing import whole_frames
from testbed.sensing.detect import clipping_warnings
from testbed.sensing.model import Path
from testbed.sensing.sync import fold, synchronise
from testbed.waveform.ofdm import resource_elements
from testbed.waveform.shift import delay_ramp

_STEPS, _TOLERANCE = 20, 1e-6  # of the delays, samples
_MOST = 0.25  # samples a step may move a delay
_MARGIN = 2  # samples of the cyclic prefix that arrivals leave free


@dataclass(frozen=True, eq=False)
class UserChannels:
    """What a user knows of the nodes. Powers are milliwatt per resource element, of nodes at full power."""

    user: str
    channel: NDArray[np.complex128]  # h, amplitude per node and subcarrier; 0 of dead ones, shape (num_nodes, K)
    gain: tuple[Estimate, ...]  # g, power per node, not below 0
    noise_var: Estimate  # per element
    cover: NDArray[np.complex128]  # of the nodes in a block, shape (num_nodes, n)
    delay_samples: NDArray[np.float64]  # of every node's frame after `start`; NaN: not heard, shape (num_nodes,)
    start: int  # first sample of the first whole frame
    advance: int  # samples that windows begin before the end of the cyclic prefix
    num_frames: int
    warnings: tuple[str, ...]

    @property
    def power(self) -> NDArray[np.float64]:
        """Values of `gain`, shape (num_nodes,)."""
        return np.array([gain.value for gain in self.gain])


def user_channels(capture: Capture, user: str) -> UserChannels:
    """Channels of a user that a capture holds.

    Args:
        capture: at least two frames and one more; a dozen tell noise to 2 %.
        user: name of the receiver.

    Raises:
        CaptureError: no such user, not of a cooperative experiment, too few frames, or frames of nodes that arrive
            farther apart than the cyclic prefix allows.
        SyncError: no node's frame is found.
    """
    network, node = network_of(capture), capture.node(user)
    samples, design = node.samples[0], network.design
    start, first = _first_arrivals(network, samples, user)
    # what arrives is put into the middle of the cyclic prefix
    shift, advance = round(float(np.nanmin(first) + np.nanmax(first)) / 2), design.numerology.cp_len // 2
    start = (start + shift) % design.frame_len
    frames = whole_frames(samples, start, design.frame_len, user)
    if len(frames) < 2:
        raise CaptureError(f"{user}: holds one whole frame; noise needs at least two")
    pilots = resource_elements(frames, design.numerology, design.pilot_symbol_idx, advance).reshape(len(frames), -1)
    mean = pilots.mean(axis=0)
    count = (len(frames) - 1) * mean.size
    noise = float(np.sum(np.abs(pilots - mean) ** 2)) / count
    delay, a, variance = _fit(network, advance, mean, first - shift, noise / len(frames))
    full = network.frame.pilot_power * design.element_power
    power = np.maximum(np.abs(a) ** 2 - variance, 0.0)
    stderr = np.sqrt(2 * power * variance + variance**2)
    late = np.outer(np.nan_to_num(delay) + advance, design.numerology.subcarriers) / design.numerology.fft_size
    lost = [network.node_names[l] for l in np.flatnonzero(network.live & ~np.isfinite(delay))]
    warnings = [f"{user}: {name} is too weak to be heard; its gain counts as 0" for name in lost]
    return UserChannels(
        user=user,
        channel=(a * np.sqrt(full))[:, None] * np.exp(-2j * np.pi * late),
        gain=tuple(
            Estimate(value=value, stderr=error, count=len(frames))
            for value, error in zip((power * full).tolist(), (stderr * full).tolist(), strict=True)
        ),
        noise_var=Estimate(value=noise, stderr=noise / np.sqrt(count), count=count),
        cover=design.block_cover,
        delay_samples=delay,
        start=start,
        advance=advance,
        num_frames=len(frames),
        warnings=(*clipping_warnings(node), *warnings),
    )


def _first_arrivals(network: Network, samples: NDArray[np.complex64], user: str) -> tuple[int, NDArray[np.float64]]:
    """A first sample, and where every node's frame begins after it; NaN where it is not found, shape (num_nodes,)."""
    frames, live = network.frame.samples, np.flatnonzero(network.live)
    if samples.size < network.design.frame_len:
        raise CaptureError(f"{user}: {samples.size} samples hold no frame; capture more")
    folded = fold(samples, network.design.frame_len)
    spectra = np.fft.fft(frames[live])
    peak = np.abs(np.fft.ifft(np.fft.fft(folded) * spectra.conj())).max(axis=1) / np.linalg.norm(spectra, axis=1)
    reference = int(live[np.argmax(peak)])
    paths = [Path(int(tx), "direct", None, 0.0) for tx in live]
    sync = synchronise(samples, frames, paths, reference, name=user, names=network.node_names, needed=[reference])
    first = np.where(network.live, sync.offset_samples, np.nan)
    spread, most = float(np.nanmax(first) - np.nanmin(first)), network.design.numerology.cp_len - _MARGIN
    if spread > most:
        raise CaptureError(
            f"{user}: frames of the nodes arrive {spread:.1f} samples apart; must be within {most}, the cyclic prefix "
            f"less a margin; start the nodes together"
        )
    return sync.start, first


def _fit(
    network: Network, advance: int, y: NDArray[np.complex128], first: NDArray[np.float64], noise_var: float
) -> tuple[NDArray[np.float64], NDArray[np.complex128], NDArray[np.float64]]:
    """Delays (NaN if not heard), amplitudes and their variances (0 if not), shape (num_nodes,) each."""
    heard = np.isfinite(first)
    spectra, f = np.fft.fft(network.frame.samples[heard]), np.fft.fftfreq(network.design.frame_len)

    def columns(order: int) -> NDArray[np.complex128]:
        arrived = np.fft.ifft(spectra * delay_ramp(f.size, tau) * (-2j * np.pi * f) ** order)
        elements = resource_elements(arrived, network.design.numerology, network.design.pilot_symbol_idx, advance)
        return elements.reshape(len(tau), -1).T

    tau = first[heard]
    for _ in range(_STEPS):
        A, slopes = columns(0), columns(1)
        inverse = np.linalg.pinv(A)
        # Kaufman's Jacobian of the variable projection, as in `sync`
        J = slopes * (inverse @ y)
        J = J - A @ (inverse @ J)
        residual = y - A @ (inverse @ y)
        step = np.linalg.lstsq(np.r_[J.real, J.imag], np.r_[residual.real, residual.imag], rcond=None)[0]
        tau = tau + np.clip(step, -_MOST, _MOST)
        if np.max(np.abs(step)) < _TOLERANCE:
            break
    inverse = np.linalg.pinv(columns(0))
    delay, amplitude, variance = (
        np.full(first.size, np.nan),
        np.zeros(first.size, dtype=np.complex128),
        np.zeros(first.size),
    )
    delay[heard], amplitude[heard] = tau, inverse @ y
    variance[heard] = noise_var * np.sum(np.abs(inverse) ** 2, axis=1)
    return delay, amplitude, variance
