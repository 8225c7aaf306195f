"""The image store stays inside its root, and the decoder refuses what could harm."""

from __future__ import annotations

import io
import os
import struct
import threading
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clients.ingest import ImageStore, decode_array, decode_image
from clients.ingest.images import FORMATS, MAX_BYTES
from common.errors import InputError


def encoded(form: str = "PNG", size: tuple[int, int] = (8, 6), **how: object) -> bytes:
    buffer = io.BytesIO()
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint32).reshape(size[1], size[0], 3) % 251
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, form, **how)
    return buffer.getvalue()


def frames(form: str) -> bytes:
    buffer = io.BytesIO()
    first, second = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))
    first.save(buffer, form, save_all=True, append_images=[second])
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose body is tiny."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("form", FORMATS)
def test_every_allowed_format_becomes_rgb_of_the_asked_size(form: str) -> None:
    picture = decode_image(encoded(form), (5, 7))
    assert (picture.mode, picture.size) == ("RGB", (5, 7))
    assert decode_array(encoded(form), (5, 7)).shape == (7, 5, 3)
    assert decode_image(encoded(form)).size == (8, 6)


def test_lossless_pixels_are_kept() -> None:
    original = np.asarray(Image.open(io.BytesIO(encoded())))
    assert np.array_equal(decode_array(encoded(), (8, 6)), original)


def test_exif_orientation_is_applied() -> None:
    sideways = Image.new("RGB", (40, 20), "white")
    sideways.paste("black", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    sideways.save(buffer, "JPEG", exif=exif, quality=95)
    upright = np.asarray(decode_image(buffer.getvalue()))
    assert upright.shape == (40, 20, 3)
    assert upright[:15].mean() < 30
    assert upright[25:].mean() > 220


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        (b"", "no picture"),
        (b"not a picture at all", "no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
        (encoded("TIFF"), "no picture"),
        (encoded("JPEG", (64, 64))[:-200], "damaged"),
        (encoded("PNG", (64, 64))[:200], "damaged"),
        (encoded("PNG")[:20], "damaged"),
        (png_header(60_000, 60_000), "million pixels"),
        (png_header(10_000, 6_000), "million pixels"),
        (png_header(1 << 31, 1), ""),
        (frames("GIF"), "animated"),
        (frames("WEBP"), "animated"),
        (frames("PNG"), "animated"),
        (b"\0" * (MAX_BYTES + 1), "20 MB"),
    ],
    ids=[
        "empty",
        "text",
        "svg",
        "tiff",
        "cut jpeg",
        "cut png",
        "cut header",
        "bomb",
        "too many pixels",
        "absurd size",
        "animated gif",
        "animated webp",
        "animated png",
        "too many bytes",
    ],
)
def test_unusable_pictures_are_refused(data: bytes, phrase: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_image(data, (32, 32), where="sites/alder/images/x.png")
    assert phrase in caught.value.sentence()
    assert "x.png" in caught.value.sentence()


@settings(max_examples=150, deadline=None)
@given(
    form=st.sampled_from(FORMATS),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    keep=st.integers(0, 10**6),
)
def test_mutated_pictures_raise_nothing_but_input_errors(
    form: str, edits: list[tuple[int, int]], keep: int
) -> None:
    data = bytearray(encoded(form))
    for place, value in edits:
        data[place % len(data)] = value
    try:
        picture = decode_image(bytes(data[: max(1, keep % (2 * len(data)))]), (16, 16))
    except InputError:
        return
    assert (picture.mode, picture.size) == ("RGB", (16, 16))


@pytest.fixture(params=["folder", "zip"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    (tmp_path / "secret.png").write_bytes(b"secret")
    if request.param == "folder":
        (tmp_path / "images" / "in").mkdir(parents=True)
        (tmp_path / "images" / "a.png").write_bytes(b"A")
        (tmp_path / "images" / "in" / "b.png").write_bytes(b"B")
        return ImageStore(tmp_path / "images")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.png", b"A")
        archive.writestr("in/b.png", b"B")
        archive.writestr("../secret.png", b"secret")
        archive.writestr("/etc/secret.png", b"secret")
    return ImageStore(tmp_path / "images.zip")


def test_store_names_and_reads(store: ImageStore) -> None:
    assert store.names() == {"a.png", "in/b.png"}
    assert (store.read("a.png"), store.read("in/b.png")) == (b"A", b"B")


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "in/../../secret.png", "/etc/passwd", "", "a\0.png", "..\\secret.png", "in", "c.png"],
)
def test_store_reads_nothing_else(store: ImageStore, name: str) -> None:
    assert store.problem(name)
    with pytest.raises(InputError):
        store.read(name)


def test_store_reads_from_many_threads_at_once(store: ImageStore) -> None:
    wrong: list[bytes] = []

    def work() -> None:
        for _ in range(200):
            wrong.extend(data for data in (store.read("a.png"),) if data != b"A")
            wrong.extend(data for data in (store.read("in/b.png"),) if data != b"B")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_links_inside_are_followed_and_links_outside_are_not(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"A")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (images / "in.png").symlink_to(images / "a.png")
    (images / "out.png").symlink_to(tmp_path / "secret.png")
    (images / "dangling.png").symlink_to(tmp_path / "nothing")
    (images / "up").symlink_to(tmp_path)
    store = ImageStore(images)
    assert store.names() == {"a.png", "in.png"}
    assert store.read("in.png") == b"A"
    os.unlink(images / "in.png")
    (images / "in.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match="link"):
        store.read("in.png")


def test_oversized_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", b"\0" * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="20 MB"):
        ImageStore(path).read("bomb.png")
    (tmp_path / "images").mkdir()
    with (tmp_path / "images" / "big.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match="20 MB"):
        ImageStore(tmp_path / "images").read("big.png")


def test_damaged_archives(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="archive can't be read"):
        ImageStore(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"A" * 100)
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match="can't be read"):
        ImageStore(path).read("a.png")
    with pytest.raises(InputError, match="neither"):
        ImageStore(tmp_path / "nowhere")


def test_an_archive_with_a_picture_without_a_name_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("a.png", encoded())
        archive.writestr("b.png", encoded())
    data = (tmp_path / "pictures.zip").read_bytes()
    at = data.index(b"PK\x01\x02")
    # The central directory's first entry, its name of five letters moved into a comment of five.
    nameless = data[: at + 28] + b"\0\0" + data[at + 30 : at + 32] + b"\5\0" + data[at + 34 :]
    (tmp_path / "pictures.zip").write_bytes(nameless)
    assert ImageStore(tmp_path / "pictures.zip").names() == {"b.png"}


def test_a_bomb_of_an_archive_costs_little(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "pictures.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("bomb.png", "w", force_zip64=True) as file,
    ):
        for _ in range(256):
            file.write(bytes(2**20))
    assert (tmp_path / "pictures.zip").stat().st_size < 6 * 2**20
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="more than 20 MB"):
            ImageStore(tmp_path / "pictures.zip").read("bomb.png")
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
