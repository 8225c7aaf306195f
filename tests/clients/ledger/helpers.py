"""What tests of the ledger share: wishes, a clock to turn, ledgers in a folder and in a vault, forked processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clients.ledger import Budget, Charge, Ledger
from clients.ledger.clock import Reading
from clients.ledger.stores import FolderStore, VaultStore
from clients.vault import RoleKey, Vault
from common.privacy.accounting import Mechanism

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
WHOLE = Budget(3.0, 1e-5)


class Hands:
    """A clock whose hands a test turns: the wall's, and that of the machine's uptime."""

    def __init__(self) -> None:
        self.reading = Reading(NOON, "boot", 100.0)

    def __call__(self) -> Reading:
        return self.reading

    def turn(
        self, *, wall: timedelta = timedelta(0), up: timedelta = timedelta(0), boot: str = "boot"
    ) -> None:
        since = self.reading.since_boot_s + up.total_seconds()
        self.reading = Reading(self.reading.wall + wall, boot, since)


def wish(round_: int = 1, *, epsilon: float = 0.5, run: str = "a" * 64, name: str = "") -> Charge:
    """A pure answer of that ε, which composes by plain addition at most."""
    return Charge("training", Mechanism.pure(epsilon), run=run, league="test", round=round_, name=name)


def in_folder(root: Path, budget: Budget = WHOLE, clock: Hands | None = None) -> Ledger:
    store = FolderStore(root / "ledger")
    return Ledger(store, budget, "amber", clock) if clock else Ledger(store, budget, "amber")


def in_vault(vault: Vault, budget: Budget = WHOLE) -> Ledger:
    return Ledger(VaultStore(vault), budget, "amber")


def ask_until_refused(ledger: Ledger, epsilon: float, granted: list[int]) -> None:
    """Ask for answer after answer, and note what was granted; ends with the refusal."""
    for round_ in range(1, 1000):
        ledger.debit(wish(round_, epsilon=epsilon))
        granted.append(round_)


def new_vault(folder: Path, keys: dict[str, RoleKey]) -> None:
    roles = {role: key.public() for role, key in keys.items() if role != "owner"}
    Vault.create(folder, keys["owner"], roles).close()


def forked(work: Callable[[], None]) -> int:
    """Do work in a child of this process, which has all modules loaded; returns its id. Exit code 0, 10 or 1."""
    from common.errors import PrivacyError

    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except PrivacyError:
        code = 10
    finally:
        os._exit(code)


def exit_code(child: int) -> int:
    """The exit code of a child, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
