"""A release's two files: the model as named tensors, and the settings it was trained under.

Invariant: both are written whole or not at all, and the settings name the model's SHA-256.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors

from common.files import write_json, write_whole
from common.protocol.wire import FloatVector, Layout
from common.settings.config import LeagueConfig
from common.storage.run_folder import MODEL


def write_files(
    folder: Path, config: LeagueConfig, layout: Layout, vector: FloatVector, facts: dict[str, Any]
) -> None:
    """Write `model.safetensors` and `config.json`; `facts` are what the settings don't say about the run."""
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in layout.unflatten(vector).items()}
    data = save_tensors(tensors)
    write_whole(folder / MODEL, data)
    stated = {
        "settings": config.model_dump(mode="json"), "digest": config.digest(), "layout": layout.digest,
        "parameters": layout.size, "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    write_json(folder / "config.json", {**facts, **stated})
