"""A site's complaint book: every fault of its data, with file, row, column, problem and action.

Invariants: it names no person, since complaints are shown in error messages and reports. Values of personal columns
aren't shown; other values are shortened and shown without direct identifiers. The book stays small however bad the data
are: it names at most `LIMIT` rows with the same fault in the same column, and counts the others.
"""

from __future__ import annotations

from collections.abc import Iterable

from clients.anonymise import mask
from common.errors import InputError
from common.schema import Action, Complaint

LIMIT = 100
LISTED_ON_FAILURE = 5
PERSONAL = frozenset({"user_id", "review_id", "session_id", "query", "text", "description"})


class ComplaintBook:
    """Collects complaints in the order in which they were found."""

    def __init__(self) -> None:
        self._complaints: list[Complaint] = []
        self._seen: dict[tuple[str, str, str, Action], int] = {}

    def add(
        self, file: str, row: int | None, column: str, fault: str, action: Action, value: object = None
    ) -> None:
        """Note one fault; `value` is the faulty cell, which is shown shortened and masked, or hidden if personal."""
        key = (file, column, fault, action)
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] <= LIMIT:
            problem = fault if value is None or column in PERSONAL else f"{fault}: {_shown(value)}"
            self._complaints.append(Complaint(file, row, column, problem, action))

    def add_rows(
        self,
        file: str,
        rows: Iterable[int],
        column: str,
        fault: str,
        action: Action,
        values: Iterable[object],
    ) -> None:
        """Note the same fault in several rows."""
        for row, value in zip(rows, values, strict=True):
            self.add(file, row, column, fault, action, value)

    def close(self) -> tuple[Complaint, ...]:
        """All complaints, and a line for each fault that has more rows than are named."""
        leftover = [
            Complaint(
                file, None, column, f"{fault}: {count - LIMIT} more rows like these", action, count - LIMIT
            )
            for (file, column, fault, action), count in self._seen.items()
            if count > LIMIT
        ]
        return (*self._complaints, *leftover)


def count_refused(complaints: Iterable[Complaint], action: Action | None = None) -> int:
    """The number of rows skipped and values cleared, or of one of the two, including rows that aren't named."""
    actions = ("row skipped", "value cleared") if action is None else (action,)
    return sum(complaint.rows for complaint in complaints if complaint.action in actions)


def refuse(complaints: tuple[Complaint, ...], problem: str, where: str, next_step: str) -> InputError:
    """The error that lists the first complaints."""
    first = "; ".join(complaint.sentence() for complaint in complaints[:LISTED_ON_FAILURE])
    more = len(complaints) - LISTED_ON_FAILURE
    return InputError(
        problem, where=where, why=first + (f"; and {more} more" if more > 0 else ""), next_step=next_step
    )


def _shown(value: object) -> str:
    text = mask(str(value)[:400])[0]
    return repr(text if len(text) <= 40 else text[:37] + "...")
