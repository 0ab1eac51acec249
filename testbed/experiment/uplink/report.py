"""The report of a run of the uplink."""

from pathlib import Path
from typing import Any

from testbed.experiment.report.sectioned import Answer, Figure, Section, write_page
from testbed.experiment.report.table import Entry, Table
from testbed.experiment.uplink.config import UplinkExperiment
from testbed.experiment.uplink.detecting import DETECTORS
from testbed.experiment.uplink.display import detector_sentence, loop_sentence, paper_sentences, rates_sentence
from testbed.experiment.uplink.figures import law_figure, loop_figure, pod_figure, rates_figure, sinr_figure
from testbed.experiment.uplink.record import UplinkRun
from testbed.experiment.uplink.results import UplinkResults
from testbed.plots import Columns, SavedFigure, save_figure
from testbed.units import db


def write_report(run: UplinkRun, experiment: UplinkExperiment, results: UplinkResults) -> Path:
    """Draw the figures and write the report; returns its path."""

    def save(name: str, drawn: tuple[Any, Columns]) -> SavedFigure:
        return save_figure(drawn[0], run.path / "figures" / name, drawn[1])

    sections = []
    if results.detectors:
        stored = [
            found for i in range(len(results.detectors[0].points)) if (found := run.read_detector(f"axis/{i:03d}"))
        ]
        laws = [(kind, [(a[f"{kind}/h0"], a[f"{kind}/h0_weights"]) for _, a in stored]) for kind in DETECTORS]
        sections.append(
            Section(
                "Detector",
                texts=(
                    "Echoes as the difference of whole-block channels from those calibrated without the target. "
                    "plain: combined towards the target; guarded: with the direct channel's own direction taken out, "
                    "so that a drift of its gain does not get through.",
                ),
                figures=(
                    Figure(
                        "Probability of detection over power, counted and in theory",
                        save("pod", pod_figure(results.detectors)),
                    ),
                    Figure("False alarms counted over nominal", save("false_alarms", law_figure(laws))),
                ),
                tables=(_detector_table(results),),
                small="erased: share of blocks in which a word fails its check; decoded: of the others alone, which is "
                "what a receiver has that does not know the data.",
            )
        )
    if results.rates:
        sections.append(
            Section(
                "Rates",
                texts=("Direct channels are redrawn with the echoes: what (7) and (40) average over.",),
                figures=(
                    Figure("Sum rates over power", save("rates", rates_figure(results.rates))),
                    Figure("Measured SINR less formula", save("sinr", sinr_figure(results.rates))),
                ),
                tables=(_rates_table(results, experiment),),
                small="Rates in bit/s/Hz, pilots counted as overhead; errors are of all seeds together.",
            )
        )
        if any(p.paper for p in results.rates):
            sections.append(
                Section(
                    "The paper's detector",
                    texts=(
                        "It estimates the echo from the pilots of the block that it judges; without a target its "
                        "estimate is not 0, and what cancelling leaves goes along with it. Its model and its chain, "
                        "apart:",
                    ),
                    tables=(_paper_table(results),),
                )
            )
    if results.rounds:
        sections.append(
            Section(
                "Loop",
                figures=(Figure("Sum rate of every round", save("loop", loop_figure(results.rounds))),),
                tables=(_loop_table(results),),
                small="Powers in dBm per resource element. Sensing SINR is the constraint: not below that of equal "
                "powers.",
            )
        )
    return write_page(run, experiment, _answers(results), (), sections, simulated=experiment.emulator is not None)


