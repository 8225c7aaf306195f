"""What a merchant uses: recommendations with reasons, predictions, and the model's private parts to compute more.

Everything here stays at the site. Histories go up to the end of the log, as they would on the day of use.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.torch import save_file

from clients.behaviour.home import AtHome
from clients.data.dataset import KINDS, Floats, Ints, SiteDataset, gather_histories
from clients.data.rows import TestRows
from clients.evaluation.methods import Deployed, Intent
from clients.evaluation.next_events import next_events
from clients.evaluation.reasons import Reasons
from clients.evaluation.rows import chunks
from clients.evaluation.scorers import ranker_scorer, tower_scorer
from clients.evaluation.with_tower import with_tower
from clients.signals.names import COLUMNS
from clients.signals.table import SignalTable
from common.canonical import readable
from common.files import write_whole
from common.metrics import top_k
from common.models.model import HansaModel
from common.settings.config import LeagueConfig

TOP = 10


@dataclass(frozen=True)
class ForUse:
    """What a merchant uses: the tower as tuned at home, if there is one; the ranker; who will buy."""

    tower: HansaModel | None
    ranker: Deployed
    buyers: AtHome
    intent: Intent


def write_outputs(folder: Path, site: SiteDataset, config: LeagueConfig, use: ForUse, language: str) -> None:
    """Write recommendations.parquet, predictions.parquet, private.json and, with a tower, private.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_now(site, np.arange(len(site.user_ids)), config.model.history_length)
    _write_table(folder / "recommendations.parquet", recommend_rows(site, use, rows, TOP, language))
    _write_table(folder / "predictions.parquet", predict_now(site, use))
    if use.tower is not None:
        temporary = folder / ".private.tmp"
        save_file({name: p.detach().contiguous() for name, p in use.tower.named_parameters()}, temporary)
        temporary.rename(folder / "private.safetensors")
    choices = {
        "columns": COLUMNS, "weights": use.ranker.weights.tolist(), "league": use.ranker.league.tolist(),
        "tower": use.ranker.tower,
        "intent": {
            "weights": use.buyers.weights.tolist(), "slope": use.buyers.slope, "bias": use.buyers.bias,
            "firmness": use.buyers.firmness if np.isfinite(use.buyers.firmness) else None,
        },
    }  # fmt: skip
    write_whole(folder / "private.json", readable(choices).encode())


def rows_now(site: SiteDataset, users: Ints, length: int) -> TestRows:
    """Rows of the users who have any item event, at the end of the log; items that they touched are barred."""
    log = site.item_log
    users = users[log.offsets[users + 1] > log.offsets[users]]
    items, kinds, times, valid = gather_histories(log, users, log.offsets[users + 1], length)
    mine = np.isin(log.user, users)
    barred = (np.searchsorted(users, log.user[mine]), log.item[mine])
    empty = np.zeros(0, np.int64)
    at = np.full(len(users), end_of_log(site), np.int64)
    return TestRows(users, items, kinds, times, valid, at, (empty, empty), barred)


def end_of_log(site: SiteDataset) -> int:
    """The second after the last event."""
    return int(site.log.time.max()) + 1


def recommend_rows(site: SiteDataset, use: ForUse, rows: TestRows, k: int, language: str) -> pl.DataFrame:
    """Columns user_id, rank, item_id, score, why, history_item_id; k rows a user."""
    table, weights = SignalTable(site, end_of_log(site)), use.ranker.weights[0]
    ranker = ranker_scorer(table, use.ranker.weights)
    scorer = ranker[0]
    if use.tower is not None:
        scorer = with_tower(ranker, tower_scorer(use.tower, site), use.ranker.tower)[0]
    reasons = Reasons(table, weights, language)
    parts = []
    for chunk in chunks(len(rows), site.n_items):
        scores = np.array(scorer(rows, chunk))
        scores[rows.mask(rows.barred, chunk, site.n_items)] = -np.inf
        top = top_k(scores, k)
        phrases, named = reasons.of(rows, chunk, top)
        parts.append(
            _frame(site, rows.user[chunk], top, np.take_along_axis(scores, top, axis=1), (phrases, named))
        )
    return pl.concat(parts) if parts else pl.DataFrame(schema=_SCHEMA)


_SCHEMA = {
    "user_id": pl.String, "rank": pl.Int64, "item_id": pl.String,
    "score": pl.Float64, "why": pl.String, "history_item_id": pl.String,
}  # fmt: skip


def _frame(
    site: SiteDataset, users: Ints, top: Ints, scores: Floats, why: tuple[list[str], Ints]
) -> pl.DataFrame:
    k, names = top.shape[1], np.array(site.item_ids, object)
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.array(site.user_ids, object)[users], k).tolist(),
            "rank": np.tile(np.arange(1, k + 1), len(top)),
            "item_id": names[top.ravel()].tolist(),
            "score": scores.ravel().astype(np.float64),
            "why": why[0],
            "history_item_id": names[why[1].ravel()].tolist(),
        },
        schema=_SCHEMA,
    )
    return frame.filter(pl.col("score").is_finite())


def predict_now(site: SiteDataset, use: ForUse) -> pl.DataFrame:
    """Columns user_id, purchase_intent, next_event, next_event_probability, at the end of the log."""
    now = end_of_log(site)
    users, chance = use.intent.behaviour.predict(use.intent.task, use.buyers, now)
    kinds, sure = next_events(site, users, now)
    return pl.DataFrame(
        {
            "user_id": [site.user_ids[user] for user in users],
            "purchase_intent": chance.astype(np.float64),
            "next_event": [KINDS[kind] for kind in kinds],
            "next_event_probability": sure.astype(np.float64),
        }
    )


def _write_table(path: Path, table: pl.DataFrame) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    table.write_parquet(temporary)
    os.replace(temporary, path)
