"""The joint loss, a sum of per-user losses: L = Σ task + λ·align.

No task's loss couples two users, so that one user is one sample: negatives come from the site's own catalogue, not from
the batch. Otherwise clipping one user's gradient wouldn't bound that user's influence on a step. The alignment term
reads catalogue items only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def ranking_loss(positive: Tensor, negative: Tensor, same: Tensor, weight: Tensor) -> Tensor:
    """Sampled-softmax loss per user.

    Parameters
    ----------
    positive : (b, t) logits of the targets.
    negative : (b, t, k) logits of the sampled negatives.
    same : (b, t, k) true where a negative is the target itself.
    weight : (b, t) 0 for padding.

    Returns
    -------
    (b,) mean over each user's targets; 0 for a user without targets.
    """
    negative = negative.masked_fill(same, -1e9)
    log_z = torch.logsumexp(torch.cat([positive[..., None], negative], dim=2), dim=2)
    return _mean(log_z - positive, weight)


def behaviour_loss(logits: Tensor, intent: Tensor, next_kind: Tensor, weight: Tensor) -> Tensor:
    """(b,) cross-entropy of intent (b,) and of the next event's kind (b,), which is -1 if there is no next event."""
    intent_loss = nn.functional.binary_cross_entropy_with_logits(
        logits[:, 0], intent.to(torch.float32), reduction="none"
    )
    has_next = (next_kind >= 0).to(torch.float32)
    following = nn.functional.cross_entropy(logits[:, 1:], next_kind.clamp(min=0), reduction="none")
    return weight * (intent_loss + 0.5 * has_next * following)


def sentiment_loss(logits: Tensor, label: Tensor) -> Tensor:
    """(b,) mean binary cross-entropy over each user's reviews (b, r); label -1 is left out."""
    weight = (label >= 0).to(torch.float32)
    loss = nn.functional.binary_cross_entropy_with_logits(
        logits, label.clamp(min=0).to(torch.float32), reduction="none"
    )
    return _mean(loss, weight)


def category_loss(logits: Tensor, category: Tensor) -> Tensor:
    """Mean cross-entropy over catalogue items (n, classes); category -1 is left out."""
    weight = (category >= 0).to(torch.float32)
    loss = nn.functional.cross_entropy(logits, category.clamp(min=0), reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1)


def alignment_loss(text: Tensor, image: Tensor, both: Tensor, temperature: float = 0.1) -> Tensor:
    """Contrastive loss between image and text, in both directions, over the catalogue items (n, d) that have both.

    Source: van den Oord et al. 2018 (InfoNCE); Radford et al. 2021 (CLIP).
    """
    if int(both.sum()) < 2:
        return text.sum() * 0.0
    text, image = nn.functional.normalize(text[both], dim=1), nn.functional.normalize(image[both], dim=1)
    logits = text @ image.T / temperature
    truth = torch.arange(len(logits))
    return (nn.functional.cross_entropy(logits, truth) + nn.functional.cross_entropy(logits.T, truth)) / 2


def _mean(loss: Tensor, weight: Tensor) -> Tensor:
    return (loss * weight).sum(1) / weight.sum(1).clamp(min=1)
