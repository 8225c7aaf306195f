"""What a mutation run is made of, read from `settings.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

HERE = Path(__file__).parent


class Settings(BaseModel):
    """The one configuration of a run; `settings.toml` says what each entry means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    mutants: int
    least: int
    gate: float
    spare_s: float
    output: Path
    operators: tuple[str, ...]
    quiet_keywords: frozenset[str]
    symmetric: frozenset[str]
    quiet_calls: frozenset[str]
    warm: tuple[str, ...]
    tests: dict[str, tuple[str, ...]]


def load_settings(path: Path = HERE / "settings.toml") -> Settings:
    """The settings of a file; an unknown key is an error."""
    return Settings.model_validate(_toml(path))


class Accepted(BaseModel):
    """A survivor that somebody has read, and why no test can or should notice it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str
    inside: str
    was: str
    now: str
    reason: str


def load_accepted(path: Path = HERE / "accepted.toml") -> list[Accepted]:
    """The survivors that have been read."""
    return [Accepted.model_validate(entry) for entry in _toml(path).get("survivor", [])]


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))
