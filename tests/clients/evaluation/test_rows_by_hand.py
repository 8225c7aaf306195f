"""Test rows, scores and their ranking, worked out by hand on five users and seven items."""

from __future__ import annotations

import math
import sys
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.dataset import PURCHASE, SiteDataset
from clients.evaluation.rows import (
    CHUNK,
    CUTOFFS,
    Ranking,
    _pairs,
    basket_rows,
    catalogue_vectors,
    chunks,
    cosine_scores,
    model_scores,
    returning_rows,
)
from clients.evaluation.rows import TestRows as Rows
from clients.training.samples import training_data
from common.models.model import build_model
from common.settings.load import with_overrides
from tests.clients.five_users import (
    AS_DRAWN,
    CONFIG,
    N_ITEMS,
    WIDTH,
    Event,
    day,
    items_of,
    linear_model,
    tiny_site,
)
from tests.clients.slow_loss import Drawn, SlowLoss

FROM, UNTIL = day(10), day(14)
RETURNING: list[Event] = [
    (0, "view", 0, 1.0),
    (0, "purchase", 1, 2.0),
    (0, "purchase", 0, 11.0),  # seen before: no discovery
    (0, "purchase", 2, 10.0),  # the first instant of the window
    (0, "purchase", 3, 14.0),  # the first instant after it
    (0, "cart", 4, 12.0),
    (1, "purchase", 5, 11.0),  # new in the window
    (2, "view", 6, 9.0),
    (2, "purchase", 6, 12.0),
    (3, "search", -1, 3.0),  # has named no item
    (3, "purchase", 1, 12.0),
    (4, "view", 2, 1.0),
    (4, "click", 3, 2.0),
    (4, "search", -1, 2.5),
    (4, "cart", 4, 3.0),
    (4, "cart", 4, 4.0),
    (4, "purchase", 6, 10.0),
    (4, "purchase", 5, 13.75),
    (4, "purchase", 5, 13.75),
]
BASKETS: list[Event] = [
    (0, "purchase", 0, 9.75),  # known before the window
    (0, "purchase", 1, 11.0),
    (0, "purchase", 2, 11.0),
    (1, "view", 6, 1.0),  # a look is no purchase
    (1, "purchase", 4, 10.0),
    (1, "purchase", 2, 11.0),
    (1, "purchase", 2, 12.0),
    (1, "purchase", 1, 13.75),
    (1, "cart", 0, 13.0),
    (2, "purchase", 3, 11.0),
    (2, "purchase", 3, 12.0),
    (3, "purchase", 5, 11.0),
    (3, "purchase", 6, 14.0),
    (4, "purchase", 6, 12.0),
    (4, "purchase", 0, 12.0),
]


def pairs(wanted: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(wanted[0].tolist(), wanted[1].tolist(), strict=True))


def histories(rows: Rows) -> list[list[tuple[int, int, int]]]:
    """(item, kind, time) of each row's history, padding left out."""
    return [
        [
            (int(rows.items[r, h]), int(rows.kinds[r, h]), int(rows.times[r, h]))
            for h in range(rows.items.shape[1])
            if rows.valid[r, h]
        ]
        for r in range(len(rows))
    ]


def test_returning_rows_by_hand() -> None:
    rows = returning_rows(tiny_site(RETURNING), FROM, UNTIL, 3)
    assert rows.user.tolist() == [0, 4]
    assert rows.at.tolist() == [FROM, FROM]
    assert pairs(rows.wanted) == [(0, 2), (1, 5), (1, 6)]
    assert pairs(rows.barred) == [(0, 0), (0, 1), (1, 2), (1, 3), (1, 4)]
    assert rows.valid.tolist() == [[False, True, True], [True, True, True]]
    assert histories(rows) == [
        [(0, 0, day(1)), (1, 3, day(2))],
        [(3, 1, day(2)), (4, 2, day(3)), (4, 2, day(4))],
    ]


