"""What each method is worth: from which window each of its parts comes, and what is written of it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from clients.data.dataset import SiteDataset
from clients.evaluation.blend import Scorer, blend, fit_weights
from clients.evaluation.heads import (
    Calibration,
    behaviour_logits,
    behaviour_metrics,
    content_metrics,
    logistic_metrics,
    next_event_accuracy,
    reliability_bins,
    rows_of,
)
from clients.evaluation.methods import (
    FINAL_PRIOR,
    HYBRID_PRIOR,
    KNN_PRIOR,
    Deployment,
    Results,
    baselines,
    deploy,
    judge_model,
)
from clients.evaluation.scorers import (
    Tuned,
    Windows,
    cosine_scorer,
    deployed_scorer,
    fitted_blends,
    neighbour_scorer,
    popularity_scorer,
    rank,
    tower_scorer,
    windows,
)
from clients.training.samples import derived_seed
from common.models.model import HansaModel, build_model
from tests.clients.five_users import CONFIG as TINY
from tests.clients.five_users import EVENTS, Event, day, linear_model, tiny_site
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
def few_rows_fit_a_blend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than there are, so that the seed of the draw has a say."""
    monkeypatch.setattr(sys.modules[fit_weights.__module__], "MAX_ROWS", 12)


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


def behaviour_figures(model: HansaModel, site: SiteDataset, chances_of: Calibration) -> dict[str, float]:
    rows = rows_of(site, site.split.test_from, site.split.until)
    logits = behaviour_logits(model, site, rows, CONFIG)
    figures = behaviour_metrics(chances_of(logits[:, 0]), rows)
    figures |= {"next_event_accuracy": next_event_accuracy(logits, rows)}
    return figures | content_metrics(model, site, site.split.test_from)


def test_a_model_is_judged_on_the_test_window(site: SiteDataset, seen: Windows) -> None:
    results, model = Results(seen), model_of(3)
    judge_model(results, "local", model, site, CONFIG, TUNED)
    scorer = deployed_scorer(model, site, CONFIG, site.split.test_from, 3.0)
    truth = ranked(site, seen, scorer, scorer) | behaviour_figures(model, site, Calibration())
    assert set(results.methods) == {"local"}
    assert results.methods["local"] == pytest.approx(truth)
    assert all(math.isfinite(value) for value in results.methods["local"].values())
    assert len(truth) > 20


def test_baselines_are_fitted_before_the_validation_window(site: SiteDataset, seen: Windows) -> None:
    results = Results(seen)
    baselines(results, site, CONFIG, TUNED)
    pop_v, knn_v = popularity_scorer(site, seen.valid_from, 3.0), neighbour_scorer(site, seen.valid_from, 2.0)
    pop_t, knn_t = popularity_scorer(site, seen.test_from, 3.0), neighbour_scorer(site, seen.test_from, 2.0)
    cos, seed = cosine_scorer(site), derived_seed(CONFIG.seed, site.name, "blend")
    knn, _ = fitted_blends(site, seen, (knn_v, pop_v), (knn_t, pop_t), (1.0, 1.0), seed)
    hybrid, _ = fitted_blends(site, seen, (cos, knn_v, pop_v), (cos, knn_t, pop_t), (0.6, 0.6, 0.8), seed)
    assert list(results.methods) == ["popularity", "item_knn", "no_training", "logistic"]
    assert results.methods["popularity"] == pytest.approx(ranked(site, seen, pop_t, pop_t))
    assert results.methods["item_knn"] == pytest.approx(ranked(site, seen, *knn))
    assert results.methods["no_training"] == pytest.approx(ranked(site, seen, *hybrid))
    assert results.methods["logistic"] == pytest.approx(logistic_metrics(site))


def by_hand(site: SiteDataset, seen: Windows, models: tuple[HansaModel, HansaModel]) -> Iterator[Scorer]:
    """The final blends: towers, cosine, neighbours, popularity; each kind of row near the joint fit."""
    seed = derived_seed(CONFIG.seed, site.name, "final")
    at_valid, at_test = (
        (
            tower_scorer(model, site),
            cosine_scorer(site),
            neighbour_scorer(site, instant, 2.0),
            popularity_scorer(site, instant, 3.0),
        )
        for model, instant in zip(models, (seen.valid_from, seen.test_from), strict=True)
    )
    joint = fit_weights(at_valid, seen.valid, site.n_items, (0.6, 0.6, 0.4, 0.6), seed)
    for rows in seen.valid:
        yield blend(
            at_test, fit_weights(at_valid, [rows], site.n_items, np.maximum(joint, 0.02).tolist(), seed)
        )


def test_the_final_method_is_fitted_on_validation_and_measured_on_test(
    site: SiteDataset, seen: Windows
) -> None:
    results, models = Results(seen), (model_of(3), model_of(4))
    found = deploy(results, Deployment(*models, TUNED), site, CONFIG)
    returning, basket = by_hand(site, seen, models)
    rows = rows_of(site, site.split.valid_from, site.split.test_from)
    calibration = Calibration.fit(behaviour_logits(models[0], site, rows, CONFIG)[:, 0], rows.intent)
    truth = ranked(site, seen, returning, basket) | behaviour_figures(models[1], site, calibration)
    assert results.methods == {"final": pytest.approx(truth)}
    assert found.calibration == calibration
    assert found.tuned is TUNED
    assert [len(weights) for weights in found.weights] == [4, 4]
    asked = rows_of(site, site.split.test_from, site.split.until)
    chances = calibration(behaviour_logits(models[1], site, asked, CONFIG)[:, 0])
    assert results.calibration == reliability_bins(chances, asked.intent)
    with pytest.raises(FrozenInstanceError):
        found.tuned = TUNED  # type: ignore[misc]


def test_weights_of_the_final_method_are_of_returning_rows_then_baskets(
    site: SiteDataset, seen: Windows
) -> None:
    found = deploy(Results(seen), Deployment(model_of(3), model_of(4), TUNED), site, CONFIG)
    pop, knn, cos = TUNED.scorers(site, seen.valid_from)
    at_valid = (tower_scorer(model_of(3), site), cos, knn, pop)
    seed = derived_seed(CONFIG.seed, site.name, "final")
    _, weights = fitted_blends(site, seen, at_valid, at_valid, FINAL_PRIOR, seed)
    for mine, truth in zip(found.weights, weights, strict=True):
        assert np.array_equal(mine, truth)
    assert not np.array_equal(*weights)


def test_priors_are_the_leagues_public_defaults() -> None:
    assert KNN_PRIOR == (1.0, 1.0)
    assert HYBRID_PRIOR == (0.6, 0.6, 0.8)
    assert FINAL_PRIOR == (0.6, 0.6, 0.4, 0.6)


def test_parts_to_deploy_cannot_be_replaced() -> None:
    parts = Deployment(linear_model(), linear_model(), TUNED)
    with pytest.raises(FrozenInstanceError):
        parts.tuned = TUNED  # type: ignore[misc]


def test_another_test_window_changes_no_weight(site: SiteDataset) -> None:
    """All from the test window on comes a day later: what was chosen before stays as it was."""
    late = site.log.time + np.where(site.log.time >= site.split.test_from, day(1) - day(0), 0)
    found = []
    for each in (site, replace(site, log=replace(site.log, time=late))):
        parts = Deployment(model_of(3), model_of(4), TUNED)
        found.append(deploy(Results(windows(each, CONFIG)), parts, each, CONFIG))
    for first, second in zip(found[0].weights, found[1].weights, strict=True):
        assert np.array_equal(first, second)
    assert found[0].calibration == found[1].calibration
