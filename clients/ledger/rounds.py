"""A paid round: check the receipt, reserve, train, keep the bytes, note them, and only then let them go.

Invariant: whatever is killed when, each update that left the site has a debit of its own, and a debit whose update
never left serves the next try.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clients.dp import NoisyOutputs
from clients.ledger.entries import COORDINATOR, Asked
from clients.ledger.ledger import Ledger
from common.errors import PrivacyError
from common.files import write_whole
from common.privacy.guarantee import UNITS, round_mechanism
from common.privacy.receipts import read_receipt
from common.protocol.wire import FloatVector, vector_digest
from common.provision.pinned import Pinned
from common.settings.config import LeagueConfig

Shared = Callable[[FloatVector, Callable[[], object]], str]
"""From an update, and what asks the ledger before noise is drawn, to the digest of what leaves."""


def price_of_round(config: LeagueConfig, round_: int) -> Asked:
    """What one round of a league's run asks of each site, in the unit of its mode."""
    privacy = config.privacy
    adversary, records = COORDINATOR, 1
    if privacy.mode == "distributed":
        adversary = (
            f"whoever sees the sums of a league with {privacy.honest_sites} honest sites or more; against one who "
            "sees this site's update alone only its part of the noise holds"
        )
    if privacy.mode == "record":
        records = privacy.records_per_user
    return Asked(
        "training", round_mechanism(config), unit=UNITS[privacy.mode], records_per_user=records, adversary=adversary,
        run=config.digest(), league=config.name, round=round_, run_epsilon=privacy.epsilon, delta=privacy.delta,
    )  # fmt: skip


def paid_round(
    ledger: Ledger, kept: NoisyOutputs, asked: Asked, received: FloatVector, train: Callable[[], FloatVector],
    shared: Shared | None = None,
) -> FloatVector:  # fmt: skip
    """The update of a round, made or kept, and noisy unless its noise is shared.

    Parameters
    ----------
    shared : where noise is added to whole numbers: makes them from the update, or finds them made.

    Raises
    ------
    PrivacyError : the budget doesn't hold it, or the ledger can't be believed or written.
    """

    def pay_and_train() -> FloatVector:
        ledger.reserve(asked)
        return train()

    update = kept.once(asked.round, received, pay_and_train)
    leaves = vector_digest(update) if shared is None else shared(update, lambda: ledger.reserve(asked))
    ledger.tell(asked, leaves)
    return update


def check_receipt(
    ledger: Ledger, receipt: str, private: Path, site: str, pinned: Pinned | None = None
) -> None:
    """Hold the coordinator's receipt against the ledger.

    Parameters
    ----------
    pinned : the contract's keys, of which one signs receipts; in a simulation the first receipt of a run fixes it.

    Raises
    ------
    PrivacyError : the receipt is forged or foreign, or the ledger is older than it.
    """
    head, by = read_receipt(receipt, site)
    if pinned is not None and pinned.receipts != by:
        raise PrivacyError(
            "the receipt of the privacy ledger isn't signed by the key that the contract names",
            where=f"site '{site}'", why="whoever can hand out receipts can keep a site from training",
            next_step="ask who provisions the league for the contract's next edition",
        )  # fmt: skip
    if pinned is None:
        _require_same_signer(private, by)
    ledger.require(head)


def _require_same_signer(private: Path, by: str) -> None:
    path = private / "coordinator.pub"
    if not path.exists():
        private.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, by.encode())
    elif path.read_text(encoding="ascii") != by:
        raise PrivacyError(
            "the receipt of the privacy ledger has another signer than before", where=str(path),
            next_step="ask the coordinator whether its key changed; then delete the file",
        )  # fmt: skip
