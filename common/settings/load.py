"""Read a league's settings from a file or a table, and say what is wrong with them.

Invariant: settings that come out of here are in range, known by name, and consistent with each other.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common.errors import ConfigError
from common.settings.config import LeagueConfig
from common.settings.rules import require_consistent


def load_config(source: Path | dict[str, Any]) -> LeagueConfig:
    """Read a league's settings from a TOML or JSON file, or from a nested dict.

    Raises
    ------
    ConfigError : the file can't be parsed, a key is unknown (the nearest is named) or a value is out of range.
    """
    where = str(source) if isinstance(source, Path) else "settings"
    data = _parse(source) if isinstance(source, Path) else source
    try:
        config = LeagueConfig.model_validate(data)
    except ValidationError as fault:
        raise _teach(fault, where) from None
    require_consistent(config)
    return config


def with_overrides(config: LeagueConfig, overrides: dict[str, Any]) -> LeagueConfig:
    """A copy with dotted settings replaced, e.g. ``{"rounds.count": 3}``.

    Raises
    ------
    ConfigError : as `load_config`.
    """
    data = config.model_dump(mode="json")
    for dotted, value in overrides.items():
        *parents, leaf = dotted.split(".")
        node = data
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                raise ConfigError(
                    f"unknown setting '{dotted}'", where="settings", next_step=_nearest(dotted, _all_keys())
                )
            node = node[parent]
        node[leaf] = value
    return load_config(data)


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as fault:
        raise ConfigError(
            "the settings file can't be read", where=str(path), why=str(fault.strerror)
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError) as fault:
        raise ConfigError(
            "the settings file can't be parsed",
            where=str(path),
            why=str(fault),
            next_step="mend the file and try again",
        ) from None
    if not isinstance(data, dict):
        raise ConfigError("the settings file must hold a table of settings", where=str(path))
    return data


def _teach(fault: ValidationError, where: str) -> ConfigError:
    first = fault.errors()[0]
    dotted = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return ConfigError(
            f"unknown setting '{dotted}'", where=where, next_step=_nearest(dotted, _all_keys())
        )
    return ConfigError(
        f"setting '{dotted}' is {first['input']!r}",
        where=where,
        why=first["msg"],
        next_step="give a value in range",
    )


def _all_keys() -> list[str]:
    keys: list[str] = []
    for name, value in LeagueConfig().model_dump().items():
        keys += [f"{name}.{leaf}" for leaf in value] if isinstance(value, dict) else [name]
    return keys


def _nearest(dotted: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(dotted, known, n=1, cutoff=0.3)
    return f"did you mean '{matches[0]}'?" if matches else f"known settings: {', '.join(known)}"
