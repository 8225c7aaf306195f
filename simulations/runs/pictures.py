"""Product pictures, titles and histories for the report, read from the site folders on demand."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from PIL import Image

from clients.data.source import open_house
from clients.ingest import SiteData, decode_image
from common.errors import InputError
from common.schema import EVENTS, PRODUCTS
from common.storage.run_folder import RunFolder

SIDE = 160


class SitePictures:
    """A `common.reports.PictureSource` over the sites of a run."""

    def __init__(self, folder: RunFolder) -> None:
        self._folders = {site.name: Path(site.folder) for site in folder.sites()}
        self._site = functools.lru_cache(maxsize=2)(self._read)
        self._histories = functools.lru_cache(maxsize=2)(self._read_histories)

    def picture(self, site: str, item_id: str) -> bytes | None:
        """A JPEG of at most SIDE pixels a side, or None."""
        data = self._site(site)
        names = data.products.filter(pl.col("item_id") == item_id)["image"].to_list()
        if not names or names[0] is None:
            return None
        try:
            picture = decode_image(data.images.read(names[0]), where=names[0])
        except InputError:
            return None
        picture.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=80)
        return buffer.getvalue()

    def title(self, site: str, item_id: str) -> str | None:
        """A product's title, or None."""
        titles = self._site(site).products.filter(pl.col("item_id") == item_id)["title"].to_list()
        return titles[0] if titles else None

    def history(self, site: str, user_id: str) -> Sequence[str]:
        """Items a user touched, the latest first, each once."""
        return self._histories(site).get(user_id, ())

    def _read(self, site: str) -> SiteData:
        return open_house(self._folders[site], (PRODUCTS, EVENTS)).data

    def _read_histories(self, site: str) -> dict[str, Sequence[str]]:
        events = self._site(site).events.filter(pl.col("item_id").is_not_null())
        of_users = events.group_by("user_id").agg("item_id")
        return {user: list(dict.fromkeys(reversed(items))) for user, items in of_users.iter_rows()}
