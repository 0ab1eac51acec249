"""Make the keys that a radio server needs where other machines can reach it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from testbed.verbs.options import JsonOption


def keys(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; made if need be.", metavar="DIR")] = Path(
        "keys"
    ),
    force: Annotated[
        bool, typer.Option("--force", help="Replace existing keys; the old ones open nothing then.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the keys of a radio server and of its client: CURVE key files, secrets readable by their owner only.

    Example: isac keys keys
    """
    from testbed.radio.keys import ROLES, make_keys

    paths = make_keys(folder, force=force)
    if as_json:
        secret, public = (dict(zip(ROLES, map(str, half), strict=True)) for half in (paths[::2], paths[1::2]))
        print(json.dumps({role: {"secret": secret[role], "public": public[role]} for role in ROLES}, indent=1))
        return
    server, server_public, client, client_public = (path.name for path in paths)
    print(f"wrote {len(paths)} files to {folder}")
    print(
        f"on the server: {server} and {client_public}; say keys = 'DIR' in the file of isac serve, or start "
        f"isac-sim emulate with --keys DIR"
    )
    print(f"on the client: {client} and {server_public}; say keys = 'DIR' beside radio = 'tcp://HOST:PORT'")
