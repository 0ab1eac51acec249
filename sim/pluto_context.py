"""A Pluto as an IIO context: devices, channels and attributes of the stock firmware, as files over a `PlutoState`.

The xadc of the board is left out.
"""

import errno
import re

from sim.ad9361 import MAX_RATE_HZ, REFERENCE_HZ, lowest_rate, rx_gain_range
from sim.iio_context import Channel, Device
from sim.iiod_protocol import refused
from sim.pluto_state import PlutoState
from sim.sysfs import File, choice, constant, decimal, element, flag, integer, number, one_of, switch, thousandths

GAIN_MODES = ("manual", "fast_attack", "slow_attack", "hybrid")
ENSM_MODES = ("sleep", "wait", "alert", "fdd", "pinctrl", "pinctrl_fdd_indep")
CALIB_MODES = ("auto", "manual", "manual_tx_quad", "tx_quad", "rf_dc_offs", "rssi_gain_step")
RX_PORTS = ("A_BALANCED", "B_BALANCED", "C_BALANCED", "A_N", "A_P", "B_N", "B_P", "C_N", "C_P", "TX_MONITOR1",
            "TX_MONITOR2", "TX_MONITOR1_2")  # fmt: skip
TRACKING = ("bb_dc_offset_tracking_en", "quadrature_tracking_en", "rf_dc_offset_tracking_en")
STATUS_REGISTER = 0x80000088  # of the converter cores; a one clears its bit
FIRMWARE = "v0.38"
_WORD32 = re.compile(r"0[xX][0-9A-Fa-f]{1,8}|\d{1,10}")


def devices(state: PlutoState) -> tuple[Device, ...]:
    """The transceiver and its two converter cores."""
    return _phy(state), _tx_core(state), _rx_core(state)


def _phy(state: PlutoState) -> Device:
    channels = [_lo(state, "rx", 0), _lo(state, "tx", 1)]
    channels += [_rx(state, k) for k in range(state.num_channels)]
    channels += [_tx(state, k) for k in range(state.num_channels)]
    fir_on = File(lambda: str(int(state.fir_on)), state.set_fir_on)
    channels.append(Channel("out", False, {"voltage_filter_fir_en": ("in_out_voltage_filter_fir_en", fir_on)}))
    channels.append(Channel("temp0", False, {"input": ("in_temp0_input", constant("36842"))}))
    attributes = {
        "calib_mode": choice("auto", CALIB_MODES),
        "calib_mode_available": constant(" ".join(CALIB_MODES)),
        "ensm_mode": File(lambda: state.ensm_mode, lambda text: setattr(state, "ensm_mode", one_of(text, ENSM_MODES))),
        "ensm_mode_available": constant(" ".join(ENSM_MODES)),
        "filter_fir_config": File(lambda: str(state.fir), state.set_fir),
        "rx_path_rates": File(lambda: state.clocks.lines()[0]),
        "trx_rate_governor": choice("nominal", ("nominal", "highest_osr")),
        "trx_rate_governor_available": constant("nominal highest_osr"),
        "tx_path_rates": File(lambda: state.clocks.lines()[1]),
        "xo_correction": number(REFERENCE_HZ, REFERENCE_HZ - 8000, REFERENCE_HZ + 8000),
        "xo_correction_available": constant(f"[{REFERENCE_HZ - 8000} 1 {REFERENCE_HZ + 8000}]"),
    }
    loopback = File(
        lambda: str(state.loopback), lambda text: setattr(state, "loopback", int(one_of(text, ("0", "1", "2"))))
    )
    debug = {"loopback": loopback, "bist_prbs": number(0, 0, 2), "bist_tone": constant("0")}
    return Device("iio:device0", "ad9361-phy", tuple(channels), attributes, debug)


def _lo(state: PlutoState, direction: str, index: int) -> Channel:
    low, high = state.model.rx_lo_hz if direction == "rx" else state.model.tx_lo_hz
    off = f"{direction}_lo_off"
    files = {
        "external": number(0, 0, 0),
        "frequency": File(
            lambda: str(getattr(state, f"{direction}_lo_hz")), lambda text: state.set_lo(direction, text)
        ),
        "frequency_available": constant(f"[{low} 1 {high}]"),
        "powerdown": File(lambda: str(int(getattr(state, off))), lambda text: setattr(state, off, flag(text))),
    }
    name = f"{direction.upper()}_LO"
    id_ = f"altvoltage{index}"
    return Channel(id_, True, {key: (f"out_{id_}_{name}_{key}", file) for key, file in files.items()}, name)


def _common(state: PlutoState, direction: str) -> dict[str, tuple[str, File]]:
    """Files that all channels of a direction share."""
    most = 56_000_000 if direction == "rx" else 40_000_000
    prefix = "in" if direction == "rx" else "out"
    files = {
        "filter_fir_en": File(lambda: str(int(state.fir_on)), state.set_fir_on),
        "rf_bandwidth": File(
            lambda: str(getattr(state, f"{direction}_bandwidth_hz")), lambda text: state.set_bandwidth(direction, text)
        ),
        "rf_bandwidth_available": constant(f"[200000 1 {most}]"),
        "sampling_frequency": _rate(state),
        "sampling_frequency_available": File(lambda: f"[{lowest_rate(state.fir, state.fir_on)} 1 {MAX_RATE_HZ}]"),
    }
    return {key: (f"{prefix}_voltage_{key}", file) for key, file in files.items()}


