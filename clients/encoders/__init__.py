"""From pictures and texts to arrays: frozen encoders from packages, their cache, and inputs of scratch encoders."""

from clients.encoders.cache import FeatureCache, FolderShards
from clients.encoders.frozen import (
    IMAGE_DIM,
    TEXT_DIM,
    encode_images,
    encode_regions,
    encode_texts,
    public_image_basis,
)
from clients.encoders.tokens import hash_tokens

__all__ = [
    "IMAGE_DIM",
    "TEXT_DIM",
    "FeatureCache",
    "FolderShards",
    "encode_images",
    "encode_regions",
    "encode_texts",
    "hash_tokens",
    "public_image_basis",
]
