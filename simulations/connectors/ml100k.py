"""MovieLens 100k: ratings of films as the purchases of ten shops, one for each first digit of the ZIP code.

Reads two layouts of the public data set of GroupLens Research (Harper & Konstan 2015):

- its own: `u.data`, `u.item`, `u.user` (Latin-1, parted by tabs and bars, without heads);
- RecBole's atomic files: `ml-100k.inter`, `ml-100k.item`, `ml-100k.user` (UTF-8, tabs, heads with types). They know a
  film's year of release, not the day.

A rating becomes a purchase, whatever its stars: it says that somebody watched the film, and what is foretold is what
one watches next. A ZIP code that begins with a letter is Canadian; the few people who have one are left out, since they
are too few for a shop and belong to no digit's region. A film was for sale from its release, or from the shop's first
rating if that is earlier; a release before 1970 is told as 1970. There are no prices and no pictures.

Invariant: time splits all shops at the same two instants, before which eight and nine tenths of all ratings lie. A
shop's films are those rated there before the test; later ratings of other films are left out and counted (`left_out`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl
from pydantic import Field

from common.errors import ConfigError, InputError
from common.schema import EARLIEST, SplitDates
from simulations.connectors.base import (
    ConnectorOptions,
    Options,
    SiteRef,
    SiteTables,
    derive_sites,
    parse_options,
    sample_users,
)

ORIGINAL = ("u.data", "u.item", "u.user")
ATOMIC = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_ORIGINAL_FILM = ("item_id", "title", "released", "video", "address", *GENRES)
_INSTANT = pl.Datetime("us", "UTC")


class MovieLensOptions(ConnectorOptions):
    """Settings of the connector.

    Parameters
    ----------
    min_users : shops with fewer people are left out.
    users_per_site, seed : keep that many people of each shop, drawn by the seed; 0 keeps all.
    """

    min_users: int = Field(default=1, ge=1)
    users_per_site: int = Field(default=0, ge=0)
    seed: int = 0


@dataclass(frozen=True)
class MovieLens:
    """All ratings (user_id, item_id, at), films (item_id, title, genres, released) and people (user_id, zip)."""

    ratings: pl.DataFrame
    films: pl.DataFrame
    people: pl.DataFrame


class MovieLensConnector:
    """Writes one site folder per first digit of the ZIP code."""

    name = "ml100k"

    def write_sites(self, path: Path | None, out: Path, sites_by: str, options: Options) -> list[SiteRef]:
        """See `Connector`. `sites_by` can only be `zip`.

        Raises
        ------
        ConfigError : an option or `sites_by` is unknown.
        InputError : the folder lacks a file, or one can't be read.
        """
        chosen = parse_options(MovieLensOptions, options, self.name)
        if sites_by not in ("", "zip"):
            raise ConfigError(
                f"sites can't be parted by '{sites_by}'",
                where="sites_by",
                next_step="use zip, or leave it out",
            )
        files = _find_files(path)
        identity = {"connector": self.name, "options": chosen.model_dump(mode="json")}
        return derive_sites(out, identity, files, lambda: _sites(files, chosen))


def _find_files(path: Path | None) -> list[Path]:
    if path is None or not path.is_dir():
        raise InputError(
            "the MovieLens connector needs the folder of its files",
            where=str(path or ""),
            next_step=f"name the folder that holds {', '.join(ORIGINAL)}",
        )
    for names in (ORIGINAL, ATOMIC):
        files = [path / name for name in names]
        if all(file.is_file() for file in files):
            return files
    raise InputError(
        f"the folder holds neither {', '.join(ORIGINAL)} nor {', '.join(ATOMIC)}",
        where=str(path),
        next_step="put the three files of one layout there",
    )


def _sites(files: Sequence[Path], options: MovieLensOptions) -> Iterator[SiteTables]:
    source = _read_original(files) if files[0].name == ORIGINAL[0] else _read_atomic(files)
    known = source.ratings.join(source.films, on="item_id", how="semi")
    split = _split(known["at"])
    placed = known.join(source.people, on="user_id").with_columns(pl.col("zip").str.head(1).alias("digit"))
    for digit in "0123456789":
        everyone = placed.filter(pl.col("digit") == digit)
        early = everyone.filter(pl.col("at") < split.test_from)
        seen = early.group_by("item_id").agg(pl.col("at").min().alias("first"))
        of_seen = everyone.join(seen, on="item_id", how="semi")
        if seen.is_empty() or of_seen["user_id"].n_unique() < options.min_users:
            continue
        drawn = sample_users(everyone, options.users_per_site, options.seed)
        events = drawn.join(seen, on="item_id", how="semi").select(
            "user_id", "item_id", pl.lit("purchase").alias("event"), "at"
        )
        yield SiteTables(
            f"zip-{digit}", f"ZIP codes {digit}…", _products(source.films, seen), events,
            region="US", split=split, left_out=drawn.height - events.height,
        )  # fmt: skip


def _split(at: pl.Series) -> SplitDates:
    """Instants before which eight and nine tenths of the ratings lie; ratings of one second stay together."""
    times = at.sort().to_list()
    if not times:
        raise InputError("there are no ratings", where=ORIGINAL[0], next_step="download the files again")
    validation, test = (times[len(times) * tenths // 10] for tenths in (8, 9))
    return SplitDates(validation, test, times[-1] + timedelta(seconds=1))


def _products(films: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    genres = pl.col("genres")
    listed = pl.min_horizontal(pl.col("released"), pl.col("first"))
    return films.join(seen, on="item_id").select(
        "item_id",
        "title",
        genres.list.first().alias("category"),
        genres.list.eval(pl.format("genre={}", pl.element())).list.join("; ").alias("attributes"),
        pl.max_horizontal(listed, pl.lit(EARLIEST, _INSTANT)).alias("listed_at"),
    )


def _read_original(files: Sequence[Path]) -> MovieLens:
    ratings = _table(files[0], "\t", ("user_id", "item_id", "rating", "seconds"))
    films = _table(files[1], "|", _ORIGINAL_FILM)
    people = _table(files[2], "|", ("user_id", "age", "gender", "occupation", "zip"))
    told = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES]
    films = films.select(
        "item_id",
        _title(),
        pl.concat_list(told).list.drop_nulls().alias("genres"),
        pl.col("released").str.to_date("%d-%b-%Y", strict=False).cast(_INSTANT),
    )
    return MovieLens(_timed(ratings, files[0]), films, people.select("user_id", "zip"))


def _read_atomic(files: Sequence[Path]) -> MovieLens:
    ratings = _headed(files[0], {"user_id": "user_id", "item_id": "item_id", "timestamp": "seconds"})
    films = _headed(
        files[1],
        {"item_id": "item_id", "movie_title": "title", "release_year": "released", "class": "genres"},
    )
    people = _headed(files[2], {"user_id": "user_id", "zip_code": "zip"})
    films = films.select(
        "item_id",
        _title(),
        pl.col("genres").str.split(" "),
        pl.col("released").str.to_date("%Y", strict=False).cast(_INSTANT),
    )
    return MovieLens(_timed(ratings, files[0]), films, people)


def _title() -> pl.Expr:
    """A film's title without its year, and articles in front: "Net, The (1995)" is "The Net"."""
    bare = pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", "")
    return bare.str.replace(r"^(.*), (The|A|An)$", "$2 $1").alias("title")


