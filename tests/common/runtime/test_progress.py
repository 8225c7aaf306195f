"""Progress goes to its stream in the style asked for."""

from __future__ import annotations

import io

import pytest

from common.runtime.progress import RoundProgress, Style


def _tell(style: Style, stream: io.StringIO) -> str:
    with RoundProgress(style, stream) as progress:
        progress.start("round", total=3, done=1)
        progress.step(2, loss=0.5, metric=0.25)
        progress.note("Left out: [site] 'a'")
    return stream.getvalue()


def test_plain_lines_hold_round_loss_metric_and_time_left() -> None:
    lines = _tell("auto", io.StringIO()).splitlines()
    assert lines[0].startswith("round 2/3  loss 0.5000  ndcg@20 0.2500  about 0 s left")
    assert lines[1] == "Left out: [site] 'a'"


def test_silence_for_machines() -> None:
    assert _tell("silent", io.StringIO()) == ""


def test_the_bar_shows_figures_and_notes() -> None:
    text = _tell("bar", io.StringIO())
    assert "2/3" in text
    assert "ndcg@20 0.2500" in text
    assert "Left out: [site] 'a'" in text


def test_nothing_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with RoundProgress("plain") as progress:
        progress.start("round", total=1)
        progress.step(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "round 1/1" in captured.err
