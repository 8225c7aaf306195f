"""Remove one person from a sealed site, by the id that the shop knows, with the pictures that only this person posted.

A review may have a photo by its writer. The photo is in a pack with others, under a pseudonym of its file name, so it's
found through the person's reviews; it stays if a product or somebody else's review shows the same file.

Invariant: the names of the pictures to remove are written to the vault before the first row is removed, so a run that
was killed is finished by running it again. Later ingests leave out the person's rows and these pictures.
"""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from clients.anonymise import Pseudonyms
from clients.ingest.into_vault.ingest import KEY, marked
from clients.ingest.into_vault.packs import ERASED_PICTURE, pack, unpack
from clients.ingest.into_vault.tables import read_parts
from clients.vault import Vault
from clients.vault.erase import DEFAULT_ERASERS, Eraser, erase_user
from common.errors import InputError
from common.schema import PRODUCTS, REVIEWS


def pseudonym_of(vault: Vault, user_id: str) -> str:
    """The pseudonym of one of the shop's persons in the vault.

    Raises
    ------
    InputError : nothing was ingested into the vault.
    EnvelopeError : the role may not read the key; only the owner and the auditor may.
    """
    if KEY[1] not in vault.names(KEY[0]):
        raise InputError(
            "the vault holds no key for pseudonyms", why="nothing was ingested into it",
            next_step="run hansa ingest first, or name the person's pseudonym with --pseudonym",
        )  # fmt: skip
    return Pseudonyms(vault.read(*KEY)).of(user_id.strip())


def forget(vault: Vault, pseudonym: str) -> Path:
    """Remove a person's rows, features and own pictures; returns the signed receipt's file.

    Raises
    ------
    EnvelopeError : the role may not write one of the kinds.
    """
    for name in sorted(_own_pictures(vault, pseudonym)):
        vault.write("logs", ERASED_PICTURE + name, b"")
    erased = marked(vault, ERASED_PICTURE)
    return erase_user(vault, pseudonym, {**DEFAULT_ERASERS, "images": _pictures_eraser(erased)})


def _own_pictures(vault: Vault, pseudonym: str) -> set[str]:
    """Pictures that this person's reviews show, and no product and nobody else's review."""
    parts = [name for name in vault.names("reviews") if _is_table(vault, "reviews", name)]
    reviews = read_parts(vault, REVIEWS, parts, ["user_id", "image"]).drop_nulls("image")
    mine = set(reviews.filter(pl.col("user_id") == pseudonym)["image"])
    if not mine:
        return set()
    others = reviews.filter(pl.col("user_id").ne_missing(pseudonym))["image"]
    tables = [name for name in vault.names("products") if _is_table(vault, "products", name)]
    products = read_parts(vault, PRODUCTS, tables, ["image"])["image"].drop_nulls()
    return mine - set(others) - set(products)


def _is_table(vault: Vault, kind: str, name: str) -> bool:
    content = vault.read(kind, name)
    return content[:4] == b"PAR1" and "image" in pl.read_parquet_schema(io.BytesIO(content))


def _pictures_eraser(erased: frozenset[str]) -> Eraser:
    def erase(name: str, content: bytes, pseudonym: str) -> tuple[bytes | None, int]:
        pictures = unpack(content)
        remaining = {name: bytes(data) for name, data in pictures.items() if name not in erased}
        return (
            (content, 0)
            if len(remaining) == len(pictures)
            else (pack(remaining), len(pictures) - len(remaining))
        )

    return erase
