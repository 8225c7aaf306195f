"""Scores and their ranking, worked out by hand on five users and seven items."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from clients.data.dataset import SiteDataset
from clients.evaluation.rows import (
    CHUNK,
    CUTOFFS,
    Ranking,
    catalogue_vectors,
    chunks,
    cosine_scores,
    model_scores,
)
from clients.training.samples import training_data
from common.models.model import build_model
from common.settings.load import with_overrides
from tests.clients.five_users import (
    CONFIG,
    N_ITEMS,
    WIDTH,
    day,
    items_of,
    linear_model,
    three_rows,
    tiny_site,
)
from tests.clients.slow_loss import Drawn, SlowLoss

FROM = day(10)


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
