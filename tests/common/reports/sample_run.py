"""A run folder with every part a report knows, drawn from a seed, and a source of drawn product pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from common.files import append_line
from common.settings.config import LeagueConfig
from common.storage.run_folder import RunFolder, SiteEntry

SCORES = {
    "popularity": 0.052, "item_knn": 0.081, "no_training": 0.098, "local": 0.094, "federated": 0.118,
    "fine_tuned": 0.121, "centralised": 0.124, "final": 0.131,
}  # fmt: skip
GAINS = [(0.31, 0.2, 0.42), (0.27, 0.11, 0.44), (0.12, 0.03, 0.2), (0.02, -0.05, 0.09), (-0.08, -0.14, -0.02)]
TITLES = [("alder", "Alder & Co", "en"), ("birch", "Birch <b>Outfitters</b>", "en"), ("fang", "芳草集", "zh"),
          ("hai", "海棠小铺", "zh"), ("juniper", "Juniper Lane", "en"), ("lotus", "新荷商店", "zh")]  # fmt: skip


def write_sample_run(root: Path, *, config: LeagueConfig | None = None) -> Path:
    """Five sites that trained and one that did not, twelve rounds, all figures."""
    sites = [
        SiteEntry(name, title, f"sites/{name}", language, "north", held_out=name == "lotus")
        for name, title, language in TITLES
    ]
    RunFolder(root).create(config or LeagueConfig(name="harbour league"), sites)
    trained = [site.name for site in sites if not site.held_out]
    for number in range(1, 13):
        append_line(root / "rounds.jsonl", _round(number, trained))
    _dump(root / "metrics.json", _metrics(trained))
    _dump(root / "details.json", _details(trained))
    for site in sites:
        _recommendations(root / "sites" / site.name, site.name)
    return root


class DrawnPictures:
    """Pictures of one colour each, and titles in the site's language; some items have none."""

    def picture(self, site: str, item_id: str) -> bytes | None:
        if item_id.endswith("7"):
            return None
        rng = np.random.default_rng(int(item_id[1:]) + len(site))
        first, second = rng.integers(60, 230, (2, 3))
        shade = np.linspace(0, 1, 128)[:, None, None]
        pixels = np.broadcast_to(first * (1 - shade) + second * shade, (128, 96, 3)).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=75)
        return out.getvalue()

    def title(self, site: str, item_id: str) -> str | None:
        named = {"fang": "亚麻长袖衬衫", "hai": "手工羊毛围巾", "lotus": "陶瓷茶杯"}.get(
            site, "Linen shirt, long sleeve"
        )
        return f"{named} {item_id[1:]}"

    def history(self, site: str, user_id: str) -> Sequence[str]:
        return ()


def _round(number: int, trained: list[str]) -> dict[str, Any]:
    bad = [{"site": "birch", "reason": "not finite"}] if number == 4 else []
    return {
        "round": number, "loss": 3.2 * 0.86**number + 1.4, "metrics": {"valid/ndcg@20": 0.125 - 0.07 * 0.75**number},
        "cohort": trained, "weights": dict.fromkeys(trained, 1.0), "quarantined": bad,
        "bytes": {"down": 185_344 * len(trained), "up": 185_344 * len(trained)}, "seconds": 1.9,
    }  # fmt: skip


def _metrics(trained: list[str]) -> dict[str, Any]:
    def spread(value: float) -> dict[str, Any]:
        return {
            "macro": value,
            "worst": value * 0.7,
            "sites": {s: value * (0.7 + 0.12 * n) for n, s in enumerate(trained)},
        }

    found: dict[str, Any] = {
        name: {
            "ndcg@20": spread(score),
            "recall@20": spread(1.7 * score),
            "capped_recall@20": spread(1.8 * score),
        }
        for name, score in SCORES.items()
    }
    for name, auc in (("local", 0.71), ("federated", 0.742), ("centralised", 0.75)):
        found[name] |= {"auc": spread(auc), "log_loss": spread(1.1 - auc)}
    return found


def _details(trained: list[str]) -> dict[str, Any]:
    return {
        "worth": [
            {"site": site, "gain_local": gain, "low": low, "high": high}
            for site, (gain, low, high) in zip(trained, GAINS, strict=True)
        ],
        "intervals": {name: {"ndcg@20": [0.9 * score, 1.1 * score]} for name, score in SCORES.items()},
        "zero_shot": {
            "lotus": {name: {"ndcg@20": SCORES[name]} for name in ("popularity", "no_training", "federated")}
        },
        "ablation": {name: {"ndcg@20": v} for name, v in (("image", 0.107), ("text", 0.092))},
        "calibration": [
            {"predicted": share, "observed": share**1.1, "count": int(900 * (1 - share)) + 20}
            for share in (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.7)
        ],
        "timing": {"rounds": 22.8},
    }


def _recommendations(folder: Path, site: str) -> None:
    folder.mkdir(parents=True)
    chinese = site in ("fang", "hai", "lotus")
    rows = [
        {
            "user_id": f"user-{user}", "rank": rank, "item_id": f"i{user * 31 + rank}", "score": 1.0 / rank,
            "why": "与您看过的相似" if chinese else "looks like what you bought",
            "history_item_id": f"i{900 + user * 7 + rank}",
        }
        for user in range(3) for rank in range(1, 11)
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "recommendations.parquet")


def _dump(path: Path, data: object) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")
