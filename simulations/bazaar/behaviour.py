"""Shopping: sessions of views, clicks, carts and purchases, and the ratings that follow.

A customer's readiness to buy changes slowly from session to session; it makes sessions longer, searches and repeated
views more likely, and raises conversion. Items left in the cart tend to be viewed and bought next time. So a customer's
past predicts the next event in part.

Invariant: events of a customer are strictly ordered in time; nobody meets an item before its listing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from simulations.bazaar.config import BazaarConfig
from simulations.bazaar.texts import write_query
from simulations.bazaar.world import CATEGORIES, Floats, Ints, SiteTruth, stream

DAY_S = 86_400
# Relative traffic by hour of day (a lunch and an evening peak) and by weekday from Monday.
_HOURS: Floats = np.array(
    [2, 1, 1, 1, 1, 1, 2, 4, 5, 6, 6, 7, 9, 8, 6, 6, 6, 7, 9, 11, 13, 12, 9, 5], dtype=float
)
_WEEKDAYS: Floats = np.array([0.9, 0.85, 0.85, 0.9, 1.1, 1.3, 1.25])
_TASTE, _POPULARITY, _FOCUS = 3.0, 0.8, 0.8
# A thing already bought tempts much less: about one purchase in ten is a repeat, as at H&M.
_OWNED = 2.0
# New arrivals stand in the shop window; the boost in log weight halves about every week.
_NOVELTY, _NOVELTY_DAYS = 0.8, 10.0
_MOST_VIEWS = 20


class Event(NamedTuple):
    """One row of the events table."""

    user: int
    item: int
    kind: str
    at: int
    session: int
    query: str | None = None
    quantity: int = 1


@dataclass
class EventLog:
    """Columns of the events table while they grow; `at` in seconds since the first day, item −1 for a search."""

    user: list[int] = field(default_factory=list)
    item: list[int] = field(default_factory=list)
    event: list[str] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    session: list[int] = field(default_factory=list)
    query: list[str | None] = field(default_factory=list)
    quantity: list[int] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Append one event."""
        self.user.append(event.user)
        self.item.append(event.item)
        self.event.append(event.kind)
        self.at.append(event.at)
        self.session.append(event.session)
        self.query.append(event.query)
        self.quantity.append(event.quantity)


@dataclass(frozen=True)
class Rating:
    """A customer's honest verdict on a purchase; `value` in 1..5, `at` in seconds since the first day."""

    user: int
    item: int
    value: int
    at: int


def shop(config: BazaarConfig, truth: SiteTruth, words: list[tuple[str, ...]]) -> EventLog:
    """Let all customers of a merchant shop; `words` are the words by which each item is searched."""
    rng = stream(config, truth.number, 3)
    same_kind = np.equal.outer(np.arange(CATEGORIES), truth.category)
    log = EventLog()
    session = 0
    for user in range(len(truth.users)):
        likes = (
            _TASTE * truth.affinity[user]
            + _POPULARITY * truth.popularity
            - truth.thrift[user] * truth.log_price
        )
        visit = _Visit(rng, log, user, truth, likes, same_kind, words)
        for start in _session_starts(rng, config.days, float(truth.joined[user]), float(truth.pace[user])):
            visit.run(start, session)
            session += 1
    return log


def rate(config: BazaarConfig, truth: SiteTruth, log: EventLog) -> list[Rating]:
    """Verdicts on about two purchases in five, days later; satisfaction is liking, quality and chance."""
    rng = stream(config, truth.number, 4)
    ratings: list[Rating] = []
    for user, item, event, at in zip(log.user, log.item, log.event, log.at, strict=True):
        if event != "purchase" or rng.random() > 0.4:
            continue
        feeling = (
            3.1 + 0.45 * truth.affinity[user, item] + 0.7 * truth.quality[item] + 0.6 * rng.standard_normal()
        )
        when = at + int(DAY_S * rng.uniform(1, 9))
        if when < config.days * DAY_S:
            ratings.append(Rating(user, item, int(np.clip(round(float(feeling)), 1, 5)), when))
    return ratings


