"""Units at the edges: linear inside, decibels only under `_db`, metres and seconds in names."""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

SPEED_OF_LIGHT_MPS = 299_792_458.0
BOLTZMANN_J_PER_K = 1.380649e-23
REFERENCE_TEMPERATURE_K = 290.0

Linear = TypeVar("Linear", float, NDArray[np.float64])


def db(ratio: Linear) -> Linear:
    """Power ratio in decibels; square an amplitude first. Zero gives -inf."""
    with np.errstate(divide="ignore"):
        value = 10.0 * np.log10(ratio)
    return value if isinstance(ratio, np.ndarray) else float(value)


def undb(ratio_db: Linear) -> Linear:
    """Linear power ratio of decibels. With dBm the result is in milliwatt, the unit of power inside the testbed."""
    value = np.power(10.0, np.multiply(ratio_db, 0.1))
    return value if isinstance(ratio_db, np.ndarray) else float(value)


def thermal_noise_dbm(bandwidth_hz: float, noise_figure_db: float) -> float:
    """Noise power k T0 B F in dBm at T0 = 290 K."""
    watt = BOLTZMANN_J_PER_K * REFERENCE_TEMPERATURE_K * bandwidth_hz
    return 10.0 * math.log10(watt * 1e3) + noise_figure_db


def si_bytes(count: float) -> str:
    """Size for people: 276 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
