"""`isac-sim`: the simulated world's command line."""

from pathlib import Path
from typing import Annotated

import typer

from testbed.command import new_app, run_app
from testbed.errors import ConfigError

MAX_SEED = (1 << 64) - 1  # of Scene.seed, which model_copy does not check

app = new_app("isac-sim", "The simulated world: channel emulator and ground truth for ISAC Testbed.")


@app.callback()
def _root() -> None:
    """Keep subcommand names even while there are few."""


@app.command()
def emulate(
    scene: Annotated[str, typer.Argument(help="Scene file, or the name of a packaged scene.")],
    endpoint: Annotated[str, typer.Option(help="Where to listen; port 0 takes a free one.")] = "tcp://127.0.0.1:0",
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of the noise, instead of the scene's.")
    ] = None,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="End when standard input closes.")
    ] = False,
) -> None:
    """Emulate a scene's radios and its air behind the ZMQ wire, until interrupted.

    Example: isac-sim emulate comp --endpoint tcp://127.0.0.1:5555
    """
    from sim.emulator import Emulator
    from sim.scene import load_scene

    world = load_scene(scene)
    if seed is not None:
        world = world.model_copy(update={"seed": seed})
    emulator = Emulator(world, endpoint)
    try:
        # the first line is read by whoever started this process
        print(f"listening on {emulator.endpoint}", flush=True)
        emulator.serve(until_stdin_closes)
    finally:
        emulator.close()


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
) -> None:
    """Write the exact noncentrality, delays, gains and noise of an experiment in a scene.

    Example: isac-sim truth comp comp --power-mw 0.3,0.2,0.4 --out truth.json
    """
    from sim.scene import load_scene
    from sim.truth import write_truth

    gains = dict(_gain(item) for item in rx_gain_db or [])
    powers = [_power(item) for item in power_mw] if power_mw else None
    write_truth(out, load_scene(scene), experiment, gains, powers)
    print(f"wrote {out}")


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
