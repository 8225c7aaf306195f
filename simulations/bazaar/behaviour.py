"""Shopping: sessions of views, clicks, carts and purchases, and the ratings that follow.

A customer's readiness to buy drifts from session to session; it lengthens sessions, makes searches and repeated
views more likely, and raises conversion. What is left in the cart tends to be looked at and bought next time.
So the past of a customer tells something of the next event, but not all.

Invariant: events of a customer are strictly ordered in time; nobody meets an item before its listing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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

    def add(
        self,
        user: int,
        item: int,
        event: str,
        at: int,
        session: int,
        query: str | None = None,
        quantity: int = 1,
    ) -> None:
        """Append one event."""
        self.user.append(user)
        self.item.append(item)
        self.event.append(event)
        self.at.append(at)
        self.session.append(session)
        self.query.append(query)
        self.quantity.append(quantity)


@dataclass(frozen=True)
class Rating:
    """A customer's honest verdict on a purchase; `value` in 1..5, `at` in seconds since the first day."""

    user: int
    item: int
    value: int
    at: int


def shop(config: BazaarConfig, truth: SiteTruth, words: list[tuple[str, ...]]) -> EventLog:
    """Let all customers of a merchant shop; `words` are what each item is searched by."""
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


class _Visit:
    """One customer over all sessions: readiness to buy, what lies in the cart, how often each item was seen."""

    def __init__(
        self,
        rng: np.random.Generator,
        log: EventLog,
        user: int,
        truth: SiteTruth,
        likes: Floats,
        same_kind: np.typing.NDArray[np.bool_],
        words: list[tuple[str, ...]],
    ) -> None:
        self._rng, self._log, self._user, self._truth = rng, log, user, truth
        self._likes, self._same_kind, self._words = likes.copy(), same_kind, words
        self._ready = float(rng.standard_normal())
        self._cart: list[int] = []
        self._seen: dict[int, int] = {}
        self._now = 0
        self._session = 0

    def run(self, start: int, session: int) -> None:
        """One session from its start (seconds) to its end."""
        rng = self._rng
        self._ready = 0.7 * self._ready + 0.7 * float(rng.standard_normal())
        # Two sessions near midnight of neighbouring days must not overlap.
        self._now, self._session = max(start, self._now + 1800), session
        items = self._browse(listed_before=start / DAY_S)
        if len(items) == 0:
            return
        waiting, self._cart = self._cart, []
        for item in waiting:
            if rng.random() < 0.75:
                self._look(item)
                self._decide(item, bias=0.3)
        if rng.random() < _chance(-0.8 + 0.5 * self._ready):
            self._record(-1, "search", query=write_query(rng, self._words[int(items[0])]))
        for item in items.tolist():
            self._look(item)
            # Seeing a thing again is a sign of wanting it.
            pull = (
                0.9 * self._ready
                + 0.6 * float(self._truth.affinity[self._user, item])
                + 0.5 * (self._seen[item] - 1)
            )
            if rng.random() < _chance(-3.45 + pull):
                self._record(item, "cart")
                self._decide(item, bias=0.0)

    def _browse(self, listed_before: float) -> Ints:
        """What is looked at: one thing leads, then things like it, by taste and popularity (Gumbel top-k)."""
        rng = self._rng
        age = listed_before - self._truth.listed
        fresh = _NOVELTY * np.exp(-np.maximum(age, 0.0) / _NOVELTY_DAYS)
        score = np.where(age >= 0, self._likes + fresh, -np.inf)
        score = score + rng.gumbel(size=len(score))
        lead = int(np.argmax(score))
        if not np.isfinite(score[lead]):
            return np.empty(0, dtype=np.int64)
        score = score + _FOCUS * self._same_kind[self._truth.category[lead]]
        score[lead] = np.inf
        count = min(
            1 + int(rng.poisson(np.exp(1.05 + 0.3 * self._ready))), _MOST_VIEWS, int((score > -np.inf).sum())
        )
        best = np.argpartition(-score, count - 1)[:count]
        return best[np.argsort(-score[best], kind="stable")]

    def _look(self, item: int) -> None:
        self._seen[item] = self._seen.get(item, 0) + 1
        self._record(item, "view")
        if self._rng.random() < _chance(-1.2 + 0.7 * float(self._truth.affinity[self._user, item])):
            self._record(item, "click")

    def _decide(self, item: int, bias: float) -> None:
        """Buy what lies in the cart, or leave it there for the next time."""
        wish = bias - 0.3 + 0.8 * self._ready + 0.4 * float(self._truth.affinity[self._user, item])
        if self._rng.random() < _chance(wish):
            self._record(item, "purchase", quantity=1 + int(self._rng.random() < 0.08))
            self._likes[item] -= _OWNED
        elif len(self._cart) < 5:
            self._cart.append(item)

    def _record(self, item: int, event: str, query: str | None = None, quantity: int = 1) -> None:
        self._now += 4 + int(self._rng.exponential(40.0))
        self._log.add(self._user, item, event, self._now, self._session, query, quantity)


def _chance(logit: float) -> float:
    return float(1.0 / (1.0 + np.exp(-logit)))
