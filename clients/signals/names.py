"""The signals by name: what each means, in which unit, and who is read for it.

A signal is one number for a customer at an instant and an item. It's divided by a public scale, so that a weight means
the same at every site and no spread of anyone's data has to be told. Invariant: `reads` is "customer" only if a signal
follows from the catalogue and the customer's own history alone; such a signal, and no other, may enter training under
user-level privacy.

>>> [signal.name for signal in SIGNALS if signal.name.startswith("cosine")][:2]
['cosine', 'cosine_max']
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
    _customer("cosine", "likeness to the mean of the history, in texts and pictures", "cosine", 0.25, 1.8),
    _customer("cosine_max", "likeness to the nearest thing in the history", "cosine", 0.25),
    _customer("cosine_last", "likeness to the last thing in the history", "cosine", 0.25),
    _customer("cosine_single", "the likeness where the history holds one thing", "cosine", 0.25),
    _customer("cosine_by_length", "the likeness times the log of the history's length", "cosine × log", 0.25),
    _customer("text", "likeness of the text to the mean of the history", "part of the cosine", 0.15),
    _customer("text_max", "the greatest likeness of the text to something in the history", "part of the cosine", 0.15),
    _customer("cosine_bought", "likeness to the mean of what was put into a cart or bought", "cosine", 0.25),
)
FACTS = (
    _customer("price", "nearness to the history's mean log price", "−|log ratio|", 0.4),
    _customer("price_by_length", "the nearness times the log of the history's length", "× log", 0.4),
    _customer("price_level", "log price over the history's mean", "log ratio", 0.4),
    _customer("category", "share of the item's category in the history", "share", 0.3),
    _customer("category_last", "whether the last thing is of the item's category", "0 or 1", 0.3),
    _customer("category_by_length", "the share times the log of the history's length", "share × log", 0.3),
    _customer("brand", "share of the item's brand in the history", "share", 0.3),
    _customer("attributes", "mean share of the item's attributes in the history", "share", 0.25),
    _customer("attributes_by_length", "that times the log of the history's length", "share × log", 0.25),
    _customer("title", "whether something in the history has the same title", "0 or 1", 0.15),
    _customer("product_code", "whether something in the history has the same product code", "0 or 1", 0.15),
)
OTHERS = (
    _others("neighbours", "touched together with the history", "log1p of summed cosines", 0.4, 0.24),
    _others("neighbours_last", "touched together with the last thing", "log1p of a cosine", 0.3),
    _others("neighbours_bought", "bought together with the history", "log1p of summed cosines", 0.3),
    _others("neighbours_any", "whether anybody touched it together with the history", "0 or 1", 0.5),
    _others("ease", "what a linear autoencoder of the log expects", "score", 0.05),
    _others("popularity_12h", "sold of late, half-life half a day", "log share", 1.0),
    _others("popularity_1d", "sold of late, half-life a day", "log share", 1.0),
    _others("popularity_3d", "sold of late, half-life three days", "log share", 1.0, 0.8),
    _others("popularity_7d", "sold of late, half-life a week", "log share", 1.0),
    _others("popularity_ever", "sold in all the log", "log share", 1.0),
    _others("popularity_in_category", "sold of late beside its own category, half-life a week", "log share", 1.0),
    _others("popularity_taste", "how popular it is, times how popular the history is", "log share²", 1.5),
    _others("age", "time since it was first touched", "log1p of days", 1.0),
    _others("never_sold", "whether nobody touched it yet", "0 or 1", 0.3),
    _others("neighbours_by_length", "the neighbours times the log of the history's length", "× log", 0.4),
    _others("popularity_by_length", "the weekly popularity times the log of the history's length", "× log", 1.0),
)
SIGNALS: tuple[Signal, ...] = (*LIKENESS, *FACTS, *OTHERS)
NAMES = tuple(signal.name for signal in SIGNALS)
SCALES: NDArray[np.float32] = np.array([signal.scale for signal in SIGNALS], np.float32)
START: NDArray[np.float64] = np.array([signal.start for signal in SIGNALS])
OF_CUSTOMER: NDArray[np.bool_] = np.array([signal.reads == "customer" for signal in SIGNALS])
