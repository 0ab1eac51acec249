"""Settings of a virtual Pluto as the AD9361's Linux driver realises them, its XML, and the parsing of iiod's text."""

import errno
import random
import xml.etree.ElementTree as ET

import pytest

from sim.ad9361 import Fir, clock_chain, parse_fir, realised_lo, realised_tx_gain_mdb
from sim.iio_context import Device, xml
from sim.iiod_protocol import Command, parse, values
from sim.pluto_context import STATUS_REGISTER, devices
from sim.pluto_state import UNDERFLOW, PlutoState


def phy(state: PlutoState) -> Device:
    return devices(state)[0]


def write(device: Device, kind: str, channel: str, name: str, text: str) -> None:
    file = device.files(kind, channel)[name]
    assert file.write is not None
    file.write(text)


def read(device: Device, kind: str, channel: str, name: str) -> str:
    return device.files(kind, channel)[name].read()


def refusal(device: Device, kind: str, channel: str, name: str, text: str) -> int | None:
    before = read(device, kind, channel, name)
    with pytest.raises(OSError) as caught:
        write(device, kind, channel, name, text)
    assert read(device, kind, channel, name) == before
    return caught.value.errno


@pytest.mark.parametrize("wanted_hz", [70_000_000, 325_000_000, 2_412_345_678, 3_500_000_000, 5_999_999_999])
def test_a_carrier_is_realised_to_the_step_of_its_synthesizer(wanted_hz: int) -> None:
    realised = realised_lo(wanted_hz)
    # 80 MHz / 8388593 at the oscillator, which is divided by two at least; and 2 Hz of the driver's own counting
    assert abs(realised - wanted_hz) <= 0.5 * 80e6 / 8_388_593 / 2 + 2
    assert realised % 2 == 0
    assert abs(realised_lo(realised) - realised) <= 2


def test_clocks_of_lte_rate_are_those_of_a_board() -> None:
    # rx_path_rates of a Pluto of firmware v0.32 at its default rate, but for 2 Hz of its crystal
    rx, _ = clock_chain(30_720_000, Fir(), False).lines()
    assert rx == "BBPLL:983040000 ADC:245760000 R2:122880000 R1:61440000 RF:30720000 RXSAMP:30720000"


@pytest.mark.parametrize("decimation", [1, 2, 4])
def test_a_filter_makes_lower_sample_rates_possible(decimation: int) -> None:
    fir = Fir(64, decimation, 64, decimation, loaded=True)
    lowest = 25_000_000 // (12 * decimation) + 1
    assert clock_chain(lowest, fir, True).sample_rate_hz == lowest
    with pytest.raises(ValueError, match="no clock dividers"):
        clock_chain(lowest - 1, fir, True)


def test_every_whole_rate_is_realised_within_a_hertz() -> None:
    rng = random.Random(3)
    fir = Fir(64, 4, 64, 4, loaded=True)
    for _ in range(300):
        rate = rng.randint(600_000, 40_000_000)
        assert abs(clock_chain(rate, fir, True).sample_rate_hz - rate) <= 1


def test_too_many_taps_for_a_rate_are_refused() -> None:
    with pytest.raises(ValueError, match="128 taps at 61440000"):
        clock_chain(61_440_000, Fir(128, 2, 128, 2, loaded=True), True)
    assert clock_chain(61_440_000, Fir(64, 2, 64, 2, loaded=True), True).sample_rate_hz == 61_440_000


FILTER = "# made by a tool\nTX 3 GAIN 0 INT 2\nRX 3 GAIN -6 DEC 4\n" + "1,-2\n" * 64 + "\n"


def test_a_filter_file_is_read_and_summed_up() -> None:
    assert str(parse_fir(FILTER)) == "FIR Rx: 64,4 Tx: 64,2"
    assert str(Fir()) == "FIR Rx: 0,0 Tx: 0,0"


@pytest.mark.parametrize(
    "text",
    ["", "RX 3 GAIN -6 DEC 4\n" + "1,1\n" * 64, FILTER.replace("1,-2\n", "", 1), FILTER + "1,1\n" * 80, "1,1\n" * 16],
)
def test_a_filter_that_cannot_be_loaded_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"taps|header"):
        parse_fir(text)


