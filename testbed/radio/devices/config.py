"""Device configurations: TOML files that say what is true of a board, found, resolved and checked.

A file names its class (`kind`), and with `extends` the file it builds on: tables are merged key by key, what stands
nearer wins. What comes out is one value, with a hash of all that it says, filter taps included, for whoever stores what
was measured with the board.

Files have names: the stem of a `.toml` below one of the folders in ISAC_DEVICES, or below `firmware_configs/` beside
the package. A path does as well.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from testbed.config import StrictModel, read_toml, validate
from testbed.errors import ConfigError
from testbed.radio.devices.fir import Ftr, read_ftr
from testbed.radio.devices.tables import (
    B2XX_TWO_CHANNELS_HZ,
    RANGES,
    STOCK_CARRIER_HZ,
    CalibrationTable,
    FirmwareTable,
    HostTable,
    LimitsTable,
    PowerTable,
    Title,
    UbootTable,
    UsrpTable,
    version,
)
from testbed.radio.pluto.info import MIN_FIRMWARE
from testbed.radio.pluto.settings import KEEP_FIR, STANDARD_FIR

FOLDERS_VARIABLE = "ISAC_DEVICES"
CALIBRATION_SUFFIX = ".calibration.toml"
MAX_CHAIN = 8
TWO_CHANNEL_PLUTO_HZ = 61.44e6 / 2


class DeviceConfig(StrictModel):
    """What every device configuration has."""

    kind: str  # class of the device: 'pluto' or 'usrp'
    title: Title
    serial: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")  # of one board; none: of any of its kind
    limits: LimitsTable
    power: PowerTable
    calibration: CalibrationTable = CalibrationTable()
    firmware: FirmwareTable
    host: HostTable = HostTable()

    @model_validator(mode="after")
    def _within_class(self) -> "DeviceConfig":
        self.limits.check(self.kind)
        return self

    @property
    def max_output_dbm(self) -> float:
        """The highest power of a full-scale tone."""
        return self.power.tx_full_scale_dbm + self.limits.tx_gain_max_db

    @property
    def min_loop_attenuation_db(self) -> float:
        """What a cable from transmitter to receiver must take away, 3 dB for peaks of the envelope included."""
        return max(0.0, self.max_output_dbm + 3.0 - self.limits.max_input_dbm)

    def hardware(self) -> dict[str, float | int]:
        """What the link budget of an experiment assumes of a radio: the keys of its [hardware] table."""
        limits, power = self.limits, self.power
        return {
            "tx_full_scale_dbm": power.tx_full_scale_dbm,
            "rx_full_scale_dbm": power.rx_full_scale_dbm,
            "rx_bits": limits.rx_bits,
            "tx_bits": limits.tx_bits,
            "tx_gain_min_db": limits.tx_gain_min_db,
            "tx_gain_max_db": limits.tx_gain_max_db,
            "tx_gain_step_db": limits.tx_gain_step_db,
            "rx_gain_min_db": limits.rx_gain_min_db,
            "rx_gain_max_db": limits.rx_gain_max_db,
            "rx_gain_step_db": limits.rx_gain_step_db,
        }


class PlutoConfig(DeviceConfig):
    """An ADALM-Pluto, or what runs its firmware."""

    fir: str = Field(
        default=STANDARD_FIR, min_length=1, max_length=200
    )  # 'standard', 'keep', or a .ftr beside the file
    uboot: UbootTable = UbootTable()

    @model_validator(mode="after")
    def _consistent(self) -> "PlutoConfig":
        limits, uboot = self.limits, self.uboot
        if version(self.firmware.minimum) < MIN_FIRMWARE:
            least = ".".join(map(str, MIN_FIRMWARE))
            raise ValueError(f"firmware.minimum: found {self.firmware.minimum}; the driver needs v{least}")
        if max(limits.num_tx, limits.num_rx) == 2 and uboot.mode != "2r2t":
            raise ValueError(f"limits.num_rx: two channels need uboot.mode = '2r2t'; found {uboot.mode!r}")
        if max(limits.num_tx, limits.num_rx) == 2 and limits.sample_rate_max_hz > TWO_CHANNEL_PLUTO_HZ:
            raise ValueError(
                f"limits.sample_rate_max_hz: found {limits.sample_rate_max_hz:.10g}; with two channels at most "
                f"{TWO_CHANNEL_PLUTO_HZ:.10g}"
            )
        wide = limits.carrier_min_hz < STOCK_CARRIER_HZ[0] or limits.carrier_max_hz > STOCK_CARRIER_HZ[1]
        if wide and uboot.compatible not in ("ad9364", "ad9361"):
            raise ValueError(
                f"limits.carrier_max_hz: a stock Pluto tunes {STOCK_CARRIER_HZ[0]:.10g}..{STOCK_CARRIER_HZ[1]:.10g} "
                f"Hz; beyond that uboot.compatible must be 'ad9364' or 'ad9361', found {uboot.compatible!r}"
            )
        return self

    def check_filter(self, ftr: Ftr) -> None:
        """ValueError where the filter does not go with the sample rates."""
        low_hz, high_hz = ftr.sample_rate_hz
        for key in ("sample_rate_min_hz", "sample_rate_max_hz"):
            rate_hz = getattr(self.limits, key)
            if not low_hz <= rate_hz <= high_hz:
                raise ValueError(
                    f"limits.{key}: found {rate_hz:.10g}; the filter {Path(self.fir).name} with {ftr.num_taps} taps "
                    f"and DEC {ftr.decimation} goes with {low_hz:.10g}..{high_hz:.10g}"
                )


class UsrpConfig(DeviceConfig):
    """A USRP, opened by UHD on the host; `firmware` are UHD's versions."""

    usrp: UsrpTable

    @model_validator(mode="after")
    def _consistent(self) -> "UsrpConfig":
        limits, usrp = self.limits, self.usrp
        if limits.sample_rate_max_hz > usrp.master_clock_rate_hz:
            raise ValueError(
                f"limits.sample_rate_max_hz: found {limits.sample_rate_max_hz:.10g}, above "
                f"usrp.master_clock_rate_hz = {usrp.master_clock_rate_hz:.10g}"
            )
        for key, count in (("tx_subdev", limits.num_tx), ("rx_subdev", limits.num_rx)):
            if len(getattr(usrp, key).split()) != count:
                raise ValueError(f"usrp.{key}: found '{getattr(usrp, key)}'; must name {count} channels, as limits do")
        channels = max(limits.num_tx, limits.num_rx)
        if usrp.type == "b200" and channels == 2 and usrp.master_clock_rate_hz > B2XX_TWO_CHANNELS_HZ:
            raise ValueError(
                f"usrp.master_clock_rate_hz: found {usrp.master_clock_rate_hz:.10g}; with two channels at most "
                f"{B2XX_TWO_CHANNELS_HZ:.10g}"
            )
        if usrp.addr is None and usrp.type == "x300":
            raise ValueError("usrp.addr: missing; an x300 is on the network, give its address")
        return self

    def device_args(self) -> str:
        """Device arguments as UHD takes them."""
        usrp, found = self.usrp, dict[str, object]()
        found["type"] = usrp.type
        if usrp.addr is not None:
            found["addr"] = usrp.addr
        if self.serial is not None:
            found["serial"] = self.serial
        found["master_clock_rate"] = f"{usrp.master_clock_rate_hz:.10g}"
        found |= {"num_recv_frames": usrp.num_recv_frames, "num_send_frames": usrp.num_send_frames}
        for key in ("recv_frame_size", "send_frame_size"):
            if getattr(usrp, key) is not None:
                found[key] = getattr(usrp, key)
        return ",".join(f"{key}={value}" for key, value in (found | usrp.args).items())


