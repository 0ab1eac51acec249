"""The beginning of every run: what an interrupted one left, and the noise with no transmitter on."""

from pathlib import Path

from testbed.capture import Capture, load, now, truncate, versions
from testbed.errors import ConfigError
from testbed.experiment.config import Experiment
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.record import RunDirectory, SessionRecord
from testbed.experiment.session import Session, capture_noise
from testbed.measurement import Estimate


def begun(directory: RunDirectory, experiment: Experiment) -> SessionRecord | None:
    """How a run that is there began; None for a new one.

    Raises:
        ConfigError: the experiment was changed since.
    """
    before = directory.load_session()
    if before is not None and before.experiment_sha256 != experiment.sha256:
        raise ConfigError(
            f"{directory.experiment}: differs from the experiment that the run began with; undo the change, or start "
            f"another run"
        )
    return before


def measured_noise(
    session: Session,
    experiment: Experiment,
    directory: RunDirectory,
    before: SessionRecord | None,
    notify: Notify,
    *,
    keep: bool = False,
) -> dict[str, Estimate]:
    """Noise variances, as the run began with them or from a capture with no transmitter on; `keep` leaves it whole."""
    if before is not None:
        if directory.muted_path.exists() and not keep:  # an interruption may have left it whole
            keep_samples(directory.muted_path, experiment)
        return before.noise_var
    noise_var, warnings = capture_noise(session, experiment, directory.muted_path)
    directory.save_session(
        SessionRecord(
            experiment_sha256=experiment.sha256,
            created=now("seconds"),
            simulated=any(radio.limits.simulated for radio in session.radios),
            emulator_seed=session.info.get("emulator_seed"),
            versions=versions(),
            rx_gain_db=session.rx_gain_db,
            noise_var=noise_var,
        )
    )
    if not keep:
        keep_samples(directory.muted_path, experiment)
    notify(Progress("muted", len(session.radios) * experiment.muted_samples, warnings=warnings))
    return noise_var


def keep_samples(path: Path, experiment: Experiment, capture: Capture | None = None) -> None:
    """Leave so much of a capture that has been used on disk as the experiment asks for."""
    frames = experiment.capture.keep_frames
    if frames == "all":
        return
    if frames == 0:
        path.unlink()
    else:
        truncate(path, capture or load(path), (frames + 1) * experiment.waveform.frame_len)
