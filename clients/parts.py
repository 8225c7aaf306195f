"""The small models of one site: the ranker and what else a league learns by a few numbers, beside the tower.

Invariant: names and shapes follow from the settings alone, so they are known before any data are open.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import SiteDataset
from clients.signals.learning import Learning
from clients.signals.ranker import PART, Form, RankerPart, Weights
from clients.training.moves import LeaguePart, Vector, move
from common.settings.config import LeagueConfig

Arrays = Mapping[str, NDArray[np.float32]]
STEPS = 2  # of Newton in a round
GRADIENT_CLIP = 1.0  # of one user's gradient by a part's weights; public


class Parts:
    """The parts of a site, over rows that are made when they are first needed."""

    def __init__(self, site: SiteDataset, config: LeagueConfig) -> None:
        self.config, self.form = config, Form.of(config.privacy)
        self.learning = Learning(site, config)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape, in the order in which they travel."""
        return {PART: (self.form.size,)} if self.form.size else {}

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
        return (RankerPart(self.learning.every, self.form),) if self.form.size else ()

    def ranker(self, arrays: Arrays) -> Weights:
        """The league's weights of the ranker."""
        own = arrays[PART].astype(np.float64) if self.form.size else np.zeros(0)
        return self.form.weights(own)

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

        A gradient counts in units of `GRADIENT_CLIP`, so clipping bounds what a user tells and not how fast the league
        learns.
        """
        share = clip / GRADIENT_CLIP * len(self.parts) ** -0.5
        return np.concatenate([
            share * _clipped(part.user_gradients(_weights(arrays, part)), GRADIENT_CLIP).sum(0) for part in self.parts
        ])  # fmt: skip


def _weights(arrays: Arrays, part: LeaguePart) -> Vector:
    return part.start() + arrays[part.name].astype(np.float64)


def _clipped(gradients: Vector, most: float) -> Vector:
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return gradients * np.minimum(1.0, most / np.maximum(norms, 1e-12))
