"""Keys: beyond loopback nobody is served without them, and whoever has the wrong ones is told so at once."""

import json
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from sim.emulator import Emulator
from sim.scene import load_scene
from testbed.errors import ConfigError, RadioUnavailable
from testbed.experiment.load import load_experiment
from testbed.experiment.session import open_session
from testbed.radio.keys import load_client_keys, load_server_keys, make_keys
from testbed.radio.remote import RemoteRadio, WireClient
from tests.emulator import SETTINGS, emulator_process, environment

FILES = ["client.key", "client.key_secret", "server.key", "server.key_secret"]


def isac(*arguments: str | Path, module: str = "testbed") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab") / "keys"
    make_keys(folder)
    return folder


@pytest.fixture
def keys(made: Path, tmp_path: Path) -> Path:
    """A copy of a folder of keys, to be spoilt."""
    return Path(shutil.copytree(made, tmp_path / "keys"))


def parts_of(keys: Path, folder: Path, *names: str) -> Path:
    """What one machine gets of a folder of keys."""
    folder.mkdir()
    for name in names:
        shutil.copy(keys / name, folder)
    return folder


# Making them


def test_keys_are_made_with_secrets_for_their_owner_only(tmp_path: Path) -> None:
    done = isac("keys", tmp_path / "a" / "keys")
    assert (done.returncode, done.stderr) == (0, "")
    assert "on the server: server.key_secret and client.key" in done.stdout
    # true for both servers: one has a file, the other an option
    assert "keys = 'DIR' in the file of isac serve, or start isac-sim emulate with --keys DIR" in done.stdout
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a" / "keys").iterdir()}
    assert modes == dict(zip(FILES, (0o644, 0o600) * 2, strict=True))
    assert load_server_keys(tmp_path / "a" / "keys").clients == {load_client_keys(tmp_path / "a" / "keys").public}


def test_the_files_are_named_as_json_on_request(tmp_path: Path) -> None:
    done = isac("keys", tmp_path / "keys", "--json")
    named = [path for pair in json.loads(done.stdout).values() for path in pair.values()]
    assert sorted(named) == [str(tmp_path / "keys" / name) for name in FILES]
    assert json.loads(done.stdout)["client"]["secret"] == str(tmp_path / "keys" / "client.key_secret")


def test_existing_keys_are_replaced_only_by_force(keys: Path) -> None:
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    (keys / "server.key").unlink()
    done = isac("keys", keys)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {keys}: server.key_secret, client.key_secret, client.key exist; ")
    assert "--force" in line
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == {
        name: content for name, content in before.items() if name != "server.key"
    }
    assert isac("keys", keys, "--force").returncode == 0
    after = {path.name: path.read_bytes() for path in keys.iterdir()}
    assert sorted(after) == FILES
    assert all(after[name] != before[name] for name in FILES)


def test_a_link_in_place_of_a_secret_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "server.key_secret").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"server\.key_secret exist"):
        make_keys(tmp_path / "keys")
    make_keys(tmp_path / "keys", force=True)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = isac("keys", tmp_path / "file" / "keys")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path}/file/keys: keys cannot be written there (Not a directory); choose another folder\n"
    )


def test_help_has_an_example_and_loads_no_zmq() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['isac', 'keys', '--help']\n"
        "from testbed.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as exc:\n    assert not exc.code\n"
        "heavy = {'zmq', 'numpy', 'scipy', 'h5py', 'matplotlib', 'cvxpy', 'numba'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=environment()
    )
    assert "Example: isac keys" in done.stdout
    assert done.stdout.strip().endswith("HEAVY []")


# Reading them


def spoil_mode(keys: Path) -> None:
    (keys / "server.key_secret").chmod(0o640)


def spoil_pair(keys: Path) -> None:
    text = (keys / "server.key_secret").read_text().splitlines(keepends=True)
    (line,) = [line for line in (keys / "client.key").read_text().splitlines(keepends=True) if "public-key" in line]
    text[next(i for i, line in enumerate(text) if "public-key" in line)] = line
    (keys / "server.key_secret").write_text("".join(text))


