"""Before an experiment on air: which radios are there, and what this host lacks."""

import json
from pathlib import Path
from typing import Annotated

import typer

from testbed.command import EXIT_FAILURE, fail
from testbed.verbs.options import JsonOption


def radios(
    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            help="Where else to look: HOST, ip:HOST:PORT, uhd:ARGUMENTS, or tcp://HOST:PORT of a server.", metavar="AT"
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="Folder of keys, for servers that ask for them.", metavar="DIR"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the radios that can be reached: Plutos on USB and at their usual addresses, USRPs, and whatever stands AT.

    Nothing is set on any of them. The name in front goes into the experiment: radio = "pluto:ip:192.168.2.1".

    Example: isac radios

    Example: isac radios 192.168.3.1 tcp://127.0.0.1:5555

    Example: isac radios tcp://192.168.1.20:5555 --keys keys
    """
    from testbed.radio.discovery import find_radios

    found, hint = find_radios(addresses or [], keys)
    if as_json:
        print(json.dumps({"radios": [row.to_dict() for row in found], "hint": hint}, indent=1))
    else:
        for row in found:
            print(row.line())
        if hint:
            print(hint)
        if not found:
            print("no radio found; connect one, or give its address: isac radios ADDRESS")
    if broken := [row.radio for row in found if row.problem]:
        fail(f"{', '.join(broken)}: cannot be used", EXIT_FAILURE)


def doctor(as_json: JsonOption = False) -> None:
    """Say what this host has and lacks, and how to get it. Changes nothing.

    Only the first part is needed without radios; what a radio needs may be missing where there is none.

    Example: isac doctor
    """
    from testbed.experiment.doctor import examine

    checks = examine()
    if as_json:
        print(json.dumps([check.to_dict() for check in checks], indent=1))
        return
    for check in checks:
        print(check.line())
