"""One worker of a mutation run: imports the libraries once, then forks for every mutant.

Runs in a copy of the project that is its own and reads one job a line (JSON) from standard input. A job with a
`source` puts it into the module for as long as the tests run; a job with `reach` also notes which tests run which
lines of the modules named. The project's own modules are imported in the fork alone, so that constants and default
values count as they do in a fresh process, and processes that tests start see the mutant too.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OUTPUT = Path(".output")
REACH = Path(".reach.json")
MEMORY_BYTES = 6 << 30  # a mutant that asks for more is killed by it
ARGUMENTS = ("-x", "-m", "not slow", "-p", "no:cacheprovider", "--no-header", "--basetemp=.tmp")


def main(warm: list[str]) -> None:
    """Answer every job with one line of JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a fork at work is ended too
    for name in warm:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what was imported stays shared between the forks
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    with _changed(job.get("module"), job.get("source")):
        status = _forked(job)
    answer: dict[str, Any] = {"status": status, "seconds": round(time.monotonic() - began, 2)}
    if "reach" in job:
        answer["output"] = OUTPUT.read_text("utf-8", "replace")[-4000:]
        answer["reach"] = json.loads(REACH.read_text("utf-8")) if status == 0 else {}
    return answer


@contextmanager
def _changed(module: str | None, source: str | None) -> Iterator[None]:
    if module is None or source is None:
        yield
        return
    path = Path(module)
    old = path.read_text("utf-8")
    _write(path, source)
    try:
        yield
    finally:
        _write(path, old)


def _write(path: Path, text: str) -> None:
    """A time of its own for every text: byte code of another would pass for this one's by second and size."""
    stamp = path.stat().st_mtime + 1
    path.write_text(text, "utf-8")
    os.utime(path, (stamp, stamp))


def _forked(job: dict[str, Any]) -> int | None:
    """The exit status of the tests in a process group of their own; None where their time was over."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        _run_tests(job)
    ended = os.pidfd_open(child)
    try:
        in_time, _, _ = select.select([ended], [], [], job["timeout_s"])
    finally:
        os.close(ended)
        _end_group(child)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if in_time else None


def _end_group(child: int) -> None:
    """End the tests and whatever they started and left behind."""
    try:
        os.killpg(child, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        os.kill(child, signal.SIGKILL)


def _run_tests(job: dict[str, Any]) -> None:
    status = 1
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        tests = [*ARGUMENTS, *job["tests"]]
        if "reach" in job:
            status, reach = _with_reach(tests, job["reach"])
            REACH.write_text(json.dumps(reach), "utf-8")
        else:
            status = pytest.main(tests)
    finally:
        os._exit(status)


def _with_reach(tests: list[str], modules: list[str]) -> tuple[int, dict[str, Any]]:
    import coverage

    tracer = coverage.Coverage(data_file=None, include=modules, config_file=False)
    notes = _Reach(tracer)
    tracer.start()
    status = pytest.main(tests, plugins=[notes])
    tracer.stop()
    return status, notes.reach(modules)


class _Reach:
    """Notes the time of each test and fixture, and runs each in a context of its own.

    What a shared fixture runs, and how long it takes, belongs to every test that asks for it, not to the first alone.
    """

    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer
        self._seconds: dict[str, float] = {}
        self._fixtures: dict[str, list[str]] = {}
        self._context = ""

    def reach(self, modules: list[str]) -> dict[str, Any]:
        """Tests with their fixtures, times of both, and of each module the lines with the tests that run them."""
        behind = defaultdict(set)
        for test, fixtures in self._fixtures.items():
            for name in (test, *fixtures):
                behind[name].add(test)
        data = self._tracer.get_data()
        lines = {}
        for module in modules:
            contexts = data.contexts_by_lineno(str(Path(module).resolve()))
            lines[module] = {
                line: sorted(set().union(*(behind[name] for name in names)))
                for line, names in contexts.items()
            }
        return {"fixtures": self._fixtures, "seconds": self._seconds, "lines": lines}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        self._fixtures[item.nodeid] = [f"fixture {name}" for name in getattr(item, "fixturenames", ())]
        with self._timed(item.nodeid):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        with self._timed(f"fixture {fixturedef.argname}"):
            return (yield)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        outer, self._context, began = self._context, name, time.monotonic()
        self._tracer.switch_context(name)
        try:
            yield
        finally:
            self._seconds[name] = max(self._seconds.get(name, 0.0), time.monotonic() - began)
            self._context = outer
            self._tracer.switch_context(outer)


if __name__ == "__main__":
    main(sys.argv[1:])
