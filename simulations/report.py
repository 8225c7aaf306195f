"""The report of a simulated run: here alone the sites' own products and pictures may be shown side by side.

Invariant: pictures go through the sites' safe decoder and leave it as small fresh JPEGs; a product or a picture that
can't be read is left out, never an error.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from clients.ingest.images import decode_image
from clients.ingest.site import SiteData, read_site
from common.errors import HansaError, InputError
from common.reports import write_report
from common.run_folder import RunFolder, SiteEntry

PICTURE_SIZE = (120, 160)
_JPEG_QUALITY = 72
_RECENT = 5


class SitePictures:
    """Products, pictures and histories of the sites of one run, each site read when it is first asked for.

    A folder in league.json may be absolute, or relative to the run folder or to the current directory.
    """

    def __init__(self, run_dir: Path, sites: Sequence[SiteEntry]) -> None:
        self._run_dir = run_dir
        self._entries = {site.name: site for site in sites}
        self._open: dict[str, _Shop | None] = {}

    def picture(self, site: str, item_id: str) -> bytes | None:
        """A small JPEG of a product, or None."""
        shop = self._shop(site)
        return shop.picture(item_id) if shop else None

    def title(self, site: str, item_id: str) -> str | None:
        """A product's title, or None."""
        shop = self._shop(site)
        return shop.titles.get(item_id) if shop else None

    def history(self, site: str, user_id: str) -> Sequence[str]:
        """Items of a user before the test, the latest first."""
        shop = self._shop(site)
        return shop.history(user_id) if shop else ()

    def _shop(self, site: str) -> _Shop | None:
        if site not in self._open:
            self._open[site] = self._read(site)
        return self._open[site]

    def _read(self, site: str) -> _Shop | None:
        entry = self._entries.get(site)
        if entry is None:
            return None
        folder = next((at for at in (self._run_dir / entry.folder, Path(entry.folder)) if at.is_dir()), None)
        try:
            return _Shop(read_site(folder)) if folder else None
        except HansaError:
            return None


class _Shop:
    """What the report shows of one site."""

    def __init__(self, data: SiteData) -> None:
        self._images = data.images
        self.titles: dict[str, str] = dict(
            data.products.select("item_id", pl.col("title").fill_null("")).iter_rows()
        )
        self._files: dict[str, str] = dict(data.products.select("item_id", "image").drop_nulls().iter_rows())
        events = data.events.drop_nulls("item_id")
        if data.split is not None:
            events = events.filter(pl.col("at") < data.split.test_from)
        self._recent = events.sort("at", descending=True).select("user_id", "item_id")

    def history(self, user_id: str) -> list[str]:
        items = self._recent.filter(pl.col("user_id") == user_id)["item_id"]
        return items.unique(maintain_order=True).head(_RECENT).to_list()

    def picture(self, item_id: str) -> bytes | None:
        name = self._files.get(item_id)
        if name is None:
            return None
        try:
            small = decode_image(self._images.read(name), PICTURE_SIZE, where=name)
        except InputError:
            return None
        out = io.BytesIO()
        small.save(out, "JPEG", quality=_JPEG_QUALITY)
        return out.getvalue()


def report_run(run_dir: Path) -> Path:
    """Write `report.html` of a simulated run, with its sites' products, and return its path.

    Raises
    ------
    RunError : there is no run in the folder, or its settings or list of sites are damaged.
    """
    return write_report(run_dir, SitePictures(run_dir, RunFolder(run_dir).sites()))
