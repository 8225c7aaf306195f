"""Behaviour, sentiment and category figures of the tower at a site."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.dataset import SiteDataset, as_user_inputs, gather_histories, rows_before
from clients.evaluation.rows import catalogue_vectors, chunks
from clients.training.behaviour import BehaviourRows, behaviour_rows, horizon_s, instants_ahead
from clients.training.objective import held_for_category
from common.metrics import auc, group_auc, log_loss
from common.models.model import HansaModel
from common.settings.config import LeagueConfig

Probabilities = NDArray[np.float64]


def rows_of(site: SiteDataset, from_s: int, until_s: int) -> BehaviourRows:
    """Labelled instants of a window."""
    horizon = horizon_s(site.split)
    return behaviour_rows(site.log, instants_ahead(from_s, until_s, horizon), horizon)


def behaviour_logits(
    model: HansaModel, site: SiteDataset, rows: BehaviourRows, config: LeagueConfig
) -> Probabilities:
    """Logits (n, 1 + kinds): intent, then the next event's kind."""
    log = site.item_log
    vectors = catalogue_vectors(model, site)
    parts = []
    with torch.inference_mode():
        for chunk in chunks(len(rows)):
            user, at = rows.user[chunk], rows.at[chunk]
            history = gather_histories(log, user, rows_before(log, user, at), config.model.history_length)
            users, _ = model.pooled(as_user_inputs(*history, at[:, None]), vectors)
            parts.append(model.behaviour(torch.from_numpy(rows.features[chunk]), users[:, 0]).numpy())
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros((0, 6))


def behaviour_metrics(probabilities: Probabilities, rows: BehaviourRows) -> dict[str, float]:
    """AUC, GAUC by user and log loss of purchase intent."""
    return {
        "auc": auc(probabilities, rows.intent),
        "gauc": group_auc(probabilities, rows.intent, rows.user),
        "log_loss": log_loss(probabilities, rows.intent),
    }


def reliability_bins(
    probabilities: Probabilities, labels: NDArray[np.int64], bins: int = 10
) -> list[dict[str, float]]:
    """Predicted and observed share of buyers in equal bins of the prediction; empty bins are left out."""
    place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    filled = []
    for number in range(bins):
        inside = place == number
        if inside.any():
            predicted, observed = float(probabilities[inside].mean()), float(labels[inside].mean())
            filled.append(
                {"bin": number, "predicted": predicted, "observed": observed, "count": int(inside.sum())}
            )
    return filled


def next_event_accuracy(logits: Probabilities, rows: BehaviourRows) -> float:
    """Share of rows whose next event's kind was predicted; NaN if there was no next event."""
    has_next = rows.next_kind >= 0
    return (
        float((logits[has_next, 1:].argmax(1) == rows.next_kind[has_next]).mean())
        if has_next.any()
        else float("nan")
    )


def content_metrics(model: HansaModel, site: SiteDataset, from_s: int) -> dict[str, float]:
    """Sentiment accuracy on reviews from an instant on; category accuracy on the catalogue's held-out fifth."""
    figures: dict[str, float] = {}
    model.eval()
    late = np.flatnonzero((site.reviews.time >= from_s) & (site.reviews.label >= 0))
    with torch.inference_mode():
        if len(late):
            logits = model.sentiment(model.text_vectors(site.reviews.text[torch.from_numpy(late)]))[
                :, 0
            ].numpy()
            figures["sentiment_accuracy"] = float(((logits > 0) == (site.reviews.label[late] == 1)).mean())
        judged = (site.items.category >= 0) & held_for_category(site.items.row)
        if judged.any() and model.config.categories:
            guess = model.category(catalogue_vectors(model, site)).argmax(1)
            figures["category_accuracy"] = float(
                (guess == site.items.category)[judged].to(torch.float32).mean()
            )
    return figures
