"""Latent tastes and items: the truth of the bazaar, from which texts and pictures are made.

All merchants and both languages share one taste space of `DIMS` dimensions, the weight of each dimension in a choice,
and the archetypes of customers. This is what a league can learn together. Catalogues and customers are disjoint.

Invariant: `draw_site` is a pure function of (config, site number); nothing here depends on words, pixels or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from simulations.bazaar.config import BazaarConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CATEGORIES = 16
ARCHETYPES = 5
# The public draw of the shared space: the same world for every seed, so that seeds differ in people and goods only.
_WORLD_SEED = 20_260_301


class Dim(IntEnum):
    """The dimensions of taste, grouped by whether texts or pictures show them."""

    KIND_0 = 0  # the four KIND dimensions decide the category, which text and silhouette both show
    KIND_1 = 1
    KIND_2 = 2
    KIND_3 = 3
    MATERIAL = 4  # text only: natural ... technical
    OCCASION = 5  # text only: outdoors ... festive
    HERITAGE = 6  # text only: old craft ... smart gadget
    WARMTH = 7  # both: icy ... fiery colour
    LIGHTNESS = 8  # both: dark ... pale
    ORNATE = 9  # both: bare ... lavish
    SCALE = 10  # picture only: fine ... bold pattern
    ROUGH = 11  # picture only: smooth ... coarse surface
    CURVE = 12  # picture only: angular ... round outline
    CONTRAST = 13  # picture only: faint ... strong pattern
    TONE = 14  # text only: sober ... shouting prose
    BACKGROUND = 15  # picture only: the shade behind the thing


DIMS = len(Dim)
KIND = slice(0, 4)
TEXT_DIMS = (Dim.MATERIAL, Dim.OCCASION, Dim.HERITAGE, Dim.WARMTH, Dim.LIGHTNESS, Dim.ORNATE, Dim.TONE)

# How much each dimension counts for a choice. Lightness, outline, contrast, tone and background are plain to see
# and count for nothing, category counts little: so the raw similarity of features is a poor guide, and which
# directions matter has to be learned.
TASTE_WEIGHTS: Floats = np.array(
    [0.2, 0.2, 0.2, 0.2, 1.2, 1.0, 0.0, 1.6, 0.8, 1.2, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
)


@dataclass(frozen=True)
class SiteTruth:
    """The truth about one merchant.

    Attributes
    ----------
    items : (items, DIMS) latents. category : (items,) in 0..CATEGORIES-1. quality, log_price : (items,) standardised.
    popularity : (items,) log weight. listed : (items,) day of listing, negative before the window.
    users : (users, DIMS) tastes. thrift : (users,) dislike of high prices. joined : (users,) first day.
    pace : (users,) mean number of sessions per day.
    affinity : (users, items) how much a user likes an item; unit variance over the site.
    """

    number: int
    items: Floats
    category: Ints
    quality: Floats
    log_price: Floats
    popularity: Floats
    listed: Floats
    users: Floats
    thrift: Floats
    joined: Floats
    pace: Floats
    affinity: Floats


def stream(config: BazaarConfig, number: int, purpose: int) -> np.random.Generator:
    """An independent generator for one purpose at one site."""
    return np.random.default_rng([config.seed, number, purpose])


def draw_site(config: BazaarConfig, number: int) -> SiteTruth:
    """Draw the merchant with this number."""
    rng = stream(config, number, 0)
    spread = np.exp(config.skew * 0.5 * rng.standard_normal(2).clip(-1.2, 1.2))
    n_users = max(2, round(config.users_per_site * spread[0]))
    n_items = max(4, round(config.items_per_site * spread[1] ** 0.5))
    items, category = _draw_items(rng, n_items, config.skew)
    users, archetype = _draw_users(rng, n_users, config.skew)
    quality, log_price = rng.standard_normal((2, n_items))
    log_price = 0.4 * quality + 0.9 * log_price
    return SiteTruth(
        number=number,
        items=items,
        category=category,
        quality=quality,
        log_price=log_price,
        popularity=-0.6 * np.log(0.15 + rng.permutation(n_items)),
        listed=_arrivals(rng, n_items, config.days, early=0.5),
        users=users,
        thrift=np.abs(0.5 * rng.standard_normal(n_users)),
        joined=np.maximum(_arrivals(rng, n_users, config.days, early=0.6), 0.0),
        pace=rng.gamma(1.6, 1 / 1.6, n_users) * config.sessions_per_user / config.days,
        affinity=_affinity(users, archetype, items),
    )


def _draw_items(rng: np.random.Generator, count: int, skew: float) -> tuple[Floats, Ints]:
    centres = np.random.default_rng(_WORLD_SEED).standard_normal((CATEGORIES, 4)) * 1.2
    shares = rng.dirichlet(np.full(CATEGORIES, 8.0 * (1.05 - skew)))
    category = rng.choice(CATEGORIES, size=count, p=shares)
    items = rng.standard_normal((count, DIMS))
    items[:, KIND] = centres[category] + 0.35 * items[:, KIND]
    return items, category.astype(np.int64)


def _draw_users(rng: np.random.Generator, count: int, skew: float) -> tuple[Floats, Ints]:
    archetypes = np.random.default_rng(_WORLD_SEED + 1).standard_normal((ARCHETYPES, DIMS))
    shares = rng.dirichlet(np.full(ARCHETYPES, 8.0 * (1.05 - skew)))
    archetype = rng.choice(ARCHETYPES, size=count, p=shares)
    return 0.2 * archetypes[archetype] + 0.95 * rng.standard_normal((count, DIMS)), archetype.astype(np.int64)


def _affinity(users: Floats, archetype: Ints, items: Floats) -> Floats:
    """Weighted match of taste, and an archetype's liking of bold ornament: (users, items)."""
    linear = (users * TASTE_WEIGHTS) @ items.T
    bold = items[:, Dim.ORNATE] * items[:, Dim.SCALE]
    sign = np.where(archetype % 2 == 0, 1.0, -1.0)
    raw = linear + 0.5 * sign[:, None] * bold[None, :]
    return raw / max(float(raw.std()), 1e-9)


def _arrivals(rng: np.random.Generator, count: int, days: int, early: float) -> Floats:
    """Days of arrival: a share `early` was there before the window, the rest come during nine tenths of it."""
    before = -rng.uniform(1, 300, count)
    during = rng.uniform(0, 0.9 * days, count)
    return np.where(rng.random(count) < early, before, during)
