"""Metrics against brute force and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import log_loss as reference_log_loss
from sklearn.metrics import ndcg_score, roc_auc_score

from common.metrics import (
    auc,
    bootstrap_interval,
    coverage,
    diversity,
    group_auc,
    log_loss,
    ranking_metrics,
    top_k,
)

SEEDS = st.integers(0, 2**32 - 1)


def drawn_scores(seed: int, rows: int, items: int, levels: int) -> NDArray[np.float32]:
    """Scores with many ties: few distinct levels, some of them minus infinity."""
    values = np.random.default_rng(seed).integers(0, levels, (rows, items)).astype(np.float32)
    values[values == 0] = -np.inf
    return values


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, items=st.integers(1, 90), k=st.integers(1, 25), levels=st.integers(1, 40))
def test_top_k_is_a_stable_sort(seed: int, items: int, k: int, levels: int) -> None:
    scores = drawn_scores(seed, 4, items, levels)
    truth = np.array([sorted(range(items), key=lambda i, row=row: (-row[i], i))[:k] for row in scores])
    assert np.array_equal(top_k(scores, k), truth)


def row_truth(top: list[int], wanted: set[int], k: int) -> tuple[float, float, float]:
    gains = [1.0 / math.log2(place + 2) for place, item in enumerate(top[:k]) if item in wanted]
    ideal = sum(1.0 / math.log2(place + 2) for place in range(min(k, len(wanted))))
    return sum(gains) / ideal, len(gains) / len(wanted), len(gains) / min(k, len(wanted)), float(bool(gains))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, items=st.integers(1, 60))
def test_ranking_metrics_against_brute_force(seed: int, items: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(5, items)).astype(np.float32)
    truth = generator.random((5, items)) < 0.2
    truth[np.arange(5), generator.integers(0, items, 5)] = True
    top = top_k(scores, 20)
    found = ranking_metrics(top, truth, (10, 20))
    for row in range(5):
        wanted = set(np.flatnonzero(truth[row]).tolist())
        for k in (10, 20):
            figures = tuple(found[f"{name}@{k}"][row] for name in ("ndcg", "recall", "capped_recall", "hr"))
            assert figures == pytest.approx(row_truth(top[row].tolist(), wanted, k))
        places = [place for place, item in enumerate(top[row, :10]) if item in wanted]
        assert found["mrr@10"][row] == pytest.approx(1 / (places[0] + 1) if places else 0.0)


def test_ndcg_equals_scikit_learn_without_ties() -> None:
    generator = np.random.default_rng(3)
    scores = generator.permuted(np.tile(np.arange(50.0), (6, 1)), axis=1)
    truth = generator.random((6, 50)) < 0.3
    found = ranking_metrics(top_k(scores.astype(np.float32), 20), truth)
    assert found["ndcg@20"].mean() == pytest.approx(ndcg_score(truth, scores, k=20))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, n=st.integers(2, 80), levels=st.integers(1, 10))
def test_auc_counts_ties_half(seed: int, n: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, levels, n).astype(np.float64)
    labels = generator.integers(0, 2, n)
    if labels.min() == labels.max():
        assert math.isnan(auc(scores, labels))
    else:
        assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_group_auc_is_the_weighted_mean_of_mixed_groups(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores, labels = generator.integers(0, 5, 60).astype(np.float64), generator.integers(0, 2, 60)
    groups = generator.integers(0, 12, 60)
    mixed = [groups == g for g in range(12) if len(set(labels[groups == g].tolist())) == 2]
    truth = sum(roc_auc_score(labels[m], scores[m]) * m.sum() for m in mixed) / sum(m.sum() for m in mixed)
    assert group_auc(scores, labels, groups) == pytest.approx(truth)


def test_group_auc_without_a_mixed_group_is_undefined() -> None:
    labels = np.array([1, 1, 0])
    assert math.isnan(group_auc(np.array([0.1, 0.2, 0.3]), labels, np.array([0, 0, 1])))


def test_log_loss_equals_scikit_learn_and_stays_finite() -> None:
    generator = np.random.default_rng(1)
    p, labels = generator.random(200), generator.integers(0, 2, 200)
    assert log_loss(p, labels) == pytest.approx(reference_log_loss(labels, p))
    assert log_loss(np.array([0.0, 1.0]), np.array([1, 0])) == pytest.approx(-math.log(1e-7))
    assert math.isnan(log_loss(np.zeros(0), np.zeros(0, np.int64)))


def test_coverage_and_diversity_against_pairs() -> None:
    generator = np.random.default_rng(2)
    vectors = generator.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    top = np.array([generator.permutation(30)[:5] for _ in range(4)])
    pairs = [
        1 - float(vectors[a] @ vectors[b]) for row in top for i, a in enumerate(row) for b in row[i + 1 :]
    ]
    assert diversity(top, vectors) == pytest.approx(np.mean(pairs), abs=1e-5)
    assert coverage(top, 30) == len(set(top.ravel().tolist())) / 30
    assert math.isnan(coverage(top, 0))
    assert math.isnan(diversity(top[:, :1], vectors))


def test_bootstrap_interval_holds_the_mean_and_narrows() -> None:
    difference = np.random.default_rng(4).normal(0.3, 1.0, 2000)
    low, high = bootstrap_interval(difference, seed=1)
    assert low < difference.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * difference.std() / math.sqrt(2000), rel=0.15)
    assert (low, high) == bootstrap_interval(difference, seed=1)
    fewer = bootstrap_interval(difference[:100], seed=1)
    assert fewer[1] - fewer[0] > high - low
    assert all(math.isnan(v) for v in bootstrap_interval(np.zeros(0), seed=1))
