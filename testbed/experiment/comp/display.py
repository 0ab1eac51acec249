"""What the command line shows of a budget, a run and its verdict."""

from typing import TYPE_CHECKING

from testbed.experiment.comp.budget import Budget
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.report.wording import verdict_sentence

if TYPE_CHECKING:  # results need HDF5, which `isac check` does without
    from collections.abc import Sequence

    from testbed.experiment.comp.gather import RunResults
    from testbed.experiment.comp.results import Point, Results


def print_budget(budget: Budget, model: CompExperiment) -> None:
    """The link budget as tables."""
    ratios = ", ".join(f"{ratio_db:.1f}" for ratio_db in budget.peak_to_average_db)
    bandwidths = ", ".join(f"{beta:.3f}" for beta in budget.rms_bandwidth)
    print(f"frame of {budget.frame_len} samples; peak-to-average {ratios} dB; rms bandwidth {bandwidths} cycles/sample")
    print(f"at {model.highest_equal_power_dbm:g} dBm per node, from the experiment's assumptions:")
    print("cell  node   noise dBm  noise LSB  self INR dB  direct INR dB  echo SNR dB  peak dBFS")
    for row in budget.cells:
        print(
            f"{row.cell:5} {row.node:6} {row.noise_dbm:9.1f}  {row.noise_lsb:9.2f}  {row.self_inr_db:11.1f}  "
            f"{_level(row.direct_inr_db):>13}  {row.echo_snr_db:11.1f}  {row.peak_dbfs:9.1f}"
        )
    print(f"\npredicted PoD at PFA {model.detection.pfa:g}, known noise:")
    print("power dBm  " + "  ".join(f"{p:6.2f}" for p in budget.powers_dbm))
    for row in budget.cells:
        print(f"{row.cell:9}  " + "  ".join(f"{p:6.3f}" for p in row.pod))
    if budget.users:
        print("\nusers, in free space (obstructed paths are weaker):")
        print("user  node   noise dBm  noise LSB  own SNR dB  others INR dB  peak dBFS")
        for user in budget.users:
            print(
                f"{user.user:5} {user.node:6} {user.noise_dbm:9.1f}  {user.noise_lsb:9.2f}  {user.own_snr_db:10.1f}  "
                f"{_level(user.others_inr_db):>13}  {user.peak_dbfs:9.1f}"
            )
    if model.loop is not None and model.allocation is not None and model.requirements is not None:
        starts = ", ".join(f"{row.cell} {row.loop_pod:.3f}" for row in budget.cells if row.loop_pod is not None)
        print(
            f"\nloop: at most {model.loop.num_rounds} rounds at {model.allocation.budget_dbm:g} dBm per node on "
            f"average, from equal powers (predicted PoD {starts});\nrequired: PoD {model.requirements.min_pod:g} of "
            f"every cell, {model.requirements.min_rate_bps_hz:g} bit/s/Hz of every user"
        )
    print(f"\n{budget.summary()}")
    for note in budget.notes:
        print(f"note: {note}")


def _level(value_db: float) -> str:
    return f"{value_db:.1f}" if value_db > float("-inf") else "-"


def print_outcome(results: "RunResults", model: CompExperiment) -> None:
    """Every verdict of a run, and what its last round delivered."""
    if results.axis is not None:
        print_verdict(results.axis)
    if results.final is None or not results.rounds:
        return
    last = results.rounds[-1]
    settled = ", settled," if last.settled else ""
    print(f"\nloop: the powers of round {last.index}{settled} {last.outcome}")
    if last.note:
        print(f"  {last.note}")
    print_verdict(results.final)


def print_verdict(results: "Results") -> None:
    """The verdict that counts in one sentence, and what it rests on."""
    verdict = results.verdict
    print(f"\nverdict: {verdict_sentence(results)}")
    print("  p-values: " + ", ".join(f"{k} {'-' if p is None else f'{p:.3g}'}" for k, p in verdict.p_values.items()))
    alarms = ", ".join(f"{a.counted} at {a.pfa:g} (expected {a.expected:.1f})" for a in verdict.false_alarms)
    print(f"  false alarms in {verdict.num_h0_trials} H0 trials: {alarms}")
    print(
        f"  {verdict.num_covered_points} of {verdict.num_points} points covered by their 95 % intervals "
        f"(expected {verdict.expected_covered_points:.1f})"
    )
    for note in verdict.notes:
        print(f"  note: {note}")


def point_lines(points: "Sequence[Point]", statistic: str, with_header: bool) -> tuple[str, ...]:
    """A finished power, a line per cell."""
    header = f"power dBm  cell  node   frames   PoD [95 % interval]       theory  ({statistic})"
    lines = [header] if with_header else []
    for p in points:
        theory = p.pod_measured if p.pod_truth is None else p.pod_truth
        lines.append(
            f"{p.power_dbm:9.2f}  {p.cell:5} {p.node:6} {p.num_frames:6d}   "
            f"{p.pod:.4f} [{p.pod_low:.4f}, {p.pod_high:.4f}]  {theory:.4f}"
        )
    return tuple(lines)
