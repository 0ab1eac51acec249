"""Rates and sensing SINRs of all drops over power, load, antennas, distance and pilot length: figures 3 to 8.

    fpa         all energy spent, equal pilot and data power
    opa         the joint optimum of the bound; the bound itself, and the rates of its powers with a combiner
    ao          the paper's Algorithm 1 from fpa, and the bound it reaches
    comm        the same optimum without echo and without anything asked for the target

Solvers are called here and nowhere else. All points of a sweep use the same drops and the same fading.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.figures.draws import Advance
from sim.figures.uplink_scenario import Setting, draw_blocks, drop, mean_rates, problem
from testbed.allocation.base import Allocation
from testbed.allocation.beamforming import combined_sinr, combiners, sca_combiners
from testbed.allocation.uplink import UplinkProblem, sensing_sinr, solve

POWERS_DBM = np.array([4.0, 6, 8, 9, 10, 12, 15, 20, 25, 30])
AO_DBM = (6.0, 15.0)  # below, equal powers are no start in some drops; above, it takes seconds per drop
NEAR_FAR_POWERS_DBM = np.array([14.0, 16, 18])
NEAR_FAR_M = 60.0
LOADS = np.arange(2.0, 11)
LOAD_POWERS_DBM = (10.0, 20.0)
LOAD_ANTENNAS = 10
CALIBRATED = 8.56  # bit/s/Hz of the optimal combiner at five antennas
CALIBRATION_DBM = np.array([15.0, 16, 17, 18, 19])
CALIBRATION_PILOTS = (4, 10, 16, 20)
ANTENNAS = np.array([5.0, 6, 8, 10, 15, 20])
ANTENNAS_POWER_DBM = 16.0
DISTANCES_M = np.array([40.0, 50, 60, 70, 80])
DISTANCES_POWER_DBM = 20.0
PILOTS = np.array([4.0, 8, 16, 24, 32, 48])
ECHO_ANTENNAS = np.array([12.0, 14, 16])  # figure 4's loss where echoes disturb


@dataclass(frozen=True, eq=False)
class Sweep:
    """N drops at J points, by name of what was computed."""

    x: NDArray[np.float64]  # (J,)
    values: dict[str, NDArray[np.float64]]  # (N, J), NaN where something was not computed or asks for too much

    def mean(self, name: str) -> NDArray[np.float64]:
        """Over the drops that are known at every point where any is, (J,)."""
        return np.mean(self.values[name][self._whole(name)], axis=0)

    def stderr(self, name: str) -> NDArray[np.float64]:
        """Of the mean, (J,)."""
        found = self.values[name][self._whole(name)]
        return np.std(found, axis=0, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.full(len(self.x), np.nan)

    def gain(self, name: str, over: str) -> NDArray[np.float64]:
        """Relative gain of the mean of one over that of another, over drops known of both, (J,)."""
        kept = self._whole(name) & self._whole(over)
        return np.mean(self.values[name][kept], axis=0) / np.mean(self.values[over][kept], axis=0) - 1

    def at(self, x: float) -> int:
        """Index of a point."""
        return int(np.argmin(np.abs(self.x - x)))

    def _whole(self, name: str) -> NDArray[np.bool_]:
        known = np.isfinite(self.values[name])
        return np.all(known[:, np.any(known, axis=0)], axis=1)


@dataclass(frozen=True, eq=False)
class Convergence:
    """Figure 3."""

    ao: dict[str, tuple[float, ...]]  # sum rate of Algorithm 1 by round, by scene
    joint: dict[str, float]  # the joint optimum of the same drop
    residual: dict[str, float]  # relative stationarity residual where Algorithm 1 ends
    sca: list[tuple[float, ...]]  # sum of log2(1 + SINR) of Algorithm 2 by round, of some blocks
    closed: list[float]  # of the closed form in the same blocks


def drawing(setting: Setting, seed: int, drops: int) -> list[NDArray[np.float64]]:
    """Positions of the users of all drops."""
    return [drop(setting, seed, number) for number in range(drops)]


def convergence(seed: int, blocks: int) -> Convergence:
    """Figure 3: Algorithm 1 in the scene of the first drop, by power and disc; Algorithm 2 in blocks of the first."""
    scenes = {
        "15 dBm, 30 m": Setting(),
        "8 dBm, 30 m": Setting(power_dbm=8.0),
        "16 dBm, 60 m": Setting(power_dbm=16.0, radius_m=NEAR_FAR_M),
    }
    ao, joint = {}, {}
    for name, setting in scenes.items():
        here = problem(setting, drop(setting, seed, 0))
        ao[name], joint[name] = solve(here, "ao"), solve(here)
    here = problem(Setting(), drop(Setting(), seed, 0))
    p = joint["15 dBm, 30 m"]
    drawn = draw_blocks(here, p.pilot_power, p.data_power, blocks, seed)
    U, Z = drawn.direct_estimate + drawn.echo_estimate, drawn.noise_cov
    best = np.sum(np.log2(1 + combined_sinr(U, Z, p.data_power, combiners(U, Z, p.data_power))), axis=-1)
    return Convergence(
        {name: found.history or (found.objective,) for name, found in ao.items()},
        {name: found.objective for name, found in joint.items()},
        {name: np.nan if found.kkt_residual is None else found.kkt_residual for name, found in ao.items()},
        [sca_combiners(u, Z, p.data_power, tolerance=1e-6)[1] for u in U],
        [float(value) for value in best],
    )


def over_power(seed: int, drops: int, blocks: int, advance: Advance) -> Sweep:
    """Figure 4: every scheme over transmit power, dBm."""

    def point(setting: Setting, position: NDArray[np.float64], number: int) -> dict[str, float]:
        here, alone = problem(setting, position), problem(setting, position, sensing=False)
        equal, best, comm = solve(here, "equal"), solve(here), solve(alone)
        found = {"lb_fpa": equal.objective, "lb_opa": _objective(best), "lb_comm": _objective(comm)}
        if AO_DBM[0] <= setting.power_dbm <= AO_DBM[1]:
            found["lb_ao"] = _objective(solve(here, "ao"))
        for method in ("mrc", "zf", "optimal"):
            found[f"opa_{method}"] = _combined(here, best, method, blocks, seed, number)
        found["fpa_optimal"] = _combined(here, equal, "optimal", blocks, seed, number)
        found["comm_optimal"] = _combined(alone, comm, "optimal", blocks, seed, number)
        found["opa_optimal_echo_disturbs"] = _combined(here, best, "optimal", blocks, seed, number, own_echo=False)
        return found

    settings = [Setting(power_dbm=float(power)) for power in POWERS_DBM]
    return _sweep(POWERS_DBM, settings, seed, drops, point, advance)


def over_near_far_power(seed: int, drops: int, advance: Advance) -> Sweep:
    """Figure 4's bounds in a disc of 60 m, where users differ enough for Algorithm 1 to move."""

    def point(setting: Setting, position: NDArray[np.float64], number: int) -> dict[str, float]:
        here = problem(setting, position)
        found = {method: solve(here, method) for method in ("equal", "joint", "ao")}
        return {"lb_fpa": found["equal"].objective} | {
            f"lb_{name}": _objective(found[method]) for name, method in (("opa", "joint"), ("ao", "ao"))
        }

    settings = [Setting(power_dbm=float(power), radius_m=NEAR_FAR_M) for power in NEAR_FAR_POWERS_DBM]
    return _sweep(NEAR_FAR_POWERS_DBM, settings, seed, drops, point, advance)


