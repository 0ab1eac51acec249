"""From a scene to paths: sectors, random phases, extended targets, scattering, taps, clocks; and scenes that cannot be.

Levels of the reference scene, Friis and the radar equation are held by test_channel.py, users by test_scene_users.py.
"""

import math
from collections import defaultdict

import numpy as np
import pytest
from scipy import stats

from sim.propagation import MAX_FADING_PATHS, scatterers, scene_paths
from sim.scene import PathLoss
from testbed.errors import ConfigError
from testbed.units import db, undb
from tests.scenes import comp_scene
from tests.worlds import CARRIER_HZ, LIGHT_MPS, RATE_HZ, WAVELENGTH_M, node, scene


def paths_to(rx, where, **options):
    return scene_paths(where, rx, CARRIER_HZ, RATE_HZ, **options)


def only(paths, kind, tx=0, via=None):
    (path,) = [p for p in paths if (p.kind, p.tx, p.via) == (kind, tx, via)]
    return path


def phase_turns(path):
    return float(np.angle(path.gain) / (2 * np.pi) % 1.0)


# Sectors


def test_both_sectors_count_on_direct_paths_and_each_sees_the_reflector_on_echoes():
    # a at the origin faces east, b 100 m east of it faces north, the target 100 m north of b: a sees b dead ahead and
    # the target 45 degrees off, b sees a at 90 degrees and the target dead ahead. Beamwidth 90: 12 (off / 90)^2 dB
    ends = {"a": (0.0, 0.0), "b": (100.0, 0.0)}
    faces = {"a": 0.0, "b": 90.0}
    targets = [{"name": "t", "position_m": [100.0, 100.0], "rcs_m2": 2.0}]

    def gains(with_sectors):
        sector = {
            name: {"sector": {"azimuth_deg": az, "beamwidth_deg": 90.0}} if with_sectors else {}
            for name, az in faces.items()
        }
        made = scene([node(name, *ends[name], **sector[name]) for name in ends], targets=targets)
        return {(p.tx, rx, p.kind): db(abs(p.gain) ** 2) for rx in (0, 1) for p in paths_to(rx, made)}

    plain, sectors = gains(False), gains(True)

    loss = {key: plain[key] - sectors[key] for key in plain}
    assert loss == pytest.approx(
        {
            (0, 0, "self"): 0.0,
            (1, 1, "self"): 0.0,
            (0, 1, "direct"): 12.0,
            (1, 0, "direct"): 12.0,
            (0, 0, "echo"): 6.0,
            (0, 1, "echo"): 3.0,
            (1, 0, "echo"): 3.0,
            (1, 1, "echo"): 0.0,
        },
        abs=1e-9,
    )


# Random phases


def phases_scene(seed=1, more_nodes=0, more_targets=0):
    nodes = [node("a", 0.0, 0.0), node("b", 90.0, 10.0), node("c", 20.0, 80.0)]
    nodes += [node(f"m{i}", 200.0 + i, 7.0) for i in range(more_nodes)]
    targets = [{"name": f"t{i}", "position_m": [30.0 + 9 * i, 40.0], "rcs_m2": 1.0} for i in range(2 + more_targets)]
    clutter = [{"name": "wall", "position_m": [50.0, -30.0], "rcs_m2": 5.0}]
    return scene(nodes, seed=seed, phases="random", targets=targets, clutter=clutter)


def all_phases(where, nodes=3):
    arriving = {rx: [p for p in paths_to(rx, where) if p.kind != "self"] for rx in range(nodes)}
    return {(p.tx, rx, p.kind, p.via): phase_turns(p) for rx, paths in arriving.items() for p in paths}


def test_random_phases_are_uniform_and_independent_over_seeds():
    # KS of 400 seeds and correlation of 21 paths that are not each other's reverse: 5 standard errors of 1/sqrt(400)
    # and p > 1e-4; all together fail with probability 3e-3 if the law holds
    drawn = [all_phases(phases_scene(seed)) for seed in range(400)]
    keys = [key for key in drawn[0] if key[0] <= key[1]]
    turns = np.array([[one[key] for key in keys] for one in drawn])

    assert len(keys) == 3 + 6 * 3  # direct; two targets and the wall, monostatic or not
    for column in turns.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    phasors = np.exp(2j * np.pi * turns)
    correlation = phasors.conj().T @ phasors / len(drawn) - np.eye(len(keys))
    assert np.abs(correlation).max() < 5 / np.sqrt(len(drawn))


