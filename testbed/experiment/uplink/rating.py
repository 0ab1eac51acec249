"""Rates, error rates and the paper's detector on captures in which direct channels and echoes are redrawn."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.beamforming import combiners
from testbed.capture import Capture
from testbed.experiment.uplink.config import UplinkExperiment
from testbed.experiment.uplink.detecting import steering
from testbed.experiment.uplink.record import CombinerRates, PaperCounts, RatesRow
from testbed.measurement import Estimate
from testbed.sensing.uplink_blocks import uplink_blocks
from testbed.sensing.uplink_channel import pilot_estimates, pilot_outputs
from testbed.sensing.uplink_decoding import decode_users
from testbed.sensing.uplink_link import user_links
from testbed.sensing.uplink_paper_detector import paper_test
from testbed.sensing.uplink_statistics import direct_gains
from testbed.theory.uplink import UplinkStatistics
from testbed.theory.uplink_mismatch import alarm_probability, block_gains
from testbed.theory.uplink_rates import bound, rate

COMBININGS = ("mrc", "zf", "optimal")
PAPER_PFA = (1e-2, 1e-3)


def rate_capture(
    experiment: UplinkExperiment,
    power_dbm: float,
    seed: int,
    noise_var: Estimate,
    echo_gain: Sequence[float],
    full: Capture,
    empty: Capture | None = None,
) -> RatesRow:
    """What one capture says of the users, and with an empty one beside it, of the paper's detector.

    Args:
        experiment: with the waveform of the capture.
        power_dbm: nominal, for the table.
        seed: of the data.
        noise_var: per element, from a muted capture.
        echo_gain: eta of every user; too small beside the direct path to be told from it where both fade.
        full: the target on.
        empty: the target off.
    """
    blocks = uplink_blocks(full, experiment.receiver.name)
    eta = tuple(Estimate.exact(float(gain)) for gain in echo_gain)
    beta = direct_gains(*pilot_outputs(blocks), noise_var, eta)
    statistics = statistics_of(experiment, [gain.value for gain in beta], echo_gain, noise_var.value)
    estimates = pilot_estimates(blocks, statistics)
    p, Z = blocks.data_power, estimates.disturbance(blocks.data_power)
    links = {how: user_links(blocks, estimates, combiners(estimates.channels, Z, p, how)) for how in COMBININGS}
    decoded = decode_users(blocks, links["optimal"])
    design = experiment.waveform
    limit = bound(statistics, blocks.frame.pilot_power, blocks.frame.data_power).sinr
    wrong = ~decoded.right
    paper: tuple[PaperCounts, ...] = ()
    if empty is not None:
        quiet = uplink_blocks(empty, experiment.receiver.name, timing=blocks.timing)
        # a receiver does not know that there is no target: its covariances are the same
        alarms = paper_test(quiet, pilot_estimates(quiet, statistics))
        found = paper_test(blocks, estimates)
        pp, pd = blocks.frame.pilot_power, blocks.frame.data_power
        absent = block_gains(statistics, pp, pd, target=False)
        paper = tuple(
            PaperCounts(
                pfa=pfa,
                alarms=_share(alarms.detected(pfa)),
                detections=_share(found.detected(pfa)),
                model_alarms=alarm_probability(absent, pd, design.num_data, pfa),
                model_pod=found.model_pod(pfa),
            )
            for pfa in PAPER_PFA
        )
    return RatesRow(
        power_dbm=power_dbm,
        seed=seed,
        pilot_power=tuple(float(x) for x in blocks.frame.pilot_power),
        data_power=tuple(float(x) for x in blocks.frame.data_power),
        direct_gain=beta,
        noise_var=noise_var.value,
        links={
            how: CombinerRates(
                sinr=link.sinr, formula=link.formula_sinr, rate=link.rate_bps_hz, sum_rate=link.sum_rate_bps_hz
            )
            for how, link in links.items()
        },
        bound=tuple(float(x) for x in rate(limit, design.num_pilots, design.block_len)),
        bit_error_rate=decoded.bit_error_rate,
        block_error_rate=decoded.block_error_rate,
        erased=_share(wrong),
        paper=paper,
    )


def statistics_of(
    experiment: UplinkExperiment, direct_gain: Sequence[float], echo_gain: Sequence[float], noise_var: float
) -> UplinkStatistics:
    """Channels' covariances: direct paths alike and independent at all channels, echoes from the cell's direction."""
    a, M = steering(experiment), experiment.receiver.num_channels
    beta, eta = (np.maximum(np.asarray(gain, dtype=np.float64), 0.0) for gain in (direct_gain, echo_gain))
    eye = np.eye(M, dtype=np.complex128)
    return UplinkStatistics(
        direct_cov=beta[:, None, None] * eye,
        echo_cov=eta[:, None, None] * np.outer(a, a.conj()),
        noise_var=noise_var,
        pilot_len=experiment.waveform.num_pilots,
    )


def pooled(rows: Sequence[RatesRow], how: str) -> CombinerRates:
    """Several seeds together: SINRs by their harmonic mean, rates by their mean."""
    links = [row.links[how] for row in rows]
    users = range(len(links[0].sinr))
    return CombinerRates(
        sinr=tuple(_harmonic([link.sinr[k] for link in links]) for k in users),
        formula=tuple(_harmonic([link.formula[k] for link in links]) for k in users),
        rate=tuple(_mean([link.rate[k] for link in links]) for k in users),
        sum_rate=_mean([link.sum_rate for link in links]),
    )


def _harmonic(estimates: Sequence[Estimate]) -> Estimate:
    if any(e.value <= 0 for e in estimates):
        return Estimate(value=0.0, stderr=0.0, count=sum(e.count for e in estimates))
    inverse = _mean(
        [Estimate(value=1 / e.value, stderr=e.stderr / e.value**2, count=e.count) for e in estimates],
    )
    return Estimate(value=1 / inverse.value, stderr=inverse.stderr / inverse.value**2, count=inverse.count)


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    n = len(estimates)
    return Estimate(
        value=float(np.mean([e.value for e in estimates])),
        stderr=float(np.sqrt(sum(e.stderr**2 for e in estimates))) / n,
        count=sum(e.count for e in estimates),
    )


def _share(hits: NDArray[np.bool_]) -> Estimate:
    value, n = float(np.mean(hits)), hits.size
    return Estimate(value=value, stderr=float(np.sqrt(value * (1 - value) / n)), count=n)
