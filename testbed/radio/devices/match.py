"""Whether the board that was opened is the one that its configuration describes, and what of it may be used."""

import re
from collections.abc import Mapping
from dataclasses import replace

from testbed.device import Limits
from testbed.errors import RadioUnavailable
from testbed.radio.devices.config import Device
from testbed.radio.devices.tables import version


def check_board(device: Device, name: str, limits: Limits, attributes: Mapping[str, str], num_channels: int) -> None:
    """Refuse a board that is not what its configuration says.

    Args:
        device: its configuration.
        name: of the node that it serves, for messages.
        limits: as the radio reports them.
        attributes: what it says of itself: fw_version (of a USRP, of UHD), hw_serial.
        num_channels: of the board.

    Raises:
        RadioUnavailable: one line with all that differs.
    """
    config, faults = device.config, []
    if (kind := attributes.get("kind", config.kind)) != config.kind:
        raise RadioUnavailable(
            f"{name}: is a {kind}, and the device {device.name} a {config.kind}; name its own device"
        )
    firmware = attributes.get("fw_version", "")
    found = re.match(r"v?\d+(\.\d+)+", firmware)
    if found and version(found[0]) < version(config.firmware.minimum):
        faults.append(f"firmware {firmware}, needs {config.firmware.minimum}")
    serial = attributes.get("hw_serial", "")
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


def narrowed(limits: Limits, device: Device) -> Limits:
    """Limits of a board, and no more than its configuration allows. It may always be quieter."""
    table = device.config.limits
    return replace(
        limits,
        carrier_min_hz=max(limits.carrier_min_hz, table.carrier_min_hz),
        carrier_max_hz=min(limits.carrier_max_hz, table.carrier_max_hz),
        sample_rate_min_hz=max(limits.sample_rate_min_hz, table.sample_rate_min_hz),
        sample_rate_max_hz=min(limits.sample_rate_max_hz, table.sample_rate_max_hz),
        tx_gain_max_db=max(min(limits.tx_gain_max_db, table.tx_gain_max_db), limits.tx_gain_min_db),
        rx_gain_min_db=max(limits.rx_gain_min_db, table.rx_gain_min_db),
        rx_gain_max_db=min(limits.rx_gain_max_db, table.rx_gain_max_db),
    )
