"""`isac-sim`: the simulated world's command line."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.command import new_app, run_app
from testbed.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress

    from sim.scene import Scene

MAX_SEED = (1 << 64) - 1  # of Scene.seed, which model_copy does not check
MAX_DRAWS = 100_000  # all rates of all draws are kept, 1 kB per draw and scheme
MAX_TRIALS = 200_000

IsolationOption = Annotated[
    float | None, typer.Option(help="From transmit to receive port of every node, instead of the scene's.")
]

app = new_app("isac-sim", "The simulated world: channel emulator and ground truth for ISAC Testbed.")


@app.callback()
def _root() -> None:
    """Keep subcommand names even while there are few."""


@app.command()
def emulate(
    scene: Annotated[str, typer.Argument(help="Scene file, or the name of a packaged scene.")],
    endpoint: Annotated[str, typer.Option(help="Where to listen; port 0 takes a free one.")] = "tcp://127.0.0.1:0",
    keys: Annotated[
        Path | None,
        typer.Option(help="Folder with server.key_secret and the clients' *.key; needed unless on loopback."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of the noise, instead of the scene's.")
    ] = None,
    self_isolation_db: IsolationOption = None,
    direct_fading: Annotated[
        str | None, typer.Option(help="run: direct paths keep their gains; block: redrawn; instead of the scene's.")
    ] = None,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="End when standard input closes.")
    ] = False,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Samples leave at the speed of the wall clock; overruns are counted.")
    ] = False,
    raw_rx: Annotated[
        list[str] | None,
        typer.Option(help="NODE[:CHANNEL]=ENDPOINT: give what a node hears as raw complex64; listens, loopback only."),
    ] = None,
    raw_tx: Annotated[
        list[str] | None,
        typer.Option(help="NODE=ENDPOINT: send from a node the raw complex64 of the program that listens there."),
    ] = None,
    raw_pattern: Annotated[
        str, typer.Option(help="ZMQ sockets of raw ports: reqrep (GNU Radio, srsRAN) or pushpull (GNU Radio, faster).")
    ] = "reqrep",
    raw_sample_rate_hz: Annotated[float | None, typer.Option(help="Sample rate of all raw ports.")] = None,
    raw_carrier_hz: Annotated[float | None, typer.Option(help="Carrier of all raw ports.")] = None,
    raw_tx_gain_db: Annotated[float, typer.Option(help="Transmit gain of all raw ports.")] = 0.0,
    raw_rx_gain_db: Annotated[float, typer.Option(help="Receive gain of all raw ports.")] = 0.0,
) -> None:
    """Emulate a scene's radios and its air behind the ZMQ wire, until interrupted.

    Example: isac-sim emulate comp --endpoint tcp://127.0.0.1:5555

    Example: isac-sim emulate comp --endpoint tcp://0.0.0.0:5555 --keys keys

    Example, GNU Radio or srsRAN as the radio of solo: isac-sim emulate solo --raw-tx radio1=tcp://127.0.0.1:5000
    --raw-rx radio1=tcp://127.0.0.1:5001 --raw-sample-rate-hz 20e6 --raw-carrier-hz 2.45e9
    """
    from sim.channel import warm_up
    from sim.emulator import Emulator
    from sim.raw_ports import open_raw_ports, parse_port
    from sim.scene import with_direct_fading, with_seed
    from testbed.radio.keys import load_server_keys

    world = _scene(scene, self_isolation_db)
    if direct_fading is not None:
        world = with_direct_fading(world, direct_fading)
    if seed is not None:
        world = with_seed(world, seed)
    raw_ports = [parse_port(text, "rx") for text in raw_rx or []] + [parse_port(text, "tx") for text in raw_tx or []]
    warm_up()  # the very first time compiling takes seconds, for which no client should wait
    with contextlib.ExitStack() as stack:
        emulator = Emulator(world, endpoint, None if keys is None else load_server_keys(keys), realtime)
        stack.callback(emulator.close)
        # the first line is read by whoever started this process
        lines = [f"listening on {emulator.endpoint}"]
        if raw_ports:
            raw = open_raw_ports(
                world,
                raw_ports,
                raw_pattern,
                raw_sample_rate_hz,
                raw_carrier_hz,
                raw_tx_gain_db,
                raw_rx_gain_db,
                realtime,
            )
            stack.enter_context(raw)
            raw.start()
            lines += raw.lines()
        print("\n".join(lines), flush=True)
        emulator.serve(until_stdin_closes)


@app.command()
def pluto(
    scene: Annotated[str, typer.Argument(help="Scene file, or the name of a packaged scene.")],
    board: Annotated[
        list[str] | None,
        typer.Option(help="NODE,NODE: nodes that share a board, on its channels 0 and 1. May be repeated."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65000, help="Port of the first board; 0 takes free ones.")] = 0,
    control: Annotated[str, typer.Option(help="Where conditions are set, with the wire.")] = "tcp://127.0.0.1:0",
    model: Annotated[
        str | None, typer.Option(help="ad9363a (a stock Pluto), ad9364 or ad9361; two channels make it an ad9361.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of the noise, instead of the scene's.")
    ] = None,
    self_isolation_db: IsolationOption = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Samples pass as fast as the sample rate says; who is late loses some.")
    ] = False,
    stale_buffers: Annotated[
        bool, typer.Option("--stale-buffers", help="After a change, kernel buffers of before are read first.")
    ] = False,
    random_start: Annotated[bool, typer.Option("--random-start", help="Streams start anywhere.")] = False,
    clip_dbfs: Annotated[float | None, typer.Option(max=0.0, help="Receivers clip so far below full scale.")] = None,
    underflow_every: Annotated[
        int, typer.Option(min=0, help="Samples between short silences of all transmitters; 0: none.")
    ] = 0,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="End when standard input closes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print where everything listens as JSON.")] = False,
) -> None:
    """Serve a scene's nodes as ADALM-Plutos for libiio, pyadi-iio and GNU Radio, until interrupted. Loopback only.

    Example: isac-sim pluto comp --board bs1,u1 --board bs2,u2 --board bs3,u3

    Example, then iio_info -u ip:127.0.0.1:30431: isac-sim pluto solo --port 30431
    """
    from sim.channel import warm_up
    from sim.pluto_server import PlutoServer, open_boards
    from sim.scene import with_seed
    from sim.virtual_pluto import Nuisances

    world = _scene(scene, self_isolation_db)
    if seed is not None:
        world = with_seed(world, seed)
    nuisances = Nuisances(stale_buffers, random_start, clip_dbfs, underflow_every)
    warm_up()
    with contextlib.ExitStack() as stack:
        boards, conditions = open_boards(world, board or [], control, model, nuisances, realtime)
        stack.callback(conditions.close)
        server = PlutoServer(boards, port)
        stack.callback(server.close)
        server.start()
        listed = [{"nodes": list(one.nodes), "uri": uri} for one, uri in zip(boards, server.uris, strict=True)]
        # the first line is read by whoever started this process
        lines = [f"listening on {conditions.endpoint}", *(f"{','.join(row['nodes'])} {row['uri']}" for row in listed)]
        as_one = json.dumps({"control": conditions.endpoint, "boards": listed})
        print(as_one if as_json else "\n".join(lines), flush=True)
        conditions.serve(until_stdin_closes)


@app.command()
def truth(
    scene: Annotated[str, typer.Argument(help="Scene file, or the name of a packaged scene.")],
    experiment: Annotated[str, typer.Argument(help="Experiment file, or the name of a preset.")],
    out: Annotated[Path, typer.Option(help="Where to write it.")] = Path("truth.json"),
    rx_gain_db: Annotated[
        list[str] | None, typer.Option(help="NODE=GAIN, realised; needed where the experiment says auto.")
    ] = None,
    power_mw: Annotated[
        list[str] | None,
        typer.Option(help="A,B,... milliwatt per node, wanted, 0 is silent; instead of the axis. May be repeated."),
    ] = None,
    self_isolation_db: IsolationOption = None,
    paths_only: Annotated[
        bool, typer.Option("--paths-only", help="Delays, gains, phases and noise only: transmitters may be noisy.")
    ] = False,
) -> None:
    """Write the exact noncentrality, delays, gains and noise of an experiment in a scene.

    Example: isac-sim truth comp comp --power-mw 0.3,0.2,0.4 --out truth.json

    Example: isac-sim truth localization experiment.toml --paths-only --self-isolation-db 55
    """
    from sim.truth import write_path_truth, write_truth

    world, gains = _scene(scene, self_isolation_db), dict(_gain(item) for item in rx_gain_db or [])
    if paths_only and power_mw:
        raise ConfigError("--power-mw: paths and noise are the same at all powers; leave it out with --paths-only")
    if paths_only:
        write_path_truth(out, world, experiment, gains)
    else:
        write_truth(out, world, experiment, gains, [_power(item) for item in power_mw] if power_mw else None)
    print(f"wrote {out}")


@app.command()
def figure(
    name: Annotated[
        str,
        typer.Argument(
            help="The paper: comp (figures 2a, 2b and 2c of the CoMP letter), localization (figures 3, 4 and 5), "
            "uplink (figures 3 to 9) or cooperative (figures 2 to 5)."
        ),
    ],
    draws: Annotated[
        int | None,
        typer.Option(help=f"Draws, 2 to {MAX_DRAWS}; comp 10000, localization 500, uplink 10, cooperative 100000."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of channels, symbols and noise.")] = 0,
    trials: Annotated[
        int | None, typer.Option(help=f"comp, uplink: detection trials per point, 2 to {MAX_TRIALS}; 10000, 20000.")
    ] = None,
    reading: Annotated[
        str | None, typer.Option(help="comp: S1 (one selected draw), M or Z (two ways to average draws), or all.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="comp: solver of the ensemble, newton, or ppa, the letter's own, 300 times slower."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the files; figures/NAME.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers and verdicts as JSON.")] = False,
) -> None:
    """Simulate a paper's figures, judge its claims, and write pictures, numbers and verdicts. About a minute.

    Example: isac-sim figure comp --draws 2000 --out figures/comp
    """
    _check_range("seed", seed, 0, MAX_SEED)
    if draws is not None:
        _check_range("draws", draws, 2, MAX_DRAWS)
    if name == "comp":
        from sim.figures import comp as paper

        compute = _comp_figures(draws or 10_000, trials, seed, reading, method)
    elif name == "localization":
        from sim.figures import localization as paper  # type: ignore[no-redef]

        compute = _localization_figures(draws or 500, seed, {"trials": trials, "reading": reading, "method": method})
    elif name == "uplink":
        from sim.figures import uplink as paper  # type: ignore[no-redef]

        compute = _uplink_figures(draws or 10, trials, seed, {"reading": reading, "method": method})
    elif name == "cooperative":
        from sim.figures import cooperative as paper  # type: ignore[no-redef]

        others = {"trials": trials, "reading": reading, "method": method}
        compute = _cooperative_figures(draws or 100_000, seed, others)
    else:
        raise ConfigError(f"figure '{name}': must be comp, localization, uplink or cooperative")
    folder = Path("figures") / name if out is None else out
    try:
        folder.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    except OSError as exc:
        raise ConfigError(f"--out '{folder}': cannot be made ({exc.strerror}); choose another folder") from exc
    with _progress() as bar:

        def begin(text: str, total: int) -> Callable[[int], None]:
            task = bar.add_task(text, total=total)
            return lambda count: bar.advance(task, count)

        found = compute(begin)
    files = paper.write(found, folder)
    if as_json:
        print(json.dumps({**found.to_dict(), "files": [str(path) for path in files]}, allow_nan=False))
        return
    print(paper.verdict_table(found))
    print(f"wrote {len(files)} files to {folder}")


def _comp_figures(
    draws: int, trials: int | None, seed: int, reading: str | None, method: str | None
) -> Callable[[Any], Any]:
    """What computes the figures of the CoMP letter, given who is told of its progress."""
    from sim.figures.comp import compute
    from sim.figures.comp_readings import READINGS

    trials, method, wanted = (
        10_000 if trials is None else trials,
        "newton" if method is None else method,
        "all" if reading is None else reading,
    )
    _check_range("trials", trials, 2, MAX_TRIALS)
    if method not in ("newton", "ppa"):
        raise ConfigError(f"--method '{method}': must be newton or ppa")
    readings = [known for known in READINGS if wanted.upper() in (known, "ALL")]
    if not readings:
        raise ConfigError(f"--reading '{wanted}': must be {', '.join(READINGS)} or all")
    return lambda begin: compute(readings, draws, trials, seed, method, begin)


def _localization_figures(draws: int, seed: int, others: dict[str, Any]) -> Callable[[Any], Any]:
    """What computes the figures of the localisation paper, given who is told of its progress."""
    from sim.figures.localization import compute

    for option, value in others.items():
        if value is not None:
            raise ConfigError(f"--{option} {value}: localization has no {option}; leave it out")
    return lambda begin: compute(draws, seed, begin)


def _cooperative_figures(draws: int, seed: int, others: dict[str, Any]) -> Callable[[Any], Any]:
    """What computes the figures of the cooperative paper, given who is told of its progress."""
    from sim.figures.cooperative import compute

    for option, value in others.items():
        if value is not None:
            raise ConfigError(f"--{option} {value}: cooperative has no {option}; leave it out")
    return lambda begin: compute(draws, seed, begin)


def _uplink_figures(draws: int, trials: int | None, seed: int, others: dict[str, Any]) -> Callable[[Any], Any]:
    """What computes the figures of the uplink paper, given who is told of its progress."""
    from sim.figures.uplink import compute

    trials = 20_000 if trials is None else trials
    _check_range("trials", trials, 2, MAX_TRIALS)
    for option, value in others.items():
        if value is not None:
            raise ConfigError(f"--{option} {value}: uplink has no {option}; leave it out")
    return lambda begin: compute(draws, 100, trials, seed, begin)


def _check_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"--{option} {value}: must be {low} to {high}")


def _progress() -> "Progress":
    """A bar per step on standard error; nothing where that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def _scene(name_or_path: str, self_isolation_db: float | None) -> "Scene":
    """A scene, with another isolation where one is given."""
    from sim.scene import load_scene, with_self_isolation

    loaded = load_scene(name_or_path)
    return loaded if self_isolation_db is None else with_self_isolation(loaded, self_isolation_db)


def _gain(item: str) -> tuple[str, float]:
    name, _, value = item.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ConfigError(f"--rx-gain-db '{item}': must read NODE=GAIN, e.g. bs1=40") from None


def _power(item: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in item.split(","))
    except ValueError:
        raise ConfigError(
            f"--power-mw '{item}': must read A,B,... with one number per node, e.g. 0.3,0.2,0.4"
        ) from None


def main() -> None:
    """Entry point."""
    run_app(app)


if __name__ == "__main__":
    main()
