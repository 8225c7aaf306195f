"""Each signal from its definition, for one history and one item, in plain loops; and a drawn site that has facts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from clients.data.dataset import DAY_S, KINDS, PURCHASE, Log, SiteDataset
from clients.data.facts import item_facts
from clients.data.rows import TestRows
from clients.signals.names import USUAL_LENGTH
from clients.training.samples import TARGET_WEIGHTS
from tests.clients.small_site import drawn_site

Event = tuple[int, int]
"""Item and kind."""


def site_with_facts(seed: int = 0, n_users: int = 20, n_items: int = 15, events: int = 300) -> SiteDataset:
    """A drawn site whose items have prices, categories, brands, titles, codes and attributes, some of them unknown."""
    drawn = np.random.default_rng(seed)

    def some(words: Sequence[str], blank: float = 0.25) -> list[str | None]:
        return [None if drawn.random() < blank else str(drawn.choice(words)) for _ in range(n_items)]

    prices = np.round(np.exp(drawn.normal(2, 1, n_items)), 2)
    products = pl.DataFrame({
        "price": [None if drawn.random() < 0.2 else float(price) for price in prices],
        "category": some(("Lamps", "Rugs", "lamps", "Cups")), "brand": some(("A", "B")),
        "title": some([f"Thing {number}" for number in range(n_items // 2)]),
        "product_code": some([f"c{number}" for number in range(n_items // 2)]),
        "attributes": some(("red; wool", "wool", "Red", "blue;;wool;red", "blue")),
    })  # fmt: skip
    return replace(drawn_site(seed, n_users, n_items, events), facts=item_facts(products))


def rows_of(histories: Sequence[Sequence[Event]], length: int = 6) -> TestRows:
    """Rows with the given histories, latest event last, of users 0, 1, …; what stands in the padding is no event."""
    n = len(histories)
    items, kinds = np.full((n, length), 3, np.int64), np.full((n, length), PURCHASE, np.int64)
    valid = np.zeros((n, length), bool)
    for row, history in enumerate(histories):
        for place, (item, kind) in enumerate(history):
            at = length - len(history) + place
            items[row, at], kinds[row, at], valid[row, at] = item, kind, True
    none, zeros = np.zeros(0, np.int64), np.zeros(n, np.int64)
    return TestRows(
        np.arange(n), items, kinds, np.zeros_like(items), valid, zeros, (none, none), (none, none)
    )


@dataclass
class SlowSignals:
    """The signals of a site before an instant."""

    site: SiteDataset
    at_s: int

    def __post_init__(self) -> None:
        log = self.site.learning_log
        fields = (getattr(log, name).tolist() for name in ("user", "item", "kind", "time"))
        self.past = [event for event in zip(*fields, strict=True) if event[3] < self.at_s]
        self.raw = self.site.items.raw.numpy().astype(np.float64)

    def of(self, history: Sequence[Event], item: int) -> dict[str, float]:
        """Name → signal, not yet divided by its scale."""
        found = {**self._likeness(history, item), **self._facts(history, item), **self._others(history, item)}
        length = math.log1p(len(history)) - USUAL_LENGTH
        for name in ("cosine", "price", "category", "attributes", "neighbours", "popularity"):
            found[f"{name}_by_length"] = found[name] * length
        return found

    def _likeness(self, history: Sequence[Event], item: int) -> dict[str, float]:
        raw, half = self.raw, self.raw.shape[1] // 2
        mean = _unit(sum((raw[i] for i, _ in history), np.zeros(raw.shape[1])))
        wants = [i for i, kind in history if KINDS[kind] in ("cart", "purchase")]
        wanted = _unit(sum((raw[i] for i in wants), np.zeros(raw.shape[1])))
        cosine = float(mean @ raw[item])
        return {
            "cosine": cosine,
            "cosine_max": max(float(raw[i] @ raw[item]) for i, _ in history) - cosine if history else 0.0,
            "cosine_last": float(raw[history[-1][0]] @ raw[item]) - cosine if history else 0.0,
            "cosine_single": cosine if len(history) == 1 else 0.0,
            "text": 2 * float(mean[:half] @ raw[item][:half]) - cosine,
            "cosine_bought": float(wanted @ raw[item]) - cosine if wants else 0.0,
        }

    def _facts(self, history: Sequence[Event], item: int) -> dict[str, float]:
        facts, n = self.site.facts, max(len(history), 1)
        prices = [p for i, _ in history if not math.isnan(p := float(facts.log_price[i]))]
        own = float(facts.log_price[item])
        level = own - sum(prices) / len(prices) if prices and not math.isnan(own) else 0.0

        def share(codes: np.ndarray) -> float:
            return sum(codes[i] == codes[item] for i, _ in history) / n if codes[item] >= 0 else 0.0

        attributes = facts.attributes.toarray()
        mine = attributes[item]
        last = history[-1][0] if history else -1
        same = last >= 0 and facts.category[last] == facts.category[item] >= 0
        return {
            "price": -abs(level), "price_level": level, "category": share(facts.category),
            "category_last": float(same) - share(facts.category), "brand": share(facts.brand),
            "attributes": sum(float(mine[attributes[i] > 0].sum()) for i, _ in history) / n,
            "title": float(share(facts.title) > 0), "product_code": float(share(facts.product_code) > 0),
        }  # fmt: skip

    def _others(self, history: Sequence[Event], item: int) -> dict[str, float]:
        near = sum(
            0.9 ** (len(history) - 1 - place) * self._similar(i, item, False)
            for place, (i, _) in enumerate(history)
        )
        bought = sum(
            0.9 ** (len(history) - 1 - place) * self._similar(i, item, True)
            for place, (i, _) in enumerate(history)
        )
        last = self._similar(history[-1][0], item, False) if history else 0.0
        weekly = self.popularity(7.0)
        taste = sum(weekly[i] for i, _ in history) / max(len(history), 1)
        times = [time for _, i, _, time in self.past if i == item]
        category = self.site.facts.category
        mates = [i for i in range(self.site.n_items) if category[item] < 0 or category[i] == category[item]]
        return {
            "neighbours": math.log1p(10 * near), "neighbours_last": math.log1p(10 * last),
            "neighbours_bought": math.log1p(10 * bought), "neighbours_any": float(near > 0),
            "ease": self._expected({i for i, _ in history}, item),
            "popularity": weekly[item], "popularity_taste": taste * weekly[item],
            "popularity_12h": self.popularity(0.5)[item] - weekly[item],
            "popularity_1d": self.popularity(1.0)[item] - weekly[item],
            "popularity_3d": self.popularity(3.0)[item] - weekly[item],
            "popularity_ever": self.popularity(math.inf)[item] - weekly[item],
            "popularity_in_category": weekly[item] - sum(weekly[i] for i in mates) / len(mates),
            "age": math.log1p((self.at_s - min(times)) / DAY_S) if times else 0.0, "never_sold": float(not times),
        }  # fmt: skip

    def popularity(self, half_life_d: float) -> list[float]:
        """Centred log of the decayed weight of each item's events."""
        total = [0.0] * self.site.n_items
        for _, item, kind, time in self.past:
            age_d = (self.at_s - time) / DAY_S
            total[item] += float(TARGET_WEIGHTS[kind]) * (
                1.0 if math.isinf(half_life_d) else 0.5 ** (age_d / half_life_d)
            )
        scale = len(self.past) / max(sum(total), 1e-9)
        smooth = [math.log(value * scale + 0.5) for value in total]
        return [value - sum(smooth) / len(smooth) for value in smooth]

    def _similar(self, first: int, second: int, bought: bool) -> float:
        def who(item: int) -> set[int]:
            return {u for u, i, kind, _ in self.past if i == item and (kind == PURCHASE or not bought)}

        both = len(who(first) & who(second))
        return both / (math.sqrt(len(who(first)) * len(who(second))) + 3.0)

    def _expected(self, have: set[int], item: int) -> float:
        """EASE as what it is: a ridge regression of each item's column on those of all others."""
        touched = np.zeros((self.site.log.n_users, self.site.n_items))
        for user, i, _, _ in self.past:
            touched[user, i] = 1.0
        if not touched[:, item].any():
            return 0.0
        others = [i for i in range(self.site.n_items) if i != item]
        x = touched[:, others]
        weights = np.linalg.solve(x.T @ x + 20.0 * np.eye(len(others)), x.T @ touched[:, item])
        return float(sum(weights[others.index(i)] for i in have if i != item))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def without_events_of(site: SiteDataset, user: int) -> SiteDataset:
    """The same site without one user's events."""
    return replace(site, log=site.log.where(site.log.user != user))


def with_other_events_of(site: SiteDataset, user: int, seed: int) -> SiteDataset:
    """The same site where one user did other things at other times."""
    log, drawn = site.log, np.random.default_rng(seed)
    mine = log.user == user
    item = np.where(mine & (log.item >= 0), drawn.integers(0, site.n_items, len(log)), log.item)
    time = np.where(mine, drawn.permutation(log.time), log.time)
    return replace(site, log=Log.of(log.user, item, log.kind, time, log.n_users))
