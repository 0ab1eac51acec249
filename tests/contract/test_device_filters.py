"""What device configurations name is what a board takes: filters through the real pyadi-iio, limits, identity."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.errors import RadioUnavailable, SettingOutOfRange
from testbed.experiment.devices import node_device
from testbed.radio.devices.config import load_device
from testbed.radio.devices.fir import read_ftr
from testbed.radio.devices.match import check_board
from testbed.radio.pluto.info import STANDARD_LOWEST_HZ
from testbed.radio.pluto.radio import PlutoRadio
from tests.airs import Air, need_libiio, pluto_process, settings_of
from tests.emulator import SETTINGS

pytestmark = pytest.mark.emulated

FILTERS = sorted((Path(__file__).parents[2] / "firmware_configs").rglob("*.ftr"))
AT_2_45_GHZ = replace(SETTINGS, carrier_hz=2.45e9)


@pytest.fixture(scope="module")
def air() -> Iterator[Air]:
    need_libiio()
    with pluto_process("solo") as made:
        yield made


@pytest.mark.parametrize("path", FILTERS, ids=lambda path: path.name)
def test_every_filter_loads_and_works_from_its_lowest_to_its_highest_rate(air: Air, path: Path) -> None:
    ftr = read_ftr(path)
    low_hz, high_hz = ftr.sample_rate_hz
    radio = PlutoRadio(f"pluto:{air.uris['radio1']}", "radio1", fir=str(path))
    try:
        for rate_hz in (max(low_hz + 1, STANDARD_LOWEST_HZ), 3e6, 20e6, high_hz):
            back = radio.configure(replace(AT_2_45_GHZ, sample_rate_hz=rate_hz))
            assert back.sample_rate_hz == pytest.approx(rate_hz, abs=2)
            text = f"FIR Rx: {ftr.num_taps},{ftr.decimation} Tx: {ftr.num_taps},{ftr.interpolation}"
            assert settings_of(air.uris["radio1"])["fir"] == text
        assert radio.receive(1000).num_samples == 1000
        with pytest.raises(SettingOutOfRange):
            radio.configure(replace(AT_2_45_GHZ, sample_rate_hz=low_hz * 0.9))
    finally:
        radio.close()


def test_a_virtual_stock_board_is_a_pluto_and_no_two_channel_one(air: Air) -> None:
    for name in ("pluto", "pluto-20msps"):
        node = node_device("radio1", name, carrier_hz=2.45e9, sample_rate_hz=20e6)
        radio = PlutoRadio(f"pluto:{air.uris['radio1']}", "radio1", fir=node.fir)
        try:
            info = radio._board.info
            check_board(node.device, "radio1", radio.limits, info.attributes, info.num_channels)
            two = node_device("radio1", "pluto-rev-c", carrier_hz=2.45e9, sample_rate_hz=20e6)
            with pytest.raises(
                RadioUnavailable, match=r"not as pluto-rev-c says: 1 channels, needs 2; carrier 325000000"
            ):
                check_board(two.device, "radio1", radio.limits, info.attributes, info.num_channels)
        finally:
            radio.close()


def test_a_virtual_two_channel_board_is_one() -> None:
    need_libiio()
    with pluto_process("comp", "--board", "bs1,u1") as air:
        radio = PlutoRadio(f"pluto:{air.uris['bs1']}", "bs1")
        try:
            device = load_device("pluto-rev-c")
            assert device.config.limits.num_rx == 2
            node = node_device("bs1", "pluto-rev-c", carrier_hz=3.5e9, sample_rate_hz=20e6)
            check_board(node.device, "bs1", radio.limits, radio._board.info.attributes, radio._board.info.num_channels)
        finally:
            radio.close()
