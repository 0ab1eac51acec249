"""The report of a synthetic run: statistics drawn from their laws, no emulator."""

import base64
import csv
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import integrate

from testbed.errors import CaptureError
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.law import Law
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.step import Step
from testbed.experiment.report.caveats import warnings
from testbed.experiment.report.curves import h0_fit, noncentrality_over_power
from testbed.experiment.report.figures import pod_figure, roc_figure
from testbed.experiment.report.page import load_results, write_report
from testbed.experiment.report.wording import turning_points, verdict_answer, verdict_sentence
from testbed.measurement import Estimate, Measurement, MeasurementFile, save_measurements
from testbed.theory import detection as theory
from testbed.theory.consistency import PodPoints, hochberg_rejects, judge
from testbed.units import undb
from tests.drawn import drawn_detection, store_capture

POWERS_DBM = (-8.0, -6.0, -4.0)
NUM_FRAMES = 4000  # 24 000 H0 trials in all: enough for the verdict to have no note
RANK, N, Q = 2, 104, 6
NOISE_VAR = 5.5e-10  # mW
LAM_AT_0_DBM = {"t1": 130.0, "t2": 90.0}


def make_experiment(**changes):
    node = {"radio": "emulator"}
    return CompExperiment.model_validate(
        {
            "title": "Two <script>alert('x')</script> nodes",
            "emulator": {"scene": "comp", "seed": 77},
            "waveform": {
                "numerology": {
                    "carrier_hz": 3.5e9,
                    "sample_rate_hz": 20e6,
                    "fft_size": 64,
                    "cp_len": 16,
                    "num_subcarriers": 52,
                },
                "preamble_roots": (5, 7),
                "preamble_len": 53,
                "num_data_symbols": 6,
            },
            "nodes": [
                {"name": "bs1", "position_m": (0, 70), **node},
                {"name": "bs2", "position_m": (-60, -35), **node},
            ],
            "cells": [
                {"name": "t1", "node": "bs1", "position_m": (33, 82)},
                {"name": "t2", "node": "bs2", "position_m": (-87, -17)},
            ],
            "detection": {
                "pfa": 1e-4,
                "statistic": "known_noise",
                "observations": {"kind": "resource_elements", "symbols": (2, 3)},
            },
            "power": {"axis_dbm": POWERS_DBM},
            "capture": {"num_frames": NUM_FRAMES, "rx_gain_db": 40.0},
            **changes,
        }
    )


def make_run(path, experiment, *, num_points=3, noise_error=1.0, truth=True):
    """A run directory as `loop.run` leaves it after `num_points` powers."""
    run = CompRun.create(path, experiment, overwrite=False)
    rng = np.random.default_rng(2)
    exact = {index: {} for index in range(len(POWERS_DBM))}
    for index, power_dbm in enumerate(POWERS_DBM):
        for cell in experiment.cells:
            lam = LAM_AT_0_DBM[cell.name] * undb(power_dbm)
            exact[index][cell.name] = Estimate.exact(lam)
            if index < num_points:
                for condition, found in (("all", lam), (f"without:{cell.name}", 0.0)):
                    d = drawn_detection(
                        rng,
                        cell=cell.name,
                        node=cell.node,
                        condition=condition,
                        lam=found,
                        rank=RANK,
                        num_observations=N,
                        num_nuisance=Q,
                        num_frames=NUM_FRAMES,
                        noise_var=NOISE_VAR,
                        noise_error=noise_error,
                    )
                    run.add_detection(Step("points", index), d)
    store_capture(run.muted_path, experiment, "muted", None)
    for index in range(num_points):
        frame = experiment.waveform.frame(np.full(2, undb(POWERS_DBM[index])))
        store_capture(run.capture_path(Step("points", index), "all"), experiment, "all", frame)
    save_measurements(run.measurements, MeasurementFile(experiment_sha256="recorded" * 8, points=()))
    if truth:
        points = [
            Measurement(
                origin="truth",
                node_names=experiment.node_names,
                power=(undb(power_dbm),) * 2,
                noise_var={name: Estimate.exact(NOISE_VAR) for name in experiment.node_names},
                noncentrality=exact[index],
                rank=dict.fromkeys(LAM_AT_0_DBM, RANK),
            )
            for index, power_dbm in enumerate(POWERS_DBM)
        ]
        save_measurements(run.truth, MeasurementFile(experiment_sha256="recorded" * 8, points=tuple(points)))
    return run


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """A whole run whose statistics follow their laws, and its report."""
    run = make_run(tmp_path_factory.mktemp("runs") / "emulated", make_experiment())
    experiment, results = load_results(run)
    page = write_report(run, experiment, results).read_text(encoding="utf-8")
    assert not results.rounds and results.final is None
    return run, results.axis, page


