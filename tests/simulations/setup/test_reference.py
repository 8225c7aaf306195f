"""The settings' reference pages are what the settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.settings.describe import sections, settings_of
from simulations.setup import reference
from simulations.setup.create import PRIVATE_SETTINGS


def test_the_pages_are_true() -> None:
    assert reference.untrue(reference.DOCS) == [], f"mend them with: {reference.MEND}"


def test_each_setting_has_its_row() -> None:
    for name, language in reference.PAGES.items():
        rows = [line for line in reference.page(language).splitlines() if line.startswith("| `")]
        described = [each for section in sections() for each in settings_of(section, language)]
        for each in described:
            assert f"| `{each.key}` | {each.values} | `{each.default}` | {each.meaning} |" in rows, name
        assert sum(f"| `{key}` |" in "".join(rows) for key in PRIVATE_SETTINGS) == len(PRIVATE_SETTINGS)


def test_a_page_that_was_edited_by_hand_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    assert reference.main(["--write"]) == 0
    page = tmp_path / "settings.zh.md"
    page.write_text(page.read_text(encoding="utf-8").replace("`12`", "`13`"), encoding="utf-8")
    assert reference.main([]) == 1
    assert capsys.readouterr().err == f"docs/settings.zh.md is out of date: run {reference.MEND}\n"
