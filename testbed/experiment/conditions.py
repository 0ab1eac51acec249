"""Conditions of the world that the operator sets: no radio's business.

On the emulator a condition is one request on the wire; on air the operator is asked to move the targets.
"""

from collections.abc import Callable

from testbed.errors import IsacError
from testbed.radio.remote import WireClient

Ask = Callable[[str], bool]


class EmulatorConditions:
    """Switches the targets of an emulated scene."""

    def __init__(self, endpoint: str, timeout_s: float = 10.0) -> None:
        self._client = WireClient(endpoint, timeout_s)

    def set(self, condition: str) -> None:
        """Set 'all', 'empty' or 'without:<name>'."""
        self._client.request({"op": "condition", "condition": condition})

    def close(self) -> None:
        """Disconnect."""
        self._client.close()


class OperatorConditions:
    """Asks the operator to set the scene, and waits."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def set(self, condition: str) -> None:
        """Ask; a refusal ends the run."""
        wish = {
            "all": "put every target in its cell",
            "empty": "take every target out of its cell",
        }.get(condition, f"take target {condition.removeprefix('without:')} out of its cell, the others in theirs")
        if not self._ask(f"condition '{condition}': {wish}, then confirm"):
            raise IsacError(f"condition '{condition}': not confirmed; the run ends here, its captures are kept")

    def close(self) -> None:
        """Nothing to release."""
