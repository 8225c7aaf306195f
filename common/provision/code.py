"""Which code a party runs: one digest over the files of `common`, `clients` and `server`.

Invariant: an installed Hansa and a Flower bundle made from it have the same digest. So by comparing two strings a site
can refuse a bundle, and a contract can refuse an installation. Only names and bytes of Python files count.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import PurePosixPath

from common.errors import WireError
from common.files import PROJECT

ROOMS = ("clients", "common", "server")
_MOST_BYTES = 1 << 26


def installed_code() -> dict[str, bytes]:
    """The Python files of the rooms that the parties of a league run, by path from the project's root."""
    files = {}
    for room in ROOMS:
        for path in (PROJECT / room).rglob("*.py"):
            files[path.relative_to(PROJECT).as_posix()] = path.read_bytes()
    return files


def code_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 in hex over the names and digests of the files, in the order of their names."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def bundle_code(bundle: bytes) -> dict[str, bytes]:
    """The Python files of a Flower bundle.

    Raises
    ------
    WireError : it isn't a bundle, or it holds code outside the rooms.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise WireError("the coordinator's bundle is larger than any code of Hansa's", where="bundle")
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        raise WireError("the coordinator's bundle can't be read", where="bundle") from None
    code = {name: data for name, data in files.items() if name.endswith(".py")}
    foreign = next((name for name in code if PurePosixPath(name).parts[0] not in ROOMS), "")
    if foreign:
        raise WireError("the coordinator's bundle holds code that isn't Hansa's", where="bundle")
    return code
