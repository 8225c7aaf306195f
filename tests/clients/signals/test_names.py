"""The signals by name: each is there once, on a public scale, and speaks of something that people are told."""

from __future__ import annotations

import numpy as np

from clients.evaluation.reasons import FAMILIES
from clients.signals.names import (
    COLUMNS,
    FIRST,
    N_SIGNALS,
    OF_CUSTOMER,
    PAIRED,
    SCALES,
    SECOND,
    SIGNALS,
    START,
    bent,
)


def test_each_signal_stands_once_with_a_meaning_and_a_scale() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert [signal.name for signal in SIGNALS] == list(COLUMNS[:N_SIGNALS])
    for signal in SIGNALS:
        assert signal.meaning
        assert signal.unit
        assert 0 < signal.scale < 10
    assert SCALES.tolist() == [np.float32(signal.scale) for signal in SIGNALS]
    assert START[:N_SIGNALS].tolist() == [signal.start for signal in SIGNALS]
    assert not START[N_SIGNALS:].any()
    assert OF_CUSTOMER.tolist() == [signal.reads == "customer" for signal in SIGNALS]


def test_the_public_start_ranks_by_something_of_each_kind_of_reader() -> None:
    """A merchant without a log of its own, and one under privacy, both begin with an order and not with none."""
    assert (START[:N_SIGNALS][OF_CUSTOMER] > 0).any()
    assert (START[:N_SIGNALS][~OF_CUSTOMER] > 0).any()
    assert (START >= 0).all()


def test_each_signal_speaks_of_what_people_are_told() -> None:
    assert {signal.family for signal in SIGNALS} == set(FAMILIES)
    for family in ("together", "demand", "novelty"):
        assert {signal.reads for signal in SIGNALS if signal.family == family} == {"others"}
    for family in ("likeness", "facts"):
        assert {signal.reads for signal in SIGNALS if signal.family == family} == {"customer"}


def test_each_two_paired_signals_have_one_product() -> None:
    names = list(PAIRED)
    pairs = {frozenset((names[a], names[b])) for a, b in zip(FIRST, SECOND, strict=True)}
    assert len(pairs) == len(FIRST) == len(names) * (len(names) + 1) // 2 == len(COLUMNS) - N_SIGNALS
    assert set(names) <= {signal.name for signal in SIGNALS}


def test_a_bent_signal_is_within_two_and_straight_around_its_centre() -> None:
    centres = np.array(list(PAIRED.values()), np.float32)
    assert bent(centres).tolist() == [0.0] * len(centres)
    assert np.allclose(bent(centres + np.float32(0.01)), 0.01, rtol=1e-3)
    for far in (-1e6, 1e6):
        assert np.allclose(bent(centres + np.float32(far)), 2 * np.sign(far))
