"""What a customer does next: learned of learners' past, of kinds that were ever next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clients.data.dataset import KINDS, PURCHASE, Log
from clients.evaluation.next_events import next_events
from tests.clients.small_site import drawn_site, with_other_future

SITE = drawn_site(1, n_users=60, events=900)
AT = SITE.split.test_from
USERS = np.arange(40)


def test_each_customer_is_told_the_likeliest_kind_and_how_likely() -> None:
    kinds, sure = next_events(SITE, USERS, AT)
    assert kinds.dtype == np.int64
    assert set(kinds.tolist()) <= set(range(len(KINDS)))
    assert ((sure >= 1 / len(KINDS)) & (sure <= 1)).all()
    again = next_events(SITE, USERS[::-1], AT)
    assert np.array_equal(again[0][::-1], kinds)


def test_nothing_after_the_instant_is_read() -> None:
    other = with_other_future(SITE, AT, 3)
    for first, second in zip(next_events(SITE, USERS, AT), next_events(other, USERS, AT), strict=True):
        assert np.array_equal(first, second)


def test_a_kind_that_always_follows_is_told_and_without_a_past_a_purchase() -> None:
    log = SITE.log
    bought = replace(
        SITE, log=Log.of(log.user, np.maximum(log.item, 0), np.full(len(log), 2), log.time, log.n_users)
    )
    kinds, sure = next_events(bought, USERS, AT)
    assert set(kinds.tolist()) == {2}
    assert set(sure.tolist()) == {1.0}
    nobody = replace(SITE, learners=np.zeros(60, bool))
    assert set(next_events(nobody, USERS, AT)[0].tolist()) == {PURCHASE}


def test_what_customers_did_often_is_what_they_are_told() -> None:
    """Of users who either only look or only search, the looker is told a view."""
    log = SITE.log
    kind = np.where(log.user % 2 == 0, KINDS.index("view"), KINDS.index("search"))
    item = np.where(log.user % 2 == 0, np.maximum(log.item, 0), -1)
    two = replace(SITE, log=Log.of(log.user, item, kind, log.time, log.n_users))
    active = np.unique(two.log.before(AT).user)
    kinds, _ = next_events(two, active, AT)
    assert (kinds == np.where(active % 2 == 0, KINDS.index("view"), KINDS.index("search"))).mean() > 0.9
