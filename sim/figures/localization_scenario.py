"""The localisation paper's setting and drops of users, target and fading.

    three base stations on alternate corners of a hexagon, looking at its centre; per drop:
    one user each, uniform in the station's 120 degree sector of one hexagon side, one target, uniform in the hexagon
    H, D   (lambda / 4 pi)^2 d^-2.5 G G |sqrt(kappa / (kappa + 1)) + sqrt(1 / (kappa + 1)) w|^2, w ~ CN(0, 1)
    E, F   lambda^2 q / (4 pi)^3 / (d_out^2 d_back^2) G G

Drop k comes from its own seed sequence, (seed, k): the same whatever the chunks and however many there are. All values
of a sweep use the same drops.

Source: Rivera Figueroa, Bishoyi and Petrova, arXiv 2402.10660, sec. IV-A. Differs: its numbers did not survive in the
copies that are stored. Three stations, users and one target, the exponents 2.5 and 2, Rician fading and 120 degree
sectors are the paper's; every other default here is a choice of the project's specification, so figures show the
paper's effects, not its numbers. The direct channel between two stations is the same both ways.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.figures.draws import random_generator
from testbed.allocation.localization import OwnEcho, RangeProblem
from testbed.units import SPEED_OF_LIGHT_MPS, undb

NUM_STATIONS = 3
BANDWIDTH_HZ = 100e6
MAX_POWER_W = undb(46.0) * 1e-3
SELF_GAIN_DB = -110.0  # where it is not the axis
MIN_COMM_SINR_DB = -5.0  # where it is not the axis
GUARD_M = 10.0  # ground distance of users and target to a station
UE_NOISE_FIGURE_DB, STATION_NOISE_FIGURE_DB = 9.0, 5.0
_NOISE_DBM_HZ = -174.0


@dataclass(frozen=True)
class Setting:
    """What can be varied. Defaults are those of the specification."""

    spacing_m: float = 200.0  # between stations
    station_height_m: float = 10.0
    height_m: float = 1.5  # of users and target
    carrier_hz: float = 3.5e9
    rcs_m2: float = 10.0
    rician_k_db: float = 9.0
    direct_gain_db: float = 0.0  # on D: below 0 where static paths have been cancelled
    target_user_guard_m: float = 0.0  # a user nearer to the target, on the ground, is drawn anew

    @property
    def station_position_m(self) -> NDArray[np.float64]:
        """Alternate corners of the hexagon of side spacing / sqrt(3), shape (3, 3)."""
        angle, side = np.deg2rad([90.0, 210.0, 330.0]), self.spacing_m / np.sqrt(3)
        return np.stack([side * np.cos(angle), side * np.sin(angle), np.full(3, self.station_height_m)], axis=1)


@dataclass(frozen=True, eq=False)
class Drops:
    """N drops, [drop, transmitter, receiver], linear power gains."""

    comm_gain: NDArray[np.float64]  # H, (N, 3, 3)
    comm_echo_gain: NDArray[np.float64]  # F, (N, 3, 3)
    echo_gain: NDArray[np.float64]  # E, (N, 3, 3)
    direct_gain: NDArray[np.float64]  # D, (N, 3, 3), diagonal 0
    target_position_m: NDArray[np.float64]  # (N, 3)
    user_position_m: NDArray[np.float64]  # (N, 3, 3), [drop, user, axis]

    def __len__(self) -> int:
        return len(self.comm_gain)

    def with_direct_gain_db(self, gain_db: float) -> "Drops":
        """The same drops with the paths between stations stronger by `gain_db`."""
        return replace(self, direct_gain=self.direct_gain * undb(gain_db))

    def problem(
        self,
        drop: int,
        self_gain_db: float = SELF_GAIN_DB,
        min_comm_sinr_db: float = MIN_COMM_SINR_DB,
        own_echo: OwnEcho = "interference",
    ) -> RangeProblem:
        """The allocation problem of one drop, powers and noise in watts."""
        return RangeProblem(
            self.comm_gain[drop],
            self.comm_echo_gain[drop],
            self.echo_gain[drop],
            self.direct_gain[drop],
            undb(self_gain_db),
            noise_w(STATION_NOISE_FIGURE_DB),
            noise_w(UE_NOISE_FIGURE_DB),
            MAX_POWER_W,
            undb(min_comm_sinr_db),
            BANDWIDTH_HZ,
            own_echo,
        )


def noise_w(noise_figure_db: float) -> float:
    """Noise power over the band."""
    return 1e-3 * undb(_NOISE_DBM_HZ + noise_figure_db) * BANDWIDTH_HZ


def draw(seed: int, first: int, count: int, setting: Setting | None = None) -> Drops:
    """Drops `first` to `first + count` of the ensemble of `seed`."""
    setting = Setting() if setting is None else setting
    stations = setting.station_position_m
    targets, users = np.empty((count, 3)), np.empty((count, 3, 3))
    normal = np.empty((count, 2, 3, 3, 2))
    for i in range(count):
        rng = random_generator(seed, first + i)
        normal[i] = rng.standard_normal(normal.shape[1:])
        targets[i] = _target(rng, setting, stations)
        users[i] = [_user(rng, setting, stations, k, targets[i]) for k in range(3)]
    w = normal.view(np.complex128)[..., 0] / np.sqrt(2)
    upper = np.triu(np.ones((3, 3), dtype=bool), 1)
    between = np.where(upper, w[:, 1], np.swapaxes(w[:, 1], 1, 2))
    direct = _terrestrial(setting, stations[None], stations[None], between) * undb(setting.direct_gain_db)
    back, to_users = _hop(setting, stations[None], targets), _hop(setting, users, targets)
    out = back * _antenna_gain(setting, stations, targets[:, None])[..., 0]
    wave = (SPEED_OF_LIGHT_MPS / setting.carrier_hz) ** 2 * setting.rcs_m2 / (4 * np.pi) ** 3
    return Drops(
        _terrestrial(setting, stations[None], users, w[:, 0]) * _antenna_gain(setting, stations, users),
        wave * out[:, :, None] * to_users[:, None, :],
        wave * out[:, :, None] * out[:, None, :],
        np.where(np.eye(3, dtype=bool), 0.0, direct),
        targets,
        users,
    )


def _target(rng: np.random.Generator, setting: Setting, stations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform in the hexagon with corners at 90, 150, ... degrees."""
    side = setting.spacing_m / np.sqrt(3)
    while True:
        x, y = rng.uniform(-side, side, 2)
        inside = abs(x) <= side * np.sqrt(0.75) and abs(x) / np.sqrt(3) + abs(y) <= side
        if inside and np.min(np.hypot(*(stations[:, :2] - [x, y]).T)) >= GUARD_M:
            return np.array([x, y, setting.height_m])


