"""What the device configurations named by an experiment's radios replace in it.

A radio says `device = "pluto-rev-c"`. Then, for this radio:

* the assumptions of the link budget are the configuration's, in place of the [hardware] table; so is the noise figure,
  unless the radio gives its own;
* reference powers that the radio does not know of itself (a Pluto or USRP knows none) are the configuration's;
* the filter is the configuration's, unless the radio names one of its own;
* what the experiment asks for must lie within the configuration's limits, before a radio is opened;
* the board that is opened must be such a board: firmware, serial number, number of channels.

With `calibrated = true`, what `isac calibrate` found counts as well: noise figure and isolation in the link budget, and
steps of the transmitter in what is on the air. A calibration that no longer holds, or is of another board, is refused.

Antenna gain is of the place where the radio stands, and remains the radio's. An emulated one may name a device as well;
then its limits and powers are assumed, and the emulator reports its own.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from testbed.device import Settings, Steps
from testbed.errors import ConfigError
from testbed.experiment.config import Experiment
from testbed.experiment.tables import HardwareTable, NodeTable, RadioTable, Row
from testbed.radio.base import Described, Radio
from testbed.radio.devices.calibration import Calibration, load_calibration
from testbed.radio.devices.config import Device, PlutoConfig, UsrpConfig, load_device
from testbed.radio.resources import BOARDS, PLUTO, REPLAY, USRP
from testbed.radio.safety import GuardedRadio
from testbed.radio.usrp.device import merged_args
from testbed.radio.usrp.uhd_library import check_args


@dataclass(frozen=True)
class NodeDevice:
    """A radio's configuration, as far as the experiment is concerned."""

    device: Device
    hardware: HardwareTable
    fir: str  # for the driver
    calibration: Calibration | None = None  # which the experiment wants to count

    @property
    def tx_steps(self) -> Steps:
        """Departures of the transmitter's steps, as calibrated."""
        return () if self.calibration is None else self.calibration.tx_departures

    def provenance(self) -> dict[str, str]:
        """For captures: which configuration, the hash of what it said, and when it was calibrated."""
        found = {"name": self.device.name, "sha256": self.device.sha256}
        return found if self.calibration is None else found | {"calibrated": self.calibration.date}


def node_device(
    node: str,
    name_or_path: str,
    *,
    carrier_hz: float,
    sample_rate_hz: float,
    rx_gain_db: float | None = None,
    fir: str = "standard",
    channel: int = 0,
    radio: str = "emulator",
) -> NodeDevice:
    """The configuration of a node, checked against what the experiment asks of it.

    Args:
        node: its name, for messages.
        name_or_path: of the configuration.
        carrier_hz: of the experiment.
        sample_rate_hz: of the experiment.
        rx_gain_db: where the experiment fixes it.
        fir: as the node says it; 'standard' gives way to the configuration's.
        channel: of the board.
        radio: resource of the node.

    Raises:
        ConfigError: one line per fault.
    """
    try:
        device = load_device(name_or_path)
    except ConfigError as exc:
        raise ConfigError(f"{node}.device: {exc}") from None
    config, limits, faults = device.config, device.config.limits, []
    asked = [("carrier", "hz", carrier_hz), ("sample_rate", "hz", sample_rate_hz)]
    if rx_gain_db is not None:
        asked.append(("rx_gain", "db", rx_gain_db))
    for what, unit, value in asked:
        low, high = getattr(limits, f"{what}_min_{unit}"), getattr(limits, f"{what}_max_{unit}")
        if not low <= value <= high:
            faults.append(f"{what}_{unit}: {value:.10g} is outside {low:.10g}..{high:.10g} of {device.name}")
    if channel >= max(limits.num_tx, limits.num_rx):
        faults.append(f"channel {channel}: {device.name} has {max(limits.num_tx, limits.num_rx)}")
    for scheme, kind in ((PLUTO, PlutoConfig), (USRP, UsrpConfig)):
        if radio.startswith(scheme) and not isinstance(config, kind):
            faults.append(f"radio = '{radio}', and {device.name} is a {config.kind}")
    if isinstance(config, UsrpConfig):
        if radio.startswith(USRP):
            try:
                merged_args(config, check_args(radio.removeprefix(USRP)))
            except ConfigError as exc:
                faults.append(str(exc))
        clocks = config.usrp.master_clock_rate_hz / sample_rate_hz
        if abs(clocks - round(clocks)) > 1e-6:
            faults.append(
                f"sample_rate_hz: {sample_rate_hz:.10g} is no whole part of usrp.master_clock_rate_hz = "
                f"{config.usrp.master_clock_rate_hz:.10g} of {device.name}"
            )
    if faults:
        raise ConfigError(f"{node}.device: " + "; ".join(faults) + "; choose other values or another device")
    return NodeDevice(device, HardwareTable(**config.hardware()), device.fir if fir == "standard" else fir)


