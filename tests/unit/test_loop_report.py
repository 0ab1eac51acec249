"""The report of a run with a loop: drawn statistics, gains scattered about the true ones, the solver's own powers."""

import csv
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sim.truth import truth
from testbed.experiment.comp.compare import compare_runs, draw_comparison
from testbed.experiment.comp.feedback import feedback
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.rounds import load_rounds
from testbed.experiment.comp.step import Step
from testbed.experiment.report.answers import answers, loop_answer
from testbed.experiment.report.constraints import constraints
from testbed.experiment.report.loop_figures import comm_figure, power_figure, sensing_figure
from testbed.experiment.report.loop_tables import (
    MAX_SHOWN_ROUNDS,
    gain_tables,
    prediction_sentence,
    prediction_table,
    round_table,
)
from testbed.experiment.report.page import load_results, write_report
from testbed.experiment.report.survey_map import map_figure
from testbed.measurement import Estimate, MeasurementFile, load_measurements, save_measurements
from testbed.units import db, undb
from tests.drawn import NUM_NUISANCE, drawn_detection, loop_experiment, store_capture, store_loop
from tests.scenes import comp_scene

MARKUP = "A <script>alert('x')</script> loop"


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-").replace("\u202f", ""))


def text_of(page):
    """The page as read: no head, no tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page[page.index("<body>") :])).replace("&#39;", "'")


def table_after(page, text):
    """Rows of the first table after a text, by their first word: lines of every entry."""
    found = re.search(r"<tbody>(.*?)</tbody>", page[page.index(text) :], re.S)[1]
    rows = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", found, re.S):
        entries = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)
        lines = [[re.sub(r"<[^>]*>", "", part) for part in entry.split("<small>")] for entry in entries]
        rows.setdefault(lines[0][0], []).append(lines[1:])
    return rows


def figure_rows(run, name):
    with (run.path / "figures" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def report(run):
    experiment, results = load_results(run)
    page = write_report(run, experiment, results).read_text(encoding="utf-8")
    return SimpleNamespace(
        run=run, experiment=experiment, results=results, page=page, text=text_of(page), rounds=load_rounds(run.rounds)
    )


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """Two rounds, after which everything is met and nothing would move; emulated."""
    experiment = loop_experiment(title=MARKUP)
    run = CompRun.create(tmp_path_factory.mktemp("runs") / "settled", experiment, overwrite=False)
    store_loop(run, experiment, 2)
    store_capture(run.muted_path, experiment, "muted", None)
    power = np.array(load_rounds(run.rounds)[1].record.realised_power)
    store_capture(run.capture_path(Step("rounds", 1), "all"), experiment, "all", experiment.waveform.frame(power))
    return report(run)


@pytest.fixture(scope="module")
def stuck(tmp_path_factory):
    """Two of five rounds on too small a budget; no truth, no sample kept, radios of an unknown kind."""
    rows = {
        name: [row | {"radio": "tcp://127.0.0.1:1"} for row in loop_experiment().model_dump(mode="json")[name]]
        for name in ("nodes", "users")
    }
    experiment = loop_experiment(
        emulator=None,
        detection={"statistic": "known_noise"},
        allocation={"budget_dbm": -8.0},
        capture={"keep_frames": 0},
        **rows,
    )
    run = CompRun.create(tmp_path_factory.mktemp("runs") / "stuck", experiment, overwrite=False)
    store_loop(run, experiment, 2, with_truth=False)
    return report(run)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two of three powers of an axis, and a loop of a single round, whose equal powers leave a target out."""
    experiment = loop_experiment(power={"axis_dbm": (-7.0, -5.5, -4.0)}, loop={"num_rounds": 1})
    run = CompRun.create(tmp_path_factory.mktemp("runs") / "both", experiment, overwrite=False)
    rng, powers = np.random.default_rng(8), [[float(undb(p))] * 3 for p in experiment.axis_dbm]
    points = truth(comp_scene(), experiment, {row.name: 40.0 for row in experiment.receivers}, powers).points
    for index, exact in enumerate(points[:2]):
        for cell in experiment.cells:
            for condition in ("all", f"without:{cell.name}"):
                found = drawn_detection(
                    rng,
                    cell=cell.name,
                    node=cell.node,
                    condition=condition,
                    lam=exact.noncentrality[cell.name].value if condition == "all" else 0.0,
                    rank=exact.rank[cell.name],
                    num_observations=104,
                    num_nuisance=NUM_NUISANCE,
                    num_frames=400,
                    noise_var=exact.noise_var[cell.node].value,
                )
                run.add_detection(Step("points", index), found)
    save_measurements(run.truth, MeasurementFile(experiment_sha256=experiment.sha256, points=points))
    store_loop(run, experiment, 1)
    return report(run)


