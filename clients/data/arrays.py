"""From a validated site folder to arrays: encode texts and pictures, number users and items, set the split.

Invariant: rows of `SiteDataset.items` follow the sorted item ids and users the sorted user ids, so the same folder
always gives the same arrays. A picture that can't be decoded counts as a missing modality, not as an error.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from clients.data.dataset import DAY_S, KINDS, Ints, Log, Reviews, SiteDataset, Split
from clients.data.facts import item_facts
from clients.data.standardise import Standard
from clients.encoders import FeatureCache, encode_images, encode_texts, hash_tokens, public_image_basis
from clients.encoders.cache import FolderShards, Half, content_key, default_cache_folder
from clients.encoders.frozen import IMAGE_ENCODER, TEXT_DIM, TEXT_ENCODER
from clients.ingest import SiteData
from clients.ingest.images import decode_array
from common.errors import ConfigError, InputError
from common.models.model import ItemInputs
from common.settings.config import LeagueConfig, ModelConfig, SplitConfig

RAW_DIM = 64
MAX_REVIEWS = 20_000
Features = Callable[[str], FeatureCache]
"""An encoder's name → the cache of its vectors."""
Scaling = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def prepare_site(data: SiteData, config: LeagueConfig, features: Features | None = None) -> SiteDataset:
    """The arrays of one site.

    Raises
    ------
    ConfigError : the split's instants are unreadable or out of order.
    InputError : the site has no events to train on.
    """
    features = features or _in_cache_folder
    item_ids = data.products["item_id"].to_list()
    users = (
        pl.concat([data.events["user_id"], data.reviews["user_id"]]).drop_nulls().unique().sort().to_list()
    )
    if data.events.is_empty():
        raise InputError(
            "the site has no events", where=data.name, next_step="add an events file, or leave the site out"
        )
    items = _items(data, config.model, features)
    log = _log(data.events, users, item_ids)
    split = _split(config.split, data, log)
    return SiteDataset(
        name=data.name,
        user_ids=tuple(users),
        item_ids=tuple(item_ids),
        items=items,
        log=log,
        reviews=_reviews(data, users, config.model, features),
        split=split,
        learners=first_learners(log, split.test_from, config.training.max_users),
        facts=item_facts(data.products),
    )


def first_learners(log: Log, test_from: int, max_users: int) -> NDArray[np.bool_]:
    """Marks the first ``max_users`` users who have an event before the test window; everybody where that is 0."""
    if not max_users:
        return np.ones(log.n_users, bool)
    past = log.before(test_from)
    known = past.offsets[1:] > past.offsets[:-1]
    return np.asarray(known & (np.cumsum(known) <= max_users))


def _in_cache_folder(encoder: str) -> FeatureCache:
    return FeatureCache(FolderShards(default_cache_folder() / encoder))


def item_texts(products: pl.DataFrame) -> list[str]:
    """The text encoder's input for each product. The category is left out, since the model shall predict it."""
    parts = pl.concat_str(
        [pl.col(c).fill_null("") for c in ("title", "brand", "attributes", "description")], separator=". "
    )
    return products.select(parts.str.replace_all(r"(\. )+", ". ").str.strip_chars(". ").alias("text"))[
        "text"
    ].to_list()


def _items(data: SiteData, model: ModelConfig, features: Features) -> ItemInputs:
    texts = item_texts(data.products)
    has_text = np.array([bool(t) for t in texts]) & model.text
    side = model.frozen_image_size
    pixels = [_pixels(data, name, side) if model.image else None for name in data.products["image"].to_list()]
    has_image = np.array([p is not None for p in pixels])
    text = text_features(texts, features) * has_text[:, None]
    image = _image_features(pixels, side, features)
    raw = _raw(text, has_text, image, has_image)
    number = {name: at for at, name in enumerate(model.categories)}
    category = np.array([number.get(c, -1) for c in data.products["category"].to_list()], np.int64)
    if model.encoders == "scratch":
        text_in = torch.from_numpy(
            hash_tokens(texts, model.token_buckets, model.token_length) * has_text[:, None]
        )
        image_in = torch.from_numpy(_small_pixels(pixels, model.image_size))
    else:
        image = image @ public_image_basis(model.projection_dim)
        text_in = torch.from_numpy(_scale(model, text[has_text])(text))
        image_in = torch.from_numpy(_scale(model, image[has_image])(image))
    return ItemInputs(
        text=text_in,
        image=image_in,
        has_text=torch.from_numpy(has_text),
        has_image=torch.from_numpy(has_image),
        raw=torch.from_numpy(raw),
        category=torch.from_numpy(category),
        row=torch.arange(len(texts)),
    )


def text_features(texts: list[str], features: Features) -> NDArray[np.float32]:
    """Unit vectors (n, TEXT_DIM) of texts, through the cache."""
    if not texts:
        return np.zeros((0, TEXT_DIM), np.float32)
    keys = [content_key(t.encode()) for t in texts]
    vectors = features(TEXT_ENCODER).get(keys, lambda at: encode_texts([texts[i] for i in at]))
    return vectors.astype(np.float32).reshape(len(texts), -1)


def _image_features(
    pixels: list[NDArray[np.uint8] | None], side: int, features: Features
) -> NDArray[np.float32]:
    """Pooled features (n, IMAGE_DIM); zeros where there is no picture."""
    blank = np.zeros((side, side, 3), np.uint8)
    pictures = [blank if p is None else p for p in pixels]
    keys = [content_key(p.tobytes()) for p in pictures]

    def encode(at: list[int]) -> Half:
        return encode_images(np.stack([pictures[i] for i in at]))

    features_found = features(f"{IMAGE_ENCODER}-{side}").get(keys, encode)
    present = np.array([p is not None for p in pixels])
    vectors: NDArray[np.float32] = features_found.astype(np.float32) * present[:, None]
    return vectors


