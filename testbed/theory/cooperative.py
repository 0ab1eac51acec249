"""Cooperative sensing and communication in a Poisson field of base stations: what clusters buy, in closed forms.

Base stations spend the share p^s of their power on sensing and p^c = 1 - p^s on data. N of them locate a target from
all bistatic ranges among them, L of them serve a user:

    CRLB(N) / p^s      bound of the target's position        `cooperative_information`, `cooperative_ranges`,
                                                             in the mean `cooperative_law`
    R_c(L, p^c)        mean rate, nats/s/Hz                  `cooperative_rate`, `cooperative_interference`
    kappa(N, load)     chance that a request is accepted     `cooperative_acceptance`

What the paper prints and what follows from its model differ in a number of places. The corrected form is the default;
a keyword `printed`, `view` or `form` gives the other.

Source: Meng and Masouros, cooperative ISAC networks (arXiv 2403.20228). Differs: each module says where. Rates here are
in nats, as in the paper; divide by ln 2 for bits.
"""

from testbed.theory.arguments import whole
from testbed.theory.cooperative_acceptance import VIEWS, acceptance, comm_acceptance, mean_load
from testbed.theory.cooperative_information import (
    SINGULAR,
    crlb,
    crlb_by_link_pairs,
    crlb_from_moments,
    crlb_of_clusters,
    fim,
    fim_by_double_sum,
    node_moments,
)
from testbed.theory.cooperative_interference import field_exponent, ring_exponent
from testbed.theory.cooperative_law import far_field_crlb, mean_count, mean_crlb
from testbed.theory.cooperative_ranges import (
    crlb_of_information,
    fim_of_pairs,
    fim_of_sets,
    link_constant,
    pair_information,
)
from testbed.theory.cooperative_rate import FORMS, mean_rate

__all__ = [
    "FORMS",
    "SINGULAR",
    "VIEWS",
    "acceptance",
    "comm_acceptance",
    "crlb",
    "crlb_by_link_pairs",
    "crlb_from_moments",
    "crlb_of_clusters",
    "crlb_of_information",
    "far_field_crlb",
    "field_exponent",
    "fim",
    "fim_by_double_sum",
    "fim_of_pairs",
    "fim_of_sets",
    "link_constant",
    "mean_count",
    "mean_crlb",
    "mean_load",
    "mean_rate",
    "node_moments",
    "pair_information",
    "ring_exponent",
    "sensing_beam_gain",
]


def sensing_beam_gain(num_antennas: int, *, harmonic: bool = True) -> float:
    """G_t: gain of a zero-forcing sensing beam towards the target, |a^H w|^2 = M_t Beta(M_t - 1, 1), averaged.

    Args:
        num_antennas: M_t, at least 2; a single antenna cannot null the user.
        harmonic: the harmonic mean M_t (M_t - 2) / (M_t - 1), which a bound feels, or the mean M_t - 1.

    Source: specification, section 2. Differs: the paper does not tell the two means apart.
    """
    Mt = whole(num_antennas, "num_antennas", 2)
    return Mt * (Mt - 2) / (Mt - 1) if harmonic else Mt - 1.0
