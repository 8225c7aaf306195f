# ruff: noqa: E501 - a table of facts is read in one piece
"""Text, logs and pictures come out clean, whatever goes in."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clients.ingest.logs import clean_events
from clients.ingest.pictures import PictureSettings, tidy_picture
from clients.ingest.text import clean_text, words
from common.schema import EVENTS

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("<p>Good&nbsp;<b>bag</b></p>", "Good bag"),
        ("&lt;script&gt;alert(1)&lt;/script&gt;好", "alert(1) 好"),
        ("<script>alert(1)</script>好", "好"),
        ("ＡＢＣ１２３", "ABC123"),
        ("a\u202eevil\u2066\u200b\x00\x07b", "a evil b"),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
        ("  \n\n x \n", "x"),
    ],
)
def test_text_is_cleaned(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


@given(st.text(max_size=500))
@settings(max_examples=200)
def test_any_text_is_cleaned_of_what_hides(text: str) -> None:
    clean = clean_text(text)
    assert not any(0x202A <= ord(c) <= 0x202E or 0x2066 <= ord(c) <= 0x2069 for c in clean)
    assert not any(ord(c) < 32 and c != "\n" for c in clean)
    words(clean, "zh")


@pytest.mark.slow
@given(st.text())
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_texts_are_cleaned(text: str) -> None:
    clean_text(text)
    words(text)


@pytest.mark.parametrize("unit", ["<", "<a", "&amp;", "<script>", "&lt;", "\u202e"])
def test_a_gigantic_text_costs_little(unit: str) -> None:
    began = time.process_time()
    assert len(clean_text(unit * 2_000_000)) <= 20_000
    assert time.process_time() - began < 2


def test_words_are_segmented_stemmed_and_keep_their_negations() -> None:
    assert words("The shoes are not running small", "en") == ["shoe", "not", "run", "small"]
    found = words("这个手机屏幕不错，iPhone cases", "zh")
    assert {"手机", "屏幕"} <= set(found)
    assert "case" in found
    assert "这个手机屏幕" not in found


def _events(*rows: tuple[str, str | None, str, int, str | None]) -> pl.DataFrame:
    made = [
        {"user_id": u, "item_id": i, "event": e, "at": NOON + timedelta(minutes=m), "session_id": s}
        for u, i, e, m, s in rows
    ]
    return pl.DataFrame(made, schema_overrides=EVENTS.polars_schema).select(
        pl.col(c.name) if c.name in made[0] else pl.lit(None, dtype=c.dtype).alias(c.name)
        for c in EVENTS.columns
    )


def test_logs_lose_repeats_and_gain_sessions_by_gap() -> None:
    events, faults = clean_events(
        _events(("u", "i", "view", 0, None), ("u", "i", "view", 0, None), ("u", "i", "cart", 20, None), ("u", "i", "view", 90, None), ("v", "i", "view", 1, None))
    )  # fmt: skip
    assert faults.repeats == 1
    assert events["session_id"].to_list() == ["u~1", "u~1", "u~2", "v~1"]
    assert clean_events(events)[0].equals(events)


def test_a_purchase_before_its_own_view_had_a_wrong_clock() -> None:
    events, faults = clean_events(
        _events(("u", "i", "purchase", 0, "s"), ("u", "i", "view", 3, "s"), ("u", "j", "purchase", 0, "s"), ("u", "k", "purchase", 0, "s"), ("u", "k", "view", 40, "s"))
    )  # fmt: skip
    assert faults.clocks_mended == 1
    at = {(row["item_id"], row["event"]): row["at"] for row in events.to_dicts()}
    assert at["i", "purchase"] == at["i", "view"]
    assert at["k", "purchase"] == NOON


def _photo(size: tuple[int, int] = (640, 480)) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "SECRET-CAMERA"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    buffer = io.BytesIO()
    picture = Image.effect_noise(size, 40).convert("RGB")
    picture.save(buffer, "JPEG", exif=exif, comment=b"SECRET-COMMENT")
    return buffer.getvalue()


@pytest.mark.parametrize("denoise", ["none", "gaussian", "median"])
def test_a_picture_stands_upright_and_knows_no_place(denoise: str) -> None:
    raw = _photo()
    assert b"SECRET-CAMERA" in raw
    tidy = tidy_picture(raw, PictureSettings(denoise=denoise))  # type: ignore[arg-type]
    picture = Image.open(io.BytesIO(tidy))
    assert picture.size == (256, 341)
    assert not picture.getexif()
    assert b"SECRET" not in tidy
    assert b"Exif" not in tidy


def test_small_pictures_stay_small() -> None:
    assert Image.open(io.BytesIO(tidy_picture(_photo((60, 40)), PictureSettings()))).size == (40, 60)
