"""A site's own budget, and how much of it is spent.

Invariant: every debit and every loss in the budget's period counts, of any run, league and purpose, composed by the
gate's accounting. Nothing that was debited is ever given back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from clients.ledger.entries import Book, Charge
from common.privacy.accounting import Mechanism, epsilon_pld, epsilon_rdp
from common.schema import PolicySection

DEFAULT_EPSILON = 8.0
UNIT = "one user with all records at this site, added or removed"
REPORT_INTERVAL = 1e-3
_MOST_ROUNDS = 10_000


@dataclass(frozen=True)
class Budget:
    """The most that may be spent on one user.

    Parameters
    ----------
    epsilon : infinity if only the league's own limit counts (the ledger of a synthetic site).
    period_days : length of the moving window; 0 for ever.
    """

    epsilon: float
    delta: float
    period_days: int = 0

    @classmethod
    def of(cls, policy: PolicySection) -> Budget:
        """The budget in a `site.toml`; ε = 8 if it states none."""
        unstated = math.inf if policy.ledger == "run" else DEFAULT_EPSILON
        return cls(unstated if policy.epsilon is None else policy.epsilon, policy.delta, policy.period_days)

    @property
    def period(self) -> str:
        """The period in words."""
        return f"any {self.period_days} days" if self.period_days else "for ever"

    def since(self, now: datetime) -> datetime | None:
        """The instant before which spending no longer counts; None if everything counts."""
        return now - timedelta(days=self.period_days) if self.period_days else None

    def counted(self, book: Book, now: datetime) -> list[Mechanism]:
        """The mechanisms that count against the budget now."""
        since = self.since(now)
        spent = [debit.charge.for_user() for debit in book.debits if book.counts(debit, since)]
        lost = [Mechanism.pure(epsilon) for _, at, epsilon in book.lost if since is None or at > since]
        return spent + lost

    def spent(self, mechanisms: Iterable[Mechanism]) -> float:
        """ε by the gate."""
        return epsilon_rdp(mechanisms, self.delta)

    def reported(self, mechanisms: Iterable[Mechanism]) -> float:
        """ε by the report's library, which is tighter."""
        return epsilon_pld(mechanisms, self.delta, interval=REPORT_INTERVAL)

    def rounds_left(self, mechanisms: list[Mechanism], answer: Mechanism) -> int | None:
        """How many more answers like `answer` fit; None where nothing limits them."""
        if math.isinf(self.epsilon):
            return None
        low, high = 0, 1

        def fits(count: int) -> bool:
            more = Mechanism(answer.kind, answer.noise, answer.sample_rate, answer.steps * count)
            return self.spent([*mechanisms, more]) <= self.epsilon

        while high <= _MOST_ROUNDS and fits(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return min(low, _MOST_ROUNDS)


def spent_by_run(book: Book, charge: Charge) -> list[Mechanism]:
    """All that one run has spent, at any time, in the contract's own unit."""
    return [debit.charge.mechanism for debit in book.debits if debit.charge.run == charge.run]
