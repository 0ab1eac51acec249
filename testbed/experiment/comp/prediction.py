"""What a measurement says of any power vector: the SINRs, PoD and rates to expect from the next capture.

    sensing         lam / (2N) = s^T G s / sigma2                                    s = sqrt(P)
    communication   P_o G_oo / (s'^T G' s' + sigma2)                                 o: the serving node, ': without it

G is the measured Gram matrix (sensing.response), so echoes and interferers that are correlated count as they are.
"""

import numpy as np
from numpy.typing import NDArray

from testbed.config import StrictModel
from testbed.experiment.comp.law import Law, Statistic
from testbed.measurement import Estimate, Measurement, PowerResponse

Array = NDArray[np.float64]


class Prediction(StrictModel):
    """Expected at one power vector; SINRs linear, per observation."""

    power: tuple[float, ...]  # milliwatt
    sensing_snr: dict[str, Estimate]  # per cell: lam / (2N)
    pod: dict[str, float]  # per cell
    comm_sinr: dict[str, Estimate]  # per user
    rate_bps_hz: dict[str, float]  # per user: log2(1 + SINR)


def predict(measurement: Measurement, power: Array, statistic: Statistic, pfa: float) -> Prediction:
    """Prediction for powers in milliwatt, shape (num_tx,), in the order of `measurement.node_names`."""
    sensing = {
        cell: sensing_snr(response, power, measurement.noise_var[response.node])
        for cell, response in measurement.sensing.items()
    }
    comm = {
        user: comm_sinr(response, power, measurement.noise_var[response.node], measurement.node_names)
        for user, response in measurement.communication.items()
    }
    return Prediction(
        power=tuple(float(p) for p in power),
        sensing_snr=sensing,
        pod={cell: pod(measurement, cell, snr.value, statistic, pfa) for cell, snr in sensing.items()},
        comm_sinr=comm,
        rate_bps_hz={user: float(np.log2(1 + sinr.value)) for user, sinr in comm.items()},
    )


def pod(measurement: Measurement, cell: str, snr: float, statistic: Statistic, pfa: float) -> float:
    """PoD of a cell at a sensing SNR lam / (2N)."""
    lam = 2 * measurement.sensing[cell].num_observations * snr
    return float(Law.measured(measurement, cell, statistic).pod(lam, pfa))


def sensing_snr(response: PowerResponse, power: Array, noise_var: Estimate) -> Estimate:
    """All transmitters' echoes over noise."""
    return _over(_received(response, power, np.ones(len(power), dtype=bool)), noise_var)


def comm_sinr(response: PowerResponse, power: Array, noise_var: Estimate, names: tuple[str, ...]) -> Estimate:
    """The serving transmitter over all others and noise."""
    own = np.array([name == response.serving for name in names])
    interference = _received(response, power, ~own)
    floor = Estimate(
        value=interference.value + noise_var.value,
        stderr=float(np.hypot(interference.stderr, noise_var.stderr)),
        count=interference.count,
    )
    return _over(_received(response, power, own), floor)


def _received(response: PowerResponse, power: Array, of: NDArray[np.bool_]) -> Estimate:
    """s^T G s of some transmitters; gains err independently, and cross terms with their roots."""
    gram, s = np.array(response.gram), np.sqrt(power) * of
    gains = list(response.gain.values())
    relative = np.array([e.stderr / e.value if e.value > 0 else 0.0 for e in gains])
    share = s * (gram @ s)  # P dlam/dP of every transmitter
    count = min((e.count for e, used in zip(gains, of, strict=True) if used), default=0)
    return Estimate(value=float(max(s @ gram @ s, 0.0)), stderr=float(np.linalg.norm(share * relative)), count=count)


def _over(a: Estimate, b: Estimate) -> Estimate:
    value = a.value / b.value
    stderr = float(np.hypot(a.stderr / b.value, value * b.stderr / b.value))
    return Estimate(value=value, stderr=stderr, count=a.count)