@pytest.fixture(scope="module")
def on_air(tmp_path_factory):
    """A run without truth that ended after two powers, its muted noise 10 % too low."""
    nodes = [{**n.model_dump(), "radio": "tcp://127.0.0.1:1"} for n in make_experiment().nodes]
    experiment = make_experiment(emulator=None, nodes=nodes, title="On air")
    run = make_run(tmp_path_factory.mktemp("runs") / "air", experiment, num_points=2, noise_error=0.9, truth=False)
    (run.muted_path).unlink()
    experiment, results = load_results(run)
    page = write_report(run, experiment, results).read_text(encoding="utf-8")
    assert not results.rounds and results.final is None
    return run, results.axis, page


def text_of(page):
    """The page as read: no head, no tags."""
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def table_rows(page, after):
    """Rows of the first table after a text, cells as text."""
    table = re.search(r"<tbody>(.*?)</tbody>", page[page.index(after) :], re.S)[1]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.S)
    return [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)] for row in rows
    ]


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-").replace("\u202f", ""))


def test_importing_the_report_imports_no_heavy_library():
    code = (
        "import sys, testbed.experiment.report.page; "
        "sys.exit(' '.join({'matplotlib', 'scipy', 'h5py', 'jinja2'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_verdict_stands_first_in_one_sentence(emulated):
    _, results, page = emulated
    sentence = (
        "Measured PoD and false alarms are consistent with theory (truth curve, known-noise test) at the 95 % level"
    )
    assert results.verdict.consistent
    assert page.index(sentence) < page.index("<table>") < page.index("<img")
    smallest = min(results.verdict.p_values.values())
    assert f"the smallest is {smallest:#.3g} (" in page


def test_simulated_and_on_air_are_told_apart(emulated, on_air):
    assert "SIMULATED" in emulated[2] and "ON AIR" not in emulated[2]
    assert "ON AIR" in on_air[2] and "SIMULATED" not in on_air[2]


def test_all_four_verdicts_show_their_p_values_and_the_deciding_one_is_marked(emulated):
    _, results, page = emulated
    rows = table_rows(page, "p-value of")
    head = page[page.index("p-value of") : page.index("<tbody>")]
    assert head.count("decides</strong>") == 1
    assert head.index("Known-noise test, truth curve") < head.index("decides</strong>") < head.index("measured curve")
    keys = ["known_noise/truth", "known_noise/measured", "cfar/truth", "cfar/measured"]
    assert len(rows) == 6
    for column, key in enumerate(keys, start=1):
        verdict = results.verdicts[key]
        for row, p in zip(rows, verdict.p_values.values(), strict=False):
            assert row[column].startswith(f"{p:#.3g}bound ")
        assert rows[5][column].startswith(f"{verdict.num_covered_points} of {verdict.num_points}expected ")


def test_every_point_is_in_the_table_with_the_numbers_of_the_results(emulated):
    _, results, page = emulated
    rows = table_rows(page, "the test of this experiment")
    points = [p for cell in ("t1", "t2") for p in results.points if p.cell == cell and p.statistic == "known_noise"]
    assert len(rows) == len(points) == 6
    for row, p in zip(rows, points, strict=True):
        lam, stderr = row[6].split(" ± ")
        assert row[0] == f"{p.cell} ({p.node})"
        assert number(row[1]) == p.power_dbm
        assert row[2].replace("\u202f", "") == f"{p.num_detections} of {p.num_frames}"
        assert number(row[3]) == pytest.approx(p.pod, abs=5e-5)
        assert [number(x) for x in row[4].split(" – ")] == pytest.approx([p.pod_low, p.pod_high], abs=5.1e-5)
        assert number(row[5]) == pytest.approx(p.pod_measured, abs=5.1e-5)
        assert number(lam) == pytest.approx(p.noncentrality.value, rel=0.01)
        assert number(stderr) == pytest.approx(p.noncentrality.stderr, rel=0.05)
        assert number(row[7]) == pytest.approx(p.noncentrality_truth, abs=0.005)
        assert number(row[9]) == pytest.approx(p.pod_truth, abs=5.1e-5)


def test_nothing_external_is_referenced_and_the_file_is_small(emulated, on_air):
    for run, _, page in (emulated, on_air):
        assert not re.search(r"https?:", page)
        assert not re.search(r"""(?:src|srcset|href|data|action)\s*=\s*(?!"data:)""", page)
        assert "@import" not in page and "url(" not in page and "<script" not in page
        assert run.report.stat().st_size < 2_000_000


def test_no_path_of_this_machine_is_shown(emulated, on_air):
    for run, _, page in (emulated, on_air):
        assert str(run.path.parent) not in page
        assert f"isac run {run.path.name}/experiment.toml --out {run.path.name}-again" in page


def test_a_title_with_markup_is_escaped(emulated):
    page = emulated[2]
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_seven_figures_are_embedded_as_they_lie_in_the_folder(emulated):
    run, _, page = emulated
    embedded = [base64.b64decode(data) for data in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)]
    assert sorted(embedded) == sorted(p.read_bytes() for p in (run.path / "figures").glob("*.svg"))
    assert len(embedded) == 7
    assert len(re.findall(r'<img alt="[^"]{20,}"', page)) == 7


