"""Statistics that leave a site: asked for by name, paid before data are read, noisy, with their error beside them.

| name | domain | one user is in | mechanism |
|---|---|---|---|
| `popularity` | the catalogue's items | 10 items | discrete Laplace; for a cold start elsewhere |
| `top_items` | the catalogue's items | any number | noisy top-k |
| `segments` | the catalogue's categories | 1 | discrete Laplace; audiences for advertising |
| `leading_segment` | the catalogue's categories | 1 | exponential mechanism |
| `vocabulary` | the catalogue's words | 20 words | noisy top-k |
| `activity`, `ratings` | buckets, stars | 1 | discrete Laplace |
| `kinds`, `quality` | kinds of events, kinds of gaps | all | discrete Laplace |

Invariant: ε is debited before the site is opened and never given back; each name costs the same ε; nothing but
mechanisms' outputs and public domains is in a result.
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
    rows : value and noisy number of users; the number is None where only the order is told.
    within : 95 % of the numbers are at most this far from the truth; None where only the order is told.
    """

    name: str
    mechanism: str
    epsilon: float
    per_user: int
    within: int | None
    rows: tuple[tuple[str, int | None], ...]


def _laplace(name: str, found: Counts, top: int, epsilon: float) -> Statistic:
    noisy = noisy_counts(found.users, found.per_user, epsilon)
    rows = sorted(zip(found.values, noisy, strict=True), key=lambda row: (-row[1], row[0]))
    within = round(3 * scale_of(found.per_user, epsilon))
    # What is cut is cut by the noisy numbers, so it costs nothing.
    return Statistic(name, "discrete Laplace", epsilon, found.per_user, within, tuple(rows[:top]))


def _top(name: str, found: Counts, top: int, epsilon: float) -> Statistic:
    places = noisy_top_k(found.users, top, epsilon)
    rows = tuple((found.values[place], None) for place in places)
    return Statistic(name, "noisy top-k", epsilon, found.per_user, None, rows)


def _one(name: str, found: Counts, top: int, epsilon: float) -> Statistic:
    chosen = found.values[choose(found.users, epsilon)]
    return Statistic(name, "exponential", epsilon, found.per_user, None, ((chosen, None),))


Told = Callable[[str, Counts, int, float], Statistic]
STATISTICS = MappingProxyType[str, tuple[Callable[[SiteData], Counts], Told]]({
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
    PrivacyError : the site's budget doesn't hold it.
    """
    for name in names:
        if name not in STATISTICS:
            known = tuple(STATISTICS)
            raise ConfigError(
                f"no statistic '{name}'", where="statistics", next_step=did_you_mean(name, known)
            )
    if not names or not epsilon > 0 or top < 1:
        raise ConfigError(
            "nothing is asked for", where="statistics", next_step="name statistics and a positive epsilon"
        )
    each = epsilon / len(names)
    asked = Charge("statistics", Mechanism.pure(each, steps=len(names)), name=",".join(names))
    with open_ledger(folder, None) as ledger:
        ledger.debit(asked)
    with open_house(folder) as house:
        data = house.data
    told = []
    for name in names:
        count, tell = STATISTICS[name]
        found = count(data)
        if found.values:
            told.append(tell(name, found, top, each))
    return tuple(told)
