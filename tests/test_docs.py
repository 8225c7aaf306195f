"""What the pages say can be followed: links lead somewhere, commands are ones that Hansa has, examples load."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from common.files import PROJECT
from common.schema import parse_site_info
from simulations import cli
from simulations.commands.budget import LooksByDefault
from simulations.deployment.plan import read_plan

PAGES = sorted(
    path
    for path in PROJECT.rglob("*.md")
    if not {
        part for part in path.relative_to(PROJECT).parts if part.startswith(".") or part in ("runs", "shared")
    }
)
GUIDES = [*PROJECT.glob("README*.md"), *sorted((PROJECT / "docs").glob("*.md"))]
MOST_WORDS = 700
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CHINESE = re.compile(r"[一-鿿]")


def _name(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings: lower case, no signs, hyphens for blanks."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def _missing(page: Path) -> Iterator[str]:
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in _anchors(there)):
            yield target


def _commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Lines of `hansa` in a page's blocks, which are whole (True), and in its sentences, which may be a name alone."""
    text = page.read_text(encoding="utf-8")
    lines = [(line, True) for _, block in FENCE.findall(text) for line in block.splitlines()]
    lines += [(code, False) for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text))]
    yield from ((line, whole) for line, whole in lines if line.startswith("hansa "))


def _parse(command: click.Command, arguments: list[str], name: str) -> None:
    """Take the arguments as the command line does, without running anything; click.UsageError where it wouldn't."""
    if not isinstance(command, click.Group):
        command.make_context(name, arguments)
        return
    if not arguments or arguments[0] in ("-h", "--help"):
        return
    first, rest = arguments[0], arguments[1:]
    if isinstance(command, LooksByDefault) and first not in command.commands:
        first, rest = "show", arguments
    if first not in command.commands:
        raise click.UsageError(f"there is no command '{first}'")
    _parse(command.commands[first], rest, f"{name} {first}")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(_missing(page)) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Two words!\n[a](#two-words) [b](page.md#two) [c](gone.md) [d](https://a.example/x)\n", "utf-8"
    )
    assert list(_missing(page)) == ["page.md#two", "gone.md"]


@pytest.mark.parametrize("page", GUIDES, ids=_name)
def test_every_command_is_one_that_hansa_has(page: Path) -> None:
    hansa = typer.main.get_command(cli.app)
    for line, whole in _commands(page):
        try:
            _parse(hansa, shlex.split(line, comments=True)[1:], "hansa")
        except click.UsageError as fault:
            if whole or not isinstance(fault, click.MissingParameter):
                pytest.fail(f"{line}: {fault.format_message()}")


@pytest.mark.parametrize("line", ["hansa trian", "hansa vault erase-user v USER", "hansa simulate --speed 3"])
def test_a_command_that_hansa_lacks_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        _parse(typer.main.get_command(cli.app), shlex.split(line)[1:], "hansa")


@pytest.mark.parametrize("page", GUIDES, ids=_name)
def test_examples_of_toml_load(page: Path, tmp_path: Path) -> None:
    for kind, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind != "toml":
            continue
        if "[[site]]" in block:
            (tmp_path / "league.toml").write_text(block, encoding="utf-8")
            assert len(read_plan(tmp_path / "league.toml").site) == 2
        else:
            assert parse_site_info(tomllib.loads(block)).name == "my-shop"


@pytest.mark.parametrize("page", [each for each in GUIDES if not each.name.endswith(".zh.md")], ids=_name)
def test_each_guide_has_a_chinese_twin_with_the_same_commands(page: Path) -> None:
    twin = page.with_name(page.name.replace(".md", ".zh.md"))

    def plain(of: Path) -> list[str]:
        """Its commands, without what each language says in words of its own."""
        lines = [shlex.split(line, comments=True) for line, _ in _commands(of)]
        return sorted(
            " ".join(part for part in line if not re.fullmatch(r"[A-Z]+|.*item\d.*", part)) for line in lines
        )

    chinese = [re.sub(r" ?\S*[一-鿿]\S*", "", line) for line in plain(twin)]
    assert sorted(chinese) == plain(page)
    assert CHINESE.search(twin.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "end"), [("README.md", "## Find your way"), ("README.zh.md", "## 查找")])
def test_the_readme_is_short_and_begins_with_two_commands(name: str, end: str) -> None:
    before, found, _ = (PROJECT / name).read_text(encoding="utf-8").partition(end)
    assert found, f"{name} has no heading '{end}'"
    words = (
        len(before.split()) if name == "README.md" else len(CHINESE.findall(before)) // 2
    )  # two signs a word
    assert words <= MOST_WORDS, f"{name} has {words} words before '{end}'; move some to docs/"
    block = next(block for _, block in FENCE.findall(before) if "make" in block)
    assert [line.split("#")[0].strip() for line in block.splitlines()] == ["make demo", "make test"]
