"""`hansa status --watch` and `hansa dashboard`, as a person starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import QuorumError
from common.files import PROJECT, write_json
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from server.dashboard.overview import overview
from simulations.cli import main
from simulations.commands.watch import _screen
from simulations.engines.engine import run_league


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    entries = [SiteEntry(name, name.title(), "none") for name in ("amber", "birch")]
    folder.create(load_config({"name": "hanse", "rounds": {"count": 2}}), entries)
    run_league(folder.root, "local", settings={"job": "noop", "noop-size": 50, "progress": "silent"})
    return folder


def test_watching_a_finished_run_says_so_and_ends(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(run.root), "--watch"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("finished: round 2 of 2")


def test_watching_a_failed_run_tells_the_error(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(run.state / "failure.json", QuorumError("too few took part", where="round 2").as_dict())
    assert main(["status", str(run.root), "--watch"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("failed: ")
    assert "too few took part" in first


def test_the_terminal_shows_rounds_sites_and_the_fault(run: RunFolder) -> None:
    write_json(run.state / "failure.json", QuorumError("too few", where="here", next_step="mend").as_dict())
    with open(os.devnull, "w") as nowhere:
        screen = Console(width=120, record=True, file=nowhere)
        screen.print(_screen(overview(run)))
    text = screen.export_text()
    for part in ("hanse  failed", "2 of 2", "amber", "birch", "too few (here)", "Next: mend"):
        assert part in text


def test_a_folder_without_a_run_is_an_error_of_its_own_kind(tmp_path: Path) -> None:
    assert main(["status", str(tmp_path), "--watch"]) == 6
    assert main(["dashboard", str(tmp_path)]) == 6


def test_the_dashboard_serves_until_it_is_interrupted(run: RunFolder) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "simulations.cli", "dashboard", str(run.root), "--port", "0"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert process.stderr is not None
    url = process.stderr.readline().split()[0]
    with urllib.request.urlopen(f"{url}api/run", timeout=10) as answer:  # noqa: S310 — our own address
        assert json.load(answer)["league"] == "hanse"
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=20)
    assert (process.returncode, rest.strip()) == (0, "The dashboard has ended.")
