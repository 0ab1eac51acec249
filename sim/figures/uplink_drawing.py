"""Figures 3 to 9 of the uplink paper."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sim.figures.drawing import DASHED, Drawn, mean_line
from sim.figures.uplink_claims import Evidence
from sim.figures.uplink_pod import USERS
from sim.figures.uplink_sweeps import CALIBRATED, Sweep
from testbed.plots import GREY, MARKERS, PALETTE, Columns, house_style, new_figure
from testbed.units import db

_RATE = "Sum rate (bit/s/Hz)"
_COMBINERS = {"mrc": "MRC", "zf": "ZF", "optimal": "optimal"}


@house_style()
def convergence_figure(evidence: Evidence) -> Drawn:
    """3: sum rate over rounds, Algorithm 1 by scene with the joint optimum beside it, Algorithm 2 by block."""
    c = evidence.convergence
    fig, (left, right) = new_figure(1, 2, size_in=(8.6, 3.9))
    columns = Columns("algorithm", "scene", "round", "sum_rate", "optimum")
    for k, (name, history) in enumerate(c.ao.items()):
        rounds = np.arange(len(history))
        left.plot(rounds, history, color=PALETTE[k], marker=MARKERS[k], label=name)
        left.axhline(c.joint[name], color=PALETTE[k], ls=":", lw=1.0)
        columns.add(algorithm=1, scene=name, round=rounds, sum_rate=np.array(history), optimum=c.joint[name])
    left.plot([], [], color=GREY, ls=":", label="joint optimum")
    for k, (history, best) in enumerate(zip(c.sca, c.closed, strict=True)):
        rounds = np.arange(len(history))
        right.plot(rounds, np.array(history) - best, color=PALETTE[k % len(PALETTE)], lw=0.8)
        columns.add(algorithm=2, scene=f"block {k}", round=rounds, sum_rate=np.array(history), optimum=best)
    left.set(title="Algorithm 1, bound", xlabel="Round", ylabel=_RATE)
    right.set(title="Algorithm 2, less the closed form", xlabel="Round", ylabel="log2(1 + SINR), summed")
    left.legend()
    return fig, columns


@house_style()
def power_figure(evidence: Evidence) -> Drawn:
    """4: sum rates over power; beside it the gains that the claims are about."""
    sweep = evidence.power
    fig, (left, right) = new_figure(1, 2, size_in=(9.6, 4.2))
    columns = Columns("disc_m", "curve", "power_dbm", "sum_rate", "stderr")
    names = {
        "lb_fpa": "bound, equal powers",
        "lb_ao": "bound, Algorithm 1",
        "lb_opa": "bound, joint",
        "opa_mrc": "joint, MRC",
        "opa_zf": "joint, ZF",
        "opa_optimal": "joint, optimal",
        "fpa_optimal": "equal powers, optimal",
        "comm_optimal": "no sensing, optimal",
        "opa_optimal_echo_disturbs": "joint, optimal, echoes disturb",
    }
    for k, (name, label) in enumerate(names.items()):
        look = DASHED if k >= len(PALETTE) else {}
        _line(left, sweep, name, k, label, **look)
    for found, disc in ((sweep, 30), (evidence.near_far, 60)):
        for name in found.values:
            columns.add(
                disc_m=disc, curve=name, power_dbm=found.x, sum_rate=found.mean(name), stderr=found.stderr(name)
            )
    gains = {
        "joint over equal, bound": 100 * sweep.gain("lb_opa", "lb_fpa"),
        "Algorithm 1 over equal, bound": 100 * sweep.gain("lb_ao", "lb_fpa"),
        "optimal over ZF": 100 * sweep.gain("opa_optimal", "opa_zf"),
        "sensing over none, optimal": 100 * sweep.gain("opa_optimal", "comm_optimal"),
    }
    for k, (label, gain) in enumerate(gains.items()):
        right.plot(sweep.x, gain, color=PALETTE[k], marker=MARKERS[k], label=label)
    right.axhline(18.82, color=GREY, ls=":", lw=0.9)
    left.set(title="Sum rates", xlabel="Transmit power (dBm)", ylabel=_RATE)
    right.set(title="Gains; dotted: 18.82 %", xlabel="Transmit power (dBm)", ylabel="Gain (%)")
    left.legend(fontsize=7)
    right.legend()
    return fig, columns


@house_style()
def load_figure(evidence: Evidence) -> Drawn:
    """5: combiners over the number of users at ten antennas, a panel per power."""
    return _panels(evidence.load, "power_dbm", "users", "Users", lambda power: f"{power:g} dBm, 10 antennas")


@house_style()
def antennas_figure(evidence: Evidence) -> Drawn:
    """6: combiners over antennas; beside it the calibration at five of them, by pilot length."""
    sweep = evidence.antennas
    fig, (left, right) = new_figure(1, 2, size_in=(8.6, 3.9))
    columns = Columns("antennas", "pilot_len", "power_dbm", "combiner", "sum_rate", "stderr")
    for k, (method, label) in enumerate(_COMBINERS.items()):
        _line(left, sweep, method, k, label)
        columns.add(
            antennas=sweep.x, combiner=method, sum_rate=sweep.mean(method), stderr=sweep.stderr(method), power_dbm=16
        )
    for k, (tau, found) in enumerate(evidence.calibration.items()):
        for method, look in (("optimal", "-"), ("zf", "--")):
            _line(right, found, method, k, f"{_COMBINERS[method]}, {tau} pilots", ls=look)
            columns.add(
                antennas=5, pilot_len=tau, power_dbm=found.x, combiner=method, sum_rate=found.mean(method),
                stderr=found.stderr(method),
            )  # fmt: skip
    right.axhline(CALIBRATED, color=GREY, ls=":", lw=0.9)
    left.set(title="16 dBm, 4 users", xlabel="Antennas", ylabel=_RATE)
    right.set(title="5 antennas; dotted: 8.56", xlabel="Transmit power (dBm)", ylabel=_RATE)
    left.legend()
    right.legend(fontsize=7)
    return fig, columns


@house_style()
def distance_figure(evidence: Evidence) -> Drawn:
    """7: rate and sensing SINR over the distance of the target to the users' disc."""
    return _rate_and_sensing(evidence.distance, "distance_m", "Target to users (m)", {"": "joint"})


