"""Full ranking: barred items are left out, chunks change nothing, and the future changes no score."""

from __future__ import annotations

import numpy as np
import pytest

from clients.data.dataset import DAY_S
from clients.data.rows import returning_rows
from clients.evaluation.rows import chunks, cosine_scores
from clients.evaluation.scorers import Tuned, deployed_scorer, rank, tower_scorer, windows
from common.models.model import build_model
from tests.clients.small_site import CONFIG, IMAGE, START, TEXT, dense, drawn_site, with_other_future

TEST_FROM, UNTIL = START + 32 * DAY_S, START + 40 * DAY_S


def test_ranking_is_full_and_leaves_out_the_barred() -> None:
    site = drawn_site(2, n_users=40, n_items=30)
    rows = returning_rows(site, TEST_FROM, UNTIL, 6)
    scores = np.random.default_rng(0).normal(size=(len(rows), site.n_items)).astype(np.float32)
    ranking = rank(site, rows, lambda _, chunk: scores[chunk])
    wanted, barred = dense(rows, rows.wanted, site.n_items), dense(rows, rows.barred, site.n_items)
    for place, user in enumerate(rows.user):
        order = sorted(range(site.n_items), key=lambda i: (i in barred[user], -scores[place, i]))
        open_items = site.n_items - len(barred[user])
        kept = min(20, open_items)
        assert ranking.top[0][place][:kept].tolist() == order[:kept]
        hits = sum(i in wanted[user] for i in order[:10])
        assert ranking.per_row()["recall@10"][place] == pytest.approx(hits / len(wanted[user]))


def test_chunks_give_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    site = drawn_site(3, n_users=60)
    rows = returning_rows(site, TEST_FROM, UNTIL, 6)
    model = build_model(CONFIG.model, TEXT, IMAGE, seed=1)
    whole = rank(site, rows, tower_scorer(model, site)).summary()
    monkeypatch.setattr("clients.evaluation.rows.CHUNK", 4)
    assert len(chunks(len(rows))) > 2
    parts = rank(site, rows, tower_scorer(model, site)).summary()
    assert parts == pytest.approx(whole, rel=1e-5)
    assert rank(site, rows.sample(0, 0), tower_scorer(model, site)).summary() == {}


@pytest.mark.parametrize("seed", range(3))
def test_another_future_changes_no_history_and_no_score(seed: int) -> None:
    site = drawn_site(seed, n_users=80, n_items=30, events=1000)
    other = with_other_future(site, TEST_FROM, seed + 50)
    model = build_model(CONFIG.model, TEXT, IMAGE, seed=1)
    first, second = (returning_rows(s, TEST_FROM, UNTIL, 6) for s in (site, other))
    both = np.intersect1d(first.user, second.user)
    assert len(both) > 2
    a, b = (r.sample(len(r), 0) for r in (first, second))
    at_a, at_b = np.searchsorted(a.user, both), np.searchsorted(b.user, both)
    for name in ("items", "kinds", "times", "valid"):
        assert np.array_equal(getattr(a, name)[at_a], getattr(b, name)[at_b])
    scorers = [
        (*Tuned(7.0, 3.0).scorers(s, TEST_FROM), deployed_scorer(model, s, CONFIG, TEST_FROM, 7.0))
        for s in (site, other)
    ]
    for of_first, of_second in zip(*scorers, strict=True):
        x = np.broadcast_to(of_first(a, slice(0, len(a))), (len(a), site.n_items))[at_a]
        y = np.broadcast_to(of_second(b, slice(0, len(b))), (len(b), site.n_items))[at_b]
        assert np.allclose(x, y, atol=1e-5)


def test_cosine_is_of_the_mean_history() -> None:
    site = drawn_site(5)
    seen = windows(site, CONFIG)
    rows = seen.test[0]
    found = cosine_scores(site, rows, slice(0, len(rows)))
    raw = site.items.raw.numpy()
    for place in range(len(rows)):
        mean = raw[rows.items[place][rows.valid[place]]].mean(0)
        assert found[place] == pytest.approx(raw @ mean / np.linalg.norm(mean), abs=1e-5)
