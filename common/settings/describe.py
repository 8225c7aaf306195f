"""What each setting means and which values it takes, in English and Chinese: for comments and reference pages.

The English text stands under each key in `common.settings.config`, the Chinese one in `descriptions.zh.toml`.

>>> quorum = next(each for each in settings_of("rounds") if each.key == "rounds.quorum")
>>> quorum.default, quorum.values
('0.5', 'number, above 0, at most 1')
"""

from __future__ import annotations

import functools
import inspect
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from common.settings.config import LeagueConfig

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
ABOUT = "about"
"""The name in `descriptions.zh.toml` under which a section says what it is about; no setting has it."""

_KINDS = MappingProxyType({
    bool: ("true or false", "true 或 false"), int: ("whole number", "整数"), float: ("number", "数"),
    str: ("text", "文本"), tuple: ("list of texts", "文本列表"),
})  # fmt: skip
_BOUNDS = MappingProxyType({
    "ge": ("at least", "不小于"), "gt": ("above", "大于"), "le": ("at most", "不大于"), "lt": ("below", "小于"),
})  # fmt: skip


@dataclass(frozen=True)
class Described:
    """One setting in words.

    Parameters
    ----------
    key : dotted, as `--set` takes it.
    default : as TOML writes it.
    values : its choices, or its kind and range.
    meaning : one or two sentences, on one line.
    """

    key: str
    default: str
    values: str
    meaning: str

    @property
    def name(self) -> str:
        """The last part of the key, as it stands in a settings file under its section."""
        return self.key.rpartition(".")[2]


def sections() -> tuple[str, ...]:
    """The sections of a settings file, in their order; the empty name holds what stands before the first of them."""
    return ("", *(name for name, value in LeagueConfig() if isinstance(value, BaseModel)))


def about(section: str, language: Language = "en") -> str:
    """What a section is about, on one line."""
    if language == "zh":
        return str(_chinese(section)[ABOUT])
    return " ".join((inspect.getdoc(type(_model(section))) or "").split())


def settings_of(section: str, language: Language = "en") -> list[Described]:
    """The settings of a section, in the order of the file."""
    model, chinese = _model(section), _chinese(section)
    found = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            continue
        meaning = " ".join((field.description or "").split()) if language == "en" else str(chinese[name])
        key = f"{section}.{name}" if section else name
        found.append(Described(key, as_toml(value), _values(field, language), meaning))
    return found


def as_toml(value: object) -> str:
    """A setting's value as a settings file writes it."""
    return json.dumps(value, ensure_ascii=False)


def _model(section: str) -> BaseModel:
    config = LeagueConfig()
    model: BaseModel = getattr(config, section) if section else config
    return model


def _chinese(section: str) -> dict[str, Any]:
    texts: dict[str, Any] = _all_chinese()[section] if section else _all_chinese()
    return texts


@functools.cache
def _all_chinese() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("descriptions.zh.toml").read_text(encoding="utf-8"))


def _values(field: FieldInfo, language: Language) -> str:
    """Choices, or kind and range."""
    place = LANGUAGES.index(language)
    if get_origin(field.annotation) is Literal:
        return ", ".join(map(str, get_args(field.annotation)))
    kind = get_origin(field.annotation) or field.annotation
    words = [_KINDS[kind][place]]  # type: ignore[index]
    for rule in field.metadata:
        for sign, names in _BOUNDS.items():
            if hasattr(rule, sign):
                bound = getattr(rule, sign)
                words.append(
                    f"{names[place]} {bound:,}" if isinstance(bound, int) else f"{names[place]} {bound:g}"
                )
    return (", ", "，")[place].join(words)
