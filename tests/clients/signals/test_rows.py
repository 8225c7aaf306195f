"""The rows from which weights are learned: who is asked, beside what, and that no later event has a say."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest

from clients.data.dataset import DAY_S, PURCHASE, Log, SiteDataset
from clients.data.rows import returning_rows
from clients.signals import rows as module
from clients.signals.learning import Learning
from clients.signals.names import COLUMNS, OF_CUSTOMER
from clients.signals.ranker import row_losses
from clients.signals.rows import (
    NEGATIVES,
    ROWS_A_WINDOW,
    WANTED,
    WINDOWS_BACK,
    Asking,
    FitRows,
    earlier_windows,
    rows_of_window,
    window_rows,
)
from clients.signals.table import SignalTable
from common.settings.load import with_overrides
from tests.clients.signals.slow_signals import site_with_facts, without_events_of
from tests.clients.small_site import CONFIG, dense, with_other_future

ASKING = Asking(length=6, seed=3)
PRIVATE = with_overrides(CONFIG, {"privacy.mode": "user"})


@pytest.fixture(scope="module")
def site() -> SiteDataset:
    """A hundred and twenty users, of whom some first buy in the validation window."""
    drawn = site_with_facts(1, n_users=120, n_items=60, events=900)
    log, split = drawn.log, drawn.split
    turn, is_item = log.user % 6, log.item >= 0
    kind = np.where((turn == 0) & is_item, PURCHASE, log.kind)
    time = np.where(turn == 0, split.valid_from + log.time % (split.test_from - split.valid_from), log.time)
    return replace(drawn, log=Log.of(log.user, log.item, kind, time, log.n_users))


def window(site: SiteDataset) -> tuple[int, int]:
    return site.split.valid_from, site.split.test_from


def same(first: FitRows, second: FitRows) -> bool:
    return all(getattr(first, f.name).tobytes() == getattr(second, f.name).tobytes() for f in fields(FitRows))


def test_rows_are_of_both_kinds_and_of_learners_only(site: SiteDataset) -> None:
    half = replace(site, learners=np.arange(120) % 2 == 0)
    found = window_rows(half, SignalTable(half, window(half)[0]), window(half), ASKING)
    assert set(found.kind.tolist()) == {0, 1}
    assert (found.user % 2 == 0).all()
    whole = window_rows(site, SignalTable(site, window(site)[0]), window(site), ASKING)
    assert (whole.user % 2 == 1).any()
    assert Learning(half, CONFIG).users() == len(np.unique(Learning(half, CONFIG).every.user))


def test_candidates_are_what_was_wanted_and_things_that_were_not(
    site: SiteDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    items_asked = []
    real = SignalTable.columns

    def noting(self: SignalTable, rows: module.TestRows, items: np.ndarray) -> np.ndarray:
        items_asked.append((rows, items))
        return real(self, rows, items)

    monkeypatch.setattr(SignalTable, "columns", noting)
    found = window_rows(site, SignalTable(site, window(site)[0]), window(site), ASKING)
    at = 0
    for rows, items in items_asked:
        wanted = dense(rows, rows.wanted, site.n_items)
        barred = dense(rows, rows.barred, site.n_items)
        for row, user in enumerate(rows.user.tolist()):
            share, offset = found.share[at], found.offset[at]
            positive = set(items[row][share > 0].tolist())
            assert positive <= wanted[user]
            assert len(positive) == min(WANTED, len(wanted[user])) == (share > 0).sum()
            assert share.sum() == pytest.approx(1.0)
            assert set(offset[share > 0].tolist()) == {0.0}
            negative = items[row][WANTED:][np.isfinite(offset[WANTED:])].tolist()
            assert set(negative).isdisjoint(wanted[user] | barred[user])
            rest = site.n_items - len(wanted[user]) - len(barred[user])
            assert np.exp(offset[WANTED:]).sum() == pytest.approx(rest, rel=1e-4)
            at += 1
    assert at == len(found) > 20


def test_the_importance_correction_stands_for_the_whole_catalogue(site: SiteDataset) -> None:
    """Over many draws the mean of a row's estimated softmax total is the total over the catalogue."""
    start = window(site)[0]
    table, weights = SignalTable(site, start), np.zeros(len(COLUMNS))
    weights[COLUMNS.index("popularity")], weights[COLUMNS.index("category")] = 0.7, 0.4
    rows = returning_rows(site, *window(site), 6)
    few = rows.take(np.arange(5))
    scores = table.scores(few, slice(0, 5), weights).astype(np.float64)
    free = ~(few.mask(few.wanted, slice(0, 5), 60) | few.mask(few.barred, slice(0, 5), 60))
    estimates = []
    for seed in range(100):
        found = module._with_candidates(site, table, few, 0, seed)
        logits = found.signals @ weights.astype(np.float32) + found.offset
        estimates.append(np.exp(logits[:, WANTED:]).sum(1))
    truth = (np.exp(scores) * free).sum(1)
    assert np.mean(estimates, axis=0) == pytest.approx(truth, rel=0.04)


