"""From a capture with every target on to a Measurement: gains, effective gains, noise, noncentralities, links."""

from dataclasses import dataclass
from itertools import chain

import numpy as np

from testbed.capture import Capture
from testbed.errors import CaptureError
from testbed.measurement import ClockMeasurement, Estimate, Measurement, PathMeasurement, PowerResponse
from testbed.sensing.channel import fit_paths, path_measurements
from testbed.sensing.detect import Detection, SensingSetup, detect, sensing_setup
from testbed.sensing.frequency import clock_measurements, clock_warnings
from testbed.sensing.link import Link, measure_link
from testbed.sensing.model import cell_paths, nuisance_paths
from testbed.sensing.response import power_response
from testbed.theory.consistency import noncentrality_estimate

CONDITION = "all"


@dataclass(frozen=True)
class Measured:
    """A measurement, and what it was made from."""

    measurement: Measurement
    detections: tuple[Detection, ...]
    links: tuple[Link, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Of detections, links and clocks, each once."""
        said = (*(d.warnings for d in self.detections), *(link.warnings for link in self.links))
        said = (*said, clock_warnings(self.measurement.clocks))
        return tuple(dict.fromkeys(chain(*said)))


def measure(capture: Capture, previous: Measurement | None = None) -> Measured:
    """Measure the network.

    Args:
        capture: of condition 'all', with the noise variance of a muted capture in it.
        previous: of the round before; stands in for transmitters that are silent now.

    Raises:
        CaptureError: another condition, or a capture that lacks a node, a user or the noise.
        SyncError: no frame found.
    """
    if capture.condition != CONDITION:
        raise CaptureError(f"condition '{capture.condition}': measuring needs '{CONDITION}', every target on")
    if capture.frame is None:
        raise CaptureError("nothing was transmitted; there is nothing to measure")
    setup = sensing_setup(capture)
    found = [detect(capture, cell.name) for cell in setup.survey.cells]
    links = []
    for user in setup.survey.users:
        before = previous.communication.get(user.name) if previous else None
        links.append(measure_link(capture, user.name, before))
    sensing: dict[str, PowerResponse] = {}
    paths: list[PathMeasurement] = []
    clocks: list[ClockMeasurement] = []
    for detection in found:
        response, heard, ticks = _sensing(capture, setup, detection, previous)
        sensing[detection.cell] = response
        if detection.node not in {path.rx for path in paths}:  # several cells of one node share their paths
            paths += heard
            clocks += ticks
    noise = {node.name: node.noise_var for node in capture.nodes if node.noise_var is not None}
    residual = {d.node: d.residual_noise_var for d in found} | {k.user: k.residual_noise_var for k in links}
    measurement = Measurement(
        origin="measured",
        node_names=setup.survey.node_names,
        power=tuple(float(p) for p in capture.frame.power),
        max_power=_largest_powers(capture, setup),
        noise_var=noise,
        residual_noise_var=residual,
        noncentrality={d.cell: noncentrality(d) for d in found if d.known_noise is not None},
        rank={d.cell: d.rank for d in found},
        num_nuisance={d.cell: d.num_nuisance for d in found},
        paths=(*paths, *(path for link in links for path in link.paths)),
        sensing=sensing,
        communication={link.user: link.response for link in links},
        links={link.user: link.measurement for link in links},
        clocks=(*clocks, *(clock for link in links for clock in link.clocks)),
    )
    return Measured(measurement, tuple(found), tuple(links))


def _largest_powers(capture: Capture, setup: SensingSetup) -> tuple[float, ...]:
    """Per transmitter; its radio is in the capture, for it receives as well.

    A radio checks the wanted frame; the one on the air, whose peak is rounded, stands in only where the design is
    unknown.
    """
    frame = capture.frame
    assert frame is not None, "the caller has looked"
    if setup.waveform is not None:
        silent = (frame.pilot_power == 0) & (frame.data_power == 0)
        frame = setup.waveform.frame(np.where(silent, 1.0, frame.pilot_power), np.where(silent, 1.0, frame.data_power))
    ratios = zip(capture.tx_names, frame.peak_to_average, strict=True)
    return tuple(capture.node(name).limits.largest_power(float(ratio)) for name, ratio in ratios)


def noncentrality(detection: Detection) -> Estimate:
    """lam_hat of a capture from the known-noise statistic; may be negative."""
    assert detection.known_noise is not None, "the caller has looked"
    lam, stderr = noncentrality_estimate(detection.known_noise, detection.rank)
    return Estimate(value=float(lam), stderr=float(stderr), count=detection.num_frames)


def _sensing(
    capture: Capture, setup: SensingSetup, detection: Detection, previous: Measurement | None
) -> tuple[PowerResponse, tuple[PathMeasurement, ...], tuple[ClockMeasurement, ...]]:
    """The response of a cell, gains of all paths of its node, and the clocks the node hears."""
    assert capture.frame is not None, "the caller has looked"
    names, rate = setup.survey.node_names, setup.numerology.sample_rate_hz
    cell = next(c for c in setup.survey.cells if c.name == detection.cell)
    paths = (*cell_paths(setup.survey, cell, rate), *nuisance_paths(setup.survey, cell, rate))
    noise_var = None if detection.noise_var is None else detection.noise_var.value
    samples = capture.node(detection.node).samples[0]
    fit = fit_paths(samples, capture.frame.samples, paths, detection.sync, noise_var, detection.slopes)
    drive = np.sqrt(capture.frame.power)
    columns = np.divide(detection.X, drive, out=np.zeros_like(detection.X), where=drive > 0)
    response = power_response(
        fit,
        columns,
        detection.D,
        node=detection.node,
        serving=None,
        names=names,
        previous=previous.sensing.get(detection.cell) if previous else None,
    )
    frames = capture.frame.samples
    clocks = clock_measurements(
        samples, frames, fit, detection.sync, receiver=detection.node, names=names, sample_rate_hz=rate
    )
    return response, path_measurements(fit, detection.sync, detection.node, names), clocks
