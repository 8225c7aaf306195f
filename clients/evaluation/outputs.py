"""What a merchant uses: recommendations with reasons, predictions, and the model's private parts to compute more.

Everything here stays at the site. Histories go up to the end of the log, as they would on the day of use.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file

from clients.data.arrays import RAW_DIM
from clients.data.dataset import KINDS, Ints, SiteDataset, gather_histories
from clients.evaluation.blend import blend
from clients.evaluation.heads import behaviour_logits
from clients.evaluation.methods import Deployed
from clients.evaluation.rows import TestRows, chunks
from clients.evaluation.scorers import tower_scorer
from clients.training.behaviour import behaviour_rows, horizon_s
from common.canonical import readable
from common.metrics import top_k
from common.models.model import HansaModel
from common.settings.config import LeagueConfig

TOP = 10


def write_outputs(
    folder: Path,
    site: SiteDataset,
    config: LeagueConfig,
    model: HansaModel,
    deployed: Deployed,
    language: str,
) -> None:
    """Write recommendations.parquet, predictions.parquet and private.safetensors with private.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_now(site, np.arange(len(site.user_ids)), config.model.history_length)
    _write_table(
        folder / "recommendations.parquet", recommend_rows(site, model, deployed, rows, TOP, language)
    )
    _write_table(folder / "predictions.parquet", predict_now(site, config, model, deployed))
    temporary = folder / ".private.tmp"
    save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, temporary)
    temporary.rename(folder / "private.safetensors")
    choices = {
        "weights": [w.tolist() for w in deployed.weights],
        "tuned": asdict(deployed.tuned),
        "calibration": asdict(deployed.calibration),
    }
    (folder / "private.json").write_text(readable(choices), encoding="utf-8")


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
    site: SiteDataset, model: HansaModel, deployed: Deployed, rows: TestRows, k: int, language: str
) -> pl.DataFrame:
    """Columns user_id, rank, item_id, score, why, history_item_id; k rows a user."""
    popular, neighbours, cosine = deployed.tuned.scorers(site, end_of_log(site))
    scorer = blend((tower_scorer(model, site), cosine, neighbours, popular), deployed.weights[0])
    parts = []
    for chunk in chunks(len(rows)):
        scores = scorer(rows, chunk)
        scores[rows.mask(rows.barred, chunk, site.n_items)] = -np.inf
        parts.append(_explain(site, rows, chunk, top_k(scores, k), scores, language))
    return pl.concat(parts) if parts else pl.DataFrame(schema=_SCHEMA)


_SCHEMA = {
    "user_id": pl.String, "rank": pl.Int64, "item_id": pl.String,
    "score": pl.Float64, "why": pl.String, "history_item_id": pl.String,
}  # fmt: skip


def _explain(
    site: SiteDataset, rows: TestRows, chunk: slice, top: Ints, scores: np.ndarray, language: str
) -> pl.DataFrame:
    """Each recommendation with its nearest item of the history, and the shares of text and picture in the likeness."""
    raw = site.items.raw.numpy()
    history, valid = np.maximum(rows.items[chunk], 0), rows.valid[chunk]
    text = np.einsum("bkd,bhd->bkh", raw[top][..., :RAW_DIM], raw[history][..., :RAW_DIM])
    picture = np.einsum("bkd,bhd->bkh", raw[top][..., RAW_DIM:], raw[history][..., RAW_DIM:])
    near = np.where(valid[:, None, :], text + picture, -9.0).argmax(2)
    nearest = np.take_along_axis(history, near, axis=1)
    t = np.maximum(np.take_along_axis(text, near[..., None], axis=2)[..., 0], 0.0)
    p = np.maximum(np.take_along_axis(picture, near[..., None], axis=2)[..., 0], 0.0)
    share = np.where(t + p > 0, p / np.maximum(t + p, 1e-9), 0.5).ravel()
    k = top.shape[1]
    word = "外观 {:.0f}%,文字 {:.0f}%" if language == "zh" else "looks {:.0f} %, words {:.0f} %"
    values = np.take_along_axis(scores, top, axis=1).ravel().astype(np.float64)
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.array(site.user_ids, object)[rows.user[chunk]], k).tolist(),
            "rank": np.tile(np.arange(1, k + 1), len(top)),
            "item_id": np.array(site.item_ids, object)[top.ravel()].tolist(),
            "score": values,
            "why": [word.format(100 * s, 100 - 100 * s) for s in share.round(2)],
            "history_item_id": np.array(site.item_ids, object)[nearest.ravel()].tolist(),
        },
        schema=_SCHEMA,
    )
    return frame.filter(pl.col("score").is_finite())


def predict_now(
    site: SiteDataset, config: LeagueConfig, model: HansaModel, deployed: Deployed
) -> pl.DataFrame:
    """Columns user_id, purchase_intent, next_event, next_event_probability, at the end of the log."""
    rows = behaviour_rows(site.log, np.array([end_of_log(site)]), horizon_s(site.split))
    logits = behaviour_logits(model, site, rows, config)
    following = torch.softmax(torch.from_numpy(logits[:, 1:]), dim=1).numpy()
    best = following.argmax(1)
    return pl.DataFrame(
        {
            "user_id": [site.user_ids[u] for u in rows.user],
            "purchase_intent": deployed.calibration(logits[:, 0]),
            "next_event": [KINDS[b] for b in best],
            "next_event_probability": following[np.arange(len(best)), best].astype(np.float64),
        }
    )


def _write_table(path: Path, table: pl.DataFrame) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    table.write_parquet(temporary)
    os.replace(temporary, path)
