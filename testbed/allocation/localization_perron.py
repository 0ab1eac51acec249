"""The largest level of rows that all hold with equality, in closed form, and the prices that prove it.

    maximise t  subject to  x = t (A x + n),  0 <= x,  G x <= room                    A, G >= 0,  n, room > 0

At the maximum some cap i is met, G_i x = room_i, so that n = n G_i x / room_i and x is the Perron vector of a matrix:

    x = t (A + n G_i / room_i) x        t = min over i of 1 / rho(A + n G_i / room_i)

For another cap j, G_j x <= room_j makes (A + n G_j / room_j) x <= x / t, so its spectral radius is no larger; and where
cap i's vector exceeds cap j, j's radius is larger. So: begin with a cap, and go to the one that is exceeded most until
none is. One or two eigenvalue problems are typical.

Source: nonnegative matrices (Perron, Frobenius); without noise the classical result on power control, Zander, IEEE
Trans. Veh. Technol. 41 (1992). Differs: caps, by way of a column for the noise.
"""

import numpy as np
from numpy.typing import NDArray

_SAME = 1e-12  # relative: caps that are met together


def capped_level(
    A: NDArray[np.float64], n: NDArray[np.float64], G: NDArray[np.float64], room: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], int]:
    """The largest level, where it is reached, and which cap stops it.

    Args:
        A: interference over own signal, (S, S).
        n: noise over own signal, (S,), > 0.
        G: caps, (I, S); a row of zeros binds nobody, not all may be.
        room: (I,), > 0.

    Returns:
        t; x of shape (S,); i. Where rounding decides which of several vectors it is, x may miss the level.
    """
    over_room = G / room[:, None]
    i = int(np.argmax(over_room @ (np.sum(A, axis=1) + n)))  # who needs most where all transmit
    for _ in range(len(room) + 1):
        values, vectors = np.linalg.eig(A + n[:, None] * over_room[i])
        # of a nonnegative matrix, the eigenvalue of largest modulus is real and positive
        k = int(np.argmax(values.real))
        x = np.abs(vectors[:, k].real)
        load = over_room @ x
        j = int(np.argmax(load))
        if load[i] >= load[j] * (1 - _SAME):
            break
        i = j
    return float(1 / values[k].real), x / load[i], i


def prices(R: NDArray[np.float64], v: NDArray[np.float64], x: NDArray[np.float64], cap: int) -> NDArray[np.float64]:
    """Prices y >= 0 of the rows x = R x + v at a point where x[cap] is at its cap, shape (S,), scaled to sum 1.

    y' (1 - R) is zero but at `cap`, and there it is y.v / x[cap]: no x' <= x[cap] at the cap has (1 - R) x' > v.

    With rows over x and columns times x, (R, v) are the probabilities of a Markov chain that goes from node to node, or
    to the cap, and from the cap to its node; its stationary law is y x. Found without a subtraction (Grassmann, Taksar
    and Heyman, Oper. Res. 33 (1985)), so that small prices have all digits, too.
    """
    size = len(x) + 1
    P = np.zeros((size, size))  # the cap is state 0: every node reaches it, for v > 0
    P[0, cap + 1] = 1.0
    P[1:, 0], P[1:, 1:] = v / x, R * x / x[:, None]
    for k in range(size - 1, 0, -1):
        P[:k, k] /= np.sum(P[k, :k])
        P[:k, :k] += P[:k, k, None] * P[k, :k]
    law = np.zeros(size)
    law[0] = 1.0
    for k in range(1, size):
        law[k] = law[:k] @ P[:k, k]
    y = law[1:] / x
    return y / np.sum(y)
