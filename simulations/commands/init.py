"""`hansa init`: write a settings file to start from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from common.errors import ConfigError
from common.settings.config import LeagueConfig
from common.settings.describe import Described, as_toml, sections, settings_of
from common.settings.load import with_overrides
from simulations.output import Format, FormatOption, output_of, plain

_WIDTH = 100


def init(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The settings file to write.")] = Path("league.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    private: Annotated[
        bool,
        typer.Option("--private", help="User-level differential privacy, and the small model that it needs."),
    ] = False,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa init league.toml`

    Writes all settings with their defaults and what each does. Change what you like and run
    `hansa simulate --config league.toml`.
    """
    if file.exists() and not force:
        raise ConfigError(
            "the file exists", where=str(file), next_step="choose another name, or give --force"
        )
    try:
        file.write_text(example(file.name, private=private), encoding="utf-8")
    except OSError as fault:
        raise ConfigError("the file can't be written", where=str(file), why=str(fault.strerror)) from None
    output_of(context).result(
        form, {"file": file}, lambda screen: screen.print(f"Wrote {plain(file)}", markup=False)
    )


def example(name: str, *, private: bool = False) -> str:
    """All settings with their defaults and descriptions as TOML, headed by the command that runs them."""
    config = LeagueConfig()
    if private:
        # Late: it brings torch, for which `--help` doesn't wait.
        from simulations.setup.create import PRIVATE_SETTINGS

        config = with_overrides(
            config, {**PRIVATE_SETTINGS, "privacy.mode": "user", "privacy.learning_rate": 2.0}
        )
    lines = [f"# hansa simulate --config {name} --run runs/mine"]
    for section in sections():
        holder = getattr(config, section) if section else config
        lines += ["", f"[{section}]"] if section else [""]
        for described in settings_of(section):
            lines += [*_comment(described), f"{described.name} = {as_toml(getattr(holder, described.name))}"]
    return "\n".join(lines) + "\n"


def _comment(described: Described) -> Iterator[str]:
    """What a setting does and which values it takes, above its line."""
    text = f"{described.meaning} ({described.values})"
    for line in textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"
