"""SINR at a user whose serving node sends many frames of different data: data-aided, one channel per subcarrier.

    h_c = sum x* y / sum |x|^2,   sigma2_c = sum |y - h_c x|^2 / (n - 1)      over all n elements of subcarrier c
    SINR = mean_c (|h_c|^2 - sigma2_c / sum|x|^2) mean|x|^2 / mean_c sigma2_c

x is the serving node's frame as it arrives, shifted by the whole buffer; later arrivals within the cyclic prefix are in
h_c. What other nodes send is new in every element and counts as noise, as it does in eq. (9). Per used element, linear.

Where one frame repeats so does interference: only its own elements tell h_c from it, and n is their number.
"""

import numpy as np

from testbed.capture import Capture
from testbed.errors import CaptureError, SyncError
from testbed.measurement import Estimate
from testbed.sensing.columns import BufferColumns
from testbed.sensing.detect import sensing_setup
from testbed.sensing.latency import find_pass


def data_aided_sinr(capture: Capture, user: str, serving: str) -> Estimate:
    """SINR at a user, from the data that its serving node is known to have sent.

    Args:
        capture: holds the user; one pass of the buffer counts.
        user: name of the receiver.
        serving: name of the node that serves it.

    Returns:
        Linear; its count is that of the elements per subcarrier. The standard error takes noise and interference as
        complex Gaussian; interference of constant modulus errs less.

    Raises:
        CaptureError: no such user or node, nothing transmitted, a silent serving node, no waveform in the setup, too
            few frames, or a user with a clock of its own, whose phase turns from frame to frame.
        SyncError: the serving node's frames are not found.
    """
    setup = sensing_setup(capture)
    if setup.waveform is None:
        raise CaptureError("capture: setup.waveform is missing; it says which elements of a frame are data")
    if capture.frame is None:
        raise CaptureError(f"condition '{capture.condition}': nothing was transmitted; there is no link to measure")
    if serving not in capture.tx_names:
        raise CaptureError(f"node '{serving}': no transmitter; transmitters are {', '.join(capture.tx_names)}")
    if user in setup.own_clocks:
        raise CaptureError(
            f"user '{user}': has a clock of its own; use the nodes' reference, or one frame that repeats"
        )
    design, buffer = setup.waveform, capture.frame.samples[capture.tx_names.index(serving)]
    if not np.any(buffer):
        raise CaptureError(f"user '{user}': {serving}, which serves it, is silent")
    samples = capture.node(user).samples[0]
    try:
        found = find_pass(samples, buffer, design.frame_len, user)
    except SyncError as exc:
        raise SyncError(
            f"{user}: no frame of {serving} found ({exc}); raise its power or capture a whole buffer"
        ) from exc
    columns = BufferColumns(buffer, design.frame_len, design.numerology, design.data_symbol_idx)
    stop = found.start + found.rows.size * design.frame_len
    shape = (-1, design.numerology.num_subcarriers)
    y = columns.extract(samples[found.start : stop].reshape(-1, design.frame_len)).reshape(shape)
    x = columns.together(found.fraction)[found.rows].reshape(shape)
    n = min(columns.num_frames, found.rows.size) * len(design.data_symbol_idx)
    if n < 2:
        raise CaptureError(
            f"user '{user}': one data symbol; a channel and what it leaves need two; capture more frames"
        )
    sent = np.sum(np.abs(x) ** 2, axis=0)
    h = np.sum(x.conj() * y, axis=0) / sent
    left = np.mean(np.abs(y - h * x) ** 2, axis=0) * n / (n - 1)
    power = sent / len(x)
    signal, noise = np.sum((np.abs(h) ** 2 - left / (n * power)) * power), np.sum(left)
    # relative variances of the sums over subcarriers add
    signal_variance = np.sum(2 * np.abs(h) ** 2 * power * left / n + (left / n) ** 2)
    noise_variance = np.sum(left**2) / (n - 1)
    value = max(float(signal / noise), 0.0)
    stderr = float(np.sqrt(signal_variance + value**2 * noise_variance) / noise)
    return Estimate(value=value, stderr=stderr, count=n)