SPOILT = {
    "no folder": (lambda keys: shutil.rmtree(keys), "no such folder; give one with keys"),
    "no secret": (lambda keys: (keys / "server.key_secret").unlink(), "server.key_secret: no such file"),
    "readable by others": (spoil_mode, "mode 0640 lets others read a secret; run: chmod 600 server.key_secret"),
    "public only": (
        lambda keys: (keys / "server.key_secret").write_bytes((keys / "server.key").read_bytes()),
        "server.key_secret: holds no secret key",
    ),
    "not a pair": (spoil_pair, "do not belong together"),
    "no client": (lambda keys: (keys / "client.key").unlink(), "no client may connect"),
    "empty": (lambda keys: (keys / "client.key").write_bytes(b""), "client.key: is no key file"),
    "no equals sign": (lambda keys: (keys / "client.key").write_bytes(b"public-key"), "client.key: is no key file"),
    "not 40 characters": (lambda keys: (keys / "client.key").write_bytes(b"public-key = x"), "is no key file"),
    "not Z85": (lambda keys: (keys / "client.key").write_bytes(b"public-key = " + b"~" * 40), "is no key file"),
    "too large for Z85": (lambda keys: (keys / "client.key").write_bytes(b"public-key=" + b"#" * 40), "is no key file"),
    "random": (lambda keys: (keys / "client.key").write_bytes(bytes(range(256)) * 40), "is no key file"),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_keys_that_cannot_be_used_are_refused_in_one_line_with_the_file(keys: Path, spoil, words: str) -> None:
    spoil(keys)
    with pytest.raises(ConfigError) as caught:
        load_server_keys(keys)
    assert str(caught.value).startswith(str(keys))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_side_needs_its_own_two_files(keys: Path, tmp_path: Path) -> None:
    server = parts_of(keys, tmp_path / "server", "server.key_secret", "client.key")
    client = parts_of(keys, tmp_path / "client", "client.key_secret", "server.key")
    assert load_server_keys(server) == load_server_keys(keys)
    assert load_client_keys(client) == load_client_keys(keys)
    with pytest.raises(ConfigError, match=r"client\.key_secret: no such file"):
        load_client_keys(server)
    with pytest.raises(ConfigError, match=r"server\.key_secret: no such file"):
        load_server_keys(client)


def test_secrets_are_not_shown(keys: Path) -> None:
    for loaded in (load_server_keys(keys), load_client_keys(keys)):
        assert loaded.secret.decode() not in repr(loaded)


# Where a server may listen


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:0", "tcp://*:0"])
def test_beyond_loopback_a_server_needs_keys(endpoint: str) -> None:
    done = isac("emulate", "comp", "--endpoint", endpoint, module="sim")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: endpoint '{endpoint}': only loopback addresses may be bound without keys; use tcp://127.0.0.1:PORT, "
        "or give keys (`isac keys` makes them)\n"
    )


def test_faulty_keys_start_no_server(tmp_path: Path) -> None:
    done = isac("emulate", "comp", "--keys", tmp_path, module="sim")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/server.key_secret: no such file")


@pytest.mark.emulated
def test_with_keys_a_server_listens_on_all_addresses_and_serves_its_client(made: Path) -> None:
    with emulator_process("comp", "--endpoint", "tcp://0.0.0.0:0", "--keys", str(made)) as (_, bound):
        assert bound.startswith("tcp://0.0.0.0:")
        radio = RemoteRadio(bound.replace("0.0.0.0", "127.0.0.1"), "bs1", keys=load_client_keys(made))
        radio.configure(SETTINGS)
        assert radio.receive(1000).num_samples == 1000
        radio.close()


# Who is let in


@pytest.fixture(scope="module")
def keyed(made: Path) -> Iterator[str]:
    with emulator_process("comp", "--keys", str(made)) as (_, endpoint):
        yield endpoint


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    with emulator_process() as (_, endpoint):
        yield endpoint


def refusal(endpoint: str, keys: Path | None) -> str:
    """The line that a client gets, long before its timeout."""
    began = time.monotonic()
    with pytest.raises(RadioUnavailable) as caught:
        RemoteRadio(endpoint, "bs1", 30.0, None if keys is None else load_client_keys(keys))
    assert time.monotonic() - began < 5
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{endpoint}: ")
    return str(caught.value)


@pytest.mark.emulated
def test_a_client_without_keys_is_told_that_they_are_asked_for(keyed: str) -> None:
    assert "if it asks for them, give the folder with server.key and client.key_secret" in refusal(keyed, None)


@pytest.mark.emulated
def test_a_client_with_keys_is_told_that_the_server_has_none(plain: str, made: Path) -> None:
    assert "if it was given none, connect without" in refusal(plain, made)


@pytest.mark.emulated
def test_a_server_with_keys_is_listed_by_who_has_them(keyed: str, made: Path, tmp_path: Path) -> None:
    without = isac("radios", keyed)
    assert without.returncode == 1
    assert "--keys DIR" in without.stdout
    listed = isac("radios", keyed, "--keys", made)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert f"{keyed}: " in listed.stdout and "nodes bs1, bs2, bs3" in listed.stdout
    assert "client.key_secret: no such file" in isac("radios", keyed, "--keys", tmp_path).stderr
    assert "only servers have keys" in isac("radios", "--keys", made).stderr


