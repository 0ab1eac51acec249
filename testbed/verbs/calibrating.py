"""Measure one radio by itself, and keep what was found beside its configuration."""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from testbed.errors import ConfigError
from testbed.verbs.options import ExperimentArgument, JsonOption, TransmitOption, resolved

if TYPE_CHECKING:
    from testbed.experiment.config import Experiment


def calibrate(
    experiment: ExperimentArgument,
    device: Annotated[
        str | None,
        typer.Option(help="Configuration of the radio; the node's own if not given. `isac device check` lists them."),
    ] = None,
    node: Annotated[str | None, typer.Option(help="Node to calibrate; the first if not given.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write, *.calibration.toml; beside the configuration if not given.")
    ] = None,
    power_dbm: Annotated[float | None, typer.Option(help="Mean power; the experiment's highest if not given.")] = None,
    loop: Annotated[
        Literal["antennas", "cable"], typer.Option(help="What leads from transmitter to receiver.")
    ] = "antennas",
    attenuation_db: Annotated[float | None, typer.Option(min=0, help="Of the cable with its attenuators.")] = None,
    temperature_c: Annotated[float | None, typer.Option(help="Of the board or the room, where known.")] = None,
    note: Annotated[str, typer.Option(help="What else should be remembered.")] = "",
    transmit: TransmitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a radio that hears itself: noise, latency, self-interference, DC, IQ imbalance, steps of its transmitter.

    All transmitters but its own stay silent. On air, or into a cable, the rules of [safety] hold.

    Example: isac calibrate mine.toml --node bs2 --transmit

    Example: isac calibrate mine.toml --device pluto-rev-c --loop cable --attenuation-db 40 --transmit
    """
    from testbed.experiment import children
    from testbed.experiment.acquire import open_radios
    from testbed.experiment.calibrate import Wish, check_wish, identity
    from testbed.experiment.calibrate import calibrate as measure
    from testbed.experiment.devices import node_device
    from testbed.radio.devices.calibration import check_place, save_calibration
    from testbed.radio.devices.config import CALIBRATION_SUFFIX
    from testbed.radio.resources import BOARDS, PLUTO

    model = uncalibrated(resolved(experiment, transmit=transmit))
    rows = {row.name: row for row in model.nodes}
    name = next(iter(rows)) if node is None else node
    if name not in rows:
        raise ConfigError(f"--node '{name}': no such transmitting node; there are {', '.join(rows)}")
    if (loop == "cable") != (attenuation_db is not None):
        raise ConfigError("--loop cable and --attenuation-db go together; give both or neither")
    row, numerology = rows[name], model.waveform.numerology
    if (device := device or row.device) is None:
        raise ConfigError(
            f"--device: missing, and {name} names none in the experiment; give the name or path of its configuration "
            f"(`isac device check` lists them)"
        )
    known = node_device(
        name,
        device,
        carrier_hz=numerology.carrier_hz,
        sample_rate_hz=numerology.sample_rate_hz,
        fir=row.fir,
        channel=row.channel,
        radio=row.radio,
    )
    least_db = known.device.config.min_loop_attenuation_db
    if attenuation_db is not None and attenuation_db < least_db:
        raise ConfigError(
            f"--attenuation-db {attenuation_db:g}: {known.device.name} needs at least {least_db:g} dB between its "
            f"ports; add attenuators"
        )
    if row.radio.startswith(BOARDS):  # whose channels share device and filter
        change = {"device": device} | ({"fir": known.fir} if row.radio.startswith(PLUTO) else {})
        nodes = (each.model_copy(update=change) if each.radio == row.radio else each for each in model.nodes)
        users = (each.model_copy(update=change) if each.radio == row.radio else each for each in model.users)
        model = model.model_copy(update={"nodes": tuple(nodes), "users": tuple(users)})
    path = known.device.calibration_path if out is None else out
    if not path.name.endswith(CALIBRATION_SUFFIX):
        raise ConfigError(f"--out {path}: must end in {CALIBRATION_SUFFIX}")
    wish = Wish(
        carrier_hz=numerology.carrier_hz,
        sample_rate_hz=numerology.sample_rate_hz,
        power_dbm=model.highest_equal_power_dbm if power_dbm is None else power_dbm,
        loop=loop,
        attenuation_db=attenuation_db,
        temperature_c=temperature_c,
        note=note,
    )
    # what would be refused after the measurement is refused before it
    check_wish(wish, known.device, known.fir)
    check_place(path)
    with contextlib.ExitStack() as stack:
        endpoint = None
        if model.emulator is not None:
            table, folder = model.emulator, stack.enter_context(tempfile.TemporaryDirectory())
            changes = table.self_isolation_db, table.direct_fading
            endpoint = stack.enter_context(children.emulator(table.scene, table.seed, Path(folder) / "log", *changes))
        radios = stack.enter_context(open_radios(model, endpoint))
        for other in radios:
            other.mute()
        radio = next(radio for radio in radios if radio.name == name)
        if radio.limits.simulated and out is None:
            raise ConfigError(f"{name}: is simulated; say with --out where that is to go, not beside a real board's")
        made = measure(radio, known.device, identity(radio, known.fir), wish, lambda text: print(text, file=sys.stderr))
    save_calibration(path, made)
    if as_json:
        print(json.dumps({"file": str(path), **made.model_dump(mode="json")}, indent=1))
        return
    print(f"wrote {path}")
    for what, value in made.lines():
        print(f"  {what}: {value}")


def uncalibrated(model: "Experiment") -> "Experiment":
    """The experiment without earlier calibrations, which need not hold any more, of any of its radios."""
    nodes = tuple(row.model_copy(update={"calibrated": False}) for row in model.nodes)
    users = tuple(row.model_copy(update={"calibrated": False}) for row in model.users)
    return model.model_copy(update={"nodes": nodes, "users": users})
