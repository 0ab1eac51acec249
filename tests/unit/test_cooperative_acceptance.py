"""Shares of accepted requests, against sums, draws of loads and a simulated field.

Statistical tests: fixed seeds, four standard errors, 6e-5 each to fail if the code is right.
"""

import numpy as np
import pytest

from sim.figures.cooperative_scenario import shared_field
from testbed.theory.cooperative import VIEWS, acceptance, comm_acceptance, mean_count, mean_crlb, mean_load


def test_views_of_the_specification():
    assert acceptance(15, 1.0, 15) == pytest.approx(0.9047, abs=1e-4)
    assert acceptance(15, 1.0, 15, view="station") == pytest.approx(0.9287, abs=1e-4)
    assert acceptance(15, 1.0, 15, view="printed") == pytest.approx(0.8264, abs=1e-4)
    assert acceptance(15, 1.0, 15, law="negative_binomial", exact_load=True) == pytest.approx(0.884, abs=1e-3)
    assert comm_acceptance([12, 20], 1.0, 15) == pytest.approx([0.9671, 0.7249], abs=1e-4)
    assert comm_acceptance([12, 20], 1.0, 15, view="printed") == pytest.approx([0.9801, 0.7672], abs=1e-4)


@pytest.mark.parametrize(("law", "ratio"), [("poisson", 1.0), ("negative_binomial", 1.56)])
def test_drawn_loads(law, ratio):
    """Each view over a million stations, load 2 targets per station, mean load 18."""
    rng, num, psi, mean = np.random.default_rng(1), 1_000_000, 15, 18.0
    r = mean / (ratio - 1) if ratio > 1 else 0
    n = rng.poisson(mean, num) if ratio == 1 else rng.negative_binomial(r, 1 / ratio, num)
    share = np.minimum(1.0, psi / np.maximum(n, 1))
    served = np.minimum(n, psi) - acceptance(9, 2.0, psi, law=law, exact_load=True) * n  # of mean 0
    assert abs(np.mean(served)) < 4 * np.std(served) / np.sqrt(num)
    for view, drawn in (("station", share), ("printed", np.where(n == psi, 0.0, share))):
        expected = acceptance(9, 2.0, psi, view=view, law=law, exact_load=True)
        assert np.mean(drawn) == pytest.approx(expected, abs=4 * np.std(drawn) / np.sqrt(num))
    m = rng.poisson(16.0, num)
    served = np.minimum(m, psi - 1) - comm_acceptance(9, 2.0, psi) * m
    assert abs(np.mean(served)) < 4 * np.std(served) / np.sqrt(num)


def test_a_simulated_field_has_the_mean_load_mu_n_and_the_negative_binomial_s_acceptance():
    """40 tori of 400 stations and 800 targets; erratum 5 and the over-dispersed loads of erratum 4."""
    rng, mu, N = np.random.default_rng(2), 2.0, np.arange(1, 11)
    fields = [shared_field(rng, 400, 10, mu, 15) for _ in range(40)]
    load, ratio, accepted = (
        np.array([getattr(field, name) for field in fields]) for name in ("mean_load", "load_ratio", "accepted")
    )

    def apart(drawn, expected):
        return np.abs(np.mean(drawn, axis=0) - expected) / (np.std(drawn, axis=0) / np.sqrt(len(drawn)))

    assert np.all(apart(load, mean_load(N, mu, exact=True)) < 4)
    assert mean_load(N, mu) == pytest.approx(mu * mean_count(N)) and np.all(mean_load(N, mu) < mu * N)
    # a torus is finite, larger clusters see that
    assert np.all(apart(ratio[:, :5], 1 + 0.28 * mu) < 4) and np.all(np.mean(ratio, axis=0) > 1.3)
    drawn, crowded = accepted[:, 5:9], N[5:9]
    field_law = acceptance(crowded, mu, 15, law="negative_binomial", exact_load=True)
    poisson = acceptance(crowded, mu, 15, exact_load=True)
    assert np.all(apart(drawn, field_law) < 4)
    assert np.all(poisson > 1.015 * field_law) and np.all(apart(drawn, poisson) > 4)


def test_best_cluster_sizes_of_the_three_views():
    """Erratum 4 and claim F5, with (16): 15 in the repaired station view, 12 as printed, 14 in the request view."""
    N = np.arange(2, 41)

    def best(view, form):
        kappa = acceptance(N, 1.0, 15, view=view)
        return int(N[np.argmin(mean_crlb(N, form=form, accepted=kappa))])

    assert [best(view, "law") for view in ("station", "printed", "request")] == [15, 12, 14]
    assert best("request", "mean_distance") == 13
    kappa = acceptance(N, 1.0, 10, view="station")
    assert N[np.argmin(mean_crlb(N, form="law", accepted=kappa))] == 10


def test_the_printed_form_loses_the_term_n_equal_psi():
    from scipy import stats

    x = mean_load(15, 1.0)
    lost = acceptance(15, 1.0, 15, view="station") - acceptance(15, 1.0, 15, view="printed")
    assert lost == pytest.approx(stats.poisson.pmf(15, x), rel=1e-10)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("law", ["poisson", "negative_binomial"])
def test_no_load_is_always_accepted_and_load_only_lowers(view, law):
    assert acceptance(5, 0.0, 3, view=view, law=law) == pytest.approx(1.0, abs=1e-15)
    assert acceptance(5, 1e-9, 3, view=view, law=law) == pytest.approx(1.0, abs=1e-8)
    falling = acceptance(np.arange(1, 40), 1.0, 4, view=view, law=law)
    # the printed form has a dent at n = psi
    assert np.all(np.diff(falling) < 1e-12) or view == "printed"
    assert falling[-1] < 0.2


def test_one_block():
    assert acceptance(3, 1.0, 1) == pytest.approx((1 - np.exp(-mean_count(3))) / mean_count(3), rel=1e-12)
    assert comm_acceptance(3, 1.0, 1) == 0.0
    assert comm_acceptance(3, 1.0, 1, view="printed") == pytest.approx(np.exp(-mean_count(3)), rel=1e-12)
    assert comm_acceptance(1, 1.0, 5) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: acceptance(0, 1.0, 15), "num_nodes"),
        (lambda: acceptance(2, -1.0, 15), "load"),
        (lambda: acceptance(2, 1.0, 0), "num_blocks"),
        (lambda: acceptance(2, 1.0, 3, view="mine"), "view: found 'mine'"),
        (lambda: acceptance(2, 1.0, 3, law="uniform"), "law: found 'uniform'"),
        (lambda: comm_acceptance(2, 1.0, 3, view="station"), "view: found 'station'"),
        (lambda: comm_acceptance(1.5, 1.0, 3), "cluster_size"),
    ],
)
def test_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