def test_basket_rows_by_hand() -> None:
    site, hidden = tiny_site(BASKETS), []
    for seed in range(12):
        rows = basket_rows(site, FROM, UNTIL, 2, seed)
        assert rows.user.tolist() == [1, 4]
        assert rows.at.tolist() == [FROM, FROM]
        draws = np.random.default_rng(seed).random(2)
        wanted = [[1, 2, 4][int(3 * draws[0])], [0, 6][int(2 * draws[1])]]
        assert pairs(rows.wanted) == list(enumerate(wanted))
        rest = [[i for i in (1, 2, 4) if i != wanted[0]], [i for i in (0, 6) if i != wanted[1]]]
        assert pairs(rows.barred) == [(row, item) for row in range(2) for item in rest[row]]
        assert histories(rows) == [[(item, PURCHASE, FROM) for item in items] for items in rest]
        assert rows.valid.tolist() == [[True, True], [False, True]]
        hidden.append(tuple(wanted))
    assert len(set(hidden)) == 6


def test_without_anyone_there_are_no_rows() -> None:
    quiet: list[Event] = [(0, "view", 1, 1.0), (1, "purchase", 2, 20.0)]
    site = tiny_site(quiet)
    for rows in (returning_rows(site, FROM, UNTIL, 3), basket_rows(site, FROM, UNTIL, 3, 0)):
        assert len(rows) == 0
        assert [part.shape for part in (*rows.wanted, *rows.barred)] == [(0,)] * 4
        assert {part.dtype for part in (rows.at, *rows.wanted, *rows.barred)} == {np.dtype(np.int64)}
        assert rows.items.shape == (0, 3)
        assert Ranking(site, rows).summary() == {}
        assert Ranking(site, rows).per_row() == {}
    searching: list[Event] = [(0, "search", -1, 1.0), (1, "purchase", 2, 11.0)]
    assert len(returning_rows(tiny_site(searching), FROM, UNTIL, 3)) == 0


def test_pairs_are_distinct_and_of_an_empty_log_none() -> None:
    log = tiny_site(RETURNING).log
    assert pairs(_pairs(log.where(log.user == 4))) == [(4, item) for item in (-1, 2, 3, 4, 5, 6)]
    none = _pairs(log.before(day(0)))
    assert [(part.shape, part.dtype) for part in none] == [((0,), np.int64)] * 2


@settings(max_examples=25, deadline=None, phases=AS_DRAWN)
@given(shift=st.integers(0, 10**7))
def test_the_future_changes_neither_histories_nor_what_is_barred(shift: int) -> None:
    """What is bought in the window comes later, and so may what is bought after it: only the wanted may change."""
    site = tiny_site(RETURNING)
    late = site.log.time + np.where(site.log.time > day(12), shift, 0)
    first, second = (
        returning_rows(s, FROM, UNTIL, 3) for s in (site, replace(site, log=replace(site.log, time=late)))
    )
    both = np.intersect1d(first.user, second.user).tolist()
    assert 0 in both
    for user in both:
        a, b = first.user.tolist().index(user), second.user.tolist().index(user)
        assert histories(first)[a] == histories(second)[b]
        assert (
            first.barred[1][first.barred[0] == a].tolist() == second.barred[1][second.barred[0] == b].tolist()
        )


def three_rows() -> Rows:
    """Three rows with histories of up to two events, wanted and barred items written out."""
    return Rows(
        user=np.array([2, 5, 9]),
        items=np.array([[3, 0], [1, 2], [0, 4]]),
        kinds=np.array([[0, 1], [2, 3], [3, 0]]),
        times=np.array([[10, 20], [30, 40], [50, 60]]),
        valid=np.array([[True, True], [False, True], [False, False]]),
        at=np.array([100, 20, 60]),
        wanted=(np.array([0, 1, 1, 2]), np.array([5, 0, 3, 6])),
        barred=(np.array([0, 0, 2]), np.array([3, 0, 4])),
    )


def test_inputs_show_all_of_a_history_whatever_its_instants() -> None:
    found = three_rows().inputs(slice(1, 3))
    assert found.items.tolist() == [[1, 2], [0, 4]]
    assert found.kinds.tolist() == [[2, 3], [3, 0]]
    assert found.gaps.tolist() == [[[-10.0, -20.0]], [[10.0, 0.0]]]
    assert found.visible.tolist() == [[[False, True]], [[False, False]]]


