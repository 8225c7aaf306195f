"""A small valid site folder to break."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

PRODUCTS_CSV = (
    "item_id,title,description,category,brand,price,image,listed_at\n"
    "a,Chair,Oak,furniture,Elm,12.5,a.png,2024-01-01\n"
    "b,Lamp,Brass,light,Elm,7,,2024-01-02T10:00:00Z\n"
    "c,椅子,橡木,furniture,榆,30,,\n"
)
REVIEWS_CSV = (
    "review_id,user_id,item_id,rating,text,created_at\nr1,u1,a,5,good,2024-02-01\nr2,u2,b,2,bad,2024-02-02\n"
)
EVENTS_CSV = (
    "user_id,item_id,event,at,quantity\n"
    "u1,a,view,2024-02-01T10:00:00Z,\n"
    "u1,a,purchase,2024-02-01T10:05:00Z,2\n"
    "u2,,search,2024-02-02,\n"
)


def png(width: int = 4, height: int = 3) -> bytes:
    """A small real picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site folder without a fault."""
    folder = tmp_path / "alder"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(png())
    (folder / "site.toml").write_text('name = "alder"\n', encoding="utf-8")
    (folder / "products.csv").write_text(PRODUCTS_CSV, encoding="utf-8")
    (folder / "reviews.csv").write_text(REVIEWS_CSV, encoding="utf-8")
    (folder / "events.csv").write_text(EVENTS_CSV, encoding="utf-8")
    return folder


@pytest.fixture
def replace(site: Path) -> Callable[[str, str, str], None]:
    """Replace a piece of one of the site's files, and fail where it isn't there."""

    def change(file: str, old: str, new: str) -> None:
        path = site / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change
