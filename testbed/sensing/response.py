"""How the transmitters' powers add up at a receiver: effective gains and their Gram matrix.

    received power per observation = s^T G s,   s_l = sqrt(P_l),
    G_lm = Re( conj(h_l) h_m [X1^H (I - P_D) X1]_lm ) / N

X1 are the columns at unit drive. The diagonal is the gain a solver gets, linear in the powers (`G_eff` of SIGNAL_CHAIN
section 4); the rest is what correlated frames add, and what a prediction must not leave out.

Bias and error of G are those at known offsets: an error of an offset moves h and X1 against each other, and what both
say of the received power hardly changes (repeated captures: tests/unit/test_measure.py).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from testbed.measurement import Estimate, PowerResponse
from testbed.sensing.channel import PathFit, unbiased_power
from testbed.sensing.model import projection_basis


def power_response(
    fit: PathFit,
    columns: NDArray[np.complex128],
    nuisance: NDArray[np.complex128],
    *,
    node: str,
    serving: str | None,
    names: Sequence[str],
    previous: PowerResponse | None = None,
) -> PowerResponse:
    """The response of one receiver.

    Args:
        fit: amplitudes and their covariance; its first paths are one per transmitter, in their order.
        columns: X1, one column per transmitter, zero where silent, shape (N, num_tx).
        nuisance: D, shape (N, Q).
        node: the receiver's name.
        serving: transmitter whose data it wants, or None.
        names: of the transmitters.
        previous: stands in for silent transmitters; their age is one more than there.
    """
    num_observations, num_tx = columns.shape
    h = np.nan_to_num(fit.h[:num_tx])
    covariance = fit.covariance[:num_tx, :num_tx]
    U = projection_basis(nuisance)
    visible = columns - U @ (U.conj().T @ columns)
    A = (visible.conj().T @ visible) / num_observations
    # E[conj(e_l) e_m] = conj(C_lm) is the bias of conj(h_l) h_m
    gram: NDArray[np.float64] = ((np.outer(h.conj(), h) - covariance.conj()) * A).real
    gram = (gram + gram.T) / 2
    gain, floored, ages = {}, [], {}
    for l, name in enumerate(names):
        if np.isnan(fit.h[l]):
            gain[name], gram[l, :], gram[:, l] = _kept(previous, name, names)
            ages[name] = 1 + (previous.age_rounds.get(name, 0) if previous else 0)
            continue
        if gram[l, l] <= 0:
            floored.append(name)
            gram[l, :] = gram[:, l] = 0.0
        spread = unbiased_power(fit.h[l], float(covariance[l, l].real), fit.num_frames).stderr * float(A[l, l].real)
        gain[name] = Estimate(value=float(gram[l, l]), stderr=spread, count=fit.num_frames)
    return PowerResponse(
        node=node,
        serving=serving,
        num_observations=num_observations,
        gain=gain,
        gram=tuple(tuple(float(v) for v in row) for row in gram),
        floored=tuple(floored),
        age_rounds=ages,
    )


def _kept(
    previous: PowerResponse | None, name: str, names: Sequence[str]
) -> tuple[Estimate, NDArray[np.float64], NDArray[np.float64]]:
    """Last estimate of a silent transmitter and its row of the Gram matrix; nothing where it was never heard."""
    if previous is None or name not in previous.gain:
        return Estimate(value=0.0, stderr=0.0, count=0), np.zeros(len(names)), np.zeros(len(names))
    row = np.array(previous.gram[list(names).index(name)])
    return previous.gain[name], row, row
