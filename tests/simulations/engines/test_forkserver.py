"""The fork server: whose chance, whose life, and what happens when somebody dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.files import PROJECT
from simulations.engines.forkserver import fork_server
from tests.deployment.support.leagues import wait_until


@pytest.fixture(scope="module")
def door() -> Iterator[socket.socket]:
    """The way to a server that knows the jobs of `tests.simulations.engines.forked`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.simulations.engines.forked", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], cwd=PROJECT,
        )  # fmt: skip
        theirs.close()
        yield ours
    process.kill()
    process.wait()


@pytest.fixture
def server(door: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """That server in place of the real one."""
    monkeypatch.setattr(fork_server(), "_door", door)


def ask(job: str, **facts: Any) -> Any:
    with fork_server().fork(job, facts) as pipe:  # type: ignore[arg-type]
        return json.loads(pipe.recv_bytes())


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_forked_processes_share_no_chance_and_no_thread(
    server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSA_TEST", "now")
    one, other = ask("look", number=1), ask("look", number=2)
    assert (one["facts"], other["facts"]) == ({"number": 1}, {"number": 2})
    assert one["pid"] != other["pid"]
    assert [one["variable"], one["threads"], one["server_threads"]] == ["now", "1", 1]
    assert all(mine != yours for mine, yours in zip(one["draws"], other["draws"], strict=True))


def test_a_process_ends_with_its_pipe_whatever_it_does(server: None) -> None:
    with fork_server().fork("hang", {}) as pipe:  # type: ignore[arg-type]
        pid = int(pipe.recv_bytes())
        assert not gone(pid)
    wait_until("the process is gone", lambda: gone(pid))


def test_a_process_that_fails_tells_why_and_ends_its_pipe(server: None, capfd: Any) -> None:
    with fork_server().fork("fail", {}) as pipe, pytest.raises(EOFError):  # type: ignore[arg-type]
        pipe.recv_bytes()
    assert "as asked for" in capfd.readouterr().err


def test_a_server_that_was_killed_is_replaced() -> None:
    fork_server().warm()
    first = fork_server()._process
    assert first is not None
    first.kill()
    first.wait()
    with fork_server().fork("site", {"sites": 1, "run_config": {}}) as pipe:
        assert b"ready" in pipe.recv_bytes()
    assert fork_server()._process is not first


def test_nothing_outlives_a_run_that_was_killed() -> None:
    """Neither the server nor what it forked."""
    script = """
        from simulations.engines.forkserver import fork_server
        pipe = fork_server().fork("site", {"sites": 1, "run_config": {}})
        pipe.recv_bytes()
        print(fork_server()._process.pid, flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as run:
        assert run.stdout is not None
        server = int(run.stdout.readline())
        forked = [int(pid) for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
        assert forked
        assert not any(map(gone, [server, *forked]))
        os.kill(run.pid, signal.SIGKILL)
    wait_until("all are gone", lambda: all(map(gone, [server, *forked])))
