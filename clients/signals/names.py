"""The signals by name: what each means, in which unit, and who is read for it.

A signal is one number for a customer at an instant and an item. It's divided by a public scale, so that a weight means
the same at every site and no spread of anyone's data has to be told. Invariant: `reads` is "customer" only if a signal
follows from the catalogue and the customer's own history alone; such a signal, and no other, may enter training under
user-level privacy.

>>> [signal.name for signal in SIGNALS if signal.name.startswith("cosine")][:2], COLUMNS[-1]
(['cosine', 'cosine_max'], 'price_level × price_level')
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Reads = Literal["customer", "others"]
HALF_LIVES_D = (0.5, 1.0, 3.0, 7.0, np.inf)


@dataclass(frozen=True)
class Signal:
    """One signal.

    Parameters
    ----------
    reads : "customer": the catalogue and the customer's own history; "others": other customers too.
    scale : a spread that is usual among items; public, and the same for every league.
    start : its weight before anything is learned, in logits per scale.
    """

    name: str
    meaning: str
    unit: str
    reads: Reads
    scale: float
    start: float = 0.0

    @property
    def family(self) -> str:
        """What it speaks of, for people: likeness, facts, together, demand or novelty."""
        if self.name.startswith(("neighbours", "ease")):
            return "together"
        if self.name.startswith("popularity"):
            return "demand"
        if self.name in ("age", "never_sold"):
            return "novelty"
        return "likeness" if self.name.startswith(("cosine", "text")) else "facts"


def _customer(name: str, meaning: str, unit: str, scale: float, start: float = 0.0) -> Signal:
    return Signal(name, meaning, unit, "customer", scale, start)


def _others(name: str, meaning: str, unit: str, scale: float, start: float = 0.0) -> Signal:
    return Signal(name, meaning, unit, "others", scale, start)


LIKENESS = (
    _customer("cosine", "likeness to the mean of the history, in texts and pictures", "cosine", 0.17, 1.2),
    _customer("cosine_max", "likeness to the nearest thing in the history, over the mean's", "cosine", 0.15),
    _customer("cosine_last", "likeness to the last thing in the history, over the mean's", "cosine", 0.15),
    _customer("cosine_single", "the likeness where the history holds one thing", "cosine", 0.1),
    _customer("cosine_by_length", "the likeness, times the length of the history", "cosine × length", 0.17),
    _customer("text", "how much more alike the text is than the picture", "cosine", 0.15),
    _customer(
        "cosine_bought",
        "likeness to the mean of what was bought or put into a cart, over all's",
        "cosine",
        0.1,
    ),
)
FACTS = (
    _customer("price", "nearness to the history's mean log price", "−|log ratio|", 0.4),
    _customer("price_by_length", "the nearness, times the length of the history", "× length", 0.4),
    _customer("price_level", "log price over the history's mean", "log ratio", 0.55),
    _customer("category", "share of the item's category in the history", "share", 0.27),
    _customer(
        "category_last", "whether the last thing is of the item's category, over the share", "share", 0.3
    ),
    _customer("category_by_length", "the share, times the length of the history", "share × length", 0.27),
    _customer("brand", "share of the item's brand in the history", "share", 0.2),
    _customer("attributes", "mean share of the item's attributes in the history", "share", 0.15),
    _customer("attributes_by_length", "that, times the length of the history", "share × length", 0.15),
    _customer("title", "whether something in the history has the same title", "0 or 1", 0.07),
    _customer("product_code", "whether something in the history has the same product code", "0 or 1", 0.07),
)
OTHERS = (
    _others("neighbours", "touched together with the history", "log1p of summed cosines", 0.4, 0.24),
    _others("neighbours_last", "touched together with the last thing", "log1p of a cosine", 0.25),
    _others("neighbours_bought", "bought together with the history", "log1p of summed cosines", 0.25),
    _others("neighbours_any", "whether anybody touched it together with the history", "0 or 1", 0.4),
    _others("neighbours_by_length", "the neighbours, times the length of the history", "× length", 0.5),
    _others("ease", "what a linear autoencoder of the log expects", "score", 0.03),
    _others("popularity", "sold of late, half-life a week", "log share", 1.2, 0.96),
    _others("popularity_12h", "sold within half a day's half-life, over the week's", "log ratio", 0.6),
    _others("popularity_1d", "sold within a day's half-life, over the week's", "log ratio", 0.5),
    _others("popularity_3d", "sold within three days' half-life, over the week's", "log ratio", 0.3),
    _others("popularity_ever", "sold in all the log, over the week's", "log ratio", 0.5),
    _others("popularity_by_length", "the popularity, times the length of the history", "× length", 1.0),
    _others("popularity_in_category", "the popularity over that of its own category", "log share", 1.2),
    _others("popularity_taste", "the popularity, times how popular the history is", "log share²", 2.0),
    _others("age", "time since it was first touched", "log1p of days", 1.0),
    _others("never_sold", "whether nobody touched it yet", "0 or 1", 0.4),
)
USUAL_LENGTH = 1.5  # log1p of the number of events; a history's length counts from here
SIGNALS: tuple[Signal, ...] = (*LIKENESS, *FACTS, *OTHERS)
SCALES: NDArray[np.float32] = np.array([signal.scale for signal in SIGNALS], np.float32)

# Products of two signals, each bent to within ±2 around a public usual value. Only a league has the rows to learn what
# many of them weigh.
PAIRED: dict[str, float] = {
    "cosine": 0.0, "cosine_max": 0.9, "category": 0.3, "price": -1.1, "attributes": 0.5, "neighbours": 1.3,
    "neighbours_any": 1.0, "popularity": 0.0, "age": 1.9, "popularity_12h": 0.0, "never_sold": 0.9, "price_level": 0.2,
}  # fmt: skip
PAIR_SCALE = 0.35
_PLACES = {signal.name: place for place, signal in enumerate(SIGNALS)}
PAIR_OF: NDArray[np.int64] = np.array([_PLACES[name] for name in PAIRED])
PAIR_CENTRES: NDArray[np.float32] = np.array(list(PAIRED.values()), np.float32)
FIRST, SECOND = np.triu_indices(len(PAIRED))
"""The two signals of each product, as places in `PAIRED`."""

N_SIGNALS = len(SIGNALS)
COLUMNS: tuple[str, ...] = (
    *(signal.name for signal in SIGNALS),
    *(f"{list(PAIRED)[a]} × {list(PAIRED)[b]}" for a, b in zip(FIRST, SECOND, strict=True)),
)
START: NDArray[np.float64] = np.array([*(signal.start for signal in SIGNALS), *np.zeros(len(FIRST))])
OF_CUSTOMER: NDArray[np.bool_] = np.array([signal.reads == "customer" for signal in SIGNALS])


def bent(signals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signals of `PAIRED` (..., paired) around their centres, within ±2."""
    return 2.0 * np.tanh((signals - PAIR_CENTRES) / 2.0)
