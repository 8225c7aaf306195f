"""The release: the best shared model as named tensors, with the settings it was trained under.

Invariant: both files are written whole or not at all, and the configuration names the model's SHA-256.
"""

from __future__ import annotations

import hashlib

import numpy as np
from safetensors.numpy import save as save_tensors

from common.run_folder import write_json, write_whole
from common.wire import FloatVector
from server.league import League
from server.state import RunState


def write_release(league: League, state: RunState, round_: int, vector: FloatVector) -> None:
    """Write `release/model.safetensors` and `release/config.json` from the model after `round_` rounds."""
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in state.layout.unflatten(vector).items()}
    data = save_tensors(tensors)
    write_whole(league.folder.release / "model.safetensors", data)
    write_json(
        league.folder.release / "config.json",
        {
            "settings": league.config.model_dump(mode="json"),
            "digest": league.run,
            "layout": state.layout.digest,
            "parameters": state.layout.size,
            "rounds": state.round,
            "best_round": round_,
            "best_metric": state.best_metric,
            "sites": sorted(state.weights),
            "sha256": hashlib.sha256(data).hexdigest(),
        },
    )
