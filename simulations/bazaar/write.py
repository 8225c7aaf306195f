"""Writing the bazaar to disk as ordinary site folders.

Merchants have their tables as Parquet, CSV and JSON lines in turn and their pictures as PNG or JPEG, so that every
reader is used. Nothing of the latent truth is written.

Invariant: equal configurations give byte-identical folders.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from common.errors import InputError, MachineError
from simulations.bazaar.behaviour import DAY_S, EventLog, Rating, rate, shop
from simulations.bazaar.config import BazaarConfig
from simulations.bazaar.pictures import draw_pictures, encode_picture
from simulations.bazaar.texts import ProductTexts, write_fake_review, write_products, write_review
from simulations.bazaar.world import SiteTruth, draw_site, stream
from simulations.engines.forkserver import fork_server

FIRST_DAY = datetime(2026, 3, 2, tzinfo=UTC)
_WORTH_A_PROCESS = 4000
"""Items of a league from which on drawing half of them takes longer than starting a process."""
_FORMATS = (
    ("parquet", "parquet", "parquet"),
    ("csv", "jsonl", "csv"),
    ("jsonl", "csv", "parquet"),
    ("csv", "parquet", "jsonl"),
)
_PLACES = {
    "en": (
        ("lubeck", "Lübeck House", "Baltic"),
        ("bergen", "Bergen Wharf", "Nordic"),
        ("bruges", "Bruges Market", "Flanders"),
        ("london", "London Steelyard", "British Isles"),
        ("riga", "Riga Stores", "Baltic"),
        ("visby", "Visby Traders", "Gotland"),
    ),
    "zh": (
        ("hangzhou", "杭州云集", "华东"),
        ("chengdu", "成都锦里", "西南"),
        ("guangzhou", "广州南市", "华南"),
        ("beijing", "北京前门", "华北"),
        ("xian", "西安西市", "西北"),
        ("wuhan", "武汉江汉", "华中"),
    ),
}


@dataclass(frozen=True)
class Merchant:
    """A merchant's name and language, and the data that it has."""

    number: int
    name: str
    title: str
    language: str
    region: str
    held_out: bool
    missing: str | None

    def has(self, modality: str) -> bool:
        """Whether the merchant has text, image or reviews."""
        return self.missing != modality


def merchants(config: BazaarConfig) -> list[Merchant]:
    """All merchants of a league: first those that train, then the held-out ones."""
    total = config.n_sites + config.held_out
    lacking = round(config.missing_modalities * config.n_sites)
    drawn = []
    for number in range(total):
        mixed = ("en", "zh")[number % 2]
        language = mixed if config.languages == "mixed" else config.languages
        turn = number // 2 if config.languages == "mixed" else number
        slug, title, region = _PLACES[language][turn % 6]
        again = turn // 6
        missing = ("image", "reviews", "text")[number % 3] if number < lacking else None
        drawn.append(
            Merchant(
                number=number,
                name=f"{slug}-{again + 1}" if again else slug,
                title=f"{title} {again + 1}" if again else title,
                language=language,
                region=region,
                held_out=number >= config.n_sites,
                missing=missing,
            )
        )
    return drawn


