"""Power gains of free-space links: Friis and the bistatic radar equation. Linear, antenna gains included."""

from math import pi


def direct_gain(distance_m: float, wavelength_m: float, antenna_gains: float) -> float:
    """Friis: G_t G_r (lambda / (4 pi d))^2.

    Args:
        distance_m: between the antennas, > 0.
        wavelength_m: of the carrier.
        antenna_gains: product of both antennas' gains, linear.
    """
    return antenna_gains * (wavelength_m / (4 * pi * distance_m)) ** 2


def echo_gain(out_m: float, back_m: float, rcs_m2: float, wavelength_m: float, antenna_gains: float) -> float:
    """Bistatic radar equation: G_t G_r lambda^2 sigma / ((4 pi)^3 d_out^2 d_back^2).

    Args:
        out_m: transmitter to target, > 0.
        back_m: target to receiver, > 0.
        rcs_m2: radar cross section.
        wavelength_m: of the carrier.
        antenna_gains: product of both antennas' gains, linear.
    """
    return antenna_gains * wavelength_m**2 * rcs_m2 / ((4 * pi) ** 3 * out_m**2 * back_m**2)
