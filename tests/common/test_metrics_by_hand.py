"""Metrics whose value a person can work out: every weight, border and default."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

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


def bits(place: int) -> float:
    """The discount of a place, from 1."""
    return 1 / math.log2(place + 1)


@pytest.mark.parametrize("items", [3, 4, 7, 8, 9, 12, 13, 40])
def test_ties_go_to_the_lower_column_in_small_and_large_catalogues(items: int) -> None:
    scores = np.zeros((2, items), np.float32)
    scores[1, -1] = 1.0
    found = top_k(scores, 2)
    assert found.tolist() == [[0, 1], [items - 1, 0]]
    assert found.dtype == np.int64
    assert scores[0].tolist() == [0.0] * items


def test_no_more_columns_than_items() -> None:
    assert top_k(np.array([[1.0, 3.0, 2.0]], np.float32), 5).tolist() == [[1, 2, 0]]
    assert top_k(np.array([[1.0, 3.0, 2.0]], np.float32), 1).tolist() == [[1]]
    assert top_k(np.zeros((0, 3), np.float32), 2).shape == (0, 2)
    assert top_k(np.zeros((0, 90), np.float32), 2).shape == (0, 2)


def test_a_large_catalogue_is_partitioned_and_ranks_the_same() -> None:
    scores = np.random.default_rng(0).integers(0, 12, (30, 200)).astype(np.float32)
    whole = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 2, 5, 49, 50, 51):
        assert np.array_equal(top_k(scores, k), whole[:, :k])


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_of_either_sign_are_ranked_alike(sign: int) -> None:
    scores = (sign * np.random.default_rng(1).uniform(0.5, 9, (30, 400))).astype(np.float32)
    whole = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 3, 20, 99):
        assert np.array_equal(top_k(scores, k), whole[:, :k])


def test_ranking_metrics_by_hand() -> None:
    top = np.array([[4, 2, 0, 5], [1, 0, 3, 2], [0, 1, 2, 3]])
    truth = np.zeros((3, 6), bool)
    truth[0, [2, 5, 1]] = truth[1, [1]] = truth[2, [4]] = True
    found = ranking_metrics(top, truth, (2, 4))
    assert set(found) == {
        "ndcg@2", "recall@2", "capped_recall@2", "hr@2", "ndcg@4", "recall@4", "capped_recall@4", "hr@4", "mrr@2",
    }  # fmt: skip
    assert found["ndcg@2"] == pytest.approx([bits(2) / (1 + bits(2)), 1, 0])
    assert found["ndcg@4"] == pytest.approx([(bits(2) + bits(4)) / (1 + bits(2) + bits(3)), 1, 0])
    assert found["recall@2"] == pytest.approx([1 / 3, 1, 0])  # of three wanted, one is among the first two
    assert found["capped_recall@2"].tolist() == [0.5, 1, 0]
    assert found["recall@4"] == pytest.approx([2 / 3, 1, 0])
    assert found["capped_recall@4"] == pytest.approx([2 / 3, 1, 0])
    assert found["hr@2"].tolist() == found["hr@4"].tolist() == [1.0, 1.0, 0.0]
    assert found["mrr@2"].tolist() == [0.5, 1, 0]
    assert ranking_metrics(top[:1], truth[:1], (1, 4))["mrr@1"].tolist() == [0.0]


def test_a_catalogue_smaller_than_the_cutoff_is_judged_against_the_full_ideal() -> None:
    found = ranking_metrics(np.array([[1, 0]]), np.array([[True, False]]))
    kinds = ("ndcg", "recall", "capped_recall", "hr")
    assert set(found) == {f"{kind}@{k}" for kind in kinds for k in (10, 20)} | {"mrr@10"}
    assert found["ndcg@10"] == pytest.approx([bits(2)])
    assert found["ndcg@20"] == pytest.approx([bits(2)])
    assert found["mrr@10"].tolist() == [0.5]


def test_coverage_by_hand() -> None:
    assert coverage(np.array([[0, 1], [1, 2]]), 4) == 0.75
    assert coverage(np.array([[0]]), 1) == 1.0
    assert math.isnan(coverage(np.zeros((0, 2), np.int64), 0))
    assert coverage(np.zeros((0, 2), np.int64), 3) == 0.0


def test_diversity_by_hand() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]], np.float32)
    assert diversity(np.array([[0, 1]]), vectors) == pytest.approx(1.0)
    assert diversity(np.array([[0, 3]]), vectors) == pytest.approx(2.0)
    assert diversity(np.array([[0, 1, 2]]), vectors) == pytest.approx(1 - (0 + 0.6 + 0.8) / 3)
    assert diversity(np.array([[0, 1], [0, 3], [0, 2]]), vectors) == pytest.approx((1 + 2 + 0.4) / 3)
    assert diversity(np.array([[0, 0]]), vectors) == pytest.approx(0.0)
    assert math.isnan(diversity(np.zeros((0, 3), np.int64), vectors))
    assert math.isnan(diversity(np.array([[0], [1]]), vectors))


def test_auc_by_hand() -> None:
    labels = np.array([0, 1, 0, 1])
    assert auc(np.array([0.1, 0.2, 0.3, 0.4]), labels) == 0.75
    assert auc(np.array([0.4, 0.3, 0.2, 0.1]), labels) == 0.25
    assert auc(np.array([0.5, 0.5, 0.5, 0.5]), labels) == 0.5
    assert auc(np.array([0.1, 0.3, 0.3, 0.3]), labels) == 0.75
    assert auc(np.array([2.0, 1.0]), np.array([1, 0])) == 1.0
    assert math.isnan(auc(np.array([2.0, 1.0]), np.array([1, 1])))
    assert math.isnan(auc(np.array([2.0, 1.0]), np.array([0, 0])))
    assert math.isnan(auc(np.zeros(0), np.zeros(0, np.int64)))


def test_group_auc_by_hand() -> None:
    """Group 8 is all right over two rows, group 3 three quarters right over three, 5 and 1 have one class each."""
    scores = np.array([0.9, 0.5, 0.1, 0.2, 0.7, 0.5, 0.4, 0.3, 0.6])
    labels = np.array([1, 0, 0, 1, 1, 1, 0, 0, 0])
    groups = np.array([8, 3, 8, 5, 5, 3, 3, 1, 1])
    # In group 3 the buyer ties with one of two and beats the other: 3/4.
    assert group_auc(scores, labels, groups) == pytest.approx((1.0 * 2 + 0.75 * 3) / 5)
    only = groups == 8
    assert group_auc(scores[only], labels[only], groups[only]) == 1.0
    assert math.isnan(group_auc(scores[3:5], labels[3:5], groups[3:5]))
    assert math.isnan(group_auc(scores[1:2], labels[1:2], groups[1:2]))


def test_group_auc_does_not_depend_on_the_order_of_rows() -> None:
    drawn = np.random.default_rng(5)
    scores, labels, groups = drawn.random(200), drawn.integers(0, 2, 200), drawn.integers(0, 9, 200)
    truth = group_auc(scores, labels, groups)
    order = drawn.permutation(200)
    assert group_auc(scores[order], labels[order], groups[order]) == pytest.approx(truth)
    by_group = [(auc(scores[groups == g], labels[groups == g]), int((groups == g).sum())) for g in range(9)]
    assert truth == pytest.approx(sum(a * n for a, n in by_group) / 200)


def test_log_loss_by_hand() -> None:
    assert log_loss(np.array([0.25, 0.75]), np.array([1, 1])) == pytest.approx(
        -(math.log(0.25) + math.log(0.75)) / 2
    )
    assert log_loss(np.array([0.25, 0.75]), np.array([0, 1])) == pytest.approx(-math.log(0.75))
    assert log_loss(np.array([0.0]), np.array([1])) == pytest.approx(7 * math.log(10))
    assert log_loss(np.array([1.0]), np.array([0])) == pytest.approx(7 * math.log(10), rel=1e-6)
    assert log_loss(np.array([0.0, 1.0]), np.array([0, 1])) == pytest.approx(1e-7, rel=1e-3)


def test_a_bootstrap_interval_is_of_the_means_of_drawn_rows() -> None:
    values = np.array([0.0, 1.0, 4.0, 9.0, -3.0])
    rows = np.random.default_rng(6).integers(0, 5, (1000, 5))
    means = np.sort(values[rows].mean(1))
    low, high = bootstrap_interval(values, seed=6)
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)
    assert isinstance(low, float)
    half = bootstrap_interval(values, seed=6, level=0.5)
    assert half == pytest.approx(np.quantile(means, [0.25, 0.75]), abs=1e-12)
    ten = values[np.random.default_rng(6).integers(0, 5, (10, 5))].mean(1)
    assert bootstrap_interval(values, 6, 10) == pytest.approx(np.quantile(ten, [0.025, 0.975]), abs=1e-12)
    assert bootstrap_interval(np.array([2.0]), seed=1) == (2.0, 2.0)


def test_defaults_are_what_the_tables_say() -> None:
    defaults = inspect.signature(bootstrap_interval).parameters
    assert (defaults["draws"].default, defaults["level"].default) == (1000, 0.95)
    assert inspect.signature(ranking_metrics).parameters["ks"].default == (10, 20)
