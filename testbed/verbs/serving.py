"""Lend the radios of this machine to experiments elsewhere."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from testbed.verbs.options import TransmitOption


def serve(
    file: Annotated[Path, typer.Argument(help="Which radios, where, and to whom.", metavar="RADIO.toml")],
    endpoint: Annotated[
        str | None, typer.Option(help="Where to listen, instead of the file's; port 0 is free.")
    ] = None,
    transmit: TransmitOption = False,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="End when standard input closes.")
    ] = False,
) -> None:
    """Serve radios of this machine behind the wire, each to one client at a time, until interrupted.

    An experiment names them as radio = "tcp://HOST:PORT". What a client left on the air that is lost, or not heard of
    for a while, is muted.

    Example: isac serve lab.toml --endpoint tcp://127.0.0.1:5556
    """
    from testbed.config import validate
    from testbed.radio.serving.file import ServedFile, load_served
    from testbed.radio.serving.server import RadioServer

    served = load_served(file)
    data = served.model_dump(mode="json")
    if endpoint is not None:
        data["endpoint"] = endpoint
    if transmit:
        data["safety"]["transmit"] = True
    with contextlib.closing(RadioServer(validate(data, ServedFile, str(file)))) as server:
        # the first line is read by whoever started this process
        print("\n".join([f"listening on {server.endpoint}", *server.lines()]), flush=True)
        server.serve(until_stdin_closes)