# wanted, realised, in thousandths of a dB: attenuation is cut to its step, which is the louder side
@pytest.mark.parametrize(
    ("wanted", "realised"), [(-10_130, -10_000), (-10_250, -10_250), (-240, 0), (-89_750, -89_750)]
)
def test_a_transmit_gain_between_two_steps_becomes_the_louder_one(wanted: int, realised: int) -> None:
    assert realised_tx_gain_mdb(wanted) == realised


def test_gains_read_back_as_the_driver_prints_them() -> None:
    state = PlutoState()
    write(phy(state), "output", "voltage0", "hardwaregain", "-10.13")
    assert read(phy(state), "output", "voltage0", "hardwaregain") == "-10.000000 dB"
    write(phy(state), "input", "voltage0", "gain_control_mode", "manual")
    write(phy(state), "input", "voltage0", "hardwaregain", "33.7")
    assert read(phy(state), "input", "voltage0", "hardwaregain") == "33.000000 dB"


def test_a_receive_gain_is_dropped_without_a_word_unless_the_mode_is_manual() -> None:
    state = PlutoState()
    write(phy(state), "input", "voltage0", "hardwaregain", "33")
    assert read(phy(state), "input", "voltage0", "hardwaregain") == "71.000000 dB"


REFUSED = [
    ("output", "altvoltage0", "frequency", "324999999"),
    ("output", "altvoltage0", "frequency", "3800000001"),
    ("output", "TX_LO", "frequency", "2.4e9"),
    ("output", "voltage0", "hardwaregain", "0.25"),
    ("output", "voltage0", "hardwaregain", "-90"),
    ("output", "voltage0", "hardwaregain", "nan"),
    ("input", "voltage0", "sampling_frequency", "2083332"),
    ("input", "voltage0", "sampling_frequency", "61440001"),
    ("input", "voltage0", "gain_control_mode", "auto"),
    ("input", "out", "voltage_filter_fir_en", "1"),  # none was loaded
    ("input", "out", "voltage_filter_fir_en", ""),
    ("debug", "", "loopback", "3"),
    ("device", "", "ensm_mode", "tx"),
    ("device", "", "filter_fir_config", "TX 3 GAIN 0 INT 4\n"),
]


@pytest.mark.parametrize(("kind", "channel", "name", "text"), REFUSED)
def test_what_cannot_be_set_gives_einval_and_changes_nothing(kind: str, channel: str, name: str, text: str) -> None:
    assert refusal(phy(PlutoState()), kind, channel, name, text) == errno.EINVAL


def test_the_gain_table_follows_the_carrier() -> None:
    state = PlutoState(model="ad9364")
    for carrier, gains in (("915000000", "[-1 1 73]"), ("2400000000", "[-3 1 71]"), ("5800000000", "[-10 1 62]")):
        write(phy(state), "output", "RX_LO", "frequency", carrier)
        assert read(phy(state), "input", "voltage0", "hardwaregain_available") == gains
    assert state.rx_gain_db == [62]


def test_one_sample_rate_shows_in_all_its_files() -> None:
    state = PlutoState(2, "ad9361")
    chip, transmit, receive = devices(state)
    write(chip, "output", "voltage1", "sampling_frequency", "20000000")
    for device, kind in ((chip, "input"), (chip, "output"), (transmit, "output"), (receive, "input")):
        assert read(device, kind, "voltage0", "sampling_frequency") == "20000000"
    # what a client reads where a rate needs a filter: words at fixed places
    assert read(chip, "device", "", "tx_path_rates").split(" ")[5] == "TXSAMP:20000000"


def test_a_one_clears_the_bit_of_the_status_register() -> None:
    state = PlutoState()
    _, transmit, receive = devices(state)
    state.status["tx"] = UNDERFLOW
    write(transmit, "debug", "", "direct_reg_access", hex(STATUS_REGISTER))
    assert read(transmit, "debug", "", "direct_reg_access") == "0x1"
    write(transmit, "debug", "", "direct_reg_access", f"{STATUS_REGISTER:#x} 0x1")
    assert read(transmit, "debug", "", "direct_reg_access") == "0x0"
    assert read(receive, "debug", "", "direct_reg_access") == "0x0"