KINDS: dict[str, type[DeviceConfig]] = {"pluto": PlutoConfig, "usrp": UsrpConfig}


@dataclass(frozen=True)
class Device:
    """A configuration as resolved from its files."""

    name: str
    path: Path
    chain: tuple[str, ...]  # names of the files it was made of, its own first
    config: DeviceConfig
    fir: str  # for the driver: 'standard', 'keep', or the path of a .ftr file
    ftr: Ftr | None  # what that file holds

    @property
    def calibration_path(self) -> Path:
        """Where results of a calibration stand."""
        return self.path.with_name(self.name + CALIBRATION_SUFFIX)

    def resolved(self) -> dict[str, Any]:
        """Everything it says as plain data, defaults included; of a filter its taps, of names and paths nothing."""
        data: dict[str, Any] = self.config.model_dump(mode="json")
        if "fir" in data:
            data["fir"] = Path(self.fir).name
        if self.ftr is not None:
            data["filter_sha256"] = canonical_sha256(asdict(self.ftr))
        return data

    @property
    def sha256(self) -> str:
        """Hash of all that it says."""
        return canonical_sha256(self.resolved())


def canonical_sha256(data: Any) -> str:
    """Hash of plain data as canonical JSON: sorted keys, no blanks."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def folders() -> list[Path]:
    """Where names are looked for, the first one first.

    Raises:
        ConfigError: what ISAC_DEVICES names is no folder.
    """
    named = [Path(part) for part in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if part]
    for folder in named:
        if not _there(folder.is_dir):
            raise ConfigError(
                f"{FOLDERS_VARIABLE}: '{folder}' is no folder; name folders of configurations, with '{os.pathsep}' "
                f"between them"
            )
    return [*named, Path(__file__).parents[3] / "firmware_configs"]


def _there(asked: Callable[[], bool]) -> bool:
    """Whether a path is what is asked; one that cannot be looked at, as it is too long, is not."""
    with contextlib.suppress(OSError):
        return asked()
    return False


def device_names() -> dict[str, Path]:
    """Configurations that have a name, and their files."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.rglob("*.toml")):
            if not path.name.endswith(CALIBRATION_SUFFIX):
                found.setdefault(path.stem, path)
    return found


