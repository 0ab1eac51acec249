"""What the command line shows of localisation."""

from typing import TYPE_CHECKING

from testbed.experiment.localization.budget import LocalizationBudget
from testbed.experiment.localization.config import LocalizationExperiment
from testbed.units import db

if TYPE_CHECKING:  # results need HDF5, which `isac check` does without
    from testbed.allocation.base import Allocation
    from testbed.experiment.localization.results import LocalizationResults
    from testbed.measurement import RangeIdentification
    from testbed.sensing.ranging import Ranging


def print_budget(budget: LocalizationBudget, experiment: LocalizationExperiment) -> None:
    """The link budget as tables."""
    print(f"frame of {budget.frame_len} samples, {experiment.waveform.num_data_frames} of different data")
    print(f"at {budget.power_dbm:g} dBm per base station, in free space (obstructed paths between them are weaker):")
    print("node   noise dBm  noise LSB  self INR dB  others INR dB  echo SNR dB  peak dBFS  range m  bound m")
    for row in budget.stations:
        print(
            f"{row.node:6} {row.noise_dbm:9.1f}  {row.noise_lsb:9.2f}  {row.self_inr_db:11.1f}  "
            f"{_level(row.direct_inr_db):>13}  {row.echo_snr_db:11.1f}  {row.peak_dbfs:9.1f}  {row.range_m:7.1f}  "
            f"{row.range_std_m:7.3f}"
        )
    if budget.users:
        print("\nuser  node   noise dBm  noise LSB  own SNR dB  others INR dB  peak dBFS")
        for user in budget.users:
            print(
                f"{user.user:5} {user.node:6} {user.noise_dbm:9.1f}  {user.noise_lsb:9.2f}  {user.own_snr_db:10.1f}  "
                f"{_level(user.others_inr_db):>13}  {user.peak_dbfs:9.1f}"
            )
    print(f"\n{budget.summary()}")
    for note in budget.notes:
        print(f"note: {note}")


def range_lines(powers: str, ranging: "Ranging") -> tuple[str, ...]:
    """What one base station found."""
    mean, std = ranging.mean_range_m, ranging.range_std_m
    return (
        f"{powers:8} {ranging.node:6} range {mean.value:8.3f} +- {mean.stderr:.3f} m   std {std.value:.3f} m   "
        f"bound {ranging.rms_crlb_m:.3f} m   SINR {_level(_db(ranging.sinr.value))} dB",
    )


def power_line(experiment: LocalizationExperiment, allocation: "Allocation") -> str:
    """The solver's powers."""
    powers = zip(experiment.node_names, allocation.power, strict=True)
    words = ", ".join(f"{name} {_level(_db(float(p)))} dBm" for name, p in powers)
    return (
        f"{experiment.localization.method}: {words}; smallest SINR {_db(allocation.objective):.2f} dB "
        f"({allocation.status})"
    )


def print_identification(identified: "RangeIdentification") -> None:
    """Gains and noise of every receiver, in dB."""
    names = identified.node_names
    print(
        "receiver  " + "  ".join(f"{'from ' + name:>10}" for name in names) + "    own echo  residual self  noise dBm"
    )
    for receiver in (*names, *identified.user_names):
        row = identified.arrival[receiver]
        arrivals = "  ".join(f"{_level(_db(row[name].value)) if name in row else '-':>10}" for name in names)
        echo, own = (
            _level(_db(table[receiver].value)) if receiver in table else "-"
            for table in (identified.echo, identified.residual_self)
        )
        noise = _db(identified.noise_var[receiver].value)
        print(f"{receiver:8}  {arrivals}  {echo:>10}  {own:>13}  {noise:9.2f}")


