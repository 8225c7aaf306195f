"""MovieLens 100k by hand: who shops where, what a film is, where time is split, and that both layouts say the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from clients.ingest import read_site
from common.errors import ConfigError, InputError
from common.files import PROJECT
from simulations.connectors import connector
from simulations.connectors.base import RECORD
from simulations.connectors.ml100k import ATOMIC, GENRES, ORIGINAL

DATA = PROJECT.parent / "shared" / "data" / "ml-100k"
START = datetime(1998, 1, 1, 12, tzinfo=UTC)
PEOPLE = [("1", "02139"), ("2", "55105"), ("3", "55414"), ("4", "T8H1N")]
FILMS = [  # title, release as told by each layout, genres
    ("1", "Net, The", "01-Jan-1995", "1995", ["Sci-Fi", "Thriller"]),
    ("2", "Misérables, Les", "", "", ["unknown"]),
    ("3", "M", "4-Feb-1931", "1931", ["Crime"]),
    ("4", "Titanic", "01-Jan-1999", "1999", ["Drama", "Romance"]),  # told later than its first rating
    ("5", "Kundun", "01-Jan-1997", "1997", ["Drama"]),
]
RATINGS = [  # user, film, stars, hours after the start; of twenty, the test begins with the nineteenth
    *(("2", "1", 5, n) for n in range(8)),
    *(("3", "2", 1, n) for n in range(8, 13)),
    ("1", "3", 3, 13), ("1", "4", 4, 14), ("4", "5", 4, 15),
    ("2", "4", 2, 16), ("2", "3", 2, 17),
    ("3", "4", 5, 18), ("3", "5", 5, 19),
]  # fmt: skip


def at(hour: int) -> datetime:
    return START + timedelta(hours=hour)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """The layout of GroupLens, its rows in no order."""
    folder = tmp_path / "original"
    folder.mkdir()
    seconds = [(user, film, stars, int(at(hour).timestamp())) for user, film, stars, hour in RATINGS]
    rows = ["\t".join(map(str, row)) for row in seconds[1::2] + seconds[::2]]
    (folder / "u.data").write_text("\n".join(rows) + "\n", encoding="latin-1")
    flags = [["1" if genre in genres else "0" for genre in GENRES] for *_, genres in FILMS]
    films = [
        "|".join([number, f"{title} (1995)", day, "", "http://us.imdb.com/M", *flag])
        for (number, title, day, _, _), flag in zip(FILMS, flags, strict=True)
    ]
    (folder / "u.item").write_text("\n".join(films) + "\n", encoding="latin-1")
    people = [f"{user}|30|F|writer|{code}" for user, code in PEOPLE]
    (folder / "u.user").write_text("\n".join(people) + "\n", encoding="latin-1")
    return folder


@pytest.fixture
def atomic(tmp_path: Path) -> Path:
    """The same as atomic files; release days are years."""
    folder = tmp_path / "atomic"
    folder.mkdir()
    tables = {
        "ml-100k.inter": ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
        + [f"{user}\t{film}\t{stars}\t{int(at(hour).timestamp())}" for user, film, stars, hour in RATINGS],
        "ml-100k.item": ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
        + [f"{number}\t{title}\t{year}\t{' '.join(genres)}" for number, title, _, year, genres in FILMS],
        "ml-100k.user": ["user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"]
        + [f"{user}\t30\tF\twriter\t{code}" for user, code in PEOPLE],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_people_shop_where_their_zip_code_begins(original: Path, tmp_path: Path) -> None:
    refs = connector("ml100k").write_sites(original, tmp_path / "out", "", {})
    assert [(ref.name, ref.title, ref.region) for ref in refs] == [
        ("zip-0", "ZIP codes 0…", "US"),
        ("zip-5", "ZIP codes 5…", "US"),
    ]
    sites = [read_site(ref.folder) for ref in refs]
    assert [site.complaints for site in sites] == [(), ()]
    assert [sorted(set(site.events["user_id"])) for site in sites] == [["1"], ["2", "3"]]
    assert [set(site.events["event"]) for site in sites] == [{"purchase"}, {"purchase"}]
    assert sites[1].products["image"].null_count() == sites[1].products.height


def test_time_is_split_at_the_same_instants_everywhere(original: Path, tmp_path: Path) -> None:
    for ref in connector("ml100k").write_sites(original, tmp_path / "out", "", {}):
        split = read_site(ref.folder).split
        assert split is not None
        assert (split.validation_from, split.test_from) == (at(16), at(18))
        assert split.test_until == at(19) + timedelta(seconds=1)


def test_ratings_of_one_second_are_parted_by_no_instant(original: Path, tmp_path: Path) -> None:
    text = (
        (original / "u.data").read_text().replace(str(int(at(17).timestamp())), str(int(at(18).timestamp())))
    )
    (original / "u.data").write_text(text)
    (_, ref) = connector("ml100k").write_sites(original, tmp_path / "out", "", {})
    data = read_site(ref.folder)
    assert data.split is not None
    assert data.split.test_from == at(18)
    assert data.events.filter(pl.col("at") >= data.split.test_from).height == 1  # film 3 is new there by then


def test_a_films_rows_by_hand(original: Path, tmp_path: Path) -> None:
    refs = connector("ml100k").write_sites(original, tmp_path / "out", "", {})
    films = {row["item_id"]: row for ref in refs for row in read_site(ref.folder).products.to_dicts()}
    assert {number: row["title"] for number, row in films.items()} == {
        "1": "The Net", "2": "Misérables, Les", "3": "M", "4": "Titanic",
    }  # fmt: skip
    assert films["1"]["category"] == "Sci-Fi"
    assert films["1"]["attributes"] == "genre=Sci-Fi; genre=Thriller"
    listed = {number: row["listed_at"] for number, row in films.items()}
    assert listed["1"] == datetime(1995, 1, 1, tzinfo=UTC)
    assert listed["2"] == at(8), "without a release: from its first rating"
    assert listed["3"] == datetime(1970, 1, 1, tzinfo=UTC)
    assert listed["4"] == at(16), "not after its first rating at the shop"


def test_films_first_rated_in_the_test_are_left_out_and_counted(original: Path, tmp_path: Path) -> None:
    refs = connector("ml100k").write_sites(original, tmp_path / "out", "", {})
    data = read_site(refs[1].folder)
    assert data.products["item_id"].to_list() == ["1", "2", "3", "4"], "film 5 is no candidate"
    late = data.events.filter(pl.col("at") >= at(18))
    assert late.select("user_id", "item_id").rows() == [("3", "4")]
    assert [ref.left_out for ref in refs] == [0, 1]
    recorded = json.loads((tmp_path / "out" / RECORD).read_text())["sites"]
    assert [site["left_out"] for site in recorded] == [0, 1]


def test_both_layouts_give_the_same_folders(original: Path, atomic: Path, tmp_path: Path) -> None:
    a = connector("ml100k").write_sites(original, tmp_path / "a", "", {})
    b = connector("ml100k").write_sites(atomic, tmp_path / "b", "zip", {})
    assert [ref.name for ref in a] == [ref.name for ref in b]
    for one, other in zip(a, b, strict=True):
        for name in ("products.parquet", "events.parquet", "site.toml"):
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_small_shops_and_drawn_people(original: Path, tmp_path: Path) -> None:
    source = connector("ml100k")
    (ref,) = source.write_sites(original, tmp_path / "out", "", {"min_users": 2})
    assert ref.name == "zip-5"
    few = source.write_sites(original, tmp_path / "few", "", {"users_per_site": 1, "seed": 3})
    assert [read_site(ref.folder).events["user_id"].n_unique() for ref in few] == [1, 1]
    with pytest.raises(InputError, match="no site is left"):
        source.write_sites(original, tmp_path / "none", "", {"min_users": 3})


def test_refusals(original: Path, atomic: Path, tmp_path: Path) -> None:
    source, out = connector("ml100k"), tmp_path / "out"
    with pytest.raises(ConfigError, match="parted by 'gender'"):
        source.write_sites(original, out, "gender", {})
    with pytest.raises(ConfigError, match="unknown option 'min_user'"):
        source.write_sites(original, out, "", {"min_user": 3})
    for path in (None, original / "u.data"):
        with pytest.raises(InputError, match="needs the folder"):
            source.write_sites(path, out, "", {})
    with pytest.raises(InputError, match="holds neither"):
        source.write_sites(tmp_path, out, "", {})
    (original / "u.data").write_text("1\t3\t3\tnoon\n")
    with pytest.raises(InputError, match="has no time") as caught:
        source.write_sites(original, out, "", {})
    assert "rating 1" in caught.value.sentence()
    (original / ORIGINAL[1]).write_text("1|Net\n")
    with pytest.raises(InputError, match="has 2 columns, not 24"):
        source.write_sites(original, out, "", {})
    (atomic / ATOMIC[2]).write_text("user_id:token\n1\n")
    with pytest.raises(InputError, match="no column 'zip_code'"):
        source.write_sites(atomic, out, "", {})
    (atomic / ATOMIC[0]).write_text("")
    with pytest.raises(InputError, match="can't be read"):
        source.write_sites(atomic, out, "", {})
    assert not out.exists()


@pytest.mark.skipif(not DATA.is_dir(), reason="the MovieLens files are not here")
def test_real_ratings(tmp_path: Path) -> None:
    refs = connector("ml100k").write_sites(DATA, tmp_path / "out", "", {})
    assert [ref.name for ref in refs] == [f"zip-{digit}" for digit in range(10)]
    sites = [read_site(ref.folder) for ref in refs]
    assert all(site.complaints == () for site in sites)
    assert sum(site.events["user_id"].n_unique() for site in sites) == 925
    assert len({site.split for site in sites}) == 1
