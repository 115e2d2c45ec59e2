"""The pages for people who change the code name what there is: rooms, files, functions, targets of make."""

import configparser
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from cuvee.cli.app import app
from docs.pages import DOCS, ROOT, name_of

SOURCE = ROOT / "src" / "cuvee"
ARCHITECTURE = DOCS / "explanation" / "architecture.md"
PAGES = [ROOT / "CONTRIBUTING.md", ARCHITECTURE]

SYNTAX = (".venv", "*", "...", "# file: NAME", "# task: NAME", "<!-- output -->", "<!-- varies: digest -->")
"""What is shown in backticks and names nothing of the repository."""

SEARCHED = ("src/**/*.py", "tests/**/*.py", "docs/*.py", "pyproject.toml", "Makefile")

_SPAN = re.compile(r"`([^`\n]+)`")
_ROOM = re.compile(r"^    (?P<room>[a-z_]+(?:\.py|/)) +", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z_]\w*")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_in_backticks_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    spans = {span for span in _SPAN.findall(text) if span not in SYNTAX}
    assert sorted(span for span in spans if not exists(span)) == []


@pytest.mark.parametrize("name", ["make nothing", "src/cuvee/nowhere.py", "NO_SUCH_" + "NAME", "cuvee blend", "no/"])
def test_a_name_that_is_not_there_is_noticed(name: str) -> None:
    assert not exists(name)


def test_every_room_is_on_the_map() -> None:
    rooms = {path.name for path in SOURCE.glob("*.py")} | {f"{path.parent.name}/" for path in SOURCE.glob("*/*.py")}
    assert sorted(rooms - {"__init__.py"}) == sorted(mapped())


def test_the_map_has_the_order_of_the_import_contracts() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    layers = contracts["importlinter:contract:layers"]["layers"].split()
    names = [layer.removeprefix("cuvee.") for layer in layers]
    assert [room for room in map(plain, mapped()) if room in names] == names


def mapped() -> list[str]:
    """Return the rooms that the architecture page lists, from the top."""
    return [room["room"] for room in _ROOM.finditer(ARCHITECTURE.read_text(encoding="utf-8"))]


def plain(room: str) -> str:
    return room.removesuffix("/").removesuffix(".py")


def exists(span: str) -> bool:
    """Say whether what a page names is there. Words in capitals, as in `methods/KEY.py`, stand for any name."""
    first, *others = span.split()
    if first == "make":
        return others[0] in targets()
    if first == "cuvee":
        return others[0] in typed_commands()
    if first == "python" and others:
        return (ROOT / others[0]).exists()
    if "/" in span or span.startswith(".") or span.endswith((".py", ".md", ".yml", ".toml", ".txt")):
        pattern = re.sub(r"\b[A-Z]+\b", "*", span.removesuffix("/"))
        return any(True for folder in (ROOT, SOURCE) for _ in folder.glob(pattern))
    return all(word in code_words() for word in _WORD.findall(span))


@cache
def targets() -> frozenset[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))


@cache
def typed_commands() -> frozenset[str]:
    group: Any = typer.main.get_command(app)
    return frozenset(group.commands)


@cache
def code_words() -> frozenset[str]:
    """Return all words of the code, this file's left out."""
    return frozenset(word for text in code() for word in _WORD.findall(text))


def code() -> Iterator[str]:
    for pattern in SEARCHED:
        for path in ROOT.glob(pattern):
            if path != Path(__file__):
                yield path.read_text(encoding="utf-8")