def _rx(state: PlutoState, k: int) -> Channel:
    def set_mode(text: str) -> None:
        state.gain_mode[k] = one_of(text, GAIN_MODES)

    def gains() -> str:
        low, high = rx_gain_range(state.rx_lo_hz)
        return f"[{low} 1 {high}]"

    own = {
        "gain_control_mode": File(lambda: state.gain_mode[k], set_mode),
        "hardwaregain": File(lambda: f"{state.rx_gain_db[k]:.6f} dB", lambda text: state.set_rx_gain(k, text)),
        "hardwaregain_available": File(gains),
        "rf_port_select": choice("A_BALANCED", RX_PORTS),
        "rssi": File(lambda: f"{state.rssi_db[k]:.2f} dB"),
    }
    shared = {
        **{key: switch() for key in TRACKING},
        "gain_control_mode_available": constant(" ".join(GAIN_MODES)),
        "rf_port_select_available": constant(" ".join(RX_PORTS)),
    }
    files = {key: (f"in_voltage{k}_{key}", file) for key, file in own.items()}
    files |= {key: (f"in_voltage_{key}", file) for key, file in shared.items()}
    return Channel(f"voltage{k}", False, files | _common(state, "rx"))


def _tx(state: PlutoState, k: int) -> Channel:
    own = {
        "hardwaregain": File(lambda: f"{state.tx_gain_mdb[k] / 1000:.6f} dB", lambda text: state.set_tx_gain(k, text)),
        "hardwaregain_available": constant("[-89.750000 0.250000 0.000000]"),
        "rf_port_select": choice("A", ("A", "B")),
        "rssi": constant("0.00 dB"),
    }
    files = {key: (f"out_voltage{k}_{key}", file) for key, file in own.items()}
    files["rf_port_select_available"] = ("out_voltage_rf_port_select_available", constant("A B"))
    return Channel(f"voltage{k}", True, files | _common(state, "tx"))


def _tx_core(state: PlutoState) -> Device:
    channels = []
    for rail in range(2 * state.num_channels):
        files = _core_files("out", rail, state)
        channels.append(Channel(f"voltage{rail}", True, files, index=rail, format="le:S16/16>>0"))
    for n in range(4 * state.num_channels):
        name = f"TX{n // 4 + 1}_{'IQ'[n // 2 % 2]}_F{n % 2 + 1}"
        tone = {
            "frequency": element(state.dds_hz, n, integer, 0, MAX_RATE_HZ),
            "phase": element(state.dds_mdeg, n, integer, 0, 360_000),
            "raw": _raw(state, n // 4),
            "scale": element(state.dds_scale, n, lambda text: thousandths(text, 1_000_000) / 1e6, 0, 1, "{:.6f}"),
        }
        files = {key: (f"out_altvoltage{n}_{name}_{key}", file) for key, file in tone.items()}
        files["sampling_frequency"] = ("out_altvoltage_sampling_frequency", _core_rate(state))
        channels.append(Channel(f"altvoltage{n}", True, files, name))
    return Device("iio:device2", "cf-ad9361-dds-core-lpc", tuple(channels), {}, _register(state, "tx"), _buffer())


def _rx_core(state: PlutoState) -> Device:
    channels = []
    for rail in range(2 * state.num_channels):
        files = _core_files("in", rail, state)
        channels.append(Channel(f"voltage{rail}", False, files, index=rail, format="le:S12/16>>0"))
    return Device("iio:device3", "cf-ad9361-lpc", tuple(channels), {}, _register(state, "rx"), _buffer())


def _core_files(prefix: str, rail: int, state: PlutoState) -> dict[str, tuple[str, File]]:
    files = {
        f"{key}": (f"{prefix}_voltage{rail}_{key}", decimal(text))
        for key, text in (("calibphase", "0.000000"), ("calibscale", "1.000000"))
    }
    if prefix == "in":
        files["calibbias"] = (f"in_voltage{rail}_calibbias", number(0, -32768, 32767))
    files["sampling_frequency"] = (f"{prefix}_voltage_sampling_frequency", _core_rate(state))
    files["sampling_frequency_available"] = (
        f"{prefix}_voltage_sampling_frequency_available",
        File(lambda: f"{state.sample_rate_hz} {state.sample_rate_hz // 8} "),
    )
    return files


def _core_rate(state: PlutoState) -> File:
    """The rate of a converter core: the transceiver's. The logic's filters by eight are not there."""

    def set_rate(text: str) -> None:
        if integer(text) != state.sample_rate_hz:
            raise refused(errno.EINVAL)

    return File(lambda: str(state.sample_rate_hz), set_rate)


def _raw(state: PlutoState, channel: int) -> File:
    """Generators are switched per channel, all four at once."""

    def set_on(text: str) -> None:
        state.dds_on[4 * channel : 4 * channel + 4] = [flag(text)] * 4

    return File(lambda: str(int(state.dds_on[4 * channel])), set_on)


def _register(state: PlutoState, core: str) -> dict[str, File]:
    """`direct_reg_access`: an address to read from, or an address and a value to write."""
    address = [0]

    def read() -> str:
        return f"0x{state.status[core] if address[0] == STATUS_REGISTER else 0:X}"

    def write(text: str) -> None:
        words = text.split()
        if len(words) not in (1, 2) or any(_WORD32.fullmatch(word) is None for word in words):
            raise refused(errno.EINVAL)
        address[0], *value = (int(word, 16 if word[:2] in ("0x", "0X") else 10) for word in words)
        if value and address[0] == STATUS_REGISTER:
            state.status[core] &= ~value[0]

    return {"direct_reg_access": File(read, write)}


def _buffer() -> dict[str, File]:
    return {
        "data_available": constant("0"),
        "length_align_bytes": constant("8"),
        "watermark": number(2048, 1, 1 << 30),
    }


def _rate(state: PlutoState) -> File:
    return File(lambda: str(state.sample_rate_hz), state.set_rate)
