"""What merchants and customers write: titles, descriptions, attributes, searches, reviews.

A dimension is described by the step into which its latent value falls, after adding noise: with signal s the observed
value is s·z + √(1−s²)·noise, so s is the correlation of the observed and the true value. The category is always true.

Invariant: only `TEXT_DIMS` and the category are described; dimensions that only pictures show are never put in words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulations.bazaar.lexicon import LEXICONS, Lexicon, Steps
from simulations.bazaar.world import TEXT_DIMS, Dim, Floats, Ints, SiteTruth

# Quintiles of the standard normal: the five steps are equally frequent.
_EDGES = np.array([-0.8416, -0.2533, 0.2533, 0.8416])
_P_SENTENCE, _P_FILLER, _P_MIXED, _P_NEGATED = 0.85, 0.35, 0.3, 0.2


@dataclass(frozen=True)
class ProductTexts:
    """Columns of the products table, in item order; `words` are what customers search by."""

    title: list[str]
    description: list[str]
    category: list[str]
    brand: list[str]
    attributes: list[str]
    words: list[tuple[str, ...]]


def observed(rng: np.random.Generator, true: Floats, signal: float) -> Floats:
    """Values with correlation `signal` to the standardised truth, of the same shape."""
    return signal * true + np.sqrt(1.0 - signal**2) * rng.standard_normal(true.shape)


def write_products(rng: np.random.Generator, truth: SiteTruth, language: str, signal: float) -> ProductTexts:
    """Write the catalogue of one merchant."""
    lexicon = LEXICONS[language]
    steps = np.searchsorted(_EDGES, observed(rng, truth.items, signal))
    rows = [_write_product(rng, lexicon, int(truth.category[i]), steps[i]) for i in range(len(steps))]
    columns = [list(column) for column in zip(*rows, strict=True)]
    return ProductTexts(*columns)


def _write_product(
    rng: np.random.Generator, lexicon: Lexicon, category: int, steps: Ints
) -> tuple[str, str, str, str, str, tuple[str, ...]]:
    category_word, brand = pick(rng, lexicon.categories[category]), pick(rng, lexicon.brands)
    words = {dim: pick(rng, lexicon.steps[dim][int(steps[dim])]) for dim in TEXT_DIMS}
    first, second = rng.permutation([Dim.MATERIAL, Dim.HERITAGE, Dim.WARMTH, Dim.ORNATE])[:2]
    title = pick(rng, lexicon.titles).format(
        a=words[Dim(first)], b=words[Dim(second)], thing=category_word, brand=brand
    )
    parts = [pick(rng, lexicon.openings).format(thing=category_word, brand=brand)]
    for index in rng.permutation(len(TEXT_DIMS)):
        dim = TEXT_DIMS[int(index)]
        if rng.random() < _P_SENTENCE:
            word = _another(rng, lexicon.steps[dim], int(steps[dim]))
            parts.append(_capital(pick(rng, lexicon.sentences[dim]).format(word=word, thing=category_word)))
        if rng.random() < _P_FILLER:
            parts.append(pick(rng, lexicon.filler))
    attributes = "; ".join(f"{name}={words[dim]}" for dim, name in lexicon.attribute_names.items())
    searchable = (
        category_word,
        words[Dim.MATERIAL],
        words[Dim.WARMTH],
        words[Dim.ORNATE],
        words[Dim.HERITAGE],
    )
    return (
        _capital(title),
        lexicon.stop.join(parts),
        lexicon.categories[category][0],
        brand,
        attributes,
        searchable,
    )


def write_query(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    """The text that a customer types to search for an item like this."""
    extra = pick(rng, words[1:])
    return words[0] if rng.random() < 0.4 else f"{extra} {words[0]}"


def write_review(rng: np.random.Generator, language: str, category: int, rating: float, signal: float) -> str:
    """A review whose wording agrees with the rating (1..5) as the signal says, with negations and reservations."""
    lexicon = LEXICONS[language]
    mood = float(observed(rng, np.array([(rating - 3.6) / 1.1]), signal)[0])
    step = int(np.clip(round(mood * 1.1 + 2.6), 0, 4))
    word = pick(rng, lexicon.praise[step])
    if step != 2 and rng.random() < _P_NEGATED:
        word = pick(rng, lexicon.negated_good if step > 2 else lexicon.negated_bad)
    category_word, aspect = pick(rng, lexicon.categories[category]), pick(rng, lexicon.aspects)
    near = int(np.clip(step + rng.integers(-1, 2), 0, 4))
    text = pick(rng, lexicon.review_forms).format(
        word=word, thing=category_word, aspect=aspect, second=pick(rng, lexicon.praise[near])
    )
    if rng.random() < _P_MIXED:
        second_praise = pick(rng, lexicon.praise[3 if step < 2 else 1])
        text += lexicon.joint + pick(rng, lexicon.turns).format(
            aspect=pick(rng, lexicon.aspects), word=second_praise
        )
    return _capital(text)


def write_fake_review(rng: np.random.Generator, language: str, category: int) -> str:
    """A fake positive review, made from a template."""
    lexicon = LEXICONS[language]
    return pick(rng, lexicon.fake).format(thing=lexicon.categories[category][0])


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """One of the options, each equally likely."""
    return options[int(rng.random() * len(options))]


def _another(rng: np.random.Generator, steps: Steps, step: int) -> str:
    """A wording of this step or, one time in eight, of a neighbouring one, since people choose words loosely."""
    if rng.random() < 0.125:
        step = int(np.clip(step + (1 if rng.random() < 0.5 else -1), 0, len(steps) - 1))
    return pick(rng, steps[step])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
