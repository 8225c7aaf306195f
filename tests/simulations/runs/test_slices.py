"""Parts of a league: only what was measured, against an opponent that is named."""

from __future__ import annotations

import pytest

from simulations.runs.slices import behaviour, slices
from tests.simulations.runs.results import flat, result


def test_each_kind_of_customer_has_its_row() -> None:
    site = result(
        {
            "final": {"returning": [0.3] * 20, "basket_": [0.1] * 20},
            "alone": {"returning": [0.2] * 20, "basket_": [0.2] * 20},
        },
        {"alone": 0.1},
    )
    rows = {row["slice"]: row for row in slices([site], [])}
    assert set(rows) == {"returning", "new_customers"}
    assert (rows["returning"]["ratio"], rows["returning"]["verdict"]) == (pytest.approx(1.5), "paid")
    assert (rows["new_customers"]["ratio"], rows["new_customers"]["verdict"]) == (
        pytest.approx(0.5),
        "did not pay",
    )


def test_what_is_deployed_is_held_against_the_stricter_opponent() -> None:
    rows = {"final": 0.3, "alone": 0.25, "item_knn": 0.1}
    site = result({m: {"returning": [v] * 20} for m, v in rows.items()}, {"alone": 0.2, "item_knn": 0.5})
    (row,) = slices([site], [])
    assert (row["against"], row["ratio"]) == ("alone", pytest.approx(1.2))


def test_a_newcomer_is_held_against_the_best_it_has_and_its_first_day_against_both() -> None:
    rows = slices([], [flat(0.3, 0.2, league=0.24, no_training=0.12)])
    assert [(row["method"], row["against"], round(row["ratio"], 3)) for row in rows] == [
        ("final", "alone", 1.5), ("league", "alone", 1.2), ("league", "no_training", 2.0),
    ]  # fmt: skip
    assert [row["slice"] for row in rows] == ["joiners", "first_day", "first_day"]


def test_nothing_measured_no_row() -> None:
    assert slices([result({})], [result({})]) == []
    assert slices([], []) == []


def sites(*losses: dict[str, float]) -> list[dict[str, object]]:
    return [result({}, losses=each) for each in losses]


def test_behaviour_is_held_against_the_best_method_at_home() -> None:
    row = behaviour(
        "behaviour",
        sites(*[{"final": 0.3, "logistic": 0.4, "boosting": 0.32, "alone": 0.33, "federated": 0.2}] * 3),
    )
    assert row is not None
    assert (row["method"], row["against"], row["merchants"]) == ("final", "boosting", 3)
    assert row["ratio"] == pytest.approx(0.9375)
    assert row["verdict"] == "paid"


def test_of_behaviour_a_lower_loss_pays_and_an_unsure_one_does_not() -> None:
    worse = behaviour("behaviour", sites(*[{"federated": 0.5, "logistic": 0.4}] * 3))
    unsure = behaviour(
        "behaviour",
        sites({"federated": 0.5, "logistic": 0.4}, {"federated": 0.3, "logistic": 0.4}),
    )
    single = behaviour("behaviour", sites({"federated": 0.3, "logistic": 0.4}))
    assert worse is not None
    assert unsure is not None
    assert single is not None
    assert (worse["verdict"], unsure["verdict"], single["verdict"]) == (
        "did not pay",
        "no difference",
        "no difference",
    )


def test_merchants_without_both_figures_do_not_count() -> None:
    row = behaviour("behaviour", sites({"federated": 0.3, "logistic": 0.4}, {"logistic": 0.1}))
    assert row is not None
    assert (row["merchants"], row["theirs"]) == (1, pytest.approx(0.4))
    assert behaviour("behaviour", sites({"logistic": 0.4})) is None
    assert behaviour("behaviour", sites({"federated": 0.4})) is None
