"""A site at work on real arrays: stateless rounds, figures of the received model, and results on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from clients.trainer import Site, open_site
from common.errors import ConfigError, InputError
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from common.storage.run_folder import RunFolder
from simulations.runs.results import RunSummary


@pytest.fixture(scope="module")
def config(tiny_league: RunSummary) -> LeagueConfig:
    return RunFolder(tiny_league.run).config()


@pytest.fixture(scope="module")
def folders(tiny_league: RunSummary) -> dict[str, Path]:
    return {entry.name: Path(entry.folder) for entry in RunFolder(tiny_league.run).sites()}


@pytest.fixture(scope="module")
def sites(config: LeagueConfig, folders: dict[str, Path]) -> list[Site]:
    return [open_site(folder, config) for folder in folders.values()]


def test_all_sites_start_from_the_same_vector(sites: list[Site]) -> None:
    first = sites[0].initial()
    assert first.dtype == np.float32
    for site in sites[1:]:
        assert site.layout() == sites[0].layout()
        assert np.array_equal(site.initial(), first)


def test_a_site_counts_by_the_customers_it_learns_from(sites: list[Site]) -> None:
    for site in sites:
        log, until = site.dataset.log, site.dataset.split.valid_from
        events = zip(log.user, log.item, log.time, strict=True)
        seen = {user for user, item, time in events if item >= 0 and time < until}
        assert site.prepare() == {"users": float(len(seen))}
        assert len(seen) < len(site.dataset.user_ids)


def test_a_round_sent_again_gives_the_same_bytes(
    sites: list[Site], folders: dict[str, Path], config: LeagueConfig
) -> None:
    vector = sites[0].initial()
    first = sites[0].train(vector, 2)
    sites[0].train(vector, 1)
    again = open_site(folders[sites[0].name], config).train(vector, 2)
    assert first.update.tobytes() == again.update.tobytes()
    assert first.metrics == again.metrics
    assert np.array_equal(vector, sites[0].initial())
    assert np.abs(first.update).max() > 0
    assert sites[0].train(vector, 1).update.tobytes() != first.update.tobytes()
    assert sites[1].train(vector, 2).update.tobytes() != first.update.tobytes()


def test_what_a_linear_model_reads_of_a_customer_depends_on_no_other(
    config: LeagueConfig, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Features are scaled by the catalogue: with one customer's reviews gone, all others' stay the same numbers."""
    config = with_overrides(config, {"model.adapter": "linear"})
    folder = next(path for path in folders.values() if (path / "reviews.csv").exists())
    shutil.copytree(folder, tmp_path / "site")
    reviews = pl.read_csv(folder / "reviews.csv", infer_schema=False)
    gone = reviews["user_id"].drop_nulls()[0]
    reviews.filter(pl.col("user_id") != gone).write_csv(tmp_path / "site" / "reviews.csv")
    whole, less = (open_site(path, config).dataset for path in (folder, tmp_path / "site"))
    assert torch.equal(whole.items.text, less.items.text)
    assert torch.equal(whole.items.image, less.items.image)
    staying = whole.reviews.user != whole.user_ids.index(gone)
    assert 0 < staying.sum() < len(staying)
    assert torch.equal(whole.reviews.text[torch.from_numpy(staying)], less.reviews.text)


def test_figures_of_a_round_are_of_the_received_model(sites: list[Site]) -> None:
    vector = sites[0].initial()
    trained = vector + sites[0].train(vector, 1).update
    figures = {k: v for k, v in sites[0].train(trained, 2).metrics.items() if k.startswith("valid/")}
    assert figures == sites[0].measure(trained)
    assert set(figures) <= {"valid/ndcg@20", "valid/tower_ndcg@20", "valid/auc"}
    assert all(np.isfinite(v) and 0 <= v <= 1 for v in figures.values())


def test_the_learning_rate_falls_to_a_tenth(sites: list[Site]) -> None:
    tower = sites[0].tower
    assert tower is not None
    rates = [tower.learning_rate_scale(r) for r in range(1, 40)]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.1)


def test_results_lie_where_the_merchant_looks(tiny_league: RunSummary, sites: list[Site]) -> None:
    for site in sites:
        out = RunFolder(tiny_league.run).site_out(site.name)
        table = pl.read_parquet(out / "recommendations.parquet")
        assert set(table["item_id"]) <= set(site.dataset.item_ids)
        touched = {(site.dataset.user_ids[u], site.dataset.item_ids[i]) for u, i in zip(
            site.dataset.item_log.user, site.dataset.item_log.item, strict=True)}  # fmt: skip
        assert touched.isdisjoint(zip(table["user_id"], table["item_id"], strict=True))
        assert touched.issuperset(zip(table["user_id"], table["history_item_id"], strict=True))
        for _, mine in table.group_by("user_id"):
            assert mine["rank"].to_list() == list(range(1, len(mine) + 1))
            assert mine["score"].is_sorted(descending=True)
            assert mine["item_id"].n_unique() == len(mine) <= 10
        said = pl.read_parquet(out / "predictions.parquet")
        assert said["user_id"].n_unique() == len(said)
        for column in ("purchase_intent", "next_event_probability"):
            assert said[column].is_between(0, 1).all()
        final = json.loads((out / "final.json").read_text())
        assert {"federated", "fine_tuned", "league", "final"} == set(final["methods"])
        local = json.loads((out / "local.json").read_text())
        ranked = {"popularity", "item_knn", "ease", "no_training", "alone", "local"}
        assert set(local["methods"]) == ranked | {"logistic", "boosting", "active_days"}


def test_a_site_without_events_is_refused(
    folders: dict[str, Path], config: LeagueConfig, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(next(iter(folders.values())), bare)
    for path in bare.glob("events.*"):
        path.unlink()
    with pytest.raises(InputError, match="no events"):
        open_site(bare, config)


@pytest.mark.parametrize(
    ("split", "says"), [({"test_from": "soon"}, "no date"), ({"test_from": "1999-01-01"}, "order")]
)
def test_a_split_that_makes_no_sense_is_refused(
    folders: dict[str, Path], config: LeagueConfig, split: dict[str, str], says: str
) -> None:
    changed = config.model_copy(update={"split": config.split.model_copy(update=split)})
    with pytest.raises(ConfigError, match=says):
        open_site(next(iter(folders.values())), changed)


def test_encoders_from_scratch_learn_from_pictures_and_words_in_a_round(
    config: LeagueConfig, folders: dict[str, Path]
) -> None:
    """Pictures come read-only from the decoder, of which torch warns once a process unless it is told to always."""
    torch.set_warn_always(True)
    try:
        site = open_site(
            next(iter(folders.values())),
            with_overrides(config, {"model.encoders": "scratch", "model.image": True}),
        )
    finally:
        torch.set_warn_always(False)
    assert bool(site.dataset.items.has_image.any())
    first = site.initial()
    result = site.train(first, 1)
    assert np.isfinite(result.metrics["train/loss"])
    moved = site.layout().unflatten(result.update)
    for name in ("text_encoder.embed.weight", "image_encoder.layers.0.weight"):
        assert np.abs(moved[name]).max() > 0, name
