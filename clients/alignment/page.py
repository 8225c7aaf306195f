"""The alignment report: `alignment.html` for people, in English and Chinese, and `alignment.json` for programs.

Invariant: it shows the shop's pictures and texts, so it stays at the site; everything from the shop is escaped, and
the page loads nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from clients.alignment.align import Alignment, picture_of
from clients.alignment.regions import overlay
from clients.ingest import ImageStore
from clients.quality.page import environment
from common.canonical import readable
from common.errors import InputError
from common.files import write_whole
from common.reports.data_uri import picture_uri

SHOWN = 12
LISTED = 200


def write_alignment(alignment: Alignment, images: ImageStore, folder: Path) -> tuple[Path, Path]:
    """Write both reports into a folder and return their paths."""
    worst = [(mismatch, _thumbnail(images, mismatch.image)) for mismatch in alignment.mismatches[:SHOWN]]
    # A template review may stand a dozen times under one product: one line is enough for all of them.
    alike = Counter((mismatch.item, mismatch.quote) for mismatch in alignment.reviews.mismatches)
    first = {(mismatch.item, mismatch.quote): mismatch for mismatch in reversed(alignment.reviews.mismatches)}
    reviews = [
        (
            first[key],
            count,
            _thumbnail(images, first[key].image),
            _thumbnail(images, first[key].nearest_image),
        )
        for key, count in list(alike.items())[:SHOWN]
    ]
    rows = [
        (
            item,
            [
                (mismatch.text, overlay(picture_of(images, mismatch.image), mismatch.weights))
                for mismatch in maps
            ],
        )
        for item, maps in groupby(alignment.maps, lambda mismatch: mismatch.item)
    ]
    page = (
        environment()
        .get_template("alignment.html")
        .render(alignment=alignment, worst=worst, reviews=reviews, rows=rows)
    )
    html, twin = folder / "alignment.html", folder / "alignment.json"
    write_whole(html, page.encode())
    write_whole(twin, readable(as_document(alignment)).encode())
    return html, twin


def as_document(alignment: Alignment) -> dict[str, object]:
    """The JSON twin."""
    time = asdict(alignment.time) | {
        "alone": len(alignment.time.alone), "first_alone": list(alignment.time.alone[:LISTED]),
        "median_hours": _finite(alignment.time.median_hours),
    }  # fmt: skip
    meaning = {"pairs": alignment.pairs, "fits": _finite(alignment.fits), "found": len(alignment.mismatches),
               "mismatches": [asdict(entry) for entry in alignment.mismatches[:LISTED]]}  # fmt: skip
    judged = alignment.reviews
    reviews = {
        "judged": judged.reviews, "fits": _finite(judged.fits), "fits_plain": _finite(judged.fits_plain),
        "found": len(judged.mismatches),
        "mismatches": [asdict(entry) for entry in judged.mismatches[:LISTED]],
    }  # fmt: skip
    regions = [
        {
            "item": entry.item,
            "text": entry.text,
            "image": entry.image,
            "weights": entry.weights.round(5).tolist(),
        }
        for entry in alignment.maps
    ]
    return {"site": alignment.site, "time": time, "meaning": meaning, "reviews": reviews, "regions": regions}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _thumbnail(images: ImageStore, name: str | None) -> str:
    """A small copy as a data URI; empty if there is no picture or it can't be read."""
    if name is None:
        return ""
    try:
        picture = picture_of(images, name)
    except InputError:
        return ""
    picture.thumbnail((120, 120))
    return picture_uri(picture)
