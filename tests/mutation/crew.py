"""The workers of a mutation run, each with a copy of the project, so that nobody's own files are ever changed."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]
WORKER = Path(__file__).with_name("worker.py")


class Worker:
    """A process that answers one job after another."""

    def __init__(self, root: Path, home: Path, warm: Iterable[str]) -> None:
        copy_of(root, home)
        # With CI set, Hypothesis draws the same examples in every run and no deadlines; and no plugin shuffles.
        environment = os.environ | {
            "PYTHONPATH": str(home), "TMPDIR": str(home.parent), "CI": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), *warm],
            cwd=home, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, job: Json) -> Json:
        """The answer to a job."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the worker has no pipes")
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with status {self._process.wait()}")
        answer: Json = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()


class Crew:
    """Several workers that share a list of jobs."""

    def __init__(self, root: Path, home: Path, warm: Iterable[str], size: int) -> None:
        self._workers = [Worker(root, home / str(n), warm) for n in range(size)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.close()

    def answers(self, jobs: Iterable[Json]) -> Iterator[Json]:
        """The answers in the order of the jobs."""
        idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            idle.put(worker)

        def ask(job: Json) -> Json:
            worker = idle.get()
            try:
                return worker.ask(job)
            finally:
                idle.put(worker)

        with ThreadPoolExecutor(len(self._workers)) as threads:
            yield from threads.map(ask, jobs)


def copy_of(root: Path, home: Path) -> None:
    """Copy the files that git knows or would add, and compile them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, home / name)
    compileall.compile_dir(home, quiet=2)
