"""The contract of `testbed.radio.base.Radio`, sentence by sentence, against every radio present."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from testbed.device import Limits, Reception, Settings
from testbed.errors import (
    RadioError,
    RadioTimeout,
    RadioUnavailable,
    SafetyRefused,
    SampleLoss,
    SettingOutOfRange,
)
from testbed.radio.base import Radio
from tests.airs import BOARDS, KINDS, Air
from tests.airs import air as simulated_air
from tests.emulator import SETTINGS, tone

pytestmark = pytest.mark.emulated

Open = Callable[..., Radio]

# A replay gives what was captured, whatever is sent: sentences on what is heard of a transmission are not about it.
hearing = pytest.mark.parametrize("air", KINDS, indirect=True, scope="module")


@pytest.fixture(scope="module", params=(*KINDS, "replay"))
def air(request: pytest.FixtureRequest) -> Iterator[Air]:
    with simulated_air(request.param) as made:
        yield made


@pytest.fixture
def open_radio(air: Air) -> Iterator[Open]:
    opened: list[Radio] = []

    def open_one(node: str = "bs1") -> Radio:
        opened.append(air.open(node))
        return opened[-1]

    yield open_one
    for radio in opened:
        radio.close()


def settings(radio: Radio, **changes: float) -> Settings:
    """SETTINGS and changes of them for a radio; transmit gains are told from its highest one."""
    wanted = replace(SETTINGS, **changes)
    return replace(wanted, tx_gain_db=radio.limits.tx_gain_max_db + wanted.tx_gain_db)


@pytest.fixture
def other(open_radio: Open) -> Radio:
    """Another radio on the same air."""
    made = open_radio("bs2")
    made.configure(settings(made))
    return made


@pytest.fixture
def radio(open_radio: Open) -> Radio:
    made = open_radio()
    made.configure(settings(made))
    return made


# Of the rms of two receptions of 64,000 samples each. Of pure noise the difference has a standard error of
# sqrt(2) / (2 sqrt(64,000)) = 0.28 %. Here a tone stands 30 dB above the noise (bs1 of the CoMP scene: 15 - 10 - 6 - 60
# = -61 dBm at the receiver, noise -92.6 dBm), which leaves 0.28 % sqrt(2 / 10^3.0) = 0.0125 %: this is 8 of them,
# exceeded with probability 1e-15. The smallest step of a transmit gain, 0.25 dB, is 2.9 %.
SAME_TONE = 0.001
# of bs2: of another frequency and weak, so that the powers of both add and bs1's is what counts (27 dB below it)
OTHER_TONE = tone(size=320, amplitude=0.1)


def rms(reception: Reception) -> float:
    return float(np.sqrt(np.mean(np.abs(reception.samples) ** 2)))


def test_it_satisfies_the_protocol(radio: Radio) -> None:
    assert isinstance(radio, Radio)
    assert radio.name == "bs1"
    assert isinstance(radio.limits, Limits)


def test_receive_returns_exactly_the_samples_asked_for_with_raw_integers_and_full_scale(radio: Radio) -> None:
    for num_samples in (1, 7, 640, 300_001):
        got = radio.receive(num_samples)
        assert got.raw.dtype == np.int16
        assert got.raw.shape == (radio.limits.num_rx, num_samples, 2)
        assert got.full_scale == radio.limits.rx_full_scale
        assert got.samples.dtype == np.complex64
        assert got.samples.shape == (radio.limits.num_rx, num_samples)
        np.testing.assert_array_equal(got.samples.real, got.raw[..., 0] / np.float32(got.full_scale))


def test_successive_receives_follow_on_within_an_epoch(radio: Radio) -> None:
    first, second = radio.receive(1000), radio.receive(500)
    assert second.epoch == first.epoch
    assert second.start == first.start + 1000
    assert first.continuity in ("reported", "unknown")


@pytest.mark.parametrize("num_samples", [0, -5])
def test_receive_refuses_less_than_one_sample(radio: Radio, num_samples: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        radio.receive(num_samples)


@hearing
def test_transmit_repeats_its_buffer_until_replaced(radio: Radio) -> None:
    radio.transmit(tone(size=64))
    got = radio.receive(64 * 200).samples[0].reshape(200, 64)
    folded = got.mean(axis=0)
    # self path 60 dB below: a tone far above the noise after folding 200 periods
    scatter = np.abs(got - folded).std() / np.sqrt(200)
    assert np.abs(np.fft.fft(folded)[1]) / 64 > 20 * scatter / 8
    radio.transmit(tone(size=32))
    again = radio.receive(64 * 200).samples[0].reshape(200, 64).mean(axis=0)
    spectrum = np.abs(np.fft.fft(again))
    assert np.argmax(spectrum) == 2  # one period of 32 samples is bin 2 of 64


@hearing
def test_mute_stops_transmitting_and_may_be_called_twice_and_unconfigured(radio: Radio, open_radio: Open) -> None:
    radio.transmit(tone(amplitude=0.9))
    loud = rms(radio.receive(64_000))
    radio.mute()
    radio.mute()
    quiet = rms(radio.receive(64_000))
    assert quiet < 0.5 * loud
    radio.close()
    open_radio().mute()


@hearing
def test_after_mute_a_transmission_is_as_loud_as_before(radio: Radio) -> None:
    radio.transmit(tone(amplitude=0.5))
    before = rms(radio.receive(64_000))
    radio.mute()
    assert rms(radio.receive(64_000)) < 0.5 * before
    radio.transmit(tone(amplitude=0.5))
    assert rms(radio.receive(64_000)) == pytest.approx(before, rel=SAME_TONE)


@hearing
@pytest.mark.parametrize("peak", [1.0001, 1.5, np.nan, np.inf])
def test_clipping_is_refused_and_what_was_on_the_air_stays(radio: Radio, peak: float) -> None:
    radio.transmit(tone(amplitude=0.5))
    before = rms(radio.receive(64_000))
    bad = tone(amplitude=0.5)
    bad[0, 3] = peak
    with pytest.raises(SafetyRefused, match="full scale"):
        radio.transmit(bad)
    assert rms(radio.receive(64_000)) == pytest.approx(before, rel=SAME_TONE)


@hearing
def test_full_scale_is_accepted(radio: Radio) -> None:
    radio.transmit(np.array([[1 + 1j, -1 - 1j]], dtype=np.complex64))


@pytest.mark.parametrize("shape", [(640,), (2, 640), (1, 0), (0, 640)])
def test_transmit_refuses_other_shapes_than_num_tx_by_n(radio: Radio, shape: tuple[int, ...]) -> None:
    with pytest.raises(SafetyRefused, match="shape"):
        radio.transmit(np.zeros(shape, dtype=np.complex64))


# attribute, wanted, realised; transmit gains from the highest one
ROUNDED = [
    ("tx_gain_db", -10.1, -10.0),
    ("tx_gain_db", -10.13, -10.25),
    ("tx_gain_db", 0.0, 0.0),
    ("tx_gain_db", -89.75, -89.75),
    ("rx_gain_db", 40.4, 40.0),
    ("rx_gain_db", 71.0, 71.0),
]


@pytest.mark.parametrize(("attribute", "wanted", "realised"), ROUNDED)
def test_rounded_settings_are_returned_rounded(
    radio: Radio, air: Air, attribute: str, wanted: float, realised: float
) -> None:
    if air.kind == "replay" and realised == 71.0:
        realised = wanted = 40.0  # of a replay all gains are attainable that it was captured at
    back = radio.configure(settings(radio, **{attribute: wanted}))
    assert getattr(back, attribute) == getattr(settings(radio, **{attribute: realised}), attribute)


OUT_OF_RANGE = [
    ("tx_gain_db", 3.0),
    ("tx_gain_db", -90.5),
    ("rx_gain_db", 90.0),
    ("carrier_hz", 1e6),
    ("sample_rate_hz", 1e9),
    ("sample_rate_hz", float("1e3")),
]


@hearing
@pytest.mark.parametrize(("attribute", "wanted"), OUT_OF_RANGE)
def test_unattainable_settings_raise_with_the_limits_and_change_nothing(
    radio: Radio, other: Radio, attribute: str, wanted: float
) -> None:
    radio.transmit(tone(amplitude=0.5))
    # a second node keeps sending: with another carrier or sample rate this one would refuse to hear it
    other.transmit(OTHER_TONE)
    before = radio.receive(64_000)
    with pytest.raises(SettingOutOfRange, match=rf"bs1\.{attribute}: .* is outside"):
        radio.configure(settings(radio, **{attribute: wanted}))
    after = radio.receive(64_000)
    assert rms(after) == pytest.approx(rms(before), rel=SAME_TONE)
    assert (after.epoch, after.start) == (before.epoch, before.start + 64_000)


# attribute, value: what the tone, the second node or the epoch must give away
CHANGES = [("tx_gain_db", -10.25), ("rx_gain_db", 39.0), ("carrier_hz", 3.6e9), ("sample_rate_hz", 10e6)]


@hearing
@pytest.mark.parametrize(("attribute", "value"), CHANGES)
def test_a_changed_setting_would_be_seen_by_this_very_check(
    radio: Radio, other: Radio, air: Air, attribute: str, value: float
) -> None:
    radio.transmit(tone(amplitude=0.5))
    other.transmit(OTHER_TONE)
    before = radio.receive(64_000)
    radio.configure(settings(radio, **{attribute: value}))
    if attribute in ("carrier_hz", "sample_rate_hz") and air.kind not in BOARDS:
        with pytest.raises(RadioError, match="all need the same"):
            radio.receive(64_000)
        return
    after = radio.receive(64_000)
    assert after.epoch != before.epoch
    if attribute == "tx_gain_db":
        assert rms(after) / rms(before) == pytest.approx(10 ** (-0.25 / 20), rel=0.005)
    elif attribute == "rx_gain_db":
        assert rms(after) / rms(before) == pytest.approx(10 ** (-1 / 20), rel=0.005)


@hearing
def test_samples_of_two_epochs_are_sample_loss_and_never_one_reception(radio: Radio, other: Radio, air: Air) -> None:
    # 40 MS take the server some tenths of a second; meanwhile what belongs to an epoch changes: on the wire all that is
    # on the air, on a board its own settings
    disturb = other.transmit if air.kind not in BOARDS else lambda samples: radio.mute()
    disturber = threading.Timer(0.05, disturb, args=[tone()])
    disturber.start()
    with pytest.raises(SampleLoss, match=r"does not follow|interrupted after"):
        radio.receive(40_000_000)
    disturber.join()
    assert radio.receive(1000).num_samples == 1000


@pytest.mark.parametrize("kind", KINDS)
def test_a_radio_that_does_not_answer_is_a_timeout_and_mute_ends_within_it(kind: str) -> None:
    timeout_s = 1.0
    with simulated_air(kind) as own:
        stopped = own.open(timeout_s=timeout_s)
        stopped.configure(settings(stopped))
        stopped.transmit(tone())
        with own.frozen():
            for call in (lambda: stopped.receive(1000), stopped.mute):
                began = time.monotonic()
                with pytest.raises(RadioTimeout, match="no answer within 1 s"):
                    call()
                assert timeout_s * 0.9 < time.monotonic() - began < timeout_s + 1.0
        # it goes on where it stopped: the mute that timed out was heard, late replies are not taken for new ones
        assert stopped.receive(1000).num_samples == 1000
        assert not own.is_transmitting()
        stopped.close()


@hearing
def test_receive_gain_moves_the_noise_by_its_own_decibels(radio: Radio) -> None:
    low = rms(radio.receive(200_000))
    radio.configure(settings(radio, rx_gain_db=50.0))
    high = rms(radio.receive(200_000))
    # quantisation adds 1/12 LSB^2 per rail: at 1 LSB rms, as 12 bits have it here, a twelfth; at +10 dB a tenth of that
    lsb_squared = (low * radio.limits.rx_full_scale) ** 2 / 2 - 1 / 12
    expected_db = 10.0 - 10 * np.log10((1 + 1 / 12 / lsb_squared) / (1 + 1 / 120 / lsb_squared))
    # tolerance: 4 standard errors of 200,000 samples is 0.055 dB
    assert 20 * np.log10(high / low) == pytest.approx(expected_db, abs=0.06)


@hearing
def test_close_mutes_may_be_called_twice_and_ends_the_radio(open_radio: Open, air: Air) -> None:
    radio = open_radio()
    radio.configure(settings(radio))
    radio.transmit(tone())
    assert air.is_transmitting()
    radio.close()
    radio.close()
    assert not air.is_transmitting()
    for call in (
        lambda: radio.receive(10),
        lambda: radio.transmit(tone()),
        lambda: radio.configure(settings(radio)),
        radio.mute,
    ):
        with pytest.raises(RadioUnavailable, match="closed"):
            call()


@pytest.mark.parametrize(("attribute", "wanted"), OUT_OF_RANGE)
def test_unattainable_settings_leave_the_stream_as_it_was(radio: Radio, attribute: str, wanted: float) -> None:
    before = radio.receive(1000)
    with pytest.raises(SettingOutOfRange, match=rf"bs1\.{attribute}: .* is outside"):
        radio.configure(settings(radio, **{attribute: wanted}))
    after = radio.receive(1000)
    assert (after.epoch, after.start) == (before.epoch, before.start + 1000)


def test_mute_may_be_called_twice_and_unconfigured(open_radio: Open) -> None:
    radio = open_radio()
    radio.mute()
    radio.mute()


@pytest.mark.parametrize("peak", [1.0001, 1.5, np.nan, np.inf])
def test_clipping_is_refused(radio: Radio, peak: float) -> None:
    bad = tone(amplitude=0.5)
    bad[0, 3] = peak
    with pytest.raises(SafetyRefused, match="full scale"):
        radio.transmit(bad)


def test_a_radio_that_was_closed_says_so(open_radio: Open) -> None:
    radio = open_radio()
    radio.close()
    radio.close()
    for call in (
        lambda: radio.receive(10),
        lambda: radio.transmit(tone()),
        lambda: radio.configure(settings(radio)),
        radio.mute,
    ):
        with pytest.raises(RadioUnavailable, match="closed"):
            call()


def test_settings_survive_a_round_trip(radio: Radio) -> None:
    assert Settings.from_dict(SETTINGS.to_dict()) == SETTINGS
    assert Limits.from_dict(radio.limits.to_dict()) == radio.limits


def test_a_radio_without_a_transmitter_receives_mutes_and_refuses_to_transmit(open_radio: Open) -> None:
    user = open_radio("u1")
    user.configure(settings(user))
    assert user.limits.num_tx == 0
    assert user.receive(1000).raw.shape == (1, 1000, 2)
    for size in (0, 1):
        with pytest.raises(SafetyRefused, match="u1: has no transmitter"):
            user.transmit(np.zeros((size, 640), np.complex64))
    user.mute()
    user.mute()