@pytest.mark.parametrize("num_channels", [1, 2])
def test_the_xml_lists_scan_channels_first_and_files_by_their_kernel_names(num_channels: int) -> None:
    state = PlutoState(num_channels, "ad9361")
    root = ET.fromstring(xml(devices(state), {"hw_model": 'a "<&> b'}, "here"))
    assert root.find("context-attribute[@name='hw_model']").get("value") == 'a "<&> b'  # type: ignore[union-attr]
    for name, format_ in (("cf-ad9361-lpc", "le:S12/16>>0"), ("cf-ad9361-dds-core-lpc", "le:S16/16>>0")):
        channels = root.findall(f"device[@name='{name}']/channel")
        scans = [channel.find("scan-element") for channel in channels]
        assert [scan.get("index") for scan in scans if scan is not None] == [str(k) for k in range(2 * num_channels)]
        assert all(scan is not None and scan.get("format") == format_ for scan in scans[: 2 * num_channels])
    files = {attribute.get("filename") for attribute in root.iter("attribute")}
    assert {"out_altvoltage0_RX_LO_frequency", "in_voltage_sampling_frequency", "in_voltage0_hardwaregain"} <= files


COMMANDS = [
    (b"VERSION\r\n", Command("VERSION")),
    (b"quit\n", Command("EXIT")),
    (b"TIMEOUT 2500\r\n", Command("TIMEOUT", number=2500)),
    (b"OPEN iio:device3 1024 00000003\r\n", Command("OPEN", "iio:device3", number=1024, mask=3)),
    (b"OPEN cf-ad9361-dds-core-lpc 7 0000000F CYCLIC\n",
     Command("OPEN", "cf-ad9361-dds-core-lpc", number=7, mask=15, cyclic=True)),
    (b"READ iio:device0\n", Command("READ", "iio:device0")),
    (b"READ iio:device0 DEBUG loopback\n", Command("READ", "iio:device0", "debug", attribute="loopback")),
    (b"READ a OUTPUT altvoltage0 frequency\n", Command("READ", "a", "output", "altvoltage0", "frequency")),
    (b"WRITE a INPUT voltage0 hardwaregain 5\n", Command("WRITE", "a", "input", "voltage0", "hardwaregain", 5)),
    (b"WRITE a filter_fir_config 1143\n", Command("WRITE", "a", attribute="filter_fir_config", number=1143)),
    (b"SET a BUFFERS_COUNT 16\n", Command("SET", "a", number=16)),
]  # fmt: skip


@pytest.mark.parametrize(("line", "command"), COMMANDS)
def test_commands_are_parsed(line: bytes, command: Command) -> None:
    assert parse(line) == command


@pytest.mark.parametrize("line", [b"\r\n", b"  \t\n", b"\n"])
def test_an_empty_line_is_no_command(line: bytes) -> None:
    assert parse(line) is None


BAD = [
    b"ZORK", b"VERSION now", b"OPEN", b"OPEN a 10", b"OPEN a -1 00000003", b"OPEN a 10 3", b"OPEN a 10 0000000g",
    b"OPEN a 10 00000003 TWICE", b"READBUF a", b"READBUF a 1e3", b"WRITE a", b"WRITE a b c d e f", b"READ",
    b"READ a INPUT", b"READ a b c", b"SET a BUFFERS_COUNT -4", b"SET a OTHER 4", b"TIMEOUT " + b"9" * 40,
    b"READ \xff\xfe", b"READ a;b c", b"\0",
]  # fmt: skip


@pytest.mark.parametrize("line", BAD)
def test_what_is_no_command_gives_einval(line: bytes) -> None:
    with pytest.raises(OSError) as caught:
        parse(line + b"\r\n")
    assert caught.value.errno == errno.EINVAL


def test_all_attributes_at_once_are_padded_to_four_bytes() -> None:
    # length 3 with its NUL, padded to 4; an error; length 4
    assert values(["ab", -38, "abc"]) == b"20\n\0\0\0\x03ab\0\0\xff\xff\xff\xda\0\0\0\x04abc\0\n"
