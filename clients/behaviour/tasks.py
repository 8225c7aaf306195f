"""Labelled instants: what is asked about a customer at an instant, and what the log says came of it.

Invariant: a row's features read only events before its instant, and its label only events in [instant, instant +
horizon).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clients.behaviour.definitions import N_FEATURES
from clients.behaviour.diary import Diary
from clients.behaviour.features import features
from clients.data.dataset import DAY_S, Ints, Split
from clients.training.behaviour import horizon_s

STEP_S = 4 * DAY_S
INSTANTS = 12
"""Every fourth day, so that all weekdays occur; twelve times, since older habits say less of what comes."""
Question = Literal["purchase", "next_visit", "churn"]


@dataclass(frozen=True)
class Task:
    """A yes-or-no question about a customer at an instant.

    Parameters
    ----------
    question : purchase: will they buy within the horizon? next_visit: will the next visit, if it begins within the
        horizon, hold a purchase? churn: will there be no event within the horizon?
    """

    name: str
    question: Question
    horizon_s: int


PURCHASE_7D = Task("purchase_7d", "purchase", 7 * DAY_S)
CHURN_28D = Task("churn_28d", "churn", 28 * DAY_S)
NEXT_VISIT = Task("next_visit_purchase", "next_visit", 28 * DAY_S)
TASKS = (PURCHASE_7D, NEXT_VISIT, CHURN_28D)


@dataclass(frozen=True)
class Rows:
    """n labelled instants: ``features`` (n, N_FEATURES) and ``label`` 0 or 1."""

    user: Ints
    at: Ints
    features: NDArray[np.float64]
    label: Ints

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Ints | NDArray[np.bool_]) -> Rows:
        """Some of the rows."""
        return Rows(self.user[rows], self.at[rows], self.features[rows], self.label[rows])


@dataclass(frozen=True)
class TaskRows:
    """A task's rows at one site.

    ``train`` and ``valid`` are before and in the validation window, ``full`` is everything before the test window, each
    of the site's learners alone; ``test`` is of everybody.
    """

    train: Rows
    full: Rows
    valid: Rows
    test: Rows


def task_rows(diary: Diary, task: Task, split: Split, learners: NDArray[np.bool_]) -> TaskRows:
    """Rows by the site's windows."""
    valid = labelled(diary, task, instants_ahead(split.valid_from, split.test_from, task))
    return TaskRows(
        train=rows_until(diary, task, split.valid_from, learners),
        full=rows_until(diary, task, split.test_from, learners),
        valid=valid.take(learners[valid.user]),
        test=labelled(diary, task, instants_ahead(split.test_from, split.until, task)),
    )


def rows_until(diary: Diary, task: Task, until_s: int, learners: NDArray[np.bool_]) -> Rows:
    """The learners' latest rows whose answers were known at an instant."""
    rows = labelled(diary, task, instants_back(until_s, task))
    return rows.take(learners[rows.user])


def intent(split: Split) -> Task:
    """A purchase within the horizon of the older behaviour head: a quarter of the test window, at least a day."""
    return Task("intent", "purchase", horizon_s(split))


def instants_back(until_s: int, task: Task) -> Ints:
    """Instants, latest first, whose whole horizon lies before ``until_s``."""
    return until_s - task.horizon_s - STEP_S * np.arange(INSTANTS, dtype=np.int64)


def instants_ahead(from_s: int, until_s: int, task: Task) -> Ints:
    """Instants in a window whose whole horizon lies in it; none if the window is shorter than the horizon."""
    return np.arange(from_s, until_s - task.horizon_s + 1, STEP_S, dtype=np.int64)


def labelled(diary: Diary, task: Task, instants: Ints) -> Rows:
    """Rows of all users with an event before each instant, by instant, then user."""
    n = diary.log.n_users
    users, at = np.tile(np.arange(n), len(instants)), np.repeat(instants, n)
    begun = diary.ends(users, at) > diary.log.offsets[users]
    users, at = users[begun], at[begun]
    label, asked = answers(diary, task, users, at)
    users, at = users[asked], at[asked]
    x = features(diary, users, at) if len(users) else np.zeros((0, N_FEATURES))
    return Rows(users, at, x, label[asked])


def answers(diary: Diary, task: Task, users: Ints, at: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """What came of each row (0 or 1), and whether the question applies to it."""
    start, end = diary.ends(users, at), diary.ends(users, at + task.horizon_s)
    everyone = np.ones(len(users), bool)
    if task.question == "churn":
        return (end == start).astype(np.int64), everyone
    if task.question == "purchase":
        return (diary.count("purchase", start, end) > 0).astype(np.int64), everyone
    # The visit in progress at the instant is passed over: the next one begins with the next first event of a visit.
    begins = np.searchsorted(diary.running["visit"], diary.running["visit"][start] + 1)
    after = np.searchsorted(diary.running["visit"], diary.running["visit"][start] + 2) - 1
    asked = (begins <= end) & (diary.count("visit", start, end) > 0)
    first, last = np.where(asked, begins - 1, 0), np.where(asked, np.minimum(after, end), 0)
    return (diary.count("purchase", first, last) > 0).astype(np.int64), asked
