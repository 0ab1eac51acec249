"""The uplink paper's claims C3.1 to C9.3 as rules on the computed sweeps.

A convention is one of several readings of what is unclear, or a part of the axis. The paper's parameters are lost, so
effects are judged; of its numbers three are known: 18.82 % (power control), 3.54 % (cost of sensing), 7.54 / 8.56
(figure 6).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.figures.claims import Claims, Finding, finding
from sim.figures.uplink_pod import USERS, Detection
from sim.figures.uplink_sweeps import CALIBRATION_PILOTS, LOAD_ANTENNAS, Convergence, Sweep, calibrated_gap

EXACT = 1e-9
OPA_GAIN, SENSING_COST = 0.1882, 0.0354
COST_RANGE = (0.025, 0.045)  # of the rate: what counts as the paper's cost of sensing
GAP_RANGE = (0.11, 0.16)  # of the optimal combiner over zero forcing: what counts as 8.56 / 7.54
STATIONARY = 1e-3  # relative residual
FEW_ROUNDS = 30
FLAT = 0.5  # of MRC's slope over the last three users over that over the first two: less is saturation
SAME, COLLAPSED = 0.02, 0.65  # zero forcing against the optimum: loss that is none, ratio that is a collapse
FALLS = 0.05  # of the optimum's own maximum: less is no fall
AGREE = 0.006  # theory against trials, at 100 000 of them
HIGH_POD = 0.8


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the rules look at."""

    convergence: Convergence
    power: Sweep
    near_far: Sweep
    echo: Sweep
    load: dict[float, Sweep]  # by power, dBm
    calibration: dict[int, Sweep]  # by pilot length
    antennas: Sweep
    distance: Sweep
    pilots: Sweep
    detection: Detection


def _algorithm_1_rises(evidence: Evidence) -> Finding:
    found = evidence.convergence.ao
    fall = min(float(np.min(np.diff(history), initial=0.0)) for history in found.values())
    numbers = {f"rounds_{name.replace(', ', '_').replace(' ', '_')}": len(h) - 1.0 for name, h in found.items()}
    most = max(numbers.values())
    return finding(fall >= -EXACT and most < FEW_ROUNDS, numbers | {"largest_fall": 0.0 - fall})


def _algorithm_1_stationary(evidence: Evidence) -> Finding:
    c = evidence.convergence
    numbers = {f"residual_{name.replace(', ', '_').replace(' ', '_')}": value for name, value in c.residual.items()}
    for name, history in c.ao.items():
        numbers[f"below_joint_{name.replace(', ', '_').replace(' ', '_')}"] = 1 - history[-1] / c.joint[name]
    settled = [value < STATIONARY for value in c.residual.values()]
    note = "pilot and data blocks share a tight energy budget, neither can trade for the other"
    return finding(all(settled), numbers, note, convention=any(settled))


def _algorithm_2(evidence: Evidence) -> Finding:
    c = evidence.convergence
    fall = min(float(np.min(np.diff(history))) for history in c.sca)
    gap = max(best - history[-1] for best, history in zip(c.closed, c.sca, strict=True))
    rounds = [len(history) - 1 for history in c.sca]
    numbers = {
        "fewest_rounds": float(min(rounds)),
        "most_rounds": float(max(rounds)),
        "largest_fall": max(0.0 - fall, 0.0),
        "gap_to_closed_form": gap,
    }
    return finding(fall >= -EXACT and gap <= 1e-5 and max(rounds) < FEW_ROUNDS, numbers)


_SHARE = "share_of_near_far_drops_where_ao_is_there"


