"""What the rooms' READMEs say of the rooms is so, and nobody loads what it doesn't need."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from clients.ingest import read_site
from common.files import PROJECT

ROOMS = ("clients", "common", "server", "simulations", "tests")
PAGES = sorted(
    [*(page for room in ROOMS for page in (PROJECT / room).rglob("*.md") if page.name != "LOG.md")]
    + [
        PROJECT / name
        for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "CONTRIBUTING.zh.md")
    ]
)
HEAVY = ("torch", "opacus", "matplotlib", "ray")
_QUOTED = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*\.(?:py|md|toml|json|jinja)|(?:%s)/[\w./-]*" % "|".join(ROOMS))  # noqa: UP031
_DOTTED = re.compile(r"(?:%s)(?:\.[A-Za-z_]\w*)+" % "|".join(ROOMS))  # noqa: UP031
_LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)")
_KEYS = re.compile(r"\.(crt|key)$")
# Files of a site or a run, and those that the example of a connector adds.
_ELSEWHERE = re.compile(
    r".*connectors/(test_)?orders\.py|(site|league)\.toml|[\w-]+\.jsonl?|(state|private)/.*|MODEL_CARD\.md"
)


def _relative(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def _of_modules(text: str) -> str:
    """The text without its code: commands and examples name files that needn't be there."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _resolves(name: str) -> bool:
    """Whether a dotted name is a room, a module, or something that a module names."""
    place, parts = PROJECT, name.split(".")
    for at, part in enumerate(parts):
        if (place / part).is_dir():
            place /= part
            continue
        module, rest = place / f"{part}.py", parts[at + 1 :]
        if not module.is_file():
            module, rest = place / "__init__.py", parts[at:]
        return module.is_file() and all(re.search(rf"\b{word}\b", module.read_text()) for word in rest[:1])
    return True


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_what_a_page_names_is_there(page: Path) -> None:
    """Paths are relative to the page's room or to the project; a file of a room below may go by its name alone."""
    missing = []
    for quoted in _QUOTED.findall(_of_modules(page.read_text())):
        if _PATH.fullmatch(quoted) and not _ELSEWHERE.fullmatch(quoted):
            near = (page.parent / quoted, PROJECT / quoted)
            if not any(place.exists() for place in near) and not _below(page, quoted):
                missing.append(quoted)
        elif _DOTTED.fullmatch(quoted) and not _resolves(quoted):
            missing.append(quoted)
    assert missing == []


def _below(page: Path, name: str) -> bool:
    return page.parent != PROJECT and "/" not in name and any(page.parent.rglob(name))


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in _LINK.findall(_of_modules(page.read_text())):
        if "://" in target:
            continue
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", place.read_text(), flags=re.MULTILINE)
            assert heading in map(_slug, headings), f"{target}#{heading}"


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name == "README.md" and page.parent.name != "tests"],
    ids=_relative,
)
def test_a_readme_names_each_file_and_room_beside_it(page: Path) -> None:
    text = page.read_text()
    named = {word.strip("/").split("/")[0] for word in _QUOTED.findall(text)}
    named |= {target.strip("./").split("/")[0] for target, _ in _LINK.findall(text)}
    beside = {each.name for each in page.parent.iterdir() if _is_room(each) or each.suffix == ".py"}
    assert sorted(beside - {"__init__.py"} - named) == []


def _is_room(folder: Path) -> bool:
    return folder.is_dir() and (folder / "__init__.py").exists()


@pytest.mark.parametrize("room", ROOMS)
def test_modules_that_code_names_in_prose_and_programs_are_there(room: str) -> None:
    """Docstrings, and programs within strings, which no import checks until they run."""
    lost = []
    for path in (PROJECT / room).rglob("*.py"):
        text = path.read_text()
        named = [
            word
            for word in re.findall(r"`([\w.]+)`", text)
            if _DOTTED.fullmatch(word) and not _KEYS.search(word)
        ]
        for module, names in re.findall(
            r"from ((?:clients|common|server|simulations)[\w.]*) import (\w+)", text
        ):
            named.append(f"{module}.{names}")
        lost += [f"{_relative(path)}: {word}" for word in named if not _resolves(word)]
    assert lost == []


def test_tests_mirror_the_rooms() -> None:
    for room in ROOMS[:-1]:
        for folder in (PROJECT / "tests" / room).rglob("*"):
            if folder.is_dir() and any(folder.glob("*.py")):
                assert _is_room(PROJECT / folder.relative_to(PROJECT / "tests")), folder


def test_the_connector_that_contributors_are_shown_works(tmp_path: Path) -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(f"{_IMPORTS}\n{code}", names)  # noqa: S102 - the example as it stands on the page
    orders = pl.DataFrame({
        "shop": ["North Quay", "Old Market"] * 10, "customer": [f"c{n % 4}" for n in range(20)],
        "item": [str(n % 3) for n in range(20)], "title": [f"Thing {n % 3}" for n in range(20)],
        "ordered_at": [f"2026-01-{1 + n:02}T10:00:00" for n in range(20)],
    })  # fmt: skip
    orders.write_csv(tmp_path / "orders.csv")
    refs = names["OrdersConnector"]().write_sites(
        tmp_path / "orders.csv", tmp_path / "out", "", {"min_users": 2}
    )
    assert [ref.name for ref in refs] == ["north-quay", "old-market"]
    for ref in refs:
        site = read_site(ref.folder)
        assert (site.complaints, site.products.height, site.events.height) == ((), 3, 10)


_IMPORTS = """
from collections.abc import Iterator
from pathlib import Path
import polars as pl
from pydantic import Field
from common.errors import InputError
from simulations.connectors.base import ConnectorOptions, Options, SiteRef, SiteTables
from simulations.connectors.base import derive_sites, parse_options, slug
"""


@pytest.mark.parametrize(
    "module",
    ["server.app", "clients.app", "server.superlink.supervisor", "clients.supernode.node", "simulations.cli"],
)
def test_who_does_not_train_starts_without_the_heavy_libraries(module: str) -> None:
    """Each process of a league would else take half a gigabyte and some seconds more."""
    program = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr
