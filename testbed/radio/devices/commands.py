"""What somebody has to do so that a board and its host are as the configuration says: lines to read and type.

Nothing here runs anything. A line that begins with '#' is for people, the others are for a shell: what comes from a
file is quoted there, and never ends a line.
"""

import json
import shlex
from collections.abc import Iterator

from testbed.radio.devices.config import Device, PlutoConfig, UsrpConfig
from testbed.radio.pluto.settings import STANDARD_FIR

FACTORY_ADDRESS = "192.168.2.1"


def commands(device: Device) -> list[str]:
    """All lines, in the order in which one would go through them."""
    config = device.config
    lines = [
        f"# {_printable(device.name)}: {config.title}",
        "# nothing below was run; it is for the owner of the board to decide",
    ]
    if isinstance(config, PlutoConfig):
        lines += _pluto(device, config)
    if isinstance(config, UsrpConfig):
        lines += _usrp(config)
    lines += _host(device)
    loop_db = config.min_loop_attenuation_db
    lines += [
        "",
        f"# a cable from transmitter to receiver needs at least {loop_db:g} dB: {config.max_output_dbm:g} dBm at most, "
        f"3 dB for peaks, the receiver stands {config.limits.max_input_dbm:g} dBm",
    ]
    return lines


def _printable(text: str) -> str:
    """For a line that is one line: names of files may hold anything."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _pluto(device: Device, config: PlutoConfig) -> Iterator[str]:
    uboot, firmware = config.uboot, config.firmware
    newer = "" if firmware.recommended is None else f", better {firmware.recommended}"
    address = shlex.quote(uboot.ipaddr or FACTORY_ADDRESS)
    yield ""
    yield f"# the board's firmware: {firmware.minimum} or newer{newer}; a newer one: copy pluto.frm to its drive, eject"
    yield f"iio_attr -u ip:{address} -C fw_version"
    settings = list(_variables(config))
    if settings:
        yield ""
        yield "# variables of its boot loader; this says what they are"
        names = dict.fromkeys(name for name, _ in settings)
        yield f"ssh root@{address} \"fw_printenv | grep -E '^({'|'.join(names)})='\""
        yield f"# and these, typed on the board (ssh root@{address}), make them what they must be"
        for name, value in settings:
            yield f"fw_setenv {name} {shlex.quote(value)}" if value else f"fw_setenv {name}"
        yield "reboot"
    if uboot.ipaddr is not None and uboot.ipaddr != FACTORY_ADDRESS:
        yield f"# the board is at {FACTORY_ADDRESS} until then, if it is as it left the factory"
    if device.fir != STANDARD_FIR:
        yield ""
        yield "# the filter is loaded by the driver, which a node says in its experiment"
        yield f"# fir = {json.dumps(device.fir)}"


def _variables(config: PlutoConfig) -> Iterator[tuple[str, str]]:
    """Name and value, in the order to set them in; an empty value takes a variable away."""
    uboot = config.uboot
    if uboot.compatible is not None:
        # firmware before v0.32 reads the first two, what came after the third: set alike, either is content
        yield "attr_name", "compatible"
        yield "attr_val", uboot.compatible
        yield "compatible", uboot.compatible
    if uboot.maxcpus is not None:
        yield "maxcpus", "" if uboot.maxcpus == "unset" else uboot.maxcpus
    for name in ("mode", "refclk_source", "xo_correction", "hostname", "ipaddr", "ipaddr_host"):
        if (value := getattr(uboot, name)) is not None:
            yield name, str(value)


def _usrp(config: UsrpConfig) -> Iterator[str]:
    usrp, firmware = config.usrp, config.firmware
    newer = "" if firmware.recommended is None else f", better {firmware.recommended}"
    yield ""
    yield f"# UHD on the host: {firmware.minimum} or newer{newer}"
    yield "uhd_config_info --version"
    yield "# its images for the device, and what the device says of itself"
    yield "uhd_images_downloader"
    yield f"uhd_usrp_probe --args {shlex.quote(config.device_args())}"
    if firmware.image is not None and usrp.addr is None:
        yield f"# its image is {firmware.image}; UHD gives one to a device on USB whenever it opens it"
    elif firmware.image is not None:
        yield f"# another image than {firmware.image} is on it: this writes that one, then switch it off and on"
        arguments = f"type={usrp.type},addr={usrp.addr},fpga={firmware.image}"
        yield f"uhd_image_loader --args {shlex.quote(arguments)}"
    if "external" in (usrp.clock_source, usrp.time_source):
        yield "# 10 MHz at REF IN" + (", a pulse per second at PPS IN" if usrp.time_source == "external" else "")


def _host(device: Device) -> Iterator[str]:
    host = device.config.host
    buffers = {"rmem_max": host.rmem_max_bytes, "wmem_max": host.wmem_max_bytes}
    if any(buffers.values()):
        yield ""
        yield "# buffers of the host's sockets: what they are, and what they must be at least"
        yield "sysctl " + " ".join(f"net.core.{name}" for name, size in buffers.items() if size)
        yield from (f"sudo sysctl -w net.core.{name}={size}" for name, size in buffers.items() if size)
    if host.mtu is not None:
        yield "# large frames on the interface that leads to the device, in place of IFACE"
        yield f"sudo ip link set dev IFACE mtu {host.mtu}"
    if host.real_time:
        yield ""
        yield "# real-time priority for members of the group usrp; log in again after it"
        yield "echo '@usrp - rtprio 99' | sudo tee /etc/security/limits.d/uhd.conf"