def test_random_phases_are_the_same_both_ways():
    turns = all_phases(phases_scene())

    for (tx, rx, kind, via), value in turns.items():
        assert value == turns[rx, tx, kind, via]
    assert len(set(turns.values())) == 21


def test_random_phases_stay_when_targets_switch_and_when_nodes_or_targets_are_added():
    turns = all_phases(phases_scene())

    left = paths_to(1, phases_scene(), targets_off=frozenset(["t0"]))
    assert {phase_turns(p) for p in left} <= {*turns.values(), 0.0}
    larger = all_phases(phases_scene(more_nodes=2, more_targets=3))
    assert {key: larger[key] for key in turns} == turns


def test_random_phases_change_neither_levels_nor_delays_nor_leakage():
    made = phases_scene()
    plain = made.model_copy(update={"phases": "geometry"})

    for drawn, fixed in zip(paths_to(0, made), paths_to(0, plain), strict=True):
        assert abs(drawn.gain / fixed.gain) == pytest.approx(1.0, rel=1e-12)
        assert drawn.delay_samples == fixed.delay_samples
        assert (drawn.gain == fixed.gain) == (drawn.kind == "self")


# Extended targets


def extended(seed=1, num=200, size=(40.0, 10.0), **target):
    nodes = [node("a", 0.0, 0.0), node("b", 3000.0, 0.0)]
    target = {"name": "t", "position_m": [1000.0, 20_000.0], "rcs_m2": 7.0} | target
    other = {"name": "u", "position_m": [0.0, 9000.0], "rcs_m2": 1.0, "num_scatterers": num, "size_m": [40.0, 10.0]}
    return scene(nodes, seed=seed, targets=[target | {"num_scatterers": num, "size_m": list(size)}, other])


def test_scatterers_share_the_cross_section_of_their_target():
    # 20 km away a box of 40 m changes 1/R^4 by 0.4 % at most
    echoes = [p for p in paths_to(1, extended()) if (p.tx, p.via) == (0, "t")]

    out_m, back_m = math.dist((0, 0), (1000, 20_000)), math.dist((3000, 0), (1000, 20_000))
    power = WAVELENGTH_M**2 * 7.0 / ((4 * np.pi) ** 3 * out_m**2 * back_m**2)
    assert len(echoes) == 200
    assert sum(abs(p.gain) ** 2 for p in echoes) / power == pytest.approx(1.0, rel=4e-3)


def test_scatterers_fill_their_box_evenly_and_know_nothing_of_each_other():
    # 4000 places: KS p > 1e-4 on every axis, correlations within 4 standard errors; 8e-4 in all
    places = np.array([scatterers(extended(seed=s), 0) for s in range(20)]).reshape(-1, 2) - [1000.0, 20_000.0]
    others = np.array([scatterers(extended(seed=s), 1) for s in range(20)]).reshape(-1, 2) - [0.0, 9000.0]
    share = np.concatenate([places, others], axis=1) / [40.0, 10.0, 40.0, 10.0]

    assert np.abs(share).max() <= 0.5
    for column in share.T:
        assert stats.kstest(column + 0.5, "uniform").pvalue > 1e-4
    correlation = np.corrcoef(share.T) - np.eye(4)
    assert np.abs(correlation).max() < 4 / np.sqrt(len(share))
    assert abs(np.corrcoef(share[:-1, 0], share[1:, 0])[0, 1]) < 4 / np.sqrt(len(share))


def test_scatterers_have_a_place_of_their_own_and_its_delay_and_phase():
    made = extended(num=5)
    echoes = [p for p in paths_to(0, made) if (p.tx, p.via) == (1, "t")]

    for place, path in zip(scatterers(made, 0), echoes, strict=True):
        length_m = math.dist((3000, 0), place) + math.dist(place, (0, 0))
        assert path.delay_samples == pytest.approx(length_m / LIGHT_MPS * RATE_HZ, rel=1e-12)
        turns = -length_m / WAVELENGTH_M
        assert path.gain / abs(path.gain) == pytest.approx(np.exp(2j * np.pi * turns), abs=1e-7)


def test_a_target_keeps_its_scatterers_and_they_move_and_vanish_with_it():
    made = extended(num=9, velocity_mps=[20.0, 5.0])
    first, again = paths_to(0, made), paths_to(0, made)

    assert first == again
    tracks = [p.track for p in first if p.via == "t"]
    assert len(tracks) == 2 * 9
    assert {track.velocity_mps for track in tracks} == {(20.0, 5.0)}
    assert {track.via_m for track in tracks} == {tuple(place) for place in scatterers(made, 0)}
    assert {p.via for p in paths_to(0, made, targets_off=frozenset(["t"]))} == {None, "u"}


