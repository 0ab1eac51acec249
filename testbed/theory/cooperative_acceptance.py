"""How often a base station accepts a request: it holds n of them and has resource blocks for psi, chosen at random.

    request view      kappa = E[min(n, psi)] / E[n] = Q(psi, x) + (psi / x) P(psi + 1, x)     of all requests
    station view      E[min(1, psi / n)]                                                     mean over stations
    as printed        P(n < psi) + sum_{n > psi} (psi / n) P(n)                            eq. (15), which loses n = psi

with n ~ Poisson(x), Q and P the regularised incomplete gamma functions. Requests meet busy stations more often than
quiet ones, so of the first two the request view is what a target sees. True loads scatter more than Poisson,
var / mean = 1 + 0.28 mu: a negative binomial of that ratio.

For users, one block is kept for the station's own user: psi - 1 are shared by requests of other stations' users.

Source: Meng and Masouros, arXiv 2403.20228, Lemma 1, eq. (15) and kappa_c before Theorem 2. Differs: the request view
and the negative binomial are not in the paper; its mean load mu pi lambda E[d_N]^2 is what x is by default, the exact
mean load is mu N. Valid for: the negative binomial within 0.7 % of a simulated field at mu = 1, N <= 18 and mu = 2,
N <= 10; Poisson is off by up to 5 %.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.theory.arguments import not_negative, whole
from testbed.theory.cooperative_law import mean_count

OVERDISPERSION = 0.28  # var / mean - 1 of the loads per mu, from simulated fields

View = Literal["request", "station", "printed"]
LoadLaw = Literal["poisson", "negative_binomial"]
VIEWS: tuple[View, ...] = ("request", "station", "printed")


def mean_load(num_nodes: ArrayLike, load: float, *, exact: bool = False) -> Any:
    """Mean number of requests at a node when every target asks its N nearest: mu Nbar of the paper, or exactly mu N."""
    N = _sizes(num_nodes, "num_nodes")
    value = float(not_negative(load, "load")) * (N if exact else mean_count(N))
    return value if np.ndim(value) else float(value)


def acceptance(
    num_nodes: ArrayLike,
    load: float,
    num_blocks: int,
    *,
    view: View = "request",
    law: LoadLaw = "poisson",
    exact_load: bool = False,
) -> Any:
    """kappa_s: probability that a base station accepts a target's request.

    Args:
        num_nodes: N, base stations per target, any shape.
        load: mu_s, targets per base station.
        num_blocks: psi.
        view: "request", "station" or "printed", as above.
        law: of the load.
        exact_load: x = mu N instead of the paper's mu Nbar. The negative binomial is meant for it.

    Returns:
        0..1, a float or the shape of `num_nodes`; 1 in the limit of no load.

    Raises:
        ValueError: a number out of range or a word that is not known.

    Source: Lemma 1. Differs: see the module; "printed" with "poisson" is eq. (15) as it stands.
    """
    psi, x = whole(num_blocks, "num_blocks", 1), np.asarray(mean_load(num_nodes, load, exact=exact_load))
    ratio = _ratio(law, load)
    if view == "request":
        value = _request_share(x, psi, ratio)
    elif view in VIEWS:
        n, chance = _chances(x, ratio, psi)
        share = np.where(n <= psi - (view == "printed"), 1.0, psi / np.maximum(n, 1))
        value = chance @ np.where((n == psi) & (view == "printed"), 0.0, share)
    else:
        raise ValueError(f"view: found {view!r}; must be one of {', '.join(VIEWS)}")
    return _shaped(value, num_nodes)


def comm_acceptance(
    cluster_size: ArrayLike,
    load: float,
    num_blocks: int,
    *,
    view: Literal["request", "printed"] = "request",
    law: LoadLaw = "poisson",
) -> Any:
    """kappa_c: probability that one of the base stations 2..L of a user accepts to serve it.

    Args:
        cluster_size: L, base stations per user, any shape.
        load: mu_c, users per base station.
        num_blocks: psi, of which one is the own user's.
        view: "request": E[min(m, psi - 1)] / E[m] with m of mean mu (L - 1). "printed":
            P(n <= psi - 1) + sum_{n >= psi} (psi - 1) / (n - 1) P(n), n of mean mu Lbar.
        law: of the load.

    Returns:
        0..1, a float or the shape of `cluster_size`; 1 in the limit of no load, and for L = 1 in the request view.

    Raises:
        ValueError: a number out of range or a word that is not known.

    Source: before Theorem 2. Differs: psi = 1 is 0 / 0 in print at n = 1; here P(n = 0), and 0 in the request view.
    """
    psi, L = whole(num_blocks, "num_blocks", 1), _sizes(cluster_size, "cluster_size")
    ratio = _ratio(law, load)
    if view == "request":
        value = _request_share(float(not_negative(load, "load")) * (L - 1), psi - 1, ratio) if psi > 1 else 0.0 * L
    elif view == "printed":
        n, chance = _chances(np.asarray(mean_load(L, load)), ratio, psi)
        value = chance @ np.where(n <= psi - 1, 1.0, (psi - 1) / np.maximum(n - 1, 1))
    else:
        raise ValueError(f"view: found {view!r}; must be request or printed")
    return _shaped(value, cluster_size)


def _request_share(x: NDArray[np.float64], psi: int, ratio: float) -> NDArray[np.float64]:
    from scipy import special

    at = np.where(x > 0, x, 1.0)
    if ratio == 1:
        share = special.gammaincc(psi, at) + psi / at * special.gammainc(psi + 1, at)
    else:
        n, chance = _chances(at, ratio, psi)
        share = chance @ np.minimum(n, psi) / at
    return np.where(x > 0, np.minimum(share, 1.0), 1.0)


def _chances(x: NDArray[np.float64], ratio: float, psi: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loads 0, 1, ... and their probabilities (..., len(n)), for means x and var / mean `ratio`; the rest is 1e-16."""
    from scipy import special

    top = float(np.max(x, initial=0.0))
    n = np.arange(np.ceil(top + 12 * np.sqrt(ratio * top) + 60 * ratio + psi))
    mean = x[..., None]
    if ratio == 1:
        log_chance = special.xlogy(n, mean) - mean - special.gammaln(n + 1)
    else:
        r = mean / (ratio - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_chance = special.gammaln(n + r) - special.gammaln(r) - special.gammaln(n + 1)
            log_chance = log_chance - r * np.log(ratio) + n * np.log1p(-1 / ratio)
        log_chance = np.where(mean > 0, log_chance, np.where(n == 0, 0.0, -np.inf))
    return n, np.exp(log_chance)


def _ratio(law: str, load: float) -> float:
    if law not in ("poisson", "negative_binomial"):
        raise ValueError(f"law: found {law!r}; must be poisson or negative_binomial")
    return 1.0 if law == "poisson" else 1 + OVERDISPERSION * float(not_negative(load, "load"))


def _sizes(value: ArrayLike, name: str) -> NDArray[np.float64]:
    sizes = np.asarray(value, dtype=np.float64)
    if not np.all((sizes >= 1) & (np.floor(sizes) == sizes) & (sizes < np.inf)):
        raise ValueError(f"{name} - must be whole numbers of at least 1, found {sizes.min()}")
    return sizes


def _shaped(value: Any, like: ArrayLike) -> Any:
    return np.asarray(value) if np.ndim(like) else float(value)