def _session_starts(rng: np.random.Generator, days: int, joined: float, pace: float) -> list[int]:
    """Seconds at which sessions start, at least two hours apart; the first comes on the day of joining."""
    weekday = _WEEKDAYS[np.arange(days) % 7]
    first = min(int(joined), days - 1)
    chosen = np.flatnonzero(rng.random(days) < 1 - np.exp(-pace * weekday))
    chosen = np.union1d(chosen[chosen > first], [first]) if joined > 0 else chosen
    hours = rng.choice(24, size=len(chosen), p=_HOURS / _HOURS.sum())
    seconds = rng.integers(0, 3600, size=len(chosen))
    return [int(d) * DAY_S + int(h) * 3600 + int(s) for d, h, s in zip(chosen, hours, seconds, strict=True)]


@dataclass
class _Visit:
    """One customer over all sessions: readiness to buy, what lies in the cart, how often each item was seen.

    Parameters
    ----------
    likes : of each item, by taste and popularity; what is bought is liked less from then on.
    same_kind : (categories, items) whether an item is of a category or one like it.
    words : of each item, those that a search for it may have.
    """

    rng: np.random.Generator
    log: EventLog
    user: int
    truth: SiteTruth
    likes: Floats
    same_kind: np.typing.NDArray[np.bool_]
    words: list[tuple[str, ...]]
    ready: float = field(init=False)
    cart: list[int] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    now: int = 0
    session: int = 0

    def __post_init__(self) -> None:
        self.likes = self.likes.copy()
        self.ready = float(self.rng.standard_normal())

    def run(self, start: int, session: int) -> None:
        """One session from its start (seconds) to its end."""
        rng = self.rng
        self.ready = 0.7 * self.ready + 0.7 * float(rng.standard_normal())
        # Two sessions near midnight of neighbouring days must not overlap.
        self.now, self.session = max(start, self.now + 1800), session
        items = self._browse(listed_before=start / DAY_S)
        if len(items) == 0:
            return
        waiting, self.cart = self.cart, []
        for item in waiting:
            if rng.random() < 0.75:
                self._look(item)
                self._decide(item, bias=0.3)
        if rng.random() < _chance(-0.8 + 0.5 * self.ready):
            self._record(-1, "search", query=write_query(rng, self.words[int(items[0])]))
        for item in items.tolist():
            self._look(item)
            # Seeing a thing again is a sign of wanting it.
            pull = (
                0.9 * self.ready
                + 0.6 * float(self.truth.affinity[self.user, item])
                + 0.5 * (self.seen[item] - 1)
            )
            if rng.random() < _chance(-3.45 + pull):
                self._record(item, "cart")
                self._decide(item, bias=0.0)

    def _browse(self, listed_before: float) -> Ints:
        """The items that are viewed: first one, then similar ones, by taste and popularity (Gumbel top-k)."""
        rng = self.rng
        age = listed_before - self.truth.listed
        fresh = _NOVELTY * np.exp(-np.maximum(age, 0.0) / _NOVELTY_DAYS)
        score = np.where(age >= 0, self.likes + fresh, -np.inf)
        score = score + rng.gumbel(size=len(score))
        lead = int(np.argmax(score))
        if not np.isfinite(score[lead]):
            return np.empty(0, dtype=np.int64)
        score = score + _FOCUS * self.same_kind[self.truth.category[lead]]
        score[lead] = np.inf
        count = min(
            1 + int(rng.poisson(np.exp(1.05 + 0.3 * self.ready))), _MOST_VIEWS, int((score > -np.inf).sum())
        )
        best = np.argpartition(-score, count - 1)[:count]
        return best[np.argsort(-score[best], kind="stable")]

    def _look(self, item: int) -> None:
        self.seen[item] = self.seen.get(item, 0) + 1
        self._record(item, "view")
        if self.rng.random() < _chance(-1.2 + 0.7 * float(self.truth.affinity[self.user, item])):
            self._record(item, "click")

    def _decide(self, item: int, bias: float) -> None:
        """Buy the items in the cart, or leave them there for the next session."""
        wish = bias - 0.3 + 0.8 * self.ready + 0.4 * float(self.truth.affinity[self.user, item])
        if self.rng.random() < _chance(wish):
            self._record(item, "purchase", quantity=1 + int(self.rng.random() < 0.08))
            self.likes[item] -= _OWNED
        elif len(self.cart) < 5:
            self.cart.append(item)

    def _record(self, item: int, event: str, query: str | None = None, quantity: int = 1) -> None:
        self.now += 4 + int(self.rng.exponential(40.0))
        self.log.add(Event(self.user, item, event, self.now, self.session, query, quantity))


def _chance(logit: float) -> float:
    return float(1.0 / (1.0 + np.exp(-logit)))
