"""Settings: frozen, closed to unknown keys, and told apart by their digest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from common.errors import ConfigError
from common.settings.config import LeagueConfig
from common.settings.load import load_config, with_overrides


def test_the_digest_is_of_the_meaning_not_of_the_form(tmp_path: Path) -> None:
    toml, document = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text("seed = 4\n[rounds]\ncount = 3\n", encoding="utf-8")
    document.write_text(json.dumps({"rounds": {"count": 3}, "seed": 4}), encoding="utf-8")
    assert load_config(toml) == load_config(document)
    assert load_config(toml).digest() == load_config(document).digest()
    assert (
        load_config(toml).digest() == with_overrides(LeagueConfig(), {"rounds.count": 3, "seed": 4}).digest()
    )


@pytest.mark.parametrize("change", [{"seed": 1}, {"model.item_dim": 32}, {"name": "other"}])
def test_another_setting_is_another_digest(change: dict[str, object]) -> None:
    assert with_overrides(LeagueConfig(), change).digest() != LeagueConfig().digest()


def test_overrides_leave_the_original_alone() -> None:
    config = LeagueConfig()
    before = config.digest()
    assert with_overrides(config, {"training.batch_size": 7}).training.batch_size == 7
    assert config.digest() == before
    with pytest.raises(ValidationError):
        config.seed = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"round": {}}, "rounds"), ({"rounds": {"cout": 3}}, "rounds.count"), ({"sed": 1}, "seed")],
)
def test_an_unknown_key_names_the_nearest(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match="unknown setting") as caught:
        load_config(settings)
    assert named in caught.value.next_step


@pytest.mark.parametrize("dotted", ["roundz.count", "rounds.count.deeper", "rounds.cout"])
def test_an_unknown_override_names_the_nearest(dotted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_overrides(LeagueConfig(), {dotted: 3})
    assert "rounds.count" in caught.value.next_step


@pytest.mark.parametrize(
    "settings",
    [{"rounds": {"count": 0}}, {"rounds": {"fraction": 1.5}}, {"seed": -1}, {"model": {"encoders": "magic"}}],
)
def test_a_value_out_of_range_is_refused_with_its_name(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"setting '.+' is"):
        load_config(settings)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.toml", b"seed = ", "parsed"),
        ("a.json", b"{", "parsed"),
        ("a.toml", b"\xff\xfe", "parsed"),
        ("a.json", b"[1]", "table"),
        ("a.json", None, "read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(path)
    assert caught.value.where == str(path)
