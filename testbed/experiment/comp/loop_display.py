"""What the command line shows of measurements, allocations, rounds and comparisons."""

from typing import TYPE_CHECKING

import numpy as np

from testbed.units import db

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.allocation.base import Allocation
    from testbed.experiment.comp.compare import Comparison
    from testbed.experiment.comp.feedback import Feedback
    from testbed.experiment.comp.summary import RoundSummary
    from testbed.measurement import Estimate, Measurement


def print_measurement(measurement: "Measurement") -> None:
    """Effective gains, SINRs and noise of every receiver."""
    names = measurement.node_names
    powers = ", ".join(f"{name} {_dbm(p)}" for name, p in zip(names, measurement.power, strict=True))
    print(f"transmitted: {powers} dBm")
    print("\neffective gain in dB, with its standard error in percent")
    print("receiver          " + "  ".join(f"{'from ' + name:>16}" for name in names))
    rows = [(f"{cell} at {r.node}", r) for cell, r in measurement.sensing.items()]
    rows += [(f"{user} of {r.serving}", r) for user, r in measurement.communication.items()]
    for label, response in rows:
        print(f"{label:16}  " + "  ".join(f"{_gain(response.gain[name]):>16}" for name in names))
        for name, age in response.age_rounds.items():
            print(f"  from {name}: {age} rounds old, it is silent now")
        for name in response.floored:
            print(f"  from {name}: below its own error, taken as zero")
    if measurement.noncentrality:
        print("\ncell  node    lam                 SNR lam/2N dB")
        for cell, lam in measurement.noncentrality.items():
            response = measurement.sensing[cell]
            snr = lam.value / (2 * response.num_observations)
            print(f"{cell:5} {response.node:6}  {lam.value:8.2f} +- {lam.stderr:<6.2f}  {_db(snr)}")
    if measurement.links:
        print("\nuser  node    SINR dB (data-aided)  pilots  decision-directed  symbol errors  bit errors")
        for user, link in measurement.links.items():
            serving = measurement.communication[user].serving
            print(
                f"{user:5} {serving:6}  {_db(link.data_sinr.value)} +- {_db_error(link.data_sinr):.2f}        "
                f"{_db(link.pilot_sinr.value)}  {_db(link.decision_sinr.value):>17}  "
                f"{link.symbol_error_rate.value:13.2e}  {link.bit_error_rate.value:10.2e}"
            )
    print("\nnoise dBm: " + ", ".join(f"{name} {_dbm(e.value)}" for name, e in measurement.noise_var.items()))


def print_allocation(given: "Feedback", allocation: "Allocation") -> None:
    """Powers and how far every requirement is met, or why none can be."""
    from testbed.allocation.comp import row_margins_db
    from testbed.experiment.comp.feedback import in_words

    names = given.measurement.node_names
    powers = ", ".join(f"{name} {_dbm(p)}" for name, p in zip(names, allocation.power, strict=True))
    if allocation.status == "infeasible":
        print(f"infeasible: {in_words(given, allocation)}")
        print(f"closest: {powers} dBm")
    else:
        rate = f"{allocation.objective:.3f} bit/s/Hz" if np.isfinite(allocation.objective) else "none"
        print(f"{allocation.status}: {powers} dBm; sum rate {rate} after {max(len(allocation.history) - 1, 0)} rounds")
    labels = [f"rate of {user}" for user in given.users] + [f"PoD of {cell}" for cell in given.cells]
    margins = row_margins_db(given.problem, allocation.power)
    print("above what is required, margins included: " + ", ".join(
        f"{label} {margin:+.2f} dB" for label, margin in zip(labels, margins, strict=True)
    ))  # fmt: skip


def round_lines(row: "RoundSummary") -> "Iterable[str]":
    """A round as it is shown while the loop runs: a line of powers, one per target and user, and a note."""
    powers = ", ".join(f"{name} {p:.2f}" if p is not None else f"{name} off" for name, p in row.power_dbm.items())
    yield f"round {row.index}: {powers} dBm; sum rate {_with_error(row.sum_rate_bps_hz)} bit/s/Hz"
    for cell in row.cells:
        predicted = "" if cell.snr_predicted is None else f" (predicted {_db(cell.snr_predicted.value)})"
        yield (
            f"  {cell.cell:5} at {cell.node:6} PoD {cell.pod:.4f} [{cell.pod_low:.4f}, {cell.pod_high:.4f}]"
            f"{'' if cell.is_met else ' MISSED':7}  SNR {_db(cell.snr.value)} dB{predicted}"
        )
    for user in row.users:
        predicted = "" if user.sinr_predicted is None else f" (predicted {_db(user.sinr_predicted.value)})"
        yield (
            f"  {user.user:5} of {user.node:6} rate {_with_error(user.rate_bps_hz)} bit/s/Hz"
            f"{'' if user.is_met else ' MISSED':7}  SINR {_db(user.sinr.value)} dB{predicted}"
        )
    if row.note:
        yield f"  {row.note}"


def print_comparison(comparison: "Comparison") -> None:
    """Two runs side by side."""
    print(f"{'':28}{comparison.names[0]:>24}{comparison.names[1]:>24}   difference")
    for row in comparison.rows:
        print(f"{row.label:28}{row.shown[0]:>24}{row.shown[1]:>24}   {row.difference}")
    print(f"\n{comparison.sentence}")


def _gain(estimate: "Estimate") -> str:
    if estimate.value <= 0:
        return "below its error"
    return f"{db(estimate.value):.2f} ({100 * estimate.stderr / estimate.value:.1f} %)"


def _with_error(estimate: "Estimate") -> str:
    return f"{estimate.value:.3f} +- {estimate.stderr:.3f}"


def _db_error(estimate: "Estimate") -> float:
    return 10 / np.log(10) * estimate.stderr / estimate.value if estimate.value > 0 else float("inf")


def _db(ratio: float) -> str:
    return f"{db(ratio):6.2f}" if ratio > 0 else "  none"


def _dbm(power: float) -> str:
    return f"{db(power):.2f}" if power > 0 else "off"
