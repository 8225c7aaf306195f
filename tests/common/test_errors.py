"""The exception tree: one sentence, one JSON twin and one exit code each."""

from __future__ import annotations

import pytest

import common.audit.log
import common.crypto.header  # noqa: F401 both define errors of their own
from common import errors
from common.errors import ConfigError, HansaError

LEAVES = HansaError.__subclasses__()


def test_exit_codes_are_distinct_and_leave_the_shell_its_own() -> None:
    codes = [leaf.exit_code for leaf in LEAVES]
    assert sorted(codes) == list(range(2, 2 + len(LEAVES)))


def test_the_drawn_tree_names_every_error_with_its_code() -> None:
    assert errors.__doc__
    for leaf in LEAVES:
        line = next(line for line in errors.__doc__.splitlines() if leaf.__name__ in line)
        assert f"exit {leaf.exit_code}" in line


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({}, "it broke"),
        ({"where": "row 3"}, "it broke (row 3)"),
        ({"why": "too hot"}, "it broke: too hot"),
        (
            {"where": "row 3", "why": "too hot", "next_step": "cool it"},
            "it broke (row 3): too hot. Next: cool it",
        ),
    ],
)
def test_the_sentence_holds_the_parts_that_are_there(parts: dict[str, str], sentence: str) -> None:
    assert str(HansaError("it broke", **parts)) == sentence


def test_the_json_twin_holds_all_parts() -> None:
    twin = ConfigError("a", where="b", why="c", next_step="d").as_dict()
    assert twin == {
        "error": "ConfigError", "what": "a", "where": "b", "why": "c", "next_step": "d", "exit_code": 2,
    }  # fmt: skip