def node_devices(experiment: Experiment) -> dict[str, NodeDevice]:
    """Configurations of the radios that name one, by the radio's name, with the calibrations that are to count.

    Raises:
        ConfigError: a configuration does not go with the experiment, or a calibration is missing, stale or foreign.
    """
    found: dict[str, NodeDevice] = {}
    for row in experiment.receivers:
        if (known := _known(row, experiment)) is None:
            continue
        if row.calibrated:
            path = known.device.calibration_path
            if not path.is_file():
                raise ConfigError(
                    f"{row.name}.calibrated: {path} is not there; make it with `isac calibrate --node {row.name}`, or "
                    f"remove the line"
                )
            made = load_calibration(path)
            made.check(known.device, _tuning(experiment), fir=known.fir)
            known = replace(known, calibration=made)
        found[row.name] = known
    _check_board_mates(experiment, found)
    return found


def _check_board_mates(experiment: Experiment, devices: Mapping[str, NodeDevice]) -> None:
    """Radios on one board have one configuration."""
    first: dict[str, RadioTable] = {}
    for row in experiment.receivers:
        if not row.radio.startswith(BOARDS):
            continue
        other = first.setdefault(row.radio, row)
        mine, theirs = devices.get(row.name), devices.get(other.name)
        if (mine and mine.device.sha256) != (theirs and theirs.device.sha256):
            raise ConfigError(
                f"{row.name}.device: {row.device or 'none'}, and {other.name} on the same board has "
                f"{other.device or 'none'}; give both the same"
            )


def _known(row: RadioTable, experiment: Experiment) -> NodeDevice | None:
    if row.device is None or row.radio.startswith(REPLAY):  # whose captures tell what it was
        return None
    gain_db, numerology = experiment.rx_gain_db(row.name), experiment.waveform.numerology
    return node_device(
        row.name,
        row.device,
        carrier_hz=numerology.carrier_hz,
        sample_rate_hz=numerology.sample_rate_hz,
        rx_gain_db=None if gain_db == "auto" else float(gain_db),
        fir=row.fir,
        channel=row.channel,
        radio=row.radio,
    )


def _tuning(experiment: Experiment) -> Settings:
    numerology = experiment.waveform.numerology
    return Settings(numerology.carrier_hz, numerology.sample_rate_hz, 0.0, 0.0)


def with_devices(experiment: Experiment) -> Experiment:
    """The experiment with what its devices say of noise figure and isolation, where its own file leaves that open.

    Whether a calibration still holds is not asked here: whoever reads an old run, or calibrates anew, need not care.

    Raises:
        ConfigError: a configuration does not go with the experiment.
    """

    def filled(row: Row) -> Row:
        if (known := _known(row, experiment)) is None:
            return row
        found = {"noise_figure_db": known.device.config.power.noise_figure_db}
        if row.calibrated:
            with contextlib.suppress(ConfigError):
                made = load_calibration(known.device.calibration_path)
                found["noise_figure_db"] = made.noise_figure_db.value
                if isinstance(row, NodeTable):
                    found["self_isolation_db"] = made.isolation_db.value
        return row.model_copy(update={key: value for key, value in found.items() if key not in row.model_fields_set})

    nodes, users = tuple(map(filled, experiment.nodes)), tuple(map(filled, experiment.users))
    return experiment.model_copy(update={"nodes": nodes, "users": users})


def check_calibration(known: NodeDevice, radio: Radio, experiment: Experiment) -> None:
    """Refuse an opened radio that its calibration is not of.

    Raises:
        ConfigError: with the reason.
    """
    if known.calibration is not None:
        known.calibration.check(known.device, _tuning(experiment), radio.limits, serial_of(radio), fir=known.fir)


def serial_of(radio: Radio) -> str:
    """Serial number; one that tells none goes by the name of its node."""
    inner = radio.inner if isinstance(radio, GuardedRadio) else radio
    return (inner.attributes.get("hw_serial", "") if isinstance(inner, Described) else "") or f"node {radio.name}"


def device_copies(document: dict[str, Any], folder: str) -> dict[str, bytes]:
    """Copies of the devices that an experiment's plain data name, for its run, which then repeats where it lies.

    Each is whole, without what it extends, with its filter and its calibration, where there is one, in a folder of its
    radio, or of the first one on its board: two radios may name files of one name. The path of the copy takes the place
    of what the data say.

    Returns:
        Contents by path, relative to the run.

    Raises:
        ConfigError: one of them cannot be read.
    """
    copies: dict[str, bytes] = {}
    places: dict[tuple[str, str], str] = {}
    for row in (*document["nodes"], *document.get("users", ())):
        if row.get("device") is None or row["radio"].startswith(REPLAY):
            continue
        device = load_device(row["device"])
        # radios on one board have one configuration, and must show the same path of its filter
        on_board = row["radio"].startswith(BOARDS)
        place = places.setdefault((row["radio"] if on_board else row["name"], device.sha256), f"{folder}/{row['name']}")
        data = device.config.model_dump(mode="json", exclude_none=True)
        wanted: list[Path] = []
        if device.ftr is not None:
            data["fir"] = Path(device.fir).name
            wanted.append(Path(device.fir))
        if device.calibration_path.is_file():
            wanted.append(device.calibration_path)
        row["device"] = f"{place}/{device.name}.toml"
        copies[row["device"]] = tomli_w.dumps(data).encode()
        for path in wanted:
            try:
                copies[f"{place}/{path.name}"] = path.read_bytes()
            except OSError as exc:
                raise ConfigError(f"{row['name']}.device: {path}: cannot be read ({exc.strerror or exc})") from exc
    return copies