def test_whether_requirements_are_met_stands_first_and_the_verdict_of_the_final_powers_after_it(settled):
    page, last = settled.page, settled.results.rounds[-1]
    assert last.is_met and last.settled
    answer = page.index("Every requirement is met")
    verdict = page.index("consistent with theory (truth curve, known-noise test)")
    assert answer < page.index("Theory, at the powers of the last round") < verdict < page.index("<table")
    total = last.sum_rate_bps_hz
    assert (
        "the powers of round 1, the last of 2, give every target a PoD of at least 0.7 at PFA = 1e-6 and every user at "
        f"least 1 bit/s/Hz; the sum rate is {total.value:.3f} ± {total.stderr:.3f} bit/s/Hz."
    ) in settled.text
    assert "The powers have settled after 2 rounds: none would move by more than one gain step" in settled.text
    assert "Partial" not in settled.text


def test_powers_that_leave_a_target_out_are_called_so_with_its_number(both):
    last = both.results.rounds[-1]
    assert [cell.cell for cell in last.cells if not cell.is_met] == ["t3"]
    assert "Requirements are NOT met" in both.text
    assert (
        f"The powers of the loop's only round miss PoD of t3 ({last.cells[2].pod:.3g} of 0.7); the sum rate"
        in both.text
    )
    rows = table_after(both.page, 'id="loop"')
    assert rows["Missed"] == [[["t3"]]]
    assert re.search(rf'class="bad">{last.cells[2].pod:.4f}<', both.page)
    assert "The powers have not settled after 1 round." in both.text
    assert "follow powers that should meet them all; no round has transmitted them" in both.text


def test_an_infeasible_loop_says_who_conflicts_and_what_power_would_do(stuck):
    made, text = stuck.rounds[-1], stuck.text
    assert made.record.status == "infeasible"
    assert "Requirements cannot be met within the budget" in text
    assert f"Infeasible; {made.record.note.removeprefix('infeasible; ')}." in text
    certificate = made.proposal.certificate
    rows = table_after(stuck.page, "Why no powers meet them all")
    names = ["rate of u1", "rate of u2", "rate of u3", "PoD of t1", "PoD of t2", "PoD of t3"]
    assert len(rows) == len(certificate["rows"]) > 1
    for row in certificate["rows"]:
        [(reached, required, short)] = rows[names[row["index"] + 3 * (row["kind"] == "sensing")]]
        assert number(reached[0]) == pytest.approx(db(row["reached"]), abs=0.006)
        assert number(required[0]) == pytest.approx(db(row["required"]), abs=0.006)
        assert number(short[0]) == pytest.approx(db(row["required"] / row["reached"]), abs=0.006)
    extra = certificate["extra_power_db"]
    assert f"{extra:.2f} dB more total power would do: \N{MINUS SIGN}{8 - extra:.2f} dBm per node on average" in text
    assert "in place of the budget of \N{MINUS SIGN}8.00 dBm per node" in text


def test_a_loop_cut_short_says_so(stuck):
    assert "Partial: the run ended after 2 of at most 5 rounds, before its powers had settled." in stuck.text
    assert "the last safe ones are kept as long as no others would do" in stuck.text


