"""Waiting for the yardsticks: it lasts until their process has ended, and shows how far they are."""

from __future__ import annotations

import threading
import time
from multiprocessing import Pipe
from pathlib import Path

import pytest

from common.files import append_line
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.yardsticks.alongside import await_yardsticks
from simulations.yardsticks.non_private import folder_beside


@pytest.mark.parametrize("mode", ["user", "off"])
def test_waiting_lasts_until_the_process_ends(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    folder.create(
        load_config({"privacy": {"mode": mode}, "rounds": {"count": 7}}), [SiteEntry("a", "A", "x")]
    )
    ours, theirs = Pipe()
    ended: list[bool] = []

    def yardsticks() -> None:
        time.sleep(0.3)
        append_line(folder_beside(folder).rounds_file, {"round": 1})
        time.sleep(0.6)
        ended.append(True)
        theirs.close()

    (tmp_path / "non_private").mkdir()
    thread = threading.Thread(target=yardsticks)
    thread.start()
    await_yardsticks(ours, folder, "plain")
    assert ended, "it came back too early"
    thread.join()
    ours.close()
    told = capsys.readouterr().err
    assert told.startswith("without privacy 1/7") if mode == "user" else not told
