"""The README's commands and its Python run as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulator import environment

pytestmark = pytest.mark.emulated

ROOT = Path(__file__).parents[2]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)


def test_the_commands_and_the_python_of_the_readme_run_in_order(tmp_path: Path) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    verbs = {shlex.split(command)[1] for command in commands}
    assert verbs >= {
        "init",
        "check",
        "run",
        "compare",
        "sweep",
        "capture",
        "detect",
        "measure",
        "allocate",
        "report",
        "file",
        "truth",
    }
    scripts = str(Path(sys.executable).parent)
    env = environment(PATH=scripts + os.pathsep + os.environ["PATH"])
    for command in commands:
        done = subprocess.run(shlex.split(command), cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout.strip(), command
    said = []
    for script in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[1].startswith("stationary")
    false_alarms, pod = map(float, said[0].split())
    # 100 H0 frames at 1e-2: more than 6 false alarms have probability 1e-4
    assert false_alarms <= 0.06
    assert pod == pytest.approx(0.7, abs=1e-3)


def test_the_make_targets_the_readme_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^    make (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target
