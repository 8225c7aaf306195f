"""Reasons are of the real score: what the families lift an item by is by how much it stands above the mean item."""

from __future__ import annotations

import re

import numpy as np
import pytest

from clients.evaluation.reasons import FAMILIES, Reasons, family_lifts
from clients.signals.names import COLUMNS, N_SIGNALS, SIGNALS
from clients.signals.table import SignalTable
from tests.clients.signals.slow_signals import rows_of, site_with_facts

SITE = site_with_facts(1)
TABLE = SignalTable(SITE, SITE.split.valid_from)
ROWS = rows_of([[(0, 0), (1, 3)], [(4, 3)], [(7, 2), (2, 3), (5, 0)], [(3, 1)]])
WHOLE = slice(0, 4)
ITEMS = np.array([[2, 9, 6], [0, 1, 14], [3, 8, 1], [13, 2, 7]])


def weights_of(*names: str, pairs: bool = False) -> np.ndarray:
    """Drawn weights, of signals of the given families alone."""
    drawn = np.random.default_rng(0).normal(size=len(COLUMNS))
    taken = np.array([signal.family in names for signal in SIGNALS])
    drawn[:N_SIGNALS] = np.where(taken, np.abs(drawn[:N_SIGNALS]), 0.0)
    drawn[N_SIGNALS:] *= pairs
    return drawn


def test_the_parts_sum_to_the_score_above_that_of_the_mean_item() -> None:
    weights = weights_of(*FAMILIES, pairs=True)
    scores = TABLE.scores(ROWS, WHOLE, weights).astype(np.float64)
    above = np.take_along_axis(scores, ITEMS, axis=1) - scores.mean(1, keepdims=True)
    lifts = family_lifts(TABLE, weights, ROWS, WHOLE, ITEMS)
    assert lifts.shape == (4, 3, len(FAMILIES))
    assert lifts.sum(2) == pytest.approx(above, abs=1e-3)
    assert (np.abs(lifts) > 1e-6).any((0, 1)).all(), "each family has its part"
    part = family_lifts(TABLE, weights, ROWS, slice(2, 4), ITEMS[2:])
    assert part == pytest.approx(lifts[2:], abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_of_one_family_is_explained_by_it_alone(family: str) -> None:
    weights = weights_of(family)
    lifts = family_lifts(TABLE, weights, ROWS, WHOLE, ITEMS)
    place = list(FAMILIES).index(family)
    assert not np.delete(lifts, place, axis=2).any()
    for language, words in zip(("en", "zh"), FAMILIES[family], strict=True):
        phrases, _ = Reasons(TABLE, weights, language).of(ROWS, WHOLE, ITEMS)
        for phrase, lift in zip(phrases, lifts[..., place].ravel(), strict=True):
            assert (words in phrase) == (lift > 0), phrase
            assert ("100" in phrase) == (lift > 0), phrase


def test_shares_that_are_told_are_of_what_lifts_the_item() -> None:
    weights = weights_of(*FAMILIES, pairs=True)
    lifts = family_lifts(TABLE, weights, ROWS, WHOLE, ITEMS).reshape(-1, len(FAMILIES))
    phrases, _ = Reasons(TABLE, weights, "en").of(ROWS, WHOLE, ITEMS)
    english = [words for words, _ in FAMILIES.values()]
    several = 0
    for phrase, lift in zip(phrases, lifts, strict=True):
        positive = np.maximum(lift, 0)
        told = re.findall(r"([a-z ]+?) (\d+) %", phrase)
        assert 1 <= len(told) <= 2
        several += len(told) == 2
        best = np.argsort(-positive)[: len(told)]
        assert [english.index(words.strip()) for words, _ in told] == best.tolist()
        for (_, share), place in zip(told, best, strict=True):
            assert int(share) == pytest.approx(100 * positive[place] / positive.sum(), abs=0.51)
    assert several > 3


def test_where_nothing_speaks_for_an_item_nothing_is_made_up() -> None:
    for language, said in (("en", "nothing speaks for it in particular"), ("zh", "没有突出的理由")):
        phrases, _ = Reasons(TABLE, np.zeros(len(COLUMNS)), language).of(ROWS, WHOLE, ITEMS)
        assert set(phrases) == {said}


def test_the_named_thing_is_the_nearest_of_the_history_in_the_strongest_part() -> None:
    raw = SITE.items.raw.numpy()
    similarity = TABLE.others.similarity.toarray()
    for family, near in (("likeness", raw @ raw.T), ("together", similarity)):
        weights = weights_of(family)
        lifts = family_lifts(TABLE, weights, ROWS, WHOLE, ITEMS)[..., list(FAMILIES).index(family)]
        _, named = Reasons(TABLE, weights, "en").of(ROWS, WHOLE, ITEMS)
        for row in range(4):
            history = ROWS.items[row][ROWS.valid[row]]
            for column, item in enumerate(ITEMS[row]):
                assert named[row, column] in history
                if lifts[row, column] > 0:
                    assert near[item, named[row, column]] == pytest.approx(near[item, history].max())


def test_of_no_rows_there_are_no_reasons() -> None:
    none = ROWS.take(np.zeros(0, np.int64))
    phrases, named = Reasons(TABLE, weights_of("likeness"), "en").of(none, slice(0, 0), ITEMS[:0])
    assert phrases == []
    assert named.shape == (0, 3)
