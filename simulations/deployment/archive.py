"""Pack a kit into one file to hand over, and unpack it: in a fixed order, with checksum and signature beside it.

Invariants: equal kits give equal archives. Nothing is unpacked into a kit before the authority's signature over the
whole archive, the authority's fingerprint and the checksum of every file have been checked.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from common.errors import RunError
from common.files import write_whole
from common.provision import kit_files
from common.provision.authority import Authority, check_signature, fingerprint

SUMS = "SHA256SUMS"
_MADE_LATER = ("logs", "private/out", "private/flower", "run")


def write_sums(kit: Path) -> None:
    """Write the checksums of all files of a new kit, in the form that `sha256sum -c` reads."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(kit)}\n" for path in _files(kit)
    ]
    write_whole(kit / SUMS, "".join(lines).encode())


def check_sums(kit: Path) -> None:
    """Compare a kit with its checksums.

    Raises
    ------
    RunError : a file differs, is missing, or isn't listed.
    """
    listed = {}
    for line in (kit / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    for name in sorted({*listed, *(str(path.relative_to(kit)) for path in _files(kit))}):
        path = kit / name
        if not path.is_file() or listed.get(name) != hashlib.sha256(path.read_bytes()).hexdigest():
            raise RunError(
                "the kit isn't whole", where=name, why=f"it isn't what {SUMS} says",
                next_step="get the archive again",
            )  # fmt: skip


def pack_kit(kit: Path, archive: Path, authority: Authority) -> Path:
    """Pack a kit, and write `.sha256` and `.sig` beside it."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as pressed,
        tarfile.open(fileobj=pressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted([*_files(kit), kit / SUMS]):
            entry = tarfile.TarInfo(str(path.relative_to(kit)))
            entry.size, entry.mode = path.stat().st_size, 0o700 if path.suffix == ".sh" else 0o600
            with path.open("rb") as file:
                tar.addfile(entry, file)
    data = packed.getvalue()
    with open(os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    beside = {
        ".sha256": f"{hashlib.sha256(data).hexdigest()}  {archive.name}\n",
        ".sig": authority.sign(data).hex(),
    }
    for suffix, text in beside.items():
        write_whole(archive.with_name(archive.name + suffix), text.encode())
    return archive


def open_kit(archive: Path, into: Path, expected: str) -> str:
    """Unpack a kit into a folder that holds nothing of another kit; returns the authority's fingerprint.

    Parameters
    ----------
    expected : the authority's fingerprint as the receiver heard it, at least its first 16 digits; empty to take the
        archive's word.

    Raises
    ------
    RunError : the archive isn't whole, isn't its authority's, or would replace a kit.
    """
    if (into / kit_files.SITE).exists() or (into / kit_files.COORDINATOR).exists():
        raise RunError("the folder holds a kit already", where=str(into), next_step="choose another folder")
    data = archive.read_bytes()
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".kit-") as name:
        fresh = Path(name)
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
                _unpack(tar, fresh)
            certificate = (fresh / kit_files.AUTHORITY).read_bytes()
            signature = bytes.fromhex(archive.with_name(archive.name + ".sig").read_text().strip())
        except (tarfile.TarError, OSError, EOFError, ValueError):
            raise RunError(
                "the kit's archive can't be read", where=archive.name, why=f"it or {archive.name}.sig is damaged",
                next_step="get both again",
            ) from None  # fmt: skip
        actual = fingerprint(certificate)
        stated = expected.lower().replace(":", "").replace(" ", "")
        if stated and (len(stated) < 16 or not actual.startswith(stated)):
            raise RunError(
                "the kit is of another authority than you were told", where=archive.name, why=f"its own is {actual}",
                next_step="don't use it; ask who provisions the league",
            )  # fmt: skip
        check_signature(certificate, data, signature, archive.name)
        check_sums(fresh)
        _move(fresh, into)
    return actual


def _unpack(tar: tarfile.TarFile, into: Path) -> None:
    """Unpack plain files into the folder, readable by their owner only. (tarfile has filters since Python 3.11.4 only.)

    Raises
    ------
    TarError : an entry is something else, or would lie outside.
    """
    for entry in tar:
        target, source = into / entry.name, tar.extractfile(entry) if entry.isreg() else None
        if source is None or into.resolve() not in target.resolve().parents:
            raise tarfile.TarError(f"{entry.name} is no plain file of a kit")
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, entry.mode & 0o700), "wb") as file:
            shutil.copyfileobj(source, file)


def _move(fresh: Path, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    (into / "private").mkdir(exist_ok=True, mode=0o700)
    for path in sorted(fresh.rglob("*")):
        target = into / path.relative_to(fresh)
        if path.is_dir():
            target.mkdir(exist_ok=True, mode=0o700)
        elif target.exists() and target.parent.name == "private":
            raise RunError(
                "the archive would replace a private key that was made here", where=target.name,
                next_step="ask for a kit made from this site's request, or unpack it elsewhere",
            )  # fmt: skip
        else:
            shutil.move(path, target)


def _files(kit: Path) -> list[Path]:
    paths = [path for path in kit.rglob("*") if path.is_file() and path.name != SUMS]
    return sorted(path for path in paths if not str(path.relative_to(kit)).startswith(_MADE_LATER))
