"""What is installed, shipped and pinned is what pyproject.toml, constraints.txt and the tree say."""

import importlib.metadata as metadata
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import testbed

ROOT = Path(__file__).parents[2]
DISTRIBUTION = "isac-testbed"
PACKAGES = ("testbed", "sim")
SCRIPTS = {"isac": "testbed.__main__:main", "isac-sim": "sim.__main__:main"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
DECLARED = [Requirement(text) for group in (PROJECT["project"]["dependencies"], *EXTRAS.values()) for text in group]


def pins():
    """Version by canonical name; a line that is not name==version is an error."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)", line)
            assert pin, f"constraints.txt: '{line}' is not name==version"
            found[canonicalize_name(pin[1])] = pin[2]
    return found


def tracked_files():
    """Files that are in the repository or would be with the next `git add`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_installed_version_is_the_one_in_pyproject():
    assert metadata.version(DISTRIBUTION) == PROJECT["project"]["version"] == testbed.__version__


def test_both_scripts_are_installed_and_point_at_functions():
    installed = metadata.distribution(DISTRIBUTION).entry_points.select(group="console_scripts")
    assert {script.name: script.value for script in installed} == SCRIPTS
    assert all(callable(script.load()) for script in installed)


def test_only_the_two_packages_are_shipped():
    shipped = {name for name, owners in metadata.packages_distributions().items() if DISTRIBUTION in owners}
    assert {name for name in shipped if not name.startswith("__editable__")} == set(PACKAGES)
    assert set(PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]) == {
        pattern for name in PACKAGES for pattern in (name, f"{name}.*")
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_code_is_a_package(package):
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_data_file_of_the_packages_is_shipped():
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, listed in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in listed
    ]
    data = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.relative_to(ROOT).parts[0] in PACKAGES and path.suffix not in (".py", ".md")
    ]
    assert "testbed/py.typed" in data  # the listing works
    assert [name for name in data if not any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_constraints_pin_every_declared_dependency_within_its_range():
    pinned = pins()
    for requirement in DECLARED:
        assert canonicalize_name(requirement.name) in pinned, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), str(requirement)


def test_constraints_pin_what_the_dependencies_need_in_turn():
    needed, queue = set(), [(requirement.name, frozenset(requirement.extras)) for requirement in DECLARED]
    while queue:
        name, extras = queue.pop()
        needed.add(canonicalize_name(name))
        for text in metadata.requires(name) or []:
            child = Requirement(text)
            wanted = child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in {"", *extras})
            if wanted and canonicalize_name(child.name) not in needed:
                queue.append((child.name, frozenset(child.extras)))
    assert sorted(needed - set(pins())) == []


def test_make_and_ci_call_the_scripts_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\(BIN\)/(isac[a-z-]*)", makefile)) <= set(SCRIPTS)
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))) <= targets


def test_no_machine_path_or_index_host_is_tracked():
    homes = r"(?<![\w.~/-])/(?:home|root|Users|mnt|opt|srv)/[\w.-]+"
    hosts = r"pypi\.org|pythonhosted\.org|deb\.debian\.org|archive\.ubuntu\.com"
    here = "|".join(re.escape(str(path)) for path in {ROOT, Path.home()} if len(path.parts) > 2)
    forbidden = re.compile("|".join(filter(None, (homes, hosts, here))))
    found = []
    for path in tracked_files():
        raw = path.read_bytes()
        if b"\0" in raw[:8192]:  # binary
            continue
        for number, line in enumerate(raw.decode("utf-8", errors="replace").splitlines(), start=1):
            if forbidden.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []
