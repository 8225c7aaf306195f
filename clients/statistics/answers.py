"""Statistics that leave a site: requested by name, paid before data are read, noisy, each with its error.

| name | domain | one user is in | mechanism |
|---|---|---|---|
| `popularity` | the catalogue's items | 10 items | discrete Laplace; for a cold start elsewhere |
| `top_items` | the catalogue's items | any number | noisy top-k |
| `segments` | the catalogue's categories | 1 | discrete Laplace; audiences for advertising |
| `leading_segment` | the catalogue's categories | 1 | exponential mechanism |
| `vocabulary` | the catalogue's words | 20 words | noisy top-k |
| `activity`, `ratings` | buckets, stars | 1 | discrete Laplace |
| `kinds`, `quality` | kinds of events, kinds of gaps | all | discrete Laplace |

Invariants: ε is debited before the site is opened and never given back. Each name costs the same ε. A result holds only
outputs of mechanisms and values of public domains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from clients.data.source import open_house
from clients.ingest import SiteData
from clients.ledger import Charge, open_ledger
from clients.statistics import counts
from clients.statistics.counts import Counts
from clients.statistics.mechanisms import choose, noisy_counts, noisy_top_k, scale_of
from common.errors import ConfigError
from common.privacy.accounting import Mechanism
from common.schema import did_you_mean


@dataclass(frozen=True)
class Statistic:
    """One released statistic.

    Parameters
    ----------
    rows : value and noisy number of users; the number is None if only the order is released.
    within : 95 % of the numbers are at most this far from the true ones; None if only the order is released.
    """

    name: str
    mechanism: str
    epsilon: float
    per_user: int
    within: int | None
    rows: tuple[tuple[str, int | None], ...]


def _laplace(name: str, counted: Counts, top: int, epsilon: float) -> Statistic:
    noisy = noisy_counts(counted.users, counted.per_user, epsilon)
    rows = sorted(zip(counted.values, noisy, strict=True), key=lambda row: (-row[1], row[0]))
    within = round(3 * scale_of(counted.per_user, epsilon))
    # The rows are cut by their noisy numbers, so cutting costs no privacy.
    return Statistic(name, "discrete Laplace", epsilon, counted.per_user, within, tuple(rows[:top]))


def _top(name: str, counted: Counts, top: int, epsilon: float) -> Statistic:
    places = noisy_top_k(counted.users, top, epsilon)
    rows = tuple((counted.values[place], None) for place in places)
    return Statistic(name, "noisy top-k", epsilon, counted.per_user, None, rows)


def _one(name: str, counted: Counts, top: int, epsilon: float) -> Statistic:
    chosen = counted.values[choose(counted.users, epsilon)]
    return Statistic(name, "exponential", epsilon, counted.per_user, None, ((chosen, None),))


MakeStatistic = Callable[[str, Counts, int, float], Statistic]
STATISTICS = MappingProxyType[str, tuple[Callable[[SiteData], Counts], MakeStatistic]]({
    "popularity": (counts.items, _laplace),
    "top_items": (counts.items, _top),
    "segments": (counts.segments, _laplace),
    "leading_segment": (counts.segments, _one),
    "vocabulary": (counts.vocabulary, _top),
    "activity": (counts.activity, _laplace),
    "ratings": (counts.ratings, _laplace),
    "kinds": (counts.kinds, _laplace),
    "quality": (counts.completeness, _laplace),
})  # fmt: skip


def release(folder: Path, names: Sequence[str], epsilon: float, top: int = 50) -> tuple[Statistic, ...]:
    """The named statistics of a site, for ``epsilon`` in all.

    Raises
    ------
    ConfigError : a name isn't known, or ε isn't positive.
    PrivacyError : the site's budget is too small.
    """
    for name in names:
        if name not in STATISTICS:
            all_names = tuple(STATISTICS)
            raise ConfigError(
                f"no statistic '{name}'", where="statistics", next_step=did_you_mean(name, all_names)
            )
    if not names or not epsilon > 0 or top < 1:
        raise ConfigError(
            "nothing is asked for", where="statistics", next_step="name statistics and a positive epsilon"
        )
    per_name = epsilon / len(names)
    charge = Charge("statistics", Mechanism.pure(per_name, steps=len(names)), name=",".join(names))
    with open_ledger(folder, None) as ledger:
        ledger.debit(charge)
    with open_house(folder) as house:
        data = house.data
    statistics = []
    for name in names:
        count_users, answer = STATISTICS[name]
        counted = count_users(data)
        if counted.values:
            statistics.append(answer(name, counted, top, per_name))
    return tuple(statistics)
