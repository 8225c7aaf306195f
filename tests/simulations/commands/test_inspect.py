"""`hansa status` of a run that has ended: whether joining paid, for people and for programs; and how a run closes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from common.storage.run_folder import RunFolder
from simulations import cli
from simulations.commands.simulate import show_summary
from simulations.runs.results import RunSummary
from tests.common.reports.sample_run import write_sample_run

COUNTS = "Joining did not pay for 1 of 5 merchants, made no difference that the data can tell for 1, and paid for 3."


@pytest.fixture
def run(tmp_path: Path) -> Path:
    root = write_sample_run(tmp_path / "run")
    RunFolder(root).card.parent.mkdir(parents=True)
    RunFolder(root).card.write_text("# card", encoding="utf-8")
    return root


def test_status_tells_each_merchant_its_verdict_and_next_step(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", str(run)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert COUNTS in shown
    assert "Joining paid. Over 5 merchants what is deployed ranks 5.0% better" in shown
    assert "-8.0% [-14%, -2%]" in shown
    assert "Stay out for now" in shown
    assert "│ Linear" in shown  # birch's own best
    assert "lotus (new" in shown
    assert shown.rindex("│ juniper") < shown.rindex("│ alder")


def test_status_as_a_document_holds_the_verdicts(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(run), "--format", "json"]) == 0
    found = json.loads(capfd.readouterr().out)
    details = json.loads((run / "details.json").read_text(encoding="utf-8"))
    assert (found["phase"], found["headline"], found["verdicts"]) == (
        "finished", details["headline"], details["verdicts"],
    )  # fmt: skip


def test_status_of_a_run_without_verdicts_says_nothing_of_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "details.json").unlink()
    assert cli.main(["status", str(run)]) == 0
    assert "Joining" not in capsys.readouterr().out
    assert cli.main(["status", str(run), "--format", "json"]) == 0


def test_a_run_closes_with_the_methods_in_order_and_what_joining_brought(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8")) | {
        "something_new": {"auc": {"macro": 0.5}}
    }
    details = json.loads((run / "details.json").read_text(encoding="utf-8"))
    summary = RunSummary(
        run=run,
        sites=("alder",),
        metrics=metrics,
        headline=details["headline"],
        verdicts=tuple(details["verdicts"]),
    )
    screen = Console(width=160, record=True, file=io.StringIO())
    show_summary(screen, summary)
    shown = screen.export_text()
    order = ["popularity", "item_knn", "ease", "no_training", "alone", "final", "local", "something_new"]
    places = [shown.index(f"│ {name}") for name in order]
    assert places == sorted(places)
    assert COUNTS in shown
    assert "×1.05 [1.01, 1.09]" in shown
