"""The tower counts beside the ranker only where the validation window shows that it pays."""

from __future__ import annotations

import numpy as np
import pytest

from clients.data.dataset import SiteDataset
from clients.evaluation import with_tower as module
from clients.evaluation.blend import Scorer
from clients.evaluation.scorers import Windows, rank, windows
from clients.evaluation.with_tower import WEIGHTS, Towers, tower_weight, with_tower
from common.models.model import build_model
from tests.clients.small_site import CONFIG, IMAGE, TEXT, drawn_site, with_other_future


@pytest.fixture(scope="module")
def site() -> SiteDataset:
    return drawn_site(1, n_users=150, n_items=60, events=1200)


@pytest.fixture(scope="module")
def seen(site: SiteDataset) -> Windows:
    return windows(site, CONFIG)


MODEL = build_model(CONFIG.model, TEXT, IMAGE, seed=3)
TOWERS = Towers(MODEL, MODEL)


def noise(site: SiteDataset, seed: int) -> Scorer:
    scores = np.random.default_rng(seed).normal(size=(400, site.n_items)).astype(np.float32)
    return lambda rows, chunk: scores[rows.user[chunk]]


def oracle(site: SiteDataset, size: float) -> Scorer:
    """Scores that know what is wanted."""
    return lambda rows, chunk: (
        np.float32(size) * rows.mask(rows.wanted, chunk, site.n_items).astype(np.float32)
    )


def asked(monkeypatch: pytest.MonkeyPatch, site: SiteDataset, seen: Windows, tower: Scorer) -> float:
    monkeypatch.setattr(module, "tower_scorer", lambda model, site: tower)
    ranker = noise(site, 0)
    return tower_weight(site, seen, (ranker, ranker), TOWERS)


def test_a_tower_that_knows_nothing_stays_out(
    monkeypatch: pytest.MonkeyPatch, site: SiteDataset, seen: Windows
) -> None:
    assert WEIGHTS[0] == 0.0
    assert [asked(monkeypatch, site, seen, noise(site, seed)) for seed in (5, 6, 7)] == [0.0] * 3


def test_a_tower_that_knows_more_counts_and_ranks_better(
    monkeypatch: pytest.MonkeyPatch, site: SiteDataset, seen: Windows
) -> None:
    tower = oracle(site, 3.0)
    found = asked(monkeypatch, site, seen, tower)
    assert found > 0
    ranker = noise(site, 0)
    with_it = with_tower((ranker, ranker), tower, found)
    better, plain = (rank(site, seen.test[0], s).per_row()["ndcg@20"].mean() for s in (with_it[0], ranker))
    assert better > plain


def test_without_a_tower_or_rows_it_counts_nothing(site: SiteDataset, seen: Windows) -> None:
    ranker = (noise(site, 0), noise(site, 1))
    assert tower_weight(site, seen, ranker, None) == 0.0
    none = Windows((seen.valid[0].sample(0, 0), seen.valid[1].sample(0, 0)), seen.test, 0, 1)
    assert tower_weight(site, none, ranker, TOWERS) == 0.0
    assert with_tower(ranker, oracle(site, 1.0), 0.0) is ranker


def test_the_test_window_has_no_say(site: SiteDataset) -> None:
    found = []
    for each in (site, with_other_future(site, site.split.test_from, 5)):
        ranker = (noise(each, 0), noise(each, 1))
        found.append(tower_weight(each, windows(each, CONFIG), ranker, TOWERS))
    assert found[0] == found[1]
