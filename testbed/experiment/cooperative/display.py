"""What the command line shows of a cooperative network."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from testbed.experiment.cooperative.budget import CooperativeBudget
from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.units import db

if TYPE_CHECKING:  # results need HDF5, which `isac check` does without
    from testbed.experiment.cooperative.record import CooperativeRound, SensingRow, UserRow
    from testbed.experiment.cooperative.results import CooperativeResults
    from testbed.measurement import Estimate


def print_budget(budget: CooperativeBudget, experiment: CooperativeExperiment) -> None:
    """The link budget as tables."""
    design = experiment.waveform
    print(
        f"frame of {design.frame_len} samples: {design.num_stations} slots of {design.slot_symbols} symbols, "
        f"{design.num_pilot_symbols} pilot symbols, {design.num_users} blocks of {design.block_symbols} for the users"
    )
    print(f"at {budget.power_dbm:g} dBm per node, in free space (obstructed paths are weaker):")
    print("node   noise dBm  noise LSB  self INR dB  direct INR dB  own echo SNR dB  peak dBFS")
    for row in budget.nodes:
        print(
            f"{row.node:6} {row.noise_dbm:9.1f}  {row.noise_lsb:9.2f}  {row.self_inr_db:11.1f}  "
            f"{row.direct_inr_db:13.1f}  {row.own_echo_snr_db:15.1f}  {row.peak_dbfs:9.1f}"
        )
    print("\nuser  node   noise dBm  noise LSB  own SNR dB  others INR dB  peak dBFS")
    for user in budget.users:
        print(
            f"{user.user:5} {user.node:6} {user.noise_dbm:9.1f}  {user.noise_lsb:9.2f}  {user.own_snr_db:10.1f}  "
            f"{user.others_inr_db:13.1f}  {user.peak_dbfs:9.1f}"
        )
    table = experiment.cooperative
    copies = "L R + e N" if table.count_copies else "R + e N"
    print(
        f"\nasked: {table.min_rate_bps_hz:g} bit/s/Hz of every user, {copies} <= C with C = {table.backhaul_bps_hz:g} "
        f"and e = {table.sensing_load_bps_hz:g} bit/s/Hz"
    )
    print(f"\n{budget.summary()}")
    for note in budget.notes:
        print(f"note: {note}")


def sensing_lines(row: "SensingRow", with_header: bool) -> tuple[str, ...]:
    """One share."""
    lines = []
    if with_header:
        lines.append("p^s     links  MSE m2 (direct)        bound m2  ratio   weighted, strong links   weighted, all")
    mse = row.all_nodes.direct
    lines.append(
        f"{row.share:<6g} {row.all_nodes.num_links:6d}  {mse.value:.5f} +- {mse.stderr:.5f}  "
        f"{row.all_nodes.bound_m2 or float('nan'):9.5f}  {mse.value / (row.all_nodes.bound_m2 or float('nan')):.3f}   "
        f"{_weighted(row.weighted, row.weighted_bound_m2, row.weighted_links):23}  "
        f"{_weighted(row.weighted_all, row.all_nodes.bound_m2, row.num_usable)}"
    )
    return tuple(lines)


def _weighted(mse: "Estimate | None", bound: float | None, links: int) -> str:
    if mse is None or not bound:
        return f"- ({links} links)"
    return f"{mse.value / bound:.2f} x bound ({links} links)"


def users_lines(rows: "Sequence[UserRow]", with_header: bool) -> tuple[str, ...]:
    """One cluster size, share and waveform."""
    lines = ["waveform       L   p^c    smallest rate  mean rate  SINR measured - predicted dB"] if with_header else []
    rates = [row.measured_rate.value for row in rows]
    differences = [db(row.measured_sinr.value / row.predicted_sinr) for row in rows if row.measured_sinr.value > 0]
    lines.append(
        f"{rows[0].waveform:13} {rows[0].cluster_size:2d}  {rows[0].share:5.3f}  {min(rates):13.3f}  "
        f"{sum(rates) / len(rates):9.3f}  {max(differences, key=abs, default=float('nan')):+.3f} at most"
    )
    return tuple(lines)


def round_lines(made: "CooperativeRound") -> tuple[str, ...]:
    """One round."""
    from testbed.experiment.cooperative.results import ratio

    dead = "" if made.dead is None else f", {made.dead} dead"
    rates = " ".join(f"{u.measured_rate.value:.2f}" for u in made.users)
    found = ratio(made.located)
    against = ""
    if made.predicted_bound_m2:
        against = f", {made.located.direct.value / made.predicted_bound_m2:.2f} of that predicted"
    sensing = ",".join(str(n) for n in made.sensing_nodes)
    bound = f"{found or float('nan'):.2f} of its bound{against}"
    first = (
        f"round {made.index}{dead}: L = {made.cluster_size}, p^c = {made.comm_share:.3f}, sensing {sensing}: "
        f"rates {rates} bit/s/Hz; MSE {made.located.direct.value:.4f} m2, {bound}"
    )
    if not made.feasible:
        return first, f"         {made.note}; powers and clusters are kept"
    plan = made.plan
    planned = ",".join(str(n) for n in plan["sensing_nodes"])
    share = plan["comm_power_share"] or float("nan")
    return first, f"         plan: L = {plan['comm_cluster_size']}, p^c = {share:.3f}, sensing {planned}"


def print_outcome(results: "CooperativeResults", experiment: CooperativeExperiment) -> None:
    """Verdicts, each in a sentence."""
    print()
    for text in sentences(results):
        print(text)
    print(f"\nverdict: {'consistent' if results.consistent else 'NOT consistent'} with theory")


def sentences(results: "CooperativeResults") -> list[str]:
    """What a run says."""
    said = []
    if results.sensing is not None:
        said += sensing_sentences(results)
    if results.users:
        good = "as" if results.users_consistent else "NOT as"
        said.append(
            f"users: SINRs {good} predicted, at most {results.largest_difference_db:.2f} dB off in {len(results.users)}"
        )
    if results.rounds:
        said.append(loop_sentence(results))
    return said


def sensing_sentences(results: "CooperativeResults") -> list[str]:
    """Location."""
    from testbed.experiment.cooperative.results import HIGH, LOW, ratio

    sensing = results.sensing
    assert sensing is not None, "the caller has looked"
    ratios = [ratio(f) or float("nan") for row in sensing.rows for f in (row.all_nodes, *row.planned, *row.dead)]
    said = [
        f"location: MSE over bound {min(ratios):.2f} to {max(ratios):.2f} for {len(ratios)} sets and shares, "
        f"{'all' if sensing.consistent else 'NOT all'} as the bound says ({LOW:g} to {HIGH:g}, and the slope)"
    ]
    if sensing.slope is not None:
        said.append(
            f"location: slope of ln MSE over ln p^s {sensing.slope:.3f} +- {sensing.slope_stderr:.3f}, -1 in theory"
        )
    if sensing.growth:
        said.append(
            "location: one node more, same frames: z "
            + ", ".join(f"{step.z:.1f} (N = {len(step.larger)})" for step in sensing.growth)
        )
    if sensing.against_nearest:
        said.append(
            "location: planner's nodes against the nearest, same frames: z "
            + ", ".join(f"{step.z:.1f} (N = {len(step.larger)})" for step in sensing.against_nearest)
        )
    if sensing.random_over_best is not None:
        said.append(
            f"location: mean MSE over all sets of four nodes {sensing.random_over_best:.2f} times the planner's"
        )
    weakest = min(sensing.rows, key=lambda row: row.share)
    if weakest.weighted_all is not None and weakest.all_nodes.bound_m2:
        said.append(
            f"location: at p^s = {weakest.share:g} ranges of all usable links give "
            f"{weakest.weighted_all.value / weakest.all_nodes.bound_m2:.1f} times the bound, for single links have "
            f"outliers there"
        )
    return said


def loop_sentence(results: "CooperativeResults") -> str:
    """Floor, prediction, settling."""
    from testbed.experiment.cooperative.results import meets

    good = "meet the floor and locate as predicted" if results.loop_consistent else "do NOT meet all"
    told = [f"loop: {len(results.planned_rounds)} planned rounds {good}"]
    for before, after in itertools.pairwise(results.rounds):
        if before.dead is None and after.dead is not None:
            kept = "met" if meets(after, results.min_rate_bps_hz) else "missed"
            told.append(f"{after.dead} dead: floor {kept} by the old plan")
    last = results.rounds[-1]
    if last.dead is not None:
        told.append(f"{'met' if meets(last, results.min_rate_bps_hz) else 'NOT met'} again one round later")
    return "; ".join(told)
