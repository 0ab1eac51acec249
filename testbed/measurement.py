"""Measured quantities: value, standard error, count. Truth is of the same type, with zero standard error."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.documents import read_document, write_document


class Estimate(StrictModel):
    """A measured number; never a bare one. `stderr` is one standard deviation of `value`; 0 says exact."""

    value: float
    stderr: float = Field(ge=0)
    count: int = Field(ge=0)

    @classmethod
    def exact(cls, value: float) -> "Estimate":
        """A true value."""
        return cls(value=value, stderr=0.0, count=0)


class PathMeasurement(StrictModel):
    """One path of one transmitter-receiver pair, in the word order transmitter, receiver."""

    tx: str
    rx: str
    kind: Literal["self", "direct", "echo", "clutter"]
    via: str | None = None  # target or reflector
    delay_samples: Estimate  # after the first sample of the receiver's own frame, modulo the frame
    power_gain: Estimate | None = None  # linear
    phase_rad: Estimate | None = None  # only where all frames share one phase


class PowerResponse(StrictModel):
    """How the transmitters' powers add up at one receiver: for a cell under test, or for a user's data.

    With s_l = sqrt(P_l) the received power per observation is s^T gram s: exact also where frames are correlated. Its
    diagonal are the gains a solver works with, linear in the powers.
    """

    node: str  # receiver
    serving: str | None = None  # transmitter whose data it wants; none for a cell under test, where all are wanted
    num_observations: int = Field(ge=1)  # per frame; N of the detector, or data elements
    gain: dict[str, Estimate]  # per transmitter, effective power gain; floored at 0
    gram: tuple[tuple[float, ...], ...]  # shape (num_tx, num_tx), symmetric, its diagonal the gains
    floored: tuple[str, ...] = ()  # transmitters whose gain came out negative
    age_rounds: dict[str, int] = {}  # transmitters that were silent: how many measurements old their gain is

    @model_validator(mode="after")
    def _consistent(self) -> "PowerResponse":
        names = tuple(self.gain)
        if [len(row) for row in self.gram] != [len(names)] * len(names):
            raise ValueError(f"gram: must be {len(names)} x {len(names)}, a row for every gain")
        if any(gain.value < 0 for gain in self.gain.values()):
            raise ValueError("gain: must not be negative")
        if self.serving is not None and self.serving not in names:
            raise ValueError(f"serving: '{self.serving}' has no gain; gains are of {', '.join(names)}")
        return self


class ClockMeasurement(StrictModel):
    """How far a transmitter's clock is off a receiver's, and what was done about it."""

    tx: str
    rx: str
    cfo_hz: Estimate  # carrier of the transmitter less that of the receiver
    clock_ppm: Estimate  # sample clock, likewise
    left_hz: Estimate  # carrier offset that was left in the samples that were measured
    status: Literal["corrected", "ignored"]  # corrected: the capture was brought to the serving node's clock


class LinkMeasurement(StrictModel):
    """A user's link to its serving node, per used resource element of the data. SINRs are linear."""

    pilot_sinr: Estimate  # gains and noise of the pilot symbols
    data_sinr: Estimate  # data-aided error vector, channel from the pilots of other symbols
    decision_sinr: Estimate  # error vector against the nearest symbol: too high where symbols are mistaken
    symbol_error_rate: Estimate
    bit_error_rate: Estimate


class Measurement(StrictModel):
    """What is known of the network at one power vector."""

    origin: Literal["measured", "truth"]
    node_names: tuple[str, ...]  # transmitting nodes, the order of `power`
    power: tuple[float, ...]  # realised, milliwatt, linear
    max_power: tuple[float, ...] = ()  # largest the radios can realise with this frame, milliwatt
    noise_var: dict[str, Estimate]  # per receiver: E|w|^2 per complex sample, milliwatt; muted capture
    residual_noise_var: dict[str, Estimate] = {}  # per receiver: from the residual of the detector's fit
    noncentrality: dict[str, Estimate] = {}  # per cell under test: lam of 2T ~ ncx2(2r, lam)
    rank: dict[str, int] = {}  # per cell: r
    num_nuisance: dict[str, int] = {}  # per cell: Q
    paths: tuple[PathMeasurement, ...] = ()
    sensing: dict[str, PowerResponse] = {}  # per cell under test
    communication: dict[str, PowerResponse] = {}  # per user
    links: dict[str, LinkMeasurement] = {}  # per user
    clocks: tuple[ClockMeasurement, ...] = ()  # per transmitter that is heard and receiver

    @model_validator(mode="after")
    def _consistent(self) -> "Measurement":
        for key, values in (("power", self.power), ("max_power", self.max_power or self.power)):
            if len(values) != len(self.node_names) or min(values, default=0.0) < 0:
                raise ValueError(f"{key}: must be {len(self.node_names)} numbers >= 0, one per node")
        for key, table in (("sensing", self.sensing), ("communication", self.communication)):
            for name, response in table.items():
                if tuple(response.gain) != self.node_names:
                    raise ValueError(f"{key}.{name}.gain: must be of {', '.join(self.node_names)}, in this order")
                if response.node not in self.noise_var or self.noise_var[response.node].value <= 0:
                    raise ValueError(f"{key}.{name}: noise_var of {response.node} is missing or not positive")
                if key == "sensing" and name not in self.rank:
                    raise ValueError(f"rank: missing for {name}")
        return self


