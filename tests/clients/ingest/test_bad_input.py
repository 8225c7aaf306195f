"""Named faults of a site folder: each is told with its place, costs no more than it must, and never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clients.ingest import SiteData, read_site
from common.errors import ConfigError, HansaError, InputError

TODAY = date(2024, 6, 1)
Replace = Callable[[str, str, str], None]


def read(site: Path) -> SiteData:
    return read_site(site, today=TODAY)


def only_complaint(data: SiteData) -> tuple[str, int | None, str, str]:
    (complaint,) = data.complaints
    return complaint.file, complaint.row, complaint.column, complaint.action


def refusal(site: Path, kind: type[HansaError] = InputError) -> str:
    with pytest.raises(kind) as caught:
        read(site)
    assert caught.value.what
    assert caught.value.where
    assert caught.value.exit_code == kind.exit_code
    return caught.value.sentence()


def test_a_valid_site_draws_no_complaint(site: Path) -> None:
    data = read(site)
    assert data.complaints == ()
    assert data.products["item_id"].to_list() == ["a", "b", "c"]
    assert data.events["event"].to_list() == ["view", "purchase", "search"]
    assert data.reviews["rating"].to_list() == [5.0, 2.0]
    assert data.images.names() == {"a.png"}


ROW_FAULTS = [
    # name, file, old, new, row, column, action, phrase
    ("wrong type", "products.csv", "12.5", "cheap", 1, "price", "value cleared", "not a number: 'cheap'"),
    ("decimal comma", "products.csv", "12.5", '"12,5"', 1, "price", "value cleared", "not a number"),
    ("negative price", "products.csv", "12.5", "-1", 1, "price", "value cleared", "below 0"),
    ("infinite price", "products.csv", "12.5", "inf", 1, "price", "value cleared", "not a finite number"),
    ("NaN price", "products.csv", "12.5", "NaN", 1, "price", "value cleared", "not a finite number"),
    ("missing id", "products.csv", "\nc,", "\n,", 3, "item_id", "row skipped", "missing"),
    ("blank id", "products.csv", "\nc,", "\n  ,", 3, "item_id", "row skipped", "missing"),
    ("duplicate item", "products.csv", "\nc,", "\na,", 3, "item_id", "row skipped", "earlier row"),
    ("duplicate review", "reviews.csv", "\nr2,", "\nr1,", 2, "review_id", "row skipped", "earlier row"),
    ("NUL byte", "products.csv", "椅子", "椅\0子", 3, "title", "row skipped", "NUL"),
    ("ragged short row", "products.csv", "\nc,椅子,", "\nc,", 3, "", "row skipped", "7 cells"),
    ("ragged long row", "products.csv", "\nc,", "\nc,,", 3, "", "row skipped", "9 cells"),
    ("stray quote", "products.csv", "\nc,", '\n"c"x,', 3, "", "row skipped", "can't be read"),
    ("unknown item in reviews", "reviews.csv", "u2,b", "u2,q", 2, "item_id", "row skipped", "no product"),
    ("unknown item in events", "events.csv", "u1,a,view", "u1,q,view", 1, "item_id", "row skipped", "'q'"),
    ("event without item", "events.csv", "u1,a,view", "u1,,view", 1, "item_id", "row skipped", "search"),
    ("rating too high", "reviews.csv", "b,2", "b,11", 2, "rating", "row skipped", "above 5"),
    ("rating too low", "reviews.csv", "b,2", "b,0", 2, "rating", "row skipped", "below 1"),
    ("future event", "events.csv", "2024-02-02", "2024-06-03", 3, "at", "row skipped", "future"),
    ("future review", "reviews.csv", "2024-02-02", "2025-01-01", 2, "created_at", "value cleared", "future"),
    ("ancient listing", "products.csv", "2024-01-01", "0001-01-01", 1, "listed_at", "value cleared", "1970"),
    ("unparsable date", "events.csv", "2024-02-02", "02/02/2024", 3, "at", "row skipped", "ISO 8601"),
    ("no such day", "events.csv", "2024-02-02", "2024-02-30", 3, "at", "row skipped", "ISO 8601"),
    ("unknown kind", "events.csv", "a,view", "a,buy", 1, "event", "row skipped", "not one of view"),
    ("quantity 0", "events.csv", "00Z,2", "00Z,0", 2, "quantity", "row skipped", "below 1"),
    ("broken quantity", "events.csv", "00Z,2", "00Z,1.5", 2, "quantity", "row skipped", "whole"),
    ("huge quantity", "events.csv", "00Z,2", "00Z,1e300", 2, "quantity", "row skipped", "above"),
    ("formula", "products.csv", "Chair", "=1+1", 1, "title", "value cleared", "formula"),
    ("command", "products.csv", "Oak", "=cmd|' /C calc'!A0", 1, "description", "value cleared", "formula"),
    (
        "link",
        "reviews.csv",
        "good",
        '"=HYPERLINK(""http://e"",""x"")"',
        1,
        "text",
        "value cleared",
        "formula",
    ),
    ("sum", "reviews.csv", "good", "@SUM(A1:A9)", 1, "text", "value cleared", "formula"),
    ("formula for an id", "reviews.csv", "r2,u2", "r2,+cmd|'x'", 2, "user_id", "row skipped", "formula"),
    ("bidi in an id", "products.csv", "\nc,", "\nc\u202ed,", 3, "item_id", "row skipped", "can't be seen"),
    (
        "zero width in an id",
        "reviews.csv",
        "u2,b",
        "u\u200b2,b",
        2,
        "user_id",
        "row skipped",
        "can't be seen",
    ),
    ("image upwards", "products.csv", "a.png", "../a.png", 1, "image", "value cleared", "leaves"),
    ("image absolute", "products.csv", "a.png", "/etc/hostname", 1, "image", "value cleared", "leaves"),
    ("image missing", "products.csv", "a.png", "z.png", 1, "image", "value cleared", "no such picture"),
]


@pytest.mark.parametrize(
    ("file", "old", "new", "row", "column", "action", "phrase"),
    [fault[1:] for fault in ROW_FAULTS],
    ids=[fault[0] for fault in ROW_FAULTS],
)
def test_a_bad_row_costs_only_itself(
    site: Path,
    replace: Replace,
    file: str,
    old: str,
    new: str,
    row: int,
    column: str,
    action: str,
    phrase: str,
) -> None:
    whole = read(site)
    replace(file, old, new)
    data = read(site)
    assert only_complaint(data) == (file, row, column, action)
    assert phrase in data.complaints[0].problem
    table = file.removesuffix(".csv")
    before, after = getattr(whole, table), getattr(data, table)
    assert after.height == before.height - (action == "row skipped")
    if action == "value cleared":
        assert after[column].null_count() == before[column].null_count() + 1
    others = {"products", "reviews", "events"} - {table}
    assert all(getattr(data, other).equals(getattr(whole, other)) for other in others)


@pytest.mark.parametrize(
    "text", ["=) nice", "- good (really)", "-20% today", "+1 from me", "@home (again)", "= fine"]
)
def test_what_only_begins_like_a_formula_is_kept(site: Path, replace: Replace, text: str) -> None:
    replace("reviews.csv", "good", text)
    assert read(site).complaints == ()


def test_policy_fail_refuses_the_site_and_lists_the_first_complaints(site: Path, replace: Replace) -> None:
    (site / "site.toml").write_text('name = "alder"\n[policy]\non_bad_rows = "fail"\n')
    assert read(site).complaints == ()
    replace("products.csv", "12.5", "-1")
    replace("events.csv", "a,view", "a,buy")
    said = refusal(site)
    assert "products.csv, row 1, column 'price'" in said
    assert "events.csv, row 1, column 'event'" in said


def test_extra_column_is_ignored_and_the_nearest_named(site: Path, replace: Replace) -> None:
    replace("reviews.csv", "text", "txt")
    data = read(site)
    assert only_complaint(data) == ("reviews.csv", None, "txt", "column ignored")
    assert "did you mean 'text'?" in data.complaints[0].problem
    assert data.reviews["text"].null_count() == 2


def test_missing_required_column_is_refused_and_its_likely_name_shown(site: Path, replace: Replace) -> None:
    replace("events.csv", "user_id", "userid")
    said = refusal(site)
    assert "'user_id' is missing" in said
    assert "did you mean 'userid'?" in said


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"", "is empty"),
        (b"item_id,title\n", "no usable product"),
        (b"item_id;title\na;b\n", "separated by ';'"),
        (b"item_id,title,title\na,b,c\n", "stands twice"),
        (b'item_id,title\na,"open\nb,c\n', "never closed"),
        ("item_id,title\na,b\n".encode("utf-16"), "UTF-16"),
        ("item_id,title\na,b\n".encode("utf-16-le"), "NUL bytes"),
        (b'"item_id"x,title\n', "header can't be read"),
    ],
    ids=[
        "empty file",
        "header only",
        "semicolons",
        "column twice",
        "open quote",
        "UTF-16",
        "UTF-16 without BOM",
        "bad header",
    ],
)
def test_structural_faults_refuse_the_site(site: Path, content: bytes, phrase: str) -> None:
    (site / "products.csv").write_bytes(content)
    assert phrase in refusal(site)


def test_header_only_events_are_no_events(site: Path) -> None:
    (site / "events.csv").write_text("user_id,item_id,event,at\n")
    data = read(site)
    assert data.events.is_empty()
    assert data.complaints == ()


def test_utf8_bom_is_accepted_silently(site: Path) -> None:
    for path in [*site.glob("*.csv"), site / "site.toml"]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(site).complaints == ()


def test_gbk_is_refused_with_the_way_out_and_read_when_declared(site: Path) -> None:
    whole = read(site)
    for path in site.glob("*.csv"):
        path.write_bytes(path.read_text(encoding="utf-8").encode("gbk"))
    said = refusal(site)
    assert "products.csv, line 4" in said
    assert "iconv -f GBK -t UTF-8" in said
    (site / "site.toml").write_text('name = "alder"\nencoding = "gbk"\n')
    assert read(site).products.equals(whole.products)


def test_neither_utf8_nor_gbk(site: Path) -> None:
    (site / "products.csv").write_bytes(b"item_id,title\na,\xff\xff\xff\n")
    assert "save it again as UTF-8" in refusal(site)


def test_two_product_files(site: Path) -> None:
    (site / "products.jsonl").write_text('{"item_id": "a"}\n')
    assert "products.csv and products.jsonl" in refusal(site)


def test_no_product_file_says_what_is_there(site: Path) -> None:
    (site / "products.csv").rename(site / "products.xlsx")
    assert "products.xlsx" in refusal(site)


def test_product_file_is_a_folder(site: Path) -> None:
    (site / "products.csv").unlink()
    (site / "products.csv").mkdir()
    assert "is not a file" in refusal(site)


def test_invalid_json_lines_cost_only_themselves(site: Path) -> None:
    (site / "products.csv").unlink()
    lines = [
        '{"item_id": "a", "price": 3}',
        '{"item_id": "b"',
        "[1, 2]",
        '{"item_id": "c", "title": {"en": "Lamp"}}',
        '{"item_id": "d", "title": "\\ud800"}',
        "[" * 100_000,
        '{"item_id": "e", "price": ' + "9" * 5000 + "}",
        "",
        '{"item_id": "b", "price": true}',
    ]
    (site / "products.jsonl").write_text("\n".join(lines))
    data = read(site)
    assert data.products["item_id"].to_list() == ["a", "b", "c", "d"]
    places = [(c.row, c.column, c.action) for c in data.complaints]
    assert places == [
        (2, "", "row skipped"),
        (3, "", "row skipped"),
        (4, "title", "value cleared"),
        (5, "title", "value cleared"),
        (6, "", "row skipped"),
        (7, "", "row skipped"),
        (9, "price", "value cleared"),
    ]


def test_json_without_a_record(site: Path) -> None:
    (site / "events.csv").unlink()
    (site / "events.jsonl").write_text("nothing\n")
    assert "holds no record" in refusal(site)


@pytest.mark.parametrize("keep", [3, 40, 200, -1, -9])
def test_truncated_parquet(site: Path, keep: int) -> None:
    (site / "products.csv").unlink()
    path = site / "products.parquet"
    pl.DataFrame({"item_id": ["a", "b"]}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:keep])
    assert "not a whole Parquet file" in refusal(site)


def test_parquet_column_of_a_type_that_cannot_be_meant(site: Path) -> None:
    (site / "products.csv").unlink()
    pl.DataFrame({"item_id": ["a"], "price": [[1.0]]}).write_parquet(site / "products.parquet")
    assert "column 'price' has the type large_list" in refusal(site)


def test_parquet_dates_of_any_unit_and_zone_mean_the_same_instant(site: Path) -> None:
    (site / "products.csv").unlink()
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    for kind in (pa.timestamp("ns", "Asia/Shanghai"), pa.timestamp("s", "UTC"), pa.timestamp("ms")):
        stamps = pa.array([noon], pa.timestamp("us", "UTC")).cast(pa.timestamp("us")).cast(kind)
        pq.write_table(pa.table({"item_id": ["a"], "listed_at": stamps}), site / "products.parquet")
        assert read(site).products["listed_at"].to_list() == [noon]


def test_parquet_date_beyond_the_calendar(site: Path) -> None:
    (site / "products.csv").unlink()
    stamps = pa.array([2**62, -(2**62), 0], pa.timestamp("us"))
    pq.write_table(pa.table({"item_id": ["a", "b", "c"], "listed_at": stamps}), site / "products.parquet")
    assert [(c.row, c.problem) for c in read(site).complaints] == [(2, "before 1970"), (1, "in the future")]


def test_image_through_a_link_that_leads_outside(site: Path, replace: Replace) -> None:
    secret = site.parent / "secret.png"
    secret.write_bytes(b"secret")
    (site / "images" / "out.png").symlink_to(secret)
    replace("products.csv", "a.png", "out.png")
    data = read(site)
    assert only_complaint(data) == ("products.csv", 1, "image", "value cleared")
    assert "through a link" in data.complaints[0].problem
    with pytest.raises(InputError):
        data.images.read("out.png")


def test_named_image_store_that_is_not_there(site: Path) -> None:
    (site / "site.toml").write_text('name = "alder"\n[images]\npath = "pictures.zip"\n')
    assert "neither a folder nor a .zip" in refusal(site)


@pytest.mark.parametrize(
    ("text", "kind", "phrase"),
    [
        ('name = "alder"\nlanguge = "en"\n', ConfigError, "did you mean 'language'?"),
        ('name = "alder\n', ConfigError, "not TOML"),
        ("name = " + "[" * 50_000, ConfigError, "not TOML"),
        ('name = "\udcff"', InputError, "not UTF-8"),
    ],
    ids=["unknown key", "unreadable", "deep nesting", "not text"],
)
def test_bad_site_toml(site: Path, text: str, kind: type[HansaError], phrase: str) -> None:
    (site / "site.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert phrase in refusal(site, kind)


def test_missing_site_toml(site: Path) -> None:
    (site / "site.toml").unlink()
    assert "site.toml is missing" in refusal(site)


def test_not_a_folder(site: Path) -> None:
    assert "not a folder" in refusal(site / "products.csv")
    assert "not a folder" in refusal(site / "nowhere")


def test_many_equal_faults_are_summed_up(site: Path) -> None:
    rows = "".join(f"u1,a,buy,2024-02-01,{n}\n" for n in range(1, 1001))
    (site / "events.csv").write_text("user_id,item_id,event,at,quantity\n" + rows)
    complaints = read(site).complaints
    assert len(complaints) == 101
    assert complaints[99].row == 100
    assert "900 more rows" in complaints[-1].problem


def test_row_numbers_survive_multi_line_cells_and_blank_lines(site: Path) -> None:
    (site / "products.csv").write_text('item_id,title,price\na,"two\nlines",1\n\nb,x,bad\n')
    data = read(site)
    # The blank line is the second row of the sheet, so the fault is in the third.
    assert only_complaint(data) == ("products.csv", 3, "price", "value cleared")
    assert data.products["title"].to_list() == ["two\nlines", "x"]
