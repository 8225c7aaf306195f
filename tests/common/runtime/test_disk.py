"""A full disk is told as such, and leaves room to tell it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from common.runtime.disk import full_disk, set_aside, use_what_was_set_aside


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_names_whose_it_is_and_what_to_do(code: int) -> None:
    told = full_disk(OSError(code, "no", "/x/state/round-0007.json"), "the coordinator")
    assert told is not None
    assert "the disk of the coordinator is full (round-0007.json)" in told.sentence()
    assert "make room" in told.next_step
    assert told.exit_code == 7


def test_other_faults_stay_themselves() -> None:
    assert full_disk(OSError(errno.EACCES, "no"), "x") is None
    assert full_disk(ValueError(), "x") is None


def test_room_is_held_until_it_is_used(tmp_path: Path) -> None:
    set_aside(tmp_path / "state")
    set_aside(tmp_path / "state")
    assert [path.stat().st_size for path in (tmp_path / "state").iterdir()] == [1 << 14]
    use_what_was_set_aside(tmp_path / "state")
    use_what_was_set_aside(tmp_path / "state")
    assert not list((tmp_path / "state").iterdir())
