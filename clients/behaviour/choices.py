"""Which of several comes next: the kind of the next event, or the category of the next item.

A conditional logit (McFadden 1974): each option gets a score from a few features of (customer, option), and the softmax
of the scores is the chance. So sites with other categories share the same few weights. Invariant: features read only
events before the instant; the popularity of a category is counted among the site's learners, so its weight isn't for a
private league.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from clients.behaviour.diary import Diary, Values
from clients.behaviour.tasks import INSTANTS, STEP_S
from clients.data.dataset import DAY_S, KINDS, Ints
from clients.training.moves import Vector

HORIZON_S = 7 * DAY_S
RECENT_S = 28 * DAY_S
Asked = Literal["kind", "category"]


@dataclass(frozen=True)
class ChoiceRows:
    """n labelled instants: ``features`` (n, options, k), the option that came, and whose row it is."""

    user: Ints
    features: NDArray[np.float64]
    label: Ints

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Ints | NDArray[np.bool_]) -> ChoiceRows:
        """Some of the rows."""
        return ChoiceRows(self.user[rows], self.features[rows], self.label[rows])


@dataclass(frozen=True)
class ChoicePart:
    """One site's rows of one choice: a `clients.training.moves.LeaguePart`."""

    name: str
    rows: ChoiceRows

    def start(self) -> Vector:
        """All options are alike."""
        return np.zeros(self.rows.features.shape[2])

    def loss(self, weights: Vector) -> tuple[float, Vector]:
        """Negative log likelihood times rows^-1/2, and its gradient."""
        if not len(self.rows):
            return 0.0, np.zeros_like(weights)
        scale = len(self.rows) ** -0.5
        return float(row_losses(self.rows, weights).sum()) * scale, self._by_row(weights).sum(0) * scale

    def curvature(self, weights: Vector) -> Vector:
        """Second derivatives (k, k) of the loss."""
        x = self.rows.features
        if not len(x):
            return np.zeros((len(weights), len(weights)))
        p = np.exp(log_chances(x, weights))
        mean = np.einsum("no,nok->nk", p, x)
        second = np.einsum("no,nok,nol->kl", p, x, x, optimize=True)
        return np.asarray((second - mean.T @ mean) * len(x) ** -0.5)

    def user_gradients(self, weights: Vector) -> Vector:
        """(users with rows, k), in the order of the users' numbers."""
        users, place = np.unique(self.rows.user, return_inverse=True)
        sums = np.zeros((len(users), len(weights)))
        np.add.at(sums, place, self._by_row(weights))
        return sums

    def _by_row(self, weights: Vector) -> Vector:
        x = self.rows.features
        p = np.exp(log_chances(x, weights))
        p[np.arange(len(x)), self.rows.label] -= 1.0
        return np.asarray(np.einsum("no,nok->nk", p, x))


def log_chances(features: NDArray[np.float64], weights: Vector) -> Values:
    """Log probabilities (n, options)."""
    scores = features @ weights
    return np.asarray(scores - logsumexp(scores, axis=1, keepdims=True))


def row_losses(rows: ChoiceRows, weights: Vector) -> Values:
    """Negative log likelihood of each row."""
    return np.asarray(-log_chances(rows.features, weights)[np.arange(len(rows)), rows.label])


def choice_rows(
    diary: Diary, asked: Asked, options: int, instants: Ints, learners: NDArray[np.bool_]
) -> ChoiceRows:
    """Rows of all users with an event before an instant and an answer within seven days of it.

    Parameters
    ----------
    options : number of kinds or categories.
    learners : marks the users among whom categories are counted.
    """
    n = diary.log.n_users
    users, at = np.tile(np.arange(n), len(instants)), np.repeat(instants, n)
    code = _codes(diary, asked)
    start, end = diary.ends(users, at), diary.ends(users, at + HORIZON_S)
    following = _first_coded(code, start, end)
    kept = (start > diary.log.offsets[users]) & (following >= 0)
    users, at, following = users[kept], at[kept], following[kept]
    features = choice_features(diary, asked, options, (users, at), learners)
    return ChoiceRows(users, features, code[following] if len(code) else following)


def instants_of(from_s: int, until_s: int) -> Ints:
    """Up to `INSTANTS` instants in a window whose seven days lie in it, the latest ones."""
    last = until_s - HORIZON_S
    back = last - STEP_S * np.arange(INSTANTS, dtype=np.int64)
    return back[back >= from_s]


def choice_features(
    diary: Diary, asked: Asked, options: int, rows: tuple[Ints, Ints], learners: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Features (n, options, k) of rows (users, instants).

    In order: log share of the option in the customer's events, ever and in the last 28 days (one of each option added
    in all); whether it was the last one; log share among the learners in the last 28 days. For kinds follow a constant
    for each kind, and one for each pair of last kind and kind.
    """
    users, at = rows
    code = _codes(diary, asked)
    sums = np.concatenate([np.zeros((1, options)), np.cumsum(code[:, None] == np.arange(options), axis=0)])
    start, end = diary.log.offsets[users], diary.ends(users, at)
    recent = diary.ends(users, at - RECENT_S)
    last = np.eye(options)[_last_coded(code, start, end)] * (_last_coded(code, start, end) >= 0)[:, None]
    columns = [_log_share(sums[end] - sums[start]), _log_share(sums[end] - sums[recent]), last]
    columns.append(_popular(diary, code, options, at, learners))
    features = np.stack(columns, axis=2)
    if asked == "category":
        return features
    own = np.broadcast_to(np.eye(options), (len(users), options, options))
    pairs = np.einsum("nl,op->nolp", last, np.eye(options)).reshape(len(users), options, options * options)
    return np.concatenate([features, own, pairs], axis=2)


def _codes(diary: Diary, asked: Asked) -> Ints:
    """(n,) the option of each event; -1 where it has none."""
    if asked == "kind":
        return diary.log.kind
    item = diary.log.item
    return np.where(item >= 0, diary.category[item], -1) if len(diary.category) else np.full_like(item, -1)


def _first_coded(code: Ints, start: Ints, end: Ints) -> Ints:
    """The first row in [start, end) whose event has an option; -1 without one."""
    rows = np.append(np.flatnonzero(code >= 0), len(code))
    first = rows[np.searchsorted(rows[:-1], start)]
    return np.where(first < end, first, -1)


def _last_coded(code: Ints, start: Ints, end: Ints) -> Ints:
    """The option of the last event in [start, end) that has one; -1 without one."""
    rows = np.concatenate([[-1], np.flatnonzero(code >= 0)])
    last = rows[np.searchsorted(rows[1:], end)]
    known = last >= start
    return np.where(known, code[np.where(known, last, 0)], -1) if len(code) else np.full(len(start), -1)


def _popular(diary: Diary, code: Ints, options: int, at: Ints, learners: NDArray[np.bool_]) -> Values:
    """Log share of each option among the learners in the 28 days before each instant."""
    counted = (code >= 0) & learners[diary.log.user]
    instants, place = np.unique(at, return_inverse=True)
    shares = np.zeros((len(instants), options))
    for number, instant in enumerate(instants):
        recent = counted & (diary.log.time < instant) & (diary.log.time >= instant - RECENT_S)
        shares[number] = np.bincount(code[recent], minlength=options)
    return _log_share(shares)[place]


def _log_share(counts: Values) -> Values:
    """Log of the share of each option, one event spread over all options added."""
    options = counts.shape[1]
    return np.asarray(np.log((counts + 1 / options) / (counts.sum(1, keepdims=True) + 1)))


KIND_OPTIONS = len(KINDS)
