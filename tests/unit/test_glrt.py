"""The two likelihood-ratio tests: against naive formulas, their invariances, ranks, laws and errors."""

import mpmath
import numpy as np
import pytest
from scipy import stats

from testbed.sensing.glrt import glrt
from testbed.theory import detection

N, L, Q = 24, 3, 5
SIGMA2 = 0.7


def gaussian(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def instance(seed=1, shape=()):
    rng = np.random.default_rng(seed)
    return gaussian(rng, *shape, N), gaussian(rng, N, L), gaussian(rng, N, Q)


def projector(A):
    return A @ np.linalg.pinv(A)


def naive(y, X, D):
    """||P_{X|D} y||^2 and ||(I - P_[X D]) y||^2 by explicit projectors."""
    left = np.eye(len(y)) - projector(D)
    onto = projector(left @ X)
    rest = np.eye(len(y)) - projector(np.hstack([X, D]))
    return float(np.vdot(y, onto @ y).real), float(np.vdot(y, rest @ y).real)


def mp_energy(y, A):
    """||P_A y||^2 = (A^H y)^H (A^H A)^-1 A^H y in 50 digits."""
    A, y = mpmath.matrix(A.tolist()), mpmath.matrix(y.tolist())
    inner = A.H * y
    return (inner.H * mpmath.lu_solve(A.H * A, inner))[0].real


# Value


def test_both_statistics_are_the_formulas_with_explicit_projectors():
    y, X, D = instance()
    explained, residual = naive(y, X, D)

    known, cfar = glrt(y, X, SIGMA2, D), glrt(y, X, None, D)

    assert known.statistic == pytest.approx(explained / SIGMA2, rel=1e-10)
    assert cfar.statistic == pytest.approx((explained / L) / (residual / (N - L - Q)), rel=1e-10)
    assert (known.rank, known.num_nuisance, known.num_observations, known.num_residual) == (L, Q, N, N - L - Q)
    assert cfar.residual == pytest.approx(residual, rel=1e-10)


def test_without_nuisance_t_is_equation_8_of_the_paper():
    y, X, _ = instance()
    explained, residual = naive(y, X, np.zeros((N, 0)))

    assert glrt(y, X, SIGMA2).statistic == pytest.approx(explained / SIGMA2, rel=1e-10)
    assert glrt(y, X).statistic == pytest.approx((explained / L) / (residual / (N - L)), rel=1e-10)


def test_both_statistics_agree_with_fifty_digits():
    # P_[X D] = P_D + P_{X|D}: energies of normal equations in 50 digits, where squaring the condition number is no harm
    y, X, D = (a[:7] for a in instance(seed=2))
    X, D = X[:, :2], D[:, :2]
    with mpmath.workdps(50):
        both, nuisance = mp_energy(y, np.hstack([X, D])), mp_energy(y, D)
        total = mpmath.fsum(mpmath.mpc(v).real ** 2 + mpmath.mpc(v).imag ** 2 for v in y.tolist())
        t_exact = float((both - nuisance) / mpmath.mpf(SIGMA2))
        f_exact = float(((both - nuisance) / 2) / ((total - both) / 3))

    assert glrt(y, X, SIGMA2, D).statistic == pytest.approx(t_exact, rel=1e-12)
    assert glrt(y, X, None, D).statistic == pytest.approx(f_exact, rel=1e-12)


def test_a_batch_is_the_single_tests():
    y, X, D = instance(shape=(4, 5))

    for noise_var in (SIGMA2, None):
        batch = glrt(y, X, noise_var, D)
        single = [[glrt(row, X, noise_var, D).statistic for row in block] for block in y]

        assert batch.statistic.shape == (4, 5)
        np.testing.assert_allclose(batch.statistic, single, rtol=1e-12)


def test_single_precision_samples_are_judged_in_double_precision():
    y, X, D = instance()
    y = y.astype(np.complex64)

    assert glrt(y, X, SIGMA2, D).statistic == glrt(y.astype(np.complex128), X, SIGMA2, D).statistic


# Invariances


@pytest.mark.parametrize("noise_var", [SIGMA2, None])
def test_the_powers_of_the_columns_do_not_matter(noise_var):
    y, X, D = instance(shape=(10,))
    before = glrt(y, X, noise_var, D).statistic

    scaled = glrt(y, X * [1e-6, 1e3 * np.exp(2j), 1e-9], noise_var, D * [1e-8, 1e5, 1.0, 1j, -1e-3]).statistic

    np.testing.assert_allclose(scaled, before, rtol=1e-9)


def test_a_mix_of_the_columns_does_not_matter():
    y, X, D = instance(shape=(10,))
    mix = gaussian(np.random.default_rng(5), L, L)

    np.testing.assert_allclose(glrt(y, X @ mix, SIGMA2, D).statistic, glrt(y, X, SIGMA2, D).statistic, rtol=1e-9)


def test_f_does_not_move_with_the_receive_gain_and_t_moves_with_its_power():
    y, X, D = instance(shape=(10,))

    np.testing.assert_allclose(glrt(1e-5j * y, X, None, D).statistic, glrt(y, X, None, D).statistic, rtol=1e-9)
    np.testing.assert_allclose(glrt(3 * y, X, SIGMA2, D).statistic, 9 * glrt(y, X, SIGMA2, D).statistic, rtol=1e-12)
    np.testing.assert_allclose(glrt(y, X, 2.0, D).statistic, 0.5 * glrt(y, X, 1.0, D).statistic, rtol=1e-12)


@pytest.mark.parametrize("level_db", [0, 60])
@pytest.mark.parametrize("noise_var", [SIGMA2, None])
def test_nuisance_of_any_strength_leaves_the_statistics_alone(noise_var, level_db):
    y, X, D = instance(shape=(10,))
    leak = 10 ** (level_db / 20) * gaussian(np.random.default_rng(7), 10, Q) @ D.T

    with_leak = glrt(y + leak, X, noise_var, D).statistic

    np.testing.assert_allclose(with_leak, glrt(y, X, noise_var, D).statistic, rtol=1e-9)


def test_nuisance_that_is_not_modelled_shows():
    y, X, D = instance(shape=(10,))

    assert np.all(glrt(y + 1e3 * D[:, 0], X, SIGMA2, D[:, 1:]).statistic > 1e4)


# Rank


def test_a_silent_transmitter_does_not_count():
    y, X, D = instance()
    X[:, 1] = 0

    result = glrt(y, X, SIGMA2, D)

    assert result.rank == 2
    assert result.statistic == pytest.approx(glrt(y, X[:, [0, 2]], SIGMA2, D).statistic, rel=1e-12)


def test_a_silent_nuisance_does_not_count():
    y, X, D = instance()
    D[:, 3] = 0

    assert glrt(y, X, None, D).num_nuisance == Q - 1


def test_repeated_columns_count_once():
    y, X, D = instance()
    X[:, 2] = -2j * X[:, 0]
    D[:, 4] = 1e-4 * D[:, 1] + 3 * D[:, 2]

    result = glrt(y, X, None, D)

    assert (result.rank, result.num_nuisance) == (2, Q - 1)
    explained, residual = naive(y, X[:, :2], D[:, :4])
    assert result.statistic == pytest.approx((explained / 2) / (residual / (N - 2 - Q + 1)), rel=1e-10)


def test_echoes_that_differ_by_little_count_as_two_where_nothing_hides_them():
    # r compares with the columns before projection: D takes nothing, so what little differs is visible
    y, X, D = instance()
    X = np.column_stack([X[:, 0], X[:, 0] + 1e-4 * X[:, 1]])

    assert glrt(y, X, SIGMA2, D).rank == 2


def test_a_weak_transmitter_counts_like_a_strong_one():
    y, X, D = instance()

    assert glrt(y, X * [1.0, 1e-9, 1e-5], SIGMA2, D).rank == 3


@pytest.mark.parametrize(("visible", "rank"), [(1e-5, 3), (1e-7, 2)])
def test_a_column_counts_when_a_millionth_of_its_power_is_visible(visible, rank):
    # kappa just above and below 1e-6
    y, X, D = instance()
    x = D @ np.ones(Q)
    away = X[:, 0] - projector(D) @ X[:, 0]
    x, away = x / np.linalg.norm(x), away / np.linalg.norm(away)
    X = np.column_stack([np.sqrt(visible) * away + np.sqrt(1 - visible) * x, X[:, 1:]])

    assert glrt(y, X, SIGMA2, D).rank == rank


@pytest.mark.parametrize("num_columns", [4, 6])
def test_as_many_columns_as_observations_are_allowed_with_known_noise(num_columns):
    rng = np.random.default_rng(3)
    y, X = gaussian(rng, 4), gaussian(rng, 4, num_columns)

    with pytest.warns(RuntimeWarning, match="energy detector"):
        result = glrt(y, X, SIGMA2)

    # the columns span everything: T is the whole energy
    assert result.rank == 4
    assert result.statistic == pytest.approx(np.sum(np.abs(y) ** 2) / SIGMA2, rel=1e-12)


# Laws. KS of 20 000 draws at fixed seeds: each fails with probability 1e-3 if the law holds.


@pytest.mark.parametrize("nuisance", [0, Q])
@pytest.mark.parametrize("lam", [0.0, 12.0])
@pytest.mark.parametrize("statistic", ["T", "F"])
def test_statistics_follow_their_laws(statistic, lam, nuisance):
    rng = np.random.default_rng(11 + nuisance)
    _, X, D = instance(seed=4)
    D = D[:, :nuisance]
    h = gaussian(rng, L)
    visible = (np.eye(N) - projector(D)) @ X @ h if nuisance else X @ h
    h = h * np.sqrt(lam * SIGMA2 / 2) / np.linalg.norm(visible)  # lam = 2 ||(I - P_D) X h||^2 / sigma2
    noise = np.sqrt(SIGMA2) * gaussian(rng, 20_000, N)
    y = X @ h + 30 * gaussian(rng, 20_000, nuisance) @ D.T + noise

    result = glrt(y, X, SIGMA2 if statistic == "T" else None, D)

    if statistic == "T":
        law = detection.h1_law(lam, L) if lam else detection.h0_law(L)
    else:
        shape = (L, N, nuisance)
        law = detection.cfar_h1_law(lam, *shape) if lam else detection.cfar_h0_law(*shape)
    assert stats.kstest(result.statistic, law.cdf).pvalue > 1e-3


def test_a_law_of_the_wrong_degrees_of_freedom_is_seen():
    # the check above can fail: T of three transmitters is not that of four
    y, X, D = instance(shape=(20_000,))

    assert stats.kstest(glrt(y, X, 1.0, D).statistic, detection.h0_law(L + 1).cdf).pvalue < 1e-12


# Errors


@pytest.mark.parametrize(
    ("y", "X", "D"),
    [
        ((N,), (N + 1, L), None),
        ((5, N + 1), (N, L), None),
        ((N,), (N,), None),
        ((N,), (N, L, 1), None),
        ((), (N, L), None),
        ((N,), (N, L), (N - 1, Q)),
        ((N,), (N, L), (N,)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(y, X, D):
    with pytest.raises(ValueError, match="shape"):
        glrt(np.ones(y), np.ones(X), SIGMA2, None if D is None else np.ones(D))


@pytest.mark.parametrize("noise_var", [0.0, -1.0, np.nan, np.inf])
def test_a_noise_variance_that_is_not_positive_is_refused(noise_var):
    y, X, D = instance()

    with pytest.raises(ValueError, match="noise_var"):
        glrt(y, X, noise_var, D)


def test_a_cell_without_any_power_is_refused():
    y, X, D = instance()

    with pytest.raises(ValueError, match="no active column"):
        glrt(y, 0 * X, SIGMA2, D)


def test_a_cell_within_the_nuisance_space_is_refused():
    y, _, D = instance()

    with pytest.raises(ValueError, match="cannot be told"):
        glrt(y, D[:, :2] @ np.ones((2, 3)), SIGMA2, D)


def test_no_residual_is_an_error_of_the_f_test_only():
    y, X, D = (a[: L + Q] for a in instance())  # N = r + Q

    with pytest.raises(ValueError, match=r"N - r - Q = 8 - 3 - 5"):
        glrt(y, X, None, D)
    with pytest.warns(RuntimeWarning, match="energy detector"):
        assert glrt(y, X, SIGMA2, D).num_residual == 0


# No residual: T is an energy detector


@pytest.mark.parametrize(("num_columns", "num_observations"), [(4, 4), (6, 4)])
def test_columns_that_span_all_observations_are_warned_of_once_and_t_has_their_rank(num_columns, num_observations):
    rng = np.random.default_rng(3)
    y, X = gaussian(rng, 600, num_observations), gaussian(rng, num_observations, num_columns)

    with pytest.warns(RuntimeWarning, match=r"N - r - Q = 4 - 4 - 0: .* energy detector") as caught:
        result = glrt(y, X, SIGMA2)

    assert len(caught) == 1
    assert caught[0].filename == __file__  # the caller is told, not the detector
    assert (result.rank, result.num_residual) == (num_observations, 0)
    np.testing.assert_allclose(result.statistic, np.sum(np.abs(y) ** 2, axis=-1) / SIGMA2, rtol=1e-12)
    with pytest.raises(ValueError, match="N - r - Q = 4 - 4 - 0"):
        glrt(y, X)


def test_nuisance_that_leaves_no_residual_is_warned_of_and_t_is_the_energy_that_it_leaves():
    y, X, D = (a[: L + Q] for a in instance())

    with pytest.warns(RuntimeWarning, match=r"N - r - Q = 8 - 3 - 5: .* energy detector") as caught:
        result = glrt(y, X, SIGMA2, D)

    assert len(caught) == 1
    left = y - projector(D) @ y
    assert result.statistic == pytest.approx(np.vdot(left, left).real / SIGMA2, rel=1e-10)


@pytest.mark.filterwarnings("error")
def test_many_columns_of_a_small_rank_are_no_energy_detector():
    y, X, D = (a[: L + Q + 1] for a in instance())
    repeated = np.tile(X[:, :2], 6)  # more columns than observations, two different ones

    assert glrt(y, repeated, SIGMA2).rank == 2
    assert glrt(y, X, SIGMA2, D).num_residual == 1


@pytest.mark.filterwarnings("error")
def test_the_f_test_without_a_residual_is_an_error_and_no_warning():
    y, X, D = (a[: L + Q] for a in instance())

    with pytest.raises(ValueError, match="N - r - Q"):
        glrt(y, X, None, D)