def _user(
    rng: np.random.Generator, setting: Setting, stations: NDArray[np.float64], k: int, target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Uniform in the sector of station k."""
    side = setting.spacing_m / np.sqrt(3)
    boresight = np.arctan2(-stations[k, 1], -stations[k, 0])
    while True:
        radius, angle = side * np.sqrt(rng.random()), boresight + np.deg2rad(rng.uniform(-60, 60))
        place = stations[k, :2] + radius * np.array([np.cos(angle), np.sin(angle)])
        away = np.hypot(*(place - target[:2])) >= setting.target_user_guard_m
        if away and np.min(np.hypot(*(stations[:, :2] - place).T)) >= GUARD_M:
            return np.append(place, setting.height_m)


def _hop(setting: Setting, ends: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse square distance of ends (N or 1, 3, 3) to targets (N, 3), shape (N, 3)."""
    return 1 / np.sum((ends - targets[:, None]) ** 2, axis=-1)


def _terrestrial(
    setting: Setting, a: NDArray[np.float64], b: NDArray[np.float64], w: NDArray[np.complex128]
) -> NDArray[np.float64]:
    """Rician gains of a (N or 1, 3, 3) to b (N or 1, 3, 3) without antennas, shape (N, 3, 3)."""
    kappa = undb(setting.rician_k_db)
    wavelength = SPEED_OF_LIGHT_MPS / setting.carrier_hz
    distance = np.linalg.norm(a[:, :, None] - b[:, None, :], axis=-1)
    distance = np.where(distance > 0, distance, 1.0)  # a station to itself, which does not count
    fading = np.abs(np.sqrt(kappa / (kappa + 1)) + np.sqrt(1 / (kappa + 1)) * w) ** 2
    return (wavelength / (4 * np.pi)) ** 2 * distance**-2.5 * fading


def _antenna_gain(setting: Setting, stations: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flat 0 dBi within 60 degrees of boresight, -30 dB outside, of stations (3, 3) to places (N, M, 3), (N, 3, M)."""
    boresight = np.arctan2(-stations[:, 1], -stations[:, 0])
    away = places[:, None, :, :2] - stations[None, :, None, :2]
    off = np.angle(np.exp(1j * (np.arctan2(away[..., 1], away[..., 0]) - boresight[:, None])))
    return np.where(np.abs(off) <= np.deg2rad(60) + 1e-9, 1.0, 1e-3)
