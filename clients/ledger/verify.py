"""Verify a ledger: that its chain is intact, and that each debit's ε follows from the entries before it.

Invariant: ε is computed again from the mechanisms alone, by both libraries; the ε that an entry states is compared with
it, never used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from clients.ledger.budget import Budget
from clients.ledger.entries import Book
from clients.ledger.ledger import Ledger
from common.errors import PrivacyError
from common.privacy.accounting import epsilon_pld

CLOSE = 1e-3


@dataclass(frozen=True)
class LedgerCheck:
    """The result: numbers of entries, and ε of all that counts now, by both libraries."""

    entries: int
    debits: int
    told: int
    losses: int
    epsilon_rdp: float
    epsilon_pld: float
    head: str


def verify_ledger(ledger: Ledger) -> LedgerCheck:
    """Read the ledger and compute everything again.

    Raises
    ------
    PrivacyError : the chain is broken, or a debit states a wrong ε.
    """
    entries = ledger.entries()
    book = Book()
    for entry in entries:
        book.add(entry)
        if entry.kind == "debit":
            debit = book.debits[-1]
            budget = Budget(math.inf, debit.delta, debit.period_days)
            spent = budget.spent(budget.counted(book, datetime.fromisoformat(entry.at)))
            if abs(spent - debit.epsilon_rdp) > CLOSE or debit.epsilon_pld > debit.epsilon_rdp + CLOSE:
                raise PrivacyError(
                    "an entry of the privacy ledger states another epsilon than follows from the others",
                    where=f"{ledger.where}, entry {entry.n}", why=f"{debit.epsilon_rdp:.4f}, not {spent:.4f}",
                    next_step="ask who wrote it; the site's key signed it",
                )  # fmt: skip
    counted = ledger.budget.counted(book, ledger.now(book)) if entries else []
    return LedgerCheck(
        len(entries), len(book.debits), len(book.told), len(book.lost), ledger.budget.spent(counted),
        epsilon_pld(counted, ledger.budget.delta), book.head.hash if entries else "",
    )  # fmt: skip