def test_masks_are_dense_and_of_the_rows_asked_for() -> None:
    rows = three_rows()
    whole = rows.mask(rows.wanted, slice(0, 3), N_ITEMS)
    assert whole.shape == (3, N_ITEMS)
    assert [np.flatnonzero(row).tolist() for row in whole] == [[5], [0, 3], [6]]
    part = rows.mask(rows.wanted, slice(1, 2), N_ITEMS)
    assert [np.flatnonzero(row).tolist() for row in part] == [[0, 3]]
    beyond = rows.mask(rows.barred, slice(1, 900), N_ITEMS)
    assert [np.flatnonzero(row).tolist() for row in beyond] == [[], [4]]


def test_a_sample_keeps_whole_rows_in_order() -> None:
    rows = three_rows()
    assert rows.sample(3, 0) is rows
    assert rows.sample(4, 0) is rows
    kept_all = set()
    for seed in range(20):
        kept = sorted(np.random.default_rng(seed).choice(3, 2, replace=False).tolist())
        found = rows.sample(2, seed)
        assert len(found) == 2
        for name in ("user", "items", "kinds", "times", "valid", "at"):
            assert np.array_equal(getattr(found, name), getattr(rows, name)[kept])
        for name in ("wanted", "barred"):
            truth = [(kept.index(r), i) for r, i in pairs(getattr(rows, name)) if r in kept]
            assert pairs(getattr(found, name)) == truth
        kept_all.add(tuple(kept))
    assert kept_all == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(FrozenInstanceError):
        rows.user = rows.at  # type: ignore[misc]


@pytest.mark.parametrize(
    ("n", "ends"), [(0, []), (1, [1]), (512, [512]), (513, [512, 513]), (1100, [512, 1024, 1100])]
)
def test_chunks_are_of_512_rows(n: int, ends: list[int]) -> None:
    assert CHUNK == 512
    starts = [0, *ends[:-1]] if ends else []
    assert chunks(n) == [slice(start, end) for start, end in zip(starts, ends, strict=True)]


def test_chunks_follow_the_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[chunks.__module__], "CHUNK", 2)
    assert chunks(5) == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_a_models_scores_are_those_of_the_mean_history_without_popularity() -> None:
    site, model = tiny_site(), linear_model()
    config = with_overrides(CONFIG, {"training.popularity_offset": 0.0})
    slow = SlowLoss(model, training_data(site, FROM), config, Drawn({}, {}, [], {}, []))
    rows = three_rows()
    found = model_scores(model, site, rows, slice(0, 2), catalogue_vectors(model, site))
    truth = [[slow.score(history, item) for item in range(N_ITEMS)] for history in ([3, 0], [2])]
    assert found.shape == (2, N_ITEMS)
    assert found == pytest.approx(np.array(truth), abs=1e-4)
    blank = model_scores(model, site, rows, slice(2, 3), catalogue_vectors(model, site))
    assert blank == pytest.approx(np.zeros((1, N_ITEMS)), abs=1e-6)


def test_catalogue_vectors_are_of_every_item_without_chance_or_gradient() -> None:
    config = with_overrides(CONFIG, {"model.adapter": "mlp", "model.dropout": 0.5}).model
    model, site = build_model(config, WIDTH, WIDTH, seed=1), tiny_site()
    model.train()
    whole = catalogue_vectors(model, site)
    assert not model.training
    assert whole.is_inference()
    with torch.no_grad():
        truth = torch.cat([model.item_vectors(site.items.take(torch.tensor([i])))[0] for i in range(N_ITEMS)])
    assert whole.shape == (N_ITEMS, WIDTH)
    for chunk in (1, 2, 3, 7, 100):
        assert torch.allclose(catalogue_vectors(model, site, chunk), truth, atol=1e-6)
    assert torch.allclose(whole, truth, atol=1e-6)


