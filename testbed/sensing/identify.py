"""Gains of a network that ranges, from K+1 captures: nobody on the air, then every node alone.

With p_j the mean power of what node j sent, n the silent capture's mean |y|^2, and everything per used element:

    A_kj   = (mean|y|^2 - n_k) / p_j * fft_size / num_subcarriers     all that receiver k hears of node j != k: direct,
                                                                      echo, clutter. In time: it needs no frame found
    E_jj   = (|mean a|^2 - var / M) mean|x|^2 / p_j                   own echo, amplitudes a of M frames
    beta_j = (||(I - P_[D x]) y||^2 / (N - Q - 1) - n_j) / p_j        what node j's own transmission leaves beside noise

They predict, where powers of different arrivals add,

    sensing_k = p_k E_kk / (sum_{j != k} p_j A_kj + beta_k p_k + n_k)                                          eq. (11)
    comm_u    = p_o A_uo / (sum_{j != o} p_j A_uj + n_u)              o serves user u; its echo counts as signal

Standard errors, each from independent noise per sample or element:

    n       n / sqrt(samples): |w|^2 is exponential
    A       sqrt((n^2 + 2 n S) / samples + var n) times the same factor, S = mean|y|^2 - n: the node's own power is
            known exactly over whole passes of its buffer, only noise and its product with the signal err
    E       that of |mean a|^2, 2 |a|^2 v + v^2 with v = var / M, times mean|x|^2 / p_j
    beta    sqrt(residual^2 / (M (N - Q - 1)) + var n) / p_j

A and beta are differences and come out negative by chance where there is next to nothing to hear. The document keeps
that value, so that means over captures stay unbiased; `gains`, which solvers and predictions take, has 0 instead. One
that is negative beyond chance is warned of: noise was not the same in both captures.

Source: Rivera Figueroa, Bishoyi and Petrova, arXiv 2402.10660, eqs. (9) and (11); definitions: scenes/localization.md
section 2. Differs: gains are measured. Valid for: pilots and data at one power.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture, NodeCapture
from testbed.errors import CaptureError
from testbed.measurement import Estimate, RangeIdentification, noise_estimate
from testbed.sensing.detect import SensingSetup, clipping_warnings, sensing_setup
from testbed.sensing.ranging import Ranging, estimate_ranges
from testbed.waveform.frame import Frame

NEGATIVE_STDERRS = 4.0  # below zero by more is no chance: 3e-5 each


@dataclass(frozen=True, eq=False)
class Gains:
    """What a solver takes, floored at 0; per used element over power, shapes by transmitter and receiver."""

    echo: NDArray[np.float64]  # E, (K,)
    arrival: NDArray[np.float64]  # A, [transmitter, receiving node], 0 on the diagonal, (K, K)
    residual_self: NDArray[np.float64]  # beta, (K,)
    noise_var: NDArray[np.float64]  # at the nodes, milliwatt, (K,)
    user_arrival: NDArray[np.float64]  # A, [transmitter, receiving user], (K, U)
    user_noise_var: NDArray[np.float64]  # at the users, milliwatt, (U,)


def identify(silent: Capture, alone: Mapping[str, Capture], cell: str | None = None) -> RangeIdentification:
    """Gains from K+1 captures of one scene at one receive gain.

    Args:
        silent: all transmitters off.
        alone: per node of the survey, a capture in which only it transmits; any power, whole passes of its buffer.
        cell: of the survey, whose echo is wanted; see `estimate_ranges`.

    Returns:
        Estimates of every gain. Receivers are all nodes, and all users of the survey.

    Raises:
        CaptureError: a node without a capture, another transmitter on or the own one off, a receiver that a capture
            does not hold or with another gain, pilots and data at different powers, or another survey.
        SyncError: a node's frames are not found in what it hears of itself.
    """
    setup = sensing_setup(silent)
    names, users = setup.survey.node_names, tuple(user.name for user in setup.survey.users)
    if silent.frame is not None and np.any(silent.frame.samples):
        raise CaptureError("silent: a transmitter is on in it; capture with all of them off")
    if set(alone) != set(names):
        raise CaptureError(
            f"alone: captures of {', '.join(alone) or 'none'}; must be one of each of {', '.join(names)}"
        )
    for name in names:
        _check(name, alone[name], setup, silent, (*names, *users))
    noise = {}
    for name in (*names, *users):
        node = silent.node(name)
        noise[name] = noise_estimate(node.raw[:1], node.lsb)
    power = {name: float(_frame(alone[name]).power[names.index(name)]) for name in names}
    ratio = setup.numerology.fft_size / setup.numerology.num_subcarriers
    arrival: dict[str, dict[str, Estimate]] = {name: {} for name in (*names, *users)}
    for tx in names:
        period = _frame(alone[tx]).frame_len
        for receiver in (*names, *users):
            if receiver != tx:
                heard = _mean_power(alone[tx].node(receiver), period)
                arrival[receiver][tx] = _excess(heard, noise[receiver], ratio / power[tx], own_noise=noise[receiver])
    rangings = {name: estimate_ranges(alone[name], name, cell=cell) for name in names}
    residual_self = {name: _excess(rangings[name].residual, noise[name], 1 / power[name]) for name in names}
    return RangeIdentification(
        node_names=names,
        user_names=users,
        power=tuple(power[name] for name in names),
        noise_var=noise,
        arrival=arrival,
        echo={name: _scaled(rangings[name].echo_power, 1 / power[name]) for name in names},
        residual_self=residual_self,
        warnings=_warnings(silent, alone, rangings, arrival, residual_self),
    )


def gains(identification: RangeIdentification) -> Gains:
    """Gains as arrays in the order of the nodes and users; negative ones are 0."""
    names, users = identification.node_names, identification.user_names

    def floored(row: Mapping[str, Estimate]) -> list[float]:
        return [max(row[name].value, 0.0) if name in row else 0.0 for name in names]

    def noise(receivers: Sequence[str]) -> NDArray[np.float64]:
        return np.array([identification.noise_var[name].value for name in receivers])

    def arrivals(receivers: Sequence[str]) -> NDArray[np.float64]:
        rows = [floored(identification.arrival[name]) for name in receivers]
        return np.array(rows, dtype=np.float64).reshape(-1, len(names)).T

    return Gains(
        echo=np.array(floored(identification.echo)),
        arrival=arrivals(names),
        residual_self=np.array(floored(identification.residual_self)),
        noise_var=noise(names),
        user_arrival=arrivals(users),
        user_noise_var=noise(users),
    )


def predicted_sinr(identification: RangeIdentification, power: Sequence[float]) -> dict[str, Estimate]:
    """Sensing SINR of every node at other powers, eq. (11), linear.

    Errors of all gains are taken as independent; that of the silent capture, which they share, is small beside them.

    Args:
        identification: measured gains; negative ones count as 0.
        power: of every node, milliwatt, in the order of `identification.node_names`.

    Raises:
        ValueError: another number of powers, or a negative one.
    """
    found = {}
    p = _powers(identification, power)
    for name in identification.node_names:
        disturbing = [(p[tx], gain) for tx, gain in identification.arrival[name].items()]
        disturbing.append((p[name], identification.residual_self[name]))
        found[name] = _ratio((p[name], identification.echo[name]), disturbing, identification.noise_var[name])
    return found


def predicted_comm_sinr(
    identification: RangeIdentification, power: Sequence[float], serving: Mapping[str, str]
) -> dict[str, Estimate]:
    """SINR of every user at other powers, linear; its own node's echo counts as signal.

    Args:
        identification: as in `predicted_sinr`.
        power: as in `predicted_sinr`.
        serving: per user, the node that serves it.

    Raises:
        ValueError: as `predicted_sinr`, or a user without a serving node.
    """
    if set(serving) != set(identification.user_names) or not set(serving.values()) <= set(identification.node_names):
        raise ValueError(f"serving {dict(serving)} - must name a node for each of {identification.user_names}")
    found = {}
    p = _powers(identification, power)
    for user, own in serving.items():
        row = identification.arrival[user]
        disturbing = [(p[tx], gain) for tx, gain in row.items() if tx != own]
        found[user] = _ratio((p[own], row[own]), disturbing, identification.noise_var[user])
    return found


def _check(name: str, capture: Capture, setup: SensingSetup, silent: Capture, receivers: Sequence[str]) -> None:
    """CaptureError unless in this capture the node alone is on, and all is as in the silent one."""
    there = sensing_setup(capture)
    if (there.survey, there.numerology) != (setup.survey, setup.numerology) or capture.tx_names != (
        setup.survey.node_names
    ):
        raise CaptureError(f"alone '{name}': of another survey or numerology than the silent capture")
    if capture.frame is None or not np.any(capture.frame.samples[capture.tx_names.index(name)]):
        raise CaptureError(f"alone '{name}': {name} is silent in it; capture with {name} on and all others off")
    for other, samples in zip(capture.tx_names, capture.frame.samples, strict=True):
        if other != name and np.any(samples):
            raise CaptureError(f"alone '{name}': {other} transmits as well; capture with all but {name} off")
    index = capture.tx_names.index(name)
    pilot, data = capture.frame.pilot_power[index], capture.frame.data_power[index]
    if not np.isclose(pilot, data, rtol=1e-6):
        raise CaptureError(
            f"alone '{name}': pilots at {pilot:g} and data at {data:g} mW; gains over mean power need one power"
        )
    for receiver in receivers:
        for held, which in ((silent, "silent"), (capture, f"alone '{name}'")):
            if all(node.name != receiver for node in held.nodes):
                raise CaptureError(f"{which}: does not hold {receiver}; every node and user has to listen")
        gain_db, quiet_db = (held.node(receiver).settings.rx_gain_db for held in (capture, silent))
        if gain_db != quiet_db:
            raise CaptureError(
                f"alone '{name}': {receiver} received with {gain_db:g} dB, in the silent capture with {quiet_db:g} dB; "
                f"noise differs; capture with one gain"
            )


def _frame(capture: Capture) -> Frame:
    assert capture.frame is not None, "checked"
    return capture.frame


def _mean_power(node: NodeCapture, period: int) -> Estimate:
    """Mean |y|^2 over whole passes of what is repeated, or over all there is if that is less than one."""
    count = node.num_samples // period * period or node.num_samples
    return noise_estimate(node.raw[:1, :count], node.lsb)


def _excess(total: Estimate, noise: Estimate, factor: float, own_noise: Estimate | None = None) -> Estimate:
    """Difference of two powers, times a factor.

    Args:
        total: a mean power, its error that of noise alone.
        noise: of the same receiver.
        factor: on the difference.
        own_noise: given where the rest of `total` is a signal, whose power is not random.
    """
    variance = total.stderr**2
    if own_noise is not None:
        n, S = own_noise.value, max(total.value - own_noise.value, 0.0)
        variance = (n**2 + 2 * n * S) / total.count
    stderr = float(np.sqrt(variance + noise.stderr**2))
    return Estimate(value=(total.value - noise.value) * factor, stderr=stderr * factor, count=total.count)


def _ratio(signal: tuple[float, Estimate], disturbing: Sequence[tuple[float, Estimate]], noise: Estimate) -> Estimate:
    """SINR p E / (sum p A + n) with its standard error, errors independent."""
    p, gain = signal
    S = p * max(gain.value, 0.0)
    F = sum(q * max(other.value, 0.0) for q, other in disturbing) + noise.value
    variance = sum((q * other.stderr) ** 2 for q, other in disturbing) + noise.stderr**2
    stderr = float(np.hypot(p * gain.stderr, S / F * np.sqrt(variance))) / F
    return Estimate(value=S / F, stderr=stderr, count=gain.count)


def _powers(identification: RangeIdentification, power: Sequence[float]) -> dict[str, float]:
    p = np.asarray(power, dtype=np.float64)
    names = identification.node_names
    if p.shape != (len(names),) or not np.all((p >= 0) & np.isfinite(p)):
        raise ValueError(f"power {p} - must be {len(names)} finite numbers >= 0, one per node")
    return dict(zip(names, p.tolist(), strict=True))


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(value=estimate.value * factor, stderr=estimate.stderr * factor, count=estimate.count)


def _warnings(
    silent: Capture,
    alone: Mapping[str, Capture],
    rangings: Mapping[str, Ranging],
    arrival: Mapping[str, Mapping[str, Estimate]],
    residual_self: Mapping[str, Estimate],
) -> tuple[str, ...]:
    """What is valid but surprising: clipping, weak echoes, gains that are negative beyond chance."""
    said = [note for node in silent.nodes for note in clipping_warnings(node)]
    for name, capture in alone.items():
        said += [f"{name} alone: {note}" for node in capture.nodes for note in clipping_warnings(node)]
        said += [f"{name} alone: {note}" for note in rangings[name].warnings]
    negative = {f"{tx} at {rx}": gain for rx, row in arrival.items() for tx, gain in row.items()}
    negative |= {f"residual of {name}": gain for name, gain in residual_self.items()}
    for what, gain in negative.items():
        if gain.value < -NEGATIVE_STDERRS * gain.stderr:
            said.append(
                f"{what}: gain negative by {-gain.value / gain.stderr:.1f} standard errors; the receiver's noise "
                f"changed between the captures"
            )
    return tuple(dict.fromkeys(said))
