"""Between two rounds a run is asked to stop by a file that can be taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import RunError
from common.storage.run_folder import RunFolder
from server.run.stopping import ask_to_stop, is_asked_to_stop, stop_if_asked, take_back


def test_a_run_is_asked_to_stop_by_a_file_that_can_be_taken_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert not is_asked_to_stop(folder)
    stop_if_asked(folder, 1)
    take_back(folder)
    ask_to_stop(folder)
    assert is_asked_to_stop(folder)
    assert (folder.state / "stop").read_bytes() == b""
    with pytest.raises(RunError) as caught:
        stop_if_asked(folder, 3)
    assert caught.value.sentence() == (
        "the run was stopped after round 3, as asked (run): everything up to that round is kept. "
        "Next: resume the run"
    )
    take_back(folder)
    assert not is_asked_to_stop(folder)
    stop_if_asked(folder, 3)
