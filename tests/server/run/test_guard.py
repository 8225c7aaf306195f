"""What the guard computes from sites' figures, by hand: means without liars, falls, and which model is best."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.protocol import wire
from common.settings.config import RoundsConfig
from server.run.guard import Figures, fall, note_best, score, steady_mean, verdict
from server.run.state import METRIC
from tests.server.tiny_league import (
    LAYOUT,
    OTHER,
    Answer,
    Asked,
    SiteFault,
    Tiny,
    TinySite,
    first_number,
    own_time,
    says,
)

GUARDED = RoundsConfig(worst_fall=0.5)
OPEN = RoundsConfig()


def figures(**values: float) -> dict[str, dict[str, float]]:
    return {name: {METRIC: value} for name, value in values.items()}


@pytest.mark.parametrize(
    ("values", "malicious", "mean"),
    [
        ([5.0], 0, 5.0),
        ([5.0], 1, 5.0),
        ([1.0, 4.0], 1, 2.5),
        ([1.0, 3.0, 8.0], 0, 4.0),
        ([1.0, 3.0, 8.0], 1, 3.0),
        ([1.0, 3.0, 8.0], 2, 3.0),
        ([8.0, 1.0, 3.0, 4.0], 1, 3.5),
        ([8.0, 1.0, 3.0, 4.0], 2, 3.5),
        ([9.0, 1.0, 2.0, 4.0, 7.0], 1, 13 / 3),
        ([9.0, 1.0, 2.0, 4.0, 7.0], 2, 4.0),
        ([9.0, 1.0, 2.0, 4.0, 7.0], 9, 4.0),
        ([6.0, 5.0, 1.0, 2.0, 9.0, 7.0], 2, 5.5),
    ],
)
def test_the_steady_mean_leaves_out_as_many_of_the_greatest_and_of_the_least(
    values: list[float], malicious: int, mean: float
) -> None:
    assert steady_mean(values, malicious) == mean
    assert steady_mean(values[::-1], malicious) == mean


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.2, 0.4), min_size=2, max_size=8), st.integers(1, 3), st.data())
def test_as_many_liars_as_the_contract_allows_stay_within_what_honest_sites_say(
    honest: list[float], malicious: int, data: st.DataObject
) -> None:
    most = min(malicious, len(honest) - 1)
    liars = data.draw(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=most))
    found = steady_mean([*liars, *honest], malicious)
    assert min(honest) <= found or found == pytest.approx(min(honest))
    assert found <= max(honest) or found == pytest.approx(max(honest))


def test_the_score_is_the_plain_mean_and_under_a_guard_one_without_the_greatest_and_the_least() -> None:
    found = figures(a=0.0, b=0.25, c=0.5, d=1.0)
    assert score(found, OPEN) == 0.4375
    assert score(found, GUARDED) == 0.375
    assert score(found, RoundsConfig(worst_fall=0.5, malicious_sites=0)) == 0.4375


def test_the_score_takes_figures_of_this_kind_only_and_each_within_its_bounds() -> None:
    found = {**figures(a=7.0, b=-3.0, c=0.5), "d": {"train/loss": 9.0}, "e": {}}
    assert score(found, OPEN) == 0.5
    assert score(figures(a=7.0), OPEN) == 1.0
    assert score(figures(a=-3.0), OPEN) == 0.0
    assert score({"d": {"train/loss": 9.0}}, OPEN) is None
    assert score({}, GUARDED) is None


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (figures(a=0.5), figures(a=0.25), 0.5),
        (figures(a=0.5), figures(a=0.75), -0.5),
        (figures(a=0.5), figures(a=0.5), 0.0),
        (figures(a=0.5), figures(b=0.1), 0.0),
        ({}, figures(a=0.5), 0.0),
        # Losses 0.25, 0.125 and 0; the median of what there was is 0.5.
        (figures(a=0.25, b=0.5, c=1.0), figures(a=0.0, b=0.375, c=1.0), 0.25),
        # Without a figure before, or of zero, a site has nothing to lose.
        (figures(a=0.0, b=0.5), figures(a=0.0, b=0.25), 0.5),
        ({"a": {"train/loss": 1.0}, **figures(b=0.5)}, figures(a=0.0, b=0.25), 0.5),
        (figures(a=0.5, b=0.5), {"a": {"train/loss": 1.0}, **figures(b=0.25)}, 0.5),
        (figures(a=1e-9), figures(a=0.0), 1.0),
        # A figure beyond its bounds is taken for the bound.
        (figures(a=4.0), figures(a=0.5), 0.5),
        (figures(a=0.5), figures(a=-4.0), 1.0),
    ],
)
def test_the_fall_is_the_part_of_the_sites_figure_that_was_lost(
    before: Figures, after: Figures, lost: float
) -> None:
    assert fall(before, after) == lost


def test_one_liar_of_three_neither_forces_a_round_through_nor_takes_one_back() -> None:
    before = figures(a=0.5, b=0.5, liar=0.5)
    for lie in (0.0, 0.5, 1.0):
        assert fall(before, figures(a=0.25, b=0.25, liar=lie), 1) == 0.5
        assert fall(before, figures(a=0.5, b=0.5, liar=lie), 1) == 0.0
        assert fall(before, figures(a=0.25, b=0.25, liar=lie)) == 0.5, "one liar is what is meant by default"
    assert fall(before, figures(a=0.25, b=0.25, liar=1.0), 0) == 0.0


def test_two_liars_of_five_count_where_the_contract_allows_one() -> None:
    before = figures(a=0.5, b=0.5, c=0.5, x=0.5, y=0.5)
    after = figures(a=0.25, b=0.25, c=0.25, x=1.0, y=1.0)
    assert fall(before, after, 2) == 0.5
    assert fall(before, after, 1) == pytest.approx(0.0)
    assert fall(before, after) == fall(before, after, 1)


def test_the_verdict_says_how_far_the_figure_fell() -> None:
    assert verdict(0.504) == "the sites' valid/ndcg@20 fell by 50 %"
    assert verdict(1.0) == "the sites' valid/ndcg@20 fell by 100 %"


def test_the_best_model_is_chosen_without_the_liar(tmp_path: Path) -> None:
    state = Tiny(tmp_path, {"a": TinySite()}).state
    note_best(state, 0, figures(a=0.5, b=0.5, liar=0.0), GUARDED)
    assert (state.best_round, state.best_metric) == (0, 0.5)
    note_best(state, 1, figures(a=0.25, b=0.25, liar=1.0), GUARDED)
    assert (state.best_round, state.best_metric) == (0, 0.5)
    note_best(state, 2, figures(a=0.75, b=0.75, liar=0.0), GUARDED)
    assert (state.best_round, state.best_metric) == (2, 0.75)


def test_of_models_that_score_alike_the_first_is_the_best(tmp_path: Path) -> None:
    state = Tiny(tmp_path, {"a": TinySite()}).state
    for round_ in range(3):
        note_best(state, round_, figures(a=0.5), OPEN)
    assert state.best_round == 0


def test_models_are_compared_over_the_sites_that_told_of_both(tmp_path: Path) -> None:
    state = Tiny(tmp_path, {"a": TinySite()}).state
    first = {**figures(a=0.0, b=0.5), "c": {"train/loss": 1.0}}
    note_best(state, 0, first, OPEN)
    assert (state.best_round, state.best_metric) == (0, 0.25)
    note_best(state, 1, {"a": {"train/loss": 2.0}, **figures(b=0.375, c=1.0)}, OPEN)
    assert state.best_round == 0, "b alone told of both, and is worse off"
    second = figures(b=0.75, c=0.0)
    note_best(state, 2, second, OPEN)
    assert (state.best_round, state.best_metric) == (2, 0.375)
    assert state.best_figures == second
    second["b"][METRIC] = 0.0
    assert state.best_figures["b"][METRIC] == 0.75, "what is noted is a copy"


def test_strangers_are_compared_with_the_best_models_own_mean(tmp_path: Path) -> None:
    state = Tiny(tmp_path, {"a": TinySite()}).state
    note_best(state, 0, figures(a=0.5), OPEN)
    note_best(state, 1, figures(b=0.5), OPEN)
    assert state.best_round == 0
    note_best(state, 2, figures(b=0.625), OPEN)
    assert (state.best_round, state.best_metric, state.best_figures) == (2, 0.625, figures(b=0.625))
    note_best(state, 3, {"b": {"train/loss": 0.1}}, OPEN)
    assert state.best_round == 2


def test_a_site_that_is_out_makes_no_model_worse_or_better(tmp_path: Path) -> None:
    state = Tiny(tmp_path, {"a": TinySite()}).state
    note_best(state, 0, figures(a=0.1, b=0.1, rich=0.9), OPEN)
    note_best(state, 1, figures(a=0.2, b=0.2), OPEN)  # of a lower mean, since the rich one is out
    assert (state.best_round, state.best_metric) == (1, 0.2)
    note_best(state, 2, figures(a=0.15, b=0.15, rich=0.9), OPEN)
    assert state.best_round == 1
    note_best(state, 3, figures(a=0.25, b=0.2, rich=0.1), OPEN)
    assert state.best_round == 3
    assert set(state.best_figures) == {"a", "b", "rich"}


def test_without_figures_nothing_is_best_and_strangers_are_compared_by_their_means(tmp_path: Path) -> None:
    state = Tiny(tmp_path, {"a": TinySite()}).state
    note_best(state, 0, {"a": {"train/loss": 1.0}}, OPEN)
    assert state.best_round is None
    note_best(state, 1, figures(a=0.2), OPEN)
    note_best(state, 2, figures(b=0.1), OPEN)
    assert state.best_round == 1
    note_best(state, 3, figures(b=0.3), OPEN)
    assert state.best_round == 3


def _fail(asked: Asked, answer: Answer) -> None:
    raise SiteFault("no time")


def _other_layout(asked: Asked, answer: Answer) -> None:
    answer.header = wire.Header(answer.header.run, asked.header.round, answer.header.site, OTHER.digest)


def _flood(asked: Asked, answer: Answer) -> None:
    answer.metrics = {f"m{number}": 0.0 for number in range(513)}


def test_the_guard_asks_every_present_member_and_a_site_without_figures_has_no_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_time(monkeypatch)
    sites = {
        "a": TinySite(figures=first_number, spoil=_fail),
        "b": TinySite(figures=first_number, silent=[wire.MEASURE]),
        "c": TinySite(figures=first_number, spoil=_other_layout),
        "d": TinySite(figures=first_number, spoil=_flood),
        "e": TinySite(figures=says(float("nan"))),
        "f": TinySite(figures=first_number),
        "g": TinySite(figures=first_number),
        "away": TinySite(figures=first_number),
        "out": TinySite(figures=first_number),
    }
    tiny = Tiny(tmp_path, sites, held_out=["out"], away=["away"])
    tiny.state = tiny.fresh(["g", "away", "f", "e", "d", "c", "b", "a"])
    found = tiny.measure(7, [0.25, 3.0], 2.5)
    assert found == {"e": {}, "f": {METRIC: 0.25}, "g": {METRIC: 0.25}}
    assert [name for name, _ in tiny.tiny_grid.sent] == ["a", "b", "c", "d", "e", "f", "g"]
    [asked] = sites["f"].asked
    assert (asked.kind, asked.group, asked.ttl) == (wire.MEASURE, "guard", 2.5)
    assert asked.header == wire.Header(tiny.league.run, 7, layout=LAYOUT.digest)
    assert asked.vector is not None
    assert asked.vector.tolist() == [0.25, 3.0]


def test_the_guard_sends_no_model_where_the_sites_hold_it(tmp_path: Path) -> None:
    sites = {"a": TinySite(figures=says(0.5))}
    tiny = Tiny(tmp_path, sites)
    assert tiny.measure(1, None) == {"a": {METRIC: 0.5}}
    assert sites["a"].asked[0].vector is None


def test_every_order_of_the_sites_gives_the_same_verdict() -> None:
    before = {"a": 0.5, "b": 0.25, "c": 1.0}
    after = {"a": 0.25, "b": 0.25, "c": 0.25}
    found = {
        fall(figures(**{n: before[n] for n in names}), figures(**{n: after[n] for n in reversed(names)}))
        for names in permutations(before)
    }
    assert found == {0.5}
