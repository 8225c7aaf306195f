"""A site's pictures: a store that reads them by name, and a decoder that is safe against hostile pictures.

Invariant: a name never reaches a file outside the store, and nothing is decoded before its size on disk,
format, frame count and pixel count are known to be within the limits. Every fault is an `InputError`.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import InputError

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


class ImageStore:
    """Pictures of one site in a folder or a .zip file, read on demand. Safe for threads and forks.

    Raises
    ------
    InputError : `root` is neither a folder nor a readable .zip file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._zip: zipfile.ZipFile | None = None
        self._zip_pid = 0
        self._is_zip = root.suffix.lower() == ".zip" and root.is_file()
        if self._is_zip:
            self._names = frozenset(
                entry.filename
                for entry in self._archive().infolist()
                if _is_inside(entry.filename) and not entry.filename.endswith("/")
            )
        elif root.is_dir():
            self._names = frozenset(_names_under(root))
            self._inside = os.path.join(os.path.realpath(root), "")
        else:
            raise InputError(
                "the image store is neither a folder nor a .zip file",
                where=str(root),
                next_step="correct [images] path in site.toml",
            )

    @classmethod
    def empty(cls, root: Path) -> ImageStore:
        """A store without pictures, for a site that has none."""
        store = cls.__new__(cls)
        store.root, store._lock, store._zip, store._zip_pid = root, threading.Lock(), None, 0
        store._is_zip, store._names = False, frozenset()
        return store

    def names(self) -> frozenset[str]:
        """Names of all pictures, with `/` between folders."""
        return self._names

    def look(self, name: str) -> tuple[int, int]:
        """A picture's size, and its time or checksum: they show whether it has changed, without reading it."""
        if self._is_zip:
            with self._lock:
                entry = self._archive().getinfo(name)
            return entry.file_size, entry.CRC
        try:
            stat = (self.root / name).stat()
        except OSError:
            return 0, 0
        return stat.st_size, stat.st_mtime_ns

    def problem(self, name: str) -> str:
        """Why a name can't be read; empty if it can."""
        if name in self._names:
            return ""
        if not _is_inside(name):
            return "the path leaves the image folder"
        # Names that exist and yet are not listed are links whose target lies outside.
        if not self._is_zip and _exists(self.root / name) and not (self.root / name).is_dir():
            return "the path leaves the image folder through a link"
        return "no such picture"

    def read(self, name: str) -> bytes:
        """The bytes of one picture, at most `MAX_BYTES`.

        Raises
        ------
        InputError : there is no such picture, the name leaves the store, or the picture is damaged or too
            large.
        """
        if problem := self.problem(name):
            raise InputError(
                f"{problem}: '{name}'", where=str(self.root), next_step="correct the image column"
            )
        try:
            data = self._read_zip(name) if self._is_zip else self._read_file(name)
        except (
            OSError,
            zipfile.BadZipFile,
            zlib.error,
            RuntimeError,
            ValueError,
            EOFError,
            struct.error,
        ) as fault:
            raise InputError(
                f"the picture '{name}' can't be read",
                where=str(self.root),
                why=str(fault),
                next_step="replace it",
            ) from None
        if len(data) > MAX_BYTES:
            raise _too_many_bytes(name)
        return data

    def _read_file(self, name: str) -> bytes:
        path = self.root / name
        # A link may have been planted after the names were listed.
        if not os.path.realpath(path).startswith(self._inside):
            raise ValueError("the path leaves the image folder through a link")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)

    def _read_zip(self, name: str) -> bytes:
        with self._lock, self._archive().open(name) as file:
            return file.read(MAX_BYTES + 1)

    def _archive(self) -> zipfile.ZipFile:
        # A forked process shares the parent's file offset, so it opens the archive anew.
        if self._zip is None or self._zip_pid != os.getpid():
            try:
                self._zip, self._zip_pid = zipfile.ZipFile(self.root), os.getpid()
            except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as fault:
                raise InputError(
                    "the image archive can't be read",
                    where=str(self.root),
                    why=str(fault),
                    next_step="zip it again",
                ) from None
        return self._zip


def decode_image(data: bytes, size: tuple[int, int] | None = None, *, where: str = "") -> Image.Image:
    """Decode one picture to upright RGB.

    Parameters
    ----------
    data : the file's bytes.
    size : (width, height) in pixels to resize to, bicubic; None keeps the picture's own.
    where : what to call the picture in an error.

    Raises
    ------
    InputError : too many bytes, pixels or frames, damaged, or none of JPEG, PNG, WEBP, GIF and BMP.
    """
    if len(data) > MAX_BYTES:
        raise _too_many_bytes(where)
    try:
        with warnings.catch_warnings():
            # Pillow only warns between its own limit and twice that; ours is lower and is checked below.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                _check_header(picture, where)
                if size is not None and picture.format == "JPEG":
                    picture.draft("RGB", size)
                upright = ImageOps.exif_transpose(picture)
                rgb = upright.convert("RGB")
    except UnidentifiedImageError:
        raise _refused(
            "it is no picture of a known format", where, f"use one of {', '.join(FORMATS)}"
        ) from None
    except Image.DecompressionBombError:
        raise _too_many_pixels(where) from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        EOFError,
        struct.error,
    ) as fault:
        raise _refused(f"it is damaged or cut off: {fault}", where, "replace it") from None
    except (OverflowError, ZeroDivisionError, AttributeError, zlib.error, MemoryError) as fault:
        raise _refused(f"it is damaged: {type(fault).__name__}", where, "replace it") from None
    return rgb if size is None else rgb.resize(size, Image.Resampling.BICUBIC)


def decode_array(data: bytes, size: tuple[int, int], *, where: str = "") -> NDArray[np.uint8]:
    """As `decode_image`, as uint8 of shape (height, width, 3)."""
    return np.asarray(decode_image(data, size, where=where), dtype=np.uint8)


def _check_header(picture: Image.Image, where: str) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(where)
    if getattr(picture, "n_frames", 1) > 1:
        raise _refused("it is animated", where, "keep one frame")


def _names_under(root: Path) -> list[str]:
    inside = root.resolve()
    names: list[str] = []
    for folder, _, files in os.walk(root):
        for file in files:
            path = Path(folder) / file
            if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(inside)):
                continue
            names.append(path.relative_to(root).as_posix())
    return names


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        bool(name)
        and "\0" not in name
        and "\\" not in name
        and not path.is_absolute()
        and ".." not in path.parts
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except (OSError, ValueError):
        return False


def _refused(why: str, where: str, next_step: str) -> InputError:
    return InputError("a picture can't be used", where=where, why=why, next_step=next_step)


def _too_many_bytes(where: str) -> InputError:
    return _refused(f"it has more than {MAX_BYTES // 2**20} MB", where, "save it smaller")


def _too_many_pixels(where: str) -> InputError:
    return _refused(f"it has more than {MAX_PIXELS // 10**6} million pixels", where, "save it smaller")