def over_echo_antennas(seed: int, drops: int, blocks: int, advance: Advance) -> Sweep:
    """Figure 4's cost of sensing at 15 dBm where all echoes disturb, over antennas."""

    def point(setting: Setting, position: NDArray[np.float64], number: int) -> dict[str, float]:
        here, alone = problem(setting, position), problem(setting, position, sensing=False)
        best, comm = solve(here), solve(alone)
        return {
            "comm_optimal": _combined(alone, comm, "optimal", blocks, seed, number),
            "opa_optimal": _combined(here, best, "optimal", blocks, seed, number),
            "opa_optimal_echo_disturbs": _combined(here, best, "optimal", blocks, seed, number, own_echo=False),
        }

    settings = [Setting(num_antennas=int(M)) for M in ECHO_ANTENNAS]
    return _sweep(ECHO_ANTENNAS, settings, seed, drops, point, advance)


def over_load(power_dbm: float, seed: int, drops: int, blocks: int, advance: Advance) -> Sweep:
    """Figure 5: combiners over the number of users at ten antennas."""
    settings = [Setting(num_antennas=LOAD_ANTENNAS, num_users=int(K), pilot_len=10, power_dbm=power_dbm) for K in LOADS]
    return _sweep(LOADS, settings, seed, drops, _combiners(seed, blocks), advance)


