"""Conditions of the world that the operator sets: no radio's business.

On simulated air a condition is one request on the wire; on air the operator is asked to move the targets.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from testbed.errors import IsacError
from testbed.radio.base import Conditioned
from testbed.radio.keys import load_client_keys
from testbed.radio.remote import WireClient

Ask = Callable[[str], bool]

# Simulated noise is a function of the epoch. Every condition of every step has an epoch of its own, far enough apart
# that what comes between (muting, gains, transmitting) never reaches the next one.
FIRST_EPOCH = 4096
EPOCHS_PER_STEP = 4096
TRANSMIT_EPOCHS = 1024


def step_epoch(serial: int, condition_idx: int = 0) -> int:
    """The epoch of a condition of a step; no two steps of a run have the same serial number."""
    return FIRST_EPOCH + serial * EPOCHS_PER_STEP + TRANSMIT_EPOCHS + condition_idx


class Conditions(Protocol):
    """Something that can put the world into a condition."""

    def set(self, condition: str, epoch: int | None = None) -> None:
        """Set 'all', 'empty' or 'without:<name>'; simulated air begins an epoch, not before `epoch`.

        Simulated noise depends on the epoch: a run that names its epochs can be continued on another emulator.
        """

    def describe(self) -> dict[str, Any]:
        """What a capture should keep of the world: the seed of simulated noise."""

    def close(self) -> None:
        """Release."""


class SimulatedConditions:
    """Switches the targets of emulated scenes, and chooses among captures that are replayed.

    Servers may lead to the same air: an emulator, and radio servers whose radios are nodes of it. One of them is told.
    """

    def __init__(
        self, servers: Sequence[tuple[str, str | None]], timeout_s: float = 10.0, replays: Sequence[Conditioned] = ()
    ) -> None:
        """Connect to servers, each an endpoint and a folder of keys or None."""
        self._replays = tuple(replays)
        self._clients: list[WireClient] = []
        airs: set[Any] = set()
        try:
            for endpoint, keys in servers:
                client = WireClient(endpoint, timeout_s, None if keys is None else load_client_keys(Path(keys)))
                self._clients.append(client)
                air = client.request({"op": "status"}).get("air")
                if isinstance(air, str) and air in airs:
                    self._clients.pop().close()
                airs.add(air)
        except BaseException:
            self.close()
            raise

    def set(self, condition: str, epoch: int | None = None) -> None:
        """Set the condition everywhere."""
        for replay in self._replays:
            replay.set_condition(condition)
        wish = {"op": "condition", "condition": condition} | ({} if epoch is None else {"epoch": epoch})
        for client in self._clients:
            client.request(wish)

    def describe(self) -> dict[str, Any]:
        """The seed of the noise as every server reports it; of captures nothing."""
        seeds = [client.request({"op": "status"}).get("seed") for client in self._clients]
        if not any(seed is not None for seed in seeds):
            return {}
        return {"emulator_seed": seeds[0] if len(set(seeds)) == 1 else seeds}

    def close(self) -> None:
        """Disconnect."""
        for client in self._clients:
            client.close()


class OperatorConditions:
    """Asks the operator to set the scene, and waits."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._now = ""

    def set(self, condition: str, epoch: int | None = None) -> None:
        """Ask, unless it is so already; a refusal ends the run. The air knows no epochs."""
        if condition == self._now:
            return
        wish = {
            "all": "put every target in its cell",
            "empty": "take every target out of its cell",
        }.get(condition, f"take target {condition.removeprefix('without:')} out of its cell, the others in theirs")
        if not self._ask(f"condition '{condition}': {wish}, then confirm"):
            raise IsacError(f"condition '{condition}': not confirmed; the run ends here, its captures are kept")
        self._now = condition

    def describe(self) -> dict[str, Any]:
        """Nothing: the air has no seed."""
        return {}

    def close(self) -> None:
        """Nothing to release."""
