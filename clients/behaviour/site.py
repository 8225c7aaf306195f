"""One site's side of behaviour: rows to learn from, the model at home, its figures, and predictions for now.

>>> # behaviour = BehaviourSite(dataset)
>>> # part = behaviour.part(PURCHASE_7D, dataset.split.valid_from)    what the league learns from
>>> # model = behaviour.at_home(PURCHASE_7D, weights, weights)         what the site deploys
>>> # users, chance = behaviour.predict(PURCHASE_7D, model, now_s)     what the merchant gets

Invariant: weights and choices come from the site's learners, before the test window; of other customers only test rows
and predictions are made.
"""

from __future__ import annotations

import numpy as np

from clients.behaviour.alone import fit_alone
from clients.behaviour.choices import Asked, ChoicePart, ChoiceRows, choice_rows, instants_of
from clients.behaviour.diary import Diary
from clients.behaviour.features import features
from clients.behaviour.home import AtHome, fit_at_home
from clients.behaviour.logistic import LogisticPart
from clients.behaviour.tasks import Rows, Task, TaskRows, rows_until, task_rows
from clients.data.dataset import Ints, SiteDataset
from clients.training.moves import Vector
from common.metrics import auc, group_auc, log_loss


class BehaviourSite:
    """A site's customers, asked the questions of `clients.behaviour.tasks`."""

    def __init__(self, site: SiteDataset) -> None:
        self._split, self._learners = site.split, site.learners
        self._diary = Diary(site.log, site.items.category.numpy())
        self._rows: dict[Task, TaskRows] = {}

    def part(self, task: Task, until_s: int) -> LogisticPart:
        """The learners' rows whose answers were known at an instant, for the league to learn from."""
        rows = rows_until(self._diary, task, until_s, self._learners)
        return LogisticPart(part_name(task), rows.features, rows.label, rows.user)

    def rows(self, task: Task) -> TaskRows:
        """Rows of the learners before and in the validation window, and of everybody in the test window; made once."""
        if task not in self._rows:
            self._rows[task] = task_rows(self._diary, task, self._split, self._learners)
        return self._rows[task]

    def at_home(self, task: Task, early: Vector, league: Vector) -> AtHome:
        """The site's own model from the league's weights, as `clients.behaviour.home.fit_at_home` says."""
        return fit_at_home(part_name(task), self.rows(task), early, league)

    def measure(self, task: Task, model: AtHome) -> dict[str, dict[str, float]]:
        """Figures of a model and of the opponents on the test window, by method."""
        rows, alone = self.rows(task), fit_alone(self.rows(task))
        named = {"league": model(rows.test.features), "alone": alone(rows.test.features)}
        named |= {name: other(rows.test.features) for name, other in alone.models.items()}
        return {name: figures(chance, rows.test) for name, chance in named.items()}

    def choice_part(self, asked: Asked, options: int, until_s: int) -> ChoicePart:
        """The learners' rows of "which comes next" whose answers were known at an instant."""
        rows = choice_rows(self._diary, asked, options, instants_of(0, until_s), self._learners)
        return ChoicePart(f"behaviour.next_{asked}", rows.take(self._learners[rows.user]))

    def choice_test(self, asked: Asked, options: int) -> ChoiceRows:
        """The rows of "which comes next" of everybody in the test window."""
        instants = instants_of(self._split.test_from, self._split.until)
        return choice_rows(self._diary, asked, options, instants, self._learners)

    def predict(self, task: Task, model: AtHome, at_s: int) -> tuple[Ints, Vector]:
        """The customers with an event before an instant, and the chance that the task's answer is yes."""
        users = np.arange(self._diary.log.n_users)
        at = np.full(len(users), at_s, np.int64)
        known = self._diary.ends(users, at) > self._diary.log.offsets[:-1]
        return users[known], model(features(self._diary, users[known], at[known]))


def part_name(task: Task) -> str:
    """The name of a task's weights in the league's layout."""
    return f"behaviour.{task.name}"


def figures(chance: Vector, rows: Rows) -> dict[str, float]:
    """AUC, AUC within customers, and log loss; NaN where undefined."""
    return {
        "auc": auc(chance, rows.label),
        "gauc": group_auc(chance, rows.label, rows.user),
        "log_loss": log_loss(chance, rows.label),
    }
