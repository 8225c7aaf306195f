"""The entries of a ledger: what each private answer is, what it cost, and whether its output left the site.

A ledger is a chain of `common.audit` lines. Kinds: `opened` (the first), `debit` (written before data are read), `told`
(the output of a reserved debit is about to leave, with its digest) and `lost` (the owner declared that entries were
lost, which costs the whole budget). Invariant: a debit holds everything that determines its cost, so anybody who may
read the ledger can compute the sum again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from clients.ledger.clock import Reading
from common.audit import START, Entry, Receipt
from common.errors import PrivacyError
from common.privacy.accounting import Mechanism

Purpose = Literal["training", "statistics", "metrics", "tuning", "release"]
Unit = Literal["user", "record", "site"]
PURPOSES: tuple[Purpose, ...] = ("training", "statistics", "metrics", "tuning", "release")
COORDINATOR = "the coordinator and whoever sees all that leaves this site"


@dataclass(frozen=True)
class Charge:
    """One private answer that is to be paid for.

    Parameters
    ----------
    mechanism : how the answer is made private; its cost is for one `unit`.
    unit : what is added or removed between neighbouring datasets. A budget is always for a user.
    records_per_user : the most records that one user may have, if the unit is a record; 0 if there is no cap.
    adversary : against whom the cost holds.
    run, league, round, name : which answer it is; with the same purpose, run, round and name it's the same answer.
    run_epsilon, delta : the most ε that the league's contract allows one run, at this δ; 0 if no contract says so.
    """

    purpose: Purpose
    mechanism: Mechanism
    unit: Unit = "user"
    records_per_user: int = 1
    relation: str = "add-remove"
    adversary: str = COORDINATOR
    run: str = ""
    league: str = ""
    round: int = 0
    name: str = ""
    run_epsilon: float = 0.0
    delta: float = 1e-5

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Identifies the answer."""
        return self.purpose, self.run, self.round, self.name

    def for_user(self) -> Mechanism:
        """The cost for one user.

        One user of a site can change the site's clipped update by up to twice its clip.

        Raises
        ------
        PrivacyError : the unit is a record without a cap per user, or a site whose update is sampled.
        """
        if self.unit == "user":
            return self.mechanism
        if self.unit == "site" and self.mechanism.sample_rate == 1:
            return self.mechanism.for_group(2)
        if self.unit == "record" and self.records_per_user > 0:
            return self.mechanism.for_group(self.records_per_user)
        raise PrivacyError(
            f"a cost for one {self.unit} can't be told for one user", where=f"{self.purpose} '{self.name}'",
            why="the site's budget is for its users, and no cap says how many records one may have",
            next_step="cap the records of a user, or take the user as the unit",
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Charge:
        """Read `facts`' form."""
        return cls(**{**facts, "mechanism": Mechanism(**facts["mechanism"])})


@dataclass(frozen=True)
class Debit:
    """One entry for what was spent, with the ε of all debits that counted then, by both libraries.

    Parameters
    ----------
    at : when it was written.
    until_told : whether it waits for its output; until the output is told such a debit counts, however old it is.
    delta, period_days : those of the budget at that time.
    """

    n: int
    at: datetime
    charge: Charge
    epsilon_rdp: float
    epsilon_pld: float
    delta: float
    period_days: int
    until_told: bool = False


@dataclass
class Book:
    """The content of a ledger.

    Parameters
    ----------
    data : the lines from which it was read.
    told : number of a debit → when its output left the site, and the output's digest.
    lost : number, time and ε of each loss that the owner declared.
    written_off : heads of lost ledgers, as (ledger, n, hash).
    """

    ledger: str = ""
    site: str = ""
    head: Receipt = START
    last: Reading | None = None
    debits: list[Debit] = field(default_factory=list)
    told: dict[int, tuple[datetime, str]] = field(default_factory=dict)
    lost: list[tuple[int, datetime, float]] = field(default_factory=list)
    written_off: set[tuple[str, int, str]] = field(default_factory=set)
    hashes: list[str] = field(default_factory=list)
    data: bytes = b""

    @classmethod
    def of(cls, entries: list[Entry], data: bytes) -> Book:
        """The content of verified entries.

        Raises
        ------
        KeyError, TypeError, ValueError : an entry isn't one of a ledger.
        """
        book = cls(data=data)
        for entry in entries:
            book.add(entry)
        return book

    def add(self, entry: Entry) -> None:
        """Add the next entry."""
        facts: dict[str, Any] = dict(entry.facts)
        at = datetime.fromisoformat(entry.at)
        self.last = Reading(at, str(facts["clock"]["boot"]), float(facts["clock"]["since_boot_s"]))
        self.head = Receipt(entry.n, entry.hash)
        self.hashes.append(entry.hash)
        if entry.kind == "opened" and entry.n == 0:
            self.ledger, self.site = str(facts["ledger"]), str(facts["site"])
        elif entry.kind == "debit":
            charge = Charge.of(facts["asked"])
            rdp, pld = float(facts["epsilon_rdp"]), float(facts["epsilon_pld"])
            delta, days = float(facts["budget"]["delta"]), int(facts["budget"]["period_days"])
            waits = bool(facts["until_told"])
            self.debits.append(Debit(entry.n, at, charge, rdp, pld, delta, days, waits))
        elif entry.kind == "told":
            self.told[int(facts["debit"])] = at, str(facts["digest"])
        elif entry.kind == "lost":
            self.lost.append((entry.n, at, float(facts["epsilon"])))
            self.written_off |= {(str(led), int(n), str(hash_)) for led, n, hash_ in facts["receipts"]}
        else:
            raise ValueError(entry.kind)

    def counts(self, debit: Debit, since: datetime | None) -> bool:
        """Whether a debit counts in a period that began at `since`; its time is when its output left the site."""
        if since is None:
            return True
        if debit.until_told:
            return debit.n not in self.told or self.told[debit.n][0] > since
        return debit.at > since

    def reserved(self, charge: Charge) -> Debit | None:
        """The debit for this answer that still waits for its output, or None."""
        waiting = (d for d in reversed(self.debits) if d.until_told and d.n not in self.told)
        return next((debit for debit in waiting if debit.charge.key == charge.key), None)

    def told_digests(self, charge: Charge) -> set[str]:
        """Digests of the outputs that were told for this answer."""
        return {self.told[d.n][1] for d in self.debits if d.charge.key == charge.key and d.n in self.told}