def _power_control(evidence: Evidence) -> Finding:
    joint, ao = (evidence.power.gain(name, "lb_fpa") for name in ("lb_opa", "lb_ao"))
    far_joint, far_ao = (evidence.near_far.gain(name, "lb_fpa") for name in ("lb_opa", "lb_ao"))
    x = evidence.power.x
    per_drop = evidence.near_far.values["lb_ao"] / evidence.near_far.values["lb_fpa"] - 1
    numbers = {f"joint_at_{p:g}_dbm": float(joint[evidence.power.at(p)]) for p in (6, 10, 15)}
    numbers |= {"joint_is_there_at_dbm": _crossing(x, joint, OPA_GAIN)}
    numbers |= {f"ao_at_{p:g}_dbm": float(ao[evidence.power.at(p)]) for p in (6, 10, 15)}
    numbers |= {"ao_near_far_most": float(np.nanmax(far_ao)), "joint_near_far_most": float(np.nanmax(far_joint))}
    numbers |= {_SHARE: float(np.mean(np.nanmax(per_drop, axis=1) >= OPA_GAIN))}
    reached = [np.nanmax(gain) >= OPA_GAIN for gain in (joint, far_joint, far_ao)]
    note = "Algorithm 1 is frozen without near-far; the joint optimum passes 18.82 % at one power"
    return finding(bool(np.nanmax(ao) >= OPA_GAIN), numbers, note, convention=bool(any(reached)) or numbers[_SHARE] > 0)


def _optimal_above_zf(evidence: Evidence) -> Finding:
    gain = evidence.power.gain("opa_optimal", "opa_zf")
    x = evidence.power.x
    numbers = {f"gain_at_{p:g}_dbm": float(gain[evidence.power.at(p)]) for p in (x[0], 10, 15, 30)}
    return finding(bool(np.all(gain >= -EXACT) and np.all(np.diff(gain) < EXACT)), numbers)


def _cost_of_sensing(evidence: Evidence) -> Finding:
    power, echo = evidence.power, evidence.echo
    own = -power.gain("opa_optimal", "comm_optimal")
    disturbs = -echo.gain("opa_optimal_echo_disturbs", "comm_optimal")
    bound = -power.gain("lb_opa", "lb_comm")
    at = power.at(15)
    numbers = {"echo_is_signal_at_15_dbm": float(own[at]), "bound_at_15_dbm": float(bound[at])}
    numbers |= {f"echo_disturbs_{M:g}_antennas": float(v) for M, v in zip(echo.x, disturbs, strict=True)}

    def inside(costs: NDArray[np.float64]) -> bool:
        return bool(np.any((costs >= COST_RANGE[0]) & (costs <= COST_RANGE[1])))

    note = "below 0: sensing gains, the own echo is useful signal; 3.54 % needs all echoes to disturb"
    return finding(inside(own), numbers, note, convention=inside(disturbs) or inside(bound))


def _power_control_helps_combiners(evidence: Evidence) -> Finding:
    gain = evidence.power.gain("opa_optimal", "fpa_optimal")
    x = evidence.power.x
    numbers = {f"gain_at_{p:g}_dbm": float(gain[evidence.power.at(p)]) for p in (6, 10, 15, 25, 30)}
    numbers |= {"gain_ends_at_dbm": _crossing(x, gain, 0.0)}
    note = "powers are optimal for a bound with MRC, strong users are throttled for nothing"
    return finding(bool(np.all(gain >= 0)), numbers, note, convention=bool(np.any(gain > 0)))


def _mrc_saturates(evidence: Evidence) -> Finding:
    numbers, holds = {}, []
    for power, sweep in evidence.load.items():
        step = np.diff(sweep.mean("mrc"))
        numbers[f"last_slope_over_first_at_{power:g}_dbm"] = float(np.mean(step[-3:]) / np.mean(step[:2]))
        holds.append(numbers[f"last_slope_over_first_at_{power:g}_dbm"] < FLAT)
    return finding(all(holds), numbers, convention=any(holds))


def _zf_at_low_load(evidence: Evidence) -> Finding:
    numbers = {
        f"loss_at_{power:g}_dbm": float(-sweep.gain("zf", "optimal")[0]) for power, sweep in evidence.load.items()
    }
    holds = [value <= SAME for value in numbers.values()]
    return finding(all(holds), numbers, "two users, ten antennas", convention=any(holds))


