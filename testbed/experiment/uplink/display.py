"""What the command line shows of the uplink."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from testbed.experiment.uplink.budget import UplinkBudget
from testbed.experiment.uplink.config import UplinkExperiment
from testbed.units import db

if TYPE_CHECKING:  # results need HDF5, which `isac check` does without
    from testbed.experiment.uplink.record import DetectorStatistics, LoopRound, RatesRow
    from testbed.experiment.uplink.results import DetectorResult, UplinkResults


def print_budget(budget: UplinkBudget, experiment: UplinkExperiment) -> None:
    """The link budget as tables."""
    design = experiment.waveform
    print(
        f"blocks of {design.frame_len} samples, one frame: {design.block_len} elements, {design.num_pilots} of them "
        f"pilots; {experiment.receiver.num_channels} channels"
    )
    print(
        f"at {budget.power_dbm:g} dBm per element: noise {budget.noise_dbm:.1f} dBm, {budget.noise_lsb:.2f} LSB rms "
        f"per rail; peak {budget.peak_dbfs:.1f} dBFS"
    )
    print("user  direct SNR dB (free space, at best)  echo SNR dB, per element and channel")
    for user in budget.users:
        print(f"{user.user:5} {user.direct_snr_db:13.1f}  {user.echo_snr_db:34.1f}")
    print(f"\n{budget.summary()}")
    for note in budget.notes:
        print(f"note: {note}")


def detector_lines(
    about: "DetectorStatistics", arrays: Mapping[str, Any], pfa: float, *, with_header: bool
) -> tuple[str, ...]:
    """One power of both detectors."""
    from testbed.experiment.uplink.results import judge_detector

    stored = {name: values for name, values in arrays.items()}
    lines = (
        ["power dBm  detector  PoD [95 % interval]      theory   alarms at 1e-2, 1e-3    erased"] if with_header else []
    )
    for kind in ("plain", "guarded"):
        p = judge_detector(kind, [(about, stored)], pfa, 0.05).points[0]
        alarms = ", ".join(f"{share:.4f}" for share in p.alarms.values())
        lines.append(
            f"{p.power_dbm:9.2f}  {kind:8}  {p.pod:.4f} [{p.pod_low:.4f}, {p.pod_high:.4f}]  {p.pod_theory:.4f}   "
            f"{alarms:20}    {p.erased:.4f}"
        )
    return tuple(lines)


def rates_lines(rows: "Sequence[RatesRow]", *, with_header: bool) -> tuple[str, ...]:
    """One power, seeds pooled."""
    from testbed.experiment.uplink.results import rates_point

    p = rates_point(rows)
    lines = []
    if with_header:
        lines.append(
            "power dBm  bound (8)  mrc     zf      optimal  bit/s/Hz   SINR - (40) dB  block errors  paper's alarms"
        )
    sums = "  ".join(f"{p.links[how].sum_rate.value:6.3f}" for how in ("mrc", "zf", "optimal"))
    alarms = ", ".join(f"{row['alarms']:.3f} at {row['pfa']:g} (model {row['model_alarms']:.3f})" for row in p.paper)
    lines.append(
        f"{p.power_dbm:9.2f}  {sum(p.bound):9.3f}  {sums}             {p.largest_difference_db:+8.3f}       "
        f"{max(p.block_error_rate):.4f}        {alarms}"
    )
    return tuple(lines)


def round_lines(made: "LoopRound") -> tuple[str, ...]:
    """One round."""
    from testbed.experiment.uplink.rating import pooled

    rate = pooled(made.rows, "optimal").sum_rate
    words = [
        f"round {made.index}: sum rate {rate.value:.3f} +- {rate.stderr:.3f} bit/s/Hz (optimal combiner), bound "
        f"{made.predicted_sum_rate:.3f}; pilots {_dbm(made.pilot_power)} dBm, data {_dbm(made.data_power)} dBm",
        f"         next ({made.status}): bound {made.next_sum_rate:.3f}; Algorithm 1 would reach "
        f"{made.alternating_sum_rate:.3f}",
    ]
    return (*words, f"         {made.note}") if made.note else tuple(words)


def print_outcome(results: "UplinkResults", experiment: UplinkExperiment) -> None:
    """Verdicts, each in a sentence."""
    for detector in results.detectors:
        print(f"\n{detector_sentence(detector)}")
    if results.rates:
        print(f"\n{rates_sentence(results)}")
        for text in paper_sentences(results):
            print(f"  {text}")
    if results.rounds:
        print(f"\n{loop_sentence(results)}")
    print(f"\nverdict: {'consistent' if results.consistent else 'NOT consistent'} with theory")


def detector_sentence(result: "DetectorResult") -> str:
    """The verdict of a detector."""
    verdict = result.verdict
    answer = "consistent" if verdict.consistent else "NOT consistent"
    p = ", ".join(f"{k} {'-' if v is None else f'{v:.3g}'}" for k, v in verdict.p_values.items())
    alarms = ", ".join(f"{a.counted} at {a.pfa:g} (expected {a.expected:.1f})" for a in verdict.false_alarms)
    return (
        f"{result.detector} detector: {answer} with theory (against {result.against}, level {verdict.level:g}); {p}; "
        f"false alarms in {verdict.num_h0_trials} blocks: {alarms}"
    )


def rates_sentence(results: "UplinkResults") -> str:
    """Rates, bounds, order."""
    worst = max(abs(p.largest_difference_db) for p in results.rates)
    above = "every user's rate lies above its bound" if all(p.above_bound for p in results.rates) else (
        "NOT every user's rate lies above its bound"
    )  # fmt: skip
    ordered = "mrc < zf < optimal" if all(p.ordered for p in results.rates) else "NOT ordered mrc < zf < optimal"
    return f"rates: measured SINRs within {worst:.2f} dB of (40); {above}; sum rates {ordered}"


def paper_sentences(results: "UplinkResults") -> list[str]:
    """The paper's detector: model and full chain, apart."""
    return [
        f"the paper's detector at {p.power_dbm:g} dBm, nominal {row['pfa']:g}: false alarms {row['alarms']:.3f} +- "
        f"{row['stderr']:.3f} measured, {row['model_alarms']:.3f} by the receiver's model (E2), "
        f"{row['alarms'] / row['pfa']:.0f} times nominal; PoD {row['model_pod']:.3f} promised, "
        f"{row['detections']:.3f} measured"
        for p in results.rates
        for row in p.paper
    ]


def loop_sentence(results: "UplinkResults") -> str:
    """What the loop gained."""
    first, last, rise = results.rounds[0], results.rounds[-1], results.rise
    text = f"loop: {first.sum_rate.value:.3f} +- {first.sum_rate.stderr:.3f} bit/s/Hz at equal powers"
    if rise is not None:
        times = rise.value / rise.stderr if rise.stderr > 0 else float("inf")
        text += f", {last.sum_rate.value:.3f} +- {last.sum_rate.stderr:.3f} in round {last.record.index}: " + (
            f"{rise.value:+.3f}, {times:.1f} standard errors"
        )
    stuck = first.record.alternating_sum_rate - first.record.predicted_sum_rate
    text += f"; Algorithm 1 from equal powers moves the bound by {stuck:+.4f}"
    if last.pod is not None and last.pod_theory is not None:
        text += f"; PoD {last.pod.value:.3f} +- {last.pod.stderr:.3f} measured, {last.pod_theory:.3f} in theory"
    return text


def _dbm(powers: Sequence[float]) -> str:
    return " ".join(f"{db(p):.2f}" if p > 0 else "off" for p in powers)
