"""Keys of the wire: CURVE key files, and the list of clients that a server lets in.

A folder holds the files of a server, of a client, or of both:

    server.key_secret   on the server's machine only
    server.key          on the client's machine: by it a client knows the server
    client.key_secret   on the client's machine only
    client.key          on the server's machine: every *.key but server.key is a client that is let in

The files are certificates as `zmq.auth` writes them. With keys every message is encrypted, the client knows that it
talks to its server, and the server that it talks to one of its clients.
"""

import stat
import struct
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.auth.certs import create_certificates, load_certificate
from zmq.utils import z85

from testbed.errors import ConfigError

PUBLIC, SECRET = ".key", ".key_secret"
ROLES = ("server", "client")
_MAKE = "`isac keys` makes such files"
_DOMAIN = b"isac"  # of the handler; not empty, so that a server whose handler is gone lets nobody in
_HANDLER = "inproc://zeromq.zap.01"  # where libzmq asks about a client, one per context (ZeroMQ RFC 27)


@dataclass(frozen=True)
class ServerKeys:
    """A server's secret, and the public keys of its clients."""

    secret: bytes = field(repr=False)
    clients: frozenset[bytes]

    def protect(self, socket: "zmq.Socket[bytes]") -> None:
        """Let only the known clients connect to `socket`, which is not bound yet and alone in its context.

        The thread that answers for the list ends with the context.
        """
        handler: zmq.Socket[bytes] = socket.context.socket(zmq.REP)
        handler.setsockopt(zmq.LINGER, 0)
        handler.bind(_HANDLER)
        threading.Thread(target=_answer_handshakes, args=(handler, self.clients), name="keys", daemon=True).start()
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)


@dataclass(frozen=True)
class ClientKeys:
    """A client's own keys, and the public key of its server."""

    public: bytes
    secret: bytes = field(repr=False)
    server: bytes

    def apply(self, socket: "zmq.Socket[bytes]") -> None:
        """Have `socket`, which is not connected yet, show its keys and demand the server's."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)


def make_keys(folder: Path, *, force: bool = False) -> list[Path]:
    """Write the four key files of a server and a client; returns their paths, secret before public.

    Raises:
        ConfigError: a file exists and `force` is not given, or the folder cannot be written.
    """
    _require_curve(folder)
    paths = [folder / f"{role}{suffix}" for role in ROLES for suffix in (SECRET, PUBLIC)]
    there = [path.name for path in paths if path.exists() or path.is_symlink()]
    if there and not force:
        raise ConfigError(
            f"{folder}: {', '.join(there)} exist; choose another folder, or pass --force to replace them: whoever has "
            f"the old ones is then locked out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".keys-", dir=folder) as hidden:  # mode 0700: no secret is ever seen
            for role in ROLES:
                create_certificates(hidden, role)
            for path in paths:
                made = Path(hidden) / path.name
                made.chmod(0o600 if path.suffix == SECRET else 0o644)
                made.replace(path)
    except OSError as exc:
        raise ConfigError(f"{folder}: keys cannot be written there ({exc.strerror}); choose another folder") from exc
    return paths


def load_server_keys(folder: Path) -> ServerKeys:
    """Read what a server needs: its secret, and every client's public key.

    Raises:
        ConfigError: a file is missing, is no key file, or its secret can be read by others.
    """
    _require_folder(folder)
    secret = _secret(folder / f"server{SECRET}")[1]
    files = [path for path in sorted(folder.glob(f"*{PUBLIC}")) if path.name != f"server{PUBLIC}"]
    if not files:
        raise ConfigError(
            f"{folder}: no client may connect; put the public key of each client there, e.g. client{PUBLIC}"
        )
    return ServerKeys(secret, frozenset(_certificate(path)[0] for path in files))


def load_client_keys(folder: Path) -> ClientKeys:
    """Read what a client needs: its own keys, and its server's public key.

    Raises:
        ConfigError: as for `load_server_keys`.
    """
    _require_folder(folder)
    public, secret = _secret(folder / f"client{SECRET}")
    return ClientKeys(public, secret, _certificate(folder / f"server{PUBLIC}")[0])


def _require_folder(folder: Path) -> None:
    _require_curve(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give one with keys ({_MAKE})")


def _require_curve(folder: Path) -> None:
    if not zmq.has("curve"):
        raise ConfigError(f"{folder}: this ZeroMQ library was built without CURVE; install pyzmq from PyPI")


def _secret(path: Path) -> tuple[bytes, bytes]:
    """Public and secret key of a secret file that nobody else can read."""
    public, secret = _certificate(path)
    if secret is None:
        raise ConfigError(f"{path}: holds no secret key; copy the file again ({_MAKE})")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(f"{path}: mode {mode:04o} lets others read a secret; run: chmod 600 {path.name}")
    if zmq.curve_public(secret) != public:
        raise ConfigError(f"{path}: its public and secret key do not belong together; copy the file again")
    return public, secret


def _certificate(path: Path) -> tuple[bytes, bytes | None]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; copy it there ({_MAKE})")
    try:
        public, secret = load_certificate(path)
        if any(len(z85.decode(key)) != 32 for key in (public, secret) if key is not None):
            raise ValueError("wrong length")
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror})") from exc
    except (ValueError, LookupError, struct.error) as exc:
        raise ConfigError(f"{path}: is no key file; copy it again ({_MAKE})") from exc
    return public, secret


def _answer_handshakes(handler: "zmq.Socket[bytes]", clients: frozenset[bytes]) -> None:
    """Say yes or no to libzmq about every client, until the context ends."""
    try:
        while True:
            _, request, _, _, _, mechanism, *credentials = handler.recv_multipart()
            known = mechanism == b"CURVE" and len(credentials) == 1 and z85.encode(credentials[0]) in clients
            status = [b"200", b"OK"] if known else [b"400", b"unknown client"]
            handler.send_multipart([b"1.0", request, *status, b"", b""])
    except zmq.ContextTerminated:
        pass
    finally:
        handler.close()