def _zf_collapses(evidence: Evidence) -> Finding:
    numbers: dict[str, float] = {}
    holds = []
    for power, sweep in evidence.load.items():
        zf, best = sweep.mean("zf"), sweep.mean("optimal")
        ratio, fall = float(zf[-1] / best[-1]), float(1 - best[-1] / np.max(best))
        numbers |= {
            f"zf_over_optimal_at_{power:g}_dbm": ratio,
            f"zf_peaks_at_users_{power:g}_dbm": sweep.x[np.argmax(zf)],
        }
        numbers |= {f"optimal_below_its_maximum_at_{power:g}_dbm": fall}
        holds.append(ratio <= COLLAPSED and np.argmax(zf) < len(zf) - 1 and fall <= FALLS)
    return finding(all(holds), numbers, f"{LOAD_ANTENNAS} users at {LOAD_ANTENNAS} antennas", convention=any(holds))


def _five_antennas(evidence: Evidence) -> Finding:
    numbers: dict[str, float] = {}
    gaps = []
    for tau in CALIBRATION_PILOTS:
        power, gap = calibrated_gap(evidence.calibration[tau])
        numbers |= {f"power_dbm_pilots_{tau}": power, f"gap_pilots_{tau}": gap}
        gaps.append(GAP_RANGE[0] <= gap <= GAP_RANGE[1])
    note = "power such that the optimal combiner has 8.56 bit/s/Hz; the paper: 7.54, 13.53 %; pilot length unknown"
    return finding(all(gaps), numbers, note, convention=any(gaps))


def _zf_approaches(evidence: Evidence) -> Finding:
    gap = evidence.antennas.gain("optimal", "zf")
    numbers = {f"gap_{M:g}_antennas": float(v) for M, v in zip(evidence.antennas.x, gap, strict=True)}
    return finding(bool(np.all(np.diff(gap) < 0) and gap[-1] < 0.01), numbers)


def _distance(evidence: Evidence) -> Finding:
    sweep = evidence.distance
    rate, sensing = sweep.mean("optimal"), 10 * np.log10(sweep.mean("sensing"))
    rises = np.diff(rate) > 0, np.diff(sensing) > 0
    away = sweep.x[:-1] > 45  # the target is nearer to the base station than to the users
    numbers = {f"rate_at_{d:g}_m": float(v) for d, v in zip(sweep.x, rate, strict=True)}
    numbers |= {f"sensing_db_at_{d:g}_m": float(v) for d, v in zip(sweep.x, sensing, strict=True)}
    everywhere, there = (bool(np.all([np.all(r[kept]) for r in rises])) for kept in (away | True, away))
    more = sensing[-1] - sensing[0] > 10 and rate[-1] / rate[0] < 1.1
    note = "both rise once the target is nearer to the base station than to the users, the sensing SINR far more"
    return finding(everywhere and more, numbers, note, convention=there and more)


def _rate_over_pilots(evidence: Evidence) -> Finding:
    sweep = evidence.pilots
    opa, fpa = sweep.mean("optimal"), sweep.mean("fpa_optimal")
    numbers = {f"opa_{tau:g}": float(v) for tau, v in zip(sweep.x, opa, strict=True)}
    numbers |= {f"fpa_{tau:g}": float(v) for tau, v in zip(sweep.x, fpa, strict=True)}
    falls = [bool(np.all(np.diff(curve) < 0)) for curve in (opa, fpa)]
    return finding(all(falls), numbers, "equal powers starve short pilots: fpa rises first", convention=any(falls))


def _sensing_over_pilots(evidence: Evidence) -> Finding:
    sweep = evidence.pilots
    found = {name: 10 * np.log10(sweep.mean(name)) for name in ("sensing", "fpa_sensing")}
    numbers = {f"{name}_db_{tau:g}": float(found[name][sweep.at(tau)]) for name in found for tau in (4, 16, 48)}
    rises = [bool(np.all(np.diff(curve) > 0)) for curve in found.values()]
    return finding(all(rises), numbers, convention=any(rises))


