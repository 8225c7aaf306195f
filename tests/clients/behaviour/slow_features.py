"""Each feature of one customer, computed from a list of events with nothing but loops: the truth for the fast ones."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

DAY = 86_400
PURCHASE, CART = 3, 2
KINDS = ("view", "click", "cart", "purchase", "search")


@dataclass(frozen=True)
class Event:
    """One event of the customer; ``category`` -1 where unknown, ``item`` -1 for a search."""

    time: int
    kind: int
    item: int
    category: int


def slow_features(events: list[Event], at: int) -> dict[str, float]:
    """Raw features of a customer's events before ``at``, in the order of the log."""
    past = [e for e in events if e.time < at]
    found: dict[str, float] = {"one": 1.0}
    for number, kind in enumerate(KINDS):
        for days in (1, 7, 28, 84):
            found[f"{kind}s_{days}d"] = math.log1p(sum(e.kind == number for e in _last(past, at, days)))
    bought = [e for e in past if e.kind == PURCHASE]
    found["purchases_ever"] = math.log1p(len(bought))
    visits = _visits(past)
    for days in (7, 28, 84):
        begun = [v for v in visits if v[0].time >= at - days * DAY]
        found[f"visits_{days}d"] = math.log1p(len(begun))
    found["visits_ever"] = math.log1p(len(visits))
    buying = [v for v in visits if any(e.kind == PURCHASE for e in v)]
    first_purchases = [next(e for e in v if e.kind == PURCHASE) for v in buying]
    found["buying_visits_28d"] = math.log1p(len(_last(first_purchases, at, 28)))
    found["buying_visits_ever"] = math.log1p(len(buying))
    found["buying_share"] = (len(buying) + 1) / (len(visits) + 2)
    found["visit_size"] = math.log1p(len(bought) / max(len(buying), 1))
    found |= _times(past, bought, at) | _gaps(past, at) | _weeks(past, at)
    found |= _trends(past, bought, visits, at) | _taste(past, at) | _habits(visits, at)
    found["ends_in_cart"] = float(bool(past) and past[-1].kind == CART)
    since = next((i for i in range(len(past) - 1, -1, -1) if past[i].kind == PURCHASE), -1)
    open_carts = [e for e in past[since + 1 :] if e.kind == CART and e.time >= at - 7 * DAY]
    found["carts_open"] = math.log1p(len(open_carts))
    return found


def _last(events: list[Event], at: int, days: int) -> list[Event]:
    return [e for e in events if e.time >= at - days * DAY]


def _visits(past: list[Event]) -> list[list[Event]]:
    visits: list[list[Event]] = []
    for e in past:
        if visits and e.time - visits[-1][-1].time <= 1800:
            visits[-1].append(e)
        else:
            visits.append([e])
    return visits


def _day_firsts(past: list[Event]) -> list[Event]:
    firsts: list[Event] = []
    for e in past:
        if not firsts or e.time // DAY != firsts[-1].time // DAY:
            firsts.append(e)
    return firsts


def _times(past: list[Event], bought: list[Event], at: int) -> dict[str, float]:
    first, last = (past[0].time, past[-1].time) if past else (at, at)
    since_bought = at - bought[-1].time if bought else at - first
    return {
        "since_event": math.log1p((at - last) / DAY),
        "since_purchase": math.log1p(since_bought / DAY),
        "has_purchase": float(bool(bought)),
        "tenure": math.log1p((at - first) / DAY),
    }


def _gaps(past: list[Event], at: int) -> dict[str, float]:
    days = [e.time // DAY for e in _day_firsts(past)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(days)]
    own = sum(gaps) / len(gaps) if gaps else 0.0
    mean = (sum(gaps) + 14) / (len(gaps) + 1)
    deviation = math.sqrt((sum((g - own) ** 2 for g in gaps) + 49) / (len(gaps) + 1))
    since = (at - past[-1].time) / DAY if past else 0.0
    tenure = (at - past[0].time) / DAY if past else 0.0
    odds = 3.0
    if gaps:
        odds = (3 + len(gaps) - 1) * ((14 + tenure - since) / (14 + tenure)) ** (1 + len(gaps))

    def rate(count: int, span: float) -> float:
        return math.log(math.expm1(7 * (count + 0.5) / (span + 7)))

    firsts = _day_firsts(past)
    return {
        "days_28d": math.log1p(len(_last(firsts, at, 28))),
        "days_84d": math.log1p(len(_last(firsts, at, 84))),
        "days_ever": math.log1p(len(days)),
        "mean_gap": math.log1p(mean),
        "gap_deviation": math.log1p(deviation),
        "overdue": math.log((since + 0.5) / (mean + 0.5)),
        "overdue_z": (since - mean) / (deviation + 1),
        "alive": math.log(odds),
        "rate_28d": rate(len(_last(firsts, at, 28)), min(tenure, 28)),
        "rate_84d": rate(len(_last(firsts, at, 84)), min(tenure, 84)),
        "rate_ever": rate(len(days), tenure),
    }


def _weeks(past: list[Event], at: int) -> dict[str, float]:
    active = [
        any(at - (week + 1) * 7 * DAY <= e.time < at - week * 7 * DAY for e in past) for week in range(12)
    ]
    faded = sum(0.8**week * active[week] for week in range(12)) / sum(0.8**week for week in range(12))
    return {
        "weeks_4": sum(active[:4]) / 4,
        "weeks_12": sum(active) / 12,
        "week_1": float(active[0]),
        "week_2": float(active[1]),
        "weeks_faded": faded,
    }


def _trends(past: list[Event], bought: list[Event], visits: list[list[Event]], at: int) -> dict[str, float]:
    def ratio(events: list[Event], short: int, long: int) -> float:
        return math.log(
            (len(_last(events, at, short)) + 1) / (len(_last(events, at, long)) * short / long + 1)
        )

    return {
        "days_trend": ratio(_day_firsts(past), 28, 84),
        "visits_trend": ratio([v[0] for v in visits], 7, 28),
        "purchases_trend": ratio(bought, 28, 84),
    }


def _taste(past: list[Event], at: int) -> dict[str, float]:
    firsts: dict[int, Event] = {}
    for e in past:
        if e.item >= 0:
            firsts.setdefault(e.item, e)
    return {
        "items_ever": math.log1p(len(firsts)),
        "new_items_28d": math.log1p(len(_last(list(firsts.values()), at, 28))),
        "categories_ever": math.log1p(len({e.category for e in past if e.item >= 0 and e.category >= 0})),
    }


def _habits(visits: list[list[Event]], at: int) -> dict[str, float]:
    def weekday(time: int) -> int:
        return (time // DAY + 3) % 7

    def part(time: int) -> int:
        return time % DAY // (3 * 3600)

    begun = [v[0].time for v in visits]
    on_day = sum(weekday(time) == weekday(at) for time in begun)
    in_part = sum(part(time) == part(at) for time in begun)
    return {
        "same_weekday": math.log((on_day + 1) / (len(begun) / 7 + 1)),
        "same_day_part": math.log((in_part + 1) / (len(begun) / 8 + 1)),
    }
