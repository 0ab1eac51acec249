"""Mean rate of a user that its L nearest base stations serve together, in a Poisson field without noise.

The nearest serves; stations 2..L accept with probability kappa and then add power, otherwise they interfere, as do all
beyond. Servers have gain p^c Gamma(M_t - 1, 1), interferers Exp(1). By Hamdi's lemma (17), for independent X and Y,
E ln(1 + X / Y) = int (1 - E e^{-z X}) E e^{-z Y} dz / z, so with H1, H2 of `cooperative_interference`,
A = (1 - kappa) H1(z, 1) + H2(z), D = kappa H1(z p^c, M_t - 1) and v = eta^2 ~ Beta(1, L - 1):

    theorem2   R = int dz/z E_v[ 1 / (1 + A) - (1 + p^c z)^(1 - M_t) / (1 + A + D) ]                      Theorem 2
    joint      the same with (1 + v A)^-L for 1 / (1 + A): r and eta are not independent
    exact      the ring is no Poisson field either: L - 2 stations are uniform in it and one is on its edge. With the
               means m = H1 / (1 / v - 1) and the edge values e of 1 - l, of interferers I and servers U,
               R = int dz/z E_v (1 + v H2)^-L { [1 - (1 - kappa) m_I]^(L-2) [1 - (1 - kappa) e_I]
                   - (1 + p^c z)^(1 - M_t) [1 - kappa m_U - (1 - kappa) m_I]^(L-2) [1 - kappa e_U - (1 - kappa) e_I] }
    printed    theorem2 with the exponent alpha in H1 as printed

Trapezoidal rule in ln z, on which the integrand is analytic, and tanh-sinh in v with both v and 1 - v kept: 1e-11 for
alpha >= 3 and 2e-9 at 2.1, relative; 1e-7 for the printed form.

Source: Meng and Masouros, arXiv 2403.20228, Theorem 2 and Lemma 2. Differs: exponent K in H1; L = 1 on its own, where
the printed factor is 0; joint and exact are not in the paper. Valid for: p^c >= 0.1, where theorem2 is within 7 % of
the model and joint within 1 %; at p^c = 0.01 and many refusals theorem2 is 16 % low, joint 2 % off. exact is exact but
for the interferers' law, which the paper matches at p^c = 0 and 1; `interferers="beams"` has the true one.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from testbed.theory.arguments import whole
from testbed.theory.cooperative_interference import beams, beams_complement, complement, exponent, field, ring

RateForm = Literal["theorem2", "joint", "exact", "printed"]
Interferers = Literal["exponential", "beams"]
FORMS = ("theorem2", "joint", "exact", "printed")

_LOG_Z_STEP = 0.5
_V_STEP, _V_REACH = 0.1, 3.4  # exp(-pi sinh 3.4) is 4e-21
_EDGE = 1e-6  # 1 - v below which a ring is its edge


def mean_rate(
    cluster_size: int,
    comm_power_share: float,
    num_antennas: int = 4,
    path_loss_exponent: float = 4.0,
    acceptance: float = 1.0,
    *,
    form: RateForm = "theorem2",
    interferers: Interferers = "exponential",
) -> float:
    """R_c: mean rate of the typical user, nats/s/Hz.

    Args:
        cluster_size: L, base stations per user.
        comm_power_share: p^c, 0..1.
        num_antennas: M_t, at least 2.
        path_loss_exponent: alpha, at least 2.1.
        acceptance: kappa_c, 0..1; at 0 all L give what L = 1 does.
        form: "theorem2", "joint", "exact" or "printed".
        interferers: "exponential", or "beams" for their exact gain.

    Returns:
        Rate; 0 at p^c = 0, and in print at L = 1.

    Raises:
        ValueError: a number out of range: one antenna cannot null a target, sums diverge at alpha = 2.

    Source: Theorem 2. Differs: see the module.
    """
    L, Mt = whole(cluster_size, "cluster_size", 1), whole(num_antennas, "num_antennas", 2)
    alpha, pc, kappa = exponent(path_loss_exponent), float(comm_power_share), float(acceptance)
    if not 0 <= pc <= 1 or not 0 <= kappa <= 1:
        raise ValueError(f"comm_power_share {pc:g}, acceptance {kappa:g} - both must be within 0..1")
    if form not in FORMS or interferers not in ("exponential", "beams"):
        raise ValueError(f"form {form!r}, interferers {interferers!r} - must be of {FORMS}; exponential or beams")
    if form == "printed" and interferers == "beams":
        raise ValueError("interferers 'beams' - not with the printed form, which has no general gain")
    if pc == 0 or (L == 1 and form == "printed"):
        return 0.0
    rule = _rule(alpha)
    two_beams = interferers == "beams" and pc < 1
    if L == 1 or (kappa == 0 and form != "printed"):
        return _of_nearest(rule, alpha, Mt, pc, two_beams)
    inside, outside, edge = _interference(alpha, form == "printed", (Mt, pc) if two_beams else None)
    served, served_edge = _service(alpha, Mt - 1, pc, form == "printed")
    v, w, nearest = rule.v, rule.one_minus_v, complement(rule.log_z + np.log(pc), Mt - 1)
    if form == "exact":
        away = w > _EDGE
        ring_size = np.where(away, w, 1.0)
        m_i, m_u = np.where(away, inside / ring_size, edge), np.where(away, served / ring_size, served_edge)
        lost, lost_edge = (1 - kappa) * m_i, (1 - kappa) * edge
        without = (1 - lost) ** (L - 2) * (1 - lost_edge)
        both = np.maximum(1 - kappa * m_u - lost, 0.0) ** (L - 2) * (1 - kappa * served_edge - lost_edge)
        value = np.exp(-L * np.log1p(outside)) * (without - (1 - nearest) * both)
    else:
        vA, vD = (1 - kappa) * inside + outside, kappa * served
        if form == "joint":
            gained = (1 - Mt) * np.logaddexp(0, rule.log_z + np.log(pc)) - L * np.log1p(vD / (1 + vA))
            value = np.exp(-L * np.log1p(vA)) * -np.expm1(gained)
        else:  # 1 / (1 + A) - (1 - nearest) / (1 + A + D), without a difference of near equals
            value = v * (vD + (v + vA) * nearest) / ((v + vA) * (v + vA + vD))
    return float(rule.weight_z @ (value @ ((L - 1) * rule.weight_v * w ** (L - 2))))


@dataclass(frozen=True, eq=False)
class _Rule:
    log_z: NDArray[np.float64]  # (S, 1)
    weight_z: NDArray[np.float64]  # (S,), of dz / z
    v: NDArray[np.float64]  # (V,)
    one_minus_v: NDArray[np.float64]  # (V,)
    weight_v: NDArray[np.float64]  # (V,)


@functools.lru_cache(maxsize=8)
def _rule(alpha: float) -> _Rule:
    # beyond these ends the integrand, like z on the left and z^(-2/alpha) on the right, is below 1e-16
    s = np.arange(-38.0, 19 * alpha + 6, _LOG_Z_STEP)
    t = np.arange(-_V_REACH, _V_REACH + _V_STEP / 2, _V_STEP)
    low, high = (1 / (1 + np.exp(sign * np.pi * np.sinh(t))) for sign in (-1, 1))
    return _Rule(s[:, None], np.full(len(s), _LOG_Z_STEP), low, high, _V_STEP * np.pi * np.cosh(t) * low * high)


@functools.lru_cache(maxsize=16)
def _interference(
    alpha: float, printed: bool, two_beams: tuple[int, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """For interferers v H1 and v H2, and 1 - l on the edge of the ring, each (S, V)."""
    rule = _rule(alpha)
    log_y = rule.log_z + alpha / 2 * np.log(rule.v)
    if two_beams is not None:
        return *beams(rule.log_z, rule.v, alpha, *two_beams), beams_complement(log_y, *two_beams)
    return ring(rule.log_z, rule.v, 1, alpha, printed=printed), field(rule.log_z, rule.v, alpha), complement(log_y, 1)


@functools.lru_cache(maxsize=16)
def _service(alpha: float, K: int, pc: float, printed: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For servers v H1(z p^c, K), and 1 - l on the edge, each (S, V)."""
    rule = _rule(alpha)
    log_x = rule.log_z + np.log(pc)
    return ring(log_x, rule.v, K, alpha, printed=printed), complement(log_x + alpha / 2 * np.log(rule.v), K)


def _of_nearest(rule: _Rule, alpha: float, Mt: int, pc: float, two_beams: bool) -> float:
    """L = 1: int dz/z (1 - (1 + p^c z)^(1 - M_t)) / (1 + H2(z; eta = 1))."""
    one = np.ones(1)
    outside = beams(rule.log_z, one, alpha, Mt, pc)[1] if two_beams else field(rule.log_z, one, alpha)
    value = complement(rule.log_z + np.log(pc), Mt - 1) / (1 + outside)
    return float(rule.weight_z @ value[:, 0])