def _theory_is_simulation(evidence: Evidence) -> Finding:
    d = evidence.detection
    apart = max(float(np.max(np.abs(d.theory[K] - d.simulated[K]))) for K in USERS)
    paper = max(float(np.max(np.abs(d.approximate[K] - d.simulated[K]))) for K in USERS)
    false = float(np.mean([d.simulated_pfa[K] for K in USERS]))
    allowed = AGREE * np.sqrt(max(1.0, 100_000 / d.trials))
    numbers = {"largest_difference": apart, "allowed": float(allowed), "of_the_approximation": paper, "mean_pfa": false}
    note = "PoD averaged over fading exactly; the paper's mean of the argument (16) is off"
    close = abs(false - d.pfa) <= 5 * np.sqrt(d.pfa / d.trials / len(USERS) / len(d.x))
    return finding(apart <= allowed and bool(close), numbers, note)


def _users_help(evidence: Evidence) -> Finding:
    d = evidence.detection
    curves = np.array([d.theory[K] for K in USERS])
    rises = np.all(np.diff(curves, axis=0) > 0, axis=0)
    high = curves[0] >= HIGH_POD
    numbers = {f"pod_{K}_users_at_{d.x[j]:g}_dbm": float(d.theory[K][j]) for j in (2, 7) for K in USERS}
    note = "diversity helps where detection is likely already, spreading the power hurts where it is not"
    top = bool(np.any(high) and np.all(np.diff(curves[:, -1]) > 0))
    return finding(bool(np.all(rises)), numbers, note, convention=top)


def _false_alarms(evidence: Evidence) -> Finding:
    d = evidence.detection
    numbers = {f"pfa_{K}_users_at_{d.x[j]:g}_dbm": float(d.world_pfa[K][j]) for j in (2, 7) for K in USERS}
    numbers |= {f"pod_{K}_users_at_{d.x[-1]:g}_dbm": float(d.world_pod[K][-1]) for K in USERS}
    holds = all(float(np.max(d.world_pfa[K])) <= 2 * d.pfa for K in USERS)
    note = f"nominal {d.pfa:g}; with the target absent from the pilots, too, the echo estimate is the direct channel's"
    return finding(holds, numbers, note)


def _crossing(x: NDArray[np.float64], y: NDArray[np.float64], level: float) -> float:
    """Last place where y falls through a level, linear between points; NaN where it never does."""
    falls = np.flatnonzero((y[:-1] >= level) & (y[1:] < level))
    if not len(falls):
        return np.nan
    k = falls[-1]
    return float(x[k] + (y[k] - level) * (x[k + 1] - x[k]) / (y[k] - y[k + 1]))


CLAIMS: Claims[Evidence] = {
    "C3.1": ("Algorithm 1 never falls and settles in few rounds", _algorithm_1_rises),
    "C3.2": ("Algorithm 1 ends at a stationary point", _algorithm_1_stationary),
    "C3.3": ("Algorithm 2 never falls and reaches the optimum", _algorithm_2),
    "C4.1": ("power control gains 18.82 % over equal powers", _power_control),
    "C4.2": ("the optimal combiner beats ZF, most at low power", _optimal_above_zf),
    "C4.3": ("sensing costs 3.54 % of the rate", _cost_of_sensing),
    "C4.4": ("power control helps the optimal combiner", _power_control_helps_combiners),
    "C5.1": ("MRC saturates with the number of users", _mrc_saturates),
    "C5.2": ("ZF is as good as the optimum at low load", _zf_at_low_load),
    "C5.3": ("ZF collapses at K = M, the optimum does not", _zf_collapses),
    "C6.1": ("13.53 % over ZF at five antennas", _five_antennas),
    "C6.2": ("ZF approaches the optimum with more antennas", _zf_approaches),
    "C7.1": ("rate and sensing SINR rise with the distance", _distance),
    "C8.1": ("the rate falls with the pilot length", _rate_over_pilots),
    "C8.2": ("the sensing SINR rises with the pilot length", _sensing_over_pilots),
    "C9.1": ("PoD by theory is PoD by simulation", _theory_is_simulation),
    "C9.2": ("more users at one total power raise the PoD", _users_help),
    "C9.3": ("false alarms keep to their nominal probability", _false_alarms),
}
