"""The small models of one site: the ranker and what else a league learns by a few numbers, beside the tower.

Invariant: names and shapes follow from the settings alone, so they are known before any data are open.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from clients.behaviour.definitions import N_FEATURES
from clients.behaviour.logistic import CLIP
from clients.behaviour.site import BehaviourSite, part_name
from clients.behaviour.tasks import intent
from clients.data.dataset import SiteDataset
from clients.signals.learning import Learning
from clients.signals.ranker import PART, Form, RankerPart, Weights
from clients.training.clipped import clipped_sum
from clients.training.moves import LeaguePart, Vector, move
from common.settings.config import LeagueConfig

Arrays = Mapping[str, NDArray[np.float32]]
STEPS = 2  # of Newton in a round
CLIPS = {PART: 1.0}  # of one user's gradient by a part's weights; public. Of behaviour it's `CLIP`.


class Parts:
    """The parts of a site, over rows that are made when they are first needed."""

    def __init__(self, site: SiteDataset, config: LeagueConfig) -> None:
        self.config, self.form = config, Form.of(config.privacy)
        self.learning, self.behaviour = Learning(site, config), BehaviourSite(site)
        self.intent = intent(site.split)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape, in the order in which they travel."""
        sizes = {PART: self.form.size, part_name(self.intent): N_FEATURES if self._asks_intent else 0}
        return {name: (size,) for name, size in sizes.items() if size}

    @property
    def _asks_intent(self) -> bool:
        """Whether the league learns who will buy: its features read the customer alone.

        Not where a whole site is hidden, since each further number means more noise on all.
        """
        return self.form.size > 0 and self.config.privacy.mode != "site"

    @property
    def tower_share(self) -> float:
        """Which part of a user's squared clip is the tower's; the parts have the rest."""
        if not self.form.size:
            return 1.0
        return 1.0 - self.config.ranker.share if self.config.model.tower else 0.0

    def start(self) -> dict[str, NDArray[np.float32]]:
        """The public first values: zeros, from which the public start weights are counted."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.shapes().items()}

    @functools.cached_property
    def parts(self) -> tuple[LeaguePart, ...]:
        """The parts with this site's rows."""
        parts: list[LeaguePart] = [RankerPart(self.learning.every, self.form)] if self.form.size else []
        if self._asks_intent:
            # Up to the validation window, by which the site chooses how firmly the league holds it.
            parts.append(self.behaviour.part(self.intent, self.learning.site.split.valid_from))
        return tuple(parts)

    def ranker(self, arrays: Arrays) -> Weights:
        """The league's weights of the ranker."""
        own = arrays[PART].astype(np.float64) if self.form.size else np.zeros(0)
        return self.form.weights(own)

    def intent_weights(self, arrays: Arrays) -> Vector:
        """The league's weights of the purchase intent; zeros where it learns none."""
        name = part_name(self.intent)
        return arrays[name].astype(np.float64) if name in arrays else np.zeros(N_FEATURES)

    def moves(self, arrays: Arrays) -> dict[str, NDArray[np.float32]]:
        """Where this site's rows would take each part, held by the league's strength."""
        return {
            part.name: move(part, _weights(arrays, part), self.config.ranker.strength, STEPS).astype(
                np.float32
            )
            for part in self.parts
        }

    def clipped_sum(self, arrays: Arrays, clip: float) -> Vector:
        """The sum over users of their gradients by all parts, each user's of norm ``clip`` at most.

        Each part cuts at a public length of its own, and its sum counts in units of that: clipping bounds what a user
        tells and not how fast the league learns.
        """
        share = clip * len(self.parts) ** -0.5
        return np.concatenate([
            share / most * clipped_sum(part, _weights(arrays, part), most)
            for part in self.parts if (most := CLIPS.get(part.name, CLIP))
        ])  # fmt: skip


def _weights(arrays: Arrays, part: LeaguePart) -> Vector:
    return part.start() + arrays[part.name].astype(np.float64)