def write_league(out: Path, config: BazaarConfig) -> list[Path]:
    """Write one site folder per merchant, `league.json` and the configuration as `bazaar.json`.

    Parameters
    ----------
    out : a new or empty folder, or one that an earlier call wrote (its sites are then replaced).

    Returns
    -------
    The folders in league order; those of held-out merchants come last and are marked in `league.json`.

    Raises
    ------
    InputError : `out` holds something else.
    """
    _clear(out)
    league = merchants(config)
    _write_sites(out, config, league)
    described = [
        {
            "name": m.name,
            "title": m.title,
            "folder": m.name,
            "language": m.language,
            "region": m.region,
            "held_out": m.held_out,
        }
        for m in league
    ]
    (out / "bazaar.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (out / "league.json").write_text(
        json.dumps(described, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    return [out / merchant.name for merchant in league]


def _write_sites(out: Path, config: BazaarConfig, league: list[Merchant]) -> None:
    """Write all sites, half of them by a second process if that saves time; each merchant has its own random stream."""
    if len(league) * config.items_per_site < _WORTH_A_PROCESS or os.cpu_count() == 1:
        write_sites(out, config, league)
        return
    first, second = league[::2], league[1::2]
    order = {
        "out": str(out.resolve()), "config": config.model_dump(mode="json"),
        "numbers": [merchant.number for merchant in second],
    }  # fmt: skip
    with fork_server().fork("merchants", order) as child:
        write_sites(out, config, first)
        try:
            child.recv_bytes()
        except EOFError:
            raise MachineError(
                "the process that draws half of the merchants failed", where=str(out),
                why="its own words stand above",
            ) from None  # fmt: skip


def write_sites(out: Path, config: BazaarConfig, chosen: list[Merchant]) -> None:
    """The folders of some of a league's merchants."""
    for merchant in chosen:
        _write_site(out / merchant.name, config, merchant)


def _clear(out: Path) -> None:
    marker = out / "bazaar.json"
    if out.exists() and not out.is_dir():
        raise InputError("the league's folder is a file", where=str(out), next_step="name a folder")
    if out.is_dir() and any(out.iterdir()) and not marker.is_file():
        raise InputError(
            "the folder is not empty and holds no bazaar",
            where=str(out),
            why="its files would be mixed with the league's",
            next_step="name a new folder",
        )
    out.mkdir(parents=True, exist_ok=True)
    for child in sorted(out.iterdir()):
        # Only what an earlier call wrote: a folder with a site.toml.
        if child.is_dir() and (child / "site.toml").is_file():
            shutil.rmtree(child)


def _write_site(folder: Path, config: BazaarConfig, merchant: Merchant) -> None:
    truth = draw_site(config, merchant.number)
    texts = write_products(stream(config, merchant.number, 1), truth, merchant.language, config.text_signal)
    log = shop(config, truth, texts.words)
    formats = _FORMATS[merchant.number % len(_FORMATS)]
    suffix = ".png" if merchant.number % 2 == 0 else ".jpg"
    folder.mkdir(parents=True)
    if merchant.has("image"):
        _write_pictures(folder / "images", config, truth, suffix)
    products = _products(merchant, truth, texts, suffix)
    _write_table(products, folder / f"products.{formats[0]}")
    _write_table(_events(merchant, log, products), folder / f"events.{formats[1]}")
    if merchant.has("reviews"):
        _write_table(
            _reviews(config, merchant, truth, rate(config, truth, log)), folder / f"reviews.{formats[2]}"
        )
    (folder / "site.toml").write_text(_site_toml(config, merchant), encoding="utf-8")


def _write_pictures(folder: Path, config: BazaarConfig, truth: SiteTruth, suffix: str) -> None:
    folder.mkdir()
    pictures = draw_pictures(stream(config, truth.number, 2), truth, config.image_signal)
    for item, pixels in enumerate(pictures):
        (folder / f"{_item_id(item)}{suffix}").write_bytes(encode_picture(pixels, suffix))


def _products(merchant: Merchant, truth: SiteTruth, texts: ProductTexts, suffix: str) -> pl.DataFrame:
    count = len(truth.items)
    ids = [_item_id(item) for item in range(count)]
    # Yuan for Chinese merchants, euro for the others; prices end as shop prices do.
    scale, centre = (7.5, 0.9) if merchant.language == "zh" else (1.0, 0.99)
    prices = np.maximum(np.floor(30.0 * scale * np.exp(0.45 * truth.log_price)), 1.0) - 1.0 + centre
    table = pl.DataFrame(
        {
            "item_id": ids,
            "title": texts.title,
            "description": texts.description,
            "category": texts.category,
            "brand": texts.brand,
            "price": prices,
            "attributes": texts.attributes,
            "image": [f"{item_id}{suffix}" for item_id in ids],
            "listed_at": _instants(truth.listed * DAY_S),
        }
    )
    if not merchant.has("image"):
        table = table.drop("image")
    return table if merchant.has("text") else table.drop("title", "description", "attributes")


def _events(merchant: Merchant, log: EventLog, products: pl.DataFrame) -> pl.DataFrame:
    ids, prices = products["item_id"].to_list(), products["price"].to_list()
    table = pl.DataFrame(
        {
            "user_id": [_user_id(merchant, user) for user in log.user],
            "item_id": pl.Series([ids[i] if i >= 0 else None for i in log.item], dtype=pl.String),
            "event": pl.Series(log.event, dtype=pl.String),
            "at": _instants(np.array(log.at, dtype=np.float64)),
            "session_id": [f"s{session:06d}" for session in log.session],
            "query": pl.Series(log.query, dtype=pl.String),
            "quantity": pl.Series(log.quantity, dtype=pl.Int64),
            "price": pl.Series(
                [
                    prices[i] if event == "purchase" else None
                    for i, event in zip(log.item, log.event, strict=True)
                ],
                dtype=pl.Float64,
            ),
        }
    )
    # A shop's log is in order of time, not of customers.
    return table.sort("at", "user_id", maintain_order=True)


def _reviews(
    config: BazaarConfig, merchant: Merchant, truth: SiteTruth, ratings: list[Rating]
) -> pl.DataFrame:
    rng = stream(config, merchant.number, 5)
    rows = [
        (
            _user_id(merchant, r.user),
            _item_id(r.item),
            float(r.value),
            float(r.at),
            write_review(rng, merchant.language, int(truth.category[r.item]), r.value, config.review_signal),
        )
        for r in ratings
    ]
    fakes = round(len(rows) * config.fake_reviews / (1.0 - config.fake_reviews))
    for fake in range(fakes):
        # Bursts of about eight on one item within one day.
        burst = np.random.default_rng([config.seed, merchant.number, 6, fake // 8])
        item, day = int(burst.integers(len(truth.items))), float(burst.uniform(5, config.days - 1))
        day = max(day, float(truth.listed[item]))
        text = write_fake_review(rng, merchant.language, int(truth.category[item]))
        rows.append((f"{merchant.name}-f{fake:04d}", _item_id(item), 5.0, (day + rng.random()) * DAY_S, text))
    rows.sort(key=lambda row: (row[3], row[0], row[1]))
    users, items, values, ats, words = ([row[k] for row in rows] for k in range(5))
    return pl.DataFrame(
        {
            "review_id": pl.Series([f"r{index:06d}" for index in range(len(rows))], dtype=pl.String),
            "user_id": pl.Series(users, dtype=pl.String),
            "item_id": pl.Series(items, dtype=pl.String),
            "rating": pl.Series(values, dtype=pl.Float64),
            "text": pl.Series(words, dtype=pl.String),
            "created_at": _instants(np.array(ats, dtype=np.float64)),
        }
    )


def _write_table(table: pl.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        table.write_parquet(path, compression="zstd", statistics=False)
        return
    formatted = table.with_columns(
        pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        for name, kind in table.schema.items()
        if kind == pl.Datetime
    )
    if path.suffix == ".csv":
        formatted.write_csv(path)
    else:
        formatted.write_ndjson(path)


def _site_toml(config: BazaarConfig, merchant: Merchant) -> str:
    validation, test = (FIRST_DAY + timedelta(days=round(config.days * share)) for share in (0.65, 0.8))
    until = FIRST_DAY + timedelta(days=config.days + 1)
    flags = "\n".join(
        f"{modality} = {str(merchant.has(modality)).lower()}"
        for modality in ("text", "image", "reviews", "events")
    )
    images = '[images]\npath = "images"\n\n' if merchant.has("image") else ""
    return (
        f'name = "{merchant.name}"\ntitle = "{merchant.title}"\nlanguage = "{merchant.language}"\n'
        f'region = "{merchant.region}"\n\n{images}'
        f'[split]\nvalidation_from = "{validation:%Y-%m-%d}"\ntest_from = "{test:%Y-%m-%d}"\n'
        f'test_until = "{until:%Y-%m-%d}"\n\n[modalities]\n{flags}\n\n[policy]\non_bad_rows = "skip"\n'
        'ledger = "run"\n'
    )


def _instants(seconds: np.typing.NDArray[np.float64]) -> pl.Series:
    start = int(FIRST_DAY.timestamp())
    whole = np.floor(seconds).astype(np.int64) + start
    return pl.Series(whole * 1_000_000, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


def _item_id(item: int) -> str:
    return f"p{item:05d}"


def _user_id(merchant: Merchant, user: int) -> str:
    return f"{merchant.name}-u{user:05d}"
