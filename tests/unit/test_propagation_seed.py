"""Another seed of the noise leaves the world as it is: phases of paths do not change with it."""

import numpy as np

from sim.propagation import scene_paths
from sim.scene import load_scene, with_seed
from sim.world import World
from testbed.device import Settings

CARRIER_HZ, RATE_HZ = 3.5e9, 20e6


def test_a_noise_seed_draws_other_noise_and_leaves_the_phases_of_paths():
    scene = load_scene("localization")
    other = with_seed(scene, 99)

    for rx in range(3):
        before, after = (scene_paths(s, rx, CARRIER_HZ, RATE_HZ) for s in (scene, other))
        assert [path.gain for path in before] == [path.gain for path in after]

    samples = []
    for world in (World(scene), World(other)):
        world.configure("bs1", Settings(CARRIER_HZ, RATE_HZ, -20.0, 40.0))
        samples.append(world.receive("bs1", 100).raw)
    assert not np.array_equal(*samples)


def test_a_seed_of_the_layout_draws_other_phases():
    scene = load_scene("localization")
    other = scene.model_copy(update={"layout_seed": 7})

    gains = [[path.gain for path in scene_paths(s, 0, CARRIER_HZ, RATE_HZ)] for s in (scene, other)]

    assert not np.allclose(gains[0], gains[1])
    assert np.allclose(np.abs(gains[0]), np.abs(gains[1]))
