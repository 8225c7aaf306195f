"""A paid round: check the receipt, reserve, train, keep the output, note its digest, and only then hand it out.

Invariant: at whatever moment a process is killed, each update that left the site has a debit of its own, and a debit
whose update never left serves the next attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clients.dp import NoisyOutputs
from clients.ledger.entries import COORDINATOR, Charge
from clients.ledger.ledger import Ledger
from common.errors import PrivacyError
from common.files import write_whole
from common.privacy.guarantee import SHARES_NOISE, UNITS, round_mechanism
from common.privacy.receipts import read_receipt
from common.protocol.wire import FloatVector, vector_digest
from common.provision.pinned import Pinned
from common.settings.config import LeagueConfig

AddSharedNoise = Callable[[FloatVector, Callable[[], object]], str]
"""(update, a function that charges the ledger before noise is drawn) → digest of the numbers that leave the site."""


def price_of_round(config: LeagueConfig, round_: int) -> Charge:
    """The charge of one round of a league's run for each site, in the unit of the league's mode."""
    privacy = config.privacy
    adversary, records = COORDINATOR, 1
    if privacy.mode in SHARES_NOISE:
        adversary = (
            f"whoever sees the sums of a league with {privacy.honest_sites} honest sites or more; against one who "
            "sees this site's update alone only its part of the noise holds"
        )
    if privacy.mode == "record":
        records = privacy.records_per_user
    return Charge(
        "training", round_mechanism(config), unit=UNITS[privacy.mode], records_per_user=records, adversary=adversary,
        run=config.digest(), league=config.name, round=round_, run_epsilon=privacy.epsilon, delta=privacy.delta,
    )  # fmt: skip


def paid_round(
    ledger: Ledger, outputs: NoisyOutputs, charge: Charge, received: FloatVector, train: Callable[[], FloatVector],
    shared: AddSharedNoise | None = None,
) -> FloatVector:  # fmt: skip
    """The paid update of a round, new or kept from before; it's noisy, unless its noise is shared.

    Parameters
    ----------
    shared : with shared noise, makes the whole numbers from the update, or finds those that were made.

    Raises
    ------
    PrivacyError : the budget is too small, or the ledger can't be trusted or written.
    """

    def pay_and_train() -> FloatVector:
        ledger.reserve(charge)
        return train()

    update = outputs.once(charge.round, received, pay_and_train)
    digest = vector_digest(update) if shared is None else shared(update, lambda: ledger.reserve(charge))
    ledger.tell(charge, digest)
    return update


def check_receipt(
    ledger: Ledger, receipt: str, private: Path, site: str, pinned: Pinned | None = None
) -> None:
    """Check the coordinator's receipt against the ledger.

    Parameters
    ----------
    pinned : the contract's keys, of which one signs receipts; in a simulation the first receipt of a run sets the key.

    Raises
    ------
    PrivacyError : the receipt is forged or another site's, or the ledger is older than the receipt.
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
