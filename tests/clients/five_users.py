"""Five users and seven items whose every event is written out: small enough to work out by hand what is learned.

User 1 knows one item only, user 3 has nothing but a review, user 4 has only searched before day ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from hypothesis import Phase

from clients.data.dataset import DAY_S, KINDS, Ints, Log, Reviews, SiteDataset, Split
from clients.data.facts import ItemFacts
from clients.data.rows import TestRows
from common.models.model import HansaModel, ItemInputs, build_model
from common.settings.config import LeagueConfig
from common.settings.load import load_config

START = 20_000 * DAY_S
N_USERS, N_ITEMS, WIDTH = 5, 7, 8
# A failing example is told as it was drawn: a seed isn't plainer for being small, and to look for it takes minutes.
AS_DRAWN = (Phase.explicit, Phase.generate)
Event = tuple[int, str, int, float]
EVENTS: list[Event] = [  # user, kind, item (-1 for a search), day
    (0, "view", 0, 0.375),
    (0, "click", 1, 1.375),
    (0, "cart", 2, 1.5),
    (0, "search", -1, 2.25),
    (0, "purchase", 3, 2.375),
    (0, "view", 4, 2.5),
    (1, "purchase", 5, 3.125),
    (1, "view", 5, 4.125),
    (2, "purchase", 1, 0.25),
    (2, "view", 2, 2.25),
    (2, "view", 3, 2.25),
    (2, "cart", 6, 4.0),
    (2, "view", 6, 5.0),
    (2, "purchase", 0, 6.0),
    (4, "search", -1, 1.0),
    (4, "view", 6, 10.0),
    (4, "purchase", 2, 12.0),
]
REVIEWS = [(2, 1, 3), (0, 0, 1), (3, 1, 5), (2, -1, 2), (2, 0, 10), (0, 1, 9), (1, 0, 20)]  # user, label, day
CONFIG: LeagueConfig = load_config(
    {
        "model": {
            "adapter": "linear",
            "item_dim": WIDTH,
            "hidden_dim": 8,
            "projection_dim": 16,
            "history_length": 4,
            "categories": ["a", "b", "c"],
        },
        "training": {
            "batch_size": 2,
            "negatives": 5,
            "targets_per_user": 3,
            "reviews_per_user": 2,
            "min_steps_per_round": 1,
            "popularity_offset": 0.7,
            "behaviour_weight": 0.3,
            "sentiment_weight": 0.2,
            "category_weight": 0.4,
            "alignment_weight": 0.05,
        },
    }
)


def day(number: float) -> int:
    """Seconds since 1970 of so many days after the start."""
    return START + round(number * DAY_S)


def log_of(events: Iterable[Event], n_users: int = N_USERS) -> Log:
    """A log from written events, in any order."""
    user, kind, item, at = zip(*events, strict=True)
    return Log.of(
        np.array(user),
        np.array(item),
        np.array([KINDS.index(name) for name in kind]),
        np.array([day(number) for number in at]),
        n_users,
    )


def items_of(n_items: int, seed: int = 7) -> ItemInputs:
    """Drawn features; item 1 has no picture and item 3 no text; item 2 has no category."""
    generator = torch.Generator().manual_seed(seed)
    category = torch.arange(n_items) % 3
    category[2] = -1
    return ItemInputs(
        text=torch.randn(n_items, WIDTH, generator=generator),
        image=torch.randn(n_items, WIDTH, generator=generator),
        has_text=torch.arange(n_items) != 3,
        has_image=torch.arange(n_items) != 1,
        raw=torch.nn.functional.normalize(torch.randn(n_items, 5, generator=generator), dim=1),
        category=category,
        row=torch.arange(n_items),
    )


def tiny_site(events: Iterable[Event] = EVENTS) -> SiteDataset:
    """The site of five users and seven items: validation from day 10, test from day 14 to day 18."""
    user, label, at = (np.array(column, np.int64) for column in zip(*REVIEWS, strict=True))
    text = torch.randn(len(REVIEWS), WIDTH, generator=torch.Generator().manual_seed(3))
    return SiteDataset(
        name="five",
        user_ids=tuple("abcde"),
        item_ids=tuple("tuvwxyz"),
        items=items_of(N_ITEMS),
        log=log_of(events),
        reviews=Reviews(user, text, label, START + at * DAY_S),
        split=Split(day(10), day(14), day(18)),
        learners=np.ones(N_USERS, bool),
        facts=ItemFacts.unknown(N_ITEMS),
    )


def three_rows() -> TestRows:
    """Three rows with histories of up to two events, wanted and barred items written out."""
    return TestRows(
        user=np.array([2, 5, 9]),
        items=np.array([[3, 0], [1, 2], [0, 4]]),
        kinds=np.array([[0, 1], [2, 3], [3, 0]]),
        times=np.array([[10, 20], [30, 40], [50, 60]]),
        valid=np.array([[True, True], [False, True], [False, False]]),
        at=np.array([100, 20, 60]),
        wanted=(np.array([0, 1, 1, 2]), np.array([5, 0, 3, 6])),
        barred=(np.array([0, 0, 2]), np.array([3, 0, 4])),
    )


def linear_model(config: LeagueConfig = CONFIG) -> HansaModel:
    """A model that can be worked out by hand: matrices, means and fixed temperatures; biases are not zero."""
    model = build_model(config.model, WIDTH, WIDTH, seed=2)
    with torch.no_grad():
        model.sentiment.bias.fill_(0.3)
        model.behaviour.leave.weight.copy_(
            torch.randn(model.behaviour.leave.weight.shape, generator=torch.Generator().manual_seed(9))
        )
    return model


class Dice:
    """Chance that is written down: each call of ``random`` takes the next of the written values, of the shape asked."""

    def __init__(self, *draws: Any, items: Iterable[int] = ()) -> None:
        self._draws: Iterator[Any] = iter(draws)
        self._items = list(items)

    def random(self, shape: int | tuple[int, ...]) -> np.ndarray:
        values = np.array(next(self._draws), np.float64)
        assert values.shape == (shape if isinstance(shape, tuple) else (shape,))
        return values

    def integers(self, low: int, high: int, count: int) -> Ints:
        assert (low, high, count) == (0, N_ITEMS, len(self._items))
        return np.array(self._items)

    def all_thrown(self) -> bool:
        return next(self._draws, None) is None