def test_a_run_that_kept_no_sample_has_a_report_that_claims_neither_air_nor_emulator(stuck, settled):
    assert "Realised settings cannot be shown: samples were not kept (capture.keep_frames = 0)" in stuck.text
    assert "ORIGIN NOT RECORDED" in stuck.text
    assert "SIMULATED" not in stuck.text and "ON AIR" not in stuck.text
    assert "SIMULATED" in settled.text and "As realised, in round 1 with all targets on" in settled.text
    assert "truth" not in stuck.text.lower().replace("truth_rounds.json", "")


def test_a_part_of_the_run_that_is_missing_is_named(both, settled):
    assert "Partial: the run ended after 2 of 3 powers; this report is about those alone." in both.text
    experiment, alone = settled.experiment, replace(both.results, rounds=(), final=None)
    [verdict] = answers(experiment, alone, [])
    assert verdict.partial.endswith("Partial: the run ended before the first round of its loop was finished.")
    experiment = loop_experiment(power={"axis_dbm": (-7.0,)})
    *_, verdict = answers(experiment, settled.results, settled.rounds)
    assert verdict.partial == "Partial: no power of the axis was finished."


def test_fixed_schemes_have_nothing_to_settle(settled):
    for method, words in (("equal", "Every node has the same power"), ("random", "drawn at random")):
        experiment = loop_experiment(allocation={"method": method})
        answer = loop_answer(experiment, settled.results.rounds, settled.rounds[-1])
        assert words in answer.sentences[1]


def test_met_without_its_margin_is_a_weak_yes(settled):
    rounds = (*settled.results.rounds[:-1], replace(settled.results.rounds[-1], status="infeasible", note="why; so"))
    answer = loop_answer(settled.experiment, rounds, settled.rounds[-1])
    assert (answer.grade, answer.answer) == ("weak", "Every requirement is met, but not with its margin")
    assert answer.sentences[-1] == "Why; so."


def test_a_loop_that_need_not_settle_is_whole_only_after_all_its_rounds(settled):
    experiment = loop_experiment(loop={"until_settled": False})
    answer = loop_answer(experiment, settled.results.rounds, settled.rounds[-1])
    assert answer.partial == "Partial: the run ended after 2 of 5 rounds."


def test_with_an_axis_either_verdict_has_its_answer_and_its_p_values(both, settled):
    assert both.text.index("Theory, at the powers of the last round") < both.text.index("Theory, over the power axis")
    assert both.page.count("p-value of") == 2
    for name, part in (("Power axis", both.results.axis), ("Last round", both.results.final)):
        rows = table_after(both.page, f"<h3>{name}</h3>")
        assert rows["PoD about the curve"][0][0][0] == f"{part.verdict.p_values['pod_chi2']:#.3g}"
    assert len(table_after(both.page, "Points of the power axis")) == 3
    assert both.text.count("the test of this experiment") == 2
    assert settled.page.count("p-value of") == 1


def test_without_an_axis_there_is_no_curve_against_power_but_the_law_and_the_detections(settled):
    names = {path.stem for path in (settled.run.path / "figures").glob("*.svg")}
    assert names == {
        *("map", "powers", "sensing_snr", "comm_sinr", "constellation_u1", "constellation_u2", "constellation_u3"),
        *("h0_known_noise", "h0_cfar"),
    }
    assert "Probability of detection against power" not in settled.text
    assert "all H0 trials of the last round, pooled over cells" in settled.text
    rows = table_after(settled.page, "Detections in the last round")
    points = [p for p in settled.results.final.points if p.statistic == "known_noise"]
    for p in points:
        [row] = rows[f"{p.cell} ({p.node})"]
        assert number(row[0][0]) == pytest.approx(p.power_dbm, abs=0.005)
        assert number(row[2][0]) == pytest.approx(p.pod, abs=5e-4)