def print_outcome(results: "LocalizationResults", experiment: LocalizationExperiment) -> None:
    """Ranges, SINRs and positions as tables, then the verdict."""
    print(
        "\npowers   node   power dBm  std m [95 % interval]      bound m  rms/bound  p      SINR dB   predicted dB"
        "  (12)/bound"
    )
    for row in results.ranges:
        p = f"{row.p_value:.3f}" if row.is_judged else "-    "
        print(
            f"{row.powers:8} {row.node:6} {row.power_dbm:9.2f}  {row.std_m:.3f} [{row.std_low_m:.3f}, "
            f"{row.std_high_m:.3f}]       {row.bound_m:7.3f}  {row.ratio:9.3f}  {p}  {_db(row.sinr.value):7.2f}   "
            f"{_db(row.predicted.value):12.2f}  {row.curry_std_m / row.bound_m:10.1f}"
        )
    if results.users:
        print("\npowers   user   node   SINR dB   predicted dB   required dB")
        for user in results.users:
            required = (
                "-" if user.required is None else f"{db(user.required):.1f}" + ("" if user.is_met else " NOT met")
            )
            print(
                f"{user.powers:8} {user.user:6} {user.node:6} {_db(user.sinr.value):7.2f}   "
                f"{_db(user.predicted.value):12.2f}   {required:>11}"
            )
    for place in results.positions:
        print(
            f"\npositions, {place.powers} powers: rms error {place.rms_error_m:.3f} m, bound {place.bound_m:.3f} m, "
            f"normalised error squared {place.ratio:.3f} per coordinate (p {place.p_value:.3f}); ranges of one frame: "
            f"{place.same_slot_ratio:.3f}"
        )
    print(f"\n{gain_sentence(results)}")
    print(f"verdict: {verdict_sentence(results)}")
    for note in results.verdict.notes:
        print(f"  note: {note}")


def gain_sentence(results: "LocalizationResults") -> str:
    """What the allocation did to the worst range."""
    if len(results.worst) < 2:
        return f"no optimum was transmitted: {results.note}"
    equal, best = results.worst
    clear = "disjoint" if results.is_better else "overlapping"
    text = (
        f"worst range: {equal.std_m:.3f} m [{equal.low_m:.3f}, {equal.high_m:.3f}] at equal powers ({equal.node}), "
        f"{best.std_m:.3f} m [{best.low_m:.3f}, {best.high_m:.3f}] at the optimum ({best.node}): {clear} 95 % "
        f"intervals, ratio {best.std_m / equal.std_m:.2f}; mean {equal.mean_std_m:.3f} and {best.mean_std_m:.3f} m"
    )
    if equal.all_known_bound_m is not None and best.all_known_bound_m is not None:
        text += (
            f"; with every frame known the worst bound is {equal.all_known_bound_m:.3f} and "
            f"{best.all_known_bound_m:.3f} m"
        )
    return text


def verdict_sentence(results: "LocalizationResults") -> str:
    """The verdict in one sentence."""
    verdict = results.verdict
    answer = "consistent" if verdict.consistent else "NOT consistent"
    reasons = []
    for what, good, p, count in (
        ("ranges", verdict.ranges_consistent, verdict.smallest_range_p, verdict.num_range_tests),
        ("positions", verdict.positions_consistent, verdict.smallest_position_p, verdict.num_position_tests),
    ):
        if p is None:
            reasons.append(f"{what} not judged")
        else:
            said = "as their bounds say" if good else "NOT as their bounds say"
            reasons.append(f"{what} {said} (smallest p {p:.2g} of {count})")
    worst = max(abs(row.difference_db) for row in results.ranges)
    reasons.append(
        f"SINRs {'as' if verdict.predictions_agree else 'NOT as'} predicted (largest difference {worst:.2f} dB)"
    )
    against = "the truth" if verdict.against == "truth" else "the mean of all frames"
    return f"{answer} with theory, level {verdict.level:g} over all tests, against {against}: {'; '.join(reasons)}"


def _db(value: float) -> float:
    return db(value) if value > 0 else float("-inf")


def _level(value_db: float) -> str:
    return f"{value_db:.2f}" if value_db > float("-inf") else "-"
