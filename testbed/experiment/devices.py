"""What the device configurations named by an experiment's nodes replace in it.

A node says `device = "pluto-rev-c"`. Then, for this node:

* the assumptions of the link budget are the configuration's, in place of the [hardware] table;
* reference powers that the radio does not know of itself (a Pluto knows none) are the configuration's;
* the filter is the configuration's, unless the node names one of its own;
* what the experiment asks for must lie within the configuration's limits, before a radio is opened;
* the board that is opened must be such a board: firmware, serial number, number of channels.

Nothing else: antenna gain, noise figure and isolation are of the place where the radio stands, and remain the node's.
An emulated node may name a device as well; then its limits and powers are assumed, and the emulator reports its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from testbed.device import Limits
from testbed.errors import ConfigError, RadioUnavailable
from testbed.experiment.calibrate import Identity
from testbed.experiment.tables import HardwareTable
from testbed.radio.base import Radio
from testbed.radio.device_config import Device, PlutoConfig, UsrpConfig, load_device
from testbed.radio.device_tables import version
from testbed.radio.pluto import PlutoRadio
from testbed.radio.safety import GuardedRadio


@dataclass(frozen=True)
class NodeDevice:
    """A node's configuration, as far as the experiment is concerned."""

    device: Device
    hardware: HardwareTable
    fir: str  # for the driver

    def provenance(self) -> dict[str, str]:
        """For captures: which configuration, and the hash of what it said."""
        return {"name": self.device.name, "sha256": self.device.sha256}


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
    device = load_device(name_or_path)
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
    if radio.startswith("pluto:") and not isinstance(config, PlutoConfig):
        faults.append(f"radio = '{radio}', and {device.name} is a {config.kind}")
    if isinstance(config, UsrpConfig):
        clocks = config.usrp.master_clock_rate_hz / sample_rate_hz
        if abs(clocks - round(clocks)) > 1e-6:
            faults.append(
                f"sample_rate_hz: {sample_rate_hz:.10g} is no whole part of usrp.master_clock_rate_hz = "
                f"{config.usrp.master_clock_rate_hz:.10g} of {device.name}"
            )
    if faults:
        raise ConfigError(f"{node}.device: " + "; ".join(faults) + "; choose other values or another device")
    return NodeDevice(device, HardwareTable(**config.hardware()), device.fir if fir == "standard" else fir)


def identity(radio: Radio, fir: str = "standard") -> Identity:
    """Which radio it is; one that tells no serial number goes by the name of its node."""
    inner = radio.inner if isinstance(radio, GuardedRadio) else radio
    attributes = inner.attributes if isinstance(inner, PlutoRadio) else {}
    return Identity(attributes.get("hw_serial", "") or f"node {radio.name}", attributes.get("fw_version", ""), fir)


def check_board(node: NodeDevice, name: str, limits: Limits, attributes: Mapping[str, Any], num_channels: int) -> None:
    """Refuse a board that is not what its configuration says.

    Args:
        node: configuration of the node.
        name: of the node, for messages.
        limits: as the radio reports them.
        attributes: of its context: fw_version, hw_serial.
        num_channels: of the board.

    Raises:
        RadioUnavailable: one line with all that differs.
    """
    device = node.device
    config, faults = device.config, []
    firmware = str(attributes.get("fw_version", ""))
    found = re.match(r"v?\d+(\.\d+)+", firmware)
    if found and version(found[0]) < version(config.firmware.minimum):
        faults.append(f"firmware {firmware}, needs {config.firmware.minimum}")
    serial = str(attributes.get("hw_serial", ""))
    if config.serial is not None and serial != config.serial:
        faults.append(f"serial '{serial}', needs '{config.serial}'")
    wanted = max(config.limits.num_tx, config.limits.num_rx)
    if num_channels < wanted:
        faults.append(f"{num_channels} channels, needs {wanted}")
    for what, unit in (("carrier", "hz"), ("sample_rate", "hz")):
        low, high = getattr(limits, f"{what}_min_{unit}"), getattr(limits, f"{what}_max_{unit}")
        need_low = getattr(config.limits, f"{what}_min_{unit}")
        need_high = getattr(config.limits, f"{what}_max_{unit}")
        if low > need_low or high < need_high:
            faults.append(f"{what} {low:.10g}..{high:.10g}, needs {need_low:.10g}..{need_high:.10g}")
    if faults:
        raise RadioUnavailable(
            f"{name}: the board is not as {device.name} says: {'; '.join(faults)}; "
            f"`isac device commands {device.name}` prints what to set"
        )
