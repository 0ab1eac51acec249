"""What `make test` says in its last lines, checked on small runs of pytest in a folder of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

PASSES = "def test_passes(): pass\n"
SKIPS = """
import pytest

@pytest.mark.skip(reason="chromium not found")
def test_first(): pass

def test_second(): pytest.skip("chromium not found")
"""
SKIPS_A_MODULE = "import pytest\npytest.importorskip('no_such_driver', reason='no driver')\n"
SOAKS = "import pytest\n\n@pytest.mark.soak\ndef test_long(): pass\n"
FAILS = "def test_fails(): assert False\n"
EXPECTED_FAILURE = "import pytest\n\n@pytest.mark.xfail\ndef test_known(): assert False\n"


@pytest.fixture
def small_run(tmp_path):
    """Run pytest on the given module texts; returns (exit status, lines of output)."""

    def run(*modules, no_skips=False):
        shutil.copy(CONFTEST, tmp_path)
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -m 'not soak'\nmarkers =\n    soak: long\n")
        for idx, text in enumerate(modules):
            (tmp_path / f"test_{idx}.py").write_text(text)
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "ISAC"))}
        if no_skips:
            env["ISAC_NO_SKIPS"] = "1"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout.splitlines()

    return run


def test_a_complete_run_ends_with_nothing_was_left_out(small_run):
    status, lines = small_run(PASSES, EXPECTED_FAILURE, no_skips=True)
    assert (status, lines[-1]) == (0, "nothing was left out")


def test_skips_are_named_with_reason_and_count_in_the_last_lines(small_run):
    status, lines = small_run(PASSES, SKIPS, SKIPS_A_MODULE)
    assert status == 0
    assert lines[-4:-1] == ["left out:", "  2 x chromium not found", "  1 x no driver"]
    assert "make deps" in lines[-1]


def test_a_skip_fails_the_run_where_nothing_may_be_left_out(small_run):
    status, lines = small_run(PASSES, SKIPS, no_skips=True)
    assert status == 1
    assert lines[-1] == "ISAC_NO_SKIPS=1: 2 left out: chromium not found"


def test_deselected_soak_tests_are_named_but_are_no_error(small_run):
    status, lines = small_run(PASSES, SOAKS, no_skips=True)
    assert status == 0
    assert lines[-2:] == ["nothing was left out", "not part of this run: 1 marked soak (run by `make soak`)"]


def test_a_failure_stays_a_failure(small_run):
    assert small_run(FAILS, SKIPS)[0] == 1
