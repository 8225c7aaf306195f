"""Every signal against its definition; scores are the columns times the weights, whatever the size of a block."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.signals import others, table
from clients.signals.names import COLUMNS, N_SIGNALS, OF_CUSTOMER, PAIR_SCALE, PAIRED, SCALES, SIGNALS
from clients.signals.ranker import Form
from clients.signals.table import SignalTable
from common.settings.config import PrivacyConfig
from tests.clients.five_users import AS_DRAWN
from tests.clients.signals.slow_signals import (
    Event,
    SlowSignals,
    rows_of,
    site_with_facts,
    with_other_events_of,
    without_events_of,
)
from tests.clients.small_site import with_other_future

N_ITEMS = 15
HISTORIES = st.lists(
    st.lists(st.tuples(st.integers(0, N_ITEMS - 1), st.integers(0, 3)), max_size=6), min_size=1, max_size=4
)
SITES = {seed: site_with_facts(seed) for seed in range(3)}
AT = SITES[0].split.valid_from


def columns(seed: int, histories: list[list[Event]], at_s: int = AT) -> np.ndarray:
    rows = rows_of(histories)
    every = np.tile(np.arange(N_ITEMS), (len(rows), 1))
    return SignalTable(SITES[seed], at_s).columns(rows, every)


@settings(max_examples=12, deadline=None, phases=AS_DRAWN)
@given(histories=HISTORIES, seed=st.integers(0, 2), back_d=st.integers(0, 20))
def test_every_signal_is_what_its_definition_says(
    histories: list[list[Event]], seed: int, back_d: int
) -> None:
    at_s = AT - back_d * 86_400
    found, slow = columns(seed, histories, at_s), SlowSignals(SITES[seed], at_s)
    for row, history in enumerate(histories):
        for item in range(N_ITEMS):
            truth = slow.of(history, item)
            for number, signal in enumerate(SIGNALS):
                value = float(found[row, item, number] * SCALES[number])
                assert value == pytest.approx(truth[signal.name], abs=2e-4), (signal.name, history, item)
            scaled = {signal.name: truth[signal.name] / signal.scale for signal in SIGNALS}
            around = {name: 2 * math.tanh((scaled[name] - centre) / 2) for name, centre in PAIRED.items()}
            for number, name in enumerate(COLUMNS[N_SIGNALS:], N_SIGNALS):
                first, second = name.split(" × ")
                product = PAIR_SCALE * around[first] * around[second]
                assert found[row, item, number] == pytest.approx(product, abs=2e-3), (name, history, item)


def test_no_signal_is_the_same_for_all_items_and_histories() -> None:
    """Else the comparison with the definitions would compare nothing."""
    histories = [[(0, 0), (1, 3), (2, 2)], [(4, 0)], [(5, 1), (6, 2)]]
    early = int(np.quantile(SITES[0].log.time, 0.03))
    spreads = [
        columns(0, histories, at_s)[..., :N_SIGNALS].reshape(-1, N_SIGNALS).std(0) for at_s in (AT, early)
    ]
    assert [
        name for name, spread in zip(COLUMNS, np.max(spreads, axis=0), strict=False) if not spread > 0
    ] == []


def test_before_anything_happened_all_is_still_a_number() -> None:
    found = columns(0, [[(0, 3)], []], at_s=int(SITES[0].log.time.min()))
    assert np.isfinite(found).all()
    together = [number for number, signal in enumerate(SIGNALS) if signal.family == "together"]
    assert not found[..., together].any()
    assert (found[..., COLUMNS.index("never_sold")] > 0).all()


@settings(max_examples=10, deadline=None, phases=AS_DRAWN)
@given(histories=HISTORIES, other=st.integers(0, 18), seed=st.integers(0, 2**31))
def test_a_signal_of_a_customer_alone_reads_no_other(
    histories: list[list[Event]], other: int, seed: int
) -> None:
    rows, site = rows_of(histories), SITES[0]
    every = np.tile(np.arange(N_ITEMS), (len(rows), 1))
    alone = [number for number, signal in enumerate(SIGNALS) if signal.reads == "customer"]
    changed = (with_other_events_of(site, other, seed), without_events_of(site, other))
    truth = SignalTable(site, AT).columns(rows, every)
    for each in changed:
        found = SignalTable(each, AT).columns(rows, every)
        assert np.array_equal(found[..., alone], truth[..., alone])


@pytest.mark.parametrize("number", np.flatnonzero(~OF_CUSTOMER), ids=lambda n: SIGNALS[n].name)
def test_a_signal_that_says_it_reads_others_does(number: int) -> None:
    """So that nothing is kept from private training for nothing."""
    rows = rows_of([[(0, 0), (1, 3)], [(4, 3)], [(7, 2), (2, 3), (5, 0)]])
    every = np.tile(np.arange(N_ITEMS), (len(rows), 1))
    site = SITES[0]
    late = replace(site, log=site.log.where(site.log.time > np.quantile(site.log.time, 0.57)))
    found, truth = (SignalTable(s, AT).columns(rows, every)[..., number] for s in (late, site))
    assert not np.allclose(found, truth)


@pytest.mark.parametrize("mode", ["user", "distributed"])
def test_private_training_holds_no_signal_that_reads_another_customer(mode: str) -> None:
    form = Form.of(PrivacyConfig(mode=mode))  # type: ignore[arg-type]
    assert {s.reads for s, taken in zip(SIGNALS, form.columns, strict=False) if taken} == {"customer"}
    assert not form.columns[N_SIGNALS:].any()
    assert form.size == sum(signal.reads == "customer" for signal in SIGNALS)
    assert Form.of(PrivacyConfig(mode=mode, sample_rate=0.5)).size == 0  # type: ignore[arg-type]
    assert Form.of(PrivacyConfig(mode="record")).size == 0


def test_scores_are_the_columns_times_the_weights() -> None:
    rows = rows_of([[(0, 0), (1, 3)], [], [(4, 3)], [(7, 2), (2, 3), (5, 0)], [(3, 1)]])
    weights = np.random.default_rng(0).normal(size=len(COLUMNS))
    weights[N_SIGNALS + 3 : -5 : 4] = 0.0
    at = SignalTable(SITES[1], AT)
    every = at.columns(rows, np.tile(np.arange(N_ITEMS), (5, 1)))
    truth = every.astype(np.float64) @ weights
    assert at.scores(rows, slice(0, 5), weights) == pytest.approx(truth, abs=1e-3)
    assert at.scores(rows, slice(2, 4), weights) == pytest.approx(truth[2:4], abs=1e-3)
    assert at.scores(rows, slice(3, 99), weights).shape == (2, N_ITEMS)
    only = np.where(np.arange(len(COLUMNS)) == COLUMNS.index("category"), 2.0, 0.0)
    assert at.scores(rows, slice(0, 5), only) == pytest.approx(2 * every[..., COLUMNS.index("category")])


@pytest.mark.parametrize("numbers", [1, N_ITEMS * 2, N_ITEMS * 3])
def test_blocks_of_any_size_give_the_same_columns(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of([[(0, 0), (1, 3)], [], [(4, 3)], [(7, 2), (2, 3), (5, 0)], [(3, 1)]])
    items = np.random.default_rng(0).integers(0, N_ITEMS, (5, 7))
    at = SignalTable(SITES[1], AT)
    whole = at.columns(rows, items)
    monkeypatch.setattr(table, "BLOCK", numbers)
    assert len(at.blocks(5)) == math.ceil(5 / max(1, numbers // N_ITEMS))
    assert at.columns(rows, items) == pytest.approx(whole, abs=2e-5)
    every = SignalTable(SITES[1], AT).columns(rows, np.tile(np.arange(N_ITEMS), (5, 1)))
    assert whole == pytest.approx(np.take_along_axis(every, items[..., None], axis=1), abs=2e-5)


def test_the_future_changes_no_signal() -> None:
    rows = rows_of([[(0, 0), (1, 3)], [(4, 3)]])
    every = np.tile(np.arange(N_ITEMS), (2, 1))
    truth = SignalTable(SITES[0], AT).columns(rows, every)
    for seed in range(3):
        other = with_other_future(SITES[0], AT, seed)
        assert SignalTable(other, AT).columns(rows, every).tobytes() == truth.tobytes()


def test_on_a_large_catalogue_the_autoencoder_knows_what_most_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(others, "EASE_ITEMS", 6)
    site = SITES[0]
    log = site.learning_log.before(AT)
    touched = np.array([len(np.unique(log.user[log.item == item])) for item in range(N_ITEMS)])
    fitted = SignalTable(site, AT).others
    assert fitted.ease.shape == (6, 6)
    assert not np.diag(fitted.ease).any()
    assert min(touched[fitted.ease_items]) >= max(np.delete(touched, fitted.ease_items))
    rows = rows_of([[(int(item), 0) for item in range(6)]])
    found = SignalTable(site, AT).columns(rows, np.arange(N_ITEMS)[None])[0, :, COLUMNS.index("ease")]
    assert not np.delete(found, fitted.ease_items).any()
    assert found[fitted.ease_items].any()
