"""The run folder refuses edited settings and torn files."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigError, RunError
from common.files import append_line, read_lines, write_whole
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry

SITES = [SiteEntry("b", "B", "x"), SiteEntry("a", "A", "x", held_out=True)]


def test_settings_and_sites_return_in_site_order(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path / "run"), load_config({"seed": 4})
    folder.create(config, SITES)
    assert folder.config() == config
    assert [site.name for site in folder.sites()] == ["a", "b"]
    assert folder.site_out("a") == tmp_path / "run" / "sites" / "a"


def test_edited_settings_are_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create(load_config({"seed": 4}), SITES)
    folder.config_file.write_text(folder.config_file.read_text().replace('"seed": 4', '"seed": 5'))
    with pytest.raises(RunError, match="don't match their digest"):
        folder.config()


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match=r"can't be read.*config\.json"):
        folder.config()
    folder.config_file.write_text("[]")
    with pytest.raises(RunError, match="damaged"):
        folder.config()
    folder.league_file.write_text('[{"nme": "a"}]')
    with pytest.raises(RunError, match="list of sites is damaged"):
        folder.sites()
    folder.league_file.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        folder.sites()


def test_a_league_needs_distinct_names_and_someone_to_train(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="same name"):
        RunFolder(tmp_path).create(load_config({}), [SITES[0], SITES[0]])
    with pytest.raises(ConfigError, match="no site is left"):
        RunFolder(tmp_path).create(load_config({}), [SITES[1]])


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_line(path, {"round": 1})
    append_line(path, {"round": 2})
    path.write_bytes(path.read_bytes()[:-3])
    assert read_lines(path) == [{"round": 1}]
    assert read_lines(tmp_path / "none") == []


def test_writing_whole_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "deep" / "file", b"one")
    write_whole(tmp_path / "deep" / "file", b"two")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]
    assert (tmp_path / "deep" / "file").read_bytes() == b"two"
