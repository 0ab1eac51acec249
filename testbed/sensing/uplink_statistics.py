"""What an allocator needs of the users, measured: mean power gains of direct paths and echoes.

    beta_k = (mean |y_k|^2 / M - sigma2) / e_k - eta_k        y_k, e_k: the pilots of eq. (2), over blocks that fade
    eta_k  = (mean |x_k|^2 - V0_kk) / |w_k^H a|^2             x_k: the detector's outputs, over blocks with the target

Errors are those of the scatter between blocks. Differences come out negative by chance where there is next to nothing;
such values are kept, and whoever allocates takes 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.sensing.uplink_detector import EchoDetector


def direct_gains(
    outputs: NDArray[np.complex128],
    energy: NDArray[np.float64],
    noise_var: Estimate,
    echo_gain: Sequence[Estimate] | None = None,
) -> tuple[Estimate, ...]:
    """Mean power gain beta_k of every user's direct path per antenna, linear.

    Args:
        outputs: y_k of pilots, shape (B, M, K), of blocks in which direct paths fade.
        energy: of the pilots, shape (K,).
        noise_var: sigma2 per element.
        echo_gain: eta_k, where the target is there; none in an empty scene.

    Raises:
        CaptureError: fewer than two blocks.
    """
    power = np.mean(np.abs(outputs) ** 2, axis=1)
    found = []
    for k, e in enumerate(energy):
        mean = _mean(power[:, k])
        echo = Estimate.exact(0.0) if echo_gain is None else echo_gain[k]
        stderr = float(np.hypot(np.hypot(mean.stderr, noise_var.stderr) / e, echo.stderr))
        value = (mean.value - noise_var.value) / float(e) - echo.value
        found.append(Estimate(value=value, stderr=stderr, count=mean.count))
    return tuple(found)


def echo_gains(detector: EchoDetector, channels: NDArray[np.complex128]) -> tuple[Estimate, ...]:
    """Mean power gain eta_k of every user's echo, linear.

    Args:
        detector: whose noise variance is right; what it was told of echoes does not matter.
        channels: U of blocks with the target, shape (B, M, K).

    Raises:
        CaptureError: fewer than two blocks.
    """
    power = np.abs(detector.outputs(channels)) ** 2
    found = []
    for k, gain in enumerate(detector.array_gain):
        mean = _mean(power[:, k])
        value = (mean.value - float(detector.empty_cov[k, k].real)) / float(gain)
        found.append(Estimate(value=value, stderr=mean.stderr / float(gain), count=mean.count))
    return tuple(found)


def _mean(values: NDArray[np.float64]) -> Estimate:
    if values.size < 2:
        raise CaptureError(
            f"statistics: {values.size} blocks; at least 2 are needed, and hundreds for a decibel's tenth"
        )
    stderr = float(np.std(values, ddof=1) / np.sqrt(values.size))
    return Estimate(value=float(np.mean(values)), stderr=stderr, count=values.size)
