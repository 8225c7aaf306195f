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


SIGNALS: tuple[Signal, ...] = (
    Signal("cosine", "likeness to the mean of the history", "cosine of frozen features", "customer", 0.25, 1.8),
    Signal("cosine_max", "likeness to the nearest thing in the history", "cosine", "customer", 0.25),
    Signal("cosine_last", "likeness to the last thing in the history", "cosine", "customer", 0.25),
    Signal("cosine_single", "the likeness where the history holds one thing", "cosine", "customer", 0.25),
    Signal("cosine_by_length", "the likeness times the log of the history's length", "cosine × log", "customer", 0.25),
    Signal("price", "nearness to the history's mean log price", "−|log ratio|", "customer", 0.4),
    Signal("category", "share of the item's category in the history", "share", "customer", 0.3),
    Signal("attributes", "mean share of the item's attributes in the history", "share", "customer", 0.25),
    Signal("title", "whether something in the history has the same title", "0 or 1", "customer", 0.15),
    Signal("product_code", "whether something in the history has the same product code", "0 or 1", "customer", 0.15),
    Signal("neighbours", "touched together with the history", "log1p of summed cosines", "others", 0.4, 0.24),
    Signal("neighbours_last", "touched together with the last thing", "log1p of a cosine", "others", 0.3),
    Signal("ease", "what a linear autoencoder of the log expects", "score", "others", 0.05),
    Signal("popularity_12h", "sold of late, half-life half a day", "log share", "others", 1.0),
    Signal("popularity_1d", "sold of late, half-life a day", "log share", "others", 1.0),
    Signal("popularity_3d", "sold of late, half-life three days", "log share", "others", 1.0, 0.8),
    Signal("popularity_7d", "sold of late, half-life a week", "log share", "others", 1.0),
    Signal("popularity_ever", "sold in all the log", "log share", "others", 1.0),
    Signal("age", "time since it was first touched", "log1p of days", "others", 1.0),
    Signal("never_sold", "whether nobody touched it yet", "0 or 1", "others", 0.3),
    Signal("neighbours_by_length", "the neighbours times the log of the history's length", "× log", "others", 0.4),
    Signal("popularity_by_length", "the weekly popularity times the log of the history's length", "× log", "others", 1.0),
)
NAMES = tuple(signal.name for signal in SIGNALS)
SCALES: NDArray[np.float32] = np.array([signal.scale for signal in SIGNALS], np.float32)
START: NDArray[np.float64] = np.array([signal.start for signal in SIGNALS])
OF_CUSTOMER: NDArray[np.bool_] = np.array([signal.reads == "customer" for signal in SIGNALS])
