"""What a reader must know before trusting a number: weak tests, a foreign truth, hidden echoes, clipping, losses."""

from collections.abc import Sequence

import numpy as np

from testbed.capture import Capture
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.law import Law
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.results import Results
from testbed.experiment.comp.rounds import MEASUREMENT, load_rounds
from testbed.experiment.report.clocks import measured_clocks, worst_warnings
from testbed.experiment.report.wording import count_text, level_text, verdict_name
from testbed.measurement import load_measurements
from testbed.sensing.frequency import clock_warnings
from testbed.theory.consistency import FALSE_ALARM_LEVELS


def verdict_notes(results: Results) -> list[str]:
    """What qualifies a verdict."""
    others = [verdict_name(key) for key, v in results.verdicts.items() if not v.consistent and key != results.deciding]
    notes = [note[0].upper() + note[1:] + "." for note in results.verdict.notes]
    if others and results.verdict.consistent:
        notes.append(f"Not deciding, but not consistent: {'; '.join(others)}.")
    return notes


def level_note(run: CompRun, experiment: CompExperiment, results: Results) -> str:
    """What the nominal false-alarm probability rests on."""
    pfa, verdict = experiment.detection.pfa, results.verdict
    if pfa in FALSE_ALARM_LEVELS:
        return f"PFA = {level_text(pfa)} is itself among the levels tested by counting."
    expected, law = pfa * verdict.num_h0_trials, verdict.p_values["h0_law"]
    part = "the tail" if expected < 1 else "a part"
    passed = "passed" if law is not None and law > verdict.level else "did NOT pass"
    counted = _nominal_false_alarms(run, experiment, results)
    return (
        f"PFA = {level_text(pfa)} is {part} of the law that {passed} above; it is not itself tested "
        f"({count_text(counted)} counted, {expected:.2g} expected in {count_text(verdict.num_h0_trials)} trials)."
    )


def recorded_sha256(run: CompRun, experiment: CompExperiment) -> str:
    """Hash of the experiment as the run wrote it; one computed now would change with every default added since."""
    for path in (run.measurements, run.round_path(0) / MEASUREMENT):
        if path.exists():
            return load_measurements(path).experiment_sha256
    return experiment.sha256


def warnings(
    run: CompRun, experiment: CompExperiment, parts: Sequence[Results], captures: Sequence[Capture]
) -> list[str]:
    """What files, detector and captures have to say, once each."""
    found: dict[str, None] = {}
    recorded = recorded_sha256(run, experiment)
    for path in (run.truth, run.truth_rounds):
        if path.exists() and load_measurements(path).experiment_sha256 != recorded:
            found[f"{path.name} was written for another experiment: its truth does not belong to this run."] = None
    clocks = measured_clocks(run)
    for made in load_rounds(run.rounds):
        told = clock_warnings(made.measurement.clocks)  # one of all rounds is enough, below
        found |= dict.fromkeys(warning for warning in made.record.warnings if warning not in told)
    found |= dict.fromkeys(worst_warnings(clocks))
    for p in [p for results in parts for p in results.points]:
        for condition in ("all", f"without:{p.cell}"):
            found |= dict.fromkeys(run.detection(p.step, condition, p.cell).warnings)
    for capture in captures:
        for node in capture.nodes:
            for key, what in (("clip_count", "clipped"), ("lost_before", "lost")):
                if count := int(node.chunks[key].sum()):
                    found[f"{node.name}: {count_text(count)} samples {what} in the '{capture.condition}' capture."] = (
                        None
                    )
    gains = [{node.name: node.settings.rx_gain_db for node in capture.nodes} for capture in captures]
    for name in gains[0] if len(gains) > 1 else ():
        if gains[0][name] != gains[1].get(name, gains[0][name]):
            found[f"{name}: the muted capture was taken at another receive gain; its noise variance does not hold."] = (
                None
            )
    return list(found)


def _nominal_false_alarms(run: CompRun, experiment: CompExperiment, results: Results) -> int:
    """H0 trials of the deciding statistic that reached the threshold of the experiment itself."""
    statistic, pfa = experiment.statistic, experiment.detection.pfa
    stored = [
        run.detection(step, f"without:{cell.name}", cell.name) for step in results.steps for cell in experiment.cells
    ]
    return sum(int(np.count_nonzero(getattr(s, statistic) >= Law.of(s, statistic).threshold(pfa))) for s in stored)