def test_a_rows_loss_is_near_that_of_the_full_softmax(
    site: SiteDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NEGATIVES", 4000)
    weights = np.random.default_rng(0).normal(0, 0.1, size=(2, len(COLUMNS)))
    table = SignalTable(site, window(site)[0])
    rows = returning_rows(site, *window(site), 6)
    single = rows.take(np.array([r for r in range(len(rows)) if (rows.wanted[0] == r).sum() == 1][:6]))
    losses, _ = row_losses(module._with_candidates(site, table, single, 0, 1), weights)
    scores = table.scores(single, slice(0, len(single)), weights[0]).astype(np.float64)
    scores[single.mask(single.barred, slice(0, len(single)), 60)] = -np.inf
    wanted = single.mask(single.wanted, slice(0, len(single)), 60)
    assert losses == pytest.approx(np.log(np.exp(scores).sum(1)) - scores[wanted], abs=0.07)


def test_what_comes_after_the_start_of_a_window_is_in_no_signal(site: SiteDataset) -> None:
    """The wanted items are of the window; all else is the same, to the byte, when all that is bought there changes."""
    start, end = window(site)
    other = with_other_future(site, start, 7)
    table, after = SignalTable(site, start), SignalTable(other, start)
    rows, changed = (rows_of_window(each, (start, end), 6, 1)[0] for each in (site, other))
    both = np.intersect1d(rows.user, changed.user)
    assert len(both) > 2
    items = np.tile(np.arange(60), (len(both), 1))
    first = table.columns(rows.take(np.searchsorted(rows.user, both)), items)
    second = after.columns(changed.take(np.searchsorted(changed.user, both)), items)
    assert first.tobytes() == second.tobytes()


def test_what_comes_after_a_window_changes_nothing_of_it(site: SiteDataset) -> None:
    other = with_other_future(site, site.split.test_from, 7)
    assert not np.array_equal(other.log.time, site.log.time)
    first, second = Learning(site, CONFIG), Learning(other, CONFIG)
    assert same(first.every, second.every)
    assert same(first.valid, second.valid)
    before = with_other_future(site, site.split.valid_from, 8)
    assert same(Learning(before, CONFIG).before, first.before)
    assert len(first.before) > len(first.valid) / 2


def test_windows_go_back_from_the_validation_window_as_far_as_the_log(site: SiteDataset) -> None:
    split = site.split
    span = split.test_from - split.valid_from
    found = earlier_windows(site, as_ever=False)
    earliest = int(site.learning_log.time.min())
    assert found[0] == (split.valid_from - span, split.valid_from)
    assert len(found) > 2
    assert all(end - start == span for start, end in found)
    step = found[0][0] - found[1][0]
    assert step % DAY_S == 0
    assert span / 2 - DAY_S < step <= max(span / 2, DAY_S)
    assert all(later[0] - earlier[0] == step for later, earlier in itertools.pairwise(found))
    assert found[-1][0] > earliest
    assert len(found) == WINDOWS_BACK or earliest >= found[-1][0] - step
    assert earlier_windows(site, as_ever=True)[: len(found)] == found
    nobody = replace(site, learners=np.zeros(120, bool))
    assert earlier_windows(nobody, as_ever=False) == []
    assert len(Learning(nobody, CONFIG).every) == 0


def test_at_most_so_many_rows_of_a_kind_are_asked(site: SiteDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ROWS_A_WINDOW > 100
    table = SignalTable(site, window(site)[0])
    whole = window_rows(site, table, window(site), ASKING)
    monkeypatch.setattr(module, "ROWS_A_WINDOW", 8)
    few = window_rows(site, table, window(site), ASKING)
    assert np.bincount(few.kind).tolist() == [8, 8]
    assert same(few, window_rows(site, table, window(site), ASKING))
    other = window_rows(site, table, window(site), replace(ASKING, seed=4))
    assert not np.array_equal(few.user, other.user)
    each = window_rows(site, table, window(site), replace(ASKING, rate=1.0))
    assert len(each) == len(whole)
    half = window_rows(site, table, window(site), replace(ASKING, rate=0.5))
    assert 0.2 * len(whole) < len(half) < 0.8 * len(whole)
    assert set(half.user.tolist()) < set(whole.user.tolist())


@pytest.mark.parametrize("user", [3, 6])
def test_where_customers_are_protected_one_who_goes_changes_no_row_of_another(
    site: SiteDataset, user: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else's row, candidate or hidden item; of the signals those that read others may change."""
    monkeypatch.setattr(module, "ROWS_A_WINDOW", 8)
    alone = [number for number, taken in enumerate(OF_CUSTOMER) if taken]
    whole, less = Learning(site, PRIVATE).every, Learning(without_events_of(site, user), PRIVATE).every
    stays = whole.where(whole.user != user)
    assert len(whole) > len(Learning(site, CONFIG).every)
    for name in ("user", "kind", "share", "offset"):
        assert np.array_equal(getattr(stays, name), getattr(less, name)), name
    assert stays.signals[..., alone] == pytest.approx(less.signals[..., alone], abs=2e-5)


def test_a_window_that_only_the_first_customer_opens_is_asked_of_all(site: SiteDataset) -> None:
    """Where the log begins is one customer's doing, and so mustn't decide whether others' rows are there."""
    first = int(site.log.user[site.log.time.argmin()])
    less = without_events_of(site, first)
    assert earlier_windows(site, as_ever=True) == earlier_windows(less, as_ever=True)
    assert len(earlier_windows(site, as_ever=True)) == WINDOWS_BACK


def test_rows_join_in_order_and_of_nothing_there_is_nothing() -> None:
    none = FitRows.joined([])
    assert len(none) == 0
    assert none.signals.shape == (0, WANTED + NEGATIVES, len(COLUMNS))
    drawn = np.random.default_rng(0)
    part = FitRows(
        drawn.normal(size=(3, 2, 4)).astype(np.float32), np.ones((3, 2), np.float32),
        np.zeros((3, 2), np.float32), np.array([0, 1, 0]), np.array([4, 5, 6]),
    )  # fmt: skip
    both = FitRows.joined([part, part.where(part.kind == 0)])
    assert both.user.tolist() == [4, 5, 6, 4, 6]
    assert np.array_equal(both.signals[3:], part.signals[[0, 2]])
