"""Options that several verbs share, the experiment they change, and the question to the operator."""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from testbed.errors import ConfigError, IsacError

if TYPE_CHECKING:
    from testbed.experiment.config import Experiment

ExperimentArgument = Annotated[
    str, typer.Argument(help="Experiment file, or the name of a preset.", metavar="EXPERIMENT")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
FramesOption = Annotated[int | None, typer.Option(min=1, help="Trials per power or round, cell and hypothesis.")]
DataSeedOption = Annotated[int | None, typer.Option(min=0, help="Seed of the data symbols.")]
NoiseSeedOption = Annotated[int | None, typer.Option(min=0, max=2**64 - 1, help="Seed of the emulator's noise.")]
BudgetOption = Annotated[float | None, typer.Option(help="Power per node on average; the sum is shared.")]
MethodOption = Annotated[
    str | None,
    typer.Option(help="comp: ppa, newton, global, equal, random; localization: policy, sca, lp, mean_std."),
]

TransmitOption = Annotated[
    bool, typer.Option("--transmit", help="Agree to transmit on air, within the bands of the experiment's [safety].")
]


def ask(question: str) -> bool:
    """Ask the operator until he says yes or no; neither is the answer to nothing.

    Raises:
        IsacError: nobody can answer: standard input is closed or no terminal.
        KeyboardInterrupt: Ctrl-C.
    """
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():  # None where it was closed from the start
        raise _unanswered(question, "is no terminal")
    while True:
        print(f"{question} [y/n]: ", end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            print(file=sys.stderr)
            raise
        except OSError:
            line = ""  # a terminal that has gone
        if not line:
            print(file=sys.stderr)
            raise _unanswered(question, "was closed")
        answer = line.strip().lower()
        if answer in ("y", "yes", "n", "no"):
            return answer.startswith("y")


def _unanswered(question: str, why: str) -> IsacError:
    return IsacError(f"{question}: nobody can answer, standard input {why}; run this on a terminal")


def resolved(
    name: str,
    *,
    frames: int | None = None,
    power_dbm: list[float] | None = None,
    data_seed: int | None = None,
    noise_seed: int | None = None,
    only: Literal["axis", "loop"] | None = None,
    num_rounds: int | None = None,
    budget_dbm: float | None = None,
    method: str | None = None,
    keep_frames: str | None = None,
    transmit: bool | None = None,
) -> "Experiment":
    """The experiment with the command line's overrides, validated again."""
    from testbed.experiment.load import load_experiment, validate_experiment

    data = load_experiment(name).model_dump(mode="json")
    if frames is not None:
        data["capture"]["num_frames"] = frames
    if power_dbm:
        if data["kind"] != "comp":
            raise ConfigError(f"--power-dbm: an experiment of kind {data['kind']} has no power axis; edit its file")
        data["power"] = {"axis_dbm": power_dbm}
    if data_seed is not None:
        data["waveform"]["data_seed"] = data_seed
    if noise_seed is not None:
        if data["emulator"] is None:
            raise ConfigError("--noise-seed: this experiment is on air; there is no emulator to seed")
        data["emulator"]["seed"] = noise_seed
    if transmit:
        data["safety"]["transmit"] = True
    if keep_frames is not None:
        data["capture"]["keep_frames"] = _frames_to_keep(keep_frames)
    for option, table, key, value in (
        ("--rounds", "loop", "num_rounds", num_rounds),
        ("--budget-dbm", "allocation", "budget_dbm", budget_dbm),
        ("--method", "allocation" if data["kind"] == "comp" else data["kind"], "method", method),
    ):
        if value is not None:
            _table(data, table, option)[key] = value
    if only is not None:
        if data["kind"] != "comp":
            raise ConfigError(f"--only {only}: an experiment of kind {data['kind']} has no such parts; edit its file")
        if data.get("loop" if only == "loop" else "power") is None:
            raise ConfigError(f"--only {only}: the experiment has no [{'loop' if only == 'loop' else 'power'}] table")
        if only == "loop" and power_dbm:
            raise ConfigError("--power-dbm: sets the power axis, which --only loop leaves out; use --budget-dbm")
        data["power" if only == "loop" else "loop"] = None
    return validate_experiment(data, name)


def _table(data: dict[str, Any], table: str, option: str) -> dict[str, Any]:
    if data.get(table) is None:
        raise ConfigError(f"{option}: the experiment has no [{table}] table; add one, or start from the comp preset")
    changed: dict[str, Any] = data[table]
    return changed


def _frames_to_keep(text: str) -> int | str:
    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"--keep-frames '{text}': must be 'all' or a number of frames, 0 for statistics only"
        ) from None
