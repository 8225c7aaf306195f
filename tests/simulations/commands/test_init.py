"""`hansa init` tells above each setting what it does."""

from __future__ import annotations

from common.settings.describe import sections, settings_of
from simulations.commands.init import example


def test_each_setting_stands_under_its_description() -> None:
    comment: list[str] = []
    told: dict[str, str] = {}
    for line in example("league.toml").splitlines():
        name, equals, _ = line.partition(" = ")
        if line.startswith("# "):
            comment.append(line.removeprefix("# "))
            continue
        if equals:
            told[name] = told.get(name, "") + " ".join(comment)
        comment = []
    for each in (setting for section in sections() for setting in settings_of(section)):
        assert f"{each.meaning} ({each.values})" in told[each.name], each.key


def test_no_line_is_too_wide_for_a_terminal() -> None:
    assert max(map(len, example("league.toml").splitlines())) <= 102
