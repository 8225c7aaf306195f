"""A site's complaint book: every fault of its data, with file, row, column, problem and action.

Invariant: it names no person, for complaints end up in error messages and reports: of columns that tell of people no
value is shown, of others a shortened one without direct identifiers. The book stays small however bad the data is: past
`LIMIT` rows with the same fault in the same column it names no more of them, and says how many it left out.
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
        """Note one fault; `value` is the offending cell, shown shortened and masked where it may be shown at all."""
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
        """All complaints, and a line for each fault whose rows were too many to name."""
        rest = [
            Complaint(
                file, None, column, f"{fault}: {count - LIMIT} more rows like these", action, count - LIMIT
            )
            for (file, column, fault, action), count in self._seen.items()
            if count > LIMIT
        ]
        return (*self._complaints, *rest)


def count_refused(complaints: Iterable[Complaint], action: Action | None = None) -> int:
    """Rows skipped and values cleared, also those whose rows were too many to name; or one of the two."""
    wanted = ("row skipped", "value cleared") if action is None else (action,)
    return sum(complaint.rows for complaint in complaints if complaint.action in wanted)


def refuse(complaints: tuple[Complaint, ...], what: str, where: str, next_step: str) -> InputError:
    """The error that lists the first complaints."""
    first = "; ".join(complaint.sentence() for complaint in complaints[:LISTED_ON_FAILURE])
    more = len(complaints) - LISTED_ON_FAILURE
    return InputError(
        what, where=where, why=first + (f"; and {more} more" if more > 0 else ""), next_step=next_step
    )


def _shown(value: object) -> str:
    text = mask(str(value)[:400])[0]
    return repr(text if len(text) <= 40 else text[:37] + "...")