def test_every_round_shows_its_powers_probabilities_and_rates(settled):
    rows = table_after(settled.page, 'id="loop"')
    for i, made in enumerate(settled.results.rounds):
        for name, power_dbm in made.power_dbm.items():
            [row] = rows[f"Power of {name} (dBm)"]
            assert number(row[i][0]) == pytest.approx(power_dbm, abs=0.0051)
            assert number(row[i][1].removeprefix("on air ")) == pytest.approx(made.realised_dbm[name], abs=5.1e-4)
        for cell in made.cells:
            [row] = rows[f"PoD of {cell.cell}"]
            assert number(row[i][0]) == pytest.approx(cell.pod, abs=5.1e-5)
            interval = [number(x) for x in row[i][1].split(" – ")]
            assert interval == pytest.approx([cell.pod_low, cell.pod_high], abs=5.1e-5)
        for user in made.users:
            [row] = rows[f"Rate of {user.user} (bit/s/Hz)"]
            assert number(row[i][0]) == pytest.approx(user.rate_bps_hz.value, abs=5.1e-4)
        missed = [cell.cell for cell in made.cells if not cell.is_met]
        assert rows["Missed"][0][i] == [", ".join(missed) or "nothing"]
    assert rows["Solver, for the next round"][0][1] == ["stationary", "settled"]


def test_predictions_are_compared_with_what_came_and_with_the_truth(settled):
    rows, last = table_after(settled.page, "Predicted, then measured"), settled.results.rounds[1]
    shown = [(f"SNR of {c.cell} at {c.node}", c.snr, c.snr_predicted, c.snr_truth) for c in last.cells]
    shown += [(f"SINR of {u.user} of {u.node}", u.sinr, u.sinr_predicted, u.sinr_truth) for u in last.users]
    assert len(rows) == len(shown) == 6
    differences = []
    for label, measured, predicted, exact in shown:
        [row] = rows[label]  # the first round has no prediction
        assert row[0] == ["1"]
        assert number(row[1][0].split(" ± ")[0]) == pytest.approx(db(measured.value), abs=0.006)
        assert number(row[2][0].split(" ± ")[0]) == pytest.approx(db(predicted.value), abs=0.006)
        assert number(row[3][0]) == pytest.approx(db(exact), abs=0.006)
        assert number(row[4][0]) == pytest.approx(db(measured.value / predicted.value), abs=0.006)
        assert number(row[6][0]) == pytest.approx(db(measured.value / exact), abs=0.006)
        differences.append(abs(db(measured.value / predicted.value)))
        assert row[5] == ["yes" if differences[-1] <= 0.5 else "no"]
    assert f"the farthest was off by {max(differences):.2f} dB" in settled.text


def test_a_prediction_that_missed_by_more_than_half_a_decibel_stands_out(settled):
    first, last = settled.results.rounds
    wrong = Estimate(value=last.cells[1].snr.value * undb(0.7), stderr=0.001, count=9)
    cells = (last.cells[0], replace(last.cells[1], snr_predicted=wrong), last.cells[2])
    rounds = (first, replace(last, cells=cells))
    row = prediction_table(rounds).rows[1]
    assert row[5] == "\N{MINUS SIGN}0.70"
    assert (row[6].text, row[6].grade) == ("no", "mark")
    assert prediction_sentence(rounds) == (
        "Of 6 predictions all but 1 came true within 0.5 dB; the farthest was off by 0.70 dB (SNR of t2, round 1)."
    )
    assert prediction_sentence(rounds[:1]).startswith("No round has a prediction")


