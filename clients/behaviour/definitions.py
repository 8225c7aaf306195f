"""The features' names, units, definitions and public constants.

A model reads (value − centre) / scale, cut at ±`MOST`. The constants are set by reason (a customer who comes every week
or two) and never from a site's data, so a league may learn under differential privacy.

Prices are left out: a log holds none, and the number of items in a visit stands for what a customer spends.
"""

from __future__ import annotations

from dataclasses import dataclass

from clients.data.dataset import KINDS

MOST = 5.0
COUNTED = ("1d", "7d", "28d", "84d")


@dataclass(frozen=True)
class Feature:
    """One number: how it is defined, its unit, and the public constants that standardise it."""

    name: str
    unit: str
    definition: str
    centre: float
    scale: float


def _counts() -> list[Feature]:
    """Counts by kind and window; kinds that a shop may not have are centred at none."""
    centre = {"1d": 0.2, "7d": 1.0, "28d": 2.0, "84d": 3.0}
    return [
        Feature(
            f"{kind}s_{window}",
            "log(1 + events)",
            f"events of kind {kind} in the last {window}",
            centre[window] if kind == "purchase" else 0.0,
            1.0,
        )
        for kind in KINDS
        for window in COUNTED
    ]


FEATURES: tuple[Feature, ...] = (
    *_counts(),
    Feature("visits_7d", "log(1 + visits)", "visits begun in the last 7 days", 0.5, 0.5),
    Feature("visits_28d", "log(1 + visits)", "visits begun in the last 28 days", 1.0, 0.7),
    Feature("visits_84d", "log(1 + visits)", "visits begun in the last 84 days", 1.8, 1.0),
    Feature("visits_ever", "log(1 + visits)", "visits ever", 2.0, 1.0),
    Feature("buying_visits_28d", "log(1 + visits)", "visits with a purchase in the last 28 days", 0.8, 0.7),
    Feature("purchases_ever", "log(1 + events)", "purchases ever", 3.0, 1.2),
    Feature("buying_visits_ever", "log(1 + visits)", "visits with a purchase ever", 1.5, 1.0),
    Feature("days_28d", "log(1 + days)", "days with an event in the last 28 days", 0.8, 0.7),
    Feature("days_84d", "log(1 + days)", "days with an event in the last 84 days", 1.5, 1.0),
    Feature("days_ever", "log(1 + days)", "days with an event ever", 2.0, 1.0),
    Feature("since_event", "log(1 + days)", "time since the last event", 2.0, 1.0),
    Feature(
        "since_purchase",
        "log(1 + days)",
        "time since the last purchase; without one, since the first event",
        2.3,
        1.0,
    ),
    Feature("has_purchase", "0 or 1", "whether there ever was a purchase", 0.5, 0.5),
    Feature("tenure", "log(1 + days)", "time since the first event", 4.0, 1.0),
    Feature(
        "mean_gap",
        "log(1 + days)",
        "own mean gap between active days, with one gap of 14 days added",
        2.3,
        0.8,
    ),
    Feature(
        "gap_deviation",
        "log(1 + days)",
        "own deviation of the gaps, with one square of 7 days added",
        2.0,
        0.8,
    ),
    Feature("overdue", "log ratio", "time since the last event over the own mean gap", -0.5, 1.0),
    Feature(
        "overdue_z",
        "deviations",
        "time since the last event less the own mean gap, over the own deviation",
        0.0,
        2.0,
    ),
    Feature(
        "alive",
        "log odds",
        "a customer with as many and as recent visits is still one (BG/NBD with public constants)",
        1.0,
        2.0,
    ),
    Feature(
        "rate_28d",
        "log odds",
        "at least one active day in 7 by the rate of the last 28 days, with half a day in 7 added",
        -0.5,
        1.2,
    ),
    Feature("rate_84d", "log odds", "the same by the last 84 days", -0.5, 1.2),
    Feature("rate_ever", "log odds", "the same by the whole time since the first event", -0.5, 1.2),
    Feature("weeks_4", "share", "of the last 4 weeks back from the instant, those with an event", 0.4, 0.35),
    Feature("weeks_12", "share", "of the last 12 weeks, those with an event", 0.4, 0.35),
    Feature("week_1", "0 or 1", "whether there was an event in the last week", 0.4, 0.5),
    Feature("week_2", "0 or 1", "whether there was one in the week before the last", 0.4, 0.5),
    Feature("weeks_faded", "share", "weeks with an event, each weighing 0.8 of the one after it", 0.4, 0.3),
    Feature(
        "days_trend",
        "log ratio",
        "active days in 28 over a third of those in 84, one added to each",
        0.0,
        0.4,
    ),
    Feature(
        "visits_trend",
        "log ratio",
        "visits in 7 days over a quarter of those in 28, one added to each",
        0.0,
        0.4,
    ),
    Feature(
        "purchases_trend",
        "log ratio",
        "purchases in 28 days over a third of those in 84, one added to each",
        0.0,
        0.7,
    ),
    Feature("visit_size", "log(1 + items)", "purchases per visit with a purchase", 1.0, 0.8),
    Feature(
        "buying_share", "share", "visits with a purchase among visits, one added to either outcome", 0.6, 0.25
    ),
    Feature("new_items_28d", "log(1 + items)", "items met for the first time in the last 28 days", 1.2, 1.2),
    Feature("items_ever", "log(1 + items)", "distinct items ever", 2.5, 1.3),
    Feature("categories_ever", "log(1 + categories)", "distinct categories ever", 1.3, 0.7),
    Feature(
        "same_weekday",
        "log ratio",
        "visits on the instant's weekday over the mean weekday, a week's visits added",
        0.0,
        0.6,
    ),
    Feature(
        "same_day_part",
        "log ratio",
        "visits in the instant's three hours over the mean, eight visits added",
        0.0,
        0.7,
    ),
    Feature("ends_in_cart", "0 or 1", "whether the last event was a cart", 0.0, 0.3),
    Feature("carts_open", "log(1 + events)", "carts in the last 7 days that no purchase followed", 0.0, 0.7),
    Feature("one", "1", "the same for everyone", 0.0, 1.0),
)
N_FEATURES = len(FEATURES)
PLACE = {feature.name: place for place, feature in enumerate(FEATURES)}
