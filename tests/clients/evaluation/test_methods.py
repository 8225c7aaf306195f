"""What each method is worth: from which window each of its parts comes, and what is written of it."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from clients.data.dataset import SiteDataset
from clients.evaluation.blend import Scorer, choose_weights
from clients.evaluation.heads import (
    behaviour_logits,
    behaviour_metrics,
    content_metrics,
    next_event_accuracy,
    rows_of,
)
from clients.evaluation.methods import (
    EASE_START,
    HYBRID_START,
    KNN_START,
    Results,
    compare_alone,
    deploy,
    judge_model,
)
from clients.evaluation.scorers import (
    Tuned,
    Windows,
    chosen_blends,
    cosine_scorer,
    deployed_scorer,
    ease_scorer,
    neighbour_scorer,
    popularity_scorer,
    rank,
    ranker_scorer,
    windows,
)
from clients.signals.home import ALONE, JOINED, JOINED_PRIVATE, fit_alone, fit_joined
from clients.signals.learning import Learning
from clients.signals.names import COLUMNS, START
from clients.signals.ranker import ALL
from clients.signals.table import SignalTable
from common.models.model import HansaModel, build_model
from tests.clients.five_users import CONFIG as TINY
from tests.clients.five_users import EVENTS, Event, day, tiny_site
from tests.clients.small_site import CONFIG, IMAGE, TEXT, drawn_site

TUNED = Tuned(half_life_d=3.0, shrinkage=2.0)
BOUGHT: list[Event] = [
    (0, "purchase", 6, 15.0),
    (2, "purchase", 4, 15.0),
    (3, "purchase", 1, 16.0),
    (3, "purchase", 3, 16.0),
]


@pytest.fixture(scope="module")
def site() -> SiteDataset:
    """New users come in both windows, so that there are baskets to complete."""
    return drawn_site(1, n_users=120, n_items=30, events=600)


@pytest.fixture(scope="module")
def seen(site: SiteDataset) -> Windows:
    return windows(site, CONFIG)


@pytest.fixture(autouse=True)
def few_rows_choose_a_blend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than there are, so that the seed of the draw has a say."""
    monkeypatch.setattr(sys.modules[choose_weights.__module__], "MAX_ROWS", 12)


def model_of(seed: int) -> HansaModel:
    return build_model(CONFIG.model, TEXT, IMAGE, seed=seed)


def ranked(site: SiteDataset, seen: Windows, returning: Scorer, basket: Scorer) -> dict[str, float]:
    figures = rank(site, seen.test[0], returning).summary()
    return figures | {f"basket_{n}": v for n, v in rank(site, seen.test[1], basket).summary().items()}


def tiny_windows() -> tuple[SiteDataset, Windows]:
    site = tiny_site(EVENTS + BOUGHT)
    return site, windows(site, TINY)


def by_number(site: SiteDataset, sign: int) -> Scorer:
    """The items by their number, or against it."""
    scores = sign * np.arange(site.n_items, dtype=np.float32)[None, :]
    return lambda rows, chunk: scores


def test_both_kinds_are_ranked_by_hand() -> None:
    site, seen = tiny_windows()
    results = Results(seen)
    results.rank("down", site, by_number(site, 1), by_number(site, -1))
    figures, rows = results.methods["down"], results.rows["down"]
    # User 0 knows 0 to 4 and wants 6, the first of two; user 2 knows 0, 1, 2, 3 and 6 and wants 4, after 5.
    second = 1 / math.log2(3)
    assert rows["returning"] == pytest.approx([1.0, second])
    assert figures["ndcg@20"] == pytest.approx((1 + second) / 2)
    # User 3 buys 1 and 3; from item 0 on, the hidden 1 comes second and the hidden 3 third.
    hidden = int(seen.test[1].wanted[1][0])
    place = {1: 2, 3: 3}[hidden]
    assert rows["basket_"] == pytest.approx([1 / math.log2(place + 1)])
    assert figures["basket_mrr@10"] == pytest.approx(1 / place)
    names = {n.removeprefix("basket_") for n in figures if n.startswith("basket_")}
    assert names == {n for n in figures if not n.startswith("basket_")}
    assert results.figures()["rows/returning"] == 2.0
    assert results.figures()["rows/basket"] == 1.0