class MeasurementFile(StrictModel):
    """A list of measurements, one per power point."""

    experiment_sha256: str
    points: tuple[Measurement, ...]


class RangeIdentification(StrictModel):
    """Gains of a network that ranges, from K+1 captures: nobody on the air, then each of K nodes alone.

    All are per used resource element over the mean power in time of the node that was alone. Values are unbiased: where
    there is next to nothing to measure they may be negative, and whoever allocates power takes 0 for them.
    """

    node_names: tuple[str, ...]  # transmitting nodes, the order of `power`
    user_names: tuple[str, ...] = ()
    power: tuple[float, ...]  # at which each node was alone, mean over its frames, milliwatt
    noise_var: dict[str, Estimate]  # per receiver: E|w|^2 per complex sample and per element, milliwatt
    arrival: dict[str, dict[str, Estimate]]  # per receiver and transmitter: all that arrives; of a node, of the others
    echo: dict[str, Estimate]  # per node: its own echo of the target
    residual_self: dict[str, Estimate]  # per node: what its own transmission leaves after all that is known of it
    warnings: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "RangeIdentification":
        nodes, users = self.node_names, self.user_names
        if len(self.power) != len(nodes) or not min(self.power, default=0.0) > 0:
            raise ValueError(f"power: must be {len(nodes)} numbers > 0, one per node")
        for key in ("echo", "residual_self"):
            if set(getattr(self, key)) != set(nodes):
                raise ValueError(f"{key}: must be of {', '.join(nodes)}")
        for key in ("noise_var", "arrival"):
            if set(getattr(self, key)) != {*nodes, *users}:
                raise ValueError(f"{key}: must be of {', '.join((*nodes, *users))}")
        if any(estimate.value <= 0 for estimate in self.noise_var.values()):
            raise ValueError("noise_var: must be positive")
        for receiver, row in self.arrival.items():
            others = [name for name in nodes if name != receiver]
            if set(row) != set(others):
                raise ValueError(f"arrival.{receiver}: must be of {', '.join(others)}")
        return self


NOISE_BLOCK_SAMPLES = 1 << 20  # per channel; squares of a whole capture would take twice its memory


def save_measurements(path: Path, measurements: MeasurementFile) -> None:
    """Write as JSON; floats keep every bit. CaptureError in one line when the file cannot be written."""
    write_document(path, measurements.model_dump(mode="json"))


def load_measurements(path: Path) -> MeasurementFile:
    """Read what `save_measurements` wrote; CaptureError in one line otherwise."""
    return read_document(path, MeasurementFile, "a measurement file", "measure again")


def save_identification(path: Path, identification: RangeIdentification) -> None:
    """Write as JSON; floats keep every bit. CaptureError in one line when the file cannot be written."""
    write_document(path, identification.model_dump(mode="json"))


def load_identification(path: Path) -> RangeIdentification:
    """Read what `save_identification` wrote; CaptureError in one line otherwise."""
    return read_document(path, RangeIdentification, "an identification file", "measure again")


def noise_estimate(raw: NDArray[np.int16], lsb: float) -> Estimate:
    """E|w|^2 per complex sample in milliwatt from a muted capture.

    value = mean(I^2 + Q^2) lsb^2, with standard error value / sqrt(count): |w|^2 of a complex Gaussian is exponential.

    Args:
        raw: integers, shape (num_rx, n, 2).
        lsb: sqrt(milliwatt) of one raw count.

    Raises:
        ValueError: no samples.
    """
    count = raw.shape[0] * raw.shape[1]
    if count == 0:
        raise ValueError(f"raw: found shape {raw.shape}; must hold at least one sample")
    total = 0
    for at in range(0, raw.shape[1], NOISE_BLOCK_SAMPLES):
        # exact: 2^30, the largest square of an int16, fits in int32
        squares = np.square(raw[:, at : at + NOISE_BLOCK_SAMPLES], dtype=np.int32)
        total += int(np.sum(squares, dtype=np.int64))
    value = total / count * lsb**2
    return Estimate(value=value, stderr=value / np.sqrt(count), count=count)


def pool(estimates: list[Estimate]) -> Estimate:
    """Pool estimates of one quantity, weighted by their counts."""
    count = np.array([e.count for e in estimates], dtype=np.float64)
    weight = count / count.sum()
    value = float(np.dot(weight, [e.value for e in estimates]))
    stderr = float(np.sqrt(np.dot(weight**2, [e.stderr**2 for e in estimates])))
    return Estimate(value=value, stderr=stderr, count=int(count.sum()))