def test_cosine_is_of_the_mean_of_the_history_by_hand() -> None:
    axes = torch.eye(N_ITEMS)
    axes[6] = torch.tensor([0.6, 0, 0, 0.8, 0, 0, 0])
    site = tiny_site()
    site = replace(site, items=replace(site.items, raw=axes))
    half = math.sqrt(0.5)
    found = cosine_scores(site, three_rows(), slice(0, 3))
    assert found.dtype == np.float32
    assert found[0] == pytest.approx([half, 0, 0, half, 0, 0, 1.4 * half])
    assert found[1] == pytest.approx([0, 0, 1, 0, 0, 0, 0])
    assert found[2].tolist() == [0.0] * N_ITEMS
    assert cosine_scores(site, three_rows(), slice(1, 2)).tolist() == [found[1].tolist()]


def test_padding_of_minus_one_is_no_item() -> None:
    rows = replace(three_rows(), items=np.array([[3, 0], [-1, 2], [-1, -1]]))
    first, second = (cosine_scores(tiny_site(), each, slice(0, 3)) for each in (rows, three_rows()))
    assert np.array_equal(first, second)


def wide_site(n_items: int) -> SiteDataset:
    site = tiny_site()
    return replace(site, items=items_of(n_items), item_ids=tuple(f"i{n}" for n in range(n_items)))


def test_ranking_by_hand() -> None:
    assert CUTOFFS == (10, 20)
    site, ranking = tiny_site(), Ranking(tiny_site(), three_rows())
    scores = np.array(
        [[9, 1, 2, 8, 4, 3, 0], [1, 7, 6, 0, 5, 4, 3], [2, 3, 0, 1, 9, 4, 5]], np.float32
    )  # barred: 0 and 3, none, 4
    ranking.add(slice(0, 2), scores[:2])
    ranking.add(slice(2, 3), scores[2:])
    assert np.concatenate(ranking.top).tolist() == [
        [4, 5, 2, 1, 6, 0, 3],
        [1, 2, 4, 5, 6, 0, 3],
        [6, 5, 1, 0, 3, 2, 4],
    ]
    assert scores[0].tolist() == [-np.inf, 1, 2, -np.inf, 4, 3, 0]
    found = ranking.per_row()
    second, sixth, seventh = (1 / math.log2(place + 1) for place in (2, 6, 7))
    ndcg = [second, (sixth + seventh) / (1 + second), 1.0]
    kinds = ("ndcg", "recall", "capped_recall", "hr")
    names = {f"{kind}@{k}" for kind in kinds for k in (10, 20)} | {"mrr@10"}
    assert set(found) == names
    for k in (10, 20):
        assert found[f"ndcg@{k}"] == pytest.approx(ndcg)
        assert found[f"recall@{k}"].tolist() == found[f"capped_recall@{k}"].tolist() == [1.0, 1.0, 1.0]
    assert found["mrr@10"] == pytest.approx([1 / 2, 1 / 6, 1])
    summary = ranking.summary()
    assert set(summary) == names | {"coverage@20", "diversity@20"}
    assert summary["ndcg@20"] == pytest.approx(sum(ndcg) / 3)
    assert summary["mrr@10"] == pytest.approx((1 / 2 + 1 / 6 + 1) / 3)
    assert summary["coverage@20"] == 1.0
    raw = site.items.raw.numpy()
    cosines = [float(raw[a] @ raw[b]) for a in range(N_ITEMS) for b in range(a)]
    assert summary["diversity@20"] == pytest.approx(1 - np.mean(cosines), abs=1e-6)


def test_only_the_first_twenty_count() -> None:
    site = wide_site(40)
    ranking = Ranking(site, three_rows())
    scores = np.tile(-np.arange(40, dtype=np.float32), (3, 1))
    scores[:, 5], scores[:, 6] = -19.5, -20.5  # wanted by the first and the last
    ranking.add(slice(0, 3), scores)
    assert [part.shape for part in ranking.top] == [(3, 20)]
    found = ranking.per_row()
    assert found["hr@20"].tolist() == [1.0, 1.0, 1.0]
    assert found["hr@10"].tolist() == [0.0, 1.0, 0.0]
    assert ranking.summary()["coverage@20"] == len(np.unique(ranking.top[0])) / 40