def _pixels(data: SiteData, name: str | None, side: int) -> NDArray[np.uint8] | None:
    if not name:
        return None
    try:
        return decode_array(data.images.read(name), (side, side), where=name)
    except InputError:
        return None


def _small_pixels(pixels: list[NDArray[np.uint8] | None], side: int) -> NDArray[np.uint8]:
    """(n, 3, side, side) uint8, by area averaging."""
    small = np.zeros((len(pixels), 3, side, side), np.uint8)
    for row, picture in enumerate(pixels):
        if picture is not None:
            tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(torch.float32)
            small[row] = (
                torch.nn.functional.interpolate(tensor, size=(side, side), mode="area")[0]
                .to(torch.uint8)
                .numpy()
            )
    return small


def _raw(
    text: NDArray[np.float32],
    has_text: NDArray[np.bool_],
    image: NDArray[np.float32],
    has_image: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Unit vectors (n, 2 · RAW_DIM) for the untrained cosine: the site's own principal directions of each modality.

    They are compared only within the site, so the sites need no common basis.
    """
    raw = np.concatenate([_principal(text, has_text), _principal(image, has_image)], axis=1)
    raw /= np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-9)
    return raw.astype(np.float32)


def _principal(x: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    coordinates = np.zeros((len(x), RAW_DIM))
    if present.sum() < 2:
        return coordinates
    centred = (x[present] - x[present].mean(0)).astype(np.float64)
    if len(centred) < centred.shape[1]:  # the same projection from the smaller of the two products
        values, vectors = np.linalg.eigh(centred @ centred.T)
        projected = (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1][:, :RAW_DIM]
    else:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        projected = centred @ vectors[:, ::-1][:, :RAW_DIM]
    coordinates[present, : projected.shape[1]] = projected / np.maximum(
        np.linalg.norm(projected, axis=1, keepdims=True), 1e-9
    )
    return coordinates


def _scale(model: ModelConfig, catalogue: NDArray[np.float32]) -> Scaling:
    """The scaling of a modality's frozen features for the model, computed from the catalogue's features."""
    return Standard.of(catalogue).scaled if model.adapter == "linear" else _unit_scale


def _unit_scale(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to mean square 1, so that no site statistics are needed; zero rows stay zero."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = x / np.maximum(norms, 1e-6) * np.float32(np.sqrt(x.shape[1]))
    return scaled.astype(np.float32)


def _log(events: pl.DataFrame, users: list[str], item_ids: list[str]) -> Log:
    kinds = {k: n for n, k in enumerate(KINDS)}
    user = _numbers(events["user_id"], users)
    item = _numbers(events["item_id"], item_ids)
    kind = np.array([kinds[k] for k in events["event"].to_list()], np.int64)
    return Log.of(user, item, kind, _seconds(events["at"]), len(users))


def _numbers(column: pl.Series, order: list[str]) -> Ints:
    """Position of each value in ``order``; -1 for null."""
    positions = {value: at for at, value in enumerate(order)}
    return np.array([-1 if v is None else positions[v] for v in column.to_list()], np.int64)


def _seconds(column: pl.Series) -> Ints:
    return (column.dt.epoch("s").fill_null(0)).to_numpy().astype(np.int64)


def _reviews(data: SiteData, users: list[str], model: ModelConfig, features: Features) -> Reviews:
    """Reviews with text, the latest MAX_REVIEWS; rating ≥ 4 is satisfied, ≤ 2 is not."""
    reviews = data.reviews
    with_text = reviews.filter(pl.col("text").fill_null("").str.len_chars() > 0).tail(MAX_REVIEWS)
    texts = with_text["text"].to_list()
    rating = with_text["rating"].fill_null(3.0).to_numpy()
    label = np.where(rating >= 4, 1, np.where(rating <= 2, 0, -1)).astype(np.int64)
    if model.encoders == "scratch":
        encoded = torch.from_numpy(hash_tokens(texts, model.token_buckets, model.token_length))
    else:
        described = [text for text in item_texts(data.products) if text and model.text]
        scale = _scale(model, text_features(described, features))
        encoded = torch.from_numpy(scale(text_features(texts, features)))
    return Reviews(_numbers(with_text["user_id"], users), encoded, label, _seconds(with_text["created_at"]))


def _split(config: SplitConfig, data: SiteData, log: Log) -> Split:
    """The league's dates, else the site's own, else the last two tenths of the site's time span."""
    own = data.split
    start, end = int(log.time.min()), int(log.time.max()) + 1
    tenth = max((end - start) // 10, DAY_S)
    default = Split(
        (end - 2 * tenth) // DAY_S * DAY_S, (end - tenth) // DAY_S * DAY_S, -(-end // DAY_S) * DAY_S
    )
    split = Split(
        _instant(config.validation_from) or _stamp(own and own.validation_from) or default.valid_from,
        _instant(config.test_from) or _stamp(own and own.test_from) or default.test_from,
        _instant(config.test_until) or _stamp(own and own.test_until) or default.until,
    )
    if not split.valid_from < split.test_from < split.until:
        raise ConfigError(
            "validation, test and end are not in that order of time",
            where=data.name,
            next_step="set split.validation_from < split.test_from < split.test_until",
        )
    return split


def _instant(text: str) -> int:
    if not text:
        return 0
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise ConfigError(f"'{text}' is no date", where="split", next_step="write it as 2020-09-21") from None


def _stamp(value: object) -> int:
    if not value:
        return 0
    return int(value.timestamp()) if isinstance(value, datetime) else _instant(str(value))
