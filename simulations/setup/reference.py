"""The settings' reference pages, made from the settings' own descriptions.

    python -m simulations.setup.reference            # says which pages are no longer true
    python -m simulations.setup.reference --write    # writes docs/settings.md and docs/settings.zh.md anew

Invariant: a page is a function of the code alone, so a test can compare it with the written one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined

from common.files import PROJECT
from common.settings.describe import Language, about, as_toml, sections, settings_of
from simulations.setup.create import BAZAAR_SETTINGS, PRIVATE_SETTINGS
from simulations.setup.options import Setting

DOCS = PROJECT / "docs"
PAGES: Mapping[str, Language] = MappingProxyType({"settings.md": "en", "settings.zh.md": "zh"})
MEND = "python -m simulations.setup.reference --write"
_TEMPLATES = Environment(
    loader=PackageLoader("simulations.setup"), undefined=StrictUndefined, keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - Markdown, from the project's own texts
)  # fmt: skip


def page(language: Language) -> str:
    """One reference page as Markdown."""
    lines_found = [
        {"name": name, "about": about(name, language), "settings": settings_of(name, language)}
        for name in sections()
    ]
    template = _TEMPLATES.get_template(f"settings.{language}.md.jinja")
    return template.render(sections=lines_found, others=_others(), mend=MEND)


def _others() -> list[tuple[str, str, str]]:
    """Settings with another default in the bazaar, and in a private league."""

    def cell(settings: Mapping[str, Setting], key: str) -> str:
        return f"`{as_toml(settings[key])}`" if key in settings else ""

    keys = {**BAZAAR_SETTINGS, **PRIVATE_SETTINGS}
    return [(key, cell(BAZAAR_SETTINGS, key), cell(PRIVATE_SETTINGS, key)) for key in keys]


def untrue(folder: Path) -> list[str]:
    """Names of the pages that don't agree with the settings."""

    def written(name: str) -> str:
        path = folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    return [name for name, language in PAGES.items() if written(name) != page(language)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the pages, or write them; returns 1 if one is out of date."""
    parser = argparse.ArgumentParser(description="The settings' reference pages.")
    parser.add_argument("--write", action="store_true", help="write them anew")
    if parser.parse_args(arguments).write:
        for name, language in PAGES.items():
            (DOCS / name).write_text(page(language), encoding="utf-8")
    wrong = untrue(DOCS)
    sys.stderr.write("".join(f"docs/{name} is out of date: run {MEND}\n" for name in wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
