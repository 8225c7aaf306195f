"""The joint loss as a person would work it out: user by user, target by target, event by event.

Only what was drawn is given: which log rows are targets, which targets look at earlier days only, which instants are
asked, which reviews are read. Everything else follows from the log. For the linear model alone, whose item vectors
are means of two products and whose users are plain means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.dataset import DAY_S
from clients.training.samples import TrainingData
from common.models.model import HansaModel
from common.settings.config import LeagueConfig

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """What chance has decided for one step: target rows and coins by user, one behaviour row a user, review rows."""

    targets: dict[int, list[int]]
    earlier_days_only: dict[int, list[bool]]
    behaviour: list[int]
    reviews: dict[int, list[int]]
    negatives: list[int]


@dataclass(frozen=True)
class SlowLoss:
    """The parts of the loss of one batch of users."""

    model: HansaModel
    data: TrainingData
    config: LeagueConfig
    drawn: Drawn

    def total(self, users: list[int]) -> float:
        """All terms together, weighted as the configuration says."""
        training = self.config.training
        ranking = sum(self.ranking(user) for user in self.drawn.targets)
        behaviour = sum(self.behaviour(row) for row in self.drawn.behaviour)
        reviews = sum(self.reviews(rows) for rows in self.drawn.reviews.values())
        return (
            (ranking + training.behaviour_weight * behaviour + training.sentiment_weight * reviews)
            / len(users)
            + training.category_weight * self.category()
            + training.alignment_weight * self.alignment()
        )

    def adapted(self, item: int) -> tuple[Vector, Vector]:
        """An item's text and picture in the common space."""
        items = self.data.site.items
        text = self.model.text_adapter.first.weight.detach().double().numpy() @ items.text[item].numpy()
        image = self.model.image_adapter.first.weight.detach().double().numpy() @ items.image[item].numpy()
        return text, image

    def vector(self, item: int) -> Vector:
        """The unit vector of an item: of the mean of what it has."""
        has = bool(self.data.site.items.has_text[item]), bool(self.data.site.items.has_image[item])
        parts = [part for part, there in zip(self.adapted(item), has, strict=True) if there]
        mean = np.mean(parts, axis=0)
        return mean / np.linalg.norm(mean)

    def window(self, end: int, user: int) -> list[int]:
        """The last rows of a user before row ``end`` of the log, as many as a history holds."""
        return list(range(max(int(self.data.log.offsets[user]), end - self.config.model.history_length), end))

    def ranking(self, user: int) -> float:
        """Mean over the user's targets that see something."""
        rows = self.window(max(self.drawn.targets[user]) + 1, user)
        coins = self.drawn.earlier_days_only[user]
        losses = [
            self.target(row, rows, coin) for row, coin in zip(self.drawn.targets[user], coins, strict=True)
        ]
        seen = [loss for loss in losses if loss is not None]
        return sum(seen) / max(1, len(seen))

    def target(self, row: int, rows: list[int], earlier_days_only: bool) -> float | None:
        """Softmax loss of one target among the negatives that the user's history doesn't hold."""
        log = self.data.log
        wanted, at = int(log.item[row]), int(log.time[row])
        visible = [r for r in rows if log.time[r] <= at and log.item[r] != wanted]
        earlier = [r for r in visible if log.time[r] < at // DAY_S * DAY_S]
        if earlier_days_only and earlier:
            visible = earlier
        if not visible:
            return None
        history = [int(log.item[r]) for r in visible]
        touched = {int(log.item[r]) for r in rows}
        others = [n for n in self.drawn.negatives if n != wanted and n not in touched]
        scores = [self.score(history, item) for item in (wanted, *others)]
        return math.log(sum(math.exp(score) for score in scores)) - scores[0]

    def score(self, history: list[int], item: int) -> float:
        """Four times the trained cosine, six times the untrained one, and the popularity that stays at home."""
        learned = np.mean([self.vector(i) for i in history], axis=0) @ self.vector(item)
        raw = self.data.site.items.raw.double().numpy()
        untrained = np.mean([raw[i] for i in history], axis=0) @ raw[item]
        offset = self.config.training.popularity_offset * float(self.data.log_popularity[item])
        return float(4 * learned + 6 * untrained + offset)

    def before(self, row: int) -> list[int]:
        """Log rows that a behaviour row's user had before its instant, as many as a history holds."""
        log, user = self.data.log, int(self.data.behaviour.user[row])
        mine = range(int(log.offsets[user]), int(log.offsets[user + 1]))
        past = [r for r in mine if log.time[r] < self.data.behaviour.at[row]]
        return past[-self.config.model.history_length :]

    def behaviour(self, row: int) -> float:
        """Cross-entropy of intent, and half that of the next event's kind where there is one."""
        rows, items = self.data.behaviour, [int(self.data.log.item[r]) for r in self.before(row)]
        user = np.mean([self.vector(i) for i in items], axis=0) if items else np.zeros(8)
        features = torch.from_numpy(rows.features[row : row + 1])
        with torch.no_grad():
            logits = self.model.behaviour(features, torch.from_numpy(user)[None].float())[0].double().numpy()
        intent, kind = int(rows.intent[row]), int(rows.next_kind[row])
        loss = math.log1p(math.exp(logits[0])) - intent * logits[0]
        if kind >= 0:
            loss += 0.5 * (math.log(np.exp(logits[1:]).sum()) - logits[1 + kind])
        return float(loss)

    def reviews(self, rows: list[int]) -> float:
        """Mean cross-entropy of one user's drawn reviews."""
        weight, bias = (p.detach().double().numpy() for p in self.model.sentiment.parameters())
        adapter = self.model.text_adapter.first.weight.detach().double().numpy()
        total = 0.0
        for row in rows:
            logit = float((weight @ adapter @ self.data.site.reviews.text[row].numpy() + bias)[0])
            total += math.log1p(math.exp(logit)) - int(self.data.site.reviews.label[row]) * logit
        return total / len(rows)

    def needed(self) -> list[int]:
        """The items that the step meets: histories, targets and negatives; the log's first where a history is short."""
        log = self.data.log
        ends = {user: max(rows) + 1 for user, rows in self.drawn.targets.items()}
        windows = [self.window(end, user) for user, end in ends.items()]
        windows += [self.before(row) for row in self.drawn.behaviour]
        rows = [r for window in windows for r in window]
        rows += [r for targets in self.drawn.targets.values() for r in targets]
        short = any(len(window) < self.config.model.history_length for window in windows)
        return sorted(
            {int(log.item[r]) for r in rows}
            | set(self.drawn.negatives)
            | ({int(log.item[0])} if short else set())
        )

    def category(self) -> float:
        """Mean cross-entropy over the items met, without every fifth of the catalogue and without the unknown."""
        weight, bias = (p.detach().double().numpy() for p in self.model.category.parameters())
        losses = []
        for item in self.needed():
            truth = int(self.data.site.items.category[item])
            if item % 5 and truth >= 0:
                logits = weight @ self.vector(item) + bias
                losses.append(math.log(np.exp(logits).sum()) - logits[truth])
        return _mean(losses)

    def alignment(self) -> float:
        """Contrastive loss of text and picture in both directions, over items that have both."""
        items = self.data.site.items
        both = [i for i in self.needed() if items.has_text[i] and items.has_image[i]]
        text, image = (
            np.array([part / np.linalg.norm(part) for part in parts])
            for parts in zip(*map(self.adapted, both), strict=True)
        )
        logits = text @ image.T / 0.1
        truth = np.diag(logits)
        return (
            _mean(np.log(np.exp(logits).sum(1)) - truth) / 2
            + _mean(np.log(np.exp(logits).sum(0)) - truth) / 2
        )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
