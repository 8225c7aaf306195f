"""Figures of behaviour, sentiment and category by hand, and the calibration that stays near the identity."""

from __future__ import annotations

import inspect
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from clients.data.dataset import DAY_S, SiteDataset
from clients.evaluation.heads import (
    behaviour_logits,
    behaviour_metrics,
    content_metrics,
    next_event_accuracy,
    reliability_bins,
    rows_of,
)
from clients.evaluation.rows import chunks
from clients.training.behaviour import BehaviourRows, behaviour_rows
from clients.training.samples import training_data
from common.models.model import build_model
from common.settings.load import with_overrides
from tests.clients.five_users import (
    CONFIG,
    EVENTS,
    N_ITEMS,
    WIDTH,
    Event,
    day,
    linear_model,
    tiny_site,
)
from tests.clients.slow_loss import Drawn, SlowLoss

LATER: list[Event] = [
    (0, "purchase", 1, 14.5),
    (2, "purchase", 5, 16.25),
    (1, "view", 2, 15.0),
    (4, "cart", 2, 17.5),
    (0, "purchase", 1, 13.5),
    (0, "view", 3, 17.875),
]


def labelled(
    intent: list[int], next_kind: list[int] | None = None, user: list[int] | None = None
) -> BehaviourRows:
    """Rows with labels alone."""
    n = len(intent)
    kinds = next_kind or [-1] * n
    users = np.array(user or range(n), np.int64)
    return BehaviourRows(
        users, np.zeros(n, np.int64), np.zeros((n, 28), np.float32), np.array(intent), np.array(kinds)
    )


def test_instants_of_a_window_have_their_whole_horizon_in_it() -> None:
    site = tiny_site(EVENTS + LATER)
    rows = rows_of(site, day(14), day(18))
    truth = behaviour_rows(site.log, np.array([day(14), day(15), day(16), day(17)]), DAY_S)
    for name in ("user", "at", "features", "intent", "next_kind"):
        assert np.array_equal(getattr(rows, name), getattr(truth, name))
    assert sorted(set(rows_of(site, day(14), day(16.5)).at.tolist())) == [day(14), day(15)]
    pairs = zip(rows.user.tolist(), rows.at.tolist(), rows.intent.tolist(), strict=True)
    assert [(user, at) for user, at, intent in pairs if intent] == [(0, day(14)), (2, day(16))]
    assert len(rows) == 16


def slow_logits(site: SiteDataset, rows: BehaviourRows, row: int) -> list[float]:
    """From the mean vector of the last four items before the instant."""
    model, log, at = linear_model(), site.item_log, rows.at[row]
    slow = SlowLoss(model, training_data(site, day(18)), CONFIG, Drawn({}, {}, [], {}, []))
    past = [
        int(i) for u, i, t in zip(log.user, log.item, log.time, strict=True) if u == rows.user[row] and t < at
    ]
    user = np.mean([slow.vector(item) for item in past[-4:]], axis=0) if past else np.zeros(WIDTH)
    with torch.no_grad():
        head = model.behaviour(
            torch.from_numpy(rows.features[row : row + 1]), torch.from_numpy(user)[None].float()
        )
    return head[0].tolist()


def test_behaviour_logits_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    site = tiny_site(EVENTS + LATER)
    rows = behaviour_rows(site.log, np.array([day(5), day(14), day(17)]), DAY_S)
    truth = np.array([slow_logits(site, rows, row) for row in range(len(rows))])
    assert truth.shape == (12, 6)
    found = behaviour_logits(linear_model(), site, rows, CONFIG)
    assert found == pytest.approx(truth, abs=1e-4)
    assert found.dtype == np.float64
    monkeypatch.setattr(sys.modules[chunks.__module__], "CHUNK", 5)
    assert behaviour_logits(linear_model(), site, rows, CONFIG) == pytest.approx(truth, abs=1e-4)
    none = behaviour_logits(linear_model(), site, rows.take(np.zeros(0, np.int64)), CONFIG)
    assert none.shape == (0, 6)


def test_behaviour_metrics_by_hand() -> None:
    rows = labelled([1, 0, 0, 1, 1], user=[7, 7, 7, 8, 9])
    found = behaviour_metrics(np.array([0.6, 0.7, 0.2, 0.9, 0.5]), rows)
    losses = [math.log(0.6), math.log(0.3), math.log(0.8), math.log(0.9), math.log(0.5)]
    assert found == pytest.approx({"auc": 4 / 6, "gauc": 0.5, "log_loss": -sum(losses) / 5})