def test_scatterers_in_space_fill_three_dimensions():
    target = {"name": "t", "position_m": [0.0, 0.0, 900.0], "rcs_m2": 1.0, "num_scatterers": 64, "size_m": [8, 0, 2]}
    made = scene([node("a", 0.0, 0.0, 0.0)], targets=[target | {"velocity_mps": [0.0, 0.0, 0.0]}])

    places = np.array(scatterers(made, 0))

    assert np.ptp(places[:, 0]) > 7.0
    np.testing.assert_array_equal(places[:, 1], 0.0)
    assert 899.0 <= places[:, 2].min() < 899.2 < 900.8 < places[:, 2].max() <= 901.0


# Rician and Rayleigh users


def user_scene(k_db, *, seed=1, num_rx=8, fading=None, more=()):
    loss = {"reference_db": 40.0, "exponent": 3.0} | ({} if k_db is None else {"rician_k_db": k_db})
    nodes = [
        node("a", 100.0, 0.0),
        node("b", 130.0, 40.0),
        node("u", 0.0, 0.0, num_tx=0, num_rx=num_rx, path_loss=loss),
        *more,
    ]
    return scene(nodes, seed=seed, **({} if fading is None else {"fading": fading}))


def run_gains(k_db, seeds=1500):
    """Factors that scattering puts on the paths from a and b, shape (seeds, 2, 8)."""
    plain = [np.array(p.response) for p in paths_to(2, user_scene(None))]
    drawn = [[np.array(p.response) for p in paths_to(2, user_scene(k_db, seed=seed))] for seed in range(seeds)]
    return np.array(drawn) / np.array(plain)


@pytest.mark.parametrize(
    ("k_db", "steady", "scattered"),
    [(-np.inf, 0.0, 1.0), (0.0, 0.5, 0.5), (6.0, undb(6.0) / (1 + undb(6.0)), 1 / (1 + undb(6.0)))],
    ids=["rayleigh", "0 dB", "6 dB"],
)
def test_a_rician_user_has_a_steady_and_a_scattered_part_per_channel(k_db, steady, scattered):
    # 24,000 factors sqrt(K / (K + 1)) + sqrt(1 / (K + 1)) w, w circular: 5 standard errors each
    gains = run_gains(k_db)
    n = gains.size

    w = (gains - np.sqrt(steady)) / np.sqrt(scattered)
    assert abs(np.mean(w)) < 5 / np.sqrt(n)
    assert np.mean(np.abs(w) ** 2) == pytest.approx(1.0, abs=5 / np.sqrt(n))
    assert abs(np.mean(w**2)) < 5 * np.sqrt(2 / n)
    assert stats.kstest(np.abs(w).ravel() ** 2, "expon").pvalue > 1e-4
    flat = w.reshape(len(w), -1)  # channels and transmitters
    correlation = flat.conj().T @ flat / len(w) - np.diag(np.mean(np.abs(flat) ** 2, axis=0))
    assert np.abs(correlation).max() < 5 / np.sqrt(len(w))


def test_scattering_of_a_run_belongs_to_the_scene_and_not_to_its_length():
    # the same in every epoch: it is part of the path, which knows no epoch
    paths = paths_to(2, user_scene(3.0))

    assert [p.fading for p in paths] == [None, None]
    assert paths == paths_to(2, user_scene(3.0))
    faded = paths_to(2, user_scene(3.0, fading={"block_samples": 180, "direct": "run"}))
    assert paths == faded
    assert paths == paths_to(2, user_scene(3.0, more=[node("late", 500.0, 0.0, num_tx=0)]))


def test_direct_paths_without_a_rician_factor_do_not_fade():
    for path in paths_to(2, user_scene(None, fading={"block_samples": 180})):
        assert path.fading is None
        np.testing.assert_allclose(np.abs(path.response), 1.0)


def test_a_path_loss_that_scatters_keeps_its_mean_power_phase_and_delay():
    for path in paths_to(2, user_scene(3.0, fading={"block_samples": 180, "direct": "block"})):
        length_m = 100.0 if path.tx == 0 else math.hypot(130.0, 40.0)
        assert db(abs(path.gain) ** 2) == pytest.approx(-40.0 - 30 * math.log10(length_m))
        phase = np.exp(-2j * np.pi * length_m / WAVELENGTH_M)
        assert path.gain / abs(path.gain) == pytest.approx(phase, abs=1e-8)
        assert path.fading.k_factor == pytest.approx(undb(3.0))
        assert path.fading.block_samples == 180


