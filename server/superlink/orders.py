"""An order to run or stop, and its status: two small files in the coordinator's kit, which any process can read.

Invariants: whoever wants something writes `order.json`, the coordinator alone writes `outcome.json`; each is written
whole or not at all, so an order outlives both processes and is carried out by the next coordinator that comes up.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from common.errors import RunError
from common.files import read_json, write_json
from common.runtime.locks import is_held

State = Literal["running", "released", "failed", "stopped"]
_ORDER, _OUTCOME, LOCK, ADDRESS = "order.json", "outcome.json", "up.lock", "up.json"


@dataclass(frozen=True)
class RunOrder:
    """An order to the coordinator: go on with a run, or stop it.

    Parameters
    ----------
    run : the run's folder.
    wanted : whether it shall run; if not, `now` says whether to stop at once or after the round.
    number : the order's random number; a new one for each start.
    """

    run: str
    wanted: bool = True
    now: bool = False
    number: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        flags = type(self.wanted) is bool and type(self.now) is bool
        if not (flags and isinstance(self.run, str) and isinstance(self.number, str)):
            raise TypeError


@dataclass(frozen=True)
class OrderStatus:
    """The status of an order.

    Parameters
    ----------
    tries : how often the run was started for this order.
    fault : the error that ended it, as `HansaError.as_dict` returns it.
    """

    number: str
    state: State
    tries: int = 1
    fault: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        told = isinstance(self.number, str) and isinstance(self.fault, dict)
        if not (told and self.state in get_args(State) and type(self.tries) is int):
            raise TypeError


@dataclass(frozen=True)
class Post:
    """The two files of one coordinator's kit."""

    kit: Path

    @property
    def private(self) -> Path:
        return self.kit / "private"

    def is_up(self) -> bool:
        """Whether a coordinator of this kit runs on this machine and takes orders."""
        return is_held(self.private / LOCK) and (self.private / ADDRESS).exists()

    def require_up(self) -> None:
        """Raises
        ------
        RunError : no coordinator of this kit runs.
        """
        if not self.is_up():
            raise RunError(
                "the coordinator isn't up", where=str(self.kit),
                next_step=f"start it with 'hansa coordinator up {self.kit}'; it goes on with what it was doing",
            )  # fmt: skip

    def order(self) -> RunOrder | None:
        """The last order."""
        path = self.private / _ORDER
        return _read(RunOrder, path) if path.exists() else None

    def give(self, order: RunOrder) -> None:
        """Write an order."""
        write_json(self.private / _ORDER, asdict(order))

    def outcome(self) -> OrderStatus | None:
        """What came of the last order that was taken."""
        path = self.private / _OUTCOME
        return _read(OrderStatus, path) if path.exists() else None

    def tell(self, outcome: OrderStatus) -> None:
        """Write what came of it."""
        write_json(self.private / _OUTCOME, asdict(outcome))


def _read(kind: Any, path: Path) -> Any:
    document = read_json(path)
    try:
        record = kind(**document)
        if asdict(record) != document:  # a field that is missing would be made up anew at each look
            raise TypeError
        return record
    except TypeError:
        raise RunError(
            "a file of the coordinator is damaged", where=str(path), next_step="delete it"
        ) from None
