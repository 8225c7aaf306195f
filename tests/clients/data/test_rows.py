"""The rows of a ranking: who is asked, what counts as wanted, and that a sample keeps rows whole."""

from __future__ import annotations

import numpy as np
import pytest

from clients.data.dataset import DAY_S, PURCHASE, SiteDataset
from clients.data.rows import basket_rows, returning_rows
from tests.clients.small_site import START, dense, drawn_site

TEST_FROM, UNTIL = START + 32 * DAY_S, START + 40 * DAY_S


def wanted_truth(site: SiteDataset, from_s: int, until_s: int) -> dict[int, set[int]]:
    events = list(
        zip(*(getattr(site.log, f).tolist() for f in ("user", "item", "kind", "time")), strict=True)
    )
    out = {}
    for user in range(site.log.n_users):
        touched = {i for u, i, _, t in events if u == user and t < from_s and i >= 0}
        bought = {i for u, i, k, t in events if u == user and k == PURCHASE and from_s <= t < until_s}
        if touched and bought - touched:
            out[user] = bought - touched
    return out


@pytest.mark.parametrize("seed", range(4))
def test_returning_users_want_what_they_buy_and_never_touched(seed: int) -> None:
    site = drawn_site(seed, n_users=40)
    rows = returning_rows(site, TEST_FROM, UNTIL, 6)
    assert len(rows)
    wanted = dense(rows, rows.wanted, site.n_items)
    assert wanted == wanted_truth(site, TEST_FROM, UNTIL)
    barred = dense(rows, rows.barred, site.n_items)
    log = site.item_log.before(TEST_FROM)
    for place, user in enumerate(rows.user):
        assert barred[user] == set(log.item[log.user == user].tolist())
        assert not barred[user] & wanted[user]
        assert (rows.times[place][rows.valid[place]] < TEST_FROM).all()


def test_baskets_hide_one_item_of_users_who_never_bought_before() -> None:
    site = drawn_site(1, n_users=150)
    rows = basket_rows(site, TEST_FROM, UNTIL, 6, 5)
    assert len(rows)
    bought = site.log.where(site.log.kind == PURCHASE)
    wanted, barred = dense(rows, rows.wanted, site.n_items), dense(rows, rows.barred, site.n_items)
    for place, user in enumerate(rows.user):
        mine = bought.time[bought.user == user]
        assert (mine >= TEST_FROM).all()
        basket = set(bought.item[bought.user == user].tolist())
        assert len(wanted[user]) == 1
        assert wanted[user] | barred[user] == basket
        assert not wanted[user] & barred[user]
        assert wanted[user].isdisjoint(rows.items[place][rows.valid[place]].tolist())


def test_a_sample_keeps_rows_whole() -> None:
    site = drawn_site(4, n_users=60)
    rows = returning_rows(site, TEST_FROM, UNTIL, 6)
    some = rows.sample(5, seed=1)
    assert len(some) == 5
    all_wanted, all_barred = dense(rows, rows.wanted, site.n_items), dense(rows, rows.barred, site.n_items)
    assert dense(some, some.wanted, site.n_items) == {int(u): all_wanted[u] for u in some.user}
    assert dense(some, some.barred, site.n_items) == {int(u): all_barred[u] for u in some.user}
    assert np.array_equal(some.items, rows.items[np.isin(rows.user, some.user)])
