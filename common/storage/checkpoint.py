"""Checkpoints of the coordinator: vectors as safetensors, all other loop state as JSON that a person can
read.

Invariant: the JSON file names the SHA-256 of its safetensors file and is renamed into place last, so a pair counts only
if both files are whole. The last two pairs and the best one are kept. If the newest is damaged, the one before is used
and the caller is told. Randomness isn't stored: it derives from (seed, round).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from common.errors import RunError
from common.files import write_json, write_whole

FORMAT = 1
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """State of a run after `round` rounds.

    Parameters
    ----------
    round : rounds done; 0 before the first.
    config : digest of the league's settings.
    layout : digest of the parameter layout.
    tensors : "vector" (the model) and the server optimiser's vectors.
    loop : all other state as JSON: weights, best round, history of macro figures, layout.
    """

    round: int
    config: str
    layout: str
    tensors: dict[str, NDArray[Any]]
    loop: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint, *, best_round: int | None = None) -> None:
    """Write a checkpoint whole or not at all, then delete those that aren't needed any more."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save_tensors({name: np.ascontiguousarray(tensor) for name, tensor in checkpoint.tensors.items()})
    stem = _stem(checkpoint.round)
    write_whole(folder / f"{stem}.safetensors", data)
    write_json(
        folder / f"{stem}.json",
        {
            "format": FORMAT,
            "round": checkpoint.round,
            "config": checkpoint.config,
            "layout": checkpoint.layout,
            "tensors": sorted(checkpoint.tensors),
            "sha256": hashlib.sha256(data).hexdigest(),
            "loop": checkpoint.loop,
        },
    )
    _prune(folder, checkpoint.round, best_round)


def load(folder: Path, round_: int, *, config: str) -> Checkpoint:
    """The checkpoint of one round, verified.

    Raises
    ------
    RunError : a file is missing, damaged, of another format or of a run with other settings.
    """
    stem = folder / _stem(round_)
    where = str(stem.with_suffix(".json"))
    try:
        facts = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        data = stem.with_suffix(".safetensors").read_bytes()
        if facts["format"] != FORMAT or facts["round"] != round_:
            raise RunError("the checkpoint has another format or round", where=where)
        digest, loop = facts["config"], dict(facts["loop"])
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise RunError("the checkpoint's vectors don't match their SHA-256", where=where)
        tensors = load_tensors(data)
        layout = str(facts["layout"])
    except OSError as fault:
        raise RunError("the checkpoint can't be read", where=where, why=str(fault.strerror)) from None
    except (ValueError, KeyError, TypeError, SafetensorError):
        raise RunError("the checkpoint is damaged", where=where) from None
    if digest != config:
        raise ForeignRun(
            "the run folder belongs to a run with other settings", where=where,
            next_step="resume with the settings it was started with, or start a new run",
        )  # fmt: skip
    return Checkpoint(round_, digest, layout, tensors, loop)


def load_latest(folder: Path, *, config: str) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, or None for a new run, and a note on each damaged one that was skipped.

    Raises
    ------
    RunError : checkpoints exist but none is whole, or they belong to a run with other settings.
    """
    notes: list[str] = []
    for round_ in reversed(rounds_kept(folder)):
        try:
            return load(folder, round_, config=config), notes
        except ForeignRun:
            raise
        except RunError as fault:
            notes.append(fault.sentence())
    if notes:
        raise RunError(
            "no checkpoint of the run is whole", where=str(folder), why="; ".join(notes),
            next_step="start the run anew in another folder",
        )  # fmt: skip
    return None, notes


def rounds_kept(folder: Path) -> list[int]:
    """Rounds that have a checkpoint, in order."""
    stems = (path.stem.removeprefix("round-") for path in folder.glob("round-*.json"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


class ForeignRun(RunError):
    """The checkpoint is whole but belongs to a run with other settings, so no older one can help."""


def _stem(round_: int) -> str:
    return f"round-{round_:04d}"


def _prune(folder: Path, newest: int, best_round: int | None) -> None:
    older = [round_ for round_ in rounds_kept(folder) if round_ < newest]
    for round_ in older[: max(0, len(older) - (_KEPT - 1))]:
        if round_ != best_round:
            # The JSON goes first: without it the vectors no longer count as a checkpoint.
            (folder / f"{_stem(round_)}.json").unlink(missing_ok=True)
            (folder / f"{_stem(round_)}.safetensors").unlink(missing_ok=True)
    # A run killed between the two deletions, or before it wrote the JSON, leaves vectors without a JSON file.
    for vectors in folder.glob("round-*.safetensors"):
        if not vectors.with_suffix(".json").exists():
            vectors.unlink()
