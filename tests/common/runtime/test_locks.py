"""Locks between processes: who waits, who is refused, and that a killed holder holds nobody up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common.errors import RunError
from common.files import PROJECT
from common.runtime.locks import is_held, locked, only_one


def test_who_comes_second_waits_until_the_first_is_done(tmp_path: Path) -> None:
    path, order = tmp_path / "lock", list[str]()

    def second() -> None:
        with locked(path):
            order.append("second")

    with locked(path) as handle:
        os.write(handle, b"kept")
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(timeout=0.2)
        assert waiting.is_alive()
        order.append("first")
    waiting.join(timeout=30)
    assert order == ["first", "second"]
    assert path.read_bytes() == b"kept"
    assert path.stat().st_mode & 0o077 == 0


def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    path = tmp_path / "kit" / "private" / "up.lock"
    program = (
        "import sys, time; from pathlib import Path; from common.runtime.locks import only_one\n"
        f"held = only_one(Path({str(path)!r}), 'this'); print('held', flush=True); time.sleep(60)"
    )
    root = str(PROJECT)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_held(path)
        with pytest.raises(RunError, match=f"process {process.pid} holds it"):
            only_one(path, "this")
        process.kill()
    assert not is_held(path)
    only_one(path, "this").close()