def test_slacks_are_those_of_the_measurement_and_of_the_solver(settled):
    rows, made, last = (
        table_after(settled.page, "Requirements in round"),
        settled.rounds[-1],
        settled.results.rounds[-1],
    )
    items = [(f"rate of {u.user}", u.sinr.value, u.sinr_required, 0.3) for u in last.users]
    items += [(f"PoD of {c.cell}", c.snr.value, c.snr_required, 0.2) for c in last.cells]
    for (label, measured, required, margin_db), slack in zip(items, made.proposal.slack, strict=True):
        [row] = rows[label]
        above = db(measured / required)
        assert number(row[2][0]) == pytest.approx(above, abs=0.006)
        assert number(row[3][0]) == pytest.approx(above - margin_db, abs=0.006)
        assert number(row[5][0]) == pytest.approx(slack, rel=0.01)
    proposal = feedback(made.measurement, settled.experiment).problem
    assert np.sum(made.proposal.power) == pytest.approx(proposal.total_power)
    assert rows["PoD of t3"][0][5][1:] == ["binds"]  # the letter's optimum leaves nothing to the weakest target
    assert rows["rate of u1"][0][5][1:] == []
    assert f"{made.proposal.kkt_residual:.1e} of the gradient" in settled.text
    assert f"{made.proposal.history[0]:.4f} → " in settled.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra_power_db": None, "required_power": None}, "No power would do"),
        (
            {
                "extra_power_db": None,
                "required_power": None,
                "caps_block": True,
                "required_power_without_caps": 3 * undb(-4.0),
            },
            "without caps \N{MINUS SIGN}4.00 dBm per node on average would",
        ),
    ],
)
def test_what_would_remedy_a_conflict_is_said_whatever_it_is(stuck, change, words):
    made = stuck.rounds[-1]
    proposal = replace(made.proposal, certificate=made.proposal.certificate | change)
    found = constraints(stuck.experiment, replace(made, proposal=proposal), stuck.results.rounds[-1])
    assert words in found.remedy


def test_a_requirement_that_asks_for_nothing_is_called_none(settled):
    experiment = loop_experiment(requirements={"min_rate_bps_hz": 0.0})
    last = settled.results.rounds[-1]
    row = replace(last, users=tuple(replace(user, sinr_required=0.0) for user in last.users))
    found = constraints(experiment, settled.rounds[-1], row).rows.rows
    assert [entries[2] for entries in found[:3]] == ["none"] * 3
    # the solver still keeps every node audible
    assert all(entries[5].startswith("+") for entries in found[:3])
    fig, _ = comm_figure((row,), ["u1", "u2", "u3"])
    assert "required" not in [text.get_text() for text in fig.legends[0].texts]


def test_links_are_shown_by_error_vectors_and_decisions_only_beside_error_rates(settled):
    rows = table_after(settled.page, "<h2>Links in round")
    for user in settled.results.rounds[-1].users:
        [row] = rows[f"{user.user} ({user.node})"]
        evm2 = float(np.mean(settled.run.link(Step("rounds", 1), user.user).error_power))
        assert number(row[0][0].split(" ± ")[0]) == pytest.approx(100 * np.sqrt(evm2), rel=1e-3)
        assert number(row[1][0].split(" ± ")[0]) == pytest.approx(db(evm2), abs=0.006)
        assert number(row[2][0].split(" ± ")[0]) == pytest.approx(db(user.sinr.value), abs=0.006)
        assert number(row[4][0].split(" ± ")[0]) == pytest.approx(db(user.sinr_decision.value), abs=0.006)
        assert row[5] == ["none in 124\u202f800"]


def test_gains_stand_beside_the_true_ones_in_standard_errors(settled):
    measured = settled.rounds[-1].measurement
    exact = load_measurements(settled.run.truth_rounds).points[1]
    rows = table_after(settled.page, "<h3>Sensing</h3>") | table_after(settled.page, "<h3>Communication</h3>")
    for found, known in ((measured.sensing, exact.sensing), (measured.communication, exact.communication)):
        for name, response in found.items():
            [row] = rows[f"{name} ({response.serving or response.node})"]
            for tx, entry in zip(measured.node_names, row, strict=True):
                gain, true = response.gain[tx], known[name].gain[tx].value
                assert number(entry[0].split(" ± ")[0]) == pytest.approx(db(gain.value), abs=0.006)
                assert entry[1] == f"truth {db(true):.2f}".replace("-", "\N{MINUS SIGN}")
                deviation = number(entry[2].removesuffix(" std. errors"))
                assert deviation == pytest.approx((gain.value - true) / gain.stderr, abs=0.06)


