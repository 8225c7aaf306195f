"""What the command line promises: explained failures, one JSON document, no traceback, answers without a wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.crypto.header import EnvelopeError
from common.errors import ConfigError, HansaError, RunError
from common.files import PROJECT
from common.settings.config import LeagueConfig
from common.settings.load import load_config
from simulations import cli
from simulations.commands import failures, init, inspect
from simulations.output import as_json, plain, table, wants_json
from simulations.setup.options import parse_set
from tests.common.reports.sample_run import write_sample_run

COMMANDS = (
    "simulate",
    "resume",
    "status",
    "evaluate",
    "report",
    "recommend",
    "predict",
    "init",
    "doctor",
    "bench",
    "ingest",
    "quality",
    "vault",
)


def hansa(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    root = PROJECT
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "120", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "simulations.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd or root, env=environment, timeout=120
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_opens_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0].startswith("Usage:")
    assert lines[1].startswith(f"Example: hansa {command}")


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "Example: hansa simulate" in capsys.readouterr().out


BAD = [
    (["nonsense"], 2, "No such command"),
    (["simulate", "--data", "hn"], 2, "hn"),
    (["simulate", "--rounds", "0"], 2, "--rounds"),
    (["simulate", "--set", "rounds.count"], 2, "no assignment"),
    (["simulate", "--data", "hm"], 2, "needs a folder"),
    (["simulate", "--data", "bazaar", "--path", "x"], 2, "takes no folder"),
    (["simulate", "--data", "folders", "--path", "x", "--preset", "rich"], 2, "presets"),
    (["recommend", "runs/none", "--site", "a"], 2, "whom"),
    (["recommend", "runs/none", "--site", "a", "--user", "u", "--history", "i"], 2, "whom"),
    (["predict", "runs/none", "--site", "a", "--history", " , "], 2, "whom"),
    (["bench", "ronds"], 2, "ronds"),
    (["bench"], 2, "no benchmark"),
    (["status", "runs/none"], 6, "no run here"),
    (["report", "runs/none"], 6, "can't be read"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "says"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_bad_usage_is_explained_with_an_exit_code(
    arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == code
    shown = capfd.readouterr()
    assert shown.out == ""
    assert says in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_program_gets_the_same_failure_as_one_document(
    arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main([*arguments, "--format", "json"]) == code
    document = json.loads(capfd.readouterr().out)
    assert document["exit_code"] == code
    assert document["next_step"] or document["why"]
    assert says in document["what"] or code == 2


def test_output_of_libraries_and_child_processes_stays_out_of_the_document(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def noisy(run: Path) -> dict[str, float]:
        print("a library speaks")
        subprocess.run([sys.executable, "-c", "print('a child speaks')"], check=True)
        return {"rounds": float("nan")}

    monkeypatch.setattr(inspect, "read_status", noisy)
    assert cli.main(["status", "runs/x", "--format=json"]) == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out) == {"rounds": None}
    assert "a library speaks" in shown.err
    assert "a child speaks" in shown.err


def test_a_bug_is_one_line_with_a_log_and_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(run: Path) -> dict[str, float]:
        raise ZeroDivisionError("secret of a shop")

    monkeypatch.setattr(inspect, "read_status", broken)
    monkeypatch.setattr(failures.tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("HANSA_DEBUG", raising=False)
    assert cli.main(["status", "runs/x"]) == failures.BUG
    shown = capsys.readouterr().err
    assert "this is a bug in Hansa" in shown
    assert "Traceback" not in shown
    [log] = tmp_path.glob("hansa-bug-*.log")
    assert str(log) in shown
    assert "ZeroDivisionError" in log.read_text(encoding="utf-8")
    assert log.stat().st_mode & 0o077 == 0

    monkeypatch.setenv("HANSA_DEBUG", "1")
    assert cli.main(["status", "runs/x"]) == failures.BUG
    assert "Traceback" in capsys.readouterr().err


def test_every_kind_of_failure_keeps_its_exit_code() -> None:
    for kind in (HansaError, *HansaError.__subclasses__()):
        fault = kind() if kind is EnvelopeError else kind("x")
        assert failures.explain(fault)["exit_code"] == kind.exit_code
    assert failures.explain(KeyboardInterrupt())["exit_code"] == 130


def test_status_tells_how_far_a_run_has_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_sample_run(tmp_path / "run", config=LeagueConfig().model_copy(update={"name": "x"}))
    log = (run / "rounds.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "rounds.jsonl").write_text("".join(log[:5]) + '{"round": 6, "lo', encoding="utf-8")
    found = inspect.read_status(run)
    assert (found["phase"], found["rounds_done"], found["rounds"]) == ("training", 5, 12)
    assert found["quarantined"] == ["birch"]
    assert found["held_out"] == ["lotus"]
    assert found["next_step"] == f"hansa resume {run}"
    assert cli.main(["status", str(run)]) == 0
    assert "5 of 12" in capsys.readouterr().out


def test_status_refuses_settings_that_were_edited(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run")
    kept = json.loads((run / "config.json").read_text(encoding="utf-8"))
    kept["settings"]["seed"] = 5
    (run / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    with pytest.raises(RunError, match="digest"):
        inspect.read_status(run)


def test_init_writes_settings_that_load_to_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "league.toml"
    assert cli.main(["init", str(file)]) == 0
    assert load_config(file) == LeagueConfig()
    assert file.read_text(encoding="utf-8").startswith("# hansa simulate --config league.toml")
    file.write_text("mine", encoding="utf-8")
    assert cli.main(["init", str(file)]) == 2
    assert file.read_text(encoding="utf-8") == "mine"
    assert cli.main(["init", str(file), "--force"]) == 0
    assert file.read_text(encoding="utf-8") == init.example("league.toml")
    assert "Wrote" in capsys.readouterr().out
    assert cli.main(["init", str(file), "--force", "--private"]) == 0
    private = load_config(file)
    assert (private.privacy.mode, private.model.adapter) == ("user", "linear")


def test_assignments_keep_their_type_and_their_owner() -> None:
    settings, knobs = parse_set(
        ["rounds.count=3", "model.image=false", "name=a=b", "data.skew=0.5", 'x=["a"]', "y=null"]
    )
    assert settings == {"rounds.count": 3, "model.image": False, "name": "a=b", "x": ["a"], "y": "null"}
    assert knobs == {"skew": 0.5}
    with pytest.raises(ConfigError):
        parse_set(["=3"])


def test_shops_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in plain("\x1b]0;owned\x07 red")
    assert table(("a",), [("[red]x[/red]",)]).columns[0]._cells[0].plain == "[red]x[/red]"  # type: ignore[union-attr]


def test_json_holds_no_value_that_json_lacks() -> None:
    found = as_json({"a": float("inf"), "b": (1, Path("x")), 3: RunError})
    assert json.loads(json.dumps(found, allow_nan=False))["b"] == [1, "x"]
    assert found["a"] is None


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--format", "json"], True),
        (["--format=json"], True),
        (["--format", "text"], False),
        (["json"], False),
        ([], False),
    ],
)
def test_a_wish_for_json_is_seen_before_parsing(arguments: list[str], wanted: bool) -> None:
    assert wants_json(arguments) is wanted


def test_doctor_finds_this_machine_fit_and_speaks_json() -> None:
    found = hansa("doctor", "--format", "json")
    document = json.loads(found.stdout)
    assert found.returncode == (0 if document["ok"] else 7)
    assert {"Python", "torch", "torchvision fits torch"} <= {each["what"] for each in document["findings"]}


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, simulations.cli; sys.exit('torch' in sys.modules or 'flwr' in sys.modules)"
    root = PROJECT
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60).returncode == 0
