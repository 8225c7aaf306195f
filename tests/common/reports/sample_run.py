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
    "popularity": 0.052, "item_knn": 0.081, "ease": 0.088, "no_training": 0.098, "alone": 0.118, "league": 0.112,
    "final": 0.124, "local": 0.094, "federated": 0.101, "fine_tuned": 0.103, "centralised": 0.107,
}  # fmt: skip
GAINS = [(0.31, 0.2, 0.42), (0.27, 0.11, 0.44), (0.12, 0.03, 0.2), (0.02, -0.05, 0.09), (-0.08, -0.14, -0.02)]
STEPS = ("join", "join", "join", "measure_again", "stay_out")
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
    for name, auc in (
        ("local", 0.71),
        ("logistic", 0.735),
        ("alone", 0.736),
        ("final", 0.742),
        ("centralised", 0.75),
    ):
        found.setdefault(name, {}).update({"auc": spread(auc), "log_loss": spread(1.1 - auc)})
    return found


def _details(trained: list[str]) -> dict[str, Any]:
    return {
        "headline": {
            "against": "alone",
            "over": {
                "alone": _ratio(1.05, 1.01, 1.09),
                "best_alone": _ratio(1.07, 1.03, 1.12),
                "non_private": _ratio(0.97, 0.94, 1.0),
            },
        },
        "verdicts": [
            _verdict(site, gain, step) for site, gain, step in zip(trained, GAINS, STEPS, strict=True)
        ]
        + [_verdict("lotus", (0.06, -0.01, 0.13), "measure_again")],
        "slices": [
            {"slice": "returning", "method": "final", "against": "alone", **_ratio(1.06, 1.02, 1.1)},
            {
                "slice": "new_customers",
                "method": "final",
                "against": "best_alone",
                **_ratio(1.03, 0.98, 1.08),
            },
            {"slice": "first_day", "method": "league", "against": "no_training", **_ratio(1.4, 1.2, 1.6)},
            {
                "slice": "behaviour",
                "method": "final",
                "against": "logistic",
                "metric": "log_loss",
                **_ratio(0.96, 0.94, 0.99),
            },
        ],
        "intervals": {name: {"ndcg@20": [0.9 * score, 1.1 * score]} for name, score in SCORES.items()},
        "ablation": {name: {"ndcg@20": v} for name, v in (("image", 0.107), ("text", 0.092))},
        "calibration": [
            {"predicted": share, "observed": share**1.1, "count": int(900 * (1 - share)) + 20}
            for share in (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.7)
        ],
        "timing": {"rounds": 22.8},
    }


def _ratio(ratio: float, low: float, high: float) -> dict[str, float]:
    return {"ratio": ratio, "low": low, "high": high, "merchants": 5}


def _verdict(site: str, gain: tuple[float, float, float], code: str) -> dict[str, Any]:
    together = dict(zip(("gain", "low", "high"), gain, strict=True))
    return {
        "site": site, "held_out": site == "lotus", "best_alone": "ease" if site == "birch" else "alone",
        "together": together, "returning": together, "baskets": None, "shared_weight": 0.62,
        "bytes_up": 48_000, "bytes_down": 96_000, "epsilon": None, "next_step": {"code": code},
    }  # fmt: skip


def _recommendations(folder: Path, site: str) -> None:
    folder.mkdir(parents=True)
    chinese = site in ("fang", "hai", "lotus")
    rows = [
        {
            "user_id": f"user-{user}", "rank": rank, "item_id": f"i{user * 31 + rank}", "score": 1.0 / rank,
            "why": "常被一起购买 61%，近期热销 30%" if chinese else "bought together 61 %, in demand 30 %",
            "history_item_id": f"i{900 + user * 7 + rank}",
        }
        for user in range(3) for rank in range(1, 11)
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "recommendations.parquet")


def _dump(path: Path, data: object) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")
