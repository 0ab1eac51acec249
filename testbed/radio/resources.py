"""Radios by the resource that a file names: pluto:..., uhd:..., tcp://HOST:PORT, replay:PATH."""

from dataclasses import dataclass
from pathlib import Path

from testbed.device import Steps
from testbed.errors import ConfigError, RadioUnavailable
from testbed.radio.base import Described, Radio
from testbed.radio.devices.config import Device
from testbed.radio.devices.match import check_board
from testbed.radio.pluto.libiio import check_uri
from testbed.radio.usrp.uhd_library import check_args

PLUTO, USRP, WIRE, REPLAY = "pluto:", "uhd:", "tcp://", "replay:"
BOARDS = (PLUTO, USRP)  # have channels
FORMS = "tcp://HOST:PORT, pluto:ip:HOST, pluto:usb:, uhd:[ARGUMENTS] or replay:PATH"


@dataclass(frozen=True)
class Options:
    """How to open a radio, as far as its kind knows these."""

    channel: int = 0  # of a Pluto or USRP
    device: Device | None = None  # its configuration, which a USRP cannot do without
    fir: str = "standard"  # filter of a Pluto
    transmits: bool = True  # false: a Pluto that only receives
    timeout_s: float = 10.0  # of one answer
    keys: str | None = None  # folder of keys for a server
    tx_full_scale_dbm: float | None = None  # calibration of a Pluto, which knows none
    rx_full_scale_dbm: float | None = None
    tx_steps: Steps = ()  # calibration of any, see Limits


def check_resource(resource: str, others: str = "") -> None:
    """ConfigError unless a resource is one of FORMS; `others` are further forms, for the message."""
    if resource.startswith(PLUTO):
        check_uri(resource.removeprefix(PLUTO))
    elif resource.startswith(USRP):
        check_args(resource.removeprefix(USRP))
    elif not resource.startswith(WIRE) and not (resource.startswith(REPLAY) and resource != REPLAY):
        raise ConfigError(f"found '{resource}'; must be {others}{FORMS}")


def open_resource(resource: str, node: str, options: Options) -> Radio:
    """Open a radio that serves a node.

    Raises:
        ConfigError: no such resource, keys that cannot be used, or a board without such a channel.
        RadioUnavailable: it is not there, or not as its device's configuration says.
        RadioError: it does not answer.
        CaptureError: a replay's captures cannot be read.
    """
    check_resource(resource)
    try:
        radio = _opened(resource, node, options)
    except RadioUnavailable as exc:
        if str(exc).startswith("USRP: "):  # of the library, which knows of no node
            raise RadioUnavailable(f"{node}: {exc}") from exc
        raise
    if options.device is not None and isinstance(radio, Described) and radio.num_channels:
        try:
            check_board(options.device, node, radio.limits, radio.attributes, radio.num_channels)
            radio.narrow(options.device)
        except RadioUnavailable:
            radio.close()
            raise
    return radio


def _opened(resource: str, node: str, options: Options) -> Radio:
    # imported here: a Pluto needs no ZMQ, a served radio no HDF5
    if resource.startswith(REPLAY):
        from testbed.radio.replay import ReplayRadio

        return ReplayRadio(Path(resource.removeprefix(REPLAY)), node)
    if resource.startswith(PLUTO):
        from testbed.radio.pluto.radio import PlutoRadio

        scales = {
            name: value
            for name, value in (
                ("tx_full_scale_dbm", options.tx_full_scale_dbm),
                ("rx_full_scale_dbm", options.rx_full_scale_dbm),
            )
            if value is not None
        }
        return PlutoRadio(
            resource,
            node,
            options.channel,
            transmits=options.transmits,
            timeout_s=options.timeout_s,
            fir=options.fir,
            tx_steps=options.tx_steps,
            **scales,
        )
    if resource.startswith(USRP):
        from testbed.radio.usrp.radio import UsrpRadio

        if options.device is None:
            raise ConfigError(f"{node}: device: missing; a USRP needs its configuration, see `isac device check`")
        return UsrpRadio(
            resource,
            node,
            options.channel,
            device=options.device,
            transmits=options.transmits,
            timeout_s=options.timeout_s,
            tx_steps=options.tx_steps,
        )
    from testbed.radio.keys import load_client_keys
    from testbed.radio.remote import RemoteRadio

    keys = None if options.keys is None else load_client_keys(Path(options.keys))
    return RemoteRadio(resource, node, options.timeout_s, keys, options.tx_steps)


def conditions_endpoint(radio: Radio, resource: str) -> str | None:
    """Who switches the targets that a simulated radio hears; None for a replay, which does so itself.

    Raises:
        ConfigError: a virtual board that does not say.
    """
    if resource.startswith(REPLAY):
        return None
    if resource.startswith(PLUTO):
        endpoint = getattr(radio, "conditions", "")
        if not endpoint:
            raise ConfigError(f"{radio.name}: the virtual board at {resource} does not say who sets its conditions")
        return str(endpoint)
    return resource