def test_reliability_bins_by_hand() -> None:
    chances = np.array([0.0, 0.05, 0.1, 0.95, 1.0, 0.55])
    labels = np.array([0, 1, 0, 1, 0, 1])
    found = reliability_bins(chances, labels)
    assert found == [
        {"bin": 0, "predicted": pytest.approx(0.025), "observed": 0.5, "count": 2},
        {"bin": 1, "predicted": pytest.approx(0.1), "observed": 0.0, "count": 1},
        {"bin": 5, "predicted": pytest.approx(0.55), "observed": 1.0, "count": 1},
        {"bin": 9, "predicted": pytest.approx(0.975), "observed": 0.5, "count": 2},
    ]
    halves = reliability_bins(chances, labels, bins=2)
    assert [(half["bin"], half["count"]) for half in halves] == [(0, 3), (1, 3)]
    assert reliability_bins(np.zeros(0), np.zeros(0, np.int64)) == []
    assert inspect.signature(reliability_bins).parameters["bins"].default == 10


def test_next_event_accuracy_by_hand() -> None:
    logits = np.array(
        [
            [9.0, 5, 0, 0, 0, 0],  # a view, and one comes
            [9.0, 0, 0, 0, 4, 0],  # a purchase, but a view comes
            [0.0, 0, 0, 0, 4, 0],  # a purchase, and one comes
            [0.0, 0, 0, 0, 4, 0],  # nothing comes: not asked
        ]
    )
    assert next_event_accuracy(logits, labelled([0] * 4, [0, 0, 3, -1])) == pytest.approx(2 / 3)
    assert math.isnan(next_event_accuracy(logits[:1], labelled([0], [-1])))
    assert math.isnan(next_event_accuracy(np.zeros((0, 6)), labelled([])))


def test_sentiment_accuracy_by_hand() -> None:
    site, model = tiny_site(), linear_model()
    weight, bias = (p.detach().double().numpy() for p in model.sentiment.parameters())
    adapter = model.text_adapter.first.weight.detach().double().numpy()
    likes = [float((weight @ adapter @ text + bias)[0]) > 0 for text in site.reviews.text.numpy()]
    labels = [like == bool(number % 2) for number, like in enumerate(likes)]
    right = [like == label for like, label in zip(likes, labels, strict=True)]
    judged = replace(site, reviews=replace(site.reviews, label=np.array(labels, np.int64)))
    days = (site.reviews.time - day(0)) // DAY_S
    for from_day in (0, 1, 5, 6, 10, 20):
        late = [hit for hit, number in zip(right, days, strict=True) if number >= from_day]
        found = content_metrics(model, judged, day(from_day))
        assert found["sentiment_accuracy"] == pytest.approx(sum(late) / len(late))
    assert "sentiment_accuracy" not in content_metrics(model, judged, day(20) + 1)
    unlabelled = replace(judged, reviews=replace(judged.reviews, label=np.array([-1, *labels[1:]])))
    found = content_metrics(model, unlabelled, day(0))
    assert found["sentiment_accuracy"] == pytest.approx(sum(right[1:]) / len(right[1:]))


def test_category_accuracy_is_of_the_held_fifth() -> None:
    site, model = tiny_site(), linear_model()
    slow = SlowLoss(model, training_data(site, day(10)), CONFIG, Drawn({}, {}, [], {}, []))
    weight, bias = (p.detach().double().numpy() for p in model.category.parameters())
    guesses = [int((weight @ slow.vector(item) + bias).argmax()) for item in range(N_ITEMS)]

    def accuracy(category: list[int]) -> float | None:
        items = replace(site.items, category=torch.tensor(category))
        return content_metrics(model, replace(site, items=items), day(0)).get("category_accuracy")

    wrong = [(guess + 1) % 3 for guess in guesses]
    assert accuracy(guesses) == 1.0
    assert accuracy(wrong) == 0.0
    assert accuracy([guesses[0], *wrong[1:]]) == 0.5  # items 0 and 5 are held
    assert accuracy([wrong[0], *guesses[1:]]) == 0.5
    assert accuracy([guesses[0], *wrong[1:5], -1, wrong[6]]) == 1.0
    assert accuracy([-1, *guesses[1:5], -1, guesses[6]]) is None


def test_content_is_judged_without_chance_and_only_where_there_are_categories() -> None:
    site = tiny_site()
    config = with_overrides(CONFIG, {"model.adapter": "mlp", "model.dropout": 0.9}).model
    model = build_model(config, WIDTH, WIDTH, seed=1)
    model.train()
    first = content_metrics(model, site, day(0))
    assert not model.training
    assert first == content_metrics(model, site, day(0))
    bare = build_model(with_overrides(CONFIG, {"model.categories": []}).model, WIDTH, WIDTH, seed=1)
    assert set(content_metrics(bare, site, day(0))) == {"sentiment_accuracy"}
