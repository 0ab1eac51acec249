"""The environment for UHD differs from the project's own by NumPy 1 and what that entails. Run by default."""

from pathlib import Path

from tests.interop_uhd.simulated_usrp import HERE, REPOSITORY

DIFFERENT = {"numpy", "cvxpy"}  # CVXPY 1.8 and later need NumPy 2


def pins(path: Path) -> dict[str, str]:
    """Versions by name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))  # type: ignore[arg-type]


def test_its_pins_are_the_projects_own_but_for_numpy_1() -> None:
    own, ours = pins(REPOSITORY / "constraints.txt"), pins(HERE / "constraints.txt")
    assert len(ours) > 50
    assert {name for name in ours if ours[name] != own.get(name)} == DIFFERENT
    assert ours["numpy"].startswith("1.")
