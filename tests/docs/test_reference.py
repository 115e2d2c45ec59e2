"""The reference is complete and up to date, links lead somewhere, and the README stays short."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from cuvee.catalogue import registry
from cuvee.cli.app import app
from docs.pages import BESIDES, DOCS, PAGES, ROOT, name_of

LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py, which imports what lies beside it."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("generate")
    finally:
        sys.path.remove(str(DOCS))


def test_generated_files_are_up_to_date(generate: ModuleType) -> None:
    for name, text in generate.files().items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"{name}: run `python docs/generate.py`"
    assert generate.leftovers() == [], "run `python docs/generate.py`"


def test_every_command_and_every_argument_has_help(generate: ModuleType) -> None:
    commands = list(generate.leaves(typer.main.get_command(app)))
    assert commands
    for name, command in commands:
        assert command.help, name
        for parameter in command.params:
            assert parameter.help, f"{name}: {parameter.name}"


def test_every_method_and_command_has_a_page() -> None:
    group: Any = typer.main.get_command(app)
    own = [method.key for method in registry().values() if method.rule.__module__.startswith("cuvee.methods.")]
    assert own
    assert [key for key in own if not (DOCS / "reference" / "methods" / f"{key}.md").exists()] == []
    assert [name for name in group.commands if not (DOCS / "reference" / "commands" / f"{name}.md").exists()] == []


@pytest.mark.parametrize("page", [*PAGES, *BESIDES], ids=name_of)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for link in LINK.finditer(page.read_text(encoding="utf-8")):
        target = link["target"]
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{name_of(page)}: {target}"


def anchors(page: Path) -> set[str]:
    titles = (heading["title"] for heading in HEADING.finditer(page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [name for page in PAGES[1:] if (name := str(page.relative_to(DOCS))) not in text] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