@pytest.mark.emulated
def test_a_client_that_is_not_on_the_list_is_told_so(keyed: str, made: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "mine")
    shutil.copy(made / "server.key", tmp_path / "mine")
    assert "does not know this client's key; copy its client.key" in refusal(keyed, tmp_path / "mine")


@pytest.mark.emulated
def test_a_client_that_knows_another_server_is_told_to_copy_the_key(keyed: str, made: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "other")
    folder = parts_of(made, tmp_path / "mine", "client.key_secret")
    shutil.copy(tmp_path / "other" / "server.key", folder)
    assert "the server hung up on these keys; copy its server.key again" in refusal(keyed, folder)


@pytest.mark.emulated
def test_a_refused_client_stays_refused_with_the_same_words(keyed: str) -> None:
    client = WireClient(keyed, 5.0)
    said = []
    for _ in range(3):
        with pytest.raises(RadioUnavailable) as caught:
            client.request({"op": "status"})
        said.append(str(caught.value))
    client.close()
    assert len(set(said)) == 1


@pytest.mark.emulated
def test_refused_clients_do_not_disturb_those_inside(keyed: str, made: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "mine")
    shutil.copy(made / "server.key", tmp_path / "mine")
    inside = WireClient(keyed, 10.0, load_client_keys(made))
    for keys in (None, tmp_path / "mine"):
        refusal(keyed, keys)
        assert inside.request({"op": "status"})["ok"] == "status"
    inside.close()


@pytest.mark.emulated
def test_every_public_key_in_the_servers_folder_is_a_client(keys: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "second")
    shutil.copy(keys / "server.key", tmp_path / "second")
    shutil.copy(tmp_path / "second" / "client.key", keys / "second.key")
    with emulator_process("comp", "--keys", str(keys)) as (_, endpoint):
        for folder in (keys, tmp_path / "second"):
            client = WireClient(endpoint, 10.0, load_client_keys(folder))
            assert client.request({"op": "status"})["ok"] == "status"
            client.close()


def test_the_servers_own_key_opens_nothing(made: Path) -> None:
    assert load_server_keys(made).clients == {load_client_keys(made).public}
    assert load_client_keys(made).server not in load_server_keys(made).clients


def test_a_server_whose_list_has_gone_lets_nobody_in(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.radio.keys._answer_handshakes", lambda handler, clients: handler.close())
    emulator = Emulator(load_scene("comp"), "tcp://127.0.0.1:0", load_server_keys(made))
    for thread in threading.enumerate():
        if thread.name == "keys":
            thread.join(5)
    try:
        assert "the server hung up on these keys" in refusal(emulator.endpoint, made)
    finally:
        emulator.close()


@pytest.mark.emulated
def test_two_servers_with_keys_in_one_process_have_lists_of_their_own(made: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "second")
    first = Emulator(load_scene("comp"), "tcp://127.0.0.1:0", load_server_keys(made))
    second = Emulator(load_scene("comp"), "tcp://127.0.0.1:0", load_server_keys(tmp_path / "second"))
    try:
        for emulator, folder in ((first, made), (second, tmp_path / "second")):
            client = WireClient(emulator.endpoint, 10.0, load_client_keys(folder))
            seq = client.send({"op": "status"})
            emulator._answer_one()
            assert client.collect(seq)[0]["ok"] == "status"
            client.close()
    finally:
        first.close()
        second.close()


@pytest.mark.emulated
def test_an_experiment_names_the_keys_of_its_radios(made: Path, tmp_path: Path) -> None:
    data = load_experiment("solo").model_dump(mode="json", exclude_none=True)
    del data["emulator"]
    shutil.copytree(made, tmp_path / "lab" / "keys")
    with emulator_process("solo", "--keys", str(made)) as (_, endpoint):
        for row in (*data["nodes"], *data.get("users", ())):
            row |= {"radio": endpoint, "keys": "keys"}
        (tmp_path / "lab" / "e.toml").write_text(tomli_w.dumps(data))
        experiment = load_experiment(str(tmp_path / "lab" / "e.toml"))
        with open_session(experiment, tmp_path / "log", lambda question: False) as session:
            assert session.info["emulator_seed"] is not None
            assert session.radios[0].receive(100).num_samples == 100
        (tmp_path / "lab" / "keys" / "client.key_secret").unlink()
        with (
            pytest.raises(ConfigError, match=r"keys/client\.key_secret: no such file"),
            open_session(experiment, tmp_path / "log", lambda question: False),
        ):
            pass
