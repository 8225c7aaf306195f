"""Somebody who follows a kit's guide: its commands, taken out of the text, and a terminal to type them at."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.files import PROJECT

_COMMAND = re.compile(r"`((?:cd|export|sha256sum|hansa) [^`]+)`")
_BLOCK = re.compile(r"```toml\n(.*?)```", re.DOTALL)
_LIMIT_S = 240.0


def commands_of(guide: Path, words: Mapping[str, str]) -> list[str]:
    """All commands of a guide, in its order, with what stands for a value replaced by the value."""
    found = _COMMAND.findall(guide.read_text(encoding="utf-8"))
    for word, value in words.items():
        found = [each.replace(word, value) for each in found]
    return found


def block_of(guide: Path) -> str:
    """The file that a guide shows."""
    (found,) = _BLOCK.findall(guide.read_text(encoding="utf-8"))
    return "".join(f"{line.removeprefix('   ')}\n" for line in found.splitlines())


@dataclass
class Done:
    """One command that has ended."""

    command: str
    code: int
    told: str


class Desk:
    """A fresh folder with a checkout of Hansa in it that was set up before, and a shell that stays open.

    The checkout is the files that `make setup` looks at, and an environment with the command `hansa`: the one that runs
    these tests.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, os.environ.get("PATH", "")
        binaries = folder / "hansa" / ".venv" / "bin"
        binaries.mkdir(parents=True)
        for name in ("Makefile", "requirements.txt", "pyproject.toml"):
            shutil.copy(PROJECT / name, folder / "hansa" / name)
        command = binaries / "hansa"
        command.write_text(
            f'#!/bin/sh\nPYTHONPATH="{PROJECT}" exec "{sys.executable}" -m simulations.cli "$@"\n'
        )
        command.chmod(0o700)
        os.symlink(sys.executable, binaries / "python")
        (binaries.parent / ".ready").touch()
        self._here, self._background = folder, list[subprocess.Popen[bytes]]()

    def type(self, command: str, answers: Sequence[str] = ()) -> Done:
        """Type one command, answer its questions, and wait for its end; `cd` and `export PATH` last."""
        marks = f'{command}\ncode=$?\nprintf "\\n@%s@%s@%s@\\n" "$code" "$PWD" "$PATH"'
        told = _at_terminal(["bash", "-c", marks], self._here, self._environment(), answers)
        text, code, here, path, _ = told.rsplit("@", 4)
        self._here, self._path = Path(here), path
        return Done(command, int(code), text)

    def leave_running(self, command: str) -> subprocess.Popen[bytes]:
        """Type a command that stays in the foreground, at a terminal of its own."""
        with (self.folder / "foreground.log").open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self._here, env=self._environment(), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._background.append(process)
        return process

    def log(self) -> str:
        """What those that stay in the foreground have told."""
        return (self.folder / "foreground.log").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End what is left: Ctrl-C first."""
        for process in self._background:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._background:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return {**kept, "PATH": self._path, "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200"}


def _at_terminal(
    command: Sequence[str], here: Path, environment: Mapping[str, str], answers: Sequence[str]
) -> str:
    """Run a program at a terminal and answer each question, a line that ends with a colon, in turn."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(here)
        os.execvpe(command[0], list(command), dict(environment))  # noqa: S606
    told, left, ends, seen = "", list(answers), time.monotonic() + _LIMIT_S, 0
    try:
        while time.monotonic() < ends:
            if not select.select([terminal], [], [], 0.3)[0]:
                if left and told[seen:].rstrip(" ").endswith(":"):
                    seen = len(told)
                    os.write(terminal, f"{left.pop(0)}\n".encode())
                continue
            try:
                part = os.read(terminal, 65536)
            except OSError:  # the other end has closed it
                return told
            if not part:
                return told
            told += part.decode(errors="replace").replace("\r\n", "\n")
        raise AssertionError(f"{command[-1][:80]} takes too long: {told[-1000:]}")
    finally:
        os.close(terminal)
        if time.monotonic() >= ends:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
