# ruff: noqa: E501 - a table of inputs is read in one piece
"""Every parser that a stranger's bytes reach, as a function of bytes, and inputs near which faults may lie.

Invariant: a parser takes the bytes or raises a `HansaError`; anything else that leaves it is a fault.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from PIL import Image

from clients.anonymise import mask
from clients.ingest.complaints import ComplaintBook
from clients.ingest.files import table_batches
from clients.ingest.images import ImageStore, decode_image
from clients.ingest.into_vault.packs import pack, unpack
from clients.ingest.site import read_site_info
from clients.ingest.table_rules import typed
from clients.ingest.text import clean_text, words
from clients.vault.erase import read_receipt
from clients.vault.facts import VaultFacts
from common.audit import AuditLog, verify
from common.crypto.envelope import open_sealed
from common.errors import HansaError
from common.schema import EVENTS, TABLES

GOLDEN = Path(__file__).parent.parent / "golden"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@dataclass(frozen=True)
class Parser:
    """A function of bytes that may raise nothing but a `HansaError`, and inputs to begin from."""

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]

    def try_on(self, data: bytes) -> None:
        """Parse; a fault for people is what was promised, and no fault of the parser."""
        with contextlib.suppress(HansaError):
            self.parse(data)


def _file(data: bytes, name: str) -> Path:
    # One file per name, written over again: a parser reads it and is done.
    path = _FOLDER / name
    path.write_bytes(data)
    return path


_ROOT = tempfile.TemporaryDirectory(prefix="parsers-")
_FOLDER = Path(_ROOT.name)


def _table(suffix: str) -> Callable[[bytes], object]:
    def parse(data: bytes) -> object:
        path, book = _file(data, f"events{suffix}"), ComplaintBook()
        return [typed(raw, EVENTS, _NOW, book).height for raw in table_batches(path, EVENTS, "utf-8", book)]

    return parse


def _gbk(data: bytes) -> object:
    path, book = _file(data, "gbk.csv"), ComplaintBook()
    return [len(raw.rows) for table in TABLES for raw in table_batches(path, table, "gbk", book)]


def _toml(data: bytes) -> object:
    return read_site_info(_file(data, "site.toml").parent)


def _archive(data: bytes) -> object:
    store = ImageStore(_file(data, "pictures.zip"))
    return [len(store.read(name)) for name in sorted(store.names())[:20]]


def _text(data: bytes) -> object:
    text = clean_text(data.decode("utf-8", "replace"))
    assert not any("\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069" for letter in text)
    return mask(text), words(text, "zh")


def _envelope(data: bytes) -> object:
    with open_sealed(_file(data, "x.hve"), _KEY, context=b"fuzz") as sealed:
        return sealed.read()


def _log(data: bytes) -> object:
    return verify(_file(data, "audit.jsonl"), _SIGNER.public_key())


_KEY = load_pem_private_key((GOLDEN / "TEST-ONLY-trainer.pem").read_bytes(), None)
_CSV = (
    b"user_id,item_id,event,at,quantity,price\nu1,i1,view,2024-02-01T10:00:00Z,,\n"
    b'"u,2",i2,purchase,2024-02-01,2,9.5\n\xe5\xae\xa2,=1+1,cart,1970-01-01 00:00,1e3,-1\n'
)
_JSONL = b'{"user_id": "u1", "item_id": 7, "event": "view", "at": "2024-02-01", "x": [1, {"y": null}]}\n[1]\n"\\ud800"\n'


def _parquets() -> tuple[bytes, ...]:
    """As polars writes it, and plain, so that changed bytes reach what lies under the compression."""
    frame = pl.DataFrame(
        {"user_id": ["u"] * 3, "item_id": ["i"] * 3, "event": ["view"] * 3, "at": [_NOW] * 3}
    )
    packed, plain = io.BytesIO(), io.BytesIO()
    frame.write_parquet(packed)
    pq.write_table(
        frame.to_arrow(), plain, compression="none", data_page_version="2.0", write_statistics=False
    )
    return packed.getvalue(), plain.getvalue()


def _picture(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(buffer, form)
    return buffer.getvalue()


def _zip() -> bytes:
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.png", _picture("PNG"))
        archive.writestr("../c.png", b"x" * 100)
    return buffer.getvalue()


def _log_seed() -> bytes:
    path = _FOLDER / "seed.jsonl"
    log = AuditLog.open(path, _SIGNER)
    log.append("open", {"kind": "reviews"})
    log.append("write", {"kind": "reviews", "sequence": 1})
    return path.read_bytes()


_FACTS = json.dumps(
    {"format": 1, "id": "00", "roles": {"owner": {}}, "rights": {}, "past_signers": [], "signature": "00"}
)
PARSERS: dict[str, Parser] = {
    "csv": Parser(_table(".csv"), (_CSV, b"\xef\xbb\xbf" + _CSV, b'user_id,item_id,event,at\n"open\n')),
    "gbk": Parser(_gbk, ("user_id,item_id,event,at\n客,一,view,2024-02-01\n".encode("gbk"),)),
    "jsonl": Parser(_table(".jsonl"), (_JSONL, b"[" * 3000, b'{"at": 1e999}')),
    "parquet": Parser(_table(".parquet"), _parquets()),
    "site.toml": Parser(_toml, (b'name = "a"\n[split]\nvalidation_from = 2024-01-01\n[vault.roles.trainer]\nread = ["x"]\n',)),
    "picture": Parser(decode_image, tuple(_picture(form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP"))),
    "archive": Parser(_archive, (_zip(),)),
    "text": Parser(_text, ("<b>Ｇｏｏｄ</b>&amp;lt;\u202e 电话13812345678 eve@example.com".encode(), b"&#x202e;<script>")),
    "pack": Parser(unpack, (pack({"a": b"1", "b": b"22"}), b"HPK1\x00\x00\x00\x02{}")),
    "envelope": Parser(_envelope, tuple((GOLDEN / f"{name}.hve").read_bytes() for name in ("empty", "short"))),
    "vault.json": Parser(lambda data: VaultFacts.read(_file(data, "vault.json")), (_FACTS.encode(), b"{}", b"[]")),
    "audit log": Parser(_log, (_log_seed(), b'{"n":0}\n')),
    "receipt": Parser(
        lambda data: read_receipt(_file(data, "receipt.json"), _SIGNER.public_key()),
        (b'{"signature": "00", "remains": []}', b'{"signature": 1}'),
    ),
}  # fmt: skip