def test_a_path_loss_hears_echoes_where_it_says_so_or_where_its_node_transmits():
    def kinds(**values):
        loss = {"reference_db": 40.0, "exponent": 3.0} | values.pop("loss", {})
        nodes = [node("a", 100.0, 0.0), node("b", 0.0, 0.0, path_loss=loss, **values)]
        made = scene(nodes, targets=[{"name": "t", "position_m": [50.0, 50.0], "rcs_m2": 1.0}])
        return [p.kind for p in paths_to(1, made)], only(paths_to(1, made), "direct")

    assert kinds(num_tx=0)[0] == ["direct"]
    assert kinds(num_tx=0, loss={"echoes": True})[0] == ["direct", "echo"]
    assert kinds()[0] == ["direct", "echo", "self", "echo"]
    assert db(abs(kinds()[1].gain) ** 2) == pytest.approx(-100.0)  # 40 + 30 log10(100)


# Leakage


def test_taps_follow_the_leakage_relative_to_it():
    taps = [
        {"delay_samples": 2.5, "gain_db": -12.0, "phase_deg": 90.0},
        {"delay_samples": 7.0, "gain_db": -20.0, "phase_deg": -120.0},
    ]
    made = scene([node("a", 0.0, 0.0, self_isolation_db=45.0, self_delay_samples=0.75, self_taps=taps)])

    paths = paths_to(0, made)

    assert [(p.kind, p.via, p.delay_samples) for p in paths] == [
        ("self", None, 0.75),
        ("self", "tap1", 3.25),
        ("self", "tap2", 7.75),
    ]
    assert [db(abs(p.gain) ** 2) for p in paths] == pytest.approx([-45.0, -57.0, -65.0])
    assert [np.degrees(np.angle(p.gain)) for p in paths] == pytest.approx([0.0, 90.0, -120.0])


def test_no_condition_takes_taps_along():
    made = scene([node("a", 0.0, 0.0, self_taps=[{"delay_samples": 1, "gain_db": -3}])])

    assert len(paths_to(0, made, targets_off=frozenset(["tap1"]))) == 2


# Clocks


def test_a_faster_transmitter_sounds_higher_and_comes_ever_sooner():
    # the transmitter's crystal 3 ppm fast, the receiver's 2 ppm slow: its carrier is 3.5e9 * 5e-6 = 17.5 kHz above,
    # besides 40 - (-60) Hz; n samples of the receiver are n (1 + 5e-6) of the transmitter, to first order
    nodes = [
        node("a", 0.0, 0.0, impairments={"clock_ppm": 3.0, "cfo_hz": 40.0}),
        node("b", 100.0, 0.0, impairments={"clock_ppm": -2.0, "cfo_hz": -60.0}),
    ]
    targets = [{"name": "t", "position_m": [0.0, 90.0], "rcs_m2": 1.0}]
    made = scene(nodes, targets=targets)

    for kind, via in (("direct", None), ("echo", "t")):
        there, back = only(paths_to(1, made), kind, 0, via), only(paths_to(0, made), kind, 1, via)
        assert there.doppler_hz == pytest.approx(17_600.0, abs=1e-6)
        assert there.drift == pytest.approx(-5e-6, rel=1e-9)
        assert (back.doppler_hz, back.drift) == (-there.doppler_hz, -there.drift)
    # one oscillator both ways
    for kind, via in (("self", None), ("echo", "t")):
        own = only(paths_to(0, made), kind, 0, via)
        assert (own.doppler_hz, own.drift) == (0.0, 0.0)


def test_the_doppler_of_a_moving_target_adds_to_the_carriers_offset():
    # 30 m/s straight towards a and away from b
    nodes = [node("a", 0.0, 0.0, impairments={"cfo_hz": 100.0}), node("b", -500.0, 0.0)]
    targets = [{"name": "t", "position_m": [200.0, 0.0], "velocity_mps": [-30.0, 0.0], "rcs_m2": 1.0}]
    made = scene(nodes, targets=targets)

    assert only(paths_to(1, made), "echo", 0, "t").doppler_hz == pytest.approx(100.0 + 2 * 30.0 / WAVELENGTH_M)
    assert only(paths_to(1, made), "echo", 1, "t").doppler_hz == pytest.approx(2 * 30.0 / WAVELENGTH_M)


# Streams of fading


