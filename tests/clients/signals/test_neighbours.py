"""Item neighbours and popularity against dense truth, from the past only."""

from __future__ import annotations

import numpy as np
import pytest

from clients.data.dataset import DAY_S
from clients.data.rows import returning_rows
from clients.signals.neighbours import ItemNeighbours, popularity
from clients.training.samples import TARGET_WEIGHTS
from tests.clients.small_site import START, drawn_site, with_other_future

AT = START + 32 * DAY_S


@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
def test_neighbours_equal_dense_cosine(shrinkage: float) -> None:
    site = drawn_site(0)
    past = site.item_log.before(AT)
    touched = np.zeros((past.n_users, site.n_items))
    touched[past.user, past.item] = 1
    overlap, counts = touched.T @ touched, touched.sum(0)
    truth = overlap / (np.sqrt(np.outer(counts, counts)) + shrinkage)
    found = ItemNeighbours.fit(site.item_log, site.n_items, AT, shrinkage)
    assert found.similarity.toarray() == pytest.approx(truth, abs=1e-6)
    rows = returning_rows(site, AT, AT + 8 * DAY_S, 6)
    scores = found.scores(rows, slice(0, len(rows)))
    for place in range(len(rows)):
        total = sum(
            0.9 ** (5 - at) * truth[rows.items[place, at]] for at in range(6) if rows.valid[place, at]
        )
        assert scores[place] == pytest.approx(np.log1p(10 * np.asarray(total)), abs=1e-4)


def test_popularity_decays_by_half_a_half_life() -> None:
    site = drawn_site(1)
    past = site.item_log.before(AT)
    total = np.zeros(site.n_items)
    for item, kind, time in zip(past.item, past.kind, past.time, strict=True):
        total[item] += TARGET_WEIGHTS[kind] * 0.5 ** ((AT - time) / DAY_S / 3.0)
    truth = np.log(total * len(past) / total.sum() + 0.5)
    assert popularity(site.item_log, site.n_items, AT, 3.0) == pytest.approx(truth - truth.mean(), abs=1e-5)


def test_both_read_the_past_only() -> None:
    site = drawn_site(2)
    other = with_other_future(site, AT, 99)
    assert not np.array_equal(other.log.time, site.log.time)
    first, second = (
        ItemNeighbours.fit(s.item_log, s.n_items, AT, 3.0).similarity.toarray() for s in (site, other)
    )
    assert np.array_equal(first, second)
    first, second = (popularity(s.item_log, s.n_items, AT, 7.0) for s in (site, other))
    assert np.array_equal(first, second)