@house_style()
def pilots_figure(evidence: Evidence) -> Drawn:
    """8: rate and sensing SINR over the pilot length."""
    return _rate_and_sensing(evidence.pilots, "pilot_len", "Pilot symbols", {"": "joint", "fpa_": "equal powers"})


@house_style()
def detection_figure(evidence: Evidence) -> Drawn:
    """9: probability of detection over total power; beside it what the detector does where the target may be absent."""
    d = evidence.detection
    fig, (left, right) = new_figure(1, 2, size_in=(8.6, 3.9), sharey=True)
    columns = Columns(
        "users",
        "total_power_dbm",
        "pod_theory",
        "pod_eq_16",
        "pod_simulated",
        "pfa_simulated",
        "pfa_world",
        "pod_world",
    )
    for k, K in enumerate(USERS):
        left.plot(d.x, d.theory[K], color=PALETTE[k], label=f"{K} user{'s' * (K > 1)}")
        left.plot(d.x, d.simulated[K], color=PALETTE[k], ls="", marker=MARKERS[k])
        left.plot(d.x, d.approximate[K], color=PALETTE[k], ls=":", lw=0.9)
        right.plot(d.x, d.world_pfa[K], color=PALETTE[k], marker=MARKERS[k])
        right.plot(d.x, d.world_pod[K], color=PALETTE[k], ls="--")
        columns.add(
            users=K, total_power_dbm=d.x, pod_theory=d.theory[K], pod_eq_16=d.approximate[K],
            pod_simulated=d.simulated[K], pfa_simulated=d.simulated_pfa[K], pfa_world=d.world_pfa[K],
            pod_world=d.world_pod[K],
        )  # fmt: skip
    left.plot([], [], color=GREY, ls=":", label="eq. (16)")
    right.plot([], [], color=GREY, marker="o", label=f"false alarms, nominal {d.pfa:g}")
    right.plot([], [], color=GREY, ls="--", label="detections")
    left.set(title="Within the model; markers: trials", xlabel="Total power (dBm)", ylabel="Probability of detection")
    right.set(title="Target absent from the pilots, too", xlabel="Total power (dBm)", ylim=(-0.02, 1.02))
    left.legend()
    right.legend()
    return fig, columns


def _panels(sweeps: Mapping[float, Sweep], key: str, axis: str, label: str, title: Callable[[float], str]) -> Drawn:
    fig, axes = new_figure(1, len(sweeps), size_in=(4.3 * len(sweeps), 3.9), squeeze=False)
    columns = Columns(key, axis, "combiner", "sum_rate", "stderr")
    for ax, (value, sweep) in zip(axes[0], sweeps.items(), strict=True):
        for k, (method, name) in enumerate(_COMBINERS.items()):
            _line(ax, sweep, method, k, name)
            columns.add(
                **{key: value, axis: sweep.x}, combiner=method, sum_rate=sweep.mean(method), stderr=sweep.stderr(method)
            )
        ax.set(title=title(value), xlabel=label)
    axes[0, 0].set_ylabel(_RATE)
    axes[0, 0].legend()
    return fig, columns


def _rate_and_sensing(sweep: Sweep, axis: str, label: str, schemes: Mapping[str, str]) -> Drawn:
    """Sum rates left, sensing SINR in dB right; `schemes` are prefixes of the curves' names."""
    fig, (left, right) = new_figure(1, 2, size_in=(8.6, 3.9))
    columns = Columns(axis, "curve", "value", "stderr")
    for k, (method, name) in enumerate(_COMBINERS.items()):
        _line(left, sweep, method, k, f"{schemes['']}, {name}")
    for k, (prefix, name) in enumerate(schemes.items()):
        if prefix:
            _line(left, sweep, f"{prefix}optimal", len(_COMBINERS), f"{name}, optimal", ls="--")
        right.plot(sweep.x, db(sweep.mean(f"{prefix}sensing")), color=PALETTE[k], marker=MARKERS[k], label=name)
    for name in sweep.values:
        columns.add(**{axis: sweep.x}, curve=name, value=sweep.mean(name), stderr=sweep.stderr(name))
    left.set(title="Rates", xlabel=label, ylabel=_RATE)
    right.set(title="Sensing SINR per symbol", xlabel=label, ylabel="SINR (dB)")
    left.legend()
    right.legend()
    return fig, columns


def _line(ax: Any, sweep: Sweep, name: str, k: int, label: str, **look: Any) -> None:
    mean_line(ax, k, sweep.x, sweep.mean(name), sweep.stderr(name), label=label, **look)