def test_no_two_fading_paths_share_a_stream_and_conditions_do_not_move_them():
    # two Rician users, three transmitters and an extended target
    loss = {"reference_db": 40.0, "exponent": 3.0, "rician_k_db": 0.0, "echoes": True}
    nodes = [node(f"s{i}", 100.0 * i, 0.0) for i in range(3)]
    nodes += [node(f"u{i}", 30.0 + 100.0 * i, 50.0, num_tx=0, path_loss=loss) for i in range(2)]
    targets = [
        {"name": "t", "position_m": [50.0, 90.0], "rcs_m2": 1.0, "num_scatterers": 4, "size_m": [3.0, 3.0]},
        {"name": "u", "position_m": [0.0, 90.0], "rcs_m2": 1.0},
    ]
    made = scene(nodes, targets=targets, fading={"block_samples": 10, "echo": "block", "direct": "block"})

    seen = defaultdict(list)
    for rx in range(5):
        for path in paths_to(rx, made):
            if path.fading is not None:
                seen[path.fading.purpose, path.fading.stream].append(path)
    assert len(seen) == 5 * 3 * 5 + 2 * 3  # echoes of five scatterers everywhere, direct paths of users
    assert {len(paths) for paths in seen.values()} == {1}
    off = paths_to(3, made, targets_off=frozenset(["t"]))
    assert set(off) < set(paths_to(3, made))


