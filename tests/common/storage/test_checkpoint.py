"""Checkpoints: whole or not at all, verified, pruned, and replaced by the one before where damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import RunError
from common.storage.checkpoint import Checkpoint, ForeignRun, load, load_latest, rounds_kept, save


def _checkpoint(round_: int, config: str = "c") -> Checkpoint:
    vector = np.arange(7, dtype=np.float32) * round_
    return Checkpoint(
        round_, config, "l", {"vector": vector, "optimiser.m": -vector}, {"weights": {"a": 0.1}}
    )


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_checkpoint_returns_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path, _checkpoint(3))
    found = load(tmp_path, 3, config="c")
    assert found.loop == {"weights": {"a": 0.1}}
    assert found.tensors["vector"].tobytes() == _checkpoint(3).tensors["vector"].tobytes()
    assert set(found.tensors) == {"vector", "optimiser.m"}


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    for round_ in range(8):
        save(tmp_path, _checkpoint(round_), best_round=2 if round_ >= 2 else None)
    assert rounds_kept(tmp_path) == [2, 6, 7]
    assert len(list(tmp_path.iterdir())) == 6


def test_vectors_that_a_killed_run_left_without_their_json_are_cleared(tmp_path: Path) -> None:
    for round_ in (1, 2):
        save(tmp_path, _checkpoint(round_))
    (tmp_path / "round-0001.json").unlink()
    save(tmp_path, _checkpoint(3))
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["round-0002", "round-0003"]


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, suffix: str) -> None:
    save(tmp_path, _checkpoint(1))
    save(tmp_path, _checkpoint(2))
    target = tmp_path / f"round-0002{suffix}"
    _damage(target) if suffix == ".safetensors" else target.write_text("{")
    found, notes = load_latest(tmp_path, config="c")
    assert found is not None
    assert found.round == 1
    assert len(notes) == 1
    assert "round-0002.json" in notes[0]


def test_no_whole_checkpoint_is_an_error_that_names_them(tmp_path: Path) -> None:
    save(tmp_path, _checkpoint(1))
    (tmp_path / "round-0001.safetensors").unlink()
    with pytest.raises(RunError, match="no checkpoint of the run is whole"):
        load_latest(tmp_path, config="c")


def test_a_fresh_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "none", config="c") == (None, [])


def test_other_settings_are_refused_and_no_older_checkpoint_is_tried(tmp_path: Path) -> None:
    save(tmp_path, _checkpoint(1, "mine"))
    save(tmp_path, _checkpoint(2, "other"))
    with pytest.raises(ForeignRun, match="other settings"):
        load_latest(tmp_path, config="mine")


def test_another_format_is_refused(tmp_path: Path) -> None:
    save(tmp_path, _checkpoint(1))
    facts = tmp_path / "round-0001.json"
    facts.write_text(facts.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(RunError, match="another format"):
        load(tmp_path, 1, config="c")