def device_path(name_or_path: str) -> Path:
    """File of a configuration: a .toml path, else a name, else the path of any other file.

    Raises:
        ConfigError: there is none; the line says which there are.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return path
    known = device_names()
    if name_or_path not in known:
        if _there(path.is_file):
            return path
        there = ", ".join(known) or "none"
        raise ConfigError(
            f"device '{name_or_path[:80]}': no such configuration; there are {there}; give one of them, the path of a "
            f".toml file, or a folder of them in {FOLDERS_VARIABLE}"
        )
    return known[name_or_path]


def load_device(name_or_path: str | Path) -> Device:
    """Read a configuration with all that it extends.

    Raises:
        ConfigError: one line with the file, the dotted key, what was found and what is allowed.
    """
    path = device_path(str(name_or_path))
    data, chain, origins = _merged(path)
    origin = str(path) if len(chain) == 1 else f"{path} (extends {', '.join(chain[1:])})"
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        found = "missing" if kind is None else f"found {kind!r}"
        raise ConfigError(f"{origin}: kind: {found}; must be one of {', '.join(RANGES)}")
    config = validate(data, KINDS[kind], origin)
    fir, ftr = STANDARD_FIR, None
    if isinstance(config, PlutoConfig):
        fir = config.fir
        if fir not in (STANDARD_FIR, KEEP_FIR):
            # beside the file that names it, not the one that extends that
            fir = str(_real(origins["fir"].parent / fir))
            ftr = read_ftr(Path(fir))
            try:
                config.check_filter(ftr)
            except ValueError as exc:
                raise ConfigError(f"{origin}: {exc}") from None
    return Device(path.stem, path, chain, config, fir, ftr)


def _merged(path: Path) -> tuple[dict[str, Any], tuple[str, ...], dict[str, Path]]:
    """All tables of a chain of files, the names of the files, and which file a key of the top level came from."""
    layers: list[tuple[Path, dict[str, Any]]] = []
    while True:
        if _real(path) in (_real(found) for found, _ in layers):
            around = " -> ".join([found.name for found, _ in layers] + [path.name])
            raise ConfigError(f"{layers[0][0]}: extends: goes round in a circle ({around}); end it in a file without")
        if len(layers) == MAX_CHAIN:
            raise ConfigError(f"{layers[0][0]}: extends: a chain of more than {MAX_CHAIN} files; make it shorter")
        data = read_toml(path)
        base = data.pop("extends", None)
        layers.append((path, data))
        if base is None:
            break
        if not isinstance(base, str) or not base:
            raise ConfigError(f"{path}: extends: found {base!r}; must be the name of a configuration")
        path = _base(path, base)
    merged: dict[str, Any] = {}
    origins: dict[str, Path] = {}
    for found, data in reversed(layers):
        merged = _over(merged, data)
        origins |= dict.fromkeys(data, found)
    return merged, tuple(found.stem for found, _ in layers), origins


def _real(path: Path) -> Path:
    """Where a path leads.

    Raises:
        ConfigError: nowhere.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as exc:  # RuntimeError: a link that leads to itself
        told = exc.strerror if isinstance(exc, OSError) else exc
        raise ConfigError(f"{path}: leads nowhere ({told}); give the path of a file") from None


def _base(path: Path, base: str) -> Path:
    """The file that one extends: beside it, else of that name in the folders of configurations."""
    beside = path.parent / (base if base.endswith(".toml") else f"{base}.toml")
    if _there(beside.is_file):
        return beside
    known = {} if base.endswith(".toml") else device_names()
    if base not in known:
        raise ConfigError(
            f"{path}: extends: '{base}': no file {beside.name} beside this one, and no configuration of that name; "
            f"give its name or path"
        )
    return known[base]


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        there = merged.get(key)
        merged[key] = _over(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return merged
