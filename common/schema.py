"""The data contract: what a site's tables and its `site.toml` hold, as data.

Invariant: ingest, connectors and the synthetic bazaar all read the columns, types and ranges from here, so a
table that one of them writes is a table that the others accept. Nothing here opens a file.

>>> PRODUCTS.column("price").minimum
0.0
>>> SiteInfo(name="alder").title
'alder'
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from common.errors import ConfigError

Kind = Literal["text", "number", "count", "instant"]
Action = Literal["row skipped", "value cleared", "row kept", "column ignored"]
EVENT_KINDS = ("view", "click", "cart", "purchase", "search")
SUFFIXES = (".csv", ".jsonl", ".parquet")
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    kind : text → String, number → Float64, count → Int64, instant → Datetime("us", "UTC").
    required : the column must exist and no row may leave it empty.
    minimum, maximum : inclusive bounds of numbers and counts.
    choices : the only values allowed; empty for any.
    on_bad : what is dropped when a value breaks the rules: the whole row ("skip") or only the value ("clear").
    """

    name: str
    kind: Kind = "text"
    required: bool = False
    unique: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    on_bad: Literal["skip", "clear"] = "clear"

    @property
    def dtype(self) -> pl.DataType:
        """The canonical polars type."""
        match self.kind:
            case "text":
                return pl.String()
            case "number":
                return pl.Float64()
            case "count":
                return pl.Int64()
            case "instant":
                return pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Table:
    """One of a site's tables: its columns in canonical order and the order of its rows."""

    name: str
    columns: tuple[Column, ...]
    sort_by: tuple[str, ...]
    required: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in canonical order."""
        return tuple(column.name for column in self.columns)

    @property
    def polars_schema(self) -> dict[str, pl.DataType]:
        """Canonical name → polars type, in order."""
        return {column.name: column.dtype for column in self.columns}

    def column(self, name: str) -> Column:
        """The column of that name; raises KeyError if there is none."""
        return {column.name: column for column in self.columns}[name]

    def empty(self) -> pl.DataFrame:
        """A data frame with all columns and no rows."""
        return pl.DataFrame(schema=self.polars_schema)


PRODUCTS = Table(
    "products",
    (
        Column("item_id", required=True, unique=True, on_bad="skip"),
        Column("title"),
        Column("description"),
        Column("category"),
        Column("brand"),
        Column("price", "number", minimum=0.0),
        Column("attributes"),
        Column("image"),
        Column("listed_at", "instant"),
        Column("product_code"),
    ),
    sort_by=("item_id",),
    required=True,
)
REVIEWS = Table(
    "reviews",
    (
        Column("review_id", required=True, unique=True, on_bad="skip"),
        Column("user_id", required=True, on_bad="skip"),
        Column("item_id", required=True, on_bad="skip"),
        # With a rating outside the scale, the intended scale isn't known, so the whole review is unusable.
        Column("rating", "number", minimum=1.0, maximum=5.0, on_bad="skip"),
        Column("text"),
        Column("created_at", "instant"),
        Column("image"),
    ),
    sort_by=("user_id", "created_at", "review_id"),
)
EVENTS = Table(
    "events",
    (
        Column("user_id", required=True, on_bad="skip"),
        Column("item_id"),
        Column("event", required=True, choices=EVENT_KINDS, on_bad="skip"),
        Column("at", "instant", required=True, on_bad="skip"),
        Column("session_id"),
        Column("query"),
        # A purchase of zero items isn't a purchase.
        Column("quantity", "count", minimum=1, maximum=1_000_000, on_bad="skip"),
        Column("price", "number", minimum=0.0),
    ),
    sort_by=("user_id", "at", "item_id"),
)
TABLES = (PRODUCTS, REVIEWS, EVENTS)
# Read only to measure its k-anonymity (`clients/quality/anonymity`); it isn't ingested.
CUSTOMERS = Table(
    "customers",
    (
        Column("user_id", required=True, on_bad="skip"),
        Column("age", "number", minimum=0, maximum=130),
        Column("postcode"),
    ),
    sort_by=("user_id",),
)


@dataclass(frozen=True)
class Complaint:
    """One fault in a site's data, described so that its owner can find and correct it.

    `row` is the data row as a person counts it in the file, from 1 after the header. If it is None, the complaint is
    about the whole file, or about as many of its rows as `rows` says.
    """

    file: str
    row: int | None
    column: str
    problem: str
    action: Action
    rows: int = 1

    def sentence(self) -> str:
        """The complaint on one line."""
        row = "" if self.row is None else f", row {self.row}"
        column = f", column '{self.column}'" if self.column else ""
        return f"{self.file}{row}{column}: {self.problem} ({self.action})"


@dataclass(frozen=True)
class SplitDates:
    """Instants (UTC): train < validation_from ≤ validation < test_from ≤ test < test_until."""

    validation_from: datetime
    test_from: datetime
    test_until: datetime


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImagesSection(_Section):
    """Where the pictures lie: a folder or a .zip, relative to the site folder or absolute."""

    path: str = Field(default="images", min_length=1)


class SplitSection(_Section):
    """The dates of the split; all three or none. Dates without a time are midnight, without a zone UTC."""

    validation_from: datetime | None = None
    test_from: datetime | None = None
    test_until: datetime | None = None

    @field_validator("*", mode="after")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        dates = [d for d in (self.validation_from, self.test_from, self.test_until) if d is not None]
        if len(dates) not in (0, 3):
            raise ValueError("give validation_from, test_from and test_until, or none of them")
        if any(a >= b for a, b in pairwise(dates)):
            raise ValueError("validation_from, test_from and test_until must follow one another in time")
        return self

    def dates(self) -> SplitDates | None:
        """The three instants, or None if the site leaves the split to the league."""
        if self.validation_from is None or self.test_from is None or self.test_until is None:
            return None
        return SplitDates(self.validation_from, self.test_from, self.test_until)


class ModalitiesSection(_Section):
    """What the site lets the league learn from. A modality that is switched off is cleared on reading."""

    text: bool = True
    image: bool = True
    reviews: bool = True
    events: bool = True


class PolicySection(_Section):
    """What the site permits, for bad rows and for privacy.

    `on_bad_rows` says whether a bad row is skipped with a complaint or makes the whole site unusable. `epsilon` at
    `delta` is the site's own privacy budget per user, which no league can raise (`clients/ledger`): the most that may
    be spent in any `period_days` days, or ever if that is 0. `ledger` is the folder of the ledger, beside `site.toml`,
    for a site without a vault. The value "run" is only for synthetic and public data: each run then has its own ledger,
    and the league's budget is the only one unless `epsilon` is given.
    """

    on_bad_rows: Literal["skip", "fail"] = "skip"
    epsilon: float | None = Field(None, gt=0, le=1000)
    delta: float = Field(1e-5, gt=0, le=1e-3)
    period_days: int = Field(0, ge=0, le=36_500)
    ledger: str = Field("ledger", min_length=1)


class QualitySection(_Section):
    """The most of each fault that `hansa quality` accepts, as shares of the rows, pictures, users or days concerned."""

    max_refused: float = Field(0.05, ge=0, le=1)
    max_missing: float = Field(0.5, ge=0, le=1)
    max_duplicates: float = Field(0.05, ge=0, le=1)
    max_fakes: float = Field(0.1, ge=0, le=1)
    max_mismatches: float = Field(0.05, ge=0, le=1)
    max_bad_pictures: float = Field(0.05, ge=0, le=1)
    max_log_faults: float = Field(0.05, ge=0, le=1)
    burst_reviews: int = Field(5, ge=2)
    burst_hours: int = Field(24, ge=1)
    template_users: int = Field(3, ge=2)
    crowd: int = Field(5, ge=2, description="how many customers shall share an age band and postcode")
    max_blur: float = Field(0.33, ge=0, le=1)
    max_noise: float = Field(8.0, ge=0, description="grey levels of noise (of 255) that a picture may have")


class VaultSection(_Section):
    """Where the site's vault is, and who may read and write what; `clients.vault.roles` checks the names.

    `path` and `key` are relative to the site folder; without a `path` the site is read from its folder.
    """

    path: str = ""
    key: str = ""
    passphrase: str = "prompt"  # noqa: S105 a way of asking, never a passphrase
    roles: dict[str, dict[str, tuple[str, ...]]] = Field(default_factory=dict)


class SiteInfo(_Section):
    """`site.toml`: who the site is and what it permits."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    title: str = ""
    language: str = Field("en", pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$")
    region: str = ""
    encoding: Literal["utf-8", "gbk", "gb18030"] = "utf-8"
    images: ImagesSection = ImagesSection()
    split: SplitSection = SplitSection()
    modalities: ModalitiesSection = ModalitiesSection()
    policy: PolicySection = PolicySection()
    vault: VaultSection = VaultSection()
    quality: QualitySection = QualitySection()

    @model_validator(mode="before")
    @classmethod
    def _title_from_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("title") and isinstance(data.get("name"), str):
            return data | {"title": data["name"]}
        return data


def parse_site_info(data: dict[str, Any], *, where: str = "site.toml") -> SiteInfo:
    """Check the parsed content of a `site.toml`.

    Raises
    ------
    ConfigError : a key is unknown (the nearest known one is named), missing, or its value is out of range.
    """
    try:
        return SiteInfo.model_validate(data)
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = _known_keys(path[0] if len(path) > 1 else "")
        raise ConfigError(f"unknown key '{key}'", where=where, next_step=did_you_mean(path[-1], known))
    if first["type"] == "missing":
        raise ConfigError(f"the key '{key}' is missing", where=where, next_step=f'add {key} = "…"')
    message = first["msg"].removeprefix("Value error, ").replace("a valid tuple", 'a list, ["…"]')
    if first["type"] == "string_pattern_mismatch" and key == "name":
        message = (
            "a name has lower-case Latin letters, digits, - and _; a title may have any letters "
            "(name 只能用小写字母、数字、- 和 _)"
        )
    raise ConfigError(
        f"the key '{key}' has a value that can't be used",
        where=where,
        why=message,
        next_step="correct the value",
    )


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Name the nearest candidate, or list them all if none is near."""
    candidates = list(candidates)
    near = difflib.get_close_matches(word.lower(), candidates, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else "known are " + ", ".join(candidates)


def end_of_tomorrow(today: date) -> datetime:
    """The first midnight UTC that is in the future everywhere on Earth: two days after `today`."""
    return datetime(today.year, today.month, today.day, tzinfo=UTC) + timedelta(days=2)


def _known_keys(section: str) -> list[str]:
    if not section:
        return list(SiteInfo.model_fields)
    model = SiteInfo.model_fields[section].annotation
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
