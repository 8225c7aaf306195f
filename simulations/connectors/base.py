"""What every connector does: turn other people's data into ordinary site folders.

Invariant: a derived league of sites appears whole or not at all, and is made again only when its source, its
options or the form of its folders has changed. Nothing downstream can tell which connector wrote a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import ConfigError, InputError
from common.schema import EVENTS, PRODUCTS, REVIEWS, SplitDates, Table, did_you_mean

# Raise it when the same source and options shall give other folders than before.
FORM = 3
RECORD = "source.json"
Options = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class SiteRef:
    """One site of a league, on disk. `held_out` sites are left out of training and only evaluated.

    `left_out`: events that the connector's rule of candidates kept out of the folder.
    """

    name: str
    title: str
    folder: Path
    language: str = "en"
    region: str = ""
    held_out: bool = False
    left_out: int = 0


class Connector(Protocol):
    """A source of site folders.

    `write_sites` returns the sites in league order.

    Parameters of `write_sites`
    ---------------------------
    path : where the source lies; None where the connector finds it itself.
    out : folder to hold the site folders; a connector to existing folders leaves it alone.
    sites_by : the column that parts the source into sites; empty for the connector's default.
    options : the connector's own settings.
    """

    @property
    def name(self) -> str: ...

    def write_sites(self, path: Path | None, out: Path, sites_by: str, options: Options) -> list[SiteRef]: ...


class ConnectorOptions(BaseModel):
    """Base of a connector's settings: frozen, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class SiteTables:
    """One site before it is written.

    `images`: absolute path of a folder or a .zip; None for no pictures. `left_out`: see `SiteRef`.
    """

    name: str
    title: str
    products: pl.DataFrame
    events: pl.DataFrame
    reviews: pl.DataFrame | None = None
    language: str = "en"
    region: str = ""
    images: Path | None = None
    split: SplitDates | None = None
    left_out: int = 0


Chosen = TypeVar("Chosen", bound=ConnectorOptions)


def parse_options(model: type[Chosen], options: Options, connector: str) -> Chosen:
    """Check a connector's settings.

    Raises
    ------
    ConfigError : an option is unknown (the nearest known one is named) or its value can't be used.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    where = f"options of the connector '{connector}'"
    if first["type"] == "extra_forbidden":
        raise ConfigError(
            f"unknown option '{key}'", where=where, next_step=did_you_mean(key, model.model_fields)
        )
    raise ConfigError(
        f"the option '{key}' can't be used", where=where, why=first["msg"], next_step="correct it"
    )


def derive_sites(
    out: Path, identity: Mapping[str, Any], sources: Iterable[Path], build: Callable[[], Iterable[SiteTables]]
) -> list[SiteRef]:
    """Write the sites that `build` yields under `out`, unless they exist already.

    Parameters
    ----------
    identity : connector, options and everything else that determines the result; JSON-able.
    sources : files; their names, sizes and times of change identify their content.

    Raises
    ------
    InputError : `out` holds something else, or there is no site.
    """
    digest = _digest(identity, sources)
    recorded = _recorded(out)
    if recorded is not None and recorded.get("digest") == digest and _all_there(out, recorded):
        return [SiteRef(**(site | {"folder": out / site["folder"]})) for site in recorded["sites"]]
    if out.exists() and recorded is None and any(out.iterdir()):
        raise InputError(
            "the folder for derived sites holds other things",
            where=str(out),
            why="they would be overwritten",
            next_step="name an empty folder",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        refs = [_write_site(temporary, site) for site in build()]
        if not refs:
            raise InputError(
                "no site is left", where=str(identity.get("connector", "")), next_step="loosen the options"
            )
        record = {
            "digest": digest,
            "identity": identity,
            "sites": [asdict(r) | {"folder": r.folder.name} for r in refs],
        }
        (temporary / RECORD).write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")
        _replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [SiteRef(**(asdict(ref) | {"folder": out / ref.folder.name})) for ref in refs]


def slug(text: str, taken: Iterable[str] = ()) -> str:
    """A site name made of the text: lower-case letters, digits and hyphens, and none of `taken`."""
    base = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48] or "site"
    name, number = base, 2
    while name in set(taken):
        name, number = f"{base}-{number}", number + 1
    return name


def sample_users(events: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """Events of `count` users drawn without replacement; all of them where count is 0."""
    users = events["user_id"].unique().to_list()
    if count <= 0 or len(users) <= count:
        return events
    # A hash, so that the draw depends neither on the order of rows nor on a library's generator.
    ordered = sorted(users, key=lambda user: hashlib.sha256(f"{seed}:{user}".encode()).digest())[:count]
    return events.filter(pl.col("user_id").is_in(ordered))


def _digest(identity: Mapping[str, Any], sources: Iterable[Path]) -> str:
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    text = json.dumps([FORM, identity, files], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _recorded(out: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "sites" in record else None


def _all_there(out: Path, record: Mapping[str, Any]) -> bool:
    return all((out / site["folder"] / "site.toml").is_file() for site in record["sites"])


def _replace(temporary: Path, out: Path) -> None:
    if not out.exists():
        os.replace(temporary, out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    os.replace(out, old / "sites")
    os.replace(temporary, out)
    shutil.rmtree(old)


def _write_site(root: Path, site: SiteTables) -> SiteRef:
    folder = root / site.name
    folder.mkdir()
    for table, frame in ((PRODUCTS, site.products), (EVENTS, site.events), (REVIEWS, site.reviews)):
        if frame is not None:
            _canonical(frame, table).write_parquet(folder / f"{table.name}.parquet")
    (folder / "site.toml").write_text(_site_toml(site), encoding="utf-8")
    return SiteRef(site.name, site.title, folder, site.language, site.region, left_out=site.left_out)


def _canonical(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    columns = [column for column in table.columns if column.name in frame.columns]
    return frame.select(pl.col(c.name).cast(c.dtype) for c in columns).sort(
        [name for name in table.sort_by if name in frame.columns], nulls_last=True, maintain_order=True
    )


def _site_toml(site: SiteTables) -> str:
    lines = [f"{key} = {json.dumps(getattr(site, key))}" for key in ("name", "title", "language", "region")]
    if site.images is None:
        lines += ["", "[modalities]", "image = false"]
    else:
        lines += ["", "[images]", f"path = {json.dumps(str(site.images))}"]
    # Public data: each run has a privacy ledger of its own (`clients/ledger`).
    lines += ["", "[policy]", 'ledger = "run"']
    if site.split is not None:
        lines += [
            "",
            "[split]",
            *(f"{key} = {json.dumps(at.isoformat())}" for key, at in asdict(site.split).items()),
        ]
    return "\n".join(lines) + "\n"
