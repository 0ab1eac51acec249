"""How well a range can be measured: bounds, the paper's rule, and what happens where noise hides the peak.

One echo of a known OFDM frame of N subcarriers and M symbols, unknown amplitude and phase, white noise:

    E = N M sinr                                  integrated SINR, sinr per resource element
    b = 2 pi sqrt(mean f^2 - (mean f)^2)          RMS bandwidth, rad/s; 2 pi df sqrt((N^2 - 1) / 12) for a flat band
    sigma_tau >= 1 / (b sqrt(2 E))                Cramer-Rao bound; sigma_R = c / 2 sigma_tau

Below some 15 dB of E the largest of the L = 2 B R_max / c range bins is sometimes one without the echo: an outlier. The
method of interval errors adds those to the bound; the Ziv-Zakai bound needs no such split.

Source: Rivera Figueroa et al., arXiv 2402.10660, eq. (12), by way of Curry, Radar System Performance Modeling (2004);
interval errors and Ziv-Zakai: Van Trees and Bell, Bayesian Bounds (2007). Differs: (12) takes the SINR of one sample;
a matched receiver gains N M, so measurements are predicted with E; even then (12) is pi / sqrt(3) above the bound.

SciPy is imported inside the functions: `isac check` and `isac --help` must start without it.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.theory.arguments import Values, not_negative, shaped, whole
from testbed.units import SPEED_OF_LIGHT_MPS

_HALF_C = SPEED_OF_LIGHT_MPS / 2


def range_std(sinr: Values, bandwidth_hz: float | NDArray[np.float64]) -> Values:
    """Range standard deviation by Curry's rule, c / (2 B) / sqrt(2 sinr), m; inf at 0.

    Args:
        sinr: linear, any shape. Of one sample for the paper's figures, integrated to predict a measurement.
        bandwidth_hz: B, broadcast with `sinr`.

    Source: Rivera Figueroa et al., eq. (12). Differs: none. Valid for: as a rule of thumb; see `curry_ratio`.
    """
    with np.errstate(divide="ignore"):
        value = _HALF_C / _positive(bandwidth_hz, "bandwidth_hz") / np.sqrt(2 * not_negative(sinr, "sinr"))
    return shaped(value, sinr)


def rms_bandwidth(frequency_hz: ArrayLike, power: ArrayLike | None = None) -> float:
    """RMS bandwidth b of a spectrum, rad/s: 2 pi times the standard deviation of frequency under `power`.

    Args:
        frequency_hz: of the subcarriers, (N,).
        power: transmitted per subcarrier, over the noise there, (N,); equal where it is left out.

    Raises:
        ValueError: shapes that differ, no subcarrier, a negative power, or none above 0.
    """
    f = np.asarray(frequency_hz, dtype=np.float64)
    weight = np.ones_like(f) if power is None else not_negative(power, "power")
    if f.ndim != 1 or weight.shape != f.shape or not np.sum(weight) > 0:
        raise ValueError(f"frequency_hz {f.shape}, power {weight.shape} - both must be (N,), with power above 0")
    weight = weight / np.sum(weight)
    return float(2 * np.pi * np.sqrt(weight @ (f - weight @ f) ** 2))


def flat_rms_bandwidth(num_subcarriers: int, subcarrier_spacing_hz: float) -> float:
    """RMS bandwidth b of N equally spaced, equally strong subcarriers, rad/s: 2 pi df sqrt((N^2 - 1) / 12)."""
    N = whole(num_subcarriers, "num_subcarriers", 1)
    df = float(_positive(subcarrier_spacing_hz, "subcarrier_spacing_hz"))
    return 2 * math.pi * df * math.sqrt((N * N - 1) / 12)


def delay_std(integrated_sinr: Values, rms_bandwidth_rad_s: float) -> Values:
    """Cramer-Rao bound of a delay's standard deviation, 1 / (b sqrt(2 E)), s; inf where E or b is 0.

    Args:
        integrated_sinr: E, linear, any shape.
        rms_bandwidth_rad_s: b.

    Source: specification, section 9.4. Differs: none. Valid for: unbiased estimators, one path, unknown amplitude and
    phase; on a full rectangular grid an unknown Doppler shift changes nothing.
    """
    with np.errstate(divide="ignore"):
        value = 1 / (not_negative(rms_bandwidth_rad_s, "rms_bandwidth_rad_s") * np.sqrt(2 * _energy(integrated_sinr)))
    return shaped(value, integrated_sinr)


def delay_crlb(sinr: Values, num_subcarriers: int, num_symbols: int, subcarrier_spacing_hz: float) -> Values:
    """Cramer-Rao bound of a delay's standard deviation from an OFDM frame, s; c / 2 of it for a range.

    Args:
        sinr: of one resource element, linear, any shape.
        num_subcarriers: N, equally spaced and equally strong.
        num_symbols: M.
        subcarrier_spacing_hz: df.

    Returns:
        1 / (2 pi df sqrt((N^2 - 1) / 12) sqrt(2 N M sinr)), same shape as `sinr`; inf for one subcarrier or sinr 0.

    Source: specification, section 9.4. Differs: none. Valid for: as `delay_std`.
    """
    N, M = whole(num_subcarriers, "num_subcarriers", 1), whole(num_symbols, "num_symbols", 1)
    energy = N * M * not_negative(sinr, "sinr")
    return shaped(delay_std(energy, flat_rms_bandwidth(N, subcarrier_spacing_hz)), sinr)


def curry_ratio(num_subcarriers: int, num_observations: int = 1) -> float:
    """Curry's rule over the Cramer-Rao bound of a flat band, B = N df: pi sqrt((1 - 1 / N^2) num_observations / 3).

    Args:
        num_subcarriers: N.
        num_observations: what lies between the SINR given to the rule and E: 1 where it was given E, N M where it was
            given that of one element.
    """
    N, num = whole(num_subcarriers, "num_subcarriers", 1), whole(num_observations, "num_observations", 1)
    return math.pi / math.sqrt(3) * math.sqrt((1 - 1 / N**2) * num)


# Outliers


def num_range_bins(bandwidth_hz: float, max_range_m: float) -> int:
    """L = round(2 B R_max / c), at least 1."""
    B, R_max = _positive(bandwidth_hz, "bandwidth_hz"), _positive(max_range_m, "max_range_m")
    return max(1, round(float(B * R_max) / _HALF_C))


def outlier_probability(integrated_sinr: Values, num_bins: int) -> Values:
    """Probability that the largest of L independent range bins is not the one with the echo.

    Po = 1 - int f(x) (1 - e^-x)^(L-1) dx, f the law of the echo's bin, 2x ~ ncx2(2, 2E), the others exponential.

    Args:
        integrated_sinr: E, linear, any shape.
        num_bins: L, the echo's included.

    Returns:
        Probability, same shape as `integrated_sinr`; (L - 1) / L at 0.

    Raises:
        ValueError: a negative E or L below 1.

    Source: specification, section 9.5. Differs: its alternating sum loses all digits for some 50 bins; here all terms
    of Gauss-Legendre quadrature of f (1 - (1 - e^-x)^(L-1)) over the amplitude sqrt(x) are positive. 1e-12 relative,
    for any L up to 1e12, above 1e-300. Valid for: bins on the grid of the resolution. Zero-padding makes outliers
    likelier, by up to 60 % near 11 dB.
    """
    from scipy import special

    E, L = _energy(integrated_sinr), whole(num_bins, "num_bins", 1)
    if L == 1:
        return shaped(np.zeros_like(E), integrated_sinr)
    a = np.sqrt(E)[..., None]  # amplitude of the echo
    # the integrand is log-concave in amplitude, at least as narrow as exp(-r^2), and peaks here
    peak = np.where(a < math.sqrt(math.log(L)), a, np.maximum(math.sqrt(math.log(L)), a / 2))
    low = np.maximum(peak - _REACH, 0.0)
    unit, weight = _panels(_NUM_PANELS)
    width = peak + _REACH - low
    r = low + width * unit
    density = 2 * r * np.exp(-((r - a) ** 2)) * special.ive(0, 2 * r * a)  # Rice, with I0 scaled
    with np.errstate(divide="ignore"):
        exceeded = -np.expm1((L - 1) * np.log1p(-np.exp(-(r**2))))  # some other bin is larger
    return shaped(np.minimum(np.sum(weight * width * density * exceeded, axis=-1), 1.0), integrated_sinr)


def interval_error_mse(
    range_std_m: ArrayLike, outliers: ArrayLike, range_m: ArrayLike, max_range_m: float
) -> NDArray[np.float64]:
    """Mean squared range error by the method of interval errors, m^2.

    (1 - Po) sigma^2 + Po ((R_max - R)^3 + R^3) / (3 R_max): an outlier falls anywhere in [0, R_max].

    Args:
        range_std_m: sigma where there is no outlier, e.g. the Cramer-Rao bound.
        outliers: Po, in 0..1.
        range_m: R, true, in 0..R_max.
        max_range_m: R_max of the search.

    Raises:
        ValueError: a probability outside 0..1 or a range outside 0..R_max.

    Source: specification, section 9.5. Differs: none.
    """
    sigma, Po, R = (np.asarray(value, dtype=np.float64) for value in (range_std_m, outliers, range_m))
    R_max = float(_positive(max_range_m, "max_range_m"))
    if not np.all((Po >= 0) & (Po <= 1)) or not np.all((R >= 0) & (R_max >= R)):
        raise ValueError(f"outliers must lie in 0..1 and range_m in 0..{R_max:g}")
    spread = ((R_max - R) ** 3 + R**3) / (3 * R_max)
    with np.errstate(invalid="ignore"):  # sigma inf where everything is an outlier
        return np.where(Po < 1, (1 - Po) * sigma**2, 0.0) + Po * spread


def ziv_zakai_delay_std(
    integrated_sinr: Values, num_subcarriers: int, subcarrier_spacing_hz: float, max_delay_s: float
) -> Values:
    """Ziv-Zakai bound of a delay's standard deviation, s: of any estimator, the delay being uniform in [0, T].

    sigma^2 >= int_0^T h (1 - h / T) Pe(|rho(h)|) dh, Pe the error probability of telling two delays h apart when the
    phase is unknown: Q1(a, b) - exp(-(a^2 + b^2) / 2) I0(a b) / 2, a^2, b^2 = E / 2 (1 -+ sqrt(1 - rho^2)), rho the
    Dirichlet kernel.

    Args:
        integrated_sinr: E, linear, any shape.
        num_subcarriers: N, equally spaced and equally strong.
        subcarrier_spacing_hz: df.
        max_delay_s: T, at most 1 / df, 2 R_max / c of a range.

    Returns:
        sigma, same shape as `integrated_sinr`: T / sqrt(12) at 0, the Cramer-Rao bound where E is large.

    Raises:
        ValueError: a negative E, fewer than two subcarriers, or T beyond the unambiguous delay.

    Source: specification, section 9.5. Differs: none; without the valley-filling function, which would only raise it.
    Valid for: known amplitude, uniform phase. 1e-9 relative.
    """
    E, N = _energy(integrated_sinr), whole(num_subcarriers, "num_subcarriers", 2)
    df, T = (
        float(_positive(value, name))
        for value, name in ((subcarrier_spacing_hz, "subcarrier_spacing_hz"), (max_delay_s, "max_delay_s"))
    )
    if df * T > 1 + 1e-12:
        raise ValueError(f"max_delay_s {T:g} - it must be at most 1 / subcarrier_spacing_hz, {1 / df:g}")
    found = np.array([_ziv_zakai(float(e), N, df, T) for e in E.ravel()]).reshape(E.shape)
    return shaped(found, integrated_sinr)


def _ziv_zakai(E: float, N: int, df: float, T: float) -> float:
    from scipy import special, stats

    lobe = 1 / (N * df)
    narrow = min(lobe, 1 / (2 * np.pi * N * df * math.sqrt(1 + E)))  # below it h alone counts
    inner = np.append(0.0, np.geomspace(narrow / 16, lobe, 2 + round(2 * math.log2(16 * lobe / narrow))))
    edges = np.append(inner, lobe * np.arange(1.5, T / lobe + 0.5, 0.5))
    edges = np.append(edges[edges < T], T)
    unit, weight = _panels(1)
    width = np.diff(edges)[:, None]
    h = edges[:-1, None] + width * unit
    apart = _one_minus_rho2(np.pi * df * h, N)
    s = np.sqrt(apart)
    # a = sqrt(E/2 (1 - s)) with all digits where s is near 1
    a, b = np.sqrt(E / 2 * (1 - apart) / (1 + s)), np.sqrt(E / 2 * (1 + s))
    q1 = stats.ncx2.sf(b**2, 2, np.maximum(a**2, 1e-100))
    error = q1 - 0.5 * np.exp(-((a - b) ** 2) / 2) * special.ive(0, a * b)
    return math.sqrt(float(np.sum(weight * width * h * (1 - h / T) * error)))


def _one_minus_rho2(theta: NDArray[np.float64], N: int) -> NDArray[np.float64]:
    """1 - (sin(N theta) / (N sin theta))^2, with all digits near 0."""
    x = N * theta
    with np.errstate(divide="ignore", invalid="ignore"):
        far = 1 - (np.sin(x) / (N * np.sin(theta))) ** 2
    near = -np.expm1(2 * (_log_sinc(x) - _log_sinc(theta)))
    return np.clip(np.where(x < 0.2, near, far), 0.0, 1.0)


def _log_sinc(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(sin x / x) by its series, 1e-13 relative for x below 0.2."""
    u = x * x
    return -u * (1 / 6 + u * (1 / 180 + u * (1 / 2835 + u * (1 / 37800 + u / 467775))))


_REACH = 7.5  # exp(-7.5^2) is below 1e-24
_NUM_PANELS = 30  # half a unit of amplitude each
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def _panels(num: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of composite Gauss-Legendre quadrature over [0, 1]."""
    nodes = (np.arange(num)[:, None] + (_NODES + 1) / 2) / num
    return nodes.ravel(), np.tile(_WEIGHTS / 2 / num, num)


def _energy(value: Any) -> NDArray[np.float64]:
    return not_negative(value, "integrated_sinr")


def _positive(value: Any, name: str) -> NDArray[np.float64]:
    array = not_negative(value, name)
    if not np.all(array > 0):
        raise ValueError(f"{name} 0 - it must be above 0")
    return array
