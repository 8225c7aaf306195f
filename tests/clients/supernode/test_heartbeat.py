"""A worker that is stopped is told from one that is busy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from clients.supernode.heartbeat import is_hung
from common.files import PROJECT

BUSY = """
import sys
from pathlib import Path
from clients.supernode import heartbeat
heartbeat._EVERY_S = 0.05
heartbeat.show_life(Path(sys.argv[1]))
print("at work", flush=True)
while True:
    pass
"""


def test_a_busy_worker_lives_and_a_stopped_one_hangs(tmp_path: Path) -> None:
    path, began = tmp_path / "alive", time.time()
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, str(path)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.5)
        assert not is_hung(path, since=began, hung_s=1.2)
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        assert is_hung(path, since=began, hung_s=1.2)
        process.kill()


def test_a_worker_that_was_just_started_has_time_to_show_life(tmp_path: Path) -> None:
    assert not is_hung(tmp_path / "alive", since=time.time(), hung_s=60)
    assert is_hung(tmp_path / "alive", since=time.time() - 61, hung_s=60)