def test_ranking_again_adds_to_a_method_and_replaces_its_figures() -> None:
    site, seen = tiny_windows()
    results = Results(seen)
    results.add("a", {"auc": 0.75})
    results.rank("a", site, by_number(site, 1), by_number(site, 1))
    results.rank("a", site, by_number(site, -1), by_number(site, -1))
    results.add("a", {"extra": 2.0})
    other = Results(seen)
    other.rank("a", site, by_number(site, -1), by_number(site, -1))
    assert results.methods["a"] == {"auc": 0.75, "extra": 2.0} | other.methods["a"]
    assert set(results.rows["a"]) == {"returning", "basket_"}
    assert results.methods is not other.methods


def test_without_test_rows_there_are_no_ranking_figures() -> None:
    site = tiny_site(EVENTS)
    results = Results(windows(site, TINY))
    results.rank("a", site, by_number(site, 1), by_number(site, 1))
    assert results.methods["a"] == {}
    assert [values.tolist() for values in results.rows["a"].values()] == [[], []]
    assert results.figures() == {"rows/returning": 0.0, "rows/basket": 0.0}


def test_figures_are_finite_and_the_file_says_null(tmp_path: Path) -> None:
    site, seen = tiny_windows()
    results = Results(seen)
    results.add("m", {"auc": 0.5, "gauc": math.nan, "log_loss": math.inf})
    assert results.figures() == {"m/auc": 0.5, "rows/returning": 2.0, "rows/basket": 1.0}
    results.rows["m"] = {"returning": np.array([0.12345678, 1.0]), "basket_": np.zeros(0)}
    results.calibration = [{"bin": 0, "predicted": 0.1, "observed": 0.25, "count": 4}]
    path = tmp_path / "a" / "b" / "results.json"
    results.write(path)
    results.write(path)
    assert json.loads(path.read_text()) == {
        "rows": {"returning": 2, "basket": 1},
        "methods": {"m": {"auc": 0.5, "gauc": None, "log_loss": None}},
        "calibration": [{"bin": 0, "predicted": 0.1, "observed": 0.25, "count": 4}],
        "ndcg@20_by_row": {"m": {"returning": [0.123457, 1.0], "basket_": []}},
    }
    assert site.n_items == 7


def test_results_of_two_sites_share_nothing() -> None:
    _, seen = tiny_windows()
    first, second = Results(seen), Results(seen)
    first.add("m", {"auc": 0.5})
    first.calibration.append({"bin": 1.0})
    assert (second.methods, second.rows, second.calibration) == ({}, {}, [])


def behaviour_figures(model: HansaModel, site: SiteDataset) -> dict[str, float]:
    rows = rows_of(site, site.split.test_from, site.split.until)
    logits = behaviour_logits(model, site, rows, CONFIG)
    figures = behaviour_metrics(1 / (1 + np.exp(-logits[:, 0])), rows)
    figures |= {"next_event_accuracy": next_event_accuracy(logits, rows)}
    return figures | content_metrics(model, site, site.split.test_from)


def test_a_model_is_judged_on_the_test_window(site: SiteDataset, seen: Windows) -> None:
    results, model = Results(seen), model_of(3)
    judge_model(results, "local", model, site, CONFIG, TUNED)
    scorer = deployed_scorer(model, site, CONFIG, site.split.test_from, 3.0)
    truth = ranked(site, seen, scorer, scorer) | behaviour_figures(model, site)
    assert set(results.methods) == {"local"}
    assert results.methods["local"] == pytest.approx(truth)
    assert all(math.isfinite(value) for value in results.methods["local"].values())
    assert len(truth) > 20