def test_floored_old_and_unknown_gains_are_marked(settled):
    measured = settled.rounds[-1].measurement
    zero = Estimate(value=0.0, stderr=1e-13, count=400)
    gain = {**measured.sensing["t1"].gain, "bs2": zero}
    floored = measured.sensing["t1"].model_copy(update={"gain": gain, "floored": ("bs2",), "age_rounds": {"bs3": 2}})
    silent = measured.sensing["t2"].model_copy(
        update={"gain": {**measured.sensing["t2"].gain, "bs1": Estimate.exact(0.0)}, "age_rounds": {"bs1": 1}}
    )
    changed = measured.model_copy(update={"sensing": {"t1": floored, "t2": silent}})
    (_, table), _ = gain_tables(changed, None)
    t1, t2 = table.rows
    assert [entry.grade for entry in t1[1:]] == ["", "mark", "mark"]
    assert (t1[2].text, t1[2].small) == ("taken as 0", ("measured below 0",))
    assert t1[3].small == ("2 rounds old: silent now",)
    assert (t2[1].text, t2[1].small) == ("unknown", ("never on the air",))


def test_the_csv_of_the_powers_holds_what_was_asked_and_realised(settled):
    rows = figure_rows(settled.run, "powers")
    for series, field in (("asked", "power_dbm"), ("on the air", "realised_dbm")):
        found = {(r["node"], int(r["round"])): float(r["power_dbm"]) for r in rows if r["series"] == series}
        assert found == {(n, r.index): p for r in settled.results.rounds for n, p in getattr(r, field).items()}
    assert [float(r["power_dbm"]) for r in rows if r["series"].startswith("budget")] == [-5.0]


@pytest.mark.parametrize(("name", "kind"), [("sensing_snr", "cells"), ("comm_sinr", "users")])
def test_the_csv_of_the_ratios_holds_measured_predicted_true_and_required(settled, name, kind):
    quantity = name.split("_")[1]
    rows = {(r["series"], r["name"], int(r["round"])): r for r in figure_rows(settled.run, name)}
    assert len(rows) == 4 * 3 * 2
    for made in settled.results.rounds:
        for item in getattr(made, kind):
            label = f"{item.cell} at {item.node}" if kind == "cells" else f"{item.user} of {item.node}"
            for series, suffix in (("measured", ""), ("predicted", "_predicted")):
                row, found = rows[series, label, made.index], getattr(item, f"{quantity}{suffix}")
                if found is None:
                    assert row[quantity] == row[f"{quantity}_db"] == row["stderr"] == ""
                else:
                    assert (float(row[quantity]), float(row["stderr"])) == (found.value, found.stderr)
                    assert float(row[f"{quantity}_db"]) == db(found.value)
                    assert float(row["stderr_db"]) == pytest.approx(db(1 + found.stderr / found.value), rel=0.02)
            for series in ("truth", "required"):
                found = getattr(item, f"{quantity}_{series}")
                assert float(rows[series, label, made.index][quantity]) == found


def test_the_csv_of_a_constellation_holds_the_symbols_and_what_was_sent(settled):
    rows, link = figure_rows(settled.run, "constellation_u2"), settled.run.link(Step("rounds", 1), "u2")
    received = np.array([complex(float(r["in_phase"]), float(r["quadrature"])) for r in rows])
    ideal = np.array([complex(float(r["ideal_in_phase"]), float(r["ideal_quadrature"])) for r in rows])
    assert np.array_equal(received.astype(np.complex64), link.symbols)
    assert [int(r["sent"]) for r in rows] == link.symbol_index.tolist()
    assert np.abs(ideal) == pytest.approx(np.ones(len(rows)))


