"""kill -9 of the whole run at any moment, then resume: the result is that of the uninterrupted run, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import RunError
from common.files import PROJECT, read_lines
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.engines.engine import Engine, run_league

PROGRAM = """
import sys
from pathlib import Path
from simulations.engines.engine import run_league

settings = {"job": "noop", "noop-size": 2000, "noop-pause-s": 0.01, "compare": True, "progress": "silent"}
run_league(Path(sys.argv[1]), sys.argv[2], 2, settings)
"""
MARKS = 8 + 4 + 5  # rounds, local answers, final answers
COMPARED = ("model.safetensors", "config.json")


def _create(root: Path) -> RunFolder:
    folder = RunFolder(root)
    config = load_config(
        {"seed": 5, "rounds": {"count": 8, "optimiser": "momentum", "fraction": 0.8, "protection": "plain"}}
    )
    folder.create(config, [SiteEntry(f"s{i}", f"S{i}", "nowhere", held_out=i == 0) for i in range(5)])
    return folder


def _start(folder: RunFolder, engine: Engine) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "FLWR_TELEMETRY_ENABLED": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder.root), engine], env=environment, start_new_session=True
    )


def _result(folder: RunFolder) -> dict[str, object]:
    """Everything a run leaves, without the seconds it took."""
    rounds = [{k: v for k, v in line.items() if k != "seconds"} for line in read_lines(folder.rounds_file)]
    phases = {path.name: sorted(map(str, read_lines(path))) for path in folder.state.glob("*.jsonl")}
    state = {path.name: path.read_bytes() for path in folder.state.glob("round-*")}
    release = {name: (folder.release / name).read_bytes() for name in COMPARED}
    sites = {str(p.relative_to(folder.root)): p.read_bytes() for p in (folder.root / "sites").rglob("*.json")}
    return {"rounds": rounds, "phases": phases, "state": state, "release": release, "sites": sites}


def _marks(folder: RunFolder) -> int:
    """How far a run has come: rounds logged and answers kept."""
    return sum(len(read_lines(path)) for path in [folder.rounds_file, *folder.state.glob("*.jsonl")])


def _killed_ten_times_then_resumed(folder: RunFolder, engine: Engine, chance: random.Random) -> int:
    """Kill the run ten times, spread over its length and each at a random moment; return the kills that hit."""
    hits = 0
    for kill in range(10):
        process = _start(folder, engine)
        target = kill * MARKS // 10
        while process.poll() is None and (_marks(folder) < target or not folder.state.exists()):
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 0.06))
        process.send_signal(signal.SIGKILL)
        hits += process.wait() == -signal.SIGKILL
    assert _start(folder, engine).wait() == 0
    return hits


def test_a_run_killed_in_training_and_in_evaluation_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    whole, broken = _create(tmp_path / "whole"), _create(tmp_path / "broken")
    assert _start(whole, "local").wait() == 0
    for wanted in ("round-0003.json", "evaluate.local.jsonl"):
        process = _start(broken, "local")
        while process.poll() is None and not (broken.state / wanted).exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = len(read_lines(broken.state / "evaluate.local.jsonl"))
    assert done < 4
    assert _start(broken, "local").wait() == 0
    assert _result(broken) == _result(whole)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "pool"])
def test_a_run_killed_at_ten_random_moments_resumes_to_the_same_bytes(engine: Engine, tmp_path: Path) -> None:
    whole, broken = _create(tmp_path / "whole"), _create(tmp_path / "broken")
    assert _start(whole, "local").wait() == 0
    hits = _killed_ten_times_then_resumed(broken, engine, random.Random(2))
    assert hits >= 8
    assert _result(broken) == _result(whole)


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    folder = _create(tmp_path)
    settings = {"job": "noop", "noop-size": 100, "progress": "silent"}
    run_league(folder.root, "local", settings=dict(settings))
    before = _result(folder)
    run_league(folder.root, "local", settings=dict(settings))
    assert _result(folder) == before


def test_a_damaged_checkpoint_is_passed_over_and_its_round_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _create(tmp_path)
    settings = {"job": "noop", "noop-size": 100, "progress": "plain"}
    run_league(folder.root, "local", settings=dict(settings))
    before = _result(folder)
    newest = folder.state / "round-0008.safetensors"
    newest.write_bytes(newest.read_bytes()[:-5])
    run_league(folder.root, "local", settings=dict(settings))
    assert "Passed over a damaged checkpoint" in capsys.readouterr().err
    assert _result(folder) == before


def test_a_run_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    folder = _create(tmp_path)
    settings = {"job": "noop", "noop-size": 100, "progress": "silent"}
    run_league(folder.root, "local", settings=dict(settings))
    folder.create(
        load_config({"seed": 6, "rounds": {"protection": "plain"}}), [SiteEntry("s1", "S1", "nowhere")]
    )
    with pytest.raises(RunError, match="other settings"):
        run_league(folder.root, "local", settings=dict(settings))


def test_a_log_that_lost_a_round_is_refused(tmp_path: Path) -> None:
    folder = _create(tmp_path)
    settings = {"job": "noop", "noop-size": 100, "progress": "silent"}
    run_league(folder.root, "local", settings=dict(settings))
    lines = folder.rounds_file.read_text().splitlines(keepends=True)
    folder.rounds_file.write_text("".join(lines[:3] + lines[4:]))
    with pytest.raises(RunError, match="log of rounds doesn't fit"):
        run_league(folder.root, "local", settings=dict(settings))
