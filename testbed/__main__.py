"""`isac`: the instrument's command line."""

from testbed.command import new_app, run_app
from testbed.verbs import (
    calibrating,
    devices,
    files,
    hosts,
    keys,
    plan,
    ranging,
    replaying,
    running,
    serving,
    stages,
    sweeping,
)

app = new_app("isac", "ISAC Testbed: sensing and communication experiments on software radios, or on simulated air.")
for verb in (
    plan.init,
    plan.check,
    running.run,
    stages.capture,
    stages.detect,
    replaying.replay,
    stages.measure,
    stages.allocate,
    running.report,
    running.compare,
    sweeping.sweep,
    serving.serve,
    keys.keys,
    hosts.radios,
    hosts.doctor,
    calibrating.calibrate,
):
    app.command()(verb)
app.command("range")(ranging.ranges)
file_app = new_app("file", "Look at capture files.")
file_app.command()(files.check)
file_app.command()(files.info)
app.add_typer(file_app, name="file")
app.add_typer(devices.app, name="device")


def main() -> None:
    """Entry point."""
    run_app(app)


if __name__ == "__main__":
    main()
