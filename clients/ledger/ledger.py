"""A site's privacy ledger, which is charged before anything private leaves the site.

Invariants: a debit is on the disk before data are read. A debit is never given back. One debit pays for one output,
whose digest is in the ledger before the output leaves. A ledger that is missing, was edited, or is older than what the
site or the coordinator has seen grants nothing. Only the site's own `site.toml` sets the budget.

>>> entry = ledger.reserve(asked)                 # doctest: +SKIP
>>> output = train()                              # doctest: +SKIP
>>> ledger.tell(asked, digest_of(output))         # doctest: +SKIP
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from clients.ledger.budget import UNIT, Budget, spent_by_run
from clients.ledger.clock import Clock, Reading, ledger_time, system_clock
from clients.ledger.entries import Book, Charge, Debit
from clients.ledger.stores import LedgerStore, broken, read_anchor, refused_file, write_anchor
from common.audit import START, AuditError, Entry, Receipt, signed_line, verify_lines
from common.audit.log import JSON
from common.crypto.envelope import EnvelopeError
from common.errors import PrivacyError
from common.files import write_whole
from common.privacy.accounting import Mechanism, epsilon_rdp
from common.privacy.receipts import LedgerHead
from common.runtime.locks import locked

FORM = 1
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class _Overdraft:
    """A budget that a charge would overdraw: ε that is spent, what it would be after, and the limit, all at delta."""

    spent: float
    after: float
    limit: float
    delta: float


@dataclass(frozen=True)
class Balance:
    """What is spent and what is left of a budget, as ε for one user."""

    spent: float
    left: float | None
    budget: float | None
    delta: float
    unit: str
    period: str


class Ledger:
    """One site's ledger.

    Parameters
    ----------
    budget : the site's own.
    clock : the machine's, unless a test brings its own.
    """

    def __init__(self, store: LedgerStore, budget: Budget, site: str, clock: Clock = system_clock) -> None:
        self._store, self.budget, self.site, self._clock = store, budget, site, clock
        self.where = store.where

    def book(self) -> Book:
        """The content of the ledger; an empty book if there never was a ledger.

        Raises
        ------
        PrivacyError : it is missing, was edited, or lacks entries that it once had.
        """
        return self._read()[0]

    def entries(self) -> list[Entry]:
        """The ledger's verified entries.

        Raises
        ------
        PrivacyError : as `book`.
        """
        return self._read()[1]

    def _read(self) -> tuple[Book, list[Entry]]:
        try:
            if not self._store.exists():
                return Book(), []
            data = self._store.read()
            entries = self._checked(data)
            return Book.of(entries, data), entries
        except (AuditError, EnvelopeError, OSError, ValueError, KeyError, TypeError) as fault:
            raise broken(self._store, fault) from None

    def balance(self, book: Book | None = None) -> Balance:
        """Spent and left at this moment."""
        book = self.book() if book is None else book
        spent = self.budget.spent(self.budget.counted(book, self.now(book)))
        limited = not math.isinf(self.budget.epsilon)
        return Balance(
            spent, max(self.budget.epsilon - spent, 0.0) if limited else None,
            self.budget.epsilon if limited else None, self.budget.delta, UNIT, self.budget.period,
        )  # fmt: skip

    def now(self, book: Book) -> datetime:
        """The ledger's own time."""
        return ledger_time(book.last, self._clock())

    def head(self) -> LedgerHead:
        """What the coordinator may know about the ledger: its id, and number and hash of the last entry."""
        book = self.book()
        return LedgerHead(book.ledger, book.head.n, book.head.hash)

    def require(self, head: LedgerHead) -> None:
        """Refuse to go on if the ledger lacks an entry that the coordinator has seen.

        Raises
        ------
        PrivacyError : the ledger is missing, was restored from a backup, or has other entries since then.
        """
        book = self.book()
        if (head.ledger, head.n, head.hash) in book.written_off:
            return
        if book.ledger == head.ledger and head.n < len(book.hashes) and book.hashes[head.n] == head.hash:
            return
        self._written(lambda: write_whole(refused_file(self._store), head.to_json().encode()))
        stands = (
            f"it ends at entry {book.head.n}" if book.ledger == head.ledger else "there is another, or none"
        )
        raise PrivacyError(
            "the privacy ledger is older than what the coordinator has seen of it", where=self.where,
            why=f"the coordinator has seen entry {head.n} of ledger {head.ledger[:8]}, but here {stands}; "
            "what was spent since isn't known",
            next_step="bring the newer ledger back; if it is gone, 'hansa budget lost' writes the budget off",
        )  # fmt: skip

    def afford(self, charge: Charge) -> None:
        """Refuse a charge that wouldn't be granted now, unless it's paid already; writes nothing.

        Raises
        ------
        PrivacyError : as `debit`.
        """
        book = self.book()
        if book.reserved(charge) is None and not book.told_digests(charge):
            self._judge(book, charge, self.now(book))

    def debit(self, charge: Charge) -> Debit:
        """Pay for an answer; call it before data are read.

        Raises
        ------
        PrivacyError : the budget of the site or the run is too small (the error names what is spent, asked for and
            left, and the next step), or the ledger can't be trusted or written.
        """
        with self._locked():
            return self._debit(self._opened(), charge, until_told=False)

    def reserve(self, charge: Charge) -> Debit:
        """The debit for this answer whose output wasn't told yet, or a new one.

        A process that was killed between debit and output has told nothing, so the same debit serves the next attempt.

        Raises
        ------
        PrivacyError : as `debit`.
        """
        with self._locked():
            book = self._opened()
            return book.reserved(charge) or self._debit(book, charge, until_told=True)

    def tell(self, charge: Charge, digest: str) -> None:
        """Note that the output of a reserved debit is about to leave; the debit then pays for no other output.

        Raises
        ------
        PrivacyError : there is no open debit for it, or the ledger can't be trusted or written.
        """
        with self._locked():
            book = self.book()
            if digest in book.told_digests(charge):
                return
            debit = book.reserved(charge)
            if debit is None:
                raise PrivacyError(
                    "the ledger holds no debit for what is to be told", where=self.where,
                    why="it was deleted, or restored from a backup, since the debit was made",
                    next_step="bring the newer ledger back",
                )  # fmt: skip
            self._append(book, "told", {"debit": debit.n, "digest": digest})

    def write_off(self) -> None:
        """For an owner who has lost entries: the whole budget counts as spent, and the ledger goes on.

        Raises
        ------
        PrivacyError : it can't be written.
        """
        with self._locked():
            refused = refused_file(self._store)
            heads = [LedgerHead.from_json(refused.read_text())] if refused.exists() else []
            try:
                book = self._opened()
            except PrivacyError:
                self._written(self._store.set_aside)
                book = self._create()
            epsilon = 0.0 if math.isinf(self.budget.epsilon) else self.budget.epsilon
            receipts: list[JSON] = [[head.ledger, head.n, head.hash] for head in heads]
            self._append(book, "lost", {"receipts": receipts, "epsilon": epsilon})
            refused.unlink(missing_ok=True)

    def _debit(self, book: Book, charge: Charge, *, until_told: bool) -> Debit:
        now = self.now(book)
        after, epsilon = self._judge(book, charge, now)
        budget: dict[str, JSON] = {
            "epsilon": None if math.isinf(self.budget.epsilon) else self.budget.epsilon,
            "delta": self.budget.delta, "period_days": self.budget.period_days, "unit": UNIT,
        }  # fmt: skip
        facts: dict[str, JSON] = {
            "asked": charge.facts(), "until_told": until_told, "epsilon_rdp": round(epsilon, 6),
            "epsilon_pld": round(self.budget.reported(after), 6), "budget": budget,
        }  # fmt: skip
        self._append(book, "debit", facts)
        return book.debits[-1]

    def _judge(self, book: Book, charge: Charge, now: datetime) -> tuple[list[Mechanism], float]:
        """All mechanisms that would count with this charge, and their ε by the gate."""
        self._judge_run(book, charge)
        before = self.budget.counted(book, now)
        after = [*before, charge.for_user()]
        epsilon = self.budget.spent(after)
        if epsilon <= self.budget.epsilon * (1 + _TOLERANCE):
            return after, epsilon
        spent = self.budget.spent(before)
        overdraft = _Overdraft(spent, epsilon, self.budget.epsilon, self.budget.delta)
        raise self._refusal("the site's privacy budget is spent", charge, overdraft, self._when_more(book))

    def _judge_run(self, book: Book, charge: Charge) -> None:
        if not charge.run_epsilon:
            return
        before = spent_by_run(book, charge)
        epsilon = epsilon_rdp([*before, charge.mechanism], charge.delta)
        if epsilon > charge.run_epsilon * (1 + _TOLERANCE):
            spent = epsilon_rdp(before, charge.delta)
            step = "a run of other settings (another name or seed will do) begins anew, within the site's own budget"
            overdraft = _Overdraft(spent, epsilon, charge.run_epsilon, charge.delta)
            raise self._refusal("the run's privacy budget is spent at this site", charge, overdraft, step)

    def _refusal(self, what: str, charge: Charge, overdraft: _Overdraft, next_step: str) -> PrivacyError:
        why = (
            f"spent {overdraft.spent:.3f} of epsilon {overdraft.limit:g} (delta {overdraft.delta:g}), "
            f"{charge.purpose} asks for {overdraft.after - overdraft.spent:.3f} more, "
            f"left {max(overdraft.limit - overdraft.spent, 0):.3f}"
        )
        return PrivacyError(what, where=f"site '{self.site}', {self.where}", why=why, next_step=next_step)

    def _when_more(self, book: Book) -> str:
        """The next step for an owner whose budget is spent."""
        now = self.now(book)
        since = self.budget.since(now)
        first = next((debit.at for debit in book.debits if since is not None and debit.at > since), None)
        if first is not None and since is not None:
            return f"wait until {first + (now - since):%Y-%m-%d %H:%M} UTC, when entries begin to leave the period"
        return "train without this site, or let its owner raise [policy] epsilon in its site.toml"

    def _opened(self) -> Book:
        """The ledger's content; makes a new ledger if there never was one."""
        book = self.book()
        return book if book.hashes else self._create()

    def _create(self) -> Book:
        facts: dict[str, JSON] = {"ledger": secrets.token_hex(16), "site": self.site, "form": FORM}
        reading = self._clock()
        entry, line = self._line(START, "opened", facts, reading, reading.wall)
        self._written(lambda: self._store.create(line, Receipt(entry.n, entry.hash)))
        return Book.of([entry], line + b"\n")

    def _append(self, book: Book, kind: str, facts: dict[str, JSON]) -> None:
        entry, line = self._line(book.head, kind, facts, self._clock(), self.now(book))

        def write() -> None:
            self._store.append(book.data, line)
            write_anchor(self._store, Receipt(entry.n, entry.hash))

        self._written(write)
        book.add(entry)
        book.data = book.data.rpartition(b"\n")[0] + b"\n" + line + b"\n"

    def _line(
        self, head: Receipt, kind: str, facts: dict[str, JSON], reading: Reading, at: datetime
    ) -> tuple[Entry, bytes]:
        clock: dict[str, JSON] = {"boot": reading.boot, "since_boot_s": round(reading.since_boot_s, 3)}
        return signed_line(head, kind, facts | {"clock": clock}, self._store.signing(), at)

    def _written(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, AuditError, EnvelopeError) as fault:
            raise self._unwritable(str(getattr(fault, "strerror", fault))) from None

    def _unwritable(self, why: str) -> PrivacyError:
        return PrivacyError(
            "the privacy ledger can't be written, so nothing private was read", where=self.where, why=why,
            next_step="make room on the disk, or give this role the right to write the ledger",
        )  # fmt: skip

    def _checked(self, data: bytes) -> list[Entry]:
        entries = verify_lines(data, self._store.signers(), read_anchor(self._store), where="ledger")
        if not entries or entries[0].kind != "opened":
            raise AuditError("its first entry is missing")
        if len(entries) > 1 and read_anchor(self._store) is None:
            raise AuditError("its anchor is missing")
        return entries

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._store.lock.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._store.lock):
                yield
        except OSError as fault:
            raise self._unwritable(str(fault.strerror)) from None