def test_more_fading_paths_than_streams_are_one_line():
    def made(num):
        targets = [
            {"name": f"t{i}", "position_m": [100.0 * i, 90.0], "rcs_m2": 1.0}
            | ({"num_scatterers": size, "size_m": [3, 3]} if size > 1 else {})
            for i, size in enumerate([256] * (num // 256) + [num % 256] * (num % 256 > 0))
        ]
        return scene([node("a", 0.0, 0.0)], targets=targets, fading={"block_samples": 10})

    most = paths_to(0, made(MAX_FADING_PATHS))
    assert len({p.fading.stream for p in most if p.fading}) == MAX_FADING_PATHS
    with pytest.raises(ConfigError, match=r"^fading: more than 1024 paths to a fade; use fewer targets or scatterers$"):
        paths_to(0, made(MAX_FADING_PATHS + 1))


# Scenes that cannot be


def document(**changes):
    data = comp_scene().model_dump(mode="json")
    data["targets"][0] |= {"velocity_mps": [1.0, 2.0]}
    for key, value in changes.items():
        where = data
        *path, last = key.split("__")
        for part in path:
            where = where[int(part) if part.isdigit() else part]
        where[last] = value
    return {key: data[key] for key in data if key not in ("nodes", "title")} | {"nodes": data["nodes"]}


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("seed", -1, r"seed: found -1; must be greater than or equal to 0"),
        ("seed", 1 << 64, r"seed: found 18446744073709551616; must be less than 18446744073709551616"),
        ("phases", "uniform", r"phases: found 'uniform'; must be 'geometry' or 'random'"),
        ("nodes__0__noise_figure_db", NAN, r"nodes\[0\].noise_figure_db: found nan; must be a finite number"),
        ("nodes__0__self_isolation_db", -3.0, r"nodes\[0\].self_isolation_db: found -3.0; must be greater than or"),
        ("nodes__0__self_isolation_db", INF, r"nodes\[0\].self_isolation_db: found inf; must be a finite number"),
        ("nodes__0__tx_noise_dbc", 1.0, r"nodes\[0\].tx_noise_dbc: found 1.0; must be less than or equal to 0"),
        ("nodes__0__tx_noise_dbc", -INF, r"nodes\[0\].tx_noise_dbc: found -inf; must be a finite number"),
        ("nodes__0__start_offset_samples", -0.5, r"nodes\[0\].start_offset_samples: found -0.5"),
        ("nodes__0__receive_offset_samples", 1.5, r"nodes\[0\].receive_offset_samples: found 1.5; must be a valid int"),
        ("nodes__0__num_rx", 65, r"nodes\[0\].num_rx: found 65; must be less than or equal to 64"),
        ("nodes__0__num_tx", 2, r"nodes\[0\].num_tx: found 2; must be less than or equal to 1"),
        ("nodes__0__sector", {"azimuth_deg": NAN}, r"nodes\[0\].sector.azimuth_deg: found nan; must be a finite"),
        ("nodes__0__sector", {}, r"nodes\[0\].sector.azimuth_deg: missing; it must be given"),
        (
            "nodes__0__sector",
            {"azimuth_deg": 0, "beamwidth_deg": 0},
            r"nodes\[0\].sector.beamwidth_deg: found 0; must be greater",
        ),
        (
            "nodes__0__array",
            {"spacing_wavelengths": 0.0},
            r"nodes\[0\].array.spacing_wavelengths: found 0.0; must be greater",
        ),
        (
            "nodes__0__array",
            {"calibration_phase_deg": -1},
            r"nodes\[0\].array.calibration_phase_deg: found -1; must be greater",
        ),
        (
            "nodes__0__array",
            {"calibration_gain_db": NAN},
            r"nodes\[0\].array.calibration_gain_db: found nan",
        ),
        ("nodes__0__array", {"spacing_m": 0.1}, r"nodes\[0\].array.spacing_m: unknown key"),
        (
            "nodes__0__self_taps",
            [{"delay_samples": 1.0, "gain_db": 2.0}],
            r"nodes\[0\].self_taps\[0\].gain_db: found 2.0; must be less than or equal to 0",
        ),
        ("nodes__0__self_taps", [{"gain_db": -2.0}], r"nodes\[0\].self_taps\[0\].delay_samples: missing"),
        ("nodes__0__impairments", {"clock_ppm": NAN}, r"nodes\[0\].impairments.clock_ppm: found nan; must be a finite"),
        ("nodes__0__impairments", {"cfo": 1.0}, r"nodes\[0\].impairments.cfo: unknown key; did you mean 'cfo_hz'\?"),
        ("nodes__3__path_loss__rician_k_db", NAN, r"nodes\[3\].path_loss.rician_k_db: found nan; must be"),
        ("nodes__3__path_loss__rician_k_db", INF, r"nodes\[3\].path_loss.rician_k_db: found inf; must be"),
        ("nodes__3__path_loss__echoes", 1, r"nodes\[3\].path_loss.echoes: found 1; must be a valid boolean"),
        ("targets__0__rcs_m2", -1.0, r"targets\[0\].rcs_m2: found -1.0; must be greater than or equal to 0"),
        ("targets__0__velocity_mps", [1.0, INF], r"targets\[0\].velocity_mps\[1\]: found inf; must be a finite number"),
        ("targets__0__velocity_mps", [1.0, 2.0, 3.0], r"targets\[0\].velocity_mps: needs as many coordinates as pos"),
        ("targets__0__num_scatterers", 3, r"targets\[0\].size_m: 3 scatterers need a box; give its edges"),
        ("targets__0__num_scatterers", 257, r"targets\[0\].num_scatterers: found 257; must be less than or equal to"),
        ("targets__0__num_scatterers", 0, r"targets\[0\].num_scatterers: found 0; must be greater than or equal to 1"),
        ("targets__0__size_m", [1.0, 2.0, 3.0], r"targets\[0\].size_m: needs as many coordinates as position_m"),
        ("clutter__0__rcs_m2", NAN, r"clutter\[0\].rcs_m2: found nan; must be a finite number"),
        ("fading", {}, r"fading.block_samples: missing; it must be given"),
        ("fading", {"block_samples": 0}, r"fading.block_samples: found 0; must be greater than or equal to 1"),
        ("fading", {"block_samples": 10, "echo": "run"}, r"fading.echo: found 'run'; must be 'never' or 'block'"),
        ("fading", {"block_samples": 10, "direct": "never"}, r"fading.direct: found 'never'; must be 'run' or 'block'"),
        ("fading", {"block_samples": 10, "blocks": 2}, r"fading.blocks: unknown key"),
    ],
)
def test_a_value_that_cannot_be_is_one_line_that_names_it(where, value, message):
    data = document(**{where: value})

    with pytest.raises(ConfigError, match=rf"^scene: {message}[^\n]*$"):
        scene(data.pop("nodes"), **data)


def test_a_target_in_space_need_not_tell_that_it_stands_still():
    made = scene([node("a", 0.0, 0.0, 0.0)], targets=[{"name": "t", "position_m": [0.0, 0.0, 9.0], "rcs_m2": 1.0}])

    assert only(paths_to(0, made), "echo", 0, "t").doppler_hz == 0.0


def test_minus_infinity_stands_for_rayleigh_in_a_scene_file():
    loss = {"reference_db": 40.0, "exponent": 3.0, "rician_k_db": -INF}
    made = scene([node("a", 0.0, 0.0), node("u", 50.0, 0.0, num_tx=0, path_loss=loss)])

    assert made.nodes[1].path_loss == PathLoss.model_construct(**loss, echoes=False)