def test_the_map_has_users_their_serving_nodes_and_the_final_powers(settled):
    rows = {r["name"]: r for r in figure_rows(settled.run, "map")}
    assert rows["u3"]["served_by"] == "bs3" and rows["t3"]["judged_by"] == "bs3"
    for name, power_dbm in settled.results.rounds[-1].power_dbm.items():
        assert float(rows[name]["power_dbm"]) == power_dbm


def test_a_node_that_is_off_is_drawn_and_written_as_such(settled):
    first, last = settled.results.rounds
    off = {"bs2": None}
    rounds = (first, replace(last, power_dbm=last.power_dbm | off, realised_dbm=last.realised_dbm | off))
    _, columns = power_figure(settled.experiment, rounds, settled.experiment.node_names)
    rows = list(zip(columns["series"], columns["node"], columns["power_dbm"], strict=True))
    assert [np.isnan(p) for series, node, p in rows if (series, node) == ("asked", "bs2")] == [False, True]
    assert round_table(settled.experiment, rounds).rows[1][2].text == "off"
    fig, _ = map_figure(settled.experiment, rounds[1].power_dbm)
    assert "bs2\noff" in [text.get_text() for text in fig.axes[0].texts]


def test_a_snr_that_came_out_below_zero_is_left_out_not_an_error(settled):
    rounds = tuple(
        replace(row, cells=tuple(replace(c, snr=Estimate(value=-0.01, stderr=0.02, count=9)) for c in row.cells))
        for row in settled.results.rounds
    )
    _, columns = sensing_figure(rounds, ["t1", "t2", "t3"])
    assert np.isnan([x for s, x in zip(columns["series"], columns["snr_db"], strict=True) if s == "measured"]).all()
    assert prediction_table(rounds).rows[0][2].text == "–"


def test_names_that_begin_with_an_underscore_are_in_the_legend(settled):
    last = settled.results.rounds[-1]
    users = (replace(last.users[0], user="_u1"), *last.users[1:])
    fig, columns = comm_figure((replace(last, index=0, users=users),), ["_u1", "u2", "u3"])
    assert "_u1 of bs1" in [text.get_text().strip() for text in fig.legends[0].texts]
    assert "_u1 of bs1" in columns["name"]


def test_a_long_loop_shows_its_last_rounds_and_says_how_many(settled, tmp_path):
    many = tuple(replace(settled.results.rounds[-1], index=i) for i in range(200))
    table = round_table(settled.experiment, many)
    assert table.heads == ("", *(f"Round {i}" for i in range(200 - MAX_SHOWN_ROUNDS, 200)))
    assert len(prediction_table(many).rows) == 6 * MAX_SHOWN_ROUNDS
    fig, columns = comm_figure(many, ["u1", "u2", "u3"])
    assert columns["round"].count(199) == 12
    fig.savefig(tmp_path / "many.svg")


def test_the_file_stands_alone_is_small_and_escapes_what_others_wrote(settled, stuck, both):
    for made in (settled, stuck, both):
        page = made.page
        assert not re.search(r"https?:", page)
        assert not re.search(r"""(?:src|srcset|href|data|action)\s*=\s*(?!"data:)""", page)
        assert "@import" not in page and "url(" not in page and "<script" not in page
        assert made.run.report.stat().st_size < 2_000_000
        assert str(made.run.path.parent) not in page
        assert len(re.findall(r'<img alt="[^"]{20,}"', page)) == len(list(made.run.path.glob("figures/*.svg")))
    assert "&lt;script&gt;" in settled.page


def test_a_comparison_draws_what_it_compares(settled, both, tmp_path):
    comparison = compare_runs(both.run, settled.run)
    files = draw_comparison(comparison, tmp_path / "two.png")
    with files.csv.open(newline="") as file:
        rows = {(r["run"], r["quantity"]): float(r["value"]) for r in csv.DictReader(file)}
    assert rows == {
        (name, row.label): row.values[i] for row in comparison.rows for i, name in enumerate(comparison.names)
    }
    assert files.png.stat().st_size > 10_000
