"""Weights of a blend: chosen by what ranks validation rows best, and blind to the test window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.rows import TestRows as Rows
from clients.evaluation.blend import Scorer, blend, choose_weights
from clients.evaluation.scorers import chosen_blends, tune, windows
from tests.clients.five_users import AS_DRAWN
from tests.clients.small_site import CONFIG, drawn_site, with_other_future

N_ITEMS = 40


def drawn_rows(seed: int, n: int, truth: tuple[float, float]) -> tuple[Rows, tuple[Scorer, Scorer]]:
    """Rows whose wanted item is drawn from the softmax of two features with known weights."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, N_ITEMS, 2)).astype(np.float32)
    noise = generator.gumbel(size=(n, N_ITEMS))
    wanted = (features @ np.array(truth) + noise).argmax(1)
    none, history = np.zeros(0, np.int64), np.zeros((n, 1), np.int64)
    users = np.arange(n)
    rows = Rows(users, history, history, history, history == 0, users, (users, wanted), (none, none))
    return rows, (lambda r, c: features[r.user[c], :, 0], lambda r, c: features[r.user[c], :, 1])


def slow_ndcg(rows: Rows, scorers: tuple[Scorer, ...], weights: np.ndarray) -> float:
    """Mean NDCG@20, row by row; 0 without rows."""
    values = []
    for row in range(len(rows)):
        wanted = set(rows.wanted[1][rows.wanted[0] == row].tolist())
        barred = set(rows.barred[1][rows.barred[0] == row].tolist())
        score = sum(
            w * s(rows, slice(row, row + 1))[0].astype(np.float64)
            for w, s in zip(weights, scorers, strict=True)
        )
        order = [item for item in np.argsort(-score, kind="stable").tolist() if item not in barred][:20]
        gain = sum(1 / np.log2(place + 2) for place, item in enumerate(order) if item in wanted)
        values.append(gain / sum(1 / np.log2(place + 2) for place in range(min(20, len(wanted)))))
    return float(np.mean(values)) if values else 0.0


@settings(max_examples=10, deadline=None, phases=AS_DRAWN)
@given(
    seed=st.integers(0, 2**31), n=st.integers(1, 30), start=st.tuples(st.floats(0.1, 3), st.floats(0.1, 3))
)
def test_never_worse_on_validation_than_the_public_constants(
    seed: int, n: int, start: tuple[float, float]
) -> None:
    rows, scorers = drawn_rows(seed, n, (1.0, 0.3))
    (found,) = choose_weights(scorers, [rows], N_ITEMS, start, seed=0)
    assert slow_ndcg(rows, scorers, found) >= slow_ndcg(rows, scorers, np.array(start)) - 1e-6


def test_a_scorer_that_says_nothing_loses_its_weight_to_one_that_does() -> None:
    rows, scorers = drawn_rows(1, 250, (3.0, 0.0))
    (found,) = choose_weights(scorers, [rows], N_ITEMS, (1.0, 1.0), seed=0)
    assert found[1] <= 0.25 * found[0]
    assert slow_ndcg(rows, scorers, found) > slow_ndcg(rows, scorers, np.ones(2)) + 0.05


def test_without_rows_the_constants_stand() -> None:
    rows, scorers = drawn_rows(1, 5, (1.0, 1.0))
    empty = rows.sample(0, 0)
    assert [w.tolist() for w in choose_weights(scorers, [empty, empty], N_ITEMS, (0.3, 0.7), 0)] == [
        [0.3, 0.7]
    ] * 2
    assert choose_weights(scorers, [], N_ITEMS, (0.3, 0.7), seed=0) == []


def test_a_blend_is_the_weighted_sum() -> None:
    rows, scorers = drawn_rows(3, 12, (1.0, 1.0))
    chunk = slice(4, 9)
    truth = 0.25 * scorers[0](rows, chunk) + 2.0 * scorers[1](rows, chunk)
    assert blend(scorers, np.array([0.25, 2.0]))(rows, chunk) == pytest.approx(truth, abs=1e-5)


def test_choosing_never_reads_the_test_window() -> None:
    site = drawn_site(6, n_users=60, n_items=40, events=900)
    other = with_other_future(site, site.split.test_from, 77)
    assert not np.array_equal(other.log.time, site.log.time)
    chosen = []
    for each in (site, other):
        seen = windows(each, CONFIG)
        assert len(seen.valid[0]) > 5
        tuned = tune(each, seen)
        pop, knn, cos = tuned.scorers(each, seen.valid_from)
        valid, _ = chosen_blends(each, seen, ((cos, knn, pop), (cos, knn, pop)), (0.6, 0.6, 0.8))
        rows = seen.valid[0]
        chosen.append((tuned, valid[0](rows, slice(0, len(rows)))))
    assert chosen[0][0] == chosen[1][0]
    assert np.array_equal(chosen[0][1], chosen[1][1])


def test_barred_items_take_no_place() -> None:
    rows, scorers = drawn_rows(4, 150, (1.0, 0.5))
    barred = (rows.user, (rows.wanted[1] + 1) % N_ITEMS)
    closed = replace(rows, barred=barred)

    def spiked(r: Rows, c: slice) -> np.ndarray:
        scores = scorers[0](r, c).copy()
        scores[np.arange(len(scores)), barred[1][r.user[c]]] = 50.0
        return scores

    (plain,) = choose_weights(scorers, [closed], N_ITEMS, (1.0, 1.0), seed=0)
    (same,) = choose_weights((spiked, scorers[1]), [closed], N_ITEMS, (1.0, 1.0), seed=0)
    assert np.array_equal(same, plain)