def test_what_a_merchant_could_deploy_alone_is_chosen_before_the_test_window(
    site: SiteDataset, seen: Windows
) -> None:
    results, learning = Results(seen), Learning(site, CONFIG)
    compare_alone(results, site, learning, TUNED)
    cos, pairs = cosine_scorer(site), []
    for at in (seen.valid_from, seen.test_from):
        pop, knn = popularity_scorer(site, at, 3.0), neighbour_scorer(site, at, 2.0)
        pairs.append({
            "popularity": (pop,), "item_knn": (knn, pop), "ease": (ease_scorer(SignalTable(site, at)), pop),
            "no_training": (cos, knn, pop),
        })  # fmt: skip
    starts = {"popularity": (1.0,), "item_knn": KNN_START, "ease": EASE_START, "no_training": HYBRID_START}
    for method, start in starts.items():
        valid, test = chosen_blends(site, seen, (pairs[0][method], pairs[1][method]), start)
        found = dict(results.methods[method])
        rows = [
            rank(site, r, s).per_row()["ndcg@20"] for r, s in zip(seen.valid, valid, strict=True) if len(r)
        ]
        assert found.pop("valid_ndcg@20") == pytest.approx(np.concatenate(rows).mean())
        assert found == pytest.approx(ranked(site, seen, *test)), method
    alone = fit_alone(learning.before, learning.valid, np.stack([START, START]), ALONE)
    found = results.methods["alone"]
    assert (found.pop("strength"), found.pop("tower")) == (alone.strength, 0.0)
    assert found.pop("valid_ndcg@20") > 0
    assert found == pytest.approx(ranked(site, seen, *ranker_scorer(learning.at_test, alone.weights)))
    assert list(results.methods) == [*starts, "alone"]


@pytest.mark.parametrize("private", [False, True])
def test_what_is_deployed_is_the_leagues_weights_fitted_on_at_home(
    site: SiteDataset, seen: Windows, private: bool
) -> None:
    results, learning = Results(seen), Learning(site, CONFIG)
    league = ALL.weights(np.random.default_rng(0).normal(size=ALL.size))
    found = deploy(results, site, learning, league, private=private)
    truth = fit_joined(learning.every, league, private)
    assert np.array_equal(found.weights, truth)
    assert np.array_equal(found.league, league)
    assert not np.array_equal(truth, league)
    at_test = SignalTable(site, seen.test_from)
    assert results.methods == {
        "league": pytest.approx(ranked(site, seen, *ranker_scorer(at_test, league))),
        "final": pytest.approx(ranked(site, seen, *ranker_scorer(at_test, truth)) | {"tower": 0.0}),
    }
    with pytest.raises(FrozenInstanceError):
        found.weights = league  # type: ignore[misc]


def test_each_kind_of_row_has_its_own_weights(site: SiteDataset, seen: Windows) -> None:
    table, weights = (
        SignalTable(site, seen.test_from),
        np.random.default_rng(1).normal(size=(2, len(COLUMNS))),
    )
    for kind, scorer in enumerate(ranker_scorer(table, weights)):
        rows = seen.test[kind]
        whole = slice(0, len(rows))
        assert np.array_equal(scorer(rows, whole), table.scores(rows, whole, weights[kind]))


def test_strengths_and_starts_are_public_and_in_order() -> None:
    assert len(KNN_START) == len(EASE_START) == 2
    assert len(HYBRID_START) == 3
    assert all(
        weight > 0 for weight in (*KNN_START, *EASE_START, *HYBRID_START, *ALONE, JOINED, JOINED_PRIVATE)
    )
    assert list(ALONE) == sorted(ALONE)


def test_another_test_window_changes_nothing_that_was_chosen(site: SiteDataset) -> None:
    """All from the test window on comes a day later: what was chosen before stays as it was."""
    late = site.log.time + np.where(site.log.time >= site.split.test_from, day(1) - day(0), 0)
    league, found = ALL.weights(np.random.default_rng(0).normal(size=ALL.size)), []
    for each in (site, replace(site, log=replace(site.log, time=late))):
        results, learning = Results(windows(each, CONFIG)), Learning(each, CONFIG)
        compare_alone(results, each, learning, TUNED)
        chosen = {m: f.get("valid_ndcg@20") for m, f in results.methods.items()}
        found.append(
            (
                chosen,
                results.methods["alone"]["strength"],
                deploy(results, each, learning, league, private=False),
            )
        )
    (chosen, strength, deployed), (chosen_late, strength_late, deployed_late) = found
    assert chosen == chosen_late
    assert strength == strength_late
    assert np.array_equal(deployed.weights, deployed_late.weights)
