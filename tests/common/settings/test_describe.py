"""Every setting says what it does, in both languages, and which values it takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import common.settings.describe
from common.errors import ConfigError
from common.settings.config import LeagueConfig
from common.settings.describe import ABOUT, LANGUAGES, Language, about, sections, settings_of
from common.settings.load import load_config

HAN = re.compile(r"[一-鿿]")
CHINESE = Path(common.settings.describe.__file__).with_name("descriptions.zh.toml")


def _keys() -> set[str]:
    """All dotted keys, from the settings themselves."""
    found = LeagueConfig().model_dump()
    nested = {
        f"{name}.{key}" for name, section in found.items() if isinstance(section, dict) for key in section
    }
    return nested | {name for name, value in found.items() if not isinstance(value, dict)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_setting_and_section_is_described(language: Language) -> None:
    described = [each for section in sections() for each in settings_of(section, language)]
    assert {each.key for each in described} == _keys()
    for key, text in [
        *((each.key, each.meaning) for each in described),
        *((s, about(s, language)) for s in sections()),
    ]:
        assert 10 <= len(text) <= 320, f"{key}: {len(text)} letters"
        assert text.endswith("." if language == "en" else "。"), f"{key} doesn't end as a sentence"
        assert bool(HAN.search(text)) is (language == "zh"), f"{key} is in the wrong language"
        assert not set(text) & set("|\n"), f"{key} would break a row of a table"


def test_the_chinese_texts_are_of_settings_that_there_are() -> None:
    texts = tomllib.loads(CHINESE.read_text(encoding="utf-8"))
    nested = {
        f"{name}.{key}" for name, section in texts.items() if isinstance(section, dict) for key in section
    }
    told = nested | {name for name, value in texts.items() if not isinstance(value, dict)}
    assert {key for key in told if key.rpartition(".")[2] != ABOUT} == _keys()


def test_defaults_are_those_of_the_settings() -> None:
    text = "".join(
        (f"[{section}]\n" if section else "")
        + "".join(f"{e.name} = {e.default}\n" for e in settings_of(section))
        for section in sections()
    )
    assert load_config(tomllib.loads(text)).digest() == LeagueConfig().digest()


@pytest.mark.parametrize(
    ("key", "values", "good", "bad"),
    [
        ("rounds.quorum", "number, above 0, at most 1", 1, 0),
        ("rounds.count", "whole number, at least 1, at most 10,000", 10_000, 10_001),
        ("model.dropout", "number, at least 0, below 1", 0, 1),
        ("privacy.delta", "number, above 0, at most 0.001", 0.001, 0.002),
        ("privacy.mode", "off, user, record, distributed, site", "record", "nobody"),
        ("model.text", "true or false", False, "perhaps"),
        ("model.categories", "list of texts", ["hats"], "hats"),
    ],
)
def test_values_are_told_as_they_are_judged(key: str, values: str, good: object, bad: object) -> None:
    section, _, name = key.rpartition(".")
    assert {each.key: each.values for each in settings_of(section)}[key] == values
    load_config({section: {name: good}})
    with pytest.raises(ConfigError, match=key):
        load_config({section: {name: bad}})


def test_ranges_are_told_in_chinese_too() -> None:
    told = {each.key: each.values for each in settings_of("rounds", "zh")}
    assert told["rounds.count"] == "整数，不小于 1，不大于 10,000"
    assert told["rounds.protection"] == "plain, masked, he, he+masked, ckks"