def _answers(results: UplinkResults) -> list[Answer]:
    said = tuple(_sentence(text) for text in (
        *(detector_sentence(d) for d in results.detectors), *([rates_sentence(results)] if results.rates else [])
    ))  # fmt: skip
    good = results.consistent
    answers = [
        Answer("Consistent with theory" if good else "NOT consistent with theory", said, grade="" if good else "no")
    ]
    if results.rounds:
        rise = results.rise
        better = rise is not None and rise.value > 3 * rise.stderr
        title = "The sum rate rose" if better else "No clear gain"
        answers.append(
            Answer(title, (_sentence(loop_sentence(results)),), "Power allocation", "" if better else "weak")
        )
    if any(p.paper for p in results.rates):
        text = (_sentence(paper_sentences(results)[0]),)
        answers.append(Answer("The paper's detector does not hold its false-alarm rate", text, "Errata", "weak"))
    return answers


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _detector_table(results: UplinkResults) -> Table:
    rows: list[tuple[str | Entry, ...]] = []
    for detector in results.detectors:
        for p in detector.points:
            decoded = "–" if p.decoded_pod is None else f"{p.decoded_pod:.4f}"
            rows.append(
                (
                    detector.detector,
                    f"{p.power_dbm:g}",
                    Entry(f"{p.pod:.4f}", (f"{p.pod_low:.4f} – {p.pod_high:.4f}",)),
                    f"{p.pod_theory:.4f}",
                    *(f"{share:.4f}" for share in p.alarms.values()),
                    f"{p.erased:.4f}",
                    Entry(decoded, (", ".join(f"{a:.4f}" for a in p.decoded_alarms.values()),)),
                )
            )
    heads = ("Detector", "Power (dBm)", "PoD", "Theory", "Alarms at 1e-2", "Alarms at 1e-3", "Erased")
    return Table((*heads, "Decoded: PoD, alarms"), tuple(rows))


def _rates_table(results: UplinkResults, experiment: UplinkExperiment) -> Table:
    rows: list[tuple[str | Entry, ...]] = []
    for p in results.rates:
        for k, user in enumerate(experiment.node_names):
            cells = []
            for how in ("mrc", "zf", "optimal"):
                link = p.links[how]
                cells.append(
                    Entry(
                        f"{link.rate[k].value:.3f}",
                        (f"{_db(link.sinr[k].value)}, (40) {_db(link.formula[k].value)} dB",),
                    )
                )
            rows.append(
                (
                    f"{p.power_dbm:g} dBm",
                    user,
                    f"{p.bound[k]:.3f}",
                    *cells,
                    f"{p.bit_error_rate[k]:.2e}",
                    f"{p.block_error_rate[k]:.4f}",
                )
            )
    heads = ("Power", "User", "Bound (7)", "mrc", "zf", "optimal", "Bit errors", "Block errors")
    return Table(heads, tuple(rows))


def _paper_table(results: UplinkResults) -> Table:
    rows = tuple(
        (
            f"{p.power_dbm:g} dBm",
            f"{row['pfa']:g}",
            Entry(f"{row['alarms']:.4f}", (f"± {row['stderr']:.4f}",)),
            f"{row['model_alarms']:.4f}",
            f"{row['alarms'] / row['pfa']:.0f}",
            f"{row['model_pod']:.4f}",
            f"{row['detections']:.4f}",
        )
        for p in results.rates
        for row in p.paper
    )
    heads = ("Power", "Nominal", "False alarms, measured", "By the receiver's model (E2)", "Times nominal")
    return Table((*heads, "PoD, promised", "PoD, measured"), rows)


def _loop_table(results: UplinkResults) -> Table:
    rows: list[tuple[str | Entry, ...]] = []
    for r in results.rounds:
        made = r.record
        pod = (
            "–"
            if r.pod is None or r.pod_theory is None
            else Entry(f"{r.pod.value:.3f}", (f"theory {r.pod_theory:.3f}",))
        )
        rows.append(
            (
                f"round {made.index}",
                " ".join(_db(p) for p in made.pilot_power),
                " ".join(_db(p) for p in made.data_power),
                Entry(f"{r.sum_rate.value:.3f}", (f"± {r.sum_rate.stderr:.3f}",)),
                f"{r.mrc_sum_rate.value:.3f}",
                f"{made.predicted_sum_rate:.3f}",
                f"{made.alternating_sum_rate:.3f}",
                f"{_db(made.sensing_sinr)}",
                f"{r.block_error_rate:.4f}",
                pod,
            )
        )
    heads = ("Round", "Pilots", "Data", "Sum rate", "mrc", "Bound (8)", "Algorithm 1 would reach", "Sensing SINR (dB)")
    return Table((*heads, "Block errors, worst user", "PoD"), tuple(rows))


def _db(value: float) -> str:
    return f"{db(value):.2f}" if value > 0 else "–"