def figure_rows(run, name):
    with (run.path / "figures" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_pod_csv_holds_points_and_a_truth_curve_that_passes_through_theory(emulated):
    run, results, _ = emulated
    rows = figure_rows(run, "pod_known_noise")
    measured = {(r["cell"], float(r["power_dbm"])): r for r in rows if r["series"] == "measured"}
    points = [p for p in results.points if p.statistic == "known_noise"]
    assert len(measured) == len(points)
    for p in points:
        row = measured[p.cell, p.power_dbm]
        assert [float(row[k]) for k in ("pod", "pod_low", "pod_high")] == [p.pod, p.pod_low, p.pod_high]
    curve = [r for r in rows if (r["series"], r["cell"]) == ("truth curve", "t1")]
    for r in curve[:: len(curve) // 5]:  # the noncentrality was made proportional to power
        lam = LAM_AT_0_DBM["t1"] * undb(float(r["power_dbm"]))
        assert float(r["noncentrality"]) == pytest.approx(lam, rel=1e-9)
        assert float(r["pod"]) == pytest.approx(theory.detection_probability(lam, RANK, pfa=1e-4), rel=1e-9)


def fluctuating_by_quadrature(pod_of, mean):
    """Mean of a fixed target's PoD over lam ~ Exp(mean), with lam = mean s^2; beyond s = 7 is less than 1e-21."""
    weighted = integrate.quad(
        lambda s: float(pod_of(mean * s**2)) * 2 * s * np.exp(-(s**2)), 0, 7, limit=400, epsrel=1e-9
    )
    return weighted[0]


def test_the_pod_csv_holds_a_swerling_1_curve_of_the_same_mean_noncentrality(emulated):
    run, _, _ = emulated
    for name in ("known_noise", "cfar"):
        rows = figure_rows(run, f"pod_{name}")
        assert {r["series"] for r in rows if "Swerling" in r["series"]} == {"truth curve, Swerling 1"}
        for cell in ("t1", "t2"):
            fixed, fluctuating = (
                [r for r in rows if (r["series"], r["cell"]) == (series, cell)]
                for series in ("truth curve", "truth curve, Swerling 1")
            )
            for key in ("power_dbm", "noncentrality"):
                assert [r[key] for r in fluctuating] == [r[key] for r in fixed]
            for r in fluctuating[::40]:
                lam, pod = float(r["noncentrality"]), float(r["pod"])
                if name == "known_noise":
                    expected = theory.swerling1_detection_probability(lam, RANK, pfa=1e-4)
                else:
                    expected = fluctuating_by_quadrature(
                        lambda x: theory.cfar_detection_probability(x, RANK, N, Q, pfa=1e-4), lam
                    )
                assert pod == pytest.approx(expected, rel=1e-7)
            # fading costs most where echoes are strong
            assert float(fluctuating[-1]["pod"]) < float(fixed[-1]["pod"]) - 0.1


def test_the_roc_csv_holds_a_swerling_1_curve_at_the_noncentrality_of_the_fixed_one(emulated):
    run, _, _ = emulated
    rows = [r for r in figure_rows(run, "roc_known_noise") if r["series"] == "truth curve, Swerling 1"]
    assert {r["cell"] for r in rows} == {"t1", "t2"}
    for r in rows[::20]:
        lam = LAM_AT_0_DBM[r["cell"]] * undb(float(r["power_dbm"]))
        expected = theory.swerling1_detection_probability(lam, RANK, pfa=float(r["pfa"]))
        assert float(r["pod"]) == pytest.approx(expected, rel=1e-9)


def test_without_truth_a_swerling_1_target_has_the_measured_mean(on_air):
    run, results, _ = on_air
    rows = [r for r in figure_rows(run, "pod_known_noise") if "Swerling" in r["series"]]
    assert {r["series"] for r in rows} == {"measured curve, Swerling 1"}
    for p in [p for p in results.points if p.statistic == "known_noise"]:
        row = min(rows, key=lambda r: abs(float(r["power_dbm"]) - p.power_dbm) + (r["cell"] != p.cell))
        at_point = p.noncentrality.value * undb(float(row["power_dbm"]) - p.power_dbm)
        assert float(row["noncentrality"]) == pytest.approx(at_point, rel=0.01)
        expected = theory.swerling1_detection_probability(float(row["noncentrality"]), RANK, pfa=1e-4)
        assert float(row["pod"]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("draw", [pod_figure, roc_figure])
def test_the_swerling_1_line_is_thinner_than_theory_has_a_style_of_its_own_and_is_named(emulated, draw):
    run, results, _ = emulated
    fig, _ = draw(make_experiment(), results, run, "known_noise", ["t1", "t2"])
    texts = [text.get_text() for text in fig.legends[0].get_texts()]
    assert texts.count("Swerling 1, same mean") == 1
    lines = dict(zip(texts, fig.legends[0].legend_handles, strict=True))
    named = lines["Swerling 1, same mean"]
    drawn = [line for line in fig.axes[0].get_lines() if line.get_linewidth() == named.get_linewidth()]
    assert len([line for line in drawn if line.get_xdata().size == 161]) == 2
    for curve in ("truth", "measured"):
        fixed = lines[f"theory, {curve} curve"]
        assert named.get_linewidth() < fixed.get_linewidth()
        assert named.get_linestyle() != fixed.get_linestyle()


def test_the_report_says_what_swerling_1_means_and_that_no_verdict_rests_on_it(emulated, on_air):
    for _, _, page in (emulated, on_air):
        text = text_of(page[page.index("Probability of detection against power</h2>") :].join(["<body>", ""]))
        assert (
            "Swerling 1, what the PoD would be if the echo fluctuated from trial to trial with the same mean λ; "
            "the verdict is not judged against them."
        ) in text


@pytest.mark.parametrize(
    ("rank", "num_observations", "num_nuisance"), [(1, 24, 0), (2, 104, 6), (3, 6, 2), (8, 400, 9)]
)
@pytest.mark.parametrize("mean", [1e-3, 1.0, 40.0, 1e3])
def test_a_fluctuating_target_under_the_f_test_is_the_average_of_fixed_ones(rank, num_observations, num_nuisance, mean):
    law = Law("cfar", rank, num_observations, num_nuisance)
    for pfa in (1e-6, 1e-3, 0.3):
        expected = fluctuating_by_quadrature(lambda lam, pfa=pfa: law.pod(lam, pfa), mean)
        assert float(law.fluctuating_pod(mean, pfa)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("statistic", ["known_noise", "cfar"])
@pytest.mark.parametrize("rank", [1, 3])
def test_a_fluctuating_target_without_echo_is_a_false_alarm_in_any_shape(statistic, rank):
    pfa = np.array([1e-7, 1e-3, 0.5, 1 - 1e-9])
    for mean in (0.0, -2.0):  # an estimate may be negative
        np.testing.assert_allclose(Law(statistic, rank, N, Q).fluctuating_pod(mean, pfa), pfa, rtol=1e-5)
    assert Law(statistic, rank, N, Q).fluctuating_pod(np.ones((4, 1)), pfa).shape == (4, 4)


def test_the_h0_csv_holds_the_law_the_counts_and_the_thresholds(emulated):
    run, _, _ = emulated
    rows = figure_rows(run, "h0_known_noise")
    thresholds = [(float(r["survival"]), float(r["statistic"])) for r in rows if r["series"] == "threshold"]
    assert thresholds == [(p, pytest.approx(theory.glrt_threshold(p, RANK))) for p in (1e-2, 1e-3, 1e-4)]
    pooled = np.concatenate(
        [
            run.detection(Step("points", i), f"without:{cell}", cell).known_noise
            for i in range(3)
            for cell in ("t1", "t2")
        ]
    )
    for r in [r for r in rows if r["series"] == "measured"][::40]:
        assert float(r["survival"]) == np.mean(pooled >= float(r["statistic"]))
    for r in [r for r in rows if r["series"] == "law"][::40]:
        assert float(r["survival"]) == pytest.approx(theory.h0_law(RANK).sf(float(r["statistic"])))


def test_the_roc_is_counted_on_both_axes_at_the_power_nearest_one_half(emulated):
    run, results, _ = emulated
    rows = [r for r in figure_rows(run, "roc_known_noise") if (r["series"], r["cell"]) == ("measured", "t2")]
    points = [p for p in results.points if (p.cell, p.statistic) == ("t2", "known_noise")]
    nearest = min(points, key=lambda p: abs(p.pod - 0.5))
    h1 = run.detection(nearest.step, "all", "t2").known_noise
    h0 = np.concatenate([run.detection(Step("points", i), "without:t2", "t2").known_noise for i in range(3)])
    assert {float(r["power_dbm"]) for r in rows} == {nearest.power_dbm}
    assert float(rows[0]["pfa"]) == 5 / h0.size
    for r in rows[::20]:
        assert float(r["pfa"]) == np.mean(h0 >= float(r["threshold"]))
        assert float(r["pod"]) == np.mean(h1 >= float(r["threshold"]))


def test_settings_seeds_and_versions_are_named(emulated):
    page = emulated[2]
    settings = {row[0]: row[1:] for row in table_rows(page, "As realised")}
    assert settings["Carrier (MHz)"] == ["3500", "3500"]
    assert settings["Transmit gain (dB)"] == ["\N{MINUS SIGN}12.25"] * 2
    assert settings["Converter, receive (bits)"] == ["12", "12"]
    assert settings["Full scale at this gain (dBm)"] == ["\N{MINUS SIGN}29.80"] * 2
    provenance = text_of(page[page.index("Provenance") :].join(["<body>", ""]))
    assert "SHA-256 " + "recorded" * 8 in provenance
    assert "Seed of the noise 77" in provenance
    assert f"Version of numpy {np.__version__}" in provenance
    assert "Reference clock: shared by all nodes" in page


def test_a_run_cut_short_and_inconsistent_says_so_with_the_p_values_that_turned_it(on_air):
    _, results, page = on_air
    text = text_of(page)
    assert results.num_points_run == 2
    assert "Partial: the run ended after 2 of 3 powers;" in text
    assert not results.verdict.consistent
    assert "are NOT consistent with theory (measured curve, known-noise test) at the 95 % level:" in text
    turned = re.search(r"law without a target, p = (\S+) against a bound of (\S+)[;.]", text)
    assert float(turned[1]) == pytest.approx(results.verdict.p_values["h0_law"], rel=0.05)
    assert "16000 H0 trials pooled, 20000 wanted" in text
    assert "Truth curve" not in text


def test_a_noise_that_the_muted_capture_did_not_hold_is_called_a_leak(on_air, emulated):
    _, results, page = on_air
    for row in table_rows(page, "<h2>Noise</h2>"):
        share = results.noise[row[0]]["residual"].value / results.noise[row[0]]["muted"].value - 1
        assert number(row[3].removesuffix(" %")) == pytest.approx(100 * share, abs=0.006)
        assert row[5] == "LEAK"
    assert re.search(r"bs1: residual noise differs from the muted one by \+11\.\d\d % \([^)]*\): a leak", page)
    assert "LEAK" not in emulated[2]


def test_a_report_is_written_without_the_captures(on_air):
    assert "Realised settings cannot be shown: captures/muted.h5: no such file" in on_air[2]


def test_pfa_is_called_the_tail_of_the_law_and_its_counts_are_told(emulated, on_air):
    run, _, page = emulated
    limit = theory.glrt_threshold(1e-4, RANK)
    counted = sum(
        int(np.sum(run.detection(Step("points", i), f"without:{cell}", cell).known_noise >= limit))
        for i in range(3)
        for cell in ("t1", "t2")
    )
    assert f"a part of the law that passed above; it is not itself tested ({counted} counted, 2.4 expected in" in page
    assert "law that did NOT pass above" in on_air[2]


def test_what_is_not_tested_is_not_called_consistent():
    verdict = judge(PodPoints(*(np.array([x]) for x in (0, 50, 1e-4, 1e-4))), np.linspace(0.01, 1, 100))
    results = SimpleNamespace(verdict=verdict, deciding="cfar/truth")
    assert verdict.consistent
    assert verdict_answer(results) == "False alarms consistent, PoD not tested"
    assert verdict_sentence(results).startswith(
        "Measured false alarms are consistent with theory (truth curve, F test)"
    )
    assert "all three p-values" in verdict_sentence(results)


def test_p_values_at_or_below_their_bounds_are_those_that_turn_a_verdict():
    rng = np.random.default_rng(0)
    names = ("pod_chi2", "h0_law", "false_alarms_1e-2", "false_alarms_1e-3")
    verdicts = set()
    for _ in range(300):
        p_values = dict(zip(names, rng.uniform(0, 0.1, 4), strict=True))
        verdict = SimpleNamespace(p_values=p_values, level=0.05)
        turned = bool(turning_points(verdict))
        assert turned == hochberg_rejects(list(p_values.values()), 0.05)
        verdicts.add(turned)
    assert verdicts == {True, False}


def test_theory_between_powers_passes_through_the_points_whatever_their_order():
    lam = noncentrality_over_power(np.array([-8.0, -6.0, -5.0, 2.0]), [-6.0, -8.0], [2.1, 1.3])
    assert lam[:2] == pytest.approx([1.3, 2.1])
    assert lam[2:] == pytest.approx([2.1 * undb(1.0), 2.1 * undb(8.0)])


def test_trials_of_other_degrees_of_freedom_are_mapped_at_equal_survival():
    rows = [SimpleNamespace(known_noise=theory.h0_law(r).isf(np.array([0.5, 0.1, 0.02])), rank=r) for r in (2, 2, 3)]
    fit = h0_fit(rows, "known_noise")
    assert (fit.law.rank, fit.num_trials, fit.num_mapped) == (2, 9, 3)
    assert fit.value[:3] == pytest.approx([theory.glrt_threshold(0.02, 2)] * 3)
    assert fit.survival[[2, 5, 8]] == pytest.approx([3 / 9, 6 / 9, 1.0])


def test_finished_points_end_at_the_first_power_that_was_not_judged_everywhere(emulated, tmp_path):
    import h5py

    run = CompRun(tmp_path)
    assert run.num_finished_points() == 0
    shutil.copy(emulated[0].detections, run.detections)
    assert run.num_finished_points() == 3
    with h5py.File(run.detections, "a") as file:
        del file["points/001/without:t2"]
    assert run.num_finished_points() == 1
    with h5py.File(run.detections, "a") as file:
        del file["points/000/without:t1/t1"].attrs["derivative_paths"]
    assert run.num_finished_points() == 0
    run.detections.write_bytes(b"cut short")
    with pytest.raises(CaptureError, match="did the run end early"):
        run.num_finished_points()


def test_a_truth_of_another_experiment_is_called_so(emulated, tmp_path):
    run, results, page = emulated
    experiment = make_experiment()
    other = CompRun(tmp_path)
    for name in ("detections", "measurements"):
        shutil.copy(getattr(run, name), getattr(other, name))
    save_measurements(other.truth, MeasurementFile(experiment_sha256="0" * 64, points=()))
    assert any("another experiment" in warning for warning in warnings(other, experiment, [results], []))
    assert "another experiment" not in page


def test_a_run_without_a_finished_power_is_one_clear_error(tmp_path):
    run = CompRun.create(tmp_path / "none", make_experiment(), overwrite=False)
    with pytest.raises(CaptureError, match="nothing was finished"):
        load_results(run)


def test_the_report_opens_in_a_browser(emulated, tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is missing")
    run, _, _ = emulated
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--dump-dom", run.report.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "Measured PoD and false alarms are consistent with theory" in text_of(done.stdout)
    assert ":CONSOLE" not in done.stderr  # what a page's console says is logged as INFO:CONSOLE(line)
