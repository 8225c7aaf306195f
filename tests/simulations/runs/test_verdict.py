"""Verdicts by hand: who the opponent is, what the league brought, what to do next, and what it cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.signals.names import COLUMNS, START
from common.files import append_line, write_json
from common.settings.config import LeagueConfig
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.runs.paired import Gain
from simulations.runs.verdict import (
    chosen_alone,
    headline,
    next_step,
    opponent_of,
    shared_weight,
    traffic_of,
    verdict_of,
    verdicts,
)
from tests.simulations.runs.results import flat, result

SITE = SiteEntry("alder", "Alder", "sites/alder")


def gain(value: float, low: float, high: float) -> Gain:
    return Gain(0.2 * (1 + value), 0.2, low, high, 40)


@pytest.mark.parametrize(
    ("valid", "chosen"),
    [
        ({"alone": 0.2, "ease": 0.3, "item_knn": 0.25}, "ease"),
        ({"alone": 0.3, "ease": 0.3}, "alone"),  # a tie
        ({"alone": 0.0, "popularity": 0.0}, "alone"),
        ({"alone": None, "ease": 0.2}, "ease"),
        ({"alone": None, "ease": None}, "alone"),
        ({}, "alone"),
    ],
)
def test_the_opponent_is_chosen_by_validation(valid: dict[str, float | None], chosen: str) -> None:
    assert chosen_alone(result({}, valid)["at_home"]) == chosen


def test_what_the_test_window_says_does_not_choose() -> None:
    rows = {"final": 0.3, "alone": 0.2, "ease": 0.1, "popularity": 0.29}
    site = result(
        {m: {"returning": [v] * 20} for m, v in rows.items()}, {"alone": 0.2, "ease": 0.1, "popularity": 0.1}
    )
    name, found = opponent_of(site)
    assert name == "alone"
    assert found is not None
    assert found.gain == pytest.approx(0.5)


def test_a_choice_that_validation_flattered_does_not_make_joining_pay() -> None:
    """The ranker at home is an opponent everywhere, and the stricter one counts."""
    rows = {"final": 0.2, "alone": 0.25, "item_knn": 0.1}
    site = result({m: {"returning": [v] * 20} for m, v in rows.items()}, {"alone": 0.2, "item_knn": 0.5})
    row = verdict_of(SITE, site, newcomers_gain=False)
    assert (row["chosen_by_validation"], row["best_alone"]) == ("item_knn", "alone")
    assert row["verdict"] == "did not pay"
    assert row["together"]["gain"] == pytest.approx(-0.2)
    league = headline([site])
    assert league is not None
    assert (league["against"], league["ratio"]) == ("alone", pytest.approx(0.8))
    assert league["over"]["best_alone"]["ratio"] == pytest.approx(2.0)


def test_both_kinds_stand_apart_and_together() -> None:
    rows = {
        "final": {"returning": [0.4] * 30, "basket_": [0.1] * 10},
        "alone": {"returning": [0.2] * 30, "basket_": [0.2] * 10},
    }
    row = verdict_of(SITE, result(rows, {"alone": 0.1}), newcomers_gain=False)
    assert row["returning"]["gain"] == pytest.approx(1.0)
    assert row["baskets"]["gain"] == pytest.approx(-0.5)
    assert row["together"]["gain"] == pytest.approx(0.25)
    assert (row["verdict"], row["next_step"]["code"]) == ("paid", "join")


def test_a_kind_with_too_few_customers_does_not_count() -> None:
    rows = {
        "final": {"returning": [0.4] * 30, "basket_": [0.0] * 9},
        "alone": {"returning": [0.2] * 30, "basket_": [0.2] * 9},
    }
    row = verdict_of(SITE, result(rows, {"alone": 0.1}), newcomers_gain=False)
    assert row["baskets"] is None
    assert row["together"] == row["returning"]


def test_a_merchant_without_customers_in_the_test_is_told_so() -> None:
    row = verdict_of(SITE, flat(0.3, 0.2, rows=5), newcomers_gain=True)
    assert (row["verdict"], row["together"], row["next_step"]["code"]) == (None, None, "no_log")
    assert headline([flat(0.3, 0.2, rows=5)]) is None


@pytest.mark.parametrize(
    ("found", "own_fit", "newcomers", "code"),
    [
        (None, True, True, "no_log"),
        (gain(0.1, 0.02, 0.2), True, False, "join"),
        (gain(0.1, -0.02, 0.2), True, True, "measure_again"),
        (gain(0.1, -0.02, 0.2), False, True, "join_thin"),
        (gain(0.1, -0.02, 0.2), False, False, "measure_again"),
        (gain(-0.02, -0.1, 0.2), False, True, "stay_out"),
        (gain(-0.1, -0.2, -0.05), False, True, "stay_out"),
        (gain(0.001, -0.01, 0.015), False, True, "stay_out"),  # the most that it can bring isn't worth having
    ],
)
def test_the_next_step(found: Gain | None, own_fit: bool, newcomers: bool, code: str) -> None:
    assert next_step(found, own_fit, newcomers) == code


@given(st.floats(-1, 2), st.floats(-1, 2), st.floats(-1, 2), st.booleans(), st.booleans())
def test_joining_is_advised_as_proven_only_where_it_is(
    value: float, one: float, two: float, own_fit: bool, newcomers: bool
) -> None:
    low, high = sorted((one, two))
    assert (next_step(gain(value, low, high), own_fit, newcomers) == "join") == (low > 0)


def test_the_words_of_a_step_name_the_method_in_both_languages() -> None:
    step = verdict_of(SITE, flat(0.1, 0.2), newcomers_gain=False)["next_step"]
    assert step["code"] == "stay_out"
    assert "The ranker, alone" in step["en"]
    assert "排序器，独自拟合" in step["zh"]


def test_the_headline_is_the_mean_over_merchants_that_have_enough_customers() -> None:
    league = headline([flat(0.3, 0.2), flat(0.1, 0.1), flat(0.9, 0.1, rows=3)])
    assert league is not None
    assert (league["ratio"], league["merchants"], league["rows"]) == (pytest.approx(4 / 3), 2, 40)
    assert "non_private" not in league["over"]


def test_what_privacy_costs_stands_beside_it() -> None:
    league = headline([flat(0.3, 0.2, non_private=0.4)])
    assert league is not None
    assert league["over"]["non_private"]["ratio"] == pytest.approx(0.75)
    assert league["against"] == "alone"


def test_without_comparison_nothing_is_said() -> None:
    assert headline([result({"final": {"returning": [0.1] * 20}})]) is None


def folder_of(root: Path, sites: list[SiteEntry], config: LeagueConfig | None = None) -> RunFolder:
    folder = RunFolder(root)
    folder.create(config or LeagueConfig(), sites)
    return folder


@pytest.mark.parametrize(
    ("league", "own", "share"), [(3.0, 1.0, 0.75), (0.0, 2.0, 0.0), (2.0, 0.0, 1.0), (0.0, 0.0, None)]
)
def test_how_much_came_from_the_league(
    tmp_path: Path, league: float, own: float, share: float | None
) -> None:
    folder = folder_of(tmp_path, [SITE])
    away = np.zeros((2, len(COLUMNS)))
    away[0, 1] = 1.0
    shared = START + league * away
    document = {"columns": COLUMNS, "league": shared.tolist(), "weights": (shared - own * away).tolist()}
    write_json(folder.site_out("alder") / "private.json", document)
    found = shared_weight(folder, "alder")
    assert found is None if share is None else found == pytest.approx(share)
    write_json(folder.site_out("alder") / "private.json", document | {"columns": ["another"]})
    assert shared_weight(folder, "alder") is None
    assert shared_weight(folder, "birch") is None


def test_bytes_are_of_the_rounds_that_a_site_took_part_in() -> None:
    rounds = [
        {"cohort": ["alder", "birch"], "bytes": {"up": 100, "down": 400}},
        {"cohort": ["birch"], "bytes": {"up": 30, "down": 40}},
    ]
    assert traffic_of("alder", rounds) == {"bytes_up": 50, "bytes_down": 200}
    assert traffic_of("birch", rounds) == {"bytes_up": 80, "bytes_down": 240}
    assert traffic_of("fir", rounds) == {"bytes_up": 0, "bytes_down": 0}


def test_rows_hold_costs_and_those_left_out_of_training_come_last(tmp_path: Path) -> None:
    config = load_config({"privacy": {"mode": "user", "epsilon": 3.0}})
    folder = folder_of(tmp_path, [SiteEntry("aa", "New", "x", held_out=True), SITE], config)
    append_line(folder.rounds_file, {"round": 1, "cohort": ["alder"], "bytes": {"up": 7, "down": 9}})
    rows = verdicts(folder, {"aa": flat(0.3, 0.2), "alder": flat(0.2, 0.2)})
    assert [(row["site"], row["held_out"]) for row in rows] == [("alder", False), ("aa", True)]
    assert (rows[0]["bytes_up"], rows[0]["bytes_down"]) == (7, 9)
    assert rows[0]["epsilon"] == pytest.approx(3.0, rel=0.02)
    assert rows[1]["epsilon"] is None
    assert (rows[0]["next_step"]["code"], rows[1]["next_step"]["code"]) == ("stay_out", "join")
