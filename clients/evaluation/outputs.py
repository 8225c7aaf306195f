"""What a merchant uses: recommendations with reasons, predictions, and the model's private parts to compute more.

Everything here stays at the site. Histories go up to the end of the log, as they would on the day of use.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file

from clients.data.dataset import KINDS, Floats, Ints, SiteDataset, gather_histories
from clients.data.rows import TestRows
from clients.evaluation.heads import behaviour_logits
from clients.evaluation.methods import Deployed
from clients.evaluation.reasons import Reasons
from clients.evaluation.rows import chunks
from clients.signals.names import COLUMNS
from clients.signals.table import SignalTable
from clients.training.behaviour import behaviour_rows, horizon_s
from common.canonical import readable
from common.files import write_whole
from common.metrics import top_k
from common.models.model import HansaModel
from common.settings.config import LeagueConfig

TOP = 10


def write_outputs(
    folder: Path, site: SiteDataset, config: LeagueConfig, tower: HansaModel | None, deployed: Deployed, language: str
) -> None:  # fmt: skip
    """Write recommendations.parquet, predictions.parquet, private.json and, with a tower, private.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_now(site, np.arange(len(site.user_ids)), config.model.history_length)
    _write_table(folder / "recommendations.parquet", recommend_rows(site, deployed, rows, TOP, language))
    if tower is not None:
        _write_table(folder / "predictions.parquet", predict_now(site, config, tower))
        temporary = folder / ".private.tmp"
        save_file({name: p.detach().contiguous() for name, p in tower.named_parameters()}, temporary)
        temporary.rename(folder / "private.safetensors")
    choices = {"columns": COLUMNS, "weights": deployed.weights.tolist(), "league": deployed.league.tolist()}
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


def recommend_rows(
    site: SiteDataset, deployed: Deployed, rows: TestRows, k: int, language: str
) -> pl.DataFrame:
    """Columns user_id, rank, item_id, score, why, history_item_id; k rows a user."""
    table, weights = SignalTable(site, end_of_log(site)), deployed.weights[0]
    reasons = Reasons(table, weights, language)
    parts = []
    for chunk in chunks(len(rows), site.n_items):
        scores = table.scores(rows, chunk, weights)
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


def predict_now(site: SiteDataset, config: LeagueConfig, model: HansaModel) -> pl.DataFrame:
    """Columns user_id, purchase_intent, next_event, next_event_probability, at the end of the log."""
    rows = behaviour_rows(site.log, np.array([end_of_log(site)]), horizon_s(site.split))
    logits = behaviour_logits(model, site, rows, config)
    following = torch.softmax(torch.from_numpy(logits[:, 1:]), dim=1).numpy()
    best = following.argmax(1)
    return pl.DataFrame(
        {
            "user_id": [site.user_ids[u] for u in rows.user],
            "purchase_intent": 1.0 / (1.0 + np.exp(-logits[:, 0])),
            "next_event": [KINDS[b] for b in best],
            "next_event_probability": following[np.arange(len(best)), best].astype(np.float64),
        }
    )


def _write_table(path: Path, table: pl.DataFrame) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    table.write_parquet(temporary)
    os.replace(temporary, path)
