# ruff: noqa: E501
"""The quality report: `quality.html` for people, in English and Chinese, and `quality.json` for programs.

It shows worst pictures and row ids, so it stays at the site. Invariant: everything from the shop is escaped; the page
loads nothing.
"""

from __future__ import annotations

import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import common.reports
from clients.ingest import ImageStore, decode_image
from clients.quality.assess import Check, Quality
from common.canonical import readable
from common.errors import InputError
from common.files import write_whole
from common.reports.data_uri import picture_uri
from common.reports.html import both, figure, percent

SHOWN = 6
LISTED = 100
_NAMES = {
    "refused_products": ("Faults in rows of products", "商品表中的错误"), "refused_reviews": ("Faults in rows of reviews", "评论表中的错误"),
    "refused_events": ("Faults in rows of events", "行为表中的错误"), "empty_columns": ("Empty key columns", "关键列为空"),
    "duplicate_reviews": ("Reviews written twice", "重复评论"), "templated_reviews": ("One text, many users", "模板化评论"),
    "burst_reviews": ("Reviews in bursts", "集中刷评"), "rating_text_mismatch": ("Stars at odds with the text", "评分与文字不符"),
    "suspicious_accounts": ("Suspicious accounts", "可疑账号"), "unreadable_pictures": ("Unreadable pictures", "无法解码的图片"),
    "blurred_pictures": ("Blurred pictures", "模糊图片"), "bad_exposure": ("Too dark, too bright, blank", "曝光不当或空白"),
    "alike_pictures": ("Same picture, other product", "不同商品图片雷同"), "repeated_events": ("Events logged twice", "重复日志"),
    "incomplete_rows": ("Rows that lack what matters", "缺少关键内容的行"), "noisy_pictures": ("Noisy pictures", "噪点过多的图片"),
    "bots": ("Users who are machines", "机器人用户"), "impossible_order": ("Impossible order of events", "不可能的事件顺序"),
    "days_without_events": ("Days without events", "日志缺失的日期"),
}  # fmt: skip
_GROUPS = {
    "all": ("The whole", "总体"),
    "text": ("Reviews", "评论"),
    "image": ("Pictures", "图片"),
    "events": ("Events", "行为日志"),
}


def write_quality(quality: Quality, images: ImageStore, folder: Path) -> tuple[Path, Path]:
    """Write both reports into a folder and return their paths."""
    groups = [
        (title, [(c, _NAMES[c.name], _worst(c, images)) for c in quality.checks if c.modality == modality])
        for modality, title in _GROUPS.items()
    ]
    page = environment().get_template("quality.html").render(quality=quality, groups=groups, shown=12)
    html, twin = folder / "quality.html", folder / "quality.json"
    write_whole(html, page.encode())
    write_whole(twin, readable(as_document(quality)).encode())
    return html, twin


def environment() -> Environment:
    """Templates of a site's own reports."""
    rooms = [
        Path(__file__).parent,
        Path(__file__).parent.parent / "alignment",
        Path(common.reports.__file__).parent,
    ]
    environment = Environment(
        loader=FileSystemLoader([room / "templates" for room in rooms]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals.update(t=both)
    environment.filters.update(figure=figure, percent=percent, or_none=_or_none)
    return environment


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_document(quality: Quality) -> dict[str, object]:
    """The JSON twin."""
    checks = [{"name": c.name, "modality": c.modality, "found": c.count, "of": c.of, "share": c.share,
               "limit": c.limit, "passed": c.passed, "first": list(c.found[:LISTED])} for c in quality.checks]  # fmt: skip
    figures = {name: _or_none(value) for name, value in quality.figures.items()}
    return {"site": quality.site, "passed": quality.passed, "checks": checks,
            "completeness": quality.completeness, "figures": figures}  # fmt: skip


def _worst(check: Check, images: ImageStore) -> list[str]:
    if check.modality != "image":
        return []
    thumbnails = []
    for name in check.found[:SHOWN]:
        try:
            picture = decode_image(images.read(name))
        except InputError:
            continue
        picture.thumbnail((160, 160))
        thumbnails.append(picture_uri(picture))
    return thumbnails
