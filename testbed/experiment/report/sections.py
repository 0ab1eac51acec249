"""What the templates show of each part of a run: its loop, and every part that has a verdict."""

from typing import Any

from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.gather import RunResults
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.results import Results
from testbed.experiment.comp.rounds import Round
from testbed.experiment.comp.step import Step
from testbed.experiment.report import caveats, loop_tables, noise, tables
from testbed.experiment.report.answers import requirement_rule
from testbed.experiment.report.constellation import link_table
from testbed.experiment.report.constraints import constraints
from testbed.experiment.report.wording import STATISTIC_NAMES
from testbed.measurement import load_measurements


def part_sections(run: CompRun, experiment: CompExperiment, results: RunResults) -> list[dict[str, Any]]:
    """Tables and notes of the power axis and of the last round, of those there are."""
    named = ((results.axis, "Power axis", "over powers and cells"), (results.final, "Last round", "over cells"))
    parts = [(part, name, pooled) for part, name, pooled in named if part is not None]
    return [
        {"name": name if len(parts) > 1 else "", "pooled": pooled, **_part(run, experiment, part, name, len(parts) > 1)}
        for part, name, pooled in parts
    ]


def _part(run: CompRun, experiment: CompExperiment, results: Results, name: str, is_one_of_two: bool) -> dict[str, Any]:
    compared = noise.noise_comparisons(results)
    notes = [*caveats.verdict_notes(results), *(c.warning for c in compared if c.warning)]
    return {
        "notes": [f"{name} – {note}" if is_one_of_two else note for note in notes],
        "verdicts": tables.verdict_columns(results),
        "has_truth": results.deciding.endswith("/truth"),
        "level_note": caveats.level_note(run, experiment, results),
        "points": [
            (STATISTIC_NAMES[statistic], table) for statistic, table in tables.point_tables(experiment, results)
        ],
        "detector": tables.detector_table(run, experiment, results),
        "noise": noise.noise_table(compared),
    }


def loop_section(run: CompRun, experiment: CompExperiment, results: RunResults, made: Round) -> dict[str, Any]:
    """Everything a report says of a loop; `made` is its last round."""
    rounds, index = results.rounds, made.record.index
    truth = load_measurements(run.truth_rounds).points if run.truth_rounds.exists() else ()
    last = rounds[-1]
    shown = len(loop_tables.shown_rounds(rounds))
    return {
        "index": index,
        "rule": requirement_rule(experiment),
        "rounds": loop_tables.round_table(experiment, rounds),
        "omitted": f"Of {len(rounds)} rounds the last {shown} are shown." if shown < len(rounds) else "",
        "notes": [(row.index, row.note) for row in loop_tables.shown_rounds(rounds) if row.note],
        "predictions": loop_tables.prediction_table(rounds) if len(rounds) > 1 else None,
        "prediction_sentence": loop_tables.prediction_sentence(rounds),
        "constraints": constraints(experiment, made, last),
        "links": link_table(run, Step("rounds", index), last.users) if last.users else None,
        "gains": loop_tables.gain_tables(made.measurement, truth[index] if index < len(truth) else None),
        "has_truth": any(cell.snr_truth is not None for row in rounds for cell in row.cells),
        "modulation": experiment.waveform.modulation.upper(),
    }
