"""Losses: values against the formula, and no coupling of two users."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from common.models.losses import alignment_loss, behaviour_loss, category_loss, ranking_loss, sentiment_loss


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_ranking_loss_is_softmax_over_target_and_negatives() -> None:
    positive, negative = drawn(3, 2), drawn(3, 2, 7, seed=1)
    same = torch.zeros(3, 2, 7, dtype=torch.bool)
    same[0, 0, 3] = True
    weight = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    found = ranking_loss(positive, negative, same, weight)

    def truth(b: int, t: int) -> Tensor:
        row = torch.cat([positive[b, t : t + 1], negative[b, t][~same[b, t]]])
        return cross_entropy(row[None], torch.zeros(1, dtype=torch.long))

    assert torch.allclose(found[0], (truth(0, 0) + truth(0, 1)) / 2)
    assert torch.allclose(found[1], truth(1, 0))
    assert found[2] == 0


def test_behaviour_loss_adds_half_of_the_known_next_event() -> None:
    logits, intent, following = drawn(3, 6), torch.tensor([1, 0, 1]), torch.tensor([2, -1, 0])
    found = behaviour_loss(logits, intent, following, torch.tensor([1.0, 1.0, 0.0]))
    first = binary_cross_entropy_with_logits(logits[0, 0], torch.tensor(1.0)) + 0.5 * cross_entropy(
        logits[:1, 1:], following[:1]
    )
    second = binary_cross_entropy_with_logits(logits[1, 0], torch.tensor(0.0))
    assert torch.allclose(found, torch.stack([first, second, torch.tensor(0.0)]))


def test_sentiment_and_category_leave_out_the_unlabelled() -> None:
    logits = drawn(2, 3)
    label = torch.tensor([[1, 0, -1], [-1, -1, -1]])
    truth = binary_cross_entropy_with_logits(logits[0, :2], label[0, :2].float())
    assert torch.allclose(sentiment_loss(logits, label), torch.stack([truth, torch.tensor(0.0)]))
    classes = drawn(4, 5)
    assert torch.allclose(
        category_loss(classes, torch.tensor([1, -1, 3, -1])),
        cross_entropy(classes[[0, 2]], torch.tensor([1, 3])),
    )
    assert category_loss(classes, torch.full((4,), -1)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_users_gradient_does_not_change_with_another_users_data(seed: int) -> None:
    positive, negative = (
        drawn(2, 3, seed=seed).requires_grad_(),
        drawn(2, 3, 8, seed=seed + 10).requires_grad_(),
    )
    logits, reviews = (
        drawn(2, 6, seed=seed + 20).requires_grad_(),
        drawn(2, 4, seed=seed + 30).requires_grad_(),
    )
    leaves = (positive, negative, logits, reviews)

    def gradients(other: int) -> list[Tensor]:
        same, weight = torch.zeros(2, 3, 8, dtype=torch.bool), torch.ones(2, 3)
        same[1], weight[1, other:] = other == 1, 0.0
        intent, following = torch.tensor([1, other]), torch.tensor([2, other])
        label = torch.tensor([[1, 0, 1, -1], [other] * 4])
        loss = (
            ranking_loss(positive, negative, same, weight)
            + behaviour_loss(logits, intent, following, torch.tensor([1.0, float(other)]))
            + sentiment_loss(reviews, label)
        ).sum()
        return list(torch.autograd.grad(loss, leaves))

    first, second = gradients(0), gradients(1)
    assert all(torch.equal(a[0], b[0]) and a[0].abs().sum() > 0 for a, b in zip(first, second, strict=True))
    assert any(not torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))


def test_alignment_falls_when_pairs_match_and_skips_items_that_lack_one() -> None:
    text, both = drawn(6, 8), torch.tensor([True] * 5 + [False])
    matched = alignment_loss(text, text.clone(), both)
    shuffled = alignment_loss(text, text[[1, 2, 3, 4, 0, 5]], both)
    assert matched < shuffled
    changed = text.clone()
    changed[5] = 100.0
    assert torch.equal(alignment_loss(changed, text, both), matched)
    assert alignment_loss(text, text, torch.tensor([True] + [False] * 5)) == 0
