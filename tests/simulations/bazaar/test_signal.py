"""Texts and pictures tell what they should, as far as their knobs allow, and nothing else.

Probes are ridge regressions on plain features (word counts, small pictures): they need no trained encoder, and the
latent truth is compared only here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import Ridge

from simulations.bazaar import BazaarConfig
from simulations.bazaar.lexicon import LEXICONS
from simulations.bazaar.pictures import draw_pictures
from simulations.bazaar.texts import write_products, write_review
from simulations.bazaar.world import CATEGORIES, TEXT_DIMS, Dim, Floats, SiteTruth, draw_site, stream

CONFIG = BazaarConfig(users_per_site=2, items_per_site=600, skew=0.0)


@pytest.fixture(scope="module")
def truth() -> SiteTruth:
    return draw_site(CONFIG, 0)


def probe(features: Floats, latent: npt.NDArray[np.float64]) -> Floats:
    """R² per latent on the last third of the items."""
    cut = 2 * len(features) // 3
    predicted = Ridge(alpha=10.0).fit(features[:cut], latent[:cut]).predict(features[cut:])
    error = ((predicted - latent[cut:]) ** 2).mean(axis=0)
    return np.asarray(1.0 - error / latent[cut:].var(axis=0))


def count_words(truth: SiteTruth, language: str, signal: float) -> Floats:
    texts = write_products(stream(CONFIG, 0, 1), truth, language, signal)
    words = sorted({w for steps in LEXICONS[language].steps.values() for step in steps for w in step})
    joined = [" ".join(parts) for parts in zip(texts.title, texts.description, texts.attributes, strict=True)]
    return np.array([[text.count(word) for word in words] for text in joined], dtype=float)


def picture_features(truth: SiteTruth, signal: float) -> Floats:
    pictures = draw_pictures(stream(CONFIG, 0, 2), truth, signal).astype(float) / 255
    blocks = pictures.reshape(len(pictures), 8, 8, 8, 8, 3)
    looks = [blocks.mean(axis=(2, 4)), blocks.std(axis=(2, 4))]
    # Steps between neighbouring pixels in the middle, against the brightness there: fine grain.
    middle = pictures[:, 24:40, 24:40].mean(axis=3)
    grain = np.stack([np.abs(np.diff(middle, axis=a)).mean(axis=(1, 2)) for a in (1, 2)], axis=1)
    grain = 10 * grain / middle.mean(axis=(1, 2))[:, None]
    return np.concatenate([*(look.reshape(len(pictures), -1) for look in looks), grain], axis=1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_tell_their_dimensions_and_no_others(truth: SiteTruth, language: str) -> None:
    told = probe(count_words(truth, language, 0.95), truth.items)
    assert min(told[dim] for dim in TEXT_DIMS) > 0.4
    assert max(told[dim] for dim in (Dim.SCALE, Dim.ROUGH, Dim.CURVE, Dim.CONTRAST, Dim.BACKGROUND)) < 0.1


def test_without_signal_words_tell_nothing(truth: SiteTruth) -> None:
    told = probe(count_words(truth, "en", 0.0), truth.items)
    assert max(told[dim] for dim in TEXT_DIMS) < 0.1


def test_pictures_tell_looks_but_not_material(truth: SiteTruth) -> None:
    told = probe(picture_features(truth, 0.95), truth.items)
    assert min(told[dim] for dim in (Dim.WARMTH, Dim.LIGHTNESS, Dim.ROUGH, Dim.BACKGROUND)) > 0.3
    assert max(told[dim] for dim in (Dim.MATERIAL, Dim.OCCASION, Dim.HERITAGE, Dim.TONE)) < 0.1


def test_without_signal_pictures_tell_nothing(truth: SiteTruth) -> None:
    told = probe(picture_features(truth, 0.0), truth.items)
    assert max(told[4:]) < 0.1


def test_review_words_follow_the_rating_as_the_signal_says() -> None:
    happy = {word for step in LEXICONS["en"].praise[3:] for word in step} | set(LEXICONS["en"].negated_good)

    def praising(rating: float, signal: float) -> float:
        rng = np.random.default_rng(0)
        texts = [write_review(rng, "en", 0, rating, signal).lower() for _ in range(300)]
        return float(np.mean([any(word.lower() in text for word in happy) for text in texts]))

    assert praising(5, 0.9) > praising(1, 0.9) + 0.3
    assert praising(5, 0.0) == pytest.approx(praising(1, 0.0), abs=0.02)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_lexicons_cover_every_concept(language: str) -> None:
    lexicon = LEXICONS[language]
    assert len(lexicon.categories) == CATEGORIES
    assert set(lexicon.steps) == set(lexicon.sentences) == set(TEXT_DIMS)
    assert all(len(steps) == 5 and all(steps) for steps in lexicon.steps.values())
    assert len(lexicon.praise) == 5


def test_affinity_is_standardised_and_skew_spreads_sizes() -> None:
    site = draw_site(BazaarConfig(users_per_site=50, items_per_site=40), 1)
    assert site.affinity.std() == pytest.approx(1.0)

    def users(skew: float) -> list[int]:
        return [len(draw_site(BazaarConfig(skew=skew, users_per_site=100), n).users) for n in range(6)]

    assert np.std(users(0.0)) == 0
    assert np.std(users(1.0)) > 10
