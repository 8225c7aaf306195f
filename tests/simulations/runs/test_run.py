"""A whole league end to end: every method is measured, a finished run stays as it is, and it answers questions."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from common.errors import ConfigError, InputError, RunError
from common.files import read_lines
from common.reports.words import NEXT_STEPS
from common.storage.run_folder import RunFolder
from simulations.runs import serve
from simulations.runs.paired import MIN_ROWS
from simulations.runs.results import RunSummary
from simulations.runs.run import resume, simulate
from simulations.setup.options import SimulateOptions
from tests.conftest import TINY_BAZAAR, TINY_TRAINING

METHODS = {
    "popularity", "item_knn", "ease", "no_training", "alone", "league", "final", "local", "federated",
    "fine_tuned", "centralised",
}  # fmt: skip
RANKING = {
    "ndcg@10", "ndcg@20", "recall@10", "recall@20", "capped_recall@20",
    "hr@10", "mrr@10", "coverage@20", "diversity@20",
}  # fmt: skip
BEHAVIOUR = {"auc", "log_loss"}


def files_of(root: Path) -> dict[str, bytes]:
    """All of a run but `live.json`, which says what its process does at this moment."""
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "live.json"]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.fixture
def copied(tiny_league: RunSummary, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(tiny_league.run, tmp_path / "run"))


def test_every_method_has_every_ranking_figure_at_every_site(tiny_league: RunSummary) -> None:
    metrics: dict[str, Any] = json.loads((tiny_league.run / "metrics.json").read_text())
    assert set(metrics) >= METHODS
    assert len(tiny_league.sites) == 3
    assert len(tiny_league.held_out) == 1
    for method in METHODS:
        assert set(metrics[method]) >= RANKING, method
        for name, figure in metrics[method].items():
            assert set(figure["sites"]) <= set(tiny_league.sites)
            values = list(figure["sites"].values())
            assert all(math.isfinite(v) for v in values)
            assert min(values) - 1e-9 <= figure["macro"] <= max(values) + 1e-9
            assert name in ("log_loss", "basket_log_loss") or figure["worst"] <= figure["macro"] + 1e-9
    for method in ("alone", "local", "federated", "fine_tuned", "centralised", "final"):
        assert set(metrics[method]) >= BEHAVIOUR, method
    assert json.loads(json.dumps(tiny_league.metrics)) == metrics


def test_details_hold_the_held_out_site_apart(tiny_league: RunSummary) -> None:
    details = json.loads((tiny_league.run / "details.json").read_text())
    assert set(details["zero_shot"]) == set(tiny_league.held_out)
    assert {"federated", "fine_tuned", "final"} <= set(details["zero_shot"][tiny_league.held_out[0]])
    assert [row["site"] for row in details["verdicts"]] == [*tiny_league.sites, *tiny_league.held_out]
    assert [row["held_out"] for row in details["verdicts"]] == [False, False, False, True]
    assert json.loads(json.dumps(tiny_league.verdicts)) == details["verdicts"]
    assert tiny_league.headline == details["headline"]
    assert "ablation" not in details
    assert not (tiny_league.run / "ablation").exists()


def test_every_merchant_is_told_its_costs_and_a_next_step(tiny_league: RunSummary) -> None:
    rounds = read_lines(RunFolder(tiny_league.run).rounds_file)
    sent = sum(line["bytes"]["up"] for line in rounds)
    members = [row for row in tiny_league.verdicts if not row["held_out"]]
    assert sum(row["bytes_up"] for row in members) == pytest.approx(sent, abs=2 * len(members))
    for row in tiny_league.verdicts:
        assert row["next_step"]["code"] in NEXT_STEPS
        assert row["best_alone"] in METHODS
        assert row["epsilon"] is None
        assert 0 <= row["shared_weight"] <= 1
        if row["together"]:
            assert row["together"]["low"] <= row["together"]["gain"] <= row["together"]["high"]
            assert row["together"]["rows"] >= MIN_ROWS


def test_the_run_leaves_release_card_report_and_rounds(tiny_league: RunSummary) -> None:
    folder = RunFolder(tiny_league.run)
    rounds = read_lines(folder.rounds_file)
    assert [line["round"] for line in rounds] == [1, 2]
    assert tiny_league.rounds == 2
    assert all(set(line["cohort"]) == set(tiny_league.sites) for line in rounds)
    assert (folder.release / "model.safetensors").exists()
    assert "#" in (folder.release / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert tiny_league.report is not None
    assert "<html" in tiny_league.report.read_text(encoding="utf-8")


def test_resuming_a_finished_run_changes_no_byte(copied: Path) -> None:
    before = files_of(copied)
    summary = resume(copied)
    after = files_of(copied)
    assert set(after) == set(before)
    assert [name for name in after if after[name] != before[name]] == []
    assert summary.rounds == 2


def test_the_same_seed_gives_the_same_run(tiny_league: RunSummary, tmp_path: Path) -> None:
    again = simulate(
        SimulateOptions(
            run=tmp_path / "run", rounds=2, seed=3, quiet=True, compare=False, report=False,
            overrides=TINY_TRAINING, data_overrides=TINY_BAZAAR,
        )
    )  # fmt: skip
    first, second = files_of(tiny_league.run / "release"), files_of(again.run / "release")
    assert first["model.safetensors"] == second["model.safetensors"]
    assert again.report is None
    assert set(again.metrics).isdisjoint({"local", "centralised", "alone"})
    assert (again.headline, again.verdicts) == (None, ())
    assert again.metrics["federated"] == tiny_league.metrics["federated"]


def test_a_folder_with_a_run_is_refused(tiny_league: RunSummary) -> None:
    with pytest.raises(RunError, match="already holds a run"):
        simulate(SimulateOptions(run=tiny_league.run, quiet=True))


def test_a_dry_run_writes_nothing(feature_cache: Path, tmp_path: Path) -> None:
    options = SimulateOptions(
        run=tmp_path / "run",
        dry_run=True,
        data_overrides=TINY_BAZAAR,
        rounds=4,
        overrides={"rounds.protection": "plain", "privacy.mode": "off"},
    )
    summary = simulate(options)
    assert not options.run.exists()
    assert summary.plan["rounds"] == 4
    assert summary.plan["bytes in all"] == 2 * 4 * 4 * 3 * summary.plan["shared parameters"]
    with pytest.raises(ConfigError, match="bazaar setting"):
        simulate(replace(options, data_overrides={"n_sites": 0}))


def test_no_run_no_answer(tmp_path: Path) -> None:
    for ask in (lambda: resume(tmp_path), lambda: serve.evaluate(tmp_path)):
        with pytest.raises(RunError):
            ask()


def test_recommending_to_a_known_user_repeats_what_was_written(tiny_league: RunSummary) -> None:
    site = tiny_league.sites[0]
    table = pl.read_parquet(RunFolder(tiny_league.run).site_out(site) / "recommendations.parquet")
    user = table["user_id"][0]
    written = table.filter(pl.col("user_id") == user)
    found = serve.recommend(tiny_league.run, site, user, [], len(written))
    assert [each.item_id for each in found] == written["item_id"].to_list()
    assert [each.score for each in found] == pytest.approx(written["score"].to_list(), abs=1e-4)
    assert all(each.title for each in found)


def test_a_new_user_is_answered_from_a_history(tiny_league: RunSummary) -> None:
    site = tiny_league.sites[0]
    table = pl.read_parquet(RunFolder(tiny_league.run).site_out(site) / "recommendations.parquet")
    items = table["item_id"].unique().sort().to_list()
    first = serve.recommend(tiny_league.run, site, None, items[:2], 5)
    second = serve.recommend(tiny_league.run, site, None, items[-2:], 5)
    assert [each.rank for each in first] == [1, 2, 3, 4, 5]
    assert not {each.item_id for each in first} & set(items[:2])
    assert [each.item_id for each in first] != [each.item_id for each in second]
    said = serve.predict(tiny_league.run, site, None, items[:2])
    assert 0 <= said.purchase_intent <= 1
    assert 0 < said.next_event_probability <= 1


def test_predicting_for_a_known_user_repeats_what_was_written(tiny_league: RunSummary) -> None:
    site = tiny_league.held_out[0]
    table = pl.read_parquet(RunFolder(tiny_league.run).site_out(site) / "predictions.parquet")
    row = table.row(3, named=True)
    said = serve.predict(tiny_league.run, site, row["user_id"], [])
    assert said.purchase_intent == pytest.approx(row["purchase_intent"], abs=1e-5)
    assert said.next_event == row["next_event"]


def test_questions_that_cannot_be_answered_are_explained(tiny_league: RunSummary) -> None:
    run, site = tiny_league.run, tiny_league.sites[0]
    with pytest.raises(InputError, match="no item 'nothing'"):
        serve.recommend(run, site, None, ["nothing"], 5)
    with pytest.raises(InputError, match="empty"):
        serve.recommend(run, site, None, [], 5)
    with pytest.raises(InputError, match="no user 'nobody'"):
        serve.predict(run, site, "nobody", [])
    with pytest.raises(RunError, match="no site 'nowhere'") as caught:
        serve.recommend(run, "nowhere", None, ["x"], 5)
    assert site in caught.value.next_step


def test_evaluating_again_finds_the_same_figures(tiny_league: RunSummary, copied: Path) -> None:
    found = serve.evaluate(copied)
    for method in ("popularity", "federated", "fine_tuned", "final"):
        for name, figure in found[method].items():
            assert figure["sites"] == pytest.approx(tiny_league.metrics[method][name]["sites"], abs=1e-6)


@pytest.mark.slow
def test_the_ablation_measures_each_modality_left_out(feature_cache: Path, tmp_path: Path) -> None:
    summary = simulate(
        SimulateOptions(
            run=tmp_path / "run", rounds=1, seed=3, quiet=True, compare=False, report=False, ablation=True,
            overrides=TINY_TRAINING, data_overrides=TINY_BAZAAR,
        )
    )  # fmt: skip
    details = json.loads((summary.run / "details.json").read_text())
    whole = summary.metrics["final"]["ndcg@20"]["macro"]
    assert set(details["ablation"]) == {"text", "image"}
    for figures in details["ablation"].values():
        assert 0 <= figures["ndcg@20"] <= 1
        assert figures["ndcg@20"] != whole


def test_weights_that_other_code_left_are_refused_with_the_next_step(copied: Path) -> None:
    site = next(entry.name for entry in RunFolder(copied).sites() if not entry.held_out)
    path = RunFolder(copied).site_out(site) / "private.json"
    kept = json.loads(path.read_text())
    item = pl.read_parquet(path.with_name("recommendations.parquet"))["item_id"][0]
    for changed in ({"weights": [[0.6, 0.6, 0.4, 0.6]] * 2}, kept | {"columns": kept["columns"][::-1]}):
        path.write_text(json.dumps(changed))
        with pytest.raises(RunError, match="other signals") as fault:
            serve.recommend(copied, site, None, [item], 3)
        assert "run it again" in str(fault.value)
