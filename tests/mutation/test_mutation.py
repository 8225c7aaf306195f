"""Mutants that mean something, a sample that stays, and a run that tells the noticed from the unnoticed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.mutation.mutants import Candidates
from tests.mutation.report import Result, print_report, score
from tests.mutation.run import draw, try_out
from tests.mutation.settings import Accepted, Settings, load_settings

ROOT = Path(__file__).parents[2]
SETTINGS = load_settings().model_copy(update={"least": 1, "spare_s": 3.0, "warm": ("pytest",)})

QUIET = '''
"""A docstring of 3 words."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    ROOM = 1 + 1
class Box:
    size: "list[1]"
    @frozen(slots=True)
    def of(self, other: "int | 2") -> "3":
        progress.note(1 + 1)
        raise ValueError(f"{1 + 1}", 2 + 2)
'''

COUNTING = """
def share(part, whole):
    return part / whole

def countdown(n):
    while n > 0:
        n -= 1
    return n

def unused(n):
    return n * 2
"""

COUNTING_TESTS = """
from counting import countdown, share

def test_share():
    assert share(1, 4) == 0.25

def test_countdown():
    assert countdown(3) == 0
"""


def changes(source: str, settings: Settings = SETTINGS) -> dict[str, str]:
    return {mutant.now: mutant.was for mutant in Candidates("room.py", source, settings).sample(1000)}


def test_words_and_types_are_left_alone() -> None:
    assert changes(QUIET) == {}


def test_arithmetic_borders_conditions_calls_and_arguments_change() -> None:
    found = changes("def f(a):\n    if a > 0:\n        g(a + 1, kind=True)\n    return not a\n")
    for now in (
        "if a >= 0:",
        "if a > 1:",
        "if not (a > 0):",
        "g(a - 1, kind=True)",
        "g(a + 2, kind=True)",
        "g(a + 1, kind=False)",
        "g(a + 1, )",
        "pass",
        "return a",
    ):
        assert now in found


def test_neighbours_change_places_where_their_order_matters() -> None:
    found = changes("def f(a):\n    return g(a, 1), max(b, a)\n")
    assert {"return g(1, a), max(b, a)", "return max(b, a), g(a, 1)"} <= found.keys()
    assert "return g(a, 1), max(a, b)" not in found


def test_an_argument_that_is_no_behaviour_stays() -> None:
    assert changes("zip(a, strict=True)\n").keys() == {"zip(None, strict=True)", "zip(strict=True)", "pass"}


def test_every_place_is_drawn_once_before_any_is_drawn_twice() -> None:
    candidates = Candidates("room.py", "def f(a):\n    return a + g(1, a, b=2, c=3)\n", SETTINGS)
    assert len(candidates) == 5  # the sum, the call and its three numbers
    assert len({mutant.now for mutant in candidates.sample(5)}) == 5
    assert sum("a - g" in mutant.now for mutant in candidates.sample(5)) == 1


def test_an_edit_elsewhere_leaves_the_sample_as_it_was() -> None:
    source = (ROOT / "common/metrics.py").read_text("utf-8")
    before = [(m.inside, m.was, m.now) for m in Candidates("common/metrics.py", source, SETTINGS).sample(30)]
    longer = f'"""Another head."""\n{source}'
    after = [(m.inside, m.was, m.now) for m in Candidates("common/metrics.py", longer, SETTINGS).sample(30)]
    assert after == before


def test_the_settings_name_files_that_exist_and_ask_for_enough_mutants() -> None:
    settings = load_settings()
    for module, tests in settings.tests.items():
        assert [path for path in (module, *tests) if not (ROOT / path.split("::")[0]).exists()] == []
    assert len(draw(ROOT, settings)) >= 300


def test_a_run_tells_the_noticed_from_the_unnoticed_and_changes_nothing(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name, text in (
        ("counting.py", COUNTING),
        ("test_counting.py", COUNTING_TESTS),
        ("pytest.ini", "[pytest]\n"),
    ):
        (project / name).write_text(text, "utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    settings = SETTINGS.model_copy(update={"mutants": 12, "tests": {"counting.py": ("test_counting.py",)}})

    results = try_out(draw(project, settings), project, tmp_path, settings, workers=2)

    outcomes = {result.mutant.now: result.outcome for result in results}
    assert outcomes["return part * whole"] == "killed"
    assert outcomes["n += 1"] == "timed out"
    assert outcomes["return n / 2"] == outcomes["return n * 3"] == "survived"
    assert (project / "counting.py").read_text("utf-8") == COUNTING
    assert {path.name for path in project.iterdir()} == {
        ".git",
        "counting.py",
        "test_counting.py",
        "pytest.ini",
    }


def test_a_failing_test_ends_the_run_at_once(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "room.py").write_text("A = 1\n", "utf-8")
    (project / "test_room.py").write_text("def test_room():\n    assert False\n", "utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    settings = SETTINGS.model_copy(update={"tests": {"room.py": ("test_room.py",)}})
    with pytest.raises(SystemExit, match="fails without any change"):
        try_out(draw(project, settings), project, tmp_path, settings, workers=1)


def test_a_survivor_that_was_read_is_marked_and_one_that_is_killed_by_now_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = Candidates("room.py", "A = 1\nB = 2\n", SETTINGS).sample(2)
    results = [Result(first, "survived", 0.0), Result(second, "killed", 0.0)]
    accepted = [
        Accepted(module="room.py", inside="", was=m.was, now=m.now, reason="nobody counts")
        for m in (first, second)
    ]
    assert score(results) == 0.5
    assert print_report(results, accepted, SETTINGS) == 1
    told = capsys.readouterr().out
    assert "room.py:1   read: nobody counts\n  - A = 1\n  + A = 2" in told
    assert "its entry can go: room.py  B = 3" in told
    assert "Too few: 50.0% killed, 90% wanted." in told
