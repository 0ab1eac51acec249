"""The end of every test run says what was left out and why; with ISAC_NO_SKIPS=1 leaving out is an error."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does; before anything loads NumPy

from collections import Counter

import hypothesis
import pytest

# Property tests draw the same examples in every run, and a loaded machine is no fault.
hypothesis.settings.register_profile(
    "isac", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("isac")

NOT_BY_DEFAULT = {
    "soak": "run by `make soak`",
    "interop": "run by `make interop`",
    "interop_uhd": "run by `make interop-uhd`",
    "hardware": "needs a real radio: pytest -m hardware",
}

deselected: Counter[str] = Counter()


def pytest_deselected(items):
    """Count the tests that the default `-m` expression leaves out, by marker."""
    for item in items:
        deselected.update(marker for marker in NOT_BY_DEFAULT if item.get_closest_marker(marker))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """Print after pytest's own last line, which the terminal summary hook would come before."""
    result = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker process of a parallel run; its controller reports
        return result
    skips = Counter(
        _reason(report)
        for category in ("skipped", "subtests skipped")
        for report in reporter.stats.get(category, [])
        if not hasattr(report, "wasxfail")
    )
    reporter.write_line("")
    _print_left_out(reporter, skips)
    if skips and os.environ.get("ISAC_NO_SKIPS") == "1":
        reporter.write_line(f"ISAC_NO_SKIPS=1: {sum(skips.values())} left out: " + "; ".join(skips), red=True)
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return result


def _print_left_out(reporter, skips):
    if skips:
        reporter.write_line("left out:")
        for reason, count in skips.most_common():
            reporter.write_line(f"  {count} x {reason}")
        reporter.write_line("`make deps` installs the system packages that some tests need")
    else:
        reporter.write_line("nothing was left out")
    for marker, count in sorted(deselected.items()):
        reporter.write_line(f"not part of this run: {count} marked {marker} ({NOT_BY_DEFAULT[marker]})")


def _reason(report):
    # longrepr of a skip is (file, line, "Skipped: reason"); the reason is one line for the user
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return " ".join(text.removeprefix("Skipped: ").split())
