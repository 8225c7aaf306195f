"""Labels against brute force, and instants that keep their horizon inside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.behaviour.diary import Diary
from clients.behaviour.tasks import (
    CHURN_28D,
    INSTANTS,
    NEXT_VISIT,
    PURCHASE_7D,
    STEP_S,
    Task,
    instants_ahead,
    instants_back,
    intent,
    labelled,
    rows_until,
    task_rows,
)
from clients.data.dataset import DAY_S, PURCHASE, Log, Split
from tests.clients.small_site import START, drawn_log, drawn_site, with_other_future

CATEGORY = np.zeros(15, np.int64)


def brute(log: Log, task: Task, at: int) -> dict[int, int]:
    """User → answer, by loops."""
    answers = {}
    for user in range(log.n_users):
        mine = log.user == user
        events = list(zip(log.time[mine].tolist(), log.kind[mine].tolist(), strict=True))
        if not any(t < at for t, _ in events):
            continue
        coming = [(t, k) for t, k in events if at <= t < at + task.horizon_s]
        if task.question == "churn":
            answers[user] = int(not coming)
        elif task.question == "purchase":
            answers[user] = int(any(k == PURCHASE for _, k in coming))
        else:
            visits: list[list[tuple[int, int]]] = []
            for t, k in events:
                if visits and t - visits[-1][-1][0] <= 1800:
                    visits[-1].append((t, k))
                else:
                    visits.append([(t, k)])
            following = [v for v in visits if at <= v[0][0] < at + task.horizon_s]
            if following:
                seen = [k for t, k in following[0] if t < at + task.horizon_s]
                answers[user] = int(PURCHASE in seen)
    return answers


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), hours=st.integers(1, 45 * 24))
@pytest.mark.parametrize("task", [PURCHASE_7D, NEXT_VISIT, CHURN_28D], ids=lambda task: task.name)
def test_labels_against_brute_force(task: Task, seed: int, hours: int) -> None:
    log, at = drawn_log(seed, events=120), START + hours * 3600
    rows = labelled(Diary(log, CATEGORY), task, np.array([at]))
    assert dict(zip(rows.user.tolist(), rows.label.tolist(), strict=True)) == brute(log, task, at)
    assert len(rows.features) == len(rows)


def test_instants_keep_their_horizon_inside() -> None:
    back = instants_back(START, PURCHASE_7D)
    assert len(back) == INSTANTS
    assert (back + PURCHASE_7D.horizon_s <= START).all()
    assert set(np.diff(back)) == {-STEP_S}
    ahead = instants_ahead(START, START + 28 * DAY_S, PURCHASE_7D)
    assert ahead[0] == START
    assert (ahead + PURCHASE_7D.horizon_s <= START + 28 * DAY_S).all()
    assert instants_ahead(START, START + 28 * DAY_S, CHURN_28D).tolist() == [START]
    assert len(instants_ahead(START, START + 27 * DAY_S, CHURN_28D)) == 0


def test_windows_know_nothing_of_what_follows() -> None:
    site = drawn_site(1)
    task = Task("soon", "purchase", 3 * DAY_S)
    for window, from_s in (("train", site.split.valid_from), ("full", site.split.test_from)):
        other = with_other_future(site, from_s, 77)
        first, second = (
            getattr(task_rows(Diary(s.log, CATEGORY), task, s.split, s.learners), window)
            for s in (site, other)
        )
        assert np.array_equal(first.features, second.features)
        assert np.array_equal(first.label, second.label)


def test_learners_alone_are_learned_from_and_everybody_is_tested() -> None:
    site = drawn_site(2)
    learners = np.arange(20) < 5
    rows = task_rows(Diary(site.log, CATEGORY), Task("soon", "purchase", 3 * DAY_S), site.split, learners)
    for window in (rows.train, rows.full, rows.valid):
        assert set(window.user) <= set(range(5))
        assert len(window)
    assert len(set(rows.test.user)) > 5
    assert len(rows_until(Diary(site.log, CATEGORY), PURCHASE_7D, START, learners)) == 0


def test_intent_looks_as_far_as_the_older_head() -> None:
    assert intent(Split(0, 8 * DAY_S, 16 * DAY_S)).horizon_s == 2 * DAY_S
