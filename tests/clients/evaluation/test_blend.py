"""Blend weights: found by likelihood, near the prior where rows are few, and blind to the test window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clients.evaluation.blend import Scorer, blend, fit_weights
from clients.evaluation.rows import TestRows as Rows
from clients.evaluation.scorers import Tuned, fitted_blends, tune, windows
from tests.clients.small_site import CONFIG, drawn_site, with_other_future

N_ITEMS = 20


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


@pytest.mark.parametrize("truth", [(1.0, 0.5), (0.2, 2.0), (1.5, 0.0)])
def test_known_weights_are_recovered(truth: tuple[float, float]) -> None:
    rows, scorers = drawn_rows(1, 760, truth)
    assert fit_weights(scorers, [rows], N_ITEMS, (1.0, 1.0), seed=0) == pytest.approx(truth, abs=0.15)


def test_without_rows_the_prior_stands() -> None:
    rows, scorers = drawn_rows(1, 5, (1.0, 1.0))
    assert fit_weights(scorers, [rows.sample(0, 0)], N_ITEMS, (0.3, 0.7), seed=0).tolist() == [0.3, 0.7]
    assert fit_weights(scorers, [], N_ITEMS, (0.3, 0.7), seed=0).tolist() == [0.3, 0.7]


def test_few_rows_stay_nearer_to_the_prior() -> None:
    distances = []
    for n in (5, 50, 700):
        rows, scorers = drawn_rows(2, n, (2.0, 0.0))
        distances.append(abs(fit_weights(scorers, [rows], N_ITEMS, (0.5, 1.0), seed=0)[0] - 0.5))
    assert distances == sorted(distances)


def test_a_blend_is_the_weighted_sum() -> None:
    rows, scorers = drawn_rows(3, 12, (1.0, 1.0))
    chunk = slice(4, 9)
    truth = 0.25 * scorers[0](rows, chunk) + 2.0 * scorers[1](rows, chunk)
    assert blend(scorers, np.array([0.25, 2.0]))(rows, chunk) == pytest.approx(truth, abs=1e-5)


def test_fitting_never_reads_the_test_window() -> None:
    site = drawn_site(6, n_users=60, events=900)
    other = with_other_future(site, site.split.test_from, 77)
    assert not np.array_equal(other.log.time, site.log.time)
    fitted = []
    for each in (site, other):
        seen = windows(each, CONFIG)
        assert len(seen.valid[0]) > 5
        tuned = tune(each, seen)
        pop, knn, cos = tuned.scorers(each, seen.valid_from)
        _, weights = fitted_blends(each, seen, (cos, knn, pop), (cos, knn, pop), (0.6, 0.6, 0.8), seed=1)
        fitted.append((tuned, np.concatenate(weights)))
    assert isinstance(fitted[0][0], Tuned)
    assert fitted[0][0] == fitted[1][0]
    assert np.array_equal(fitted[0][1], fitted[1][1])


def test_barred_items_take_no_part_in_the_likelihood() -> None:
    rows, scorers = drawn_rows(4, 300, (1.0, 0.5))
    barred = (rows.user, (rows.wanted[1] + 1) % N_ITEMS)
    closed = replace(rows, barred=barred)

    def spiked(r: Rows, c: slice) -> np.ndarray:
        scores = scorers[0](r, c).copy()
        scores[np.arange(len(scores)), barred[1][r.user[c]]] = 50.0
        return scores

    plain = fit_weights(scorers, [closed], N_ITEMS, (1.0, 1.0), seed=0)
    assert fit_weights((spiked, scorers[1]), [closed], N_ITEMS, (1.0, 1.0), seed=0) == pytest.approx(
        plain, abs=1e-3
    )
