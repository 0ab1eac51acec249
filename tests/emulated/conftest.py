"""One full run of the reference scene, shared by the tests of this folder."""

from dataclasses import dataclass

import pytest

from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.gather import RunResults
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.run import run
from tests.scenes import comp_experiment


@dataclass(frozen=True)
class Run:
    """A finished run."""

    directory: CompRun
    experiment: CompExperiment
    results: RunResults


@pytest.fixture(scope="session")
def comp_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """9 powers, then up to 5 rounds, x 3 base stations x 2000 frames x (H1, H0), the preset's seeds."""
    experiment = comp_experiment()
    directory = CompRun.create(tmp_path_factory.mktemp("runs") / "comp", experiment, overwrite=False)
    return Run(directory, experiment, run(directory, lambda progress: None, lambda question: False))