def _timed(ratings: pl.DataFrame, file: Path) -> pl.DataFrame:
    seconds = pl.col("seconds").cast(pl.Float64, strict=False).cast(pl.Int64)
    timed = ratings.select("user_id", "item_id", pl.from_epoch(seconds).cast(_INSTANT).alias("at"))
    if row := timed["at"].is_null().arg_true().to_list()[:1]:
        raise InputError(
            "a rating has no time", where=f"{file}, rating {row[0] + 1}", next_step="download the files again"
        )
    return timed


def _table(file: Path, separator: str, columns: Sequence[str]) -> pl.DataFrame:
    """A file without heads, as text."""
    frame = _read(file, file.read_text("latin-1"), separator, has_header=False)
    if frame.width < len(columns):
        raise InputError(
            f"the file has {frame.width} columns, not {len(columns)}",
            where=str(file), next_step="download the files again",
        )  # fmt: skip
    return frame.select(pl.nth(range(len(columns)))).rename(dict(zip(frame.columns, columns, strict=False)))


def _headed(file: Path, names: dict[str, str]) -> pl.DataFrame:
    """Some columns of an atomic file, as text, under our names; its heads are `name:type`."""
    frame = _read(file, file.read_text("utf-8"), "\t", has_header=True)
    frame = frame.rename({column: column.split(":")[0] for column in frame.columns})
    if missing := [name for name in names if name not in frame.columns]:
        raise InputError(
            f"the file has no column '{missing[0]}'", where=str(file), next_step="download the files again"
        )
    return frame.select(pl.col(theirs).alias(ours) for theirs, ours in names.items())


def _read(file: Path, text: str, separator: str, *, has_header: bool) -> pl.DataFrame:
    try:
        return pl.read_csv(
            io.StringIO(text), separator=separator, has_header=has_header, quote_char=None, infer_schema=False
        )
    except pl.exceptions.PolarsError as fault:
        raise InputError(
            "the file can't be read", where=str(file), why=str(fault).splitlines()[0],
            next_step="download the files again",
        ) from None  # fmt: skip
