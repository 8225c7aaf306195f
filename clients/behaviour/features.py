"""What a customer did before an instant, as numbers that mean the same at every merchant.

`clients.behaviour.definitions` says what each number is; here they are computed, for any rows (user, instant) at once.
Invariant: features read only the customer's own events before the instant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.behaviour.definitions import COUNTED, FEATURES, MOST, PLACE
from clients.behaviour.diary import DAY_PARTS, WEEKDAYS, Diary, Values
from clients.data.dataset import DAY_S, KINDS, Ints

EVER = 1 << 40
SPANS = {"1d": DAY_S, "7d": 7 * DAY_S, "28d": 28 * DAY_S, "84d": 84 * DAY_S, "ever": EVER}
WEEKS = 12
CART = KINDS.index("cart")


def features(diary: Diary, users: Ints, instants: Ints) -> NDArray[np.float64]:
    """Standardised features (n, N_FEATURES) of the rows (user, instant)."""
    raw = raw_features(diary, users, instants)
    standard = np.stack([(raw[f.name] - f.centre) / f.scale for f in FEATURES], axis=1)
    return np.clip(standard, -MOST, MOST)


def raw_features(diary: Diary, users: Ints, instants: Ints) -> dict[str, Values]:
    """Each feature (n,) in its own unit, before it is standardised."""
    return _Rows(diary, users, instants).all()


class _Rows:
    """Rows (user, instant) of a diary while their features are computed."""

    def __init__(self, diary: Diary, users: Ints, instants: Ints) -> None:
        self.diary, self.users, self.at = diary, users, instants
        self.start, self.end = diary.log.offsets[users], diary.ends(users, instants)
        self.known = self.end > self.start

    def all(self) -> dict[str, Values]:
        values: dict[str, Values] = {}
        for kind in KINDS:
            for window in COUNTED:
                values[f"{kind}s_{window}"] = np.log1p(self.within(kind, SPANS[window]))
        values["purchases_ever"] = np.log1p(self.within("purchase", EVER))
        for name, quantity in (("visits", "visit"), ("days", "day"), ("buying_visits", "buying_visit")):
            for window, span in SPANS.items():
                if f"{name}_{window}" in PLACE:
                    values[f"{name}_{window}"] = np.log1p(self.within(quantity, span))
        values |= self._recency() | self._gaps() | self._weeks() | self._trends()
        values |= self._taste() | self._habits() | self._carts()
        values["one"] = np.ones(len(self.users))
        return values

    def within(self, quantity: str, span_s: int) -> Values:
        """How much of a quantity lies in the last ``span_s`` seconds."""
        since = self.start if span_s >= EVER else self.diary.ends(self.users, self.at - span_s)
        return self.diary.count(quantity, since, self.end)

    def days_since(self, rows: Ints, known: NDArray[np.bool_]) -> Values:
        """Days from the event at each row to the instant; 0 where there is none."""
        if not len(self.diary.log):
            return np.zeros(len(rows))
        return np.where(known, (self.at - self.diary.log.time[np.where(known, rows, 0)]) / DAY_S, 0.0)

    def _recency(self) -> dict[str, Values]:
        tenure = self.days_since(self.start, self.known)
        bought, last_purchase = self._last_purchase()
        since_purchase = np.where(bought, self.days_since(last_purchase, bought), tenure)
        return {
            "since_event": np.log1p(self.days_since(self.end - 1, self.known)),
            "since_purchase": np.log1p(since_purchase),
            "has_purchase": bought.astype(np.float64),
            "tenure": np.log1p(tenure),
        }

    def _last_purchase(self) -> tuple[NDArray[np.bool_], Ints]:
        rows = np.full(len(self.users), -1, np.int64)
        rows[self.known] = self.diary.purchase_row[self.end[self.known] - 1]
        return rows >= 0, rows

    def _gaps(self) -> dict[str, Values]:
        days = self.within("day", EVER)
        gaps = np.maximum(days - 1, 0)
        total, squares = self.within("gap", EVER), self.within("gap_square", EVER)
        mean = (total + 14) / (gaps + 1)
        spread = squares - total**2 / np.maximum(gaps, 1)
        deviation = np.sqrt((np.maximum(spread, 0) + 49) / (gaps + 1))
        since = self.days_since(self.end - 1, self.known)
        tenure = self.days_since(self.start, self.known)
        return {
            "mean_gap": np.log1p(mean),
            "gap_deviation": np.log1p(deviation),
            "overdue": np.log((since + 0.5) / (mean + 0.5)),
            "overdue_z": (since - mean) / (deviation + 1),
            "alive": _alive(gaps, np.maximum(tenure - since, 0), tenure),
            "rate_28d": _odds_of_a_day(self.within("day", 28 * DAY_S), np.minimum(tenure, 28)),
            "rate_84d": _odds_of_a_day(self.within("day", 84 * DAY_S), np.minimum(tenure, 84)),
            "rate_ever": _odds_of_a_day(days, tenure),
        }

    def _weeks(self) -> dict[str, Values]:
        bounds = [self.diary.ends(self.users, self.at - week * 7 * DAY_S) for week in range(WEEKS + 1)]
        active = np.stack([bounds[w] > bounds[w + 1] for w in range(WEEKS)], axis=1).astype(np.float64)
        faded = 0.8 ** np.arange(WEEKS)
        return {
            "weeks_4": active[:, :4].mean(1),
            "weeks_12": active.mean(1),
            "week_1": active[:, 0],
            "week_2": active[:, 1],
            "weeks_faded": active @ faded / faded.sum(),
        }

    def _trends(self) -> dict[str, Values]:
        def ratio(quantity: str, short: int, long: int) -> Values:
            expected = self.within(quantity, long * DAY_S) * short / long
            return np.log((self.within(quantity, short * DAY_S) + 1) / (expected + 1))

        return {
            "days_trend": ratio("day", 28, 84),
            "visits_trend": ratio("visit", 7, 28),
            "purchases_trend": ratio("purchase", 28, 84),
        }

    def _taste(self) -> dict[str, Values]:
        visits, buying = self.within("visit", EVER), self.within("buying_visit", EVER)
        return {
            "visit_size": np.log1p(self.within("purchase", EVER) / np.maximum(buying, 1)),
            "buying_share": (buying + 1) / (visits + 2),
            "new_items_28d": np.log1p(self.within("new_item", 28 * DAY_S)),
            "items_ever": np.log1p(self.within("new_item", EVER)),
            "categories_ever": np.log1p(self.within("new_category", EVER)),
        }

    def _habits(self) -> dict[str, Values]:
        visits = self.within("visit", EVER)
        weekday = (self.at // DAY_S + 3) % WEEKDAYS
        part = self.at % DAY_S // (DAY_S // DAY_PARTS)
        on_day, in_part = np.zeros(len(self.users)), np.zeros(len(self.users))
        for number in range(WEEKDAYS):
            on_day = np.where(weekday == number, self.within(f"weekday_{number}", EVER), on_day)
        for number in range(DAY_PARTS):
            in_part = np.where(part == number, self.within(f"part_{number}", EVER), in_part)
        return {
            "same_weekday": np.log((on_day + 1) / (visits / WEEKDAYS + 1)),
            "same_day_part": np.log((in_part + 1) / (visits / DAY_PARTS + 1)),
        }

    def _carts(self) -> dict[str, Values]:
        ends = np.zeros(len(self.users))
        ends[self.known] = self.diary.log.kind[self.end[self.known] - 1] == CART
        bought, row = self._last_purchase()
        week = self.diary.ends(self.users, self.at - 7 * DAY_S)
        since = np.where(bought, np.maximum(row + 1, week), week)
        return {"ends_in_cart": ends, "carts_open": np.log1p(self.diary.count("cart", since, self.end))}


def _odds_of_a_day(days: Values, span_d: Values) -> Values:
    """Log odds of an active day within seven, at the rate of so many days in so long, half a day in 7 added."""
    rate = (days + 0.5) / (span_d + 7)
    return np.log(np.expm1(7 * rate))


def _alive(repeats: Values, last_d: Values, age_d: Values) -> Values:
    """Log odds that a customer is still one: BG/NBD with r = 1, α = 14 days, a = 1, b = 3 (Fader et al. 2005).

    A customer with no repeat counts as alive with the odds of b to a.
    """
    alpha, a, b = 14.0, 1.0, 3.0
    odds = (b + np.maximum(repeats, 1) - 1) / a * ((alpha + last_d) / (alpha + age_d)) ** (1.0 + repeats)
    return np.log(np.where(repeats > 0, odds, b / a))
