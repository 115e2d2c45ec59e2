"""The reference is complete and up to date, links lead somewhere, and the README stays short."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from cuvee.cli.app import app
from cuvee.method import registry
from docs.pages import BESIDES, DOCS, PAGES, ROOT, name_of

LINK = re.compile(r"!?\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return dict(generator().leaves(group))


@pytest.mark.parametrize("name", ["methods.md", "additions.md", "commands.md", "families.md"])
def test_generated_pages_are_up_to_date(name: str) -> None:
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert written == generator().pages()[name], "run `python docs/generate.py`"


def test_every_command_has_help_and_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    for name, command in commands().items():
        assert command.help, name
        assert f"## cuvee {name}\n" in page
        for parameter in command.params:
            assert parameter.help, f"{name}: {parameter.name}"


def test_every_method_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "methods.md").read_text(encoding="utf-8")
    own = [method for method in registry().values() if method.rule.__module__.startswith("cuvee.methods.")]
    assert own
    assert [method.key for method in own if f"## {method.key}\n" not in page] == []


@pytest.mark.parametrize("page", [*PAGES, *BESIDES], ids=name_of)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for link in LINK.finditer(page.read_text(encoding="utf-8")):
        target = link["target"]
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)}: {target}"
        assert not anchor or anchor in anchors(file), f"{name_of(page)}: {target}"


def anchors(page: Path) -> set[str]:
    titles = (heading["title"] for heading in HEADING.finditer(page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [name for page in PAGES[1:] if (name := str(page.relative_to(DOCS))) not in text] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
