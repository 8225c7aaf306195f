"""A site's data as arrays: catalogue, event log, reviews and the instants that separate train, validation and test.

Invariant: every view of the log is bounded by an instant, and nothing at or after it is ever visible. The split by
time is enforced in this module.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.facts import ItemFacts
from common.models.model import ItemInputs, UserInputs

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
KINDS = ("view", "click", "cart", "purchase", "search")
PURCHASE = KINDS.index("purchase")
SEARCH = KINDS.index("search")
DAY_S = 86_400


@dataclass(frozen=True)
class Log:
    """Events sorted by user, then time; n events of u users.

    ``item`` is -1 for a search; ``time`` is in seconds since 1970 (UTC); ``offsets`` (u + 1) bounds each user's rows.
    """

    user: Ints
    item: Ints
    kind: Ints
    time: Ints
    offsets: Ints

    @staticmethod
    def of(user: Ints, item: Ints, kind: Ints, time: Ints, n_users: int) -> Log:
        """Sort events and index them by user; equal inputs in any order give equal logs."""
        order = np.lexsort((kind, item, time, user))
        user, item, kind, time = user[order], item[order], kind[order], time[order]
        offsets = np.searchsorted(user, np.arange(n_users + 1))
        return Log(user, item, kind, time, offsets.astype(np.int64))

    def where(self, keep: NDArray[np.bool_]) -> Log:
        """The events that ``keep`` marks, users unchanged."""
        offsets = np.concatenate([[0], np.cumsum(keep)])[self.offsets].astype(np.int64)
        return Log(self.user[keep], self.item[keep], self.kind[keep], self.time[keep], offsets)

    def before(self, instant_s: int) -> Log:
        """The events strictly before an instant."""
        return self.where(self.time < instant_s)

    def between(self, from_s: int, until_s: int) -> Log:
        """The events in [from, until)."""
        return self.where((self.time >= from_s) & (self.time < until_s))

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Split:
    """Train is before ``valid_from``; validation [valid_from, test_from); test [test_from, until). Seconds, UTC."""

    valid_from: int
    test_from: int
    until: int


@dataclass(frozen=True)
class Reviews:
    """Reviews with text: author, text as the encoder reads it, and 1 = satisfied, 0 = not, -1 = neither."""

    user: Ints
    text: torch.Tensor
    label: Ints
    time: Ints


@dataclass(frozen=True)
class SiteDataset:
    """All training data of a site. Rows of ``items`` are those of ``item_ids``; user numbers index ``user_ids``.

    ``learners`` (users,) marks the users whose records the site learns from. The records of the others are read for
    one purpose: they are the histories of the rows that ask about these users.
    """

    name: str
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    items: ItemInputs
    log: Log
    reviews: Reviews
    split: Split
    learners: NDArray[np.bool_]
    facts: ItemFacts

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @functools.cached_property
    def item_log(self) -> Log:
        """The events that name an item: all but searches. For histories; what is learned reads `learning_log`."""
        return self.log.where(self.log.kind != SEARCH)

    @functools.cached_property
    def of_learners(self) -> SiteDataset:
        """The same site with the events of learners only; itself where everybody is a learner."""
        if self.learners.all():
            return self
        return replace(self, log=self.log.where(self.learners[self.log.user]))

    @functools.cached_property
    def learning_log(self) -> Log:
        """The learners' events that name an item: what neighbours, popularity and training may read."""
        return self.of_learners.item_log

    @functools.cached_property
    def products(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Products x·x′ (items, items) of all items' frozen features, for texts and for pictures."""
        return self.items.text @ self.items.text.T, self.items.image @ self.items.image.T


def gather_histories(
    log: Log, users: Ints, ends: Ints, length: int
) -> tuple[Ints, Ints, Ints, NDArray[np.bool_]]:
    """The last ``length`` events of each user before row ``ends`` of the log.

    Returns
    -------
    items, kinds, times, valid : arrays (len(users), length); the latest event stands last, padding first.
    """
    rows = ends[:, None] - length + np.arange(length)[None, :]
    valid = rows >= log.offsets[users][:, None]
    if len(log) == 0:
        empty = np.zeros(rows.shape, np.int64)
        return empty, empty, empty, np.zeros(rows.shape, bool)
    rows = np.where(valid, rows, 0)
    return log.item[rows], log.kind[rows], log.time[rows], valid


def rows_before(log: Log, users: Ints, instants: Ints) -> Ints:
    """For each (user, instant) the log row after the user's last event before the instant."""
    if len(log) == 0:
        return np.zeros(len(users), np.int64)
    lowest = log.time.min()
    span = int(log.time.max()) - int(lowest) + 2
    keys = log.user * span + (log.time - lowest)
    query_keys = users * span + np.clip(instants - lowest, 0, span - 1)
    return np.searchsorted(keys, query_keys, side="left").astype(np.int64)


def as_user_inputs(
    items: Ints,
    kinds: Ints,
    times: Ints,
    valid: NDArray[np.bool_],
    at: Ints,
    visible: NDArray[np.bool_] | None = None,
) -> UserInputs:
    """Tensors for the user tower; ``at`` (b, t) are the instants, in seconds, for which the history is read.

    Without ``visible`` (b, t, h) every valid event strictly before ``at`` is visible.
    """
    gaps = at[:, :, None] - times[:, None, :]
    if visible is None:
        visible = valid[:, None, :] & (gaps > 0)
    return UserInputs(
        torch.from_numpy(np.maximum(items, 0)),
        torch.from_numpy(kinds),
        torch.from_numpy(gaps.astype(np.float32)),
        torch.from_numpy(visible),
    )