def over_calibration(pilot_len: int, seed: int, drops: int, blocks: int, advance: Advance) -> Sweep:
    """Figure 6's calibration: combiners at five antennas over transmit power, dBm."""
    settings = [Setting(num_antennas=5, pilot_len=pilot_len, power_dbm=float(power)) for power in CALIBRATION_DBM]
    return _sweep(CALIBRATION_DBM, settings, seed, drops, _combiners(seed, blocks), advance)


def over_antennas(seed: int, drops: int, blocks: int, advance: Advance) -> Sweep:
    """Figure 6: combiners over the number of antennas."""
    settings = [Setting(num_antennas=int(M), power_dbm=ANTENNAS_POWER_DBM) for M in ANTENNAS]
    return _sweep(ANTENNAS, settings, seed, drops, _combiners(seed, blocks), advance)


def over_distance(seed: int, drops: int, blocks: int, advance: Advance) -> Sweep:
    """Figure 7: the target moves from the users towards the base station; distance to the disc's centre, m."""
    settings = [Setting(target_m=90.0 - float(away), power_dbm=DISTANCES_POWER_DBM) for away in DISTANCES_M]
    return _sweep(DISTANCES_M, settings, seed, drops, _combiners(seed, blocks), advance)


def over_pilots(seed: int, drops: int, blocks: int, advance: Advance) -> Sweep:
    """Figure 8: optimised and equal powers over the pilot length."""

    def point(setting: Setting, position: NDArray[np.float64], number: int) -> dict[str, float]:
        found = _combiners(seed, blocks)(setting, position, number)
        here = problem(setting, position)
        equal = solve(here, "equal")
        return found | {
            "fpa_optimal": _combined(here, equal, "optimal", blocks, seed, number, needed=False),
            "fpa_sensing": sensing_sinr(here, equal.pilot_power, equal.data_power),
        }

    return _sweep(PILOTS, [Setting(pilot_len=int(tau)) for tau in PILOTS], seed, drops, point, advance)


def calibrated_gap(sweep: Sweep) -> tuple[float, float]:
    """Power, dBm, at which the optimal combiner's mean is CALIBRATED, and its gain over zero forcing there."""
    zf, best = sweep.mean("zf"), sweep.mean("optimal")
    if not best[0] <= CALIBRATED <= best[-1]:
        return np.nan, np.nan
    power = float(np.interp(CALIBRATED, best, sweep.x))
    return power, CALIBRATED / float(np.interp(power, sweep.x, zf)) - 1


_Point = Callable[[Setting, NDArray[np.float64], int], dict[str, float]]


def _combiners(seed: int, blocks: int) -> _Point:
    """Optimised powers: the three combiners and the sensing SINR."""

    def point(setting: Setting, position: NDArray[np.float64], number: int) -> dict[str, float]:
        here = problem(setting, position)
        best = solve(here)
        found = {m: _combined(here, best, m, blocks, seed, number) for m in ("mrc", "zf", "optimal")}
        feasible = best.status != "infeasible"
        return found | {"sensing": sensing_sinr(here, best.pilot_power, best.data_power) if feasible else np.nan}

    return point


def _combined(
    here: UplinkProblem,
    powers: Allocation,
    method: str,
    blocks: int,
    seed: int,
    number: int,
    *,
    own_echo: bool = True,
    needed: bool = True,
) -> float:
    """Mean sum rate with a combiner; NaN where requirements are `needed` and not met."""
    if needed and powers.status == "infeasible":
        return np.nan
    drawn = draw_blocks(here, powers.pilot_power, powers.data_power, blocks, seed, number)
    return float(np.sum(mean_rates(here, drawn, powers.data_power, method, own_echo)))


def _objective(found: Allocation) -> float:
    return found.objective if found.status != "infeasible" else np.nan


def _sweep(
    x: NDArray[np.float64], settings: Sequence[Setting], seed: int, drops: int, point: _Point, advance: Advance
) -> Sweep:
    rows: dict[str, NDArray[np.float64]] = {}
    for number in range(drops):
        for j, setting in enumerate(settings):
            for name, value in point(setting, drop(setting, seed, number), number).items():
                rows.setdefault(name, np.full((drops, len(x)), np.nan))[number, j] = value
        advance(1)
    return Sweep(x, rows)
